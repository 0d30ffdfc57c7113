# SPDX-License-Identifier: Apache-2.0
"""ONAP's searches and look-ups of CM handles, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from ran_datajobs.api import inventory, paths
from ran_datajobs.api.tokens import Role, add
from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.store.database import Database
from ran_datajobs.store.modules import Module, Question, answered, note_handles
from tests.kit.api_service import PLUGIN, Api, changes_nothing, northbound_api
from tests.kit.worker_parts import until

FIRST = "/SubNetwork=Europe/SubNetwork=Ireland/MeContext=MyRadioNode1/ManagedElement=MyManagedElement1"
ODD = "/SubNetwork=A/ManagedElement=x%2Fy z"
OTHER_PLUGIN = "http://127.0.0.1:10"
EVERYTHING: dict[str, Any] = {"cmHandleQueryParameters": []}


def conditions(*pairs: tuple[str, list[dict[str, str]]]) -> dict[str, Any]:
    """A body of a search."""
    return {"cmHandleQueryParameters": [{"conditionName": n, "conditionParameters": p} for n, p in pairs]}


async def fill(api: Api, headers: dict[str, str] | None = None) -> None:
    """Register three handles of one plugin and one of another."""
    first: dict[str, Any] = {
        "cmHandle": "ch-1",
        "alternateId": FIRST,
        "dataProducerIdentifier": "some-data-producer-id",
        "moduleSetTag": "tagA",
        "publicCmHandleProperties": {"systemName": "ncmp", "Color": "yellow"},
        "cmHandleProperties": {"segmentId": 7, "password": "a-private-property"},
    }
    handles = [first, {"cmHandle": "ch-2", "alternateId": ODD, "trustLevel": "NONE"}, {"cmHandle": "ch-3"}]
    for plugin, created in (
        (PLUGIN, handles),
        (OTHER_PLUGIN, [{"cmHandle": "ch-4", "alternateId": "/SubNetwork=B"}]),
    ):
        body = {"dmiPlugin": plugin, "createdCmHandles": created}
        answer = await api.post(paths.INVENTORY, body, headers=headers or {})
        assert answer.status == 200, answer.body


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API with four handles."""
    async with northbound_api(database, tmp_path, free_port) as running:
        await fill(running)
        yield running


async def ids(api: Api, path: str, body: Any, **options: Any) -> list[str]:
    """The answer of a search for ids, sorted."""
    answer = await api.post(path, body, **options)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    return sorted(answer.json())


async def test_an_id_search_gives_ids_or_alternate_ids(api: Api) -> None:
    """Northbound and southbound, with ONAP's own bodies; no match is an empty list."""
    for path in (paths.ID_SEARCHES, paths.INVENTORY_ID_SEARCHES):
        for everything in ({}, EVERYTHING):
            assert await ids(api, path, everything) == ["ch-1", "ch-2", "ch-3", "ch-4"]
        assert await ids(api, path + "?outputAlternateId=true", {}) == sorted([FIRST, ODD, "/SubNetwork=B"])
        color = conditions(("hasAllProperties", [{"Color": "yellow"}, {"systemName": "ncmp"}]))
        assert await ids(api, path, color) == ["ch-1"]
        ready = conditions(("cmHandleWithCpsPath", [{"cpsPath": "//state[@cm-handle-state='READY']"}]))
        assert len(await ids(api, path, ready)) == 4
        advised = conditions(("cmHandleWithCpsPath", [{"cpsPath": "//state[@cm-handle-state='ADVISED']"}]))
        assert await ids(api, path, advised) == []
        level = conditions(("cmHandleWithTrustLevel", [{"trustLevel": "NONE"}]))
        assert await ids(api, path, level) == ["ch-2"]
    private = conditions(("hasAllAdditionalProperties", [{"segmentId": "7"}]))
    assert await ids(api, paths.INVENTORY_ID_SEARCHES, private) == ["ch-1"]
    plugin = conditions(("cmHandleWithDmiPlugin", [{"dmiPluginName": OTHER_PLUGIN}]))
    assert await ids(api, paths.INVENTORY_ID_SEARCHES, plugin) == ["ch-4"]


