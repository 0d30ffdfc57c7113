# SPDX-License-Identifier: Apache-2.0
"""Port of dispatch to the store. Each call is one transaction, or a read.

A call raises StoreUnavailable when the store is unavailable; a write may have been committed then. Every
write of a worker names the lease of the row, so that a repeated or late write changes no row that another
worker has claimed since.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from ran_datajobs.model import OperationCounts, Status
from ran_datajobs.store.cancels import LeasedCancel
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.parts import Arrived, Part
from ran_datajobs.store.planning import JobRoom, LeasedJob
from ran_datajobs.store.sub_jobs import (
    Collecting,
    Leased,
    LeasedSubJob,
    NewSubJob,
    Postponement,
    Room,
    Settlement,
)


class Started(Struct, frozen=True):
    """STARTING → TRACKING: the plugin accepted the sub-job under this id. The lease remains."""

    leased: Leased
    data_producer_job_id: str


class CancelTold(Struct, frozen=True):
    """The DELETE is done: accepted, not supported, or timed out. The lease remains."""

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
    """QUARANTINED → SETTLED: the plugin no longer executes the write, or the time has expired."""

    leased: Leased


Transition = Started | CancelTold | Postponement | Collecting | Ended | QuarantineOver
"""The transitions of a leased sub-job. A :class:`Postponement` and a :class:`Collecting` end the lease."""


class Written(Struct, frozen=True):
    """Result of writing transitions. ``attention``, in their order: whether another process changed the
    sub-job while it was leased; ``None`` if the lease was void and nothing was written. ``due``: kinds
    (``sub_job`` or ``job``) of rows that become due, and in how many seconds."""

    attention: list[bool | None]
    due: list[tuple[str, float]]


class PlannedJob(Struct, frozen=True):
    """The plan of a job. ``parts``: result objects of the operations that are in no sub-job."""

    sub_jobs: list[NewSubJob]
    unmatched: int
    failed: int
    split_reads: bool
    parts: list[Part]


class FinishFacts(Struct, frozen=True):
    """Facts for the finish step of a job. ``split_reads``: operations have several parts. ``cancelled``: a
    cancel stopped a sub-job. ``seconds``: since the job was accepted."""

    job: JobRow
    parts: list[Part]
    split_reads: bool
    cancelled: bool
    seconds: float


class DispatchStore(Protocol):
    """Reads and writes of the workers on the rows of jobs, sub-jobs and lanes."""

    # --- the queue -----------------------------------------------------------------------------------

    async def claim_sub_jobs(self, room: Room, token: UUID, *, void: bool) -> list[LeasedSubJob]:
        """Lease due sub-jobs within ``room``; an ADMITTED one becomes STARTING. ``void``: also those whose
        lease has expired.

        Sub-jobs that were ADMITTED get ``token``; the others get a second token, derived from it.
        """

    async def claim_jobs(self, room: JobRoom, token: UUID) -> list[LeasedJob]:
        """Lease due steps of jobs within ``room``, under ``token``."""

    async def leased_under(self, token: UUID) -> tuple[list[LeasedSubJob], list[LeasedJob]]:
        """The rows leased under ``token`` by a claim whose answer was lost."""

    async def renew(self, sub_jobs: Mapping[UUID, UUID], jobs: Mapping[UUID, UUID]) -> set[UUID]:
        """Renew these leases (id → token). Returns the renewed sub-jobs; rows that another transaction has
        locked are skipped."""

    async def give_back(
        self,
        sub_jobs: Mapping[UUID, UUID],
        unsent: Collection[UUID],
        jobs: Mapping[UUID, UUID],
        unanswered: Collection[UUID],
    ) -> None:
        """End these leases (id → token), and those of claims under the ``unanswered`` tokens; the rows are
        due at once. ``unsent``: STARTING sub-jobs that were not sent; they become ADMITTED again."""

    async def with_attention(self, sub_job_ids: Collection[UUID]) -> list[UUID]:
        """Those of these leased sub-jobs that another process has changed."""

    async def follow(self, due: Callable[[str | None], None], changed: Callable[[str | None], None]) -> None:
        """Until cancelled, call ``due`` with each kind (``sub_job``, ``job`` or ``cancel``) of which a row
        became due, and ``changed`` with the id of each leased sub-job that another process changed; with
        ``None`` when notifications may have been missed."""

    async def end_silent_sessions(self) -> None:
        """Terminate the sessions of workers that have sent no statement for a while."""

    # --- sub-jobs ------------------------------------------------------------------------------------

    async def write(self, transitions: Sequence[Transition]) -> Written:
        """Write transitions of different sub-jobs, and admit others to the slots that become free, in one
        transaction. A transition that the database rejects is logged and left out."""

    async def begun(self, job_ids: Sequence[UUID]) -> None:
        """Move those of these jobs that are NOT_STARTED to RUNNING: their creates are being sent."""

    async def wait_for_objects(self, leased: Leased, cause: str) -> None:
        """Record why the result objects of a sub-job cannot be written; the lease remains."""

    async def is_leased(self, leased: Leased) -> bool:
        """True while the row has this lease."""

    async def body_of(self, sub_job_id: UUID) -> bytes | None:
        """The stored operations (zstd) of a sub-job; ``None`` once it is counted."""

    async def arrived(self, sub_job_id: UUID, job_id: UUID, total: int | None) -> Arrived:
        """The stored result messages of a read; ``total``: their announced number, if known."""

    async def arrived_outcomes(self, sub_job_id: UUID, job_id: UUID) -> list[bytes]:
        """The packed outcomes of the stored messages of a read."""

    # --- the DELETE of a whole job -------------------------------------------------------------------

    async def claim_cancels(self, token: UUID) -> list[LeasedCancel]:
        """Lease under ``token`` the cancels of whole jobs that are due."""

    async def renew_cancels(self, leased: Sequence[LeasedCancel]) -> None:
        """Renew these leases."""

    async def postpone_cancel(self, leased: LeasedCancel, delay: float, *, failed: bool) -> None:
        """End the lease; the cancel is due again after ``delay`` seconds. ``failed``: no answer came."""

    async def end_cancel(self, leased: LeasedCancel, *, refused: bool) -> None:
        """Record the plugin's answer. ``refused``: the open sub-jobs of the job at this plugin become due for
        a DELETE each; otherwise they become due for a poll."""

    # --- the steps of a job --------------------------------------------------------------------------

    async def job_is_leased(self, job: LeasedJob) -> bool:
        """True while the job has this lease."""

    async def record_plan(self, job: LeasedJob, plan: PlannedJob) -> None:
        """Write a plan, and admit the sub-jobs that may start. Raises Fenced when the lease of the job is
        void."""

    async def finish_facts(self, job_id: UUID) -> FinishFacts | None:
        """Facts on a job whose last sub-job is settled; ``None`` when the job was removed."""

    async def finish(
        self, job: LeasedJob, status: Status, reason: str | None, counts: OperationCounts
    ) -> bool:
        """Make the job terminal, unblock the jobs that waited for it, and end the lease. False when the job
        was terminal already; then only the lease ends. Raises Fenced when the lease is void."""

    async def step_over(self, job: LeasedJob) -> None:
        """End the lease of a job that has no step to do."""

    async def step_failed(self, job: LeasedJob, delay: float, objects_cause: str | None) -> None:
        """End the lease after a failure; the step is due again after ``delay`` seconds.

        ``objects_cause``: why result objects could not be written."""
