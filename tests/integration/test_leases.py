# SPDX-License-Identifier: Apache-2.0
"""Work on a leased row, on a real database: requests that arrive meanwhile are not lost, a write under a void
lease changes nothing, and no row stays leased without a worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.config import Settings
from ran_datajobs.dispatch import executor as executor_module
from ran_datajobs.errors import Fenced
from ran_datajobs.model import JobType, OperationState, Response, Stage, Status
from ran_datajobs.plugins.port import OnTopic, Polled, Refused, Retryable
from ran_datajobs.results.outcomes import pack_outcomes
from ran_datajobs.store import jobs, results, sub_jobs
from ran_datajobs.store.database import Database
from ran_datajobs.store.dispatch import Transition
from ran_datajobs.store.results import ActiveRead, Part, ReceivedMessage
from ran_datajobs.store.sub_jobs import (
    CancelSent,
    Collecting,
    Ended,
    Leased,
    LeasedSubJob,
    Postponement,
    QuarantineOver,
    Started,
)
from tests.kit.plugins.in_process import InProcessPlugin
from tests.kit.worker_parts import (
    Parts,
    PlannedJob,
    add_plugin,
    all_settled,
    by_hand,
    claim,
    claim_jobs,
    planned_job,
    rows,
    sub_job_row,
    until,
    until_ended,
    until_stage,
    void_leases,
    worker_parts,
)


@pytest.fixture
def plugin() -> InProcessPlugin:
    """Accepts everything, and ends it at once."""
    return InProcessPlugin()


@pytest.fixture
def parts(database: Database, tmp_path: Path, plugin: InProcessPlugin) -> Parts:
    """A worker."""
    return worker_parts(database, tmp_path, plugin)


@pytest.fixture
async def job(database: Database) -> PlannedJob:
    """A job with one write, which is admitted."""
    async with database.transaction() as connection:
        return await planned_job(connection)


async def cancel(database: Database, job_id: UUID) -> None:
    """Cancel the job as the northbound API does."""
    async with database.transaction() as connection:
        await jobs.lock(connection, job_id, None)
        await jobs.cancel(connection, job_id)


async def push(database: Database, sub_job_id: UUID) -> bool:
    """A status push of the plugin."""
    async with database.transaction() as connection:
        return await sub_jobs.poll_now(connection, sub_job_id, "producer-job")


async def arrive(database: Database, job_id: UUID, sub_job_id: UUID, total: int | None = 1) -> None:
    """Record one message of a read."""
    part = Part(str(sub_job_id), 0, "key", 1, "digest", 1, 0)
    packed = pack_outcomes([Response(1, 0, "", state=OperationState.SUCCEEDED)])
    read = ActiveRead(sub_job_id, job_id, "results")
    async with database.transaction() as connection:
        await results.record_messages(connection, [ReceivedMessage(read, 0, None, (part,), packed, total)])


def name(sub_job: LeasedSubJob) -> Leased:
    """The sub-job and its lease."""
    return Leased(sub_job.sub_job_id, sub_job.job_id, sub_job.lane_id, sub_job.lease)


async def run_once(parts: Parts) -> LeasedSubJob:
    """Claim the one sub-job that is due, and work on it until its lease ends."""
    (claimed,) = await claim(parts.database)
    await parts.executor.run(parts.attempt_of(claimed))
    return claimed


# --- under a lease that is void ------------------------------------------------------------------------


def transitions(leased: Leased) -> list[Transition]:
    """One transition of every kind."""
    part = Part(str(leased.sub_job_id), 0, "key", 1, "digest", 1, 0)
    return [
        Started(leased, "another"),
        CancelSent(leased),
        Postponement(leased, 0.0, 7, "wrong", unsent=True),
        Collecting(leased, "topic", Status.FINISHED, 0.0),
        Ended(leased, Status.FINISHED, succeeded=1, parts=(part,)),
        Ended(leased, Status.FAILED, unknown=1, quarantine=300.0, parts=(part,)),
        QuarantineOver(leased),
    ]


@pytest.mark.damages_rows
@pytest.mark.parametrize("stage", ["STARTING", "TRACKING", "COLLECTING", "QUARANTINED"])
@pytest.mark.parametrize("holder", ["nobody", "another"])
async def test_no_transition_under_a_lease_that_is_gone_changes_anything(
    database: Database, parts: Parts, job: PlannedJob, stage: str, holder: str
) -> None:
    """The row was claimed again, or its lease was ended: each transition raises Fenced, and the row, its job,
    its results and its lane are unchanged."""
    (old,) = await claim(database)
    await void_leases(database)
    (new,) = await claim(database)
    assert old.lease != new.lease
    await by_hand(database, "update sub_job set stage = $1::sub_job_stage, due_at = now()", stage)
    if holder == "nobody":
        await parts.store.give_back({new.sub_job_id: new.lease}, (), {}, ())
    before = await sub_job_row(database, job.sub_job_id)
    job_before = await rows(
        database, "select status, sub_jobs_open, succeeded, unknown, due_at from data_job"
    )
    for transition in transitions(name(old)):
        with pytest.raises(Fenced):
            await parts.write(transition)
        assert await sub_job_row(database, job.sub_job_id) == before, transition
    assert not await parts.store.is_leased(name(old))
    assert await rows(database, "select * from result_part") == []
    job_after = await rows(database, "select status, sub_jobs_open, succeeded, unknown, due_at from data_job")
    assert job_after == job_before


async def test_no_store_function_answers_for_a_lease_that_is_gone(
    database: Database, parts: Parts, job: PlannedJob
) -> None:
    """Each function of the store omits the row from what it returns. Renewing and giving back do the same."""
    (old,) = await claim(database)
    await void_leases(database)
    (new,) = await claim(database)
    before = await sub_job_row(database, job.sub_job_id)
    leased = name(old)
    async with database.transaction() as connection:
        await sub_jobs.bump_jobs(connection, [job.job_id])
        await sub_jobs.lock_lanes(connection, job.lane_ids)
        assert await sub_jobs.apply(connection, [Started(leased, "x")]) == {}
        assert await sub_jobs.apply(connection, [CancelSent(leased)]) == {}
        assert await sub_jobs.apply(connection, [Postponement(leased, 5.0)]) == {}
        assert await sub_jobs.apply(connection, [Collecting(leased, "t", None, 5.0)]) == {}
        for status in (Status.FINISHED, Status.CANCELLED):
            assert await sub_jobs.settle(connection, [Ended(leased, status)]) == (set(), False)
        assert await sub_jobs.apply(connection, [QuarantineOver(leased)]) == {}
    assert await parts.store.renew({old.sub_job_id: old.lease}, {}) == set()
    assert await parts.store.leased_under(old.lease) == ([], [])
    await parts.store.give_back({old.sub_job_id: old.lease}, (), {}, ())
    assert await sub_job_row(database, job.sub_job_id) == before
    assert await parts.store.renew({new.sub_job_id: new.lease}, {}) == {new.sub_job_id}


@pytest.mark.damages_rows
async def test_a_stale_settlement_in_one_batch_with_the_valid_one_is_not_counted(
    database: Database, parts: Parts, job: PlannedJob
) -> None:
    """A worker lost its lease and claimed the sub-job again itself. Both attempts end it at the same time:
    the later one counts, with its results, and the earlier one raises Fenced."""
    (old,) = await claim(database)
    await void_leases(database)
    (new,) = await claim(database)
    stale = Part(str(old.sub_job_id), 0, "stale", 1, "digest", 1, 1)
    valid = Part(str(new.sub_job_id), 1, "valid", 1, "digest", 1, 0)
    both = [
        Ended(name(old), Status.FAILED, unknown=1, parts=(stale,)),
        Ended(name(new), Status.FINISHED, succeeded=1, parts=(valid,)),
    ]
    ends = await asyncio.gather(
        parts.write(CancelSent(name(new))),
        *(parts.write(each) for each in both),
        return_exceptions=True,
    )
    assert [type(end) for end in ends] == [bool, Fenced, bool]
    (row,) = await rows(database, "select sub_jobs_open, succeeded, unknown from data_job")
    assert row == {"sub_jobs_open": 0, "succeeded": 1, "unknown": 0}
    assert [each["key"] for each in await rows(database, "select key from result_part")] == ["valid"]
    assert (await sub_job_row(database, job.sub_job_id))["status"] == "FINISHED"


@pytest.mark.damages_rows
async def test_no_step_of_a_job_under_a_lease_that_is_gone_changes_anything(
    database: Database, parts: Parts, job: PlannedJob
) -> None:
    """A job whose finish step another worker has claimed meanwhile is not finished, postponed or given back
    by the first one."""
    await all_settled(database)
    (old,) = await claim_jobs(database)
    await void_leases(database)
    (new,) = await claim_jobs(database)
    before = await rows(database, "select * from data_job")
    with pytest.raises(Fenced):
        await parts.steps.finish(old)
    await parts.store.step_failed(old, 60.0, None)
    await parts.store.step_over(old)
    await parts.store.give_back({}, (), {old.job_id: old.lease}, ())
    await parts.store.renew({}, {old.job_id: old.lease})
    assert await parts.store.leased_under(old.lease) == ([], [])
    assert not await parts.store.job_is_leased(old)
    assert await rows(database, "select * from data_job") == before
    await parts.steps.finish(new)
    assert (await rows(database, "select status from data_job"))[0]["status"] == "FINISHED"


@pytest.mark.parametrize("meanwhile", ["nobody", "another"])
async def test_a_worker_that_wakes_after_its_lease_is_void_sends_no_create(
    database: Database,
    tmp_path: Path,
    plugin: InProcessPlugin,
    job: PlannedJob,
    meanwhile: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker was frozen between the mark and the create: by its own clock the lease is void, and it sends
    nothing. If no worker has claimed the sub-job since, it is ADMITTED again. A worker that has claimed it
    cannot know that nothing was sent, and the first one writes nothing."""
    now = 0.0

    async def freeze(checkpoint: Checkpoint) -> None:
        nonlocal now
        if checkpoint is Checkpoint.START_MARKED:
            now += sub_jobs.LEASE_SECONDS
            await void_leases(database)
            if meanwhile == "another":
                (other,) = await claim(database)
                assert (other.stage, other.was) == (Stage.STARTING, Stage.STARTING)

    parts = worker_parts(database, tmp_path, plugin, reached=freeze)
    monkeypatch.setattr(parts.runtime, "now", lambda: now)
    (claimed,) = await claim(database)
    if meanwhile == "another":
        with pytest.raises(Fenced):
            await parts.executor.run(parts.attempt_of(claimed, 0.0))
    else:
        await parts.executor.run(parts.attempt_of(claimed, 0.0))
        row = await sub_job_row(database, job.sub_job_id)
        assert (row["stage"], row["lease"]) == ("ADMITTED", None)
    assert plugin.creates == []


