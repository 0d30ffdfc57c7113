# SPDX-License-Identifier: Apache-2.0
"""The rules that every test database is checked against: each finds its own violation, and nothing else."""

from __future__ import annotations

from enum import StrEnum
from itertools import product
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from ran_datajobs.model import Status
from ran_datajobs.store.database import Database
from tests import invariants
from tests.invariants.arrows import GUARDED
from tests.invariants.creates import executed_twice
from tests.kit.plugins.scripted import Executed

pytestmark = pytest.mark.damages_rows

_JOB: Final = """
insert into data_job (job_id, client, type, destination_kind, results_bucket, accept_type, content_type,
                      activation_mode, priority, status, operations, planned, sub_jobs, sub_jobs_open)
values ($1, 'c', $2, 'BUCKET', 'b', '', '', 'BEST_EFFORT', 4, 'RUNNING', 1, true, 1, 1)
"""
_SUB_JOB: Final = """
insert into sub_job (sub_job_id, job_id, position, lane_id, plugin_id, type, job_seq, client, priority,
                     operations, stage, status, due_at)
select $1, j.job_id, 0, l.lane_id, l.plugin_id, j.type, j.seq, j.client, j.priority,
       1, $3::sub_job_stage, $4::job_status, case when $3 <> 'WAITING' then clock_timestamp() end
from data_job j, lane l where j.job_id = $2
"""
OPEN: Final = ("NOT_STARTED", "RUNNING", "CANCELLING")


async def add_sub_job(database: Database, stage: str, kind: str = "WRITE", status: str = "RUNNING") -> UUID:
    """A job with one open sub-job in the single lane. Returns the id of the sub-job."""
    job_id, sub_job_id = uuid4(), uuid4()
    async with database.transaction() as connection:
        await connection.execute(
            "insert into dmi_plugin (url) values ('http://127.0.0.1:1') on conflict do nothing"
        )
        await connection.execute(
            "insert into lane (plugin_id, data_producer_id) select plugin_id, 'ems' from dmi_plugin"
            " on conflict do nothing"
        )
        await connection.execute(_JOB, job_id, kind)
        await connection.execute("insert into job_request (job_id, body) values ($1, '')", job_id)
        await connection.execute(_SUB_JOB, sub_job_id, job_id, stage, status)
    return sub_job_id


async def execute(database: Database, statement: str, *args: Any) -> None:
    async with database.connection() as connection:
        await connection.execute(statement, *args)


async def violations(database: Database) -> list[str]:
    async with database.pool.acquire() as connection:
        return await invariants.violations(connection)  # type: ignore[arg-type]


@pytest.mark.parametrize(("table", "column"), GUARDED)
async def test_an_arrow_that_the_tables_do_not_allow_is_refused(
    database: Database, table: str, column: str
) -> None:
    """Of all pairs of states exactly the transitions of ``model.py`` are allowed. Any other is an error of
    the database that names it, and is counted."""
    arrows = GUARDED[table, column]
    states: list[StrEnum] = list(arrows)
    await add_sub_job(database, "WAITING")
    refused = 0
    for before, after in product(states, states):
        async with database.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"alter table {table} disable trigger user")
            await connection.execute(f"update {table} set {column} = '{before}'")
            await connection.execute(f"alter table {table} enable trigger user")
            statement = f"update {table} set {column} = '{after}'"
            if before is after or after in arrows[before]:
                await connection.execute(statement)
                continue
            with pytest.raises(
                asyncpg.CheckViolationError, match=f"forbidden arrow of {table}.{column}: {before} to {after}"
            ):
                async with connection.transaction():
                    await connection.execute(statement)
            refused += 1
    assert refused == len(states) ** 2 - len(states) - sum(map(len, arrows.values()))
    assert f"{refused} statements were refused by the triggers of tests/invariants" in await violations(
        database
    )


async def test_rows_as_dispatch_leaves_them_break_no_rule(database: Database) -> None:
    """A lane with an active write and an active read, and one of each waiting: no violation is found."""
    for stage, kind in (
        ("TRACKING", "WRITE"),
        ("WAITING", "WRITE"),
        ("STARTING", "READ"),
        ("WAITING", "READ"),
    ):
        await add_sub_job(database, stage, kind)
    assert await violations(database) == []


