# SPDX-License-Identifier: Apache-2.0
"""A policy executor that decides quickly: the rest of a measurement is the service's own cost.

It denies operations whose ``userLabel`` is one that ``POST /denied`` lists. ``GET /requests`` returns the
number of requests so far.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import uvloop
from aiohttp import web

from ran_datajobs.plugins.policy import PERMISSIONS


class Attributes(msgspec.Struct, rename="camel"):
    """The attribute that is decided on."""

    user_label: str = ""


class Instance(msgspec.Struct):
    """An object of a change request."""

    attributes: Attributes


class Asked(msgspec.Struct, rename="camel"):
    """The parsed part of an operation."""

    change_request: dict[str, list[Instance]]


class Request(msgspec.Struct):
    """The parsed part of a request."""

    operations: list[Asked]


_REQUEST = msgspec.json.Decoder(Request)


class Bench:
    """Counts requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.denied: frozenset[str] = frozenset()

    async def decide(self, request: web.Request) -> web.Response:
        """Answer for all operations of a request."""
        self.requests += 1
        operations = _REQUEST.decode(await request.read()).operations
        changed = (objects for each in operations for objects in each.change_request.values())
        is_denied = any(one.attributes.user_label in self.denied for some in changed for one in some)
        result = "deny" if is_denied else "allow"
        return _json({"id": str(self.requests), "permissionResult": result, "message": "locked"})

    async def deny(self, request: web.Request) -> web.Response:
        """Deny these labels from now on."""
        self.denied = frozenset(msgspec.json.decode(await request.read(), type=list[str]))
        return _json({})

    async def count(self, _request: web.Request) -> web.Response:
        """The number of requests."""
        return _json({"requests": self.requests})


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def main() -> None:
    """Serve on the port of the command line."""
    bench = Bench()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_routes(
        [
            web.post(PERMISSIONS, bench.decide),
            web.post("/denied", bench.deny),
            web.get("/requests", bench.count),
        ]
    )
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=lambda *_: None, access_log=None)


if __name__ == "__main__":
    main()
