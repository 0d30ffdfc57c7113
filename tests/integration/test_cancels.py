# SPDX-License-Identifier: Apache-2.0
"""A cancel comes before all other work: what is claimed for it, and the single cancel call for a whole
job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace

from ran_datajobs.config import Settings
from ran_datajobs.dispatch.limits import DELETES_PER_PLUGIN, UNSENT
from ran_datajobs.model import JobType, Stage, Status
from ran_datajobs.plugins.port import CancelTaken, Polled, Refused, Retryable
from ran_datajobs.store import jobs
from ran_datajobs.store.database import Database
from ran_datajobs.store.sub_jobs import LeasedCancel, PluginRoom, Room
from tests.kit.plugins.in_process import InProcessPlugin
from tests.kit.worker_parts import (
    PLENTY,
    Parts,
    PlannedJob,
    add_plugin,
    claim,
    dispatch_store,
    planned_job,
    rows,
    sub_job_row,
    until,
    until_ended,
    void_leases,
    worker_parts,
)


@pytest.fixture
def plugin() -> InProcessPlugin:
    """A plugin whose jobs never end by themselves."""
    plugin = InProcessPlugin()
    plugin.polled = [Polled(Status.RUNNING)]
    return plugin


@pytest.fixture
def parts(database: Database, tmp_path: Path, plugin: InProcessPlugin) -> Parts:
    """A worker whose sub-jobs time out after 0.3 s."""
    return worker_parts(database, tmp_path, plugin, settings=Settings(dmi_retry_timeout=0.3))


async def job_at(database: Database, *producers: str, bulk: bool = True, kind: str = "WRITE") -> PlannedJob:
    """A planned job at a plugin, with its creates due."""
    async with database.transaction() as connection:
        plugin_id = await add_plugin(connection, bulk_cancel=bulk)
        return await planned_job(connection, *producers, plugin_id=plugin_id, kind=JobType(kind))


async def cancel(database: Database, job_id: UUID) -> None:
    """Cancel the job as the API does."""
    async with database.transaction() as connection:
        assert await jobs.lock(connection, job_id, None) is not None
        await jobs.cancel(connection, job_id)


async def track(database: Database, job: PlannedJob, count: int) -> None:
    """The first sub-jobs are at their plugin, and due for a poll."""
    async with database.transaction() as connection:
        for stage in ("STARTING", "TRACKING"):
            await connection.execute(
                "update sub_job set stage = $2::sub_job_stage, data_producer_job_id = 'x', started_at = now()"
                " where sub_job_id = any ($1)",
                job.sub_job_ids[:count],
                stage,
            )
        await connection.execute("update data_job set status = 'RUNNING'")


async def claim_cancels(database: Database) -> list[LeasedCancel]:
    """The cancel calls for whole jobs that a worker claims now."""
    return await dispatch_store(database).claim_cancels(uuid4())


async def asked(database: Database, job: PlannedJob) -> list[bool]:
    """For each sub-job, whether it is to be cancelled on its own."""
    return [(await sub_job_row(database, each))["cancel_requested"] for each in job.sub_job_ids]


# --- the work that a cancel leaves -------------------------------------------------------------------


@pytest.mark.parametrize("bulk", [True, False])
async def test_a_cancel_leaves_one_call_where_the_plugin_takes_it(database: Database, bulk: bool) -> None:
    """Of three sub-jobs one is at the plugin, one is being created, and one was not sent. At a plugin with
    bulkCancel one call is due, and no DELETE for the tracked sub-job; at any other plugin that DELETE is
    due."""
    job = await job_at(database, "a", "b", "c", bulk=bulk)
    await track(database, job, 1)
    (creating,) = await claim(database, replace(PLENTY, other=PluginRoom(1, 0, 1 << 30)))
    assert creating.stage is Stage.STARTING
    await cancel(database, job.job_id)
    starting, unsent = creating.sub_job_id, ({*job.sub_job_ids[1:]} - {creating.sub_job_id}).pop()
    found = {each: (await sub_job_row(database, each)) for each in job.sub_job_ids}
    assert found[job.sub_job_ids[0]]["cancel_requested"] is not bulk
    assert found[unsent]["cancel_requested"]
    assert found[starting]["cancel_requested"]
    assert found[starting]["attention"]
    assert {row["status"] for row in found.values()} == {"CANCELLING"}
    due = await claim_cancels(database)
    assert [(each.job_id, each.is_read) for each in due] == [(job.job_id, False)] * bulk


async def test_what_was_never_sent_needs_no_call(database: Database) -> None:
    """No sub-job of the job was sent: its plugin is not called."""
    job = await job_at(database, "a", "b", kind="READ")
    await cancel(database, job.job_id)
    assert await claim_cancels(database) == []
    assert await asked(database, job) == [True, True]


async def test_a_call_is_claimed_by_one_worker_and_again_when_its_lease_is_void(database: Database) -> None:
    """Two concurrent claims lease the call once. Once the lease is void another worker claims it, and the
    late answer of the first one changes nothing."""
    job = await job_at(database, "a", kind="READ")
    await track(database, job, 1)
    await cancel(database, job.job_id)
    (first,) = await claim_cancels(database)
    assert first.is_read
    assert await claim_cancels(database) == []
    await void_leases(database)
    (second,) = await claim_cancels(database)
    store = dispatch_store(database)
    await store.end_cancel(first, refused=True)
    await store.postpone_cancel(first, 0.0, failed=True)
    await store.renew_cancels([first])
    assert await claim_cancels(database) == []
    assert await asked(database, job) == [False]
    await store.end_cancel(second, refused=True)
    assert await asked(database, job) == [True]
    await void_leases(database)
    assert await claim_cancels(database) == []


# --- the order of claims -----------------------------------------------------------------------------


async def test_nothing_stands_before_a_delete(database: Database) -> None:
    """No room for creates, polls and rows is left: the DELETEs and the unsent sub-jobs of a cancel are
    claimed all the same, and nothing else."""
    other = await job_at(database, *(f"p{n}" for n in range(20)), bulk=False)
    job = await job_at(database, *(f"q{n}" for n in range(10)), bulk=False)
    await track(database, job, 5)
    await cancel(database, job.job_id)
    nothing = Room(0, 0, PluginRoom(0, 0, 0, DELETES_PER_PLUGIN), {}, UNSENT)
    claimed = await claim(database, nothing)
    assert {each.sub_job_id for each in claimed} == set(job.sub_job_ids)
    assert {each.stage for each in claimed} == {Stage.TRACKING, Stage.ADMITTED}
    assert all(each.body is not None for each in claimed if each.stage is Stage.ADMITTED)
    rest = await claim(database)
    assert {each.sub_job_id for each in rest} == set(other.sub_job_ids)


async def test_a_claim_takes_no_more_of_a_cancel_than_it_may(database: Database) -> None:
    """A claim takes two DELETEs and three unsent sub-jobs, as its room allows. The rest is claimed later."""
    job = await job_at(database, *(f"q{n}" for n in range(10)), bulk=False)
    await track(database, job, 5)
    await cancel(database, job.job_id)
    some = Room(0, 0, PluginRoom(0, 0, 0, 2), {}, 3)
    stages = [each.stage for each in await claim(database, some)]
    assert (stages.count(Stage.TRACKING), stages.count(Stage.ADMITTED)) == (2, 3)
    assert len(await claim(database)) == 5


# --- the worker --------------------------------------------------------------------------------------


async def test_one_call_cancels_a_job_of_many_sub_jobs(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """A running job at a plugin with bulkCancel: one call, no DELETE, and every sub-job ends CANCELLED."""
    job = await job_at(database, *(f"p{n}" for n in range(120)))
    async with parts.working():
        await until(lambda: len(plugin.creates) == 120)
        await cancel(database, job.job_id)
        await until_ended(database, job.job_id)
    assert [each for each in plugin.calls if each.startswith("cancel")] == [f"cancel all of {job.job_id}"]
    assert {row["status"] for row in await rows(database, "select status from sub_job")} == {"CANCELLED"}


async def test_a_create_that_is_answered_after_the_call_needs_no_delete(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """The job is cancelled while creates are active, which are answered after the bulk call: these sub-jobs
    are polled to their end, and no DELETE is sent. Creates that still waited for a slot are not sent."""
    plugin.before_create = asyncio.Event()
    job = await job_at(database, *(f"p{n}" for n in range(100)))
    async with parts.working():
        await until(lambda: len(plugin.creates) == 64)
        await cancel(database, job.job_id)
        await until(lambda: f"cancel all of {job.job_id}" in plugin.calls)
        plugin.before_create.set()
        await until_ended(database, job.job_id)
    assert len(plugin.creates) == 64
    assert "cancel" not in plugin.calls
    assert {row["status"] for row in await rows(database, "select status from sub_job")} == {"CANCELLED"}


@pytest.mark.parametrize("answer", [Refused("405"), Retryable("HTTP 500", answered=True)])
async def test_each_sub_job_is_cancelled_where_the_call_is_of_no_use(
    database: Database, parts: Parts, plugin: InProcessPlugin, answer: Refused | Retryable
) -> None:
    """A plugin that does not support the call, or does not answer it within its time budget, gets a DELETE
    for each sub-job, also for one whose create is answered later."""
    plugin.cancelled_whole = [answer]
    plugin.before_create = asyncio.Event()
    job = await job_at(database, "a", "b", "c")
    async with parts.working():
        await until(lambda: len(plugin.creates) == 3)
        await cancel(database, job.job_id)

        async def refused() -> bool:
            (row,) = await rows(database, "select refused, due_at from bulk_cancel")
            return bool(row["refused"]) and row["due_at"] is None

        await until(refused)
        plugin.before_create.set()
        await until_ended(database, job.job_id)
    calls = plugin.calls.count(f"cancel all of {job.job_id}")
    assert calls == 1 if isinstance(answer, Refused) else calls > 1
    assert plugin.calls.count("cancel") == 3


async def test_a_lost_answer_is_asked_for_again(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """The first call has no answer, the second one succeeds: no DELETE is sent."""
    plugin.cancelled_whole = [Retryable("connection lost"), CancelTaken()]
    job = await job_at(database, "a", "b")
    async with parts.working():
        await until(lambda: len(plugin.creates) == 2)
        await cancel(database, job.job_id)
        await until_ended(database, job.job_id)
    assert plugin.calls.count(f"cancel all of {job.job_id}") == 2
    assert "cancel" not in plugin.calls


async def test_a_worker_that_stops_gives_the_call_back(
    database: Database, parts: Parts, tmp_path: Path, plugin: InProcessPlugin
) -> None:
    """The worker is stopped before the plugin has answered: the next worker repeats the call at once."""
    held = asyncio.Event()
    parts = worker_parts(database, tmp_path, plugin, grace=0.05, reached=lambda _: held.wait())
    job = await job_at(database, "a")
    await track(database, job, 1)
    await cancel(database, job.job_id)
    async with parts.working():
        await until(lambda: f"cancel all of {job.job_id}" in plugin.calls)
    (again,) = await claim_cancels(database)
    assert again.failing_for == 0.0


async def test_a_create_that_did_not_arrive_is_not_sent_again(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """At a plugin with bulkCancel as well: a sub-job whose create did not arrive ends without another
    call."""
    plugin.create_answers, plugin.before_create = [Retryable("connection refused")], asyncio.Event()
    job = await job_at(database, "a", "b")
    async with parts.working():
        await until(lambda: len(plugin.creates) == 2)
        await cancel(database, job.job_id)
        plugin.before_create.set()
        await until_ended(database, job.job_id)
    assert len(plugin.creates) == 2
    assert {row["not_started"] for row in await rows(database, "select not_started from sub_job")} == {1}
