# SPDX-License-Identifier: Apache-2.0
"""Correlates messages of plugins with active reads, and records them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import zstandard
from msgspec import Struct

from ran_datajobs.store import sub_jobs
from ran_datajobs.store.database import Connection
from ran_datajobs.store.parts import Part
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("arrivals")

_NO_OUTCOMES: Final = zstandard.compress(b"{}", 1)
"""Outcomes of a further object of a message: those of its first object are of all."""


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


async def find(
    connection: Connection, claims: Sequence[MessageCorrelation]
) -> list[ActiveRead | ReadStarting | None]:
    """The active read of each message; ``None`` when none matches, or several do.

    A message is matched by its sub-job, else by the data producer's job, else by its topic.
    """
    rows = await connection.fetch(
        _SQL["find_reads"],
        [claim.job_id for claim in claims],
        [claim.sub_job_id for claim in claims],
        [claim.data_producer_job_id for claim in claims],
        [claim.data_producer_id for claim in claims],
        [claim.topic for claim in claims],
    )
    found: list[ActiveRead | ReadStarting | None] = [None] * len(claims)
    for row in rows:
        if row["sub_job_id"] is not None:
            found[row["place"] - 1] = ActiveRead(row["sub_job_id"], row["job_id"], row["results_bucket"])
        elif row["maybe_soon"]:
            found[row["place"] - 1] = ReadStarting()
    return found


async def known_digests(connection: Connection, read: ActiveRead) -> dict[str, int]:
    """The number of each message of a read by its SHA-256."""
    rows = await connection.fetch(_SQL["known_digests"], read.job_id, str(read.sub_job_id))
    return {row["digest"]: row["sequence"] for row in rows}


async def record(connection: Connection, arrivals: Sequence[ReceivedMessage]) -> None:
    """Record messages of reads that are still active, in the caller's transaction.

    No message occurs twice in ``arrivals``; one that is recorded already changes nothing. A read that has all
    its messages is due at once.
    """
    active = await sub_jobs.lock_reads(connection, sorted({arrival.read.sub_job_id for arrival in arrivals}))
    taken = [arrival for arrival in arrivals if arrival.read.sub_job_id in active]
    if not taken:
        return
    rows = [(arrival, number, piece) for arrival in taken for number, piece in enumerate(arrival.pieces)]
    columns: list[list[Any]] = [
        [arrival.read.job_id for arrival, _, _ in rows],
        [piece.sub_job for _, _, piece in rows],
        [piece.sequence for _, _, piece in rows],
        [piece.key for _, _, piece in rows],
        [piece.size for _, _, piece in rows],
        [piece.sha256 for _, _, piece in rows],
        [piece.operations for _, _, piece in rows],
        [piece.failed for _, _, piece in rows],
        [arrival.outcomes if number == 0 else _NO_OUTCOMES for arrival, number, _ in rows],
        [arrival.number for arrival, _, _ in rows],
        [number for _, number, _ in rows],
        [arrival.sha256 for arrival, _, _ in rows],
    ]
    recorded = await connection.fetch(_SQL["record_arrivals"], *columns)
    new = {(UUID(row["sub_job"]), row["message"]) for row in recorded}
    totals: dict[UUID, int | None] = {}
    for arrival in taken:
        announced = (arrival.total, totals.get(arrival.read.sub_job_id))
        totals[arrival.read.sub_job_id] = max((each for each in announced if each is not None), default=None)
    counts = {read: sum(sub_job == read for sub_job, _ in new) for read in totals}
    await sub_jobs.count_messages(connection, counts, totals)