@pytest.mark.parametrize(
    ("kind", "idempotent", "creates", "stage"),
    [
        (JobType.WRITE, False, 0, "QUARANTINED"),
        (JobType.WRITE, True, 1, "SETTLED"),
        (JobType.READ, False, 1, "SETTLED"),
    ],
)
async def test_a_create_whose_worker_is_gone_is_repeated_if_idempotent(
    database: Database,
    parts: Parts,
    plugin: InProcessPlugin,
    kind: JobType,
    idempotent: bool,
    creates: int,
    stage: str,
) -> None:
    """A sub-job that is STARTING under a void lease: a read, and a write at an idempotent plugin, is created
    again. Any other write is UNKNOWN, and in quarantine."""
    async with database.transaction() as connection:
        plugin_id = await add_plugin(connection, idempotent=idempotent)
        job = await planned_job(connection, plugin_id=plugin_id, kind=kind)
    await claim(database)
    assert await claim(database) == []
    await void_leases(database)
    claimed = await run_once(parts)
    assert (claimed.was, claimed.stage) == (Stage.STARTING, Stage.STARTING)
    await until_stage(database, job.sub_job_id, stage, "TRACKING")
    assert len(plugin.creates) == creates
    assert {call.sub_job_id for call in plugin.creates} <= {str(job.sub_job_id)}


