# SPDX-License-Identifier: Apache-2.0
"""Sub-jobs and lanes: insert, admit, claim, renew, and one function per transition.

A lane is one (DMI plugin, data producer). Functions take many rows at once, in the caller's transaction. A
write names the lease that its worker has on the row. When the row no longer has that lease, nothing changes
and the sub-job is absent from the result of the function.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

from asyncpg import Record
from msgspec import Struct

from ran_datajobs.model import JobType, Stage, Status
from ran_datajobs.store.database import Connection
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("sub_jobs")
_CLAIM: Final = _SQL["claim"].replace(":columns", _SQL["columns"]).replace(":token", "$10")
_ADD_BULK_CANCELS: Final = named_queries("cancels")["add_bulk_cancels"]
_LEASED_UNDER: Final = _SQL["leased_under"].replace(":columns", _SQL["columns"]).replace(":token", "$1")

LEASE_SECONDS: Final = 10.0
"""Duration of a lease in seconds after it was taken or renewed, by the database's clock."""

FIRST_PROBE: Final = 0.2
"""Delay in seconds of the first status request for a write in quarantine."""

ONE_WRITE_PER_LANE: Final = "one_write_per_lane"
"""Name of the unique index that a second active write of a lane violates."""

JOB, SUB_JOB, CANCEL = "job", "sub_job", "cancel"
"""Kinds of due rows: a step of a data job, a sub-job, or the DELETE of a whole job."""

_PIECE_BYTES: Final = 2 << 20
_TYPES: Final = {each.value: each for each in JobType}
_STATUSES: Final = {each.name: each for each in Status}
_STAGES: Final = {each.value: each for each in Stage}


class NewSubJob(Struct, frozen=True):
    """A sub-job to insert. ``body``: the operations for the plugin, zstd, ``size`` bytes uncompressed."""

    sub_job_id: UUID
    plugin_id: int
    data_producer_id: str
    body: bytes
    operations: int
    size: int


