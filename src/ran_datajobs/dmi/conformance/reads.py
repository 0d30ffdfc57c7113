# SPDX-License-Identifier: Apache-2.0
"""Checks of the messages of a read: headers, shape and completeness.

Source: ONAP's DataJobEvent (CPS-2154), a CloudEvent 1.0 in binary mode. The headers of the sub-job and of the
counts are this project's: they may be missing, but must not be wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Raw, Struct, UnsetType

from ran_datajobs.dmi.conformance.bus import Topics
from ran_datajobs.dmi.conformance.trial import Ended, Fails, Finding, Holds, NotEnded, Skipped, Trial
from ran_datajobs.errors import InvalidFdn
from ran_datajobs.messaging import events
from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import MAX_MESSAGE_BYTES, OperationState, Response, Status
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.names import key_of_name
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.port import CreateCall, NoOutcomes, OnTopic, Responses, UnrecognisedResult
from ran_datajobs.plugins.responses import read_outcomes

QUIET: Final = 5.0
"""Seconds of silence after which a read without a total header is considered complete."""


class _Enveloped(Struct, frozen=True):
    data: Raw


async def read_result(trial: Trial) -> Finding:
    """Check that a read ends, and that its result names NCMP's topic or contains the responses."""
    _, ended = await trial.first_read()
    if isinstance(ended, NotEnded):
        return Fails(ended.why) if "no end within" in ended.why else Skipped(ended.why)
    match await trial.plugin.result(ended.address):
        case OnTopic(topic) if topic == INTERNAL_TOPIC:
            return Holds(f"its objects go to topic {topic}")
        case OnTopic(topic):
            return Fails(f"its objects go to topic {topic}: NCMP reads {INTERNAL_TOPIC} only")
        case Responses(entries) as answer:
            responses = answer.responses
            if len(responses) < len(entries):
                return Fails("a response without its operationId or its outcome")
            wrong = _wrong_ids(trial, responses)
            return Fails(wrong) if wrong else Holds(f"{len(responses)} responses in the answer itself")
        case UnrecognisedResult() | NoOutcomes():
            return Fails("neither resulturi nor responses")
        case answer:
            return Fails(answer.cause)


async def read_messages(trial: Trial) -> Finding:
    """Check that the messages of a read arrive on the topic that its result names."""
    if trial.topics is None:
        return Skipped("needs --dmi-kafka-bootstrap or --dmi-service-url: where the plugin publishes")
    call, ended = await trial.first_read()
    if isinstance(ended, NotEnded):
        return Skipped(ended.why)
    match await trial.plugin.result(ended.address):
        case OnTopic(topic):
            pass
        case Responses():
            return Skipped("its responses are in the answer itself")
        case _:
            return Skipped("its result names no topic")
    messages = await _gathered(trial.topics, topic, trial.subject.patience, call, ended)
    if not messages:
        return Fails(f"no message of it came on topic {topic} within {trial.subject.patience:g} s")
    for number, message in enumerate(messages):
        if wrong := wrong_header(message, call, ended) or wrong_value(message.value):
            return Fails(f"message {number} on topic {topic}: {wrong}")
    if wrong := wrong_count(messages):
        return Fails(wrong)
    return _consistent(trial, topic, messages, ended)


def belongs(message: Message, call: CreateCall, ended: Ended) -> bool:
    """Whether NCMP would attribute the message to the read, by the ids in its headers."""
    headers = message.headers
    if headers.get(events.SUB_JOB_ID, call.sub_job_id) != call.sub_job_id:
        return False
    if headers.get(events.CORRELATION_ID) == call.job_id:
        return True
    return headers.get(events.DATA_PRODUCER_JOB_ID) == ended.address.data_producer_job_id


def wrong_header(message: Message, call: CreateCall, ended: Ended) -> str:
    """The fault of the headers; empty if there is none."""
    headers = message.headers
    must = {
        "ce_specversion": "1.0",
        "ce_source": f"{events.PLUGIN}.{call.job_id}",
        "ce_type": events.RESULT_TYPE,
        "ce_dataschema": f"urn:cps:{events.RESULT_TYPE}:1.0.0",
        events.CORRELATION_ID: call.job_id,
        events.DESTINATION: call.destination,
    }
    may = {
        events.SUB_JOB_ID: call.sub_job_id,
        events.DATA_PRODUCER_ID: call.data_producer_id,
        events.DATA_PRODUCER_JOB_ID: ended.address.data_producer_job_id,
    }
    for name, expected in (must | may).items():
        if name not in headers and name in may:
            continue
        if headers.get(name) != expected:
            return f"{name} is {_shown(headers.get(name))}, not {expected!r}"
    if not _is_uuid(headers.get("ce_id", "")):
        return f"ce_id is {_shown(headers.get('ce_id'))}, no UUID"
    if not _is_time(headers.get("ce_time", "")):
        return f"ce_time is {_shown(headers.get('ce_time'))}, no time of RFC 3339"
    kind = headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != wire.JSON:
        return f"content-type is {_shown(kind)}, not {wire.JSON!r}"
    for name in (events.SEQUENCE, events.TOTAL):
        if name in headers and events.count_in(headers, name) is None:
            return f"{name} is {_shown(headers[name])}, no count"
    return ""


