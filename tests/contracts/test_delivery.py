# SPDX-License-Identifier: Apache-2.0
"""From recorded result objects to the destination topic, and from plugins' messages to result objects.

All parts are real: PostgreSQL, the embedded bus, objects in a folder.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from ran_datajobs.dispatch.announce import Announcer
from ran_datajobs.dispatch.finisher import Finisher
from ran_datajobs.errors import BusUnavailable, TopicRefused
from ran_datajobs.job import UNMATCHED_PART, OperationState, Response, Status
from ran_datajobs.messaging import events
from ran_datajobs.messaging.bus import Message, OutboxMessage, Received
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.messaging.topics import INTERNAL_TOPIC, STATUS_TOPIC
from ran_datajobs.results import delivery
from ran_datajobs.results.addresses import Addresses
from ran_datajobs.results.arrivals import CONSUMER, Arrivals, Dropped
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import ObjectStore, open_folder
from ran_datajobs.store import jobs, outbox, parts
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.parts import Part
from tests.contracts.delivery_service import BUCKET, NOW, TOPIC, Service, identity, responses, same_shard_as


class FaultyBus(PostgresBus):
    """The embedded bus with troubles on demand."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, poll_interval=0.2)
        self.away = False
        self.refused: set[str] = set()
        self.dies_after_publishing = False

    async def publish_shard(self, shard: int, messages: Sequence[OutboxMessage]) -> None:
        """Publish, or have the trouble that was asked for."""
        if self.away:
            raise BusUnavailable("away, as the test wants it")
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
        """Everything in a topic."""
        return await self.bus.read(topic, 0, 1000)


@pytest.fixture
def service(database: Database, tmp_path: Path) -> EmbeddedService:
    """A service with an empty store."""
    return EmbeddedService(database, open_folder(tmp_path / "objects"))


async def test_results_reach_the_topic_once_and_in_order(service: EmbeddedService) -> None:
    """Each part of each sub-job is one message, counted from 0, and the delivery ends after the last."""
    job_id = await service.job()
    first, second = await service.sub_job(job_id), await service.sub_job(job_id, position=1, producer="ems-2")
    await service.settle(job_id, first, responses(*range(4), size=400_000))
    await service.settle(job_id, second, responses(10))
    assert await service.publish(job_id) is None
    assert await service.state(job_id) == "PENDING"
    await service.finish(job_id)
    assert await service.publish(job_id) is None
    assert await service.state(job_id) == "DELIVERED"
    got = await service.delivered()
    assert [identity(each) for each in got] == [
        (str(job_id), str(first), 0, 1),
        (str(job_id), str(first), 1, 1),
        (str(job_id), str(second), 0, 1),
    ]
    assert [each.message.headers[events.TOTAL] for each in got] == ["2", "2", "1"]
    assert {each.message.key for each in got} == {f"{job_id}/{first}", f"{job_id}/{second}"}
    values = [msgspec.json.decode(each.message.value) for each in got]
    assert [entry["operationId"] for value in values for entry in value["data"]["responses"]] == [
        0,
        1,
        2,
        3,
        10,
    ]
    assert all(each.message.headers[events.DESTINATION] == TOPIC for each in got)
    assert got[2].message.headers[events.DATA_PRODUCER_ID] == "ems-2"


async def test_what_no_sub_job_got_is_delivered_as_well(service: EmbeddedService) -> None:
    """Unmatched operations go out as messages of their own before the delivery ends."""
    job_id = await service.job()
    written = await service.results.write(
        BUCKET, job_id, UNMATCHED_PART, responses(1, state=OperationState.FAILED)
    )
    async with service.database.transaction() as connection:
        await parts.record(connection, job_id, written)
    await service.finish(job_id)
    await service.publish_all(job_id)
    assert [identity(each) for each in await service.delivered()] == [(str(job_id), UNMATCHED_PART, 0, 1)]
    assert await service.state(job_id) == "DELIVERED"


