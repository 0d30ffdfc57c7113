# SPDX-License-Identifier: Apache-2.0
"""Databases whose jobs an older service left in every stage are migrated, and every job ends correctly."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ran_datajobs.errors import UsageError
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.store.database import Database
from tests.data.kept import STAGES, executed, load_stages, plugins_again
from tests.data.stages import TOPIC, message, reads
from tests.kit.whole_service import Service, whole_service
from tests.tiers import sampled

pytestmark = pytest.mark.without_schema

SCHEMAS = sampled(sorted(STAGES), {min(STAGES), max(STAGES)})
"""The oldest and the newest kept schema; the others with ``make nightly``."""

CANCELLED = {
    "blocked, then cancelled",
    "waits, then cancelled",
    "tracked, then cancelled",
    "tried at busy-cancelled",
    "starting at stalls-cancelled",
    "not planned, then cancelled",
}
"""No operation of these is executed, or their plugin stops it."""

UNKNOWN = {
    "closes simple-fails",
    "closes hasty-runs",
    "starting at simple-stalls",
    "starting at simple-stalls-cancelled",
    "starting at simple-loses",
}
"""The create may have arrived and the plugin is not idempotent; or the sub-job timed out."""

UNMATCHED = "of several producers"
"""One operation of this job has no owner."""

NEVER_SENT = CANCELLED - {"tracked, then cancelled", "starting at stalls-cancelled"} | {
    "starting at simple-loses"
}
"""No plugin has received these."""


async def migrated_by_two(database_url: str) -> Database:
    """Migrate the schema by two concurrent processes. Returns a store of it."""
    first, second = await Database.open(database_url, size=4), await Database.open(database_url, size=2)
    await asyncio.gather(first.migrate(), second.migrate())
    await second.close()
    return first


async def names(database: Database) -> dict[str, str]:
    """The id of each kept job."""
    async with database.connection() as connection:
        return {
            row["name"]: str(row["job_id"])
            for row in await connection.fetch("select name, job_id from data_job")
        }


async def shorten_waits(database: Database) -> int:
    """Let the quarantines that end by time alone end in a moment. Returns their number. Reads wait for their
    next message from now on."""
    async with database.connection() as connection:
        await connection.execute(
            "update sub_job set last_message_at = clock_timestamp() where stage = 'COLLECTING'"
        )
        changed = await connection.fetch(
            """update sub_job
               set quarantined_until = clock_timestamp() + interval '1 s', due_at = clock_timestamp()
               where stage = 'QUARANTINED' and data_producer_job_id is null returning sub_job_id"""
        )
    return len(changed)


async def send_the_rest(service: Service, job_id: str, total: int | None) -> None:
    """Publish the second message of a read that has had its first."""
    (sub_job,) = await service.sub_jobs(job_id)
    producer = sub_job["dataProducerId"]
    sent = message(job_id, sub_job["subJobId"], reads(producer)[1]["operationId"], 1, total)
    path = f"/ranoam/cm/v1/topics/{INTERNAL_TOPIC}/messages"
    await service.call("POST", path, {"messages": [sent]}, expect=204)


def expected(name: str, total: int) -> tuple[str, dict[str, int]]:
    """Status and counts of a kept job at its end."""
    if name in CANCELLED:
        return "CANCELLED", {"notStarted": total}
    if name in UNKNOWN:
        return "FAILED", {"unknown": total}
    if name == UNMATCHED:
        return "PARTIALLY_FAILED", {"succeeded": total - 1, "unmatched": 1}
    return "FINSHED", {"succeeded": total}


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_jobs_in_every_stage_end(database_url: str, tmp_path: Path, schema: int) -> None:
    """Two processes migrate concurrently. Then every job ends and is delivered: cancelled sub-jobs are not
    started, an operation that a non-idempotent plugin may have executed is unknown, all others have
    succeeded. No operation is executed twice, no lane stays closed, and reads get the messages that arrive
    after the upgrade."""
    stages = await load_stages(database_url, schema)
    stages.write_objects(tmp_path)
    database = await migrated_by_two(database_url)
    ids = await names(database)
    assert await shorten_waits(database) == 1
    settings = {"unknown_write_quarantine": "1", "read_result_idle_timeout": "4"}
    found: dict[str, Any] = {}
    async with (
        plugins_again(database_url, stages) as plugins,
        whole_service(database_url, tmp_path, **settings) as service,
    ):
        for producer, total in (("on-topic", 2), ("on-topic-no-total", None), ("on-topic-cancelled", 2)):
            await send_the_rest(service, ids[f"collecting {producer}"], total)
        for name, job_id in ids.items():
            await service.ended(job_id)
            found[name] = await delivered(service, job_id)
        await all_published(database)
        messages = await service.call("GET", f"/ranoam/cm/v1/topics/{TOPIC}/messages?limit=100", expect=200)
    for name, job in found.items():
        status, counts = expected(name, job["operations"]["total"])
        assert (job["status"], job["deliveryState"]) == (status, "DELIVERED"), name
        assert {k: n for k, n in job["operations"].items() if n} == counts | {
            "total": job["operations"]["total"]
        }, name
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from sub_job where stage <> 'SETTLED'") == 0
    await database.close()
    end_messages = Counter(item["headers"]["ce_correlationid"] for item in messages["items"])
    assert end_messages == {ids["delivered"]: 1, ids["delivery pending"]: 1}
    times = Counter(executed(plugins))
    whole = {(ids[name], "whole") for name in ("read of two parts", "not planned, of two parts")}
    assert {key for key, n in times.items() if n > 1} == whole  # once by each of two data producers
    assert {job_id for job_id, _ in times} == {
        job_id for name, job_id in ids.items() if name not in NEVER_SENT
    }


async def all_published(database: Database) -> None:
    """Return once the outbox is empty: status events are published after the results, too."""
    async with asyncio.timeout(30), database.connection() as connection:
        while await connection.fetchval("select count(*) from outbox"):
            await asyncio.sleep(0.02)


async def delivered(service: Service, job_id: str) -> Any:
    """The job, once its delivery has ended."""
    async with asyncio.timeout(30):
        while (job := await service.job(job_id))["deliveryState"] == "PENDING":
            await asyncio.sleep(0.02)
    return job


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_the_migration_leaves_every_sub_job_in_its_place(database_url: str, schema: int) -> None:
    """After the migration, before any worker runs: a lane has at most one active write, and no more active
    reads than the plugin takes. Active sub-jobs are due. A waiting sub-job waits behind another in its lane,
    or for a job. The two closed lanes are in quarantine. Jobs without open sub-jobs are due for their own
    step. Open sub-jobs keep the dialect that their plugin is registered with,
    whatever is registered later."""
    await load_stages(database_url, schema)
    database = await migrated_by_two(database_url)
    async with database.connection() as connection:
        rows = await connection.fetch(
            """select s.*, j.name, coalesce(p.read_slots, 4) as read_slots,
                      coalesce(nullif(p.dialect, 'auto'), s.dialect) as dialect_of_plugin
               from sub_job s join data_job j using (job_id) join dmi_plugin p using (plugin_id)"""
        )
        steps = await connection.fetch(
            """select name, due_at is not null as due,
                      planned and sub_jobs_open > 0 or ended_at is not null as idle from data_job"""
        )
        applied = await connection.fetchval("select applied_at from schema_version where number = 8")
    await database.close()
    at_work = [row for row in rows if row["stage"] not in ("WAITING", "SETTLED")]
    opened = [row for row in rows if row["stage"] != "SETTLED"]
    assert {row["name"] for row in opened if row["dialect"] != row["dialect_of_plugin"]} == set()
    lanes = Counter((row["lane_id"], row["type"]) for row in at_work)
    slots = {row["lane_id"]: row["read_slots"] for row in rows}
    assert {lane: n for (lane, kind), n in lanes.items() if kind == "WRITE" and n > 1} == {}
    assert {lane: n for (lane, kind), n in lanes.items() if kind == "READ" and n > slots[lane]} == {}
    assert [row["name"] for row in at_work if row["due_at"] is None] == []
    assert {row["name"] for row in rows if row["stage"] == "QUARANTINED"} == {
        "closes simple-fails",
        "closes hasty-runs",
    }
    for row in rows:
        if row["stage"] == "WAITING":
            assert row["blocked"] or row["cancel_requested"] or lanes[row["lane_id"], row["type"]], row[
                "name"
            ]
            assert (row["due_at"] is not None) == row["cancel_requested"], row["name"]
    assert {row["name"] for row in steps if row["due"] == row["idle"]} == set()
    if schema < 8:  # no consumer ran while the older workers were ending
        assert {row["last_message_at"] for row in rows if row["stage"] == "COLLECTING"} == {applied}
    counted = {row["name"]: row["messages"] for row in rows if row["messages"]}
    assert counted == {
        f"collecting {producer}": 1
        for producer in ("on-topic", "on-topic-no-total", "on-topic-cancelled", "messages-early")
    }


async def test_who_waits_for_a_job_that_has_ended_waits_no_longer(database_url: str) -> None:
    """An older worker was killed before it searched for jobs that nothing unblocks: the migration finds
    them."""
    await load_stages(database_url, 6)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """update data_job set after_jobs = array(select job_id from data_job where name = 'delivered')
           where name = 'blocked'"""
    )
    await connection.close()
    database = await migrated_by_two(database_url)
    async with database.connection() as store:
        row = await store.fetchrow(
            """select s.stage, s.blocked, j.blocked as whole
               from sub_job s join data_job j using (job_id) where name = 'blocked'"""
        )
    await database.close()
    assert row is not None
    assert tuple(row) == ("ADMITTED", False, False)


async def test_two_writes_under_way_in_one_lane_are_left_to_the_older_version(database_url: str) -> None:
    """This should not occur. Neither may be sent again, and only one can be active from now on: the migration
    names the data producer, and changes nothing."""
    await load_stages(database_url, 6)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """update sub_job s set stage = 'TRACKING'
           from data_job j where j.job_id = s.job_id and name = 'waits behind runs'"""
    )
    database = await Database.open(database_url, size=2)
    with pytest.raises(UsageError, match="data producer runs: start it again"):
        await database.migrate()
    await database.close()
    assert await connection.fetchval("select max(number) from schema_version") == 6
    await connection.close()
