# SPDX-License-Identifier: Apache-2.0
"""Write the example jobs for the simulated network, and what must come of them.

    python examples/make_examples.py [--sites 200] [--seed 1] [--dir examples]

The same arguments write the same bytes. Expected outcomes are not made up: the jobs are executed on a network
of the same sites and seed, by the element of the reference DMI plugin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ran_datajobs import fdn
from ran_datajobs.dmi.outcomes import reason_of
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.job import ActivationMode, Operation, OperationState, Reason
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.layout import CELLS
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.producers import element_of

HIERARCHICAL = "application/vnd.3gpp.object-tree-hierarchical+json"
PATCH = "application/3gpp-json-patch+json"
PCIS = 1008

Line = dict[str, Any]


def retune_pci(network: Network) -> Iterator[Line]:
    """New physical cell ids for every cell, what depends on them, and operations that must fail."""
    for site in range(1, network.sites + 1):
        du = f"/{layout.element_key(site)}/GNBDUFunction=1"
        cu = f"/{layout.element_key(site)}/GNBCUCPFunction=1"
        for cell in CELLS:
            yield from _retuned_cell(network, f"{du}/NRCellDU={cell}", f"{cu}/NRCellCU={cell}")
        yield from _new_carrier(f"{cu}/NRCellCU=1")
        yield from _without_relation(f"{cu}/NRCellCU=2/NRCellRelation=1")
        yield from _planted(site, du, cu)
    for site in range(network.sites + 1, network.sites + 9):
        unbuilt = f"/{layout.element_key(site)}/GNBDUFunction=1/NRCellDU=1"
        yield {"op": "replace", "path": f"{unbuilt}#/attributes/nRPCI", "value": site % PCIS}
    for island in ("Atlantis", "Avalon"):
        yield {"op": "remove", "path": f"/SubNetwork=Europe/SubNetwork={island}/ManagedElement=1"}


def _retuned_cell(network: Network, cell: str, relations: str) -> Iterator[Line]:
    attributes = network.attributes(fdn.key(cell)) or {}
    now = attributes["nRPCI"]
    yield {"op": "test", "path": f"{cell}#/attributes/nRPCI", "value": now}
    yield {"op": "replace", "path": f"{cell}#/attributes/nRPCI", "value": (now + 333) % PCIS}
    yield {
        "op": "merge",
        "path": f"{relations}/NRCellRelation=1#/attributes",
        "value": {"cellIndividualOffset": {"rsrpOffsetSsb": 2}, "isESCoveredBy": None},
    }
    yield {
        "op": "add",
        "path": f"{relations}/NRFreqRelation=1#/attributes/blockListEntry",
        "value": [now],
    }
    if attributes["administrativeState"] == "LOCKED":
        yield {"op": "action", "path": f"{cell}#unlock", "value": {"input": {"reason": "retuned"}}}
    elif now % 4 == 0:
        entry = f"{relations}/NRFreqRelation=1#/attributes/blockListEntry/-"
        yield {"op": "add", "path": entry, "value": (now + 1) % PCIS}


def _new_carrier(cell: str) -> Iterator[Line]:
    yield {
        "op": "add",
        "path": f"{cell}/NRFreqRelation=2",
        "value": {
            "id": "2",
            "objectClass": "NRFreqRelation",
            "attributes": {
                "offsetMO": {"rsrpOffsetSsb": 0},
                "qRxLevMin": -120,
                "threshXHighP": 10,
                "threshXLowP": 4,
                "tReselectionNR": 2,
                "nRFrequencyRef": "SubNetwork=Europe,NRFrequency=2",
            },
        },
    }


def _without_relation(relation: str) -> Iterator[Line]:
    yield {"op": "remove", "path": f"{relation}#/attributes/isHOAllowed"}
    yield {"op": "remove", "path": relation}


def _planted(site: int, du: str, cu: str) -> Iterator[Line]:
    """What the elements of some sites must refuse."""
    cell = f"{du}/NRCellDU={site % 3 + 1}"
    match site % 40:
        case 2:
            yield {"op": "replace", "path": f"{cell}#/attributes/nRPCI", "value": PCIS}  # out of range
        case 6:
            yield {"op": "replace", "path": f"{cell}#/attributes/cellState", "value": "INACTIVE"}  # read-only
        case 10:
            yield {"op": "replace", "path": f"{du}/NRCellDU=9#/attributes/nRPCI", "value": 1}  # no such cell
        case 14:
            yield {"op": "remove", "path": du}  # has children
        case 18:
            yield {"op": "test", "path": f"{cell}#/attributes/cellLocalId", "value": 99}  # another value
        case 22:
            path = f"{cu}#/attributes/pLMNId"
            yield {"op": "replace", "path": path, "value": {"mcc": "001", "mnc": "01"}}  # invariant
        case 26:
            yield {"op": "merge", "path": cell, "value": {"nrPci": 7}}  # the OpenAPI's name, not stage 2's
        case 30:
            yield {"op": "add", "path": f"{cu}/NRCellDU=1", "value": {"id": "1", "attributes": {}}}
        case 32:
            yield {
                "op": "replace",
                "path": f"{cell}#/attributes/ssbOffset",
                "value": 150,
            }  # not in its period
        case 34:
            yield {"op": "action", "path": f"{cell}#selfDestruct", "value": {"input": {}}}
        case 38:
            yield {"op": "add", "path": f"{du}/BWPSet=1/BWP=1", "value": {"id": "1"}}  # no such parent


def read_cells(network: Network) -> Iterator[Line]:
    """Locked cells of every region (reads that fan out to every EMS below), and closer looks."""
    for region in layout.regions(network.sites):
        yield {
            "op": "read",
            "path": f"/{region.key}",
            "scope": {"scopeType": "BASE_SUBTREE"},
            "filter": "NRCellDU/attributes/administrativeState==LOCKED",
            "attributes": ["userLabel", "nRPCI", "administrativeState"],
        }
    yield {
        "op": "read",
        "path": f"/{layout.COUNTRY}",
        "scope": {"scopeType": "BASE_ALL"},
        "filter": [
            "NRCellDU/attributes/bSChannelBwDL in (80, 100) && NRCellDU/attributes/nRPCI<50",
            "NRCellDU/attributes/administrativeState!=LOCKED",
        ],
        "attributes": ["nRPCI", "bSChannelBwDL"],
    }
    for site in range(1, network.sites + 1, 10):
        yield from _closer_look(layout.element_key(site))


def _closer_look(element: str) -> Iterator[Line]:
    yield {"op": "read", "path": f"/{element}"}
    yield {
        "op": "read",
        "path": f"/{element}",
        "scope": {"scopeType": "BASE_SUBTREE", "scopeLevel": 3},
        "filter": "NRCellRelation/attributes/isHOAllowed==false",
    }
    yield {
        "op": "read",
        "path": f"/{element}/GNBDUFunction=1",
        "scope": {"scopeType": "BASE_NTH_LEVEL", "scopeLevel": 1},
        "attributes": ["userLabel", "administrativeState"],
        "fields": ["/attributes/pLMNInfoList/0/plmnId/mcc"],
    }


SEED_SITE = (
    "SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR03gNodeBRadio00003/ManagedElement=NR03gNodeBRadio00003"
)


def seed_read() -> dict[str, Any]:
    """The read example of ONAP's data-job page, spelt as there."""
    first = (
        "SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR01gNodeBRadio00001/"
        "ManagedElement=NR01gNodeBRadio00001/GNBDUFunction=1"
    )
    return {
        "dataaccepttype": HIERARCHICAL,
        "datacontenttype": PATCH,
        "data": [
            {
                "op": "read",
                "operationId": 1,
                "path": f"{SEED_SITE}/GNBCUCPFunction=2",
                "attributes": "userLabel",
                "scope": {"scopeType": "BASE_ONLY"},
            },
            {
                "op": "read",
                "operationId": 2,
                "path": first,
                "filter": "NRCellDU/attributes/administrativeState==LOCKED",
            },
            {
                "op": "read",
                "operationId": 3,
                "path": f"{SEED_SITE}/GNBCUCPFunction=1",
                "attributes ": "cellId",
            },
        ],
    }


