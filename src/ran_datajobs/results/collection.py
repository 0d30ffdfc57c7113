# SPDX-License-Identifier: Apache-2.0
"""The result objects of sub-jobs, as dispatch needs them: write them, and tell what has arrived by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from uuid import UUID

from ran_datajobs.model import OperationState, Response, worst
from ran_datajobs.results.objects import ObjectStore, raw_result_key
from ran_datajobs.results.parts import always, keep_raw, write_parts
from ran_datajobs.results.read_results import unpack_outcomes
from ran_datajobs.store.dispatch import DispatchStore
from ran_datajobs.store.parts import ADDED_SEQUENCE, FOREIGN_SEQUENCE, Arrived, Part


class ResultObjects:
    """Objects and their rows, of one sub-job at a time. Raises StorageUnavailable and StoreUnavailable."""

    def __init__(self, store: DispatchStore, objects: ObjectStore) -> None:
        self._store = store
        self._objects = objects

    async def write(
        self,
        bucket: str,
        job_id: UUID,
        sub_job: str,
        responses: Iterable[Response],
        *,
        beside_messages: bool = False,
        is_still_owner: Callable[[], Awaitable[bool]] = always,
    ) -> list[Part]:
        """Write ``responses`` as the objects of a sub-job; the rows to record, once the objects are durable.

        ``beside_messages``: for a read. Then they stand behind every message of the plugin that is in, or
        that may still come in while the sub-job is being settled, and touch none of them. ``may_replace``:
        whether the caller may still replace what an earlier attempt wrote; else Fenced.
        """
        first = ADDED_SEQUENCE if beside_messages else 0
        return await write_parts(
            self._objects, bucket, str(job_id), sub_job, responses, first, is_still_owner=is_still_owner
        )

    async def store_unrecognised_result(
        self, bucket: str, job_id: UUID, sub_job_id: UUID, body: bytes
    ) -> tuple[Part, ...]:
        """Keep a plugin's result body as it came; the row to record."""
        key = raw_result_key(str(job_id), str(sub_job_id))
        return (await keep_raw(self._objects, bucket, key, str(sub_job_id), FOREIGN_SEQUENCE, body),)

    async def arrived(self, sub_job_id: UUID, job_id: UUID, total: int | None) -> Arrived:
        """The result messages of a sub-job that are in, durably; ``total``: how many it has, if known."""
        return await self._store.arrived(sub_job_id, job_id, total)

    async def states(self, job_id: UUID, sub_job_id: UUID) -> dict[str, OperationState]:
        """The worst state that the arrived messages told, by operation id as a string."""
        states: dict[str, OperationState] = {}
        for outcomes in await self._store.arrived_outcomes(sub_job_id, job_id):
            for operation, state in unpack_outcomes(outcomes).items():
                states[operation] = worst((state, states.get(operation, state)))
        return states
