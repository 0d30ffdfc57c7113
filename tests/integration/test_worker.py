# SPDX-License-Identifier: Apache-2.0
"""A worker on a real database: its own failures, claims whose answers are lost, its loop, its end, and
quarantine."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from ran_datajobs.checkpoints import Checkpoint, on_checkpoint
from ran_datajobs.config import Settings
from ran_datajobs.dispatch import worker
from ran_datajobs.dispatch.limits import DispatchLimits
from ran_datajobs.errors import StorageUnavailable, StoreUnavailable
from ran_datajobs.model import JobType, OperationState, Response, Stage, Status
from ran_datajobs.plugins.port import OutcomeUnknown, Polled, Refused
from ran_datajobs.results.outcomes import pack_outcomes
from ran_datajobs.store import jobs, results, sub_jobs
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.results import ActiveRead, Part, ReceivedMessage
from ran_datajobs.store.sub_jobs import Leased, LeasedSubJob, Postponement, Started
from tests.kit.plugins.in_process import InProcessPlugin
from tests.kit.worker_parts import (
    Parts,
    PlannedJob,
    all_settled,
    claim,
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


# --- the worker's own failures -------------------------------------------------------------------------


def failing_starts(failures: list[Exception]) -> Callable[..., Awaitable[Any]]:
    """The function that writes transitions, which fails for the start of sub-jobs as often as there are
    failures."""
    real = sub_jobs.apply

    async def call(connection: Connection, transitions: Any) -> Any:
        if isinstance(transitions[0], Started) and failures:
            raise failures.pop()
        return await real(connection, transitions)

    return call


async def flaky(
    real: Callable[..., Awaitable[Any]], failures: list[Exception]
) -> Callable[..., Awaitable[Any]]:
    """``real``, with as many failures first as given."""

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
    """The database is unavailable just after the answer to a create of a non-idempotent plugin: the id is
    recorded when the database is back, and the create was sent once."""
    failures: list[Exception] = [StoreUnavailable("unavailable"), StoreUnavailable("still unavailable")]
    monkeypatch.setattr(sub_jobs, "apply", failing_starts(failures))
    async with parts.working():
        await until_ended(database, job.job_id)
    assert not failures
    assert len(plugin.creates) == 1
    assert (await sub_job_row(database, job.sub_job_id))["succeeded"] == 1


async def test_a_store_of_objects_that_is_away_is_not_the_plugins_trouble(
    database: Database, parts: Parts, job: PlannedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result cannot be written at first: it is fetched and written again, and the sub-job does not time
    out."""
    failures: list[Exception] = [StorageUnavailable("unavailable"), StorageUnavailable("still unavailable")]
    monkeypatch.setattr(parts.objects, "put", await flaky(parts.objects.put, failures))
    async with parts.working():
        await until_ended(database, job.job_id)
    assert not failures
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["succeeded"], row["failing_since"]) == ("SETTLED", 1, None)


async def test_a_step_that_breaks_is_tried_again_and_sends_no_second_create(
    database: Database,
    parts: Parts,
    job: PlannedJob,
    plugin: InProcessPlugin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An internal error between the answer to a create and its record: it is logged, the row is not left
    leased, and at a non-idempotent plugin no create that may have been executed is sent again."""
    with log_lines() as lines:
        monkeypatch.setattr(sub_jobs, "apply", failing_starts([RuntimeError("a fault")]))
        async with parts.working():
            await until_ended(database, job.job_id)
    assert len(plugin.creates) == 1
    (failed,) = [line for line in lines() if line["event"] == "task.failed"]
    assert (failed["kind"], failed["subject"]) == ("sub_job", str(job.sub_job_id))
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["unknown"], row["lease"]) == ("QUARANTINED", 1, None)


@pytest.mark.nightly
async def test_a_step_that_breaks_every_time_waits_longer_each_time(
    database: Database, parts: Parts, job: PlannedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sub-job that an internal error stops every time costs little: its pauses grow."""
    pauses: list[float] = []
    real = sub_jobs.apply

    async def noted(connection: Connection, transitions: Any) -> Any:
        pauses.extend(each.delay for each in transitions if isinstance(each, Postponement))
        return await real(connection, transitions)

    async def broken(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(sub_jobs, "apply", noted)
    monkeypatch.setattr(parts.executor, "_track", broken)
    async with parts.working():
        await until_stage(database, job.sub_job_id, "TRACKING")
        while len(pauses) < 4:
            seen = len(pauses)
            await until(lambda: len(pauses) > seen)  # noqa: B023 - it is awaited in this round
            async with database.connection() as connection:
                await connection.execute("update sub_job set due_at = now() where lease is null")
                await sub_jobs.notify_due(connection, "sub_job")
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses))
    assert pauses[3] > 2 * pauses[0]


