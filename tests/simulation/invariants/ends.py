# SPDX-License-Identifier: Apache-2.0
"""Every job ends once its peers answer, and its objects have an outcome of each operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from ran_datajobs.model import JobType
from ran_datajobs.results.objects import manifest_key
from tests.simulation.rows import OPEN

if TYPE_CHECKING:
    from tests.simulation.world import World


def violations(world: World) -> Iterator[str]:
    """Jobs that are open, and jobs whose objects do not have every outcome once."""
    for job_id, operations in world.submitted.items():
        job = world.twin.jobs[job_id]
        if job.status in OPEN:
            stages = Counter(r.stage for r in world.twin.sub_jobs.values() if r.job_id == job_id)
            yield f"job {job_id} is {job.status} with sub-jobs {dict(stages)}"
            continue
        reported = Counter(
            str(response["operationId"])
            for row in world.twin.parts[job_id].values()
            if row.part.sequence != -1
            for response in msgspec.json.decode(world.stored[row.part.key])["responses"]
        )
        expected = Counter(operations)
        if reported != expected and (job.type is JobType.WRITE or set(reported) != set(expected)):
            yield f"job {job_id} tells of {reported}, not of {expected}"
        if manifest_key(str(job_id)) not in world.stored:
            yield f"job {job_id} is {job.status} and has no manifest"
