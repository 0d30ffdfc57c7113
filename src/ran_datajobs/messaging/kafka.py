# SPDX-License-Identifier: Apache-2.0
"""The bus on Apache Kafka, through librdkafka.

Exactly-once publishing: each shard of the outbox has one ``transactional.id``. A transaction holds the
messages and, in a compacted topic, the shard's new position. A publisher that takes over a shard calls
``init_transactions``, which ends the transaction of its predecessor and fences it, and then reads the
position. Topics are never auto-created; the service creates its own topics when they are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from uuid import uuid4

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.aio import AIOConsumer
from confluent_kafka.cimpl import NewTopic

from ran_datajobs.errors import BusUnavailable, Fenced, TopicRefused
from ran_datajobs.messaging.bus import Message, OutboxMessage, Received
from ran_datajobs.messaging.kafka_producer import Record, TransactionalProducer, last_value, meaning
from ran_datajobs.messaging.kafka_topics import KafkaTopics
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
_REMEMBERED_BATCHES: Final = 3
"""Number of batches that can be committed: the last one and the two before it, of which one is being
processed and one is being committed."""
_REASSIGNED: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError._ASSIGNMENT_LOST,
    }
)
_OWN_TOPICS: Final = frozenset({INTERNAL_TOPIC, STATUS_TOPIC, POSITION_TOPIC})
_POSITION_TOPIC_CONFIG: Final = {
    "cleanup.policy": "compact",
    "segment.ms": "3600000",
    "min.insync.replicas": "1",
}


class _Receiving:
    """A running consumer, and the partitions of the messages in its last batches."""

    def __init__(self, consumer: AIOConsumer) -> None:
        self.consumer = consumer
        self.batches: deque[list[tuple[Received, int]]] = deque(maxlen=_REMEMBERED_BATCHES)

    def places_up_to(self, last: Received) -> dict[int, int]:
        """By partition the offset after ``last`` and all before it; empty if ``last`` is in no remembered
        batch."""
        places: dict[int, int] = {}
        for received, partition in itertools.chain.from_iterable(self.batches):
            places[partition] = received.offset + 1
            if received is last:
                return places
        return {}


class KafkaBus:
    """A Bus over one Kafka cluster. Open it with :func:`open_kafka`, inside a running event loop."""

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
        self._installation = installation
        self._patience = patience
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="kafka")
        self._shards: dict[int, TransactionalProducer] = {}
        self._positions: dict[int, int] = {}
        self._publisher: TransactionalProducer | None = None
        self._locks: dict[str, asyncio.Lock] = {}
        self._receiving: dict[tuple[str, str], _Receiving] = {}
        self._prepared = False
        self._topics = KafkaTopics(self._settings, patience)

    async def close(self) -> None:
        """Close every connection, after the calls under way have ended."""
        producers = [*self._shards.values(), *([self._publisher] if self._publisher else [])]
        self._shards.clear()
        self._publisher = None
        for producer in producers:
            await self._run(producer.close)
        await asyncio.to_thread(self._threads.shutdown)

    async def topic_exists(self, topic: str) -> bool:
        """True when ``topic`` exists and the service may describe it.

        Raises TopicRefused when the service may not write to it.
        """
        if topic_problem(topic) is not None:
            return False
        return await self._run(lambda: self._topics.exists(topic))

    async def topics(self) -> list[str]:
        """The topics that the cluster lists."""
        return await self._run(self._topics.names)

    async def ready(self) -> None:
        """Return when the cluster answers and the service's own topics exist."""
        await self._run(self._prepare)
        await self._run(lambda: self._topics.refusing([INTERNAL_TOPIC]))

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Publish in one transaction, under a ``transactional.id`` that no other client uses."""
        if not messages:
            return
        if (problem := topic_problem(topic)) is not None:
            raise TopicRefused(topic, problem)
        async with self._lock("publish"):
            if self._publisher is None:
                transactional_id = f"{self._installation}.publish.{uuid4()}"
                self._publisher = await self._run(lambda: self._producer(transactional_id))
            producer = self._publisher
            try:
                await self._run(lambda: producer.publish(Record(topic, each) for each in messages))
            except TopicRefused:
                raise
            except BaseException as error:
                self._publisher = None
                await self._dispose(producer)
                if isinstance(error, Fenced):
                    raise BusUnavailable(
                        "the broker has closed this client's transactions: a repeat has new ones"
                    ) from error
                if (refusal := await self._blamed(producer, [topic], error)) is not None:
                    raise refusal from error
                raise

    async def receive(self, topic: str, consumer: str) -> AsyncIterator[list[Received]]:
        """Committed messages, as a member of the consumer group ``consumer`` of this installation."""
        if topic in _OWN_TOPICS:
            await self._run(self._prepare)
        receiving = _Receiving(
            AIOConsumer(
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
        )
        self._receiving[topic, consumer] = receiving
        try:
            await receiving.consumer.subscribe([topic])
            while True:
                first = await _to_completion(receiving.consumer.poll(_POLL))
                if first is None:
                    continue
                records = await _to_completion(_more(receiving.consumer, first))
                batch = [_received(record) for record in records if _usable(topic, record)]
                if batch:
                    receiving.batches.append(batch)
                    yield [received for received, _ in batch]
        except KafkaException as error:
            raise meaning(f"cannot read topic {topic!r}", error.args[0]) from error
        finally:
            self._receiving.pop((topic, consumer), None)
            await receiving.consumer.close()

    async def passed(self, consumer: str, last: Received) -> None:
        """Commit the offset after ``last`` and after all messages before it in the remembered batches.

        Does nothing when the partition was reassigned: the other member of the group receives them again.
        """
        receiving = self._receiving.get((last.topic, consumer))
        if receiving is None:
            return
        places = receiving.places_up_to(last)
        if not places:
            return
        offsets = [TopicPartition(last.topic, partition, place) for partition, place in places.items()]
        try:
            await _to_completion(receiving.consumer.commit(offsets=offsets, asynchronous=False))
        except KafkaException as error:
            if error.args[0].code() not in _REASSIGNED:
                raise meaning("cannot commit the place in a topic", error.args[0]) from error

    async def recover_position(self, shard: int) -> int:
        """Fence the previous publisher, and read the last position that it published."""
        async with self._lock(f"shard-{shard}"):
            if (old := self._shards.pop(shard, None)) is not None:
                await self._dispose(old)
            await self._run(self._prepare)
            transactional_id = f"{self._installation}.shard.{shard}"
            producer = await self._run(lambda: self._producer(transactional_id))
            self._shards[shard] = producer
            try:
                value = await self._run(
                    lambda: last_value(
                        self._settings,
                        POSITION_TOPIC,
                        shard % _SHARDS,
                        self._position_key(shard),
                        self._patience,
                    )
                )
            except BusUnavailable:
                self._prepared = False  # the topic may be gone
                raise
            self._positions[shard] = -1 if value is None else int(value)
            return self._positions[shard]

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Messages and position in one transaction."""
        async with self._lock(f"shard-{shard}"):
            producer = self._shards.get(shard)
            if producer is None:
                raise Fenced(f"shard {shard} of the outbox is not held")
            new = [each for each in messages if each.position > self._positions[shard]]
            if not new:
                return
            for each in new:
                if (problem := topic_problem(each.topic)) is not None:
                    raise TopicRefused(each.topic, problem)
            position = Record(
                POSITION_TOPIC,
                Message(self._position_key(shard), {}, b"%d" % new[-1].position),
                shard % _SHARDS,
            )
            records = [*(Record(each.topic, each.message) for each in new), position]
            try:
                await self._run(lambda: producer.publish(records))
            except TopicRefused:
                raise
            except BaseException as error:
                self._shards.pop(shard, None)
                await self._dispose(producer)
                topics = {each.topic for each in new}
                if (refusal := await self._blamed(producer, topics, error)) is not None:
                    raise refusal from error
                raise
            self._positions[shard] = new[-1].position

    def _position_key(self, shard: int) -> str:
        return f"{self._installation}/{shard}"

    def _producer(self, transactional_id: str) -> TransactionalProducer:
        return TransactionalProducer(self._settings, transactional_id, self._patience)

    def _prepare(self) -> None:
        """Create the service's own topics if they are missing, unless that was done before."""
        if self._prepared:
            return
        self._topics.create_missing(
            [
                NewTopic(POSITION_TOPIC, _SHARDS, -1, config=_POSITION_TOPIC_CONFIG),
                *(NewTopic(name, -1, -1) for name in (INTERNAL_TOPIC, STATUS_TOPIC)),
            ]
        )
        self._prepared = True

    async def _blamed(
        self, producer: TransactionalProducer, topics: Collection[str], error: BaseException
    ) -> TopicRefused | None:
        """The topic that caused ``error``, after the error has closed the producer.

        A topic that the service may not write to fails the whole transaction, and the error does not name it.
        ``None`` if messages may have been published: the position then decides.
        """
        if not isinstance(error, BusUnavailable) or producer.may_have_published:
            return None
        try:
            return await self._run(lambda: self._topics.refusing(topics))
        except BusUnavailable:
            return None

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    async def _dispose(self, producer: TransactionalProducer) -> None:
        await self._run(producer.close)

    async def _run(self, call: Callable[[], T]) -> T:
        """Run ``call`` on a thread of the pool. A cancelled caller waits for the end of the call."""
        return await _to_completion(asyncio.get_running_loop().run_in_executor(self._threads, call))


