# SPDX-License-Identifier: Apache-2.0
"""Workers of a schema that a migration replaces: the migration waits for live ones, and frozen ones change
nothing."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from ran_datajobs.errors import UsageError
from ran_datajobs.store import database as store
from ran_datajobs.store.database import Database
from ran_datajobs.store.queries import migrations
from tests.data.kept import DATA, load_stages, plugins_again
from tests.kit.processes import variables
from tests.kit.whole_service import whole_service

pytestmark = pytest.mark.without_schema

PATIENCE = 30.0
LONG = 3600.0

IMPATIENT = """
import sys
from ran_datajobs.store import database
database.OLD_WORKERS_LEAVE_WITHIN = float(sys.argv.pop(1))
from ran_datajobs.cli.main import main
main()
"""
"""``datajobs`` that waits for old workers for the given number of seconds."""


def statements(schema: int) -> dict[str, str]:
    """The statements of workers of this schema, by name."""
    pieces = (DATA / f"statements-{schema}.sql").read_text(encoding="utf-8").split("-- name: ")[1:]
    return {name: text for name, _, text in (piece.partition("\n") for piece in pieces)}


OLD = statements(6)


class OldWorker:
    """A worker of schema 6 with the statements of that version, over one session."""

    def __init__(self, worker_id: UUID, connection: asyncpg.Connection[Any]) -> None:
        self.worker_id = worker_id
        self.connection = connection

    async def sign_of_life(self, seconds: float = LONG) -> None:
        await self.connection.execute(OLD["worker_alive"], self.worker_id, seconds)

    async def leave(self) -> None:
        await self.connection.fetch(OLD["worker_gone"], self.worker_id)

    async def claim(self, lane_id: int) -> int:
        """Hold a lane. Returns its epoch."""
        row = await self.connection.fetchrow(OLD["claim"], [lane_id], [0], self.worker_id, [])
        assert row is not None
        epoch: int = row["epoch"]
        return epoch


@asynccontextmanager
async def old_worker(database_url: str) -> AsyncIterator[OldWorker]:
    """A live old worker. Its session is named as such a worker names it."""
    worker_id = uuid4()
    connection = await asyncpg.connect(
        database_url, server_settings={"application_name": f"ran-datajobs {worker_id}"}
    )
    try:
        worker = OldWorker(worker_id, connection)
        await worker.sign_of_life()
        yield worker
    finally:
        await connection.close()


async def sub_job_named(connection: asyncpg.Connection[Any], name: str) -> asyncpg.Record:
    """The first sub-job of a kept job."""
    found: list[asyncpg.Record] = await connection.fetch(
        "select s.* from sub_job s join data_job j using (job_id) where j.name = $1 order by position", name
    )
    return found[0]


async def everything(connection: asyncpg.Connection[Any]) -> dict[str, list[Any]]:
    """All rows of all tables."""
    tables = await connection.fetch(
        "select table_name from information_schema.tables where table_schema = 'public' order by 1"
    )
    return {
        row["table_name"]: await connection.fetch(f'select * from "{row["table_name"]}" t order by t::text')
        for row in tables
    }


async def test_a_worker_that_stays_ends_the_migration(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration waits for a live old worker, logs it once, and names it in the error. Nothing is
    changed."""
    monkeypatch.setattr(store, "OLD_WORKERS_LEAVE_WITHIN", 0.2)
    await load_stages(database_url, 6)
    database = await Database.open(database_url, size=2)
    reported: list[str] = []
    async with old_worker(database_url) as worker:
        before = await everything(worker.connection)
        with pytest.raises(UsageError, match=str(worker.worker_id)):
            await database.migrate(reported.append)
        assert await everything(worker.connection) == before
        assert len(reported) == 1
        assert str(worker.worker_id) in reported[0]
    await database.close()


@pytest.mark.damages_rows
async def test_a_worker_that_leaves_in_time_lets_the_migration_go_on(
    database_url: str, tmp_path: Path
) -> None:
    """While the migration waits for an old worker, that worker continues, and its changes are kept: the
    sub-job that it settles meanwhile stays settled. When it ends, the migration continues, and the jobs
    end."""
    stages = await load_stages(database_url, 6)
    stages.write_objects(tmp_path)
    database = await Database.open(database_url, size=2)
    waited = asyncio.Event()
    async with old_worker(database_url) as worker:
        lane = (await sub_job_named(worker.connection, "tracked, then cancelled"))["lane_id"]
        epoch = await worker.claim(lane)
        async with asyncio.timeout(PATIENCE):
            migrating = asyncio.create_task(database.migrate(lambda _cause: waited.set()))
            await waited.wait()
            await worker.sign_of_life()
            assert len(await worker.connection.fetch(OLD["look"], [lane], [epoch])) == 1
            row = await sub_job_named(worker.connection, "tracked, then cancelled")
            settled = [[row["sub_job_id"]], [epoch], ["CANCELLED"], [0], [0], [row["operations"]], [0], [""]]
            version = [[row["job_id"]], [row["version"]]]
            async with worker.connection.transaction():
                assert len(await worker.connection.fetch(OLD["settle"], *settled, *version)) == 1
                await worker.connection.execute(
                    OLD["count_settled"], [row["job_id"]], [1], [0], [0], [row["operations"]], [0], [1]
                )
            assert not migrating.done()
            await worker.leave()
            await migrating
        assert await worker.connection.fetchval("select max(number) from schema_version") == len(migrations())
        after = await sub_job_named(worker.connection, "tracked, then cancelled")
        assert (after["stage"], after["not_started"]) == ("SETTLED", row["operations"])
        job_ids = [
            str(each["job_id"]) for each in await worker.connection.fetch("select job_id from data_job")
        ]
        await worker.connection.execute(
            "update sub_job set quarantined_until = clock_timestamp() where stage = 'QUARANTINED'"
        )
    async with (
        plugins_again(database_url, stages),
        whole_service(
            database_url, tmp_path, unknown_write_quarantine="0.2", read_result_idle_timeout="0.2"
        ) as service,
    ):
        for job_id in job_ids:
            await service.ended(job_id)
    await database.close()


