# SPDX-License-Identifier: Apache-2.0
"""End to end: a write job over the simulated network, through the reference plugin, to its final status."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.machine import answers, folder, running_machine
from ran_datajobs.http.ports import free_port
from ran_datajobs.simulator.registration import registration

SITES, SEED = 1000, 1
OPERATIONS = 100_000
RUNS = 3


def relabel(run: int) -> bytes:
    """A write job that sets the label of cell objects all over the network."""
    cells = [
        handle["alternateId"] + f"/GNBDUFunction=1/NRCellDU={cell}"
        for handle in registration(SEED, SITES, "http://127.0.0.1:1")["createdCmHandles"]
        for cell in (1, 2, 3)
    ]
    lines: list[dict[str, Any]] = [
        {
            "op": "replace",
            "path": f"{cells[n % len(cells)]}#/attributes/userLabel",
            "operationId": n,
            "value": f"run-{run}-{n}",
        }
        for n in range(OPERATIONS)
    ]
    return msgspec.json.encode({"data": lines})


async def run() -> None:
    """Print the figures; medians."""
    print(f"A write job of {OPERATIONS} operations over {SITES} simulated sites (medians)")
    with folder() as data:
        for over_http in (False, True):
            await _measured(over_http, data / str(over_http))


async def _measured(over_http: bool, own: Path) -> None:
    port, element = free_port(), free_port()
    plugin = f"http://127.0.0.1:{port}"
    sized = ("--sites", str(SITES), "--seed", str(SEED))
    dmi = ("-m", "ran_datajobs", "dmi", "--port", str(port), *sized, "--data-dir", str(own))
    beside: list[tuple[str, ...]] = [dmi]
    if over_http:
        simulate = ("-m", "ran_datajobs", "simulate", "--port", str(element), *sized)
        beside = [simulate, (*dmi, "--provmns-url", f"http://127.0.0.1:{element}")]
    async with running_machine(*beside) as machine:
        await answers(machine.session, plugin + "/healthz")
        if over_http:
            await answers(machine.session, f"http://127.0.0.1:{element}/healthz")
        await machine.register(registration(SEED, SITES, plugin, idempotent=True, stopOnError=True))
        took = []
        for number in range(RUNS + 1):
            body = relabel(number)
            started = time.monotonic()
            job = await machine.ended(await machine.submit(body))
            if job["operations"]["succeeded"] != OPERATIONS:
                raise SystemExit(f"not everything was applied: {job['operations']}")
            if number:  # the first one is the warm-up
                took.append(time.monotonic() - started)
        middle = statistics.median(took)
        where = "ProvMnS over HTTP" if over_http else "elements in the plugin's process"
        print(f"  {where}: {middle:.2f} s, {OPERATIONS / middle:,.0f} operations/s")
        peaks = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(machine.peak_rss().items()))
        print(f"  peak memory: {peaks}")
