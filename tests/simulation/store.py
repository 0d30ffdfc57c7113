# SPDX-License-Identifier: Apache-2.0
"""The store of one simulated worker: the twin behind a connection that is slow, unavailable, or loses an
answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeVar
from uuid import UUID

from ran_datajobs.model import OperationCounts, Status
from ran_datajobs.store.dispatch import JobRoom, LeasedJob, PlannedJob, Previewed, Transition
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.results import Arrived, Part
from ran_datajobs.store.sub_jobs import Leased, LeasedCancel, LeasedSubJob, Room
from tests.simulation.twin import Twin

_T = TypeVar("_T")


class Connection(Protocol):
    """The connection between a worker and the store. Each method may take time and raise StoreUnavailable."""

    async def before(self, call: str) -> None:
        """The call is sent: if this raises, nothing of it is executed."""

    async def after(self, call: str) -> None:
        """The answer is sent: if this raises, the call is fully executed."""

    def hears(self) -> bool:
        """Whether a notification arrives."""

    def locked(self) -> bool:
        """Whether another transaction has locked a row now, so that a renewal skips it."""


class Sound:
    """A connection that always works, without delay."""

    async def before(self, call: str) -> None:
        """Never raises."""

    async def after(self, call: str) -> None:
        """Never raises."""

    def hears(self) -> bool:
        return True

    def locked(self) -> bool:
        return False


class TwinStore:
    """The :class:`~ran_datajobs.store.dispatch.DispatchStore` of one worker over the twin."""

    def __init__(self, twin: Twin, worker_id: UUID, connection: Connection | None = None) -> None:
        self._twin = twin
        self._worker_id = worker_id
        self._connection = connection or Sound()

    async def _do(self, call: str, work: Callable[[], _T]) -> _T:
        await self._connection.before(call)
        answer = work()
        await self._connection.after(call)
        return answer

    async def claim_sub_jobs(self, room: Room, token: UUID, *, void: bool) -> list[LeasedSubJob]:
        twin = self._twin
        return await self._do(
            "claim_sub_jobs", lambda: twin.claim_sub_jobs(room, token, self._worker_id, void=void)
        )

    async def claim_jobs(self, room: JobRoom, token: UUID) -> list[LeasedJob]:
        return await self._do("claim_jobs", lambda: self._twin.claim_jobs(room, token, self._worker_id))

    async def leased_under(self, token: UUID) -> tuple[list[LeasedSubJob], list[LeasedJob]]:
        return await self._do("leased_under", lambda: self._twin.leased_under(token))

    async def renew(self, sub_jobs: Mapping[UUID, UUID], jobs: Mapping[UUID, UUID]) -> set[UUID]:
        free = {each: lease for each, lease in sub_jobs.items() if not self._connection.locked()}
        return await self._do("renew", lambda: self._twin.renew(free, jobs))

    async def give_back(
        self,
        sub_jobs: Mapping[UUID, UUID],
        unsent: Collection[UUID],
        jobs: Mapping[UUID, UUID],
        unanswered: Collection[UUID],
    ) -> None:
        await self._do("give_back", lambda: self._twin.give_back(sub_jobs, unsent, jobs, unanswered))

    async def with_attention(self, sub_job_ids: Collection[UUID]) -> list[UUID]:
        return await self._do("with_attention", lambda: self._twin.with_attention(sub_job_ids))

    async def follow(self, due: Callable[[str | None], None], changed: Callable[[str | None], None]) -> None:
        def hear_due(kind: str) -> None:
            if self._connection.hears():
                due(kind)

        def hear_changed(sub_job_id: UUID) -> None:
            if self._connection.hears():
                changed(str(sub_job_id))

        pair = (hear_due, hear_changed)
        self._twin.listeners.append(pair)
        try:
            due(None)
            await asyncio.get_running_loop().create_future()
        finally:
            self._twin.listeners.remove(pair)

    async def end_silent_sessions(self) -> None:
        await self._do("end_silent_sessions", lambda: None)

    async def write(self, transitions: Sequence[Transition]) -> list[bool | None]:
        return await self._do("write", lambda: self._twin.write(transitions))

    async def begun(self, job_ids: Sequence[UUID]) -> None:
        await self._do("begun", lambda: self._twin.begun(job_ids))

    async def found_dialect(self, plugin_id: int, dialect: str) -> bool:
        return await self._do("found_dialect", lambda: self._twin.found_dialect(plugin_id, dialect))

    async def wait_for_objects(self, leased: Leased, cause: str) -> None:
        await self._do("wait_for_objects", lambda: self._twin.wait_for_objects(leased, cause))

    async def is_leased(self, leased: Leased) -> bool:
        rows = self._twin.sub_jobs
        return await self._do("is_leased", lambda: rows[leased.sub_job_id].lease == leased.lease)

    async def body_of(self, sub_job_id: UUID) -> bytes | None:
        return await self._do("body_of", lambda: self._twin.sub_jobs[sub_job_id].body)

    async def arrived(self, sub_job_id: UUID, job_id: UUID, total: int | None) -> Arrived:
        return await self._do("arrived", lambda: self._twin.arrived(sub_job_id, job_id, total))

    async def claim_cancels(self, token: UUID) -> list[LeasedCancel]:
        return await self._do("claim_cancels", lambda: self._twin.claim_cancels(token, self._worker_id))

    async def renew_cancels(self, leased: Sequence[LeasedCancel]) -> None:
        await self._do("renew_cancels", lambda: self._twin.renew_cancels(leased))

    async def postpone_cancel(self, leased: LeasedCancel, delay: float, *, failed: bool) -> None:
        await self._do("postpone_cancel", lambda: self._twin.postpone_cancel(leased, delay, failed=failed))

    async def end_cancel(self, leased: LeasedCancel, *, refused: bool) -> None:
        await self._do("end_cancel", lambda: self._twin.end_cancel(leased, refused=refused))

    async def job_is_leased(self, job: LeasedJob) -> bool:
        return await self._do("job_is_leased", lambda: self._twin.jobs[job.job_id].lease == job.lease)

    async def record_plan(self, job: LeasedJob, plan: PlannedJob) -> None:
        await self._do("record_plan", lambda: self._twin.record_plan(job, plan))

    async def finish_facts(self, job_id: UUID) -> tuple[JobRow, list[Part]] | None:
        return await self._do("finish_facts", lambda: self._twin.finish_facts(job_id))

    async def finish(
        self,
        job: LeasedJob,
        status: Status,
        reason: str | None,
        counts: OperationCounts,
        previewed: Previewed | None = None,
    ) -> float | None:
        return await self._do("finish", lambda: self._twin.finish(job, status, reason, counts))

    async def step_over(self, job: LeasedJob) -> None:
        await self._do("step_over", lambda: self._twin.step_over(job))

    async def step_failed(self, job: LeasedJob, delay: float, objects_cause: str | None) -> None:
        await self._do("step_failed", lambda: self._twin.step_failed(job, delay, objects_cause))
