# SPDX-License-Identifier: Apache-2.0
"""Jobs of the demo, generated for a network of any size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from ran_datajobs.nrm import fdn
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.layout import CELLS
from ran_datajobs.simulator.network import Network

HIERARCHICAL: Final = "application/vnd.3gpp.object-tree-hierarchical+json"
PATCH: Final = "application/3gpp-json-patch+json"
PCIS: Final = 1008
"""Physical cell ids are 0 to 1007."""

Line: TypeAlias = dict[str, Any]
"""An operation without its id."""


def retune_pci(network: Network) -> Iterator[Line]:
    """Operations that change the physical cell id of every cell and related objects; some must fail."""
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
    """Operations that the elements of some sites must refuse."""
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
            yield {"op": "merge", "path": cell, "value": {"nrPci": 7}}  # name of the OpenAPI, not of stage 2
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
    """Reads of the locked cells of every region, which fan out to every EMS, and reads of single sites."""
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


def read_selectors(network: Network) -> Iterator[Line]:
    """Reads by data node selector: of every EMS, by the beginning of ids, and of single sites."""
    yield {"op": "read", "dataNodeSelector": "//NRCellDU/attributes/administrativeState"}
    elements = f'/{_selector(layout.COUNTRY)}/*/*/ManagedElement[contains(id,"NR1")]'
    yield {"op": "read", "dataNodeSelector": f"{elements}/attributes/userLabel"}
    sites = [_selector(layout.element_key(site)) for site in range(1, network.sites + 1, 10)]
    yield {
        "op": "read",
        "dataNodeSelector": "\n".join(
            [
                "&& the PLMNs of every tenth site, and their elements",
                *(f"/{site}/GNBDUFunction/NRCellDU/attributes/pLMNInfoList[1]/plmnId" for site in sites),
                *(f"/{site}" for site in sites),
            ]
        ),
    }
    yield {"op": "read", "dataNodeSelector": f'/{sites[0]}/GNBDUFunction[id="1"]//.'}


def _selector(key: str) -> str:
    """Steps that lead to an object with plain ids."""
    return "/".join('{}[id="{}"]'.format(*rdn.split("=")) for rdn in key.split("/"))


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


def job_of(name: str, lines: Iterator[Line]) -> dict[str, Any]:
    """Body of the job to submit."""
    data = [{"operationId": f"{name}-{number:05d}", **line} for number, line in enumerate(lines, 1)]
    return {"dataAcceptType": HIERARCHICAL, "dataContentType": PATCH, "name": name, "data": data}
