# SPDX-License-Identifier: Apache-2.0
"""Registration of an inventory like that of ONAP's load test: CM handles per second, in batches, over the
API; the time until the lookup index has them; the memory of the API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bench.accept import alternate_id
from bench.machine import JOBS, Machine, running_machine

HANDLES: Final = 50_000
BATCH: Final = 2_000
"""As in ONAP's load test."""

_PRODUCERS: Final = 200
_TAGS: Final = 5
PLUGIN: Final = "http://127.0.0.1:9"
_TOPIC: Final = "ncmp-events"


def handle(number: int) -> dict[str, Any]:
    """A CM handle with seven properties, one of them a number."""
    return {
        "cmHandle": f"ch-{number}",
        "cmHandleProperties": {
            "segmentId": number % 100,
            "neType": "RadioNode",
            "networkElementId": f"NR{number:06d}",
            "platform": "o-ran",
        },
        "publicCmHandleProperties": {"Color": "yellow", "Size": "small", "Shape": "cube"},
        "alternateId": alternate_id(number),
        "dataProducerIdentifier": f"producer-{number % _PRODUCERS}",
        "moduleSetTag": f"tag-{number % _TAGS}",
    }


def created(numbers: range) -> dict[str, Any]:
    """The members of a registration that create handles."""
    return {"createdCmHandles": [handle(number) for number in numbers]}


def _updated(numbers: range) -> dict[str, Any]:
    properties = {"segmentId": -1}
    return {"updatedCmHandles": [{"cmHandle": f"ch-{n}", "cmHandleProperties": properties} for n in numbers]}


def _removed(numbers: range) -> dict[str, Any]:
    return {"removedCmHandles": [f"ch-{n}" for n in numbers]}


async def _in_batches(machine: Machine, handles: int, change: Callable[[range], dict[str, Any]]) -> str:
    """The figures of a change of all handles, one request after the other."""
    batches = [range(first, min(first + BATCH, handles)) for first in range(0, handles, BATCH)]
    bodies = [msgspec.json.encode({"dmiPlugin": PLUGIN, **change(batch)}) for batch in batches]
    used, seconds, decode = machine.processor_seconds(), 0.0, 0.0
    for body in bodies:
        began = time.perf_counter()
        headers = {"Content-Type": "application/json"}
        url = machine.root + "/ncmpInventory/v1/ch"
        async with machine.session.post(url, data=body, headers=headers) as response:
            if response.status != 200:
                raise SystemExit(f"registration: {response.status} {await response.text()}")
        answered = time.perf_counter()
        msgspec.json.decode(body)
        decode += time.perf_counter() - answered
        seconds += answered - began
    used = machine.processor_seconds() - used
    return (
        f"{handles / seconds:7,.0f} handles/s ({seconds:.2f} s, {seconds / decode:.0f} x bare decode), "
        f"processor time {used / handles * 1e6:.0f} us a handle"
    )


async def _lookup(machine: Machine, number: int) -> float:
    """Seconds of a dry run of one operation; the API's lookup index follows all changes before."""
    operation = {"op": "merge", "path": alternate_id(number), "value": {"a": 1}, "operationId": "1"}
    began = time.perf_counter()
    url = machine.root + JOBS
    async with machine.session.post(url, json={"data": [operation]}, params={"dryRun": "true"}) as response:
        plan = await response.json()
    if [part["dataProducerId"] for part in plan["subJobs"]] != [f"producer-{number % _PRODUCERS}"]:
        raise SystemExit(f"the plan is {plan}")
    return time.perf_counter() - began


async def _published(machine: Machine, events: int) -> None:
    """Return once this many events can be read."""
    url, query = f"{machine.root}/ranoam/cm/v1/topics/{_TOPIC}/messages", {"from": events - 1}
    while True:
        async with machine.session.get(url, params=query) as response:
            if (await response.json())["items"]:
                return
        await asyncio.sleep(0.05)


async def run(handles: str = str(HANDLES)) -> None:
    """Print the figures of an inventory of this many handles."""
    count = int(handles)
    print(f"Registration: {count:,} handles, {BATCH:,} a request, one request at a time")
    async with running_machine() as machine:
        print(f"  created:       {await _in_batches(machine, count, created)}", flush=True)
        print(f"  created again: {await _in_batches(machine, count, created)}", flush=True)
        first, again = await _lookup(machine, 0), await _lookup(machine, count - 1)
        print(f"  dry run: {first:.2f} s, loads the lookup index; then {again * 1000:.1f} ms", flush=True)
        print(f"  updated:       {await _in_batches(machine, count, _updated)}", flush=True)
        print(f"  dry run: {await _lookup(machine, 1):.2f} s, follows the updates")
        peaks = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(machine.peak_rss().items()))
        print(f"  peak memory: {peaks}", flush=True)
        print(f"  removed:       {await _in_batches(machine, count, _removed)}", flush=True)
    async with running_machine(DATAJOBS_INVENTORY_EVENTS_TOPIC=_TOPIC) as machine:
        began = time.perf_counter()
        print(f"  created, with events: {await _in_batches(machine, count, created)}", flush=True)
        await _published(machine, count)
        print(f"  all events are published {time.perf_counter() - began:.1f} s after the first request")
