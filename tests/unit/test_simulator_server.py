# SPDX-License-Identifier: Apache-2.0
"""The simulated network as a ProvMnS server over real HTTP (3GPP TS 28.532, TS 32.158)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from msgspec import Struct
from yarl import URL

from ran_datajobs.errors import UsageError
from ran_datajobs.http.server import serving
from ran_datajobs.simulator import layout, wire
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.server import provmns_app, serve

ME = layout.element_key(3)
DU = f"{ME}/GNBDUFunction=1"
CELL = f"{DU}/NRCellDU=1"
CP = f"{ME}/GNBCUCPFunction=2"
NEW = f"{CP}/EUtranFrequency=12"
THREE_GPP = {"Content-Type": wire.THREE_GPP_PATCHES[0]}
PLAIN = {"Content-Type": wire.JSON_PATCH}
FLAT = {"Accept": wire.FLAT}


class Answer(Struct):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls one server. A path is sent as it is written."""

    def __init__(self, session: aiohttp.ClientSession, address: str, network: Network) -> None:
        self._session = session
        self._address = address
        self.network = network

    async def call(self, method: str, path: str, **sent: Any) -> Answer:
        """Send one request. ``path`` with a key is relative to the base."""
        path = path if path.startswith("/") else f"{wire.PROVMNS}/{path}"
        async with self._session.request(method, URL(self._address + path, encoded=True), **sent) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, headers, await answer.read())

    async def patch(self, path: str, *items: dict[str, Any], **headers: str) -> Answer:
        """Send one patch document: 3GPP JSON patch unless a header says otherwise."""
        return await self.call("PATCH", path, data=json.dumps(items), headers={**THREE_GPP, **headers})

    def attributes(self, key: str) -> dict[str, Any]:
        found = self.network.attributes(key)
        assert found is not None
        return found


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A server over a small network of its own."""
    network = Network(2 * layout.BLOCK)
    async with serving(provmns_app(network), "127.0.0.1", 0) as address, aiohttp.ClientSession() as session:
        yield Client(session, address, network)


# --- reads -------------------------------------------------------------------------------------------


async def test_an_object_is_read_with_its_entity_tag(client: Client) -> None:
    """Hierarchical by default: the base object alone. An unchanged one is a 304 for its tag."""
    read = await client.call("GET", CELL)
    assert (read.status, read.headers["content-type"]) == (200, wire.JSON)
    assert read.json == {"id": "1", "attributes": client.attributes(CELL)}
    again = await client.call("GET", CELL, headers={"If-None-Match": read.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "query",
    [
        "scopeType=BASE_NTH_LEVEL&scopeLevel=2",
        "scope=" + quote('{"scopeType":"BASE_NTH_LEVEL","scopeLevel":2}'),
    ],
)
async def test_both_spellings_of_a_scope_are_read(client: Client, query: str) -> None:
    """Exploded parameters, and the JSON of TS 28.532 from 19.2 on. Flat responses name objects in full."""
    read = await client.call(
        "GET", f"{ME}?{query}&filter=NRCellDU/attributes/cellLocalId%3D%3D1", headers=FLAT
    )
    assert read.headers["content-type"] == wire.FLAT
    assert read.json == [
        {
            "id": "1",
            "objectClass": "NRCellDU",
            "objectInstance": CELL.replace("/", ","),
            "attributes": client.attributes(CELL),
        }
    ]


async def test_selected_parts_of_selected_objects(client: Client) -> None:
    """attributes and fields add up. Unselected objects on the path have their id only."""
    read = await client.call(
        "GET", f"{DU}?scopeType=BASE_ALL&attributes=nRPCI&fields=/attributes/pLMNInfoList/0"
    )
    assert read.json == {
        "id": "1",
        "NRCellDU": [
            {
                "id": str(cell),
                "attributes": {
                    name: client.attributes(f"{DU}/NRCellDU={cell}")[name]
                    for name in ("nRPCI", "pLMNInfoList")
                },
            }
            for cell in layout.CELLS
        ],
    }


async def test_one_producer_has_its_own_root(client: Client) -> None:
    """Below /{dataProducerId} only that EMS's elements are selected, whatever the base."""
    counts = []
    for producer in client.network.data_producers():
        path = f"/{producer}{wire.PROVMNS}/{layout.COUNTRY}?scopeType=BASE_ALL&attributes="
        counts.append(len((await client.call("GET", path, headers=FLAT)).json))
    whole = await client.call("GET", f"{layout.COUNTRY}?scopeType=BASE_ALL&attributes=", headers=FLAT)
    above = {"SubNetwork", "MeContext", "NRFrequency"}
    assert sum(counts) == sum(each["objectClass"] not in above for each in whole.json)
    assert (await client.call("GET", f"/nobody{wire.PROVMNS}/{layout.COUNTRY}")).status == 404
    foreign = layout.element_key(layout.BLOCK + 1)
    first = layout.data_producer_of(1)
    assert (await client.call("GET", f"/{first}{wire.PROVMNS}/{foreign}")).status == 404


