# SPDX-License-Identifier: Apache-2.0
"""Size of the tables while jobs come and go: sizes after each 100,000 sub-jobs, with the least retention.

``python -m bench tables[=SUB_JOBS]`` (default 1,000,000). Jobs of 10,000 sub-jobs, one after the other. Ended
jobs are removed a minute later, by a pass each minute: the sizes must stay constant as soon as the first jobs
are removed, up to two minutes of jobs.
"""

from __future__ import annotations

import asyncio
import time

import asyncpg

from bench.machine import Machine, answers, running_machine
from bench.size import PRODUCERS, inventory, one_for_each
from ran_datajobs.http.ports import free_port
from ran_datajobs.results.pruner import LOOK_EVERY

SUB_JOBS, STEP = 1_000_000, 100_000
RETENTION = 60
"""Seconds. The setting allows no less."""

MIB = 1 << 20
SMALL = MIB // 4
"""Tables that never exceed this size are shown together."""

_SIZES = """
select c.relname, pg_total_relation_size(c.oid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
"""
"""Each table of the service, with its indexes and its TOAST data."""

Sizes = dict[str, int]


async def _sizes(database: asyncpg.Connection) -> Sizes:
    return {row[0]: row[1] for row in await database.fetch(_SIZES)}


async def _jobs(database: asyncpg.Connection) -> int:
    return int(await database.fetchval("select count(*) from data_job"))


async def _one_job(machine: Machine, body: bytes) -> None:
    job = await machine.ended(await machine.submit(body), every=0.1)
    if job["status"] != "FINSHED":
        raise SystemExit(f"a job ended {job['status']}: {job.get('reason')}")


async def _all_removed(database: asyncpg.Connection) -> None:
    async with asyncio.timeout(RETENTION + 5 * LOOK_EVERY):
        while await _jobs(database):
            await asyncio.sleep(1)


def _print_table(names: list[str], steps: list[Sizes]) -> None:
    """One row for each table that is not small, the largest first, and one column for each step."""
    largest = {name: max(sizes.get(name, 0) for sizes in steps) for name in set().union(*steps)}
    rows = sorted((name for name in largest if largest[name] >= SMALL), key=lambda name: -largest[name])
    print(f"  {'MiB after … sub-jobs':>24} " + " ".join(f"{name:>9}" for name in names))
    for table in rows:
        _print_row(table, [sizes.get(table, 0) for sizes in steps])
    others = [[size for name, size in sizes.items() if name not in rows] for sizes in steps]
    _print_row(f"{len(largest) - len(rows)} others", [sum(sizes) for sizes in others])
    _print_row("all", [sum(sizes.values()) for sizes in steps])


def _print_row(name: str, sizes: list[int]) -> None:
    print(f"  {name:>24} " + " ".join(f"{size / MIB:9.1f}" for size in sizes))


async def run(size: str = str(SUB_JOBS)) -> None:
    """Print the sizes, step by step and then as a table."""
    wanted = int(size)
    step = min(STEP, wanted)
    print(f"Tables while {wanted:,} sub-jobs come and go, {PRODUCERS:,} a job, kept for {RETENTION} s")
    port = free_port()
    plugin = f"http://127.0.0.1:{port}"
    async with running_machine(
        ("-m", "bench.plugin", str(port)), DATAJOBS_RETENTION=str(RETENTION)
    ) as machine:
        await answers(machine.session, plugin + "/acknowledged")
        await machine.register(inventory(plugin, PRODUCERS))
        database = await asyncpg.connect(machine.database_url())
        body = one_for_each(range(PRODUCERS))
        names, steps = ["0"], [await _sizes(database)]
        start = time.monotonic()
        for done in range(step, wanted + 1, step):
            for _ in range(step // PRODUCERS):
                await _one_job(machine, body)
            names.append(f"{done:,}")
            steps.append(await _sizes(database))
            print(
                f"  {done:>10,} sub-jobs after {time.monotonic() - start:.0f} s:"
                f" {await _jobs(database)} jobs kept, {sum(steps[-1].values()) / MIB:.0f} MiB",
                flush=True,
            )
        await _all_removed(database)
        names.append("removed")
        steps.append(await _sizes(database))
        await database.close()
        _print_table(names, steps)
        peaks = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(machine.peak_rss().items()))
        print(f"  peak memory: {peaks}")
