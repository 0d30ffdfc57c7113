# SPDX-License-Identifier: Apache-2.0
"""Database sessions end under a worker whose plugin has not answered yet."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.whole_service import DEADLINE, Service, called, whole_service

ELEMENTS = [f"/ManagedElement={n}" for n in range(5)]


class HeldPlugin(ScriptedPlugin):
    """Executes a create at once, and answers when the test sets ``may_answer``."""

    def __init__(self) -> None:
        super().__init__(Script(honours_key=False))
        self.may_answer = asyncio.Event()

    async def _create(self, request: web.Request) -> web.StreamResponse:
        answer = await super()._create(request)
        await self.may_answer.wait()
        return answer


async def cut_sessions(service: Service) -> None:
    """End every session of the service, once both claims of the worker wait for the table of jobs.

    On return the sessions are gone: the API answers 503 to a client whose request uses one that ends.
    """
    ours = "pid <> pg_backend_pid() and application_name like 'ran-datajobs %'"
    waiting = (
        f"select count(*) from pg_stat_activity where {ours}"
        " and application_name <> 'ran-datajobs api' and wait_event_type = 'Lock'"
    )
    async with service.database.transaction(idle=DEADLINE) as connection, asyncio.timeout(DEADLINE):
        await connection.execute("lock table data_job in access exclusive mode")
        while await connection.fetchval(waiting) < 2:
            await asyncio.sleep(0.02)
            await connection.execute("select pg_stat_clear_snapshot()")
        cut = await connection.fetch(
            f"select pid, pg_terminate_backend(pid) from pg_stat_activity where {ours}"
        )
    async with service.database.connection() as connection, asyncio.timeout(DEADLINE):
        while await connection.fetchval(
            "select count(*) from pg_stat_activity where pid = any ($1::int[])", [row["pid"] for row in cut]
        ):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("times", [1, 4])
async def test_no_create_under_way_is_cut_off_with_them(
    database_url: str, tmp_path: Path, times: int
) -> None:
    """Every session of the service ends while creates are in flight to a plugin without Idempotency-Key. The
    worker waits for the answers and records them: nothing is executed twice, nothing is UNKNOWN. Jobs
    submitted concurrently end as well."""
    plugin = HeldPlugin()
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {fdn: f"ems-{n}" for n, fdn in enumerate(ELEMENTS)})
        write = [{"op": "merge", "path": f"{fdn}/Cell=1", "value": {}} for fdn in ELEMENTS]
        job_ids = [await service.submit(write[:-1])]
        await called(plugin, "create", len(write) - 1)
        for _ in range(times):
            await cut_sessions(service)
        job_ids.append(await service.submit(write[-1:]))
        await called(plugin, "create", len(write))
        plugin.may_answer.set()
        jobs = [await service.ended(job_id) for job_id in job_ids]
    assert [job["status"] for job in jobs] == ["FINSHED", "FINSHED"]
    assert set(Counter(each.data_producer_id for each in plugin.history).values()) == {1}
    assert len(plugin.history) == len(write)
