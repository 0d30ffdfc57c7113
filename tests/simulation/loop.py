# SPDX-License-Identifier: Apache-2.0
"""An event loop whose clock jumps to the next timer: waits take no time, and one seed gives one run."""

from __future__ import annotations

import selectors

from tests.kit.virtual_time import InlineLoop


class Stuck(Exception):
    """Every task waits for another one: a deadlock."""


class SimulationLoop(InlineLoop):
    """An event loop whose clock begins at 0."""

    def __init__(self) -> None:
        self.clock = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self.clock


class _JumpingSelector(selectors.SelectSelector):
    """A selector that advances the clock instead of waiting. No socket is ever ready, since there is none."""

    def __init__(self, loop: SimulationLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck(f"nothing is left to be done at {self._loop.clock:.3f} s")
        self._loop.clock += max(0.0, timeout)
        return []
