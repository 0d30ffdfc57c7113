# SPDX-License-Identifier: Apache-2.0
"""A worker's parts over a real database and a folder of objects, with DMI plugins in this process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import structlog
import zstandard

from ran_datajobs import telemetry
from ran_datajobs.checkpoints import CheckpointHook, on_checkpoint
from ran_datajobs.config import Settings
from ran_datajobs.dispatch.attempt import Attempt
from ran_datajobs.dispatch.limits import DispatchLimits
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.dispatch.worker import Worker
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.model import JobType, PlannedSubJob, Status
from ran_datajobs.plugins.policy import PolicyExecutor
from ran_datajobs.results.delivery import JobEventWriter
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import ObjectStore, open_folder
from ran_datajobs.runtime import Runtime
from ran_datajobs.store import jobs, sub_jobs
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.dispatch import DispatchStore, JobRoom, LeasedJob
from ran_datajobs.store.sub_jobs import LeasedSubJob, PluginRoom, Room
from tests.kit.plugins.in_process import InProcessPlugin

DEADLINE: Final = 60.0
BUCKET: Final = "results"
OPERATIONS: Final = b'[{"op":"merge","path":"/A=1","operationId":1,"value":{"a":1}}]'


@dataclass
class Parts:
    """One worker and its parts."""

    database: Database
    plugin: InProcessPlugin
    worker_id: UUID
    runtime: Runtime
    store: DispatchStore
    stopping: asyncio.Event
    limits: DispatchLimits
    objects: ObjectStore
    worker: Worker

    def __post_init__(self) -> None:
        """The parts that the worker makes."""
        self.write, self.executor, self.steps = self.worker.write, self.worker.executor, self.worker.steps

    def attempt_of(self, claimed: LeasedSubJob, claimed_at: float | None = None) -> Attempt:
        """The claimed sub-job as the worker holds it, counted in its limits. Default: claimed now."""
        attempt = Attempt(claimed, self.runtime.now() if claimed_at is None else claimed_at)
        self.limits.add(attempt)
        return attempt

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run the worker during the block, then stop it in order."""
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
            task = group.create_task(self.worker.run())
            try:
                yield
            except BaseException:
                task.cancel()
                raise
            self.stopping.set()


async def always_owner() -> bool:
    """There is no other worker."""
    return True


def dispatch_store(
    database: Database, worker_id: UUID | None = None, log: telemetry.Logger | None = None
) -> DispatchStore:
    """The store of a worker, as in production."""
    announcer = JobEventWriter(JobView(Settings(api_root="http://127.0.0.1")))
    return DispatchStore(database, worker_id or uuid4(), announcer, Settings(), log or telemetry.logger())


def worker_parts(
    database: Database,
    objects: ObjectStore | Path,
    plugin: InProcessPlugin | None = None,
    *,
    settings: Settings | None = None,
    limits: DispatchLimits | None = None,
    index: OwnerIndex | None = None,
    reached: CheckpointHook | None = None,
    grace: float = 4.0,
    policy: PolicyExecutor | None = None,
) -> Parts:
    """The parts of a worker, wired as in production. ``plugin`` answers for every plugin.

    ``objects``: the store of results, or a folder for them. ``reached``: called at each checkpoint of this
    task and of those that it starts from now on.
    """
    if reached is not None:
        on_checkpoint.set(reached)
    plugin = plugin or InProcessPlugin()
    worker_id, stopping, runtime = uuid4(), asyncio.Event(), Runtime(Random(1))
    limits = limits or DispatchLimits()
    if isinstance(objects, Path):
        objects = open_folder(objects / "objects")
    log = telemetry.logger()
    store = dispatch_store(database, worker_id, log)
    worker = Worker(
        store,
        objects,
        index or OwnerIndex(database),
        lambda _: plugin,
        (settings or Settings()).with_changes(shutdown_grace=grace),
        DispatchNews(log),
        stopping,
        runtime,
        limits,
        policy,
    )
    return Parts(database, plugin, worker_id, runtime, store, stopping, limits, objects, worker)


async def add_plugin(
    connection: Connection, url: str = "http://p", *, idempotent: bool = False, bulk_cancel: bool = False
) -> int:
    """Register a plugin. Returns its id."""
    plugin_id: int = await connection.fetchval(
        "insert into dmi_plugin (url, idempotent, bulk_cancel) values ($1, $2, $3)"
        " on conflict (url) do update set url = excluded.url returning plugin_id",
        url,
        idempotent,
        bulk_cancel,
    )
    return plugin_id


@dataclass
class PlannedJob:
    """A job whose sub-jobs are stored: one for each of its data producers, in order."""

    job_id: UUID
    sub_job_ids: list[UUID] = field(default_factory=list)
    lane_ids: list[int] = field(default_factory=list)

    @property
    def sub_job_id(self) -> UUID:
        """The only sub-job."""
        (only,) = self.sub_job_ids
        return only


