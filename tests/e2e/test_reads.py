# SPDX-License-Identifier: Apache-2.0
"""Reads through the whole chain return exactly the objects: a table of scopes, filters and selections, in
both formats of results, below one handle and above many."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from ran_datajobs.dmi.publisher import ServiceLink
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.model import Operation
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.names import class_of
from ran_datajobs.nrm.resources import to_flat, to_hierarchical
from ran_datajobs.nrm.select import selected, selection_of
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.wire import TREE_FLAT, TREE_HIERARCHICAL
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.producers import element_of
from tests.kit.plugin_parts import served_plugin
from tests.kit.whole_service import whole_service

SITES = 45
ELEMENT = "/" + layout.element_key(1)
CELL = f"{ELEMENT}/GNBDUFunction=1/NRCellDU=1"
REGION = "/" + layout.region_of(1).key
COUNTRY = "/" + layout.COUNTRY
ALL = {"scopeType": "BASE_ALL"}

READS: dict[str, dict[str, Any]] = {
    "the base alone": {"path": CELL},
    "the base in comma form": {"path": CELL[1:].replace("/", ",")},
    "everything below": {"path": ELEMENT, "scope": ALL},
    "the second level": {"path": ELEMENT, "scope": {"scopeType": "BASE_NTH_LEVEL", "scopeLevel": 2}},
    "down to the first level": {"path": ELEMENT, "scope": {"scopeType": "BASE_SUBTREE", "scopeLevel": 1}},
    "the whole subtree": {"path": ELEMENT, "scope": {"scopeType": "BASE_SUBTREE"}},
    "another class": {"path": ELEMENT, "filter": "NRCellDU/attributes/nRPCI >= 0"},
    "another class, base only": {
        "path": ELEMENT,
        "filter": "NRCellDU/attributes/nRPCI >= 0",
        "scope": {"scopeType": "BASE_ONLY"},
    },
    "names in one string": {"path": ELEMENT, "scope": ALL, "attributes": "nRPCI, userLabel"},
    "names in a list": {"path": ELEMENT, "scope": ALL, "attributes": ["administrativeState"]},
    "no names": {"path": ELEMENT, "scope": ALL, "attributes": []},
    "places in values": {"path": ELEMENT, "scope": ALL, "fields": ["/attributes/pLMNInfoList/0/plmnId/mcc"]},
    "nothing": {"path": ELEMENT, "scope": ALL, "filter": "NRCellDU/attributes/nRPCI == 99999"},
    "all elements, whole": {"path": COUNTRY, "scope": ALL, "attributes": ["userLabel"]},
    "all elements by a filter": {
        "path": COUNTRY,
        "filter": ["NRCellDU/attributes/administrativeState == LOCKED", "NRCellDU/attributes/nRPCI < 900"],
        "fields": ["/attributes/nRPCI"],
    },
    "all elements, alternatives": {
        "path": COUNTRY,
        "filter": "NRCellDU/attributes/nRPCI < 50 || GNBDUFunction/attributes/gNBId in (1, 2, 3)",
        "attributes": [],
    },
    "a region's elements": {"path": REGION, "scope": {"scopeType": "BASE_NTH_LEVEL", "scopeLevel": 2}},
    "a region down to functions": {"path": REGION, "scope": {"scopeType": "BASE_SUBTREE", "scopeLevel": 3}},
}


@pytest.mark.parametrize("accept_type", [TREE_FLAT, TREE_HIERARCHICAL])
async def test_a_read_job_gives_what_the_objects_would(
    database_url: str, tmp_path: Path, accept_type: str
) -> None:
    """For each read: the same objects with the same members, none missing, none twice; below one handle in
    the same order. A hierarchical document is exactly the one that the selected objects make."""
    network = Network(SITES)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    async with whole_service(database_url, tmp_path / "service") as service, PeerHttp() as http:
        link = ServiceLink(service.root, http)
        async with served_plugin(PluginSettings(tmp_path / "dmi"), elements.get, link, link) as plugin:
            await service.call(
                "POST", "/ncmpInventory/v1/ch", network.registration(plugin, idempotent=True), expect=200
            )
            lines = [{"op": "read", "operationId": name, **read} for name, read in READS.items()]
            job = await service.ended(await service.submit(lines, dataAcceptType=accept_type))
            assert job["status"] == "FINSHED", await service.failures(job["jobId"])
            results: dict[str, list[Any]] = defaultdict(list)
            for response in await service.responses(job):
                assert response["state"] == "SUCCEEDED"
                results[response["operationId"]].append(response["result"])
    for name, read in READS.items():
        base = fdn.key(read["path"])
        expected = expected_of(network, base, read)
        assert bool(expected) is (name not in {"nothing", "another class, base only"}), name
        found: list[Any] = []
        for result in results[name]:
            found += result if accept_type == TREE_FLAT else to_flat(result, read["path"])
        if len(results[name]) == 1:
            assert found == expected, name
            if accept_type == TREE_HIERARCHICAL:
                assert results[name] == [to_hierarchical(expected, read["path"])]
        names = [each["objectInstance"] for each in found]
        assert len(set(names)) == len(names), name
        assert by_name(found) == by_name(expected), name


def expected_of(network: Network, base: str, read: dict[str, Any]) -> list[dict[str, Any]]:
    """The selection from the objects themselves, without those that have no owner."""
    names = read.get("attributes")
    given = {**read, "attributes": names.split(", ")} if isinstance(names, str) else read
    operation = msgspec.convert({"op": "read", "operationId": "0", **given}, Operation)
    if isinstance(operation.filter, str):
        operation = structs.replace(operation, filter=(operation.filter,))
    found = selected(network, base, selection_of(operation, class_of(base)))
    return [one for one in found if element_of(one["objectInstance"].replace(",", "/"))]


def by_name(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["objectInstance"]: one for one in objects}
