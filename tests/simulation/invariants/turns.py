# SPDX-License-Identifier: Apache-2.0
"""Of the writes of one client in a lane, none is admitted before one of as high a priority that came earlier
and has waited as long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from ran_datajobs.model import JobType, Stage

if TYPE_CHECKING:
    from tests.simulation.world import World


class Turns:
    """Keeps the waiting sub-jobs of the previous call."""

    name = "turns"

    def __init__(self) -> None:
        self._waited: set[UUID] = set()

    def violations(self, world: World) -> Iterator[str]:
        """Writes that were admitted out of turn since the previous call."""
        rows = world.twin.sub_jobs
        waiting = {each for each, row in rows.items() if row.stage is Stage.WAITING}
        for row in (rows[each] for each in self._waited - waiting):
            if row.type is not JobType.WRITE or row.stage is not Stage.ADMITTED:
                continue
            for other in (rows[each] for each in waiting & self._waited):
                if (
                    other.lane_id == row.lane_id
                    and other.type is JobType.WRITE
                    and other.client == row.client
                    and other.job_seq < row.job_seq
                    and other.priority >= row.priority
                    and other.created_at <= row.created_at
                    and not other.blocked
                    and not other.cancel_requested
                ):
                    yield f"write {row.sub_job_id} was admitted before {other.sub_job_id}"
        self._waited = waiting
