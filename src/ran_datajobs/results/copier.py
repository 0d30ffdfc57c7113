# SPDX-License-Identifier: Apache-2.0
"""Copies result objects to the destination buckets of jobs, the manifest of a job after its other objects.

Each copy is read into this process and compared with the SHA-256 that was recorded when the object was
written. Copying an object twice changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeGuard
from uuid import UUID

from ran_datajobs.errors import StorageRefused, StorageUnavailable
from ran_datajobs.results.objects import ObjectStore, concurrently
from ran_datajobs.store.outbox import Waiting

_LONGEST_CALL: Final = 60.0


class DeliveryFailure(Exception):
    """No row of the outbox can be delivered to ``topic`` (``None``: to any); with ``job_id``, none of this
    job. ``refused``: a retry cannot succeed."""

    def __init__(
        self, topic: str | None, cause: str, job_id: UUID | None = None, *, refused: bool = False
    ) -> None:
        super().__init__(cause)
        self.topic = topic
        self.cause = cause
        self.job_id = job_id
        self.refused = refused


async def copy_objects(
    objects: ObjectStore, rows: Sequence[Waiting]
) -> tuple[list[Waiting], list[DeliveryFailure]]:
    """Copy the objects of ``rows`` concurrently, then the manifests of jobs that have all other objects.

    Returns the rows that succeeded, and the failures. A row to which a failure applies is not tried.
    """
    failures: dict[tuple[str | None, UUID | None], DeliveryFailure] = {}

    async def copy(row: Waiting) -> bool:
        if failures.keys() & {(row.topic, None), (row.topic, row.job_id)}:
            return False
        try:
            await _copy(objects, row)
        except DeliveryFailure as failure:
            failures[failure.topic, failure.job_id] = failure
            return False
        return True

    done: list[Waiting] = []
    for is_manifest in (False, True):
        some = [row for row in rows if row.ends_delivery is is_manifest]
        copied = await concurrently(copy, some)
        done += [row for row, succeeded in zip(some, copied, strict=True) if succeeded]
    return done, list(failures.values())


async def _copy(objects: ObjectStore, row: Waiting) -> None:
    """Copy one object, unless a redelivery finds it unchanged. What an earlier version wrote only to the
    destination is copied back to the service's own bucket."""
    bucket, key = row.bucket or "", row.object_key or ""
    async with _answering(row, bucket):
        own = await objects.get(bucket, key)
    if _is_whole(own, row.sha256):
        async with _answering(row, row.target):
            if row.delivery == 1 or await _copy_of(objects, row) != own:
                await objects.put(row.target, key, own)
        return
    async with _answering(row, row.target):
        there = await _copy_of(objects, row)
    if row.sha256 is None or not _is_whole(there, row.sha256):
        what = "is gone" if own is None else "was spoilt"
        raise DeliveryFailure(row.topic, f"the result object {bucket}/{key} {what}", row.job_id, refused=True)
    async with _answering(row, bucket):
        await objects.put(bucket, key, there)


async def _copy_of(objects: ObjectStore, row: Waiting) -> bytes | None:
    """The object in the destination bucket. S3 refuses to read a missing object in a bucket that the service
    may not list."""
    try:
        return await objects.get(row.target, row.object_key or "")
    except StorageRefused:
        return None


@contextlib.asynccontextmanager
async def _answering(row: Waiting, bucket: str) -> AsyncIterator[None]:
    """Turn the errors of calls for ``bucket`` into failures of all copies to the destination of ``row``."""
    try:
        async with asyncio.timeout(_LONGEST_CALL):
            yield
    except StorageUnavailable as error:
        refused = bucket == row.target and isinstance(error, StorageRefused)
        raise DeliveryFailure(row.topic, str(error), refused=refused) from error
    except TimeoutError as error:
        raise DeliveryFailure(row.topic, f"bucket {bucket!r} does not answer") from error


def _is_whole(body: bytes | None, sha256: str | None) -> TypeGuard[bytes]:
    return body is not None and (sha256 is None or hashlib.sha256(body).hexdigest() == sha256)
