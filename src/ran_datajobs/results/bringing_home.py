# SPDX-License-Identifier: Apache-2.0
"""Brings the results of a job to the bucket it named, once that can be written again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

from ran_datajobs.errors import StorageUnavailable
from ran_datajobs.results.objects import ObjectStore, manifest_key
from ran_datajobs.store import buckets, parts
from ran_datajobs.store.database import Database

_PARALLEL: Final = 4
"""Objects held in memory at a time."""


async def bring_home(database: Database, objects: ObjectStore, job_id: UUID, own_bucket: str) -> None:
    """Have every object of a terminal job in the bucket it named, the manifest last, and only there.

    Doing it again changes nothing. Raises StorageUnavailable; then the results are still in ``own_bucket``.
    """
    async with database.connection() as connection:
        place = await buckets.of_job(connection, job_id)
        listed = await parts.listing(connection, job_id)
    if place is None or place.destination is None:
        return
    keys = [part.key for part in listed]
    manifest = manifest_key(str(job_id))
    if place.results != place.destination:
        for some in _some(keys):
            await _copy(objects, place.results, place.destination, some)
        await _copy(objects, place.results, place.destination, [manifest])
        async with database.transaction() as connection:
            await buckets.bring_home(connection, job_id)
    if place.destination != own_bucket:
        await objects.delete(own_bucket, [manifest, *keys])


async def _copy(objects: ObjectStore, source: str, target: str, keys: Sequence[str]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            copies = [group.create_task(objects.copy(source, target, key)) for key in keys]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    for key, copied in zip(keys, copies, strict=True):
        if not copied.result():
            raise StorageUnavailable(f"the result object {source}/{key} is gone")


def _some(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _PARALLEL):
        yield keys[start : start + _PARALLEL]