async def test_a_data_node_selector_selects_at_and_below_the_resource(client: Client) -> None:
    """Flat and hierarchical; below a resource, and below the root, where it selects among all objects."""
    label = quote(f'//NRCellDU[id="1"]/attributes/userLabel OR /{_steps(DU)}')
    below = await client.call("GET", f"{ME}?dataNodeSelector={label}", headers=FLAT)
    assert [each["objectInstance"] for each in below.json] == [DU.replace("/", ","), CELL.replace("/", ",")]
    function, cell = (each["attributes"] for each in below.json)
    assert function == client.network.attributes(DU)
    assert cell == {"userLabel": (client.network.attributes(CELL) or {})["userLabel"]}
    tree = await client.call("GET", f"{ME}?dataNodeSelector={label}")
    assert tree.json == {
        "id": ME.rpartition("=")[2],
        "GNBDUFunction": [{"id": "1", "attributes": function, "NRCellDU": [{"id": "1", "attributes": cell}]}],
    }
    every = await client.call("GET", f"{wire.PROVMNS}?dataNodeSelector=//NRCellDU", headers=FLAT)
    assert len(every.json) == client.network.sites * len(layout.CELLS)
    own = f"/{layout.data_producer_of(1)}{wire.PROVMNS}?dataNodeSelector=//ManagedElement"
    found = (await client.call("GET", own, headers=FLAT)).json
    assert [each["id"] for each in found] == [layout.site_name(n) for n in range(1, layout.BLOCK + 1)]
    long = "\n".join(f'/{_steps(ME)}/X[id="{"x" * 1_000}{n}"]' for n in range(50)) + f"\n/{_steps(CELL)}"
    posted = await client.call(
        "POST",
        ME,
        data=f"dataNodeSelector={quote(long)}",
        headers=FLAT | {"X-HTTP-Method-Override": "GET", "Content-Type": wire.FORM},
    )
    assert [each["id"] for each in posted.json] == ["1"]


