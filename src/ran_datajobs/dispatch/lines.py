# SPDX-License-Identifier: Apache-2.0
"""Lines of waiters, one for each name: one of each has the turn at a time, the lowest number next."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator


class _Line:
    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self.length = 0
        self.busy = False


class Lines:
    """As many lines as there are names with somebody in them."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def length(self, name: str) -> int:
        """How many are in this line, with the one whose turn it is."""
        line = self._lines.get(name)
        return 0 if line is None else line.length

    @contextlib.asynccontextmanager
    async def turn(self, name: str, number: int) -> AsyncIterator[None]:
        """Have the turn in this line while the block runs; wait for it behind all lower numbers that wait."""
        line = self._lines.setdefault(name, _Line())
        line.length += 1
        try:
            await self._wait(line, number)
            try:
                yield
            finally:
                _pass_on(line)
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[name]

    async def _wait(self, line: _Line, number: int) -> None:
        if not line.busy:
            line.busy = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(line.waiting, (number, id(turn), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                _pass_on(line)
            raise


def _pass_on(line: _Line) -> None:
    while line.waiting:
        _, _, turn = heapq.heappop(line.waiting)
        if not turn.done():  # a cancelled one has gone away
            turn.set_result(None)
            return
    line.busy = False
