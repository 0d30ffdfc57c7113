# SPDX-License-Identifier: Apache-2.0
"""What is still to be delivered: messages to topics and copies to buckets, in one total order per shard.

:func:`add` joins the transaction that makes the news: both are durable together. All else is for the one
publisher of a shard, on the connection on which it holds :func:`claim`; when that connection is lost, so is
the claim, and the late writes of a publisher that was overtaken fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID
from zlib import crc32

from msgspec import Struct

from ran_datajobs.store.database import Connection
from ran_datajobs.store.parts import FOREIGN_SEQUENCE, MAX_PIECES
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("outbox")

SHARDS: Final = 8
"""Messages are spread by their jobs over so many shards, each published in one order by one publisher."""

COPY_SHARDS: Final = 8
"""Copies are spread by their buckets over as many other shards."""

_S3: Final = "s3:"


class Outgoing(Struct, frozen=True):
    """One row of the outbox: a message with its ``value``, or the result object that is the message, or that
    is copied where the ``topic`` is a :func:`bucket_topic`.

    With neither it is no message. By ``ends_delivery`` it marks that the delivery is complete once it and all
    before it are out. ``bucket`` is the one that has the object; ``size`` is in bytes.
    """

    job_id: UUID
    topic: str
    key: str = ""
    headers: Mapping[str, str] = {}
    value: bytes | None = None
    bucket: str | None = None
    object_key: str | None = None
    size: int = 0
    delivery: int = 1
    ends_delivery: bool = False
    sha256: str | None = None


class Waiting(Struct, frozen=True):
    """An outbox row in its place."""

    position: int
    job_id: UUID
    topic: str
    key: str
    headers: dict[str, str]
    value: bytes | None
    bucket: str | None
    object_key: str | None
    delivery: int
    ends_delivery: bool
    sha256: str | None

    @property
    def is_message(self) -> bool:
        """False for a mark."""
        return self.value is not None or self.object_key is not None

    @property
    def target(self) -> str:
        """The bucket that gets the copy."""
        return self.topic.removeprefix(_S3)


class Target(Struct, frozen=True):
    """Where a delivery of a job goes: to a ``topic`` (which may be a :func:`bucket_topic`), or to none,
    because the results are where they belong, in ``bucket``."""

    delivery: int
    bucket: str
    topic: str | None = None

    @property
    def is_copied(self) -> bool:
        """Whether the results are copied to another bucket."""
        return self.topic is not None and self.topic.startswith(_S3)


class FailedDelivery(Struct, frozen=True):
    """What of a job a topic, or a bucket, did not take for too long."""

    job_id: UUID
    topic: str
    cause: str


class Part(Struct, frozen=True):
    """A result object that goes to ``destination``, a topic or (``is_copied``) a bucket. ``total``: how many
    its sub-job has; ``sequence`` counts them from 0 without a gap."""

    job_id: UUID
    sub_job: str
    sequence: int
    key: str
    size: int
    sha256: str
    total: int
    destination: str
    is_copied: bool
    bucket: str
    delivery: int
    data_producer_id: str
    data_producer_job_id: str


def shard_of(job_id: UUID) -> int:
    """The shard whose order the job's messages join; the same for ever."""
    return job_id.int % SHARDS


def copy_shard_of(bucket: str) -> int:
    """The shard of the copies that go to ``bucket``; the same for ever."""
    return SHARDS + crc32(bucket.encode()) % COPY_SHARDS


def bucket_topic(bucket: str) -> str:
    """What stands in place of a topic where ``bucket`` gets copies; never the name of a topic."""
    return _S3 + bucket


def _shard(message: Outgoing) -> int:
    if message.topic.startswith(_S3):
        return copy_shard_of(message.topic.removeprefix(_S3))
    return shard_of(message.job_id)


async def installation(connection: Connection) -> UUID:
    """What names this store, and no other one, for as long as it lives."""
    found: UUID = await connection.fetchval(_SQL["installation"])
    return found


