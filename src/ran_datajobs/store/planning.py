# SPDX-License-Identifier: Apache-2.0
"""Planning and finishing: the transactions that turn a request into sub-jobs, and those into a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import zstandard
from msgspec import Struct

from ran_datajobs.job import Counts, Status
from ran_datajobs.store import lanes
from ran_datajobs.store.database import Connection
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("planning")
_PIECE_BYTES: Final = 2 << 20


class JobToPlan(Struct, frozen=True):
    """A job that waits for its plan, with the bytes of its request (zstd)."""

    job_id: UUID
    results_bucket: str
    body: bytes


class PlaceInLine(Struct, frozen=True):
    """A job that waits for its plan. ``size``: bytes of its request as they are stored. ``behind``: the same
    client submitted one before it, of no lower priority, that waits as well."""

    client: str
    seq: int
    priority: int
    size: int
    behind: bool


class NewSubJob(Struct, frozen=True):
    """A sub-job to insert. ``body``: the operations for the plugin, zstd."""

    sub_job_id: UUID
    plugin_id: int
    data_producer_id: str
    body: bytes
    operations: int


async def job_to_plan(connection: Connection, job_id: UUID) -> JobToPlan | None:
    """The job and its request; ``None`` when it is planned already or gone."""
    row = await connection.fetchrow(_SQL["job_to_plan"], job_id)
    if row is None:
        return None
    return JobToPlan(row["job_id"], row["results_bucket"], row["body"])


async def place_in_line(connection: Connection, job_id: UUID) -> PlaceInLine | None:
    """Where a job stands that waits for its plan; ``None`` when it is planned already or gone."""
    row = await connection.fetchrow(_SQL["place_in_line"], job_id)
    return None if row is None else PlaceInLine(**dict(row.items()))


async def is_unplanned(connection: Connection, job_id: UUID) -> bool:
    """True while the job waits for its plan."""
    return bool(await connection.fetchval(_SQL["is_unplanned"], job_id))


async def commit_lazily(connection: Connection) -> None:
    """Let the caller's transaction end before it is on disk. A plan that is lost with the database is made
    again, the same; and whatever is built on it, the start of a sub-job, is on disk only after it."""
    await connection.execute(_SQL["commit_lazily"])


async def lock_job(connection: Connection, job_id: UUID) -> Any:
    """Lock the job's row; what planning and finishing need of it."""
    return await connection.fetchrow(_SQL["lock_job"], job_id)


async def still_blocked(connection: Connection, job_id: UUID) -> bool:
    """True while a job named in ``after`` is not terminal."""
    return bool(await connection.fetchval(_SQL["still_blocked"], job_id))


async def insert_sub_jobs(
    connection: Connection, job_id: UUID, sub_jobs: Sequence[NewSubJob], *, wake: bool = True
) -> list[int]:
    """Insert the sub-jobs in order, with their lanes; the lanes that need somebody to look at them.

    The holder of a lane is told; a lane that somebody was told to look at already needs nobody else. Without
    ``wake`` nothing of the job can be started yet, and nobody need look.
    """
    lane_ids = await _lanes_of(connection, {(s.plugin_id, s.data_producer_id) for s in sub_jobs})
    for first, some in _in_pieces(sub_jobs):
        await connection.execute(
            _SQL["insert_sub_jobs"],
            job_id,
            [s.sub_job_id for s in some],
            list(range(first, first + len(some))),
            [lane_ids[s.plugin_id, s.data_producer_id] for s in some],
            [s.body for s in some],
            [s.operations for s in some],
            [zstandard.frame_content_size(s.body) for s in some],
        )
    if not wake:
        return []
    # Last, since from here on others who want the same lanes wait for this transaction.
    before = await connection.fetch(_SQL["want_lanes"], sorted(lane_ids.values()))
    if held := [row["lane_id"] for row in before if row["held"]]:
        await lanes.poke_holders(connection, held)
    return [row["lane_id"] for row in before if not row["held"] and not row["wanted"]]


