# SPDX-License-Identifier: Apache-2.0
"""Lanes and the steps of their sub-jobs. Every function takes many at once: rows are settled in batches.

A lane is one (DMI plugin, data producer). Whoever holds it under its newest epoch may write to its sub-jobs;
a write under an older epoch changes nothing, and its sub-job is absent from what the function returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import Struct

from ran_datajobs.job import JobType, Status
from ran_datajobs.store.database import Connection
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("lanes")

READY, STARTING, TRACKING, COLLECTING = "READY", "STARTING", "TRACKING", "COLLECTING"

_CANCELLED_SHOWN: Final = 200
_TYPES: Final = {each.value: each for each in JobType}
_STATUSES: Final = {each.name: each for each in Status}


class ClaimedLane(Struct, frozen=True):
    """A lane that the caller holds now. Settings that were not given at registration are ``None``."""

    lane_id: int
    epoch: int
    data_producer_id: str
    plugin_id: int
    url: str
    dialect: str
    idempotent: bool
    stop_on_error: bool
    give_up: float | None
    sub_job_timeout: float | None
    read_slots: int


class HeldElsewhere(Struct, frozen=True):
    """Another living worker holds the lane, for ``task_id``. ``wanted``: it has not seen what changed."""

    lane_id: int
    worker_id: UUID
    task_id: int | None
    wanted: bool = True


class OpenSubJob(Struct, frozen=True):
    """A sub-job that may have its turn. Durations are seconds by the database's clock.

    ``body_bytes``: its operations for the plugin, uncompressed; about ten times their stored size where that
    is not known.
    """

    sub_job_id: UUID
    job_id: UUID
    lane_id: int
    type: JobType
    stage: str
    status: Status
    operations: int
    data_producer_job_id: str | None
    cancel_asked: bool
    attempts: int
    polls: int
    result_topic: str | None
    result_total: int | None
    due_at: datetime | None
    due_in: float | None
    in_trouble_for: float | None
    running_for: float | None
    idle_for: float | None
    accept_type: str
    content_type: str
    activation_mode: str
    destination: str | None
    results_bucket: str
    destination_kind: str
    job_cancel_asked: bool
    body_bytes: int = 0


class ClosingWrite(Struct, frozen=True):
    """A write that was given up ``ended_for`` seconds ago; its plugin may still be executing it."""

    lane_id: int
    sub_job_id: UUID
    job_id: UUID
    data_producer_job_id: str
    destination: str
    operations: int
    ended_for: float


class Look(Struct, frozen=True):
    """What a holder finds in its lane; the waiting sub-jobs in the order of their turns.

    No write may be started for ``closed_for`` seconds, or until ``closed_by`` has ended at its plugin.
    ``wanted``: somebody changed something since the last look. ``more``: others wait behind these.
    """

    closed_for: float
    sub_jobs: tuple[OpenSubJob, ...]
    closed_by: ClosingWrite | None = None
    wanted: bool = False
    more: bool = False


class Closed(Struct, frozen=True):
    """Whether writes may start in a lane: not for ``closed_for`` seconds, while ``closed_by`` may be running.
    ``wanted`` as in :class:`Look`."""

    closed_for: float
    closed_by: UUID | None
    wanted: bool = False


class Held(Struct, frozen=True):
    """A sub-job, and the epoch under which its lane is held."""

    sub_job_id: UUID
    job_id: UUID
    lane_id: int
    epoch: int


class Waiting(Struct, frozen=True):
    """A sub-job that goes on after ``delay`` seconds; ``error`` is empty when nothing is wrong.

    ``seen_due``: the ``due_at`` that its holder saw. A newer one is somebody's wish, and stays.
    """

    held: Held
    delay: float
    polls: int
    seen_due: datetime | None
    error: str = ""


class Settlement(Struct, frozen=True):
    """The end of a sub-job. ``close_lane`` seconds: the plugin may still be executing."""

    held: Held
    status: Status
    succeeded: int = 0
    failed: int = 0
    not_started: int = 0
    unknown: int = 0
    error: str = ""
    close_lane: float = 0.0


async def worker_alive(connection: Connection, worker_id: UUID, seconds: float) -> None:
    """Let the worker hold its lanes for ``seconds`` more."""
    await connection.execute(_SQL["worker_alive"], worker_id, seconds)


async def worker_gone(connection: Connection, worker_id: UUID) -> list[int]:
    """Give up every lane of a worker that ends; the lanes that somebody else has to take."""
    return [row["lane_id"] for row in await connection.fetch(_SQL["worker_gone"], worker_id)]


async def orphan_lanes(connection: Connection) -> list[int]:
    """Up to 1000 lanes whose holder is dead."""
    await connection.execute(_SQL["dead_workers"])
    return [row["lane_id"] for row in await connection.fetch(_SQL["orphan_lanes"])]


async def claim(
    connection: Connection,
    wishes: Sequence[tuple[int, int]],
    worker_id: UUID,
    attended: Sequence[int] = (),
    *,
    read_slots: int,
) -> dict[int, tuple[ClaimedLane, Closed] | HeldElsewhere]:
    """Take the lanes of ``wishes`` (lane id, task id) that no living worker holds, by lane id.

    ``attended``: the lanes that somebody in this very worker works in. What else it still holds was left
    behind by a turn that failed, and is taken again. ``read_slots``: where a plugin registered none.
    """
    rows = await connection.fetch(
        _SQL["claim"], [lane for lane, _ in wishes], [task for _, task in wishes], worker_id, attended
    )
    found: dict[int, tuple[ClaimedLane, Closed] | HeldElsewhere] = {}
    for row in rows:
        if row["epoch"] is None:
            found[row["lane_id"]] = HeldElsewhere(
                row["lane_id"], row["held_by"], row["holder_task"], row["wanted"]
            )
        else:
            fields = {name: row[name] for name in ClaimedLane.__struct_fields__}
            fields["read_slots"] = row["read_slots"] or read_slots
            found[row["lane_id"]] = ClaimedLane(**fields), Closed(row["closed_for"] or 0.0, row["closed_by"])
    return found


async def look(
    connection: Connection, lanes: Sequence[tuple[int, int, int]], aging: float
) -> dict[int, Look]:
    """The open sub-jobs of ``lanes`` (lane id, epoch, read slots); a lane that was lost is absent.

    ``aging``: seconds of waiting that raise a sub-job's priority by one.
    """
    rows = await connection.fetch(_SQL["look"], [lane[0] for lane in lanes], [lane[1] for lane in lanes])
    closed = {
        row["lane_id"]: Closed(row["closed_for"] or 0.0, row["closed_by"], row["wanted"]) for row in rows
    }
    slots = {lane_id: read_slots for lane_id, _, read_slots in lanes if lane_id in closed}
    return await looks(connection, slots, closed, aging)


async def looks(
    connection: Connection, slots: Mapping[int, int], closed: Mapping[int, Closed], aging: float
) -> dict[int, Look]:
    """The open sub-jobs of lanes that the caller holds; ``slots``: how many reads may run in each."""
    by_whom = [each.closed_by for each in closed.values() if each.closed_for and each.closed_by]
    closing = await _closing_writes(connection, by_whom) if by_whom else {}
    rows = await connection.fetch(_SQL["open_sub_jobs"], list(slots), list(slots.values()), aging)
    open_by_lane: dict[int, list[OpenSubJob]] = {lane_id: [] for lane_id in slots}
    for row in rows:
        open_by_lane[row["lane_id"]].append(_open_sub_job(row))
    return {
        lane_id: Look(
            closed[lane_id].closed_for,
            tuple(found),
            closing.get(lane_id),
            closed[lane_id].wanted,
            _are_more(found, slots[lane_id]),
        )
        for lane_id, found in open_by_lane.items()
    }


def _open_sub_job(row: Record) -> OpenSubJob:
    values = dict(row.items())
    values["type"], values["status"] = _TYPES[values["type"]], _STATUSES[values["status"]]
    return OpenSubJob(**values)


def _are_more(found: Sequence[OpenSubJob], read_slots: int) -> bool:
    """Whether as many wait as a look shows at the most."""
    waiting = [s for s in found if s.stage == READY]
    cancelled = sum(s.cancel_asked for s in waiting)
    reads = sum(s.type is JobType.READ and not s.cancel_asked for s in waiting)
    return cancelled >= _CANCELLED_SHOWN or reads > read_slots or len(waiting) - cancelled - reads > 1


async def _closing_writes(connection: Connection, sub_jobs: Sequence[UUID]) -> dict[int, ClosingWrite]:
    rows = await connection.fetch(_SQL["closing_writes"], sub_jobs)
    return {
        row["lane_id"]: ClosingWrite(**{name: row[name] for name in ClosingWrite.__struct_fields__})
        for row in rows
    }


async def lock_jobs(connection: Connection, job_ids: Iterable[UUID]) -> None:
    """Lock the jobs' rows, in order."""
    await connection.execute(_SQL["lock_jobs"], sorted(set(job_ids)))


