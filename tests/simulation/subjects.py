# SPDX-License-Identifier: Apache-2.0
"""Both stores of dispatch behind one test interface: the same calls are applied to each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final, Protocol, TypeVar, cast
from uuid import UUID, uuid5

import msgspec
import zstandard

from ran_datajobs.config import Settings
from ran_datajobs.model import JobType, OperationState, PlannedSubJob, Response, Status
from ran_datajobs.results.delivery import JobEventWriter
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.outcomes import pack_outcomes
from ran_datajobs.store import jobs, results, sub_jobs
from ran_datajobs.store.database import Connection
from ran_datajobs.store.dispatch import DispatchStore
from ran_datajobs.store.jobs import NewJob
from ran_datajobs.store.results import Part
from ran_datajobs.telemetry import Logger
from tests.kit.virtual_time import MOVE
from tests.machine.service import LogLines, Virtual
from tests.simulation.rows import OPEN
from tests.simulation.store import TwinStore
from tests.simulation.twin import Twin

T = TypeVar("T")

ADMISSION_SETTINGS: Final = Settings(priority_aging=20.0, read_slots=2)
PLUGINS: Final = {"http://127.0.0.1:1": True, "http://127.0.0.1:2": False}
"""The plugins of both, and whether they are idempotent and have bulkCancel."""

NAMES: Final = UUID(int=2)
_SHOWN: Final = """
    sub_job_id, stage, status, attention, attempts, polls, data_producer_job_id, result_topic, result_total,
    messages, reported_status, last_error, dialect, cancel_requested, blocked, succeeded, failed,
    not_started, unknown, lease, leased_by
"""
_TIMES: Final = (
    "due_at",
    "failing_since",
    "objects_since",
    "started_at",
    "last_message_at",
    "ended_at",
    "quarantined_until",
)
_OF_JOB: Final = """
    job_id, status, cancel_requested, planned, blocked, sub_jobs, sub_jobs_open, cancelled_sub_jobs,
    succeeded, failed, unmatched, not_started, unknown, step_failures, lease, leased_by
