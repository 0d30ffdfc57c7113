# SPDX-License-Identifier: Apache-2.0
"""The results of the conformance checks for the messages of a read and of a cancel."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from typing import Any

import aiohttp
import msgspec
import pytest

from ran_datajobs.dmi.conformance.bus import MAX_MESSAGES, StandIn
from ran_datajobs.dmi.conformance.checks import ended_before, stopped
from ran_datajobs.dmi.conformance.reads import (
    belongs,
    wrong_count,
    wrong_header,
    wrong_objects,
    wrong_value,
)
from ran_datajobs.dmi.conformance.trial import Ended, Fails, Holds
from ran_datajobs.errors import UsageError
from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.events import PLUGIN, ResultPart, result_headers
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import MAX_MESSAGE_BYTES, ActivationMode, OperationState, Response, Status
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.port import CreateCall, JobAddress, Lost, Polled

FDN = "/SubNetwork=A/ManagedElement=1"
JOB, SUB_JOB = "0c5a1d4e-2b7f-4a53-9a43-3a7f5f1d9a11", "5b0e0f4e-8f5d-4c55-8d55-0c9c6d1c9e22"
CALL = CreateCall(
    JOB, SUB_JOB, "ems-1", "dmi-check", wire.TREE_FLAT, wire.JSON_PATCH_3GPP, ActivationMode.BEST_EFFORT,
    True, b"[]",
)  # fmt: skip
ENDED = Ended(JobAddress(JOB, "ems-1", "job-7", "dmi-check", True), (Status.NOT_STARTED, Status.FINISHED))
OBJECT = {
    "id": "1",
    "objectClass": "ManagedElement",
    "objectInstance": "SubNetwork=A,ManagedElement=1",
    "attributes": {"userLabel": "x"},
}


def message(sequence: int = 0, total: int | None = 1, value: bytes = b"{}", **changed: str | None) -> Message:
    """A message as the reference plugin makes it, with headers changed or (None) left out."""
    part = ResultPart(JOB, SUB_JOB, sequence, total, "ems-1", "job-7")
    headers = result_headers(part, "dmi-check", PLUGIN, datetime.datetime.now(datetime.UTC))
    for name, text in changed.items():
        headers.pop(name.replace("content_", "content-"), None)
        if text is not None:
            headers[name.replace("content_", "content-")] = text
    return Message(f"{JOB}/{SUB_JOB}", headers, value)


def test_a_message_of_the_contract_is_right() -> None:
    """A message without the headers that are this project's own passes."""
    own = {"ce_subjobid", "ce_dataproducerid", "ce_dataproducerjobid", "ce_sequence", "ce_total"}
    for each in (message(), message(**dict.fromkeys(own)), message(content_type="application/json; x=y")):
        assert belongs(each, CALL, ENDED)
        assert wrong_header(each, CALL, ENDED) == ""


@pytest.mark.parametrize(
    ("changed", "theirs"),
    [
        ({"ce_correlationid": "another"}, True),
        ({"ce_correlationid": None}, True),
        ({"ce_dataproducerjobid": None}, True),
        ({"ce_subjobid": None}, True),
        ({"ce_subjobid": "another"}, False),
        ({"ce_correlationid": None, "ce_dataproducerjobid": None}, False),
        ({"ce_correlationid": "another", "ce_dataproducerjobid": "another"}, False),
    ],
)
def test_a_message_belongs_to_a_read_by_its_ids(changed: dict[str, Any], theirs: bool) -> None:
    """As NCMP sorts them: by job and sub-job, or by the data producer's job."""
    assert belongs(message(**changed), CALL, ENDED) is theirs


@pytest.mark.parametrize("text", [None, "wrong"])
@pytest.mark.parametrize(
    "name",
    [
        "ce_id", "ce_specversion", "ce_source", "ce_type", "ce_time", "ce_dataschema", "ce_correlationid",
        "ce_destination", "content_type",
    ],
)  # fmt: skip
def test_a_header_that_is_missing_or_wrong_is_named(name: str, text: str | None) -> None:
    """Every header of ONAP's event is required, and has the expected form."""
    assert name.replace("content_", "content-") in wrong_header(message(**{name: text}), CALL, ENDED)


@pytest.mark.parametrize(
    "name", ["ce_subjobid", "ce_dataproducerid", "ce_dataproducerjobid", "ce_sequence", "ce_total"]
)
def test_a_header_of_ours_may_be_missing_but_not_wrong(name: str) -> None:
    """The project's own headers are checked if they are present."""
    assert name in wrong_header(message(**{name: "wrong"}), CALL, ENDED)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (b'{"data":{"responses":[{"operationId":"1","statusCode":"0"}]}}', ""),
        (b'{"responses":[{"operationId":"1","statusCode":0}]}', '"data"'),
        (b'{"data":{"responses":[{"operationId":"1"}]}}', "outcome"),
        (b'{"data":{"responses":', "responses"),
        (b'{"data":{"responses":[{"operationId":"\xff","statusCode":0}]}}', "responses"),
        (b"[]", "responses"),
        (b" " * (MAX_MESSAGE_BYTES + 1), "bytes"),
    ],
)
def test_a_value_is_a_whole_document_of_bounded_size(value: bytes, wrong: str) -> None:
    """``{"data": {"responses": […]}}``, each with an outcome."""
    found = wrong_value(value)
    assert wrong in found
    assert bool(found) is bool(wrong)