async def lock_jobs_not_started(connection: Connection, job_ids: Iterable[UUID]) -> list[UUID]:
    """Lock those of these jobs that are NOT_STARTED; once one is not, it never is again."""
    rows = await connection.fetch(_SQL["lock_jobs_not_started"], list(job_ids))
    return [row["job_id"] for row in rows]


async def holds(connection: Connection, held: Held) -> bool:
    """True while the lane has this epoch and the sub-job is not settled."""
    return bool(await connection.fetchval(_SQL["holds"], held.sub_job_id, held.epoch))


async def mark_starting(connection: Connection, held: Sequence[Held]) -> dict[UUID, bytes]:
    """Note that the creates are about to be sent; the stored bodies by sub-job id."""
    rows = await connection.fetch(
        _SQL["mark_starting"], [h.sub_job_id for h in held], [h.epoch for h in held]
    )
    return {row["sub_job_id"]: row["body"] for row in rows}


async def jobs_running(connection: Connection, job_ids: Sequence[UUID]) -> list[UUID]:
    """Move the jobs that were NOT_STARTED to RUNNING; those that moved."""
    if not job_ids:
        return []
    return [row["job_id"] for row in await connection.fetch(_SQL["jobs_running"], sorted(set(job_ids)))]


async def body_of(connection: Connection, sub_job_id: UUID) -> bytes | None:
    """The stored operations of a sub-job that is not settled."""
    body: bytes | None = await connection.fetchval(_SQL["body_of"], sub_job_id)
    return body


