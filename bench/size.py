# SPDX-License-Identifier: Apache-2.0
"""Many data producers and many open jobs: sub-jobs a second, and the peak memory of each process."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from bench import accept
from bench.machine import Machine, answers, running_machine
from ran_datajobs.http.ports import free_port

PRODUCERS = 10_000
OPEN_JOBS, OPEN_OVER = 1_000, 100
RUNS = 3
LARGEST, LARGEST_OVER = 1_000_000, 200


def inventory(plugin: str, producers: int) -> dict[str, Any]:
    """One handle for each data producer."""
    return {
        "dmiPlugin": plugin,
        "createdCmHandles": [
            {
                "cmHandle": f"ch-{n}",
                "alternateId": f"/SubNetwork=X/ManagedElement={n}",
                "dataProducerIdentifier": f"producer-{n}",
            }
            for n in range(producers)
        ],
    }


def one_for_each(elements: range) -> bytes:
    """A job with one operation for each of these elements."""
    lines = [
        {
            "op": "merge",
            "path": f"/SubNetwork=X/ManagedElement={n}/Cell=1",
            "operationId": n,
            "value": {"attributes": {"userLabel": f"label-{n}"}},
        }
        for n in elements
    ]
    return msgspec.json.encode({"data": lines})


async def _creates(machine: Machine, plugin: str) -> tuple[int, float]:
    async with machine.session.get(plugin + "/acknowledged") as response:
        seen = await response.json()
    return seen["creates"], seen["last"]


async def _one_wide_job(machine: Machine, plugin: str) -> str:
    """One job over all producers: the rates at which its creates are acknowledged and its sub-jobs
    settled."""
    before, _ = await _creates(machine, plugin)
    start = time.monotonic()
    address = await machine.submit(one_for_each(range(PRODUCERS)))
    async with asyncio.timeout(300):
        while (seen := await _creates(machine, plugin))[0] < before + PRODUCERS:
            await asyncio.sleep(0.02)
    acknowledged = seen[1] - start
    await machine.ended(address, every=0.1)
    terminal = time.monotonic() - start
    return (
        f"{PRODUCERS} producers x 1 operation: {PRODUCERS / acknowledged:,.0f} sub-jobs/s acknowledged, "
        f"{PRODUCERS / terminal:,.0f}/s to terminal ({acknowledged:.2f} s, {terminal:.2f} s)"
    )


async def _many_open_jobs(machine: Machine) -> str:
    """Many concurrent jobs, all over the same producers: they wait for each other in their lanes."""
    start = time.monotonic()
    gate = asyncio.Semaphore(16)

    async def submit(number: int) -> str:
        async with gate:
            first = number % OPEN_OVER
            return await machine.submit(one_for_each(range(first, first + 10)))

    addresses = await asyncio.gather(*(submit(number) for number in range(OPEN_JOBS)))
    taken = time.monotonic() - start
    for address in addresses:
        await machine.ended(address, every=0.2)
    ended = time.monotonic() - start
    return (
        f"{OPEN_JOBS} jobs of 10 sub-jobs at once, over {OPEN_OVER + 9} producers: taken in {taken:.2f} s, "
        f"ended after {ended:.2f} s, {OPEN_JOBS * 10 / ended:,.0f} sub-jobs/s"
    )


async def run() -> None:
    """Print the figures."""
    print("Size: a plugin that does nothing, in a process of its own")
    port = free_port()
    plugin = f"http://127.0.0.1:{port}"
    async with running_machine(("-m", "bench.plugin", str(port))) as machine:
        await answers(machine.session, plugin + "/acknowledged")
        await machine.register(inventory(plugin, PRODUCERS))
        for _ in range(RUNS):
            print("  " + await _one_wide_job(machine, plugin), flush=True)
        print("  " + await _many_open_jobs(machine), flush=True)
        print("  peak memory: " + _peaks(machine))
    print("  " + await _largest_job(), flush=True)


def _peaks(machine: Machine) -> str:
    peaks = machine.peak_rss()
    both = sum(mib for name, mib in peaks.items() if name != "serve")
    each = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(peaks.items()))
    return f"{each}; API and worker together {both} MiB"


async def _largest_job() -> str:
    """One job of the maximum number of operations: the memory of a service that has done nothing else."""
    port = free_port()
    plugin = f"http://127.0.0.1:{port}"
    async with running_machine(("-m", "bench.plugin", str(port))) as machine:
        await answers(machine.session, plugin + "/acknowledged")
        await machine.register(accept.inventory(plugin, LARGEST_OVER))
        body = accept.load_job(LARGEST, 0)
        start = time.monotonic()
        address = await machine.submit(body)
        accepted = time.monotonic() - start
        await accept.acknowledged(machine, plugin, LARGEST_OVER)
        acknowledged = time.monotonic() - start
        job = await machine.ended(address, every=0.1)
        if job["status"] != "FINSHED":
            raise SystemExit(f"the job of {LARGEST:,} operations ended {job['status']}")
        terminal = time.monotonic() - start
        return (
            f"{LARGEST:,} operations over {LARGEST_OVER} producers ({len(body) >> 20} MiB): 202 after "
            f"{accepted:.2f} s, acknowledged {acknowledged:.2f} s, terminal {terminal:.2f} s; "
            f"peak memory: {_peaks(machine)}"
        )
