# SPDX-License-Identifier: Apache-2.0
"""DMI plugin that behaves as ONAP's do, and has no part of this project's additions.

Paths, statuses and bodies are those of ONAP's plugin and of its stub (``cps-ncmp-dmi-plugin``): HTTP Basic on
everything but ``/actuator``, JSON bodies only, ``FINISHED`` as the status of every job, and a result without
outcomes. Any other path is 404. Nothing is executed.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

from aiohttp import web

USER: Final = "cpsuser"
PASSWORD: Final = "a-password"

MODULES: Final = (
    {"moduleName": "module100", "revision": "2024-01-01", "namespace": "urn:module100"},
    {"moduleName": "module101", "revision": "2024-01-01", "namespace": "urn:module101"},
)
"""The modules of every CM handle."""


class Received(NamedTuple):
    """A request that was answered with 2xx."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


class OnapPlugin:
    """The plugin that :meth:`serving` runs. ``received``: its requests; ``healthy``: what it says of itself;
    ``jobs``: whether it has the calls of data jobs, which ONAP's own plugin answers with 501."""

    def __init__(self, *, jobs: bool = True) -> None:
        self.received: list[Received] = []
        self.refused: list[tuple[int, str, str]] = []
        self.healthy = True
        self._has_jobs = jobs
        self._jobs = 0

    def of(self, path: str) -> list[Received]:
        """The requests whose path has ``path`` in it."""
        return [each for each in self.received if path in each.path]

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Listen during the block. Yields the base address."""
        app = web.Application(middlewares=[self._guard], client_max_size=64 << 20)
        job = "/dmi/v1/cmwriteJob/dataProducer/{producer}/dataProducerJob/{job}"
        app.add_routes(
            [
                web.get("/actuator/health", self._health),
                web.post("/dmi/v1/ch/{handle}/modules", self._modules),
                web.post("/dmi/v1/ch/{handle}/moduleResources", self._module_resources),
                web.post("/dmi/v1/cmwriteJob", self._create),
                web.post("/dmi/v1/cmreadJob", self._create),
                web.get(job + "/status", self._status),
                web.get(job + "/result", self._result),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.read()
        answer = await self._answered(request, body, handler)
        if answer.status < 300:
            document = json.loads(body) if body else None
            self.received.append(
                Received(request.method, request.path, dict(request.query), dict(request.headers), document)
            )
        else:
            self.refused.append((answer.status, request.method, request.path))
        return answer

    async def _answered(self, request: web.Request, body: bytes, handler: Any) -> web.StreamResponse:
        authorization = request.headers.get("Authorization")
        if not request.path.startswith("/actuator") and authorization != _BASIC:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="Realm"'})
        if body and request.content_type != "application/json" and request.match_info.http_exception is None:
            return _error(415, f"Content-Type '{request.content_type}' is not supported.")
        try:
            found: web.StreamResponse = await handler(request)
        except web.HTTPException as error:
            return _error(error.status, error.reason)
        return found

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"status": "UP" if self.healthy else "DOWN"}, status=200 if self.healthy else 503
        )

    async def _modules(self, _request: web.Request) -> web.Response:
        return web.json_response({"schemas": MODULES})

    async def _module_resources(self, request: web.Request) -> web.Response:
        wanted = (await request.json())["data"]["modules"]
        found = [
            {
                "moduleName": each["name"],
                "revision": each["revision"],
                "yangSource": f"module {each['name']} {{}}",
            }
            for each in wanted
        ]
        return web.json_response(found)

    async def _create(self, request: web.Request) -> web.Response:
        self._needs_destination(request)
        document = await request.json()
        if not isinstance(document.get("data"), list):
            return _error(400, "Bad Request")
        self._jobs += 1
        created = {
            "subJobId": str(self._jobs),
            "dmiServiceName": "some-dmi-service-name",
            "dataProducerId": "my-data-producer-id",
        }
        return web.json_response(created)

    async def _status(self, request: web.Request) -> web.Response:
        self._needs_job(request)
        return web.json_response({"status": "FINISHED"})

    async def _result(self, request: web.Request) -> web.Response:
        self._needs_destination(request)
        self._needs_job(request)
        return web.json_response({"result": "some status"})

    def _needs_destination(self, request: web.Request) -> None:
        if not self._has_jobs:
            raise web.HTTPNotImplemented
        if "destination" not in request.query:
            raise web.HTTPBadRequest

    def _needs_job(self, request: web.Request) -> None:
        if not self._has_jobs:
            raise web.HTTPNotImplemented
        if not 0 < int(request.match_info["job"]) <= self._jobs:
            raise web.HTTPNotFound


_BASIC: Final = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def _error(status: int, detail: str | None) -> web.Response:
    return web.json_response({"status": status, "error": detail}, status=status)
