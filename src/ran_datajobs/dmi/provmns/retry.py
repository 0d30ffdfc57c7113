# SPDX-License-Identifier: Apache-2.0
"""How long a ProvMnS server that is away or busy is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

FIRST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 5.0

Sleep = Callable[[float], Awaitable[object]]


class Patience:
    """Seconds, from now on, within which requests are sent again. Made within the running loop."""

    def __init__(self, seconds: float, sleep: Sleep = asyncio.sleep) -> None:
        self._time = asyncio.get_running_loop().time
        self._deadline = self._time() + seconds
        self._sleep = sleep

    def waits(self) -> Waits:
        """The pauses between the tries of one request."""
        return Waits(self)

    async def lasts(self, pause: float) -> bool:
        """Pause, and True; at once False when it would take longer than patience lasts."""
        if self._time() + pause > self._deadline:
            return False
        await self._sleep(pause)
        return True


class Waits:
    """Pauses that grow, within the patience of one call."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._next = FIRST_WAIT

    async def pause(self, wish: float | None = None) -> bool:
        """Wait before the next try, at least as long as the server wishes. False: there is no next one."""
        pause = self._next if wish is None else max(self._next, wish)
        self._next = min(self._next * 2, LONGEST_WAIT)
        return await self._patience.lasts(pause)
