# SPDX-License-Identifier: Apache-2.0
"""Delivers the outbox: publishes messages on the bus, and copies result objects to buckets.

The messages of a shard are published in order, each once: the bus stores the messages and the shard's new
position in one atomic step, and the outbox rows are deleted after it. After a crash in between, the next
publisher first reads the position from the bus. Copying an object twice changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, TypeGuard, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from ran_datajobs.checkpoints import Checkpoint, reached
from ran_datajobs.errors import (
    BusUnavailable,
    Fenced,
    StorageRefused,
    StorageUnavailable,
    TopicRefused,
)
from ran_datajobs.messaging.bus import Bus, Message, OutboxMessage
from ran_datajobs.model import DeliveryState
from ran_datajobs.results.objects import ObjectStore, concurrently
from ran_datajobs.results.responses import message_value
from ran_datajobs.results.waits import REFUSED_DELIVERY
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.listen import OUTBOX_CHANNEL, follow
from ran_datajobs.store.outbox import DeliveryFailure, Waiting
from ran_datajobs.telemetry import Digest, Logger, Metrics, errors_logged

_Answer = TypeVar("_Answer")

LOOK_EVERY: Final = 1.0
"""Interval in seconds at which a worker polls for due shards without a notification."""

_PARALLEL_SHARDS: Final = 4
_BUSY_RETRY: Final = 0.5
_BUS_RETRY: Final = 5.0
_LONGEST_TURN: Final = 5.0


class DeliveryNews(Struct, eq=False):
    """Logs and counts the events of deliveries, each once it is durable.

    A destination is the name of a topic, or ``s3:`` and the name of a bucket. ``waiting``: those that did not
    take the last message or copy.
    """

    log: Logger
    digest: Digest
    metrics: Metrics
    waiting: set[str] = set()

    def waits(self, destination: str | None, cause: str) -> None:
        """``destination`` did not take a message or copy; ``None``: the bus is unavailable. A destination
        is logged once until it takes something or its delivery fails."""
        if destination is None:
            self.digest.warning("bus.unavailable", {"cause": cause}, tries=1)
        elif destination not in self.waiting:
            self.waiting.add(destination)
            self.digest.warning("delivery.waits", {"destination": destination}, cause=cause)

    def given_up(self, what: outbox.FailedDelivery) -> None:
        """A destination did not take the results of a job, or the events of CM handles, in time: the delivery
        failed."""
        self.waiting.discard(what.topic)
        if what.job_id == outbox.INVENTORY:
            self.digest.error("delivery.failed", {"destination": what.topic}, cause=what.cause)
            return
        self.metrics.deliveries_ended.labels(DeliveryState.FAILED.value).inc()
        self.digest.error(
            "delivery.failed",
            {"destination": what.topic},
            jobs=1,
            job_id=str(what.job_id),
            cause=what.cause,
        )

    def delivered(
        self, rows: int, copies: bool, destinations: Collection[str], ended: Sequence[tuple[UUID, str]]
    ) -> None:
        """Destinations took messages, or ``copies``. ``ended``: (job, destination) of each completed
        delivery."""
        (self.metrics.objects_copied if copies else self.metrics.messages_published).inc(rows)
        self.waiting.difference_update(destinations)
        for job_id, destination in ended:
            self.metrics.deliveries_ended.labels(DeliveryState.DELIVERED.value).inc()
            self.log.info("delivery.succeeded", job_id=str(job_id), destination=destination)


class Publisher(Struct, eq=False):
    """Delivers shards of the outbox. Any number may run in any processes: one at a time has a shard.

    ``object_uri`` returns the absolute address of (bucket, key), for an object too large for a message.
    Retry interval (doubled from the first to the longest) and timeout of a delivery are in seconds;
    ``give_up_refused``: timeout of a delivery that a retry cannot cure, ``give_up_events``: of the events of
    CM handles.
    ``held``: shards of which the bus takes messages of this publisher alone. ``slots``: for shards of
    messages, and of copies.
    """

    database: Database
    bus: Bus
    objects: ObjectStore
    object_uri: Callable[[str, str], str]
    news: DeliveryNews
    first_retry: float = 0.5
    longest_retry: float = 30.0
    give_up: float = 3600.0
    give_up_refused: float = REFUSED_DELIVERY
    give_up_events: float = 7 * 86400.0
    held: set[int] = set()
    slots: dict[bool, asyncio.Semaphore] = msgspec.field(
        default_factory=lambda: {copies: asyncio.Semaphore(_PARALLEL_SHARDS) for copies in (False, True)}
    )

    async def publish(self, shard: int) -> float | None:
        """Deliver the waiting rows of ``shard`` for about five seconds, then return: other shards are served.

        Returns the seconds after which to call again: there is more, another publisher has the shard, or the
        bus is unavailable. ``None``: nothing is left but parked rows. Memory is bounded: for each of four
        shards of messages and four of copies by one batch (8 MiB and one object).
        """
        copies = shard >= outbox.SHARDS
        async with self.slots[copies], self.database.session() as connection:
            if not await outbox.claim(connection, shard):
                return _BUSY_RETRY
            timeouts = self.give_up, self.give_up_refused
            if shard == outbox.INVENTORY_SHARD:
                timeouts = self.give_up_events, self.give_up_events
            for failed in await outbox.give_up(connection, shard, *timeouts):
                self.news.given_up(failed)
            await outbox.requeue_due(connection, shard)
            end = asyncio.get_running_loop().time() + _LONGEST_TURN
            try:
                while await self._deliver_batch(connection, shard, copies):
                    if asyncio.get_running_loop().time() > end:
                        return 0.0
            except BusUnavailable as unavailable:
                await self._record(connection, shard, DeliveryFailure(None, str(unavailable)))
                return _BUS_RETRY
            return None

    async def _deliver_batch(self, connection: Connection, shard: int, copies: bool) -> bool:
        """Deliver the next rows of the shard that are not parked. Returns False when no row waits."""
        done: list[Waiting] = []
        failure: DeliveryFailure | None = None
        try:
            if not copies and shard not in self.held:
                position = await self.bus.recover_position(shard)
                ended = await outbox.recover_position(connection, shard, position)
                self.news.delivered(0, copies, (), ended)
                self.held.add(shard)
            batch = await outbox.next_messages(connection, shard)
            if not batch:
                return False
            try:
                await (self._copy_all(batch, done) if copies else self._publish_all(shard, batch, done))
            except DeliveryFailure as error:
                failure = error
            await reached(Checkpoint.DELIVER_PUBLISHED)
            works = {(row.job_id, row.topic) for row in done if not (failure and failure.applies_to(row))}
            ended = await outbox.published(connection, shard, [row.position for row in done], list(works))
            delivered = sum(row.is_message for row in done)
            self.news.delivered(delivered, copies, {topic for _, topic in works}, ended)
            await reached(Checkpoint.DELIVER_STORED)
        except Fenced:
            self.held.discard(shard)
            return True
        except BaseException:
            self.held.discard(shard)  # the position on the bus decides whether it was published
            raise
        if failure is not None:
            await self._record(connection, shard, failure)
        return True

    async def _copy_all(self, rows: Sequence[Waiting], done: list[Waiting]) -> None:
        """Copy objects, and manifests after all others; append each copied row to ``done``."""

        async def copy(row: Waiting) -> None:
            await self._copy(row)
            done.append(row)

        for is_manifest in (False, True):
            await concurrently(copy, [row for row in rows if row.ends_delivery is is_manifest])

    async def _copy(self, row: Waiting) -> None:
        """Copy one object whose SHA-256 is the recorded one, unless a redelivery finds it unchanged. What an
        earlier version wrote only to the destination is copied back to the service's own bucket."""
        bucket, key = row.bucket or "", row.object_key or ""
        own = await _answer(row, bucket, self.objects.get(bucket, key))
        if _is_whole(own, row.sha256):
            if row.delivery == 1 or await _answer(row, row.target, self._copy_of(row)) != own:
                await _answer(row, row.target, self.objects.put(row.target, key, own))
            return
        there = await _answer(row, row.target, self._copy_of(row))
        if row.sha256 is None or not _is_whole(there, row.sha256):
            raise _damaged(row, own)
        await _answer(row, bucket, self.objects.put(bucket, key, there))

    async def _copy_of(self, row: Waiting) -> bytes | None:
        """The object in the destination bucket. S3 refuses to read a missing object in a bucket that the
        service may not list."""
        try:
            return await self.objects.get(row.target, row.object_key or "")
        except StorageRefused:
            return None

    async def _publish_all(self, shard: int, rows: Sequence[Waiting], done: list[Waiting]) -> None:
        """Publish the messages of ``rows`` in order, all or none; append all rows to ``done``."""
        objects = [row for row in rows if row.is_message and row.value is None]
        values = {row.position: row.value for row in rows if row.value is not None}
        values |= zip(
            (row.position for row in objects), await concurrently(self._value_of, objects), strict=True
        )
        messages = [
            OutboxMessage(row.position, row.topic, Message(row.key, row.headers, values[row.position]))
            for row in rows
            if row.is_message
        ]
        await reached(Checkpoint.DELIVER_READ)
        try:
            if messages:
                await self.bus.publish_shard(shard, messages)
        except TopicRefused as refusal:
            raise DeliveryFailure(refusal.topic, str(refusal)) from refusal
        done += rows

    async def _value_of(self, row: Waiting) -> bytes:
        """The value of a message that is a result object."""
        bucket, key = row.bucket or "", row.object_key or ""
        body = await _answer(row, bucket, self.objects.get(bucket, key))
        if body is None:
            raise _damaged(row, body)
        try:
            return message_value(body, self.object_uri(bucket, key))
        except msgspec.DecodeError as error:
            raise _damaged(row, body) from error

    async def _record(self, connection: Connection, shard: int, failure: DeliveryFailure) -> None:
        """Park the rows to which ``failure`` applies: they are skipped until their next retry. While the bus
        is unavailable nothing is parked."""
        first_retry = self.first_retry if failure.topic else 0.0
        await outbox.record_delivery_failure(connection, shard, failure, first_retry, self.longest_retry)
        self.news.waits(failure.topic, failure.cause)


