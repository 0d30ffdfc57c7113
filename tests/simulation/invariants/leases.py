# SPDX-License-Identifier: Apache-2.0
"""A lease has one holder, and a living worker keeps none of a row that it does not work on.

The rows of a claim whose answer was lost have no task until their worker has found them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from ran_datajobs.store.sub_jobs import LEASE_SECONDS
from tests.simulation.tables import token_of_others

if TYPE_CHECKING:
    from tests.simulation.world import World


class Leases:
    """Keeps the time since when no task works on a leased row."""

    name = "leases"

    def __init__(self) -> None:
        self._unattended: dict[tuple[UUID, UUID], float] = {}

    def violations(self, world: World) -> Iterator[str]:
        """Leases with two holders, and leases that are renewed without work."""
        holders: dict[tuple[UUID, UUID], int] = {}
        for worker in world.workers:
            for sub_job_id, attempt in worker.worker._attempts.items():
                if sub_job_id not in worker.worker._tasks:
                    continue  # it is only recorded
                held = (sub_job_id, attempt.sub_job.lease)
                if held in holders:
                    yield f"workers {holders[held]} and {worker.number} work on {sub_job_id} under one lease"
                holders[held] = worker.number
        taken_up = {
            lease
            for worker in world.workers
            for token in worker.worker._unanswered
            for lease in (token, token_of_others(token))
        }
        now = world.loop.time()
        unattended: dict[tuple[UUID, UUID], float] = {}
        for row in world.twin.sub_jobs.values():
            if row.lease is None or row.lease in taken_up:
                continue
            if (row.sub_job_id, row.lease) not in holders:
                held = (row.sub_job_id, row.lease)
                unattended[held] = since = self._unattended.get(held, now)
                if row.leased_until > since + LEASE_SECONDS + 0.1:
                    yield f"the lease of {row.sub_job_id} is renewed, and no worker works on it"
        self._unattended = unattended
