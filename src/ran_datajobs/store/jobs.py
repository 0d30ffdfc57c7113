# SPDX-License-Identifier: Apache-2.0
"""Data jobs: insert, read, cancel, and the ends of their two steps, plan and finish.

A function that takes ``client`` sees only that client's jobs; ``None``: the jobs of all clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import zstandard
from msgspec import Struct
from msgspec.structs import astuple

from ran_datajobs.model import (
    DeliveryState,
    EffectCounts,
    Ignored,
    JobType,
    OperationCounts,
    Reach,
    Status,
    Validation,
    Warnings,
)
from ran_datajobs.store import sub_jobs as store_sub_jobs
from ran_datajobs.store.database import Connection, read, read_one
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("jobs")
_LIST = _SQL["list_jobs"].replace(":jobs", "data_job")
_LIST_BY_ID = _SQL["list_jobs"].replace(":jobs", f"({_SQL['jobs_by_id']})")

TOPIC, BUCKET = "TOPIC", "BUCKET"


def bucket_named(destination_kind: str, destination: str | None, results_bucket: str) -> str:
    """The bucket in the address of a job's results: its destination if a bucket, else ``results_bucket``."""
    return destination if destination_kind == BUCKET and destination else results_bucket


LAST_POSITION = 2**31 - 1
"""A position behind every sub-job of a job."""


class NewJob(Struct, frozen=True):
    """A job to insert, from a checked request, of which it has every field. ``request``: its bytes, zstd.
    ``plugin_destination``: the destination that plugins get, if it is not ``destination``. ``verdicts``: of
    the policy executor, if it was asked before. The fields are the parameters of the statement that inserts
    it."""

    job_id: UUID
    client: str
    type: JobType
    name: str | None
    destination: str | None
    destination_kind: str
    results_bucket: str
    accept_type: str
    content_type: str
    activation_mode: str
    priority: int
    after_jobs: tuple[UUID, ...]
    retry_of: UUID | None
    count: int
    request: bytes
    ignored: Ignored | None = None
    plugin_destination: str | None = None
    verdicts: bytes | None = None
    validation: Validation = Validation.OFF

    @property
    def bucket_named(self) -> str:
        """The bucket in the address of the job's results."""
        return bucket_named(self.destination_kind, self.destination, self.results_bucket)


class _Counted(Struct, frozen=True, kw_only=True):
    """Numbers of operations by state; those in no other state are pending."""

    operations: int
    succeeded: int
    failed: int
    unmatched: int = 0
    not_started: int
    unknown: int

    @property
    def counts(self) -> OperationCounts:
        """The operations by state."""
        settled = self.succeeded + self.failed + self.unmatched + self.not_started + self.unknown
        return OperationCounts(
            total=self.operations,
            succeeded=self.succeeded,
            failed=self.failed,
            unmatched=self.unmatched,
            not_started=self.not_started,
            unknown=self.unknown,
            pending=max(0, self.operations - settled),
        )


class JobRow(_Counted, frozen=True, kw_only=True):
    """A job as stored. Every visible change raises ``version``.

    ``delivery_detail``: why its delivery waits or has failed. ``objects_cause``: why its plan or its finish
    cannot write result objects, since ``objects_since``. ``blocked``: a job that it names in ``after`` is
    open. ``cancelled_at``: when its cancel was accepted; ``ended_after_cancel``: number of operations that
    plugins executed and that were counted after the cancel.
    ``ignored``: the keys of its request that have no effect; ``None`` if there are none. ``warnings``: of its
    validation, once it is planned; ``None`` if there are none.
    ``delivery_topic``: where its results are delivered (see :mod:`ran_datajobs.store.outbox`); ``None`` if
    they stay in ``results_bucket``. ``plugin_destination``: as in :class:`NewJob`. ``split_reads``:
    operations have several parts, or it is a preview: it is counted when it ends. ``cancelled_sub_jobs``:
    number of sub-jobs that a cancel stopped. ``preview``, ``reach``: of a preview that has ended.
    """

    job_id: UUID
    seq: int
    client: str
    type: JobType
    name: str | None
    destination: str | None
    destination_kind: str
    results_bucket: str
    activation_mode: str
    priority: int
    retry_of: UUID | None
    status: Status
    planned: bool
    reason: str | None
    delivery_state: DeliveryState
    delivery_detail: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    version: int
    ignored: Ignored | None = None
    warnings: Warnings | None = None
    blocked: bool = False
    sub_jobs_open: int = 0
    objects_cause: str | None = None
    objects_since: datetime | None = None
    cancelled_at: datetime | None = None
    ended_after_cancel: int | None = None
    delivery_topic: str | None = None
    plugin_destination: str | None = None
    delivery_number: int = 1
    split_reads: bool = False
    cancelled_sub_jobs: int = 0
    preview: EffectCounts | None = None
    reach: Reach | None = None

    @property
    def bucket_named(self) -> str:
        """The bucket in the address of the job's results."""
        return bucket_named(self.destination_kind, self.destination, self.results_bucket)


