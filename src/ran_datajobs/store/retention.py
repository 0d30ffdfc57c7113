# SPDX-License-Identifier: Apache-2.0
"""Removes what is older than the retention, a bounded number of rows at a time. Ages are in seconds, by the
database's clock. Open jobs, and those whose delivery is under way, are never touched."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct

from ran_datajobs.store.database import Connection
from ran_datajobs.store.outbox import shard_of
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("retention")


class ExpiredJob(Struct, frozen=True):
    """A job to remove. ``bucket`` has its objects; ``named`` is the bucket that the client named, if it named
    one: what is there is the client's."""

    job_id: UUID
    bucket: str
    named: str | None


async def claim(connection: Connection) -> bool:
    """True when ``connection`` is the only one that prunes, until it goes back to its pool or is lost."""
    return bool(await connection.fetchval(_SQL["claim_pruning"]))


async def expired_jobs(connection: Connection, older_than: float, limit: int) -> list[ExpiredJob]:
    """Up to ``limit`` jobs that ended longer ago, the oldest first."""
    rows = await connection.fetch(_SQL["expired_jobs"], older_than, limit)
    return [ExpiredJob(row["job_id"], row["results_bucket"], row["named"]) for row in rows]


async def objects_of(connection: Connection, job_id: UUID, behind: str, limit: int) -> list[str]:
    """Up to ``limit`` keys of the result objects of a job, in their order, behind the key ``behind``."""
    return [row["key"] for row in await connection.fetch(_SQL["objects_of"], job_id, behind, limit)]


async def is_expired(connection: Connection, job_id: UUID, older_than: float) -> bool:
    """True while the job is one of :func:`expired_jobs`."""
    return bool(await connection.fetchval(_SQL["is_expired"], job_id, older_than))


async def remove_job(connection: Connection, job_id: UUID, limit: int) -> bool:
    """Remove the rows of an expired job, at most ``limit`` of a kind at once and the job's own last.

    False when it is to be called again: more is left, or the job is being delivered once more.
    """
    for name in ("delete_parts", "delete_sub_jobs"):
        if len(await connection.fetch(_SQL[name], job_id, limit)) == limit:
            return False
    await connection.execute(_SQL["delete_outbox"], job_id, shard_of(job_id))
    return await connection.fetchval(_SQL["delete_job"], job_id) is not None


async def remove_keys(connection: Connection, older_than: float, limit: int) -> int:
    """Remove Idempotency-Keys; how many it were."""
    return len(await connection.fetch(_SQL["delete_keys"], older_than, limit))


async def remove_messages(connection: Connection, older_than: float, limit: int) -> int:
    """Remove messages of the embedded bus, but for those of open jobs; how many it were."""
    return len(await connection.fetch(_SQL["delete_messages"], older_than, limit))


async def remove_lost_outbox(connection: Connection, limit: int) -> int:
    """Remove what was still to be published for jobs that are gone; how many it were."""
    return len(await connection.fetch(_SQL["delete_lost_outbox"], limit))


async def remove_topics(connection: Connection, kept: Sequence[str], limit: int) -> int:
    """Remove topics of the embedded bus, but for ``kept``, that have neither messages nor readers of ours nor
    jobs; how many it were. One that comes again goes on behind the offsets that it had."""
    rows = await connection.fetch(_SQL["lock_unused_topics"], kept, limit)
    return int(await connection.fetchval(_SQL["delete_unused_topics"], [row["topic"] for row in rows]))


async def remove_lane_clients(connection: Connection, older_than: float, limit: int) -> int:
    """Forget who was served in a lane longer ago; how many it were."""
    return len(await connection.fetch(_SQL["delete_lane_clients"], older_than, limit))


async def remove_tombstones(connection: Connection, older_than: float, limit: int) -> int:
    """Remove CM handles that were removed longer ago; how many it were. A lookup index that has not followed
    for so long reads all handles anew."""
    await connection.execute(_SQL["date_tombstones"], limit)
    return int(await connection.fetchval(_SQL["delete_tombstones"], older_than, limit))