# --- claims whose answers are lost ---------------------------------------------------------------------


async def lose_answers(
    monkeypatch: pytest.MonkeyPatch, where: Any, function: str, losses: int = 1
) -> list[Any]:
    """Lose the next ``losses`` answers of a committed claim. Returns the rows that these claimed."""
    real, lost = getattr(where, function), list[Any]()

    async def call(*args: Any, **options: Any) -> Any:
        answer = await real(*args, **options)
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
    token, infers that nothing was sent, and starts it, at a non-idempotent plugin too."""
    lost = await lose_answers(monkeypatch, parts.store, "claim_sub_jobs")
    async with parts.working():
        await until_ended(database, job.job_id)
    assert [[each.sub_job_id for each in answer] for answer in lost] == [[job.sub_job_id]]
    assert len(plugin.creates) == 1
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["succeeded"], row["attempts"]) == (1, 1)


async def test_a_lost_claim_keeps_a_create_of_unknown_outcome(
    database: Database,
    parts: Parts,
    job: PlannedJob,
    plugin: InProcessPlugin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another worker has marked the sub-job, and may have sent its create, before it ended. The claim that
    takes it over loses its answer: this does not concern the first create, which is not repeated."""
    await claim(database)
    await void_leases(database)
    lost = await lose_answers(monkeypatch, parts.store, "claim_sub_jobs")
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
    lost = await lose_answers(monkeypatch, parts.store, "claim_jobs")
    async with parts.working():
        await until_ended(database, job.job_id)
    assert len(lost) == 1


# --- the end of a worker -------------------------------------------------------------------------------


async def test_a_worker_that_is_stopped_during_a_create_still_records_it(
    database: Database, parts: Parts, job: PlannedJob, plugin: InProcessPlugin
) -> None:
    """The id is recorded before the lease is given back, and the row is due for the next worker at once. A
    claim that was active at the stop may still be processed."""
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
    """A call that lasts longer than the grace period: the lease is given back, not left to expire, and the
    next worker claims the row at once. A create that was sent is of unknown outcome."""
    parts = worker_parts(database, tmp_path, plugin, grace=0.0)
    plugin.before_create = asyncio.Event()
    async with parts.working():
        await until(lambda: plugin.creates)
    assert (await sub_job_row(database, job.sub_job_id))["lease"] is None
    (due,) = await claim(database)
    assert (due.stage, due.was) == (Stage.STARTING, Stage.STARTING)


