# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments under load: every accepted job ends, no operation is lost or executed twice.

Processes run without a supervisor and its restart back-off, so that kills hit processes that start as well as
those that work.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ran_datajobs.store.database import Database
from tests.kit.killable import Patient
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.processes import process, variables
from tests.recovery.scale import KILLS

pytestmark = pytest.mark.timeout(180 + 15 * KILLS)

PRODUCERS = [f"ems-{n}" for n in range(6)]
HANDLES = {f"/SubNetwork=X/ManagedElement={n}": PRODUCERS[n % len(PRODUCERS)] for n in range(24)}


def request(number: int, rng: random.Random) -> list[dict[str, Any]]:
    elements = [*HANDLES, "/SubNetwork=Y/ManagedElement=nowhere"]
    return [
        {
            "op": "merge",
            "path": f"{rng.choice(elements)}/Cell={n}",
            "value": {"job": number},
            "operationId": f"{number}-{n}",
        }
        for n in range(12)
    ]


async def register(service: Patient, plugin: str, **fields: Any) -> None:
    handles = [
        {"cmHandle": f"ch-{n}", "alternateId": fdn, "dataProducerIdentifier": producer}
        for n, (fdn, producer) in enumerate(HANDLES.items())
    ]
    status, answer = await service.call(
        "POST", "/ncmpInventory/v1/ch", {"dmiPlugin": plugin, "createdCmHandles": handles, **fields}
    )
    assert status == 200, answer


class Fire:
    """One API and one worker, each killed and restarted repeatedly; the last of each is not killed."""

    def __init__(self, service: Patient, environ: dict[str, str], rng: random.Random) -> None:
        self.service = service
        self.over = asyncio.Event()
        self._environ = environ
        self._chance = rng
        self._left = 2

    async def run(self, *, workers: int, apis: int) -> None:
        """Kill ``workers`` workers and ``apis`` APIs, each within its first seconds; run until cancelled.

        ``over`` is set after the last kill, or on an error.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._killed("serve-worker", workers, 2.5))
                group.create_task(self._killed("serve-api", apis, 5.0))
        finally:
            self.over.set()

    async def submitted(self, lines_of: Callable[[int], list[dict[str, Any]]]) -> dict[str, Any]:
        """Submit one job after another until ``over`` is set; return the operations of each by job id."""
        jobs: dict[str, Any] = {}
        while not self.over.is_set():
            lines = lines_of(len(jobs))
            jobs[await self.service.submit(lines, f"key-{len(jobs)}")] = lines
            await asyncio.sleep(self._chance.uniform(0.0, 0.6))
        return jobs

    async def _killed(self, role: str, times: int, longest: float) -> None:
        for _ in range(times):
            async with process(self._environ, "ran_datajobs", role) as victim:
                await asyncio.sleep(self._chance.uniform(0.0, longest))
                assert victim.returncode is None, f"{role} ended by itself"
                victim.kill()
                await victim.wait()
        async with process(self._environ, "ran_datajobs", role) as last:
            self._left -= 1
            if not self._left:
                self.over.set()
            await last.wait()
            raise AssertionError(f"{role} ended by itself")


@contextlib.asynccontextmanager
async def under_fire(
    database_url: str, folder: Path, plugin: str, rng: random.Random, *, kills: int, **fields: Any
) -> AsyncIterator[Fire]:
    """Run a service with ``plugin``; kills begin once the plugin is registered."""
    environ = variables(database_url, folder, unknown_write_quarantine="0.5")
    database = await Database.open(database_url)
    await database.migrate()
    await database.close()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        service = Patient(f"http://127.0.0.1:{environ['DATAJOBS_PORT']}", session)
        async with process(environ, "ran_datajobs", "serve-api"):
            await register(service, plugin, dmiGiveUp=60, **fields)
        fire = Fire(service, environ, rng)
        running = asyncio.create_task(fire.run(workers=kills - kills // 4, apis=kills // 4))
        try:
            yield fire
        finally:
            running.cancel()
            ended = (await asyncio.gather(running, return_exceptions=True))[0]
        assert isinstance(ended, asyncio.CancelledError), ended


@pytest.mark.nightly
async def test_no_operation_is_lost_or_done_twice_when_processes_are_killed(
    database_url: str, tmp_path: Path
) -> None:
    """Workers and APIs are killed at random while clients submit jobs. An idempotent plugin executes each
    operation once, in the order of each request, and every job that was answered with 202 ends with an
    outcome for every operation."""
    rng = random.Random(KILLS)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with (
        plugin.serving() as address,
        under_fire(database_url, tmp_path, address, rng, kills=KILLS, idempotent=True) as fire,
    ):
        submitted = await fire.submitted(lambda number: request(number, rng))
        jobs = {job_id: await fire.service.ended(job_id) for job_id in submitted}

    for job_id, lines in submitted.items():
        unmatched = sum("SubNetwork=Y" in line["path"] for line in lines)
        counts = jobs[job_id]["operations"]
        assert counts["succeeded"] == len(lines) - unmatched, jobs[job_id]
        assert counts["unmatched"] == unmatched
    executed = Counter(str(o.operation_id) for e in plugin.history for o in e.operations)
    matched = {
        line["operationId"] for lines in submitted.values() for line in lines if "=Y" not in line["path"]
    }
    assert set(executed) == matched
    assert set(executed.values()) == {1}
    order: dict[tuple[str, str], list[str]] = defaultdict(list)
    for e in plugin.history:
        order[e.request_id, e.data_producer_id] += [str(o.operation_id) for o in e.operations]
    for (job_id, producer), got in order.items():
        owned = [
            line["operationId"]
            for line in submitted[job_id]
            if HANDLES.get(line["path"].rsplit("/", 1)[0]) == producer
        ]
        assert got == owned


@pytest.mark.nightly
async def test_a_plugin_without_idempotency_never_gets_a_write_twice(
    database_url: str, tmp_path: Path
) -> None:
    """The same without Idempotency-Key: no operation is executed twice; one that may have been executed is
    reported as UNKNOWN; all others succeed."""
    rng = random.Random(KILLS + 1)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED"), honours_key=False))
    async with (
        plugin.serving() as address,
        under_fire(database_url, tmp_path, address, rng, kills=max(4, KILLS // 2)) as fire,
    ):
        submitted = await fire.submitted(
            lambda number: [line for line in request(number, rng) if "=Y" not in line["path"]]
        )
        jobs = {job_id: await fire.service.ended(job_id) for job_id in submitted}
        failures = {
            job_id: (await fire.service.call("GET", f"{job['statusuri']}/failures"))[1]["items"]
            for job_id, job in jobs.items()
        }
    executed = Counter(str(o.operation_id) for e in plugin.history for o in e.operations)
    assert set(executed.values()) == {1}
    for job_id, lines in submitted.items():
        unknown = {f["operationId"] for f in failures[job_id]}
        assert {f["reason"] for f in failures[job_id]} <= {"OUTCOME_UNKNOWN"}
        assert jobs[job_id]["operations"]["unknown"] == len(unknown)
        assert all(executed[line["operationId"]] == 1 for line in lines if line["operationId"] not in unknown)
