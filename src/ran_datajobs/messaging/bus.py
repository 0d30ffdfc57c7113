# SPDX-License-Identifier: Apache-2.0
"""The port to a message bus: topics of ordered messages with headers.

Adapters: ``postgres`` (the embedded bus) and ``kafka``. One contract suite runs over both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct


class Message(Struct, frozen=True):
    """One message. Header names are lower case (``ce_…``, ``content-type``); ``key`` orders a sub-job's."""

    key: str
    headers: dict[str, str]
    value: bytes


class Received(Struct, frozen=True):
    """A message as it came, with its place in the topic."""

    topic: str
    offset: int
    message: Message


class OutboxMessage(Struct, frozen=True):
    """A message on its way out. ``position`` is its place in the total order of its shard."""

    position: int
    topic: str
    message: Message


class Bus(Protocol):
    """What the service needs of a bus."""

    async def topic_exists(self, topic: str) -> bool:
        """True when there is such a topic. Never creates one.

        Raises TopicRefused when it is there but not ours to write, BusUnavailable when nobody answers.
        """
        ...

    async def topics(self) -> list[str]:
        """Names of the topics there are, as far as we may know them. Raises BusUnavailable."""
        ...

    async def ready(self) -> None:
        """Return when the bus answers; raise BusUnavailable with the cause otherwise."""
        ...

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Append ``messages`` in order, all or none; durable on return.

        Raises TopicRefused when only this topic is to blame, BusUnavailable otherwise.
        """
        ...

    def receive(self, topic: str, consumer: str) -> AsyncIterator[list[Received]]:
        """Batches of a topic's messages in order, from the place that ``consumer`` last passed to
        :meth:`passed`. Waits for more for ever; end it by closing the iterator."""
        ...

    async def passed(self, consumer: str, last: Received) -> None:
        """Remember that ``consumer`` is done with everything up to and with ``last`` (at least once).

        ``last`` is of one of the three batches that came last.
        """
        ...

    async def recover_position(self, shard: int) -> int:
        """Position of the last outbox message of ``shard`` that readers can see; -1 when none.

        Fences an earlier publisher of that shard: its later :meth:`publish_shard` raises Fenced.
        """
        ...

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Publish ``messages`` and the new position of ``shard`` in one atomic step.

        Call :meth:`recover_position` once before the first. Messages at or before the shard's position are
        left out. Raises Fenced after a newer :meth:`recover_position` elsewhere, TopicRefused when one topic
        is to blame, BusUnavailable when it may be retried. After any of them nothing was published, or all;
        after a TopicRefused nothing. A Fenced may follow it, where the producer was of no more use.
        """
        ...
