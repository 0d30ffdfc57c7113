# SPDX-License-Identifier: Apache-2.0
"""From plugins' messages to result objects.

All parts are real: PostgreSQL, the embedded bus, objects in a folder.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from ran_datajobs.checkpoints import Checkpoint, on_checkpoint
from ran_datajobs.errors import BusUnavailable
from ran_datajobs.messaging import events
from ran_datajobs.messaging.bus import Message, Received
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import Op, Operation, OperationState, Response, Status
from ran_datajobs.results import outcomes
from ran_datajobs.results.objects import open_folder
from ran_datajobs.results.read_results import CONSUMER, Dropped, ReadResultConsumer
from ran_datajobs.store import jobs, results
from ran_datajobs.store.database import Database
from ran_datajobs.store.results import Part
from tests.integration.delivery_service import BUCKET, identity, responses
from tests.integration.embedded_delivery import EmbeddedService
from tests.kit.worker_parts import claim_jobs, worker_parts
from tests.tiers import examples

READ = Operation(Op.READ, "/A=1", 1)
pytestmark = pytest.mark.damages_rows  # the tests set the stages of sub-jobs by hand


@pytest.fixture
def service(database: Database, tmp_path: Path) -> EmbeddedService:
    """A service with an empty store."""
    return EmbeddedService(database, open_folder(tmp_path / "objects"))


class Taking:
    """The consumer of plugins' messages, with the reasons of the messages that it dropped."""

    def __init__(self, service: EmbeddedService) -> None:
        self.dropped: list[Dropped] = []
        self.arrivals = ReadResultConsumer(
            service.database,
            service.bus,
            service.objects,
            dropped=lambda why, _: self.dropped.append(why),
        )

    async def take(self, *messages: Message) -> None:
        """Take messages as if they arrived in one batch."""
        await self.arrivals.take([Received(INTERNAL_TOPIC, at, each) for at, each in enumerate(messages)])


def event(operations: Sequence[Response], **headers: str) -> Message:
    """A plugin's message with ``ce_…`` headers."""
    value = msgspec.json.encode({"data": {"responses": operations}})
    return Message("key", {f"ce_{name}": text for name, text in headers.items()}, value)


async def listing(service: EmbeddedService, job_id: UUID) -> list[Part]:
    """The recorded parts of a job."""
    async with service.database.connection() as connection:
        return await results.listing(connection, job_id)


async def arrived(service: EmbeddedService, job_id: UUID, sub_job: UUID) -> int:
    """Number of messages of a read that have arrived."""
    return (await service.store.arrived(sub_job, job_id, None)).messages


async def test_a_message_of_a_read_becomes_its_object(service: EmbeddedService) -> None:
    """Each message is kept under its key with its outcomes, and counted."""
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
    assert await service.value("select last_message_at is not null from sub_job")
    assert await service.value("select messages from sub_job") == 2
    assert await arrived(service, job_id, sub_job) == 2
    assert await service.states(job_id, sub_job) == {
        "1": OperationState.SUCCEEDED,
        "2": OperationState.FAILED,
    }


