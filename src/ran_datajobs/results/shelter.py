# SPDX-License-Identifier: Apache-2.0
"""Keeps results in the service's own bucket while the bucket that a job named cannot be written.

Where the results of a job are is told by its row in the store. What was written before the destination went
away stays there: reads look in both places.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID

from ran_datajobs.errors import StorageUnavailable
from ran_datajobs.results.objects import ObjectHead, ObjectStore
from ran_datajobs.store import buckets
from ran_datajobs.store.database import Database

T = TypeVar("T")

LOOK_AGAIN_AFTER: Final = 30.0
"""Seconds for which a bucket that could not be written is not tried again by this process."""

_MAX_REMEMBERED: Final = 1000


class ShelteredObjects(ObjectStore):
    """An object store that puts what a destination does not take into ``own_bucket``, and finds it there."""

    def __init__(
        self,
        objects: ObjectStore,
        database: Database,
        own_bucket: str,
        *,
        look_again_after: float = LOOK_AGAIN_AFTER,
        sheltered: Callable[[UUID, str], None] = lambda *_: None,
    ) -> None:
        """``sheltered`` is told each job whose results are kept back, and why."""
        super().__init__(objects.open_bucket, folder=objects.folder)
        self._database = database
        self._own_bucket = own_bucket
        self._look_again_after = look_again_after
        self._sheltered = sheltered
        self._away: dict[str, tuple[float, str]] = {}

    async def put(self, bucket: str, key: str, data: bytes, *, only_if_absent: bool = False) -> bool:
        """See :meth:`ObjectStore.put`; StorageUnavailable only when neither bucket takes it."""
        if bucket == self._own_bucket:
            return await super().put(bucket, key, data, only_if_absent=only_if_absent)
        try:
            self._refuse_while_away(bucket)
            return await super().put(bucket, key, data, only_if_absent=only_if_absent)
        except StorageUnavailable as away:
            job_id = _job_of(key)
            if job_id is None:
                raise
            new = await super().put(self._own_bucket, key, data, only_if_absent=only_if_absent)
            self._remember(bucket, str(away))
            async with self._database.transaction() as connection:
                if await buckets.shelter(connection, job_id, self._own_bucket):
                    self._sheltered(job_id, str(away))
            return new

    async def get(self, bucket: str, key: str) -> bytes | None:
        """See :meth:`ObjectStore.get`; of a job whose results are in two buckets, from either."""
        return await self._from_either(super().get, bucket, key)

    async def stream(
        self, bucket: str, key: str, *, chunk: int = 256 * 1024
    ) -> tuple[ObjectHead, AsyncIterator[bytes]] | None:
        """See :meth:`ObjectStore.stream`; of a job whose results are in two buckets, from either."""
        stream = super().stream
        return await self._from_either(lambda place, name: stream(place, name, chunk=chunk), bucket, key)

    async def presigned(self, bucket: str, key: str, lifetime: timedelta) -> str | None:
        """See :meth:`ObjectStore.presigned`; of a job whose results are in two buckets, where it is."""
        head, sign = super().head, super().presigned

        async def signed(place: str, name: str) -> str | None:
            return None if await head(place, name) is None else await sign(place, name, lifetime)

        return await self._from_either(signed, bucket, key)

    async def copy(self, source: str, target: str, key: str) -> bool:
        """See :meth:`ObjectStore.copy`; a ``target`` that is known to be away is refused at once."""
        self._refuse_while_away(target)
        try:
            return await super().copy(source, target, key)
        except StorageUnavailable as away:
            self._remember(target, str(away))
            raise

    async def _from_either(
        self, read: Callable[[str, str], Awaitable[T | None]], bucket: str, key: str
    ) -> T | None:
        failure: StorageUnavailable | None = None
        try:
            if (found := await read(bucket, key)) is not None:
                return found
        except StorageUnavailable as away:
            failure = away
        for other in await self._other_places(bucket, key):
            if (found := await read(other, key)) is not None:
                return found
        if failure is not None:
            raise failure
        return None

    async def _other_places(self, bucket: str, key: str) -> list[str]:
        """Where else the object may be."""
        job_id = _job_of(key)
        if job_id is None:
            return []
        async with self._database.connection() as connection:
            found = await buckets.of_job(connection, job_id)
        if found is None or found.destination is None:
            return []
        return [place for place in (found.results, found.destination) if place != bucket]

    def _refuse_while_away(self, bucket: str) -> None:
        until, cause = self._away.get(bucket, (0.0, ""))
        if time.monotonic() < until:
            raise StorageUnavailable(cause)

    def _remember(self, bucket: str, cause: str) -> None:
        now = time.monotonic()
        if self._away.get(bucket, (0.0, ""))[0] > now:
            return
        if len(self._away) >= _MAX_REMEMBERED:
            self._away.clear()
        self._away[bucket] = (now + self._look_again_after, cause)


def _job_of(key: str) -> UUID | None:
    """The job that an object belongs to, by the first segment of its key."""
    try:
        return UUID(key.partition("/")[0])
    except ValueError:
        return None