async def test_a_bucket_has_its_results_already(service: EmbeddedService) -> None:
    """For a bucket destination nothing is sent, and the delivery ends with the job."""
    job_id = await service.job(destination=None)
    sub_job = await service.sub_job(job_id)
    await service.settle(job_id, sub_job, responses(1))
    await service.finish(job_id)
    assert await service.state(job_id) == "DELIVERED"
    assert await service.value("select count(*) from outbox") == 0


async def test_a_lost_answer_publishes_nothing_twice(service: EmbeddedService) -> None:
    """When the bus took a batch but did not say so, the next publisher goes on after it."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    await service.settle(job_id, sub_job, responses(*range(6), size=400_000))
    await service.finish(job_id)
    service.bus.dies_after_publishing = True
    assert await service.publish(job_id) is not None
    await service.publish_all(job_id)
    assert [identity(each)[2] for each in await service.delivered()] == [0, 1, 2]
    assert await service.state(job_id) == "DELIVERED"


async def test_publishers_take_turns(service: EmbeddedService) -> None:
    """Publishers in several processes at once publish everything once."""
    job_id = await service.job()
    for position in range(6):
        sub_job = await service.sub_job(job_id, position=position)
        await service.settle(job_id, sub_job, responses(position))
    await service.finish(job_id)
    await asyncio.gather(*(service.publish_all(job_id) for _ in range(3)))
    found = [identity(each) for each in await service.delivered()]
    assert len(found) == len(set(found)) == 6
    assert await service.state(job_id) == "DELIVERED"


async def test_a_bus_that_is_away_is_waited_for(service: EmbeddedService) -> None:
    """Nothing is lost while the bus is away, and the answer says when to try again."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    await service.settle(job_id, sub_job, responses(1))
    await service.finish(job_id)
    service.bus.away = True
    publisher = service.publisher()
    pauses = [await service.publish(job_id, publisher) for _ in range(4)]
    assert pauses == [0.01, 0.02, 0.04, 0.05]
    assert await service.state(job_id) == "PENDING"
    service.bus.away = False
    await service.publish_all(job_id, publisher)
    assert len(await service.delivered()) == 1
    assert await service.state(job_id) == "DELIVERED"
    assert await service.value("select count(*) from delivery_trouble") == 0


async def test_a_broken_topic_holds_up_nobody_else(service: EmbeddedService) -> None:
    """A topic that refuses is set aside, other jobs are delivered; later it gets all, in order."""
    broken = await service.job(destination="broken-topic")
    well = await service.job(job_id=same_shard_as(broken))
    broken_sub, well_sub = await service.sub_job(broken), await service.sub_job(well, producer="ems-2")
    service.bus.refused = {"broken-topic"}
    await service.settle(broken, broken_sub, responses(*range(4), size=400_000))
    await service.settle(well, well_sub, responses(7))
    publisher = service.publisher()
    assert await service.publish(broken, publisher) is not None
    await service.finish(well)
    await service.finish(broken)
    await service.publish(broken, publisher)
    assert await service.state(well) == "DELIVERED"
    assert await service.state(broken) == "PENDING"
    assert len(await service.delivered()) == 1
    service.bus.refused = set()
    await service.publish_all(broken, publisher)
    assert [identity(each)[2] for each in await service.delivered("broken-topic")] == [0, 1]
    assert await service.state(broken) == "DELIVERED"


async def test_a_destination_is_given_up_and_redelivered(service: EmbeddedService) -> None:
    """After the time to give up the delivery is FAILED; a redeliver sends all of it with the next number."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    await service.settle(job_id, sub_job, responses(1))
    await service.publish_all(job_id)
    await service.settle(job_id, sub_job, responses(1, 2))
    await service.finish(job_id)
    service.bus.refused = {TOPIC}
    publisher = service.publisher(give_up=0.0)
    await service.publish(job_id, publisher)
    await service.publish(job_id, publisher)
    assert await service.state(job_id) == "FAILED"
    assert [(each.job_id, each.topic) for each in service.given_up] == [(job_id, TOPIC)]
    assert await service.value("select count(*) from outbox") == 0

    service.bus.refused = set()
    async with service.database.transaction() as connection:
        assert await delivery.redeliver(connection, job_id, NOW) == [outbox.shard_of(job_id)]
    async with service.database.transaction() as connection:
        assert await delivery.redeliver(connection, job_id, NOW) is None
    await service.publish_all(job_id)
    assert await service.state(job_id) == "DELIVERED"
    assert [identity(each)[3] for each in await service.delivered()] == [1, 2]


async def test_a_delivery_given_up_gets_nothing_more(service: EmbeddedService) -> None:
    """What a job still has to send after its delivery was given up waits for a redeliver."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    await service.execute("update data_job set delivery_state = 'FAILED' where job_id = $1", job_id)
    await service.settle(job_id, sub_job, responses(1))
    assert await service.value("select count(*) from outbox") == 0


