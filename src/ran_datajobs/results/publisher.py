# SPDX-License-Identifier: Apache-2.0
"""Delivers the outbox: publishes messages on the bus, and has result objects copied to buckets.

The rows of a shard are delivered in order, each message once: the bus stores the messages and the shard's new
position in one atomic step, and the outbox rows are deleted after it. After a crash in between, the next
publisher first reads the position from the bus.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from ran_datajobs.checkpoints import Checkpoint, CheckpointHook, no_checkpoints
from ran_datajobs.errors import BusUnavailable, Fenced, StorageUnavailable, TopicRefused
from ran_datajobs.messaging.bus import Bus, Message, OutboxMessage
from ran_datajobs.model import DeliveryState
from ran_datajobs.results.copier import DeliveryFailure, copy_objects
from ran_datajobs.results.objects import ObjectStore, concurrently
from ran_datajobs.results.responses import message_value
from ran_datajobs.results.waits import REFUSED_DELIVERY
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.telemetry import Digest, Event, Logger, Metrics

_PARALLEL_SHARDS: Final = 4
_BUSY_RETRY: Final = 0.5
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
            self.digest.warning(Event.BUS_UNAVAILABLE, {"cause": cause}, tries=1)
        elif destination not in self.waiting:
            self.waiting.add(destination)
            self.digest.warning(Event.DELIVERY_WAITS, {"destination": destination}, cause=cause)

    def given_up(self, what: outbox.FailedDelivery) -> None:
        """A destination did not take the results of a job in time: the delivery failed."""
        self.waiting.discard(what.topic)
        self.metrics.deliveries_ended.labels(DeliveryState.FAILED.value).inc()
        self.digest.error(
            Event.DELIVERY_FAILED,
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
            self.log.info(Event.DELIVERY_SUCCEEDED, job_id=str(job_id), destination=destination)


class Publisher(Struct, eq=False):
    """Delivers shards of the outbox. Any number may run in any processes: one at a time has a shard.

    ``object_uri`` returns the absolute address of (bucket, key), for an object too large for a message.
    Retry interval (doubled from the first to the longest) and timeout of a delivery are in seconds;
    ``give_up_refused``: timeout of a delivery that a retry cannot cure.
    ``held``: shards of which the bus takes messages of this publisher alone. ``slots``: for shards of
    messages, and of copies.
    """

    database: Database
    bus: Bus
    objects: ObjectStore
    object_uri: Callable[[str, str], str]
    news: DeliveryNews
    reached: CheckpointHook = no_checkpoints
    first_retry: float = 0.5
    longest_retry: float = 30.0
    give_up: float = 3600.0
    give_up_refused: float = REFUSED_DELIVERY
    held: set[int] = set()
    bus_failures: dict[int, int] = {}
    slots: dict[bool, asyncio.Semaphore] = msgspec.field(
        default_factory=lambda: {copies: asyncio.Semaphore(_PARALLEL_SHARDS) for copies in (False, True)}
    )

    async def publish(self, shard: int) -> float | None:
        """Deliver the waiting rows of ``shard`` for about five seconds, then return: other shards are served.

        Returns the seconds after which to call again: there is more, another publisher has the shard, the bus
        is unavailable, or a destination did not take a row. ``None``: nothing is left. Memory is bounded: for
        each of four shards of messages and four of copies by one batch (8 MiB and one object).
        """
        copies = shard >= outbox.SHARDS
        async with self.slots[copies], self.database.session() as connection:
            if not await outbox.claim(connection, shard):
                return _BUSY_RETRY
            for failed in await outbox.give_up(connection, shard, self.give_up, self.give_up_refused):
                self.news.given_up(failed)
            await outbox.requeue_due(connection, shard)
            end = asyncio.get_running_loop().time() + _LONGEST_TURN
            try:
                while await self._deliver_batch(connection, shard, copies):
                    if asyncio.get_running_loop().time() > end:
                        return 0.0
            except BusUnavailable as unavailable:
                await self._record(connection, shard, DeliveryFailure(None, str(unavailable)))
                failures = self.bus_failures.get(shard, 0)
                self.bus_failures[shard] = failures + 1
                return min(self.first_retry * 2.0 ** min(failures, 20), self.longest_retry)
            self.bus_failures.pop(shard, None)
            parked = await outbox.next_retry(connection, shard)
            return None if parked is None else min(parked, _BUSY_RETRY)  # other rows may become due earlier

    async def _deliver_batch(self, connection: Connection, shard: int, copies: bool) -> bool:
        """Deliver the next rows of the shard that are not parked. Returns False when no row waits."""
        try:
            if not copies and shard not in self.held:
                position = await self.bus.recover_position(shard)
                ended = await outbox.recover_position(connection, shard, position)
                self.news.delivered(0, copies, (), ended)
                self.held.add(shard)
            batch = await outbox.next_messages(connection, shard)
            if not batch:
                return False
            if copies:
                done, failures = await copy_objects(self.objects, batch)
            else:
                done, failures = await self._publish_batch(shard, batch)
            await self.reached(Checkpoint.DELIVER_PUBLISHED)
            failing = {(failure.topic, failure.job_id) for failure in failures}
            works = {
                (row.job_id, row.topic)
                for row in done
                if not failing & {(row.topic, row.job_id), (row.topic, None)}
            }
            ended = await outbox.published(connection, shard, [row.position for row in done], list(works))
            delivered = sum(row.is_message for row in done)
            self.news.delivered(delivered, copies, {topic for _, topic in works}, ended)
            await self.reached(Checkpoint.DELIVER_STORED)
        except Fenced:
            self.held.discard(shard)
            return True
        except BaseException:
            self.held.discard(shard)  # the position on the bus decides whether it was published
            raise
        for failure in failures:
            await self._record(connection, shard, failure)
        return True

    async def _publish_batch(
        self, shard: int, batch: list[outbox.Waiting]
    ) -> tuple[list[outbox.Waiting], list[DeliveryFailure]]:
        """Publish one batch in order. Returns the rows, and the failure if there is any."""
        try:
            messages = await concurrently(self._message_of, [row for row in batch if row.is_message])
            await self.reached(Checkpoint.DELIVER_READ)
            if messages:
                await self.bus.publish_shard(shard, messages)
        except TopicRefused as refusal:
            return [], [DeliveryFailure(refusal.topic, str(refusal))]
        except DeliveryFailure as failure:
            return [], [failure]
        return batch, []

    async def _message_of(self, row: outbox.Waiting) -> OutboxMessage:
        value = row.value
        if value is None:
            bucket, key = row.bucket or "", row.object_key or ""
            try:
                body = await self.objects.get(bucket, key)
                if body is None:
                    raise DeliveryFailure(row.topic, f"the result object {bucket}/{key} is gone", row.job_id)
                value = message_value(body, self.object_uri(bucket, key))
            except StorageUnavailable as unavailable:
                raise DeliveryFailure(row.topic, str(unavailable), row.job_id) from unavailable
            except msgspec.DecodeError as error:
                cause = f"the result object {bucket}/{key} was spoilt"
                raise DeliveryFailure(row.topic, cause, row.job_id) from error
        return OutboxMessage(row.position, row.topic, Message(row.key, row.headers, value))

    async def _record(self, connection: Connection, shard: int, failure: DeliveryFailure) -> None:
        """Park the rows to which ``failure`` applies: they are skipped until their next retry. While the bus
        is unavailable nothing is parked."""
        await outbox.record_delivery_failure(
            connection,
            shard,
            failure.cause,
            topic=failure.topic,
            job_id=failure.job_id,
            retry_after=self.first_retry if failure.topic else 0.0,
            retry_at_most=self.longest_retry,
            refused=failure.refused,
        )
        self.news.waits(failure.topic, failure.cause)
