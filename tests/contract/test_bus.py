# SPDX-License-Identifier: Apache-2.0
"""One suite for both message buses: the embedded one on PostgreSQL, and a real Apache Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AclOperation

from ran_datajobs.errors import BusUnavailable, Fenced, TopicRefused
from ran_datajobs.messaging.bus import Bus, Message, OutboxMessage, Received
from ran_datajobs.messaging.kafka import KafkaBus
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.messaging.topics import POSITION_TOPIC, STATUS_TOPIC
from ran_datajobs.store.database import Database
from tests.peers.kafka import KafkaBroker
from tests.peers.program import free_ports

CONSUMER = "a-consumer"


class BusUnderTest:
    """Opens any number of clients of one bus that share no state in memory."""

    def __init__(
        self, open_bus: Callable[[], Bus], close: Callable[[Bus], Awaitable[None]], topic: Callable[[], str]
    ) -> None:
        self._open = open_bus
        self._close = close
        self._opened: list[Bus] = []
        self.new_topic = topic

    def client(self) -> Bus:
        """Open a client that shares no state with the others."""
        bus = self._open()
        self._opened.append(bus)
        return bus

    async def close(self) -> None:
        """Close every client."""
        for bus in self._opened:
            await self._close(bus)


@pytest.fixture
async def postgres_buses(database: Database) -> AsyncIterator[BusUnderTest]:
    """The embedded bus, with no topic."""
    under_test = BusUnderTest(lambda: PostgresBus(database, poll_interval=0.2), _nothing_to_close, _any_topic)
    yield under_test
    await under_test.close()


@pytest.fixture
async def kafka_buses(kafka_broker: KafkaBroker) -> AsyncIterator[BusUnderTest]:
    """A real broker, accessed as a new installation."""
    installation = secrets.token_hex(4)

    def new_topic() -> str:
        kafka_broker.create_topic(topic := _any_topic())
        return topic

    under_test = BusUnderTest(
        lambda: KafkaBus(kafka_broker.bootstrap, installation=installation), _close_kafka, new_topic
    )
    yield under_test
    await under_test.close()


@pytest.fixture(params=["postgres", pytest.param("kafka", marks=pytest.mark.kafka)])
def buses(request: pytest.FixtureRequest) -> BusUnderTest:
    """Each kind of bus."""
    return cast("BusUnderTest", request.getfixturevalue(f"{request.param}_buses"))


async def _nothing_to_close(_: Bus) -> None:
    """The embedded bus needs no cleanup."""


async def _close_kafka(bus: Bus) -> None:
    await cast("KafkaBus", bus).aclose()


def _any_topic() -> str:
    return f"topic-{secrets.token_hex(4)}"


def message(number: int, size: int = 0) -> Message:
    """A message that contains its number."""
    return Message(
        f"key-{number % 3}", {"ce_id": str(number), "content-type": "x"}, b"%d" % number + bytes(size)
    )


def outgoing(topic: str, *positions: int) -> list[OutboxMessage]:
    """Messages that contain their positions."""
    return [OutboxMessage(position, topic, message(position)) for position in positions]


@contextlib.asynccontextmanager
async def receiving(
    bus: Bus, topic: str, consumer: str = CONSUMER
) -> AsyncIterator[AsyncIterator[list[Received]]]:
    """Yields the batches of a topic; closes the receiver at the end."""
    async with contextlib.aclosing(bus.receive(topic, consumer)) as stream:
        yield stream


async def received(bus: Bus, topic: str, count: int, consumer: str | None = None) -> list[Received]:
    """Return the first ``count`` messages of a topic, read by a new consumer."""
    found: list[Received] = []
    async with (
        asyncio.timeout(30),
        receiving(bus, topic, consumer or f"reader-{secrets.token_hex(4)}") as stream,
    ):
        async for batch in stream:
            found += batch
            if len(found) >= count:
                return found
    raise AssertionError("the stream ended")


def numbers(messages: list[Received]) -> list[int]:
    """The ids of messages, in order."""
    return [int(each.message.headers["ce_id"]) for each in messages]


async def test_topics_are_listed(buses: BusUnderTest) -> None:
    """The list of topics includes a topic that has a message."""
    bus, topic = buses.client(), buses.new_topic()
    await bus.publish(topic, [message(0)])
    assert topic in await bus.topics()


async def test_it_answers(buses: BusUnderTest) -> None:
    """``ready`` returns when the bus is available."""
    await buses.client().ready()


async def test_a_topic_is_looked_for_and_never_made(buses: BusUnderTest) -> None:
    """A topic that was created exists. A check for another topic does not create it. An invalid name never
    exists."""
    bus = buses.client()
    assert await bus.topic_exists(buses.new_topic())
    if isinstance(bus, KafkaBus):
        name = _any_topic()
        assert not await bus.topic_exists(name)
        assert not await bus.topic_exists(name)
    assert not await bus.topic_exists("no/topic")
    assert not await bus.topic_exists("")


async def test_messages_arrive_in_order_and_whole(buses: BusUnderTest) -> None:
    """Key, headers, bytes and order of messages arrive as published."""
    bus, topic = buses.client(), buses.new_topic()
    sent = [message(number, size=number * 50) for number in range(50)]
    await bus.publish(topic, sent[:20])
    await bus.publish(topic, sent[20:])
    found = await received(bus, topic, 50)
    assert [each.message for each in found] == sent
    assert [each.topic for each in found] == [topic] * 50
    offsets = [each.offset for each in found]
    assert offsets == sorted(set(offsets))


async def test_a_message_of_900_kb_gets_through(buses: BusUnderTest) -> None:
    """The bus accepts the largest message that the service makes."""
    bus, topic = buses.client(), buses.new_topic()
    await bus.publish(topic, [message(1, size=899_000)])
    (only,) = await received(bus, topic, 1)
    assert len(only.message.value) > 899_000


async def test_a_waiting_receiver_is_woken(buses: BusUnderTest) -> None:
    """A message published while a receiver waits reaches it."""
    bus, topic = buses.client(), buses.new_topic()
    await bus.publish(topic, [message(0)])
    async with asyncio.timeout(30), receiving(bus, topic) as stream:
        assert numbers(await anext(stream)) == [0]
        waiting = asyncio.ensure_future(anext(stream))
        await buses.client().publish(topic, [message(1)])
        assert numbers(await waiting) == [1]


async def test_a_receiver_goes_on_after_what_was_processed(buses: BusUnderTest) -> None:
    """A consumer that asked for the next batch does not receive the one before again; it does receive a batch
    again that it was working on."""
    bus, topic = buses.client(), buses.new_topic()
    await bus.publish(topic, [message(number) for number in range(3)])
    async with asyncio.timeout(30), receiving(bus, topic) as stream:
        assert numbers(await anext(stream)) == [0, 1, 2]
        await bus.publish(topic, [message(3), message(4)])
        assert numbers(await anext(stream)) == [3, 4]
        await bus.publish(topic, [message(5)])
    again = await received(buses.client(), topic, 3, CONSUMER)
    assert numbers(again) == [3, 4, 5]


async def test_two_consumers_do_not_disturb_each_other(buses: BusUnderTest) -> None:
    """Each consumer has a position of its own in the topic."""
    bus, topic = buses.client(), buses.new_topic()
    await bus.publish(topic, [message(number) for number in range(3)])
    first = await received(bus, topic, 3, "one")
    second = await received(bus, topic, 3, "two")
    assert numbers(first) == numbers(second) == [0, 1, 2]


async def test_a_second_receiver_takes_over(buses: BusUnderTest) -> None:
    """Of two receivers of one consumer, one is active. When it ends, the other continues after the last
    batch that was processed."""
    topic = buses.new_topic()
    first, second = buses.client(), buses.client()
    await first.publish(topic, [message(0)])
    async with asyncio.timeout(60):
        async with receiving(first, topic) as one:
            assert numbers(await anext(one)) == [0]
            await first.publish(topic, [message(1)])
            assert numbers(await anext(one)) == [1]
        async with receiving(second, topic) as two:
            assert numbers(await anext(two)) == [1]


async def test_a_shard_starts_at_nothing(buses: BusUnderTest) -> None:
    """Before the first publish, the position of a shard is -1."""
    assert await buses.client().recover_position(3) == -1


async def test_the_position_follows_what_readers_see(buses: BusUnderTest) -> None:
    """After a publish, the shard's position is that of its last message, also for a new client."""
    bus, topic = buses.client(), buses.new_topic()
    await bus.recover_position(0)
    await bus.publish_shard(0, outgoing(topic, 4, 5, 9))
    await bus.publish_shard(0, outgoing(topic, 12))
    assert numbers(await received(bus, topic, 4)) == [4, 5, 9, 12]
    assert await buses.client().recover_position(0) == 12
    assert await buses.client().recover_position(1) == -1


