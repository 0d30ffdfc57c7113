# SPDX-License-Identifier: Apache-2.0
"""A DMI plugin that does nothing, quickly: what remains of a measurement is the service's own cost.

``GET /acknowledged`` tells how many creates were answered and when the last one was, by the machine's
monotonic clock.
"""

from __future__ import annotations

import sys
import time

from aiohttp import web


class Bench:
    """Counts creates; every job is finished at once, with a result of no known shape."""

    def __init__(self) -> None:
        self.creates = 0
        self.last = 0.0

    async def create(self, request: web.Request) -> web.Response:
        await request.read()
        self.creates += 1
        self.last = time.monotonic()
        return web.json_response({"dataProducerJobId": f"job-{self.creates}"}, status=202)

    async def status(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "FINSHED"})

    async def result(self, _request: web.Request) -> web.Response:
        return web.json_response({})

    async def acknowledged(self, _request: web.Request) -> web.Response:
        return web.json_response({"creates": self.creates, "last": self.last})


def plugin_app() -> web.Application:
    """The plugin as an application; it has counted nothing yet."""
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
    web.run_app(plugin_app(), host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
