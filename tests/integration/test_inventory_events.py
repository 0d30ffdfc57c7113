# SPDX-License-Identifier: Apache-2.0
"""From a registration to the topic of inventory events: each committed change is one event, in order.

All parts are real: PostgreSQL, registrations, the publisher, the embedded bus with failures on demand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ran_datajobs.api import paths
from ran_datajobs.api.tokens import Role, add
from ran_datajobs.config import Settings
from ran_datajobs.errors import InvalidRequest, StoreUnavailable
from ran_datajobs.inventory import registry
from ran_datajobs.results.objects import open_folder
from ran_datajobs.results.publisher import Publisher
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Connection, Database
from tests.data.kept import STAGES, load_stages
from tests.integration.delivery_service import responses
from tests.integration.embedded_delivery import EmbeddedService
from tests.kit.api_service import northbound_api

TOPIC = "ncmp-events"
OTHER = "other-events"


class Inventory(EmbeddedService):
    """Registrations with events, and the delivery of these."""

    async def register(self, topic: str | None = TOPIC, **fields: Any) -> None:
        """Apply a registration of which nothing fails."""
        body = msgspec.json.encode({"dmiPlugin": "http://127.0.0.1:9001", **fields})
        settings = Settings(inventory_events_topic=topic)
        outcome = await registry.register(self.database, settings, body)
        assert not outcome.failed

    async def published(self, publisher: Publisher | None = None) -> None:
        """Publish until no event is left."""
        publisher = publisher or self.publisher()
        async with asyncio.timeout(30):
            while await self.publish_shard(outbox.INVENTORY_SHARD, publisher) is not None:
                pass

    async def sent(self, topic: str = TOPIC) -> list[tuple[str, str]]:
        """Key and kind of every event on the topic."""
        values = [
            (each.message.key, msgspec.json.decode(each.message.value))
            for each in await self.delivered(topic)
        ]
        assert all(value["event"]["cmHandleId"] == key for key, value in values)
        return [(key, value["eventType"].rpartition(".")[2]) for key, value in values]

    async def waiting(self) -> int:
        """Number of events in the outbox."""
        return int(await self.value("select count(*) from outbox where job_id = $1", outbox.INVENTORY))


@pytest.fixture
def inventory(database: Database, tmp_path: Path) -> Inventory:
    """An empty inventory."""
    return Inventory(database, open_folder(tmp_path / "objects"))


def handles(*numbers: int, **fields: Any) -> list[dict[str, Any]]:
    """Handles for a registration."""
    return [
        {"cmHandle": f"ch-{n}", "alternateId": f"/ME={n}", "dataProducerIdentifier": "p", **fields}
        for n in numbers
    ]


async def test_each_change_is_one_event(inventory: Inventory) -> None:
    """Creations, updates and deletions of several registrations arrive once, in the order of the commits."""
    await inventory.register(createdCmHandles=handles(1, 2, 3))
    await inventory.register(updatedCmHandles=handles(2, publicCmHandleProperties={"a": "b"}))
    await inventory.register(removedCmHandles=["ch-1"], createdCmHandles=handles(4))
    await inventory.register(upgradedCmHandles={"cmHandles": ["ch-2"], "moduleSetTag": "t"})
    await inventory.published()
    assert await inventory.sent() == [
        ("ch-1", "create"),
        ("ch-2", "create"),
        ("ch-3", "create"),
        ("ch-2", "update"),
        ("ch-1", "delete"),
        ("ch-4", "create"),
        ("ch-2", "update"),
    ]
    ids = [each.message.headers["ce_id"] for each in await inventory.delivered(TOPIC)]
    assert len(set(ids)) == len(ids)


async def test_nothing_changed_is_no_event(inventory: Inventory) -> None:
    """Neither a repeated registration nor a refused one writes an event, nor does one without a topic."""
    await inventory.register(None, createdCmHandles=handles(1, 2))
    assert await inventory.waiting() == 0
    await inventory.register(createdCmHandles=handles(1, 2))
    await inventory.register(updatedCmHandles=handles(1))
    await inventory.register(dmiDialect="onap")
    with pytest.raises(InvalidRequest):
        await inventory.register(createdCmHandles=[*handles(3), {"cmHandle": 4}])
    assert await inventory.waiting() == 0


async def test_a_change_and_its_event_are_one_transaction(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the database is lost before the commit, after the events were written, neither they nor the
    handles are there; the repeated registration has one event for each."""
    add = outbox.add

    async def add_and_lose(connection: Connection, messages: Sequence[outbox.Outgoing]) -> list[int]:
        await add(connection, messages)
        raise StoreUnavailable("lost, as the test wants it")

    with monkeypatch.context() as lost:
        lost.setattr(outbox, "add", add_and_lose)
        with pytest.raises(StoreUnavailable):
            await inventory.register(createdCmHandles=handles(1, 2))
    assert await inventory.waiting() == 0
    assert await inventory.value("select count(*) from cm_handle") == 0
    await inventory.register(createdCmHandles=handles(1, 2))
    await inventory.published()
    assert await inventory.sent() == [("ch-1", "create"), ("ch-2", "create")]


