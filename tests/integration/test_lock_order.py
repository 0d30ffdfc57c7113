# SPDX-License-Identifier: Apache-2.0
"""Locks are taken in one order: data_job, lane, sub_job, outbox_shard. A waiter for one holds no later
one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from ran_datajobs.model import JobType
from ran_datajobs.store import sub_jobs
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.dispatch import LeasedJob, Started
from ran_datajobs.store.outbox import shard_of
from ran_datajobs.store.sub_jobs import Leased, Postponement
from tests.kit.worker_parts import dispatch_store, worker_parts

pytestmark = pytest.mark.damages_rows

_ROWS = """
insert into dmi_plugin (url) values ('http://127.0.0.1:1');
insert into lane (plugin_id, data_producer_id) select plugin_id, 'ems' from dmi_plugin;
"""
_JOB = """
insert into data_job (job_id, client, type, destination_kind, results_bucket, accept_type, content_type,
                      activation_mode, priority, operations, succeeded, status, planned, sub_jobs,
                      sub_jobs_open, after_jobs, blocked, lease, leased_until)
values ($1, 'c', 'WRITE', 'BUCKET', 'datajobs-results', '', '', 'BEST_EFFORT', 4, 1, 1, $6, true, 1,
        $2, $3, $4, $5, case when $5::uuid is not null then now() + interval '1 minute' end)
"""
_SUB_JOB = """
insert into sub_job (sub_job_id, job_id, position, lane_id, plugin_id, type, job_seq, client, priority,
                     operations, blocked)
select $1, j.job_id, 0, l.lane_id, l.plugin_id, j.type, j.seq, j.client, j.priority, 1, true
from data_job j, lane l where j.job_id = $2
"""


async def two_jobs(connection: Connection) -> tuple[LeasedJob, int]:
    """A leased job that can finish, and a job with a sub-job that waits for it. Returns the first job and the
    lane."""
    first, second, lease = uuid4(), uuid4(), uuid4()
    await connection.execute(_ROWS)
    await connection.execute(_JOB, first, 0, [], False, lease, "RUNNING")
    await connection.execute(_JOB, second, 1, [first], True, None, "NOT_STARTED")
    await connection.execute(_SUB_JOB, uuid4(), second)
    lane_id: int = await connection.fetchval("select lane_id from lane")
    return LeasedJob(first, lease, True, 0, "datajobs-results", None, JobType.WRITE), lane_id


async def test_a_job_that_ends_waits_for_lanes_before_it_announces(
    database: Database, tmp_path: Path
) -> None:
    """The end of a job unblocks another job, in a lane that another transaction has locked. While it waits
    for that lane, the other transaction can publish: neither waits for the other."""
    steps = worker_parts(database, tmp_path).steps
    async with database.transaction() as connection:
        job, lane_id = await two_jobs(connection)
    async with asyncio.timeout(30):
        async with database.transaction() as other:
            await sub_jobs.lock_lanes(other, [lane_id])
            finishing = asyncio.create_task(steps.finish(job))
            await until_a_session_waits(database)
            await other.execute(
                "select from outbox_shard where shard = $1 for update nowait", shard_of(job.job_id)
            )
            assert not finishing.done()
        await finishing
    async with database.connection() as connection:
        assert await connection.fetchval("select stage::text from sub_job") == "ADMITTED"
        assert await status(connection, job.job_id) == "FINISHED"


async def test_what_was_started_is_announced_after_all_sub_jobs_are_locked(database: Database) -> None:
    """One batch starts a sub-job and postpones another one, whose row another transaction has locked, as a
    cancel does. While the batch waits for that row, the other transaction can publish."""
    lease, first, second = uuid4(), uuid4(), uuid4()
    async with database.transaction() as connection:
        await connection.execute(_ROWS)
        for job_id in (first, second):
            await connection.execute(_JOB, job_id, 1, [], False, None, "NOT_STARTED")
            await connection.execute(_SUB_JOB, job_id, job_id)
        await connection.execute(
            "update sub_job set stage = 'ADMITTED', type = 'READ', due_at = now(), lease = $1,"
            " leased_until = now() + interval '1 minute'",
            lease,
        )
        await connection.execute("update sub_job set stage = 'STARTING'")
        lane_id = await connection.fetchval("select lane_id from lane")
    store = dispatch_store(database)
    batch = [
        Started(Leased(first, first, lane_id, lease), "job-1"),
        Postponement(Leased(second, second, lane_id, lease), 1.0),
    ]
    async with asyncio.timeout(30):
        async with database.transaction() as other:
            await other.execute("select from sub_job where sub_job_id = $1 for update", second)
            writing = asyncio.create_task(store.write(batch))
            await until_a_session_waits(database)
            await other.execute(
                "select from outbox_shard where shard = $1 for update nowait", shard_of(first)
            )
            assert not writing.done()
        assert await writing == [False, False]
    async with database.connection() as connection:
        assert await status(connection, first) == "RUNNING"
        assert await connection.fetchval("select count(*) from outbox where job_id = $1", first) == 1


async def until_a_session_waits(database: Database) -> None:
    """Return when a transaction waits for a lock."""
    async with database.connection() as connection:
        while not await connection.fetchval("select count(*) from pg_locks where not granted"):
            await asyncio.sleep(0.01)


async def status(connection: Connection, job_id: UUID) -> str:
    """The status of a job."""
    found: str = await connection.fetchval("select status::text from data_job where job_id = $1", job_id)
    return found
