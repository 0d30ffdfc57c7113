# SPDX-License-Identifier: Apache-2.0
"""Removes rows older than the retention, a bounded number at a time. Ages are in seconds, by the database's
clock. Open jobs, and jobs whose delivery is PENDING, are never removed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from msgspec import Struct

from ran_datajobs.store.database import Connection, read
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("retention")


class ExpiredJob(Struct, frozen=True):
    """A job to remove. ``bucket`` contains its objects; ``named`` is the destination bucket of the client, if
    any, whose objects belong to the client."""

    job_id: UUID
    bucket: str
    named: str | None


async def claim(connection: Connection) -> bool:
    """Take the lock for pruning until ``connection`` is released or lost; False when another has it."""
    return bool(await connection.fetchval(_SQL["claim_pruning"]))


@contextlib.asynccontextmanager
async def expired_jobs(
    connection: Connection, older_than: float, limit: int
) -> AsyncIterator[list[ExpiredJob]]:
    """Up to ``limit`` jobs that ended more than ``older_than`` seconds ago, the oldest first. None of them
    can be redelivered while the block runs."""
    locked = [row["job_id"] for row in await connection.fetch(_SQL["lock_expired_jobs"], older_than, limit)]
    try:
        rows = await connection.fetch(_SQL["expired_jobs"], locked)  # without one that was redelivered before
        yield read(ExpiredJob, rows)
    finally:
        await connection.execute(_SQL["unlock_jobs"], locked)


async def objects_of(connection: Connection, job_id: UUID, behind: str, limit: int) -> list[str]:
    """Up to ``limit`` keys of the result objects of a job, in their order, behind the key ``behind``."""
    return [row["key"] for row in await connection.fetch(_SQL["objects_of"], job_id, behind, limit)]


async def remove_job(connection: Connection, job_id: UUID, limit: int) -> int:
    """Remove the rows of an expired job, at most ``limit`` of a kind, and the job's own last. Returns
    ``limit`` when rows may be left."""
    for name in ("delete_parts", "delete_sub_jobs"):
        if len(await connection.fetch(_SQL[name], job_id, limit)) == limit:
            return limit
    await connection.execute(_SQL["delete_outbox"], job_id)
    await connection.execute(_SQL["delete_job"], job_id)
    return 0


async def remove(connection: Connection, what: str, old: float | Sequence[str], limit: int) -> int:
    """Remove up to ``limit`` rows by the statement ``delete_{what}``: those older than ``old`` seconds, or,
    of topics, others than these. Returns their number."""
    return len(await connection.fetch(_SQL[f"delete_{what}"], old, limit))