async def test_concurrent_registrations_are_in_order(inventory: Inventory) -> None:
    """The last event of each handle has the values that the inventory has."""

    async def update(producer: str) -> None:
        await inventory.register(updatedCmHandles=handles(1, 2, 3, dataProducerIdentifier=producer))

    await inventory.register(createdCmHandles=handles(1, 2, 3))
    await asyncio.gather(*(update(f"p{n}") for n in range(12)))
    publishers = inventory.publisher(), inventory.publisher()
    await asyncio.gather(*map(inventory.published, publishers))
    known = {f"ch-{n}": "p" for n in (1, 2, 3)}
    found = await inventory.delivered(TOPIC)
    assert len(found) == 3 + 12 * 3
    for each in found[3:]:
        event = msgspec.json.decode(each.message.value)["event"]
        assert event["oldValues"] == {"dataProducerIdentifier": known[each.message.key]}
        known[each.message.key] = event["newValues"]["dataProducerIdentifier"]
    rows = await inventory.database.fetch("select cm_handle, data_producer_id from cm_handle")
    assert known == dict(rows)


async def test_a_lost_answer_publishes_nothing_twice(inventory: Inventory) -> None:
    """The bus stored the events but its answer was lost: the next publisher continues after them."""
    await inventory.register(createdCmHandles=handles(1, 2))
    inventory.bus.dies_after_publishing = True
    assert await inventory.publish_shard(outbox.INVENTORY_SHARD) is not None
    assert await inventory.waiting() == 2
    await inventory.register(removedCmHandles=["ch-1"])
    await inventory.published()
    assert await inventory.sent() == [("ch-1", "create"), ("ch-2", "create"), ("ch-1", "delete")]


async def test_a_topic_that_refuses_delays_no_other(inventory: Inventory) -> None:
    """Events wait for their topic, in order, while those for another topic and results of jobs are
    delivered."""
    job_id = await inventory.job()
    sub_job = await inventory.sub_job(job_id)
    inventory.bus.refused = {TOPIC}
    publisher = inventory.publisher(give_up=0.0, give_up_refused=0.0)
    await inventory.register(createdCmHandles=handles(1))
    await inventory.publish_shard(outbox.INVENTORY_SHARD, publisher)
    await inventory.register(OTHER, createdCmHandles=handles(2))
    await inventory.register(removedCmHandles=["ch-1"])
    await inventory.settle(job_id, sub_job, responses(1))
    await inventory.finish(job_id)
    await inventory.publish_all(job_id, publisher)
    async with asyncio.timeout(30):
        while await inventory.waiting() > 2:
            await inventory.publish_shard(outbox.INVENTORY_SHARD, publisher)
    assert await inventory.state(job_id) == "DELIVERED"
    assert await inventory.sent(OTHER) == [("ch-2", "create")]
    assert await inventory.sent() == []
    assert inventory.given_up == []
    inventory.bus.refused = set()
    await inventory.published(publisher)
    assert await inventory.sent() == [("ch-1", "create"), ("ch-1", "delete")]
    assert await inventory.value("select count(*) from delivery_failure") == 0


async def test_a_bus_that_is_away_is_waited_for(inventory: Inventory) -> None:
    """The timeout of the results of jobs does not apply to events."""
    await inventory.register(createdCmHandles=handles(1))
    inventory.bus.unavailable = True
    publisher = inventory.publisher(give_up=0.0)
    for _ in range(3):
        assert await inventory.publish_shard(outbox.INVENTORY_SHARD, publisher) == 5.0
    inventory.bus.unavailable = False
    await inventory.published(publisher)
    assert await inventory.sent() == [("ch-1", "create")]