def _steps(key: str) -> str:
    return "/".join('{}[id="{}"]'.format(*rdn.split("=")) for rdn in key.split("/"))


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"{ME}?scopeType=BASE_ALL&filter=NRCellDU/attributes/nRPCI%3E2000", {}, 204),
        (f"{ME}?attributes=nothing", {}, 404),
        (f"{ME}/GNBDUFunction=9", {}, 404),
        ("NoName", {}, 400),
        (f"{ME}?scopeType=ALL", {}, 400),
        (f"{ME}?scopeType=BASE_NTH_LEVEL", {}, 400),
        (f"{ME}?scopeLevel=-1", {}, 400),
        (f"{ME}?scope=%7B", {}, 400),
        (f"{ME}?filter=NRCellDU", {}, 400),
        (f"{ME}?fields=/~x", {}, 400),
        (f"{ME}?dataNodeSelector=x", {}, 400),
        (f"{ME}?dataNodeSelector=//NRCellDU&scopeType=BASE_ALL", {}, 400),
        (f"{ME}?dataNodeSelector=//NoSuchClass", {}, 204),
        (f"{ME}/GNBDUFunction=9?dataNodeSelector=//NRCellDU", {}, 404),
        (f"{ME}?filter=%FF", {}, 400),
        (ME, {"Accept": "text/html"}, 406),
        (ME, {"Accept": "text/html, application/json;q=0.5"}, 200),
        (ME, {"Accept": "*/*;q=0"}, 406),
        (ME, {"Accept": "application/json;q=0.0, text/html"}, 406),
        (ME, {"Accept": "application/*;q=0, */*"}, 406),
        (wire.PROVMNS, {}, 204),
    ],
)
async def test_reads_that_give_nothing_say_why(
    client: Client, path: str, headers: dict[str, str], status: int
) -> None:
    """204 if scope and filter select nothing, 404 if attributes do, 400 and 406 for faults."""
    read = await client.call("GET", path, headers=headers)
    assert read.status == status
    if status >= 400:
        assert read.json["status"] == str(status)
        assert read.json["title"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", wire.JSON),
        ("*/*", wire.JSON),
        (f"{wire.FLAT}, */*", wire.FLAT),
        (f"{wire.FLAT};q=0.2, {wire.HIERARCHICAL};q=0.5", wire.HIERARCHICAL),
        (f"{wire.FLAT};q=0, {wire.JSON}", wire.JSON),
        ("application/json;q=0, */*", wire.HIERARCHICAL),
        (f"{wire.JSON};q=0, {wire.HIERARCHICAL};q=0, application/*;q=0.1", wire.FLAT),
        (f"{wire.FLAT};q=many", wire.FLAT),
    ],
)
def test_the_best_acceptable_media_type_is_taken(accept: str, kind: str) -> None:
    """By quality, then in the order of the client. One with a quality of 0 is not acceptable."""
    assert wire.media_type_for(accept) == kind


async def test_a_long_query_comes_as_a_form(client: Client) -> None:
    """POST with X-HTTP-Method-Override: GET is a read (TS 32.158 §6.1)."""
    headers = {"X-HTTP-Method-Override": "GET", "Content-Type": wire.FORM, **FLAT}
    read = await client.call(
        "POST", ME, data="scopeType=BASE_SUBTREE&scopeLevel=1&attributes=", headers=headers
    )
    assert read.status == 200
    assert [each["objectClass"] for each in read.json][:2] == ["ManagedElement", "GNBDUFunction"]


# --- writes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", wire.THREE_GPP_PATCHES)
async def test_a_document_is_done_in_order(client: Client, kind: str) -> None:
    """Objects and attributes below the target, in one document."""
    done = await client.patch(
        ME,
        {"op": "add", "path": "/GNBCUCPFunction=2/EUtranFrequency=12",
         "value": {"id": "12", "objectClass": "EUtranFrequency", "attributes": {"userLabel": "label12"}}},
        {"op": "test", "path": "/GNBCUCPFunction=2/EUtranFrequency=12#userLabel", "value": "label12"},
        {"op": "merge", "path": "/GNBDUFunction=1/NRCellDU=1#/attributes", "value": {"nRPCI": 5}},
        {"op": "replace", "path": "#/attributes/userLabel", "value": "renamed"},
        **{"Content-Type": kind},
    )  # fmt: skip
    assert done.status == 204
    assert client.attributes(NEW) == {"userLabel": "label12"}
    assert client.attributes(CELL)["nRPCI"] == 5
    assert client.attributes(ME)["userLabel"] == "renamed"


async def test_a_refused_document_changes_nothing(client: Client) -> None:
    """badOp points at the operation to blame. The texts are those of TS 28.572."""
    before = dict(client.attributes(CELL))
    refused = await client.patch(
        DU,
        {"op": "replace", "path": "/NRCellDU=1#/attributes/nRPCI", "value": 5},
        {"op": "replace", "path": "/NRCellDU=1#/attributes/nRPCI", "value": 5000},
    )
    assert refused.status == 422
    node = f"/{CELL}#/attributes/nRPCI"
    assert refused.json["badOp"] == "/1"
    assert refused.json["reason"] == "NEW_DATA_NODE_VALUE_INVALID"
    assert refused.json["badAttributes"] == [node]
    assert refused.json["errors"][0]["badDataNode"] == node
    assert client.attributes(CELL) == before


