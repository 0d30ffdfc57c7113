# SPDX-License-Identifier: Apache-2.0
"""Planning of many jobs: in order for each client, whichever worker plans them, independent of other clients,
and a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.dispatch.limits import LARGE_PLANS, SMALL_PLANS, DispatchLimits
from ran_datajobs.errors import Fenced, StoreUnavailable
from ran_datajobs.model import Stage
from ran_datajobs.store import dispatch
from ran_datajobs.store.database import Database
from ran_datajobs.store.dispatch import JobRoom, LeasedJob
from tests.kit.api_service import WRITE, Api, northbound_api, register
from tests.kit.plugins.in_process import InProcessPlugin
from tests.kit.worker_parts import (
    Parts,
    by_hand,
    claim,
    claim_jobs,
    log_lines,
    rows,
    until,
    until_ended,
    void_leases,
    worker_parts,
)

JOBS = 12


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service on one machine, with one element."""
    async with northbound_api(database, tmp_path, free_port) as running:
        await register(running, 1)
        yield running


@pytest.fixture
def parts(database: Database, tmp_path: Path) -> Parts:
    """A worker that is not running."""
    return worker_parts(database, tmp_path)


async def submit(api: Api, client: str = "local", priority: int = 4) -> UUID:
    """Submit a job of a client. Returns its id."""
    job_id = await api.accepted(WRITE | {"priority": priority})
    await api.rows("update data_job set client = $2 where job_id = $1 returning 1", job_id, client)
    return job_id


async def claimed(database: Database, room: JobRoom | None = None) -> list[UUID]:
    """The jobs whose steps a worker claims now."""
    return [job.job_id for job in await claim_jobs(database, room or JobRoom(1000, 1000, 1000))]


async def planned(api: Api, *job_ids: UUID) -> list[bool]:
    """Those of these jobs that are planned."""
    found = {
        row["job_id"]: row["planned"]
        for row in await api.rows(
            "select job_id, planned from data_job where job_id = any($1)", list(job_ids)
        )
    }
    return [found[job_id] for job_id in job_ids]


# --- the order of plans ----------------------------------------------------------------------------------


async def test_jobs_of_a_client_are_planned_in_the_order_of_their_submission(api: Api, parts: Parts) -> None:
    """A worker can claim one job of a client at a time, whichever worker plans the previous one."""
    job_ids = [await submit(api) for _ in range(4)]
    order = []
    while jobs := await claim_jobs(parts.database):
        assert await claimed(parts.database) == []
        (job,) = jobs
        await parts.steps.plan(job)
        order.append(job.job_id)
    assert order == job_ids


async def test_urgent_jobs_and_other_clients_do_not_wait_for_a_plan(api: Api) -> None:
    """While a worker plans a client's job, the client's next job waits. A more urgent job of the same client,
    and another client's job, are planned concurrently. A less urgent job that was submitted later waits for
    both."""
    first, second, urgent, last = [await submit(api, priority=priority) for priority in (4, 4, 5, 3)]
    others = await submit(api, client="other")
    database = api.parts.database
    assert set(await claimed(database)) == {first, urgent, others}
    assert await claimed(database) == []
    assert await planned(api, second, last) == [False, False]


async def test_a_job_that_is_cancelled_waits_for_no_plan(api: Api, parts: Parts) -> None:
    """It gets its plan, which starts nothing, without waiting for earlier jobs, and delays no other."""
    first, cancelled, third = [await submit(api) for _ in range(3)]
    assert (await api.post(f"/ranoam/cm/v1/dataJob/{cancelled}/cancel")).status == 202
    database = parts.database
    jobs = {job.job_id: job for job in await claim_jobs(database)}
    assert set(jobs) == {first, cancelled}
    await parts.steps.plan(jobs[cancelled])
    await parts.steps.plan(jobs[first])
    assert await claimed(database) == [third]
    stages = await api.rows("select stage from sub_job where job_id = $1", cancelled)
    assert stages == [{"stage": "WAITING"}]