def seed_write() -> dict[str, Any]:
    """The write operations of ONAP's data-job page: add, replace, action and remove."""
    frequencies = f"{SEED_SITE}/GNBCUCPFunction=2/EUtraNetwork=1"
    return {
        "dataAcceptType": HIERARCHICAL,
        "dataContentType": PATCH,
        "data": [
            {
                "op": "add",
                "operationId": 1,
                "path": f"{frequencies}/EUtranFrequency=12",
                "value": {"id": "12", "attributes": {"userLabel": "label12"}},
            },
            {
                "op": "add",
                "operationId": 2,
                "path": f"{frequencies}/EUtranFrequency=13",
                "value": {"id": "13", "attributes": {"userLabel": "label13"}},
            },
            {
                "op": "replace",
                "operationId": 3,
                "path": f"{frequencies}/EUtranFrequency=13#/attributes/userLabel",
                "value": "label14",
            },
            {"op": "action", "operationId": 4, "path": f"{SEED_SITE}#restart", "value": {"input": {}}},
            {"op": "remove", "operationId": 5, "path": f"{frequencies}/EUtranFrequency=13"},
        ],
    }


def job_of(name: str, lines: Iterator[Line]) -> dict[str, Any]:
    """The body to submit."""
    data = [{"operationId": f"{name}-{number:05d}", **line} for number, line in enumerate(lines, 1)]
    return {"dataAcceptType": HIERARCHICAL, "dataContentType": PATCH, "name": name, "data": data}


