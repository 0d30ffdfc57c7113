# SPDX-License-Identifier: Apache-2.0
"""Delivers the outbox: every worker polls for due shards, and one worker at a time publishes a shard."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from ran_datajobs.errors import DataJobsError, StoreUnavailable
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from ran_datajobs.store.listen import OUTBOX_CHANNEL, follow
from ran_datajobs.telemetry import Event, Logger

LOOK_EVERY: Final = 1.0
"""Interval in seconds at which a worker polls for due shards without a notification."""


async def relay_outbox(
    database: Database, publish: Callable[[int], Awaitable[float | None]], log: Logger
) -> None:
    """Deliver due shards until cancelled, across outages of the bus and of the database.

    ``publish`` delivers the waiting rows of a shard, as
    :meth:`~ran_datajobs.results.publisher.Publisher.publish` does. Each shard has its own task: a slow shard,
    or one whose bucket does not respond, delays no other.
    """
    news = asyncio.Event()
    next_at: dict[int, float] = {}
    now = asyncio.get_running_loop().time

    async def deliver(shard: int) -> None:
        pause: float | None = LOOK_EVERY
        with errors_logged(log, "publish", str(shard)):
            pause = await publish(shard)
        next_at[shard] = now() + (pause or 0.0)
        news.set()  # rows added meanwhile were left to this task, which may have missed them

    async with asyncio.TaskGroup() as group:
        group.create_task(follow(database, OUTBOX_CHANNEL, lambda _shard: news.set()))
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await news.wait()
            news.clear()
            due: list[int] = []
            with errors_logged(log, "publish", "outbox"):
                async with database.connection() as connection:
                    due = await outbox.due_shards(connection)
            for shard in due:
                if next_at.get(shard, 0.0) <= now():
                    next_at[shard] = math.inf
                    group.create_task(deliver(shard))


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
