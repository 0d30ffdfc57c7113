# SPDX-License-Identifier: Apache-2.0
"""A database client that is frozen while it holds the lock on a job's row blocks others only briefly."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.store.database import Database
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.whole_service import DEADLINE, whole_service

FOREVER = Script(statuses=("RUNNING",))


@contextlib.asynccontextmanager
async def row_held_by_a_frozen_process(database_url: str, job_id: str) -> AsyncIterator[None]:
    """A process that locked the job's row as the API does and was stopped before its commit."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.e2e.blocked_row", database_url, job_id
    )
    try:
        async with asyncio.timeout(DEADLINE):
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.02)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_a_frozen_api_does_not_hold_up_the_jobs(database_url: str, tmp_path: Path) -> None:
    """A process that is frozen in its transaction holds the lock on one job's row. The other job ends, and
    then the locked one, while the process still exists."""
    plugin = ScriptedPlugin(FOREVER)
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {f"/ManagedElement={n}": f"ems-{n}" for n in range(2)})
        held, other = [
            await service.submit([{"op": "merge", "path": f"/ManagedElement={n}/Cell=1", "value": {}}])
            for n in range(2)
        ]
        for job_id in (held, other):
            await service.until(job_id, {"RUNNING"})
        async with row_held_by_a_frozen_process(database_url, held):
            for n in range(2):
                plugin.script(f"ems-{n}", Script())
            for job_id in (other, held):
                assert (await service.ended(job_id))["status"] == "FINSHED"


async def test_a_transaction_that_was_ended_while_it_idled_is_an_outage(database_url: str) -> None:
    """A transaction that exceeds the idle timeout raises StoreUnavailable (a retry can help) and is rolled
    back; the next transaction works. A transaction may set a longer timeout."""
    database = await Database.open(database_url)
    try:
        with pytest.raises(StoreUnavailable):
            async with database.transaction(idle=0.01) as connection:
                await connection.execute("create table lost ()")
                ended = asyncio.Event()
                connection.add_termination_listener(lambda _: ended.set())
                async with asyncio.timeout(DEADLINE):
                    await ended.wait()
                await connection.execute("create table never ()")
        async with database.transaction(idle=60) as connection:
            assert await connection.fetchval("show idle_in_transaction_session_timeout") == "1min"
            assert await connection.fetchval("select to_regclass('lost') is null")
        async with database.connection() as connection:
            assert await connection.fetchval("show idle_in_transaction_session_timeout") == "5s"
    finally:
        await database.close()
