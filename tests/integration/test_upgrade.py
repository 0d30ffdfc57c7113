# SPDX-License-Identifier: Apache-2.0
"""The schema is migrated under running jobs and running processes. A newer schema is left unchanged."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
import zstandard

from ran_datajobs.errors import UsageError
from ran_datajobs.plugins import wire
from ran_datajobs.store.database import Database
from ran_datajobs.store.queries import migrations
from tests.data.kept import KEPT
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.whole_service import whole_service
from tests.tiers import sampled

OLDER = range(1, len(migrations()))
PATIENCE = 30.0


async def load_older(database_url: str, schema: int) -> None:
    """Fill the database with the kept one of ``schema``, as if its sub-jobs had been started just now.

    If none was kept, the newest one before it is migrated to that schema. Migrations never change.
    """
    kept = max(number for number in KEPT if number <= schema)
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(KEPT[kept].read_text(encoding="utf-8"))
        await connection.execute(
            "set search_path to public; update sub_job set started_at = now() where started_at is not null"
        )
        for number, name, text in migrations()[kept:schema]:
            await connection.execute(text)
            await connection.execute(
                "insert into schema_version (number, name) values ($1, $2)", number, name
            )
    finally:
        await connection.close()


async def schema_version(database: Database) -> int:
    """The newest migration that the database has."""
    async with database.connection() as connection:
        return int(await connection.fetchval("select max(number) from schema_version"))


async def take_again(plugin: ScriptedPlugin, address: str, database: Database) -> None:
    """Give the plugin the sub-jobs that it had when the database was kept, under the same ids."""
    async with database.connection() as connection:
        await connection.execute("update dmi_plugin set url = $1", address)
        rows = await connection.fetch(
            """select s.job_id, s.sub_job_id, s.body, l.data_producer_id, s.data_producer_job_id
               from sub_job s join lane l using (lane_id) where s.stage = 'TRACKING' order by 5"""
        )
    async with aiohttp.ClientSession() as session:
        for row in rows:
            body = {
                "dataAcceptType": "application/vnd.3gpp.object-tree-hierarchical+json",
                "dataContentType": "application/3gpp-json-patch+json",
                "dataProducerId": row["data_producer_id"],
                "requestId": str(row["job_id"]),
                "data": msgspec.json.decode(zstandard.decompress(row["body"])),
            }
            headers = {wire.IDEMPOTENCY_KEY: str(row["sub_job_id"])}
            url = f"{address}/dmi/v1/dataJob/{row['job_id']}?destination=x"
            async with session.post(url, json=body, headers=headers) as answer:
                assert (await answer.json())["dataProducerJobId"] == row["data_producer_job_id"]


@pytest.mark.without_schema
@pytest.mark.parametrize("schema", sampled(OLDER, (1, 8, 14, OLDER[-1])))
async def test_open_jobs_of_an_older_schema_are_finished(
    database_url: str, tmp_path: Path, schema: int
) -> None:
    """A database of an older schema, with jobs that are tracked, waiting and not planned, is migrated by two
    processes at once. Then all its jobs end, with every operation executed once. Sub-jobs that were created
    long ago are polled before their timeout."""
    await load_older(database_url, schema)
    first, second = await Database.open(database_url, size=2), await Database.open(database_url, size=2)
    await asyncio.gather(first.migrate(), second.migrate())
    assert await schema_version(first) == len(migrations())
    plugin = ScriptedPlugin(Script())
    async with plugin.serving() as address:
        await take_again(plugin, address, first)
        async with first.connection() as connection:
            job_ids = [str(row["job_id"]) for row in await connection.fetch("select job_id from data_job")]
        async with whole_service(database_url, tmp_path) as service:
            jobs = [await service.ended(job_id) for job_id in job_ids]
    await first.close()
    await second.close()
    assert_whole(jobs, plugin)


def assert_whole(jobs: list[Any], plugin: ScriptedPlugin) -> None:
    """The kept jobs have succeeded except for an operation each that has no owner, and everything is executed
    once."""
    assert len(jobs) == 3
    assert {(job["operations"]["succeeded"], job["operations"]["unmatched"]) for job in jobs} == {(11, 1)}
    executed = [(e.request_id, o.operation_id) for e in plugin.history for o in e.operations]
    assert len(executed) == len(set(executed)) == 33


@pytest.mark.without_schema
async def test_a_busy_table_is_waited_for_without_blocking_others(database_url: str) -> None:
    """An old process that locks a table makes the migration release its locks and retry. Other processes
    still read and write the table meanwhile, and the migration ends once the table is unlocked."""
    await load_older(database_url, 1)
    database = await Database.open(database_url, size=4)
    migrating: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(PATIENCE), database.connection() as old, database.connection() as other:
            blocked = (
                "select exists (select 1 from pg_locks where not granted and relation = 'sub_job'::regclass)"
            )
            transaction = old.transaction()
            await transaction.start()
            await old.execute("select count(*) from sub_job")
            migrating = asyncio.create_task(database.migrate())
            while not await other.fetchval(blocked):
                await asyncio.sleep(0.01)
            while await other.fetchval(blocked):
                await asyncio.sleep(0.01)
            await other.execute("update sub_job set polls = polls + 1")
            assert not migrating.done()
            await transaction.rollback()
            await migrating
        assert await schema_version(database) == len(migrations())
    finally:
        if migrating is not None:
            migrating.cancel()
        await database.close()


async def test_a_newer_database_is_refused(database: Database, database_url: str, tmp_path: Path) -> None:
    """A database that a newer version has migrated ends ``serve`` with status 2 and an error that gives the
    reason, and is not changed."""
    newer = len(migrations()) + 1
    async with database.connection() as connection:
        await connection.execute("insert into schema_version (number, name) values ($1, 'newer')", newer)
    with pytest.raises(UsageError, match="newer"):
        await database.migrate()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DATAJOBS_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ran_datajobs", "serve", "--roles", "worker", "--data-dir", str(tmp_path)),
        env=inherited | {"DATAJOBS_DATABASE_URL": database_url, "DATAJOBS_PORT": "0"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 2
    assert f"schema {newer}" in output.decode()
    assert await schema_version(database) == newer
