# SPDX-License-Identifier: Apache-2.0
"""The limits of an exchange with a misbehaving peer: each ends it with its own error text."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import resource
import zlib
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from ran_datajobs.http.open_files import for_peers
from ran_datajobs.plugins.client import (
    Answered,
    Broken,
    Exchange,
    HttpBounds,
    NotSent,
    PeerHttp,
    most_deletes,
)

BOUNDS = HttpBounds(total=5.0, result_total=5.0, answer_bytes=1_000, result_bytes=10_000)
KIB = 1024
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(body: bytes, *head: bytes, status: bytes = b"200 OK") -> bytes:
    """A response with these lines in its head."""
    lines = (b"HTTP/1.1 " + status, *head, b"Content-Length: %d" % len(body), b"", body)
    return b"\r\n".join(lines)


@contextlib.asynccontextmanager
async def peer(*pieces: bytes, closes: bool = False, drips: bool = False) -> AsyncIterator[str]:
    """A server that writes ``pieces`` as the response to any request. Returns its address. Then it closes the
    connection, continues with a blank at intervals, or waits until the client closes."""
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            while drips:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)  # the slow bytes themselves
            if not closes:
                await reader.read()
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await asyncio.gather(*serving)


async def exchanged(
    *pieces: bytes, closes: bool = False, bounds: HttpBounds = BOUNDS, result: bool = True
) -> Exchange:
    """What the client returns or raises for such a peer."""
    async with peer(*pieces, closes=closes) as url, PeerHttp(bounds) as http:
        return await http.exchange("GET", url, result=result)


WIDE = {
    "a field of 64 KiB": answer(b"{}", b"X-Trace: " + b"a" * 64 * KIB),
    "two hundred fields": answer(b"{}", *(b"X-%d: 1" % n for n in range(200))),
    "a field in Latin-1": answer(b"{}", b"X: \xe9"),
    "a folded field": answer(b"{}", b"X: a\r\n b"),
    "bare line feeds": answer(b"{}").replace(b"\r\n", b"\n"),
    "a continue before it": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"{}"),
    "an unknown charset": answer(b"{}", b"Content-Type: application/json; charset=x;;"),
    "gzip": answer(gzip.compress(b"{}"), b"Content-Encoding: gzip"),
    "deflate": answer(zlib.compress(b"{}"), b"Content-Encoding: deflate"),
    "an encoding that is none": answer(b"{}", b"Content-Encoding: none"),
    "chunks": CHUNKED + b"1;x=y\r\n{\r\n1\r\n}\r\n0\r\nX: 1\r\n\r\n",
}
"""Heads and bodies of peers that are unusual but valid."""


@pytest.mark.parametrize("raw", WIDE.values(), ids=WIDE)
async def test_the_bounds_are_wide_enough_for_real_peers(raw: bytes) -> None:
    """Proxies that add long fields, and old servers, are accepted."""
    found = await exchanged(raw)
    assert isinstance(found, Answered)
    assert (found.status, found.body) == (200, b"{}")


async def test_a_body_that_the_connection_ends_is_whole() -> None:
    """An old server sends no length and closes."""
    found = await exchanged(b"HTTP/1.0 200 OK\r\n\r\n{", b"}", closes=True)
    assert isinstance(found, Answered)
    assert found.body == b"{}"


LONG_LINE = Broken("a line of the answer's head is longer than 131072 bytes")
MANY_LINES = Broken("the answer's head has more than 256 lines")
NO_HTTP = Broken("the answer is not HTTP")
NOT_OFFERED = Broken("the answer's body is compressed in a way that was not offered")

BEYOND: dict[str, tuple[bytes, Exchange]] = {
    "a long field": (answer(b"{}", b"X: " + b"a" * 132 * KIB), LONG_LINE),
    "a very long field": (answer(b"{}", b"X: " + b"a" * 2000 * KIB), LONG_LINE),
    "a long name": (answer(b"{}", b"a" * 132 * KIB + b": x"), LONG_LINE),
    "a long reason phrase": (answer(b"{}", status=b"200 " + b"a" * 132 * KIB), LONG_LINE),
    "many fields": (answer(b"{}", *(b"X-%d: 1" % n for n in range(300))), MANY_LINES),
    "no HTTP": (b"\x00\x01 no such protocol\r\n\r\n", NO_HTTP),
    "another HTTP": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NO_HTTP),
    "a length that is none": (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", NO_HTTP),
    "Brotli": (answer(b"{}", b"Content-Encoding: br"), NOT_OFFERED),
    "Zstandard": (answer(b"{}", b"Content-Encoding: zstd"), NOT_OFFERED),
    "gzip that is none": (
        answer(b"{}", b"Content-Encoding: gzip"),
        Broken("the answer's body is not compressed as its head says"),
    ),
}
"""Responses over a limit, or invalid HTTP, with the expected error texts."""


@pytest.mark.parametrize(("raw", "expected"), BEYOND.values(), ids=BEYOND)
async def test_what_is_over_a_bound_or_no_http_is_told_in_its_own_words(raw: bytes, expected: Broken) -> None:
    """The error says what was too long, or why the response is not HTTP. No part of it is used as a
    response."""
    assert await exchanged(raw) == expected


@pytest.mark.parametrize(
    "pieces",
    [
        (answer(b"x" * 10_001),),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",),
        (CHUNKED, *[b"1000\r\n%b\r\n" % bytes(0x1000)] * 3),
        (answer(gzip.compress(bytes(5_000_000)), b"Content-Encoding: gzip"),),
    ],
    ids=["a body", "a length alone", "chunks", "a compressed body"],
)
async def test_a_body_over_its_bound_is_not_read(pieces: tuple[bytes, ...]) -> None:
    """The status is used, the body is not read, and the limit is reported. A compressed body counts by its
    uncompressed size."""
    found = await exchanged(*pieces)
    assert isinstance(found, Answered)
    assert (found.status, found.body, found.bound) == (200, None, 10_000)


async def test_a_result_may_be_larger_than_another_answer() -> None:
    """Each kind of response has its own limit."""
    raw = answer(b"x" * 5_000)
    large, small = await exchanged(raw), await exchanged(raw, result=False)
    assert isinstance(large, Answered)
    assert isinstance(small, Answered)
    assert (large.body, small.body, small.bound) == (b"x" * 5_000, None, 1_000)


async def test_an_answer_that_drips_ends_with_its_time() -> None:
    """A peer that sends a byte at intervals is not waited for longer than the timeout of the whole
    response."""
    bounds = HttpBounds(result_total=0.3)
    async with peer(b"HTTP/1.1 200 OK\r\n\r\n", drips=True) as url, PeerHttp(bounds) as http:
        found = await http.exchange("GET", url, result=True)
    assert found == Broken("no whole answer within 0.3 s")


async def test_an_answer_that_stands_still_ends_with_the_callers_patience() -> None:
    """Before the head and within the body."""
    for pieces in ((), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",)):
        async with peer(*pieces) as url, PeerHttp(BOUNDS) as http:
            found = await http.exchange("GET", url, result=True, patience=0.2)
        assert found == Broken("nothing came for 0.2 s")


async def test_a_connection_that_ends_early_is_told_as_that() -> None:
    """Before the response, and within it."""
    assert await exchanged(closes=True) == Broken("connection closed before the answer")
    cut = answer(b"x" * 100)[:-50]
    assert await exchanged(cut, closes=True) == Broken("connection closed within the answer")


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """During the block this process cannot open any more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_lack_of_descriptors_is_ours_and_over_when_it_is_over() -> None:
    """The error does not blame the peer, and the next call succeeds."""
    async with peer(answer(b"{}")) as url, PeerHttp(BOUNDS) as http:
        with no_descriptor_left():
            lacking = await http.exchange("GET", url)
        then = await http.exchange("GET", url)
    assert lacking == NotSent("no connection was left on this machine (ulimit -n)")
    assert isinstance(then, Answered)


async def test_unused_connections_are_closed_where_descriptors_are_few() -> None:
    """No more idle connections are kept than the descriptors allow in addition to the active calls."""
    bounds = HttpBounds(connections=for_peers() - 2 * most_deletes() - 2, idle=60.0)
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(peer(answer(b"{}"))) for _ in range(5)]
        http = await stack.enter_async_context(PeerHttp(bounds))
        ports = {int(url.rstrip("/").rpartition(":")[2]) for url in urls}
        for url in urls:
            assert isinstance(await http.exchange("GET", url), Answered)
        async with asyncio.timeout(10):
            while len(connected(ports)) != 2:
                await asyncio.sleep(0.01)


def connected(ports: set[int]) -> list[object]:
    """This process's connections to these ports."""
    found = psutil.Process().net_connections("tcp4")
    return [each for each in found if each.status == psutil.CONN_ESTABLISHED and each.raddr.port in ports]
