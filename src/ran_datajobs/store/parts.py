# SPDX-License-Identifier: Apache-2.0
"""Which result objects a job has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.store.database import Connection
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("parts")

FOREIGN_SEQUENCE: Final = -1
"""Stands in place of a sequence for a plugin's own result body, kept as it came: it is no message."""

ADDED_SEQUENCE: Final = 1_000_000
"""First sequence of what the service adds to the messages of a read: no message of a plugin gets there."""


MAX_PIECES: Final = 2_000
"""A message that would be cut into more result objects is not taken."""


def unreadable_sequence(message: int) -> int:
    """Stands in place of a sequence for a plugin's message that cannot be read, kept as it came."""
    return FOREIGN_SEQUENCE - (message + 1) * MAX_PIECES


def is_foreign(sequence: int) -> bool:
    """Whether the part is a plugin's own body or message, kept as it came, and no result document."""
    return sequence < 0 and (FOREIGN_SEQUENCE - sequence) % MAX_PIECES == 0


def piece_sequence(message: int, piece: int) -> int:
    """Sequence of one piece of a plugin's message: the first one has the message's number, the others have
    negative ones below :data:`FOREIGN_SEQUENCE` that nothing else has."""
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
    """How many result messages of a read are in, durably. Each has a number, from 0.

    ``below_total``: of the ``messages``, those whose number is below the ``total``, where that is known.
    ``last``: the highest number; -1 when none is in. ``unreadable``: those that cannot be read, or not whole.
    """

    messages: int
    below_total: int
    last: int
    unreadable: int = 0
    total: int | None = None

    @property
    def all_in(self) -> bool:
        """Whether as many are in as the plugin announced."""
        return self.total is not None and self.below_total >= self.total

    @property
    def complete(self) -> bool:
        """Whether none is missing, as far as their numbers and the total tell."""
        return self.all_in if self.total is not None else 0 < self.messages == self.last + 1


async def record(connection: Connection, job_id: UUID, parts: Sequence[Part]) -> None:
    """Record ``parts``, the last that their sub-jobs have: rows of an earlier, longer attempt go."""
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
    """Every part of a job: its sub-jobs in their order, the unmatched operations last."""
    return [_part(row) for row in await connection.fetch(_SQL["parts_of_job"], job_id)]


async def listing_by_producer(connection: Connection, job_id: UUID) -> list[tuple[Part, str | None]]:
    """The same, those of one sub-job side by side, each with its data producer, where there is one."""
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
    """The result messages of a sub-job that are in; ``total``: how many it has, where that is known."""
    (row,) = await connection.fetch(_SQL["arrived"], job_id, sub_job, total, FOREIGN_SEQUENCE, MAX_PIECES)
    return Arrived(row["messages"], row["below_total"], row["last"], row["unreadable"], total)


async def arrived_outcomes(connection: Connection, job_id: UUID, sub_job: str) -> list[bytes]:
    """What the result messages of a sub-job told, as :mod:`ran_datajobs.results.read_results` packed it."""
    rows = await connection.fetch(_SQL["arrived_outcomes"], job_id, sub_job)
    return [row["outcomes"] for row in rows]
