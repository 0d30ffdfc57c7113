# SPDX-License-Identifier: Apache-2.0
"""At most one write is active at a data producer, a write in quarantine included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from ran_datajobs.model import JobType

if TYPE_CHECKING:
    from tests.simulation.world import World


class OneWrite:
    """See the module."""

    name = "one write"

    def violations(self, world: World) -> Iterator[str]:
        """Lanes with two active writes."""
        at_work: dict[int, UUID] = {}
        for row in world.twin.sub_jobs.values():
            if row.type is JobType.WRITE and row.active:
                if row.lane_id in at_work:
                    yield f"lane {row.lane_id} has {at_work[row.lane_id]} and {row.sub_job_id} at work"
                at_work[row.lane_id] = row.sub_job_id
