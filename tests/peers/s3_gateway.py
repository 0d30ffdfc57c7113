# SPDX-License-Identifier: Apache-2.0
"""A gateway in front of a real S3 service that answers some requests itself, as other services do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

from tests.peers.s3 import S3Service

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length"}


class Gateway:
    """``answers`` returns the (status, code) of a request that is not passed on, ``None`` for all others.

    ``hides_what_is_missing``: a missing key is a 403, as for keys without the permission to list.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.answers: Callable[[web.Request], tuple[int, str] | None] = lambda _request: None
        self.hides_what_is_missing = False
        self.seen: list[tuple[str, str]] = []

    @contextlib.asynccontextmanager
    async def before(self, service: S3Service) -> AsyncIterator[Gateway]:
        """Serve in front of ``service`` until the end of the block."""
        async with aiohttp.ClientSession(auto_decompress=False) as session:

            async def handle(request: web.Request) -> web.Response:
                return await self._handle(request, service, session)

            app = web.Application(client_max_size=100_000_000)
            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _handle(
        self, request: web.Request, service: S3Service, session: aiohttp.ClientSession
    ) -> web.Response:
        self.seen.append((request.method, request.path_qs))
        if answer := self.answers(request):
            return _error(*answer)
        async with session.request(
            request.method,
            service.endpoint + request.raw_path,
            data=await request.read(),
            headers={**request.headers},  # Host is signed
        ) as passed:
            body = await passed.read()
            if self.hides_what_is_missing and passed.status == 404 and b"NoSuchBucket" not in body:
                return _error(403, "AccessDenied")
            headers = {
                name: value for name, value in passed.headers.items() if name.lower() not in _HOP_BY_HOP
            }
            return web.Response(status=passed.status, body=body, headers=headers)


def _error(status: int, code: str) -> web.Response:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>as it is</Message></Error>'
    return web.Response(status=status, text=body, content_type="application/xml")
