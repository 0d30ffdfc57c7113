# SPDX-License-Identifier: Apache-2.0
"""Working on a leased row, on a real database: what is asked for meanwhile is not lost, a write under a lease
that is void changes nothing, and nothing stays leased that nobody works on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.dispatch import executor as executor_module
from ran_datajobs.dispatch import worker as worker_module
from ran_datajobs.dispatch.attempt import DispatchTimes, attempt_of
from ran_datajobs.dispatch.limits import DispatchLimits
from ran_datajobs.dispatch.transitions import CancelTold, Ended, QuarantineOver, Started, Transition
from ran_datajobs.errors import Fenced, StorageUnavailable, StoreUnavailable
from ran_datajobs.job import JobType, OperationState, Response, Stage, Status
from ran_datajobs.results.arrivals import pack_outcomes
from ran_datajobs.southbound.plugin import CannotCancel, NotArrived, OnTopic, OutcomeUnknown, Polled
from ran_datajobs.store import arrivals, jobs, planning, sub_jobs
from ran_datajobs.store.arrivals import ActiveRead, Arrival, Piece
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.parts import Part
from ran_datajobs.store.sub_jobs import Collecting, Leased, LeasedSubJob, Postponement, Settlement
from tests.contracts.worker_parts import (
    InProcessPlugin,
    Parts,
    PlannedJob,
    add_plugin,
    by_hand,
    claim,
    claim_jobs,
    log_lines,
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
    """Takes what it gets, and ends it at once."""
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
    """What a status push of the plugin does."""
    async with database.transaction() as connection:
        return await sub_jobs.poll_now(connection, sub_job_id, "producer-job")


async def arrive(database: Database, job_id: UUID, sub_job_id: UUID, total: int | None = 1) -> None:
    """Record one message of a read."""
    part = Part(str(sub_job_id), 0, "key", 1, "digest", 1, 0)
    piece = Piece(part, pack_outcomes([Response(1, 0, "", state=OperationState.SUCCEEDED)]))
    read = ActiveRead(sub_job_id, job_id, "results")
    async with database.transaction() as connection:
        await arrivals.record(connection, [Arrival(read, 0, None, (piece,), total)])


async def all_settled(database: Database) -> None:
    """Every operation succeeded; the finish steps of the jobs are due."""
    await by_hand(
        database, "update sub_job set stage = 'SETTLED', due_at = null, status = 'FINISHED', succeeded = 1"
    )
    await by_hand(
        database, "update data_job set status = 'RUNNING', sub_jobs_open = 0, succeeded = 1, due_at = now()"
    )


def name(sub_job: LeasedSubJob) -> Leased:
    """The sub-job and its lease."""
    return Leased(sub_job.sub_job_id, sub_job.job_id, sub_job.lane_id, sub_job.lease)


async def run_once(parts: Parts) -> LeasedSubJob:
    """Claim the one sub-job that is due, and work on it until its lease ends."""
    (claimed,) = await claim(parts.database)
    await parts.executor.run(attempt_of(claimed, parts.executor.clock()))
    return claimed


# --- under a lease that is void ------------------------------------------------------------------------


def transitions(leased: Leased) -> list[Transition]:
    """One of every kind."""
    part = Part(str(leased.sub_job_id), 0, "key", 1, "digest", 1, 0)
    return [
        Started(leased, "another"),
        CancelTold(leased),
        Postponement(leased, 0.0, 7, "wrong", unsent=True),
        Collecting(leased, "topic", Status.FINISHED, 0.0),
        Ended(Settlement(leased, Status.FINISHED, succeeded=1), (part,)),
        Ended(Settlement(leased, Status.FAILED, unknown=1, quarantine=300.0), (part,)),
        QuarantineOver(leased),
    ]


@pytest.mark.damages_rows
@pytest.mark.parametrize("stage", ["STARTING", "TRACKING", "COLLECTING", "QUARANTINED"])
@pytest.mark.parametrize("holder", ["nobody", "another"])
async def test_no_transition_under_a_lease_that_is_gone_changes_anything(
    database: Database, parts: Parts, job: PlannedJob, stage: str, holder: str
) -> None:
    """The row was claimed anew, or its lease was ended: each transition raises Fenced, and the row, its job,
    its results and its lane are as before."""
    (old,) = await claim(database)
    await void_leases(database)
    (new,) = await claim(database)
    assert old.lease != new.lease
    await by_hand(database, "update sub_job set stage = $1::sub_job_stage, due_at = now()", stage)
    if holder == "nobody":
        async with database.connection() as connection:
            await sub_jobs.give_back(connection, {new.sub_job_id: new.lease})
    before = await sub_job_row(database, job.sub_job_id)
    job_before = await rows(
        database, "select status, sub_jobs_open, succeeded, unknown, due_at from data_job"
    )
    for transition in transitions(name(old)):
        with pytest.raises(Fenced):
            await parts.write(transition)
        assert await sub_job_row(database, job.sub_job_id) == before, transition
    assert not await parts.write.is_leased(name(old))
    assert await rows(database, "select * from result_part") == []
    job_after = await rows(database, "select status, sub_jobs_open, succeeded, unknown, due_at from data_job")
    assert job_after == job_before


async def test_no_store_function_answers_for_a_lease_that_is_gone(
    database: Database, job: PlannedJob
) -> None:
    """Each function of the store leaves the row out of what it returns; renewing and giving back likewise."""
    (old,) = await claim(database)
    await void_leases(database)
    (new,) = await claim(database)
    before = await sub_job_row(database, job.sub_job_id)
    leased = name(old)
    async with database.transaction() as connection:
        versions = await sub_jobs.bump_jobs(connection, [job.job_id])
        await sub_jobs.lock_lanes(connection, job.lane_ids)
        assert await sub_jobs.mark_started(connection, [(leased, "x")], versions) == ({}, [])
        assert await sub_jobs.mark_cancelling(connection, [leased], versions) == {}
        assert await sub_jobs.postpone(connection, [Postponement(leased, 5.0)]) == set()
        assert await sub_jobs.mark_collecting(connection, [Collecting(leased, "t", None, 5.0)]) == set()
        for status in (Status.FINISHED, Status.CANCELLED):
            assert await sub_jobs.settle(connection, [Settlement(leased, status)], versions) == (set(), [])
        assert await sub_jobs.end_quarantine(connection, [leased]) == set()
        assert await sub_jobs.renew(connection, {old.sub_job_id: old.lease}) == set()
        assert await sub_jobs.leased_under(connection, old.lease) == []
        await sub_jobs.give_back(connection, {old.sub_job_id: old.lease})
    assert await sub_job_row(database, job.sub_job_id) == before
    async with database.connection() as connection:
        assert await sub_jobs.renew(connection, {new.sub_job_id: new.lease}) == {new.sub_job_id}


@pytest.mark.damages_rows
async def test_a_stale_settlement_in_one_batch_with_the_valid_one_is_not_counted(
    database: Database, parts: Parts, job: PlannedJob
) -> None:
    """A worker lost its lease and claimed the sub-job anew itself; both attempts end it at the same time: the
    later one counts, with its results, and the earlier one raises Fenced."""
    (old,) = await claim(database)
    await void_leases(database)
    (new,) = await claim(database)
    both = [
        Ended(
            Settlement(name(old), Status.FAILED, unknown=1),
            (Part(str(old.sub_job_id), 0, "stale", 1, "digest", 1, 1),),
        ),
        Ended(
            Settlement(name(new), Status.FINISHED, succeeded=1),
            (Part(str(new.sub_job_id), 1, "valid", 1, "digest", 1, 0),),
        ),
    ]
    ends = await asyncio.gather(
        # The first call makes a batch of its own; the two after it are written together.
        parts.write.begun(job.job_id),
        parts.write(CancelTold(name(new))),
        *(parts.write(each) for each in both),
        return_exceptions=True,
    )
    assert [type(end) for end in ends] == [type(None), bool, Fenced, bool]
    (row,) = await rows(database, "select sub_jobs_open, succeeded, unknown from data_job")
    assert row == {"sub_jobs_open": 0, "succeeded": 1, "unknown": 0}
    assert [each["key"] for each in await rows(database, "select key from result_part")] == ["valid"]
    assert (await sub_job_row(database, job.sub_job_id))["status"] == "FINISHED"


@pytest.mark.damages_rows
async def test_no_step_of_a_job_under_a_lease_that_is_gone_changes_anything(
    database: Database, parts: Parts, job: PlannedJob
) -> None:
    """A job whose finish step another worker has claimed meanwhile is not finished, not put back and not
    given back by the first one."""
    await all_settled(database)
    (old,) = await claim_jobs(database)
    await void_leases(database)
    (new,) = await claim_jobs(database)
    before = await rows(database, "select * from data_job")
    with pytest.raises(Fenced):
        await parts.finisher.finish(old)
    async with database.connection() as connection:
        await planning.step_failed(connection, old, 60.0)
        await planning.step_over(connection, old)
        await planning.give_back(connection, {old.job_id: old.lease})
        assert await planning.renew(connection, {old.job_id: old.lease}) == set()
        assert await planning.leased_under(connection, old.lease) == []
        assert not await planning.is_leased(connection, old)
    assert await rows(database, "select * from data_job") == before
    await parts.finisher.finish(new)
    assert (await rows(database, "select status from data_job"))[0]["status"] == "FINISHED"


@pytest.mark.parametrize("meanwhile", ["nobody", "another"])
async def test_a_worker_that_wakes_after_its_lease_is_void_sends_no_create(
    database: Database, tmp_path: Path, plugin: InProcessPlugin, job: PlannedJob, meanwhile: str
) -> None:
    """It was frozen between the mark and the create: by its own clock the lease is void, and it sends
    nothing. Where nobody has claimed the sub-job since, it is ADMITTED again, for whoever claims it next;
    another worker that has claimed it cannot know, and its outcome is unknown."""
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
    parts.executor.clock = lambda: now
    (claimed,) = await claim(database)
    if meanwhile == "another":
        with pytest.raises(Fenced):
            await parts.executor.run(attempt_of(claimed, 0.0))
    else:
        await parts.executor.run(attempt_of(claimed, 0.0))
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
async def test_a_create_whose_worker_is_gone_is_repeated_only_where_that_is_harmless(
    database: Database,
    parts: Parts,
    plugin: InProcessPlugin,
    kind: JobType,
    idempotent: bool,
    creates: int,
    stage: str,
) -> None:
    """A sub-job that is STARTING under a void lease: a read, and a write at an idempotent plugin, is created
    again; any other write is UNKNOWN, and in quarantine."""
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


# --- what another process changes during a lease ---------------------------------------------------------


async def test_a_push_that_comes_while_the_row_is_postponed_is_not_lost(
    database: Database, parts: Parts, job: PlannedJob
) -> None:
    """The plugin pushes while a worker has the lease, which then postpones the row: it is due now, and not
    when the worker thought; the one after that is postponed as asked."""
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
    """A worker holds the lease until the next poll; the job is cancelled meanwhile: the DELETE goes out, by
    the notice, or by the worker's own look where no notice comes."""
    plugin.polled = [Polled(Status.RUNNING)]
    if deaf:
        monkeypatch.setattr(worker_module, "follow", hear_nothing)
    async with parts.working():
        await until(lambda: plugin.calls)
        await cancel(database, job.job_id)
        await until_ended(database, job.job_id)
    assert plugin.calls.count("cancel") == 1
    assert (await sub_job_row(database, job.sub_job_id))["status"] == "CANCELLED"