async def test_a_status_topic_that_refuses_fails_no_delivery(service: EmbeddedService) -> None:
    """Status events that nobody takes are dropped in the end; the job's delivery is another matter."""
    job_id = await service.job()
    async with service.database.transaction() as connection:
        await outbox.add(
            connection, [delivery.status_message(job_id, TOPIC, 3, b'{"status":"RUNNING"}', NOW)]
        )
    service.bus.refused = {STATUS_TOPIC}
    publisher = service.publisher(give_up=0.0)
    await service.publish(job_id, publisher)
    await service.publish(job_id, publisher)
    assert await service.state(job_id) == "PENDING"
    assert [each.topic for each in service.given_up] == [STATUS_TOPIC]


async def test_a_status_event_says_what_the_job_is(service: EmbeddedService) -> None:
    """A change of status is an event of its own type with the job's body as data."""
    job_id = await service.job()
    async with service.database.transaction() as connection:
        await outbox.add(
            connection, [delivery.status_message(job_id, TOPIC, 3, b'{"status":"RUNNING"}', NOW)]
        )
    await service.publish_all(job_id)
    (event,) = await service.delivered(STATUS_TOPIC)
    assert msgspec.json.decode(event.message.value) == {"data": {"status": "RUNNING"}}
    assert event.message.headers["ce_type"] == events.STATUS_TYPE
    assert event.message.headers[events.CORRELATION_ID] == str(job_id)
    assert events.SUB_JOB_ID not in event.message.headers


async def test_an_object_that_is_gone_holds_up_its_job_alone(service: EmbeddedService) -> None:
    """A result object that somebody removed is retried for its own job, and others go on."""
    gone = await service.job()
    well = await service.job(job_id=same_shard_as(gone))
    gone_sub, well_sub = await service.sub_job(gone), await service.sub_job(well, producer="ems-2")
    (part,) = await service.settle(gone, gone_sub, responses(1))
    await service.settle(well, well_sub, responses(2))
    await service.finish(gone)
    await service.finish(well)
    body = await service.objects.get(BUCKET, part.key)
    assert body is not None
    await service.objects.delete(BUCKET, [part.key])
    publisher = service.publisher()
    assert await service.publish(gone, publisher) is not None
    assert await service.state(well) == "DELIVERED"
    await service.objects.put(BUCKET, part.key, body)
    await service.publish_all(gone, publisher)
    assert await service.state(gone) == "DELIVERED"


async def test_a_large_object_is_referred_to(service: EmbeddedService) -> None:
    """An object over the bound of a message is named with address and check sum; it has the data."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    tree = Raw(msgspec.json.encode({"GNBDUFunction": [{"id": "1", "attributes": {"x": "y" * 1_000_000}}]}))
    (part,) = await service.settle(job_id, sub_job, [Response("1", 0, "read", result=tree)])
    await service.publish_all(job_id)
    (event,) = await service.delivered()
    (entry,) = msgspec.json.decode(event.message.value)["data"]["responses"]
    assert entry["result"] == {
        "dataref": f"http://host/s3-bucket/{BUCKET}/{part.key}",
        "sha256": part.sha256,
    }
    stored = await service.objects.get(BUCKET, part.key)
    assert stored is not None
    assert hashlib.sha256(stored).hexdigest() == part.sha256


async def test_writing_a_shorter_result_again_leaves_no_surplus(service: EmbeddedService) -> None:
    """A repeat of a collect stands for all of it: rows of a longer attempt go."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    longer = await service.results.write(BUCKET, job_id, str(sub_job), responses(*range(6), size=400_000))
    shorter = await service.results.write(BUCKET, job_id, str(sub_job), responses(1))
    async with service.database.transaction() as connection:
        await parts.record(connection, job_id, longer)
        await parts.record(connection, job_id, shorter)
        listed = await parts.listing(connection, job_id)
    assert len(longer) == 3
    assert listed == shorter
    assert await service.objects.get(BUCKET, shorter[0].key) is not None


