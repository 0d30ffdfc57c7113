# SPDX-License-Identifier: Apache-2.0
"""Each operation ends once: counts add up, and the number of open sub-jobs is correct."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation.rows import OPEN

if TYPE_CHECKING:
    from tests.simulation.world import World


class EndedOnce:
    """See the module."""

    name = "ended once"

    def violations(self, world: World) -> Iterator[str]:
        """Sub-jobs and jobs whose counts do not add up."""
        open_of: dict[object, int] = {}
        for row in world.twin.sub_jobs.values():
            reported = row.succeeded + row.failed + row.not_started + row.unknown
            if reported != (row.operations if row.counted else 0):
                yield f"sub-job {row.sub_job_id} is {row.stage} and tells {reported} of {row.operations} ends"
            if row.counted == (row.status in OPEN):
                yield f"sub-job {row.sub_job_id} is {row.stage} with status {row.status}"
            open_of[row.job_id] = open_of.get(row.job_id, 0) + (not row.counted)
        for job in world.twin.jobs.values():
            still_open = open_of.get(job.job_id, 0)
            if job.planned and job.sub_jobs_open != still_open:
                yield f"job {job.job_id} counts {job.sub_jobs_open} open sub-jobs, {still_open} are"
            if job.status not in OPEN:
                reported = job.succeeded + job.failed + job.unmatched + job.not_started + job.unknown
                if reported != job.operations or job.sub_jobs_open:
                    yield f"job {job.job_id} is {job.status} and tells {reported} of {job.operations}"
