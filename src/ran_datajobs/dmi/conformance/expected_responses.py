# SPDX-License-Identifier: Apache-2.0
"""Expected outcome of a job, computed by executing it on a simulated network."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.model import ActivationMode, Operation, OperationState, Reason
from ran_datajobs.nrm import fdn
from ran_datajobs.reasons import reason_of_errors
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.producers import element_of


async def expected_of_write(network: Network, job: dict[str, Any]) -> dict[str, Any]:
    """Execute the write job on ``network``, which it changes, and return status, counts and reasons."""
    operations = _operations(job)
    owners = {element: name for name, elements in network.data_producers().items() for element in elements}
    lanes: dict[str, list[Operation]] = {}
    reasons: Counter[str] = Counter()
    for operation in operations:
        owner = owners.get(element_of(fdn.key(fdn.split_path(operation.path)[0])))
        if owner is None:
            reasons[Reason.UNMATCHED.value] += 1
        else:
            lanes.setdefault(owner, []).append(operation)
    unmatched = reasons.total()
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    for name, lane in lanes.items():
        for outcome in await elements[name].write(lane, ActivationMode.BEST_EFFORT):
            if outcome.state is not OperationState.SUCCEEDED:
                reasons[reason_of_errors(outcome.errors)] += 1
    total, failed = len(operations), reasons.total() - unmatched
    counts = {
        "total": total,
        "succeeded": total - failed - unmatched,
        "failed": failed,
        "unmatched": unmatched,
    }
    return {
        "status": "PARTIALLY_FAILED",
        "operations": counts,
        "dataProducers": len(lanes),
        "reasons": dict(sorted(reasons.items())),
    }


async def expected_of_read(network: Network, job: dict[str, Any]) -> dict[str, Any]:
    """Status, counts and number of objects that each operation selects on ``network``."""
    objects: dict[str, int] = {}
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    for operation in _operations(job):
        by_selector = isinstance(operation.data_node_selector, str)
        base = "" if by_selector else fdn.key(operation.path)
        count = 0
        for name, keys in network.data_producers().items():
            if by_selector or any(
                base == key or base.startswith(f"{key}/") or key.startswith(f"{base}/") for key in keys
            ):
                async for chunk in elements[name].read(operation):
                    if chunk.errors:
                        raise ValueError(f"{operation.path}: {chunk.errors[0].detail}")
                    count += len(chunk.objects)
        objects[operation.id_text] = count
    counts = {"total": len(objects), "succeeded": len(objects)}
    return {"status": "FINISHED", "operations": counts, "objects": objects}


def _operations(job: dict[str, Any]) -> list[Operation]:
    lines = [{"path": "/", **line} for line in job["data"]]
    return msgspec.json.decode(msgspec.json.encode(lines), type=list[Operation], strict=False)
