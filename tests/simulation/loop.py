# SPDX-License-Identifier: Apache-2.0
"""An event loop whose clock jumps to the next timer: no wait takes time, and one seed gives one run."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context, copy_context
from typing import Any


class Stuck(Exception):
    """Every task waits for another one: nothing will ever happen again."""


class SimulationLoop(asyncio.SelectorEventLoop):
    """``born`` is told each new task, with the context that it runs in."""

    def __init__(self) -> None:
        self.clock = 0.0
        super().__init__(_JumpingSelector(self))
        self.born: Callable[[asyncio.Task[Any], Context], None] = lambda _task, _context: None
        self.set_task_factory(self._task)

    def time(self) -> float:
        """Seconds since the beginning."""
        return self.clock

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run it here and now."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def _task(
        self, _loop: asyncio.AbstractEventLoop, coroutine: Any, context: Context | None = None, **more: Any
    ) -> asyncio.Task[Any]:
        context = copy_context() if context is None else context
        task = asyncio.Task(coroutine, loop=self, context=context, **more)
        self.born(task, context)
        return task


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting, it lets the time pass. No socket is ever ready: there is none."""

    def __init__(self, loop: SimulationLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck(f"nothing is left to be done at {self._loop.clock:.3f} s")
        self._loop.clock += max(0.0, timeout)
        return []
