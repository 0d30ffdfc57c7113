# SPDX-License-Identifier: Apache-2.0
"""Where the conformance checks read what a plugin publishes: Kafka, or themselves in the service's place.

The embedded bus of a service takes messages of its own sub-jobs and shows nobody its internal topic. So for
a plugin without Kafka the checks listen at the address that the plugin takes for its service.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, Protocol, cast
from uuid import uuid4

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from ran_datajobs.errors import UsageError
from ran_datajobs.messaging.bus import Bus, Message, Received
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.plugins import wire

MAX_MESSAGES: Final = 1_000
"""So many messages are kept; a plugin that publishes more is told to come again."""

_MAX_BODY: Final = 64 * 1024 * 1024
_PAUSE: Final = 0.2


class Topics(Protocol):
    """Reads what a plugin publishes."""

    def messages(self, topic: str) -> AsyncGenerator[Message, None]:
        """The messages that are on ``topic``, then those that come. Never ends; close it."""
        ...


class TopicsOfBus:
    """The topics of a bus, read as a consumer that nobody else is."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def messages(self, topic: str) -> AsyncGenerator[Message, None]:
        """See :class:`Topics`. A topic that is not there yet is waited for. Raises BusUnavailable."""
        while not await self._bus.topic_exists(topic):  # noqa: ASYNC110 - Kafka tells nobody
            await asyncio.sleep(_PAUSE)
        received = self._bus.receive(topic, f"dmi-check-{uuid4()}")
        async with contextlib.aclosing(cast("AsyncGenerator[list[Received], None]", received)) as stream:
            async for batch in stream:
                for each in batch:
                    yield each.message


class _Published(Struct, frozen=True):
    headers: dict[str, str]
    value: Raw
    key: str | None = None


class _Body(Struct, frozen=True):
    messages: list[_Published]


class StandIn:
    """What a plugin without Kafka sees of a service: the internal topic, and the status push.

    Serve it with :meth:`serving`. Status pushes are taken and not looked at.
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._more = asyncio.Event()

    @contextlib.asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[str]:
        """Listen while the block runs (0: on a free port); gives the address. Raises WrongUse."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.add_routes(
            [
                web.post(wire.aiohttp_route(wire.TOPIC_MESSAGES), self._publish),
                web.post(wire.aiohttp_route(wire.STATUS_PUSH), self._told),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                raise UsageError(
                    f"cannot listen on {host}:{port} in the service's place: {error.strerror}"
                ) from error
            yield f"http://{host}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def messages(self, topic: str) -> AsyncGenerator[Message, None]:
        """See :class:`Topics`; there is the internal topic alone."""
        seen = 0
        while True:
            for message in self._messages[seen:] if topic == INTERNAL_TOPIC else ():
                seen += 1
                yield message
            self._more.clear()
            await self._more.wait()

    async def _publish(self, request: web.Request) -> web.Response:
        if request.match_info["topic"] != INTERNAL_TOPIC:
            return web.Response(status=404)
        try:
            published = msgspec.json.decode(await request.read(), type=_Body).messages
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return web.Response(status=400)
        if len(self._messages) + len(published) > MAX_MESSAGES:
            return web.Response(status=503)
        for each in published:
            headers = {name.lower(): text for name, text in each.headers.items()}
            self._messages.append(Message(each.key or "", headers, bytes(each.value)))
        self._more.set()
        return web.Response(status=204)

    async def _told(self, _: web.Request) -> web.Response:
        return web.Response(status=204)
