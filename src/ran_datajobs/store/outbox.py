# SPDX-License-Identifier: Apache-2.0
"""Outbox: undelivered messages to topics and copies to buckets, in one total order per shard.

:func:`add` runs in the transaction that changes a job or the inventory: both become durable together.
Functions that take a shard are for its one publisher, on the connection that holds :func:`claim`. When that
connection is lost, so is the claim, and late writes of the former publisher fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final, TypeVar
from uuid import UUID
from zlib import crc32

from msgspec import Struct

from ran_datajobs.store import results
from ran_datajobs.store.database import Connection, columns, read
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("outbox")

_Other = TypeVar("_Other")

SHARDS: Final = 8
"""Number of shards of messages, chosen by job. One publisher publishes a shard in order."""

COPY_SHARDS: Final = 8
"""Number of shards of copies, chosen by bucket; they follow the shards of messages."""

INVENTORY_SHARD: Final = -1
"""The shard of the events of CM handles."""

INVENTORY: Final = UUID(int=0)
"""Stands for the job in the rows of the events of CM handles, which belong to no job."""

_S3: Final = "s3:"
_BATCH: Final = 2000
_BATCH_BYTES: Final = 8 * 1024 * 1024


class Outgoing(Struct, frozen=True):
    """One row of the outbox: a message with its ``value``, or with a result object as its value, or an object
    to copy, if ``topic`` is ``s3:`` and a bucket; no topic has such a name.

    A row with neither is a mark. ``ends_delivery``: the delivery is complete when this row and all before it
    are published. ``bucket`` contains the object; ``size`` is in bytes.
    """

    job_id: UUID
    topic: str
    key: str = ""
    headers: dict[str, str] = {}
    value: bytes | None = None
    bucket: str | None = None
    object_key: str | None = None
    size: int = 0
    delivery: int = 1
    ends_delivery: bool = False
    sha256: str | None = None

    @property
    def is_copied(self) -> bool:
        """True for a copy to a bucket."""
        return self.topic.startswith(_S3)


class Waiting(Outgoing, frozen=True, kw_only=True):
    """A stored row of the outbox."""

    position: int

    @property
    def is_message(self) -> bool:
        """False for a mark."""
        return self.value is not None or self.object_key is not None

    @property
    def target(self) -> str:
        """The bucket that receives the copy."""
        return self.topic.removeprefix(_S3)


class FailedDelivery(Struct, frozen=True):
    """A job's delivery to a topic or bucket that failed until its timeout."""

    job_id: UUID
    topic: str
    cause: str


@dataclass(eq=False)
class DeliveryFailure(Exception):
    """No row can be delivered to ``topic`` (``None``: to any); with ``job_id``, none of this job.
    ``refused``: a retry cannot succeed."""

    topic: str | None
    cause: str
    job_id: UUID | None = None
    refused: bool = False

    def applies_to(self, row: Waiting) -> bool:
        """True if ``row`` is one of these."""
        return self.topic == row.topic and self.job_id in (None, row.job_id)


class Part(Outgoing, frozen=True, kw_only=True):
    """A result object to deliver. ``total``: number of objects of its sub-job; ``sequence`` counts them from
    0 without a gap."""

    sub_job: str
    sequence: int
    total: int
    data_producer_id: str
    data_producer_job_id: str


def shard_of(job_id: UUID) -> int:
    """The shard of the messages of a job, or of the inventory; it never changes."""
    return INVENTORY_SHARD if job_id == INVENTORY else job_id.int % SHARDS


def copy_shard_of(bucket: str) -> int:
    """The shard of copies to ``bucket``; it never changes."""
    return SHARDS + crc32(bucket.encode()) % COPY_SHARDS


def _shard(message: Outgoing) -> int:
    if message.is_copied:
        return copy_shard_of(message.topic.removeprefix(_S3))
    return shard_of(message.job_id)


async def installation(connection: Connection) -> UUID:
    """The unique id of this store; it never changes."""
    found: UUID = await connection.fetchval(_SQL["installation"])
    return found


async def add(connection: Connection, messages: Sequence[Outgoing]) -> list[int]:
    """Append ``messages`` in order to their shards, in the caller's transaction. Returns these shards.

    Messages to the destination of a job whose delivery is FAILED are left out: a redelivery sends all of
    them. Locks the shards in order until the commit: call it last.
    """
    if not messages:
        return []
    rows = await connection.fetch(_SQL["given_up"], list({message.job_id for message in messages}))
    given_up = {(row["job_id"], row["topic"]) for row in rows}
    shards: dict[int, list[Outgoing]] = {}
    for message in messages:
        if (message.job_id, message.topic) not in given_up:
            shards.setdefault(_shard(message), []).append(message)
    for shard, added in sorted(shards.items()):
        base = await connection.fetchval(_SQL["take_positions"], shard, len(added))
        fields = columns(added, *Outgoing.__struct_fields__)
        await connection.execute(_SQL["add_messages"], shard, base, *fields)
    return sorted(shards)