@pytest.mark.parametrize(
    ("item", "status"),
    [
        ({"op": "replace", "path": "/NRCellDU=9#/attributes/nRPCI", "value": 5}, 404),
        ({"op": "remove", "path": ""}, 409),
        ({"op": "replace", "path": "#/attributes/gNBDUId", "value": "x"}, 422),
        ({"op": "merge", "path": "", "value": {}}, 422),
        ({"op": "move", "path": "#/attributes/a", "from": "#/attributes/b"}, 422),
        ({"op": "read", "path": ""}, 422),
        ({"op": "replace", "path": "/no name#/attributes/x", "value": 1}, 400),
        ({"op": "add", "path": "#/attributes/userLabel"}, 400),
        ({"path": ""}, 400),
    ],
)
async def test_what_a_patch_cannot_do(client: Client, item: dict[str, Any], status: int) -> None:
    """Each refusal has its status and an error body."""
    refused = await client.patch(DU, item)
    assert (refused.status, refused.json["status"]) == (status, str(status))


async def test_plain_json_patch_is_for_the_targets_attributes(client: Client) -> None:
    """RFC 6902 with pointers below /attributes, copy and move included. Another object is a 400."""
    before = client.attributes(CELL)["nRPCI"]
    done = await client.patch(
        CELL,
        {"op": "copy", "from": "/attributes/nRPCI", "path": "/attributes/nRTAC"},
        {"op": "add", "path": "/attributes/userLabel", "value": "x"},
        {"op": "test", "path": "/attributes/nRTAC", "value": before},
        {"op": "remove", "path": "/attributes/userLabel"},
        **PLAIN,
        Prefer="return=representation",
    )
    assert done.status == 200
    assert done.json["attributes"] == client.attributes(CELL)
    assert done.json["attributes"]["nRTAC"] == before
    assert "userLabel" not in done.json["attributes"]
    for path in ("/NRCellDU=1#/attributes/nRPCI", "#/attributes/nRPCI", "/id", "attributes/nRPCI"):
        refused = await client.patch(CELL, {"op": "replace", "path": path, "value": 1}, **PLAIN)
        assert (refused.status, refused.json["badOp"]) == (400, "/0")


async def test_a_merge_patch_goes_to_the_attributes(client: Client) -> None:
    """application/merge-patch+json on one object. Its id must be the path's."""
    headers = {"Content-Type": wire.MERGE_PATCH}
    body = json.dumps({"id": "1", "attributes": {"nRPCI": 9}})
    assert (await client.call("PATCH", CELL, data=body, headers=headers)).status == 204
    assert client.attributes(CELL)["nRPCI"] == 9
    wrong = json.dumps({"id": "2", "attributes": {"nRPCI": 9}})
    assert (await client.call("PATCH", CELL, data=wrong, headers=headers)).status == 422


async def test_an_unknown_media_type_is_refused(client: Client) -> None:
    """A patch declares one of the formats."""
    assert (await client.call("PATCH", CELL, json=[])).status == 415


async def test_put_creates_and_replaces(client: Client) -> None:
    """201 with Location, then 204. PUT replaces all attributes that a client can set."""
    resource = {"id": "12", "objectClass": "EUtranFrequency", "attributes": {"userLabel": "a", "earfcnDL": 7}}
    created = await client.call("PUT", NEW, json=resource)
    assert (created.status, created.headers["location"]) == (201, f"{wire.PROVMNS}/{NEW}")
    assert created.json == {**resource, "objectInstance": NEW.replace("/", ",")}
    replaced = await client.call("PUT", NEW, json={"id": "12", "attributes": {"userLabel": "b"}})
    assert replaced.status == 204
    assert client.attributes(NEW) == {"userLabel": "b"}
    orphan = await client.call("PUT", f"{ME}/GNBCUCPFunction=9/EUtranFrequency=1", json={"attributes": {}})
    assert (orphan.status, orphan.json["reason"]) == (404, "TARGET_DATA_NODE_PARENT_NOT_FOUND")