async def test_what_was_published_is_left_out(buses: BusUnderTest) -> None:
    """A publisher that restarts from an earlier position publishes no message twice."""
    first, topic = buses.client(), buses.new_topic()
    await first.recover_position(0)
    await first.publish_shard(0, outgoing(topic, 1, 2, 3))
    second = buses.client()
    assert await second.recover_position(0) == 3
    await second.publish_shard(0, outgoing(topic, 2, 3, 4))
    await second.publish_shard(0, outgoing(topic, 5))
    assert numbers(await received(second, topic, 5)) == [1, 2, 3, 4, 5]


async def test_an_overtaken_publisher_is_fenced(buses: BusUnderTest) -> None:
    """After another client has recovered the position, the earlier publisher is fenced."""
    topic = buses.new_topic()
    old, new = buses.client(), buses.client()
    await old.recover_position(0)
    await old.publish_shard(0, outgoing(topic, 1))
    await new.recover_position(0)
    with pytest.raises(Fenced):
        await old.publish_shard(0, outgoing(topic, 2))
    await new.publish_shard(0, outgoing(topic, 2, 3))
    assert numbers(await received(new, topic, 3)) == [1, 2, 3]
    assert await old.recover_position(0) == 3
    await old.publish_shard(0, outgoing(topic, 4))
    assert numbers(await received(new, topic, 4)) == [1, 2, 3, 4]