def _in_pieces(sub_jobs: Sequence[NewSubJob]) -> Iterator[tuple[int, list[NewSubJob]]]:
    """(position of the first, sub-jobs): a few MiB of bodies at a time, so that the loop goes on between."""
    some: list[NewSubJob] = []
    size = 0
    for position, sub_job in enumerate(sub_jobs):
        if some and size + len(sub_job.body) > _PIECE_BYTES:
            yield position - len(some), some
            some, size = [], 0
        some.append(sub_job)
        size += len(sub_job.body)
    if some:
        yield len(sub_jobs) - len(some), some


async def _lanes_of(connection: Connection, pairs: set[tuple[int, str]]) -> dict[tuple[int, str], int]:
    """Find or make the lanes of (plugin, data producer)."""
    found: dict[tuple[int, str], int] = {}
    query = "find_lanes"
    while missing := sorted(pairs - found.keys()):
        columns = [plugin for plugin, _ in missing], [producer for _, producer in missing]
        for row in await connection.fetch(_SQL[query], *columns):
            found[row["plugin_id"], row["data_producer_id"]] = row["lane_id"]
        # One that somebody else makes at this moment is neither found nor made: it is found once it is there.
        query = "add_lanes" if query == "find_lanes" else "find_lanes"
    return found


async def mark_planned(
    connection: Connection,
    job_id: UUID,
    *,
    sub_jobs: int,
    unmatched: int,
    failed: int,
    fanned_out: bool,
    blocked: bool,
) -> None:
    """Record the plan's figures on the job."""
    await connection.execute(_SQL["mark_planned"], job_id, sub_jobs, unmatched, failed, fanned_out, blocked)


async def finish_facts(connection: Connection, job_id: UUID) -> tuple[bool, bool]:
    """(operations have several parts, a cancel stopped a sub-job) of an existing job."""
    row = await connection.fetchrow(_SQL["finish_facts"], job_id)
    return (False, False) if row is None else (row["fanned_out"], row["cancelled"])


async def cancel_arrow(connection: Connection, job_id: UUID) -> bool:
    """Move the job to CANCELLING when it is open; whether it was."""
    return await connection.fetchval(_SQL["cancel_arrow"], job_id) is not None


async def finish(
    connection: Connection, job_id: UUID, status: Status, reason: str | None, counts: Counts
) -> bool:
    """Make the job terminal. False when it was terminal already, or is not ready."""
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
    """Free the jobs that waited for this one alone; the lanes that have something to do now.

    The job is terminal in this transaction already. Of jobs that end at the same time the last one to get
    here frees those that waited for all of them.
    """
    waiting = [row["job_id"] for row in await connection.fetch(_SQL["lock_waiting"], job_id)]
    return await _unblock(connection, waiting)


async def unblock_forgotten(connection: Connection) -> list[int]:
    """Free up to 1000 jobs that wait although all they waited for is terminal or gone; the lanes that have
    something to do now."""
    waiting = [row["job_id"] for row in await connection.fetch(_SQL["lock_waiting_in_vain"])]
    return await _unblock(connection, waiting)


async def _unblock(connection: Connection, locked: list[UUID]) -> list[int]:
    if not locked:
        return []
    freed = [row["job_id"] for row in await connection.fetch(_SQL["unblock_jobs"], locked)]
    if not freed:
        return []
    return sorted({row["lane_id"] for row in await connection.fetch(_SQL["unblock_sub_jobs"], freed)})


async def forgotten_jobs(connection: Connection) -> list[tuple[UUID, bool]]:
    """Up to 1000 jobs that wait for their plan (False) or their verdict (True) without any task for it."""
    return [(row["job_id"], row["planned"]) for row in await connection.fetch(_SQL["forgotten_jobs"])]


async def forgotten_lanes(connection: Connection) -> list[int]:
    """Up to 1000 lanes with something to do that nobody holds and no task is for."""
    return [row["lane_id"] for row in await connection.fetch(_SQL["forgotten_lanes"])]
