# SPDX-License-Identifier: Apache-2.0
"""The steps of a data job: its plan, which splits the request into sub-jobs, and its finish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.model import OperationCounts, Status
from ran_datajobs.store import sub_jobs
from ran_datajobs.store.database import Connection
from ran_datajobs.store.queries import named_queries
from ran_datajobs.store.sub_jobs import LEASE_SECONDS

_SQL = named_queries("planning")

LARGE: Final = 256 * 1024
"""Minimum size in bytes of a stored request (zstd) whose plan counts as large."""


class JobRoom(Struct, frozen=True):
    """Limits of a claim: plans of small and of large requests, and finish steps."""

    small_plans: int
    large_plans: int
    finishes: int


class LeasedJob(Struct, frozen=True):
    """A job whose next step the caller has leased: its plan, or its finish once it is ``planned``.

    ``step_failures``: consecutive failures of this step. ``body``: the request (zstd), for a plan.
    """

    job_id: UUID
    lease: UUID
    planned: bool
    step_failures: int
    results_bucket: str
    body: bytes | None


async def claim(connection: Connection, room: JobRoom, token: UUID, worker_id: UUID) -> list[LeasedJob]:
    """Lease due steps within ``room``, under ``token``."""
    rows = await connection.fetch(
        _SQL["claim_jobs"],
        room.small_plans,
        room.large_plans,
        LARGE,
        room.finishes,
        token,
        worker_id,
        LEASE_SECONDS,
    )
    return [LeasedJob(**dict(row.items())) for row in rows]


async def leased_under(connection: Connection, token: UUID) -> list[LeasedJob]:
    """The jobs leased under ``token`` by a claim whose answer was lost."""
    return [
        LeasedJob(**dict(row.items())) for row in await connection.fetch(_SQL["jobs_leased_under"], token)
    ]


async def renew(connection: Connection, leases: Mapping[UUID, UUID]) -> None:
    """Renew the leases (job id → token). Rows that another transaction has locked are skipped."""
    await connection.execute(_SQL["renew_jobs"], list(leases), list(leases.values()), LEASE_SECONDS)


async def step_failed(
    connection: Connection, job: LeasedJob, delay: float, objects_cause: str | None = None
) -> None:
    """End the lease after a failure; the step is due again after ``delay`` seconds. ``objects_cause``: why
    result objects could not be written."""
    await connection.execute(_SQL["step_failed"], job.job_id, job.lease, delay, objects_cause)


async def step_over(connection: Connection, job: LeasedJob) -> None:
    """End the lease of a job that has no step to do."""
    await connection.execute(_SQL["step_over"], job.job_id, job.lease)


async def give_back(connection: Connection, leases: Mapping[UUID, UUID]) -> None:
    """End these leases (job id → token) now; the steps are due at once."""
    await connection.execute(_SQL["give_back_jobs"], list(leases), list(leases.values()))


async def is_leased(connection: Connection, job: LeasedJob) -> bool:
    """True while the job has this lease."""
    return bool(await connection.fetchval(_SQL["is_leased"], job.job_id, job.lease))


async def commit_lazily(connection: Connection) -> None:
    """Commit the caller's transaction asynchronously. A plan that is lost in a crash of the database is made
    again with the same result; later writes that depend on it reach the disk only after it."""
    await connection.execute(_SQL["commit_lazily"])


async def lock_job(connection: Connection, job_id: UUID) -> Any:
    """Lock the job's row. Returns the columns that planning and finishing need."""
    return await connection.fetchrow(_SQL["lock_job"], job_id)


async def still_blocked(connection: Connection, job_id: UUID) -> bool:
    """True while a job named in ``after`` is not terminal."""
    return bool(await connection.fetchval(_SQL["still_blocked"], job_id))


async def mark_planned(
    connection: Connection,
    job_id: UUID,
    *,
    sub_jobs: int,
    unmatched: int,
    failed: int,
    split_reads: bool,
    blocked: bool,
) -> None:
    """Record the plan's counts and end the lease. A job without sub-jobs is due for its finish step."""
    await connection.execute(_SQL["mark_planned"], job_id, sub_jobs, unmatched, failed, split_reads, blocked)


async def finish_facts(connection: Connection, job_id: UUID) -> tuple[bool, bool, float]:
    """(operations have several parts, a cancel stopped a sub-job, seconds since it was accepted) of a job."""
    row = await connection.fetchrow(_SQL["finish_facts"], job_id)
    return (False, False, 0.0) if row is None else (row["split_reads"], row["cancelled"], row["seconds"])


async def cancel_arrow(connection: Connection, job_id: UUID) -> bool:
    """Move the job to CANCELLING if it is NOT_STARTED or RUNNING; False if it is not."""
    return await connection.fetchval(_SQL["cancel_arrow"], job_id) is not None


async def finish(
    connection: Connection, job_id: UUID, status: Status, reason: str | None, counts: OperationCounts
) -> bool:
    """Make the job terminal and end the lease. False when it is terminal, unplanned or has open sub-jobs."""
    found = await connection.fetchval(
        _SQL["finish"],
        job_id,
        status.value,
        reason,
        counts.succeeded,
        counts.failed,
        counts.unmatched,
        counts.not_started,
        counts.unknown,
    )
    return found is not None


async def unblock_after(connection: Connection, job_id: UUID) -> list[int]:
    """Unblock the jobs that waited for this one alone. Returns their lanes, locked, for the caller to admit.

    This transaction has made the job terminal. Of jobs that end concurrently, the last one to call this
    unblocks the jobs that waited for all of them.
    """
    waiting = [row["job_id"] for row in await connection.fetch(_SQL["lock_waiting"], job_id)]
    if not waiting:
        return []
    freed = [row["job_id"] for row in await connection.fetch(_SQL["unblock_jobs"], waiting)]
    return await sub_jobs.unblock(connection, freed) if freed else []