class Taking:
    """The consumer of plugins' messages, with what it told."""

    def __init__(self, service: EmbeddedService) -> None:
        self.woken: list[int] = []
        self.dropped: list[Dropped] = []
        self.arrivals = Arrivals(
            service.database,
            service.bus,
            service.objects,
            self._wake,
            dropped=lambda why, _: self.dropped.append(why),
        )

    async def _wake(self, _: Connection, lanes: Sequence[int]) -> None:
        self.woken += lanes

    async def take(self, *messages: Message) -> None:
        """Take messages as if they came in one batch."""
        await self.arrivals.take([Received(INTERNAL_TOPIC, at, each) for at, each in enumerate(messages)])


def event(operations: Sequence[Response], **headers: str) -> Message:
    """A plugin's message with ``ce_…`` headers."""
    value = msgspec.json.encode({"data": {"responses": operations}})
    return Message("key", {f"ce_{name}": text for name, text in headers.items()}, value)


async def listing(service: EmbeddedService, job_id: UUID) -> list[Part]:
    """The recorded parts of a job."""
    async with service.database.connection() as connection:
        return await parts.listing(connection, job_id)


async def test_a_message_of_a_read_becomes_its_object(service: EmbeddedService) -> None:
    """The message is kept under its key with its outcomes, and the lane is woken in the same transaction."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    taking = Taking(service)
    await taking.take(
        event(responses(1, 2), correlationid=str(job_id), subjobid=str(sub_job), sequence="0"),
        event(
            responses(2, state=OperationState.FAILED),
            correlationid=str(job_id),
            subjobid=str(sub_job),
            sequence="1",
            total="2",
        ),
    )
    found = await listing(service, job_id)
    assert [(part.sequence, part.key) for part in found] == [
        (0, f"{job_id}/{sub_job}/0.json"),
        (1, f"{job_id}/{sub_job}/1.json"),
    ]
    assert [(part.operations, part.failed) for part in found] == [(2, 0), (1, 1)]
    body = await service.objects.get(BUCKET, found[0].key)
    assert body is not None
    assert hashlib.sha256(body).hexdigest() == found[0].sha256
    assert await service.value("select result_total from sub_job") == 2
    assert await service.value("select last_part_at is not null from sub_job")
    assert await service.value("select wanted from lane")
    assert len(taking.woken) == 1
    assert await service.results.arrived(sub_job, job_id) == 2
    assert await service.results.states(job_id, sub_job) == {
        "1": OperationState.SUCCEEDED,
        "2": OperationState.FAILED,
    }


async def test_the_same_message_again_changes_nothing(service: EmbeddedService) -> None:
    """A message that comes twice, with or without a sequence, is kept once; the first one stands."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    taking = Taking(service)
    names = {"correlationid": str(job_id), "subjobid": str(sub_job)}
    numbered = event(responses(1), **names, sequence="0")
    await taking.take(numbered, numbered)
    await taking.take(numbered, event(responses(9), **names, sequence="0"))
    plain = event(responses(2), **names)
    await taking.take(plain, plain)
    await taking.take(plain)
    found = await listing(service, job_id)
    assert [part.sequence for part in found] == [0, 1]
    assert set(await service.results.states(job_id, sub_job)) == {"1", "2"}