@pytest.mark.parametrize(
    ("messages", "wrong"),
    [
        ([message(0, 2), message(1, 2)], ""),
        ([message(1, 2), message(0, 2), message(1, 2)], ""),
        ([message(0, None), message(1, 2)], ""),
        ([message(0, None), message(1, None)], ""),
        ([message(total=1, ce_sequence=None)], ""),
        ([message(0, 3), message(2, 3)], "ce_sequence 1 is missing"),
        ([message(total=2, ce_sequence=None)], "is missing"),
        ([message(0, 2), message(1, 3)], "ce_total has the values 2, 3"),
        ([message(0, 1), message(1, 1)], "more came"),
        ([message(0, 2), message(0, 2, b"[]"), message(1, 2)], "two messages have ce_sequence 0"),
    ],
)
def test_all_messages_come_once(messages: list[Message], wrong: str) -> None:
    """Gaps, a second content for one number and contradicting totals are reported. A repeat is no fault."""
    found = wrong_count(messages)
    assert wrong in found
    assert bool(found) is bool(wrong)


@pytest.mark.parametrize(
    ("result", "wrong"),
    [
        ([OBJECT], ""),
        ([], ""),
        ([{**OBJECT, "objectInstance": FDN}], ""),
        ([OBJECT, OBJECT], "2 objects"),
        ({"id": "1", "attributes": {"userLabel": "x"}}, "no list"),
        ([1], "lacks"),
        ([{"id": "1", "attributes": {}}], "lacks"),
        ([{**OBJECT, "objectInstance": "SubNetwork=A,ManagedElement=2"}], "requested was"),
        ([{**OBJECT, "objectInstance": "nobody"}], "objectInstance"),
        ([{**OBJECT, "attributes": {"userLabel": "x", "nRPCI": 1}}], "userLabel"),
    ],
)
def test_the_object_is_the_one_that_was_asked_for(result: Any, wrong: str) -> None:
    """A flat list with at most the object, named in full, with its userLabel and no other attribute."""
    response = Response("read-0", 0, "", result=msgspec.Raw(json.dumps(result).encode()))
    found = wrong_objects(response, FDN)
    assert wrong in found
    assert bool(found) is bool(wrong)


def test_a_success_has_a_result() -> None:
    """An empty read also has one: an empty list."""
    assert "no list" in wrong_objects(Response("read-0", 0, ""), FDN)


DONE, CUT = (OperationState.SUCCEEDED,) * 2, (OperationState.SUCCEEDED, OperationState.NOT_STARTED)


@pytest.mark.parametrize(
    ("seen", "outcomes", "holds"),
    [
        ((Status.CANCELLED,), CUT, True),
        ((Status.RUNNING, Status.CANCELLED), (), True),
        ((Status.CANCELLING, Status.CANCELLED), CUT, True),
        ((Status.FINISHED,), DONE, True),
        ((Status.FAILED,), (), True),
        ((Status.CANCELLING, Status.FINISHED), DONE, True),
        ((Status.RUNNING, Status.FINISHED), DONE, False),
        ((Status.NOT_STARTED, Status.RUNNING, Status.PARTIALLY_FAILED), (), False),
        ((Status.NOT_STARTED, Status.FAILED), (), False),
        ((Status.FINISHED,), CUT, False),
        ((Status.CANCELLING, Status.PARTIALLY_FAILED), CUT, False),
    ],
)
def test_a_delete_that_was_taken_has_its_effect(
    seen: tuple[Status, ...], outcomes: tuple[OperationState, ...], holds: bool
) -> None:
    """CANCELLED, or an end that came before or could not be stopped any more, passes; a job that ran on
    fails."""
    found = stopped(seen, outcomes)
    assert isinstance(found, Holds if holds else Fails)
    assert " → ".join(each.value for each in seen) in found.note


def test_a_409_to_a_delete_needs_an_end() -> None:
    """A response that says that the job has ended contains its terminal status."""
    assert isinstance(ended_before(Polled(Status.FINISHED)), Holds)
    assert isinstance(ended_before(Polled(Status.RUNNING)), Fails)
    assert isinstance(ended_before(Lost("HTTP 404")), Fails)


async def test_the_stand_in_takes_what_a_service_takes() -> None:
    """The inbox accepts messages for the internal topic and status pushes. Other topics, invalid bodies and
    too many messages are refused. Readers get earlier and later messages."""
    stand_in = StandIn()
    one = {"headers": {"CE_Id": "x"}, "key": None, "value": {"data": 1}}
    async with stand_in.serving("127.0.0.1", 0) as address, aiohttp.ClientSession() as session:

        async def post(path: str, body: bytes) -> int:
            async with session.post(address + path, data=body) as answer:
                return answer.status

        internal = wire.path_of(wire.TOPIC_MESSAGES, topic=INTERNAL_TOPIC)
        body = json.dumps({"messages": [one]}).encode()
        assert await post(internal, body) == 204
        assert await post(wire.path_of(wire.STATUS_PUSH, sub_job_id="x"), b"{}") == 204
        assert await post(wire.path_of(wire.TOPIC_MESSAGES, topic="other"), body) == 404
        for odd in (b"{", b"[" * 100_000, b'{"messages":[{"headers":{"a":1},"value":1}]}', b"\xff"):
            assert await post(internal, odd) == 400
        assert await post(internal, json.dumps({"messages": [one] * MAX_MESSAGES}).encode()) == 503
        async with asyncio.timeout(20), contextlib.aclosing(stand_in.messages(INTERNAL_TOPIC)) as stream:
            assert await anext(stream) == Message("", {"ce_id": "x"}, b'{"data": 1}')
            waiting = asyncio.ensure_future(anext(stream))
            assert await post(internal, body.replace(b"1", b"2")) == 204
            assert (await waiting).value == b'{"data": 2}'
        with pytest.raises(UsageError, match="in place of the service"):
            async with StandIn().serving("127.0.0.1", int(address.rpartition(":")[2])):
                pass
