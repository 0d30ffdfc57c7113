# SPDX-License-Identifier: Apache-2.0
"""The southbound interface of an NCMP, its inventory in memory, and its events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from ran_datajobs.messaging.bus import Message

Handle = dict[str, Any]
"""A handle as a search shows it, and ``plugin``, which it does not show."""

STATES: Final = {"create": "ADVISED", "update": "READY", "delete": "DELETED"}


def handle(name: str, plugin: str, **members: Any) -> Handle:
    """A handle of ``plugin``, with an alternate id of its own."""
    return {
        "cmHandle": name,
        "alternateId": f"/ManagedElement={name}",
        "dataProducerIdentifier": "p",
        "moduleSetTag": "",
        "publicCmHandleProperties": [{"Color": "yellow"}],
        "cmHandleProperties": {"segmentId": "7"},
        "trustLevel": "NONE",
        "state": {"cmHandleState": "READY"},
        "plugin": plugin,
        **members,
    }


class Ncmp:
    """Answers searches and look-ups. ``asked``: the number of calls by their kind.

    ``status``: the answer to every call, unless it is 200. ``unlisted``: handles that the search lacks,
    ``unknown``: handles that a look-up does not find. ``items``: raw items at the end of a search.
    """

    def __init__(self, authorization: str | None = None) -> None:
        self.handles: dict[str, Handle] = {}
        self.status = 200
        self.unlisted: set[str] = set()
        self.unknown: set[str] = set()
        self.items: list[bytes] = []
        self.asked: Counter[str] = Counter()
        self.searching: asyncio.Event | None = None  # set: the next search waits until it is cleared
        self._authorization = authorization

    def put(self, *handles: Handle) -> None:
        """Register handles, or change them."""
        self.handles |= {each["cmHandle"]: each for each in handles}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address during the block."""
        app = web.Application()
        app.router.add_post("/ncmpInventory/v1/ch/searchCmHandles", self._search)
        app.router.add_get("/ncmpInventory/v1/ch/cmHandles", self._handles_of)
        app.router.add_get("/ncmpInventory/v1/ch", self._look_up)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    def _refusal(self, request: web.Request, kind: str) -> web.Response | None:
        self.asked[kind] += 1
        if self._authorization not in (None, request.headers.get("Authorization")):
            return web.Response(status=401)
        return None if self.status == 200 else web.Response(status=self.status)

    async def _search(self, request: web.Request) -> web.Response:
        assert (await request.json()) == {"cmHandleQueryParameters": []}
        assert request.query == {"outputDmiProperties": "true"}
        if refusal := self._refusal(request, "search"):
            return refusal
        found = [_shown(each) for name, each in self.handles.items() if name not in self.unlisted]
        if self.searching is not None:
            await self.searching.wait()
        items = [json.dumps(each).encode() for each in found] + self.items
        return web.Response(body=b"[" + b",".join(items) + b"]", content_type="application/json")

    async def _handles_of(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, "plugin"):
            return refusal
        plugin = request.query["dmi-plugin-identifier"]
        return web.json_response([name for name, each in self.handles.items() if plugin in each["plugin"]])

    async def _look_up(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, "look-up"):
            return refusal
        name = request.query["distinguishedName"]
        if name in self.unknown or name not in self.handles:
            return web.json_response(
                {"status": "404 NOT_FOUND", "message": "Cm handle not found", "details": name}, status=404
            )
        return web.json_response(_shown(self.handles[name]))


def _shown(each: Handle) -> Handle:
    return {name: value for name, value in each.items() if name != "plugin"}


def event(name: str, kind: str, version: int = 2) -> Message:
    """An LCM event of version 1 or 2 about a handle."""
    values: dict[str, Any] = {"dataSyncEnabled": False, "cmHandleState": STATES[kind]}
    payload: dict[str, Any] = {"cmHandleId": name, "alternateId": f"/ManagedElement={name}"}
    if kind != "delete":
        payload["newValues"] = values
    if version == 1:
        payload |= {"moduleSetTag": "", "dataProducerIdentifier": "p"}
        if kind == "create":
            values["cmHandleProperties"] = [{"Color": "yellow"}]
    fields = {
        "eventId": "8c6a0a4e",
        "eventCorrelationId": name,
        "eventTime": "2026-11-26T14:05:55.284+0000",
        "eventSource": "org.onap.ncmp",
        "eventType": f"org.onap.ncmp.cmhandle-lcm-event.{kind}",
        "eventSchema": f"org.onap.ncmp:cmhandle-lcm-event.v{version}",
        "eventSchemaVersion": "1.0",
    }
    return Message(name, {}, json.dumps({"event": payload, **fields}).encode())


def java_headers(message: Message) -> list[tuple[str, bytes]]:
    """The headers of an event as NCMP sends them: texts that ``java.io.ObjectOutputStream`` wrote."""
    return [
        (name, b"\xac\xed\x00\x05t" + struct.pack(">H", len(text)) + text.encode())
        for name, text in json.loads(message.value).items()
        if isinstance(text, str)
    ]
