# SPDX-License-Identifier: Apache-2.0
"""The store of dispatch in PostgreSQL: one method per transaction, over the functions of the tables.

Every transaction takes its locks in one order: jobs, lanes, sub-jobs, and last the shards of the outbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeVar
from uuid import UUID

import asyncpg

from ran_datajobs.errors import Fenced
from ran_datajobs.model import OperationCounts, Stage, Status
from ran_datajobs.store import cancels, jobs, parts, planning, sub_jobs
from ran_datajobs.store.cancels import LeasedCancel
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.dispatch import (
    CancelTold,
    Ended,
    FinishFacts,
    PlannedJob,
    QuarantineOver,
    Started,
    Transition,
    Written,
)
from ran_datajobs.store.listen import DUE_CHANNEL, SUB_JOB_CHANNEL, follow
from ran_datajobs.store.parts import Arrived, Part
from ran_datajobs.store.planning import JobRoom, LeasedJob
from ran_datajobs.store.sub_jobs import (
    JOB,
    ONE_WRITE_PER_LANE,
    SUB_JOB,
    Admission,
    Collecting,
    Leased,
    LeasedSubJob,
    Postponement,
    Room,
)
from ran_datajobs.telemetry import Event, Logger

_T = TypeVar("_T")


class Announces(Protocol):
    """Writes messages on jobs and messages with results, in the caller's transaction."""

    async def jobs_changed(self, connection: Connection, job_ids: Sequence[UUID]) -> None:
        """Write a message with the current status of each of these jobs."""

    async def sub_jobs_settled(
        self, connection: Connection, job_ids: Sequence[UUID], sub_jobs: Sequence[UUID]
    ) -> None:
        """Put the results of settled sub-jobs into the outbox."""

    async def job_ended(self, connection: Connection, job_id: UUID) -> None:
        """Write the terminal status, and the end of the delivery behind all results."""