@pytest.mark.parametrize("totals", [("2", "2"), (None, "2"), ("2", None), ("1", "2")])
async def test_a_read_that_has_all_its_messages_is_due_at_once(
    service: EmbeddedService, totals: tuple[str | None, str | None]
) -> None:
    """The total may be in any message. Of several totals the greatest applies. A repeated message counts
    once."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id, stage="COLLECTING")
    await service.execute("update sub_job set due_at = now() + interval '1 hour'")
    names = {"correlationid": str(job_id), "subjobid": str(sub_job)}
    first, second = [
        event(responses(n), **names, sequence=str(n), **({} if total is None else {"total": total}))
        for n, total in enumerate(totals)
    ]
    due = "select due_at <= now() from sub_job"
    await Taking(service).take(first, first)
    await Taking(service).take(first)
    assert await service.value("select messages from sub_job") == 1
    assert await service.value(due) is (totals[0] == "1")
    await service.execute("update sub_job set due_at = now() + interval '1 hour'")
    await Taking(service).take(second)
    assert await service.value("select messages from sub_job") == 2
    assert await service.value(due) is True


@pytest.mark.parametrize("stage", ["STARTING", "TRACKING"])
@pytest.mark.parametrize(("total", "all_in"), [({"total": "1"}, True), ({}, False)])
async def test_messages_of_a_read_that_is_not_terminal_yet_do_not_end_its_lease(
    service: EmbeddedService, stage: str, total: dict[str, str], *, all_in: bool
) -> None:
    """They are counted. The worker that leases the read is notified when all have arrived, if a message gives
    the total."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id, stage=stage)
    await service.execute(
        "update sub_job set lease = gen_random_uuid(), leased_until = now() + interval '1 hour'"
    )
    await Taking(service).take(event(responses(1), subjobid=str(sub_job), sequence="0", **total))
    assert await service.value("select messages = 1 and lease is not null from sub_job")
    assert await service.value("select stage = $1::sub_job_stage from sub_job", stage)
    assert await service.value("select attention from sub_job") is all_in


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"statusCode": 103}, "STATUS_103"),
        ({"statusCode": 108, "errors": [{"type": "SERVER_ERROR", "badDataNode": "/A=1"}]}, "SERVER_ERROR"),
        ({"statusCode": 108, "state": "NOT_STARTED"}, "NOT_STARTED"),
        ({"statusCode": 108, "reason": "EMS-4711"}, "EMS-4711"),
    ],
)
async def test_a_read_that_failed_by_a_message_has_a_reason(
    service: EmbeddedService, members: dict[str, object], reason: str
) -> None:
    """The rule is that of writes: if a plugin gives only ONAP's code, the code is the reason."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    response = {"operationId": "1", "statusMessage": "unable to read resource data"} | members
    value = msgspec.json.encode({"data": {"responses": [response]}})
    headers = {"ce_correlationid": str(job_id), "ce_subjobid": str(sub_job), "ce_total": "1"}
    await Taking(service).take(Message("key", headers, value))
    (part,) = await listing(service, job_id)
    body = await service.objects.get(BUCKET, part.key)
    assert body is not None
    assert [each["reason"] for each in msgspec.json.decode(body)["responses"]] == [reason]
    assert part.failed == 1


async def test_the_same_message_again_changes_nothing(service: EmbeddedService) -> None:
    """A repeated message, with or without a sequence, is kept once. The first one is kept."""
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
    assert set(await service.states(job_id, sub_job)) == {"1", "2"}


@pytest.mark.parametrize("stage", ["STARTING", "TRACKING", "COLLECTING"])
async def test_a_named_sub_job_takes_messages_at_every_stage(service: EmbeddedService, stage: str) -> None:
    """Also before the answer to its create is recorded: no message of a fast plugin is lost."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id, stage=stage, producer_job=None)
    taking = Taking(service)
    await taking.take(event(responses(1), correlationid=str(job_id), subjobid=str(sub_job), sequence="0"))
    assert len(await listing(service, job_id)) == 1


async def test_a_message_finds_its_read_by_the_producers_job(service: EmbeddedService) -> None:
    """Without a sub-job id, the data producer's job id identifies the read, if it is unique."""
    job_id = await service.job(kind="READ")
    await service.sub_job(job_id, producer_job="pj-1")
    other = await service.sub_job(job_id, position=1, producer="ems-2", producer_job="pj-2")
    taking = Taking(service)
    await taking.take(event(responses(1), dataproducerjobid="pj-2", sequence="0"))
    assert [part.sub_job for part in await listing(service, job_id)] == [str(other)]


async def test_an_ambiguous_producers_job_is_not_guessed(service: EmbeddedService) -> None:
    """Two producers with the same job id: only the producer's own id identifies the read."""
    job_id = await service.job(kind="READ")
    await service.sub_job(job_id, producer_job="pj")
    second = await service.sub_job(job_id, position=1, producer="ems-2", producer_job="pj")
    taking = Taking(service)
    await taking.take(event(responses(1), dataproducerjobid="pj", sequence="0"))
    assert taking.dropped == [Dropped.NO_ACTIVE_READ]
    await taking.take(event(responses(1), dataproducerjobid="pj", dataproducerid="ems-2", sequence="0"))
    assert [part.sub_job for part in await listing(service, job_id)] == [str(second)]