async def hear_nothing(*_: Any) -> None:
    """A connection on which no notice ever comes."""
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
    """The plugin is asked once more, though its next poll was not due for an hour."""
    plugin.polled = [Polled(Status.RUNNING)]
    monkeypatch.setattr(executor_module, "until_next_poll", lambda _polls, _chance: 3600.0)
    monkeypatch.setattr(executor_module, "HOLD_FOR", 1e6)
    if deaf:
        monkeypatch.setattr(worker_module, "follow", hear_nothing)
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
    """The job is cancelled while the plugin is asked for the status: what the poll says does not hide the
    cancel, which is sent next."""
    plugin.polled, plugin.before_poll = [Polled(Status.RUNNING)], asyncio.Event()
    plugin.cancelled = CannotCancel("405")
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
    """The job is cancelled while its create is under way, which then turns out not to have arrived: the
    sub-job is not started again."""
    plugin.create_answers, plugin.before_create = [NotArrived("connection refused")], asyncio.Event()
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
    """The plugin took the sub-job while its job was being cancelled: it is told at once."""
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
    """The only message of a read comes after a worker has counted none and before it notes how long it will
    wait for one: it does not wait."""
    plugin.results = OnTopic("results")
    parts = worker_parts(database, tmp_path, plugin, times=DispatchTimes(result_idle=3600.0))
    async with database.transaction() as connection:
        job = await planned_job(connection, kind=JobType.READ)
    (claimed,) = await claim(database)
    await parts.write(Started(name(claimed), "producer-job"))
    await parts.write(Collecting(name(claimed), "results", Status.FINISHED, 0.0))
    count, counted = parts.results.arrived, list[bool]()

    async def arrived(sub_job_id: UUID, job_id: UUID, total: int | None) -> Any:
        found = await count(sub_job_id, job_id, total)
        counted.append(found.all_in)
        if len(counted) == 1:
            await arrive(database, job_id, sub_job_id)
        return found

    parts.results.arrived = arrived  # type: ignore[method-assign]
    await run_once(parts)
    await run_once(parts)
    assert counted == [False, True]
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["status"]) == ("SETTLED", "FINISHED")


