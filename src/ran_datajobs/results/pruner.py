# SPDX-License-Identifier: Apache-2.0
"""The pruner: removes data that is older than the retention, so that tables and folders stay bounded.

Every worker has a pruner; one at a time runs. It works in small steps and holds row locks only briefly. The
objects of a job are removed before its rows: after a crash the next pruner finds the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from ran_datajobs.messaging.topics import INTERNAL_TOPIC, STATUS_TOPIC
from ran_datajobs.results.objects import ObjectStore, manifest_key
from ran_datajobs.store import retention
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.retention import ExpiredJob
from ran_datajobs.telemetry import Logger, errors_logged

LOOK_EVERY: Final = 60.0
"""Interval in seconds between two runs of the pruner."""

_JOBS: Final = 10
_ROWS: Final = 2000
_OWN_TOPICS: Final = (INTERNAL_TOPIC, STATUS_TOPIC)


class Pruner(Struct, frozen=True):
    """Removes expired data until cancelled, across outages of the database and of the object store.

    ``retention``: seconds for which ended jobs with all their data, messages of the embedded bus, and
    tombstones of removed CM handles are kept; ``keys_kept``: the same for Idempotency-Keys.
    """

    database: Database
    objects: ObjectStore
    log: Logger
    retention: float
    keys_kept: float = 86400.0

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            with errors_logged(self.log, "prune", "retention"):
                await self.prune()
            await asyncio.sleep(LOOK_EVERY)

    async def prune(self) -> int:
        """Remove everything that has expired. Returns the number of jobs; 0 while another worker prunes."""
        async with self.database.session() as claimed:
            if not await retention.claim(claimed):
                return 0
            removed = await self._prune_jobs(claimed)
            await self._remove("keys", self.keys_kept)
            await self._remove("messages", self.retention)
            await self._remove("topics", _OWN_TOPICS)
            await self._remove("lane_clients", self.retention)
            await self._remove("tombstones", self.retention)
        if removed:
            self.log.info("jobs.pruned", jobs=removed)
        return removed

    async def _prune_jobs(self, claimed: Connection) -> int:
        removed = 0
        while True:
            async with retention.expired_jobs(claimed, self.retention, _JOBS) as expired:
                await self._remove_objects(expired)
                for job in expired:
                    await self._in_steps(partial(retention.remove_job, job_id=job.job_id, limit=_ROWS))
            removed += len(expired)
            if len(expired) < _JOBS:
                return removed

    async def _remove_objects(self, expired: Sequence[ExpiredJob]) -> None:
        """Remove these jobs' objects from the service's own bucket; in a folder, which is its own, the
        copies too."""
        for job in expired:
            if self.objects.folder is not None:
                for bucket in {job.bucket, job.named or job.bucket}:
                    await self.objects.delete_folder(bucket, str(job.job_id))
            elif job.bucket != job.named:
                await self._remove_own_objects(job)

    async def _remove_own_objects(self, job: ExpiredJob) -> None:
        behind = ""
        while True:
            async with self.database.connection() as connection:
                keys = await retention.objects_of(connection, job.job_id, behind, _ROWS)
            if not keys:
                break
            await self.objects.delete(job.bucket, keys)
            behind = keys[-1]
        await self.objects.delete(job.bucket, [manifest_key(job.job_id)])

    async def _remove(self, what: str, old: float | Sequence[str]) -> None:
        await self._in_steps(partial(retention.remove, what=what, old=old, limit=_ROWS))

    async def _in_steps(self, step: Callable[[Connection], Awaitable[int]]) -> None:
        while await self.database.run_transaction(step) >= _ROWS:
            pass
