# SPDX-License-Identifier: Apache-2.0
"""The counts in a worker's limits are those of its active work: a slot that leaks is never free again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ran_datajobs.model import NextCall
from tests.simulation.worker import ROWS

if TYPE_CHECKING:
    from tests.simulation.world import World


class Slots:
    """See the module."""

    name = "slots"

    def violations(self, world: World) -> Iterator[str]:
        """Negative counts, counts below the active work, and counts above the limit."""
        for worker in world.workers:
            limits = worker.limits
            counts = [n for used in limits._used.values() for n in used.values()]
            if min((0, *counts, *limits._create_bytes.values())) < 0:
                yield f"worker {worker.number} counts {limits._used} rows and {limits._create_bytes} bytes"
            taken, attempts = sum(counts), len(worker.worker._attempts)
            if attempts > taken:
                yield f"worker {worker.number} works on {attempts} and counts {taken}"
            cancelled = sum(
                used[NextCall.END_UNSENT] + used[NextCall.DELETE] for used in limits._used.values()
            )
            if taken - cancelled > ROWS + 4:
                yield f"worker {worker.number} counts {taken} rows of {ROWS}"
