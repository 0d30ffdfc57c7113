# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments under load: every accepted job ends, nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from ran_datajobs.dmi.scripted import Script, ScriptedPlugin
from tests.crash.killable import Killable, killable_service
from tests.crash.scale import KILLS

pytestmark = pytest.mark.timeout(180 + 15 * KILLS)

PRODUCERS = [f"ems-{n}" for n in range(6)]
HANDLES = {f"/SubNetwork=X/ManagedElement={n}": PRODUCERS[n % len(PRODUCERS)] for n in range(24)}


def request(number: int, chance: random.Random) -> list[dict[str, Any]]:
    elements = [*HANDLES, "/SubNetwork=Y/ManagedElement=nowhere"]
    return [
        {
            "op": "merge",
            "path": f"{chance.choice(elements)}/Cell={n}",
            "value": {"job": number},
            "operationId": f"{number}-{n}",
        }
        for n in range(12)
    ]


async def register(service: Killable, plugin: str, **fields: Any) -> None:
    handles = [
        {"cmHandle": f"ch-{n}", "alternateId": fdn, "dataProducerIdentifier": producer}
        for n, (fdn, producer) in enumerate(HANDLES.items())
    ]
    status, answer = await service.call(
        "POST", "/ncmpInventory/v1/ch", {"dmiPlugin": plugin, "createdCmHandles": handles, **fields}
    )
    assert status == 200, answer


async def test_no_operation_is_lost_or_done_twice_when_processes_are_killed(
    database_url: str, tmp_path: Path
) -> None:
    """Workers and APIs are killed at random while jobs come in; an idempotent plugin executes each operation
    once, in the order of each request, and every job that got its 202 ends with its every operation told."""
    chance = random.Random(KILLS)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with plugin.serving() as address, killable_service(database_url, tmp_path) as service:
        await register(service, address, idempotent=True, dmiGiveUp=60)
        submitted: dict[str, list[dict[str, Any]]] = {}

        async def kill_now_and_then() -> None:
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.2, 1.2))
                role = "serve-api" if chance.random() < 0.25 else "serve-worker"
                await service.signal(role, signal.SIGKILL)

        killing = asyncio.create_task(kill_now_and_then())
        for number in range(2 * KILLS):
            lines = request(number, chance)
            submitted[await service.submit(lines, f"key-{number}")] = lines
            await asyncio.sleep(chance.uniform(0.0, 0.6))
        await killing
        jobs = {job_id: await service.ended(job_id) for job_id in submitted}

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


async def test_a_plugin_without_idempotency_never_gets_a_write_twice(
    database_url: str, tmp_path: Path
) -> None:
    """The same without Idempotency-Key: no operation is executed twice; one that may have been is UNKNOWN and
    says so; all others succeeded."""
    chance = random.Random(KILLS + 1)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED"), honours_key=False))
    async with (
        plugin.serving() as address,
        killable_service(database_url, tmp_path, lane_quarantine="0.5") as service,
    ):
        await register(service, address, dmiGiveUp=60)
        submitted: dict[str, list[dict[str, Any]]] = {}
        for number in range(20):
            lines = [line for line in request(number, chance) if "=Y" not in line["path"]]
            submitted[await service.submit(lines, f"key-{number}")] = lines
        for _ in range(max(3, KILLS // 4)):
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            await service.signal("serve-worker", signal.SIGKILL)
        jobs = {job_id: await service.ended(job_id) for job_id in submitted}
        failures = {
            job_id: (await service.call("GET", f"{job['statusuri']}/failures"))[1]["items"]
            for job_id, job in jobs.items()
        }
    executed = Counter(str(o.operation_id) for e in plugin.history for o in e.operations)
    assert not executed or set(executed.values()) == {1}
    for job_id, lines in submitted.items():
        unknown = {f["operationId"] for f in failures[job_id]}
        assert {f["reason"] for f in failures[job_id]} <= {"OUTCOME_UNKNOWN"}
        assert jobs[job_id]["operations"]["unknown"] == len(unknown)
        assert all(executed[line["operationId"]] == 1 for line in lines if line["operationId"] not in unknown)