async def test_shards_and_topics_mix(buses: BusUnderTest) -> None:
    """One step may contain several topics, and shards publish concurrently to the same topic."""
    bus, first, second = buses.client(), buses.new_topic(), buses.new_topic()
    await bus.recover_position(0)
    await bus.recover_position(1)
    mixed = [*outgoing(first, 1), *outgoing(second, 2), *outgoing(first, 3)]
    await asyncio.gather(bus.publish_shard(0, mixed), bus.publish_shard(1, outgoing(first, 101, 102)))
    seen = numbers(await received(bus, first, 4))
    assert sorted(seen) == [1, 3, 101, 102]
    assert [each for each in seen if each < 100] == [1, 3]
    assert [each for each in seen if each > 100] == [101, 102]
    assert numbers(await received(bus, second, 1)) == [2]


@pytest.mark.nightly
async def test_a_refused_topic_publishes_nothing_of_its_step(buses: BusUnderTest) -> None:
    """The error names the topic. The other messages of the step are not published and can be published
    next."""
    bus, good = buses.client(), buses.new_topic()
    bad = _any_topic() if isinstance(bus, KafkaBus) else "no/topic"
    await bus.recover_position(0)
    with pytest.raises(TopicRefused) as caught:
        await bus.publish_shard(0, [*outgoing(good, 1), *outgoing(bad, 2)])
    assert caught.value.topic == bad
    await bus.recover_position(0)
    await bus.publish_shard(0, outgoing(good, 3))
    assert numbers(await received(bus, good, 1)) == [3]
    with pytest.raises(TopicRefused):
        await bus.publish(bad, [message(1)])