class Admission(Struct, frozen=True):
    """Parameters of admission. ``aging``: seconds of waiting that raise the priority by one. ``read_slots``:
    concurrent reads of a lane, in addition to its one write, if its plugin registered no number."""

    aging: float = 600.0
    read_slots: int = 4


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
    unsent. Settings that a plugin did not register are ``None``.
    """

    type: JobType
    stage: Stage
    was: Stage
    status: Status
    operations: int
    data_producer_job_id: str | None
    cancel_requested: bool
    attempts: int
    polls: int
    result_topic: str | None
    result_total: int | None
    messages: int
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
    idempotent: bool
    stop_on_error: bool
    give_up: float | None
    sub_job_timeout: float | None


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


class Settlement(Struct, frozen=True):
    """The end of a sub-job. ``quarantine``: seconds for which its plugin may still be executing it.
    ``executed``: number of operations that the plugin executed, with or without success."""

    leased: Leased
    status: Status
    succeeded: int = 0
    failed: int = 0
    not_started: int = 0
    unknown: int = 0
    error: str = ""
    quarantine: float = 0.0
    executed: int = 0


async def insert(connection: Connection, job_id: UUID, sub_jobs: Sequence[NewSubJob]) -> list[int]:
    """Insert the sub-jobs of a job in order, with their lanes. Returns the sorted ids of these lanes."""
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
            [s.size for s in some],
            [s.plugin_id for s in some],
        )
    return sorted(lane_ids.values())


def _in_pieces(sub_jobs: Sequence[NewSubJob]) -> Iterator[tuple[int, list[NewSubJob]]]:
    """(position of the first, sub-jobs), a few MiB of bodies each, so that the event loop runs in between."""
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
    """Find or add the lanes of (plugin, data producer)."""
    found: dict[tuple[int, str], int] = {}
    query = "find_lanes"
    while missing := sorted(pairs - found.keys()):
        columns = [plugin for plugin, _ in missing], [producer for _, producer in missing]
        for row in await connection.fetch(_SQL[query], *columns):
            found[row["plugin_id"], row["data_producer_id"]] = row["lane_id"]
        # A lane that another transaction adds concurrently is neither found nor added: it is found later.
        query = "add_lanes" if query == "find_lanes" else "find_lanes"
    return found


async def lock_lanes(connection: Connection, lane_ids: Collection[int]) -> None:
    """Lock lanes until the transaction ends, before any sub-job of theirs is locked."""
    await connection.execute(_SQL["lock_lanes"], sorted(set(lane_ids)))


async def lock_sub_jobs(connection: Connection, sub_job_ids: Collection[UUID]) -> None:
    """Lock sub-jobs until the transaction ends, in the order of their ids, before any of them is written."""
    await connection.execute(_SQL["lock_sub_jobs"], list(sub_job_ids))


async def admit(connection: Connection, lane_ids: Collection[int], how: Admission) -> list[UUID]:
    """Admit waiting sub-jobs to the free slots of these lanes, which the caller has locked.

    Returns their ids. Raises asyncpg.UniqueViolationError (:data:`ONE_WRITE_PER_LANE`) rather than admitting
    a second write.
    """
    rows = await connection.fetch(_SQL["admit"], sorted(set(lane_ids)), how.read_slots, how.aging)
    return [row["sub_job_id"] for row in rows]


async def notify_due(connection: Connection, kind: str) -> None:
    """Notify the workers, at the commit, that a :data:`JOB`, :data:`SUB_JOB` or :data:`CANCEL` is due."""
    await connection.execute(_SQL["notify_due"], kind)


async def claim(
    connection: Connection, room: Room, token: UUID, worker_id: UUID, *, void: bool = True
) -> list[LeasedSubJob]:
    """Lease due sub-jobs within ``room``; an ADMITTED one becomes STARTING. ``void``: also those whose lease
    has expired.

    Sub-jobs that were ADMITTED get ``token``; the others get a second token, derived from it, so that
    :func:`leased_under` distinguishes them.
    """
    plugins = list(room.plugins.items())
    rows = await connection.fetch(
        _CLAIM,
        [plugin_id for plugin_id, _ in plugins],
        [each.creates for _, each in plugins],
        [each.calls for _, each in plugins],
        [each.size for _, each in plugins],
        room.other.creates,
        room.other.calls,
        room.other.size,
        room.rows,
        room.size,
        token,
        worker_id,
        LEASE_SECONDS,
        _token_of_others(token),
        void,
        [each.deletes for _, each in plugins],
        room.other.deletes,
        room.unsent,
    )
    return [_leased_sub_job(row) for row in rows]


def _token_of_others(token: UUID) -> UUID:
    """The token of the sub-jobs that a claim with ``token`` found in a stage other than ADMITTED."""
    return uuid5(token, "not ADMITTED")


async def leased_under(connection: Connection, token: UUID) -> list[LeasedSubJob]:
    """The sub-jobs leased under ``token`` by a claim whose answer was lost: nothing was sent for them."""
    rows = await connection.fetch(_LEASED_UNDER, token, _token_of_others(token))
    return [_leased_sub_job(row) for row in rows]


def _leased_sub_job(row: Record) -> LeasedSubJob:
    values = dict(row.items())
    values["type"], values["status"] = _TYPES[values["type"]], _STATUSES[values["status"]]
    values["stage"], values["was"] = _STAGES[values["stage"]], _STAGES[values["was"]]
    values["job_status"] = _STATUSES[values["job_status"]]
    values["reported_status"] = (
        None if values["reported_status"] is None else _STATUSES[values["reported_status"]]
    )
    return LeasedSubJob(**values)


async def renew(connection: Connection, leases: Mapping[UUID, UUID]) -> set[UUID]:
    """Renew the leases (sub-job id → token). Returns the renewed sub-jobs; rows that another transaction has
    locked are skipped."""
    rows = await connection.fetch(_SQL["renew"], list(leases), list(leases.values()), LEASE_SECONDS)
    return {row["sub_job_id"] for row in rows}


async def wait_for_objects(
    connection: Connection, sub_job_ids: Sequence[UUID], cause: str, leases: Sequence[UUID] | None = None
) -> None:
    """Record why the result objects of these open sub-jobs cannot be written.

    With ``leases``: only on rows that have one of these. Without: messages of reads cannot be stored, and the
    idle time of the reads restarts.
    """
    await connection.execute(_SQL["wait_for_objects"], list(sub_job_ids), leases, cause)


async def with_attention(connection: Connection, sub_job_ids: Sequence[UUID]) -> list[UUID]:
    """Those of these leased sub-jobs that another process has changed."""
    return [row["sub_job_id"] for row in await connection.fetch(_SQL["with_attention"], sub_job_ids)]


async def is_leased(connection: Connection, leased: Leased) -> bool:
    """True while the row has this lease."""
    return bool(await connection.fetchval(_SQL["is_leased"], leased.sub_job_id, leased.lease))


async def give_back(
    connection: Connection, leases: Mapping[UUID, UUID], unsent: Collection[UUID] = ()
) -> None:
    """End these leases (sub-job id → token) now; the rows are due at once. ``unsent``: STARTING
    sub-jobs that were not sent; they become ADMITTED again."""
    await lock_sub_jobs(connection, leases)
    await connection.execute(_SQL["give_back"], list(leases), list(leases.values()), list(unsent))


async def body_of(connection: Connection, sub_job_id: UUID) -> bytes | None:
    """The stored operations (zstd) of a sub-job; ``None`` once it is counted."""
    body: bytes | None = await connection.fetchval(_SQL["body_of"], sub_job_id)
    return body


async def bump_jobs(connection: Connection, job_ids: Collection[UUID]) -> dict[UUID, int]:
    """Lock the jobs in order and raise their versions. Returns the versions by job id."""
    rows = await connection.fetch(_SQL["bump_jobs"], sorted(set(job_ids)))
    return {row["job_id"]: row["version"] for row in rows}


async def mark_started(
    connection: Connection, started: Sequence[tuple[Leased, str]], versions: Mapping[UUID, int]
) -> tuple[dict[UUID, bool], list[UUID]]:
    """Record the ``dataProducerJobId`` of each started sub-job; the leases remain. A repeat changes nothing.

    ``versions``: of their jobs, which :func:`bump_jobs` has locked. Returns, by sub-job id, whether another
    process changed the row meanwhile, and the jobs that became RUNNING.
    """
    rows = await connection.fetch(
        _SQL["mark_started"],
        [leased.sub_job_id for leased, _ in started],
        [leased.lease for leased, _ in started],
        [producer_job for _, producer_job in started],
        list(versions),
        list(versions.values()),
    )
    done = {row["sub_job_id"]: row["attention"] for row in rows}
    begun = {leased.job_id for leased, _ in started if leased.sub_job_id in done}
    return done, await jobs_running(connection, begun)


async def jobs_running(connection: Connection, job_ids: Collection[UUID]) -> list[UUID]:
    """Move the jobs that are NOT_STARTED to RUNNING and return them. The caller has locked the rows."""
    rows = await connection.fetch(_SQL["jobs_running"], sorted(set(job_ids)))
    return [row["job_id"] for row in rows]


async def postpone(connection: Connection, postponed: Sequence[Postponement]) -> set[UUID]:
    """End the leases of these sub-jobs and record when each is due again."""
    rows = await connection.fetch(
        _SQL["postpone"],
        [p.leased.sub_job_id for p in postponed],
        [p.leased.lease for p in postponed],
        [p.delay for p in postponed],
        [p.polls for p in postponed],
        [p.unsent for p in postponed],
        [p.error for p in postponed],
        [None if p.reported_status is None else p.reported_status.value for p in postponed],
        [p.trial for p in postponed],
    )
    return {row["sub_job_id"] for row in rows}


async def mark_collecting(connection: Connection, collecting: Sequence[Collecting]) -> set[UUID]:
    """Record the topic on which each read's messages arrive, and end the leases."""
    rows = await connection.fetch(
        _SQL["mark_collecting"],
        [c.leased.sub_job_id for c in collecting],
        [c.leased.lease for c in collecting],
        [c.topic for c in collecting],
        [None if c.reported_status is None else c.reported_status.value for c in collecting],
        [c.delay for c in collecting],
    )
    return {row["sub_job_id"] for row in rows}


