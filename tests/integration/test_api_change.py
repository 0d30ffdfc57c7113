# SPDX-License-Identifier: Apache-2.0
"""Changes of a data job over HTTP: cancel, retry, redeliver; and the calls of DMI plugins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import zstandard

from ran_datajobs.api import paths
from ran_datajobs.checkpoints import Checkpoint, on_checkpoint
from ran_datajobs.messaging.topics import INTERNAL_TOPIC, STATUS_TOPIC
from ran_datajobs.model import MAX_MESSAGE_BYTES, OperationState, Status
from ran_datajobs.planning.request import read_accepted
from ran_datajobs.store.database import Database
from ran_datajobs.store.listen import DUE_CHANNEL, SUB_JOB_CHANNEL, follow
from tests.kit.api_service import (
    PLUGIN,
    READ,
    Api,
    changes_nothing,
    end_job,
    northbound_api,
    outcome,
    plan,
    publish,
    register,
    writes,
)
from tests.kit.worker_parts import by_hand, claim_jobs

pytestmark = pytest.mark.damages_rows  # the tests end jobs by hand

S, F, N, U = (
    OperationState.SUCCEEDED,
    OperationState.FAILED,
    OperationState.NOT_STARTED,
    OperationState.UNKNOWN,
)
INTERNAL = paths.fill(paths.TOPIC_MESSAGES, topic=INTERNAL_TOPIC)


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service on one machine."""
    async with northbound_api(database, tmp_path, free_port) as running:
        yield running


def job_path(job_id: UUID, what: str = "") -> str:
    """Address of a job, or of a resource below it."""
    return f"{paths.JOBS}/{job_id}{what}"


async def messages(api: Api, topic: str, query: str = "") -> list[dict[str, Any]]:
    """The messages of a topic that the API returns."""
    answer = await api.get(paths.fill(paths.TOPIC_MESSAGES, topic=topic) + query)
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_a_cancel_asks_for_the_end_and_makes_every_open_sub_job_due(api: Api) -> None:
    """The job and its open sub-jobs are CANCELLING at once. Sub-jobs without a lease are due now, and the
    worker that leases another one is notified."""
    await register(api, 0, 1, 2)
    job_id = await api.accepted(writes(3))
    await plan(api, job_id)
    database = api.parts.database
    await by_hand(
        database,
        "update sub_job set stage = 'SETTLED', status = 'FINISHED', due_at = null where position = 0",
    )
    await by_hand(
        database,
        "update sub_job set stage = 'TRACKING', due_at = now() + interval '1 hour', polls = 9"
        " where position = 1",
    )
    (leased,) = await by_hand(
        database,
        "update sub_job set stage = 'STARTING', lease = gen_random_uuid(),"
        " leased_until = now() + interval '1 hour' where position = 2 returning sub_job_id",
    )
    async with notifications(api, DUE_CHANNEL) as due, notifications(api, SUB_JOB_CHANNEL) as notified:
        answer = await api.post(job_path(job_id, "/cancel"))
        assert (answer.status, answer.json()["status"]) == (202, "CANCELLING")
        assert answer.json()["subJobs"] == {"FINSHED": 1, "CANCELLING": 2}
        assert await due.get() == "sub_job"
        assert await notified.get() == str(leased["sub_job_id"])
    sub_jobs = await api.rows(
        "select s.status, s.cancel_requested, s.attention, s.due_at <= now() as due, s.polls,"
        " s.version = j.version as shown"
        " from sub_job s join data_job j using (job_id) order by s.position"
    )
    assert [(sub["status"], sub["cancel_requested"], sub["attention"], sub["shown"]) for sub in sub_jobs] == [
        ("FINISHED", False, False, False),
        ("CANCELLING", True, False, True),
        ("CANCELLING", True, True, True),
    ]
    assert (sub_jobs[1]["due"], sub_jobs[1]["polls"]) == (True, 0)
    assert (await api.get(job_path(job_id))).json()["status"] == "CANCELLING"


