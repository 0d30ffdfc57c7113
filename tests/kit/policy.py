# SPDX-License-Identifier: Apache-2.0
"""Policy executor for tests, on a real HTTP server: decides by a function of one operation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiohttp import web

from ran_datajobs.plugins.policy import PERMISSIONS

Asked = dict[str, Any]
"""One operation as the policy executor is asked for it."""


def allows_all(_asked: Asked) -> str | None:
    """Deny nothing."""
    return None


class ScriptedPolicy:
    """Policy executor that :meth:`serving` runs. It answers ``deny`` with the message that ``denies`` returns
    for the first operation with one, else ``allow``.

    ``statuses``: of the next answers, before such ones. ``held``: a request waits for it, if it is set.
    ``requests`` and ``authorizations``: the operations and the header of each request, in order.
    """

    def __init__(self, denies: Callable[[Asked], str | None] = allows_all) -> None:
        self.denies = denies
        self.statuses: list[int] = []
        self.held: asyncio.Event | None = None
        self.requests: list[list[Asked]] = []
        self.authorizations: list[str | None] = []

    @property
    def asked(self) -> list[Asked]:
        """The operations of all requests, in order."""
        return [each for request in self.requests for each in request]

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Listen for the duration of the block and yield the base address."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes([web.post(PERMISSIONS, self._answer)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read())
        assert body["changeRequestFormat"] == "cm-legacy"
        operations: list[Asked] = body["operations"]
        self.requests.append(operations)
        self.authorizations.append(request.headers.get("Authorization"))
        if self.held is not None:
            await self.held.wait()
        if self.statuses:
            return web.json_response({"title": "it is a test"}, status=self.statuses.pop(0))
        message = next((found for each in operations if (found := self.denies(each)) is not None), None)
        result = "allow" if message is None else "deny"
        answer = {"id": str(len(self.requests)), "permissionResult": result, "message": message or "all good"}
        return web.json_response(answer)
