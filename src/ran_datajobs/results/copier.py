# SPDX-License-Identifier: Apache-2.0
"""Copies result objects to the destination buckets of jobs, the manifest of a job after its other objects.

Each copy is read into this process and compared with the SHA-256 that was recorded when the object was
written. Copying an object twice changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.checkpoints import Checkpoint, CheckpointHook, no_checkpoints
from ran_datajobs.errors import StorageRefused, StorageUnavailable
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.publisher import DeliveryRetryPolicy, Out, Waits, park, take_turn, untold
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Connection, Database

_BATCH: Final = 2000
_BATCH_BYTES: Final = 8 * 1024 * 1024
_PARALLEL: Final = 8
_PARALLEL_SHARDS: Final = 4
_LONGEST_COPY: Final = 60.0


class _Failure(Struct, frozen=True):
    """Cause of a failed copy. ``whole_bucket``: it applies to every copy to this bucket."""

    cause: str
    refused: bool
    whole_bucket: bool


class _Failures:
    """Failed copies, by bucket, or by bucket and job."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, UUID | None], _Failure] = {}

    def hold(self, row: outbox.Waiting) -> bool:
        """Whether a failure applies to this copy, so that it is not tried."""
        return (row.topic, None) in self.found or (row.topic, row.job_id) in self.found


class Copier:
    """Copies what outbox shards hold for buckets. Any number may run in any number of processes."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        patience: DeliveryRetryPolicy | None = None,
        given_up: Callable[[outbox.FailedDelivery], None] = lambda _: None,
        reached: CheckpointHook = no_checkpoints,
        *,
        waits: Waits = untold,
        out: Out = untold,
    ) -> None:
        """``given_up`` is called for each bucket that did not take a job's results in time."""
        self._database = database
        self._objects = objects
        self._patience = patience or DeliveryRetryPolicy()
        self._given_up = given_up
        self._reached = reached
        self._waits = waits
        self._out = out
        self._slots = asyncio.Semaphore(_PARALLEL_SHARDS)

    async def publish(self, shard: int) -> float | None:
        """Copy the waiting objects of ``shard`` for about five seconds, then return: other shards are served.

        Returns the seconds after which to call again; ``None``: nothing is left. Memory is bounded by a batch
        of each of four shards (8 MiB and one object).
        """
        async with self._slots, self._database.session() as connection:
            return await take_turn(
                connection,
                shard,
                self._patience,
                self._given_up,
                lambda: self._copy_batch(connection, shard),
            )

    async def _copy_batch(self, connection: Connection, shard: int) -> bool:
        """Copy the next objects concurrently, then the manifests of jobs that have all other objects."""
        batch = await outbox.next_messages(connection, shard, limit=_BATCH, max_bytes=_BATCH_BYTES)
        if not batch:
            return False
        failures = _Failures()
        made = await self._copy([row for row in batch if not row.ends_delivery], failures)
        made += await self._copy([row for row in batch if row.ends_delivery], failures)
        await self._reached(Checkpoint.DELIVER_PUBLISHED)
        works = {(row.job_id, row.topic) for row in made if not failures.hold(row)}
        ended = await outbox.published(connection, shard, [row.position for row in made], list(works))
        self._out(len(made), {topic for _, topic in works}, ended)
        await self._reached(Checkpoint.DELIVER_STORED)
        for (topic, job_id), failure in failures.found.items():
            await park(
                connection,
                shard,
                self._patience,
                failure.cause,
                topic=topic,
                job_id=job_id,
                refused=failure.refused,
            )
            self._waits(topic, failure.cause)
        return True

    async def _copy(self, rows: Sequence[outbox.Waiting], failures: _Failures) -> list[outbox.Waiting]:
        """Make these copies. Returns those that succeeded; it skips copies to which a failure applies."""
        slots = asyncio.Semaphore(_PARALLEL)

        async def copy(row: outbox.Waiting) -> bool:
            async with slots:
                if failures.hold(row):
                    return False
                failure = await self._made(row)
                if failure is not None:
                    failures.found[row.topic, None if failure.whole_bucket else row.job_id] = failure
                return failure is None

        copied = await asyncio.gather(*map(copy, rows))
        return [row for row, made in zip(rows, copied, strict=True) if made]

    async def _made(self, row: outbox.Waiting) -> _Failure | None:
        bucket, key = row.bucket or "", row.object_key or ""
        try:
            async with asyncio.timeout(_LONGEST_COPY):
                body = await self._objects.get(bucket, key)
                if body is None or not _is_whole(body, row.sha256):
                    return await self._restore_own_copy(row, body)
        except StorageUnavailable as unavailable:
            return _Failure(str(unavailable), refused=False, whole_bucket=True)
        except TimeoutError:
            return _Failure(f"bucket {bucket!r} does not answer", refused=False, whole_bucket=True)
        try:
            async with asyncio.timeout(_LONGEST_COPY):
                if row.delivery == 1 or not await self._has_copy(row, body):
                    await self._objects.put(row.target, key, body)
        except StorageRefused as refusal:
            return _Failure(str(refusal), refused=True, whole_bucket=True)
        except StorageUnavailable as unavailable:
            return _Failure(str(unavailable), refused=False, whole_bucket=True)
        except TimeoutError:
            return _Failure(f"bucket {row.target!r} does not answer", refused=False, whole_bucket=True)
        return None

    async def _has_copy(self, row: outbox.Waiting, body: bytes) -> bool:
        """Whether the bucket has this object unchanged. S3 refuses to read a missing object in a bucket
        that the service may not list."""
        try:
            return await self._objects.get(row.target, row.object_key or "") == body
        except StorageRefused:
            return False

    async def _restore_own_copy(self, row: outbox.Waiting, body: bytes | None) -> _Failure | None:
        """Copy back to the service's own bucket what an earlier version wrote only to the destination."""
        bucket, key = row.bucket or "", row.object_key or ""
        there = await self._objects.get(row.target, key)
        if there is not None and row.sha256 is not None and _is_whole(there, row.sha256):
            await self._objects.put(bucket, key, there)
            return None
        what = "is gone" if body is None else "was spoilt"
        return _Failure(f"the result object {bucket}/{key} {what}", refused=True, whole_bucket=False)


def _is_whole(body: bytes, sha256: str | None) -> bool:
    return sha256 is None or hashlib.sha256(body).hexdigest() == sha256