@contextlib.asynccontextmanager
async def notifications(api: Api, channel: str) -> AsyncIterator[asyncio.Queue[str | None]]:
    """The payloads of a channel's notifications during the block."""
    payloads: asyncio.Queue[str | None] = asyncio.Queue()
    following = asyncio.create_task(follow(api.parts.database, channel, payloads.put_nowait))
    try:
        async with asyncio.timeout(30):
            assert await payloads.get() is None  # it listens
            yield payloads
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_cancel_that_meets_a_worker_the_other_way_round_comes_through(api: Api) -> None:
    """A worker that marks sub-jobs of the job in another order causes a deadlock; the cancel still ends in a
    202."""
    await register(api, 0, 1)
    job_id = await api.accepted(writes(2))
    await plan(api, job_id)
    mark = "update sub_job set attempts = attempts + 1 where position = $1"
    async with api.parts.database.transaction() as worker:
        await worker.execute(mark, 1)
        cancel = asyncio.create_task(api.post(job_path(job_id, "/cancel")))
        while not await api.rows("select 1 from pg_locks where not granted"):
            await asyncio.sleep(0.01)
        await worker.execute(mark, 0)
    answer = await cancel
    assert (answer.status, answer.json().get("status")) == (202, "CANCELLING")
    assert (
        await api.rows("select attempts, cancel_requested from sub_job order by position")
        == [{"attempts": 1, "cancel_requested": True}] * 2
    )


async def test_a_cancel_again_is_a_202_and_changes_nothing(api: Api) -> None:
    """While CANCELLING, the response is the same and the version does not change."""
    job_id = await api.accepted()
    await api.post(job_path(job_id, "/cancel"))
    before = await api.rows("select version from data_job")
    again = await api.post(job_path(job_id, "/cancel"))
    assert (again.status, again.json()["status"]) == (202, "CANCELLING")
    assert await api.rows("select version from data_job") == before


@pytest.mark.parametrize(
    "status", [Status.FINISHED, Status.FAILED, Status.PARTIALLY_FAILED, Status.CANCELLED]
)
async def test_a_terminal_job_cannot_be_cancelled(api: Api, status: Status) -> None:
    """409, and the job is unchanged."""
    job_id = await api.accepted()
    await by_hand(api.parts.database, "update data_job set status = $1::job_status", status.value)
    assert (await api.post(job_path(job_id, "/cancel"))).problem["status"] == 409
    assert (await api.rows("select status, cancel_requested from data_job")) == [
        {"status": status.value, "cancel_requested": False}
    ]


async def test_a_cancel_is_told_on_the_status_topic(api: Api) -> None:
    """The event's data is the body of GET at that change."""
    job_id = await api.accepted()
    shown = (await api.post(job_path(job_id, "/cancel"))).json()
    await publish(api)
    (published,) = await messages(api, STATUS_TOPIC)
    assert published["value"] == {"data": shown}
    assert published["headers"]["ce_correlationid"] == str(job_id)


async def test_a_retry_is_a_new_job_of_what_did_not_succeed(api: Api) -> None:
    """Same ids, order, values, destination, name and mode. retryOf names the first job."""
    body = b"""{"activationMode": "STOP_ON_ERROR", "name": "nightly", "priority": 7, "data": [
        {"op": "add", "path": "/A=1", "operationId": 7, "value": {"id": "1", "attributes": {"x": 1.50}}},
        {"op": "remove", "path": "/A=2"},
        {"op": "replace", "path": "/A=3#/attributes/x", "operationId": "b", "value": null},
        {"op": "merge", "path": "/A=4", "operationId": "c", "value": {}},
        {"op": "merge", "path": "/A=5", "operationId": "d", "value": {}}]}"""
    job_id = await api.accepted(body, "?destination=kafka:My_Topic")
    outcomes = [outcome("d", N), outcome(7, F), outcome("1", F), outcome("b", S), outcome("c", U)]
    await end_job(api, job_id, Status.PARTIALLY_FAILED, outcomes)
    answer = await api.post(job_path(job_id, "/retry"))
    assert answer.status == 202, answer.body
    assert set(answer.json()) == {"jobId", "status", "statusuri", "resultsuri"}
    assert answer.headers["Location"] == answer.json()["statusuri"]
    run_transaction = UUID(answer.json()["jobId"])
    job = (await api.get(job_path(run_transaction))).json()
    assert (job["retryOf"], job["name"], job["priority"]) == (str(job_id), "nightly", 7)
    assert (job["destination"], job["operations"]["total"]) == ("My_Topic", 3)
    (stored,) = await api.rows(
        "select r.body, j.activation_mode, j.destination_kind"
        " from job_request r join data_job j using (job_id) where job_id = $1",
        run_transaction,
    )
    assert (stored["activation_mode"], stored["destination_kind"]) == ("STOP_ON_ERROR", "TOPIC")
    read, left = read_accepted(zstandard.decompress(stored["body"]))
    first, operations = read_accepted(body)
    assert left == [operations[0], operations[1], operations[4]]
    assert (read.activation_mode, read.accept_type, read.content_type) == (
        first.activation_mode,
        first.accept_type,
        first.content_type,
    )
    assert [step.job_id for step in await claim_jobs(api.parts.database)] == [run_transaction]