async def test_a_search_for_handles_gives_onaps_objects(api: Api) -> None:
    """v1 in detail, v2 the leaves; the parameter that ONAP's load test sends is accepted."""
    first = conditions(("hasAllProperties", [{"Color": "yellow"}]))
    leaves = {
        "cmHandle": "ch-1",
        "alternateId": FIRST,
        "moduleSetTag": "tagA",
        "dataProducerIdentifier": "some-data-producer-id",
        "trustLevel": "COMPLETE",
    }
    details = leaves | {"publicCmHandleProperties": [{"systemName": "ncmp", "Color": "yellow"}]}
    for path in (paths.SEARCHES, paths.INVENTORY_SEARCHES):
        (found,) = (await api.post(path + "?outputAlternateId=true", first)).json()
        assert found.pop("state")["cmHandleState"] == "READY"
        assert found == details
    for path in (paths.SEARCHES_V2, paths.INVENTORY_SEARCHES_V2):
        assert (await api.post(path + "?outputAlternateId=true", first)).json() == [leaves]
        assert len((await api.post(path, EVERYTHING)).json()) == 4
    (found,) = (await api.post(paths.INVENTORY_SEARCHES + "?outputDmiProperties=true", first)).json()
    assert found["cmHandleProperties"] == {"segmentId": "7", "password": "a-private-property"}


@pytest.mark.parametrize("reference", ["ch-1", FIRST, FIRST[1:], FIRST[1:].replace("/", ",")])
async def test_a_handle_is_found_by_id_and_by_alternate_id(api: Api, reference: str) -> None:
    """The alternate id is one segment of the path, in any spelling of the FDN."""
    path = f"/ncmp/v1/ch/{quote(reference, safe='')}"
    details = (await api.get(path)).json()
    assert details["cmHandle"] == "ch-1"
    assert details["publicCmHandleProperties"] == [{"systemName": "ncmp", "Color": "yellow"}]
    properties = (await api.get(f"{path}/properties")).json()
    assert properties == {"publicCmHandleProperties": [{"systemName": "ncmp", "Color": "yellow"}]}
    assert (await api.get(f"{path}/state")).json() == {"state": details["state"]}
    light = (await api.get(path.replace("v1", "v2"))).json()
    assert light == {name: details[name] for name in light}


async def test_an_alternate_id_with_an_escaped_slash_is_found(api: Api) -> None:
    """What the client encoded twice is decoded once."""
    answer = await api.get(f"/ncmp/v1/ch/{quote(ODD, safe='')}/state")
    assert answer.status == 200, answer.body
    assert (await api.get(f"/ncmp/v2/ch/{quote(ODD, safe='').lower()}")).status == 404


async def test_modules_are_those_that_are_known(api: Api) -> None:
    """None at first, and none of an unknown handle, as in ONAP; then what the plugin has listed."""
    for reference in ("ch-1", "ch-9", quote(FIRST, safe="")):
        assert (await api.get(f"/ncmp/v1/ch/{reference}/modules")).json() == []
    modules = [Module("ran-a", "2024-01-01"), Module("ran-b")]
    await note_handles(api.parts.database)
    async with api.parts.database.transaction() as connection:
        plugin_id = await connection.fetchval("select plugin_id from cm_handle where cm_handle = 'ch-1'")
        assert await answered(connection, plugin_id, [Question("tagA", "", None, None)], modules)
    assert (await api.get(f"/ncmp/v1/ch/{quote(FIRST, safe='')}/modules")).json() == [
        {"moduleName": "ran-a", "revision": "2024-01-01"},
        {"moduleName": "ran-b", "revision": ""},
    ]
    for names, expected in ((("ran-a", "ran-b"), ["ch-1"]), (("ran-a", "ran-c"), [])):
        having = conditions(("hasAllModules", [{"moduleName": name} for name in names]))
        assert await ids(api, paths.ID_SEARCHES, having) == expected
        assert await ids(api, paths.INVENTORY_ID_SEARCHES, having) == expected


