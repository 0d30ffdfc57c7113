# SPDX-License-Identifier: Apache-2.0
"""The simulated network: time to the first answer, and time and memory to return all its objects."""

from __future__ import annotations

import statistics
import time

import aiohttp
import psutil

from bench.machine import peak_rss_of, program
from ran_datajobs.http.ports import free_port
from ran_datajobs.simulator.wire import PROVMNS

SITES = (200, 10_000)
RUNS = 5
_ROOT = f"{PROVMNS}/SubNetwork=Europe"


async def run() -> None:
    """Print the figures; medians."""
    print("The simulated network (medians)")
    for sites in SITES:
        figures = [await _figures(sites) for _ in range(RUNS)]
        start, read, size, peak = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"  {sites:,} sites: first answer after {start:.2f} s")
        print(f"  all objects: {size:.0f} MiB in {read:.1f} s")
        print(f"  peak memory after that: {peak:.0f} MiB")


async def _figures(sites: int) -> tuple[float, float, float, float]:
    """Seconds to the first answer and of a read of everything, the MiB of its response, the peak in MiB."""
    port = free_port()
    command = ("-m", "ran_datajobs", "simulate", "--port", str(port), "--sites", str(sites))
    started = time.monotonic()
    with program(*command) as process:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            await _answered(session, process)
            first = time.monotonic()
            size = 0
            async with session.get(f"{_ROOT}?scopeType=BASE_ALL") as response:
                response.raise_for_status()
                async for chunk in response.content.iter_any():
                    size += len(chunk)
            return first - started, time.monotonic() - first, size / 2**20, peak_rss_of(process)


async def _answered(session: aiohttp.ClientSession, process: psutil.Process) -> None:
    while process.is_running():
        try:
            async with session.get(_ROOT) as response:
                response.raise_for_status()
                return
        except aiohttp.ClientConnectionError:
            continue
    raise SystemExit("the simulated network ended while it started")
