# SPDX-License-Identifier: Apache-2.0
"""What is older than the retention goes, everywhere, and nothing else does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from ran_datajobs.dispatch.pruner import Pruner, Retention
from ran_datajobs.dmi.scripted import Script, ScriptedPlugin
from ran_datajobs.results.objects import open_folder
from ran_datajobs.store.database import Database
from ran_datajobs.telemetry import logger
from tests.acceptance.whole_service import DEADLINE, JOBS, Service, whole_service

EMPTIED = (
    "data_job",
    "job_request",
    "sub_job",
    "result_part",
    "idempotency_key",
    "outbox",
    "bus_message",
    "delivery_trouble",
    "pgqueuer",
    "pgqueuer_log",
    "pgqueuer_statistics",
)
LINES = [
    {"op": "merge", "path": f"/ManagedElement={n % 3}/Cell={n}", "value": {"n": n}, "operationId": n}
    for n in range(9)
]
NOTHING = Retention(jobs=0.0, messages=0.0, keys=0.0)


async def counts(database: Database) -> dict[str, int]:
    """Rows of every table that retention empties."""
    async with database.connection() as connection:
        return {table: await connection.fetchval(f"select count(*) from {table}") for table in EMPTIED}


async def until_idle(service: Service, job_ids: list[str]) -> None:
    """All jobs ended and delivered, and no task is left in the engine or message in the outbox."""
    for job_id in job_ids:
        await service.ended(job_id)
    async with asyncio.timeout(DEADLINE):
        while (left := await counts(service.database))["pgqueuer"] + left["outbox"]:
            await asyncio.sleep(0.05)
    for job_id in job_ids:
        assert (await service.job(job_id))["deliveryState"] == "DELIVERED"


async def submit(service: Service, destination: str) -> str:
    """A job that is taken; its id."""
    answer = await service.call("POST", f"{JOBS}{destination}", {"data": LINES}, expect=202)
    job_id: str = answer["jobId"]
    return job_id


def files(folder: Path) -> list[Path]:
    """Every file and folder of results."""
    return sorted((folder / "objects").rglob("*"))


async def test_everything_that_is_too_old_goes(database_url: str, tmp_path: Path) -> None:
    """Jobs for a bucket, a topic and nowhere, one of them with an unmatched operation, end; then retention
    brings every table back to the level before, and no object or folder of theirs is left."""
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {f"/ManagedElement={n}": f"ems-{n}" for n in range(2)})
        before = await counts(service.database)
        job_ids = [
            await submit(service, destination)
            for destination in ("", "?destination=kafka:rapp", "?destination=s3:rapp-bucket") * 2
        ]
        await until_idle(service, job_ids)
        full = await counts(service.database)
        assert full["pgqueuer_log"] == 0
        assert full["sub_job"] == 12
        assert full["bus_message"] > 0
        pruner = Pruner(service.database, open_folder(tmp_path / "objects"), NOTHING, logger())
        assert await pruner.prune() == len(job_ids)
        assert await counts(service.database) == before
        assert files(tmp_path) == []
        await service.call("GET", f"{JOBS}/{job_ids[0]}", expect=404)


async def test_open_jobs_and_open_deliveries_stay_whole(database_url: str, tmp_path: Path) -> None:
    """A job that runs, and one whose delivery is under way, keep every row, message and object of theirs,
    however old they are; the running one ends as if nothing had been."""
    plugin = ScriptedPlugin(Script())
    plugin.script("ems-1", Script(statuses=("RUNNING",)))
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {f"/ManagedElement={n}": f"ems-{n}" for n in range(3)})
        running = await submit(service, "")
        async with asyncio.timeout(DEADLINE):
            while (await service.job(running))["operations"]["succeeded"] < 6:
                await asyncio.sleep(0.05)
        delivering = await service.submit([line for line in LINES if "=1/" not in str(line["path"])])
        await service.ended(delivering)
        async with service.database.connection() as connection:
            await connection.execute(
                "update data_job set delivery_state = 'PENDING' where job_id::text = $1", delivering
            )
        pruner = Pruner(service.database, open_folder(tmp_path / "objects"), NOTHING, logger())
        stored, kept = await rows_of(service.database, running, delivering), files(tmp_path)
        assert await pruner.prune() == 0
        assert await rows_of(service.database, running, delivering) == stored
        assert files(tmp_path) == kept
        plugin.script("ems-1", Script())
        job = await service.ended(running)
        assert job["operations"]["succeeded"] == len(LINES)
        assert len(await service.responses(job)) == len(LINES)


async def rows_of(database: Database, *job_ids: str) -> Any:
    """What the tables hold of jobs, but for what changes by itself."""
    async with database.connection() as connection:
        return [
            await connection.fetchval(f"select count(*) from {table} where job_id::text = any ($1)", job_ids)
            for table in ("data_job", "job_request", "sub_job", "result_part")
        ]


async def test_a_young_job_stays_and_one_pruner_works_at_a_time(database: Database, tmp_path: Path) -> None:
    """What is younger than the retention stays; a pruner that finds another one at work leaves it to it."""
    async with database.connection() as connection:
        await connection.execute(
            """
            insert into data_job (job_id, client, type, destination_kind, results_bucket, accept_type,
                                  content_type, activation_mode, priority, status, operations,
                                  delivery_state, ended_at)
            select gen_random_uuid(), 'c', 'WRITE', 'BUCKET', 'datajobs-results', '', '', 'BEST_EFFORT', 4,
                   'FINISHED', 1, 'DELIVERED', clock_timestamp() - make_interval(days => days)
            from unnest(array[1, 6, 8, 30]) as t (days)
            """
        )
    objects = open_folder(tmp_path)
    pruner = Pruner(database, objects, Retention(), logger())
    async with database.connection() as other:
        await other.execute("select pg_advisory_lock(7263404)")
        assert await pruner.prune() == 0
    assert await pruner.prune() == 2
    assert (await counts(database))["data_job"] == 2