async def test_a_stopped_worker_leaves_an_unsent_create_to_the_next_one(
    database: Database, tmp_path: Path, plugin: InProcessPlugin, job: PlannedJob
) -> None:
    """Marked, and provably not sent: the next worker sends it, once, at a non-idempotent plugin too."""
    marked = asyncio.Event()

    async def hold(checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.START_MARKED:
            marked.set()
            await asyncio.Event().wait()

    first = worker_parts(database, tmp_path, plugin, reached=hold, grace=0.0)
    async with first.working():
        await marked.wait()
    assert plugin.creates == []
    on_checkpoint.set(None)
    second = worker_parts(database, tmp_path, plugin)
    async with second.working():
        await until_ended(database, job.job_id)
    assert len(plugin.creates) == 1
    assert (await sub_job_row(database, job.sub_job_id))["succeeded"] == 1


async def test_a_worker_that_is_stopped_sends_no_create_any_more(
    database: Database, tmp_path: Path, plugin: InProcessPlugin
) -> None:
    """One of two creates waits for the bytes that the other one holds, and the worker is stopped first: the
    other one is recorded, and this one is due for the next worker, not sent."""
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


async def test_a_stopped_worker_gives_back_the_rows_of_a_lost_claim(
    database: Database,
    tmp_path: Path,
    plugin: InProcessPlugin,
    job: PlannedJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last claim before the stop was committed and its answer was lost: the next worker starts the
    sub-job at once, since nothing was sent."""
    first = worker_parts(database, tmp_path, plugin, grace=0.0)
    real = first.store.claim_sub_jobs

    async def lost(*args: Any, **options: Any) -> Any:
        if answer := await real(*args, **options):
            first.stopping.set()
            raise StoreUnavailable("the session was cut before the answer")
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(first.store, "claim_sub_jobs", lost)
        async with first.working():
            await first.stopping.wait()
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["stage"], row["lease"]) == ("ADMITTED", None)
    second = worker_parts(database, tmp_path, plugin)
    async with second.working():
        await until_ended(database, job.job_id)
    assert len(plugin.creates) == 1


# --- the worker's loop ---------------------------------------------------------------------------------


async def test_a_read_starts_while_the_worker_waits_for_a_plugin(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """A read is planned into a lane whose write is being created at a plugin that does not answer: the read
    is started concurrently."""
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


async def test_what_a_claim_had_no_room_for_is_claimed_when_a_row_is_freed(
    database: Database, tmp_path: Path, plugin: InProcessPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: the next poll would come after the deadline of this test."""
    monkeypatch.setattr(worker, "LOOK_EVERY", 1000.0)
    parts = worker_parts(database, tmp_path, plugin, limits=DispatchLimits(rows=1))
    async with database.transaction() as connection:
        job = await planned_job(connection, "a", "b", "c")
    async with parts.working():
        await until_ended(database, job.job_id)
    assert len(plugin.creates) == 3


async def test_a_row_whose_worker_is_gone_is_claimed_by_another_one(
    database: Database, parts: Parts, job: PlannedJob, plugin: InProcessPlugin
) -> None:
    """A tracked sub-job under a void lease is polled by the next worker that claims it, and is not created
    again."""
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
    """Of two leased rows the one that the worker works on is renewed. The lease of the other one ends."""
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
    """A worker finds at a renewal that another one has claimed its row: it stops, and its slot is free."""
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
    """An administrator cancels two renewals: the worker logs it, and continues its work."""
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


# --- quarantine ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends_by", ["status", "time"])
async def test_a_write_that_may_still_run_keeps_the_next_one_back(
    database: Database, tmp_path: Path, plugin: InProcessPlugin, ends_by: str
) -> None:
    """A write times out and its plugin does not accept the DELETE: the next write of the lane is not admitted
    until the plugin's status is terminal, or the quarantine ends. Then it is admitted at once."""
    plugin.polled, plugin.cancelled = [Polled(Status.RUNNING)], Refused("405")
    settings = Settings(sub_job_timeout=0.0, unknown_write_quarantine=3600.0)
    parts = worker_parts(database, tmp_path, plugin, settings=settings)

    async def cannot(_address: Any) -> Refused:
        return Refused("405")

    plugin.cancel = cannot  # type: ignore[method-assign]
    async with database.transaction() as connection:
        first, second = await planned_job(connection), await planned_job(connection)
    with log_lines() as lines:
        async with parts.working():
            await until_stage(database, first.sub_job_id, "QUARANTINED")
            calls = len(plugin.calls)
            await until(lambda: len(plugin.calls) > calls)  # polled once more, and it still runs
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
        parts.write.news.digest.write()
    quarantines = [line for line in lines() if line["event"] in ("lane.quarantined", "lane.reopened")]
    lane = str(first.lane_ids[0])  # the second write times out as well, maybe before the quarantine is logged
    assert [(line["event"], line["lane_id"]) for line in quarantines] == [
        ("lane.quarantined", lane),
        ("lane.reopened", lane),
    ]
    assert (await sub_job_row(database, first.sub_job_id))["unknown"] == 1


async def test_a_create_of_unknown_outcome_keeps_its_lane_and_no_other(
    database: Database, parts: Parts, plugin: InProcessPlugin
) -> None:
    """Without a producer's job id only time ends the quarantine. Reads of the lane, and writes of other
    lanes, continue."""
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
