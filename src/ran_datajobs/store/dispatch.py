# SPDX-License-Identifier: Apache-2.0
"""The rows that a worker leases: claim, renew, write. Each method is one transaction, or a read.

A call raises StoreUnavailable when the store is unavailable; a write may have been committed then. Every
write of a worker names the lease of the row, so that a repeated or late write changes no row that another
worker has claimed since. Every transaction takes its locks in one order: jobs, lanes, sub-jobs, and last the
shards of the outbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID, uuid5

import asyncpg
from msgspec import Struct
from msgspec.structs import astuple

from ran_datajobs.config import Settings
from ran_datajobs.errors import Fenced
from ran_datajobs.model import (
    EffectCounts,
    JobType,
    OperationCounts,
    PlannedSubJob,
    Reach,
    Stage,
    Status,
    Validation,
    Warnings,
)
from ran_datajobs.store import inventory, jobs, results
from ran_datajobs.store import sub_jobs as store
from ran_datajobs.store.database import Connection, Database, columns, read
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.listen import DUE_CHANNEL, SUB_JOB_CHANNEL, follow
from ran_datajobs.store.queries import named_queries
from ran_datajobs.store.results import Arrived, Part
from ran_datajobs.store.sub_jobs import (
    JOB,
    LEASE_SECONDS,
    ONE_WRITE_PER_LANE,
    SUB_JOB,
    CancelSent,
    Collecting,
    Ended,
    Leased,
    LeasedCancel,
    LeasedSubJob,
    PluginRoom,
    Postponement,
    QuarantineOver,
    Room,
    Started,
)
from ran_datajobs.telemetry import Logger

_SQL = named_queries("sub_jobs")
_JOBS = named_queries("jobs")
_CLAIM: Final = f"{_SQL['claim']}\n{_SQL['leased']}"
_LEASED_UNDER: Final = f"{_SQL['leased_under']}\n{_SQL['leased']}"

CANCELS_AT_ONCE: Final = 64
"""Maximum number of cancels of whole jobs that one claim leases."""

LARGE: Final = 256 * 1024
"""Minimum size in bytes of a stored request (zstd) whose plan counts as large."""


class JobRoom(Struct, frozen=True):
    """Limits of a claim: plans of small and of large requests, and finish steps."""

    small_plans: int
    large_plans: int
    finishes: int


class LeasedJob(Struct, frozen=True):
    """A job whose next step the caller has leased: its plan, or its finish once it is ``planned``.

    ``step_failures``: consecutive failures of this step. For a plan, ``body`` is the request (zstd), and
    ``verdicts`` are those of the policy executor, if it was asked before the job was accepted.
    """

    job_id: UUID
    lease: UUID
    planned: bool
    step_failures: int
    results_bucket: str
    body: bytes | None
    type: JobType
    verdicts: bytes | None = None
    cancel_requested: bool = False
    validation: Validation = Validation.OFF


Transition = Started | CancelSent | Postponement | Collecting | Ended | QuarantineOver
"""The transitions of a leased sub-job. A :class:`Postponement` and a :class:`Collecting` end the lease."""

_T = TypeVar("_T")


class PlannedJob(Struct, frozen=True):
    """The plan of a job. ``parts``: result objects of the operations that are in no sub-job. ``only_reads``:
    the sub-jobs are reads that the plan of a preview has made."""

    sub_jobs: list[PlannedSubJob]
    unmatched: int
    failed: int
    split_reads: bool
    parts: list[Part]
    not_started: int = 0
    warnings: Warnings | None = None
    only_reads: bool = False


class Previewed(Struct, frozen=True):
    """The result of a preview. ``planned``, ``parts``: result objects with its outcomes, which its plan has
    recorded, and which its finish step has written."""

    counts: OperationCounts
    effects: EffectCounts
    reach: Reach
    planned: list[Part]
    parts: list[Part]


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


@dataclass(eq=False)
class DispatchStore:
    """Reads and writes of one worker on the rows of jobs, sub-jobs and lanes."""

    database: Database
    worker_id: UUID
    announcer: Announces
    settings: Settings
    log: Logger

    # --- the queue -----------------------------------------------------------------------------------

    async def claim_sub_jobs(self, room: Room, token: UUID, *, void: bool) -> list[LeasedSubJob]:
        """Lease due sub-jobs within ``room``; an ADMITTED one becomes STARTING. ``void``: also those whose
        lease has expired.

        Sub-jobs that were ADMITTED get ``token``; the others get a second token, derived from it, so that
        :meth:`leased_under` distinguishes them.
        """
        rows = await self.database.fetch(
            _CLAIM,
            token,
            _token_of_others(token),
            self.worker_id,
            LEASE_SECONDS,
            void,
            room.rows,
            room.size,
            room.unsent,
            *astuple(room.other),
            list(room.plugins),
            *columns(room.plugins.values(), *PluginRoom.__struct_fields__),
        )
        return read(LeasedSubJob, rows)

    async def claim_jobs(self, room: JobRoom, token: UUID) -> list[LeasedJob]:
        """Lease due steps of jobs within ``room``, under ``token``."""
        rows = await self.database.fetch(
            _JOBS["claim_jobs"], *astuple(room), LARGE, token, self.worker_id, LEASE_SECONDS
        )
        return read(LeasedJob, rows)

    async def leased_under(self, token: UUID) -> tuple[list[LeasedSubJob], list[LeasedJob]]:
        """The rows leased under ``token`` by a claim whose answer was lost: nothing was sent for
        them since."""
        async with self.database.connection() as connection:
            return await _leased_under(connection, token)

    async def renew(self, sub_jobs: Mapping[UUID, UUID], jobs: Mapping[UUID, UUID]) -> set[UUID]:
        """Renew these leases (id → token). Returns the renewed sub-jobs; rows that another transaction has
        locked are skipped."""
        await self.database.fetch(_JOBS["renew_jobs"], list(jobs), list(jobs.values()), LEASE_SECONDS)
        rows = await self.database.fetch(
            _SQL["renew"], list(sub_jobs), list(sub_jobs.values()), LEASE_SECONDS
        )
        return {row["sub_job_id"] for row in rows}

    async def give_back(
        self,
        sub_jobs: Mapping[UUID, UUID],
        unsent: Collection[UUID],
        jobs: Mapping[UUID, UUID],
        unanswered: Collection[UUID],
    ) -> None:
        """End these leases (id → token), and those of claims under the ``unanswered`` tokens; the rows are
        due at once. ``unsent``: STARTING sub-jobs that were not sent; they become ADMITTED again."""
        leases, of_jobs, back = dict(sub_jobs), dict(jobs), set(unsent)
        async with self.database.transaction() as connection:
            for token in unanswered:
                found, found_jobs = await _leased_under(connection, token)
                for each in found:
                    if sub_jobs.get(each.sub_job_id) == each.lease:
                        continue  # the caller works on it, and states itself whether it was sent
                    leases[each.sub_job_id] = each.lease
                    if each.stage is Stage.STARTING and each.was is Stage.ADMITTED:
                        back.add(each.sub_job_id)
                of_jobs |= {job.job_id: job.lease for job in found_jobs}
            for job_id, lease in sorted(of_jobs.items()):
                await connection.execute(_JOBS["end_lease"], job_id, lease, 0.0)
            await store.lock_sub_jobs(connection, leases)
            await connection.execute(_SQL["give_back"], list(leases), list(leases.values()), list(back))
            await store.notify_due(connection, SUB_JOB)
            await store.notify_due(connection, JOB)

    async def with_attention(self, sub_job_ids: Collection[UUID]) -> list[UUID]:
        """Those of these leased sub-jobs that another process has changed."""
        rows = await self.database.fetch(_SQL["with_attention"], list(sub_job_ids))
        return [row["sub_job_id"] for row in rows]

    async def follow(self, due: Callable[[str | None], None], changed: Callable[[str | None], None]) -> None:
        """Until cancelled, call ``due`` with each kind (``sub_job``, ``job`` or ``cancel``) of which a row
        became due, and ``changed`` with the id of each leased sub-job that another process changed; with
        ``None`` when notifications may have been missed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self.database, DUE_CHANNEL, due))
            group.create_task(follow(self.database, SUB_JOB_CHANNEL, changed))

    async def end_silent_sessions(self) -> None:
        """Terminate the sessions of workers that have sent no statement for a while."""
        await self.database.end_sessions_of_silent_workers()

    # --- sub-jobs ------------------------------------------------------------------------------------

    async def write(self, transitions: Sequence[Transition]) -> list[bool | None]:
        """Write transitions of different sub-jobs, and admit others to the slots that become free, in one
        transaction. A transition that the database rejects is logged and left out.

        Returns for each whether another process changed the sub-job while it was leased; ``None`` if the
        lease was void and nothing was written.
        """
        try:
            done = await self._admitting(lambda c, alone: self._write(c, transitions, each_lane_alone=alone))
            return [done.get(each.leased.sub_job_id) for each in transitions]
        except asyncpg.PostgresError as error:
            if len(transitions) > 1:
                return [attention for each in transitions for attention in await self.write([each])]
            sub_job_id = str(transitions[0].leased.sub_job_id)
            self.log.error("sub_job.transition_refused", sub_job_id=sub_job_id, cause=str(error))
            return [None]

    async def _write(
        self, connection: Connection, transitions: Sequence[Transition], *, each_lane_alone: bool
    ) -> dict[UUID, bool]:
        """Returns the attention of each sub-job that was written."""
        of: dict[type[Struct], list[Any]] = {}
        for each in transitions:
            of.setdefault(type(each), []).append(each)
        started, ended = of.get(Started, []), of.pop(Ended, [])
        changed = {t.leased.job_id for t in (*started, *of.get(CancelSent, []), *ended)}
        lanes = {t.leased.lane_id for t in (*ended, *of.get(QuarantineOver, []))}
        others = [t.leased.sub_job_id for t in (*of.get(Postponement, []), *of.get(Collecting, []))]
        if changed:
            await store.bump_jobs(connection, changed)
        if lanes:
            await store.lock_lanes(connection, lanes)
        if len(others) > 1:
            await store.lock_sub_jobs(connection, others)
        done: dict[UUID, bool] = {}
        for same in of.values():
            done |= await store.apply(connection, same)
        begun = {t.leased.job_id for t in started if t.leased.sub_job_id in done}
        running = await store.jobs_running(connection, begun) if begun else []
        settled = await self._settle(connection, ended) if ended else set()
        done |= dict.fromkeys(settled, False)
        if lanes:
            await self._admit(connection, lanes, each_lane_alone=each_lane_alone)
        if running:
            await self.announcer.jobs_changed(connection, running)
        if settled:
            job_ids = {each.leased.job_id for each in ended if each.leased.sub_job_id in settled}
            await self.announcer.sub_jobs_settled(connection, sorted(job_ids), sorted(settled))
        return done

    async def _settle(self, connection: Connection, ended: Sequence[Ended]) -> set[UUID]:
        settled, is_last = await store.settle(connection, ended)
        written: dict[UUID, list[Part]] = {}
        for each in ended:
            if each.leased.sub_job_id in settled:
                written.setdefault(each.leased.job_id, []).extend(each.parts)
        for job_id in sorted(written):
            await results.record(connection, job_id, written[job_id])
        if is_last:
            await store.notify_due(connection, JOB)
        return settled

    async def _admitting(self, write: Callable[[Connection, bool], Awaitable[_T]]) -> _T:
        """Run ``write``, a transaction that passes its second argument to :meth:`_admit`; return its answer.

        When the database refuses a second active write of a lane, the transaction is repeated with each lane
        admitted alone: only that lane admits nothing.
        """
        try:
            return await self.database.run_transaction(lambda c: write(c, False))
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != ONE_WRITE_PER_LANE:
                raise
        return await self.database.run_transaction(lambda c: write(c, True))

    async def _admit(self, connection: Connection, lanes: Collection[int], *, each_lane_alone: bool) -> None:
        """Admit sub-jobs to the free slots of these locked lanes, and notify the workers.

        ``each_lane_alone``: a lane in which the database refuses a second write is logged and skipped.
        """
        if not each_lane_alone:
            admitted = await store.admit(connection, lanes, self.settings)
        else:
            admitted = []
            for lane_id in sorted(lanes):
                try:
                    async with connection.transaction():
                        admitted += await store.admit(connection, [lane_id], self.settings)
                except asyncpg.UniqueViolationError as error:
                    self.log.error("lane.admission_refused", lane_id=lane_id, cause=str(error))
        if admitted:
            await store.notify_due(connection, SUB_JOB)

    async def begun(self, job_ids: Sequence[UUID]) -> None:
        """Move those of these jobs that are NOT_STARTED to RUNNING: their creates are being sent."""

        async def write(connection: Connection) -> None:
            await store.bump_jobs(connection, job_ids)
            if running := await store.jobs_running(connection, job_ids):
                await self.announcer.jobs_changed(connection, running)

        await self.database.run_transaction(write)

    async def found_dialect(self, plugin_id: int, dialect: str) -> bool:
        """Record that a plugin of the dialect ``auto`` speaks ``dialect``; every lookup index takes it over.
        False when that was known."""
        return await self.database.run_transaction(
            lambda connection: inventory.save_found_dialect(connection, plugin_id, dialect)
        )

    async def wait_for_objects(self, leased: Leased, cause: str) -> None:
        """Record why the result objects of a sub-job cannot be written; the lease remains."""
        await self.database.run_transaction(
            lambda c: store.wait_for_objects(c, [leased.sub_job_id], cause, leased.lease)
        )

    async def is_leased(self, leased: Leased) -> bool:
        """True while the row has this lease."""
        return bool(await self.database.fetch(_SQL["is_leased"], leased.sub_job_id, leased.lease))

    async def body_of(self, sub_job_id: UUID) -> bytes | None:
        """The stored operations (zstd) of a sub-job; ``None`` once it is counted."""
        (row,) = await self.database.fetch(_SQL["body_of"], sub_job_id)
        body: bytes | None = row["body"]
        return body

    async def arrived(self, sub_job_id: UUID, job_id: UUID, total: int | None) -> Arrived:
        """The stored result messages of a read; ``total``: their announced number, if known."""
        async with self.database.connection() as connection:
            return await results.arrived(connection, job_id, str(sub_job_id), total)

    # --- the DELETE of a whole job -------------------------------------------------------------------

    async def claim_cancels(self, token: UUID) -> list[LeasedCancel]:
        """Lease under ``token`` the cancels of whole jobs that are due."""
        rows = await self.database.fetch(
            _SQL["claim_bulk_cancels"], token, self.worker_id, LEASE_SECONDS, CANCELS_AT_ONCE
        )
        return read(LeasedCancel, rows)

    async def renew_cancels(self, leased: Sequence[LeasedCancel]) -> None:
        """Renew these leases. Rows that another transaction has locked are skipped."""
        fields = columns(leased, "job_id", "plugin_id", "lease")
        await self.database.fetch(_SQL["renew_bulk_cancels"], *fields, LEASE_SECONDS)

    async def postpone_cancel(self, leased: LeasedCancel, delay: float, *, failed: bool) -> None:
        """End the lease; the cancel is due again after ``delay`` seconds. ``failed``: no answer came."""
        row = leased.job_id, leased.plugin_id, leased.lease
        await self.database.fetch(_SQL["release_bulk_cancel"], *row, delay, False, failed)

    async def end_cancel(self, leased: LeasedCancel, *, refused: bool) -> None:
        """Record the plugin's answer. ``refused``: the open sub-jobs of the job at this plugin become due for
        a DELETE each; otherwise they become due for a poll."""
        row = leased.job_id, leased.plugin_id, leased.lease

        async def write(connection: Connection) -> None:
            await jobs.lock(connection, leased.job_id, None)  # a create is answered before this or after
            if not await connection.fetchval(_SQL["release_bulk_cancel"], *row, None, refused, False):
                return
            end_sub_jobs = store.cancel_at if refused else store.poll_job_now
            await end_sub_jobs(connection, leased.job_id, leased.plugin_id)

        await self.database.run_transaction(write)

    # --- the steps of a job --------------------------------------------------------------------------

    async def job_is_leased(self, job: LeasedJob) -> bool:
        """True while the job has this lease."""
        return bool(await self.database.fetch(_JOBS["is_leased"], job.job_id, job.lease))

    async def record_plan(self, job: LeasedJob, plan: PlannedJob) -> None:
        """Write a plan, and admit the sub-jobs that may start. Raises Fenced when the lease of the job is
        void."""

        async def write(connection: Connection, each_lane_alone: bool) -> None:
            row = await connection.fetchrow(_JOBS["lock_job"], job.job_id, None)
            if row is None or row["planned"] or row["lease"] != job.lease:
                raise Fenced(f"job {job.job_id} was claimed by another worker")
            blocked = await jobs.mark_planned(
                connection,
                job.job_id,
                sub_jobs=len(plan.sub_jobs),
                unmatched=plan.unmatched,
                failed=plan.failed,
                split_reads=plan.split_reads,
                not_started=plan.not_started,
                warnings=plan.warnings,
            )
            await results.record(connection, job.job_id, plan.parts)
            await connection.execute(_JOBS["commit_lazily"])
            if not plan.sub_jobs:
                await store.notify_due(connection, JOB)
                return
            await store.insert(connection, job.job_id, plan.sub_jobs, only_reads=plan.only_reads)
            if row["cancel_requested"]:
                await store.notify_due(connection, SUB_JOB)
            elif not blocked:
                lanes = await store.lock_lanes_of(connection, [job.job_id])
                await self._admit(connection, lanes, each_lane_alone=each_lane_alone)

        await self._admitting(write)

    async def finish_facts(self, job_id: UUID) -> tuple[JobRow, list[Part]] | None:
        """A job whose last sub-job is settled, and its result objects; ``None`` when the job was removed."""
        async with self.database.connection() as connection:
            job = await jobs.find(connection, job_id, None)
            return None if job is None else (job, await results.listing(connection, job_id))

    async def request_of(self, job_id: UUID) -> bytes:
        """The bytes of a job's request, zstd; empty when the job was removed."""
        async with self.database.connection() as connection:
            return await jobs.request_of(connection, job_id) or b""

    async def finish(
        self,
        leased: LeasedJob,
        status: Status,
        reason: str | None,
        counts: OperationCounts,
        previewed: Previewed | None = None,
    ) -> float | None:
        """Make the job terminal, unblock the jobs that waited for it, and end the lease. Returns the seconds
        since the job was accepted; ``None`` when it was terminal already: then only the lease ends. Raises
        Fenced when the lease is void."""

        async def write(connection: Connection, each_lane_alone: bool) -> float | None:
            job_id = leased.job_id
            job = await connection.fetchrow(_JOBS["lock_job"], job_id, None)
            if job is None:
                return None
            if job["lease"] != leased.lease:
                raise Fenced(f"job {job_id} was claimed by another worker")
            if status is Status.CANCELLED and await connection.fetch(_JOBS["start_cancelling"], job_id):
                await self.announcer.jobs_changed(connection, [job_id])
            seconds = await jobs.finish(connection, job_id, status, reason, counts)
            if seconds is None:
                await connection.execute(_JOBS["end_lease"], job_id, leased.lease, None)
                return None
            if previewed is not None:
                await results.record(connection, job_id, previewed.parts)
                await jobs.record_preview(connection, job_id, previewed.effects, previewed.reach)
            if lanes := await jobs.unblock_after(connection, job_id):
                await self._admit(connection, lanes, each_lane_alone=each_lane_alone)
            await self.announcer.job_ended(connection, job_id)
            return seconds

        return await self._admitting(write)

    async def step_over(self, job: LeasedJob) -> None:
        """End the lease of a job that has no step to do."""
        await self.database.fetch(_JOBS["end_lease"], job.job_id, job.lease, None)

    async def step_failed(self, job: LeasedJob, delay: float, objects_cause: str | None = None) -> None:
        """End the lease after a failure; the step is due again after ``delay`` seconds.

        ``objects_cause``: why result objects could not be written."""
        await self.database.fetch(_JOBS["step_failed"], job.job_id, job.lease, delay, objects_cause)


async def _leased_under(connection: Connection, token: UUID) -> tuple[list[LeasedSubJob], list[LeasedJob]]:
    rows = await connection.fetch(_LEASED_UNDER, token, _token_of_others(token))
    return read(LeasedSubJob, rows), read(
        LeasedJob, await connection.fetch(_JOBS["jobs_leased_under"], token)
    )


def _token_of_others(token: UUID) -> UUID:
    """The token of the sub-jobs that a claim with ``token`` found in a stage other than ADMITTED."""
    return uuid5(token, "not ADMITTED")
