# SPDX-License-Identifier: Apache-2.0
"""The outcomes of a write are those of its plugin: no success without execution, and no execution denied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ran_datajobs.model import JobType

if TYPE_CHECKING:
    from tests.simulation.world import World


class Truth:
    """See the module."""

    name = "truth"

    def violations(self, world: World) -> Iterator[str]:
        """Writes whose outcome differs from the plugin's record."""
        executed = {each.sub_job_id for plugin in world.plugins.values() for each in plugin.record}
        for row in world.twin.sub_jobs.values():
            if row.type is not JobType.WRITE or not row.counted:
                continue
            was = row.sub_job_id in executed
            if row.succeeded and not was:
                yield f"write {row.sub_job_id} is reported as done, and was never executed"
            if was and row.data_producer_job_id is None and not row.unknown:
                yield f"write {row.sub_job_id} was executed, and is reported as not sent"
