# SPDX-License-Identifier: Apache-2.0
"""The rows that an upgrade reads grow in proportion to the database, not with its square."""

from __future__ import annotations

from typing import Final

import asyncpg
import pytest

from ran_datajobs.model import Stage
from ran_datajobs.store.database import Database
from tests.data.kept import load_stages
from tests.tiers import nightly

pytestmark = pytest.mark.without_schema

SUB_JOBS: Final = 3000
PASSES: Final = 60
"""Maximum times that the migrations may read the sub-jobs. A comparison of each with every other reads them
thousands of times."""

MULTIPLY = """
with job as (
    insert into data_job overriding system value
    select (jsonb_populate_record(j, jsonb_build_object(
        'job_id', gen_random_uuid(), 'seq', j.seq + 1000000,
        'sub_jobs', $2::integer, 'sub_jobs_open', $2::integer))).*
    from data_job j where j.name = $1
    returning job_id, seq
), lanes as (
    insert into lane overriding system value
    select (jsonb_populate_record(l, jsonb_build_object(
        'lane_id', 1000000 + n, 'data_producer_id', 'many-' || n, 'closed_by', null))).*
    from sub_job s join data_job j using (job_id) join lane l using (lane_id),
         generate_series(1, $3::integer) n
    where j.name = $1
    on conflict do nothing
    returning lane_id
)
insert into sub_job
select (jsonb_populate_record(s, jsonb_build_object(
    'sub_job_id', gen_random_uuid(), 'job_id', job.job_id, 'job_seq', job.seq,
    'position', n, 'lane_id', 1000001 + n % $3::integer))).*
from sub_job s join data_job j using (job_id), job,
     generate_series(1, $2::integer) n, (select count(*) from lanes)
where j.name = $1
"""
"""Another job like $1, with $2 sub-jobs in $3 new lanes."""


async def sub_jobs_read(database_url: str) -> int:
    """Number of rows of sub-jobs that the ended sessions have read."""
    connection = await asyncpg.connect(database_url)
    try:
        number: int = await connection.fetchval(
            "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'sub_job'"
        )
    finally:
        await connection.close()
    return number


@pytest.mark.parametrize("lanes", [1, nightly(SUB_JOBS)])
@pytest.mark.parametrize(
    ("kept", "first", "others"),
    [
        nightly(("waits behind runs", Stage.ADMITTED, Stage.WAITING)),
        nightly(("read 5 at reads", Stage.ADMITTED, Stage.WAITING)),
        ("closes simple-fails", Stage.QUARANTINED, Stage.SETTLED),
    ],
)
async def test_many_sub_jobs_are_read_a_few_times(
    database_url: str, kept: str, first: Stage, others: Stage, lanes: int
) -> None:
    """Thousands of sub-jobs are in one lane, or in a lane each, and PostgreSQL has no statistics of them. The
    migration reads each a few times. One of each lane is admitted or in quarantine, the others are not."""
    await load_stages(database_url, 6)
    connection = await asyncpg.connect(database_url)
    await connection.execute("alter table sub_job set (autovacuum_enabled = off)")
    await connection.execute(MULTIPLY, kept, SUB_JOBS, lanes)
    await connection.close()
    before = await sub_jobs_read(database_url)
    database = await Database.open(database_url, size=1)
    await database.migrate()
    await database.close()
    assert await sub_jobs_read(database_url) - before < PASSES * SUB_JOBS
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(
        "select stage, count(*) from sub_job where lane_id > 1000000 group by stage"
    )
    await connection.close()
    expected = {first: lanes, others: SUB_JOBS - lanes}
    assert {Stage(row["stage"]): row["count"] for row in rows} == {s: n for s, n in expected.items() if n}
