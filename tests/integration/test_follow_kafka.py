# SPDX-License-Identifier: Apache-2.0
"""Events of an NCMP on a real Kafka, as NCMP sends them, and another instance of this service as the NCMP."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import aiohttp
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.kafka import KafkaBus
from ran_datajobs.messaging.topics import LCM_TOPIC
from tests.integration.test_follow import ONE, Following
from tests.integration.test_follow import following as following
from tests.kit.commands import started
from tests.kit.ncmp import event, handle, java_headers
from tests.kit.plugins.scripted import ScriptedPlugin
from tests.kit.whole_service import Service, whole_service
from tests.kit.worker_parts import until
from tests.peers.kafka import KafkaBroker

pytestmark = [pytest.mark.kafka, pytest.mark.nightly]


@pytest.fixture
def without_topic(kafka_broker: KafkaBroker) -> KafkaBroker:
    """A broker without the topic of events."""
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap, "log_level": 0})
    if LCM_TOPIC in admin.list_topics(timeout=10).topics:
        admin.delete_topics([LCM_TOPIC])[LCM_TOPIC].result(30)
    return kafka_broker


def send(broker: KafkaBroker, *messages: Message) -> None:
    """Publish events with the headers of NCMP."""
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for message in messages:
        producer.produce(LCM_TOPIC, message.value, message.key, headers=java_headers(message))
    assert producer.flush(30) == 0


@pytest.mark.parametrize("version", [1, 2])
async def test_events_of_ncmp_are_followed(
    following: Following, without_topic: KafkaBroker, version: int
) -> None:
    """Of both versions, whose headers are no texts, once the topic exists. What was sent while nobody
    followed is there after the next start, and the positions in the topic are kept."""
    ncmp = following.ncmp
    bus = KafkaBus(without_topic.bootstrap, installation=secrets.token_hex(4), patience=5.0)
    ncmp.put(handle("a", ONE), handle("b", ONE))
    try:
        async with following.running(bus):
            await following.same()
            await asyncio.to_thread(without_topic.create_topic, LCM_TOPIC, 3)
            del ncmp.handles["a"]
            ncmp.put(handle("c", ONE), handle("b", ONE, dataProducerIdentifier="other"))
            searches = ncmp.asked["search"]
            await asyncio.to_thread(
                send, without_topic, event("a", "delete", version), event("b", "update", version),
                event("c", "create", version), event("c", "update", version),
            )  # fmt: skip
            await following.same()
            assert ncmp.asked["search"] == searches
        del ncmp.handles["c"]
        await asyncio.to_thread(send, without_topic, event("c", "delete", version))
        async with following.running(bus):
            await following.same()
            looked_up = ncmp.asked["look-up"]
            ncmp.put(handle("d", ONE))
            await asyncio.to_thread(send, without_topic, event("d", "create", version))
            await following.same()
            assert ncmp.asked["look-up"] - looked_up <= 2, "not a, b and c again"
    finally:
        await bus.aclose()


async def test_a_service_follows_another_one(
    without_topic: KafkaBroker, database_url: str, tmp_path: Path, free_port: int
) -> None:
    """By its searches and its events, across SIGKILL of workers: created, changed (private properties too)
    and removed handles arrive. Jobs go to the plugin that has them."""
    await asyncio.to_thread(without_topic.create_topic, LCM_TOPIC, 3)
    plugin, url = ScriptedPlugin(), f"http://127.0.0.1:{free_port}"
    kafka = {"kafka_bootstrap": without_topic.bootstrap}
    async with (
        plugin.serving() as address,
        whole_service(database_url, tmp_path / "one", **kafka, inventory_events_topic=LCM_TOPIC) as one,
        aiohttp.ClientSession() as session,
    ):
        names = {f"/ManagedElement={n}": "ems" for n in range(20)}
        await one.register(address, names)
        settings = {
            "DATAJOBS_KAFKA_BOOTSTRAP": without_topic.bootstrap,
            "DATAJOBS_FOLLOW_NCMP": one.root,
            "DATAJOBS_FOLLOW_PLUGINS": address,
            "DATAJOBS_MIN_FREE_DISK": "0",
        }
        with started(
            "serve", "--port", str(free_port), "--workers", "2", "--data-dir", tmp_path / "other",
            lines=tmp_path / "lines", **settings,
        ) as running:  # fmt: skip
            await asyncio.to_thread(running.until_ready, url)
            other = Service(url, session, one.database)

            async def shown(service: Service) -> list[tuple[str, str, str, str]]:
                body = {"cmHandleQueryParameters": []}
                path = "/ncmpInventory/v1/ch/searchCmHandles?outputDmiProperties=true"
                found = await service.call("POST", path, body, expect=200)
                names = ("cmHandle", "alternateId", "dataProducerIdentifier", "cmHandleProperties")
                return sorted(tuple(str(each[name]) for name in names) for each in found)  # type: ignore[misc]

            async def same() -> bool:
                return await shown(one) == await shown(other) != []

            await until(same)
            for number in range(2):
                workers = [each for each in running.tree() if "serve-worker" in each.cmdline()]
                workers[0].kill()
                update = {"cmHandle": "_ManagedElement-5", "cmHandleProperties": {"n": number}}
                body = {
                    "dmiPlugin": address,
                    "createdCmHandles": [{"cmHandle": f"new-{number}", "alternateId": f"/New={number}"}],
                    "updatedCmHandles": [update],
                    "removedCmHandles": [f"_ManagedElement-{number}"],
                }
                await one.call("POST", "/ncmpInventory/v1/ch", body, expect=200)
                await until(same)
            operation = {"op": "merge", "path": "/ManagedElement=5", "operationId": 1, "value": {"a": 1}}
            job = await other.ended(await other.submit([operation]))
            assert job["status"] == "FINSHED"
            assert {call.kind for call in plugin.calls} >= {"create"}