@pytest.mark.parametrize("stage", ["STARTING", "TRACKING", "COLLECTING"])
async def test_a_named_sub_job_takes_messages_at_every_stage(service: EmbeddedService, stage: str) -> None:
    """Also before the answer to its create is recorded: a fast plugin loses nothing."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id, stage=stage, producer_job=None)
    taking = Taking(service)
    await taking.take(event(responses(1), correlationid=str(job_id), subjobid=str(sub_job), sequence="0"))
    assert len(await listing(service, job_id)) == 1


async def test_a_message_finds_its_read_by_the_producers_job(service: EmbeddedService) -> None:
    """Without a sub-job id, the data producer's job id tells, where it is unique."""
    job_id = await service.job(kind="READ")
    await service.sub_job(job_id, producer_job="pj-1")
    other = await service.sub_job(job_id, position=1, producer="ems-2", producer_job="pj-2")
    taking = Taking(service)
    await taking.take(event(responses(1), dataproducerjobid="pj-2", sequence="0"))
    assert [part.sub_job for part in await listing(service, job_id)] == [str(other)]


async def test_an_ambiguous_producers_job_is_not_guessed(service: EmbeddedService) -> None:
    """Two producers with the same job id: only the producer's own id settles it."""
    job_id = await service.job(kind="READ")
    await service.sub_job(job_id, producer_job="pj")
    second = await service.sub_job(job_id, position=1, producer="ems-2", producer_job="pj")
    taking = Taking(service)
    await taking.take(event(responses(1), dataproducerjobid="pj", sequence="0"))
    assert taking.dropped == [Dropped.NO_ACTIVE_READ]
    await taking.take(event(responses(1), dataproducerjobid="pj", dataproducerid="ems-2", sequence="0"))
    assert [part.sub_job for part in await listing(service, job_id)] == [str(second)]


async def test_a_message_waits_for_the_answer_to_the_create(service: EmbeddedService) -> None:
    """A producer's job id that is not recorded yet is tried again while the create is being answered."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id, stage="STARTING", producer_job=None)
    taking = Taking(service)
    taken = asyncio.ensure_future(
        taking.take(event(responses(1), correlationid=str(job_id), dataproducerjobid="late", sequence="0"))
    )
    await service.execute(
        "update sub_job set stage = 'TRACKING', data_producer_job_id = 'late' where sub_job_id = $1", sub_job
    )
    await taken
    assert len(await listing(service, job_id)) == 1
    assert taking.dropped == []


async def test_a_message_that_names_nothing_goes_by_its_topic(service: EmbeddedService) -> None:
    """It belongs to the only read that may use the topic; with two such reads it belongs to none."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id, stage="COLLECTING")
    await service.execute("update sub_job set result_topic = $1", INTERNAL_TOPIC)
    taking = Taking(service)
    await taking.take(event(responses(1)))
    assert [part.sub_job for part in await listing(service, job_id)] == [str(sub_job)]
    await service.sub_job(job_id, position=1, producer="ems-2")
    await taking.take(event(responses(2)))
    assert taking.dropped == [Dropped.NO_ACTIVE_READ]


async def test_what_belongs_to_no_active_read_is_dropped(service: EmbeddedService) -> None:
    """A settled sub-job, a write, a read that was never sent, and an unknown id take no message."""
    read = await service.job(kind="READ")
    settled = await service.sub_job(read, stage="SETTLED")
    unsent = await service.sub_job(read, position=1, stage="READY")
    await service.execute("update sub_job set attempts = 0 where sub_job_id = $1", unsent)
    write = await service.sub_job(await service.job())
    taking = Taking(service)
    for sub_job in (settled, unsent, write, uuid4()):
        await taking.take(event(responses(1), subjobid=str(sub_job), sequence="0"))
    await taking.take(event(responses(1), correlationid=str(uuid4()), subjobid=str(settled)))
    assert taking.dropped == [Dropped.NO_ACTIVE_READ] * 5
    assert await listing(service, read) == []
    assert taking.woken == []


