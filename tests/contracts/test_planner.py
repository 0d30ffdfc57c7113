# SPDX-License-Identifier: Apache-2.0
"""Planning many jobs at once keeps few of them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.dispatch.planner import PLANS_IN_MEMORY, Planner
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.store import planning
from ran_datajobs.store.database import Connection, Database
from tests.contracts.northbound_api import Api, northbound_api, register

JOBS = 12
LOOKS = 50


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service on one machine."""
    async with northbound_api(database, tmp_path, free_port) as running:
        yield running


class SlowIndex(OwnerIndex):
    """An index that takes as long to catch up as a number of queries do, and others meanwhile."""

    async def catch_up(self) -> None:
        """Let whoever does not wait for the index go on; then the usual."""
        for _ in range(LOOKS):
            async with self._database.connection() as connection:
                await connection.fetchval("select 1")
        await super().catch_up()


async def test_jobs_that_wait_for_their_plan_are_not_in_memory(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many plan tasks at once one request is loaded at a time, and few are between that and their end;
    all jobs get their plan."""
    await register(api, 1)
    job_ids = [await api.accepted() for _ in range(JOBS)]
    loaded, split, stored = 0, 0, 0
    unsplit: set[int] = set()
    unstored: set[int] = set()
    load = planning.job_to_plan

    async def counted(connection: Connection, job_id: UUID) -> planning.JobToPlan | None:
        nonlocal loaded
        job = await load(connection, job_id)
        loaded += 1
        unsplit.add(loaded - split)
        unstored.add(loaded - stored)
        return job

    async def reached(checkpoint: Checkpoint) -> None:
        nonlocal split, stored
        split += checkpoint is Checkpoint.PLAN_SPLIT
        stored += checkpoint is Checkpoint.PLAN_STORED

    monkeypatch.setattr(planning, "job_to_plan", counted)
    database = api.parts.database
    planner = Planner(database, SlowIndex(database), api.parts.objects, reached)
    await asyncio.gather(*(planner.handle(str(job_id), 0) for job_id in job_ids))
    assert (loaded, split, stored) == (JOBS, JOBS, JOBS)
    assert unsplit == {1}
    assert max(unstored) <= PLANS_IN_MEMORY
    assert await api.rows("select count(*) as n from sub_job") == [{"n": JOBS}]
