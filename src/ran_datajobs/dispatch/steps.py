# SPDX-License-Identifier: Apache-2.0
"""The durable steps of lanes and sub-jobs, gathered into one transaction per batch.

``None`` or ``False`` as an answer says that the lane was lost: stop, look again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec import Struct

from ran_datajobs.dispatch.announce import Announcer
from ran_datajobs.dispatch.batch import Batched
from ran_datajobs.dispatch.tasks import Task, TaskKind, enqueue, enqueue_lanes
from ran_datajobs.store import lanes, parts
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.lanes import ClaimedLane, Closed, Held, HeldElsewhere, Look, Settlement, Waiting
from ran_datajobs.store.parts import Part


class Settling(Struct, frozen=True):
    """A settlement and the result objects that go with it (already written)."""

    settlement: Settlement
    parts: tuple[Part, ...]


class Taken(Struct, frozen=True):
    """A lane that the caller holds now, and what there is to do in it."""

    lane: ClaimedLane
    look: Look


class Release(Struct, frozen=True):
    """A lane to give back, what its sub-jobs wait for, and when somebody should look again (seconds)."""

    lane_id: int
    epoch: int
    waiting: tuple[Waiting, ...]
    again_in: float | None


class LaneSteps:
    """Every write of a lane's turn. Safe to call from many turns at once; each call joins a batch."""

    def __init__(
        self,
        database: Database,
        worker_id: UUID,
        announcer: Announcer,
        *,
        aging: float,
        read_slots: int,
    ) -> None:
        """``aging``: seconds of waiting that raise a sub-job's priority by one. ``read_slots``: reads beside
        the one write of a lane, where its plugin registered no number."""
        self._database = database
        self._worker_id = worker_id
        self._announcer = announcer
        self._aging = aging
        self._read_slots = read_slots
        self._attended: dict[int, int] = {}  # lane → epoch of those that this process works in
        self.claim: Batched[tuple[int, int], Taken | HeldElsewhere | None] = Batched(
            self._claim, unheard=self._leave_unheard
        )
        self.look: Batched[tuple[int, int, int], Look | None] = Batched(self._look)
        self.starting: Batched[Held, bytes | None] = Batched(self._starting)
        self.started: Batched[tuple[Held, str], bool] = Batched(self._started)
        self.not_arrived: Batched[Waiting, bool] = Batched(self._not_arrived)
        self.collecting: Batched[tuple[Held, str], bool] = Batched(self._collecting)
        self.cancelling: Batched[Held, bool] = Batched(self._cancelling)
        self.settle: Batched[Settling, bool] = Batched(self._settle)
        self.release: Batched[Release, bool] = Batched(self._release)
        self.poke_holder: Batched[int, None] = Batched(self._poke_holders)
        self.reopen: Batched[tuple[int, int, UUID], bool] = Batched(self._reopen)

    def leave(self, lane: ClaimedLane) -> None:
        """Nobody in this process works in ``lane`` any more: if it is still held, it can be taken again."""
        if self._attended.get(lane.lane_id) == lane.epoch:
            del self._attended[lane.lane_id]

    def _leave_unheard(self, answer: Taken | HeldElsewhere | None) -> None:
        """Nobody works in a lane that was taken for a turn that is over: the next task may take it."""
        if isinstance(answer, Taken):
            self.leave(answer.lane)

    async def body_of(self, sub_job_id: UUID) -> bytes | None:
        """The stored operations of a sub-job that is not settled."""
        async with self._database.connection() as connection:
            return await lanes.body_of(connection, sub_job_id)

    async def holds(self, held: Held) -> bool:
        """True while the lane is held under this epoch and the sub-job is not settled."""
        async with self._database.connection() as connection:
            return await lanes.holds(connection, held)

    async def _claim(self, wishes: Sequence[tuple[int, int]]) -> list[Taken | HeldElsewhere | None]:
        unique = dict(wishes)
        found = await self._database.retried(lambda c: self._take(c, unique))
        for taken in found.values():
            if isinstance(taken, Taken):
                self._attended[taken.lane.lane_id] = taken.lane.epoch
        answers: list[Taken | HeldElsewhere | None] = []
        for lane_id, task_id in wishes:
            answer = found.get(lane_id)
            if isinstance(answer, Taken) and unique[lane_id] != task_id:
                answer = HeldElsewhere(lane_id, self._worker_id, unique[lane_id])
            answers.append(answer)
        return answers

    async def _take(
        self, connection: Connection, wishes: Mapping[int, int]
    ) -> dict[int, Taken | HeldElsewhere]:
        found = await lanes.claim(
            connection,
            sorted(wishes.items()),
            self._worker_id,
            [lane_id for lane_id in wishes if lane_id in self._attended],
            read_slots=self._read_slots,
        )
        closed: dict[int, Closed] = {}
        taken: dict[int, ClaimedLane] = {}
        answers: dict[int, Taken | HeldElsewhere] = {}
        for lane_id, answer in found.items():
            if isinstance(answer, HeldElsewhere):
                answers[lane_id] = answer
            else:
                taken[lane_id], closed[lane_id] = answer
        slots = {lane_id: lane.read_slots for lane_id, lane in taken.items()}
        for lane_id, look in (await lanes.looks(connection, slots, closed, self._aging)).items():
            answers[lane_id] = Taken(taken[lane_id], look)
        return answers

    async def _poke_holders(self, lane_ids: Sequence[int]) -> list[None]:
        await self._database.retried(lambda c: lanes.poke_holders(c, lane_ids))
        return [None] * len(lane_ids)

    async def _look(self, held: Sequence[tuple[int, int, int]]) -> list[Look | None]:
        found = await self._database.retried(lambda c: lanes.look(c, held, self._aging))
        return [found.get(lane_id) for lane_id, _, _ in held]

    async def _starting(self, held: Sequence[Held]) -> list[bytes | None]:
        async def write(connection: Connection) -> dict[UUID, bytes]:
            first = await lanes.lock_jobs_not_started(connection, {h.job_id for h in held})
            bodies = await lanes.mark_starting(connection, held)
            begun = {h.job_id for h in held if h.sub_job_id in bodies}
            running = await lanes.jobs_running(connection, [job_id for job_id in first if job_id in begun])
            if running:
                await self._announcer.jobs_changed(connection, running)
            return bodies

        bodies = await self._database.retried(write)
        return [bodies.get(h.sub_job_id) for h in held]

    async def _started(self, started: Sequence[tuple[Held, str]]) -> list[bool]:
        done = await self._database.retried(lambda c: lanes.mark_started(c, started))
        return [held.sub_job_id in done for held, _ in started]

    async def _not_arrived(self, waiting: Sequence[Waiting]) -> list[bool]:
        done = await self._database.retried(lambda c: lanes.mark_not_arrived(c, waiting))
        return [w.held.sub_job_id in done for w in waiting]

    async def _collecting(self, collecting: Sequence[tuple[Held, str]]) -> list[bool]:
        done = await self._database.retried(lambda c: lanes.mark_collecting(c, collecting))
        return [held.sub_job_id in done for held, _ in collecting]

    async def _cancelling(self, held: Sequence[Held]) -> list[bool]:
        done = await self._database.retried(lambda c: lanes.mark_cancelling(c, held))
        return [h.sub_job_id in done for h in held]

    async def _settle(self, settling: Sequence[Settling]) -> list[bool]:
        async def write(connection: Connection) -> set[UUID]:
            job_ids = {s.settlement.held.job_id for s in settling}
            settled, done_jobs = await lanes.settle(connection, [s.settlement for s in settling])
            for job_id in sorted(job_ids):
                written = [
                    part
                    for s in settling
                    if s.settlement.held.job_id == job_id and s.settlement.held.sub_job_id in settled
                    for part in s.parts
                ]
                await parts.record(connection, job_id, written)
            await self._announcer.sub_jobs_settled(connection, sorted(job_ids), sorted(settled))
            await enqueue(connection, [Task(TaskKind.FINISH, str(job_id)) for job_id in done_jobs])
            return settled

        settled = await self._database.retried(write)
        return [s.settlement.held.sub_job_id in settled for s in settling]

    async def _reopen(self, ended: Sequence[tuple[int, int, UUID]]) -> list[bool]:
        done = await self._database.retried(lambda c: lanes.reopen(c, ended))
        return [lane_id in done for lane_id, _, _ in ended]

    async def _release(self, releases: Sequence[Release]) -> list[bool]:
        async def write(connection: Connection) -> set[int]:
            waiting = [w for r in releases for w in r.waiting]
            if waiting:
                await lanes.mark_waiting(connection, waiting)
            given = await lanes.release(connection, sorted((r.lane_id, r.epoch) for r in releases))
            again = {r.lane_id: r.again_in for r in releases if r.lane_id in given and r.again_in is not None}
            await enqueue_lanes(connection, again)
            return given

        given = await self._database.retried(write)
        return [r.lane_id in given for r in releases]