@pytest.mark.parametrize("when", ["before the lease", "during the lease"])
async def test_messages_that_were_all_in_before_the_result_named_its_topic_end_the_read(
    database: Database, parts: Parts, plugin: InProcessPlugin, when: str
) -> None:
    """A fast plugin publishes everything before its status is asked for: the read ends at once, and does not
    wait for the idle time."""
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


# --- the worker's own troubles -----------------------------------------------------------------------------


async def flaky(
    real: Callable[..., Awaitable[Any]], failures: list[Exception]
) -> Callable[..., Awaitable[Any]]:
    """``real``, which fails as often as there are failures."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return await real(*args, **kwargs)

    return call


async def test_an_answer_that_cannot_be_recorded_is_kept_and_not_asked_for_again(
    database: Database,
    parts: Parts,
    job: PlannedJob,
    plugin: InProcessPlugin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store is away just after a create of a plugin without idempotency was answered: the id is recorded
    when the store is back, and the create was sent once."""
    failures: list[Exception] = [StoreUnavailable("away"), StoreUnavailable("still away")]
    monkeypatch.setattr(sub_jobs, "mark_started", await flaky(sub_jobs.mark_started, failures))
    async with parts.working():
        await until_ended(database, job.job_id)
    assert not failures
    assert len(plugin.creates) == 1
    assert (await sub_job_row(database, job.sub_job_id))["succeeded"] == 1