class SubJobRow(_Counted, frozen=True, kw_only=True):
    """A sub-job as stored; ``version`` is that of the job at the sub-job's last visible change."""

    sub_job_id: UUID
    position: int
    url: str
    data_producer_id: str
    data_producer_job_id: str | None
    status: Status
    attempts: int
    last_error: str | None
    version: int


class UnknownAfter(Exception):
    """The client can see no jobs with some of the ``after`` ids, which are the argument."""


class KeyTaken(Exception):
    """The Idempotency-Key belongs to another job already."""


class PushedSubJob(Struct, frozen=True):
    """Columns that a status push is checked against."""

    stage: str
    data_producer_job_id: str | None
    url: str


async def admission(
    connection: Connection, client: str, key: str | None, limit: int
) -> tuple[int, bytes | None, JobRow | None]:
    """The number of open jobs of ``client``, counted up to ``limit``, and the job that was created under its
    ``key`` with the digest of its request."""
    (row,) = await connection.fetch(_SQL["admission"], client, key, limit)
    job = await find(connection, row["job_id"], None) if row["job_id"] is not None else None
    return row["open_jobs"], row["digest"], job


async def insert(
    connection: Connection, job: NewJob, *, sees: str | None, key: tuple[str, bytes] | None = None
) -> None:
    """Write a job and its request in the caller's transaction. ``key``: Idempotency-Key and digest.

    ``sees``: the client whose jobs ``after`` may name. Waits for a concurrent insert of the same key. Raises
    UnknownAfter and KeyTaken.
    """
    if job.after_jobs:
        visible = await connection.fetch(_SQL["visible_jobs"], job.after_jobs, sees)
        if missing := set(job.after_jobs) - {row["job_id"] for row in visible}:
            raise UnknownAfter(missing)
    await connection.execute(_SQL["insert_job"], *astuple(job))
    if key and not await connection.fetchval(_SQL["take_idempotency_key"], job.client, *key, job.job_id):
        raise KeyTaken


async def find(connection: Connection, job_id: UUID, client: str | None) -> JobRow | None:
    """The job, or ``None`` when there is none that ``client`` may see."""
    return read_one(JobRow, await connection.fetchrow(_SQL["find_job"], job_id, client))


async def newest(
    connection: Connection,
    client: str | None,
    *,
    status: Status | None,
    type: JobType | None,
    before: int | None,
    limit: int,
    ids: tuple[UUID, UUID] | None = None,
) -> list[JobRow]:
    """Up to ``limit`` jobs, newest first, submitted before the one whose ``seq`` is ``before``.

    ``ids``: only jobs from the first id to the second.
    """
    query, bounds = (_LIST, ()) if ids is None else (_LIST_BY_ID, ids)
    return read(JobRow, await connection.fetch(query, client, status, type, before, limit, *bounds))


async def count_sub_jobs(connection: Connection, job_ids: Sequence[UUID]) -> dict[UUID, dict[Status, int]]:
    """The number of sub-jobs of each job, by status."""
    counts: dict[UUID, dict[Status, int]] = {job_id: {} for job_id in job_ids}
    for row in await connection.fetch(_SQL["count_sub_jobs"], job_ids):
        counts[row["job_id"]][Status(row["status"])] = row["sub_jobs"]
    return counts


async def sub_jobs(connection: Connection, job_id: UUID, *, after: int, limit: int) -> list[SubJobRow]:
    """Up to ``limit`` sub-jobs in order, behind position ``after`` (-1: from the first)."""
    return read(SubJobRow, await connection.fetch(_SQL["list_sub_jobs"], job_id, after, limit))


async def creates_answered(connection: Connection, job_id: UUID) -> bool:
    """True when no create of the job remains to be sent or answered; also when there is no such job."""
    return await connection.fetchval(_SQL["creates_answered"], job_id) is not False


async def creates(connection: Connection, job_id: UUID) -> list[tuple[str | None, str, str]]:
    """``data_producer_job_id``, plugin (URL) and data producer of each sub-job of a job, in their order; the
    first is ``None`` while the plugin has not accepted it."""
    return [tuple(row.values()) for row in await connection.fetch(_SQL["creates"], job_id)]


async def changed_sub_jobs(
    connection: Connection, job_id: UUID, *, behind: tuple[int, int], until: int, limit: int
) -> list[SubJobRow]:
    """Up to ``limit`` sub-jobs by (version of the last change, position) after ``behind``, to ``until``."""
    rows = await connection.fetch(_SQL["changed_sub_jobs"], job_id, *behind, until, limit)
    return read(SubJobRow, rows)


