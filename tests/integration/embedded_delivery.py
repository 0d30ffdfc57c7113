# SPDX-License-Identifier: Apache-2.0
"""Delivery on the embedded parts: a bus with failures on demand, and objects in a folder."""

from __future__ import annotations

from collections.abc import Sequence

from ran_datajobs.errors import BusUnavailable, TopicRefused
from ran_datajobs.messaging.bus import OutboxMessage, Received
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.store.database import Database
from tests.integration.delivery_service import TOPIC, Service


class FaultyBus(PostgresBus):
    """The embedded bus with failures on demand."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, poll_interval=0.2)
        self.unavailable = False
        self.refused: set[str] = set()
        self.dies_after_publishing = False

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Publish, or fail as the test has set."""
        if self.unavailable:
            raise BusUnavailable("unavailable, as the test sets it")
        for each in messages:
            if each.topic in self.refused:
                raise TopicRefused(each.topic, "refused, as the test wants it")
        await super().publish_shard(shard, messages)
        if self.dies_after_publishing:
            self.dies_after_publishing = False
            raise BusUnavailable("the answer to the publish was lost")


class EmbeddedService(Service):
    """Delivery over the embedded bus."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self.bus: FaultyBus
        super().__init__(database, objects, FaultyBus(database))

    async def delivered(self, topic: str = TOPIC) -> list[Received]:
        """All messages of a topic."""
        return await self.bus.read(topic, 0, 1000)
