# SPDX-License-Identifier: Apache-2.0
"""What may be on its way to plugins at a time, so that thousands of lanes share a bounded memory.

Whoever has to wait does so before anything is marked or sent: the time is nobody's trouble, and a worker that
is stopped meanwhile has nothing to explain.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from ran_datajobs.southbound.plugin import (
    CancelAnswer,
    CreateAnswer,
    CreateCall,
    DmiPlugin,
    JobAddress,
    PluginProfile,
    ResultAnswer,
    StatusAnswer,
)

BODY_BYTES: Final = 256 * 1024 * 1024
"""Operations that one worker holds uncompressed, on their way to plugins or to be told apart by outcome."""

CREATES_PER_PLUGIN: Final = 128
"""Creates that one worker has marked and not heard of at one plugin. The HTTP client sends half as many at a
time: the others are on their way through the database."""

CALLS_PER_PLUGIN: Final = 64
"""Other calls that one worker has under way at one plugin beside them."""

CALLS_BESIDE_CREATES: Final = 2
"""So many of the other calls while creates wait: what has not been sent goes before news of what has."""


class Allowance:
    """So much of something may be out at a time. First come, first served: a large share is not starved."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._out = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def out(self) -> int:
        """What is out now."""
        return self._out

    def allow(self, capacity: int) -> None:
        """Let so much be out from now on; what is out stays out."""
        self._capacity = capacity
        self._admit()

    @contextlib.asynccontextmanager
    async def take(self, share: int = 1) -> AsyncIterator[None]:
        """Have ``share`` while the block runs; more than there is counts as all there is."""
        share = min(share, self._capacity)
        await self._acquire(share)
        try:
            yield
        finally:
            self._give_back(share)

    async def _acquire(self, share: int) -> None:
        if not self._waiting and self._out + share <= self._capacity:
            self._out += share
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((share, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(share)
            else:
                with contextlib.suppress(ValueError):  # passed over already
                    self._waiting.remove((share, turn))
                self._admit()
            raise

    def _give_back(self, share: int) -> None:
        self._out -= share
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._out + self._waiting[0][0] <= self._capacity:
            share, turn = self._waiting.popleft()
            if not turn.done():
                self._out += share
                turn.set_result(None)


class Flights:
    """Clears creates and results for one worker. One plugin gets at most half of the bytes, so that one that
    does not answer leaves the others theirs."""

    def __init__(
        self,
        stopping: asyncio.Event,
        *,
        body_bytes: int = BODY_BYTES,
        creates_per_plugin: int = CREATES_PER_PLUGIN,
        calls_per_plugin: int = CALLS_PER_PLUGIN,
    ) -> None:
        self._stopping = stopping
        self._bytes = Allowance(body_bytes)
        self._bytes_per_plugin = body_bytes // 2
        self._creates_per_plugin = creates_per_plugin
        self._calls_per_plugin = calls_per_plugin
        self._bytes_of: dict[str, Allowance] = {}
        self._creates_of: dict[str, Allowance] = {}
        self._creates_wanted: dict[str, int] = {}
        self._calls_of: dict[str, Allowance] = {}

    @contextlib.asynccontextmanager
    async def create(self, plugin: str, size: int) -> AsyncIterator[bool]:
        """Clearance for one create of ``size`` bytes, while the block runs. False: the worker is about to
        stop, nothing new may be sent."""
        creates = self._creates_of.get(plugin)
        if creates is None:
            creates = self._creates_of[plugin] = Allowance(self._creates_per_plugin)
        self._want_creates(plugin, 1)
        try:
            async with creates.take(), self.operations(plugin, size):
                yield not self._stopping.is_set()
        finally:
            self._want_creates(plugin, -1)

    @contextlib.asynccontextmanager
    async def operations(self, plugin: str, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes of operations in memory while the block runs."""
        own = self._bytes_of.get(plugin)
        if own is None:
            own = self._bytes_of[plugin] = Allowance(self._bytes_per_plugin)
        async with own.take(size), self._bytes.take(size):
            yield

    def bounded(
        self, plugin_for: Callable[[PluginProfile], DmiPlugin]
    ) -> Callable[[PluginProfile], DmiPlugin]:
        """The same plugins, with a bounded number of calls under way beside the creates."""

        def bounded_plugin(profile: PluginProfile) -> DmiPlugin:
            return _BoundedPlugin(plugin_for(profile), self._calls(profile.url))

        return bounded_plugin

    def _calls(self, plugin: str) -> Allowance:
        calls = self._calls_of.get(plugin)
        if calls is None:
            calls = self._calls_of[plugin] = Allowance(self._calls_per_plugin)
        return calls

    def _want_creates(self, plugin: str, more: int) -> None:
        """Count the creates that wait or are under way; while some wait, other calls have fewer places."""
        before = self._creates_wanted.get(plugin, 0)
        wanted = self._creates_wanted[plugin] = before + more
        some_wait = wanted > self._creates_per_plugin
        if some_wait is not (before > self._creates_per_plugin):
            few = min(CALLS_BESIDE_CREATES, self._calls_per_plugin)
            self._calls(plugin).allow(few if some_wait else self._calls_per_plugin)


class _BoundedPlugin:
    """A DmiPlugin whose calls wait for their turn. Creates have been cleared before."""

    def __init__(self, plugin: DmiPlugin, calls: Allowance) -> None:
        self._plugin = plugin
        self._calls = calls

    async def create(self, call: CreateCall) -> CreateAnswer:
        return await self._plugin.create(call)

    async def status(self, address: JobAddress) -> StatusAnswer:
        async with self._calls.take():
            return await self._plugin.status(address)

    async def result(self, address: JobAddress) -> ResultAnswer:
        async with self._calls.take():
            return await self._plugin.result(address)

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        async with self._calls.take():
            return await self._plugin.cancel(address)
