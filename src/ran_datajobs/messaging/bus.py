# SPDX-License-Identifier: Apache-2.0
"""The port to a message bus: topics of ordered messages with headers.

Adapters: ``postgres`` (the embedded bus) and ``kafka``. One contract suite runs over both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from msgspec import Struct


class Message(Struct, frozen=True):
    """One message. Messages with the same ``key`` stay in order.

    Header names are lower case (``ce_…``, ``content-type``).
    """

    key: str
    headers: dict[str, str]
    value: bytes


class Received(Struct, frozen=True):
    """A received message, and its offset in a partition of the topic."""

    topic: str
    offset: int
    message: Message
    partition: int = 0


class OutboxMessage(Struct, frozen=True):
    """A message to publish. ``position`` is its position in the total order of its shard."""

    position: int
    topic: str
    message: Message


class Bus(Protocol):
    """Operations that the service uses of a bus.

    A bus that does not answer raises BusUnavailable; the embedded one, which is in the store,
    StoreUnavailable.
    """

    async def topic_exists(self, topic: str) -> bool:
        """True when the topic exists. Never creates one.

        Raises TopicRefused when the service may not write to it.
        """
        ...

    async def topics(self) -> list[str]:
        """Names of the topics that the service may list."""
        ...

    async def ready(self) -> None:
        """Return when the bus answers; raise the cause otherwise."""
        ...

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Append ``messages`` in order, all or none; durable on return.

        Raises TopicRefused when this topic is the cause.
        """
        ...

    def receive(self, topic: str, consumer: str) -> AsyncGenerator[list[Received], None]:
        """Batches of a topic's messages in order, each at least once, from the offset that ``consumer`` last
        committed: asking for the next batch commits that the one before is processed. Waits for more messages
        without a timeout; close the iterator to end it. It ends when its connection is lost."""
        ...

    async def recover_position(self, shard: int) -> int:
        """Position of the last outbox message of ``shard`` that readers can see; -1 when none.

        Fences an earlier publisher of that shard: its later :meth:`publish_shard` raises Fenced.
        """
        ...

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Publish ``messages`` and the new position of ``shard`` in one atomic step.

        Call :meth:`recover_position` once before the first call, and one of both at a time for a shard.
        Messages at or before the shard's position are skipped. Raises Fenced after a newer
        :meth:`recover_position` elsewhere, TopicRefused when one topic is the cause. After a TopicRefused
        nothing was published; after another error, all or nothing. The call after a TopicRefused may raise
        Fenced, if the error has closed the producer.
        """
        ...
