# SPDX-License-Identifier: Apache-2.0
"""Delivers the outbox: every worker polls for due shards, and one worker at a time publishes a shard."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from ran_datajobs.errors import DataJobsError, StoreUnavailable
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from ran_datajobs.store.listen import OUTBOX_CHANNEL, follow
from ran_datajobs.telemetry import Event, Logger

LOOK_EVERY: Final = 1.0
"""Interval in seconds at which a worker polls for due shards without a notification."""


class ShardPublisher(Protocol):
    """Delivers a shard of the outbox: :class:`~ran_datajobs.results.publisher.Publisher` to topics,
    :class:`~ran_datajobs.results.copier.Copier` to buckets."""

    async def publish(self, shard: int) -> float | None:
        """Deliver the waiting rows. Returns the seconds after which to call again, ``None`` if none is
        left."""
        ...


class OutboxRelay:
    """Delivers due shards until cancelled, across outages of the bus and of the database.

    Each shard has its own task: a slow shard, or one whose bucket does not respond, delays no other.
    """

    def __init__(
        self, database: Database, publisher: ShardPublisher, copier: ShardPublisher, log: Logger
    ) -> None:
        self._database = database
        self._publisher = publisher
        self._copier = copier
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
            try:
                async with self._database.connection() as connection:
                    due = await outbox.due_shards(connection)
            except StoreUnavailable:  # the worker logs it
                await asyncio.sleep(LOOK_EVERY)
                continue
            except Exception as error:  # such as a cancelled statement or a bug: the relay continues
                self._log.error(
                    Event.TASK_FAILED, kind="publish", subject="outbox", cause=repr(error), exc_info=True
                )
                await asyncio.sleep(LOOK_EVERY)
                continue
            for shard in due:
                if shard not in self._busy and self._again.get(shard, 0.0) <= _now():
                    self._busy.add(shard)
                    group.create_task(self._publish(shard))

    async def _publish(self, shard: int) -> None:
        wait: float | None = LOOK_EVERY
        try:
            outlet = self._publisher if shard < outbox.SHARDS else self._copier
            wait = await outlet.publish(shard)
        except StoreUnavailable:
            pass
        except DataJobsError as error:
            self._log.warning(Event.TASK_FAILED, kind="publish", subject=str(shard), cause=str(error))
        except Exception as error:  # a bug: the other shards continue
            self._log.error(
                Event.TASK_FAILED, kind="publish", subject=str(shard), cause=repr(error), exc_info=True
            )
        finally:
            self._busy.discard(shard)
        if wait is None:
            self._again.pop(shard, None)
        else:
            self._again[shard] = _now() + wait
        self._news.set()  # rows added meanwhile were left to this task, which may have missed them


def _now() -> float:
    return asyncio.get_running_loop().time()
