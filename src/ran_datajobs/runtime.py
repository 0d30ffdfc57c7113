# SPDX-License-Identifier: Apache-2.0
"""Port to the clock, random numbers, identifiers, sleep and threads: what a run depends on besides its input.

The worker of dispatch uses only this port, so that a simulation repeats a run exactly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import Random
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

T = TypeVar("T")


class Runtime(Protocol):
    """What a worker's run depends on."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""

    def random(self) -> float:
        """A random number in [0, 1) for jitter, not for secrets."""

    def new_id(self) -> UUID:
        """A unique identifier."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Result of ``work``, computed on a thread while the event loop continues."""


class SystemRuntime:
    """The monotonic clock, which is also that of the event loop; random numbers; real threads."""

    def __init__(self, chance: Random | None = None) -> None:
        self._generator = chance or Random()  # noqa: S311 - spreads calls, keeps no secret

    def now(self) -> float:
        return time.monotonic()

    def random(self) -> float:
        return self._generator.random()

    def new_id(self) -> UUID:
        return uuid4()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)
