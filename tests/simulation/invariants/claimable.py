# SPDX-License-Identifier: Apache-2.0
"""Open work is leased or due, and waiting work waits for work that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ran_datajobs.model import JobType, Stage
from tests.simulation.rows import OPEN

if TYPE_CHECKING:
    from tests.simulation.world import World


class Claimable:
    """See the module."""

    name = "claimable"

    def violations(self, world: World) -> Iterator[str]:
        """Rows that no worker will ever claim."""
        twin = world.twin
        active = Counter((row.lane_id, row.type) for row in twin.sub_jobs.values() if row.active)
        for row in twin.sub_jobs.values():
            looked_at = row.due_at is not None or row.lease is not None
            if row.active and not looked_at:
                yield f"sub-job {row.sub_job_id} is {row.stage}, and neither due nor leased"
            if row.stage is Stage.SETTLED and looked_at:
                yield f"sub-job {row.sub_job_id} is settled, and due or leased"
            if row.stage is not Stage.WAITING:
                continue
            if row.cancel_requested:
                if not looked_at:
                    yield f"waiting sub-job {row.sub_job_id} was cancelled, and is neither due nor leased"
            elif row.blocked:
                job = twin.jobs[row.job_id]
                if not any(twin.jobs[each].status in OPEN for each in job.after):
                    yield f"sub-job {row.sub_job_id} waits for jobs, and none of them is open"
            else:
                plugin = twin.plugins[row.plugin_id]
                most = 1 if row.type is JobType.WRITE else plugin.read_slots or world.read_slots
                if active[row.lane_id, row.type] < most:
                    yield f"waiting {row.type} {row.sub_job_id} could start"
        for job in twin.jobs.values():
            looked_at = job.due_at is not None or job.lease is not None
            if job.status in OPEN and (not job.planned or not job.sub_jobs_open) and not looked_at:
                yield f"job {job.job_id} has a step to be done, and is neither due nor leased"
            if job.status not in OPEN and looked_at:
                yield f"job {job.job_id} is {job.status}, and due or leased"
