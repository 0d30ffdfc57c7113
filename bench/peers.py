# SPDX-License-Identifier: Apache-2.0
"""What 49 good plugins notice of a dead one: p99 of the time that their sub-jobs take, with and without it.

The dead one takes connections and never answers, and has 1,000 data producers with an operation each. All
plugins are one process with a port for each; every job of a good one is one operation, so that a job's time
is its sub-job's. Times are those of the service's rows. Each pair of figures has a service of its own: what
the dead plugin leaves behind is not in the next figure without it.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import sys
from datetime import datetime
from typing import Any

import msgspec
from aiohttp import web

from bench.machine import Machine, answers, running_machine
from bench.plugin import plugin_app
from ran_datajobs.serving import free_port

GOOD = 49
ROUNDS = 10
PAIRS = 2
DEAD, DEAD_PRODUCERS = "dead", 1_000


def alternate_id(plugin: object, element: int) -> str:
    """FDN of one element behind a plugin."""
    return f"/SubNetwork=Bench/ManagedElement={plugin}-{element}"


def inventory(plugin: object, port: int, producers: int) -> dict[str, Any]:
    """An element behind a plugin for each of its data producers."""
    return {
        "dmiPlugin": f"http://127.0.0.1:{port}",
        "createdCmHandles": [
            {
                "cmHandle": f"ch-{plugin}-{n}",
                "alternateId": alternate_id(plugin, n),
                "dataProducerIdentifier": f"producer-{n}",
            }
            for n in range(producers)
        ],
    }


def writes(plugin: object, elements: range) -> bytes:
    """A job of one operation for each of these elements of a plugin."""
    lines = [
        {"op": "merge", "path": alternate_id(plugin, n), "operationId": n, "value": {"a": 1}}
        for n in elements
    ]
    return msgspec.json.encode({"data": lines})


def seconds(job: dict[str, Any]) -> float:
    """From the acceptance of a job to its end."""
    created, ended = (datetime.fromisoformat(job[name]) for name in ("createdAt", "endedAt"))
    return (ended - created).total_seconds()


def percentile(values: list[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


async def _measure(machine: Machine) -> list[float]:
    """Rounds of a job for each good plugin at once."""
    took: list[float] = []
    for element in range(ROUNDS):
        one = range(element, element + 1)
        addresses = [await machine.submit(writes(plugin, one)) for plugin in range(GOOD)]
        jobs = [await machine.ended(address, every=0.05) for address in addresses]
        if any(job["status"] != "FINSHED" for job in jobs):
            raise SystemExit("a good plugin's job did not finish")
        took += map(seconds, jobs)
    return took


async def _pair() -> tuple[list[float], list[float]]:
    """The times without and then with the dead plugin, which has its job from before the first round on."""
    ports = [free_port() for _ in range(GOOD)]
    silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)  # never answers
    async with silent, running_machine(("-m", "bench.peers", *map(str, ports))) as machine:
        await answers(machine.session, f"http://127.0.0.1:{ports[-1]}/acknowledged")
        for plugin, port in enumerate(ports):
            await machine.register(inventory(plugin, port, ROUNDS))
        await machine.register(inventory(DEAD, silent.sockets[0].getsockname()[1], DEAD_PRODUCERS))
        await _measure(machine)  # warms up
        without = await _measure(machine)
        address = await machine.submit(writes(DEAD, range(DEAD_PRODUCERS)))
        beside = await _measure(machine)
        async with machine.session.get(address) as response:
            waiting = (await response.json())["operations"]["pending"]
        if waiting != DEAD_PRODUCERS:  # they must have been there all the time
            raise SystemExit(
                f"only {waiting} sub-jobs of the dead plugin were still waiting for it at the end"
            )
        return without, beside


async def run() -> None:
    """Print the figures: without and with the dead plugin, in turns."""
    print(
        f"{GOOD} good plugins, {ROUNDS} rounds of a sub-job each, without and with a dead one"
        f" of {GOOD + 1} that has {DEAD_PRODUCERS:,} sub-jobs"
    )
    without: list[float] = []
    beside: list[float] = []
    for _ in range(PAIRS):
        pair = await _pair()
        for name, took, all_of_it in zip(("without", "with"), pair, (without, beside), strict=True):
            all_of_it += took
            middle = statistics.median(took)
            print(f"  {name:>7}: p99 {percentile(took, 0.99) * 1000:.0f} ms, median {middle * 1000:.0f} ms")
    ratio = percentile(beside, 0.99) / percentile(without, 0.99)
    print(f"  p99 with a dead plugin is {ratio:.2f} times the p99 without; {len(beside)} sub-jobs each")


async def _serve(ports: list[int]) -> None:
    """The good plugins, until a signal."""
    runner = web.AppRunner(plugin_app(), access_log=None)
    await runner.setup()
    for port in ports:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve([int(text) for text in sys.argv[1:]]))