async def test_a_store_of_objects_that_is_away_is_not_the_plugins_trouble(
    database: Database, parts: Parts, job: PlannedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result cannot be written at first: it is fetched and written again, and nobody is given up."""
    failures: list[Exception] = [StorageUnavailable("away"), StorageUnavailable("still away")]
    monkeypatch.setattr(parts.results, "write", await flaky(parts.results.write, failures))
    async with parts.working():
        await until_ended(database, job.job_id)
    assert not failures
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["succeeded"], row["trouble_since"]) == ("SETTLED", 1, None)


async def test_a_step_that_breaks_is_tried_again_and_sends_no_second_create(
    database: Database,
    parts: Parts,
    job: PlannedJob,
    plugin: InProcessPlugin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fault of ours between the answer to a create and its record: it is logged, the row is not left
    leased, and at a plugin without idempotency nothing that may have been executed is sent again."""
    with log_lines() as lines:
        monkeypatch.setattr(
            sub_jobs, "mark_started", await flaky(sub_jobs.mark_started, [RuntimeError("a fault")])
        )
        async with parts.working():
            await until_ended(database, job.job_id)
    assert len(plugin.creates) == 1
    (failed,) = [line for line in lines() if line["event"] == "task.failed"]
    assert (failed["kind"], failed["subject"]) == ("sub_job", str(job.sub_job_id))
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["unknown"], row["lease"]) == ("QUARANTINED", 1, None)


