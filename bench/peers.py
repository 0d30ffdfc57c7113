# SPDX-License-Identifier: Apache-2.0
"""What 49 good plugins notice of a dead one: p99 of the time that their sub-jobs take, with and without it.

The dead one takes connections and never answers. All plugins are one process with a port for each; every job
is one operation for one plugin, so that a job's time is its sub-job's. Times are those of the service's rows.
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

from bench.machine import JOBS, Machine, answers, running_machine
from bench.plugin import plugin_app
from ran_datajobs.serving import free_port

GOOD = 49
ROUNDS = 10
DEAD = "dead"


def alternate_id(plugin: object, element: int) -> str:
    """FDN of one element behind a plugin."""
    return f"/SubNetwork=Bench/ManagedElement={plugin}-{element}"


def inventory(plugin: object, port: int) -> dict[str, Any]:
    """An element for every round, each with a data producer of its own."""
    return {
        "dmiPlugin": f"http://127.0.0.1:{port}",
        "createdCmHandles": [
            {
                "cmHandle": f"ch-{plugin}-{n}",
                "alternateId": alternate_id(plugin, n),
                "dataProducerIdentifier": f"producer-{n}",
            }
            for n in range(ROUNDS)
        ],
    }


def one_write(plugin: object, element: int) -> bytes:
    """A job of one operation."""
    path = alternate_id(plugin, element)
    return msgspec.json.encode({"data": [{"op": "merge", "path": path, "operationId": 1, "value": {"a": 1}}]})


def seconds(job: dict[str, Any]) -> float:
    """From the acceptance of a job to its end."""
    created, ended = (datetime.fromisoformat(job[name]) for name in ("createdAt", "endedAt"))
    return (ended - created).total_seconds()


def percentile(values: list[float], share: float) -> float:
    """The smallest value that ``share`` of the values do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


async def _measure(machine: Machine, *, dead: bool) -> list[float]:
    """Rounds of a job for each good plugin at once; with ``dead``, one for the dead plugin in every round."""
    took: list[float] = []
    for element in range(ROUNDS):
        if dead:
            await machine.submit(one_write(DEAD, element))
        addresses = [await machine.submit(one_write(plugin, element)) for plugin in range(GOOD)]
        jobs = [await machine.ended(address, every=0.05) for address in addresses]
        if any(job["status"] != "FINSHED" for job in jobs):
            raise SystemExit("a good plugin's job did not finish")
        took += map(seconds, jobs)
    return took


async def run() -> None:
    """Print the figures: both, without and with the dead plugin, alternating in one run."""
    print(
        f"{GOOD} good plugins, {ROUNDS} rounds of a sub-job each, without and with a dead one of {GOOD + 1}"
    )
    ports = [free_port() for _ in range(GOOD)]
    silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)  # never answers
    async with silent, running_machine(("-m", "bench.peers", *map(str, ports))) as machine:
        await answers(machine.session, f"http://127.0.0.1:{ports[-1]}/acknowledged")
        for plugin, port in enumerate(ports):
            await machine.register(inventory(plugin, port))
        await machine.register(inventory(DEAD, silent.sockets[0].getsockname()[1]))
        await _measure(machine, dead=False)  # warms up
        without = await _measure(machine, dead=False)
        beside = await _measure(machine, dead=True)
        again = await _measure(machine, dead=False)
        for name, took in (("without", without), ("with", beside), ("without, again", again)):
            middle = statistics.median(took)
            print(f"  {name:>14}: p99 {percentile(took, 0.99) * 1000:.0f} ms, median {middle * 1000:.0f} ms")
        ratio = percentile(beside, 0.99) / percentile(without + again, 0.99)
        print(f"  p99 with a dead plugin is {ratio:.2f} times the p99 without; {len(beside)} sub-jobs each")
        await _open_dead_jobs(machine)


async def _open_dead_jobs(machine: Machine) -> None:
    """Say how many jobs of the dead plugin are still open: they must have been there all the time."""
    async with machine.session.get(machine.root + JOBS + "?status=RUNNING&limit=1000") as response:
        still_open = len((await response.json())["items"])
    print(f"  {still_open} of the dead plugin's {ROUNDS} sub-jobs were still waiting for it at the end")


async def _serve(ports: list[int]) -> None:
    """The good plugins, until a signal."""
    runner = web.AppRunner(plugin_app(), access_log=None)
    await runner.setup()
    for port in ports:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve([int(text) for text in sys.argv[1:]]))
