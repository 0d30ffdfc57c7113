# SPDX-License-Identifier: Apache-2.0
"""Topics of the embedded bus as rows, read and written in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.store.database import Connection, columns, read
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("bus")

BUS_CHANNEL: Final = "datajobs_bus"
"""Notification channel; the payload is the name of a topic that has new messages."""


class NewMessage(Struct, frozen=True):
    """A message to append. ``job_id``: the job whose client may read it."""

    job_id: UUID | None
    key: str
    headers: Mapping[str, str]
    value: bytes


class StoredMessage(Struct, frozen=True):
    """A message as stored in its topic."""

    offset: int
    key: str
    headers: dict[str, str]
    value: bytes


async def topics(connection: Connection) -> list[str]:
    """The names of all topics, sorted."""
    return [row["topic"] for row in await connection.fetch(_SQL["topics"])]


async def append(connection: Connection, topic: str, messages: Sequence[NewMessage]) -> int:
    """Append ``messages`` in order and notify the receivers at the commit. Returns the first offset.

    Locks the topic until the commit: a caller that appends to several topics does so in order of name.
    """
    first: int | None = await connection.fetchval(_SQL["take_offsets"], topic, len(messages))
    if first is None:
        await connection.execute(_SQL["add_topic"], topic)
        first = await connection.fetchval(_SQL["take_offsets"], topic, len(messages))
    fields = columns(messages, *NewMessage.__struct_fields__)
    await connection.execute(_SQL["add_messages"], topic, first, *fields)
    await connection.execute(_SQL["wake_receivers"], topic)
    return int(first or 0)


async def messages_from(
    connection: Connection, topic: str, offset: int, *, limit: int, max_bytes: int, client: str | None = None
) -> list[StoredMessage]:
    """Messages from ``offset`` on: at most ``limit`` and about ``max_bytes``, at least one if any exist.

    With ``client``, only those of that client's jobs.
    """
    rows = await connection.fetch(_SQL["messages_from"], topic, offset, limit, max_bytes, client)
    return read(StoredMessage, rows)


async def position_of(connection: Connection, consumer: str, topic: str) -> int:
    """The next offset of ``consumer``; 0 at first."""
    return int(await connection.fetchval(_SQL["position_of"], consumer, topic) or 0)


async def set_position(connection: Connection, consumer: str, topic: str, next_offset: int) -> None:
    """Set the next offset of ``consumer``; it never decreases."""
    await connection.execute(_SQL["set_position"], consumer, topic, next_offset)


async def claim_receiving(connection: Connection, consumer: str, topic: str) -> bool:
    """Take the lock to receive for ``consumer`` until the connection closes; False when another has it."""
    return bool(await connection.fetchval(_SQL["claim_receiving"], consumer, topic))


async def fence_shard(connection: Connection, shard: int) -> tuple[int, int]:
    """Begin a new epoch of ``shard``, which fences earlier ones. Returns the epoch and the position."""
    ((epoch, position),) = await connection.fetch(_SQL["fence_shard"], shard)
    return epoch, position


async def lock_shard(connection: Connection, shard: int) -> tuple[int, int] | None:
    """Lock ``shard`` until the commit. Returns epoch and position; ``None`` before the first fence."""
    row = await connection.fetchrow(_SQL["lock_shard"], shard)
    return None if row is None else (row["epoch"], row["position"])


async def move_shard(connection: Connection, shard: int, position: int) -> None:
    """Set the position of a shard that this transaction has locked."""
    await connection.execute(_SQL["move_shard"], shard, position)