async def test_a_step_that_breaks_every_time_waits_longer_each_time(
    database: Database, parts: Parts, job: PlannedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sub-job that cannot be worked on for a fault of ours costs little: its pauses grow."""
    pauses: list[float] = []
    postpone = sub_jobs.postpone

    async def noted(connection: Connection, postponed: Any) -> set[UUID]:
        pauses.extend(each.delay for each in postponed)
        return await postpone(connection, postponed)

    async def broken(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(sub_jobs, "postpone", noted)
    monkeypatch.setattr(parts.executor, "_track", broken)
    async with parts.working():
        await until_stage(database, job.sub_job_id, "TRACKING")
        while len(pauses) < 4:
            seen = len(pauses)
            await until(lambda: len(pauses) > seen)  # noqa: B023 - it is awaited in this round
            async with database.connection() as connection:
                await connection.execute("update sub_job set due_at = now() where lease is null")
                await sub_jobs.notify_due(connection, "sub_job")
    assert pauses[:3] == sorted(pauses[:3])
    assert pauses[3] > 2 * pauses[0]


# --- claims whose answers are lost -------------------------------------------------------------------------


async def lose_answers(
    monkeypatch: pytest.MonkeyPatch, where: Any, function: str, losses: int = 1
) -> list[Any]:
    """Let the next ``losses`` answers of a committed claim be lost; what was claimed by these."""
    real, lost = getattr(where, function), list[Any]()

    async def call(*args: Any) -> Any:
        answer = await real(*args)
        if len(lost) < losses and answer:
            lost.append(answer)
            raise StoreUnavailable("the session was cut before the answer")
        return answer

    monkeypatch.setattr(where, function, call)
    return lost


async def test_what_a_claim_leased_whose_answer_was_lost_is_executed_once(
    database: Database,
    parts: Parts,
    job: PlannedJob,
    plugin: InProcessPlugin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The claim is committed and its answer is lost: the same worker finds the sub-job under the claim's
    token, knows that nothing was sent, and starts it, at a plugin that is not idempotent too."""
    lost = await lose_answers(monkeypatch, sub_jobs, "claim")
    async with parts.working():
        await until_ended(database, job.job_id)
    assert [[each.sub_job_id for each in answer] for answer in lost] == [[job.sub_job_id]]
    assert len(plugin.creates) == 1
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["succeeded"], row["attempts"]) == (1, 1)


async def test_a_create_of_unknown_outcome_stays_one_when_the_claim_s_answer_is_lost(
    database: Database,
    parts: Parts,
    job: PlannedJob,
    plugin: InProcessPlugin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another worker has marked the sub-job, and may have sent its create, before it was gone. The claim that
    takes it over loses its answer: that says nothing of the first create, which is not repeated."""
    await claim(database)
    await void_leases(database)
    lost = await lose_answers(monkeypatch, sub_jobs, "claim")
    async with parts.working():
        await until_stage(database, job.sub_job_id, "QUARANTINED", "SETTLED")
    assert len(lost) == 1
    assert plugin.creates == []
    assert (await sub_job_row(database, job.sub_job_id))["unknown"] == 1


@pytest.mark.damages_rows
async def test_the_step_of_a_job_whose_claim_lost_its_answer_is_taken_up(
    database: Database, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the plan of a job, and for its finish."""
    async with database.transaction() as connection:
        job = await planned_job(connection)
    await all_settled(database)
    lost = await lose_answers(monkeypatch, planning, "claim")
    async with parts.working():
        await until_ended(database, job.job_id)
    assert len(lost) == 1


# --- the end of a worker ------------------------------------------------------------------------------------


async def test_a_worker_that_is_stopped_during_a_create_still_records_it(
    database: Database, parts: Parts, job: PlannedJob, plugin: InProcessPlugin
) -> None:
    """Its id is recorded before the lease is given back, and the row is due for the next worker at once; a
    claim that was under way at the stop may still be worked on."""
    plugin.before_create = asyncio.Event()
    async with parts.working():
        await until(lambda: plugin.creates)
        parts.stopping.set()
        plugin.before_create.set()
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["data_producer_job_id"], row["lease"]) == ("producer-job", None)
    assert len(plugin.creates) == 1
    due = await claim(database)
    assert [each.sub_job_id for each in due] == ([job.sub_job_id] if row["stage"] == "TRACKING" else [])