async def _bump(connection: Connection, held: Sequence[Held]) -> tuple[list[UUID], list[int]]:
    """Lock the jobs of ``held`` and raise their versions: job ids and versions."""
    job_ids = sorted({h.job_id for h in held})
    await lock_jobs(connection, job_ids)
    rows = await connection.fetch(_SQL["bump_jobs"], job_ids)
    return [row["job_id"] for row in rows], [row["version"] for row in rows]


async def mark_started(connection: Connection, started: Sequence[tuple[Held, str]]) -> set[UUID]:
    """Record the ``dataProducerJobId`` of each started sub-job."""
    job_ids, versions = await _bump(connection, [held for held, _ in started])
    rows = await connection.fetch(
        _SQL["mark_started"],
        [held.sub_job_id for held, _ in started],
        [held.epoch for held, _ in started],
        [producer_job for _, producer_job in started],
        job_ids,
        versions,
    )
    return {row["sub_job_id"] for row in rows}


async def mark_not_arrived(connection: Connection, waiting: Sequence[Waiting]) -> set[UUID]:
    """Put sub-jobs whose create provably did not arrive back to READY."""
    rows = await connection.fetch(
        _SQL["mark_not_arrived"],
        [w.held.sub_job_id for w in waiting],
        [w.held.epoch for w in waiting],
        [w.delay for w in waiting],
        [w.error for w in waiting],
    )
    return {row["sub_job_id"] for row in rows}


async def mark_waiting(connection: Connection, waiting: Sequence[Waiting]) -> set[UUID]:
    """Record when each sub-job goes on, and what is wrong with it."""
    rows = await connection.fetch(
        _SQL["mark_waiting"],
        [w.held.sub_job_id for w in waiting],
        [w.held.epoch for w in waiting],
        [w.seen_due for w in waiting],
        [w.delay for w in waiting],
        [w.polls for w in waiting],
        [w.error for w in waiting],
    )
    return {row["sub_job_id"] for row in rows}


async def mark_collecting(connection: Connection, collecting: Sequence[tuple[Held, str]]) -> set[UUID]:
    """Record the topic on which each read's messages come."""
    rows = await connection.fetch(
        _SQL["mark_collecting"],
        [held.sub_job_id for held, _ in collecting],
        [held.epoch for held, _ in collecting],
        [topic for _, topic in collecting],
    )
    return {row["sub_job_id"] for row in rows}


