# SPDX-License-Identifier: Apache-2.0
"""Rows of the result objects of a job, and the messages with which plugins bring the results of reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import zstandard
from msgspec import Struct

from ran_datajobs.model import Stage
from ran_datajobs.store.database import Connection, columns, read
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("results")
_SUB_JOBS = named_queries("sub_jobs")

_NO_OUTCOMES: Final = zstandard.compress(b"{}", 1)
"""Outcomes of a further object of a message: those of its first object are of all."""

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
    -1 when there are none. ``unreadable``: messages that cannot be read, or only in part. ``outcomes``: those
    in the messages, as :mod:`ran_datajobs.results.read_results` packs them.
    """

    messages: int
    below_total: int
    last: int
    unreadable: int = 0
    total: int | None = None
    outcomes: list[bytes] = []

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
    await connection.execute(_SQL["record_parts"], job_id, *columns(parts, *Part.__struct_fields__))


async def listing(connection: Connection, job_id: UUID) -> list[Part]:
    """Every part of a job in the order of its sub-jobs, the unmatched operations last."""
    return read(Part, await connection.fetch(_SQL["parts_of_job"], job_id))


async def listing_by_producer(connection: Connection, job_id: UUID) -> list[tuple[Part, str | None]]:
    """The same with the data producer of each part, if any."""
    rows = await connection.fetch(_SQL["parts_of_job"], job_id)
    return list(zip(read(Part, rows), (row["data_producer_id"] for row in rows), strict=True))


async def arrived(connection: Connection, job_id: UUID, sub_job: str, total: int | None) -> Arrived:
    """The stored result messages of a sub-job; ``total``: their announced number, if known."""
    rows = await connection.fetch(_SQL["arrived"], job_id, sub_job)
    numbers = {row["number"] for row in rows}
    return Arrived(
        len(numbers),
        sum(total is None or number < total for number in numbers),
        max(numbers, default=-1),
        sum(is_foreign(row["sequence"]) for row in rows),
        total,
        [row["outcomes"] for row in rows],
    )


class MessageCorrelation(Struct, frozen=True):
    """Correlation fields of a message; ``None`` or empty if absent."""

    job_id: UUID | None
    sub_job_id: UUID | None
    data_producer_job_id: str
    data_producer_id: str
    topic: str


class ActiveRead(Struct, frozen=True):
    """A read sub-job that was sent to its plugin and is not settled."""

    sub_job_id: UUID
    job_id: UUID
    bucket: str


class ReadStarting(Struct, frozen=True):
    """No active read matches the message, but one that is being started may."""


class ReceivedMessage(Struct, frozen=True):
    """A message with its result objects in order, usually one. ``number`` is its number within the sub-job.

    ``sha256`` is of the whole message if it has several objects; ``outcomes`` in all of them are packed;
    ``total``: the number of messages of the sub-job, if announced.
    """

    read: ActiveRead
    number: int
    sha256: str | None
    pieces: tuple[Part, ...]
    outcomes: bytes
    total: int | None


async def find_reads(
    connection: Connection, claims: Sequence[MessageCorrelation]
) -> list[ActiveRead | ReadStarting | None]:
    """The active read of each message; ``None`` when none matches, or several do.

    A message is matched by its sub-job, else by the data producer's job, else by its topic.
    """
    fields = columns(claims, *MessageCorrelation.__struct_fields__)
    found: list[ActiveRead | ReadStarting | None] = [None] * len(claims)
    for row in await connection.fetch(_SQL["find_reads"], *fields):
        if row["sub_job_id"] is not None:
            found[row["place"] - 1] = ActiveRead(row["sub_job_id"], row["job_id"], row["results_bucket"])
        elif row["maybe_soon"]:
            found[row["place"] - 1] = ReadStarting()
    return found


async def known_digests(connection: Connection, read: ActiveRead) -> dict[str, int]:
    """The number of each message of a read by its SHA-256."""
    rows = await connection.fetch(_SQL["known_digests"], read.job_id, str(read.sub_job_id))
    return {row["digest"]: row["sequence"] for row in rows}


async def record_messages(connection: Connection, arrivals: Sequence[ReceivedMessage]) -> None:
    """Record messages of reads that are still active, in the caller's transaction.

    No message occurs twice in ``arrivals``; one that is recorded already changes nothing. A read that has all
    its messages is due at once.
    """
    ids = {arrival.read.sub_job_id for arrival in arrivals}
    locked = await connection.fetch(_SUB_JOBS["lock_sub_jobs"], list(ids))
    active = {row["sub_job_id"] for row in locked if row["stage"] != Stage.SETTLED}
    taken = [arrival for arrival in arrivals if arrival.read.sub_job_id in active]
    if not taken:
        return
    rows = [(arrival, number, piece) for arrival in taken for number, piece in enumerate(arrival.pieces)]
    stored = await connection.fetch(
        _SQL["record_arrivals"],
        *columns([arrival for arrival, _, _ in rows], "read.job_id", "number", "sha256"),
        [number for _, number, _ in rows],
        *columns([piece for _, _, piece in rows], *Part.__struct_fields__),
        [arrival.outcomes if number == 0 else _NO_OUTCOMES for arrival, number, _ in rows],
    )
    new = {(row["sub_job"], row["message"]) for row in stored}
    counted = await connection.fetch(
        _SUB_JOBS["count_messages"],
        *columns(taken, "read.sub_job_id", "total"),
        [(str(arrival.read.sub_job_id), arrival.number) in new for arrival in taken],
    )
    if any(row["due"] for row in counted):
        await connection.execute(_SUB_JOBS["notify_due"], "sub_job")