async def test_a_worker_that_is_stopped_gives_back_what_does_not_end_in_time(
    database: Database, tmp_path: Path, plugin: InProcessPlugin, job: PlannedJob
) -> None:
    """A call that lasts longer than the grace: the lease is given back, not left to become void, and the next
    worker claims the row at once; a create that was sent is of unknown outcome."""
    parts = worker_parts(database, tmp_path, plugin, grace=0.0)
    plugin.before_create = asyncio.Event()
    async with parts.working():
        await until(lambda: plugin.creates)
    assert (await sub_job_row(database, job.sub_job_id))["lease"] is None
    (due,) = await claim(database)
    assert (due.stage, due.was) == (Stage.STARTING, Stage.STARTING)


async def test_a_worker_that_is_stopped_before_it_sent_a_create_leaves_it_to_the_next_one(
    database: Database, tmp_path: Path, plugin: InProcessPlugin, job: PlannedJob
) -> None:
    """Marked, and provably not sent: the next worker sends it, once, at a plugin that is not idempotent."""
    marked = asyncio.Event()

    async def hold(checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.START_MARKED:
            marked.set()
            await asyncio.Event().wait()

    first = worker_parts(database, tmp_path, plugin, reached=hold, grace=0.0)
    async with first.working():
        await marked.wait()
    assert plugin.creates == []
    second = worker_parts(database, tmp_path, plugin)
    async with second.working():
        await until_ended(database, job.job_id)
    assert len(plugin.creates) == 1
    assert (await sub_job_row(database, job.sub_job_id))["succeeded"] == 1


async def test_a_worker_that_is_stopped_sends_no_create_any_more(
    database: Database, tmp_path: Path, plugin: InProcessPlugin
) -> None:
    """One of two creates waits for the bytes that the other one holds; the worker is told to stop before it
    has them: the other one is recorded, and this one is due for the next worker, not sent."""
    plugin.before_create = asyncio.Event()
    parts = worker_parts(database, tmp_path, plugin, limits=DispatchLimits(body_bytes=1000))
    large = b'[{"op":"merge","path":"/A=1","operationId":1,"value":"%b"}]' % (b"x" * 350)
    async with database.transaction() as connection:
        job = await planned_job(connection, "a", "b", operations=large)
    async with parts.working():
        await until(lambda: plugin.creates)
        await until(lambda: len(parts.worker._attempts) == 2)
        parts.stopping.set()
        plugin.before_create.set()
    sent = UUID(plugin.creates[0].sub_job_id)
    (unsent,) = set(job.sub_job_ids) - {sent}
    assert (await sub_job_row(database, sent))["data_producer_job_id"] == "producer-job"
    assert (await sub_job_row(database, unsent))["stage"] == "ADMITTED"
    assert len(plugin.creates) == 1
    assert unsent in {each.sub_job_id for each in await claim(database)}


async def test_a_worker_that_is_stopped_gives_back_what_a_claim_without_an_answer_leased(
    database: Database,
    tmp_path: Path,
    plugin: InProcessPlugin,
    job: PlannedJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last claim before the stop was committed and its answer was lost: the next worker starts the
    sub-job at once, and knows that nothing was sent."""
    first = worker_parts(database, tmp_path, plugin, grace=0.0)
    real = sub_jobs.claim

    async def lost(*args: Any) -> Any:
        if answer := await real(*args):
            first.stopping.set()
            raise StoreUnavailable("the session was cut before the answer")
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(sub_jobs, "claim", lost)
        async with first.working():
            await first.stopping.wait()
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["lease"]) == ("ADMITTED", None)
    second = worker_parts(database, tmp_path, plugin)
    async with second.working():
        await until_ended(database, job.job_id)
    assert len(plugin.creates) == 1


# --- the worker's loop ----------------------------------------------------------------------------------------


async def test_a_job_that_is_admitted_while_a_worker_waits_for_its_plugin_is_started(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """A read is planned into a lane whose write is being created at a plugin that does not answer: it is
    started beside it."""
    plugin.before_create = asyncio.Event()
    async with database.transaction() as connection:
        first = await planned_job(connection)
    async with parts.working():
        await until(lambda: plugin.creates)
        async with database.transaction() as connection:
            second = await planned_job(connection, kind=JobType.READ)
        await until(lambda: len(plugin.creates) == 2)
        plugin.before_create.set()
        await until_ended(database, first.job_id, second.job_id)


async def test_the_next_write_of_a_lane_is_started_when_the_one_before_it_ends(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """One at a time, in order, and every one of them."""
    async with database.transaction() as connection:
        made = [await planned_job(connection) for _ in range(5)]
    async with parts.working():
        await until_ended(database, *(job.job_id for job in made))
    assert [call.job_id for call in plugin.creates] == [str(job.job_id) for job in made]


async def test_a_row_whose_worker_is_gone_is_claimed_by_another_one(
    database: Database, parts: Parts, job: PlannedJob, plugin: InProcessPlugin
) -> None:
    """A tracked sub-job under a void lease is polled on by whoever claims it, and created by nobody."""
    (claimed,) = await claim(database)
    await parts.write(Started(name(claimed), "producer-job"))
    await void_leases(database)
    async with parts.working():
        await until_ended(database, job.job_id)
    assert plugin.creates == []
    assert plugin.calls == ["status", "result"]


async def test_a_worker_renews_what_it_works_on_and_nothing_else(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """Of two rows that were leased for it, the one that it works on is renewed; the other one's lease ends."""
    plugin.before_create = asyncio.Event()
    async with database.transaction() as connection:
        left = await planned_job(connection, "left")
    await claim(database, worker_id=parts.worker_id)
    async with database.transaction() as connection:
        worked_on = await planned_job(connection, "worked-on")
    until_of = "select leased_until from sub_job where sub_job_id = $1"
    async with parts.working():
        await until(lambda: plugin.creates)
        ((before,), (left_before,)) = [
            [row["leased_until"] for row in await rows(database, until_of, each.sub_job_id)]
            for each in (worked_on, left)
        ]
        await parts.worker._renew()
        ((after,), (left_after,)) = [
            [row["leased_until"] for row in await rows(database, until_of, each.sub_job_id)]
            for each in (worked_on, left)
        ]
        plugin.before_create.set()
        await until_ended(database, worked_on.job_id)
    assert after > before
    assert left_after == left_before


async def test_an_attempt_whose_lease_another_worker_has_is_dropped(
    database: Database, parts: Parts, job: PlannedJob, plugin: InProcessPlugin
) -> None:
    """A worker learns at a renewal that another one has claimed its row: it stops, and its place is free."""
    plugin.before_create = asyncio.Event()
    async with parts.working():
        await until(lambda: plugin.creates)
        (attempt,) = parts.worker._attempts.values()
        async with database.connection() as connection:
            await connection.execute(
                "update sub_job set lease = $1, leased_until = now() + interval '1 hour'", uuid4()
            )
        attempt.valid_until = 0.0
        await parts.worker._renew()
        await until(lambda: not parts.worker._attempts)
        assert parts.limits.room().plugins == {}


async def test_a_statement_of_the_worker_that_is_cancelled_costs_no_work(
    database: Database, parts: Parts, job: PlannedJob, plugin: InProcessPlugin
) -> None:
    """Somebody cancels two renewals (an administrator may): the worker says so, and goes on with its work."""
    plugin.before_create = asyncio.Event()
    async with database.connection() as connection:
        await connection.execute(
            """create sequence cancelled;
               create function cancel_it() returns trigger language plpgsql as $$
               begin
                   if new.leased_until is null or old.leased_until is null or nextval('cancelled') > 2 then
                       return new;
                   end if;
                   raise exception 'canceling statement due to user request' using errcode = '57014';
               end $$;
               create trigger cancel_it before update of leased_until on sub_job for each row
                   execute function cancel_it()"""
        )
    with log_lines() as lines:
        async with parts.working():

            async def both_cancelled() -> bool:
                (row,) = await rows(database, "select last_value from cancelled")
                return int(row["last_value"]) >= 3

            await until(lambda: plugin.creates)
            await until(both_cancelled)
            plugin.before_create.set()
            await until_ended(database, job.job_id)
    assert len([line for line in lines() if line["event"] == "worker.interrupted"]) == 2
    assert len(plugin.creates) == 1


# --- quarantine ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends_by", ["status", "time"])
async def test_a_write_that_may_still_run_keeps_the_next_one_back(
    database: Database, tmp_path: Path, plugin: InProcessPlugin, ends_by: str
) -> None:
    """A write times out and its plugin does not take the DELETE: the next write of the lane is not admitted
    until the plugin's status is terminal, or the quarantine is over; then at once."""
    plugin.polled, plugin.cancelled = [Polled(Status.RUNNING)], CannotCancel("405")
    times = DispatchTimes(sub_job_timeout=0.0, lane_quarantine=3600.0)
    parts = worker_parts(database, tmp_path, plugin, times=times)

    async def cannot(_address: Any) -> CannotCancel:
        return CannotCancel("405")

    plugin.cancel = cannot  # type: ignore[method-assign]
    async with database.transaction() as connection:
        first, second = await planned_job(connection), await planned_job(connection)
    with log_lines() as lines:
        async with parts.working():
            await until_stage(database, first.sub_job_id, "QUARANTINED")
            calls = len(plugin.calls)
            await until(lambda: len(plugin.calls) > calls)  # asked once more, and it still runs
            assert (await sub_job_row(database, second.sub_job_id))["stage"] == "WAITING"
            assert len(plugin.creates) == 1
            if ends_by == "status":
                plugin.polled = [Polled(Status.FINISHED)]
            else:
                async with database.connection() as connection:
                    await connection.execute(
                        "update sub_job set quarantined_until = now() where stage = 'QUARANTINED'"
                    )
            await until(lambda: len(plugin.creates) == 2)
    quarantined = [line["lane_id"] for line in lines() if line["event"] == "lane.quarantined"]
    assert quarantined[:1] == first.lane_ids
    assert (await sub_job_row(database, first.sub_job_id))["unknown"] == 1


async def test_a_create_of_unknown_outcome_keeps_its_lane_and_no_other(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """Without a producer's job id only time ends the quarantine; reads of the lane, and writes of other
    lanes, go on."""
    plugin.create_answers = [OutcomeUnknown("time-out"), *[parts.plugin.create_answers[0]]]
    async with database.transaction() as connection:
        first = await planned_job(connection)
    async with parts.working():
        await until_stage(database, first.sub_job_id, "QUARANTINED")
        async with database.transaction() as connection:
            waiting = await planned_job(connection)
            read = await planned_job(connection, kind=JobType.READ)
            other = await planned_job(connection, "other")
        await until_ended(database, read.job_id, other.job_id)
        assert (await sub_job_row(database, waiting.sub_job_id))["stage"] == "WAITING"
    assert "ems" not in plugin.created[3:]
    assert len(plugin.creates) == 3
