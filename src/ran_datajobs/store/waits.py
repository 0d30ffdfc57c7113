# SPDX-License-Identifier: Apache-2.0
"""Facts on what jobs and sub-jobs wait for, from their rows; results.waits words them.

A function that takes ``sees`` names only that client's jobs; ``None``: the jobs of all clients.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.model import JobType, Stage
from ran_datajobs.store.database import Connection, read
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("waits")

UNCLAIMED_AFTER: Final = 2.0
"""Seconds after which an unclaimed due sub-job counts as waiting: a worker with room polls every second."""


class SubJobFacts(Struct, frozen=True):
    """One sub-job. ``gives_up_at``: when calls that fail since ``failing_since`` are given up.

    ``blocked``: a job that its job names in ``after`` is open. ``unclaimed``: admitted, and not claimed
    within :data:`UNCLAIMED_AFTER`. ``circuit_until``: its plugin is not called before. ``plugin_down_since``:
    since when it has been at, or due at, a plugin that reports that it is down. ``holder``: one of the
    ``holders`` sub-jobs that occupy the slots of its lane; may be named if ``holder_visible``.
    """

    sub_job_id: UUID
    job_id: UUID
    type: JobType
    stage: Stage
    created_at: datetime
    objects_cause: str | None
    objects_since: datetime | None
    failing_since: datetime | None
    last_error: str | None
    circuit_until: datetime | None
    due_at: datetime | None
    plugin_id: int
    url: str
    gives_up_at: datetime
    data_producer_id: str
    plugin_down_since: datetime | None
    health_cause: str | None
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
    """The open jobs that a job waits for: ``visible`` ones may be named, ``hidden`` counts the others.
    ``ended_at``: when the last of its ended ``after`` jobs ended."""

    job_id: UUID
    created_at: datetime
    visible: list[UUID]
    hidden: int
    ended_at: datetime | None


class CreateFacts(Struct, frozen=True):
    """Maximum number of creates in progress at one plugin, and of their bytes, over the workers."""

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


async def standing_jobs(connection: Connection, job_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Those of these jobs of which no sub-job makes progress, each with its first open sub-job."""
    rows = await connection.fetch(_SQL["standing_jobs"], list(job_ids), UNCLAIMED_AFTER)
    return {row["job_id"]: row["sub_job_id"] for row in rows}


async def sub_jobs(
    connection: Connection,
    sub_job_ids: Collection[UUID],
    sees: str | None,
    give_up: float,
    sub_job_timeout: float,
) -> list[SubJobFacts]:
    """These sub-jobs, and the holders of the slots that they wait for. ``give_up``, ``sub_job_timeout``:
    timeouts in seconds of a plugin and of a sub-job where the plugin registered none."""
    rows = await connection.fetch(
        _SQL["sub_jobs"], list(sub_job_ids), sees, UNCLAIMED_AFTER, give_up, sub_job_timeout
    )
    return read(SubJobFacts, rows)


async def after_jobs(
    connection: Connection, job_ids: Collection[UUID], sees: str | None
) -> dict[UUID, AfterFacts]:
    """Facts on the ``after`` jobs of each of these jobs; jobs that name none are absent."""
    rows = await connection.fetch(_SQL["after_jobs"], list(job_ids), sees)
    return {each.job_id: each for each in read(AfterFacts, rows)}


async def creates(connection: Connection, plugin_ids: Collection[int]) -> dict[int, CreateFacts]:
    """The creates in progress at each of these plugins; plugins that have none are absent."""
    rows = await connection.fetch(_SQL["creates"], list(plugin_ids))
    return {each.plugin_id: each for each in read(CreateFacts, rows)}


async def deliveries(
    connection: Connection, job_ids: Collection[UUID], give_up: float, give_up_refused: float
) -> list[DeliveryFacts]:
    """Those of these jobs whose delivery waits. ``give_up``, ``give_up_refused``: timeout in seconds of a
    delivery, and of one that a retry cannot cure."""
    rows = await connection.fetch(_SQL["deliveries"], list(job_ids), give_up, give_up_refused)
    return read(DeliveryFacts, rows)
