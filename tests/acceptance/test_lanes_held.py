# SPDX-License-Identifier: Apache-2.0
"""Holding a lane, on a real database: what is asked for meanwhile is not lost, and nothing stays held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
import zstandard
from msgspec import Struct

from ran_datajobs.dispatch.circuit import Circuits
from ran_datajobs.dispatch.flight import Flights
from ran_datajobs.dispatch.steps import LaneSteps, Release, Taken
from ran_datajobs.dispatch.sub_jobs import DispatchLimits, SubJobRunner
from ran_datajobs.dispatch.tasks import Done, LaneTask
from ran_datajobs.dispatch.turn import LaneTurns
from ran_datajobs.errors import StorageUnavailable, StoreUnavailable
from ran_datajobs.job import JobType, OperationState, Response, Status
from ran_datajobs.results.addresses import Addresses
from ran_datajobs.results.announce import Announcer
from ran_datajobs.results.arrivals import pack_outcomes
from ran_datajobs.results.collection import ResultObjects
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import open_folder
from ran_datajobs.southbound.plugin import (
    CancelAnswer,
    CannotCancel,
    CreateAnswer,
    CreateCall,
    Created,
    JobAddress,
    NotArrived,
    OnTopic,
    Polled,
    Responses,
    ResultAnswer,
    StatusAnswer,
)
from ran_datajobs.store import arrivals, jobs, lanes, planning
from ran_datajobs.store.arrivals import ActiveRead, Arrival, Piece
from ran_datajobs.store.database import Database
from ran_datajobs.store.lanes import Held, HeldElsewhere, Waiting
from ran_datajobs.store.notices import LANE_CHANNEL, follow
from ran_datajobs.store.parts import Part
from ran_datajobs.store.planning import NewSubJob

OPERATIONS = b'[{"op":"merge","path":"/A=1","operationId":1,"value":{"a":1}}]'


class Lane(Struct, frozen=True):
    """A lane with one waiting write."""

    plugin_id: int
    lane_id: int
    job_id: UUID
    sub_job_id: UUID

    @property
    def task(self) -> LaneTask:
        return LaneTask(self.plugin_id, (self.lane_id,))


@pytest.fixture
async def lane(database: Database) -> Lane:
    async with database.transaction() as connection:
        plugin_id = await connection.fetchval(
            "insert into dmi_plugin (url) values ('http://p') returning plugin_id"
        )
        job = jobs.NewJob(
            uuid4(),
            "c",
            JobType.WRITE,
            None,
            None,
            jobs.BUCKET,
            "results",
            "",
            "",
            "BEST_EFFORT",
            4,
            (),
            None,
            1,
            b"",
        )
        await jobs.insert(connection, job, sees=None)
        await planning.mark_planned(
            connection, job.job_id, sub_jobs=1, unmatched=0, failed=0, fanned_out=False, blocked=False
        )
        sub_job = NewSubJob(uuid4(), plugin_id, "ems", zstandard.compress(OPERATIONS), 1)
        (lane_id,) = await planning.insert_sub_jobs(connection, job.job_id, [sub_job])
    return Lane(plugin_id, lane_id, job.job_id, sub_job.sub_job_id)


class Plugin:
    """Counts creates; answers as it is told, after what it is given to wait for."""

    def __init__(self) -> None:
        self.creates = 0
        self.answers: list[CreateAnswer] = [Created("x")]
        self.before: asyncio.Event | None = None
        self.asked: list[str] = []  # the calls after the create
        self.polled = Polled(Status.FINISHED)
        self.results: ResultAnswer = Responses(())
        self.before_poll: asyncio.Event | None = None

    async def create(self, _call: CreateCall) -> CreateAnswer:
        self.creates += 1
        if self.before is not None:
            await self.before.wait()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def status(self, _address: JobAddress) -> StatusAnswer:
        self.asked.append("status")
        polled = self.polled
        if self.before_poll is not None:
            await self.before_poll.wait()
        return polled

    async def result(self, _address: JobAddress) -> ResultAnswer:
        return self.results

    async def cancel(self, _address: JobAddress) -> CancelAnswer:
        self.asked.append("cancel")
        self.polled = Polled(Status.CANCELLED)
        return CannotCancel("405")


class Worker:
    """What one worker has to work in lanes."""

    def __init__(self, database: Database, folder: Any, plugin: Plugin) -> None:
        worker_id = uuid4()
        self.worker_id = worker_id
        announcer = Announcer(JobView(Addresses("http://x"), "FINSHED"))
        self.steps = LaneSteps(database, worker_id, announcer, aging=600, read_slots=4)
        self.stopping = asyncio.Event()
        circuits = Circuits(lambda _: plugin, Random(1))
        self.runner = SubJobRunner(
            self.steps,
            circuits.guarded,
            ResultObjects(database, open_folder(folder)),
            DispatchLimits(),
            Random(1),
            Flights(self.stopping),
            circuits,
        )
        self.turns = LaneTurns(self.steps, self.runner, worker_id, stopping=self.stopping)


@pytest.fixture
async def plugin() -> Plugin:
    return Plugin()


@pytest.fixture
async def worker(database: Database, tmp_path: Any, plugin: Plugin) -> AsyncIterator[Worker]:
    made = Worker(database, tmp_path, plugin)
    async with database.connection() as connection:
        await lanes.worker_alive(connection, made.worker_id, 600)
    yield made


async def status_of(database: Database, lane: Lane) -> tuple[str, str]:
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "select stage, status from sub_job where sub_job_id = $1", lane.sub_job_id
        )
    assert row is not None
    return row["stage"], row["status"]


async def test_a_push_that_comes_while_the_lane_is_given_back_is_not_lost(
    database: Database, worker: Worker, lane: Lane
) -> None:
    """The plugin pushes after the holder's last look and before it notes when it will poll next: the holder
    does not get rid of the lane, and the poll is due now and not when the holder thought."""
    taken = await worker.steps.claim((lane.lane_id, 1))
    assert isinstance(taken, Taken)
    assert [s.sub_job_id for s in taken.look.sub_jobs] == [lane.sub_job_id]
    claimed = taken.lane
    held = Held(lane.sub_job_id, lane.job_id, lane.lane_id, claimed.epoch)
    await worker.steps.starting(held)
    await worker.steps.started((held, "x"))
    look = await worker.steps.look((lane.lane_id, claimed.epoch, 4))
    assert look is not None
    async with database.transaction() as connection:
        assert await jobs.poll_now(connection, lane.sub_job_id, "x") == lane.lane_id
    waiting = Waiting(held, 3600.0, 9, look.sub_jobs[0].due_at)
    assert not await worker.steps.release(Release(lane.lane_id, claimed.epoch, (waiting,), 3600.0))
    again = await worker.steps.look((lane.lane_id, claimed.epoch, 4))
    assert again is not None
    assert again.wanted
    assert again.sub_jobs[0].due_in == 0
    waiting = Waiting(held, 3600.0, 9, again.sub_jobs[0].due_at)
    assert await worker.steps.release(Release(lane.lane_id, claimed.epoch, (waiting,), 3600.0))
    async with database.connection() as connection:
        due = await connection.fetchval("select extract(epoch from due_at - now()) from sub_job")
    assert due > 3000


async def test_a_lane_that_a_failed_turn_left_behind_is_taken_again(
    database: Database, worker: Worker, lane: Lane
) -> None:
    """While somebody in this worker is in the lane, a second task does not get it; once nobody is, it does,
    though the store still says that this worker holds it."""
    first = await worker.steps.claim((lane.lane_id, 1))
    assert isinstance(first, Taken)
    assert isinstance(await worker.steps.claim((lane.lane_id, 2)), HeldElsewhere)
    worker.steps.leave(first.lane)
    second = await worker.steps.claim((lane.lane_id, 2))
    assert isinstance(second, Taken)
    assert second.lane.epoch == first.lane.epoch + 1
    worker.steps.leave(first.lane)
    assert isinstance(await worker.steps.claim((lane.lane_id, 3)), HeldElsewhere)


async def test_a_lane_that_was_taken_for_a_cancelled_turn_is_taken_again(worker: Worker, lane: Lane) -> None:
    """A turn is cancelled while its lane is being taken: the store says that this worker holds it, nobody
    works in it, and the next task takes it."""
    claims = asyncio.create_task(worker.steps.claim((lane.lane_id, 1)))
    await asyncio.sleep(0)
    claims.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claims
    taken = await worker.steps.claim((lane.lane_id, 2))
    assert isinstance(taken, Taken)
    assert taken.lane.epoch == 2


async def test_a_turn_whose_step_breaks_gives_its_error_and_the_next_one_goes_on(
    database: Database, worker: Worker, lane: Lane, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error ends the turn, for its task to be repeated; nothing stays held, and nothing that
    may have been executed is sent again."""

    async def broken(*_args: Any) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(worker.steps, "started", broken)
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await worker.turns.take(lane.task, 1)
    assert plugin.creates == 1
    assert await worker.turns.take(lane.task, 1) == Done()
    assert plugin.creates == 1
    assert await status_of(database, lane) == ("SETTLED", "FAILED")
    async with database.connection() as connection:
        assert await connection.fetchval("select unknown from sub_job") == 1
        assert await connection.fetchval("select held_by from lane") is None


