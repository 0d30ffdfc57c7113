# SPDX-License-Identifier: Apache-2.0
"""Bounded HTTP exchanges with untrusted peers.

Every outcome is a value. It says exactly what matters to the caller: whether it is proven that nothing was
sent.
"""

from __future__ import annotations

import asyncio
import errno
import io
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, Any, Final, Self

import aiohttp
import msgspec
from aiohttp.http_exceptions import ContentEncodingError
from msgspec import Struct
from yarl import URL

from ran_datajobs.http.open_files import for_peers
from ran_datajobs.plugins.port import IMAGE_BYTES

MIB: Final = 1024 * 1024
_WHOLE_UP_TO: Final = 512 * 1024


MOST_CALLS: Final = 1024
"""Maximum concurrent calls of one process."""


def most_calls() -> int:
    """Maximum concurrent calls of this process: a part of the open file limit is for unused connections."""
    return min(MOST_CALLS, max(1, for_peers() * 3 // 4))


MOST_DELETES: Final = 256
"""Maximum concurrent DELETEs of one process, in addition to the other calls."""


def most_deletes() -> int:
    """Maximum concurrent DELETEs of this process. As many connections again may stay open unused."""
    return min(MOST_DELETES, max(1, for_peers() // 16))


def most_questions() -> int:
    """Maximum concurrent calls of this process that belong to no sub-job: for health and modules."""
    return min(64, max(1, for_peers() // 16))


class HttpBounds(Struct, frozen=True):
    """Bounds of the exchanges of one :class:`PeerHttp`. Times in seconds, sizes in bytes.

    A result may have ``result_bytes``, or ``operation_bytes`` for each of its operations if that is more, and
    ``image_bytes`` more for each if it has before-images. A header line of an answer has at most
    ``header_bytes``, and an answer at most ``headers`` such lines.

    ``idle``: how long an unused connection is kept. It is shorter than the keep-alive timeout of most servers
    (5 s and more), so that a create rarely uses a connection that is being closed.
    """

    connect: float = 5.0
    total: float = 60.0
    result_total: float = 300.0
    answer_bytes: int = MIB
    result_bytes: int = 64 * MIB
    operation_bytes: int = 1024
    image_bytes: int = IMAGE_BYTES
    header_bytes: int = 128 * 1024
    headers: int = 256
    per_host: int = 64
    connections: int = msgspec.field(default_factory=most_calls)
    idle: float = 3.0


class Answered(Struct, frozen=True):
    """The peer answered in full. ``body`` is ``None`` when it was larger than ``bound`` bytes."""

    status: int
    body: bytes | None
    content_type: str = ""
    retry_after: str | None = None
    bound: int = 0


class NotSent(Struct, frozen=True):
    """It is proven that no byte of the request reached the peer."""

    cause: str


class Broken(Struct, frozen=True):
    """The exchange ended without a full answer; the request may have arrived."""

    cause: str


Exchange = Answered | NotSent | Broken

# Raised by aiohttp before it has a connection, so before a byte is written: no slot or no connection in
# time; refused, unreachable, no such host; certificate or TLS handshake refused; not an http address.
_NOTHING_SENT: Final = (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError, aiohttp.InvalidURL)

_CAUSES: Final = (
    (aiohttp.ConnectionTimeoutError, "no connection in time"),
    (aiohttp.ClientConnectorDNSError, "no such host"),
    (aiohttp.ClientConnectorCertificateError, "its certificate is not trusted"),
    (aiohttp.ClientConnectorSSLError, "TLS handshake failed"),
    (aiohttp.ClientConnectorError, "unreachable"),
    (aiohttp.InvalidURL, "not a usable address"),
    ((aiohttp.ServerDisconnectedError, ConnectionResetError), "connection closed before the answer"),
    (aiohttp.ClientPayloadError, "connection closed within the answer"),
    (aiohttp.ClientResponseError, "the answer is not HTTP"),
)
"""Texts of errors by their types; the first that matches counts."""


class PeerHttp:
    """The shared HTTP client of all peers: no redirects, no cookies, no proxies from the environment,
    certificates verified, connections bounded per host. DELETEs have connections of their own, so that they
    wait for no other call. Use as an async context manager."""

    def __init__(self, bounds: HttpBounds | None = None, trust: ssl.SSLContext | None = None) -> None:
        self.bounds = bounds or HttpBounds()
        self._trust = trust
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # of the DELETEs, and of all other calls

    async def __aenter__(self) -> Self:
        connections, deletes = self.bounds.connections, most_deletes()
        self._sessions[False] = self._opened(connections, for_peers() - connections - 2 * deletes)
        self._sessions[True] = self._opened(deletes, deletes)
        return self

    def _opened(self, limit: int, unused: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=_Connector(
                unused,
                limit=limit,
                limit_per_host=self.bounds.per_host,
                keepalive_timeout=self.bounds.idle,
                ssl=True if self._trust is None else self._trust,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            raise_for_status=False,
            max_line_size=self.bounds.header_bytes,
            max_field_size=self.bounds.header_bytes,
            max_headers=self.bounds.headers,
        )

    async def __aexit__(self, *_: object) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        result: bool = False,
        operations: int = 0,
        images: bool = False,
        patience: float | None = None,
    ) -> Exchange:
        """Send one request and read its whole answer.

        ``url`` is percent-encoded and is sent unchanged. ``result`` selects the larger bounds, whose size
        grows with ``operations``, their number in the result, and with ``images``, if they have
        before-images. ``patience``: read timeout in seconds, until the answer begins and between its bytes.
        """
        bounds = self.bounds
        of_each = bounds.operation_bytes + (bounds.image_bytes if images else 0)
        of_result = max(bounds.result_bytes, operations * of_each)
        limit = of_result if result else bounds.answer_bytes
        total = bounds.result_total if result else bounds.total
        return await self._exchanged(method, url, body, headers, (total, patience), limit, _bounded)

    async def download(
        self,
        method: str,
        url: str,
        into: IO[bytes],
        limit: int,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Exchange:
        """Send one request and write the body of an answer with the status 200 to ``into``, at most ``limit``
        bytes, within the time of a result. The body of this :class:`Answered` is empty."""

        async def read(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
            if response.status != 200:
                return await _bounded(response, self.bounds.answer_bytes)
            left = limit
            async for chunk in response.content.iter_any():
                left -= len(chunk)
                if left < 0:
                    response.close()
                    return None
                into.write(chunk)
            return b""

        times = (self.bounds.result_total, None)
        return await self._exchanged(method, url, body, headers, times, limit, read)

    async def _exchanged(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        times: tuple[float, float | None],
        limit: int,
        read: Callable[[aiohttp.ClientResponse, int], Awaitable[bytes | None]],
    ) -> Exchange:
        """One exchange. ``times``: the timeouts of all of it, and between two reads of the answer; ``read``
        returns the body of the answer, None if it exceeds ``limit``."""
        session = self._sessions.get(method == "DELETE")
        if session is None:
            return NotSent("the client is closed")
        bounds = self.bounds
        total, patience = times
        timeout = aiohttp.ClientTimeout(
            total=total, connect=bounds.connect, sock_connect=bounds.connect, sock_read=patience
        )
        try:
            address = URL(url, encoded=True)
        except ValueError:
            return NotSent("not a usable address")
        try:
            async with session.request(
                method, address, data=_sendable(body), headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return Answered(
                    response.status,
                    await read(response, limit),
                    response.content_type if "Content-Type" in response.headers else "",
                    response.headers.get("Retry-After"),
                    limit,
                )
        except _NOTHING_SENT as error:
            return NotSent(_cause(error, bounds))
        except aiohttp.SocketTimeoutError:
            return Broken(f"nothing came for {patience or total:.3g} s")
        except TimeoutError:
            return Broken(f"no whole answer within {total:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Broken(_cause(error, bounds))


class _Connector(aiohttp.TCPConnector):
    """Closes a connection after its call when the limit of unused connections is reached."""

    def __init__(self, unused: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._unused = unused

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        unused = sum(map(len, self._conns.values()))
        super()._release(key, protocol, should_close=should_close or unused >= self._unused)


def _sendable(body: bytes | None) -> bytes | io.BytesIO | None:
    """Wrap a large body so that it is written in pieces, to keep the event loop responsive."""
    return io.BytesIO(body) if body is not None and len(body) > _WHOLE_UP_TO else body


async def _bounded(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body; ``None`` if it exceeds ``limit`` bytes after decompression: the connection is closed."""
    if response.content_length is not None and response.content_length > limit:
        response.close()
        return None
    try:
        await response.content.readexactly(limit + 1)
    except asyncio.IncompleteReadError as ended:  # within the limit
        return ended.partial
    response.close()
    return None


def _cause(error: BaseException, bounds: HttpBounds) -> str:
    """Human-readable cause, without the address, which may hold credentials."""
    match error:
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "connection refused"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=errno.EMFILE | errno.ENFILE)):
            return "no connection was left on this machine (ulimit -n)"
        case aiohttp.ClientPayloadError(__cause__=ContentEncodingError()):
            return "the answer's body is not compressed as its head says"
        case aiohttp.ClientResponseError(message=message) if message.startswith("Got more than"):
            return f"a line of the answer's head is longer than {bounds.header_bytes} bytes"
        case aiohttp.ClientResponseError(message=message) if message.startswith("Too many headers"):
            return f"the answer's head has more than {bounds.headers} lines"
        case aiohttp.ClientResponseError(message=message) if message.startswith("Can not decode"):
            return "the answer's body is compressed in a way that was not offered"
    kinds = (words for kind, words in _CAUSES if isinstance(error, kind))
    return next(kinds, f"connection failed ({type(error).__name__})")
