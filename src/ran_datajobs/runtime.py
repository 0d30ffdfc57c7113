# SPDX-License-Identifier: Apache-2.0
"""Time, chance, identifiers, sleep and threads, as a port: what a run depends on beside its input.

The worker of dispatch has these from here alone, so that a simulation repeats a run exactly.
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
        """Seconds on a clock that only goes forward."""

    def random(self) -> float:
        """A number in [0, 1) that spreads calls; it keeps no secret."""

    def new_id(self) -> UUID:
        """An identifier that nobody else has."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of ``work``, computed while the event loop goes on."""


class SystemRuntime:
    """The clock of the event loop, which is the monotonic one; random numbers; real threads."""

    def __init__(self, chance: Random | None = None) -> None:
        self._chance = chance or Random()  # noqa: S311 - spreads calls, keeps no secret

    def now(self) -> float:
        return time.monotonic()

    def random(self) -> float:
        return self._chance.random()

    def new_id(self) -> UUID:
        return uuid4()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.to_thread(work)
