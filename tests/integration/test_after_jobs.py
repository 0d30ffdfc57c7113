# SPDX-License-Identifier: Apache-2.0
"""A job that waits for other jobs starts once all of them are terminal, in whatever order they end and it is
planned."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import zstandard

from ran_datajobs.model import OperationCounts, PlannedSubJob, Status
from ran_datajobs.plugins.port import Created, Refused
from ran_datajobs.store import jobs, sub_jobs
from ran_datajobs.store.database import Connection, Database
from tests.kit.plugins.in_process import InProcessPlugin
from tests.kit.worker_parts import OPERATIONS, planned_job, until_ended, worker_parts
from tests.kit.worker_parts import add_job as new_job

DONE = OperationCounts(1, 1, 0, 0, 0, 0, 0)
PATIENCE = 20


async def add_job(database: Database, *after: UUID, planned: bool = True) -> UUID:
    """An open job that waits for ``after``. A planned one has no open sub-job."""
    job_id = uuid4()
    async with database.connection() as connection:
        await connection.execute(
            """
            insert into data_job (job_id, client, type, destination_kind, results_bucket, accept_type,
                                  content_type, activation_mode, priority, status, operations, after_jobs,
                                  blocked, planned)
            values ($1, 'c', 'WRITE', 'BUCKET', 'b', '', '', 'BEST_EFFORT', 4, 'RUNNING', 1, $2, $3, $4)
            """,
            job_id,
            list(after),
            bool(after),
            planned,
        )
    return job_id


async def plan(connection: Connection, job_id: UUID) -> list[int]:
    """The record that the planner makes of a job with one sub-job. Returns the lanes in which it may be
    admitted."""
    await connection.execute(
        "insert into dmi_plugin (url) values ('http://127.0.0.1:1') on conflict (url) do nothing"
    )
    plugin_id = await connection.fetchval("select plugin_id from dmi_plugin")
    await jobs.lock(connection, job_id, None)
    blocked = await jobs.mark_planned(
        connection, job_id, sub_jobs=1, unmatched=0, failed=0, split_reads=False
    )
    sub_job = PlannedSubJob(plugin_id, "", "ems-1", 1, zstandard.compress(OPERATIONS), len(OPERATIONS))
    await sub_jobs.insert(connection, job_id, [sub_job])
    return [] if blocked else await sub_jobs.lock_lanes_of(connection, [job_id])


async def end(connection: Connection, job_id: UUID) -> None:
    """The job is terminal, but the transaction is not committed."""
    await jobs.lock(connection, job_id, None)
    assert await jobs.finish(connection, job_id, Status.FINISHED, None, DONE)


async def until_waiting(database: Database, task: asyncio.Task[Any]) -> None:
    """Return when the task is done, or when it waits for a row that another transaction holds."""
    async with asyncio.timeout(PATIENCE), database.connection() as connection:
        while not task.done():
            if await connection.fetchval("select exists (select 1 from pg_locks where not granted)"):
                return
            await asyncio.sleep(0.01)


async def is_blocked(database: Database, job_id: UUID) -> set[bool]:
    """Whether the job, and its sub-jobs, are blocked."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select blocked from data_job where job_id = $1"
            " union all select blocked from sub_job where job_id = $1",
            job_id,
        )
    return {row["blocked"] for row in rows}


async def test_two_jobs_that_end_at_once_free_the_one_that_waits_for_both(database: Database) -> None:
    """Neither of two transactions sees the other's end. The later one to search for waiting jobs unblocks
    them."""
    first, second = await add_job(database), await add_job(database)
    waiting = await add_job(database, first, second, planned=False)
    async with database.transaction() as connection:
        assert await plan(connection, waiting) == []
    async with database.pool.acquire() as late, late.transaction():
        async with database.transaction() as early:
            await end(early, first)
            await end(late, second)
            assert await jobs.unblock_after(early, first) == []
            freeing = asyncio.create_task(jobs.unblock_after(late, second))
            await until_waiting(database, freeing)
        lanes = await freeing
    assert len(lanes) == 1
    assert await is_blocked(database, waiting) == {False}


async def test_a_job_that_is_planned_while_the_other_ends_is_freed(database: Database) -> None:
    """The plan does not see the end yet. The end waits for the plan, and unblocks the planned sub-jobs."""
    first = await add_job(database)
    waiting = await add_job(database, first, planned=False)
    async with database.pool.acquire() as ending, ending.transaction():
        async with database.transaction() as planner:
            await end(ending, first)
            assert await plan(planner, waiting) == []
            freeing = asyncio.create_task(jobs.unblock_after(ending, first))
            await until_waiting(database, freeing)
        lanes = await freeing
    assert len(lanes) == 1
    assert await is_blocked(database, waiting) == {False}


async def test_a_plan_after_the_end_is_not_blocked(database: Database) -> None:
    """The end holds the row of the job that is to be planned: the plan waits, and then sees the end."""
    first = await add_job(database)
    waiting = await add_job(database, first, planned=False)
    async with database.pool.acquire() as planner, planner.transaction():
        async with database.transaction() as ending:
            await end(ending, first)
            assert await jobs.unblock_after(ending, first) == []
            recording = asyncio.create_task(plan(planner, waiting))
            await until_waiting(database, recording)
        lanes = await recording
    assert len(lanes) == 1
    assert await is_blocked(database, waiting) == {False}


async def test_a_job_that_waits_for_an_open_one_stays_blocked(database: Database) -> None:
    """A job waits for two jobs, and one of them ends: nothing is unblocked, and no lane is to be admitted."""
    first, second = await add_job(database), await add_job(database)
    waiting = await add_job(database, first, second, planned=False)
    async with database.transaction() as connection:
        assert await plan(connection, waiting) == []
        await end(connection, first)
        assert await jobs.unblock_after(connection, first) == []
    assert await is_blocked(database, waiting) == {True}


async def test_the_end_of_a_job_starts_the_one_that_waits_for_it(database: Database, tmp_path: Path) -> None:
    """However the first job ends, the finish step admits the waiting sub-jobs, and a worker starts them."""
    async with database.transaction() as connection:
        first = await planned_job(connection)
        waiting_id = await new_job(connection, after=(first.job_id,))
        assert await plan(connection, waiting_id) == []
    plugin = InProcessPlugin()
    plugin.create_answers = [Refused("400"), Created("x")]
    async with worker_parts(database, tmp_path, plugin).working():
        await until_ended(database, first.job_id, waiting_id)
    assert [UUID(call.job_id) for call in plugin.creates] == [first.job_id, waiting_id]
