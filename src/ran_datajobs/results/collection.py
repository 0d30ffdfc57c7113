# SPDX-License-Identifier: Apache-2.0
"""Writes the result objects of sub-jobs for dispatch, and reads which result messages have arrived."""

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
    """Result objects of a sub-job and their rows. Raises StorageUnavailable and StoreUnavailable."""

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
        """Write ``responses`` as the objects of a sub-job. Returns the rows to record, once all is durable.

        ``beside_messages``: for a read. The objects are then numbered after every message that the plugin has
        sent, or may still send while the sub-job is being settled, and replace none of them.
        ``is_still_owner``: called before an object of an earlier attempt is replaced; where it returns False,
        Fenced is raised.
        """
        first = ADDED_SEQUENCE if beside_messages else 0
        return await write_parts(
            self._objects, bucket, str(job_id), sub_job, responses, first, is_still_owner=is_still_owner
        )

    async def store_unrecognised_result(
        self, bucket: str, job_id: UUID, sub_job_id: UUID, body: bytes
    ) -> tuple[Part, ...]:
        """Store a plugin's result body unchanged. Returns the row to record."""
        key = raw_result_key(str(job_id), str(sub_job_id))
        return (await keep_raw(self._objects, bucket, key, str(sub_job_id), FOREIGN_SEQUENCE, body),)

    async def arrived(self, sub_job_id: UUID, job_id: UUID, total: int | None) -> Arrived:
        """Count the stored result messages of a sub-job. ``total``: number of its messages, if known."""
        return await self._store.arrived(sub_job_id, job_id, total)

    async def states(self, job_id: UUID, sub_job_id: UUID) -> dict[str, OperationState]:
        """Worst state that the stored messages report, by operation id as a string."""
        states: dict[str, OperationState] = {}
        for outcomes in await self._store.arrived_outcomes(sub_job_id, job_id):
            for operation, state in unpack_outcomes(outcomes).items():
                states[operation] = worst((state, states.get(operation, state)))
        return states
