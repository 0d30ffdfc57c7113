# SPDX-License-Identifier: Apache-2.0
"""The embedded bus: topics as rows of the store. Every valid topic name exists."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final
from uuid import UUID

from ran_datajobs.errors import Fenced, TopicRefused
from ran_datajobs.messaging.bus import Message, OutboxMessage, Received
from ran_datajobs.messaging.events import CORRELATION_ID
from ran_datajobs.messaging.topics import topic_problem
from ran_datajobs.store import bus as store
from ran_datajobs.store.database import Connection, Database, store_errors

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
        async with self._database.connection() as connection:
            return await store.topics(connection)

    async def ready(self) -> None:
        """Return when the store answers."""
        await self._database.ready()

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Append ``messages`` in one transaction."""
        async with self._database.transaction() as connection:
            await _append(connection, topic, messages)

    async def receive(self, topic: str, consumer: str) -> AsyncIterator[list[Received]]:
        """Batches in order. New messages are notified; slow polling covers lost notifications.

        The connection that listens holds the advisory lock of the receiver.
        """
        listening = await self._database.listen_connection()
        news = asyncio.Event()
        listening.add_termination_listener(lambda _: news.set())
        try:
            with store_errors():
                await listening.add_listener(store.BUS_CHANNEL, lambda *_: news.set())
                while not await store.claim_receiving(listening, consumer, topic):  # noqa: ASYNC110 - a lock
                    await asyncio.sleep(self._poll_interval)
                offset = await store.position_of(listening, consumer, topic)
            while not listening.is_closed():
                news.clear()
                if batch := await self.read(topic, offset, _BATCH):
                    offset = batch[-1].offset + 1
                    yield batch
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll_interval):
                            await news.wait()
        finally:
            listening.terminate()

    async def passed(self, consumer: str, batch: Sequence[Received]) -> None:
        """Store the offset after ``batch``."""
        last = batch[-1]
        async with self._database.connection() as connection:
            await store.set_position(connection, consumer, last.topic, last.offset + 1)

    async def recover_position(self, shard: int) -> int:
        """Take over the shard and return its position."""
        async with self._database.transaction() as connection:
            self._epochs[shard], position = await store.fence_shard(connection, shard)
        return position

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Append the messages and move the shard's position in one transaction."""
        async with self._database.transaction() as connection:
            held = await store.lock_shard(connection, shard)
            if held is None or held[0] != self._epochs.get(shard):
                raise Fenced(f"shard {shard} of the outbox has a newer publisher")
            new = [message for message in messages if message.position > held[1]]
            by_topic = attrgetter("topic")
            for topic, group in groupby(sorted(new, key=by_topic), key=by_topic):
                await _append(connection, topic, [each.message for each in group])
            if new:
                await store.move_shard(connection, shard, new[-1].position)

    async def read(self, topic: str, offset: int, limit: int, *, client: str | None = None) -> list[Received]:
        """Messages from ``offset`` on, at most ``limit`` and about 8 MiB; ``client``: only of its jobs."""
        async with self._database.connection() as connection:
            found = await store.messages_from(
                connection, topic, offset, limit=limit, max_bytes=_BATCH_BYTES, client=client
            )
        return [Received(topic, each.offset, Message(each.key, each.headers, each.value)) for each in found]


async def _append(connection: Connection, topic: str, messages: Sequence[Message]) -> None:
    if (problem := topic_problem(topic)) is not None:
        raise TopicRefused(topic, problem)
    new = [store.NewMessage(_job_of(each), each.key, each.headers, each.value) for each in messages]
    await store.append(connection, topic, new)


def _job_of(message: Message) -> UUID | None:
    """The job a message belongs to, by its correlation id."""
    with contextlib.suppress(ValueError):
        return UUID(message.headers.get(CORRELATION_ID, ""))
    return None