async def test_a_message_waits_for_the_answer_to_the_create(service: EmbeddedService) -> None:
    """A producer's job id that is not recorded yet is retried while the create is being answered."""
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
    """The message belongs to the only read that may use the topic. With two such reads it is dropped."""
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
    """A settled sub-job, a write, a read that was never sent, and an unknown id accept no message."""
    read = await service.job(kind="READ")
    settled = await service.sub_job(read, stage="SETTLED")
    unsent = await service.sub_job(read, position=1, stage="WAITING")
    await service.execute("update sub_job set attempts = 0 where sub_job_id = $1", unsent)
    write = await service.sub_job(await service.job())
    taking = Taking(service)
    for sub_job in (settled, unsent, write, uuid4()):
        await taking.take(event(responses(1), subjobid=str(sub_job), sequence="0"))
    await taking.take(event(responses(1), correlationid=str(uuid4()), subjobid=str(settled)))
    assert taking.dropped == [Dropped.NO_ACTIVE_READ] * 5
    assert await listing(service, read) == []


def response_with(member: bytes) -> Message:
    """A message with one response that has such a member."""
    known = b'"operationId":1,"statusCode":0,"statusMessage":""'
    return Message("", {}, b'{"data":{"responses":[{%b,%b}]}}' % (known, member))


UNREADABLE: dict[str, tuple[Message, int]] = {
    "no JSON": (Message("", {}, b"not json"), 0),
    "two documents": (Message("", {}, b'{"data":{"responses":[]}}' * 2), 0),
    "data of another type": (Message("", {}, b'{"data":5}'), 0),
    "data of its own": (Message("", {}, b'{"result":"x"}'), 0),
    "an error": (Message("", {}, b'{"type":"about:blank","title":"no","status":500}'), 0),
    "nothing": (Message("", {}, b""), 0),
    "no UTF-8": (Message("", {}, b"\xff\xfe"), 0),
    "too large": (Message("", {}, bytes(17_000_000)), 0),
    "nested too deeply": (Message("", {}, b'{"data":' + b"[" * 3000 + b"]" * 3000 + b"}"), 0),
    "a result nested too deeply": (response_with(b'"result":' + b"[" * 3000 + b"]" * 3000), 0),
    "a request nested too deeply": (response_with(b'"request":' + b'{"a":' * 3000 + b"1" + b"}" * 3000), 0),
    "a result that is no UTF-8": (response_with(b'"result":["\xff\xfe"]'), 0),
    "half of a surrogate pair": (response_with(b'"request":{"op":"\xed\xa0\x80"}'), 0),
    "a number below 0": (Message("", {"ce_sequence": "-1"}, b'{"data":{"responses":[]}}'), 1),
    "a number too high": (Message("", {"ce_sequence": "1000000"}, b'{"data":{"responses":[]}}'), 1),
    "a number in other digits": (Message("", {"ce_sequence": "\u0663"}, b'{"data":{"responses":[]}}'), 1),
    "a total of none": (Message("", {"ce_total": "0"}, b'{"data":{"responses":[]}}'), 1),
    "entries without use": (Message("", {}, b'{"responses":[null,{"statusCode":0}]}'), 0),
    "one entry without use": (
        Message("", {}, b'{"responses":[{"operationId":1,"statusCode":0},{"statusCode":0}]}'),
        1,
    ),
}
"""A message, and the number of result documents that are readable in it."""


@pytest.mark.parametrize(("message", "readable"), UNREADABLE.values(), ids=UNREADABLE)
async def test_a_message_that_cannot_be_read_is_kept_as_it_came(
    service: EmbeddedService, message: Message, readable: int
) -> None:
    """It counts as a message of its read, which cannot succeed any more. Its readable parts and further
    messages are kept as results."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    names = {"ce_subjobid": str(sub_job)}
    taking = Taking(service)
    spoilt = Message("", message.headers | names, message.value)
    await taking.take(spoilt, event(responses(1), subjobid=str(sub_job), sequence="0"))
    await taking.take(spoilt)
    assert taking.dropped == []
    found = await listing(service, job_id)
    (raw,) = (part for part in found if results.is_foreign(part.sequence))
    assert await service.objects.get(BUCKET, raw.key) == message.value
    assert raw.key.startswith(f"{job_id}/{sub_job}/plugin-message-")
    assert len(found) == 1 + readable + 1
    state = await service.store.arrived(sub_job, job_id, None)
    assert (state.messages, state.unreadable) == (2, 1)
    outcome = outcomes.from_messages([READ], state)
    assert (outcome.status, outcome.counts.failed) == (Status.FAILED, 1)
    assert [response.reason for response in outcome.responses] == ["RESULT_UNREADABLE"]


@pytest.mark.parametrize(
    "headers",
    [{"ce_dataproducerjobid": "a\0b"}, {"ce_dataproducerjobid": "a", "ce_dataproducerid": "\0"}],
)
async def test_a_message_whose_names_no_store_can_hold_is_unassigned(
    service: EmbeddedService, headers: dict[str, str]
) -> None:
    """Such headers match no read, and do not stop the consumer. A sub-job that is named is used."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    taking = Taking(service)
    value = msgspec.json.encode({"data": {"responses": responses(1)}})
    await taking.take(Message("", headers, value))
    assert (taking.dropped, await listing(service, job_id)) == ([Dropped.NO_ACTIVE_READ], [])
    await taking.take(Message("", headers | {"ce_subjobid": str(sub_job)}, value))
    assert len(await listing(service, job_id)) == 1