async def mark_cancelling(
    connection: Connection, leased: Sequence[Leased], versions: Mapping[UUID, int]
) -> dict[UUID, bool]:
    """Record that the DELETEs of these sub-jobs are done; the leases remain. Returns, by sub-job id, whether
    another process changed the row meanwhile."""
    rows = await connection.fetch(
        _SQL["mark_cancelling"],
        [h.sub_job_id for h in leased],
        [h.lease for h in leased],
        list(versions),
        list(versions.values()),
    )
    return {row["sub_job_id"]: row["attention"] for row in rows}


async def settle(
    connection: Connection, settlements: Sequence[Settlement], versions: Mapping[UUID, int]
) -> tuple[set[UUID], list[UUID]]:
    """Settle sub-jobs and count them. The caller has locked their jobs and lanes, and admits the next ones.

    Returns the ids of the sub-jobs that this call settled, and the jobs that have no open sub-job left: their
    finish step is due.
    """
    cancelled = [s.leased for s in settlements if s.status is Status.CANCELLED]
    if cancelled:
        await connection.execute(
            _SQL["through_cancelling"], [h.sub_job_id for h in cancelled], [h.lease for h in cancelled]
        )
    rows = await connection.fetch(
        _SQL["settle"],
        [s.leased.sub_job_id for s in settlements],
        [s.leased.lease for s in settlements],
        [s.status.value for s in settlements],
        [s.succeeded for s in settlements],
        [s.failed for s in settlements],
        [s.not_started for s in settlements],
        [s.unknown for s in settlements],
        [s.error for s in settlements],
        [s.quarantine for s in settlements],
        list(versions),
        list(versions.values()),
        FIRST_PROBE,
    )
    settled = {row["sub_job_id"] for row in rows}
    done = [s for s in settlements if s.leased.sub_job_id in settled]
    return settled, await _count(connection, done) if done else []


