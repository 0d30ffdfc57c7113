# SPDX-License-Identifier: Apache-2.0
"""ProvMnS and actions at the reference plugin, with the requests that ONAP's NCMP forwards."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from ran_datajobs.dmi.element import Element
from ran_datajobs.dmi.owners import ElementOwners, NcmpOwners, Owners, Unavailable
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.http.ports import free_port
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.simulator.network import Network
from tests.kit.plugin_parts import DEADLINE, KeptMessages, WatchedElement, served_plugin

SITE = (
    "/SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR01gNodeBRadio00001/ManagedElement=NR01gNodeBRadio00001"
)
DU = f"{SITE}/GNBDUFunction=1"
CELL = f"{DU}/NRCellDU=1"
THREE_GPP = {"Content-Type": "application/3gpp-json-patch+json"}
PLAIN = {"Content-Type": "application/json-patch+json"}

Call = Any


class Client:
    """NCMP: ``Accept: application/json``, and Basic credentials with every request."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self.address = address

    async def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        url = URL(self.address + path, encoded=True)
        async with self._session.request(method, url, json=body, **more) as answer:
            return answer.status, await answer.json(content_type=None) if await answer.read() else None

    async def patch(
        self, path: str, *items: dict[str, Any], kind: dict[str, str] = THREE_GPP
    ) -> tuple[int, Any]:
        """The document as NCMP serialises it again: each item with a ``from`` and a ``value``."""
        items = tuple({"from": None, "value": None, **item} for item in items)
        return await self("PATCH", f"/ProvMnS/v1{path}", list(items), headers=kind)


@contextlib.asynccontextmanager
async def ncmp_of(url: str) -> AsyncIterator[Client]:
    headers = {"Accept": "application/json", "Authorization": "Basic Y3BzdXNlcjp4"}
    async with aiohttp.ClientSession(headers=headers) as session:
        yield Client(session, url)


@pytest.fixture
async def ncmp(tmp_path: Path) -> AsyncIterator[Client]:
    """NCMP with the reference plugin over a simulated network."""
    network = Network(sites=2, seed=1)
    producers = network.data_producers()
    elements = simulated_elements(network, network.model, network.actions, producers)
    owners = ElementOwners(producers)
    async with (
        served_plugin(PluginSettings(tmp_path), elements.get, owners=owners) as url,
        ncmp_of(url) as client,
    ):
        yield client


