# SPDX-License-Identifier: Apache-2.0
"""A write of unknown outcome has been in quarantine, and no write of its lane starts meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ran_datajobs.model import JobType, Stage

if TYPE_CHECKING:
    from tests.simulation.world import World


class Quarantine:
    """See the module."""

    name = "quarantine"

    def violations(self, world: World) -> Iterator[str]:
        """Unknown writes without a quarantine, and writes that started during one."""
        for row in world.twin.sub_jobs.values():
            if row.type is not JobType.WRITE or not row.counted:
                continue
            if row.unknown and row.data_producer_job_id is None and row.quarantined_until is None:
                yield f"write {row.sub_job_id} ended unknown, and its lane was not in quarantine"
            if row.stage is Stage.QUARANTINED and row.quarantined_until is None:
                yield f"write {row.sub_job_id} is in quarantine without an end"