async def test_an_object_below_a_handle_names_it(api: Api) -> None:
    """By distinguished name, and as ONAP does it for details; its properties and its state are the handle's
    own."""
    below = f"{FIRST}/GNBDUFunction=1"
    for path in (
        f"{paths.INVENTORY}?distinguishedName={quote(below)}",
        f"/ncmp/v1/ch/{quote(below, safe='')}",
    ):
        assert (await api.get(path)).json()["cmHandle"] == "ch-1"
    assert (await api.get(f"/ncmp/v1/ch/{quote(below, safe='')}/state")).status == 404
    private = f"{paths.INVENTORY}?distinguishedName={quote(below)}&outputDmiProperties=true"
    assert (await api.get(private)).json()["cmHandleProperties"]["segmentId"] == "7"


@pytest.mark.parametrize("reference", ["ch-9", "/SubNetwork=Z", "a b", "%00", "%FF", "searches", "..%2F.."])
async def test_an_unknown_reference_is_a_404(api: Api, reference: str) -> None:
    """It is named. No text is an error."""
    for suffix in ("", "/properties", "/state"):
        answer = await api.get(f"/ncmp/v1/ch/{quote(reference, safe='%')}{suffix}")
        assert answer.status in (404, 405), answer.body


async def test_the_handles_of_a_plugin_are_listed(api: Api) -> None:
    """By its address in any spelling; another text lists none."""
    for address, found in (
        (PLUGIN, ["ch-1", "ch-2", "ch-3"]),
        (PLUGIN.upper().replace("HTTP", "http") + "/", ["ch-1", "ch-2", "ch-3"]),
        (OTHER_PLUGIN, ["ch-4"]),
        ("my-dmi", []),
        ("", []),
    ):
        answer = await api.get(f"{paths.PLUGIN_HANDLES}?dmi-plugin-identifier={quote(address)}")
        assert sorted(answer.json()) == found
    names = await api.get(
        f"{paths.PLUGIN_HANDLES}?dmi-plugin-identifier={quote(OTHER_PLUGIN)}&outputAlternateId=true"
    )
    assert names.json() == ["/SubNetwork=B"]
    assert (await api.get(paths.PLUGIN_HANDLES)).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"cmHandleQueryParameters":[{"conditionName":"hasAllColors"}]}',
        b'{"cmHandleQueryParameters":7}',
    ],
)
async def test_a_body_of_the_wrong_shape_is_a_400(api: Api, body: bytes) -> None:
    """At every search."""
    for path in (
        paths.ID_SEARCHES,
        paths.SEARCHES,
        paths.SEARCHES_V2,
        paths.INVENTORY_ID_SEARCHES,
        paths.INVENTORY_SEARCHES,
        paths.INVENTORY_SEARCHES_V2,
    ):
        assert (await api.post(path, body)).status == 400


async def test_a_removed_handle_is_not_found(api: Api) -> None:
    """By no search and no look-up."""
    assert (await api.post(paths.INVENTORY, {"removedCmHandles": ["ch-1"]})).status == 200
    assert "ch-1" not in await ids(api, paths.ID_SEARCHES, {})
    assert (await api.get("/ncmp/v1/ch/ch-1")).status == 404
    assert (await api.get(f"/ncmp/v1/ch/{quote(FIRST, safe='')}")).status == 404