async def add_job(
    connection: Connection,
    *,
    client: str = "client",
    kind: JobType = JobType.WRITE,
    priority: int = 4,
    after: tuple[UUID, ...] = (),
    operations: bytes = OPERATIONS,
    parts: int = 1,
) -> UUID:
    """An accepted job that is due for its plan. ``parts``: how often it has the ``operations``."""
    request = zstandard.compress(b'{"data":%b}' % operations)
    new = jobs.NewJob(
        uuid4(), client, kind, None, None, jobs.BUCKET, BUCKET, "", "", "BEST_EFFORT", priority, after, None,
        parts * len(msgspec.json.decode(operations)), request,
    )  # fmt: skip
    await jobs.insert(connection, new, sees=None)
    return new.job_id


async def planned_job(
    connection: Connection,
    *producers: str,
    plugin_id: int | None = None,
    client: str = "client",
    kind: JobType = JobType.WRITE,
    priority: int = 4,
    operations: bytes = OPERATIONS,
    admitted: bool = True,
) -> PlannedJob:
    """A job with a sub-job for each data producer (default: ``ems``), in the caller's transaction. Sub-jobs
    that may start are admitted."""
    if plugin_id is None:
        plugin_id = await add_plugin(connection)
    producers = producers or ("ems",)
    job = PlannedJob(
        await add_job(
            connection,
            client=client,
            kind=kind,
            priority=priority,
            operations=operations,
            parts=len(producers),
        )
    )
    await jobs.lock(connection, job.job_id, None)
    await jobs.mark_planned(
        connection, job.job_id, sub_jobs=len(producers), unmatched=0, failed=0, split_reads=False
    )
    count = len(msgspec.json.decode(operations))
    new = [
        PlannedSubJob(plugin_id, "", producer, count, zstandard.compress(operations), len(operations))
        for producer in producers
    ]
    job.sub_job_ids = [sub_jobs.sub_job_id(job.job_id, each) for each in new]
    await sub_jobs.insert(connection, job.job_id, new)
    job.lane_ids = await sub_jobs.lock_lanes_of(connection, [job.job_id])
    if admitted:
        await sub_jobs.admit(connection, job.lane_ids, Settings())
        await sub_jobs.notify_due(connection, "sub_job")
    return job


PLENTY: Final = Room(1000, 1 << 30, PluginRoom(1000, 1000, 1 << 30), {})
EVERY_STEP: Final = JobRoom(1000, 1000, 1000)


async def claim(database: Database, room: Room = PLENTY, worker_id: UUID | None = None) -> list[LeasedSubJob]:
    """The sub-jobs that a worker with such room claims now."""
    return await dispatch_store(database, worker_id).claim_sub_jobs(room, uuid4(), void=True)


async def claim_jobs(database: Database, room: JobRoom = EVERY_STEP) -> list[LeasedJob]:
    """The steps of jobs that a worker with such room claims now."""
    return await dispatch_store(database).claim_jobs(room, uuid4())


async def void_leases(database: Database) -> None:
    """Let every lease expire, as if its worker had ended long ago."""
    async with database.connection() as connection:
        for table in ("sub_job", "data_job", "bulk_cancel"):
            await connection.execute(
                f"update {table} set leased_until = now() - interval '1 second' where lease is not null"
            )


async def by_hand(database: Database, statement: str, *args: Any) -> list[dict[str, Any]]:
    """Rows of a statement that brings rows into a state that no worker reaches: the triggers of the database
    are disabled."""
    async with database.transaction() as connection:
        await connection.execute("set local session_replication_role = replica")
        return [dict(row) for row in await connection.fetch(statement, *args)]


async def all_settled(database: Database) -> None:
    """Every operation succeeded. The finish steps of the jobs are due."""
    await by_hand(
        database, "update sub_job set stage = 'SETTLED', due_at = null, status = 'FINISHED', succeeded = 1"
    )
    await by_hand(
        database, "update data_job set status = 'RUNNING', sub_jobs_open = 0, succeeded = 1, due_at = now()"
    )


async def rows(database: Database, query: str, *args: Any) -> list[dict[str, Any]]:
    """Fetch rows directly from the store."""
    async with database.connection() as connection:
        return [dict(row) for row in await connection.fetch(query, *args)]


async def sub_job_row(database: Database, sub_job_id: UUID) -> dict[str, Any]:
    """The row of one sub-job."""
    (row,) = await rows(database, "select * from sub_job where sub_job_id = $1", sub_job_id)
    return row


async def until(condition: Callable[[], Awaitable[object] | object]) -> None:
    """Return once ``condition`` holds."""
    async with asyncio.timeout(DEADLINE):
        while True:
            holds = condition()
            if isinstance(holds, Awaitable):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(0.01)


async def until_stage(database: Database, sub_job_id: UUID, *stages: str) -> None:
    """Return once the sub-job is in one of these stages."""

    async def reached() -> bool:
        return (await sub_job_row(database, sub_job_id))["stage"] in stages

    await until(reached)


async def until_ended(database: Database, *job_ids: UUID) -> None:
    """Return once these jobs are terminal."""

    async def ended() -> bool:
        found = await rows(database, "select status from data_job where job_id = any($1)", list(job_ids))
        return all(Status[row["status"]].terminal for row in found)

    await until(ended)


@contextlib.contextmanager
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Log lines of this process as JSON, during the block. Logging is restored afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure(level="info", form="json", stream=stream)
    try:
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
