# SPDX-License-Identifier: Apache-2.0
"""ProvMnS at the service's address, through the whole chain: service, reference plugin, simulated network."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from yarl import URL

from ran_datajobs.dmi.provmns.element import ProvMnsElement, ProvMnsServer
from ran_datajobs.dmi.provmns.read import ScopeSpelling
from ran_datajobs.dmi.publisher import ServiceLink
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.model import Op, Operation, Scope, ScopeType
from ran_datajobs.nrm.resources import to_flat, to_hierarchical
from ran_datajobs.nrm.select import selected, selection
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.wire import JSON_PATCH_3GPP, TREE_FLAT, TREE_HIERARCHICAL
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from tests.conftest import copied_database
from tests.kit.plugin_parts import served_plugin
from tests.kit.whole_service import Service, whole_service

NETWORK = Network(layout.BLOCK + 1)
assert len(NETWORK.data_producers()) == 2
SITE = f"/{layout.element_key(1)}"
CELL = f"{SITE}/GNBDUFunction=1/NRCellDU=1"
PROVMNS = "/ProvMnS/v1"
ACTIONS = "/prov-mns-extensions/v1alpha1/actions"
of_the_network = pytest.mark.asyncio(loop_scope="module")


class Answer(msgspec.Struct, frozen=True):
    """Status, media type and decoded body of an HTTP response."""

    status: int
    media_type: str
    body: Any


class Client(msgspec.Struct, frozen=True):
    """A client of the service, whose plugin has the whole simulated network."""

    service: Service
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Answer:
        """Send one request. ``kind``: the media type of its body, or that the answer of a GET should have."""
        url = URL(self.service.root + path, encoded=True)
        headers = {"Accept" if method == "GET" else "Content-Type": kind}
        data = None if body is None else msgspec.json.encode(body)
        async with self.session.request(method, url, data=data, headers=headers) as answer:
            raw = await answer.read()
            return Answer(answer.status, answer.content_type, msgspec.json.decode(raw) if raw else None)

    async def get(self, name: str, kind: str = "application/json") -> Answer:
        """GET of an object."""
        return await self.call("GET", PROVMNS + name, kind=kind)

    async def patch(self, name: str, *items: Any) -> Answer:
        """3GPP JSON Patch of an object."""
        return await self.call("PATCH", PROVMNS + name, items, JSON_PATCH_3GPP)

    async def attributes(self, name: str) -> Any:
        """The attributes of an object that exists."""
        answer = await self.get(name)
        assert answer.status == 200, answer
        return answer.body["attributes"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(
    postgres_url: str, whole_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """The service, the plugin and the network for all tests of the file."""
    folder = tmp_path_factory.mktemp("provmns")
    elements = simulated_elements(NETWORK, NETWORK.model, NETWORK.actions, NETWORK.data_producers())
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(copied_database(postgres_url, whole_database))
        service = await stack.enter_async_context(whole_service(url, folder / "service"))
        link = ServiceLink(service.root, await stack.enter_async_context(PeerHttp()))
        plugin = served_plugin(PluginSettings(folder / "dmi"), elements.get, link, link)
        address = await stack.enter_async_context(plugin)
        handles = {f"/{key}": name for name, keys in NETWORK.data_producers().items() for key in keys}
        await service.register(address, handles, stopOnError=True, selectors=True)
        yield Client(service, await stack.enter_async_context(aiohttp.ClientSession()))


@of_the_network
@pytest.mark.parametrize("kind", ["application/json", TREE_HIERARCHICAL, TREE_FLAT])
async def test_a_read_of_several_data_producers_is_one_tree(client: Client, kind: str) -> None:
    """In each form, and with the scope in the spelling of either release of TS 28.532."""
    wanted = selection("SubNetwork", None, "NRCellDU/attributes/nRPCI>=0", ["nRPCI"], None)
    objects = list(selected(NETWORK, layout.COUNTRY, wanted))
    assert len(objects) == 3 * (layout.BLOCK + 1)
    query = "attributes=nRPCI&filter=NRCellDU/attributes/nRPCI%3E%3D0"
    for scope in ("scopeType=BASE_ALL", "scope=" + quote('{"scopeType":"BASE_ALL"}')):
        answer = await client.get(f"/{layout.COUNTRY}?{query}&{scope}", kind)
        assert (answer.status, answer.media_type) == (200, kind)
        found = answer.body if kind == TREE_FLAT else to_flat(answer.body, layout.COUNTRY)
        assert sorted(found, key=str) == sorted(objects, key=str)


@of_the_network
async def test_a_selector_reads_the_whole_network_or_what_is_below_the_target(client: Client) -> None:
    """At the NRM root, and at an object: then only what is there is in the document."""
    selector = quote("//NRCellDU/attributes/nRPCI", safe="")
    everything = await client.get(f"?dataNodeSelector={selector}", TREE_FLAT)
    assert len(everything.body) == 3 * (layout.BLOCK + 1)
    below = [one for one in everything.body if one["objectInstance"].startswith(SITE[1:].replace("/", ","))]
    answer = await client.get(f"{SITE}?dataNodeSelector={selector}")
    assert answer.body == to_hierarchical(below, SITE)
    assert [len(part["NRCellDU"]) for part in answer.body["GNBDUFunction"]] == [3]


@of_the_network
async def test_a_provmns_client_reads_the_network_through_it(client: Client) -> None:
    """The client of the reference plugin knows servers of all releases: it gets all objects with an owner,
    by a scope in either spelling, and by selector."""
    wanted = selection("SubNetwork", Scope(ScopeType.BASE_SUBTREE, 4), None, ["userLabel"], None)
    found = sorted(selected(NETWORK, layout.COUNTRY, wanted), key=str)
    objects = [one for one in found if "ManagedElement=" in one["objectInstance"]]
    name = f"/{layout.COUNTRY}"
    by_scope = Operation(Op.READ, name, 0, scope=Scope(ScopeType.BASE_SUBTREE, 4), attributes=("userLabel",))
    selector = "//ManagedElement/attributes/userLabel"
    by_selector = Operation(Op.READ, "/", 0, data_node_selector=selector)
    async with PeerHttp() as http:
        for spelling in ScopeSpelling:
            server = ProvMnsServer(client.service.root + PROVMNS, scope_spelling=spelling, selectors=True)
            element = ProvMnsElement(server, http)
            for operation, some in (
                (by_scope, objects),
                (by_selector, [one for one in objects if one["objectClass"] == "ManagedElement"]),
            ):
                chunks = [chunk async for chunk in element.read(operation)]
                assert not any(chunk.errors for chunk in chunks), chunks
                assert sorted((one for chunk in chunks for one in chunk.objects), key=str) == some


@of_the_network
async def test_what_does_not_exist_and_what_selects_nothing_differ(client: Client) -> None:
    """404 for an object that is not there, and for attributes that none has; 204 for a condition that none
    fulfils."""
    missing = await client.get(f"{SITE}/GNBDUFunction=7")
    assert (missing.status, missing.body["reason"]) == (404, "TARGET_DATA_NODE_NOT_FOUND")
    assert missing.body["badObjects"] == [f"{SITE}/GNBDUFunction=7"]
    unset = await client.get(f"{SITE}?attributes=noSuchAttribute")
    assert (unset.status, unset.body["badQueryParams"]) == (404, ["attributes"])
    nothing = await client.get(f"{SITE}?scopeType=BASE_ALL&filter=NRCellDU/attributes/nRPCI%3C0")
    assert (nothing.status, nothing.body) == (204, None)
    names = await client.get(f"{CELL}?attributes=")
    assert (names.status, names.body) == (200, {"id": "1", "attributes": {}})


@of_the_network
async def test_a_patch_writes_and_answers_what_it_wrote(client: Client) -> None:
    """Several objects of one owner, in order; paths as pointers and as steps."""
    answer = await client.patch(
        SITE,
        {"op": "replace", "path": "/attributes/userLabel", "value": "first"},
        {"op": "merge", "path": "/GNBDUFunction=1/NRCellDU=1#/attributes", "value": {"nRPCI": 17}},
        {"op": "test", "path": "#/attributes/userLabel", "value": "first"},
    )
    cells = [{"id": "1", "attributes": {"nRPCI": 17}}]
    tree = {
        "id": SITE.rpartition("=")[2],
        "attributes": {"userLabel": "first"},
        "GNBDUFunction": [{"id": "1", "NRCellDU": cells}],
    }
    assert (answer.status, answer.body) == (200, tree)
    assert (await client.attributes(SITE))["userLabel"] == "first"
    assert (await client.attributes(CELL))["nRPCI"] == 17


@of_the_network
async def test_a_patch_ends_at_its_first_failure(client: Client) -> None:
    """What was executed before stays and is named; what follows is not started."""
    answer = await client.patch(
        CELL,
        {"op": "replace", "path": "/attributes/nRPCI", "value": 23},
        {"op": "replace", "path": "/attributes/nRPCI", "value": 70_000},
        {"op": "replace", "path": "/attributes/nRPCI", "value": 24},
    )
    problem = answer.body
    assert (answer.status, answer.media_type) == (422, "application/problem+json")
    assert (problem["badOp"], problem["reason"]) == ("/1", "NEW_DATA_NODE_VALUE_INVALID")
    assert problem["badAttributes"] == [f"{CELL}#/attributes/nRPCI"]
    assert [each["badOp"] for each in problem["otherProblems"]] == ["/0"]
    assert (await client.attributes(CELL))["nRPCI"] == 23
    job = await client.service.call("GET", problem["instance"], expect=200)
    assert (job["status"], job["operations"]["notStarted"]) == ("PARTIALLY_FAILED", 1)


@of_the_network
async def test_an_object_is_created_replaced_called_and_deleted(client: Client) -> None:
    """PUT gives exactly the attributes of its body; an action has no output here; an object with children is
    not deleted."""
    name = f"{CELL}/RRMPolicyRatio=9"
    policy = {"resourceType": "PRB", "rRMPolicyMaxRatio": 50}
    member = [{"plmnId": {"mcc": "272", "mnc": "01"}, "snssai": {"sst": 1}}]
    for maximum in (50, 60):
        body = {
            "id": "9",
            "attributes": policy | {"rRMPolicyMaxRatio": maximum, "rRMPolicyMemberList": member},
        }
        answer = await client.call("PUT", PROVMNS + name, body)
        assert (answer.status, answer.body["attributes"]["rRMPolicyMaxRatio"]) == (200, maximum), answer
    answer = await client.call("DELETE", PROVMNS + CELL)
    assert (answer.status, answer.body["reason"]) == (409, "TARGET_DATA_NODE_DELETION_NOT_ALLOWED")
    answer = await client.call("DELETE", PROVMNS + name)
    assert (answer.status, answer.body) == (204, None)
    assert (await client.get(name)).status == 404
    answer = await client.call("POST", f"{ACTIONS}{CELL}/lock", {"value": {"input": {}}})
    assert (answer.status, answer.body) == (204, None)
    assert (await client.attributes(CELL))["administrativeState"] == "LOCKED"
    answer = await client.call("POST", f"{ACTIONS}{CELL}/noSuchAction", {})
    assert (answer.status, answer.body["type"]) == (409, "APPLICATION_LAYER_ERROR")