async def parts_to_deliver(
    connection: Connection, job_ids: Sequence[UUID], sub_jobs: Sequence[str] | None = None
) -> list[Part]:
    """The result objects of jobs to send or copy, in order; with ``sub_jobs`` only theirs."""
    stored_unchanged = results.FOREIGN_SEQUENCE, results.MAX_PIECES
    return read(Part, await connection.fetch(_SQL["parts_to_deliver"], job_ids, sub_jobs, *stored_unchanged))


async def deliver_again(connection: Connection, job_id: UUID) -> int | None:
    """Increment the delivery of a job and make it PENDING; ``None`` when it is PENDING already."""
    delivery: int | None = await connection.fetchval(_SQL["deliver_again"], job_id)
    return delivery


async def mark_delivered(connection: Connection, deliveries: Sequence[tuple[UUID, int]]) -> None:
    """Mark these deliveries DELIVERED, except where the job has a newer delivery."""
    await connection.execute(_SQL["mark_delivered"], *_columns(sorted(deliveries)))


async def due_shards(connection: Connection) -> list[int]:
    """The shards that have rows to publish now."""
    return [row["shard"] for row in await connection.fetch(_SQL["due_shards"])]


async def claim(connection: Connection, shard: int) -> bool:
    """Take the lock of the shard until ``connection`` is released or lost; False when another has it."""
    return bool(await connection.fetchval(_SQL["claim_shard"], shard))


async def next_messages(
    connection: Connection, shard: int, limit: int = _BATCH, max_bytes: int = _BATCH_BYTES
) -> list[Waiting]:
    """The next rows that are not parked, in order: at most ``limit`` and about ``max_bytes``."""
    return read(Waiting, await connection.fetch(_SQL["next_messages"], shard, limit, max_bytes))


async def recover_position(connection: Connection, shard: int, position: int) -> list[tuple[UUID, str]]:
    """Remove rows that an earlier publisher published but did not record; returns as :func:`published` does.

    New positions follow ``position`` in any case: the store may have been restored from an older backup.
    """
    rows = await connection.fetch(_SQL["positions_up_to"], shard, position)
    topics = list({(row["job_id"], row["topic"]) for row in rows})
    ended = await published(connection, shard, [row["position"] for row in rows], topics)
    await connection.execute(_SQL["move_last_position"], shard, position)
    return ended


async def published(
    connection: Connection, shard: int, positions: Sequence[int], topics: Sequence[tuple[UUID, str]]
) -> list[tuple[UUID, str]]:
    """Remove published rows. Returns the deliveries that they complete as (job, topic). ``topics``: the
    (job, topic) pairs whose failures are over."""
    if not positions:
        return []
    async with connection.transaction():
        await connection.execute(_SQL["lock_jobs_of_deliveries"], shard, positions, *_columns(topics))
        ended = await connection.fetch(_SQL["remove_published"], shard, positions)
        await mark_delivered(connection, [(row["job_id"], row["delivery_number"]) for row in ended])
        await connection.execute(_SQL["end_failures"], *_columns(topics))
    return [(row["job_id"], row["topic"]) for row in ended]


async def record_delivery_failure(
    connection: Connection, shard: int, failure: DeliveryFailure, retry_after: float, retry_at_most: float
) -> None:
    """Record the failure of the messages or copies to which it applies, and its cause on the jobs whose
    destination it is.

    If it names a topic, they are parked: the shard skips them until the retry, after ``retry_after`` seconds,
    doubled with each try up to ``retry_at_most``.
    """
    async with connection.transaction():
        await connection.execute(
            _SQL["record_delivery_failure"], shard, *astuple(failure), retry_after, retry_at_most
        )
        await connection.execute(_SQL["show_failures"], shard)


async def give_up(
    connection: Connection, shard: int, after: float, refused_after: float
) -> list[FailedDelivery]:
    """Drop rows that failed for longer than ``after`` seconds, or were refused for longer than
    ``refused_after``. The delivery of a job becomes FAILED if they were for its destination."""
    async with connection.transaction():
        rows = await connection.fetch(_SQL["expired_failures"], shard, after, refused_after)
        found = read(FailedDelivery, rows)
        if found:
            await connection.execute(_SQL["lock_jobs"], [each.job_id for each in found])
            pairs = columns(found, "job_id", "topic")
            await connection.execute(_SQL["mark_failed"], *pairs, [each.cause for each in found])
            await connection.execute(_SQL["drop_messages"], shard, *pairs)
            await connection.execute(_SQL["end_failures"], *pairs)
    return found


async def requeue_due(connection: Connection, shard: int) -> None:
    """Move parked messages whose retry is due to the end of the shard, in their order."""
    async with connection.transaction():
        due = [(row["job_id"], row["topic"]) for row in await connection.fetch(_SQL["unpark"], shard)]
        if due:
            last = await connection.fetchval(_SQL["take_positions"], shard, 0)
            moved = await connection.fetchval(_SQL["reposition"], shard, last, *_columns(due))
            await connection.execute(_SQL["move_last_position"], shard, last + moved)


def _columns(pairs: Sequence[tuple[UUID, _Other]]) -> tuple[list[UUID], list[_Other]]:
    return [job_id for job_id, _ in pairs], [other for _, other in pairs]