async def test_a_message_without_a_number_takes_no_other_ones(service: EmbeddedService) -> None:
    """In one batch, numbered messages keep their numbers and the others follow them: none is lost."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    name = {"subjobid": str(sub_job)}
    numbered = [event(responses(n), **name, sequence=str(n)) for n in range(2)]
    await Taking(service).take(event(responses(7), **name), numbered[1], numbered[0], event([], **name))
    assert await arrived(service, job_id, sub_job) == 4
    assert set(await service.states(job_id, sub_job)) == {"0", "1", "7"}


_NAMES = st.sampled_from([events.CORRELATION_ID, events.SUB_JOB_ID, events.SEQUENCE, events.TOTAL, "other"])
_PRODUCER = st.sampled_from([events.DATA_PRODUCER_JOB_ID, events.DATA_PRODUCER_ID])
_TEXTS = st.text(st.characters(codec=None), max_size=12)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    """Any message on the topic is kept or dropped; no exception is raised."""
    await Taking(service).take(Message("key", headers, value))


async def test_a_fault_of_ours_does_not_end_the_consumer(service: EmbeddedService) -> None:
    """An unexpected error is reported, and the same messages are retried after a pause."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    errors: list[Exception] = []
    stored = asyncio.Event()

    async def reached(checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.ARRIVAL_WRITTEN and not errors:
            raise RuntimeError("as the test wants it")
        if checkpoint is Checkpoint.ARRIVAL_STORED:
            stored.set()

    on_checkpoint.set(reached)
    arrivals = ReadResultConsumer(service.database, service.bus, service.objects, troubled=errors.append)
    running = asyncio.create_task(arrivals.run())
    try:
        async with asyncio.timeout(20):
            await service.bus.publish(
                INTERNAL_TOPIC, [event(responses(1), subjobid=str(sub_job), sequence="0")]
            )
            await stored.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [str(error) for error in errors] == ["as the test wants it"]
    assert len(await listing(service, job_id)) == 1


async def test_a_foreign_object_under_a_key_is_replaced(service: EmbeddedService) -> None:
    """The owner of a bucket can write any object there: an object that is no result is replaced, and stops
    nothing."""
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
    """Failures in an object that the owner of the bucket damaged or removed count as failed operations."""
    job_id = await service.job(kind="READ")
    first, second = await service.sub_job(job_id), await service.sub_job(job_id, position=1, producer="ems-2")
    (part,) = await service.settle(job_id, first, responses(1, state=OperationState.FAILED))
    await service.settle(job_id, second, responses(2, state=OperationState.UNKNOWN))
    await service.execute("update data_job set split_reads = true, planned = true")
    if spoilt is None:
        await service.objects.delete(BUCKET, [part.key])
    else:
        await service.objects.put(BUCKET, part.key, spoilt)
    await service.execute("update sub_job set stage = 'SETTLED', due_at = null")
    await service.execute("update data_job set due_at = now()")
    (step,) = await claim_jobs(service.database)
    await worker_parts(service.database, service.objects).steps.finish(step)
    async with service.database.connection() as connection:
        row = await jobs.find(connection, job_id, None)
    assert row is not None
    assert row.status is Status.PARTIALLY_FAILED
    assert (row.counts.succeeded, row.counts.failed, row.counts.unknown) == (1, 1, 1)


async def test_a_large_message_becomes_several_objects(service: EmbeddedService) -> None:
    """A message over the size limit of an object is split between operations and between the objects of a
    result, and counts as one message. The published parts are in order and complete, and refer to no
    object."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    taking = Taking(service)
    names = {"correlationid": str(job_id), "subjobid": str(sub_job)}
    long_list = Raw(msgspec.json.encode([{"x": "y" * 300_000}] * 5))
    first = event(responses(1, 2, 3, size=600_000), **names, sequence="0")
    await taking.take(first, event(responses(9), **names, sequence="0"))
    await taking.take(first)
    assert await arrived(service, job_id, sub_job) == 1
    await taking.take(event([Response(4, 0, "read", result=long_list)], **names, sequence="1", total="2"))
    assert await arrived(service, job_id, sub_job) == 2
    assert set(await service.states(job_id, sub_job)) == {"1", "2", "3", "4"}
    found = await listing(service, job_id)
    assert [part.key.rpartition("/")[2] for part in found] == [
        *("0.json", "0-1.json", "0-2.json"),
        *("1.json", "1-1.json", "1-2.json"),
    ]
    async with service.database.transaction() as connection:
        await service.events.sub_jobs_settled(connection, [job_id], [sub_job])
    await service.publish_all(job_id)
    got = await service.delivered()
    assert [identity(each)[2] for each in got] == list(range(6))
    assert {each.message.headers[events.TOTAL] for each in got} == {"6"}
    published = [msgspec.json.decode(each.message.value)["data"]["responses"] for each in got]
    assert [[one["operationId"] for one in some] for some in published] == [[1], [2], [3], [4], [4], [4]]
    assert sum(len(one["result"]) for some in published[3:] for one in some) == 5


async def test_a_large_message_without_a_sequence_is_kept_once(service: EmbeddedService) -> None:
    """Equal bytes count as a repeat, also if a message was split. Others with the same beginning do not."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    plain = event(responses(1, 2, size=600_000), subjobid=str(sub_job))
    other = event(responses(1, 3, size=600_000), subjobid=str(sub_job))
    for _ in range(2):
        await Taking(service).take(plain, other)
    assert await arrived(service, job_id, sub_job) == 2
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
    """Responses that the service adds to the messages of a read have keys that no message can have, and are
    published last."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    taking = Taking(service)
    await taking.take(event(responses(1), subjobid=str(sub_job), sequence="0", total="3"))
    await taking.take(event(responses(2), subjobid=str(sub_job), sequence="2"))
    added = await service.write(
        job_id, sub_job, responses(3, state=OperationState.FAILED), results.ADDED_SEQUENCE
    )
    async with service.database.transaction() as connection:
        await results.record(connection, job_id, added)
        await service.events.sub_jobs_settled(connection, [job_id], [sub_job])
    await service.publish_all(job_id)
    got = await service.delivered()
    assert [identity(each)[2] for each in got] == [0, 1, 2]
    assert [
        msgspec.json.decode(each.message.value)["data"]["responses"][0]["operationId"] for each in got
    ] == [1, 2, 3]


async def test_the_consumer_takes_messages_from_the_bus_and_goes_on(service: EmbeddedService) -> None:
    """The consumer commits the messages that it took: a new consumer of the same name starts after them."""
    job_id = await service.job(kind="READ")
    sub_job = await service.sub_job(job_id)
    arrived = asyncio.Event()

    async def reached(checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.ARRIVAL_STORED:
            arrived.set()

    on_checkpoint.set(reached)
    arrivals = ReadResultConsumer(service.database, service.bus, service.objects)
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


class StumblingBus(PostgresBus):
    """Returns one message, and fails instead of ending when its acknowledgement is cancelled."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.acknowledging = asyncio.Event()

    async def receive(self, topic: str, consumer: str) -> AsyncGenerator[list[Received], None]:
        """One message."""
        yield [Received(topic, 0, Message("k", {}, b"no result"))]
        self.acknowledging.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise BusUnavailable("the client is being closed") from None


async def test_a_consumer_that_is_told_to_end_ends_whatever_fails(service: EmbeddedService) -> None:
    """A cancellation that becomes another error on its way still counts as a cancellation: the worker
    stops."""
    bus = StumblingBus(service.database)
    consumer = ReadResultConsumer(service.database, bus, service.objects)
    running = asyncio.create_task(consumer.run())
    async with asyncio.timeout(20):
        await bus.acknowledging.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
