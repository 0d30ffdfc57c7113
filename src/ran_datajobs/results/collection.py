# SPDX-License-Identifier: Apache-2.0
"""The result objects of sub-jobs, as dispatch needs them: write them, and tell what has arrived by itself."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from uuid import UUID

from ran_datajobs.job import OperationState, Response
from ran_datajobs.results.arrivals import unpack_outcomes
from ran_datajobs.results.objects import ObjectStore, foreign_key
from ran_datajobs.results.parts import always, write_parts
from ran_datajobs.results.responses import worst
from ran_datajobs.store import parts
from ran_datajobs.store.database import Database
from ran_datajobs.store.parts import ADDED_SEQUENCE, FOREIGN_SEQUENCE, Part

MAX_FOREIGN_BYTES: Final = 32 * 1024 * 1024
"""More of a plugin's own result body is not kept."""


class ResultObjects:
    """Objects and their rows, of one sub-job at a time. Raises StorageUnavailable and StoreUnavailable."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    async def write(
        self,
        bucket: str,
        job_id: UUID,
        sub_job: str,
        responses: Iterable[Response],
        *,
        beside_messages: bool = False,
        may_replace: Callable[[], Awaitable[bool]] = always,
    ) -> list[Part]:
        """Write ``responses`` as the objects of a sub-job; the rows to record, once the objects are durable.

        ``beside_messages``: for a read. Then they stand behind every message of the plugin that is in, or
        that may still come in while the sub-job is being settled, and touch none of them. ``may_replace``:
        whether the caller may still replace what an earlier attempt wrote; else Fenced.
        """
        first = ADDED_SEQUENCE if beside_messages else 0
        return await write_parts(
            self._objects, bucket, str(job_id), sub_job, responses, first, may_replace=may_replace
        )

    async def keep_foreign(
        self, bucket: str, job_id: UUID, sub_job_id: UUID, body: bytes
    ) -> tuple[Part, ...]:
        """Keep a plugin's result of no known shape as it came; the row to record."""
        kept = body[:MAX_FOREIGN_BYTES]
        key = foreign_key(str(job_id), str(sub_job_id))
        await self._objects.put(bucket, key, kept)
        digest = hashlib.sha256(kept).hexdigest()
        return (Part(str(sub_job_id), FOREIGN_SEQUENCE, key, len(kept), digest, 0, 0),)

    async def arrived(self, sub_job_id: UUID, job_id: UUID) -> int:
        """How many result messages of a sub-job are in, durably."""
        async with self._database.connection() as connection:
            return await parts.arrived(connection, job_id, str(sub_job_id))

    async def states(self, job_id: UUID, sub_job_id: UUID) -> dict[str, OperationState]:
        """The worst state that the arrived messages told, by operation id as a string."""
        async with self._database.connection() as connection:
            packed = await parts.arrived_outcomes(connection, job_id, str(sub_job_id))
        states: dict[str, OperationState] = {}
        for outcomes in packed:
            for operation, state in unpack_outcomes(outcomes).items():
                states[operation] = worst((state, states.get(operation, state)))
        return states
