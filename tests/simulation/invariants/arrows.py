# SPDX-License-Identifier: Apache-2.0
"""A status and a stage change only by the transitions of ``model.py``; one call may make two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from ran_datajobs.model import ALLOWED, STAGES, Stage, Status

if TYPE_CHECKING:
    from tests.simulation.world import World

S = TypeVar("S", Stage, Status)


class Arrows:
    """Keeps the state of each row at the previous call."""

    name = "arrows"

    def __init__(self) -> None:
        self._before: dict[UUID, tuple[Status, Stage | None]] = {}

    def violations(self, world: World) -> Iterator[str]:
        """Transitions that are not allowed."""
        now: dict[UUID, tuple[Status, Stage | None]] = {
            row.sub_job_id: (row.status, row.stage) for row in world.twin.sub_jobs.values()
        }
        now |= {job.job_id: (job.status, None) for job in world.twin.jobs.values()}
        for name, (status, stage) in now.items():
            old_status, old_stage = self._before.get(name, (status, stage))
            if not _leads(ALLOWED, old_status, status):
                yield f"{name} went from {old_status} to {status}"
            if stage is not None and old_stage is not None and not _leads(STAGES, old_stage, stage):
                yield f"{name} went from {old_stage} to {stage}"
        self._before = now


def _leads(arrows: Mapping[S, Set[S]], old: S, new: S) -> bool:
    return old == new or new in arrows[old] or any(new in arrows[between] for between in arrows[old])
