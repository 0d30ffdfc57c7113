# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL is killed repeatedly during small jobs and is back within two seconds: every accepted job ends,
no sub-job is created twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ran_datajobs.local.postgres import EmbeddedPostgres
from ran_datajobs.store.database import Database
from tests.kit.killable import Patient
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.processes import process, variables

KILLS = 20 if "CRASH_KILLS" in os.environ else 3
"""Kills of the database in one run; 20 in ``make nightly``."""

PRODUCERS = 200
"""Number of data producers: high enough that no job waits for another one in a lane."""

pytestmark = pytest.mark.timeout(600)


@contextlib.asynccontextmanager
async def killed_database(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Run a server on a real disk; it is restarted as soon as it is killed."""
    folder.mkdir()
    server = EmbeddedPostgres(folder, durable=True)
    await server.start()
    watching = asyncio.create_task(server.watch())
    try:
        yield server
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await server.stop()


def small_job(number: int, rng: random.Random) -> list[dict[str, Any]]:
    """Return six operations at randomly chosen elements."""
    return [
        {
            "op": "merge",
            "path": f"/SubNetwork=X/ManagedElement={rng.randrange(PRODUCERS)}/Cell={n}",
            "value": {"job": number},
            "operationId": f"{number}-{n}",
        }
        for n in range(6)
    ]


async def register(service: Patient, plugin: str, *, idempotent: bool) -> None:
    """Register one element for each data producer."""
    handles = [
        {
            "cmHandle": f"ch-{n}",
            "alternateId": f"/SubNetwork=X/ManagedElement={n}",
            "dataProducerIdentifier": f"ems-{n}",
        }
        for n in range(PRODUCERS)
    ]
    body = {"dmiPlugin": plugin, "createdCmHandles": handles, "idempotent": idempotent, "dmiGiveUp": 60}
    status, answer = await service.call("POST", "/ncmpInventory/v1/ch", body)
    assert status == 200, answer


async def submit_until(over: asyncio.Event, service: Patient, rng: random.Random) -> list[str]:
    """Submit small jobs one after another until ``over`` is set; return the ids of the accepted ones."""
    accepted: list[str] = []
    while not over.is_set():
        accepted.append(await service.submit(small_job(len(accepted), rng), f"key-{len(accepted)}"))
        await asyncio.sleep(rng.uniform(0.0, 0.1))
    return accepted


async def kill(server: EmbeddedPostgres, rng: random.Random) -> None:
    """Kill the server ``KILLS`` times, each time some seconds after it is back."""
    for _ in range(KILLS):
        await asyncio.sleep(rng.uniform(0.5, 3.0))
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while server.pid == pid or not await answers(server.url):
                await asyncio.sleep(0.05)


async def answers(url: str) -> bool:
    with contextlib.suppress(Exception):
        database = await Database.open(url, size=1)
        await database.close()
        return True
    return False


@contextlib.asynccontextmanager
async def serving(environ: dict[str, str], workers: int) -> AsyncIterator[Patient]:
    """Run one API and ``workers`` workers as processes; yield a client that repeats its requests."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        )
        await stack.enter_async_context(process(environ, "ran_datajobs", "serve-api"))
        for _ in range(workers):
            await stack.enter_async_context(process(environ, "ran_datajobs", "serve-worker"))
        yield Patient(f"http://127.0.0.1:{environ['DATAJOBS_PORT']}", session)


@pytest.mark.nightly
@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("workers", [1, 2])
async def test_every_job_ends_when_the_database_was_killed_again_and_again(
    tmp_path: Path, workers: int, idempotent: bool, record_property: Any
) -> None:
    """Clients submit jobs while the database is killed. All jobs end. An idempotent plugin executes every
    operation once; any other plugin executes none twice, and the rest end UNKNOWN."""
    rng = random.Random(workers * 2 + idempotent)
    plugin = ScriptedPlugin(Script(honours_key=idempotent))
    async with plugin.serving() as address, killed_database(tmp_path / "database") as server:
        database = await Database.open(server.url)
        await database.migrate()
        await database.close()
        environ = variables(server.url, tmp_path / "data", unknown_write_quarantine="3")
        async with serving(environ, workers) as service:
            await register(service, address, idempotent=idempotent)
            over = asyncio.Event()
            submitting = asyncio.create_task(submit_until(over, service, rng))
            await kill(server, rng)
            over.set()
            last = time.monotonic()
            accepted = await submitting
            jobs = [await service.ended(job_id) for job_id in accepted]
            seconds = time.monotonic() - last
    record_property("jobs", len(jobs))
    record_property("seconds until the last job had ended", round(seconds, 1))
    print(f"{workers} workers, idempotent {idempotent}: {len(jobs)} jobs, all ended {seconds:.1f} s later")
    executed = Counter(str(o.operation_id) for e in plugin.history for o in e.operations)
    assert max(executed.values()) == 1
    counts = Counter[str]()
    for job in jobs:
        counts.update(job["operations"])
    assert counts["succeeded"] + counts["unknown"] == counts["total"] == 6 * len(jobs)
    if idempotent:
        assert counts["unknown"] == 0
        assert sum(executed.values()) == counts["total"]
    assert len(jobs) >= KILLS
