# SPDX-License-Identifier: Apache-2.0
"""End to end: a read of 100,000 objects, from the submit to the objects under the manifest's addresses."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec

from bench.machine import Machine, answers, folder, running_machine
from ran_datajobs.http.ports import free_port
from ran_datajobs.plugins.wire import TREE_FLAT, TREE_HIERARCHICAL
from ran_datajobs.simulator.registration import registration

SITES, SEED = 2_945, 1
"""Number of sites with 100,000 objects: 34 each."""

RUNS = 3


def everything(accept_type: str) -> bytes:
    """A read job for every object of the network in one operation."""
    read = {
        "op": "read",
        "path": "/SubNetwork=Europe",
        "operationId": "all",
        "scope": {"scopeType": "BASE_ALL"},
    }
    return msgspec.json.encode({"dataAcceptType": accept_type, "data": [read]})


async def run() -> None:
    """Print the figures; medians."""
    with folder() as data:
        for over_http in (False, True):
            await _measured(over_http, data / str(over_http))


async def _measured(over_http: bool, own: Path) -> None:
    service, port, element = free_port(), free_port(), free_port()
    plugin = f"http://127.0.0.1:{port}"
    sized = ("--sites", str(SITES), "--seed", str(SEED))
    dmi: tuple[str, ...] = (
        "-m", "ran_datajobs", "dmi", "--port", str(port), "--dmi-service-url", f"http://127.0.0.1:{service}",
        "--data-dir", str(own), *sized,
    )  # fmt: skip
    beside = [dmi]
    if over_http:
        simulate = ("-m", "ran_datajobs", "simulate", "--port", str(element), *sized)
        root = f"http://127.0.0.1:{element}/{{dataProducerId}}"
        beside = [simulate, (*dmi, "--provmns-url", root)]
    async with running_machine(*beside, port=service) as machine:
        await answers(machine.session, plugin + "/healthz")
        if over_http:
            await answers(machine.session, f"http://127.0.0.1:{element}/healthz")
        await machine.register(registration(SEED, SITES, plugin, idempotent=True))
        where = "ProvMnS over HTTP" if over_http else "elements in the plugin's process"
        print(f"A read of all objects of {SITES} simulated sites, {where} (medians)")
        for accept_type in (TREE_FLAT, TREE_HIERARCHICAL):
            took = []
            for number in range(RUNS + 1):
                started = time.monotonic()
                job = await machine.ended(await machine.submit(everything(accept_type)))
                seconds = time.monotonic() - started
                if job["status"] != "FINSHED":
                    raise SystemExit(f"the read ended {job['status']}: {job.get('reason')}")
                if number:  # the first one generates the sites
                    took.append(seconds)
            objects, size = await _objects(machine, job)
            middle = statistics.median(took)
            form = accept_type.removeprefix("application/vnd.3gpp.object-tree-").removesuffix("+json")
            print(
                f"  {form}: {objects:,} objects, {size / 1e6:.0f} MB in {middle:.2f} s,"
                f" {objects / middle:,.0f} objects/s"
            )
        peaks = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(machine.peak_rss().items()))
        print(f"  peak memory: {peaks}")


async def _objects(machine: Machine, job: Any) -> tuple[int, int]:
    """Number of objects of the result, and its bytes."""
    async with machine.session.get(job["resultsuri"]) as response:
        manifest = await response.json()
    base = job["resultsuri"].partition("?")[0]
    count = size = 0
    for entry in manifest["objects"]:
        async with machine.session.get(f"{base}/{entry['key']}") as response:
            body = await response.read()
        size += len(body)
        for each in (await asyncio.to_thread(msgspec.json.decode, body))["responses"]:
            count += _counted(each["result"])
    return count, size


def _counted(result: Any) -> int:
    """Selected objects of a result in either form."""
    if isinstance(result, list):
        return len(result)
    below = sum(
        _counted(child)
        for name, children in result.items()
        if name != "attributes" and isinstance(children, list)
        for child in children
    )
    return below + ("attributes" in result)
