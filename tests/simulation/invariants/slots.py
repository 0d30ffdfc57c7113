# SPDX-License-Identifier: Apache-2.0
"""What a worker counts in its limits is what it works on: a slot that is kept is never free again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation.worker import ROWS

if TYPE_CHECKING:
    from tests.simulation.world import World


class Slots:
    """See the module."""

    name = "slots"

    def violations(self, world: World) -> Iterator[str]:
        """Counts that cannot be."""
        for worker in world.workers:
            limits = worker.limits
            if not limits._taken >= 0 or limits._create_bytes < 0:
                yield f"worker {worker.number} counts {limits._taken} rows and {limits._create_bytes} bytes"
            attempts = len(worker.worker._attempts)
            if attempts > limits._taken:
                yield f"worker {worker.number} works on {attempts} and counts {limits._taken}"
            cancelled = limits._unsent + sum(each.deletes for each in limits._plugins.values())
            if limits._taken - cancelled > ROWS + 4:
                yield f"worker {worker.number} counts {limits._taken} rows of {ROWS}"
