# SPDX-License-Identifier: Apache-2.0
"""Keeps the outbox moving: every worker looks for shards that are due; one at a time publishes a shard."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from ran_datajobs.errors import DataJobsError
from ran_datajobs.results.publisher import Publisher
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from ran_datajobs.store.notices import OUTBOX_CHANNEL, follow
from ran_datajobs.telemetry import Event, Logger

LOOK_EVERY: Final = 1.0
"""Seconds after which a worker looks even when nobody said that there is something new."""


class PublishLoop:
    """Publishes whatever is due until cancelled, over outages of the bus and of the database."""

    def __init__(self, database: Database, publisher: Publisher, log: Logger) -> None:
        self._database = database
        self._publisher = publisher
        self._log = log
        self._news = asyncio.Event()
        self._again: dict[int, float] = {}

    async def run(self) -> None:
        """Publish for ever; end it by cancelling."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._database, OUTBOX_CHANNEL, lambda _shard: self._news.set()))
            group.create_task(self._publish_for_ever())

    async def _publish_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._publish_due()
            except DataJobsError as error:
                self._log.warning(Event.BUS_AWAY, cause=str(error), pause=LOOK_EVERY)
                await asyncio.sleep(LOOK_EVERY)

    async def _publish_due(self) -> None:
        async with self._database.connection() as connection:
            shards = await outbox.due_shards(connection)
        now = asyncio.get_running_loop().time()
        ready = [shard for shard in shards if self._again.get(shard, 0.0) <= now]
        for shard, wait in zip(
            ready, await asyncio.gather(*map(self._publisher.publish, ready)), strict=True
        ):
            self._again.pop(shard, None)
            if wait is not None:
                self._again[shard] = asyncio.get_running_loop().time() + wait