_OF_ACTIVE: Final = "where stage = 'TRACKING'"
_OF_WAITING: Final = "where stage = 'WAITING'"
_ADMIT: Final = f"update sub_job set stage = 'ADMITTED', due_at = now() {_OF_WAITING}"
_END: Final = "status = 'FAILED', ended_at = clock_timestamp()"
DAMAGES: Final = {
    "a second write at work": (
        f"drop index one_write_per_lane; {_ADMIT}",
        "writes at work",
    ),
    "a write beside one in quarantine": (
        f"""drop index one_write_per_lane;
        update sub_job set stage = 'QUARANTINED', quarantined_until = now(), {_END} {_OF_ACTIVE}; {_ADMIT}""",
        "while",
    ),
    "an unknown end without quarantine": (
        f"update sub_job set stage = 'SETTLED', unknown = 1, due_at = null, {_END} {_OF_ACTIVE}",
        "its lane was not in quarantine",
    ),
    "a quarantine for ever": (
        f"update sub_job set stage = 'QUARANTINED', {_END} {_OF_ACTIVE}",
        "has no end",
    ),
    "an operation that ended twice": (
        f"update sub_job set failed = 2 {_OF_ACTIVE}",
        "tells the end of 2",
    ),
    "a count of the job": (
        "update data_job set succeeded = 1",
        "counts 1/0/0/0",
    ),
    "open sub-jobs of the job": (
        "update data_job set sub_jobs_open = 0",
        "counts 0 open sub-jobs",
    ),
    "an object too many": (
        f"""insert into result_part (job_id, sub_job, sequence, key, bytes, sha256, operations, failed)
        select job_id, sub_job_id::text, 0, '', 0, '', 1, 0 from sub_job {_OF_ACTIVE}""",
        "hold 1 of 1 operations",
    ),
    "an end without a status": (
        f"update sub_job set stage = 'SETTLED', succeeded = 1, due_at = null {_OF_ACTIVE}",
        "is SETTLED with status RUNNING",
    ),
    "work without a due time or a lease": (
        f"update sub_job set due_at = null {_OF_ACTIVE}",
        "is TRACKING, and neither due nor leased",
    ),
    "a cancelled one without a due time or a lease": (
        f"update sub_job set cancel_requested = true {_OF_WAITING}",
        "was cancelled, and is neither",
    ),
    "a lane without an admitted sub-job": (
        f"delete from sub_job {_OF_ACTIVE}",
        "could start",
    ),
    "a job blocked by nothing": (
        f"update sub_job set blocked = true {_OF_WAITING}",
        "none of them is open",
    ),
    "a job without its plan": (
        "update data_job set planned = false",
        "has no plan",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_each_rule_finds_its_damage(database: Database, damage: str) -> None:
    """One corruption of a lane with an active and a waiting write: the rule names it."""
    await add_sub_job(database, "TRACKING")
    await add_sub_job(database, "WAITING")
    assert await violations(database) == []
    statements, words = DAMAGES[damage]
    await execute(database, statements)
    found = await violations(database)
    assert any(words in each for each in found), found


@pytest.mark.parametrize("kind", ["WRITE", "READ"])
async def test_an_admission_out_of_turn_is_refused(database: Database, kind: str) -> None:
    """The second of two sub-jobs of one client and priority is not admitted while the first one waits. The
    first one is, and then the second."""
    first, second = [await add_sub_job(database, "WAITING", kind) for _ in range(2)]
    admit = "update sub_job set stage = 'ADMITTED', due_at = now() where sub_job_id = $1"
    with pytest.raises(asyncpg.CheckViolationError, match=f"sub-job {second} was admitted before {first}"):
        await execute(database, admit, second)
    await execute(database, admit, first)
    await execute(
        database, "update sub_job set stage = 'SETTLED', due_at = null where sub_job_id = $1", first
    )
    await execute(database, admit, second)


async def test_the_whole_order_is_held_where_the_aging_is_known(database: Database) -> None:
    """Of two clients with one priority the one that was served last is second, whatever was submitted first.
    Priority takes precedence over that."""
    first, second = [await add_sub_job(database, "WAITING") for _ in range(2)]
    await execute(database, "update sub_job set client = 'd' where sub_job_id = $1", second)
    await execute(database, "insert into lane_client select lane_id, 'c', now() from lane")
    admit = "update sub_job set stage = 'ADMITTED', due_at = now() where sub_job_id = $1"
    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("set local invariants.aging = '600'")
        for priority, ahead, behind in ((4, second, first), (5, first, second)):
            await connection.execute(
                "update sub_job set priority = $2 where sub_job_id = $1", first, priority
            )
            with pytest.raises(asyncpg.CheckViolationError, match=f"{behind} was admitted before {ahead}"):
                async with connection.transaction():
                    await connection.execute(admit, behind)


def test_a_write_that_was_executed_twice_is_found() -> None:
    """By the plugin's record. A read that was executed twice is not found."""
    executed = [
        Executed("", "", sub_job, "", (), is_read)
        for sub_job, is_read in (("a", False), ("b", False), ("r", True), ("a", False), ("r", True))
    ]
    assert executed_twice(executed) == {"a": 2}


def test_every_status_is_guarded() -> None:
    """The transition tables contain every state."""
    assert all(set(arrows) == set(type(next(iter(arrows)))) for arrows in GUARDED.values())
    assert set(OPEN) == {status for status in Status if not status.terminal}
