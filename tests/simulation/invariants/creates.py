# SPDX-License-Identifier: Apache-2.0
"""No plugin executes a write twice, nor begins one while it executes another of the same data producer.

A write whose quarantine has expired no longer counts as being executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from ran_datajobs.model import Stage

if TYPE_CHECKING:
    from tests.simulation.world import World


class Creates:
    """See the module."""

    name = "creates"

    def violations(self, world: World) -> Iterator[str]:
        """By the plugins' own records."""
        for plugin in world.plugins.values():
            times = Counter(each.call.sub_job_id for each in plugin.record if not each.call.is_read)
            yield from (
                f"{plugin.url} executed write {write} {count} times"
                for write, count in times.items()
                if count > 1
            )
            for begun, executing in plugin.overlaps:
                row = world.twin.sub_jobs[UUID(executing)]
                over = row.stage is Stage.SETTLED and row.quarantined_until is not None
                if not over or row.quarantined_until > world.loop.time() + 0.01:  # type: ignore[operator]
                    yield f"{plugin.url} was sent write {begun} while it executed {executing}"
            plugin.overlaps.clear()