async def test_a_read_is_retried_as_it_was_asked(api: Api) -> None:
    """Scope, filter, attributes and fields are those of the first job."""
    read = READ["data"][0] | {
        "attributes": ["userLabel"],
        "fields": ["/attributes/x"],
        "filter": ["NRCellDU/attributes/administrativeState==LOCKED"],
        "scope": {"scopeType": "BASE_SUBTREE", "scopeLevel": 2},
    }
    job_id = await api.accepted({"data": [read]})
    await end_job(api, job_id, Status.FAILED, [outcome("1", F)])
    run_transaction = UUID((await api.post(job_path(job_id, "/retry"))).json()["jobId"])
    rows = await api.rows("select body from job_request where job_id = any ($1)", [job_id, run_transaction])
    first, second = (read_accepted(zstandard.decompress(row["body"])) for row in rows)
    assert first == second


async def test_unknown_operations_are_retried_only_when_asked(api: Api) -> None:
    """Without includeUnknown these operations are not repeated, since they may have been executed."""
    job_id = await api.accepted(writes(2))
    await end_job(api, job_id, Status.PARTIALLY_FAILED, [outcome(0, S), outcome(1, U)])
    refused = await api.post(job_path(job_id, "/retry"))
    assert refused.problem["status"] == 409
    assert "includeUnknown" in refused.problem["detail"]
    assert (await api.post(job_path(job_id, "/retry?includeUnknown=true"))).status == 202


