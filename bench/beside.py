# SPDX-License-Identifier: Apache-2.0
"""Effect of one client's large job on another client: small jobs while a large one is planned, and without
it.

``python -m bench beside[=OPERATIONS]`` (default 1,000,000). One client submits the large job. From its 202
until it is planned, and on until it has ended, the other client submits jobs of 100 operations, one after the
other, each for another one of its data producers, so that none waits for the lane of the previous one; and
then, without the large job, for as long as the planning took.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from msgspec import Struct

from bench.accept import acknowledged, creates, inventory, load_job
from bench.machine import Machine, answers, folder, running_machine
from bench.peers import percentile
from ran_datajobs.api import tokens
from ran_datajobs.api.tokens import Role
from ran_datajobs.http.ports import free_port

LARGE, SMALL = 1_000_000, 100
LARGE_PRODUCERS, SMALL_PRODUCERS = 200, 500
FIRST_SMALL = 900_000
"""Number of the first handle of the client with the small jobs."""

ROUNDS = 5
WANTED_P99 = 0.250
PLUGIN_POLL, JOB_POLL = 0.004, 0.05


class Times(Struct, frozen=True):
    """Durations of small jobs, in seconds from the submit."""

    accepted: list[float]
    acknowledged: list[float]

    def joined(self, others: Times) -> Times:
        """These and others."""
        return Times(self.accepted + others.accepted, self.acknowledged + others.acknowledged)


async def _small_jobs(
    client: Machine, plugin: str, handles: Iterator[int], enough: Callable[[], bool]
) -> Times:
    """Small jobs, each submitted when the previous one was acknowledged, until ``enough``."""
    times = Times([], [])
    answered = await creates(client, plugin)
    while not enough():
        handle = next(handles)
        body = load_job(SMALL, handle, range(handle, handle + 1))
        answered += 1
        start = time.monotonic()
        await client.submit(body)
        times.accepted.append(time.monotonic() - start)
        times.acknowledged.append(await acknowledged(client, plugin, answered, PLUGIN_POLL) - start)
    return times


async def _planned(client: Machine, address: str) -> None:
    """Wait until the job has sub-jobs, or has none and is past its plan."""
    while True:
        async with client.session.get(address) as response:
            job: dict[str, Any] = await response.json()
        if job["status"] != "NOT_STARTED" or job["subJobs"]:
            return
        await asyncio.sleep(JOB_POLL)


async def _ended(client: Machine, address: str) -> None:
    """Wait until the job is terminal."""
    await client.ended(address, every=JOB_POLL)


async def _round(
    large: Machine, body: bytes, small: Callable[[Callable[[], bool]], Awaitable[Times]]
) -> dict[str, Times]:
    """The durations of small jobs while a large one is planned, while it is executed, and without it."""
    address = await large.submit(body)
    times: dict[str, Times] = {}
    start = time.monotonic()
    took = []
    for phase, wait in (("planned", _planned), ("executed", _ended)):
        over = asyncio.create_task(wait(large, address))
        times[phase] = await small(over.done)
        await over
        took.append(time.monotonic() - start)
    print(f"  planned {took[0]:.2f} s after its 202, terminal {took[1]:.2f} s after it", flush=True)
    end = time.monotonic() + took[0]
    times["without"] = await small(lambda: time.monotonic() > end)
    return times


def _print(name: str, times: Times) -> None:
    for what, values in (("202", times.accepted), ("acknowledged", times.acknowledged)):
        print(
            f"  {name:>8}, {what:>12}: median {statistics.median(values) * 1000:6.1f} ms,"
            f" p99 {percentile(values, 0.99) * 1000:6.1f} ms, longest {max(values) * 1000:6.1f} ms;"
            f" {len(values)} jobs"
        )


async def run(size: str = str(LARGE)) -> None:
    """Print the figures."""
    operations = int(size)
    print(
        f"Jobs of {SMALL} operations of one client while another one's {operations:,} operations are planned"
    )
    ports = free_port(), free_port()
    plugin, other = (f"http://127.0.0.1:{port}" for port in ports)
    with folder() as place:
        file = place / "tokens"
        admin = tokens.add(file, "admin", Role.ADMIN)
        first, second = (tokens.add(file, client, Role.SUBMIT) for client in ("large", "small"))
        async with (
            running_machine(
                *(("-m", "bench.plugin", str(port)) for port in ports), DATAJOBS_TOKENS_FILE=str(file)
            ) as machine,
            machine.as_client(admin) as registrar,
            machine.as_client(first) as large,
            machine.as_client(second) as small,
        ):
            for address in (plugin, other):
                await answers(machine.session, address + "/acknowledged")
            numbers = range(FIRST_SMALL, FIRST_SMALL + SMALL_PRODUCERS)
            await registrar.register(inventory(plugin, LARGE_PRODUCERS))
            await registrar.register(inventory(other, SMALL_PRODUCERS, numbers))
            handles = itertools.cycle(numbers)
            warm = iter(range(20))
            await _small_jobs(small, other, handles, lambda: next(warm, None) is None)
            body = load_job(operations, 1)
            total: dict[str, Times] = {}
            for _ in range(ROUNDS):
                for phase, times in (
                    await _round(large, body, lambda enough: _small_jobs(small, other, handles, enough))
                ).items():
                    total[phase] = total.get(phase, Times([], [])).joined(times)
    for phase, times in total.items():
        _print(phase, times)
    p99 = percentile(total["planned"].acknowledged, 0.99)
    wanted = f"wanted: under {WANTED_P99 * 1000:.0f} ms"
    print(f"  p99 to acknowledged while it is planned: {p99 * 1000:.0f} ms, {wanted}")