def wrong_value(value: bytes) -> str:
    """The fault of the value as a document; empty if there is none."""
    if len(value) > MAX_MESSAGE_BYTES:
        return f"{len(value)} bytes, at most {MAX_MESSAGE_BYTES}"
    read = read_outcomes(value, is_read=True)
    if not isinstance(read, Responses) or len(read.responses) < len(read.entries):
        return 'no {"data": {"responses": […]}} with an outcome per response'
    try:
        msgspec.json.decode(value, type=_Enveloped)
    except msgspec.DecodeError:
        return 'the responses are not below "data"'
    return ""


def wrong_count(messages: Sequence[Message]) -> str:
    """The fault if a message is missing or has two contents; empty if there is none."""
    counts = (events.count_in(each.headers, events.TOTAL) for each in messages)
    totals = {total for total in counts if total is not None}
    if len(totals) > 1:
        return f"{events.TOTAL} has the values {', '.join(map(str, sorted(totals)))}"
    values: dict[int, bytes] = {}
    for each in messages:
        sequence = events.count_in(each.headers, events.SEQUENCE)
        if sequence is not None and values.setdefault(sequence, each.value) != each.value:
            return f"two messages have {events.SEQUENCE} {sequence}"
    total = next(iter(totals), None)
    if total is None:
        return ""
    numbers = set(values) or set(range(len(messages)))
    if missing := sorted(set(range(total)) - numbers):
        return f"{events.TOTAL} is {total}, {len(numbers)} came: {events.SEQUENCE} {missing[0]} is missing"
    return f"{events.TOTAL} is {total}, yet more came" if len(numbers) > total else ""


def wrong_objects(response: Response, asked: str) -> str:
    """The fault of a flat result of a read of only the userLabel of the object ``asked``; else empty."""
    try:
        objects = [] if isinstance(response.result, UnsetType) else msgspec.json.decode(response.result)
    except (msgspec.DecodeError, RecursionError) as error:
        return f"the result is no JSON: {error}"
    if isinstance(response.result, UnsetType) or not isinstance(objects, list):
        return f"the result is no list of objects, as {wire.TREE_FLAT} has it"
    for each in objects:
        if wrong := _wrong_object(each, asked):
            return wrong
    return f"{len(objects)} objects of a read of one" if len(objects) > 1 else ""


def _wrong_object(given: Any, asked: str) -> str:
    if not isinstance(given, dict) or not all(
        isinstance(given.get(name), str) for name in ("id", "objectClass", "objectInstance")
    ):
        return "an object lacks its id, objectClass or objectInstance"
    try:
        name = key_of_name(given["objectInstance"])
    except InvalidFdn as error:
        return f"objectInstance: {error}"
    if asked and name != fdn.key(asked):
        return f"objectInstance is {_shown(given['objectInstance'])}, requested was {asked}"
    attributes = given.get("attributes", {})
    if not isinstance(attributes, dict) or attributes.keys() - {"userLabel"}:
        return "the object has more than userLabel, but only that was requested"
    return ""


def _consistent(trial: Trial, topic: str, messages: Sequence[Message], ended: Ended) -> Finding:
    """Check the responses of all messages together, and that the status matches them."""
    responses = [
        response
        for message in messages
        if isinstance(read := read_outcomes(message.value, is_read=True), Responses)
        for response in read.responses
    ]
    if wrong := _wrong_ids(trial, responses):
        return Fails(wrong)
    good = all(each.state is OperationState.SUCCEEDED for each in responses)
    expected = Status.FINISHED if good else Status.FAILED
    if ended.statuses[-1] is not expected:
        states = ", ".join(sorted({str(each.state) for each in responses}))
        return Fails(f"the status is {ended.statuses[-1].value}, its messages say {states}")
    bad = next((each for each in responses if each.state is not OperationState.SUCCEEDED), None)
    if bad is not None and trial.subject.fdn:
        return Fails(f"the read of {trial.subject.fdn} failed: {bad.status_message[:100]}")
    for each in responses if good else ():
        if wrong := wrong_objects(each, trial.subject.fdn):
            return Fails(wrong)
    count = f"{len(messages)} message{'s' * (len(messages) > 1)} on topic {topic}"
    if not any(events.TOTAL in message.headers for message in messages):
        return Holds(f"{count}, without {events.TOTAL}: NCMP ends the read only after an idle timeout")
    return Holds(count if good else f"{count}: the read failed, as the status says")


def _wrong_ids(trial: Trial, responses: Sequence[Response]) -> str:
    expected = str(trial.subject.read().operation_id)
    ids = {str(each.operation_id) for each in responses}
    return "" if ids == {expected} else f"operation ids {sorted(ids)}, asked {expected}"[:300]


async def _gathered(
    topics: Topics, topic: str, patience: float, call: CreateCall, ended: Ended
) -> list[Message]:
    """The messages of the read: all by its total header, or those that arrive within the timeout."""
    found: list[Message] = []
    clock = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(patience) as limit,
            contextlib.aclosing(topics.messages(topic)) as stream,
        ):
            async for message in stream:
                if not belongs(message, call, ended):
                    continue
                found.append(message)
                if not any(events.TOTAL in each.headers for each in found):
                    limit.reschedule(clock.time() + min(patience, QUIET))
                elif not wrong_count(found):
                    break
    return found


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    try:
        return datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _shown(text: str | None) -> str:
    return "missing" if text is None else repr(text[:80])
