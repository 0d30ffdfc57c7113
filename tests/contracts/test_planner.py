# SPDX-License-Identifier: Apache-2.0
"""Planning many jobs at once: few of them in memory, each client's in order, none behind another client's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ran_datajobs.checkpoints import Checkpoint, pass_by
from ran_datajobs.dispatch import planner as planner_module
from ran_datajobs.dispatch.planner import PLANS_IN_MEMORY, Planner
from ran_datajobs.dispatch.tasks import Again, Done
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.store import planning
from ran_datajobs.store.database import Connection, Database
from tests.contracts.northbound_api import WRITE, Api, northbound_api, register

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


class Held:
    """A :data:`Reached` that holds whoever has split a job until it is let go."""

    def __init__(self) -> None:
        self.split = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.PLAN_SPLIT:
            self.split.set()
            await self.go.wait()


async def planned(api: Api, job_id: UUID) -> bool:
    return bool((await api.rows("select planned from data_job where job_id = $1", job_id))[0]["planned"])


async def test_a_client_s_jobs_are_planned_in_order_by_whatever_worker(api: Api) -> None:
    """While one worker plans a job, another one does not plan a later job of the same client: its sub-jobs
    would start first. A more urgent job does not wait for it, nor does another client's, nor one whose
    forerunner is to be cancelled."""
    await register(api, 1)
    first, second, urgent, others = [
        await api.accepted(WRITE | {"priority": priority}) for priority in (4, 4, 5, 4)
    ]
    await api.rows("update data_job set client = 'other' where job_id = $1 returning 1", others)
    database, held = api.parts.database, Held()
    slow = Planner(database, OwnerIndex(database), api.parts.objects, held)
    quick = Planner(database, OwnerIndex(database), api.parts.objects)
    async with asyncio.timeout(30):
        slow_plan = asyncio.create_task(slow.handle(str(first), 0))
        await held.split.wait()
        waiting = asyncio.create_task(quick.handle(str(second), 0))
        await asyncio.gather(*(quick.handle(str(job_id), 0) for job_id in (urgent, others)))
        assert [await planned(api, job_id) for job_id in (first, second, urgent, others)] == [
            False,
            False,
            True,
            True,
        ]
        held.go.set()
        await slow_plan
        while isinstance(await waiting, Again):
            waiting = asyncio.create_task(quick.handle(str(second), 0))
    assert await planned(api, first)
    assert await planned(api, second)


async def test_jobs_of_one_client_that_come_out_of_order_do_not_wait_for_each_other(api: Api) -> None:
    """Tasks of many jobs reach a worker in any order: all are planned, in the order of their submission."""
    await register(api, 1)
    job_ids = [await api.accepted() for _ in range(JOBS)]
    stored: list[str] = []
    insert = planning.insert_sub_jobs

    async def noted(connection: Connection, job_id: UUID, *args: Any, **more: Any) -> list[int]:
        stored.append(str(job_id))
        return await insert(connection, job_id, *args, **more)

    database = api.parts.database
    planner = Planner(database, OwnerIndex(database), api.parts.objects)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "insert_sub_jobs", noted)
        ends = await asyncio.gather(*(planner.handle(str(job_id), 0) for job_id in reversed(job_ids)))
    assert all(isinstance(end, Done) for end in ends)
    assert stored == [str(job_id) for job_id in job_ids]


async def test_a_small_job_is_planned_while_a_large_one_is(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client's small job does not wait for a large one in the same worker."""
    await register(api, 1)
    large, small = await api.accepted(), await api.accepted()
    await api.rows("update data_job set client = 'other' where job_id = $1 returning 1", small)
    database, held = api.parts.database, Held()
    monkeypatch.setattr(planner_module, "LARGE", 0)
    planner = Planner(database, OwnerIndex(database), api.parts.objects, held)
    async with asyncio.timeout(30):
        slow_plan = asyncio.create_task(planner.handle(str(large), 0))
        await held.split.wait()
        monkeypatch.setattr(planner_module, "LARGE", 1 << 30)
        planner._reached = pass_by
        await planner.handle(str(small), 0)
        assert await planned(api, small)
        assert not await planned(api, large)
        held.go.set()
        await slow_plan
    assert await planned(api, large)
