# SPDX-License-Identifier: Apache-2.0
"""A service of two worker processes in virtual time, and the actions of clients, plugins and time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from hashlib import sha256
from typing import Any, Final, TypeVar, cast
from uuid import UUID, uuid5

import msgspec
import zstandard

from ran_datajobs.config import Settings
from ran_datajobs.inventory.registry import register
from ran_datajobs.messaging.bus import Bus, Message, Received
from ran_datajobs.model import JobType, Status
from ran_datajobs.results.delivery import JobEventWriter
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.read_results import ReadResultConsumer
from ran_datajobs.store import jobs, sub_jobs
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.jobs import NewJob
from ran_datajobs.telemetry import Logger
from tests import invariants
from tests.invariants.creates import executed_twice
from tests.kit.plugins.stepped import TOPIC, Call, How, Plugin
from tests.kit.virtual_time import CLOCK, MOVE, VirtualLoop
from tests.machine.process import SETTINGS, Process, remember_task

T = TypeVar("T")

BUCKET: Final = "datajobs-results"
PLUGINS: Final = {"I": "http://127.0.0.1:1", "N": "http://127.0.0.1:2"}
"""URL of each plugin by its SubNetwork: ``I`` honours Idempotency-Key, ``N`` does not."""

LANES: Final = ("I0", "I1", "N0", "N1")
"""Two data producers at each plugin."""

NOBODY: Final = "U0"
"""Used in place of a lane for operations whose element no CM handle owns."""

STEP: Final = 3.0
"""Interval in seconds between lease renewals of a running worker."""

ROUNDS: Final = 200
"""Maximum iterations until everything has ended, once nothing fails any more."""

_NAMES: Final = UUID(int=1)
_EMPTY: Final = """
truncate data_job, lane, outbox restart identity cascade; update outbox_shard set last_position = 0;
alter sequence ticks restart; alter sequence invariants.refused restart; update clock set at = '2026-02-01';
"""


_NO_STATISTICS: Final = """
do $$
declare
    name regclass;
begin
    for name in select oid from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace loop
        execute format('alter table %s set (autovacuum_enabled = off)', name);
    end loop;
