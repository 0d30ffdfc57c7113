# SPDX-License-Identifier: Apache-2.0
"""Lanes that a worker holds at a time: so many in all, and of one plugin at most as many as are left free.

However many lanes a slow plugin has, others find a place at once: one greedy plugin gets half of all, two
get a third each, and as much is free. Source: Choudhury and Hahne, "Dynamic Queue Length Thresholds for
Shared-Memory Packet Switches", 1998.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from typing import Final

LANES_HELD: Final = 24576
"""Lanes that one worker holds at a time. One costs about 8 KiB while its sub-job is small."""


class Places:
    """Places for the lanes of all plugins. Within one plugin first come, first served."""

    def __init__(self, total: int = LANES_HELD) -> None:
        self._free = total
        self._taken: defaultdict[int, int] = defaultdict(int)
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}

    def taken(self, plugin_id: int) -> int:
        """How many places the lanes of this plugin have now."""
        return self._taken.get(plugin_id, 0)

    @contextlib.asynccontextmanager
    async def one(self, plugin_id: int) -> AsyncIterator[None]:
        """Have a place while the block runs; wait until there is one."""
        await self.take(plugin_id)
        try:
            yield
        finally:
            self.give_back(plugin_id)

    async def take(self, plugin_id: int) -> None:
        """Take a place; wait until there is one."""
        if plugin_id not in self._waiting and self._may(plugin_id):
            self._count(plugin_id, 1)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(plugin_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(plugin_id)
            raise

    def give_back(self, plugin_id: int) -> None:
        """Give a place back that was taken."""
        self._count(plugin_id, -1)
        for waiting in tuple(self._waiting):
            self._admit(waiting)

    def _may(self, plugin_id: int) -> bool:
        return self._taken.get(plugin_id, 0) < self._free

    def _count(self, plugin_id: int, places: int) -> None:
        self._free -= places
        self._taken[plugin_id] += places
        if not self._taken[plugin_id]:
            del self._taken[plugin_id]

    def _admit(self, plugin_id: int) -> None:
        turns = self._waiting[plugin_id]
        while turns and (turns[0].done() or self._may(plugin_id)):
            turn = turns.popleft()
            if not turn.done():  # a cancelled one has gone away
                self._count(plugin_id, 1)
                turn.set_result(None)
        if not turns:
            del self._waiting[plugin_id]
