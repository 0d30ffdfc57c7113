# SPDX-License-Identifier: Apache-2.0
"""Cost by size: write jobs of 10,000 to 1,000,000 operations, and one job over more and more handles.

``python -m bench scale[=FILE.svg]`` prints tables, and draws them into the file. The plugin executes nothing.
The cost of a step for each operation must not grow with the number of operations.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from msgspec import Struct

from bench.accept import HANDLES, acknowledged, creates, inventory, load_job
from bench.machine import Machine, answers, running_machine
from bench.plot import Line, Panel, log_log
from ran_datajobs.http.ports import free_port

PRODUCERS = 200
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
OPERATIONS = 100_000
INVENTORIES = (5_000, 50_000, 500_000)
ONE_BODY = 50_000
"""Handles of one registration."""

RUNS = 3
POLL = 0.02


class Cost(Struct, frozen=True):
    """Durations of jobs of one size, medians in seconds from the submit, and the processes' peak memory after
    them."""

    operations: int
    handles: int
    accepted: float
    acknowledged: float
    terminal: float
    peaks: dict[str, int]


class Filled(Struct, frozen=True):
    """A machine with its handles. ``registered``: seconds until the last 200. ``known``: from there until a
    small job was acknowledged, which waits for the lookup index."""

    machine: Machine
    plugin: str
    registered: float
    known: float


@contextlib.asynccontextmanager
async def _filled(handles: int) -> AsyncIterator[Filled]:
    port = free_port()
    plugin = f"http://127.0.0.1:{port}"
    async with running_machine(("-m", "bench.plugin", str(port))) as machine:
        await answers(machine.session, plugin + "/acknowledged")
        registered = 0.0
        for first in range(0, handles, ONE_BODY):
            body = inventory(plugin, PRODUCERS, range(first, min(first + ONE_BODY, handles)))
            started = time.monotonic()
            await machine.register(body)
            registered += time.monotonic() - started
        started = time.monotonic()
        address = await machine.submit(load_job(2, 0, range(handles - 1, handles)))
        known = await acknowledged(machine, plugin, 1) - started
        await machine.ended(address)
        yield Filled(machine, plugin, registered, known)


async def _cost(filled: Filled, operations: int, handles: int) -> Cost:
    """Costs of jobs of this size. The first one is the warm-up, and is not counted."""
    machine, plugin = filled.machine, filled.plugin
    took: list[tuple[float, float, float]] = []
    for run in range(RUNS + 1):
        body = load_job(operations, run, range(handles))
        before = await creates(machine, plugin)
        start = time.monotonic()
        address = await machine.submit(body)
        accepted = time.monotonic()
        del body
        job = await machine.ended(address, every=POLL)
        terminal = time.monotonic()
        if job["status"] != "FINSHED":
            raise SystemExit(f"the job of {operations} operations ended {job['status']}: {job.get('reason')}")
        last = await acknowledged(machine, plugin, before + sum(job["subJobs"].values()))
        if run:
            took.append((accepted - start, last - start, terminal - start))
    at_202, at_last, at_end = (statistics.median(values) for values in zip(*took, strict=True))
    return Cost(operations, handles, at_202, at_last, at_end, machine.peak_rss())


def _row(cost: Cost) -> str:
    each = (
        f"{seconds:9.3f} {seconds / cost.operations * 1e6:8.2f}"
        for seconds in (cost.accepted, cost.acknowledged, cost.terminal)
    )
    peaks = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(cost.peaks.items()))
    return f"  {cost.operations:>10,} {cost.handles:>9,} {' '.join(each)}   {peaks}"


_HEADER = (
    f"  {'operations':>10} {'handles':>9} {'202, s':>9} {'µs/op':>8} {'ack., s':>9} {'µs/op':>8}"
    f" {'term., s':>9} {'µs/op':>8}   peak memory so far"
)


def picture(by_operations: Sequence[Cost], by_handles: Sequence[Cost], registered: Sequence[float]) -> str:
    """Both tables as SVG."""

    def lines(costs: Sequence[Cost], xs: Sequence[int]) -> tuple[Line, ...]:
        return (
            Line("202", tuple((x, cost.accepted) for x, cost in zip(xs, costs, strict=True))),
            Line("acknowledged", tuple((x, cost.acknowledged) for x, cost in zip(xs, costs, strict=True))),
            Line("terminal", tuple((x, cost.terminal) for x, cost in zip(xs, costs, strict=True))),
        )

    handles = [cost.handles for cost in by_handles]
    registration = Line("registration", tuple(zip(handles, registered, strict=True)))
    return log_log(
        (
            Panel(
                f"A job over {by_operations[0].handles:,} handles, {PRODUCERS} data producers",
                "operations",
                "seconds",
                lines(by_operations, [cost.operations for cost in by_operations]),
            ),
            Panel(
                f"A job of {by_handles[0].operations:,} operations",
                "registered handles",
                "seconds",
                (*lines(by_handles, handles), registration),
            ),
        )
    )


async def run(
    path: str = "",
    sizes: Sequence[int] = SIZES,
    operations: int = OPERATIONS,
    inventories: Sequence[int] = INVENTORIES,
) -> None:
    """Print the figures, medians. Draw them into the SVG file ``path``."""
    print(f"Cost against size, {PRODUCERS} data producers, a plugin that does nothing (medians of {RUNS})")
    print(_HEADER)
    by_operations: list[Cost] = []
    async with _filled(HANDLES) as filled:
        for size in sizes:
            by_operations.append(await _cost(filled, size, HANDLES))
            print(_row(by_operations[-1]), flush=True)
    by_handles: list[Cost] = []
    registered: list[float] = []
    for handles in inventories:
        async with _filled(handles) as filled:
            registered.append(filled.registered)
            print(
                f"  {handles:,} handles registered in {filled.registered:.2f} s"
                f" ({filled.registered / handles * 1e6:.1f} µs each),"
                f" a job acknowledged {filled.known:.2f} s later",
                flush=True,
            )
            by_handles.append(await _cost(filled, operations, handles))
            print(_row(by_handles[-1]), flush=True)
    if path:
        Path(path).write_text(picture(by_operations, by_handles, registered), encoding="utf-8")
