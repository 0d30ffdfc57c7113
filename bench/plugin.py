# SPDX-License-Identifier: Apache-2.0
"""A DMI plugin that executes nothing, quickly: the rest of a measurement is the service's own cost. Its
results have the form of the contract, one response for each operation.

``GET /acknowledged`` returns the number of answered creates and the time of the last one, by the machine's
monotonic clock.
"""

from __future__ import annotations

import sys
import time

import msgspec
import uvloop
from aiohttp import web


class Line(msgspec.Struct, rename="camel"):
    """The stored part of an operation."""

    operation_id: str | int


class Create(msgspec.Struct):
    """The parsed part of a create."""

    data: list[Line]


_CREATE = msgspec.json.Decoder(Create)


class Bench:
    """Counts creates. Every job is finished at once, and all its operations have succeeded."""

    def __init__(self) -> None:
        self.creates = 0
        self.last = 0.0
        self.bodies: dict[str, bytes] = {}

    async def create(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.creates += 1
        self.last = time.monotonic()
        job = f"job-{self.creates}"
        self.bodies[job] = body
        return _json({"dataProducerJobId": job}, status=202)

    async def status(self, _request: web.Request) -> web.Response:
        return _json({"status": "FINSHED"})

    async def result(self, request: web.Request) -> web.Response:
        lines = _CREATE.decode(self.bodies.pop(request.match_info["job"])).data
        return _json(
            {
                "responses": [
                    {"operationId": line.operation_id, "statusCode": 0, "state": "SUCCEEDED"}
                    for line in lines
                ]
            }
        )

    async def acknowledged(self, _request: web.Request) -> web.Response:
        return _json({"creates": self.creates, "last": self.last})


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")


def plugin_app() -> web.Application:
    """The plugin as an application, with its counter at 0."""
    bench = Bench()
    app = web.Application(client_max_size=1 << 30)
    job = "/dmi/v1/dataJob/{request}"
    app.router.add_post(job, bench.create)
    app.router.add_get(job + "/dataProducerJob/{job}/status", bench.status)
    app.router.add_get(job + "/dataProducerJob/{job}/result", bench.result)
    app.router.add_get("/acknowledged", bench.acknowledged)
    return app


def main(port: int) -> None:
    """Serve until a signal."""
    web.run_app(
        plugin_app(), host="127.0.0.1", port=port, print=None, access_log=None, loop=uvloop.new_event_loop()
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
