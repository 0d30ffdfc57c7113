# SPDX-License-Identifier: Apache-2.0
"""Readers of the messages that a plugin publishes, for the conformance checks: Kafka, or a stand-in service.

The embedded bus of a service accepts only messages of its own sub-jobs and does not expose its internal
topic. For a plugin without Kafka, the checks therefore listen at the address to which the plugin publishes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, Protocol
from uuid import uuid4

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from ran_datajobs.errors import UsageError
from ran_datajobs.messaging.bus import Bus, Message
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.plugins import wire

MAX_MESSAGES: Final = 1_000
"""Maximum messages that are kept; above it, a publish is answered 503."""

_MAX_BODY: Final = 64 * 1024 * 1024
_PAUSE: Final = 0.2


class Topics(Protocol):
    """Port to read the messages that a plugin publishes."""

    def messages(self, topic: str) -> AsyncGenerator[Message, None]:
        """Yield the messages on ``topic``, then new ones. Does not end: the caller closes it."""
        ...


class TopicsOfBus:
    """Topics of a bus, read with a unique consumer name."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def messages(self, topic: str) -> AsyncGenerator[Message, None]:
        """See :class:`Topics`. Waits until the topic exists. Raises BusUnavailable."""
        while not await self._bus.topic_exists(topic):  # noqa: ASYNC110 - Kafka has no notification
            await asyncio.sleep(_PAUSE)
        async with contextlib.aclosing(self._bus.receive(topic, f"dmi-check-{uuid4()}")) as stream:
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
    """Stand-in of a service for a plugin without Kafka: the internal topic and the status push.

    Run it with :meth:`serving`. Status pushes are accepted and ignored.
    """

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._more = asyncio.Event()

    @contextlib.asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[str]:
        """Listen for the duration of the block (0: a free port) and yield the address. Raises UsageError."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.add_routes(
            [
                web.post(wire.aiohttp_route(wire.TOPIC_MESSAGES), self._publish),
                web.post(wire.aiohttp_route(wire.STATUS_PUSH), self._status_push),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                raise UsageError(
                    f"cannot listen on {host}:{port} in place of the service: {error.strerror}"
                ) from error
            yield f"http://{host}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def messages(self, topic: str) -> AsyncGenerator[Message, None]:
        """See :class:`Topics`. Only the internal topic exists."""
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

    async def _status_push(self, _: web.Request) -> web.Response:
        return web.Response(status=204)