def response_with(member: bytes) -> Message:
    """A message with one response that has such a member."""
    known = b'"operationId":1,"statusCode":0,"statusMessage":""'
    return Message("", {}, b'{"data":{"responses":[{%b,%b}]}}' % (known, member))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Message("", {}, b"not json"), Dropped.NOT_A_RESULT),
        (Message("", {}, b'{"data":5}'), Dropped.NOT_A_RESULT),
        (Message("", {}, b'{"responses":[]}'), Dropped.NOT_A_RESULT),
        (Message("", {}, b"\xff\xfe"), Dropped.NOT_A_RESULT),
        (Message("", {"ce_sequence": "-1"}, b'{"data":{"responses":[]}}'), Dropped.BAD_COUNT),
        (Message("", {"ce_sequence": "1000000"}, b'{"data":{"responses":[]}}'), Dropped.BAD_COUNT),
        (Message("", {"ce_sequence": "\u0663"}, b'{"data":{"responses":[]}}'), Dropped.BAD_COUNT),
        (Message("", {"ce_total": "0"}, b'{"data":{"responses":[]}}'), Dropped.BAD_COUNT),
        (Message("", {}, bytes(17_000_000)), Dropped.TOO_LARGE),
        (Message("", {}, b'{"data":' + b"[" * 3000 + b"]" * 3000 + b"}"), Dropped.NOT_A_RESULT),
        (response_with(b'"result":' + b"[" * 3000 + b"]" * 3000), Dropped.NOT_A_RESULT),
        (response_with(b'"request":' + b'{"a":' * 3000 + b"1" + b"}" * 3000), Dropped.NOT_A_RESULT),
        (response_with(b'"result":["\xff\xfe"]'), Dropped.NOT_A_RESULT),
        (response_with(b'"request":{"op":"\xed\xa0\x80"}'), Dropped.NOT_A_RESULT),
        (Message("", {"ce_dataproducerjobid": "a\0b"}, b'{"data":{"responses":[]}}'), Dropped.BAD_NAME),
        (
            Message(
                "", {"ce_dataproducerjobid": "a", "ce_dataproducerid": "\0"}, b'{"data":{"responses":[]}}'
            ),
            Dropped.BAD_NAME,
        ),
    ],
)
async def test_a_message_that_makes_no_sense_is_dropped(
    service: Service, message: Message, why: Dropped
) -> None:
    """Untrusted bytes and headers are checked before anything is looked up, and stop nothing."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    taking = Taking(service)
    await taking.take(message, event(responses(1), subjobid=str(sub_job), sequence="0"))
    assert taking.dropped == [why]
    assert len(await listing(service, job_id)) == 1


_NAMES = st.sampled_from([events.CORRELATION_ID, events.SUB_JOB_ID, events.SEQUENCE, events.TOTAL, "other"])
_PRODUCER = st.sampled_from([events.DATA_PRODUCER_JOB_ID, events.DATA_PRODUCER_ID])
_TEXTS = st.text(st.characters(codec=None), max_size=12)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=60).map(lambda junk: b'{"data":{"responses":[%b]}}' % junk),
        st.binary(max_size=60).map(lambda junk: response_with(b'"result":"%b"' % junk).value),
        st.integers(0, 5000).map(lambda deep: response_with(b'"result":' + b"[" * deep + b"]" * deep).value),
    ),
    headers=st.dictionaries(st.one_of(_NAMES, _PRODUCER, _TEXTS), _TEXTS, max_size=4),
)
async def test_no_bytes_and_no_headers_stop_the_consumer(
    service: EmbeddedService, value: bytes, headers: dict[str, str]
) -> None:
    """Whatever is on the topic is taken or dropped; nothing is raised."""
    await Taking(service).take(Message("key", headers, value))


async def test_a_fault_of_ours_does_not_end_the_consumer(service: EmbeddedService) -> None:
    """An error that nobody expected is told, and the same messages are tried again after a pause."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    told: list[Exception] = []
    woken = asyncio.Event()

    async def wake(_: Connection, __: Sequence[int]) -> None:
        if not told:
            raise RuntimeError("as the test wants it")
        woken.set()

    arrivals = Arrivals(service.database, service.bus, service.objects, wake, troubled=told.append)
    running = asyncio.create_task(arrivals.run())
    try:
        async with asyncio.timeout(20):
            await service.bus.publish(
                INTERNAL_TOPIC, [event(responses(1), subjobid=str(sub_job), sequence="0")]
            )
            await woken.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [str(error) for error in told] == ["as the test wants it"]