@contextlib.asynccontextmanager
async def open_kafka(
    bootstrap: str, settings: Mapping[str, str] | None = None, *, installation: str
) -> AsyncIterator[KafkaBus]:
    """A :class:`KafkaBus`, closed at the end. It connects when it is first used."""
    bus = KafkaBus(bootstrap, settings, installation=installation)
    try:
        yield bus
    finally:
        await bus.close()


async def _to_completion(call: Awaitable[T]) -> T:
    """Result of ``call``. A cancelled caller first waits for its end: a call of the client continues in
    its thread, and closing the client during a call would never return."""
    running = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise


async def _more(consumer: AIOConsumer, first: Any) -> list[Any]:
    """``first`` plus buffered messages, up to a count and byte limit. Fetches are compressed: decompressed
    they can be many times the size that the client counts."""
    records, size = [first], len(first)
    while len(records) < _BATCH and size < _BATCH_BYTES:
        wanted = _CHUNK - len(records) % _CHUNK  # a multiple of what is processed concurrently
        some = await consumer.consume(wanted, 0.0)
        records += some
        size += sum(map(len, some))
        if len(some) < wanted:
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


def _received(record: Any) -> tuple[Received, int]:
    """A record with its partition. Invalid UTF-8 in names and texts is replaced."""
    headers = {
        name.lower(): (value or b"").decode(errors="replace") for name, value in record.headers() or ()
    }
    key = (record.key() or b"").decode(errors="replace")
    message = Message(key, headers, record.value() or b"")
    return Received(record.topic(), record.offset(), message), record.partition()