async def test_events_that_no_topic_takes_are_dropped_in_the_end(inventory: Inventory) -> None:
    """A topic that takes nothing for the retention loses its events; nothing of them is left, and later
    events arrive."""
    await inventory.register(createdCmHandles=handles(1))
    inventory.bus.refused = {TOPIC}
    publisher = inventory.publisher()
    publisher.give_up_events = 0.0
    async with asyncio.timeout(30):
        while not inventory.given_up:
            await inventory.publish_shard(outbox.INVENTORY_SHARD, publisher)
    assert [each.topic for each in inventory.given_up] == [TOPIC]
    assert await inventory.waiting() == 0
    assert await inventory.value("select count(*) from delivery_failure") == 0
    inventory.bus.refused = set()
    await inventory.register(createdCmHandles=handles(2))
    await inventory.published(publisher)
    assert await inventory.sent() == [("ch-2", "create")]


async def test_many_handles_in_one_registration(inventory: Inventory) -> None:
    """More handles than are written at a time: one event each, in order."""
    many = range(registry.EVENT_BATCH + 1)
    await inventory.register(createdCmHandles=handles(*many))
    await inventory.published()
    rows = await inventory.database.fetch(
        "select key from bus_message where topic = $1 order by message_offset", TOPIC
    )
    assert [row["key"] for row in rows] == [f"ch-{n}" for n in many]


@pytest.mark.without_schema
@pytest.mark.damages_rows
async def test_a_database_with_undelivered_messages_is_upgraded(database_url: str, tmp_path: Path) -> None:
    """Messages and failed deliveries of the newest kept schema stay as they are, and events are published
    beside them."""
    await load_stages(database_url, max(STAGES))
    database = await Database.open(database_url, size=4)

    async def rows() -> tuple[list[Any], list[Any]]:
        async with database.connection() as connection:
            return (
                await connection.fetch("select shard, position, job_id, topic from outbox order by 1, 2"),
                await connection.fetch(
                    "select job_id, topic, shard, parked from delivery_failure order by 1"
                ),
            )

    async with database.connection() as connection:
        await connection.execute(
            "insert into delivery_failure (job_id, topic, shard, retry_at, parked, last_error) "
            "select job_id, topic, shard, now(), true, 'unavailable' from outbox order by position limit 1"
        )
    before = await rows()
    assert all(before)
    await database.migrate()
    assert await rows() == before
    inventory = Inventory(database, open_folder(tmp_path / "objects"))
    await inventory.register(createdCmHandles=handles(901))
    await inventory.published()
    assert await inventory.sent() == [("ch-901", "create")]
    assert await rows() == before
    await inventory.execute("delete from outbox")
    await inventory.execute("delete from data_job where job_id in (select job_id from delivery_failure)")
    assert (await rows())[1] == []
    await database.close()


async def test_admins_alone_read_the_events(database: Database, tmp_path: Path, free_port: int) -> None:
    """On the embedded bus the topic is another one that no job may name, and no other role reads it."""
    tokens = tmp_path / "tokens"
    settings = {"tokens_file": tokens, "inventory_events_topic": TOPIC}
    async with northbound_api(database, tmp_path, free_port, **settings) as api:
        callers = {
            role: {"Authorization": f"Bearer {add(tokens, role.value, role, None)}"}
            for role in (Role.ADMIN, Role.SUBMIT, Role.READ)
        }
        body = {"dmiPlugin": "http://127.0.0.1:9001", "createdCmHandles": handles(1)}
        assert (await api.post(paths.INVENTORY, body, headers=callers[Role.ADMIN])).status == 200
        inventory = Inventory(database, open_folder(tmp_path / "objects"))
        await inventory.published()
        path = paths.fill(paths.TOPIC_MESSAGES, topic=TOPIC)
        answer = await api.get(path, headers=callers[Role.ADMIN])
        (message,) = answer.json()["items"]
        assert (message["key"], message["value"]["event"]["cmHandleId"]) == ("ch-1", "ch-1")
        for role in (Role.SUBMIT, Role.READ):
            assert (await api.get(path, headers=callers[role])).status == 404
        for name in (TOPIC, f"kafka:{TOPIC}"):
            refused = await api.submit(query=f"?destination={name}", headers=callers[Role.ADMIN])
            assert refused.status == 400
            assert "the service's own" in refused.problem["detail"]
