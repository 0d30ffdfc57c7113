# SPDX-License-Identifier: Apache-2.0
"""Cost of a sub-job for the database, in counters that the load of the machine does not change.

Counted are transactions that wrote (transaction ids), calls of statements with BEGIN and COMMIT
(pg_stat_statements), and positions in the WAL. The counters are read from another database of the server, so
that reading them is not counted. The counts of the idle service for the same time are measured and
subtracted; a request for the status of each job, once a second, is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import msgspec

from bench import accept, size
from bench.machine import Machine, answers, folder, running_machine
from ran_datajobs.http.ports import free_port
from ran_datajobs.local.postgres import EmbeddedPostgres

SOME_PRODUCERS = 200
ONE, SOME = range(10_000, 20_000), range(20_000, 30_000)
"""Handles of one data producer, and of some."""

IDLE_SECONDS = 20.0
STATUS_EVERY = 1.0

Submit = Callable[[Machine, list[bytes]], Awaitable[None]]

_COUNTERS = """
select pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       (select sum(calls)::bigint from pg_stat_statements s join pg_database d on d.oid = s.dbid
        where d.datname = 'postgres'),
       pg_current_wal_insert_lsn() - '0/0'::pg_lsn
"""


class Cost(msgspec.Struct, frozen=True):
    """Counters of the server, or their growth."""

    commits: float
    statements: float
    wal: float

    def less(self, other: Cost, times: float = 1.0) -> Cost:
        """These counters minus ``times`` the other ones."""
        return Cost(
            self.commits - times * other.commits,
            self.statements - times * other.statements,
            self.wal - times * other.wal,
        )

    def each(self, units: float) -> Cost:
        """The counters divided by a number."""
        return Cost(self.commits / units, self.statements / units, self.wal / units)


@contextlib.asynccontextmanager
async def counting_server(data: Path) -> AsyncIterator[tuple[str, asyncpg.Connection]]:
    """A server that counts its statements: its address, and a connection to read the counters."""
    server = EmbeddedPostgres(data)
    connection = await asyncpg.connect(await server.start())
    await connection.execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
    await connection.close()
    await server.stop()
    url = await server.start()
    counters = await asyncpg.connect(url, database="template1")
    await counters.execute("create extension pg_stat_statements")
    try:
        yield url, counters
    finally:
        await counters.close()
        await server.stop()


async def _counted(counters: asyncpg.Connection) -> Cost:
    row = await counters.fetchrow(_COUNTERS)
    assert row is not None
    return Cost(*map(float, row))


def _print(what: str, cost: Cost, unit: str) -> None:
    print(
        f"  {what}: {cost.commits:.2f} commits, {cost.statements:.2f} statements, "
        f"{cost.wal:,.0f} bytes of WAL {unit}",
        flush=True,
    )


async def _one_after_the_other(machine: Machine, bodies: list[bytes]) -> None:
    for body in bodies:
        await machine.ended(await machine.submit(body), every=STATUS_EVERY)


async def _at_once(machine: Machine, bodies: list[bytes]) -> None:
    gate = asyncio.Semaphore(16)

    async def submit(body: bytes) -> str:
        async with gate:
            return await machine.submit(body)

    for address in await asyncio.gather(*map(submit, bodies)):
        await machine.ended(address, every=STATUS_EVERY)


def _workloads() -> list[tuple[str, str, Submit, list[bytes]]]:
    """Its description, the plugin that gets it, how it is submitted, and its jobs. The first job is the
    warm-up."""
    slices = [range(n % size.OPEN_OVER, n % size.OPEN_OVER + 10) for n in range(size.OPEN_JOBS + 1)]
    return [
        (
            "100 operations at one data producer, jobs one after the other",
            "one",
            _one_after_the_other,
            [accept.load_job(accept.SMALL, n, ONE) for n in range(51)],
        ),
        (
            f"100 operations over {SOME_PRODUCERS} data producers, jobs one after the other",
            "some",
            _one_after_the_other,
            [accept.load_job(accept.SMALL, n, SOME) for n in range(21)],
        ),
        (
            f"{size.PRODUCERS} data producers x 1 operation, two jobs",
            "many",
            _one_after_the_other,
            [size.one_for_each(range(size.PRODUCERS))] * 3,
        ),
        (
            f"{size.OPEN_JOBS} jobs of 10 sub-jobs at once, over {size.OPEN_OVER + 9} data producers",
            "many",
            _at_once,
            [size.one_for_each(each) for each in slices],
        ),
    ]


async def run() -> None:
    """Print the figures."""
    print("Cost of a sub-job at the database, a plugin that does nothing")
    ports = {name: free_port() for name in ("one", "some", "many")}
    plugins = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    inventories = (
        accept.inventory(plugins["one"], 1, ONE),
        accept.inventory(plugins["some"], SOME_PRODUCERS, SOME),
        size.inventory(plugins["many"], size.PRODUCERS),
    )
    beside = [("-m", "bench.plugin", str(port)) for port in ports.values()]
    with folder() as data:
        async with (
            counting_server(data) as (url, counters),
            running_machine(*beside, DATAJOBS_DATABASE_URL=url) as machine,
        ):
            for plugin, inventory in zip(plugins.values(), inventories, strict=True):
                await answers(machine.session, plugin + "/acknowledged")
                await machine.register(inventory)
            before = await _counted(counters)
            await asyncio.sleep(IDLE_SECONDS)
            idle = (await _counted(counters)).less(before).each(IDLE_SECONDS)
            _print("nothing to do", idle, "a second")
            for what, plugin, submit, (first, *bodies) in _workloads():
                await submit(machine, [first])
                started, before = time.monotonic(), await _counted(counters)
                answered = await accept.creates(machine, plugins[plugin])
                await submit(machine, bodies)
                after, seconds = await _counted(counters), time.monotonic() - started
                sub_jobs = await accept.creates(machine, plugins[plugin]) - answered
                cost = after.less(before).less(idle, seconds).each(sub_jobs)
                _print(f"{what} ({sub_jobs:,} sub-jobs)", cost, "a sub-job")
