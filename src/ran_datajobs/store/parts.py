# SPDX-License-Identifier: Apache-2.0
"""Rows of the result objects of a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.store.database import Connection
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("parts")

FOREIGN_SEQUENCE: Final = -1
"""Sequence of a plugin's own result body, which is stored unchanged and is not a message."""

ADDED_SEQUENCE: Final = 1_000_000
"""First sequence of objects that the service adds to a read; messages of plugins have lower ones."""


MAX_PIECES: Final = 2_000
"""Maximum number of result objects of one message; a message with more is dropped."""


def unreadable_sequence(message: int) -> int:
    """Sequence of a plugin's message that cannot be read and is stored unchanged."""
    return FOREIGN_SEQUENCE - (message + 1) * MAX_PIECES


def is_foreign(sequence: int) -> bool:
    """True for a plugin's own body or message, stored unchanged; False for a result document."""
    return sequence < 0 and (FOREIGN_SEQUENCE - sequence) % MAX_PIECES == 0


def piece_sequence(message: int, piece: int) -> int:
    """Sequence of one piece of a plugin's message: the message's number for the first piece, a unique
    negative number below :data:`FOREIGN_SEQUENCE` for each of the others."""
    return message if piece == 0 else FOREIGN_SEQUENCE - message * MAX_PIECES - piece


class Part(Struct, frozen=True):
    """One result object. ``sub_job`` is a sub-job id or ``unmatched``; ``sequence`` counts from 0 in it, but
    see :func:`piece_sequence`.

    ``operations`` counts its responses, ``failed`` those that did not succeed; ``size`` is in bytes.
    """

    sub_job: str
    sequence: int
    key: str
    size: int
    sha256: str
    operations: int
    failed: int


class Arrived(Struct, frozen=True):
    """How many result messages of a read are stored. They are numbered from 0.

    ``below_total``: messages whose number is below ``total``, if that is known. ``last``: the highest number;
    -1 when there are none. ``unreadable``: messages that cannot be read, or only in part.
    """

    messages: int
    below_total: int
    last: int
    unreadable: int = 0
    total: int | None = None

    @property
    def all_in(self) -> bool:
        """True when as many messages are stored as the plugin announced."""
        return self.total is not None and self.below_total >= self.total

    @property
    def complete(self) -> bool:
        """True when no message is missing according to the numbers and the total."""
        return self.all_in if self.total is not None else 0 < self.messages == self.last + 1


async def record(connection: Connection, job_id: UUID, parts: Sequence[Part]) -> None:
    """Record ``parts``; delete rows of their sub-jobs behind them, left by an earlier, longer attempt."""
    if not parts:
        return
    ends: dict[str, int] = {}
    for part in parts:
        ends[part.sub_job] = max(ends.get(part.sub_job, 0), part.sequence + 1)
    await connection.execute(_SQL["drop_surplus"], job_id, list(ends), list(ends.values()))
    columns: list[list[Any]] = [
        [part.sub_job for part in parts],
        [part.sequence for part in parts],
        [part.key for part in parts],
        [part.size for part in parts],
        [part.sha256 for part in parts],
        [part.operations for part in parts],
        [part.failed for part in parts],
    ]
    await connection.execute(_SQL["record_parts"], job_id, *columns)


async def listing(connection: Connection, job_id: UUID) -> list[Part]:
    """Every part of a job in the order of its sub-jobs, the unmatched operations last."""
    return [_part(row) for row in await connection.fetch(_SQL["parts_of_job"], job_id)]


async def listing_by_producer(connection: Connection, job_id: UUID) -> list[tuple[Part, str | None]]:
    """The same with the data producer of each part, if any; parts of one sub-job are adjacent."""
    rows = await connection.fetch(_SQL["parts_by_producer"], job_id)
    return [(_part(row), row["data_producer_id"]) for row in rows]


def _part(row: Any) -> Part:
    return Part(
        row["sub_job"],
        row["sequence"],
        row["key"],
        row["bytes"],
        row["sha256"],
        row["operations"],
        row["failed"],
    )


async def arrived(connection: Connection, job_id: UUID, sub_job: str, total: int | None) -> Arrived:
    """The stored result messages of a sub-job; ``total``: their announced number, if known."""
    (row,) = await connection.fetch(_SQL["arrived"], job_id, sub_job, total, FOREIGN_SEQUENCE, MAX_PIECES)
    return Arrived(row["messages"], row["below_total"], row["last"], row["unreadable"], total)


async def arrived_outcomes(connection: Connection, job_id: UUID, sub_job: str) -> list[bytes]:
    """The outcomes in the messages of a sub-job, as :mod:`ran_datajobs.results.read_results` packs them."""
    rows = await connection.fetch(_SQL["arrived_outcomes"], job_id, sub_job)
    return [row["outcomes"] for row in rows]
