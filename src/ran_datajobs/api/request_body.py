# SPDX-License-Identifier: Apache-2.0
"""Receives request bodies with limits on their size, on the bytes of all bodies in flight, and on pauses."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeVar

from litestar import Request
from litestar.exceptions import ClientException, HTTPException, TooManyRequestsException
from prometheus_client import Gauge

from ran_datajobs.config import Settings
from ran_datajobs.http.json_body import got, json_text

_MAX_DISCARDED: Final = 64 * 1024 * 1024
LARGE_BODY: Final = 256 * 1024
"""Size in bytes above which a body is processed in a thread, so that large jobs do not delay small ones."""

_JSON_TYPE: Final = re.compile(r"application/json|[^/]+/.+\+json")


_Result = TypeVar("_Result")


async def off_loop(size: int, function: Callable[..., _Result], *args: Any) -> _Result:
    """``function(*args)``, in a thread if its input of ``size`` bytes is large."""
    return await asyncio.to_thread(function, *args) if size > LARGE_BODY else function(*args)


class BodyReceiver:
    """Receives bodies and counts the bytes in flight, from arrival until the answer.

    A stored body that is processed again for a request is counted as well.
    """

    def __init__(self, settings: Settings, pause: float, shown: Gauge) -> None:
        """``pause``: maximum pause within a body, in seconds. ``shown``: the gauge of the bytes in flight."""
        self._max_body = settings.max_body
        self._max_in_flight = settings.max_body_bytes_in_flight
        self._pause = pause
        self._shown = shown
        self._in_flight = 0

    @contextlib.asynccontextmanager
    async def json(
        self, request: Request[Any, Any, Any], *, limit: int | None = None
    ) -> AsyncIterator[bytes]:
        """The JSON text of a body, without a byte order mark, received as by :meth:`received`.

        Raises 415 for a media type other than JSON, and 400 for UTF-16 and UTF-32 as well.
        """
        if not is_json(kind := request.headers.get("content-type", "")):
            given = got(kind) if kind else "missing"
            raise HTTPException(
                status_code=415, detail=f"Content-Type must be application/json; it is {given}"
            )
        async with self.received(request, limit=limit) as body:
            yield json_text(body)

    @contextlib.asynccontextmanager
    async def received(
        self, request: Request[Any, Any, Any], *, limit: int | None = None
    ) -> AsyncIterator[bytes]:
        """A body; it counts as in flight until the block ends.

        Raises 413 over ``limit`` (default: ``max_body``), 429 while too many bytes are in flight, 408 when
        the client pauses too long, 415 for an encoding.
        """
        if (encoding := request.headers.get("content-encoding", "identity").strip().lower()) != "identity":
            detail = f"Content-Encoding must be identity, which is none; it is {got(encoding)}"
            raise HTTPException(status_code=415, detail=detail)
        largest = min(limit or self._max_body, self._max_body)
        declared = request.content_length or 0
        if declared > largest:
            raise too_large(f"a body here has at most {largest} bytes")
        with contextlib.ExitStack() as in_flight:
            try:
                in_flight.enter_context(self.held(declared))
            except TooManyRequestsException:
                if declared <= _MAX_DISCARDED:  # a client that still sends does not read the answer
                    with contextlib.suppress(HTTPException):
                        async for _ in self._chunks(request):
                            pass
                raise
            received = io.BytesIO()  # getvalue() does not copy
            async for chunk in self._chunks(request):
                received.write(chunk)
                if (size := received.tell()) > largest:
                    raise too_large(f"a body here has at most {largest} bytes")
                if size > declared:
                    in_flight.enter_context(self.held(min(len(chunk), size - declared)))
            body = received.getvalue()
            received.close()
            yield body

    @contextlib.contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Count ``size`` bytes as in flight until the block ends. Raises 429 while too many are."""
        if self._in_flight + size > self._max_in_flight:
            raise TooManyRequestsException(
                f"request bodies of {self._in_flight} bytes are being worked on, and with {size} more "
                f"there would be more than {self._max_in_flight}: send it again later"
            )
        self._in_flight += size
        self._shown.inc(size)
        try:
            yield
        finally:
            self._in_flight -= size
            self._shown.dec(size)

    async def _chunks(self, request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
        more = True
        while more:
            try:
                async with asyncio.timeout(self._pause):
                    message = await request.receive()
            except TimeoutError:
                raise HTTPException(
                    status_code=408,
                    detail=f"nothing more of the body came for {self._pause:g} s: send it again",
                ) from None
            if message["type"] != "http.request":
                raise ClientException(detail="the client went away before the body was complete")
            yield message["body"]
            more = message["more_body"]


def too_large(detail: str) -> HTTPException:
    """The 413 for a body, or a list in it, that exceeds its limit."""
    return HTTPException(status_code=413, detail=detail)


def is_json(content_type: str) -> bool:
    """True for ``application/json`` and every ``…+json`` media type (RFC 6839)."""
    return _JSON_TYPE.fullmatch(content_type.partition(";")[0].strip().lower()) is not None
