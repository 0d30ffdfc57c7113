# SPDX-License-Identifier: Apache-2.0
"""A publisher in its own process, which freezes at a named checkpoint; the test then kills or continues it.

Arguments: database URL, Kafka bootstrap servers, folder of the objects, checkpoint. It prints the name of the
checkpoint when it reaches it, or ``done`` when the outbox is empty.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ran_datajobs.messaging import kafka
from ran_datajobs.messaging.bus import OutboxMessage
from ran_datajobs.messaging.kafka import KafkaBus
from ran_datajobs.messaging.kafka_producer import TransactionalProducer
from ran_datajobs.results.objects import open_folder
from ran_datajobs.results.publisher import Publisher
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from ran_datajobs.telemetry import configure
from tests.integration.delivery_service import news

CHECKPOINTS = (
    "before the fence",
    "after the fence",
    "before the transaction",
    "transaction open",
    "messages at the broker",
    "after the commit",
)
NONE = "none"


class Checkpoints:
    """Stops the whole process at the named checkpoint, the first time it is reached."""

    def __init__(self, stop_at: str) -> None:
        self._stop_at = stop_at

    def __call__(self, name: str) -> None:
        if name == self._stop_at:
            self._stop_at = NONE
            print(name, flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)


class CheckedProducer(TransactionalProducer):
    """Stops inside a transaction."""

    checkpoint: Checkpoints

    def _flush(self) -> None:
        self.checkpoint("transaction open")
        super()._flush()
        self.checkpoint("messages at the broker")


class CheckedBus(KafkaBus):
    """Stops around the steps of a bus."""

    checkpoint: Checkpoints

    async def recover_position(self, shard: int) -> int:
        """Stop before or after the fence."""
        self.checkpoint("before the fence")
        position = await super().recover_position(shard)
        self.checkpoint("after the fence")
        return position

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Stop before the transaction or after its commit."""
        self.checkpoint("before the transaction")
        await super().publish_shard(shard, messages)
        self.checkpoint("after the commit")


async def main(url: str, bootstrap: str, folder: str, stop_at: str) -> None:
    """Publish all shards until the outbox is empty."""
    configure(level="warning", form="json")  # standard output has the checkpoints alone
    database = await Database.open(url)
    async with database.connection() as connection:
        installation = str(await outbox.installation(connection))
    bus = CheckedBus(bootstrap, installation=installation)
    CheckedProducer.checkpoint = bus.checkpoint = Checkpoints(stop_at)
    kafka.TransactionalProducer = CheckedProducer  # type: ignore[misc]  # the bus opens these
    publisher = Publisher(
        database,
        bus,
        open_folder(Path(folder)),
        lambda bucket, key: f"http://host/{bucket}/{key}",
        news(),
        first_retry=0.05,
        longest_retry=0.2,
    )
    for shard in (outbox.INVENTORY_SHARD, *range(outbox.SHARDS)):
        while (pause := await publisher.publish(shard)) is not None:
            await asyncio.sleep(pause)
    await bus.aclose()
    await database.close()
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