async def test_the_page_has_the_calls_of_the_plugin(ncmp: Client) -> None:
    """The plugin has every call in the table of docs/onap.md."""
    page = (Path(__file__).parents[2] / "docs/onap.md").read_text(encoding="utf-8")
    table = page.partition("\n| call of NCMP | answer of the plugin |\n")[2].partition("\n\n")[0]
    calls = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/\S+)`", table)
    assert len(calls) == 10
    for method, path in calls:
        status, answer = await ncmp(method, re.sub(r"\{\w+\}", "A=1", path))
        assert status != 405, path
        assert status != 404 or "no data producer owns /A=1" in str(answer) or "no job" in str(answer), answer


async def attributes_of(ncmp: Client, path: str) -> dict[str, Any]:
    status, found = await ncmp("GET", f"/ProvMnS/v1{path}")
    assert status == 200
    attributes: dict[str, Any] = found["attributes"]
    return attributes


async def test_a_read(ncmp: Client) -> None:
    """The object, or what scope, filter, attributes and fields select, as one tree from the target down."""
    status, cell = await ncmp("GET", f"/ProvMnS/v1{CELL}")
    assert (status, cell["id"]) == (200, "1")
    assert cell["attributes"]["nRPCI"] >= 0
    query = "?scopeType=BASE_ALL&filter=NRCellDU/attributes/cellLocalId%3D%3D2&attributes=cellLocalId&fields="
    status, tree = await ncmp("GET", f"/ProvMnS/v1{DU}{query}")
    assert (status, tree) == (200, {"id": "1", "NRCellDU": [{"id": "2", "attributes": {"cellLocalId": 2}}]})
    selector = "?dataNodeSelector=//NRCellDU/attributes/cellLocalId"
    _, cells = await ncmp("GET", f"/ProvMnS/v1{DU}{selector}")
    assert [each["id"] for each in cells["NRCellDU"]] == ["1", "2", "3"]


async def test_a_patch(ncmp: Client) -> None:
    """Paths are relative to the target. Both media types of NCMP, with both kinds of paths: ONAP's load
    test sends names in plain JSON Patch."""
    items = (
        {"op": "replace", "path": "/NRCellDU=1#/attributes/userLabel", "value": "a"},
        {"op": "merge", "path": "/NRCellDU=2#/attributes", "value": {"userLabel": "b"}},
    )
    assert await ncmp.patch(DU, *items) == (204, None)
    plain = {"op": "replace", "path": "/attributes/userLabel", "value": "c"}
    assert await ncmp.patch(f"{DU}/NRCellDU=3", plain, kind=PLAIN) == (204, None)
    pointer = {"op": "replace", "path": "/attributes/userLabel", "value": "e"}
    assert await ncmp.patch(CELL, pointer) == (204, None)
    named = {"op": "replace", "path": "/NRCellDU=2#/attributes/userLabel", "value": "d"}
    assert await ncmp.patch(DU, named, kind=PLAIN) == (204, None)
    labels = [(await attributes_of(ncmp, f"{DU}/NRCellDU={n}"))["userLabel"] for n in (1, 2, 3)]
    assert labels == ["e", "d", "c"]
    assert await ncmp.patch(DU) == (204, None)


async def test_the_first_failure_of_a_patch_is_the_answer(ncmp: Client) -> None:
    """It ends there; what was applied before stays and is listed."""
    items = [
        {"op": "replace", "path": f"/NRCellDU={n}#/attributes/{name}", "value": value}
        for n, name, value in ((1, "userLabel", "kept"), (2, "nRPCI", 5000), (3, "userLabel", "never"))
    ]
    status, body = await ncmp.patch(DU, *items)
    assert (status, body["status"], body["badOp"]) == (422, "422", "/1")
    assert body["reason"] == "NEW_DATA_NODE_VALUE_INVALID"
    assert [each["badOp"] for each in body["otherProblems"]] == ["/0"]
    assert (await attributes_of(ncmp, CELL))["userLabel"] == "kept"
    assert (await attributes_of(ncmp, f"{DU}/NRCellDU=3")).get("userLabel") != "never"


async def test_an_object_is_created_replaced_and_deleted(ncmp: Client) -> None:
    """201 with the object and its location, then 200; after the deletion it is a 404."""
    new = f"{SITE}/GNBCUCPFunction=1/EUtranFrequency=12"
    body = {"id": "12", "objectClass": "EUtranFrequency", "attributes": {"userLabel": "a", "earfcnDL": 7}}
    status, made = await ncmp("PUT", f"/ProvMnS/v1{new}", body)
    assert (status, made) == (201, {**body, "objectInstance": new[1:].replace("/", ",")})
    status, made = await ncmp("PUT", f"/ProvMnS/v1{new}", body | {"attributes": {"earfcnDL": 8}})
    assert (status, made["attributes"]) == (200, {"earfcnDL": 8})
    assert await ncmp("DELETE", f"/ProvMnS/v1{new}") == (204, None)
    assert (await ncmp("GET", f"/ProvMnS/v1{new}"))[0] == 404
    status, refused = await ncmp("DELETE", f"/ProvMnS/v1{DU}")
    assert (status, refused["reason"]) == (409, "TARGET_DATA_NODE_DELETION_NOT_ALLOWED")


@pytest.mark.parametrize("value", [{"input": {"reason": "test"}}, {"input": {}}, {}, None])
async def test_an_action(ncmp: Client, value: Any) -> None:
    """NCMP's body has null for what the client left out. Elements return no output: 204."""
    path = f"/prov-mns-extensions/v1alpha1/actions{CELL}/lock"
    assert await ncmp("POST", path, {"customProperties": None, "value": value}) == (204, None)
    assert (await attributes_of(ncmp, CELL))["administrativeState"] == "LOCKED"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", f"/ProvMnS/v1{DU}/NRCellDU=77", None, 404),
        ("GET", f"/ProvMnS/v1{CELL}?scopeType=EVERYTHING", None, 400),
        ("GET", f"/ProvMnS/v1{CELL}?filter=((", None, 400),
        ("GET", f"/ProvMnS/v1{CELL}?dataNodeSelector=((", None, 400),
        ("GET", "/ProvMnS/v1/SubNetwork=Nowhere", None, 404),
        ("GET", "/ProvMnS/v1/nonsense", None, 400),
        ("GET", "/ProvMnS/v1/SubNetwork=%FF", None, 400),
        ("GET", "/ProvMnS/v1/SubNetwork=ü", None, 404),
        ("PATCH", f"/ProvMnS/v1{CELL}", {"not": "a list"}, 400),
        ("PATCH", f"/ProvMnS/v1{CELL}", [{"op": "copy", "path": "", "from": ""}], 422),
        ("PATCH", f"/ProvMnS/v1{CELL}", [{"op": "add", "path": "/nonsense", "value": 1}], 400),
        ("PATCH", f"/ProvMnS/v1{CELL}", [{"op": "add", "path": "#/attributes/userLabel"}], 400),
        ("PATCH", f"/ProvMnS/v1{CELL}", [{"op": "add", "path": "#/nonsense", "value": 1}], 400),
        ("PUT", f"/ProvMnS/v1{CELL}", "no object", 400),
        ("POST", f"/prov-mns-extensions/v1alpha1/actions{CELL}/noSuchAction", {}, 422),
        ("POST", f"/prov-mns-extensions/v1alpha1/actions{CELL}/lock", {"value": 7}, 400),
        ("POST", "/prov-mns-extensions/v1alpha1/actions/lock", {}, 404),
    ],
)
async def test_what_is_refused(ncmp: Client, method: str, path: str, body: Any, status: int) -> None:
    """With an error of TS 28.623, or a problem."""
    headers = THREE_GPP if method == "PATCH" else None
    found, error = await ncmp(method, path, body, headers=headers)
    assert (found, error["type"] != "") == (status, True), error


async def test_media_types_that_are_refused(ncmp: Client) -> None:
    """Of a document, and of an answer."""
    assert (await ncmp.patch(CELL, kind={"Content-Type": "application/merge-patch+json"}))[0] == 415
    assert (await ncmp("GET", f"/ProvMnS/v1{CELL}", headers={"Accept": "text/html"}))[0] == 406


class Everybody:
    """One data producer owns everything."""

    async def data_producer_of(self, key: str) -> str | Unavailable | None:
        return "ems-1"


@contextlib.asynccontextmanager
async def watched(
    tmp_path: Path, owners: Owners, **settings: Any
) -> AsyncIterator[tuple[Client, WatchedElement]]:
    element = WatchedElement()

    def element_of(name: str) -> Element | None:
        return element if name == "ems-1" else None

    async with (
        served_plugin(PluginSettings(tmp_path, **settings), element_of, KeptMessages(), owners=owners) as url,
        ncmp_of(url) as client,
    ):
        yield client, element


def write_job(operation_id: str) -> dict[str, Any]:
    line = {"path": "/A=1", "op": "merge", "value": {"x": 1}, "operationId": operation_id}
    return {
        "dataAcceptType": wire.TREE_FLAT,
        "dataContentType": wire.JSON_PATCH_3GPP,
        "dataProducerId": "ems-1",
        "dataJobId": operation_id,
        "data": [line],
    }


async def test_writes_wait_for_data_jobs_and_reads_do_not(tmp_path: Path) -> None:
    """A PATCH has its turn in the lane of its data producer: after the job before it."""
    async with watched(tmp_path, Everybody()) as (ncmp, element), asyncio.timeout(DEADLINE):
        element.gate.clear()
        assert (await ncmp("POST", wire.ONAP_CREATE_WRITE, write_job("before")))[0] == 201
        await element.waiting.wait()
        patch = asyncio.create_task(ncmp.patch("/A=1", {"op": "merge", "path": "#/attributes", "value": {}}))
        assert (await ncmp("GET", "/ProvMnS/v1/A=1/Empty=1"))[0] == 204
        while not patch.done() and element.executed != [0]:
            await asyncio.sleep(0)
        assert (await ncmp("POST", wire.ONAP_CREATE_WRITE, write_job("after")))[0] == 201
        element.gate.set()
        assert (await patch)[0] == 204
        while len(element.executed) < 4:
            await asyncio.sleep(0.01)
        assert element.executed == [0, "before", 0, "after"]


async def test_a_busy_data_producer(tmp_path: Path) -> None:
    """503 if the turn did not come in time: nothing is executed; 504 if the element did not answer."""
    async with watched(tmp_path, Everybody(), call_timeout=0.2) as (ncmp, element), asyncio.timeout(DEADLINE):
        element.gate.clear()
        item = {"op": "merge", "path": "#/attributes", "value": {}}
        assert (await ncmp.patch("/A=1", item))[0] == 504
        status, body = await ncmp.patch("/A=2", item)
        assert (status, "nothing was executed" in body["title"]) == (503, True)
        element.gate.set()
        assert (await ncmp.patch("/A=3", item))[0] == 204
        assert element.executed == [0, 0]


async def test_objects_of_nobody(tmp_path: Path) -> None:
    """404 if the owner has no element here; 503 if NCMP cannot be asked."""
    async with PeerHttp() as http:
        owners = NcmpOwners(f"http://127.0.0.1:{free_port('127.0.0.1')}", http)
        async with watched(tmp_path / "a", owners) as (ncmp, _):
            assert (await ncmp("DELETE", "/ProvMnS/v1/A=1"))[0] == 503
    async with watched(tmp_path / "b", ElementOwners({"ems-2": ["A=1"]})) as (ncmp, _):
        assert (await ncmp("DELETE", "/ProvMnS/v1/A=1"))[0] == 404


async def test_ncmp_is_asked_for_the_owner() -> None:
    """By its look-up of a distinguished name, with the plugin's token."""
    asked: list[tuple[str, str]] = []

    async def look_up(request: web.Request) -> web.Response:
        name = request.query[wire.DISTINGUISHED_NAME]
        asked.append((name, request.headers["Authorization"]))
        match name:
            case "/A=1":
                return web.json_response({"cmHandle": "ch-1", "dataProducerIdentifier": "ems-1"})
            case "/A=2":
                return web.json_response({"cmHandle": "ch-2"})
            case "/A=3":
                return web.Response(text="no JSON")
            case _:
                return web.json_response({"status": "404 NOT_FOUND"}, status=404)

    app = web.Application()
    app.router.add_get(wire.INVENTORY, look_up)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port("127.0.0.1")
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with PeerHttp() as http:
        owners = NcmpOwners(f"http://127.0.0.1:{port}", http, "secret")
        assert [await owners.data_producer_of(key) for key in ("A=1", "A=2", "A=4%2F")] == [
            "ems-1",
            None,
            None,
        ]
        assert isinstance(await owners.data_producer_of("A=3"), Unavailable)
    await runner.cleanup()
    assert asked[0] == ("/A=1", "Bearer secret")
    assert asked[2][0] == "/A=4%2F"
