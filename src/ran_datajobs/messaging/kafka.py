# SPDX-License-Identifier: Apache-2.0
"""The bus on Apache Kafka, through librdkafka.

Exactly-once publishing: each shard of the outbox has one ``transactional.id``. A transaction holds the
messages and, in a compacted topic, the shard's new position. A publisher that takes over a shard calls
``init_transactions``, which ends the transaction of its predecessor and fences it, and then reads the
position. Topics are never auto-created; the service creates its own topics when they are missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, Final, TypeVar
from uuid import uuid4

from confluent_kafka import KafkaError, TopicCollection, TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.aio import AIOConsumer

from ran_datajobs.errors import BusUnavailable, Fenced, TopicRefused
from ran_datajobs.messaging.bus import Message, OutboxMessage, Received
from ran_datajobs.messaging.kafka_producer import Record, TransactionalProducer, kafka_errors, last_value
from ran_datajobs.messaging.topics import INTERNAL_TOPIC, POSITION_TOPIC, STATUS_TOPIC, topic_problem

T = TypeVar("T")

_SHARDS: Final = 8
PATIENCE: Final = 15.0
"""Timeout in seconds of a call to the brokers."""

_THREADS: Final = 6
_BATCH: Final = 500
_BATCH_BYTES: Final = 8 * 1024 * 1024
_CHUNK: Final = 16
_POLL: Final = 0.5
_REASSIGNED: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError._ASSIGNMENT_LOST,
    }
)
_INACCESSIBLE: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.TOPIC_AUTHORIZATION_FAILED}
)
_WRITING: Final = frozenset({AclOperation.WRITE, AclOperation.ALL})
_HIDDEN: Final = "it is missing, or this service may not know it: create it, or grant DESCRIBE and WRITE"
_OWN_TOPICS: Final = {
    INTERNAL_TOPIC: NewTopic(INTERNAL_TOPIC, -1, -1),
    STATUS_TOPIC: NewTopic(STATUS_TOPIC, -1, -1),
    POSITION_TOPIC: NewTopic(
        POSITION_TOPIC,
        _SHARDS,
        -1,
        config={"cleanup.policy": "compact", "segment.ms": "3600000", "min.insync.replicas": "1"},
    ),
}


class KafkaBus:
    """A Bus over one Kafka cluster, for one event loop. It connects when it is first used."""

    def __init__(
        self,
        bootstrap: str,
        settings: Mapping[str, str] | None = None,
        *,
        installation: str,
        patience: float = PATIENCE,
    ) -> None:
        """``settings``: further librdkafka settings, such as those of TLS and SASL.

        ``installation`` identifies the service by its store: it has its own transactions, positions and
        consumer groups. ``patience``: timeout of a call in seconds.
        """
        self._settings: dict[str, Any] = {
            "client.id": "ran-datajobs",
            "log_level": 0,
            **(settings or {}),
            "bootstrap.servers": bootstrap,
            "allow.auto.create.topics": False,
        }
        self._no_answer = f"the broker {bootstrap} does not answer"
        self._installation = installation
        self._patience = patience
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kafka")
        self._producers: dict[str, TransactionalProducer] = {}
        self._positions: dict[int, int] = {}
        self._publishing = asyncio.Lock()
        self._publish_id = f"{installation}.publish.{uuid4()}"

    async def aclose(self) -> None:
        """Close every connection, after the calls under way have ended."""
        for transactional_id in list(self._producers):
            await self._close_producer(transactional_id)
        await asyncio.to_thread(self._threads.shutdown)

    async def topic_exists(self, topic: str) -> bool:
        """True when ``topic`` exists and the service may describe it.

        Raises TopicRefused when the service may not write to it.
        """
        if topic_problem(topic) is not None:
            return False
        description = await self._description(topic)
        if description is not None and not may_write(description.authorized_operations):
            raise TopicRefused(topic, "this service may not write to it: grant its user WRITE")
        return description is not None

    async def topics(self) -> list[str]:
        """The topics that the cluster lists."""
        with kafka_errors(self._no_answer):
            return list((await self._run(lambda: self._admin.list_topics(timeout=self._patience))).topics)

    async def ready(self) -> None:
        """Return when the cluster answers and the service's own topics exist; create those that are
        missing."""
        missing = [new for name, new in _OWN_TOPICS.items() if await self._description(name) is None]
        created = self._admin.create_topics(missing, request_timeout=self._patience) if missing else {}
        for name, creation in created.items():
            with kafka_errors(f"topic {name!r} is missing", KafkaError.TOPIC_ALREADY_EXISTS):
                await _result(creation)

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Publish in one transaction, under a ``transactional.id`` that no other client uses."""
        async with self._publishing:
            if self._publish_id not in self._producers:
                await self._open_producer(self._publish_id)
            try:
                await self._publish(self._publish_id, [Record(topic, each) for each in messages])
            except Fenced as error:
                raise BusUnavailable(
                    "the broker has closed this client's transactions: a repeat has new ones"
                ) from error

    async def receive(self, topic: str, consumer: str) -> AsyncGenerator[list[Received], None]:
        """Committed messages, as a member of the consumer group ``consumer`` of this installation.

        The offset of a partition that was reassigned is not committed: the other member receives its messages
        again.
        """
        if topic in _OWN_TOPICS:
            await self.ready()
        client = AIOConsumer(
            {
                "queued.max.messages.kbytes": 16_384,
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 10,
                "session.timeout.ms": 10_000,
                "topic.metadata.refresh.interval.ms": 10_000,
                **self._settings,
                "group.id": f"{consumer}.{self._installation}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
            },
            max_workers=2,
        )
        try:
            with kafka_errors(f"cannot read topic {topic!r}"):
                await client.subscribe([topic])
                while True:
                    records = await _to_completion(_next_records(client))
                    batch = [_received(record) for record in records if _usable(topic, record)]
                    if not batch:
                        continue
                    yield batch
                    offsets = {received.partition: received.offset + 1 for received in batch}
                    places = [
                        TopicPartition(topic, partition, offset) for partition, offset in offsets.items()
                    ]
                    with kafka_errors("cannot commit the offset in a topic", *_REASSIGNED):
                        await _to_completion(client.commit(offsets=places, asynchronous=False))
        finally:
            await client.close()

    async def recover_position(self, shard: int) -> int:
        """Fence the previous publisher, and read the last position that it published."""
        await self._close_producer(self._shard_id(shard))
        await self.ready()
        await self._open_producer(self._shard_id(shard))
        place, key = TopicPartition(POSITION_TOPIC, shard % _SHARDS), self._position_key(shard)
        latest = {place: OffsetSpec.latest()}  # type: ignore[no-untyped-call]
        listed = self._admin.list_offsets(latest, request_timeout=self._patience)
        with kafka_errors(self._no_answer):
            end = (await _result(listed[place])).offset
        value = await self._run(lambda: last_value(self._settings, place, end, key, self._patience))
        self._positions[shard] = -1 if value is None else int(value)
        return self._positions[shard]

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Messages and position in one transaction."""
        if self._shard_id(shard) not in self._producers:
            raise Fenced(f"shard {shard} of the outbox is not held")
        new = [each for each in messages if each.position > self._positions[shard]]
        if new:
            position = Message(self._position_key(shard), {}, b"%d" % new[-1].position)
            await self._publish(
                self._shard_id(shard),
                [
                    *(Record(each.topic, each.message) for each in new),
                    Record(POSITION_TOPIC, position, shard % _SHARDS),
                ],
            )
            self._positions[shard] = new[-1].position

    def _shard_id(self, shard: int) -> str:
        return f"{self._installation}.shard.{shard}"

    def _position_key(self, shard: int) -> str:
        return f"{self._installation}/{shard}"

    async def _open_producer(self, transactional_id: str) -> None:
        self._producers[transactional_id] = await self._run(
            lambda: TransactionalProducer(self._settings, transactional_id, self._patience)
        )

    async def _close_producer(self, transactional_id: str) -> None:
        if (producer := self._producers.pop(transactional_id, None)) is not None:
            await self._run(producer.close)

    async def _publish(self, transactional_id: str, records: Sequence[Record]) -> None:
        """Publish in one transaction. An error closes the producer, unless a destination is the cause.

        A topic that the service may not write to fails the whole transaction, and the error does not name it:
        it is looked for, unless messages may have been published. The position then decides.
        """
        producer = self._producers[transactional_id]
        try:
            await self._run(lambda: producer.publish(records))
        except BaseException as error:
            if isinstance(error, TopicRefused) and error.topic != POSITION_TOPIC:
                raise
            await self._close_producer(transactional_id)
            if isinstance(error, TopicRefused):
                raise BusUnavailable(str(error)) from error  # recover_position creates the topic again
            if isinstance(error, BusUnavailable) and not producer.may_have_published:
                for topic in {record.topic for record in records} - {POSITION_TOPIC}:
                    if not await self.topic_exists(topic):
                        raise TopicRefused(topic, _HIDDEN) from error
            raise

    @cached_property
    def _admin(self) -> AdminClient:
        with kafka_errors("cannot open a client"):
            return AdminClient(self._settings)

    async def _description(self, topic: str) -> Any:
        """Description of ``topic``; ``None`` when it does not exist, or the service may not describe it."""
        described = self._admin.describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, request_timeout=self._patience
        )
        found = None
        with kafka_errors(self._no_answer, *_INACCESSIBLE):
            found = await _result(described[topic])
        return found  # noqa: RET504 - None after an ignored error

    async def _run(self, call: Callable[[], T]) -> T:
        """Run ``call`` on a thread of the pool. A cancelled caller waits for the end of the call."""
        return await _to_completion(asyncio.get_running_loop().run_in_executor(self._threads, call))


async def _result(answer: Future[T]) -> T:
    """Result of an administrative call."""
    return await _to_completion(asyncio.wrap_future(answer))


async def _to_completion(call: Awaitable[T]) -> T:
    """Result of ``call``. A cancelled caller first waits for its end: a call of the client continues in
    its thread, and closing the client during a call would never return."""
    running = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise


async def _next_records(consumer: AIOConsumer) -> list[Any]:
    """The next record and those that are buffered after it, up to a count and byte limit; none if nothing
    came for a while. Fetches are compressed: decompressed they can be many times the size that the client
    counts."""
    first = await consumer.poll(_POLL)
    if first is None:
        return []
    records = [first]
    while len(records) < _BATCH and sum(map(len, records)) < _BATCH_BYTES:
        some = await consumer.consume(_CHUNK, 0.0)
        records += some
        if len(some) < _CHUNK:
            break
    return records


def _usable(topic: str, record: Any) -> bool:
    """True for a message, False for an event that needs no action (retriable error, end of partition)."""
    error = record.error()
    if error is None:
        return True
    if error.retriable() or error.code() == KafkaError._PARTITION_EOF:
        return False
    raise BusUnavailable(f"cannot read topic {topic!r}: {error.str()}")


def _received(record: Any) -> Received:
    """A received record. Invalid UTF-8 in names and texts is replaced."""
    headers = {
        name.lower(): (value or b"").decode(errors="replace") for name, value in record.headers() or ()
    }
    key = (record.key() or b"").decode(errors="replace")
    message = Message(key, headers, record.value() or b"")
    return Received(record.topic(), record.offset(), message, record.partition())


def may_write(operations: Collection[AclOperation] | None) -> bool:
    """Whether the broker allows writing; a broker without an authorizer may return no operations (pure)."""
    return not operations or not _WRITING.isdisjoint(operations)
