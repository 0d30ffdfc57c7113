# SPDX-License-Identifier: Apache-2.0
"""Publishes outbox messages on the bus, each shard in its own order, each message once.

The bus stores the messages and the shard's new position in one atomic step; the outbox rows are deleted after
it. After a crash in between, the next publisher first reads the position from the bus.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from ran_datajobs.checkpoints import Checkpoint, CheckpointHook, no_checkpoints
from ran_datajobs.errors import BusUnavailable, Fenced, StorageUnavailable, TopicRefused
from ran_datajobs.messaging.bus import Bus, Message, OutboxMessage
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.responses import message_value
from ran_datajobs.results.waits import REFUSED_DELIVERY
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Connection, Database

_BATCH: Final = 2000
_BATCH_BYTES: Final = 8 * 1024 * 1024
_PARALLEL_READS: Final = 8
_PARALLEL_SHARDS: Final = 4
_BUSY_RETRY: Final = 0.5
_LONGEST_TURN: Final = 5.0


class DeliveryRetryPolicy(Struct, frozen=True):
    """Retry interval (doubled from the first to the longest) and timeout of a delivery, in seconds.

    ``give_up_refused``: timeout of a delivery that a retry cannot cure.
    """

    first_retry: float = 0.5
    longest_retry: float = 30.0
    give_up: float = 3600.0
    give_up_refused: float = REFUSED_DELIVERY


async def take_turn(
    connection: Connection,
    shard: int,
    patience: DeliveryRetryPolicy,
    given_up: Callable[[outbox.FailedDelivery], None],
    step: Callable[[], Awaitable[bool]],
) -> float | None:
    """Claim ``shard`` and deliver from it for about five seconds; ``step`` returns False when nothing waits.

    Returns the seconds after which to call again; ``None``: nothing is left.
    """
    if not await outbox.claim(connection, shard):
        return _BUSY_RETRY
    for each in await outbox.give_up(connection, shard, patience.give_up, patience.give_up_refused):
        given_up(each)
    await outbox.requeue_due(connection, shard)
    end = asyncio.get_running_loop().time() + _LONGEST_TURN
    while await step():
        if asyncio.get_running_loop().time() > end:
            return 0.0
    parked = await outbox.next_retry(connection, shard)
    return None if parked is None else min(parked, _BUSY_RETRY)  # other messages may become due earlier


async def park(
    connection: Connection,
    shard: int,
    patience: DeliveryRetryPolicy,
    cause: str,
    *,
    topic: str,
    job_id: UUID | None = None,
    refused: bool = False,
) -> None:
    """Skip messages for ``topic`` (with ``job_id``: those of one job) until their next retry."""
    await outbox.record_delivery_failure(
        connection,
        shard,
        cause,
        topic=topic,
        job_id=job_id,
        park=True,
        retry_after=patience.first_retry,
        retry_at_most=patience.longest_retry,
        refused=refused,
    )


Out = Callable[[int, Collection[str], Sequence[tuple[UUID, str]]], None]
"""Called after each step with the number delivered, their destinations, and the deliveries (job,
destination) that are now complete."""

Waits = Callable[[str | None, str], None]
"""Called with a destination that took no message or copy (``None``: the bus is unavailable), and the
cause."""


def untold(*_: object) -> None:
    """Default callback: does nothing."""


class _ObjectUnavailable(Exception):
    """The result object of an outbox row is missing or damaged, or its store is unavailable."""

    def __init__(self, row: outbox.Waiting, cause: str) -> None:
        super().__init__(cause)
        self.row = row
        self.cause = cause


class _Reading:
    """Read-ahead for the messages of outbox rows. Their result objects are read concurrently."""

    def __init__(self, message_of: Callable[[outbox.Waiting], Awaitable[OutboxMessage]]) -> None:
        self._message_of = message_of
        self._reads = asyncio.Semaphore(_PARALLEL_READS)
        self._tasks: dict[int, asyncio.Task[OutboxMessage]] = {}

    async def __aenter__(self) -> _Reading:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._drop()

    def start(self, rows: Sequence[outbox.Waiting]) -> None:
        """Start reading the messages among ``rows``."""
        for row in rows:
            if row.is_message and row.position not in self._tasks:
                self._tasks[row.position] = asyncio.create_task(self._read(row))

    async def messages(self, rows: Sequence[outbox.Waiting]) -> list[OutboxMessage]:
        """The messages among ``rows``; all others that were read ahead are dropped."""
        wanted = {row.position for row in rows}
        await self._drop(set(self._tasks) - wanted)
        self.start(rows)
        try:
            return [await self._tasks[row.position] for row in rows if row.is_message]
        finally:
            await self._drop()

    async def _read(self, row: outbox.Waiting) -> OutboxMessage:
        async with self._reads:
            return await self._message_of(row)

    async def _drop(self, positions: Iterable[int] | None = None) -> None:
        dropped = [self._tasks.pop(each) for each in list(self._tasks if positions is None else positions)]
        for task in dropped:
            task.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)


class Publisher:
    """Publishes shards of the outbox. Any number may run in any processes: one at a time has a shard."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        objects: ObjectStore,
        object_uri: Callable[[str, str], str],
        patience: DeliveryRetryPolicy | None = None,
        given_up: Callable[[outbox.FailedDelivery], None] = lambda _: None,
        reached: CheckpointHook = no_checkpoints,
        *,
        waits: Waits = untold,
        out: Out = untold,
    ) -> None:
        """``object_uri`` returns the absolute address of (bucket, key), for objects too large for a message.

        ``given_up`` is called for each topic that did not take a job's messages in time.
        """
        self._database = database
        self._bus = bus
        self._objects = objects
        self._object_uri = object_uri
        self._patience = patience or DeliveryRetryPolicy()
        self._given_up = given_up
        self._reached = reached
        self._waits = waits
        self._out = out
        self._slots = asyncio.Semaphore(_PARALLEL_SHARDS)
        self._held: set[int] = set()
        self._failures: dict[int, int] = {}

    async def publish(self, shard: int) -> float | None:
        """Publish the waiting messages of ``shard`` for about five seconds, then return: other shards are
        served.

        Returns the seconds after which to call again: there is more, another publisher has the shard, the bus
        is unavailable, or a topic refused. ``None``: nothing is left. Memory is bounded by two batches of
        each of four shards (8 MiB and one message each).
        """
        async with self._slots, self._database.session() as connection, _Reading(self._message_of) as reading:
            try:
                wait = await take_turn(
                    connection,
                    shard,
                    self._patience,
                    self._given_up,
                    lambda: self._publish_batch(connection, shard, reading),
                )
            except BusUnavailable as unavailable:
                return await self._wait(connection, shard, unavailable)
            self._failures.pop(shard, None)
            return wait

    async def _publish_batch(self, connection: Connection, shard: int, reading: _Reading) -> bool:
        """Publish one batch in order while the next one is read. Returns False when nothing waits."""
        try:
            if shard not in self._held:
                position = await self._bus.recover_position(shard)
                self._out(0, (), await outbox.recover_position(connection, shard, position))
                self._held.add(shard)
            batch = await outbox.next_messages(connection, shard, limit=_BATCH, max_bytes=_BATCH_BYTES)
            if not batch:
                return False
            messages = await reading.messages(batch)
            if any(row.is_message and row.value is None for row in batch):
                reading.start(
                    await outbox.next_messages(
                        connection, shard, limit=_BATCH, max_bytes=_BATCH_BYTES, after=batch[-1].position
                    )
                )
            await self._reached(Checkpoint.DELIVER_READ)
            if messages:
                await self._bus.publish_shard(shard, messages)
            await self._reached(Checkpoint.DELIVER_PUBLISHED)
            topics = {(row.job_id, row.topic) for row in batch}
            ended = await outbox.published(connection, shard, [row.position for row in batch], list(topics))
            self._out(len(messages), {topic for _, topic in topics}, ended)
            await self._reached(Checkpoint.DELIVER_STORED)
        except Fenced:
            self._held.discard(shard)
        except TopicRefused as refusal:
            await park(connection, shard, self._patience, str(refusal), topic=refusal.topic)
            self._waits(refusal.topic, str(refusal))
        except _ObjectUnavailable as missing:
            row = missing.row
            await park(connection, shard, self._patience, missing.cause, topic=row.topic, job_id=row.job_id)
            self._waits(row.topic, missing.cause)
        except BaseException:
            self._held.discard(shard)  # the position on the bus decides whether it was published
            raise
        return True

    async def _message_of(self, row: outbox.Waiting) -> OutboxMessage:
        value = await self._object_message(row) if row.value is None else row.value
        return OutboxMessage(row.position, row.topic, Message(row.key, row.headers, value))

    async def _object_message(self, row: outbox.Waiting) -> bytes:
        bucket, key = row.bucket or "", row.object_key or ""
        try:
            body = await self._objects.get(bucket, key)
        except StorageUnavailable as unavailable:
            raise _ObjectUnavailable(row, str(unavailable)) from unavailable
        if body is None:
            raise _ObjectUnavailable(row, f"the result object {bucket}/{key} is gone")
        try:
            return message_value(
                body, self._object_uri(bucket, key), lambda: hashlib.sha256(body).hexdigest()
            )
        except msgspec.DecodeError as error:
            raise _ObjectUnavailable(row, f"the result object {bucket}/{key} was spoilt") from error

    async def _wait(self, connection: Connection, shard: int, unavailable: BusUnavailable) -> float:
        """Record since when the bus is unavailable; nothing is parked. Returns the back-off in seconds."""
        await outbox.record_delivery_failure(
            connection,
            shard,
            str(unavailable),
            topic=None,
            park=False,
            retry_after=0,
            retry_at_most=0,
        )
        self._waits(None, str(unavailable))
        failures = self._failures.get(shard, 0)
        self._failures[shard] = failures + 1
        return min(self._patience.first_retry * 2.0 ** min(failures, 20), self._patience.longest_retry)