async def test_a_plan_that_fails_blocks_its_client_until_three_failures(api: Api, parts: Parts) -> None:
    """The first job of a client is retried after its pause, and the jobs behind it wait. After three failures
    they wait no longer, and it is retried concurrently with them."""
    first, second = await submit(api), await submit(api)
    database = parts.database
    for _ in range(2):
        (job,) = await claim_jobs(database)
        assert job.job_id == first
        await parts.store.step_failed(job, 3600.0, None)
        assert await claimed(database) == []
        await api.rows("update data_job set due_at = now() where job_id = $1 returning 1", first)
    (job,) = await claim_jobs(database)
    assert (job.job_id, job.step_failures) == (first, 2)
    await parts.store.step_failed(job, 3600.0, None)
    assert await claimed(database) == [second]
    await api.rows("update data_job set due_at = now() where job_id = $1 returning 1", first)
    (job,) = await claim_jobs(database)
    assert (job.job_id, job.step_failures) == (first, 3)


async def test_a_plan_whose_worker_is_gone_is_made_by_another_one(api: Api, parts: Parts) -> None:
    """Under a void lease the first job can be claimed again, before the jobs behind it. The first worker,
    which continues, changes nothing."""
    first, second = await submit(api), await submit(api)
    (old,) = await claim_jobs(parts.database)
    await void_leases(parts.database)
    (new,) = await claim_jobs(parts.database)
    assert (old.job_id, new.job_id) == (first, first)
    with pytest.raises(Fenced):
        await parts.steps.plan(old)
    assert await planned(api, first, second) == [False, False]
    assert await api.rows("select * from sub_job") == []
    assert parts.limits.room() == DispatchLimits().room()
    await parts.steps.plan(new)
    with pytest.raises(Fenced):
        await parts.steps.plan(old)
    assert len(await api.rows("select * from sub_job")) == 1


