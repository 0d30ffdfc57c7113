# SPDX-License-Identifier: Apache-2.0
"""Notifications of the simulated network: none at the start, then every change once and in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.http.server import serving
from ran_datajobs.nrm import json_patch
from ran_datajobs.simulator import layout, wire
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.notifications import moi_changes, read_consumer
from ran_datajobs.simulator.server import provmns_app

CELL = f"{layout.element_key(1)}/GNBDUFunction=1/NRCellDU=1"
FREQUENCY = f"{layout.element_key(1)}/GNBCUCPFunction=1/EUtranFrequency=12"
DEADLINE = 20.0


@pytest.fixture
async def consumer() -> AsyncIterator[tuple[str, asyncio.Queue[Any]]]:
    """A consumer: its address, and the notifications that it received."""
    got: asyncio.Queue[Any] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        got.put_nowait(await request.json())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/changes", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/changes", got
    await runner.cleanup()


async def test_changes_are_told_once_they_are_asked_for(consumer: tuple[str, asyncio.Queue[Any]]) -> None:
    """None before the subscription, and none for a refused document. Then each document is one notification,
    numbered from 1, whose entries give the old and the new values. None after the end."""
    address, got = consumer
    async with (
        serving(provmns_app(Network(20)), "127.0.0.1", 0) as server,
        aiohttp.ClientSession(server) as client,
    ):

        async def patch(*items: dict[str, Any], status: int = 204) -> None:
            kind = {"Content-Type": wire.THREE_GPP_PATCHES[0]}
            path = f"{wire.PROVMNS}/{layout.element_key(1)}"
            async with client.patch(path, data=json.dumps(items), headers=kind) as answer:
                assert answer.status == status, await answer.text()

        cell = CELL.removeprefix(layout.element_key(1))
        frequency = FREQUENCY.removeprefix(layout.element_key(1))
        await patch({"op": "replace", "path": f"{cell}#/attributes/nRPCI", "value": 1})
        async with client.put(wire.NOTIFICATIONS, json={"consumer": address}) as answer:
            assert answer.status == 204
        await patch({"op": "replace", "path": f"{cell}#/attributes/nRPCI", "value": 5000}, status=422)
        await patch({"op": "replace", "path": f"{cell}#/attributes/nRPCI", "value": 2})
        await patch({"op": "replace", "path": f"{cell}#/attributes/nRPCI", "value": 2})
        new = {"id": "12", "objectClass": "EUtranFrequency", "attributes": {"earfcnDL": 100}}
        await patch({"op": "add", "path": frequency, "value": new})
        await patch({"op": "remove", "path": frequency})
        async with asyncio.timeout(DEADLINE):
            first, second, third = [await got.get() for _ in range(3)]
        async with client.delete(wire.NOTIFICATIONS) as answer:
            assert answer.status == 204
        async with client.get(wire.NOTIFICATIONS) as answer:
            assert await answer.json() == {"consumer": ""}
        await patch({"op": "replace", "path": f"{cell}#/attributes/nRPCI", "value": 3})
    assert got.empty()
    assert [each["notificationId"] for each in (first, second, third)] == [1, 2, 3]
    assert {each["notificationType"] for each in (first, second, third)} == {"notifyMOIChanges"}
    [change] = first["moiChanges"]
    assert (change["op"], change["path"], change["value"], change["oldValue"]) == (
        "replace", f"/{CELL}#/attributes/nRPCI", 2, 1,
    )  # fmt: skip
    assert [each["op"] for each in second["moiChanges"]] == ["add"]
    assert second["moiChanges"][0]["value"]["attributes"]["earfcnDL"] == 100
    assert [(each["op"], each["path"]) for each in third["moiChanges"]] == [("remove", f"/{FREQUENCY}")]


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b"[", b'{"consumer":7}', b'{"consumer":"http://192.0.2.1:80/"}', b'{"consumer":"x"}',
        b'{"consumer":"http://127.0.0.1/"}', b'{"consumer":"https://127.0.0.1:1/"}',
        b'{"consumer":"http://127.0.0.1:99999/"}', b'{"consumer":"http://localhost.example:80/"}',
        b'{"consumer":"http://[::1"}', b'{"consumer":"http://127.0.0.1:1/","more":1}',
    ],
)  # fmt: skip
def test_only_a_consumer_on_this_machine_is_taken(body: bytes) -> None:
    """Any other consumer is refused with a reason."""
    with pytest.raises(InvalidRequest):
        read_consumer(body)


attributes = st.none() | st.dictionaries(st.sampled_from("abcd"), st.sampled_from([1, 1.0, True, "x", []]))


@given(attributes, attributes)
def test_the_entries_lead_from_the_old_state_to_the_new_one(old: Any, new: Any) -> None:
    """Applying the entries to the old attributes gives the new ones. Equal states have no entry."""
    changes = list(moi_changes("A=1", old, new))
    if old is None or new is None:
        assert [each["op"] for each in changes] == (
            [] if old is new else ["add" if new is not None else "remove"]
        )
        return
    state = dict(old)
    for change in changes:
        name = change["path"].rpartition("/")[2]
        assert ("oldValue" in change) is (name in old)
        if change["op"] == "remove":
            del state[name]
        else:
            state[name] = change["value"]
    assert json_patch.same(state, new)
