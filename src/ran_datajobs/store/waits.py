# SPDX-License-Identifier: Apache-2.0
"""What the rows of jobs and sub-jobs tell of what they wait for. Facts alone: the words are in results.waits.

Where a function takes ``sees``, it names only that client's jobs; ``None`` names everybody's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from ran_datajobs.model import JobType, Stage
from ran_datajobs.store.database import Connection
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("waits")

UNCLAIMED_AFTER: Final = 2.0
"""Seconds after which a due sub-job that nobody has claimed waits: a worker with room looks every second."""


class SubJobFacts(Struct, frozen=True):
    """One sub-job. Settings that its plugin did not register are ``None``.

    ``blocked``: a job that its job names in ``after`` is open. ``unclaimed``: admitted, and no worker has
    claimed it in time. ``circuit_until``: no call of its plugin is made before. ``holder``: one of the
    ``holders`` that have the places of its lane; may be named where ``holder_visible``.
    """

    sub_job_id: UUID
    job_id: UUID
    type: JobType
    stage: Stage
    created_at: datetime
    started_at: datetime | None
    objects_cause: str | None
    objects_since: datetime | None
    trouble_since: datetime | None
    last_error: str | None
    circuit_until: datetime | None
    due_at: datetime | None
    plugin_id: int
    url: str
    give_up: float | None
    sub_job_timeout: float | None
    data_producer_id: str
    blocked: bool
    unclaimed: bool
    holder: UUID | None
    holder_job: UUID | None
    holder_stage: Stage | None
    holder_visible: bool | None
    holders: int | None
    holder_ended_at: datetime | None
    quarantined_until: datetime | None


class AfterFacts(Struct, frozen=True):
    """The open jobs that a job of ``created_at`` waits for: those that may be named, and how many others.
    ``ended_at``: when the last one ended of those that are not open."""

    job_id: UUID
    created_at: datetime
    visible: list[UUID] | None
    hidden: int
    ended_at: datetime | None


class CreateFacts(Struct, frozen=True):
    """Creates of one plugin, and bytes of their operations, that its busiest worker has under way."""

    plugin_id: int
    creates: int
    bytes: int


class DeliveryFacts(Struct, frozen=True):
    """Why, since when and until when the delivery of an ended job to ``topic`` waits."""

    job_id: UUID
    topic: str
    cause: str
    since: datetime
    until: datetime


_Facts = TypeVar("_Facts", SubJobFacts, AfterFacts, CreateFacts, DeliveryFacts)


def _read(kind: type[_Facts], rows: Sequence[Any]) -> list[_Facts]:
    return [msgspec.convert(dict(row), kind) for row in rows]


async def standing_jobs(connection: Connection, job_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Of these jobs those of which no sub-job makes progress: the first open sub-job of each."""
    rows = await connection.fetch(_SQL["standing_jobs"], list(job_ids), UNCLAIMED_AFTER)
    return {row["job_id"]: row["sub_job_id"] for row in rows}


async def sub_jobs(
    connection: Connection, sub_job_ids: Collection[UUID], sees: str | None
) -> list[SubJobFacts]:
    """These sub-jobs, and who has the places that they wait for."""
    return _read(
        SubJobFacts, await connection.fetch(_SQL["sub_jobs"], list(sub_job_ids), sees, UNCLAIMED_AFTER)
    )


async def after_jobs(
    connection: Connection, job_ids: Collection[UUID], sees: str | None
) -> dict[UUID, AfterFacts]:
    """What each of these jobs names in ``after``; without those that name nothing."""
    rows = await connection.fetch(_SQL["after_jobs"], list(job_ids), sees)
    return {each.job_id: each for each in _read(AfterFacts, rows)}


async def creates(connection: Connection, plugin_ids: Collection[int]) -> dict[int, CreateFacts]:
    """The creates of each of these plugins that are under way; without plugins that have none."""
    rows = await connection.fetch(_SQL["creates"], list(plugin_ids))
    return {each.plugin_id: each for each in _read(CreateFacts, rows)}


async def deliveries(
    connection: Connection, job_ids: Collection[UUID], give_up: float, give_up_refused: float
) -> list[DeliveryFacts]:
    """Of these jobs those whose delivery waits. ``give_up``, ``give_up_refused``: seconds until a delivery
    is given up, and one that a repeat cannot cure."""
    return _read(
        DeliveryFacts, await connection.fetch(_SQL["deliveries"], list(job_ids), give_up, give_up_refused)
    )
