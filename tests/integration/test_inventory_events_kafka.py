# SPDX-License-Identifier: Apache-2.0
"""Inventory events on a real Kafka: once and in order of each handle, whichever process is killed."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.kafka import from_binary_event

from ran_datajobs.config import Settings
from ran_datajobs.inventory import registry
from tests.integration.publishing_process import CHECKPOINTS, NONE
from tests.integration.test_delivery_kafka import KafkaService, committed
from tests.integration.test_delivery_kafka import service as service
from tests.tiers import sampled

pytestmark = pytest.mark.kafka

HANDLES = 40
ROUNDS = 4


async def change_some(service: KafkaService, dice: random.Random, there: dict[str, list[str]]) -> None:
    """One registration that creates, updates and removes handles; ``there`` gets the kinds of the events."""
    changes: dict[str, list[Any]] = {"createdCmHandles": [], "updatedCmHandles": [], "removedCmHandles": []}
    for number in dice.sample(range(HANDLES), HANDLES // 2):
        name = f"ch-{number}"
        handle = {"cmHandle": name, "moduleSetTag": str(dice.random())}
        if there[name][-1:] in ([], ["delete"]):
            changes["createdCmHandles"].append(handle)
            there[name].append("create")
        elif dice.random() < 0.3:
            changes["removedCmHandles"].append(name)
            there[name].append("delete")
        else:
            changes["updatedCmHandles"].append(handle)
            there[name].append("update")
    body = msgspec.json.encode({"dmiPlugin": "http://127.0.0.1:9001", **changes})
    settings = Settings(inventory_events_topic=service.topic)
    assert not (await registry.register(service.database, settings, body)).failed


@pytest.mark.parametrize("checkpoint", sampled(CHECKPOINTS, {"after the commit"}))
@pytest.mark.nightly
async def test_once_across_kills(service: KafkaService, database_url: str, checkpoint: str) -> None:
    """SIGKILL of the publisher at one of its steps, repeatedly, between registrations: each change has one
    event, those of a handle are in order, and the cloudevents package reads them."""
    dice, there = random.Random(7), defaultdict[str, list[str]](list)
    for _ in range(ROUNDS):
        await change_some(service, dice, there)
        said = await asyncio.to_thread(service.published_by_a_process, database_url, checkpoint)
        assert said == checkpoint
    assert await asyncio.to_thread(service.published_by_a_process, database_url, NONE) == "done"
    found = defaultdict[str, list[str]](list)
    for message in await asyncio.to_thread(committed, service.broker, service.topic):
        event = from_binary_event(message)
        assert event.get_source() == "org.onap.ncmp"
        assert message.key is not None
        key = message.key.decode() if isinstance(message.key, bytes) else str(message.key)
        value = msgspec.json.decode(message.value or b"")
        assert value["event"]["cmHandleId"] == key
        assert value["eventType"] == event.get_type()
        found[key].append(event.get_type().rpartition(".")[2])
    assert found == there
    assert await service.value("select count(*) from outbox") == 0