# --- what another process changes during a lease -------------------------------------------------------


async def test_a_push_that_comes_while_the_row_is_postponed_is_not_lost(
    database: Database, parts: Parts, job: PlannedJob
) -> None:
    """The plugin pushes a status while a worker holds the lease, and then the worker postpones the row: the
    row is due now. The next time the row is postponed as requested."""
    (claimed,) = await claim(database)
    await parts.write(Started(name(claimed), "producer-job"))
    assert await push(database, job.sub_job_id)
    assert (await sub_job_row(database, job.sub_job_id))["attention"]
    await parts.write(Postponement(name(claimed), 3600.0))
    (again,) = await claim(database)
    assert not (await sub_job_row(database, job.sub_job_id))["attention"]
    await parts.write(Postponement(name(again), 3600.0))
    assert await claim(database) == []


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_cancel_during_the_wait_for_the_next_poll_is_sent_at_once(
    database: Database,
    parts: Parts,
    job: PlannedJob,
    plugin: InProcessPlugin,
    monkeypatch: pytest.MonkeyPatch,
    deaf: bool,
) -> None:
    """A worker holds the lease until the next poll, and the job is cancelled meanwhile: the DELETE is sent on
    the notification, or on the worker's next reload without one."""
    plugin.polled = [Polled(Status.RUNNING)]
    if deaf:
        monkeypatch.setattr(parts.store, "follow", hear_nothing)
    async with parts.working():
        await until(lambda: plugin.calls)
        await cancel(database, job.job_id)
        await until_ended(database, job.job_id)
    assert plugin.calls.count("cancel") == 1
    assert (await sub_job_row(database, job.sub_job_id))["status"] == "CANCELLED"


