# SPDX-License-Identifier: Apache-2.0
"""What dispatch asks of the store, as a port. Each call is one transaction, or a read.

A call raises StoreUnavailable when the store is away. What became of a write is then not known: it may be
there. Every write of a worker names the lease under which it works on a row, so a write that is repeated, or
late, changes nothing that another worker has claimed since.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from ran_datajobs.model import Counts, Status
from ran_datajobs.store.cancels import LeasedCancel
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.parts import Arrived, Part
from ran_datajobs.store.planning import JobRoom, LeasedJob
from ran_datajobs.store.sub_jobs import (
    Admitted,
    Collecting,
    Leased,
    LeasedSubJob,
    NewSubJob,
    Postponement,
    Room,
    Settlement,
)


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


class Written(Struct, frozen=True):
    """What became of transitions. ``attention``, in their order: whether another process changed the sub-job
    while it was leased; ``None`` where the lease was void and nothing was written. ``due``: what is due
    (``sub_job`` or ``job``), and in how many seconds."""

    attention: list[bool | None]
    due: list[tuple[str, float]]


class PlannedJob(Struct, frozen=True):
    """A job as it was split. ``parts``: the objects that tell of the operations that no sub-job gets."""

    sub_jobs: list[NewSubJob]
    unmatched: int
    failed: int
    fanned_out: bool
    parts: list[Part]


class FinishFacts(Struct, frozen=True):
    """What the finish step of a job needs. ``fanned_out``: operations have several parts. ``cancelled``: a
    cancel stopped a sub-job. ``seconds``: since the job was accepted."""

    job: JobRow
    parts: list[Part]
    fanned_out: bool
    cancelled: bool
    seconds: float


class DispatchStore(Protocol):
    """The rows of jobs, sub-jobs and lanes, as the workers of dispatch see and change them."""

    # --- the queue -----------------------------------------------------------------------------------

    async def claim_sub_jobs(self, room: Room, token: UUID, *, void: bool) -> list[LeasedSubJob]:
        """Lease what is due, within ``room``; an ADMITTED sub-job becomes STARTING. ``void``: what others
        have leased and did not renew in time, too.

        The token of what was ADMITTED is ``token``; that of all others another one, which follows from it.
        """

    async def claim_jobs(self, room: JobRoom, token: UUID) -> list[LeasedJob]:
        """Lease the steps of jobs that are due, within ``room``, under ``token``."""

    async def leased_under(self, token: UUID) -> tuple[list[LeasedSubJob], list[LeasedJob]]:
        """What a claim, or a plan, under ``token`` leased whose answer was lost."""

    async def renew(self, sub_jobs: Mapping[UUID, UUID], jobs: Mapping[UUID, UUID]) -> set[UUID]:
        """Renew these leases (id → token); the sub-jobs that the caller still has. What another transaction
        has locked at this moment is passed over."""

    async def give_back(
        self,
        sub_jobs: Mapping[UUID, UUID],
        unsent: Collection[UUID],
        jobs: Mapping[UUID, UUID],
        unanswered: Collection[UUID],
    ) -> None:
        """End these leases (id → token), and those of claims under the ``unanswered`` tokens; all of it is
        due at once. ``unsent``: sub-jobs that are STARTING and were not sent; they are ADMITTED again."""

    async def with_attention(self, sub_job_ids: Collection[UUID]) -> list[UUID]:
        """Which of these leased sub-jobs another process has changed."""

    async def follow(self, due: Callable[[str | None], None], changed: Callable[[str | None], None]) -> None:
        """For ever: tell ``due`` of a kind (``sub_job`` or ``job``) of which something became due, and
        ``changed`` of a leased sub-job that another process changed; ``None``: news may have been missed."""

    async def end_silent_sessions(self) -> None:
        """Cut the sessions of workers that have asked for nothing for a while."""

    # --- sub-jobs ------------------------------------------------------------------------------------

    async def write(self, transitions: Sequence[Transition]) -> Written:
        """Write transitions of different sub-jobs, and admit what has room then, in one transaction. What the
        store refuses for good is left as it is and logged; it costs no other one."""

    async def begun(self, job_ids: Sequence[UUID]) -> None:
        """Record that creates of these jobs are being sent: they are RUNNING now."""

    async def wait_for_objects(self, leased: Leased, cause: str) -> None:
        """Record why the result objects of a sub-job cannot be written; the lease stays."""

    async def is_leased(self, leased: Leased) -> bool:
        """True while the lease is the row's."""

    async def body_of(self, sub_job_id: UUID) -> bytes | None:
        """The stored operations (zstd) of a sub-job that is not counted yet."""

    async def arrived(self, sub_job_id: UUID, job_id: UUID, total: int | None) -> Arrived:
        """The result messages of a read that are in; ``total``: how many it has, if known."""

    async def arrived_outcomes(self, sub_job_id: UUID, job_id: UUID) -> list[bytes]:
        """The packed outcomes that the messages of a read told."""

    # --- the DELETE of a whole job -------------------------------------------------------------------

    async def claim_cancels(self, token: UUID) -> list[LeasedCancel]:
        """Lease under ``token`` the cancels of whole jobs that are due."""

    async def renew_cancels(self, leased: Sequence[LeasedCancel]) -> None:
        """Renew these leases."""

    async def postpone_cancel(self, leased: LeasedCancel, delay: float, *, failed: bool) -> None:
        """End the lease; the cancel is due again after ``delay`` seconds. ``failed``: there was no answer."""

    async def end_cancel(self, leased: LeasedCancel, *, refused: bool) -> None:
        """Record the plugin's answer. ``refused``: the open sub-jobs of the job at this plugin are due for a
        DELETE each; else they are due for a poll."""

    # --- the steps of a job --------------------------------------------------------------------------

    async def job_is_leased(self, job: LeasedJob) -> bool:
        """True while the lease is the job's."""

    async def record_plan(
        self,
        job: LeasedJob,
        plan: PlannedJob,
        token: UUID,
        choose: Callable[[Sequence[Admitted]], Sequence[Admitted]],
    ) -> list[LeasedSubJob]:
        """Write a plan, admit what may start, and lease under ``token`` what the caller chooses of that.

        ``choose`` may be called several times; the last answer holds. Raises Fenced when the lease of the job
        is void.
        """

    async def finish_facts(self, job_id: UUID) -> FinishFacts | None:
        """What is known of a job whose last sub-job is settled; ``None`` when the job is gone."""

    async def finish(self, job: LeasedJob, status: Status, reason: str | None, counts: Counts) -> bool:
        """Make the job terminal, free what waited for it, and end the lease; whether it was this call that
        did. Changes nothing where the job is terminal already. Raises Fenced when the lease is void."""

    async def step_over(self, job: LeasedJob) -> None:
        """End the lease of a job that has no step to be done."""

    async def step_failed(self, job: LeasedJob, delay: float, objects_cause: str | None) -> None:
        """End the lease after a failure; the step is due again after ``delay`` seconds.

        ``objects_cause``: why it could not write result objects."""
