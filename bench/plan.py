# SPDX-License-Identifier: Apache-2.0
"""Check and plan of ONAP's load job, and of reads, inside one process: ratios to a bare decode, and delays of
the event loop."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable

import msgspec
import zstandard

from bench.accept import HANDLES, LARGE, Body, alternate_id, load_job
from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.planning.request import check_request
from ran_datajobs.planning.split import split
from ran_datajobs.plugins.port import PluginProfile

RUNS = 9
HUGE = 1_000_000
_PLUGIN = PluginProfile(1, "http://127.0.0.1:9001", selectors=True)


def owners(producers: int) -> Owners:
    """:data:`HANDLES` handles, spread over ``producers`` of one plugin."""
    return Owners(
        Owner(f"ch-{n}", alternate_id(n)[1:], _PLUGIN, _PLUGIN, f"producer-{n % producers}", "", b"{}")
        for n in range(HANDLES)
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    result = work()
    took = time.perf_counter() - started
    del result
    return took


def _ratios(body: bytes, works: dict[str, Callable[[], object]]) -> tuple[float, dict[str, list[float]]]:
    """The median seconds of a bare decode, and for each work its ratios to the decodes before and after
    it."""
    bare = msgspec.json.Decoder(Body)
    decodes: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(RUNS):
        for name, work in works.items():
            before = _seconds(lambda: bare.decode(body))
            took = _seconds(work)
            after = _seconds(lambda: bare.decode(body))
            decodes += (before, after)
            ratios[name].append(took / ((before + after) / 2))
    return statistics.median(decodes), ratios


async def _silences(work: Callable[[], object]) -> list[float]:
    """Delays of the event loop, in ascending seconds, while a thread did ``work``."""
    late: list[float] = []
    done = asyncio.create_task(asyncio.to_thread(work))
    while not done.done():
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - started - 0.001)
    del done
    return sorted(late)


async def run() -> None:
    """Print the figures: medians, and the best run in brackets."""
    body = load_job(LARGE, 1)
    one, many = owners(1), owners(200)

    def planned(stored: bytes, index: Owners) -> object:
        return split(zstandard.decompress(stored), index)

    stored = zstandard.compress(body, 1)
    decode, ratios = _ratios(
        body,
        {
            "check before the 202": lambda: check_request(body),
            "compress for the store": lambda: zstandard.compress(body, 1),
            "plan for 1 producer": lambda: planned(stored, one),
            "plan for 200 producers": lambda: planned(stored, many),
        },
    )
    print(f"{LARGE} operations, {len(body) / 1e6:.0f} MB, {HANDLES} handles; ratios to a bare decode")
    print(f"  bare decode: {decode * 1000:.0f} ms")
    for name, values in ratios.items():
        print(f"  {name}: {statistics.median(values):.2f} x ({min(values):.2f} x)")
    _print_reads(one)
    await _print_silences()


def _reads(by_selector: bool) -> bytes:
    """A job of :data:`LARGE` reads of one object each, by path or by data node selector."""
    rng = random.Random(1)
    lines: list[bytes] = []
    for n in range(LARGE):
        path = f"{alternate_id(rng.randrange(HANDLES))}/GNBDUFunction=1"
        steps = "".join('/{}[id="{}"]'.format(*rdn.split("=")) for rdn in path[1:].split("/"))
        asked = {"dataNodeSelector": steps} if by_selector else {"path": path}
        lines.append(msgspec.json.encode({"op": "read", "operationId": str(n), **asked}))
    return b'{"data":[%b]}' % b",".join(lines)


def _print_reads(index: Owners) -> None:
    """Processor seconds of a job of reads by selector, as ratios to the same reads by path."""
    paths, selectors = _reads(by_selector=False), _reads(by_selector=True)
    print(f"{LARGE} reads by data node selector; ratios to the same reads by path")
    works: dict[str, Callable[[bytes], object]] = {
        "check before the 202": check_request,
        "plan for 1 producer": lambda body: split(body, index),
    }
    for name, work in works.items():
        ratios: list[float] = []
        for _ in range(RUNS):
            by_path = _processor_seconds(lambda: work(paths))  # noqa: B023 - called at once
            ratios.append(_processor_seconds(lambda: work(selectors)) / by_path)  # noqa: B023
        print(f"  {name}: {statistics.median(ratios):.2f} x ({min(ratios):.2f} x); by path {by_path:.2f} s")


def _processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    result = work()
    took = time.process_time() - started
    del result
    return took


async def _print_silences() -> None:
    body, many = load_job(HUGE, 1), owners(200)
    stored = zstandard.compress(body, 1)
    works: dict[str, Callable[[], object]] = {
        "it is checked": lambda: check_request(body),
        "it is planned": lambda: split(zstandard.decompress(stored), many),
    }
    print(f"{HUGE} operations: how late the event loop of the same process is while")
    for name, work in works.items():
        late = await _silences(work)
        figures = " ".join(f"p{p} {late[len(late) * p // 100] * 1000:.0f} ms," for p in (50, 99))
        print(f"  {name}: {figures} longest {late[-1] * 1000:.0f} ms")
