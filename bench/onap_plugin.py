# SPDX-License-Identifier: Apache-2.0
"""A DMI plugin that answers as ONAP's stub does in its load test: 200 modules for each module set tag, a read
takes 300 ms and a write of one operation 670 ms, and the operations of a data job take no time.

``python -m bench.onap_plugin PORT [SERVICE]``. If the address of the service is given, the plugin reports to
it that a job has ended, as the reference plugin does and ONAP's stub does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import msgspec
import uvloop
from aiohttp import web
from msgspec import Struct

READ_TAKES: Final = 0.300
WRITE_TAKES: Final = 0.670
"""Seconds; the load test subtracts them from its figures of single reads and writes."""

REPORTED_AFTER: Final = 0.02
"""Seconds between the answer to a create and the report at the earliest: the answer is recorded first."""

_MODULES: Final = 200
_MODULES_TAKE: Final = 0.1


class Line(Struct, rename="camel"):
    """The parsed part of an operation."""

    operation_id: str | int


class Create(Struct, rename="camel"):
    """The parsed part of a create."""

    data: list[Line]
    data_producer_id: str = ""


class Job(Struct, frozen=True):
    """An accepted job, which has ended at ``ends``, by the monotonic clock."""

    create: Create
    is_read: bool
    ends: float


_CREATE: Final = msgspec.json.Decoder(Create)


def _json(answer: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


class OnapPlugin:
    """Keeps the jobs whose result was not fetched. ``service``: whom it reports to, if anyone."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._jobs: dict[str, Job] = {}
        self._accepted = 0
        self._reports: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession

    async def running(self, _app: web.Application) -> AsyncIterator[None]:
        """Keeps connections to the service while the application runs."""
        async with aiohttp.ClientSession() as self._session:
            yield

    async def health(self, _request: web.Request) -> web.Response:
        return _json({"status": "UP"})

    async def modules(self, _request: web.Request) -> web.Response:
        await asyncio.sleep(_MODULES_TAKE)
        names = (f"module{number}" for number in range(_MODULES))
        return _json({"schemas": [{"moduleName": name, "revision": "2024-01-01"} for name in names]})

    async def write(self, request: web.Request) -> web.Response:
        return self._accept(request, await request.read(), is_read=False)

    async def read(self, request: web.Request) -> web.Response:
        return self._accept(request, await request.read(), is_read=True)

    def _accept(self, request: web.Request, body: bytes, *, is_read: bool) -> web.Response:
        create = _CREATE.decode(body)
        self._accepted += 1
        job = str(self._accepted)
        takes = 0.0 if len(create.data) > 1 else READ_TAKES if is_read else WRITE_TAKES
        self._jobs[job] = Job(create, is_read, time.monotonic() + takes)
        if self._service:
            report = asyncio.create_task(self._report(request.headers["Idempotency-Key"], job, takes))
            self._reports.add(report)
            report.add_done_callback(self._reports.discard)
        return _json({"subJobId": job, "dmiServiceName": "onap", "dataProducerId": create.data_producer_id})

    async def _report(self, sub_job: str, job: str, takes: float) -> None:
        await asyncio.sleep(max(takes, REPORTED_AFTER))
        url = f"{self._service}/ncmp/v1/subJobs/{sub_job}/status"
        with contextlib.suppress(aiohttp.ClientError):
            await self._session.post(url, json={"dataProducerJobId": job, "status": "FINSHED"})

    async def status(self, request: web.Request) -> web.Response:
        job = self._jobs.get(request.match_info["job"])
        if job is None:
            raise web.HTTPNotFound
        return _json({"status": "FINISHED" if time.monotonic() >= job.ends else "RUNNING"})

    async def result(self, request: web.Request) -> web.Response:
        job = self._jobs.pop(request.match_info["job"], None)
        if job is None:
            raise web.HTTPNotFound
        done: dict[str, Any] = {"statusCode": 0, "statusMessage": "done", "state": "SUCCEEDED"}
        if job.is_read:
            done["result"] = {"id": "exampleResourceId"}
        return _json({"responses": [{"operationId": line.operation_id, **done} for line in job.create.data]})


def plugin_app(service: str = "") -> web.Application:
    """The plugin as an application."""
    plugin = OnapPlugin(service)
    app = web.Application(client_max_size=1 << 30)
    app.cleanup_ctx.append(plugin.running)
    app.router.add_get("/actuator/health", plugin.health)
    app.router.add_post("/dmi/v1/ch/{handle}/modules", plugin.modules)
    app.router.add_post("/dmi/v1/cmwriteJob", plugin.write)
    app.router.add_post("/dmi/v1/cmreadJob", plugin.read)
    job = "/dmi/v1/cmwriteJob/dataProducer/{producer}/dataProducerJob/{job}"
    app.router.add_get(f"{job}/status", plugin.status)
    app.router.add_get(f"{job}/result", plugin.result)
    return app


if __name__ == "__main__":
    web.run_app(
        plugin_app(*sys.argv[2:]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        access_log=None,
        loop=uvloop.new_event_loop(),
    )
