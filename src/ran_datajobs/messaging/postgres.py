# SPDX-License-Identifier: Apache-2.0
"""The embedded bus: topics as rows of the store. Every valid topic name exists."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby
from typing import Final
from uuid import UUID

import asyncpg

from ran_datajobs.errors import BusUnavailable, Fenced, InvalidRequest, StoreUnavailable, TopicRefused
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
        with _bus_errors():
            async with self._database.connection() as connection:
                return await store.topics(connection)

    async def ready(self) -> None:
        """Return when the store answers."""
        with _bus_errors():
            await self._database.ready()

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Append ``messages`` in one transaction."""
        if not messages:
            return
        with _bus_errors():
            async with self._database.transaction() as connection:
                await _append(connection, topic, messages)

    async def receive(self, topic: str, consumer: str) -> AsyncIterator[list[Received]]:
        """Batches in order. New messages are notified; slow polling covers lost notifications."""
        news = asyncio.Event()
        while True:
            with _bus_errors():
                listening = await self._database.listen_connection()
            try:
                await listening.add_listener(store.BUS_CHANNEL, lambda *_: news.set())
                listening.add_termination_listener(lambda _: news.set())
                async for batch in self._received(topic, consumer, listening, news):
                    yield batch
            finally:
                with contextlib.suppress(*_LISTEN_ERRORS):
                    await listening.close(timeout=2)

    async def passed(self, consumer: str, last: Received) -> None:
        """Store the offset after ``last``."""
        with _bus_errors():
            async with self._database.connection() as connection:
                await store.set_position(connection, consumer, last.topic, last.offset + 1)

    async def recover_position(self, shard: int) -> int:
        """Take over the shard and return its position."""
        with _bus_errors():
            async with self._database.transaction() as connection:
                epoch, position = await store.fence_shard(connection, shard)
        self._epochs[shard] = epoch
        return position

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Append the messages and move the shard's position in one transaction."""
        with _bus_errors():
            async with self._database.transaction() as connection:
                held = await store.lock_shard(connection, shard)
                if held is None or held[0] != self._epochs.get(shard):
                    raise Fenced(f"shard {shard} of the outbox has a newer publisher")
                new = [message for message in messages if message.position > held[1]]
                for topic, group in groupby(sorted(new, key=_topic), key=_topic):
                    await _append(connection, topic, [each.message for each in group])
                if new:
                    await store.move_shard(connection, shard, new[-1].position)

    async def read(self, topic: str, offset: int, limit: int, *, client: str | None = None) -> list[Received]:
        """Messages from ``offset`` on, at most ``limit`` and about 8 MiB; ``client``: only of its jobs."""
        with _bus_errors():
            async with self._database.connection() as connection:
                found = await store.messages_from(
                    connection, topic, offset, limit=limit, max_bytes=_BATCH_BYTES, client=client
                )
        return [_received(topic, stored) for stored in found]

    async def _received(
        self,
        topic: str,
        consumer: str,
        listening: asyncpg.Connection[asyncpg.Record],
        news: asyncio.Event,
    ) -> AsyncIterator[list[Received]]:
        """Batches while the connection ``listening`` is open; it holds the advisory lock of the receiver."""
        offset: int | None = None
        while not listening.is_closed():
            news.clear()
            found: list[Received] = []
            with _bus_errors(), store_errors():
                if offset is None and await store.claim_receiving(listening, consumer, topic):
                    offset = await store.position_of(listening, consumer, topic)
                if offset is not None:
                    found = await self._from(topic, offset)
            if found:
                offset = found[-1].offset + 1
                yield found
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_interval):
                        await news.wait()

    async def _from(self, topic: str, offset: int) -> list[Received]:
        async with self._database.connection() as connection:
            found = await store.messages_from(connection, topic, offset, limit=_BATCH, max_bytes=_BATCH_BYTES)
        return [_received(topic, stored) for stored in found]


async def _append(connection: Connection, topic: str, messages: Sequence[Message]) -> None:
    if (problem := topic_problem(topic)) is not None:
        raise TopicRefused(topic, problem)
    if any("\0" in message.key or _has_nul(message.headers) for message in messages):
        raise InvalidRequest("a key or header of a message holds a NUL character")
    await store.append(
        connection,
        topic,
        [
            store.NewMessage(_job_of(message), message.key, message.headers, message.value)
            for message in messages
        ],
    )


def _has_nul(headers: dict[str, str]) -> bool:
    return any("\0" in name or "\0" in value for name, value in headers.items())


def _job_of(message: Message) -> UUID | None:
    """The job a message belongs to, by its correlation id."""
    with contextlib.suppress(ValueError):
        return UUID(message.headers.get(CORRELATION_ID, ""))
    return None


def _topic(message: OutboxMessage) -> str:
    return message.topic


def _received(topic: str, stored: store.StoredMessage) -> Received:
    return Received(topic, stored.offset, Message(stored.key, stored.headers, stored.value))


_LISTEN_ERRORS: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@contextlib.contextmanager
def _bus_errors() -> Iterator[None]:
    """Translate StoreUnavailable into BusUnavailable."""
    try:
        yield
    except StoreUnavailable as error:
        raise BusUnavailable(str(error)) from error
