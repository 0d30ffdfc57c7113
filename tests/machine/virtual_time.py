# SPDX-License-Identifier: Apache-2.0
"""One clock for an event loop and a database, which stands still until a test moves it.

Nothing else decides what happens next: what would run on a thread runs at once, and
:meth:`VirtualLoop.settle` returns when everything that can go on without the clock has gone on. So the same
steps give the same rows.
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
"""Timers of at most so many seconds count as no time: calls that gather into one transaction."""

CLOCK: Final = """
create sequence ticks;
create table clock (at timestamptz not null);
insert into clock values ('2026-01-01');
create function public.clock_timestamp() returns timestamptz language sql volatile as
    $$ select at + nextval('ticks') * interval '1 microsecond' from clock $$;
create function public.now() returns timestamptz language sql stable as
    $$ select at + (select last_value from ticks) * interval '1 microsecond' from clock $$;
"""
"""The database's clock; each reading is a microsecond later. In front of ``pg_catalog`` in the search path
the two functions stand for those of PostgreSQL, in the statements and in the defaults of the service."""

MOVE: Final = "update clock set at = at + make_interval(secs => $1)"


class InlineLoop(asyncio.SelectorEventLoop):
    """An event loop without threads: what would run on one runs at once. ``born`` is told each new task, with
    the context that it runs in."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector)
        self.born: Callable[[asyncio.Task[Any], Context], None] = lambda _task, _context: None
        self.set_task_factory(self._task)

    def run_in_executor(
        self, _executor: Executor | None, func: Callable[..., Any], *args: Any
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


class VirtualLoop(InlineLoop):
    """An event loop whose time is moved."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__()
        self.ahead = 0.0  # seconds by which short timers have moved the loop before the database
        self._busy = 0
        self._calm = asyncio.Event()

    def time(self) -> float:
        """Seconds; see :meth:`move`."""
        return self._now

    def move(self, seconds: float) -> None:
        """Let time pass. What is due then runs in the next :meth:`settle`."""
        self._now += seconds

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Something outside the loop is asked while the block runs, and will answer by itself."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._calm.set()

    async def settle(self) -> None:
        """Return when every task waits for a timer, or for something that only the test can do."""
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