class PostgresDispatch:
    """The :class:`~ran_datajobs.store.dispatch.DispatchStore` of one worker."""

    def __init__(
        self, database: Database, worker_id: UUID, announcer: Announces, admission: Admission, log: Logger
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._announcer = announcer
        self._admission = admission
        self._log = log

    # --- the queue -----------------------------------------------------------------------------------

    async def claim_sub_jobs(self, room: Room, token: UUID, *, void: bool) -> list[LeasedSubJob]:
        async with self._database.connection() as connection:
            return await sub_jobs.claim(connection, room, token, self._worker_id, void=void)

    async def claim_jobs(self, room: JobRoom, token: UUID) -> list[LeasedJob]:
        async with self._database.connection() as connection:
            return await planning.claim(connection, room, token, self._worker_id)

    async def leased_under(self, token: UUID) -> tuple[list[LeasedSubJob], list[LeasedJob]]:
        async with self._database.connection() as connection:
            found = await sub_jobs.leased_under(connection, token)
            return found, await planning.leased_under(connection, token)

    async def renew(self, sub_jobs_: Mapping[UUID, UUID], jobs_: Mapping[UUID, UUID]) -> set[UUID]:
        kept: set[UUID] = set()
        async with self._database.connection() as connection:
            if sub_jobs_:
                kept = await sub_jobs.renew(connection, sub_jobs_)
            if jobs_:
                await planning.renew(connection, jobs_)
        return kept

    async def give_back(
        self,
        sub_jobs_: Mapping[UUID, UUID],
        unsent: Collection[UUID],
        jobs_: Mapping[UUID, UUID],
        unanswered: Collection[UUID],
    ) -> None:
        leases, of_jobs, back = dict(sub_jobs_), dict(jobs_), set(unsent)
        async with self._database.transaction() as connection:
            for token in unanswered:
                for each in await sub_jobs.leased_under(connection, token):
                    if sub_jobs_.get(each.sub_job_id) == each.lease:
                        continue  # the caller works on it, and states itself whether it was sent
                    leases[each.sub_job_id] = each.lease
                    if each.stage is Stage.STARTING and each.was is Stage.ADMITTED:
                        back.add(each.sub_job_id)
                of_jobs |= {j.job_id: j.lease for j in await planning.leased_under(connection, token)}
            await planning.give_back(connection, of_jobs)
            await sub_jobs.give_back(connection, leases, back)
            await sub_jobs.notify_due(connection, SUB_JOB)
            await sub_jobs.notify_due(connection, JOB)

    async def with_attention(self, sub_job_ids: Collection[UUID]) -> list[UUID]:
        async with self._database.connection() as connection:
            return await sub_jobs.with_attention(connection, list(sub_job_ids))

    async def follow(self, due: Callable[[str | None], None], changed: Callable[[str | None], None]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._database, DUE_CHANNEL, due))
            group.create_task(follow(self._database, SUB_JOB_CHANNEL, changed))

    async def end_silent_sessions(self) -> None:
        await self._database.end_sessions_of_silent_workers()

    # --- sub-jobs ------------------------------------------------------------------------------------

    async def write(self, transitions: Sequence[Transition]) -> Written:
        try:
            return await self._committed(transitions)
        except asyncpg.PostgresError:
            alone = [await self._alone(transition) for transition in transitions]
            return Written(
                [attention for each in alone for attention in each.attention],
                [due for each in alone for due in each.due],
            )

    async def _alone(self, transition: Transition) -> Written:
        try:
            return await self._committed([transition])
        except asyncpg.PostgresError as error:
            self._log.error(
                Event.TRANSITION_REFUSED, sub_job_id=str(transition.leased.sub_job_id), cause=str(error)
            )
            return Written([None], [])

    async def _committed(self, transitions: Sequence[Transition]) -> Written:
        done, due = await self._admitting(lambda c, alone: self._write(c, transitions, each_lane_alone=alone))
        return Written([done.get(transition.leased.sub_job_id) for transition in transitions], due)

    async def begun(self, job_ids: Sequence[UUID]) -> None:
        async def write(connection: Connection) -> None:
            await sub_jobs.bump_jobs(connection, job_ids)
            if running := await sub_jobs.jobs_running(connection, job_ids):
                await self._announcer.jobs_changed(connection, running)

        await self._database.run_transaction(write)

    async def wait_for_objects(self, leased: Leased, cause: str) -> None:
        await self._database.run_transaction(
            lambda c: sub_jobs.wait_for_objects(c, [leased.sub_job_id], cause, [leased.lease])
        )

    async def is_leased(self, leased: Leased) -> bool:
        async with self._database.connection() as connection:
            return await sub_jobs.is_leased(connection, leased)

    async def body_of(self, sub_job_id: UUID) -> bytes | None:
        async with self._database.connection() as connection:
            return await sub_jobs.body_of(connection, sub_job_id)

    async def arrived(self, sub_job_id: UUID, job_id: UUID, total: int | None) -> Arrived:
        async with self._database.connection() as connection:
            return await parts.arrived(connection, job_id, str(sub_job_id), total)

    async def arrived_outcomes(self, sub_job_id: UUID, job_id: UUID) -> list[bytes]:
        async with self._database.connection() as connection:
            return list(await parts.arrived_outcomes(connection, job_id, str(sub_job_id)))

    async def _admitting(self, write: Callable[[Connection, bool], Awaitable[_T]]) -> _T:
        """Run ``write``, a transaction that passes its second argument to :meth:`_admit`; return its answer.

        When the database refuses a second active write of a lane, the transaction is repeated with each lane
        admitted alone: only that lane admits nothing.
        """
        try:
            return await self._database.run_transaction(lambda c: write(c, False))
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != ONE_WRITE_PER_LANE:
                raise
        return await self._database.run_transaction(lambda c: write(c, True))

    async def _write(
        self, connection: Connection, transitions: Sequence[Transition], *, each_lane_alone: bool
    ) -> tuple[dict[UUID, bool], list[tuple[str, float]]]:
        """Returns (attention of each sub-job that was written, what becomes due and in how many seconds)."""
        started = _only(Started, transitions)
        cancelled = _only(CancelTold, transitions)
        postponed = _only(Postponement, transitions)
        collecting = _only(Collecting, transitions)
        ended = _only(Ended, transitions)
        over = _only(QuarantineOver, transitions)
        versions: dict[UUID, int] = {}
        changed = (
            [each.leased for each in started]
            + [each.leased for each in cancelled]
            + [e.leased for e in ended]
        )
        if changed:
            versions = await sub_jobs.bump_jobs(connection, {each.job_id for each in changed})
        lanes = {each.leased.lane_id for each in ended} | {each.leased.lane_id for each in over}
        if lanes:
            await sub_jobs.lock_lanes(connection, lanes)
        not_locked = [p.leased.sub_job_id for p in postponed] + [c.leased.sub_job_id for c in collecting]
        if len(not_locked) > 1:
            await sub_jobs.lock_sub_jobs(connection, not_locked)
        done: dict[UUID, bool] = {}
        due: list[tuple[str, float]] = []
        running: list[UUID] = []
        if started:
            marked, running = await sub_jobs.mark_started(
                connection, [(each.leased, each.data_producer_job_id) for each in started], versions
            )
            done |= marked
        if cancelled:
            done |= await sub_jobs.mark_cancelling(connection, [each.leased for each in cancelled], versions)
        if postponed:
            done |= dict.fromkeys(await sub_jobs.postpone(connection, postponed), False)
            due += [(SUB_JOB, each.delay) for each in postponed]
        if collecting:
            done |= dict.fromkeys(await sub_jobs.mark_collecting(connection, collecting), False)
            due += [(SUB_JOB, 0.0), *((SUB_JOB, each.delay) for each in collecting)]
        settled: set[UUID] = set()
        if ended:
            settled, finished = await self._settle(connection, ended, versions)
            done |= dict.fromkeys(settled, False)
            if finished:
                due.append((JOB, 0.0))
        if over:
            done |= dict.fromkeys(
                await sub_jobs.end_quarantine(connection, [each.leased for each in over]), False
            )
        if lanes and await self._admit(connection, lanes, each_lane_alone=each_lane_alone):
            due.append((SUB_JOB, 0.0))
        if running:
            await self._announcer.jobs_changed(connection, running)
        if settled:
            job_ids = {each.leased.job_id for each in ended if each.leased.sub_job_id in settled}
            await self._announcer.sub_jobs_settled(connection, sorted(job_ids), sorted(settled))
        return done, due

    async def _settle(
        self, connection: Connection, ended: Sequence[Ended], versions: dict[UUID, int]
    ) -> tuple[set[UUID], list[UUID]]:
        settled, finished = await sub_jobs.settle(connection, [each.settlement for each in ended], versions)
        written: dict[UUID, list[Part]] = {}
        for each in ended:
            if each.leased.sub_job_id in settled:
                written.setdefault(each.leased.job_id, []).extend(each.parts)
        for job_id in sorted(written):
            await parts.record(connection, job_id, written[job_id])
        if finished:
            await sub_jobs.notify_due(connection, JOB)
        return settled, finished

    async def _admit(
        self, connection: Connection, lanes: Collection[int], *, each_lane_alone: bool
    ) -> list[UUID]:
        """Admit sub-jobs to the free slots of these locked lanes, and notify the workers.

        ``each_lane_alone``: a lane in which the database refuses a second write is logged and skipped.
        """
        if not each_lane_alone:
            admitted = await sub_jobs.admit(connection, lanes, self._admission)
        else:
            admitted = []
            for lane_id in sorted(lanes):
                try:
                    async with connection.transaction():
                        admitted += await sub_jobs.admit(connection, [lane_id], self._admission)
                except asyncpg.UniqueViolationError as error:
                    self._log.error(Event.LANE_ADMISSION_REFUSED, lane_id=lane_id, cause=str(error))
        if admitted:
            await sub_jobs.notify_due(connection, SUB_JOB)
        return admitted

    # --- the DELETE of a whole job -------------------------------------------------------------------

    async def claim_cancels(self, token: UUID) -> list[LeasedCancel]:
        async with self._database.connection() as connection:
            return await cancels.claim(connection, token, self._worker_id)

    async def renew_cancels(self, leased: Sequence[LeasedCancel]) -> None:
        async with self._database.connection() as connection:
            await cancels.renew(connection, leased)

    async def postpone_cancel(self, leased: LeasedCancel, delay: float, *, failed: bool) -> None:
        await self._database.run_transaction(lambda c: cancels.postpone(c, leased, delay, failed=failed))

    async def end_cancel(self, leased: LeasedCancel, *, refused: bool) -> None:
        await self._database.run_transaction(lambda c: cancels.end(c, leased, refused=refused))

    # --- the steps of a job --------------------------------------------------------------------------

    async def job_is_leased(self, job: LeasedJob) -> bool:
        async with self._database.connection() as connection:
            return await planning.is_leased(connection, job)

    async def record_plan(self, job: LeasedJob, plan: PlannedJob) -> None:
        await self._admitting(lambda c, alone: self._record_plan(c, job, plan, each_lane_alone=alone))

    async def _record_plan(
        self, connection: Connection, job: LeasedJob, plan: PlannedJob, *, each_lane_alone: bool
    ) -> None:
        row = await planning.lock_job(connection, job.job_id)
        if row is None or row["planned"] or row["lease"] != job.lease:
            raise Fenced(f"job {job.job_id} was claimed by another worker")
        blocked = row["has_after"] and await planning.still_blocked(connection, job.job_id)
        await planning.mark_planned(
            connection,
            job.job_id,
            sub_jobs=len(plan.sub_jobs),
            unmatched=plan.unmatched,
            failed=plan.failed,
            split_reads=plan.split_reads,
            blocked=blocked,
        )
        if plan.parts:
            await parts.record(connection, job.job_id, plan.parts)
        await planning.commit_lazily(connection)
        if not plan.sub_jobs:
            await sub_jobs.notify_due(connection, JOB)
            return
        lanes = await sub_jobs.insert(connection, job.job_id, plan.sub_jobs)
        if row["cancel_requested"]:
            await sub_jobs.notify_due(connection, SUB_JOB)
        elif not blocked:
            await sub_jobs.lock_lanes(connection, lanes)
            await self._admit(connection, lanes, each_lane_alone=each_lane_alone)

    async def finish_facts(self, job_id: UUID) -> FinishFacts | None:
        async with self._database.connection() as connection:
            job = await jobs.find(connection, job_id, None)
            if job is None:
                return None
            listed = await parts.listing(connection, job_id)
            return FinishFacts(job, listed, *await planning.finish_facts(connection, job_id))

    async def finish(
        self, job: LeasedJob, status: Status, reason: str | None, counts: OperationCounts
    ) -> bool:
        return await self._admitting(
            lambda c, alone: self._finish(c, job, status, reason, counts, each_lane_alone=alone)
        )

    async def _finish(
        self,
        connection: Connection,
        leased: LeasedJob,
        status: Status,
        reason: str | None,
        counts: OperationCounts,
        *,
        each_lane_alone: bool,
    ) -> bool:
        job_id = leased.job_id
        job = await planning.lock_job(connection, job_id)
        if job is None:
            return False
        if job["lease"] != leased.lease:
            raise Fenced(f"job {job_id} was claimed by another worker")
        if status is Status.CANCELLED and await planning.cancel_arrow(connection, job_id):
            await self._announcer.jobs_changed(connection, [job_id])
        if not await planning.finish(connection, job_id, status, reason, counts):
            await planning.step_over(connection, leased)
            return False
        if lanes := await planning.unblock_after(connection, job_id):
            await self._admit(connection, lanes, each_lane_alone=each_lane_alone)
        await self._announcer.job_ended(connection, job_id)
        return True

    async def step_over(self, job: LeasedJob) -> None:
        async with self._database.connection() as connection:
            await planning.step_over(connection, job)

    async def step_failed(self, job: LeasedJob, delay: float, objects_cause: str | None) -> None:
        async with self._database.connection() as connection:
            await planning.step_failed(connection, job, delay, objects_cause)


def _only(kind: type[_T], transitions: Sequence[Transition]) -> list[_T]:
    return [each for each in transitions if isinstance(each, kind)]
