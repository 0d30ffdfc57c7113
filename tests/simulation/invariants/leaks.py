# SPDX-License-Identifier: Apache-2.0
"""Nothing is left when everything has ended: no slot, no call under way, no lease, no task for a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World


def violations(world: World) -> Iterator[str]:
    """What the workers still have."""
    for worker in world.workers:
        limits, of = worker.limits, worker.worker
        counted = {
            "rows": limits._taken,
            "bytes of creates": limits._create_bytes,
            "bytes": limits._bytes.out,
            "plugins": len(limits._plugins),
            "steps": sum(limits.jobs.values()),
            "attempts": len(of._attempts),
            "leased jobs": len(of._jobs),
            "tasks of rows": len(of._tasks),
            "sub-jobs that were not sent": limits._unsent,
            "cancels": len(worker.canceller._leased),
            "calls": len(worker.open_calls),
        }
        yield from (f"worker {worker.number} has {n} {what} left" for what, n in counted.items() if n)
    for row in (*world.twin.sub_jobs.values(), *world.twin.jobs.values(), *world.twin.cancels.values()):
        if row.lease is not None:
            yield f"a lease is left: {row}"
