# SPDX-License-Identifier: Apache-2.0
"""The transitions of sub-jobs, as values, and the one writer that makes them durable.

The executor decides on a transition; the writer gathers what several executors decide into one transaction
(group commit). Each transition names the lease of its sub-job. It raises Fenced when another worker has
claimed the sub-job since, and changes nothing then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from random import Random
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
from msgspec import Struct

from ran_datajobs.dispatch.backoff import until_repeat
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.errors import Fenced, StoreUnavailable
from ran_datajobs.results.announce import Announcer
from ran_datajobs.store import parts, sub_jobs
from ran_datajobs.store.batch import Batched
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.parts import Part
from ran_datajobs.store.sub_jobs import (
    JOB,
    ONE_WRITE_PER_LANE,
    SUB_JOB,
    Admission,
    Collecting,
    Leased,
    Postponement,
    Settlement,
)
from ran_datajobs.telemetry import Event, Logger

_LONGEST_PAUSE: Final = 1.0
_AT_ONCE: Final = 500


class Started(Struct, frozen=True):
    """STARTING → TRACKING: the plugin took the sub-job under this id. The lease stays."""

    leased: Leased
    data_producer_job_id: str


class CancelTold(Struct, frozen=True):
    """The plugin was told to cancel, or cannot. The lease stays."""

    leased: Leased


class Ended(Struct, frozen=True):
    """→ SETTLED or QUARANTINED, with the result objects that were written for it. The lease ends."""

    settlement: Settlement
    parts: tuple[Part, ...]

    @property
    def leased(self) -> Leased:
        """The sub-job and its lease."""
        return self.settlement.leased


class QuarantineOver(Struct, frozen=True):
    """QUARANTINED → SETTLED: the plugin does not execute the write any more, or its time is up."""

    leased: Leased


Transition = Started | CancelTold | Postponement | Collecting | Ended | QuarantineOver
"""What may become of a leased sub-job. A :class:`Postponement` and a :class:`Collecting` end the lease."""

_T = TypeVar("_T")


class TransitionWriter:
    """Makes transitions durable, many in one transaction."""

    def __init__(
        self,
        database: Database,
        announcer: Announcer,
        admission: Admission,
        log: Logger,
        chance: Random,
        *,
        due: Callable[[str, float], None] = lambda _kind, _delay: None,
        news: DispatchNews | None = None,
    ) -> None:
        """``due`` gets, after a commit, what is due (``sub_job`` or ``job``) and in how many seconds."""
        self.admission = admission
        self.due = due
        self.news = news or DispatchNews(log)
        self._database = database
        self._announcer = announcer
        self._log = log
        self._chance = chance
        self._begun: Batched[UUID, None] = Batched(self._flush_begun, most=_AT_ONCE)
        self._batched: Batched[Transition, bool | None] = Batched(self._flush, most=_AT_ONCE)

    async def __call__(self, transition: Transition) -> bool:
        """Write ``transition``; True when another process changed the sub-job while it was leased.

        While the database is away it is tried again. Raises Fenced when the lease is void.
        """
        failures = 0
        while True:
            try:
                attention = await self._batched(transition)
            except StoreUnavailable:
                failures += 1
                await asyncio.sleep(min(_LONGEST_PAUSE, until_repeat(failures, self._chance.random())))
                continue
            if attention is None:
                raise Fenced(f"sub-job {transition.leased.sub_job_id} was claimed by another worker")
            return attention

    async def begun(self, job_id: UUID) -> None:
        """Record that a create of the job is being sent: it is RUNNING now. Raises StoreUnavailable."""
        await self._begun(job_id)

    async def _flush_begun(self, job_ids: Sequence[UUID]) -> list[None]:
        async def write(connection: Connection) -> None:
            await sub_jobs.bump_jobs(connection, job_ids)
            if running := await sub_jobs.jobs_running(connection, job_ids):
                await self._announcer.jobs_changed(connection, running)

        await self._database.retried(write)
        return [None] * len(job_ids)

    async def wait_for_objects(self, leased: Leased, cause: str) -> None:
        """Record why the result objects of a sub-job cannot be written; the lease stays."""
        await self._database.retried(
            lambda c: sub_jobs.wait_for_objects(c, [leased.sub_job_id], cause, [leased.lease])
        )

    async def is_leased(self, leased: Leased) -> bool:
        """True while the lease is the row's."""
        async with self._database.connection() as connection:
            return await sub_jobs.is_leased(connection, leased)

    async def body_of(self, sub_job_id: UUID) -> bytes | None:
        """The stored operations of a sub-job that is not counted yet."""
        async with self._database.connection() as connection:
            return await sub_jobs.body_of(connection, sub_job_id)

    async def _flush(self, transitions: Sequence[Transition]) -> list[bool | None]:
        """Write the batch. Of two attempts at one sub-job the later transition has a transaction of its own:
        what the earlier one's lease is worth is seen apart."""
        answers: list[bool | None] = []
        while rest := transitions[len(answers) :]:
            answers += await self._flush_distinct(rest[: _until_repeat(rest)])
        return answers

    async def _flush_distinct(self, transitions: Sequence[Transition]) -> list[bool | None]:
        """Write the batch; one by one where the database refuses something in it for good."""
        try:
            return await self._committed(transitions)
        except asyncpg.PostgresError:
            return [await self._alone(transition) for transition in transitions]

    async def _alone(self, transition: Transition) -> bool | None:
        try:
            return (await self._committed([transition]))[0]
        except asyncpg.PostgresError as error:
            self._log.error(
                Event.TRANSITION_REFUSED, sub_job_id=str(transition.leased.sub_job_id), cause=str(error)
            )
            return None

    async def _committed(self, transitions: Sequence[Transition]) -> list[bool | None]:
        done, dues = await self.admitting(lambda c, alone: self._write(c, transitions, each_lane_alone=alone))
        for kind, delay in dues:
            self.due(kind, delay)
        return [done.get(transition.leased.sub_job_id) for transition in transitions]

    async def admitting(self, write: Callable[[Connection, bool], Awaitable[_T]]) -> _T:
        """The answer of ``write``, a transaction that calls :meth:`admit` and passes its second argument on.

        Where the database refuses a second active write of a lane, the transaction is repeated with each lane
        admitted alone: that lane is left as it is, and nothing else is held up.
        """
        try:
            return await self._database.retried(lambda c: write(c, False))
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != ONE_WRITE_PER_LANE:
                raise
        return await self._database.retried(lambda c: write(c, True))

    async def _write(
        self, connection: Connection, transitions: Sequence[Transition], *, each_lane_alone: bool
    ) -> tuple[dict[UUID, bool], list[tuple[str, float]]]:
        """(attention of each sub-job that was written; what is due, and in how many seconds). Locks are taken
        in the order of ``sub_jobs.sql``."""
        started = _only(Started, transitions)
        told = _only(CancelTold, transitions)
        postponed = _only(Postponement, transitions)
        collecting = _only(Collecting, transitions)
        ended = _only(Ended, transitions)
        over = _only(QuarantineOver, transitions)
        versions: dict[UUID, int] = {}
        changed = (
            [each.leased for each in started] + [each.leased for each in told] + [e.leased for e in ended]
        )
        if changed:
            versions = await sub_jobs.bump_jobs(connection, {each.job_id for each in changed})
        lanes = {each.leased.lane_id for each in ended} | {each.leased.lane_id for each in over}
        if lanes:
            await sub_jobs.lock_lanes(connection, lanes)
        of_no_lane = [p.leased.sub_job_id for p in postponed] + [c.leased.sub_job_id for c in collecting]
        if len(of_no_lane) > 1:
            await sub_jobs.lock_sub_jobs(connection, of_no_lane)
        done: dict[UUID, bool] = {}
        dues: list[tuple[str, float]] = []
        running: list[UUID] = []
        if started:
            marked, running = await sub_jobs.mark_started(
                connection, [(each.leased, each.data_producer_job_id) for each in started], versions
            )
            done |= marked
        if told:
            done |= await sub_jobs.mark_cancelling(connection, [each.leased for each in told], versions)
        if postponed:
            done |= dict.fromkeys(await sub_jobs.postpone(connection, postponed), False)
            dues += [(SUB_JOB, each.delay) for each in postponed]
        if collecting:
            done |= dict.fromkeys(await sub_jobs.mark_collecting(connection, collecting), False)
            dues += [(SUB_JOB, 0.0), *((SUB_JOB, each.delay) for each in collecting)]
        settled: set[UUID] = set()
        if ended:
            settled, finished = await self._settle(connection, ended, versions)
            done |= dict.fromkeys(settled, False)
            if finished:
                dues.append((JOB, 0.0))
        if over:
            done |= dict.fromkeys(
                await sub_jobs.end_quarantine(connection, [each.leased for each in over]), False
            )
        if lanes and await self.admit(connection, lanes, each_lane_alone=each_lane_alone):
            dues.append((SUB_JOB, 0.0))
        # Last, since a message locks a shard of the outbox.
        if running:
            await self._announcer.jobs_changed(connection, running)
        if settled:
            job_ids = {each.leased.job_id for each in ended if each.leased.sub_job_id in settled}
            await self._announcer.sub_jobs_settled(connection, sorted(job_ids), sorted(settled))
        return done, dues

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

    async def admit(
        self, connection: Connection, lanes: Collection[int], *, each_lane_alone: bool, notify: bool = True
    ) -> list[sub_jobs.Admitted]:
        """Admit what may start in these locked lanes, and ``notify`` the workers.

        ``each_lane_alone``: a lane in which the database refuses a second write is left as it is and logged.
        """
        if not each_lane_alone:
            admitted = await sub_jobs.admit(connection, lanes, self.admission)
        else:
            admitted = []
            for lane_id in sorted(lanes):
                try:
                    async with connection.transaction():
                        admitted += await sub_jobs.admit(connection, [lane_id], self.admission)
                except asyncpg.UniqueViolationError as error:
                    self._log.error(Event.LANE_ADMISSION_REFUSED, lane_id=lane_id, cause=str(error))
        if admitted and notify:
            await sub_jobs.notify_due(connection, SUB_JOB)
        return admitted


def _until_repeat(transitions: Sequence[Transition]) -> int:
    """How many of these, from the first on, are of different sub-jobs."""
    seen: set[UUID] = set()
    for count, each in enumerate(transitions):
        if each.leased.sub_job_id in seen:
            return count
        seen.add(each.leased.sub_job_id)
    return len(transitions)


def _only(kind: type[_T], transitions: Sequence[Transition]) -> list[_T]:
    return [each for each in transitions if isinstance(each, kind)]
