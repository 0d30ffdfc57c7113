# SPDX-License-Identifier: Apache-2.0
"""Retry budget and back-off for a ProvMnS server that is unavailable or busy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 5.0

Sleep = Callable[[float], Awaitable[object]]


class Patience:
    """Deadline, ``seconds`` from now, for retries of requests. Create it inside a running event loop."""

    def __init__(self, seconds: float, sleep: Sleep = asyncio.sleep) -> None:
        self._time = asyncio.get_running_loop().time
        self._deadline = self._time() + seconds
        self._sleep = sleep

    def waits(self) -> Waits:
        """Pauses between the attempts of one request."""
        return Waits(self)

    async def lasts(self, pause: float) -> bool:
        """Pause and return True; return False at once if the pause would exceed the deadline."""
        if self._time() + pause > self._deadline:
            return False
        await self._sleep(pause)
        return True


class Waits:
    """Exponential back-off within the deadline of one call."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._next = FIRST_WAIT

    async def pause(self, wish: float | None = None) -> bool:
        """Wait before the next attempt, at least ``wish`` seconds (Retry-After). False: do not retry."""
        pause = self._next if wish is None else max(self._next, wish)
        self._next = min(self._next * 2, LONGEST_WAIT)
        return await self._patience.lasts(pause)