async def _count(connection: Connection, done: Sequence[Settlement]) -> list[UUID]:
    sums: dict[UUID, list[int]] = {}
    for s in done:
        of_job = sums.setdefault(s.leased.job_id, [0] * 7)
        cancelled = int(s.status is Status.CANCELLED)
        for i, n in enumerate((1, s.succeeded, s.failed, s.not_started, s.unknown, cancelled, s.executed)):
            of_job[i] += n
    job_ids = sorted(sums)
    rows = await connection.fetch(
        _SQL["count_settled"], job_ids, *([sums[job_id][i] for job_id in job_ids] for i in range(7))
    )
    return [row["job_id"] for row in rows if row["sub_jobs_open"] == 0]


async def end_quarantine(connection: Connection, leased: Sequence[Leased]) -> set[UUID]:
    """Settle these quarantined writes. The caller has locked their lanes, and admits the next writes."""
    rows = await connection.fetch(
        _SQL["end_quarantine"], [h.sub_job_id for h in leased], [h.lease for h in leased]
    )
    return {row["sub_job_id"] for row in rows}


async def cancel(connection: Connection, job_id: UUID, version: int) -> None:
    """Request the cancel of every open sub-job of a job whose row the caller has locked.

    A plugin with ``bulk_cancel`` gets one DELETE for the whole job, and none for each sub-job that it has.
    """
    lanes = [row["lane_id"] for row in await connection.fetch(_SQL["lanes_of_job"], job_id)]
    await lock_lanes(connection, lanes)
    await connection.execute(_SQL["lock_open"], job_id, None)
    in_bulk = [row["plugin_id"] for row in await connection.fetch(_ADD_BULK_CANCELS, job_id)]
    if in_bulk:
        await notify_due(connection, CANCEL)
    await connection.execute(_SQL["cancel_job"], job_id, None, version, in_bulk)
    await notify_due(connection, SUB_JOB)


async def cancel_at(connection: Connection, job_id: UUID, plugin_id: int) -> None:
    """Request the cancel, one by one, of the open sub-jobs that one plugin has of a cancelled job."""
    version = (await bump_jobs(connection, [job_id]))[job_id]
    await connection.execute(_SQL["lock_open"], job_id, plugin_id)
    await connection.execute(_SQL["cancel_job"], job_id, plugin_id, version, [])
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
    lanes = [row["lane_id"] for row in await connection.fetch(_SQL["lanes_of_blocked"], job_ids)]
    await lock_lanes(connection, lanes)
    await connection.execute(_SQL["unblock"], job_ids)
    return lanes


async def lock_reads(connection: Connection, sub_job_ids: Sequence[UUID]) -> set[UUID]:
    """Lock and return those of these reads that are not settled."""
    return {row["sub_job_id"] for row in await connection.fetch(_SQL["lock_reads"], sub_job_ids)}


async def count_messages(
    connection: Connection, messages: Mapping[UUID, int], totals: Mapping[UUID, int | None]
) -> None:
    """Count new messages of locked reads; ``totals``: the announced numbers of messages, if any."""
    rows: list[Any] = await connection.fetch(
        _SQL["count_messages"],
        list(messages),
        [totals.get(each) for each in messages],
        list(messages.values()),
    )
    if any(row["due"] for row in rows):
        await notify_due(connection, SUB_JOB)
