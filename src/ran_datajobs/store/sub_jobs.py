# SPDX-License-Identifier: Apache-2.0
"""Sub-jobs and lanes: insert, admit, claim, renew, and one function per transition.

A lane is one (DMI plugin, data producer). Functions take many rows at once, in the caller's transaction. A
write names the lease that its worker has on the row. When the row no longer has that lease, nothing changes
and the sub-job is absent from the result of the function.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from msgspec import Struct
from msgspec.structs import astuple

from ran_datajobs.config import Settings
from ran_datajobs.model import JobType, NextCall, PlannedSubJob, Stage, Status
from ran_datajobs.store.database import Connection, columns
from ran_datajobs.store.queries import named_queries
from ran_datajobs.store.results import Part

_SQL = named_queries("sub_jobs")

ROWS: Final = 24576
"""Maximum number of sub-jobs that one worker has leased. One takes about 8 KiB if it has few operations."""

BODY_BYTES: Final = 256 * 1024 * 1024
"""Maximum size of the operations that one worker holds uncompressed, in bytes; half of it per plugin."""

CREATES_PER_PLUGIN: Final = 128
"""Maximum number of unanswered creates per worker and plugin. The HTTP client sends half as many at a time;
the others wait for the database."""

LEASE_SECONDS: Final = 10.0
"""Duration of a lease in seconds after it was taken or renewed, by the database's clock."""

FIRST_PROBE: Final = 0.2
"""Delay in seconds of the first status request for a write in quarantine."""

ONE_WRITE_PER_LANE: Final = "one_write_per_lane"
"""Name of the unique index that a second active write of a lane violates."""

JOB, SUB_JOB, CANCEL = "job", "sub_job", "cancel"
"""Kinds of due rows: a step of a data job, a sub-job, or the DELETE of a whole job."""

_ROWS_AT_ONCE: Final = 500


class PluginRoom(Struct, frozen=True):
    """Limits of a claim for one plugin: creates, other steps, bytes of operations, and sub-jobs to cancel
    there."""

    creates: int
    calls: int
    size: int
    deletes: int = 256


class Room(Struct, frozen=True):
    """Limits of a claim: total ``rows`` and bytes, and limits per plugin. ``other`` applies to the plugins
    that ``plugins`` does not name. ``unsent``: number of cancelled sub-jobs that were not sent."""

    rows: int
    size: int
    other: PluginRoom
    plugins: Mapping[int, PluginRoom]
    unsent: int = 1000

    @property
    def is_full(self) -> bool:
        """True when a limit is used up, so that a claim may leave rows that are due."""
        of_plugins = (limit for room in self.plugins.values() for limit in astuple(room))
        return not all((self.rows, self.size, self.unsent, *of_plugins))


class Leased(Struct, frozen=True):
    """Identifies a sub-job and its lease."""

    sub_job_id: UUID
    job_id: UUID
    lane_id: int
    lease: UUID


class LeasedSubJob(Leased, frozen=True):
    """A sub-job that the caller has leased. Durations are seconds by the database's clock.

    ``was``: its stage before the claim. ``reported_status``: the terminal status that its plugin reported.
    ``body``: its operations for the plugin, zstd, if the create is to be sent, or if it is small and ends
    unsent. ``dialect``: that of the body, and, once the plugin has accepted the sub-job, that of every later
    call for it. Settings that a plugin did not register are ``None``.
    """

    type: JobType
    stage: Stage
    was: Stage
    next_call: NextCall
    operations: int
    data_producer_job_id: str | None
    cancel_requested: bool
    attempts: int
    polls: int
    result_topic: str | None
    result_total: int | None
    reported_status: Status | None
    failing_for: float | None
    no_objects_for: float | None
    running_for: float | None
    idle_for: float | None
    ended_for: float | None
    quarantined_for: float | None
    body_bytes: int
    body: bytes | None
    job_status: Status
    job_cancel_requested: bool
    accept_type: str
    content_type: str
    activation_mode: str
    destination: str | None
    results_bucket: str
    data_producer_id: str
    plugin_id: int
    url: str
    dialect: str
    plugin_dialect: str
    found_dialect: str | None
    idempotent: bool
    give_up: float | None
    sub_job_timeout: float | None
    before_images: bool = False


class LeasedCancel(Struct, frozen=True):
    """A cancelled job whose DELETE is to be sent to a plugin. Durations are seconds by the database's clock;
    ``give_up`` is ``None`` if the plugin registered none."""

    job_id: UUID
    lease: UUID
    plugin_id: int
    url: str
    dialect: str
    give_up: float | None
    is_read: bool
    failing_for: float


class Started(Struct, frozen=True):
    """STARTING → TRACKING: the plugin accepted the sub-job under this id, in this dialect (``None``: in that
    of its body). The lease remains."""

    leased: Leased
    data_producer_job_id: str
    dialect: str | None = None