async def test_post_lets_the_producer_choose_the_id(client: Client) -> None:
    """The new object gets an id that no sibling has, whatever the body says."""
    body = {"id": "mine", "objectClass": "EUtranFrequency", "attributes": {"userLabel": "x"}}
    places = []
    for _ in range(2):
        created = await client.call("POST", CP, json=body)
        assert created.status == 201
        places.append(created.headers["location"])
        assert (await client.call("GET", places[-1])).json["attributes"] == {"userLabel": "x"}
    assert len(set(places)) == 2
    assert (await client.call("POST", CP, json={"attributes": {}})).status == 400
    assert (await client.call("POST", CP, json={"objectClass": "NRCellDU"})).status == 422


async def test_only_a_leaf_can_be_deleted(client: Client) -> None:
    """409 while there are children, 204 for a leaf, then 404."""
    refused = await client.call("DELETE", DU)
    assert (refused.status, refused.json["reason"]) == (409, "TARGET_DATA_NODE_DELETION_NOT_ALLOWED")
    relation = next(iter(client.network.children(f"{ME}/GNBCUCPFunction=1/NRCellCU=1")))
    assert (await client.call("DELETE", relation)).status == 204
    assert (await client.call("DELETE", relation)).status == 404
    assert (await client.call("DELETE", wire.PROVMNS)).status == 409


async def test_a_condition_guards_a_write(client: Client) -> None:
    """If-Match with another tag is a 412 and changes nothing. With the current one the write is done."""
    tag = (await client.call("GET", CELL)).headers["etag"]
    item = {"op": "replace", "path": "#/attributes/nRPCI", "value": 11}
    refused = await client.patch(CELL, item, **{"If-Match": '"other"'})
    assert refused.status == 412
    done = await client.patch(CELL, item, **{"If-Match": f'"other", {tag}'})
    assert done.status == 204
    assert done.headers["etag"] != tag
    assert (await client.patch(CELL, item, **{"If-Match": tag})).status == 412
    missing = await client.call("PUT", NEW, json={"attributes": {}}, headers={"If-Match": "*"})
    assert missing.status == 412


async def test_a_put_can_be_for_new_objects_only(client: Client) -> None:
    """With If-None-Match: * an existing object is unchanged (412), and a new one is created once."""
    body = {"id": "12", "attributes": {"userLabel": "mine"}}
    once = {"If-None-Match": "*"}
    assert (await client.call("PUT", NEW, json=body, headers=once)).status == 201
    theirs = {"id": "12", "attributes": {"userLabel": "theirs"}}
    refused = await client.call("PUT", NEW, json=theirs, headers=once)
    assert (refused.status, refused.json["status"]) == (412, "412")
    tag = (await client.call("GET", NEW)).headers["etag"]
    assert (await client.call("PUT", NEW, json=theirs, headers={"If-None-Match": tag})).status == 412
    assert client.attributes(NEW) == {"userLabel": "mine"}
    assert (await client.call("PUT", NEW, json=theirs, headers={"If-None-Match": '"x"'})).status == 204
    assert client.attributes(NEW) == {"userLabel": "theirs"}


async def test_ids_with_slashes_stay_one_name(client: Client) -> None:
    """A percent-encoded slash within an id is no separator."""
    key = f"{CP}/EUtranFrequency=a%2Fb%20c"
    assert (
        await client.call("PUT", key, json={"id": "a/b c", "attributes": {"userLabel": "x"}})
    ).status == 201
    assert (await client.call("GET", key)).json == {"id": "a/b c", "attributes": {"userLabel": "x"}}


