# SPDX-License-Identifier: Apache-2.0
"""A client of NCMP's inventory interfaces: addresses, bodies and answers of ONAP alone.

The bodies are those of ONAP's load test and of its collection of requests, written anew.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from tests.kit.worker_parts import until

READY: Final = "//state[@cm-handle-state='READY']"
MODULE_SET_TAGS: Final = ("tagA", "tagB", "tagC", "tagD", "tagE")
PRODUCER: Final = "some-data-producer-id"


class Answer(NamedTuple):
    """An answer with its decoded body; None for an empty one."""

    status: int
    body: Any
    media_type: str


def alternate_id(number: int) -> str:
    """The alternate id of a handle of the load test."""
    return (
        "/SubNetwork=Europe/SubNetwork=Ireland"
        f"/MeContext=MyRadioNode{number}/ManagedElement=MyManagedElement{number}"
    )


def load_test_handle(number: int) -> dict[str, Any]:
    """A handle as the load test creates it: some properties are numbers."""
    tag = MODULE_SET_TAGS[number % len(MODULE_SET_TAGS)]
    return {
        "cmHandle": f"ch-{number}",
        "alternateId": alternate_id(number),
        "moduleSetTag": tag,
        "dataProducerIdentifier": PRODUCER,
        "cmHandleProperties": {
            "segmentId": number,
            "networkSegment": f"Region=NorthAmerica,Segment={number % 10 + 1}",
            "deviceIdentifier": f"Element=RadioBaseStation_5G_{number + 1000}",
            "hardwareVersion": f"HW-{tag}",
            "softwareVersion": f"Firmware_{tag}",
            "syncStatus": "ACTIVE",
            "nodeCategory": "VirtualNode",
        },
        "publicCmHandleProperties": {"systemId": number, "systemName": "ncmp"},
    }


def conditions(*named: tuple[str, Sequence[dict[str, str]]]) -> dict[str, Any]:
    """The body of a search: all of these conditions must hold."""
    return {
        "cmHandleQueryParameters": [
            {"conditionName": name, "conditionParameters": list(parameters)} for name, parameters in named
        ]
    }


def cps_path(path: str) -> dict[str, Any]:
    """The body of a search by one CPS path."""
    return conditions(("cmHandleWithCpsPath", [{"cpsPath": path}]))


class OnapClient:
    """Sends requests to a service at ``root``."""

    def __init__(self, root: str, session: aiohttp.ClientSession) -> None:
        self._root = root
        self._session = session

    async def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request. ``path`` is sent as it is, with its query."""
        url = URL(self._root + path, encoded=True)
        data = None if body is None else io.BytesIO(json.dumps(body).encode())
        sent = {"Content-Type": "application/json"} | (headers or {})
        async with self._session.request(method, url, data=data, headers=sent) as response:
            text = await response.read()
            with contextlib.suppress(ValueError):
                return Answer(response.status, await response.json(content_type=None), response.content_type)
            return Answer(response.status, text, response.content_type)

    async def register(self, plugin: str, **changes: Any) -> Answer:
        """A registration of a DMI plugin."""
        return await self.ask("POST", "/ncmpInventory/v1/ch", {"dmiPlugin": plugin, **changes})

    async def registered(self, plugin: str, handles: Iterable[dict[str, Any]], **fields: Any) -> None:
        """Register handles that are all taken: 200 and an empty body, as NCMP answers."""
        answer = await self.register(plugin, createdCmHandles=list(handles), **fields)
        assert answer[:2] == (200, None), answer

    async def of_handle(self, reference: str, what: str = "", version: str = "v1") -> Answer:
        """What a GET says of a handle by its id or alternate id; ``what`` is a part of it."""
        return await self.ask("GET", f"/ncmp/{version}/ch/{quote(reference, safe='')}{what}")

    async def ids(self, body: Any, path: str = "/ncmp/v1/ch/id-searches", **query: str) -> list[str]:
        """The ids that a search finds."""
        text = "&".join(f"{name}={value}" for name, value in query.items())
        answer = await self.ask("POST", path + (f"?{text}" if text else ""), body)
        assert answer.status == 200, answer
        found: list[str] = answer.body
        return found

    async def until_found(self, number: int, body: Any, **query: str) -> None:
        """Poll a search until it finds this number of handles."""

        async def all_found() -> bool:
            return len(await self.ids(body, **query)) == number

        await until(all_found)

    async def until_ready(self, number: int) -> None:
        """Poll as the load test does, until this number of handles is READY."""
        await self.until_found(number, cps_path(READY), outputAlternateId="true")


@contextlib.asynccontextmanager
async def onap_client(root: str) -> AsyncIterator[OnapClient]:
    """A client during the block."""
    async with aiohttp.ClientSession() as session:
        yield OnapClient(root, session)