async def test_a_plugin_sees_its_own_handles_without_private_properties(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """Southbound. Private properties, and searches by them, are for an administrator. Clients have no
    access."""
    tokens = tmp_path / "tokens"
    plugin, admin, client = (
        {"Authorization": f"Bearer {add(tokens, role, role, PLUGIN if role is Role.PLUGIN else None)}"}
        for role in (Role.PLUGIN, Role.ADMIN, Role.READ)
    )
    by_name = f"{paths.INVENTORY}?distinguishedName="
    private = conditions(("hasAllAdditionalProperties", [{"segmentId": "7"}]))
    async with northbound_api(database, tmp_path, free_port, tokens_file=tokens) as api:
        await fill(api, admin)
        own = ["ch-1", "ch-2", "ch-3"]
        assert await ids(api, paths.INVENTORY_ID_SEARCHES, {}, headers=plugin) == own
        assert await ids(api, paths.INVENTORY_ID_SEARCHES, {}, headers=admin) == [*own, "ch-4"]
        assert await ids(api, paths.ID_SEARCHES, {}, headers=client) == [*own, "ch-4"]
        other = conditions(("cmHandleWithDmiPlugin", [{"dmiPluginName": OTHER_PLUGIN}]))
        assert await ids(api, paths.INVENTORY_ID_SEARCHES, other, headers=plugin) == []
        listed = f"{paths.PLUGIN_HANDLES}?dmi-plugin-identifier={quote(OTHER_PLUGIN)}"
        assert (await api.get(listed, headers=plugin)).json() == []
        assert (await api.get(listed, headers=admin)).json() == ["ch-4"]
        assert (await api.get(by_name + quote(FIRST), headers=plugin)).status == 200
        assert (await api.get(by_name + "/SubNetwork=B", headers=plugin)).status == 404
        for headers, status in ((plugin, 403), (client, 403), (admin, 200)):
            for path in (paths.INVENTORY_SEARCHES, paths.INVENTORY_SEARCHES_V2):
                answer = await api.post(f"{path}?outputDmiProperties=true", {}, headers=headers)
                assert (answer.status, b"a-private-property" in answer.body) == (status, status == 200)
                assert (await api.post(path, private, headers=headers)).status == status
            answer = await api.get(f"{by_name}{quote(FIRST)}&outputDmiProperties=true", headers=headers)
            assert (answer.status, b"a-private-property" in answer.body) == (status, status == 200)
        assert (await api.post(paths.ID_SEARCHES, private, headers=admin)).status == 400
        assert (await api.post(paths.SEARCHES, {}, headers=plugin)).status == 403


async def many(api: Api, size: int = 2000) -> None:
    """Register handles whose search has many batches: the properties of each have ``size`` bytes."""
    handles = [{"cmHandle": f"many-{number}"} for number in range(5000)]
    assert (await api.post(paths.INVENTORY, {"dmiPlugin": PLUGIN, "createdCmHandles": handles})).status == 200
    text = "x" * size
    await api.rows("update cm_handle set public_properties = jsonb_build_object('text', $1::text)", text)


async def until_no_transaction(api: Api) -> None:
    """Return once no session of the API is in a transaction."""
    query = (
        "select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        " and xact_start is not null having count(*) = 0"
    )
    await until(lambda: api.rows(query))


async def test_a_client_that_goes_away_ends_its_query(api: Api) -> None:
    """Its transaction ends although most rows are not read; the next searches find their slots."""
    await many(api)
    for _ in range(6):
        async with api.session.post(
            api.root + paths.SEARCHES, json={}, headers={"Content-Type": "application/json"}
        ) as response:
            assert await response.content.readexactly(1) == b"["
            response.close()
    await until_no_transaction(api)
    assert len(await ids(api, paths.ID_SEARCHES, {})) == 5004


async def test_a_client_that_reads_nothing_holds_no_connection(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its search ends after a while, though it stays connected; its answer ends with its connection."""
    monkeypatch.setattr(inventory, "READER_WITHIN", 0.2)
    await many(api, 30_000)  # more than the buffers on the way take
    async with api.session.post(
        api.root + paths.SEARCHES, json={}, headers={"Content-Type": "application/json"}, read_bufsize=1
    ) as response:
        assert await response.content.readexactly(1) == b"["
        await until_no_transaction(api)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_an_error_of_the_database_within_an_answer_ends_the_connection(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client cannot take the part that it has for the whole."""
    await many(api)

    async def breaks_off(*_args: Any, **_options: Any) -> AsyncIterator[list[bytes]]:
        yield [b'"a"'] * 1000
        raise StoreUnavailable("the database does not answer")

    monkeypatch.setattr(api.parts.searches, "search", breaks_off)
    async with api.session.post(
        api.root + paths.ID_SEARCHES, json={}, headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_an_error_before_the_first_byte_has_its_status(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After."""

    async def breaks(*_args: Any, **_options: Any) -> AsyncIterator[list[bytes]]:
        raise StoreUnavailable("the database does not answer")
        yield []

    monkeypatch.setattr(api.parts.searches, "search", breaks)
    answer = await api.post(paths.ID_SEARCHES, {})
    assert answer.status == 503
    assert "Retry-After" in answer.headers


@changes_nothing
async def test_an_empty_inventory_is_an_empty_list(unchanged: Api) -> None:
    """At every search."""
    for path in (paths.ID_SEARCHES, paths.SEARCHES, paths.SEARCHES_V2, paths.INVENTORY_SEARCHES):
        assert (await unchanged.post(path, {})).json() == []