async def test_retries_count_among_the_bodies_in_flight(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """While one retry processes its stored request, another one over the limit is a 429. It is accepted
    later, and the limit is free again afterwards."""
    body = msgspec.json.encode(writes(100))
    working, go_on = asyncio.Event(), asyncio.Event()
    go_on.set()

    async def reached(checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.ACCEPT_CHECKED:
            working.set()
            await go_on.wait()

    room = 2 * len(body) - 1
    on_checkpoint.set(reached)
    async with northbound_api(database, tmp_path, free_port, max_body_bytes_in_flight=room) as api:
        job_id = await api.accepted(body)
        await end_job(api, job_id, Status.FAILED, [outcome(n, F) for n in range(100)])
        working.clear()
        go_on.clear()
        first = asyncio.create_task(api.post(job_path(job_id, "/retry")))
        async with asyncio.timeout(20):
            await working.wait()
        in_flight = f"datajobs_body_bytes_in_flight {float(len(body))}".encode()
        assert in_flight in (await api.get(paths.METRICS)).body
        refused = await api.post(job_path(job_id, "/retry"))
        assert refused.problem["status"] == 429
        assert int(refused.headers["Retry-After"]) > 0
        go_on.set()
        assert (await first).status == 202
        assert (await api.post(job_path(job_id, "/retry"))).status == 202
        assert b"datajobs_body_bytes_in_flight 0.0" in (await api.get(paths.METRICS)).body


async def test_a_retry_of_a_running_or_a_finished_job_is_a_409(api: Api) -> None:
    """A job that is open, or has nothing to repeat, gets no retry. No job is made."""
    running, finished = await api.accepted(), await api.accepted()
    await end_job(api, finished, Status.FINISHED, [outcome("1", S)])
    for job_id in (running, finished):
        assert (await api.post(job_path(job_id, "/retry"))).problem["status"] == 409
    assert (await api.left_behind())["data_job"] == 2


async def test_a_redeliver_sends_everything_again_with_the_next_number(api: Api) -> None:
    """409 while the delivery is pending. Afterwards every message is sent again with a higher ce_delivery."""
    job_id = await api.accepted(query="?destination=kafka:My_Topic")
    assert (await api.post(job_path(job_id, "/redeliver"))).problem["status"] == 409
    await end_job(api, job_id, Status.FINISHED, [outcome("1", S)])
    await redelivered(api, job_id)
    await publish(api)
    before = await messages(api, "My_Topic")
    assert (await api.get(job_path(job_id))).json()["deliveryState"] == "DELIVERED"
    answer = await api.post(job_path(job_id, "/redeliver"))
    assert (answer.status, answer.json()["deliveryState"]) == (202, "PENDING")
    assert (await api.post(job_path(job_id, "/redeliver"))).problem["status"] == 409
    await publish(api)
    after = await messages(api, "My_Topic", f"?from={len(before)}")
    assert [m["value"] for m in after] == [m["value"] for m in before]
    assert {m["headers"]["ce_delivery"] for m in after} == {str(int(before[0]["headers"]["ce_delivery"]) + 1)}
    assert (await api.get(job_path(job_id))).json()["deliveryState"] == "DELIVERED"


async def redelivered(api: Api, job_id: UUID) -> None:
    """Publish the first delivery and request another one, so that the topic holds the results themselves."""
    await publish(api)
    assert (await api.post(job_path(job_id, "/redeliver"))).status == 202


async def test_a_bucket_has_everything_already(api: Api) -> None:
    """A redeliver of a job with a bucket destination is accepted and changes nothing."""
    job_id = await api.accepted()
    await end_job(api, job_id, Status.FINISHED, [outcome("1", S)])
    answer = await api.post(job_path(job_id, "/redeliver"))
    assert (answer.status, answer.json()["deliveryState"]) == (202, "DELIVERED")


async def test_topic_messages_are_paged_by_offset(api: Api) -> None:
    """from and limit select messages. Each item has offset, headers, key and value."""
    job_id = await api.accepted(query="?destination=kafka:My_Topic")
    outcomes = [outcome(n, F, detail="x" * 900) for n in range(2500)]
    await end_job(api, job_id, Status.PARTIALLY_FAILED, outcomes)
    await redelivered(api, job_id)
    await publish(api)
    everything = await messages(api, "My_Topic")
    assert len(everything) > 2
    assert [m["offset"] for m in everything] == list(range(len(everything)))
    assert set(everything[0]) == {"offset", "headers", "key", "value"}
    assert await messages(api, "My_Topic", "?from=1&limit=1") == [everything[1]]
    assert await messages(api, "My_Topic", "?from=999999") == []


async def test_only_topics_of_known_jobs_can_be_read(api: Api) -> None:
    """Internal, unknown and invalid topic names are a 404. An invalid offset is a 400."""
    await api.accepted(query="?destination=kafka:My_Topic")
    for topic in ("Other", INTERNAL_TOPIC, "__ran-datajobs-positions", "a%00b", "x" * 300):
        answer = await api.get(f"/ranoam/cm/v1/topics/{topic}/messages")
        assert answer.problem["status"] == 404, topic
    for query in ("from=-1", "from=x", "from=" + "9" * 30, "limit=0"):
        answer = await api.get(f"/ranoam/cm/v1/topics/My_Topic/messages?{query}")
        assert answer.problem["status"] == 400, query


MESSAGE = {
    "headers": {"CE_SubJobId": "s", "ce_type": "t"},
    "key": "k",
    "value": {"data": {"responses": [1.50]}},
}


async def test_an_outside_plugin_publishes_to_the_internal_topic(api: Api) -> None:
    """204. The messages are on the bus in order, with header names in lower case and the value token by
    token."""
    body = b"""{"messages": [{"headers": {"CE_Type": "t"}, "key": "k", "value": {"x": 1.50}},
                             {"headers": {}, "value": 1}]}"""
    answer = await api.post(INTERNAL, body)
    assert (answer.status, answer.body) == (204, b"")
    assert api.parts.embedded_bus is not None
    first, second = await api.parts.embedded_bus.read(INTERNAL_TOPIC, 0, 10)
    assert (first.message.headers, first.message.key) == ({"ce_type": "t"}, "k")
    assert first.message.value == b'{"x": 1.50}'
    assert second.message.value == b"1"


@changes_nothing
@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [
        (b"{", 400, []),
        (b"[]", 400, ["#"]),
        ({}, 400, ["#/messages"]),
        ({"messages": [{"headers": {"a": 1}, "value": 1}]}, 400, ["#/messages/0/headers"]),
        ({"messages": [{"headers": {"a b": "x"}, "value": 1}]}, 400, ["#/messages/0/headers"]),
        ({"messages": [{"headers": {"a": "x\ny"}, "value": 1}]}, 400, ["#/messages/0/headers"]),
        ({"messages": [{"headers": {"a": "x\0y"}, "value": 1}]}, 400, ["#/messages/0/headers"]),
        ({"messages": [MESSAGE, {"headers": {}}]}, 400, ["#/messages/1/value"]),
        ({"messages": [{"headers": {}, "key": "a\0", "value": 1}]}, 400, ["#/messages/0/key"]),
        ({"messages": [MESSAGE, MESSAGE | {"value": "x" * MAX_MESSAGE_BYTES}]}, 413, []),
    ],
)
async def test_what_is_no_message_is_refused_as_a_whole(
    unchanged: Api, body: Any, status: int, pointers: list[str]
) -> None:
    """All messages or none: the topic is empty, and the response points at the fault."""
    problem = (await unchanged.post(INTERNAL, body)).problem
    assert problem["status"] == status
    assert [error["pointer"] for error in problem.get("errors", ())] == pointers
    assert unchanged.parts.embedded_bus is not None
    assert await unchanged.parts.embedded_bus.read(INTERNAL_TOPIC, 0, 10) == []


@changes_nothing
async def test_other_topics_cannot_be_written(unchanged: Api) -> None:
    """Only the internal topic accepts messages from outside."""
    for topic in ("My_Topic", STATUS_TOPIC, "__ran-datajobs-positions"):
        path = paths.fill(paths.TOPIC_MESSAGES, topic=topic)
        assert (await unchanged.post(path, {"messages": [MESSAGE]})).problem["status"] == 404


async def running_sub_job(api: Api) -> UUID:
    """A sub-job with the data producer job id dp-1 at its plugin, without a lease."""
    await register(api, 0)
    job_id = await api.accepted(writes(1))
    await plan(api, job_id)
    (row,) = await by_hand(
        api.parts.database,
        "update sub_job set stage = 'TRACKING', data_producer_job_id = 'dp-1',"
        " due_at = now() + interval '1 hour' returning sub_job_id",
    )
    found: UUID = row["sub_job_id"]
    return found


def push_path(sub_job_id: UUID) -> str:
    """Address of the status push."""
    return paths.fill(paths.STATUS_PUSH, sub_job_id=sub_job_id)


async def test_a_status_push_makes_the_sub_job_due_at_once(api: Api) -> None:
    """204. The next poll is due, and the workers are notified. The pushed status itself is ignored."""
    sub_job = await running_sub_job(api)
    async with notifications(api, DUE_CHANNEL) as due:
        for status in ("RUNNING", "FINSHED", "FINISHED"):
            answer = await api.post(push_path(sub_job), {"dataProducerJobId": "dp-1", "status": status})
            assert answer.status == 204, answer.body
            assert await due.get() == "sub_job"
    (row,) = await api.rows("select status, stage, due_at <= now() as due, attention from sub_job")
    assert row == {"status": "NOT_STARTED", "stage": "TRACKING", "due": True, "attention": False}


async def test_a_status_push_during_a_lease_is_told_to_its_worker(api: Api) -> None:
    """The sub-job is leased: it is marked, so that it is not postponed, and its worker is notified."""
    sub_job = await running_sub_job(api)
    await api.rows(
        "update sub_job set lease = gen_random_uuid(), leased_until = now() + interval '1 hour' returning 1"
    )
    async with notifications(api, SUB_JOB_CHANNEL) as notified:
        answer = await api.post(push_path(sub_job), {"dataProducerJobId": "dp-1", "status": "FINISHED"})
        assert answer.status == 204, answer.body
        assert await notified.get() == str(sub_job)
    (row,) = await api.rows("select due_at > now() as later, attention from sub_job")
    assert row == {"later": True, "attention": True}


async def test_a_status_push_that_does_not_fit_changes_nothing(api: Api) -> None:
    """Unknown sub-job 404, another id or a settled sub-job 409, an unknown status or an invalid body 400."""
    sub_job = await running_sub_job(api)
    good = {"dataProducerJobId": "dp-1", "status": "RUNNING"}
    assert (await api.post(push_path(uuid4()), good)).problem["status"] == 404
    assert (await api.post(push_path(sub_job), good | {"dataProducerJobId": "dp-2"})).problem["status"] == 409
    assert (await api.post(push_path(sub_job), good | {"status": "DONE"})).problem["status"] == 400
    assert (await api.post(push_path(sub_job), good | {"dataProducerJobId": "a\0"})).problem["status"] == 400
    problem = (await api.post(push_path(sub_job), {"status": "RUNNING"})).problem
    assert problem["errors"] == [{"pointer": "#/dataProducerJobId", "detail": "is missing"}]
    problem = (await api.post(push_path(sub_job), good | {"status": 7})).problem
    assert (problem["status"], problem["errors"][0]["pointer"]) == (400, "#/status")
    assert (await api.post(push_path(sub_job), b"{")).problem["status"] == 400
    await api.rows("update sub_job set stage = 'SETTLED' returning 1")
    assert (await api.post(push_path(sub_job), good)).problem["status"] == 409
    (row,) = await api.rows("select due_at > now() as later, attention from sub_job")
    assert row == {"later": True, "attention": False}


async def test_a_registration_that_is_taken_has_no_body(api: Api) -> None:
    """200 without a body, also for a repeat."""
    await register(api, 1, 2)
    await register(api, 1, 2)
    body = {"dmiPlugin": PLUGIN, "removedCmHandles": ["ch-1"]}
    answer = await api.post(paths.INVENTORY, body)
    assert (answer.status, answer.body) == (200, b"")


async def test_what_was_not_taken_is_listed_as_onap_lists_it(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """207 with ONAP's lists, or ONAP's 500 if configured. The valid handles are registered."""
    body = {
        "dmiPlugin": PLUGIN,
        "createdCmHandles": [{"cmHandle": "good", "alternateId": "/A=1"}, {"cmHandle": "not good"}],
        "removedCmHandles": ["never-there"],
    }
    for onap_status, status in ((False, 207), (True, 500)):
        async with northbound_api(database, tmp_path, free_port, registration_error_500=onap_status) as api:
            answer = await api.post(paths.INVENTORY, body)
            assert answer.status == status, answer.body
            assert [failed["cmHandle"] for failed in answer.json()["failedCreatedCmHandles"]] == ["not good"]
            assert [failed["cmHandle"] for failed in answer.json()["failedRemovedCmHandles"]] == [
                "never-there"
            ]
            assert set(answer.json()["failedCreatedCmHandles"][0]) == {"cmHandle", "errorCode", "errorText"}
            kept = await api.rows("select cm_handle from cm_handle where not removed")
            assert kept == [{"cm_handle": "good"}]
            wrong = await api.post(paths.INVENTORY, {"dmiPlugin": PLUGIN, "createdCmHandles": {}})
            assert wrong.problem["status"] == 400
            assert wrong.problem["errors"][0]["pointer"] == "#/createdCmHandles"


@changes_nothing
async def test_a_body_is_needed(unchanged: Api) -> None:
    """Each call that needs a body reports an empty one as such."""
    for path in (paths.JOBS, paths.INVENTORY, INTERNAL, push_path(uuid4())):
        assert (await unchanged.post(path, b"")).problem["status"] == 400
        assert msgspec.json.decode((await unchanged.post(path, b"")).body)["title"] == "Bad Request"