async def test_serve_ends_with_status_2_and_names_the_worker(database_url: str, tmp_path: Path) -> None:
    """``datajobs serve`` names the worker that it waits for. If that worker stays, it ends with status 2 and
    the name."""
    await load_stages(database_url, 6)
    async with old_worker(database_url) as worker:
        serving = await serve(database_url, tmp_path, within=1.0)
        output, _ = await asyncio.wait_for(serving.communicate(), PATIENCE)
        assert serving.returncode == 2
        said = output.decode().splitlines()
        assert [str(worker.worker_id) in line for line in said] == [True, True]
        assert "schema.waits" in said[0]
        assert said[1].endswith("at 127.0.0.1; stop them, then start again")
        assert await worker.connection.fetchval("select max(number) from schema_version") == 6


async def test_serve_can_be_stopped_while_it_waits(database_url: str, tmp_path: Path) -> None:
    """A signal ends a ``serve`` that waits for old workers, at once and in order. Nothing was changed."""
    await load_stages(database_url, 6)
    async with old_worker(database_url) as worker:
        serving = await serve(database_url, tmp_path, within=LONG)
        assert serving.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while b"schema.waits" not in await serving.stdout.readline():
                pass
            serving.send_signal(signal.SIGTERM)
            await serving.communicate()
        assert serving.returncode == 0
        assert await worker.connection.fetchval("select max(number) from schema_version") == 6


async def serve(database_url: str, folder: Path, *, within: float) -> asyncio.subprocess.Process:
    """A supervisor of a worker that waits for old workers for the given number of seconds."""
    environ = variables(database_url, folder, log_level="info", log_format="json")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IMPATIENT, str(within), "serve", "--roles", "worker"),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_a_worker_that_was_frozen_over_the_migration_changes_nothing(database_url: str) -> None:
    """An old worker holds lanes when it freezes, and wakes in a database of the new schema. All of its
    statements fail."""
    await load_stages(database_url, 6)
    database = await Database.open(database_url, size=2)
    async with old_worker(database_url) as worker:
        names = (
            "waits behind simple-fails",
            "starting at simple-stalls",
            "tracked at runs",
            "collecting on-topic",
        )
        rows = {name: await sub_job_named(worker.connection, name) for name in names}
        lanes = [row["lane_id"] for row in rows.values()]
        epochs = [await worker.claim(lane) for lane in lanes]
        await worker.sign_of_life(-1.0)  # frozen beyond the time after which it counts as dead
        await database.migrate()
        before = await everything(worker.connection)
        ids = [row["sub_job_id"] for row in rows.values()]
        jobs: list[UUID] = [row["job_id"] for row in rows.values()]
        n = len(ids)
        zeros, words = [0] * n, [""] * n
        woken: dict[str, list[Any]] = {
            "worker_alive": [worker.worker_id, LONG],
            "worker_gone": [worker.worker_id],
            "claim": [lanes, zeros, worker.worker_id, []],
            "look": [lanes, epochs],
            "mark_starting": [ids, epochs],
            "mark_not_arrived": [ids, epochs, [0.0] * n, words],
            "mark_started": [ids, epochs, ["mine"] * n, jobs, zeros],
            "mark_waiting": [ids, epochs, [None] * n, [0.0] * n, zeros, words],
            "mark_collecting": [ids, epochs, ["topic"] * n],
            "settle": [ids, epochs, ["FINISHED"] * n, zeros, zeros, zeros, zeros, words, jobs, zeros],
            "release": [lanes, epochs],
        }
        assert woken.keys() | {"count_settled", "finish"} == OLD.keys()
        for name, arguments in woken.items():
            with pytest.raises((asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)):
                await worker.connection.execute(OLD[name], *arguments)
        assert await everything(worker.connection) == before
    await database.close()


async def test_a_worker_that_was_frozen_over_the_migration_may_finish_a_job_once(
    database_url: str, tmp_path: Path
) -> None:
    """An old worker has counted the outcomes of a job whose sub-jobs are all settled when it freezes. It
    wakes in a database of the new schema and ends the job, which is allowed. The new worker's finish step
    does not change this, and the job is not due any more."""
    stages = await load_stages(database_url, 6)
    stages.write_objects(tmp_path)
    database = await Database.open(database_url, size=2)
    job = "select * from data_job where name = 'settled'"
    async with old_worker(database_url) as worker:
        await worker.sign_of_life(-1.0)
        await database.migrate()
        counted = await worker.connection.fetchrow(job)
        assert counted is not None
        assert counted["due_at"] is not None
        counts = [counted[name] for name in ("succeeded", "failed", "unmatched", "not_started", "unknown")]
        finish = OLD["finish"], counted["job_id"], "FINISHED", None, *counts
        assert len(await worker.connection.fetch(*finish)) == 1
        ended = await worker.connection.fetchrow(job)
        async with whole_service(database_url, tmp_path), asyncio.timeout(PATIENCE):
            while await worker.connection.fetchval(f"select due_at is not null from ({job})"):
                await asyncio.sleep(0.02)
        after = await worker.connection.fetchrow(job)
        assert ended is not None
        assert after is not None
        assert dict(after) == dict(ended) | {"due_at": None}
        assert await worker.connection.fetch(*finish) == []
    await database.close()