async def add(connection: Connection, messages: Sequence[Outgoing]) -> list[int]:
    """Put ``messages`` in order at the end of their shards, in the caller's transaction; the shards touched.

    What goes to the destination of a job whose delivery was given up is left out: a redeliver brings all of
    it. Locks the shards in order, until the commit: call it last.
    """
    if not messages:
        return []
    rows = await connection.fetch(_SQL["given_up"], list({message.job_id for message in messages}))
    given_up = {(row["job_id"], row["topic"]) for row in rows}
    shards: dict[int, list[Outgoing]] = {}
    for message in messages:
        if (message.job_id, message.topic) not in given_up:
            shards.setdefault(_shard(message), []).append(message)
    for shard in sorted(shards):
        await _add_to(connection, shard, shards[shard])
    return sorted(shards)


async def parts_to_deliver(
    connection: Connection, job_ids: Sequence[UUID], sub_jobs: Sequence[str] | None = None
) -> list[Part]:
    """The result objects of jobs that go somewhere else, in order; with ``sub_jobs`` only theirs."""
    rows = await connection.fetch(
        _SQL["parts_to_deliver"],
        list(job_ids),
        None if sub_jobs is None else list(sub_jobs),
        FOREIGN_SEQUENCE,
        MAX_PIECES,
    )
    return [
        Part(
            row["job_id"],
            row["sub_job"],
            row["sequence"],
            row["key"],
            row["bytes"],
            row["sha256"],
            row["total"],
            row["destination"],
            row["is_copied"],
            row["results_bucket"],
            row["delivery"],
            row["data_producer_id"],
            row["data_producer_job_id"],
        )
        for row in rows
    ]


async def target_of(connection: Connection, job_id: UUID) -> Target | None:
    """Where the delivery of a job goes; locks the job's row."""
    row = await connection.fetchrow(_SQL["target_of"], job_id)
    if row is None:
        return None
    delivery, bucket, destination = row["delivery"], row["results_bucket"], row["destination"]
    if row["destination_kind"] == "TOPIC":
        return Target(delivery, bucket, destination)
    return Target(delivery, bucket, None if destination in (None, bucket) else bucket_topic(destination))


async def deliver_again(connection: Connection, job_id: UUID) -> int | None:
    """Raise the delivery of a job and make it pending; ``None`` when it is pending already."""
    delivery: int | None = await connection.fetchval(_SQL["deliver_again"], job_id)
    return delivery


async def mark_delivered(connection: Connection, deliveries: Sequence[tuple[UUID, int]]) -> None:
    """The jobs' destinations have everything of these deliveries; a newer delivery is left alone."""
    ordered = sorted(deliveries)
    await connection.execute(
        _SQL["mark_delivered"], [job for job, _ in ordered], [delivery for _, delivery in ordered]
    )


async def due_shards(connection: Connection) -> list[int]:
    """The shards that have something to publish now."""
    return [row["shard"] for row in await connection.fetch(_SQL["due_shards"])]


async def claim(connection: Connection, shard: int) -> bool:
    """True when ``connection`` holds the shard, until it goes back to its pool or is lost."""
    return bool(await connection.fetchval(_SQL["claim_shard"], shard))


async def next_messages(
    connection: Connection, shard: int, *, limit: int, max_bytes: int, after: int = -1
) -> list[Waiting]:
    """The next rows in order, behind position ``after``, that are not parked: at most ``limit`` and about
    ``max_bytes``."""
    rows = await connection.fetch(_SQL["next_messages"], shard, limit, max_bytes, after)
    return [
        Waiting(
            row["position"],
            row["job_id"],
            row["topic"],
            row["key"],
            row["headers"],
            row["value"],
            row["bucket"],
            row["object_key"],
            row["delivery"],
            row["ends_delivery"],
            row["sha256"],
        )
        for row in rows
    ]


async def recover_position(connection: Connection, shard: int, position: int) -> list[tuple[UUID, str]]:
    """Remove what a publisher before this one got out without saying so; answers as :func:`published` does.

    New positions come after ``position`` in any case: the store may have been restored from an older copy.
    """
    rows = await connection.fetch(_SQL["positions_up_to"], shard, position)
    topics = list({(row["job_id"], row["topic"]) for row in rows})
    ended = await published(connection, shard, [row["position"] for row in rows], topics)
    await connection.execute(_SQL["move_head"], shard, position)
    return ended