end
$$
"""


class LogLines:
    """Log records of the workers at level warning and above."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        """Record the event."""
        self.lines.append((event, fields))

    error = warning

    def info(self, event: str, **fields: Any) -> None:
        """Discard the event."""

    debug = info


class Service:
    """Everything except the worker processes. One service at a time uses the empty database."""

    def __init__(self, loop: VirtualLoop, database: Database) -> None:
        self.loop = loop
        self.database = database
        self.plugins = {url: Plugin(url, idempotent=name == "I") for name, url in PLUGINS.items()}
        self.calls: list[Call] = []
        self.stored: dict[str, bytes] = {}
        self.objects_away = False
        self.faults: list[str] = []
        self.log_lines = LogLines()
        self.log = cast("Logger", self.log_lines)
        self.submitted: list[UUID] = []
        self.operations: dict[UUID, list[str]] = {}
        self._announcer = JobEventWriter(JobView(Settings(api_root="http://service")))
        self._started = 0
        self.processes = [self.new_process(), self.new_process()]
        loop.born = remember_task

    @classmethod
    async def prepare(cls, database: Database) -> None:
        """Register the plugins, once per database."""
        for name, url in PLUGINS.items():
            handles = [
                {
                    "cmHandle": f"{name}-{n}",
                    "alternateId": f"/SubNetwork={name}/ManagedElement={n}",
                    "dataProducerIdentifier": f"ems-{n}",
                }
                for n in range(2)
            ]
            body = {"dmiPlugin": url, "createdCmHandles": handles, "idempotent": name == "I"}
            outcome = await register(database, Settings(), msgspec.json.encode(body))
            assert not outcome.failed, outcome
        async with database.connection() as connection:
            await connection.execute(_NO_STATISTICS)

    async def empty(self) -> None:
        """Remove every job, lane and message."""
        async with self.database.connection() as connection:
            await connection.execute(_EMPTY)

    def new_process(self) -> Process:
        """Return a newly started worker process."""
        self._started += 1
        return Process(self, self._started)

    async def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        async with self.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(query, *args)]

    # --- actions of clients ------------------------------------------------------------------------

    async def submit(
        self, kind: JobType, lanes: Sequence[str], client: str, priority: int, after: Sequence[UUID]
    ) -> UUID:
        """Store a job with two operations in each lane and return its id."""
        job_id = uuid5(_NAMES, str(len(self.submitted)))
        lines = [self._line(kind, lane, n) for lane in lanes for n in range(2)]
        job = NewJob(
            job_id,
            client,
            kind,
            None,
            None,
            jobs.BUCKET,
            BUCKET,
            "application/vnd.3gpp.object-tree-hierarchical+json",
            "application/3gpp-json-patch+json",
            "BEST_EFFORT",
            priority,
            tuple(after),
            None,
            len(lines),
            zstandard.compress(msgspec.json.encode({"data": lines})),
        )
        async with self.database.transaction() as connection:
            await jobs.insert(connection, job, sees=None)
        self.submitted.append(job_id)
        self.operations[job_id] = [str(line["operationId"]) for line in lines]
        return job_id

    def _line(self, kind: JobType, lane: str, n: int) -> dict[str, Any]:
        line: dict[str, Any] = {
            "op": "merge",
            "path": f"/SubNetwork={lane[0]}/ManagedElement={lane[1]}/Cell={n}",
            "operationId": f"{lane}-{n}",
            "value": {"a": n},
        }
        if kind is JobType.READ:
            del line["value"]
            line["op"] = "read"
        return line

    async def cancel(self, job_id: UUID) -> bool:
        """Request the cancellation of a job; return False if that had no effect."""

        async def ask(connection: Connection) -> bool:
            row = await jobs.lock(connection, job_id, None)
            assert row is not None
            if row.status.terminal or row.status is Status.CANCELLING:
                return False
            await jobs.cancel(connection, job_id)
            await self._announcer.jobs_changed(connection, [job_id])
            return True

        return await self.database.run_transaction(ask)

    # --- actions of plugins ------------------------------------------------------------------------

    async def answer(self, call: Call, how: How) -> None:
        """Deliver a call, answer it, and let the worker process the answer."""
        self.calls.remove(call)
        call.end(how)
        await self.loop.settle()

    async def push(self, executed_at: Plugin, job_id: str) -> bool:
        """Push a status change from a plugin; return whether the sub-job was tracked."""
        executed = executed_at.jobs[job_id].executed
        async with self.database.transaction() as connection:
            return await sub_jobs.poll_now(connection, UUID(executed.sub_job_id), job_id)

    async def publish(self, plugin: Plugin, job_id: str) -> None:
        """Publish the next one of the two messages of a read."""
        job = plugin.jobs[job_id]
        executed, sequence = job.executed, job.published % 2
        job.published += 1
        lines = executed.operations[sequence::2]
        headers = {
            "ce_correlationid": executed.request_id,
            "ce_subjobid": executed.sub_job_id,
            "ce_sequence": str(sequence),
            "ce_total": "2",
        }
        responses = [
            {"operationId": o.operation_id, "statusCode": 0, "statusMessage": "read", "state": "SUCCEEDED"}
            for o in lines
        ]
        message = Message("", headers, msgspec.json.encode({"data": {"responses": responses}}))
        arrivals = ReadResultConsumer(
            self.database, cast("Bus", None), cast("ObjectStore", _Objects(self.stored))
        )
        await arrivals.take([Received(TOPIC, 0, message)])

    # --- time --------------------------------------------------------------------------------------

    async def pass_time(self, seconds: float) -> None:
        """Advance the clock of database and loop. Processes that are not frozen renew their leases."""
        while seconds > 0:
            step = min(STEP, seconds)
            seconds -= step
            async with self.database.connection() as connection:
                await connection.execute(MOVE, step + self.loop.ahead)
            self.loop.ahead = 0.0
            self.loop.move(step)
            await self.loop.settle()
            for process in self.processes:
                if not process.frozen:
                    await process.keep_up()

    async def let_go(self) -> None:
        """Stop all failures and answer calls until everything has ended; AssertionError otherwise."""
        self.objects_away = False
        for process in self.processes:
            process.losses, process.cut_off, process.stands_still_at = [], False, None
            process.goes_on.set()
        for _ in range(ROUNDS):
            for process in self.processes:
                await process.claim()
            while self.calls:
                await self.answer(self.calls[0], How.WELL)
            if not await self.rows(
                "select 1 from data_job where status in ('NOT_STARTED', 'RUNNING', 'CANCELLING')"
                " union all select 1 from sub_job where stage <> 'SETTLED'"
            ) and not any(process.tasks for process in self.processes):
                return
            await self.pass_time(STEP)
        still_open = await self.rows(
            "select format('%s %s of job %s', stage, sub_job_id, job_id) as what from sub_job"
            " where stage <> 'SETTLED' union all"
            " select format('job %s is %s, its step failed %s times', job_id, status, step_failures)"
            " from data_job where ended_at is null"
        )
        raise AssertionError([f"open after {ROUNDS} rounds", *(row["what"] for row in still_open)])

    # --- invariants --------------------------------------------------------------------------------

    async def broken_rules(self) -> list[str]:
        """Return violations found in the rows, at the plugins and in the log of the workers."""
        async with self.database.pool.acquire() as connection:
            found = await invariants.violations(cast("Any", connection))
        found += self.faults
        for plugin in self.plugins.values():
            twice = executed_twice(plugin.record)
            found += [f"{plugin.url} executed write {each} {times} times" for each, times in twice.items()]
            found += [
                f"{plugin.url} was sent write {each.begun} while it executed {each.executing}"
                for each in plugin.overlaps
                if not await self._is_over(each.executing)
            ]
        found += [
            f"logged: {event} {fields}"
            for event, fields in self.log_lines.lines
            if fields.get("exc_info") or event.endswith(("transition_refused", "admission_refused"))
        ]
        return found + await self._untrue_ends()

    async def _is_over(self, sub_job_id: UUID) -> bool:
        """Return whether the full quarantine of a write has passed, so that the next write may start."""
        rows = await self.rows(
            "select 1 from sub_job"
            " where sub_job_id = $1 and stage = 'SETTLED' and quarantined_until <= now()",
            sub_job_id,
        )
        return bool(rows)

    async def _untrue_ends(self) -> list[str]:
        """Return writes that were executed but are reported as not sent, or succeeded without execution."""
        rows = await self.rows(
            "select sub_job_id, status, succeeded, failed, not_started, unknown, data_producer_job_id"
            " from sub_job"
            " where type = 'WRITE' and stage in ('QUARANTINED', 'SETTLED')"
        )
        executed = {UUID(each.sub_job_id) for plugin in self.plugins.values() for each in plugin.record}
        return [
            f"write {row['sub_job_id']} was {'' if row['sub_job_id'] in executed else 'not '}executed: {row}"
            for row in rows
            if (row["succeeded"] and row["sub_job_id"] not in executed)
            or (row["data_producer_job_id"] is None and not row["unknown"] and row["sub_job_id"] in executed)
        ]

    async def lost(self, process: Process) -> dict[UUID, Any]:
        """Return the stored rows that a process still works on in memory but whose leases it has lost."""
        held = {key: each.sub_job.lease for key, each in process.worker._attempts.items()}
        leases = held | {key: each.lease for key, each in process.worker._jobs.items()}
        return {
            key: row
            for key, row in (await self.as_they_are(leases)).items()
            if row is None or row["lease"] != str(leases[key])
        }

    async def as_they_are(self, ids: Iterable[UUID]) -> dict[UUID, Any]:
        """Return the rows of sub-jobs and jobs by id; of a job, only the columns of its steps."""
        found: dict[UUID, Any] = dict.fromkeys(ids)
        for row in await self.rows(
            """
            select sub_job_id as id, to_jsonb(s) as row from sub_job s where sub_job_id = any ($1::uuid[])
            union all
            select job_id, jsonb_build_object('lease', lease, 'planned', planned, 'ended_at', ended_at)
            from data_job where job_id = any ($1::uuid[])
            """,
            list(found),
        ):
            found[row["id"]] = row["row"]
        return found

    async def missing_ends(self) -> list[str]:
        """Return jobs without a manifest, and operations that do not have one outcome in one intact object.

        Call it after everything has ended.
        """
        found: list[str] = []
        for job_id in self.submitted:
            (job,) = await self.rows(
                "select type, status, split_reads from data_job where job_id = $1", job_id
            )
            parts = await self.rows(
                "select key, sha256 from result_part where job_id = $1 and sequence <> -1"
                " order by sub_job, sequence",
                job_id,
            )
            keys = [f"{BUCKET}/{part['key']}" for part in parts]
            found += [
                f"object {key} is not the one that was recorded"
                for key, part in zip(keys, parts, strict=True)
                if sha256(self.stored[key]).hexdigest() != part["sha256"]
            ]
            reported = Counter(
                str(response["operationId"])
                for key in keys
                for response in msgspec.json.decode(self.stored[key])["responses"]
            )
            expected = Counter(self.operations[job_id])
            if reported != expected and (job["type"] == "WRITE" or set(reported) != set(expected)):
                found.append(f"job {job_id} reports {reported}, not {expected}")
            if f"{BUCKET}/{job_id}/manifest.json" not in self.stored:
                found.append(f"job {job_id} is {job['status']} and has no manifest")
        return found


class _Objects(ObjectStore):
    """The object store as seen by the consumer of messages."""

    def __init__(self, stored: dict[str, bytes]) -> None:
        self._stored = stored

    async def put(self, bucket: str, key: str, data: bytes, *, only_if_absent: bool = False) -> bool:
        if only_if_absent and f"{bucket}/{key}" in self._stored:
            return False
        self._stored[f"{bucket}/{key}"] = data
        return True

    async def get(self, bucket: str, key: str) -> bytes | None:
        return self._stored.get(f"{bucket}/{key}")


class Virtual:
    """A prepared database in virtual time and the event loop of the test."""

    def __init__(self, runner: asyncio.Runner, url: str) -> None:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self._runner = runner
        self.database = runner.run(Database.open(url, size=1))
        runner.run(self.database.migrate())
        runner.run(Service.prepare(self.database))

    def run(self, work: Awaitable[T]) -> T:
        """Run ``work``, then every task that can run without the clock; return the result of ``work``."""

        async def and_settle() -> T:
            done = await work
            await self.loop.settle()
            return done

        return self._runner.run(and_settle())

    def service(self) -> Service:
        """Return a service without jobs. Tasks and rows of the previous one are removed."""
        self._runner.run(cancel_all(self.loop))
        service = Service(self.loop, self.database)
        self.run(service.empty())
        self.loop.ahead = 0.0
        return service

    def close(self) -> None:
        """Cancel all tasks and close the database."""
        self._runner.run(cancel_all(self.loop))
        self._runner.run(self.database.close())


def preparation(name: str) -> str:
    """Return the statements that prepare an empty database for virtual time and the invariants.

    Query plans depend on the tables and parameters alone, so that the same steps read the same rows in the
    same order.
    """
    return f"""
        alter database "{name}" set search_path = public, pg_catalog;
        alter database "{name}" set plan_cache_mode = force_custom_plan;
        alter database "{name}" set "invariants.aging" = '{SETTINGS.priority_aging}';
        alter database "{name}" set "invariants.read_slots" = '{SETTINGS.read_slots}';
        {CLOCK}
        {invariants.preparation()}
    """


async def cancel_all(loop: VirtualLoop) -> None:
    """Cancel every other task of the loop."""
    tasks = asyncio.all_tasks(loop) - {cast("asyncio.Task[Any]", asyncio.current_task())}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
