# SPDX-License-Identifier: Apache-2.0
"""A cancel in the middle of a job of 10,000 sub-jobs: the executions that the plugin starts after it was
accepted.

The plugin is a reference plugin over elements that only record when they get an operation. Its executions are
counted by the machine's monotonic clock, from the moment at which the client has the 202 of its cancel.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web

from bench.machine import Machine, answers, folder, running_machine
from bench.size import PRODUCERS, inventory, one_for_each
from ran_datajobs.dmi.element import Outcome, ReadChunk
from ran_datajobs.dmi.server import serve
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.errors import BusUnavailable
from ran_datajobs.http.ports import free_port
from ran_datajobs.messaging.bus import Message
from ran_datajobs.model import ActivationMode, Operation, OperationState

RUNS = 2
TAKES = 5.0
"""Seconds that an element takes for one operation."""

TAKEN = PRODUCERS // 2
"""Number of sub-jobs that the plugin has accepted when the job is cancelled. 256 of these run
concurrently."""


async def run() -> None:
    """Print the figures of each run."""
    print(f"A job of {PRODUCERS:,} sub-jobs at one reference plugin, cancelled once it has taken {TAKEN:,}")
    print(f"  (an operation takes {TAKES:g} s; seconds count from the 202 of the cancel)")
    for bulk in (True, False):
        print(f"  {'with' if bulk else 'without'} bulkCancel:")
        for _ in range(RUNS):
            print("    " + await _measured(bulk=bulk), flush=True)


async def _measured(*, bulk: bool) -> str:
    port, ask = free_port(), free_port()
    plugin, plugin_says = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ask}/"
    async with running_machine(("-m", "bench.cancel", str(port), str(ask))) as machine:
        await answers(machine.session, plugin_says)
        await machine.register(inventory(plugin, PRODUCERS) | {"idempotent": True, "bulkCancel": bulk})
        address = await machine.submit(one_for_each(range(PRODUCERS)))
        async with asyncio.timeout(300):
            while (await _json(machine, plugin_says))["taken"] < TAKEN:
                await asyncio.sleep(0.02)
        asked = time.monotonic()
        async with machine.session.post(address + "/cancel") as answer:
            if answer.status != 202:
                raise SystemExit(f"cancel: {answer.status} {await answer.text()}")
        accepted = time.monotonic()
        job = await machine.ended(address, every=0.1)
        ended = time.monotonic()
        moments = (await _json(machine, plugin_says))["started"]
    after = [moment - accepted for moment in moments if moment > accepted]
    if job["operations"]["succeeded"] != len(moments) or job["operations"]["unknown"]:
        raise SystemExit(f"{len(moments)} were started, the job says {job['operations']}")
    return (
        f"accepted after {accepted - asked:.2f} s; {len(moments) - len(after):,} had started before, "
        f"{len(after):,} after it, the last one after {max(after, default=0.0):.2f} s; "
        f"{job['status']} after {ended - accepted:.2f} s"
    )


async def _json(machine: Machine, url: str) -> Any:
    async with machine.session.get(url) as response:
        return await response.json()


class _Element:
    """Takes a while for each operation, and records its start."""

    def __init__(self) -> None:
        self.started: list[float] = []

    async def write(self, operations: Sequence[Operation], _mode: ActivationMode) -> Sequence[Outcome]:
        for _ in operations:
            self.started.append(time.monotonic())
            await asyncio.sleep(TAKES)
        return [Outcome(OperationState.SUCCEEDED)] * len(operations)

    async def read(self, operation: Operation) -> AsyncIterator[ReadChunk]:
        raise NotImplementedError(operation.path)
        yield


class _NoBus:
    """Nothing is read, so nothing is published."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        raise BusUnavailable(topic)


async def _serve(port: int, ask: int) -> None:
    """The plugin, until a signal. ``ask``: the port that reports the started operations."""
    element, taken = _Element(), set[str]()

    def element_of(data_producer_id: str) -> _Element:
        taken.add(data_producer_id)
        return element

    with folder() as data:

        async def says(_request: web.Request) -> web.Response:
            return web.json_response({"taken": len(taken), "started": element.started})

        app = web.Application()
        app.router.add_get("/", says)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", ask).start()
        await serve("127.0.0.1", port, PluginSettings(data), element_of, _NoBus())


if __name__ == "__main__":
    asyncio.run(_serve(*(int(text) for text in sys.argv[1:])))