async def test_a_kafka_that_is_away() -> None:
    """Every call raises BusUnavailable within its timeout."""
    (port,) = free_ports(1)
    bus = KafkaBus(f"127.0.0.1:{port}", installation="x", patience=0.5)
    try:
        for call in (
            bus.ready(),
            bus.topic_exists("some-topic"),
            bus.recover_position(0),
            bus.publish("some-topic", [message(1)]),
        ):
            with pytest.raises(BusUnavailable):
                await call
    finally:
        await bus.aclose()


@pytest.mark.kafka
async def test_an_open_transaction_of_another_installation_hides_no_position(
    kafka_broker: KafkaBroker,
) -> None:
    """Installations share the topic of positions. While one has an open transaction there, positions that
    another one commits later are not yet readable: the next publisher waits instead of using an older
    position."""
    topic, shard, ours = _any_topic(), 3, secrets.token_hex(4)
    kafka_broker.create_topic(topic)
    first = KafkaBus(kafka_broker.bootstrap, installation=ours)
    hasty = KafkaBus(kafka_broker.bootstrap, installation=ours, patience=1.0)
    patient = KafkaBus(kafka_broker.bootstrap, installation=ours)
    other = Producer(
        {
            "bootstrap.servers": kafka_broker.bootstrap,
            "transactional.id": f"{secrets.token_hex(4)}.shard.{shard}",
        }
    )
    try:
        await first.recover_position(shard)
        await first.publish_shard(shard, outgoing(topic, 1))
        await asyncio.to_thread(other.init_transactions, 30)
        other.begin_transaction()
        other.produce(POSITION_TOPIC, key=b"other/3", value=b"77", partition=shard)
        assert await asyncio.to_thread(other.flush, 30) == 0
        await first.publish_shard(shard, outgoing(topic, 2))
        with pytest.raises(BusUnavailable):
            await hasty.recover_position(shard)
        waiting = asyncio.ensure_future(patient.recover_position(shard))
        await asyncio.to_thread(other.abort_transaction, 30)
        assert await waiting == 2
        await patient.publish_shard(shard, outgoing(topic, 2, 3))
        assert numbers(await received(patient, topic, 3)) == [1, 2, 3]
    finally:
        for bus in (first, hasty, patient):
            await bus.aclose()


@pytest.mark.kafka
@pytest.mark.nightly
async def test_a_topic_of_positions_that_is_gone_comes_again(kafka_broker: KafkaBroker) -> None:
    """The bus is unavailable until a call for the position has recreated the topic."""
    kafka_broker.create_topic(topic := _any_topic())
    bus = KafkaBus(kafka_broker.bootstrap, installation=secrets.token_hex(4), patience=5.0)
    try:
        await bus.recover_position(0)
        await bus.publish_shard(0, outgoing(topic, 1))
        kafka_broker.delete_topic(POSITION_TOPIC)
        with pytest.raises(BusUnavailable) as caught:
            await bus.publish_shard(0, outgoing(topic, 2))
        assert not isinstance(caught.value, TopicRefused), "no destination is the cause"
        with pytest.raises(Fenced):
            await bus.publish_shard(0, outgoing(topic, 2))
        await _until_it_works(lambda: bus.recover_position(0))
        await bus.publish_shard(0, outgoing(topic, 2))
        assert numbers(await received(bus, topic, 2)) == [1, 2]
        assert await bus.recover_position(0) == 2
    finally:
        await bus.aclose()


