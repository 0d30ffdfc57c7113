# SPDX-License-Identifier: Apache-2.0
"""The loop that relays the outbox, over a real database and a scripted publisher."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

from ran_datajobs.results import delivery
from ran_datajobs.results.objects import open_folder
from ran_datajobs.results.publisher import Publisher, relay_outbox
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from ran_datajobs.telemetry import logger
from tests.integration.delivery_service import id_in_shard, responses, same_shard_as
from tests.integration.embedded_delivery import EmbeddedService

HUNG, WELL, BROKEN = 1, 2, 3


class ScriptedPublisher:
    """Publishes by removing rows. One shard hangs until it is released, and one fails the first time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.let_go = asyncio.Event()
        self.started: list[int] = []
        self.ended: dict[int, asyncio.Event] = {HUNG: asyncio.Event(), WELL: asyncio.Event()}
        self.cancelled = False

    async def publish(self, shard: int) -> float | None:
        """Publish as scripted."""
        self.started.append(shard)
        if shard == BROKEN and self.started.count(BROKEN) == 1:
            raise RuntimeError("as the test wants it")
        if shard == HUNG:
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        async with self._database.connection() as connection:
            await connection.execute("delete from outbox where shard = $1", shard)
        self.ended.setdefault(shard, asyncio.Event()).set()
        return None


@contextlib.asynccontextmanager
async def publishing(database: Database) -> AsyncIterator[ScriptedPublisher]:
    """A running loop, which is stopped at the end."""
    publisher = ScriptedPublisher(database)
    running = asyncio.create_task(relay_outbox(database, publisher.publish, logger()))
    try:
        async with asyncio.timeout(30):
            yield publisher
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def send(database: Database, shard: int) -> UUID:
    """Put one message into a shard."""
    job_id = id_in_shard(shard)
    message = delivery.status_message(job_id, None, 1, b"{}")
    async with database.transaction() as connection:
        await outbox.add(connection, [message])
    return job_id


async def left_in(database: Database, shard: int) -> int:
    """Number of messages in a shard."""
    async with database.connection() as connection:
        return int(await connection.fetchval("select count(*) from outbox where shard = $1", shard))


async def test_a_shard_that_hangs_delays_no_other(database: Database) -> None:
    """While one shard is being published, messages of others are published. The busy one is not started
    twice, and its new messages are published after it."""
    async with publishing(database) as publisher:
        await send(database, HUNG)
        while HUNG not in publisher.started:
            await asyncio.sleep(0)
        for _ in range(3):
            publisher.ended[WELL].clear()
            await send(database, WELL)
            await publisher.ended[WELL].wait()
        assert publisher.started.count(HUNG) == 1
        publisher.let_go.set()
        await publisher.ended[HUNG].wait()
        publisher.ended[HUNG].clear()
        await send(database, HUNG)
        await publisher.ended[HUNG].wait()
        assert await left_in(database, HUNG) == 0


async def test_a_fault_in_one_shard_is_tried_again_and_spoils_no_other(database: Database) -> None:
    """An unexpected error ends neither the loop nor the work on other shards."""
    async with publishing(database) as publisher:
        await send(database, BROKEN)
        await send(database, WELL)
        await publisher.ended[WELL].wait()
        await publisher.ended.setdefault(BROKEN, asyncio.Event()).wait()
        assert publisher.started.count(BROKEN) == 2


class NotedPublisher:
    """A real publisher that signals after each pass over a shard."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self.looked = asyncio.Event()

    async def publish(self, shard: int) -> float | None:
        """Publish as the real one does."""
        pause = await self._publisher.publish(shard)
        self.looked.set()
        return pause


async def test_a_parked_message_holds_up_no_other_of_its_shard(database: Database, tmp_path: Path) -> None:
    """A message for a working topic is published at once, however long the pause of a failing topic."""
    service = EmbeddedService(database, open_folder(tmp_path))
    broken = await service.job(destination="broken-topic")
    well = await service.job(job_id=same_shard_as(broken))
    service.bus.refused = {"broken-topic"}
    publisher = NotedPublisher(service.publisher(first_retry=3600.0))
    await service.settle(broken, await service.sub_job(broken), responses(1))
    running = asyncio.create_task(relay_outbox(database, publisher.publish, logger()))
    try:
        async with asyncio.timeout(30):
            await publisher.looked.wait()
            await service.settle(well, await service.sub_job(well), responses(2))
            await service.finish(well)
            while await service.state(well) != "DELIVERED":
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_cancelled_statement_does_not_end_the_loop(database: Database) -> None:
    """A statement that is cancelled or times out ends one pass. The next one continues."""
    async with publishing(database) as publisher:
        async with database.transaction() as other:
            await other.execute("lock table outbox in access exclusive mode")
            async with database.connection() as connection:
                while not await connection.fetchval(
                    "select count(pg_cancel_backend(pid)) from pg_locks "
                    "where relation = 'outbox'::regclass and not granted"
                ):
                    await asyncio.sleep(0.01)
        await send(database, WELL)
        await publisher.ended[WELL].wait()


async def test_a_stop_ends_what_is_under_way(database: Database) -> None:
    """When the loop is cancelled, it cancels every shard's task and waits for it."""
    async with publishing(database) as publisher:
        await send(database, HUNG)
        while HUNG not in publisher.started:
            await asyncio.sleep(0)
    assert publisher.cancelled
