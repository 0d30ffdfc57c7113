# SPDX-License-Identifier: Apache-2.0
"""Delivers the outbox: every worker polls for due shards, and one worker at a time publishes a shard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from ran_datajobs.errors import DataJobsError, StoreUnavailable
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from ran_datajobs.store.listen import OUTBOX_CHANNEL, follow
from ran_datajobs.telemetry import Event, Logger

LOOK_EVERY: Final = 1.0
"""Interval in seconds at which a worker polls for due shards without a notification."""


class OutboxRelay:
    """Delivers due shards until cancelled, across outages of the bus and of the database.

    Each shard has its own task: a slow shard, or one whose bucket does not respond, delays no other.
    """

    def __init__(
        self, database: Database, publish: Callable[[int], Awaitable[float | None]], log: Logger
    ) -> None:
        """``publish`` delivers the waiting rows of a shard, as
        :meth:`~ran_datajobs.results.publisher.Publisher.publish` does."""
        self._database = database
        self._publish = publish
        self._log = log
        self._news = asyncio.Event()
        self._busy: set[int] = set()
        self._again: dict[int, float] = {}

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._database, OUTBOX_CHANNEL, lambda _shard: self._news.set()))
            group.create_task(self._poll_shards(group))

    async def _poll_shards(self, group: asyncio.TaskGroup) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._news.wait()
            self._news.clear()
            due: list[int] = []
            with errors_logged(self._log, "publish", "outbox"):
                async with self._database.connection() as connection:
                    due = await outbox.due_shards(connection)
            for shard in due:
                if shard not in self._busy and self._again.get(shard, 0.0) <= _now():
                    self._busy.add(shard)
                    group.create_task(self._deliver(shard))

    async def _deliver(self, shard: int) -> None:
        pause: float | None = LOOK_EVERY
        try:
            with errors_logged(self._log, "publish", str(shard)):
                pause = await self._publish(shard)
        finally:
            self._busy.discard(shard)
        self._again[shard] = _now() + (pause or 0.0)
        self._news.set()  # rows added meanwhile were left to this task, which may have missed them


@contextlib.contextmanager
def errors_logged(log: Logger, kind: str, subject: str) -> Iterator[None]:
    """Log an error of a background task, which continues: be it a cancelled statement or a bug."""
    try:
        yield
    except StoreUnavailable:  # the worker logs it
        pass
    except DataJobsError as error:
        log.warning(Event.TASK_FAILED, kind=kind, subject=subject, cause=str(error))
    except Exception as error:
        log.error(Event.TASK_FAILED, kind=kind, subject=subject, cause=repr(error), exc_info=True)


def _now() -> float:
    return asyncio.get_running_loop().time()
