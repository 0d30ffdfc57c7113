# SPDX-License-Identifier: Apache-2.0
"""Clock, random numbers, identifiers, sleep and threads: what a run depends on besides its input.

The worker of dispatch takes them from here alone, so that a simulation, which overrides them, repeats a run
exactly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import Random
from typing import TypeVar
from uuid import UUID, uuid4

T = TypeVar("T")


class Runtime:
    """The monotonic clock, which is also that of the event loop; random numbers; real threads."""

    def __init__(self, generator: Random | None = None) -> None:
        self._generator = generator or Random()  # noqa: S311 - spreads calls, keeps no secret

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return time.monotonic()

    def random(self) -> float:
        """A random number in [0, 1) for jitter, not for secrets."""
        return self._generator.random()

    def new_id(self) -> UUID:
        """A unique identifier."""
        return uuid4()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""
        await asyncio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Result of ``work``, computed on a thread while the event loop continues."""
        return await asyncio.to_thread(work)
