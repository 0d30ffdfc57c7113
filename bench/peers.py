# SPDX-License-Identifier: Apache-2.0
"""Effect of an unavailable plugin on 49 good ones: p99 of the duration of their sub-jobs.

The fiftieth has 1,000 data producers, and a job with an operation for each. It is unavailable (it accepts
connections and never answers) or, for comparison, as good as the others: a job of that size is work for the
service in any case. All good plugins are one process with a port for each. Every job of the 49 is one
operation, so that a job's duration is its sub-job's. Durations are those of the service's rows. Each
comparison has its own service: the effects of the unavailable plugin are not in the next figure without it.
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
from msgspec import Struct

from bench.machine import Machine, answers, running_machine
from bench.plugin import plugin_app
from ran_datajobs.http.ports import free_port

GOOD = 49
ROUNDS = 10
PAIRS = 3
FIFTIETH, PRODUCERS = "fiftieth", 1_000
SETTLED_AFTER = 5.0


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


class Times(Struct, frozen=True):
    """Durations in seconds of the sub-jobs of the 49, before the fiftieth has its job, from then on, and
    later."""

    before: list[float]
    beside: list[float]
    later: list[float]


async def _compare(*, dead: bool) -> Times:
    """The durations of a service whose fiftieth plugin is unavailable, or is not."""
    ports = [free_port() for _ in range(GOOD + 1)]
    silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)  # never answers
    async with silent, running_machine(("-m", "bench.peers", *map(str, ports))) as machine:
        await answers(machine.session, f"http://127.0.0.1:{ports[-1]}/acknowledged")
        for plugin, port in enumerate(ports[:GOOD]):
            await machine.register(inventory(plugin, port, ROUNDS))
        fiftieth = silent.sockets[0].getsockname()[1] if dead else ports[GOOD]
        await machine.register(inventory(FIFTIETH, fiftieth, PRODUCERS))
        await _measure(machine)  # the warm-up
        before = await _measure(machine)
        address = await machine.submit(writes(FIFTIETH, range(PRODUCERS)))
        beside = await _measure(machine)
        await asyncio.sleep(SETTLED_AFTER)
        later = await _measure(machine)
        async with machine.session.get(address) as response:
            waiting = (await response.json())["operations"]["pending"]
        if waiting != (PRODUCERS if dead else 0):
            raise SystemExit(f"{waiting} sub-jobs of the fiftieth plugin were waiting for it at the end")
        return Times(before, beside, later)


async def run() -> None:
    """Print the figures, alternately of an unavailable fiftieth plugin and of a good one."""
    print(
        f"{GOOD} good plugins, {ROUNDS} rounds of a sub-job each, beside a fiftieth with {PRODUCERS:,}:"
        f" p99 of the time of a sub-job, and median"
    )
    good: list[Times] = []
    dead: list[Times] = []
    for _ in range(PAIRS):
        good.append(await _compare(dead=False))
        dead.append(await _compare(dead=True))
    before = [seconds for times in (*good, *dead) for seconds in times.before]
    _tell("before the fiftieth has them", before, before)
    _tell("beside a good fiftieth, from their submission on", _all(good, "beside"), before)
    _tell(f"beside a good fiftieth, {SETTLED_AFTER:g} s later", _all(good, "later"), before)
    _tell("beside a dead fiftieth, from their submission on", _all(dead, "beside"), before)
    _tell(f"beside a dead fiftieth, {SETTLED_AFTER:g} s later", _all(dead, "later"), before)


def _all(times: list[Times], name: str) -> list[float]:
    return [seconds for each in times for seconds in getattr(each, name)]


def _tell(what: str, took: list[float], before: list[float]) -> None:
    p99, ratio = percentile(took, 0.99), percentile(took, 0.99) / percentile(before, 0.99)
    print(
        f"  {what}: {p99 * 1000:.0f} ms ({ratio:.2f} times),"
        f" {statistics.median(took) * 1000:.0f} ms; {len(took)} sub-jobs"
    )


async def _serve(ports: list[int]) -> None:
    """The good plugins, until a signal."""
    runner = web.AppRunner(plugin_app(), access_log=None)
    await runner.setup()
    for port in ports:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve([int(text) for text in sys.argv[1:]]))
