# SPDX-License-Identifier: Apache-2.0
"""Delivery to a real Kafka: exactly once for a read_committed consumer, whichever process is killed."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AclOperation

from ran_datajobs.messaging import events
from ran_datajobs.messaging.kafka import KafkaBus
from ran_datajobs.messaging.topics import STATUS_TOPIC
from ran_datajobs.results import delivery
from ran_datajobs.results.objects import open_folder
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from tests.integration.delivery_service import BUCKET, Service, id_in_shard, responses
from tests.integration.publishing_process import CHECKPOINTS, NONE
from tests.peers.kafka import KafkaBroker
from tests.tiers import nightly

pytestmark = pytest.mark.kafka

KILLS = 12


class KafkaService(Service):
    """Delivery to a separate topic on a real broker."""

    def __init__(
        self, database: Database, folder: Path, broker: KafkaBroker, bus: KafkaBus, topic: str
    ) -> None:
        super().__init__(database, open_folder(folder), bus)
        self.folder = folder
        self.broker = broker
        self.topic = topic

    async def sent_job(self, sub_jobs: int, job_id: UUID | None = None) -> UUID:
        """A job whose sub-jobs have three messages each, all in the outbox."""
        job_id = await self.job(destination=self.topic, job_id=job_id)
        for position in range(sub_jobs):
            sub_job = await self.sub_job(job_id, position=position, producer=f"ems-{position}")
            await self.settle(job_id, sub_job, responses(*range(6), size=400_000))
        await self.finish(job_id)
        return job_id

    def publishing(self, url: str, stop_at: str) -> subprocess.Popen[str]:
        """A publisher in a separate process."""
        command = [sys.executable, "-m", "tests.integration.publishing_process"]
        arguments = [url, self.broker.bootstrap, str(self.folder), stop_at]
        return subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def published_by_a_process(self, url: str, stop_at: str) -> str:
        """The output of a publisher process until it was killed or ended."""
        with self.publishing(url, stop_at) as process:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            process.kill()
            process.wait()
        return said


@pytest.fixture
async def service(
    database: Database, tmp_path: Path, kafka_broker: KafkaBroker
) -> AsyncIterator[KafkaService]:
    """A service with an empty store and an empty topic of three partitions."""
    topic = f"rapp-{secrets.token_hex(4)}"
    kafka_broker.create_topic(topic, partitions=3)
    async with database.connection() as connection:
        installation = str(await outbox.installation(connection))
    bus = KafkaBus(kafka_broker.bootstrap, installation=installation, patience=5.0)
    yield KafkaService(database, tmp_path / "objects", kafka_broker, bus, topic)
    await bus.aclose()


def committed(broker: KafkaBroker, topic: str) -> list[KafkaMessage]:
    """Every message of a topic that a ``read_committed`` consumer sees, with plain confluent-kafka."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "a-reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        partitions = list(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        found: list[KafkaMessage] = []
        ends, deadline = 0, time.monotonic() + 60
        while ends < len(partitions):
            assert time.monotonic() < deadline, "the topic was not read to its end"
            record = consumer.poll(1.0)
            if record is None:
                continue
            if record.error() is not None:
                ends += 1
                continue
            headers = {name: value or b"" for name, value in record.headers() or ()}
            found.append(KafkaMessage(headers=headers, key=record.key(), value=record.value() or b""))
        return found
    finally:
        consumer.close()


def identities(messages: list[KafkaMessage]) -> list[tuple[str, str, int, int]]:
    """The permanent identity of each message."""
    return [
        (
            message.headers[events.CORRELATION_ID].decode(),
            message.headers[events.SUB_JOB_ID].decode(),
            int(message.headers[events.SEQUENCE]),
            int(message.headers[events.DELIVERY]),
        )
        for message in messages
    ]


def whole(messages: list[KafkaMessage], jobs: dict[UUID, int]) -> None:
    """Assert that every sub-job of ``jobs`` has its three messages, each once and in order, and no other."""
    seen = identities(messages)
    assert len(seen) == len(set(seen))
    of_sub_job: dict[tuple[str, str], list[int]] = {}
    for job_id, sub_job, sequence, delivered in seen:
        assert delivered == 1
        of_sub_job.setdefault((job_id, sub_job), []).append(sequence)
    assert all(sequences == [0, 1, 2] for sequences in of_sub_job.values())
    assert {UUID(job_id) for job_id, _ in of_sub_job} == set(jobs)
    for job_id, sub_jobs in jobs.items():
        assert sum(UUID(job) == job_id for job, _ in of_sub_job) == sub_jobs


@pytest.mark.nightly
async def test_once_across_kills_at_every_checkpoint(service: KafkaService, database_url: str) -> None:
    """SIGKILL of the publisher at each of its steps, repeatedly: no message is lost or doubled."""
    jobs: dict[UUID, int] = {}
    for kill in range(KILLS):
        jobs[await service.sent_job(2)] = 2
        checkpoint = CHECKPOINTS[kill % len(CHECKPOINTS)]
        said = await asyncio.to_thread(service.published_by_a_process, database_url, checkpoint)
        assert said == checkpoint
    assert await asyncio.to_thread(service.published_by_a_process, database_url, NONE) == "done"
    whole(await asyncio.to_thread(committed, service.broker, service.topic), jobs)
    for job_id in jobs:
        assert await service.state(job_id) == "DELIVERED"
    assert await service.value("select count(*) from outbox") == 0


@pytest.mark.parametrize(
    "checkpoint",
    [nightly("before the transaction"), "transaction open", nightly("messages at the broker")],
)
async def test_a_frozen_publisher_spoils_nothing(
    service: KafkaService, database_url: str, checkpoint: str
) -> None:
    """A publisher that is frozen before or in its transaction, and cut off from the database, is replaced.
    When it continues, none of its messages is committed."""
    job_id = await service.sent_job(2)
    process = service.publishing(database_url, checkpoint)
    try:
        assert process.stdout is not None
        assert (await asyncio.to_thread(process.stdout.readline)).strip() == checkpoint
        await service.execute(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' "
            "and database = (select oid from pg_database where datname = current_database())"
        )
        await service.deliver(job_id, service.publisher())
        process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(process.wait, 60)
    finally:
        process.kill()
        process.communicate()
    whole(await asyncio.to_thread(committed, service.broker, service.topic), {job_id: 2})


async def test_an_object_too_large_for_a_message_is_referred_to(service: KafkaService) -> None:
    """A single object over the limit is referred to by the address and the check sum of its result object."""
    job_id = await service.job(destination=service.topic)
    (part,) = await service.settle(job_id, await service.sub_job(job_id), responses(1, size=1_500_000))
    await service.publish_all(job_id)
    (message,) = await asyncio.to_thread(committed, service.broker, service.topic)
    assert message.value is not None
    (entry,) = msgspec.json.decode(message.value)["data"]["responses"]
    assert entry["result"]["sha256"] == part.sha256
    assert entry["result"]["dataref"].endswith(part.key)
    stored = await service.objects.get(BUCKET, part.key)
    assert stored is not None
    assert hashlib.sha256(stored).hexdigest() == part.sha256


async def test_a_status_event_is_a_cloud_event(service: KafkaService) -> None:
    """The cloudevents package reads a change of status, with its own type and schema and the job as data."""
    job_id = await service.job(destination=service.topic)
    async with service.database.transaction() as connection:
        await outbox.add(
            connection, [delivery.status_message(job_id, service.topic, 3, b'{"status":"RUNNING"}')]
        )
    await service.publish_all(job_id)
    everything = await asyncio.to_thread(committed, service.broker, STATUS_TOPIC)
    (message,) = [each for each in everything if each.headers[events.CORRELATION_ID] == str(job_id).encode()]
    event = from_binary_event(message)
    assert event.get_type() == events.STATUS_TYPE
    assert event.get_dataschema() == f"urn:cps:{events.STATUS_TYPE}:1.0.0"
    assert event.get_source() == f"ncmp.{job_id}"
    assert event.get_specversion() == "1.0"
    data = event.get_data()
    body = data if isinstance(data, dict) else msgspec.json.decode(data)
    assert body == {"data": {"status": "RUNNING"}}


@pytest.mark.nightly
async def test_once_across_a_broker_that_is_killed(service: KafkaService) -> None:
    """The broker is SIGKILLed while messages wait. When it is back, all of them are published once."""
    first = await service.sent_job(2)
    publisher = service.publisher()
    await service.publish_all(first, publisher)
    service.broker.kill()
    try:
        second = await service.sent_job(2)
        assert await service.publish(second, publisher) is not None
        assert await service.state(second) == "PENDING"
    finally:
        service.broker.start()
    await service.publish_all(second, publisher, within=90)
    whole(await asyncio.to_thread(committed, service.broker, service.topic), {first: 2, second: 2})
    assert await service.state(second) == "DELIVERED"


@pytest.mark.parametrize("same_shard", [True, nightly(False)])
async def test_a_destination_topic_that_is_missing(service: KafkaService, same_shard: bool) -> None:
    """A missing topic is not created, delays only its own jobs, and gets all messages once after it
    exists."""
    missing = f"missing-{secrets.token_hex(4)}"
    lost = await service.job(destination=missing)
    sub_job = await service.sub_job(lost)
    await service.settle(lost, sub_job, responses(1))
    await service.finish(lost)
    shard = outbox.shard_of(lost) if same_shard else (outbox.shard_of(lost) + 1) % outbox.SHARDS
    made = await service.sent_job(1, id_in_shard(shard))
    publisher = service.publisher()
    assert await service.publish(lost, publisher) is not None
    assert await service.state(lost) == "PENDING"
    await service.deliver(made, publisher)
    assert await service.state(made) == "DELIVERED"
    assert await service.state(lost) == "PENDING"
    service.broker.create_topic(missing)
    await service.deliver(lost, publisher)
    assert await service.state(lost) == "DELIVERED"
    assert len(await asyncio.to_thread(committed, service.broker, missing)) == 1


async def test_a_forbidden_and_a_deleted_topic_delay_no_other_topic(service: KafkaService) -> None:
    """A topic with permission to describe only, and one that is deleted while jobs wait, fail their own
    deliveries. A job of the same shard, in the same batches, is delivered."""
    broker = service.broker
    forbidden, deleted = f"forbidden-{secrets.token_hex(4)}", f"deleted-{secrets.token_hex(4)}"
    broker.create_topic(forbidden)
    broker.create_topic(deleted)
    broker.allow_only(forbidden, AclOperation.DESCRIBE)
    async with service.database.connection() as connection:
        installation = str(await outbox.installation(connection))
    service.bus = bus = KafkaBus(
        broker.sasl_bootstrap, broker.sasl_settings, installation=installation, patience=5.0
    )
    jobs: dict[str, UUID] = {}
    for number, topic in enumerate((deleted, forbidden, service.topic)):
        jobs[topic] = await service.job(destination=topic, job_id=id_in_shard(5))
        await service.settle(
            jobs[topic],
            await service.sub_job(jobs[topic], producer=f"ems-{number}"),
            responses(*range(6), size=400_000),
        )
    try:
        publisher = service.publisher()
        broker.delete_topic(deleted)
        for job_id in jobs.values():
            await service.finish(job_id)
        await service.deliver(jobs[service.topic], publisher)
        assert [await service.state(job_id) for job_id in jobs.values()] == [
            "PENDING",
            "PENDING",
            "DELIVERED",
        ]
        hopeless = service.publisher(give_up=0.0)
        await service.deliver(jobs[forbidden], hopeless)
        await service.deliver(jobs[deleted], hopeless)
        assert [await service.state(job_id) for job_id in jobs.values()] == ["FAILED", "FAILED", "DELIVERED"]
        assert {each.topic for each in service.given_up} == {forbidden, deleted}
    finally:
        await bus.aclose()
    whole(await asyncio.to_thread(committed, broker, service.topic), {jobs[service.topic]: 1})


async def test_a_consumer_can_read_the_events_with_the_cloudevents_package(service: KafkaService) -> None:
    """Each message is a CloudEvent 1.0 in binary mode, with ONAP's type, source and schema."""
    job_id = await service.sent_job(1)
    await service.publish_all(job_id)
    (message, *_) = await asyncio.to_thread(committed, service.broker, service.topic)
    event = from_binary_event(message)
    assert event.get_type() == events.RESULT_TYPE
    assert event.get_source() == f"ncmp.{job_id}"
    assert event.get_dataschema() == f"urn:cps:{events.RESULT_TYPE}:1.0.0"
    assert event.get_specversion() == "1.0"
    assert event.get_extension("correlationid") == str(job_id)
    assert event.get_extension("destination") == service.topic
    data = event.get_data()
    body = data if isinstance(data, dict) else msgspec.json.decode(data)
    assert len(body["data"]["responses"]) == 2