async def test_room_for_small_and_for_large_plans_is_kept_apart(
    api: Api, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large request does not delay a small one, nor the reverse. More urgent ones are claimed first."""
    monkeypatch.setattr(dispatch, "LARGE", 200)
    large = {"data": [WRITE["data"][0] | {"operationId": str(n), "value": str(uuid4())} for n in range(9)]}
    made = {}
    for client, body in (("a", large), ("b", WRITE), ("c", large), ("d", WRITE), ("e", WRITE)):
        job_id = await api.accepted(body | {"priority": 9 if client in "ce" else 4})
        await api.rows("update data_job set client = $2 where job_id = $1 returning 1", job_id, client)
        made[job_id] = client
    sizes = {
        row["job_id"]: row["size"]
        for row in await api.rows("select job_id, octet_length(body) as size from job_request")
    }
    assert {made[job_id] for job_id, size in sizes.items() if size >= 200} == {"a", "c"}
    assert {made[job_id] for job_id in await claimed(parts.database, JobRoom(2, 1, 0))} == {"c", "e", "b"}
    assert {made[job_id] for job_id in await claimed(parts.database, JobRoom(0, 1, 9))} == {"a"}
    assert {made[job_id] for job_id in await claimed(parts.database, JobRoom(2, 0, 9))} == {"d"}


# --- active plans ----------------------------------------------------------------------------------------


class Stopped:
    """A :data:`CheckpointHook` that blocks each worker after the split of a job until it is released, and
    counts them."""

    def __init__(self) -> None:
        self.split = 0
        self.go = asyncio.Event()

    async def __call__(self, checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.PLAN_SPLIT:
            self.split += 1
            await self.go.wait()


async def test_few_requests_are_in_memory_however_many_jobs_wait(
    api: Api, database: Database, tmp_path: Path
) -> None:
    """With many clients' jobs due, a worker plans a few at a time. All jobs get their plan."""
    job_ids = [await submit(api, client=f"client-{n}") for n in range(JOBS)]
    stopped = Stopped()
    parts = worker_parts(database, tmp_path, reached=stopped)
    async with parts.working():
        await until(lambda: stopped.split == SMALL_PLANS)
        leased = await rows(database, "select 1 from data_job where lease is not null")
        assert len(leased) == stopped.split == SMALL_PLANS
        stopped.go.set()
        await until_ended(database, *job_ids)
    assert stopped.split == JOBS
    assert len(parts.plugin.creates) == JOBS


async def test_a_small_job_is_planned_and_executed_while_a_large_one_is_planned(
    api: Api, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another client's small job does not wait for a large one in the same worker."""
    large, small = await submit(api), await submit(api, client="other")
    go = asyncio.Event()
    planned_here: ContextVar[UUID | None] = ContextVar("planned_here", default=None)

    async def reached(checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.PLAN_SPLIT and planned_here.get() == large:
            await go.wait()

    parts = worker_parts(database, tmp_path, reached=reached)
    assert LARGE_PLANS == 1
    real = parts.steps.plan

    async def plan_in_sight(job: LeasedJob) -> None:
        planned_here.set(job.job_id)
        await real(job)

    monkeypatch.setattr(parts.steps, "plan", plan_in_sight)
    async with parts.working():
        await until_ended(database, small)
        assert await planned(api, large) == [False]
        go.set()
        await until_ended(database, large)


async def test_sub_jobs_of_a_plan_are_admitted_and_due(api: Api, parts: Parts) -> None:
    """Any worker with room claims them."""
    job_id = await submit(api)
    (job,) = await claim_jobs(parts.database)
    await parts.steps.plan(job)
    (due,) = await claim(parts.database)
    assert (due.job_id, due.stage, due.was) == (job_id, Stage.STARTING, Stage.ADMITTED)


async def test_a_plan_whose_commit_had_no_answer_is_executed_once(
    api: Api, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is stored, but the worker gets no answer: its sub-jobs are due, and each create is sent
    once."""
    job_id = await submit(api)
    plugin = InProcessPlugin()
    parts = worker_parts(database, tmp_path, plugin)
    record_plan, lost = parts.store.record_plan, list[UUID]()

    async def recorded(job: LeasedJob, plan: Any) -> None:
        await record_plan(job, plan)
        lost.append(job.job_id)
        raise StoreUnavailable("the session was cut before the answer")

    monkeypatch.setattr(parts.store, "record_plan", recorded)
    async with parts.working():
        await until_ended(database, job_id)
        await until(lambda: parts.limits.room() == DispatchLimits().room())
    assert lost == [job_id]
    assert len(plugin.creates) == 1
    (row,) = await rows(database, "select succeeded, unknown from sub_job")
    assert row == {"succeeded": 1, "unknown": 0}


async def test_a_plan_that_fails_is_made_after_a_pause(api: Api, database: Database, tmp_path: Path) -> None:
    """The failure is logged, the job is not left leased, its pauses grow, and it gets its plan."""
    job_id = await submit(api)
    failures = 3
    pauses: list[float] = []

    async def reached(checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.PLAN_SPLIT and len(pauses) < failures:
            pauses.append(0.0)
            raise RuntimeError("a fault of ours")

    with log_lines() as lines:
        parts = worker_parts(database, tmp_path, reached=reached)
        async with parts.working():
            await until_ended(database, job_id)
    failed = [(line["kind"], line["subject"]) for line in lines() if line["event"] == "task.failed"]
    assert failed == [("plan", str(job_id))] * failures


@pytest.mark.damages_rows
async def test_a_step_of_a_job_that_fails_waits_by_the_failures_of_that_step(
    api: Api, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that failed twice and then succeeded does not affect the job's finish step: its pauses start
    anew."""
    await submit(api)
    database = parts.database
    for failures in range(2):
        (job,) = await claim_jobs(database)
        assert job.step_failures == failures
        await parts.store.step_failed(job, 0.0, None)
    (job,) = await claim_jobs(database)
    await parts.steps.plan(job)
    await by_hand(
        database, "update sub_job set stage = 'SETTLED', lease = null, leased_until = null, due_at = null"
    )
    await api.rows("update data_job set sub_jobs_open = 0, due_at = now() returning 1")
    (finish,) = await claim_jobs(database)
    assert (finish.planned, finish.step_failures, finish.body) == (True, 0, None)


async def test_a_plan_is_the_same_in_every_worker(api: Api, parts: Parts) -> None:
    """Planning the same job twice gives the same sub-job ids: a plan that was lost with the database is made
    again, and plugins recognise its creates."""
    await submit(api)
    (job,) = await claim_jobs(parts.database)
    await parts.steps.plan(job)
    first = await api.rows("select sub_job_id, position, body from sub_job order by position")
    await api.rows("delete from sub_job returning 1")
    await api.rows(
        "update data_job set planned = false, lease = null, leased_until = null, due_at = now() returning 1"
    )
    (job,) = await claim_jobs(parts.database)
    await parts.steps.plan(job)
    assert await api.rows("select sub_job_id, position, body from sub_job order by position") == first
    assert len(first) == 1
    assert await parts.store.body_of(first[0]["sub_job_id"]) == first[0]["body"]