class CancelSent(Struct, frozen=True):
    """The DELETE is done: accepted, not supported, or timed out. The lease remains."""

    leased: Leased


class Postponement(Struct, frozen=True):
    """The sub-job is due again after ``delay`` seconds; its lease ends. ``error``: what is wrong, or empty.

    ``unsent``: its create provably did not arrive. ``reported_status``: the terminal status that the plugin
    reported, if its result is not available yet. ``trial``: seconds without calls of the plugin, if
    its circuit is open.
    """

    leased: Leased
    delay: float
    polls: int = 0
    error: str = ""
    unsent: bool = False
    reported_status: Status | None = None
    trial: float | None = None


class Collecting(Struct, frozen=True):
    """The messages of a read arrive on ``topic``. It is due after ``delay`` seconds, or when all arrived."""

    leased: Leased
    topic: str
    reported_status: Status | None
    delay: float


class Ended(Struct, frozen=True):
    """→ SETTLED or QUARANTINED; the lease ends. ``quarantine``: seconds for which its plugin may still be
    executing it. ``executed``: number of operations that the plugin executed, with or without success.
    ``parts``: the result objects that were written for it."""

    leased: Leased
    status: Status
    succeeded: int = 0
    failed: int = 0
    not_started: int = 0
    unknown: int = 0
    error: str = ""
    quarantine: float = 0.0
    executed: int = 0
    parts: tuple[Part, ...] = ()


class QuarantineOver(Struct, frozen=True):
    """QUARANTINED → SETTLED: the plugin no longer executes the write, or the time has expired."""

    leased: Leased


_STATEMENTS: Final[dict[type[Struct], str]] = {
    Started: "mark_started",
    CancelSent: "mark_cancelling",
    Postponement: "postpone",
    Collecting: "mark_collecting",
    QuarantineOver: "end_quarantine",
}


async def insert(
    connection: Connection, job_id: UUID, sub_jobs: Sequence[PlannedSubJob], *, only_reads: bool = False
) -> None:
    """Insert the sub-jobs of a job in order, with their lanes. ``only_reads``: they are those of a preview.

    The sub-jobs of a preview are refused by the database without it: no operation of a preview is sent.
    """
    await connection.execute(_SQL["add_lanes"], *columns(sub_jobs, "plugin_id", "data_producer_id"))
    for first in range(0, len(sub_jobs), _ROWS_AT_ONCE):  # the event loop runs in between
        some = sub_jobs[first : first + _ROWS_AT_ONCE]
        ids = [sub_job_id(job_id, each) for each in some]
        fields = columns(some, "plugin_id", "data_producer_id", "dialect", "body", "operations", "size")
        await connection.execute(_SQL["insert_sub_jobs"], job_id, first, ids, *fields, only_reads)


def sub_job_id(job_id: UUID, sub_job: PlannedSubJob) -> UUID:
    """The id of a sub-job of this job, the same whenever the plan is repeated."""
    return uuid5(job_id, f"{sub_job.plugin_id}/{sub_job.data_producer_id}")


async def lock_lanes(connection: Connection, lane_ids: Collection[int]) -> None:
    """Lock lanes until the transaction ends, before any sub-job of theirs is locked."""
    await connection.execute(_SQL["lock_lanes"], list(lane_ids))


async def lock_lanes_of(connection: Connection, job_ids: Sequence[UUID]) -> list[int]:
    """Lock and return the lanes of the open sub-jobs of these jobs."""
    return [row["lane_id"] for row in await connection.fetch(_SQL["lock_lanes_of"], job_ids)]


async def lock_sub_jobs(connection: Connection, sub_job_ids: Collection[UUID]) -> None:
    """Lock sub-jobs until the transaction ends, in the order of their ids, before any of them is written."""
    await connection.execute(_SQL["lock_sub_jobs"], list(sub_job_ids))


async def admit(connection: Connection, lane_ids: Collection[int], settings: Settings) -> list[UUID]:
    """Admit waiting sub-jobs to the free slots of these lanes, which the caller has locked.

    Returns their ids. Raises asyncpg.UniqueViolationError (:data:`ONE_WRITE_PER_LANE`) rather than admitting
    a second write.
    """
    rows = await connection.fetch(_SQL["admit"], list(lane_ids), settings.read_slots, settings.priority_aging)
    return [row["sub_job_id"] for row in rows]


async def notify_due(connection: Connection, kind: str) -> None:
    """Notify the workers, at the commit, that a :data:`JOB`, :data:`SUB_JOB` or :data:`CANCEL` is due."""
    await connection.execute(_SQL["notify_due"], kind)


async def bump_jobs(connection: Connection, job_ids: Collection[UUID]) -> None:
    """Lock the jobs in order and raise their versions."""
    await connection.execute(_SQL["bump_jobs"], list(job_ids))