async def test_what_somebody_else_wrote_under_a_key_is_replaced(service: EmbeddedService) -> None:
    """The owner of a bucket can write anything there: what is no result does not stand, and stops nothing."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    for number, spoilt in enumerate((b"garbage", b'{"responses":["\xff"]}')):
        await service.objects.put(BUCKET, f"{job_id}/{sub_job}/{number}.json", spoilt)
        await Taking(service).take(event(responses(1), subjobid=str(sub_job), sequence=str(number)))
    found = await listing(service, job_id)
    assert len(found) == 2
    for part in found:
        body = await service.objects.get(BUCKET, part.key)
        assert body is not None
        assert hashlib.sha256(body).hexdigest() == part.sha256
        assert msgspec.json.decode(body)["responses"][0]["operationId"] == 1


@pytest.mark.parametrize("spoilt", [b"garbage", b'{"responses":["\xff"]}', None])
async def test_a_job_ends_whatever_became_of_its_objects(
    service: EmbeddedService, spoilt: bytes | None
) -> None:
    """Failures in an object that the owner of the bucket spoilt or removed count as failed operations."""
    job_id = await service.job(kind="READ")
    first, second = await service.sub_job(job_id), await service.sub_job(job_id, position=1, producer="ems-2")
    (part,) = await service.settle(job_id, first, responses(1, state=OperationState.FAILED))
    await service.settle(job_id, second, responses(2, state=OperationState.UNKNOWN))
    await service.execute("update data_job set fanned_out = true, planned = true")
    if spoilt is None:
        await service.objects.delete(BUCKET, [part.key])
    else:
        await service.objects.put(BUCKET, part.key, spoilt)
    announcer = Announcer(JobView(Addresses("http://host"), "FINSHED"))
    finisher = Finisher(service.database, service.objects, announcer, "FINSHED")
    await finisher.handle(str(job_id), 1)
    async with service.database.connection() as connection:
        row = await jobs.find(connection, job_id, None)
    assert row is not None
    assert row.status is Status.PARTIALLY_FAILED
    assert (row.counts.succeeded, row.counts.failed, row.counts.unknown) == (1, 1, 1)


async def test_a_large_message_becomes_several_objects(service: EmbeddedService) -> None:
    """A message over the size of an object is cut between operations and between the objects of a result, and
    counts as one message. What goes out is in order, whole, and names no object."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    taking = Taking(service)
    names = {"correlationid": str(job_id), "subjobid": str(sub_job)}
    long_list = Raw(msgspec.json.encode([{"x": "y" * 300_000}] * 5))
    first = event(responses(1, 2, 3, size=600_000), **names, sequence="0")
    await taking.take(first, event(responses(9), **names, sequence="0"))
    await taking.take(first)
    assert await service.results.arrived(sub_job, job_id) == 1
    await taking.take(event([Response(4, 0, "read", result=long_list)], **names, sequence="1", total="2"))
    assert await service.results.arrived(sub_job, job_id) == 2
    assert set(await service.results.states(job_id, sub_job)) == {"1", "2", "3", "4"}
    found = await listing(service, job_id)
    assert [part.key.rpartition("/")[2] for part in found] == [
        *("0.json", "0-1.json", "0-2.json"),
        *("1.json", "1-1.json", "1-2.json"),
    ]
    async with service.database.transaction() as connection:
        await delivery.send_sub_jobs(connection, [job_id], [sub_job], NOW)
    await service.publish_all(job_id)
    got = await service.delivered()
    assert [identity(each)[2] for each in got] == list(range(6))
    assert {each.message.headers[events.TOTAL] for each in got} == {"6"}
    told = [msgspec.json.decode(each.message.value)["data"]["responses"] for each in got]
    assert [[one["operationId"] for one in some] for some in told] == [[1], [2], [3], [4], [4], [4]]
    assert sum(len(one["result"]) for some in told[3:] for one in some) == 5