@pytest.mark.kafka
async def test_the_service_is_ready_once_its_own_topics_exist(kafka_broker: KafkaBroker) -> None:
    """A topic of the service that was deleted while it ran is created again before the bus is ready."""
    bus = KafkaBus(kafka_broker.bootstrap, installation=secrets.token_hex(4))
    try:
        await _until_it_works(bus.ready)
        kafka_broker.delete_topic(STATUS_TOPIC)
        async with asyncio.timeout(10):
            while await bus.topic_exists(STATUS_TOPIC):
                await asyncio.sleep(0.05)
        await _until_it_works(bus.ready)
        async with asyncio.timeout(10):
            while not await bus.topic_exists(STATUS_TOPIC):  # the broker's metadata follow its controller's
                await asyncio.sleep(0.05)
    finally:
        await bus.aclose()


async def _until_it_works(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat ``call`` while the broker still reports a topic that is being deleted or created."""
    async with asyncio.timeout(60):
        while True:
            try:
                await call()
            except BusUnavailable:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.mark.kafka
@pytest.mark.nightly
async def test_a_topic_that_may_only_be_described(kafka_broker: KafkaBroker) -> None:
    """Such a topic is no valid destination. In a step with other topics it alone is refused; the other
    messages are then published."""
    good, forbidden, gone = (_any_topic() for _ in range(3))
    for topic in (good, forbidden, gone):
        kafka_broker.create_topic(topic)
    kafka_broker.allow_only(forbidden, AclOperation.DESCRIBE)
    bus = KafkaBus(kafka_broker.sasl_bootstrap, kafka_broker.sasl_settings, installation=secrets.token_hex(4))
    try:
        assert await bus.topic_exists(good)
        with pytest.raises(TopicRefused):
            await bus.topic_exists(forbidden)
        with pytest.raises(TopicRefused):
            await bus.publish(forbidden, [message(1)])
        await bus.publish(good, [message(0)])
        await bus.recover_position(0)
        await bus.publish_shard(0, outgoing(gone, 1))
        kafka_broker.delete_topic(gone)
        for bad, position in ((forbidden, 2), (gone, 4), (forbidden, 6)):
            with pytest.raises(TopicRefused) as caught:
                await bus.publish_shard(0, [*outgoing(bad, position), *outgoing(good, position + 1)])
            assert caught.value.topic == bad
            assert await bus.recover_position(0) < position
            await bus.publish_shard(0, outgoing(good, position + 1))
        assert numbers(await received(bus, good, 4)) == [0, 3, 5, 7]
    finally:
        await bus.aclose()


@pytest.mark.kafka
async def test_settings_of_tls_and_sasl_pass_through(kafka_broker: KafkaBroker, tmp_path: Path) -> None:
    """A broker with TLS and a password accepts a client with the right settings, and refuses one without TLS,
    with a wrong password, or that trusts another certificate."""
    settings = kafka_broker.sasl_settings
    kafka_broker.create_topic(topic := _any_topic())
    bus = KafkaBus(kafka_broker.sasl_bootstrap, settings, installation=secrets.token_hex(4))
    try:
        await bus.ready()
        await bus.publish(topic, [message(1)])
        assert numbers(await received(bus, topic, 1)) == [1]
        await bus.recover_position(0)
        await bus.publish_shard(0, outgoing(topic, 2))
    finally:
        await bus.aclose()
    another = tmp_path / "another.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-subj", "/CN=127.0.0.1", "-keyout", str(tmp_path / "key.pem"), "-out", str(another)]
    subprocess.run([*make, *files], check=True, capture_output=True)
    for wrong in ({}, settings | {"sasl.password": "another"}, settings | {"ssl.ca.location": str(another)}):
        bus = KafkaBus(kafka_broker.sasl_bootstrap, wrong, installation="x", patience=1.0)
        try:
            with pytest.raises(BusUnavailable) as caught:
                await bus.ready()
        finally:
            await bus.aclose()
        assert kafka_broker.password not in str(caught.value)
