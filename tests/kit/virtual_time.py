# SPDX-License-Identifier: Apache-2.0
"""Virtual clock shared by an event loop and a database; only a test advances it.

Execution is deterministic: work for a thread runs at once in the loop, and :meth:`VirtualLoop.settle` returns
when every task that can run without the clock has run. So the same steps give the same rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextvars import Context, copy_context
from typing import Any, Final

AT_ONCE: Final = 0.02
"""Maximum delay in seconds of a timer that ``settle`` fires at once, such as that of a group commit."""

CLOCK: Final = """
create sequence ticks;
create table clock (at timestamptz not null);
insert into clock values ('2026-01-01');
create function public.clock_timestamp() returns timestamptz language sql volatile as
    $$ select at + nextval('ticks') * interval '1 microsecond' from clock $$;
create function public.now() returns timestamptz language sql stable as
    $$ select at + (select last_value from ticks) * interval '1 microsecond' from clock $$;
"""
"""Clock of the database; each reading is a microsecond later. The search path lists ``public`` before
``pg_catalog``, so that statements and column defaults of the service use these two functions."""

MOVE: Final = "update clock set at = at + make_interval(secs => $1)"


class InlineLoop(asyncio.SelectorEventLoop):
    """An event loop without threads: work for an executor runs at once. ``born`` is called with each new
    task and its context."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector)
        self.born: Callable[[asyncio.Task[Any], Context], None] = lambda _task, _context: None
        self.set_task_factory(self._task)

    def run_in_executor(
        self, _executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call ``func`` at once and return its result as a completed future."""
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


class VirtualLoop(InlineLoop):
    """An event loop whose clock only :meth:`move` advances."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__()
        self.ahead = 0.0  # seconds by which short timers have moved the loop before the database
        self._busy = 0
        self._calm = asyncio.Event()

    def time(self) -> float:
        """Return the virtual time in seconds; see :meth:`move`."""
        return self._now

    def move(self, seconds: float) -> None:
        """Advance the clock. Timers that become due run in the next :meth:`settle`."""
        self._now += seconds

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Mark the loop as waiting for an outside answer, such as the database's, while the block runs."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._calm.set()

    async def settle(self) -> None:
        """Run tasks until each waits for a timer or for an action of the test."""
        while True:
            await asyncio.sleep(0)
            if self._busy:
                self._calm.clear()
                await self._calm.wait()
            elif not self._ready:  # type: ignore[attr-defined]
                if (soon := self._next_timer()) is None or soon > AT_ONCE:
                    return
                self.move(soon)
                self.ahead += soon

    def _next_timer(self) -> float | None:
        scheduled = [handle.when() for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        return max(0.0, min(scheduled) - self._now) if scheduled else None