async def has_part(connection: Connection, job_id: UUID, key: str) -> bool:
    """True when ``key`` is one of the job's result objects."""
    return bool(await connection.fetchval(_SQL["has_part"], job_id, key))


async def request_size(connection: Connection, job_id: UUID) -> int:
    """Bytes of the job's request, uncompressed, without loading it; 0 when it was removed."""
    head: bytes | None = await connection.fetchval(_SQL["request_head_of"], job_id)
    return max(zstandard.frame_content_size(head), 0) if head else 0


async def request_of(connection: Connection, job_id: UUID) -> bytes | None:
    """The bytes of the job's request, zstd."""
    body: bytes | None = await connection.fetchval(_SQL["request_of"], job_id)
    return body


async def lock(connection: Connection, job_id: UUID, client: str | None) -> JobRow | None:
    """Lock a job until the transaction ends; ``None`` when there is none that ``client`` may see."""
    return read_one(JobRow, await connection.fetchrow(_SQL["lock_job"], job_id, client))


async def cancel(connection: Connection, job_id: UUID) -> JobRow:
    """Move a locked, open job to CANCELLING and cancel its open sub-jobs. Returns the new row."""
    (job,) = read(JobRow, await connection.fetch(_SQL["cancel_job"], job_id))
    await store_sub_jobs.cancel(connection, job_id)
    return job


async def pushed_sub_jobs(connection: Connection, sub_job_ids: Sequence[UUID]) -> dict[UUID, PushedSubJob]:
    """The columns that a push for these sub-jobs is checked against; unknown ids are absent."""
    rows = await connection.fetch(_SQL["pushed_sub_jobs"], sub_job_ids)
    return {row["sub_job_id"]: each for row, each in zip(rows, read(PushedSubJob, rows), strict=True)}


async def buckets_named_by(connection: Connection, client: str, limit: int) -> list[str]:
    """The buckets that jobs of ``client`` named as their destination, at most ``limit`` of them."""
    return [row["destination"] for row in await connection.fetch(_SQL["buckets_named_by"], client, limit)]


async def plugins_of_producer_jobs(connection: Connection, ids: Sequence[str]) -> dict[str, set[str]]:
    """The URLs of the DMI plugins that have an active sub-job under each ``dataProducerJobId``."""
    urls: dict[str, set[str]] = {}
    for row in await connection.fetch(_SQL["plugins_of_producer_jobs"], ids):
        urls.setdefault(row["data_producer_job_id"], set()).add(row["url"])
    return urls


async def has_topic(connection: Connection, topic: str, client: str | None) -> bool:
    """True when a job that ``client`` may see has ``topic`` as its destination."""
    return bool(await connection.fetchval(_SQL["has_topic"], topic, client))


async def mark_planned(
    connection: Connection,
    job_id: UUID,
    *,
    sub_jobs: int,
    unmatched: int,
    failed: int,
    split_reads: bool,
    not_started: int = 0,
    warnings: Warnings | None = None,
) -> bool:
    """Record the plan's counts on a locked job and end the lease. A job without sub-jobs is due for its
    finish step. Returns whether a job named in ``after`` is not terminal."""
    counts = sub_jobs, unmatched, failed, split_reads, not_started, warnings
    return bool(await connection.fetchval(_SQL["mark_planned"], job_id, *counts))


async def finish(
    connection: Connection, job_id: UUID, status: Status, reason: str | None, counts: OperationCounts
) -> float | None:
    """Make the job terminal and end the lease. Returns the seconds since it was accepted; ``None`` when it is
    terminal, unplanned or has open sub-jobs."""
    states = counts.succeeded, counts.failed, counts.unmatched, counts.not_started, counts.unknown
    seconds: float | None = await connection.fetchval(_SQL["finish"], job_id, status, reason, *states)
    return seconds


async def record_preview(connection: Connection, job_id: UUID, effects: EffectCounts, reach: Reach) -> None:
    """Record what a preview has found, in the transaction that makes it terminal."""
    await connection.execute(_SQL["record_preview"], job_id, effects, reach)


async def unblock_after(connection: Connection, job_id: UUID) -> list[int]:
    """Unblock the jobs that waited for this one alone. Returns their lanes, locked, for the caller to admit.

    This transaction has made the job terminal. Of jobs that end concurrently, the last one to call this
    unblocks the jobs that waited for all of them.
    """
    waiting = [row["job_id"] for row in await connection.fetch(_SQL["lock_waiting"], job_id)]
    if not waiting:
        return []
    freed = [row["job_id"] for row in await connection.fetch(_SQL["unblock_jobs"], waiting)]
    return await store_sub_jobs.unblock(connection, freed) if freed else []
