# SPDX-License-Identifier: Apache-2.0
"""The durable steps of lanes and sub-jobs, gathered into one transaction per batch.

``None`` or ``False`` as an answer says that the lane was lost: stop, look again.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct

from ran_datajobs.dispatch.announce import Announcer
from ran_datajobs.dispatch.batch import Batched
from ran_datajobs.dispatch.tasks import Task, TaskKind, enqueue
from ran_datajobs.job import Status
from ran_datajobs.store import lanes, parts
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.lanes import ClaimedLane, Held, HeldElsewhere, Look, Settlement, Waiting
from ran_datajobs.store.parts import Part


class Settling(Struct, frozen=True):
    """A settlement and the result objects that go with it (already written)."""

    settlement: Settlement
    parts: tuple[Part, ...]


class Release(Struct, frozen=True):
    """A lane to give back, what its sub-jobs wait for, and when somebody should look again (seconds)."""

    lane_id: int
    epoch: int
    waiting: tuple[Waiting, ...]
    again_in: float | None


class LaneSteps:
    """Every write of a lane's turn. Safe to call from many turns at once; each call joins a batch."""

    def __init__(self, database: Database, worker_id: UUID, announcer: Announcer, *, aging: float) -> None:
        self._database = database
        self._worker_id = worker_id
        self._announcer = announcer
        self._aging = aging
        self._attended: dict[int, int] = {}  # lane → epoch of those that this process works in
        self.claim: Batched[tuple[int, int], ClaimedLane | HeldElsewhere | None] = Batched(self._claim)
        self.look: Batched[tuple[int, int, int], Look | None] = Batched(self._look)
        self.starting: Batched[Held, bytes | None] = Batched(self._starting)
        self.started: Batched[tuple[Held, str], bool] = Batched(self._started)
        self.not_arrived: Batched[Waiting, bool] = Batched(self._not_arrived)
        self.collecting: Batched[tuple[Held, str], bool] = Batched(self._collecting)
        self.cancelling: Batched[Held, bool] = Batched(self._cancelling)
        self.settle: Batched[Settling, bool] = Batched(self._settle)
        self.release: Batched[Release, bool] = Batched(self._release)
        self.reopen: Batched[tuple[int, int, UUID], bool] = Batched(self._reopen)

    def leave(self, lane: ClaimedLane) -> None:
        """Nobody in this process works in ``lane`` any more: if it is still held, it can be taken again."""
        if self._attended.get(lane.lane_id) == lane.epoch:
            del self._attended[lane.lane_id]

    async def body_of(self, sub_job_id: UUID) -> bytes | None:
        """The stored operations of a sub-job that is not settled."""
        async with self._database.connection() as connection:
            return await lanes.body_of(connection, sub_job_id)

    async def holds(self, held: Held) -> bool:
        """True while the lane is held under this epoch and the sub-job is not settled."""
        async with self._database.connection() as connection:
            return await lanes.holds(connection, held)

    async def _claim(self, wishes: Sequence[tuple[int, int]]) -> list[ClaimedLane | HeldElsewhere | None]:
        unique = dict(wishes)
        found = await self._database.retried(
            lambda c: lanes.claim(c, sorted(unique.items()), self._worker_id, list(self._attended))
        )
        for taken in found.values():
            if isinstance(taken, ClaimedLane):
                self._attended[taken.lane_id] = taken.epoch
        answers: list[ClaimedLane | HeldElsewhere | None] = []
        for lane_id, task_id in wishes:
            answer = found.get(lane_id)
            if isinstance(answer, ClaimedLane) and unique[lane_id] != task_id:
                answer = HeldElsewhere(lane_id, self._worker_id, unique[lane_id])
            answers.append(answer)
        return answers

    async def _look(self, held: Sequence[tuple[int, int, int]]) -> list[Look | None]:
        found = await self._database.retried(lambda c: lanes.look(c, held, self._aging))
        return [found.get(lane_id) for lane_id, _, _ in held]

    async def _starting(self, held: Sequence[Held]) -> list[bytes | None]:
        async def write(connection: Connection) -> dict[UUID, bytes]:
            jobs = await lanes.lock_jobs(connection, [h.job_id for h in held])
            bodies = await lanes.mark_starting(connection, held)
            first = [
                h.job_id for h in held if h.sub_job_id in bodies and jobs[h.job_id] is Status.NOT_STARTED
            ]
            if first:
                await self._announcer.jobs_changed(connection, await lanes.jobs_running(connection, first))
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
            job_ids = await lanes.lock_jobs(connection, [s.settlement.held.job_id for s in settling])
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
            await enqueue(
                connection,
                [
                    Task(TaskKind.LANE, str(r.lane_id), delay=r.again_in)
                    for r in releases
                    if r.lane_id in given and r.again_in is not None
                ],
            )
            return given

        given = await self._database.retried(write)
        return [r.lane_id in given for r in releases]
