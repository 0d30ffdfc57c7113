# SPDX-License-Identifier: Apache-2.0
"""Workers are killed while they ask the policy executor, and after it has answered: the next one asks again,
and no operation is executed twice or without permission."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from ran_datajobs.checkpoints import Checkpoint
from tests.kit.plugins.scripted import ScriptedPlugin
from tests.kit.policy import Asked, ScriptedPolicy
from tests.kit.processes import HANDLES, PATIENCE, WRITES, api, process, signalled, variables, worker
from tests.kit.worker_parts import until, void_leases


def odd_ones(asked: Asked) -> str | None:
    """Deny what writes an odd number."""
    ((changed,),) = asked["changeRequest"].values()
    return "locked" if changed["attributes"]["n"] % 2 else None


@pytest.mark.nightly
@pytest.mark.parametrize("answered", [False, True])
async def test_a_worker_killed_around_the_answer_has_sent_nothing(
    database_url: str, tmp_path: Path, answered: bool
) -> None:
    """The worker that takes over gets an answer of its own for every operation."""
    policy, plugin = ScriptedPolicy(odd_ones), ScriptedPlugin()
    held = asyncio.Event()
    policy.held = None if answered else held
    dying = signalled("worker", signal.SIGKILL, Checkpoint.PLAN_SPLIT)
    async with policy.serving() as url, plugin.serving() as address:
        environ = variables(database_url, tmp_path, policy_url=url)
        async with api(environ) as service:
            await service.register(address, HANDLES)
            job_id = await service.submit(WRITES)
            async with process(environ, *dying) as killed:
                if not answered:
                    await until(lambda: policy.requests)
                    killed.kill()
                assert await asyncio.wait_for(killed.wait(), PATIENCE) == -signal.SIGKILL
            asked = len(policy.requests)
            assert asked and not plugin.history
            policy.held = None
            held.set()
            await void_leases(service.database)
            async with worker(environ):
                await service.ended(job_id)
                failures = await service.failures(job_id)
    assert len(policy.requests) > asked
    denied = {each["operationId"] for each in failures if each["reason"] == "POLICY_DENIED"}
    assert denied == {1, 3, 7, 9, 11}, "nobody owns the object of 5"
    executed = Counter(o.operation_id for e in plugin.history for o in e.operations)
    assert executed == dict.fromkeys(range(0, len(WRITES), 2), 1)