async def expected_of_write(network: Network, job: dict[str, Any]) -> dict[str, Any]:
    """Status, counts and reasons, by executing the job on ``network``, which it changes."""
    operations = _operations(job)
    owners = {element: name for name, elements in network.data_producers().items() for element in elements}
    lanes: dict[str, list[Operation]] = {}
    reasons: Counter[str] = Counter()
    for operation in operations:
        owner = owners.get(element_of(fdn.key(fdn.split_path(operation.path)[0])))
        if owner is None:
            reasons[Reason.UNMATCHED] += 1
        else:
            lanes.setdefault(owner, []).append(operation)
    unmatched = reasons.total()
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    for name, lane in lanes.items():
        for outcome in await elements[name].write(lane, ActivationMode.BEST_EFFORT):
            if outcome.state is not OperationState.SUCCEEDED:
                reasons[reason_of(outcome.errors)] += 1
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
    """Status, counts and how many objects each operation selects on ``network``."""
    objects: dict[str, int] = {}
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    for operation in _operations(job):
        base = fdn.key(operation.path)
        count = 0
        for name, keys in network.data_producers().items():
            if any(base == key or base.startswith(f"{key}/") or key.startswith(f"{base}/") for key in keys):
                async for chunk in elements[name].read(operation):
                    if chunk.errors:
                        raise SystemExit(f"{operation.path}: {chunk.errors[0].detail}")
                    count += len(chunk.objects)
        objects[operation.id_text] = count
    counts = {"total": len(objects), "succeeded": len(objects)}
    return {"status": "FINISHED", "operations": counts, "objects": objects}


def _operations(job: dict[str, Any]) -> list[Operation]:
    return msgspec.json.decode(msgspec.json.encode(job["data"]), type=list[Operation], strict=False)


def write_examples(folder: Path, sites: int, seed: int) -> None:
    """Write all files into ``folder``."""
    network = Network(sites, seed)
    reads = job_of("read-cells", read_cells(network))
    writes = job_of("retune-pci", retune_pci(network))
    documents: dict[str, dict[str, Any]] = {
        "read-cells.json": reads,
        "read-cells.expected.json": asyncio.run(expected_of_read(network, reads)),
        "retune-pci.json": writes,
        "retune-pci.expected.json": asyncio.run(expected_of_write(network, writes)),
        "seed-read.json": seed_read(),
        "seed-write.json": seed_write(),
    }
    for name, document in documents.items():
        (folder / name).write_text(_text(document))


def _text(document: dict[str, Any]) -> str:
    """JSON with one operation a line."""
    if "data" not in document:
        return json.dumps(document, indent=1) + "\n"
    head = {name: value for name, value in document.items() if name != "data"}
    lines = ",\n  ".join(map(json.dumps, document["data"]))
    return json.dumps(head, indent=1)[:-2] + f',\n "data": [\n  {lines}\n ]\n}}\n'


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description="Write the example jobs and what must come of them.")
    parser.add_argument("--sites", type=int, default=200, help="sites of the simulated network")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulated network")
    parser.add_argument("--dir", type=Path, default=Path(__file__).parent, help="folder to write to")
    given = parser.parse_args()
    write_examples(given.dir, given.sites, given.seed)


if __name__ == "__main__":
    main()