async def published(
    connection: Connection, shard: int, positions: Sequence[int], topics: Sequence[tuple[UUID, str]]
) -> list[tuple[UUID, str]]:
    """Remove rows that are out and end the deliveries they ended, which are returned as (job, topic);
    ``topics`` work again for these jobs."""
    if not positions:
        return []
    async with connection.transaction():
        await connection.execute(_SQL["lock_told_jobs"], shard, positions, *_columns(topics))
        ended = await connection.fetch(_SQL["ended_deliveries"], shard, positions)
        await mark_delivered(connection, [(row["job_id"], row["delivery"]) for row in ended])
        await connection.execute(_SQL["remove_published"], shard, positions)
        await connection.execute(_SQL["end_trouble"], *_columns(topics))
        await connection.execute(_SQL["move_published"], shard, max(positions))
    return [(row["job_id"], row["topic"]) for row in ended]


async def record_delivery_failure(
    connection: Connection,
    shard: int,
    cause: str,
    *,
    topic: str | None,
    job_id: UUID | None = None,
    park: bool,
    retry_after: float,
    retry_at_most: float,
    refused: bool = False,
) -> None:
    """Remember since when messages or copies wait for ``topic`` (``None``: for any; with ``job_id``: one
    job's), and tell it at the jobs whose destination it is. ``refused``: a repeat cannot cure it.

    With ``park``, the shard passes them over until the time of the retry: ``retry_after`` seconds, doubled
    with each try up to ``retry_at_most``.
    """
    async with connection.transaction():
        await connection.execute(_SQL["lock_waiting_jobs"], shard, topic, job_id)
        await connection.execute(
            _SQL["note_trouble"], shard, topic, retry_after, park, cause, job_id, retry_at_most, refused
        )
        await connection.execute(_SQL["tell_trouble"], shard)


async def give_up(
    connection: Connection, shard: int, after: float, refused_after: float
) -> list[FailedDelivery]:
    """Drop what waits for longer than ``after`` seconds, or was refused for longer than ``refused_after``;
    where it was for a job's destination, its delivery is FAILED."""
    async with connection.transaction():
        rows = await connection.fetch(_SQL["lock_hopeless"], shard, after, refused_after)
        found = [FailedDelivery(row["job_id"], row["topic"], row["cause"]) for row in rows]
        if found:
            columns = _columns([(each.job_id, each.topic) for each in found])
            await connection.execute(_SQL["mark_failed"], *columns, [each.cause for each in found])
            await connection.execute(_SQL["drop_messages"], shard, *columns)
            await connection.execute(_SQL["end_trouble"], *columns)
    return found


async def requeue_due(connection: Connection, shard: int) -> None:
    """Let parked messages whose retry is due join the end of the shard, in their order."""
    async with connection.transaction():
        due = await connection.fetch(_SQL["lock_due"], shard)
        if not due:
            return
        columns = _columns([(row["job_id"], row["topic"]) for row in due])
        rows = await connection.fetch(_SQL["waiting_again"], shard, *columns)
        if rows:
            base = await connection.fetchval(_SQL["take_positions"], shard, len(rows))
            await connection.execute(_SQL["reposition"], shard, [row["position"] for row in rows], base)
        await connection.execute(_SQL["unpark"], *columns)


async def next_retry(connection: Connection, shard: int) -> float | None:
    """Seconds until the next parked messages of the shard are due; ``None`` when none are parked."""
    seconds: float | None = await connection.fetchval(_SQL["next_retry"], shard)
    return None if seconds is None else max(seconds, 0.0)


async def _add_to(connection: Connection, shard: int, messages: Sequence[Outgoing]) -> None:
    base = await connection.fetchval(_SQL["take_positions"], shard, len(messages))
    columns: list[list[Any]] = [
        [message.job_id for message in messages],
        [message.topic for message in messages],
        [message.key for message in messages],
        [dict(message.headers) for message in messages],
        [message.value for message in messages],
        [message.object_key for message in messages],
        [message.bucket for message in messages],
        [message.size for message in messages],
        [message.delivery for message in messages],
        [message.ends_delivery for message in messages],
        [message.sha256 for message in messages],
    ]
    await connection.execute(_SQL["add_messages"], shard, base, *columns)


def _columns(pairs: Sequence[tuple[UUID, str]]) -> tuple[list[UUID], list[str]]:
    return [job_id for job_id, _ in pairs], [topic for _, topic in pairs]
