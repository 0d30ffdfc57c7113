# SPDX-License-Identifier: Apache-2.0
"""The embedded bus: topics as rows of the store. Every valid topic name exists."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final
from uuid import UUID

from ran_datajobs.errors import Fenced, TopicRefused
from ran_datajobs.messaging.bus import Message, OutboxMessage, Received
from ran_datajobs.messaging.events import CORRELATION_ID
from ran_datajobs.messaging.topics import topic_problem
from ran_datajobs.store.database import Connection, Database, columns, store_errors
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("bus")

_CHANNEL: Final = "datajobs_bus"
"""Notification channel; the payload is the name of a topic that has new messages."""

_BATCH: Final = 500
_BATCH_BYTES: Final = 8 * 1024 * 1024


class PostgresBus:
    """A Bus over one PostgreSQL. Of several receivers of one consumer, one receives and the others wait."""

    def __init__(self, database: Database, *, poll_interval: float = 2.0) -> None:
        """``poll_interval``: interval in seconds at which a receiver polls without a notification."""
        self._database = database
        self._poll_interval = poll_interval
        self._epochs: dict[int, int] = {}

    async def topic_exists(self, topic: str) -> bool:
        """True for every valid name."""
        return topic_problem(topic) is None

    async def topics(self) -> list[str]:
        """The topics that have, or had, a message."""
        return [row["topic"] for row in await self._database.fetch(_SQL["topics"])]

    async def ready(self) -> None:
        """Return when the store answers."""
        await self._database.ready()

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Append ``messages`` in one transaction."""
        async with self._database.transaction() as connection:
            await _append(connection, topic, messages)

    async def receive(self, topic: str, consumer: str) -> AsyncGenerator[list[Received], None]:
        """Batches in order. New messages are notified; slow polling covers lost notifications.

        The connection that listens holds the advisory lock of the receiver.
        """
        listening = await self._database.listen_connection()
        news = asyncio.Event()
        listening.add_termination_listener(lambda _: news.set())
        try:
            with store_errors():
                await listening.add_listener(_CHANNEL, lambda *_: news.set())
                while not await listening.fetchval(_SQL["claim_receiving"], consumer, topic):  # noqa: ASYNC110
                    await asyncio.sleep(self._poll_interval)
                offset = await listening.fetchval(_SQL["position_of"], consumer, topic) or 0
            while not listening.is_closed():
                news.clear()
                if batch := await self.read(topic, offset, _BATCH):
                    yield batch
                    offset = batch[-1].offset + 1
                    await self._database.fetch(_SQL["set_position"], consumer, topic, offset)
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll_interval):
                            await news.wait()
        finally:
            listening.terminate()

    async def recover_position(self, shard: int) -> int:
        """Take over the shard and return its position."""
        ((self._epochs[shard], position),) = await self._database.fetch(_SQL["fence_shard"], shard)
        return int(position)

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Append the messages and move the shard's position in one transaction."""
        async with self._database.transaction() as connection:
            position = await connection.fetchval(_SQL["lock_shard"], shard, self._epochs.get(shard))
            if position is None:
                raise Fenced(f"shard {shard} of the outbox has a newer publisher")
            new = [message for message in messages if message.position > position]
            by_topic = attrgetter("topic")
            for topic, group in groupby(sorted(new, key=by_topic), key=by_topic):
                await _append(connection, topic, [each.message for each in group])
            if new:
                await connection.execute(_SQL["move_shard"], shard, new[-1].position)

    async def read(self, topic: str, offset: int, limit: int, *, client: str | None = None) -> list[Received]:
        """Messages from ``offset`` on, at most ``limit`` and about 8 MiB, but at least one if any exist;
        ``client``: only of its jobs."""
        rows = await self._database.fetch(_SQL["messages_from"], topic, offset, limit, _BATCH_BYTES, client)
        return [
            Received(topic, row["offset"], Message(row["key"], row["headers"], row["value"])) for row in rows
        ]


async def _append(connection: Connection, topic: str, messages: Sequence[Message]) -> None:
    """Append ``messages`` in order and notify the receivers at the commit.

    Locks the topic until the commit: a caller that appends to several topics does so in order of name.
    """
    if (problem := topic_problem(topic)) is not None:
        raise TopicRefused(topic, problem)
    rows = (list(map(_job_of, messages)), *columns(messages, "key", "headers", "value"))
    if await connection.fetchrow(_SQL["append"], topic, *rows) is None:
        await connection.execute(_SQL["add_topic"], topic)
        await connection.fetchrow(_SQL["append"], topic, *rows)


def _job_of(message: Message) -> UUID | None:
    """The job a message belongs to, by its correlation id."""
    with contextlib.suppress(ValueError):
        return UUID(message.headers.get(CORRELATION_ID, ""))
    return None