async def hear_nothing(*_: Any) -> None:
    """A connection that never delivers a notification."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_push_during_the_lease_makes_the_next_poll_due(
    database: Database,
    parts: Parts,
    job: PlannedJob,
    plugin: InProcessPlugin,
    monkeypatch: pytest.MonkeyPatch,
    deaf: bool,
) -> None:
    """The plugin is polled at once, though the next poll was due in an hour."""
    plugin.polled = [Polled(Status.RUNNING)]
    monkeypatch.setattr(executor_module, "poll_delay", lambda _polls, _chance: 3600.0)
    monkeypatch.setattr(executor_module, "HOLD_FOR", 1e6)
    if deaf:
        monkeypatch.setattr(parts.store, "follow", hear_nothing)
    async with parts.working():
        await until_stage(database, job.sub_job_id, "TRACKING")
        assert await push(database, job.sub_job_id)
        await until(lambda: plugin.calls == ["status"])
        plugin.polled = [Polled(Status.FINISHED)]
        await until(lambda: parts.worker._attempts)
        assert await push(database, job.sub_job_id)
        await until_ended(database, job.job_id)
    assert plugin.calls == ["status", "status", "result"]


async def test_a_cancel_that_comes_during_a_poll_is_sent_after_it(
    database: Database, parts: Parts, job: PlannedJob, plugin: InProcessPlugin
) -> None:
    """The job is cancelled during a status poll: the result of the poll does not hide the cancel, which is
    sent next."""
    plugin.polled, plugin.before_poll = [Polled(Status.RUNNING)], asyncio.Event()
    plugin.cancelled = Refused("405")
    async with parts.working():
        await until(lambda: plugin.calls)
        await cancel(database, job.job_id)
        plugin.before_poll.set()
        await until_ended(database, job.job_id)
    assert plugin.calls[:2] == ["status", "cancel"]
    assert plugin.calls.count("cancel") == 1
    assert (await sub_job_row(database, job.sub_job_id))["status"] == "CANCELLED"


async def test_a_cancel_during_a_create_that_does_not_arrive_ends_it(
    database: Database, parts: Parts, job: PlannedJob, plugin: InProcessPlugin
) -> None:
    """The job is cancelled while its create is active, which did not arrive: the sub-job is not started
    again."""
    plugin.create_answers, plugin.before_create = [Retryable("connection refused")], asyncio.Event()
    async with parts.working():
        await until(lambda: plugin.creates)
        await cancel(database, job.job_id)
        plugin.before_create.set()
        await until_ended(database, job.job_id)
    assert len(plugin.creates) == 1
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["status"], row["not_started"]) == ("SETTLED", "CANCELLED", 1)


async def test_a_cancel_during_a_create_that_arrives_is_sent_to_the_plugin(
    database: Database, parts: Parts, job: PlannedJob, plugin: InProcessPlugin
) -> None:
    """The plugin accepted the sub-job while its job was being cancelled: the DELETE is sent at once."""
    plugin.before_create, plugin.polled = asyncio.Event(), [Polled(Status.RUNNING)]
    async with parts.working():
        await until(lambda: plugin.creates)
        await cancel(database, job.job_id)
        plugin.before_create.set()
        await until_ended(database, job.job_id)
    assert plugin.calls[0] == "cancel"
    assert (len(plugin.creates), plugin.calls.count("cancel")) == (1, 1)


async def test_the_last_message_that_comes_while_a_read_is_collected_is_not_lost(
    database: Database, tmp_path: Path, plugin: InProcessPlugin
) -> None:
    """The only message of a read arrives after a worker has counted none, and before it records how long to
    wait for one: it does not wait."""
    plugin.results = OnTopic("results")
    parts = worker_parts(database, tmp_path, plugin, settings=Settings(read_result_idle_timeout=3600.0))
    async with database.transaction() as connection:
        job = await planned_job(connection, kind=JobType.READ)
    (claimed,) = await claim(database)
    await parts.write(Started(name(claimed), "producer-job"))
    await parts.write(Collecting(name(claimed), "results", Status.FINISHED, 0.0))
    count, counted = parts.store.arrived, list[bool]()

    async def arrived(sub_job_id: UUID, job_id: UUID, total: int | None) -> Any:
        found = await count(sub_job_id, job_id, total)
        counted.append(found.all_in)
        if len(counted) == 1:
            await arrive(database, job_id, sub_job_id)
        return found

    parts.store.arrived = arrived  # type: ignore[method-assign]
    await run_once(parts)
    await run_once(parts)
    assert counted == [False, True]
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["status"]) == ("SETTLED", "FINISHED")


@pytest.mark.parametrize("when", ["before the lease", "during the lease"])
async def test_messages_before_the_result_named_its_topic_end_the_read(
    database: Database, parts: Parts, plugin: InProcessPlugin, when: str
) -> None:
    """A fast plugin publishes everything before its status is polled: the read ends at once, without the idle
    time."""
    async with database.transaction() as connection:
        job = await planned_job(connection, kind=JobType.READ)
    (claimed,) = await claim(database)
    await parts.write(Started(name(claimed), "producer-job"))
    if when == "before the lease":
        await parts.write(Postponement(name(claimed), 0.0))
        await arrive(database, job.job_id, job.sub_job_id)
        (claimed,) = await claim(database)
    else:
        await arrive(database, job.job_id, job.sub_job_id)
    await parts.write(Collecting(name(claimed), "results", Status.FINISHED, 3600.0))
    await run_once(parts)
    assert (await sub_job_row(database, job.sub_job_id))["stage"] == "SETTLED"


async def collecting_read(database: Database, parts: Parts) -> PlannedJob:
    """A read whose plugin has named the topic of its messages, and that is due."""
    async with database.transaction() as connection:
        job = await planned_job(connection, kind=JobType.READ)
    (claimed,) = await claim(database)
    await parts.write(Started(name(claimed), "producer-job"))
    await parts.write(Collecting(name(claimed), "results", Status.FINISHED, 0.0))
    return job


async def test_messages_that_come_after_an_outage_are_waited_for(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """The service was down for an hour during a read: the idle time does not count this hour."""
    job = await collecting_read(database, parts)
    await by_hand(database, "update sub_job set last_message_at = now() - interval '1 hour'")
    await run_once(parts)
    assert (await sub_job_row(database, job.sub_job_id))["stage"] == "COLLECTING"
    await arrive(database, job.job_id, job.sub_job_id)
    await run_once(parts)
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["status"]) == ("SETTLED", "FINISHED")


async def test_a_read_whose_messages_are_all_in_does_not_time_out(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """However late a worker reloads it."""
    job = await collecting_read(database, parts)
    await arrive(database, job.job_id, job.sub_job_id)
    await by_hand(database, "update sub_job set started_at = now() - interval '1 day'")
    await run_once(parts)
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["status"], row["succeeded"]) == ("SETTLED", "FINISHED", row["operations"])
    assert "cancel" not in plugin.calls
