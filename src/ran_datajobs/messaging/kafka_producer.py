# SPDX-License-Identifier: Apache-2.0
"""One transactional Kafka producer, the last position that producers published, and the mapping of errors.

All calls block: run them on a thread, one at a time.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from msgspec import Struct

from ran_datajobs.errors import BusUnavailable, Fenced, TopicRefused
from ran_datajobs.messaging.bus import Message

_FENCED: Final = frozenset(
    {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}
)
_TOPIC_TO_BLAME: Final = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.POLICY_VIOLATION,
        KafkaError.INVALID_RECORD,
    }
)
_SILENT: Final = logging.Logger("librdkafka", logging.CRITICAL + 1)
_FIRST_READ_BACK: Final = 64
_PAUSE: Final = 0.05

PRODUCER_SETTINGS: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 5,
    "compression.type": "lz4",
    "message.max.bytes": 1_048_576,
    "queue.buffering.max.messages": 100_000,  # more than a transaction has
    "queue.buffering.max.kbytes": 1_048_576,
    "topic.metadata.propagation.max.ms": 2_000,
}


class Record(Struct, frozen=True):
    """A message and its topic; ``partition`` -1: chosen by the key."""

    topic: str
    message: Message
    partition: int = -1


class TransactionalProducer:
    """Publishes in transactions under one ``transactional.id``; the newest producer of it fences the others.

    After any error but TopicRefused it is unusable: open another one.
    """

    def __init__(self, settings: Mapping[str, Any], transactional_id: str, patience: float) -> None:
        """Connect, fence an earlier producer and end its open transaction, within ``patience`` seconds.

        Raises BusUnavailable.
        """
        self._patience = patience
        self._failed: dict[str, KafkaError] = {}
        self.may_have_published = False
        """After an error: whether a commit was requested, so that readers may see all messages."""
        with kafka_errors("cannot open a producer"):
            self._producer = Producer(
                {
                    **settings,
                    **PRODUCER_SETTINGS,
                    "logger": _SILENT,
                    "transactional.id": transactional_id,
                    "message.timeout.ms": int(max(patience, 1.0) * 1000),
                    "transaction.timeout.ms": int(max(patience, 1.0) * 2000),
                }
            )
            self._retry(self._producer.init_transactions)

    def publish(self, records: Iterable[Record]) -> None:
        """Publish all of ``records`` in order, or none; readers see them on return.

        Raises TopicRefused when one topic is the cause (nothing is published), Fenced, or BusUnavailable (the
        outcome is then unknown).
        """
        self._failed.clear()
        self.may_have_published = False
        with kafka_errors("cannot publish"):
            self._producer.begin_transaction()
            try:
                for record in records:
                    self._produce(record)
                self._flush()
                self.may_have_published = True
                self._retry(self._producer.commit_transaction)
            except (KafkaException, TopicRefused) as error:
                if isinstance(error, KafkaException) and not error.args[0].txn_requires_abort():
                    raise
                self.may_have_published = False
                self._retry(self._producer.abort_transaction)
                raise

    def close(self) -> None:
        """Drop what is still queued; none of it was reported as published."""
        self._producer.purge()
        with contextlib.suppress(KafkaException, SystemError):  # a fatal error was raised before
            self._producer.flush(0)

    def _produce(self, record: Record) -> None:
        message = record.message
        try:
            self._producer.produce(
                record.topic,
                value=message.value,
                key=message.key.encode(),
                headers=dict(message.headers),
                on_delivery=self._delivered,
                partition=record.partition,
            )
        except KafkaException as error:
            _check_blame(record.topic, error.args[0])
            raise

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._failed.setdefault(message.topic(), error)

    def _flush(self) -> None:
        """Wait until every message is acknowledged or has failed; raise for the first topic that is the
        cause.

        The client raises a fatal error during the callbacks, which the interpreter turns into a SystemError.
        The next transactional call raises the cause.
        """
        with contextlib.suppress(SystemError):
            self._producer.flush(self._patience)
        for topic, error in self._failed.items():
            _check_blame(topic, error)

    def _retry(self, call: Callable[[float], None]) -> None:
        """Retry ``call`` after retriable errors, for at most ``patience`` seconds."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                call(max(deadline - time.monotonic(), _PAUSE))
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() + _PAUSE > deadline:
                    raise
                time.sleep(_PAUSE)
            else:
                return


def last_value(
    settings: Mapping[str, Any], place: TopicPartition, end: int, key: str, patience: float
) -> bytes | None:
    """Value of the last committed record with ``key`` before the offset ``end`` of a partition, or after it;
    ``None`` when there is none.

    Reads the end of the partition first, and all of it only when it finds none there. An open transaction of
    another producer hides what was committed after it: the call waits for its end. Raises BusUnavailable.
    """
    configuration = {
        **settings,
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
    }
    with (
        kafka_errors(f"cannot read topic {place.topic!r}"),
        contextlib.closing(Consumer(configuration)) as consumer,
    ):
        for place.offset in (max(0, end - _FIRST_READ_BACK), 0):
            if (found := _last_from(consumer, place, end, key, patience)) is not None:
                return found
    return None


def _last_from(
    consumer: Consumer, start: TopicPartition, end: int, key: str, patience: float
) -> bytes | None:
    """Value of the last committed record with ``key`` from ``start`` on, once all before ``end`` is read."""
    consumer.assign([start])
    deadline = time.monotonic() + patience
    found: bytes | None = None
    while time.monotonic() < deadline:
        record = consumer.poll(0.5)
        if record is None:
            continue
        error = record.error()
        if error is None:
            if record.key() == key.encode():
                found = record.value()
        elif error.code() == KafkaError._PARTITION_EOF:
            if (record.offset() or 0) >= end:
                return found
        elif not error.retriable():
            raise KafkaException(error)
    raise BusUnavailable(f"topic {start.topic!r} was not read to its end in {patience:g} s")


def _check_blame(topic: str, error: KafkaError) -> None:
    """Raise TopicRefused when ``topic`` is the cause of ``error``."""
    if error.code() in _TOPIC_TO_BLAME:
        raise TopicRefused(topic, error.str())


@contextlib.contextmanager
def kafka_errors(what: str, *ignored: int) -> Iterator[None]:
    """Translate exceptions of the client into those of this package. The codes ``ignored`` end the block."""
    try:
        yield
    except KafkaException as error:
        cause: KafkaError = error.args[0]
        if cause.code() in ignored:
            return
        if cause.code() in _FENCED:
            raise Fenced(f"{what}: a newer producer has taken over") from error
        raise BusUnavailable(f"{what}: {cause.str()}") from error