async def test_a_large_message_without_a_sequence_is_kept_once(service: EmbeddedService) -> None:
    """Equal bytes count as a repeat, also where a message was cut; others that begin alike do not."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    plain = event(responses(1, 2, size=600_000), subjobid=str(sub_job))
    other = event(responses(1, 3, size=600_000), subjobid=str(sub_job))
    for _ in range(2):
        await Taking(service).take(plain, other)
    assert await service.results.arrived(sub_job, job_id) == 2
    assert len(await listing(service, job_id)) == 4


async def test_an_empty_read_is_one_message_with_nothing_in_it(service: EmbeddedService) -> None:
    """An empty ``responses`` list is kept as an empty object."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    await Taking(service).take(event([], subjobid=str(sub_job), sequence="0", total="1"))
    (part,) = await listing(service, job_id)
    assert await service.objects.get(BUCKET, part.key) == b'{"responses":[]}'
    assert part.operations == 0


async def test_what_the_service_adds_touches_no_message(service: EmbeddedService) -> None:
    """Responses added beside the messages of a read have keys that no message can reach, and go out last."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    taking = Taking(service)
    await taking.take(event(responses(1), subjobid=str(sub_job), sequence="0", total="3"))
    await taking.take(event(responses(2), subjobid=str(sub_job), sequence="2"))
    added = await service.results.write(
        BUCKET, job_id, str(sub_job), responses(3, state=OperationState.FAILED), beside_messages=True
    )
    async with service.database.transaction() as connection:
        await parts.record(connection, job_id, added)
        await delivery.send_sub_jobs(connection, [job_id], [sub_job], NOW)
    await service.publish_all(job_id)
    got = await service.delivered()
    assert [identity(each)[2] for each in got] == [0, 1, 2]
    assert [
        msgspec.json.decode(each.message.value)["data"]["responses"][0]["operationId"] for each in got
    ] == [1, 2, 3]


async def test_the_consumer_takes_messages_from_the_bus_and_goes_on(service: EmbeddedService) -> None:
    """It passes what it took: a new consumer of the same name starts after it."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    arrived = asyncio.Event()

    async def wake(_: Connection, __: Sequence[int]) -> None:
        arrived.set()

    arrivals = Arrivals(service.database, service.bus, service.objects, wake)
    running = asyncio.create_task(arrivals.run())
    try:
        async with asyncio.timeout(20):
            for sequence in range(2):
                arrived.clear()
                await service.bus.publish(
                    INTERNAL_TOPIC,
                    [event(responses(sequence), subjobid=str(sub_job), sequence=str(sequence))],
                )
                await arrived.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [part.sequence for part in await listing(service, job_id)] == [0, 1]
    assert await service.value("select next_offset from bus_position where consumer = $1", CONSUMER) >= 1


async def test_a_store_restored_from_an_older_copy_skips_nothing_new(service: EmbeddedService) -> None:
    """Positions that the bus has seen are never given out again: new messages come after them."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    for _ in range(3):
        await service.settle(job_id, sub_job, responses(1))
    await service.publish_all(job_id)
    await service.execute("update outbox_shard set head = 0")
    await service.publish_all(job_id)
    publisher = service.publisher()
    await service.publish(job_id, publisher)
    await service.settle(job_id, sub_job, responses(2))
    await service.publish_all(job_id, publisher)
    assert len(await service.delivered()) == 4


async def test_every_store_has_a_name_of_its_own(service: EmbeddedService) -> None:
    """What names the store stays the same."""
    async with service.database.connection() as connection:
        first = await outbox.installation(connection)
        assert await outbox.installation(connection) == first


async def test_a_long_delivery_takes_turns_with_others(
    service: EmbeddedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time a shard with more to publish gives its place to others, and asks to be called again."""
    monkeypatch.setattr("ran_datajobs.results.publisher._LONGEST_TURN", 0.0)
    monkeypatch.setattr("ran_datajobs.results.publisher._BATCH", 1)
    job_id = await service.job()
    await service.settle(job_id, await service.sub_job(job_id), responses(*range(4), size=400_000))
    publisher = service.publisher()
    assert await service.publish(job_id, publisher) == 0.0
    assert len(await service.delivered()) == 1
    await service.publish_all(job_id, publisher)
    assert [identity(each)[2] for each in await service.delivered()] == [0, 1]