async def mark_cancelling(connection: Connection, held: Sequence[Held]) -> set[UUID]:
    """Record that the plugin was told to cancel these sub-jobs."""
    job_ids, versions = await _bump(connection, held)
    rows = await connection.fetch(
        _SQL["mark_cancelling"], [h.sub_job_id for h in held], [h.epoch for h in held], job_ids, versions
    )
    return {row["sub_job_id"] for row in rows}


async def settle(connection: Connection, settlements: Sequence[Settlement]) -> tuple[set[UUID], list[UUID]]:
    """End sub-jobs and count them.

    Returns the ids of the sub-jobs that were settled by this call, and the jobs that have none open any more.
    """
    job_ids, versions = await _bump(connection, [s.held for s in settlements])
    cancelled = [s.held for s in settlements if s.status is Status.CANCELLED]
    if cancelled:
        await connection.execute(
            _SQL["through_cancelling"], [h.sub_job_id for h in cancelled], [h.epoch for h in cancelled]
        )
    rows = await connection.fetch(
        _SQL["settle"],
        [s.held.sub_job_id for s in settlements],
        [s.held.epoch for s in settlements],
        [s.status.value for s in settlements],
        [s.succeeded for s in settlements],
        [s.failed for s in settlements],
        [s.not_started for s in settlements],
        [s.unknown for s in settlements],
        [s.error for s in settlements],
        job_ids,
        versions,
    )
    settled = {row["sub_job_id"] for row in rows}
    done = [s for s in settlements if s.held.sub_job_id in settled]
    if not done:
        return settled, []
    closing = [s for s in done if s.close_lane > 0]
    if closing:
        await connection.execute(
            _SQL["close_lanes"],
            [s.held.lane_id for s in closing],
            [s.held.epoch for s in closing],
            [s.close_lane for s in closing],
            [s.held.sub_job_id for s in closing],
        )
    return settled, await _count(connection, done)


async def _count(connection: Connection, done: Sequence[Settlement]) -> list[UUID]:
    sums: dict[UUID, list[int]] = {}
    for s in done:
        of_job = sums.setdefault(s.held.job_id, [0] * 6)
        cancelled = int(s.status is Status.CANCELLED)
        for i, n in enumerate((1, s.succeeded, s.failed, s.not_started, s.unknown, cancelled)):
            of_job[i] += n
    job_ids = sorted(sums)
    rows = await connection.fetch(
        _SQL["count_settled"], job_ids, *([sums[job_id][i] for job_id in job_ids] for i in range(6))
    )
    return [row["job_id"] for row in rows if row["sub_jobs_open"] == 0]


async def release(connection: Connection, lanes: Sequence[tuple[int, int]]) -> set[int]:
    """Give lanes (lane id, epoch) back, but for those where something changed since the last look."""
    rows = await connection.fetch(_SQL["release"], [lane[0] for lane in lanes], [lane[1] for lane in lanes])
    return {row["lane_id"] for row in rows}


async def reopen(connection: Connection, ended: Sequence[tuple[int, int, UUID]]) -> set[int]:
    """Let writes start again in closed lanes (lane id, epoch, the write that closed it); those that were."""
    rows = await connection.fetch(_SQL["reopen_lanes"], *([each[i] for each in ended] for i in range(3)))
    return {row["lane_id"] for row in rows}


async def want(connection: Connection, lane_ids: Sequence[int]) -> None:
    """Note that something changed in these lanes. Their holders look again before they give them back."""
    await connection.execute(_SQL["want_lanes"], sorted(lane_ids))


async def plugins_of(connection: Connection, lane_ids: Sequence[int]) -> dict[int, int]:
    """The plugin of each of these lanes that there is."""
    rows = await connection.fetch(_SQL["plugins_of"], lane_ids)
    return {row["lane_id"]: row["plugin_id"] for row in rows}


async def poke_holders(connection: Connection, lane_ids: Sequence[int]) -> None:
    """Tell the workers that hold these lanes that somebody wants something of them."""
    await connection.execute(_SQL["poke_holders"], sorted(set(lane_ids)))
