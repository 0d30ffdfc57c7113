# SPDX-License-Identifier: Apache-2.0
"""Describes and creates topics of a Kafka cluster. All calls block: run them on a thread."""

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

_INACCESSIBLE: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.TOPIC_AUTHORIZATION_FAILED}
)
_ALREADY_EXISTS: Final = frozenset({KafkaError.TOPIC_ALREADY_EXISTS})
_HIDDEN: Final = "it is missing, or this service may not know it: create it, or grant DESCRIBE and WRITE"
_WRITING: Final = frozenset({"WRITE", "ALL"})


class KafkaTopics:
    """Describes topics, and creates the service's own. Raises BusUnavailable when no broker answers."""

    def __init__(self, settings: Mapping[str, Any], patience: float) -> None:
        self._settings = dict(settings)
        self._address = self._settings.get("bootstrap.servers", "")
        self._patience = patience
        self._client: AdminClient | None = None

    def exists(self, topic: str) -> bool:
        """True when ``topic`` exists and the service may describe it.

        Raises TopicRefused when the service may not write to it.
        """
        description = self._described(topic)
        if description is None:
            return False
        if not may_write(description.authorized_operations):
            raise TopicRefused(topic, "this service may not write to it: grant its user WRITE")
        return True

    def refusing(self, topics: Collection[str]) -> TopicRefused | None:
        """The first of ``topics`` that is missing or that the service may not write to, with the reason."""
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
        """The topics that the cluster lists."""
        try:
            return list(self._administering().list_topics(timeout=self._patience).topics)
        except KafkaException as error:
            raise meaning(f"the broker {self._address} does not answer", error.args[0]) from error

    def create_missing(self, wanted: Sequence[NewTopic]) -> None:
        """Create those of ``wanted`` that do not exist."""
        missing = [topic for topic in wanted if self._described(topic.topic) is None]
        if not missing:
            return
        created = self._administering().create_topics(missing, request_timeout=self._patience)
        for name, outcome in created.items():
            self._answered(outcome, f"topic {name!r} is missing", _ALREADY_EXISTS)

    def _described(self, topic: str) -> Any:
        """Description of ``topic``; ``None`` when it does not exist, or the service may not describe it."""
        described = self._administering().describe_topics(
            TopicCollection([topic]), include_authorized_operations=True, request_timeout=self._patience
        )
        return self._answered(described[topic], f"the broker {self._address} does not answer", _INACCESSIBLE)

    def _answered(self, answer: Future[Any], what: str, expected: Container[int]) -> Any:
        """Result of ``answer``; ``None`` for one of the ``expected`` errors."""
        try:
            return answer.result(self._patience)
        except KafkaException as error:
            if error.args[0].code() in expected:
                return None
            raise meaning(what, error.args[0]) from error
        except TimeoutError as error:
            raise BusUnavailable(f"{what}: nothing came in {self._patience:g} s") from error

    def _administering(self) -> AdminClient:
        """The one admin client; its results are lost when it is garbage-collected too early."""
        if self._client is None:
            self._client = AdminClient(self._settings)
        return self._client


def may_write(operations: Collection[Enum] | None) -> bool:
    """Whether the broker allows writing; a broker without an authorizer may return no operations (pure)."""
    return not operations or not _WRITING.isdisjoint(each.name for each in operations)
