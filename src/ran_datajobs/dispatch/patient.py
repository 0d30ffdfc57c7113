# SPDX-License-Identifier: Apache-2.0
"""The task engine's way to the database, which waits while that is away.

An engine whose call fails ends every task that it has under way: a create would be cut off in the middle, and
its outcome be unknown. So a session that was cut, or a database that starts again, must not reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from random import random
from typing import Final, TypeVar

import asyncpg
from pgqueuer.core.tm import TaskManager
from pgqueuer.ports.driver import NotifyCallback

from ran_datajobs.dispatch.backoff import until_repeat
from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.store.database import Database, close_pool, store_errors
from ran_datajobs.store.notices import follow

_SESSIONS: Final = 4
_LONGEST_PAUSE: Final = 2.0

Answer = TypeVar("Answer")


class PatientDriver:
    """A driver for PgQueuer. Several engines can share one.

    Every call is repeated until it works, or until nobody waits any more. All statements of PgQueuer bear
    that: a task that was given out without anybody hearing of it is given out again after its heartbeat.
    """

    def __init__(
        self,
        database: Database,
        pool: asyncpg.Pool[asyncpg.Record],
        over: asyncio.Event,
        away: Callable[[StoreUnavailable], None],
    ) -> None:
        """``over``: no call is repeated any more. ``away`` is told when the database is found away for the
        first time since it answered."""
        self._database = database
        self._pool = pool
        self._over = over
        self._away = away
        self._answers = True
        self._following: list[asyncio.Task[None]] = []
        self._shutdown = asyncio.Event()
        self._tasks = TaskManager()

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, database: Database, over: asyncio.Event, away: Callable[[StoreUnavailable], None]
    ) -> AsyncIterator[PatientDriver]:
        """One with a pool of its own."""
        pool = await database.plain_pool(size=_SESSIONS)
        driver = cls(database, pool, over, away)
        try:
            yield driver
        finally:
            for task in driver._following:
                task.cancel()
            await asyncio.gather(*driver._following, return_exceptions=True)
            await close_pool(pool)  # an engine that was cut off may keep a session for good

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """The rows of a statement."""
        return [dict(row) for row in await self._repeated(lambda: self._pool.fetch(query, *args))]

    async def execute(self, query: str, *args: object) -> str:
        """The tag of a statement."""
        return await self._repeated(lambda: self._pool.execute(query, *args))

    async def notify(self, channel: str, payload: str) -> None:
        """Send a notice."""
        await self.execute("select pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Call ``callback`` with every notice from now on, over lost sessions.

        The engine itself looks every few seconds for what came while there was no session.
        """

        def news(payload: str | None) -> None:
            if payload is not None:
                callback(payload)

        self._following.append(asyncio.create_task(follow(self._database, channel, news)))

    @property
    def shutdown(self) -> asyncio.Event:
        """PgQueuer's; not set by us."""
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        """PgQueuer's; without tasks of ours."""
        return self._tasks

    async def __aenter__(self) -> PatientDriver:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def _repeated(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        failures = 0
        while True:
            try:
                with store_errors():
                    answer = await call()
            except StoreUnavailable as error:
                if self._over.is_set():
                    raise
                if self._answers:
                    self._answers = False
                    self._away(error)
                failures += 1
                delay = until_repeat(failures, random())  # noqa: S311 - spreads repeats, no secret
                await pause(min(delay, _LONGEST_PAUSE), self._over)
            else:
                self._answers = True
                return answer


async def pause(seconds: float, over: asyncio.Event) -> None:
    """Wait so long, or until ``over`` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await over.wait()