async def _answer(row: Waiting, bucket: str, call: Awaitable[_Answer]) -> _Answer:
    """The answer to a call for ``bucket``. An error fails all deliveries to the topic of ``row``."""
    try:
        return await call
    except StorageUnavailable as error:
        refused = isinstance(error, StorageRefused) and row.is_copied and row.target == bucket
        raise DeliveryFailure(row.topic, str(error), refused=refused) from error


def _damaged(row: Waiting, body: bytes | None) -> DeliveryFailure:
    """The result object of ``row`` was removed or changed: none of its job can be delivered."""
    what = "is gone" if body is None else "was spoilt"
    cause = f"the result object {row.bucket}/{row.object_key} {what}"
    return DeliveryFailure(row.topic, cause, row.job_id, refused=row.is_copied)


def _is_whole(body: bytes | None, sha256: str | None) -> TypeGuard[bytes]:
    return body is not None and (sha256 is None or hashlib.sha256(body).hexdigest() == sha256)


async def relay_outbox(
    database: Database, publish: Callable[[int], Awaitable[float | None]], log: Logger
) -> None:
    """Deliver due shards until cancelled, across outages of the bus and of the database.

    Every worker polls for due shards, and one worker at a time publishes a shard: ``publish`` delivers its
    waiting rows, as :meth:`Publisher.publish` does. Each shard has its own task: a slow shard, or one whose
    bucket does not respond, delays no other.
    """
    news = asyncio.Event()
    next_at: dict[int, float] = {}
    now = asyncio.get_running_loop().time

    async def deliver(shard: int) -> None:
        pause: float | None = LOOK_EVERY
        with errors_logged(log, "publish", str(shard)):
            pause = await publish(shard)
        next_at[shard] = now() + (pause or 0.0)
        news.set()  # rows added meanwhile were left to this task, which may have missed them

    async with asyncio.TaskGroup() as group:
        group.create_task(follow(database, OUTBOX_CHANNEL, lambda _shard: news.set()))
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await news.wait()
            news.clear()
            with errors_logged(log, "publish", "outbox"):
                async with database.connection() as connection:
                    due = await outbox.due_shards(connection)
                for shard in due:
                    if next_at.get(shard, 0.0) <= now():
                        next_at[shard] = math.inf
                        group.create_task(deliver(shard))
