# SPDX-License-Identifier: Apache-2.0
"""Permission of a policy executor for ONAP's large load job: time of the plan with it and without it,
requests, and processor time, in one run."""

from __future__ import annotations

import statistics
from typing import Final

import aiohttp

from bench.accept import HANDLES, LARGE, inventory, load_job
from bench.machine import Machine, answers, running_machine
from ran_datajobs.http.ports import free_port

RUNS: Final = 3
_PRODUCERS: Final = 200
_LABELS: Final = LARGE // 2
"""Two adjacent operations of a load job have one label."""

_CASES: Final = {
    "all allowed": range(0),
    "1 % denied, side by side": range(_LABELS // 100),
    "1 % denied, spread evenly": range(0, _LABELS, 100),
}


async def _planned(machine: Machine) -> float:
    """Seconds that plans have taken so far."""
    async with machine.session.get(machine.root + "/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(each.split()[1]) for each in lines if each.startswith("datajobs_plan_seconds_sum"))


async def _requests(session: aiohttp.ClientSession, policy: str) -> int:
    async with session.get(policy + "/requests") as response:
        return int((await response.json())["requests"])


async def _measure(machine: Machine, policy: str, name: str) -> None:
    seconds, processor, requests = list[float](), list[float](), list[int]()
    job: dict[str, dict[str, int]] = {}
    for run in range(RUNS + 1):
        body = load_job(LARGE, run)
        before, used, asked = await _planned(machine), machine.processor_seconds(), 0
        if policy:
            asked = await _requests(machine.session, policy)
        job = await machine.ended(await machine.submit(body))
        if run:  # the first run is a warm-up
            seconds.append(await _planned(machine) - before)
            processor.append(machine.processor_seconds() - used)
            requests.append(await _requests(machine.session, policy) - asked if policy else 0)
    counts = job["operations"]
    print(
        f"  {name + ':':27} plan {statistics.median(seconds):5.2f} s ({min(seconds):.2f}), "
        f"{round(statistics.median(requests)):5} requests, processor time of the job "
        f"{statistics.median(processor):5.2f} s; "
        f"succeeded {counts['succeeded']:,}, failed {counts['failed']:,}",
        flush=True,
    )


async def run() -> None:
    """Print the figures: medians, and the best run in brackets."""
    print(
        f"{LARGE} operations, {HANDLES} handles, {_PRODUCERS} data producers; "
        "the policy executor decides at once"
    )
    plugin, policy = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    programs = [
        ("-m", f"bench.{name}", url.rpartition(":")[2])
        for name, url in (("plugin", plugin), ("policy_executor", policy))
    ]
    async with running_machine(*programs) as machine:
        await answers(machine.session, plugin + "/acknowledged")
        await machine.register(inventory(plugin, _PRODUCERS))
        await _measure(machine, "", "no policy executor")
    async with running_machine(*programs, DATAJOBS_POLICY_URL=policy) as machine:
        await answers(machine.session, plugin + "/acknowledged")
        await answers(machine.session, policy + "/requests")
        await machine.register(inventory(plugin, _PRODUCERS))
        for name, numbers in _CASES.items():
            labels = [f"label-{number}" for number in numbers]
            async with machine.session.post(policy + "/denied", json=labels) as response:
                response.raise_for_status()
            await _measure(machine, policy, name)