async def jobs_running(connection: Connection, job_ids: Collection[UUID]) -> list[UUID]:
    """Move the jobs that are NOT_STARTED to RUNNING and return them. The caller has locked the rows."""
    rows = await connection.fetch(_SQL["jobs_running"], list(job_ids))
    return [row["job_id"] for row in rows]


async def apply(connection: Connection, transitions: Sequence[Struct]) -> dict[UUID, bool]:
    """Write transitions of one kind. Returns, by sub-job id, whether another process changed the row while it
    was leased.

    The caller has locked the jobs of a :class:`Started` or :class:`CancelSent` with :func:`bump_jobs`, and
    the lanes of a :class:`QuarantineOver`, to which it admits the next writes.
    """
    kind = type(transitions[0])
    rows = await connection.fetch(_SQL[_STATEMENTS[kind]], *_fields(kind, transitions))
    return {row["sub_job_id"]: row["attention"] for row in rows}


async def settle(connection: Connection, ended: Sequence[Ended]) -> tuple[set[UUID], bool]:
    """Settle sub-jobs and count them. The caller has locked their jobs and lanes, and admits the next ones.

    Returns the ids of the sub-jobs that this call settled, and whether a job has no open sub-job left: its
    finish step is due.
    """
    cancelled = [s.leased for s in ended if s.status is Status.CANCELLED]
    if cancelled:
        await connection.execute(_SQL["through_cancelling"], *columns(cancelled, "sub_job_id", "lease"))
    *fields, _parts = _fields(Ended, ended)
    rows = await connection.fetch(_SQL["settle"], *fields, FIRST_PROBE)
    return {row["sub_job_id"] for row in rows}, any(row["sub_jobs_open"] == 0 for row in rows)


def _fields(kind: type[Struct], transitions: Sequence[Struct]) -> list[list[Any]]:
    """The sub-jobs, their leases, and the other fields of ``transitions`` in their order."""
    return columns(transitions, "leased.sub_job_id", "leased.lease", *kind.__struct_fields__[1:])


async def wait_for_objects(
    connection: Connection, sub_job_ids: Sequence[UUID], cause: str, lease: UUID | None = None
) -> None:
    """Record why the result objects of these open sub-jobs cannot be written.

    With ``lease``: only on rows that have it. Without: messages of reads cannot be stored, and the idle time
    of the reads restarts.
    """
    await lock_sub_jobs(connection, sub_job_ids)
    await connection.execute(_SQL["wait_for_objects"], sub_job_ids, lease, cause)


async def cancel(connection: Connection, job_id: UUID) -> None:
    """Request the cancel of every open sub-job of a job whose row the caller has locked.

    A plugin with ``bulk_cancel`` gets one DELETE for the whole job, and none for each sub-job that it has.
    """
    await lock_lanes_of(connection, [job_id])
    await connection.execute(_SQL["lock_open"], job_id, None)
    in_bulk = [row["plugin_id"] for row in await connection.fetch(_SQL["add_bulk_cancels"], job_id)]
    if in_bulk:
        await notify_due(connection, CANCEL)
    await connection.execute(_SQL["cancel_job"], job_id, None, in_bulk)
    await notify_due(connection, SUB_JOB)


async def cancel_at(connection: Connection, job_id: UUID, plugin_id: int) -> None:
    """Request the cancel, one by one, of the open sub-jobs that one plugin has of a cancelled job."""
    await bump_jobs(connection, [job_id])
    await connection.execute(_SQL["lock_open"], job_id, plugin_id)
    await connection.execute(_SQL["cancel_job"], job_id, plugin_id, [])
    await notify_due(connection, SUB_JOB)


async def poll_job_now(connection: Connection, job_id: UUID, plugin_id: int) -> None:
    """Make the next polls due of a cancelled job's tracked sub-jobs at one plugin."""
    await connection.execute(_SQL["lock_open"], job_id, plugin_id)
    await connection.execute(_SQL["poll_job_now"], job_id, plugin_id)
    await notify_due(connection, SUB_JOB)


async def poll_now(connection: Connection, sub_job_id: UUID, data_producer_job_id: str) -> bool:
    """Make the next poll of a tracked sub-job due; False when it is not tracked."""
    found = await connection.fetchrow(_SQL["poll_now"], sub_job_id, data_producer_job_id)
    if found is not None:
        await notify_due(connection, SUB_JOB)
    return found is not None


async def unblock(connection: Connection, job_ids: Sequence[UUID]) -> list[int]:
    """Unblock the sub-jobs of these jobs, whose rows the caller has locked. Returns their lanes, locked, for
    the caller to admit."""
    lanes = await lock_lanes_of(connection, job_ids)
    await connection.execute(_SQL["unblock"], job_ids)
    return lanes
