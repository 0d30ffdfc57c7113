# SPDX-License-Identifier: Apache-2.0
"""Notifications of the database, over connections that are lost, and over one whose peer vanishes
silently."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from ran_datajobs.store import listen
from ran_datajobs.store.database import Database

CHANNEL = "a_channel"


class Cable:
    """A TCP proxy to the database that can be cut: its connections then deliver nothing, not even an end."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._passing: list[asyncio.Task[None]] = []
        self._ends: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[str]:
        """The URL of the database through this proxy, during the block."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        user, _, _ = self._to.netloc.rpartition("@")
        try:
            yield urlunsplit(self._to._replace(netloc=f"{user}@127.0.0.1:{port}"))
        finally:
            server.close()
            await self.cut()
            for end in self._ends:
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def cut(self) -> None:
        """Stop forwarding on all open connections, without closing them."""
        for passing in self._passing:
            passing.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        self._passing.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._ends += [writer, back]
        for source, sink in ((reader, back), (there, writer)):
            self._passing.append(asyncio.create_task(_pass_on(source, sink)))


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()


async def test_a_database_that_is_silently_gone_is_noticed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer of the connection vanishes silently: the listener reconnects, reports that it may have missed
    notifications, and receives later ones."""
    monkeypatch.setattr(listen, "ASKED_EVERY", 0.2)
    monkeypatch.setattr(listen, "ANSWER_WITHIN", 0.5)
    cable = Cable(database_url)
    received: asyncio.Queue[str | None] = asyncio.Queue()
    direct = await Database.open(database_url)
    async with asyncio.timeout(60), cable.laid() as url:
        over_cable = await Database.open(url)
        following = asyncio.create_task(listen.follow(over_cable, CHANNEL, received.put_nowait))
        assert await received.get() is None
        async with direct.connection() as connection:
            await connection.execute(f"notify {CHANNEL}, 'one'")
            assert await received.get() == "one"
            await cable.cut()
            await connection.execute(f"notify {CHANNEL}, 'missed'")
            assert await received.get() is None
            await connection.execute(f"notify {CHANNEL}, 'two'")
            assert await received.get() == "two"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        over_cable.pool.terminate()
    await direct.close()
