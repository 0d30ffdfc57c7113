# SPDX-License-Identifier: Apache-2.0
"""From recorded result objects to the destination topic.

All parts are real: PostgreSQL, the embedded bus, objects in a folder.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from ran_datajobs.checkpoints import Checkpoint, on_checkpoint
from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.messaging import events
from ran_datajobs.messaging.topics import STATUS_TOPIC
from ran_datajobs.model import UNMATCHED_PART, OperationState, Response
from ran_datajobs.results import delivery
from ran_datajobs.results.objects import open_folder
from ran_datajobs.store import outbox, results
from ran_datajobs.store.database import Database
from tests.integration.delivery_service import BUCKET, TOPIC, identity, responses, same_shard_as
from tests.integration.embedded_delivery import EmbeddedService


@pytest.fixture
def service(database: Database, tmp_path: Path) -> EmbeddedService:
    """A service with an empty store."""
    return EmbeddedService(database, open_folder(tmp_path / "objects"))


async def test_results_reach_the_topic_once_and_in_order(service: EmbeddedService) -> None:
    """Each part of each sub-job is one message, counted from 0, and the end of delivery comes after the last
    one."""
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
    """Unmatched operations are sent as separate messages before the end of delivery."""
    job_id = await service.job()
    written = await service.write(job_id, UNMATCHED_PART, responses(1, state=OperationState.FAILED))
    async with service.database.transaction() as connection:
        await results.record(connection, job_id, written)
    await service.finish(job_id)
    await service.publish_all(job_id)
    assert [identity(each) for each in await service.delivered()] == [(str(job_id), UNMATCHED_PART, 0, 1)]
    assert await service.state(job_id) == "DELIVERED"


async def test_a_bucket_has_its_results_already(service: EmbeddedService) -> None:
    """For a bucket destination no message is sent, and the delivery ends with the job."""
    job_id = await service.job(destination=None)
    sub_job = await service.sub_job(job_id)
    await service.settle(job_id, sub_job, responses(1))
    await service.finish(job_id)
    assert await service.state(job_id) == "DELIVERED"
    assert await service.value("select count(*) from outbox") == 0


async def test_a_lost_answer_publishes_nothing_twice(service: EmbeddedService) -> None:
    """The bus stored a batch but its answer was lost: the next publisher continues after the batch."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    await service.settle(job_id, sub_job, responses(*range(6), size=400_000))
    await service.finish(job_id)
    service.bus.dies_after_publishing = True
    assert await service.publish(job_id) is not None
    await service.publish_all(job_id)
    assert [identity(each)[2] for each in await service.delivered()] == [0, 1, 2]
    assert await service.state(job_id) == "DELIVERED"


async def test_a_lost_answer_fails_no_delivery_that_goes_on(service: EmbeddedService) -> None:
    """A topic that stored the batch has not failed: a job that sends more only much later does not time
    out."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    await service.settle(job_id, sub_job, responses(1))
    service.bus.dies_after_publishing = True
    publisher = service.publisher()
    await service.publish(job_id, publisher)
    await service.publish_all(job_id, publisher)
    assert len(await service.delivered()) == 1
    later = await service.sub_job(job_id, position=1)
    await service.settle(job_id, later, responses(2))
    await service.finish(job_id)
    await service.publish_all(job_id, service.publisher(give_up=0.0))
    assert service.given_up == []
    assert await service.state(job_id) == "DELIVERED"
    assert len(await service.delivered()) == 2


async def test_a_store_that_was_away_after_publishing_repeats_nothing(service: EmbeddedService) -> None:
    """A published message is not sent again, even when its object cannot be read on the next pass over the
    outbox."""
    job_id = await service.job()
    (part,) = await service.settle(job_id, await service.sub_job(job_id), responses(1))
    await service.finish(job_id)

    async def lose_the_session(checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.DELIVER_PUBLISHED and await service.objects.get(BUCKET, part.key):
            await service.execute(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' "
                "and classid = 7263403"
            )

    publisher = service.publisher()
    on_checkpoint.set(lose_the_session)
    with pytest.raises(StoreUnavailable):
        await service.publish(job_id, publisher)
    body = await service.objects.get(BUCKET, part.key)
    assert body is not None
    await service.objects.delete(BUCKET, [part.key])
    await service.publish(job_id, publisher)
    await service.objects.put(BUCKET, part.key, body)
    await service.publish_all(job_id)
    assert [identity(each)[2] for each in await service.delivered()] == [0]
    assert await service.state(job_id) == "DELIVERED"


async def test_publishers_take_turns(service: EmbeddedService) -> None:
    """Concurrent publishers in several processes publish everything once."""
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
    """No message is lost while the bus is unavailable, and the publisher returns the pause before the next
    attempt."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    await service.settle(job_id, sub_job, responses(1))
    await service.finish(job_id)
    service.bus.unavailable = True
    publisher = service.publisher()
    pauses = [await service.publish(job_id, publisher) for _ in range(4)]
    assert pauses == [5.0] * 4
    assert await service.state(job_id) == "PENDING"
    service.bus.unavailable = False
    await service.publish_all(job_id, publisher)
    assert len(await service.delivered()) == 1
    assert await service.state(job_id) == "DELIVERED"
    assert await service.value("select count(*) from delivery_failure") == 0


