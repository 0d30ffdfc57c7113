# SPDX-License-Identifier: Apache-2.0
"""ONAP's two load jobs: time to the 202, time until the plugin has acknowledged every create."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import Any

import msgspec

from bench.machine import Machine, answers, running_machine
from ran_datajobs.http.ports import free_port

HANDLES = 50_000
SMALL, LARGE = 100, 100_000


class _Operation(msgspec.Struct):
    op: str
    path: str
    operationId: msgspec.Raw  # noqa: N815 - the wire's name
    value: msgspec.Raw


class Body(msgspec.Struct):
    """Target type of a bare decode of a load job."""

    data: list[_Operation]


def alternate_id(number: int) -> str:
    """FDN of one handle."""
    return f"/SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR{number:06d}/ManagedElement=NR{number:06d}"


def inventory(plugin: str, producers: int, handles: range = range(HANDLES)) -> dict[str, Any]:
    """A registration of these handles, distributed over ``producers``."""
    return {
        "dmiPlugin": plugin,
        "createdCmHandles": [
            {
                "cmHandle": f"ch-{n}",
                "alternateId": alternate_id(n),
                "dataProducerIdentifier": f"producer-{n % producers}",
            }
            for n in handles
        ],
    }


def load_job(operations: int, seed: int, handles: range = range(HANDLES)) -> bytes:
    """One add of a child and one merge into a grandchild for each of some random handles; about 217 bytes a
    line."""
    rng = random.Random(seed)
    encoder = msgspec.json.Encoder()
    lines: list[bytes] = []  # encoded at once: a million dicts need gigabytes
    for n in range(operations // 2):
        base = alternate_id(handles[rng.randrange(len(handles))])
        pair: tuple[dict[str, Any], ...] = (
            {
                "op": "add",
                "path": f"{base}/SomeChild=child-1",
                "operationId": str(2 * n),
                "value": {"id": "child-1", "attributes": {"userLabel": f"label-{n}", "size": n}},
            },
            {
                "op": "merge",
                "path": f"{base}/SomeChild=child-2/SomeGrandChild=grand-child-1",
                "operationId": str(2 * n + 1),
                "value": {"attributes": {"userLabel": f"label-{n}"}},
            },
        )
        lines += map(encoder.encode, pair)
    return b'{"data":[' + b",".join(lines) + b"]}"


async def creates(machine: Machine, plugin: str) -> int:
    """Number of creates that the plugin has answered."""
    async with machine.session.get(plugin + "/acknowledged") as response:
        return int((await response.json())["creates"])


async def acknowledged(machine: Machine, plugin: str, wanted: int, every: float = 0.002) -> float:
    """Wait for the answer to the last of ``wanted`` creates; returns its time by the monotonic clock."""
    async with asyncio.timeout(300):
        while True:
            async with machine.session.get(plugin + "/acknowledged") as response:
                seen = await response.json()
            if seen["creates"] >= wanted:
                return float(seen["last"])
            await asyncio.sleep(every)


async def _measure(machine: Machine, plugin: str, producers: int, size: int, runs: int) -> str:
    accepted, arrived, ended, bare = [], [], [], []
    decoder = msgspec.json.Decoder(Body)
    for run in range(runs + 1):
        body = load_job(size, run)
        started = time.perf_counter()
        operations = decoder.decode(body).data
        bare.append(time.perf_counter() - started)
        owners = {int(o.path.split("MeContext=NR")[1][:6]) % producers for o in operations}
        before = await creates(machine, plugin)
        start = time.monotonic()
        address = await machine.submit(body)
        at_202 = time.monotonic() - start
        last = await acknowledged(machine, plugin, before + len(owners))
        await machine.ended(address)
        if run:  # the first run is a warm-up
            accepted.append(at_202)
            arrived.append(last - start)
            ended.append(time.monotonic() - start)
    decode = statistics.median(bare)

    def shown(values: list[float]) -> str:
        middle = statistics.median(values)
        return f"{middle * 1000:8.1f} ms ({middle / decode:6.1f} x decode)"

    return (
        f"{size:>7} operations, {producers:>3} producers: 202 {shown(accepted)}, "
        f"all acknowledged {shown(arrived)}, terminal {shown(ended)}; bare decode {decode * 1000:.1f} ms"
    )


async def run() -> None:
    """Print the figures; medians."""
    print(f"ONAP's load jobs, {HANDLES} handles, a plugin that does nothing (medians)")
    for producers in (1, 200):
        port = free_port()
        plugin = f"http://127.0.0.1:{port}"
        async with running_machine(("-m", "bench.plugin", str(port))) as machine:
            await answers(machine.session, plugin + "/acknowledged")
            started = time.perf_counter()
            await machine.register(inventory(plugin, producers))
            print(f"  {HANDLES} handles registered in {time.perf_counter() - started:.2f} s")
            print("  " + await _measure(machine, plugin, producers, SMALL, 15))
            print("  " + await _measure(machine, plugin, producers, LARGE, 5))
            peaks = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(machine.peak_rss().items()))
            print(f"  peak memory: {peaks}")