@pytest.mark.parametrize("name", ["日本", "Zürich", 'a"<b>{c}|^`\\', "100% a+b&c", "🗼"])
async def test_any_id_can_be_created(client: Client, name: str) -> None:
    """Location leads to the new object whatever the characters of its id, and is plain ASCII."""
    key = f"{CP}/EUtranFrequency={quote(name, safe='')}"
    created = await client.call("PUT", key, json={"id": name, "attributes": {"userLabel": "x"}})
    assert (created.status, created.json["id"]) == (201, name)
    place = created.headers["location"]
    assert place.isascii()
    assert " " not in place
    assert (await client.call("GET", place)).json == {"id": name, "attributes": {"userLabel": "x"}}
    top = await client.call("PUT", f"SubNetwork={quote(name, safe='')}", json={"id": name})
    assert top.status == 201, top
    below = await client.call(
        "POST", top.headers["location"], json={"objectClass": "NRFrequency", "attributes": {}}
    )
    assert below.status < 500, below


async def test_a_body_has_a_limit(client: Client) -> None:
    """Too many operations are a 413, and so is a body that is too long."""
    item = {"op": "test", "path": "#/attributes/nRPCI", "value": 1}
    refused = await client.patch(CELL, *[item] * (wire.MAX_OPERATIONS + 1))
    assert refused.status == 413


# --- faults ------------------------------------------------------------------------------------------


async def load(client: Client, *steps: dict[str, Any]) -> None:
    loaded = await client.call("POST", wire.FAULTS, json={"scripts": [{"element": f"/{ME}", "steps": steps}]})
    assert loaded.status == 204


async def test_faults_are_loaded_while_the_server_runs(client: Client) -> None:
    """A refusal, a lie, and a connection that is really closed, before and after the change was made."""
    pci = {"op": "replace", "path": "#/attributes/nRPCI", "value": 21}
    before = client.attributes(CELL)["nRPCI"]
    await load(
        client,
        {"fault": "refuse", "reason": "ACCESS_DENIED"},
        {"fault": "lie"},
        {"fault": "drop", "applied": False},
        {"fault": "drop"},
    )
    refused = await client.patch(CELL, pci)
    assert (refused.status, refused.json["reason"]) == (403, "ACCESS_DENIED")
    assert (await client.patch(CELL, pci)).status == 204
    assert client.attributes(CELL)["nRPCI"] == before
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.patch(CELL, pci)
    assert client.attributes(CELL)["nRPCI"] == before
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.patch(CELL, pci)
    assert client.attributes(CELL)["nRPCI"] == 21
    assert (await client.patch(CELL, pci)).status == 204


async def test_a_restart_loses_the_connection_and_the_change(client: Client) -> None:
    """Changes that were only in the element's memory are lost."""
    before = client.attributes(CELL)["nRPCI"]
    await load(client, {"fault": "restart"})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.patch(CELL, {"op": "replace", "path": "#/attributes/nRPCI", "value": 22})
    assert client.attributes(CELL)["nRPCI"] == before


async def test_loaded_scripts_are_shown_and_ended(client: Client) -> None:
    """GET shows the active scripts, DELETE removes them, and an invalid body is a 400."""
    await load(client, {"fault": "flap", "times": 2})
    shown = (await client.call("GET", wire.FAULTS)).json["scripts"]
    assert [step["fault"] for step in shown[0]["steps"]] == ["flap"]
    assert (await client.call("DELETE", wire.FAULTS)).status == 204
    assert (await client.call("GET", wire.FAULTS)).json == {"scripts": []}
    assert (await client.call("POST", wire.FAULTS, data=b"{")).status == 400


# --- the server itself -------------------------------------------------------------------------------


async def test_a_server_runs_until_it_is_cancelled() -> None:
    """serve reports its address once it answers, and releases the port when cancelled."""
    network = Network(1)
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve("127.0.0.1", 0, network, address.set_result))
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        base = await address
        async with session.get(base + wire.HEALTHZ) as answer:
            assert await answer.json() == {"status": "ok"}
        port = int(base.rpartition(":")[2])
        with pytest.raises(UsageError):
            await serve("127.0.0.1", port, network, lambda _: None)
        server.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(base + wire.HEALTHZ)