async def test_an_answer_that_cannot_be_recorded_is_kept_and_not_asked_for_again(
    database: Database, worker: Worker, lane: Lane, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is away just after a create of a plugin without idempotency was answered: the id is recorded
    when the store is back, and the create was sent once."""
    real, failures = worker.steps.started, [StoreUnavailable("away"), StoreUnavailable("still away")]

    async def flaky(started: tuple[Held, str]) -> bool:
        if failures:
            raise failures.pop()
        return await real(started)

    monkeypatch.setattr(worker.steps, "started", flaky)
    assert await worker.turns.take(lane.task, 1) == Done()
    assert not failures
    assert plugin.creates == 1
    stage, _ = await status_of(database, lane)
    assert stage == "SETTLED"


async def test_a_store_of_objects_that_is_away_is_not_the_plugins_trouble(
    database: Database, worker: Worker, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result cannot be written at first: it is fetched and written again, and nobody is given up."""
    objects = worker.runner._objects
    real, failures = objects.write, [StorageUnavailable("away")] * 2

    async def flaky(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return await real(*args, **kwargs)

    monkeypatch.setattr(objects, "write", flaky)
    assert await worker.turns.take(lane.task, 1) == Done()
    assert not failures
    assert (await status_of(database, lane))[0] == "SETTLED"
    async with database.connection() as connection:
        assert await connection.fetchval("select trouble_since from sub_job") is None


async def test_a_cancel_during_a_create_that_does_not_arrive_ends_it(
    database: Database, worker: Worker, lane: Lane, plugin: Plugin
) -> None:
    """The job is cancelled while its create is under way, which then turns out not to have arrived: the
    sub-job is not started again."""
    plugin.answers, plugin.before = [NotArrived("connection refused")], asyncio.Event()
    turn = asyncio.create_task(worker.turns.take(lane.task, 1))
    async with asyncio.timeout(10):
        while not plugin.creates:
            await asyncio.sleep(0)
    async with database.transaction() as connection:
        await jobs.lock(connection, lane.job_id, None)
        await jobs.cancel(connection, lane.job_id)
    plugin.before.set()
    async with asyncio.timeout(30):
        assert await turn == Done()
    assert plugin.creates == 1
    assert await status_of(database, lane) == ("SETTLED", "CANCELLED")


async def test_who_is_stopped_during_a_create_still_records_it(
    database: Database, worker: Worker, lane: Lane, plugin: Plugin
) -> None:
    """The worker is told to stop while a create is under way: its id is recorded before the lane is given
    back, nothing more is asked, and somebody is told to go on."""
    plugin.before = asyncio.Event()
    turn = asyncio.create_task(worker.turns.take(lane.task, 1))
    async with asyncio.timeout(10):
        while not plugin.creates:
            await asyncio.sleep(0)
    worker.stopping.set()
    plugin.before.set()
    async with asyncio.timeout(30):
        assert await turn == Done()
    assert await status_of(database, lane) == ("TRACKING", "RUNNING")
    async with database.connection() as connection:
        assert await connection.fetchval("select held_by from lane") is None
        tasks = await connection.fetchval("select count(*) from pgqueuer where entrypoint = 'lane'")
    assert tasks == 1


async def test_a_job_planned_into_a_held_lane_reaches_its_holder(
    database: Database, worker: Worker, lane: Lane, plugin: Plugin
) -> None:
    """Somebody plans a read into a lane while its holder waits for a plugin that does not answer: no task is
    left, since the holder is told, and looks."""
    plugin.before = asyncio.Event()
    turn = asyncio.create_task(worker.turns.take(lane.task, 1))
    async with asyncio.timeout(30):
        while not plugin.creates:
            await asyncio.sleep(0)
        told: list[str | None] = []
        heard = asyncio.Event()

        def hear(lane_id: str | None) -> None:
            told.append(lane_id)
            worker.turns.changed(lane_id)
            heard.set()

        following = asyncio.create_task(follow(database, LANE_CHANNEL, hear))
        await heard.wait()
        async with database.transaction() as connection:
            second = uuid4()
            new = NewSubJob(second, lane.plugin_id, "ems", zstandard.compress(OPERATIONS), 1)
            await connection.execute("update sub_job set position = 1")
            assert await planning.insert_sub_jobs(connection, lane.job_id, [new]) == []
            await connection.execute("update sub_job set type = 'READ' where sub_job_id = $1", second)
        while plugin.creates < 2:
            await asyncio.sleep(0)
        plugin.before.set()
        assert await turn == Done()
    following.cancel()
    assert told == [None, str(lane.lane_id)]


async def looked_again(worker: Worker, lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Poke the holder of the lane, and wait until it has looked."""
    looked, look = asyncio.Event(), worker.steps.look

    async def seen(wanted: Any) -> Any:
        answer = await look(wanted)
        looked.set()
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(worker.steps, "look", seen)
        worker.turns.changed(str(lane.lane_id))
        await looked.wait()
    await asyncio.sleep(0)


async def test_a_message_that_comes_while_the_holder_counts_messages_is_not_lost(
    database: Database, worker: Worker, lane: Lane, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only message of a read comes after its holder has counted none and before it notes how long it will
    wait for one: it does not wait."""
    worker.runner._limits = DispatchLimits(result_idle=3600)
    plugin.results = OnTopic("results")
    objects = worker.runner._objects
    count, counted = objects.arrived, list[int]()

    async def arrived(sub_job_id: UUID, job_id: UUID) -> int:
        counted.append(await count(sub_job_id, job_id))
        if len(counted) == 1:
            read = ActiveRead(sub_job_id, job_id, lane.lane_id, "results")
            part = Part(str(sub_job_id), 0, "key", 1, "digest", 1, 0)
            piece = Piece(part, pack_outcomes([Response(1, 0, "", state=OperationState.SUCCEEDED)]))
            async with database.transaction() as connection:
                assert await arrivals.record(connection, [Arrival(read, 0, None, (piece,), 1)])
            await looked_again(worker, lane, monkeypatch)
        return counted[-1]

    monkeypatch.setattr(objects, "arrived", arrived)
    async with database.connection() as connection:
        await connection.execute("update sub_job set type = 'READ'")
    async with asyncio.timeout(30):
        assert await worker.turns.take(lane.task, 1) == Done()
    assert counted == [0, 1]
    assert await status_of(database, lane) == ("SETTLED", "FINISHED")


async def test_a_cancel_that_comes_during_a_poll_is_sent_after_it(
    database: Database, worker: Worker, lane: Lane, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is cancelled while the plugin is asked for the status, and the holder looks meanwhile: what the
    poll says does not hide the cancel, which is sent next."""
    plugin.polled, plugin.before_poll = Polled(Status.RUNNING), asyncio.Event()
    turn = asyncio.create_task(worker.turns.take(lane.task, 1))
    async with asyncio.timeout(30):
        while not plugin.asked:
            await asyncio.sleep(0)
        async with database.transaction() as connection:
            await jobs.lock(connection, lane.job_id, None)
            await jobs.cancel(connection, lane.job_id)
        await looked_again(worker, lane, monkeypatch)
        plugin.before_poll.set()
        assert await turn == Done()
    assert plugin.asked[:2] == ["status", "cancel"]
    assert await status_of(database, lane) == ("SETTLED", "CANCELLED")


async def test_who_is_told_to_look_while_taking_a_lane_looks(
    database: Database, worker: Worker, lane: Lane, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is planned into a lane after it was taken in the store, and before the worker knows that: no task
    is left, so that the worker looks by itself, while its first sub-job is still being created."""
    plugin.before = asyncio.Event()
    claim = worker.steps.claim
    second = NewSubJob(uuid4(), lane.plugin_id, "ems", zstandard.compress(OPERATIONS), 1)

    async def claimed(wish: Any) -> Any:
        answer = await claim(wish)
        async with database.transaction() as connection:
            await connection.execute("update sub_job set position = 1")
            assert await planning.insert_sub_jobs(connection, lane.job_id, [second]) == []
            await connection.execute(
                "update sub_job set type = 'READ' where sub_job_id = $1", second.sub_job_id
            )
        worker.turns.changed(str(lane.lane_id))
        return answer

    monkeypatch.setattr(worker.steps, "claim", claimed)
    turn = asyncio.create_task(worker.turns.take(lane.task, 1))
    async with asyncio.timeout(30):
        while plugin.creates < 2:
            await asyncio.sleep(0)
        plugin.before.set()
        assert await turn == Done()


async def test_a_lane_of_a_task_is_taken_again_while_another_one_of_it_waits_for_its_plugin(
    database: Database, worker: Worker, lane: Lane, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task names two lanes; the store is away as the first one is taken, and the plugin does not answer in
    the second one: the first one does not wait for that."""
    async with database.transaction() as connection:
        other = NewSubJob(uuid4(), lane.plugin_id, "other", zstandard.compress(OPERATIONS), 1)
        await connection.execute("update sub_job set position = 1")
        (other_lane,) = await planning.insert_sub_jobs(connection, lane.job_id, [other])
    plugin.before = asyncio.Event()
    real, failures = worker.steps.claim, [StoreUnavailable("away")]

    async def flaky(wish: tuple[int, int]) -> Any:
        if wish[0] == lane.lane_id and failures:
            raise failures.pop()
        return await real(wish)

    monkeypatch.setattr(worker.steps, "claim", flaky)
    turns = asyncio.create_task(
        worker.turns.take(LaneTask(lane.plugin_id, (lane.lane_id, other_lane)), task_id=1)
    )
    async with asyncio.timeout(30):
        while plugin.creates < 2:
            await asyncio.sleep(0)
        assert not turns.done()
        plugin.before.set()
        assert await turns == Done()
    assert not failures
