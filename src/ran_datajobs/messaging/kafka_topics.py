# SPDX-License-Identifier: Apache-2.0
"""The topics of a Kafka cluster as the service may use them. Everything here blocks: call it on a thread."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from concurrent.futures import Future
from enum import Enum
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from ran_datajobs.errors import BusUnavailable, TopicRefused
from ran_datajobs.messaging.kafka_producer import meaning

_NOT_OURS: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.TOPIC_AUTHORIZATION_FAILED}
)
_THERE_ALREADY: Final = frozenset({KafkaError.TOPIC_ALREADY_EXISTS})
_HIDDEN: Final = "it is missing, or this service may not know it: create it, or grant DESCRIBE and WRITE"
_WRITING: Final = frozenset({"WRITE", "ALL"})


class KafkaTopics:
    """Asks about topics, and creates the service's own. Raises BusUnavailable when nobody answers."""

    def __init__(self, settings: Mapping[str, Any], patience: float) -> None:
        self._settings = dict(settings)
        self._address = self._settings.get("bootstrap.servers", "")
        self._patience = patience
        self._client: AdminClient | None = None

    def exists(self, topic: str) -> bool:
        """True when ``topic`` can be described.

        Raises TopicRefused when it is there but not ours to write.
        """
        description = self._described(topic)
        if description is None:
            return False
        if not may_write(description.authorized_operations):
            raise TopicRefused(topic, "this service may not write to it: grant its user WRITE")
        return True

    def refusing(self, topics: Collection[str]) -> TopicRefused | None:
        """The first of ``topics`` that is missing or not ours to write, with the reason."""
        for topic in topics:
            try:
                if not self.exists(topic):
                    return TopicRefused(
                        topic,
                        _HIDDEN,
                    )
            except TopicRefused as refusal:
                return refusal
        return None

    def names(self) -> list[str]:
        """The topics that the cluster tells of."""
        try:
            return list(self._administering().list_topics(timeout=self._patience).topics)
        except KafkaException as error:
            raise meaning(f"the broker {self._address} does not answer", error.args[0]) from error

    def create_missing(self, wanted: Sequence[NewTopic]) -> None:
        """Create those of ``wanted`` that are not there."""
        missing = [topic for topic in wanted if self._described(topic.topic) is None]
        if not missing:
            return
        created = self._administering().create_topics(missing, request_timeout=self._patience)
        for name, outcome in created.items():
            self._answered(outcome, f"topic {name!r} is missing", _THERE_ALREADY)

    def _described(self, topic: str) -> Any:
        """What the broker tells of ``topic``; ``None`` when there is none, or it is not ours to know."""
        described = self._administering().describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, request_timeout=self._patience
        )
        return self._answered(described[topic], f"the broker {self._address} does not answer", _NOT_OURS)

    def _answered(self, answer: Future[Any], what: str, expected: Container[int]) -> Any:
        """What came; ``None`` for one of the ``expected`` errors."""
        try:
            return answer.result(self._patience)
        except KafkaException as error:
            if error.args[0].code() in expected:
                return None
            raise meaning(what, error.args[0]) from error
        except TimeoutError as error:
            raise BusUnavailable(f"{what}: nothing came in {self._patience:g} s") from error

    def _administering(self) -> AdminClient:
        """The one client for topics; its answers are lost when it is let go of too early."""
        if self._client is None:
            self._client = AdminClient(self._settings)
        return self._client


def may_write(operations: Collection[Enum] | None) -> bool:
    """Whether writing is among the operations that the broker allows; one without an authorizer may tell
    none (pure)."""
    return not operations or not _WRITING.isdisjoint(each.name for each in operations)