async def test_a_broken_topic_delays_no_other_topic(service: EmbeddedService) -> None:
    """A topic that refuses is parked and other jobs are delivered. Later it gets all messages, in order."""
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
    """After the delivery timeout the delivery is FAILED. A redeliver sends all of it with the next number."""
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
        assert await delivery.redeliver(connection, job_id)
    async with service.database.transaction() as connection:
        assert not await delivery.redeliver(connection, job_id)
    await service.publish_all(job_id)
    assert await service.state(job_id) == "DELIVERED"
    assert [identity(each)[3] for each in await service.delivered()] == [1, 2]


async def test_a_delivery_given_up_gets_nothing_more(service: EmbeddedService) -> None:
    """After its delivery timed out, a job's further messages wait for a redeliver."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    await service.execute("update data_job set delivery_state = 'FAILED' where job_id = $1", job_id)
    await service.settle(job_id, sub_job, responses(1))
    assert await service.value("select count(*) from outbox") == 0


async def test_a_status_topic_that_refuses_fails_no_delivery(service: EmbeddedService) -> None:
    """Status events that cannot be published are dropped after the timeout. The job's delivery is independent
    of them."""
    job_id = await service.job()
    async with service.database.transaction() as connection:
        await outbox.add(connection, [delivery.status_message(job_id, TOPIC, 3, b'{"status":"RUNNING"}')])
    service.bus.refused = {STATUS_TOPIC}
    publisher = service.publisher(give_up=0.0)
    await service.publish(job_id, publisher)
    await service.publish(job_id, publisher)
    assert await service.state(job_id) == "PENDING"
    assert [each.topic for each in service.given_up] == [STATUS_TOPIC]


async def test_a_status_event_says_what_the_job_is(service: EmbeddedService) -> None:
    """A change of status is an event with a separate type, and the job's body as data."""
    job_id = await service.job()
    async with service.database.transaction() as connection:
        await outbox.add(connection, [delivery.status_message(job_id, TOPIC, 3, b'{"status":"RUNNING"}')])
    await service.publish_all(job_id)
    (event,) = await service.delivered(STATUS_TOPIC)
    assert msgspec.json.decode(event.message.value) == {"data": {"status": "RUNNING"}}
    assert event.message.headers["ce_type"] == events.STATUS_TYPE
    assert event.message.headers[events.CORRELATION_ID] == str(job_id)
    assert events.SUB_JOB_ID not in event.message.headers


async def test_an_object_that_is_gone_holds_up_its_job_alone(service: EmbeddedService) -> None:
    """A result object that was removed is retried for its own job, and other jobs are delivered."""
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
    """An object over the size limit of a message is referred to by address and check sum."""
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


@pytest.mark.damages_rows
async def test_writing_a_shorter_result_again_leaves_no_surplus(service: EmbeddedService) -> None:
    """A repeated collect replaces all results: rows of a longer attempt are removed."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    longer = await service.write(job_id, sub_job, responses(*range(6), size=400_000))
    shorter = await service.write(job_id, sub_job, responses(1))
    async with service.database.transaction() as connection:
        await results.record(connection, job_id, longer)
        await results.record(connection, job_id, shorter)
        listed = await results.listing(connection, job_id)
    assert len(longer) == 3
    assert listed == shorter
    assert await service.objects.get(BUCKET, shorter[0].key) is not None


async def test_a_store_restored_from_an_older_copy_skips_nothing_new(service: EmbeddedService) -> None:
    """Positions that the bus has seen are never assigned again: new messages come after them."""
    job_id = await service.job()
    sub_job = await service.sub_job(job_id)
    for _ in range(3):
        await service.settle(job_id, sub_job, responses(1))
    await service.publish_all(job_id)
    await service.execute("update outbox_shard set last_position = 0")
    await service.publish_all(job_id)
    publisher = service.publisher()
    await service.publish(job_id, publisher)
    await service.settle(job_id, sub_job, responses(2))
    await service.publish_all(job_id, publisher)
    assert len(await service.delivered()) == 4


async def test_every_store_has_a_name_of_its_own(service: EmbeddedService) -> None:
    """The name of the store does not change."""
    async with service.database.connection() as connection:
        first = await outbox.installation(connection)
        assert await outbox.installation(connection) == first


async def test_a_long_delivery_takes_turns_with_others(
    service: EmbeddedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time slice a shard with more to publish lets others run, and asks to be called again."""
    monkeypatch.setattr("ran_datajobs.results.publisher._LONGEST_TURN", 0.0)
    monkeypatch.setattr(outbox, "next_messages", functools.partial(outbox.next_messages, limit=1))
    job_id = await service.job()
    await service.settle(job_id, await service.sub_job(job_id), responses(*range(4), size=400_000))
    publisher = service.publisher()
    assert await service.publish(job_id, publisher) == 0.0
    assert len(await service.delivered()) == 1
    await service.publish_all(job_id, publisher)
    assert [identity(each)[2] for each in await service.delivered()] == [0, 1]
