# SPDX-License-Identifier: Apache-2.0
"""Nothing is left when all jobs have ended: no slot, no active call, no lease, no task for a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World


def violations(world: World) -> Iterator[str]:
    """Resources that the workers still hold."""
    for worker in world.workers:
        limits, of = worker.limits, worker.worker
        counted = {
            "bytes of creates": limits._create_bytes.total(),
            "bytes": limits.body_bytes - limits._bytes.free,
            "plugins": len(limits._used),
            "attempts": len(of._attempts),
            "leased jobs": len(of._jobs),
            "tasks of rows": len(of._tasks),
            "cancels": len(of._cancels),
            "calls": len(worker.open_calls),
        }
        yield from (f"worker {worker.number} has {n} {what} left" for what, n in counted.items() if n)
    for row in (*world.twin.sub_jobs.values(), *world.twin.jobs.values(), *world.twin.cancels.values()):
        if row.lease is not None:
            yield f"a lease is left: {row}"