"""
_OF_CANCEL: Final = "job_id, plugin_id, refused, lease, leased_by"
_TIMES_OF_CANCEL: Final = ("due_at", "failing_since")
_TIMES_OF_JOB: Final = ("due_at", "started_at", "ended_at")


class Subject(Protocol):
    """A store of dispatch, with the changes made from outside. Times are whole hundredths of a second."""

    def run(self, work: Awaitable[T]) -> T:
        """The result of a call."""

    def store(self, worker: int) -> DispatchStore:
        """The store as one worker uses it."""

    def move(self, seconds: float) -> None:
        """Advance the clock."""

    def submit(self, new: NewJob) -> None:
        """Accept a job."""

    def cancel(self, job_id: UUID) -> None:
        """Request its cancel, if it is open and no cancel was requested."""

    def push(self, sub_job_id: UUID, producer_job: str) -> bool:
        """A plugin pushes that a status has changed."""

    def arrive(self, job_id: UUID, sub_job_id: UUID, number: int, total: int | None) -> None:
        """A message of a read arrives."""

    def rows(self) -> list[dict[str, Any]]:
        """The rows of jobs and sub-jobs."""


def worker_id(worker: int) -> UUID:
    """The id of a worker."""
    return uuid5(NAMES, f"worker {worker}")


def new_job(number: int, kind: JobType, client: str, priority: int, after: Sequence[UUID] = ()) -> NewJob:
    """A request. :func:`sub_jobs_of` plans it."""
    return NewJob(
        job_id=uuid5(NAMES, f"job {number}"),
        client=client,
        type=kind,
        name=None,
        destination=None,
        destination_kind=jobs.BUCKET,
        results_bucket="results",
        accept_type="",
        content_type="",
        activation_mode="BEST_EFFORT",
        priority=priority,
        after_jobs=tuple(after),
        retry_of=None,
        count=4,
        request=zstandard.compress(b"{}"),
    )


def sub_jobs_of(lanes: Sequence[tuple[int, str]]) -> list[PlannedSubJob]:
    """A sub-job of one operation in each of these lanes (plugin, data producer)."""
    body = zstandard.compress(b'[{"op":"merge","path":"/A=1","operationId":1,"value":{"a":1}}]')
    return [PlannedSubJob(plugin, "", producer, 1, body, 62) for plugin, producer in lanes]


def part(job_id: UUID, sub_job_id: UUID, number: int) -> Part:
    """A result object of one operation."""
    return Part(str(sub_job_id), number, f"{job_id}/{sub_job_id}/{number}.json", 1, "00", 1, 0)


OUTCOMES: Final = pack_outcomes([Response(1, 0, "", state=OperationState.SUCCEEDED)])


class InMemory:
    """The twin."""

    def __init__(self) -> None:
        self._time = 0.0
        self.twin = Twin(lambda: self._time, ADMISSION_SETTINGS)
        for url, idempotent in PLUGINS.items():
            self.twin.register(url, dialect="auto", idempotent=idempotent, bulk_cancel=idempotent)

    def run(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return asyncio.run(awaited())

    def store(self, worker: int) -> DispatchStore:
        return TwinStore(self.twin, worker_id(worker))

    def move(self, seconds: float) -> None:
        self._time += seconds

    def submit(self, new: NewJob) -> None:
        self.twin.submit(new)

    def cancel(self, job_id: UUID) -> None:
        self.twin.cancel(job_id)

    def push(self, sub_job_id: UUID, producer_job: str) -> bool:
        return self.twin.push(sub_job_id, producer_job)

    def arrive(self, job_id: UUID, sub_job_id: UUID, number: int, total: int | None) -> None:
        self.twin.arrive(sub_job_id, part(job_id, sub_job_id, number), OUTCOMES, total)

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for table, columns, times in (
            (self.twin.sub_jobs, _SHOWN, _TIMES),
            (self.twin.jobs, _OF_JOB, _TIMES_OF_JOB),
            (self.twin.cancels, _OF_CANCEL, _TIMES_OF_CANCEL),
        ):
            for row in cast("dict[UUID, Any]", table).values():
                shown = {name.strip(): _plain(getattr(row, name.strip())) for name in columns.split(",")}
                found.append(shown | {name: _rounded(getattr(row, name)) for name in times})
        return found


class InPostgres:
    """PostgreSQL, in virtual time. One at a time over one database, which must be empty."""

    def __init__(self, virtual: Virtual) -> None:
        self._virtual = virtual
        virtual.service()
        self.run(self._execute("update dmi_plugin set bulk_cancel = idempotent"))
        self._log = cast("Logger", LogLines())
        self._announcer = JobEventWriter(JobView(Settings(api_root="http://service")))

    def run(self, work: Awaitable[T]) -> T:
        return self._virtual.run(work)

    def store(self, worker: int) -> DispatchStore:
        database = self._virtual.database
        return DispatchStore(database, worker_id(worker), self._announcer, ADMISSION_SETTINGS, self._log)

    def move(self, seconds: float) -> None:
        self.run(self._execute(MOVE, seconds))

    def submit(self, new: NewJob) -> None:
        async def insert(connection: Connection) -> None:
            await jobs.insert(connection, new, sees=None)

        self.run(self._virtual.database.run_transaction(insert))

    def cancel(self, job_id: UUID) -> None:
        async def ask(connection: Connection) -> None:
            row = await jobs.lock(connection, job_id, None)
            assert row is not None
            if row.status in OPEN and row.status is not Status.CANCELLING:
                await jobs.cancel(connection, job_id)

        self.run(self._virtual.database.run_transaction(ask))

    def push(self, sub_job_id: UUID, producer_job: str) -> bool:
        return self.run(
            self._virtual.database.run_transaction(lambda c: sub_jobs.poll_now(c, sub_job_id, producer_job))
        )

    def arrive(self, job_id: UUID, sub_job_id: UUID, number: int, total: int | None) -> None:
        async def take(connection: Connection) -> None:
            claim = results.MessageCorrelation(job_id, sub_job_id, "", "", "")
            (read,) = await results.find_reads(connection, [claim])
            if isinstance(read, results.ActiveRead):
                pieces = (part(job_id, sub_job_id, number),)
                await results.record_messages(
                    connection, [results.ReceivedMessage(read, number, None, pieces, OUTCOMES, total)]
                )

        self.run(self._virtual.database.run_transaction(take))

    def rows(self) -> list[dict[str, Any]]:
        found = self.run(
            self._fetch(f"select {_SHOWN}, {_seconds(_TIMES)} from sub_job order by job_seq, position")
        )
        found += self.run(
            self._fetch(f"select {_OF_JOB}, {_seconds(_TIMES_OF_JOB)} from data_job order by seq")
        )
        found += self.run(
            self._fetch(f"select {_OF_CANCEL}, {_seconds(_TIMES_OF_CANCEL)} from bulk_cancel order by 1, 2")
        )
        return [
            {name: _rounded(value) if name in _TIMES else _plain(value) for name, value in row.items()}
            for row in found
        ]

    async def _fetch(self, query: str) -> list[dict[str, Any]]:
        async with self._virtual.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(query)]

    async def _execute(self, statement: str, *args: Any) -> None:
        async with self._virtual.database.connection() as connection:
            await connection.execute(statement, *args)


def _seconds(names: Sequence[str]) -> str:
    return ", ".join(f"extract(epoch from {n} - '2026-02-01')::float8 as {n}" for n in names)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value, str_keys=True)
