# SPDX-License-Identifier: Apache-2.0
"""Computes one outcome per operation of a sub-job from the plugin's result. Pure.

:mod:`ran_datajobs.plugins.answers` decodes a body and its entries. This module combines them with the status
that the plugin reported, and with the requested operations:

==============================  =====================================================================
result of a write               operations
==============================  =====================================================================
Responses                       the worst state reported for each; where outcomes and status differ,
                                outcomes win. Without an entry: UNKNOWN, RESULT_INCOMPLETE; in a
                                cancelled sub-job NOT_STARTED, CANCELLED
NoOutcomes, UnrecognisedResult  FINISHED: SUCCEEDED; FAILED: FAILED; CANCELLED: NOT_STARTED,
                                CANCELLED; anything else: UNKNOWN, OUTCOME_UNKNOWN
UnreadableBody, Unfetchable     UNKNOWN, RESULT_UNREADABLE
==============================  =====================================================================

A read does not succeed without its data: NoOutcomes, UnrecognisedResult and UnreadableBody make it FAILED,
RESULT_UNREADABLE, and so does a message that cannot be read; missing messages and missing entries make it
FAILED, RESULT_INCOMPLETE. Operations of a cancelled read without outcomes are NOT_STARTED, CANCELLED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import msgspec
import zstandard
from msgspec import Struct

from ran_datajobs.model import Counts, Op, Operation, OperationState, Reason, Response, Status, worst
from ran_datajobs.plugins.port import (
    Entry,
    NoOutcomes,
    OnTopic,
    Responses,
    Unfetchable,
    UnreadableBody,
    UnrecognisedResult,
)
from ran_datajobs.plugins.responses import told_of
from ran_datajobs.reasons import reason_of
from ran_datajobs.results.final_status import count, verdict
from ran_datajobs.results.responses import make_responses, state_of
from ran_datajobs.store.parts import Arrived

Result = Responses | OnTopic | NoOutcomes | UnrecognisedResult | UnreadableBody | Unfetchable
"""A final answer to a fetch: the result is not fetched again."""

NO_OUTCOMES = "the plugin gave no outcomes"


class _Line(Struct, frozen=True, rename="camel"):
    """Members that the service reads of an operation stored for a plugin, in either dialect."""

    op: Op
    path: str
    operation_id: str | int


_LINES = msgspec.json.Decoder(list[_Line])


class Outcome(Struct, frozen=True):
    """Final status of a sub-job, and the responses to write as its result objects, in order.

    ``error``: what failed in the sub-job as a whole, for its ``lastError``; empty when nothing did.
    """

    responses: tuple[Response, ...]
    counts: Counts
    status: Status
    error: str = ""


def unpack(body: bytes) -> bytes:
    """The stored operations as the JSON array that goes to the plugin."""
    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(body)


def operations_of(array: bytes) -> list[Operation]:
    """The operations of a stored array, without their values."""
    return [Operation(line.op, line.path, line.operation_id) for line in _LINES.decode(array)]


def all_the_same(
    operations: Sequence[Operation],
    state: OperationState,
    reason: Reason | str,
    detail: str,
    *,
    cancelled: bool = False,
    error: str = "",
) -> Outcome:
    """Outcome in which every operation of a sub-job has the same state and reason."""
    responses = tuple(make_responses(operations, state, reason, detail))
    return _outcome(responses, cancelled=cancelled, error=error)


def of_result(
    operations: Sequence[Operation],
    result: Result,
    told: Status,
    *,
    is_read: bool,
    cancel_asked: bool = False,
    kept_as: str = "",
) -> Outcome:
    """Outcome of every operation from the ``result`` that followed the terminal status ``told``.

    ``cancel_asked``: the client has cancelled the job. ``kept_as``: key of the object that stores a body
    without outcomes.
    """
    match result:
        case Responses(entries):
            return from_responses(operations, entries, told, is_read=is_read, cancel_asked=cancel_asked)
        case NoOutcomes() | UnrecognisedResult() | OnTopic():
            if is_read and told is not Status.CANCELLED:
                return unreadable(operations, f"{NO_OUTCOMES}{_named(kept_as)}", told, is_read=True)
            return from_status(operations, told)
        case UnreadableBody(cause=cause):
            error = f"the plugin's result cannot be read: {cause}{_named(kept_as)}"
            return unreadable(operations, error, told, is_read=is_read)
        case Unfetchable(cause=cause):
            return unreadable(operations, f"the plugin refuses the result: {cause}", told)
        case _:
            assert_never(result)


def from_responses(
    operations: Sequence[Operation],
    entries: Sequence[Entry],
    told: Status,
    *,
    is_read: bool,
    cancel_asked: bool = False,
) -> Outcome:
    """Outcome of every operation, in the request's order, from the responses that a plugin listed.

    Of several responses the worst counts. A write keeps only the worst one; a read keeps all of them in
    order, since its result may be spread over several.
    """
    reported = told_of([operation.id_text for operation in operations], entries)
    missing = _missing(told, is_read)
    cancelled = told is Status.CANCELLED
    matched: list[Response] = []
    states: list[OperationState] = []
    for operation in operations:
        id_text = operation.id_text
        doubt = reported.why_not(id_text)
        listed = [
            _completed(operation, each, cancelled or cancel_asked)
            for each in reported.responses.get(id_text, ())
        ]
        state = state_of(listed[0]) if len(listed) == 1 else worst(map(state_of, listed))
        if not listed:
            state = missing[0]
            listed = list(make_responses([operation], *missing))
        elif doubt and state is OperationState.SUCCEEDED:
            state = OperationState.FAILED if is_read else OperationState.UNKNOWN
            added = make_responses([operation], state, Reason.RESULT_UNREADABLE, doubt)
            listed = [*listed, *added] if is_read else list(added)
        elif len(listed) > 1 and not is_read:
            listed = [next(each for each in listed if each.state is state)]
        matched += listed
        states.append(state)
    counts = count(states)
    return Outcome(tuple(matched), counts, verdict(counts, cancelled=cancelled))


def from_status(operations: Sequence[Operation], told: Status) -> Outcome:
    """Outcomes from the status alone, without outcomes of the plugin. A read must be a cancelled one."""
    match told:
        case Status.FINISHED:
            return all_the_same(operations, OperationState.SUCCEEDED, "", "the plugin says finished")
        case Status.FAILED:
            return all_the_same(operations, OperationState.FAILED, "", NO_OUTCOMES, error=NO_OUTCOMES)
        case Status.CANCELLED:
            return all_the_same(
                operations,
                OperationState.NOT_STARTED,
                Reason.CANCELLED,
                "the plugin says cancelled",
                cancelled=True,
            )
        case _:
            detail = f"{NO_OUTCOMES}: it says {told.value}"
            return all_the_same(
                operations, OperationState.UNKNOWN, Reason.OUTCOME_UNKNOWN, detail, error=NO_OUTCOMES
            )


def unreadable(
    operations: Sequence[Operation], error: str, told: Status | None, *, is_read: bool = False
) -> Outcome:
    """Outcomes for a result that cannot be read (FAILED for a read, else UNKNOWN) or fetched (UNKNOWN)."""
    state = OperationState.FAILED if is_read else OperationState.UNKNOWN
    cancelled = told is Status.CANCELLED
    return all_the_same(operations, state, Reason.RESULT_UNREADABLE, error, cancelled=cancelled, error=error)


def from_messages(
    operations: Sequence[Operation], states: Mapping[str, OperationState], arrived: Arrived
) -> Outcome:
    """Outcome of a read whose objects came as messages; it has only the responses that are still to be added.

    ``states``: worst state that the messages report, by operation id as a string. An operation that no
    message reports is FAILED; if a message is missing or cannot be read, every operation is FAILED.
    """
    reason, error = Reason.RESULT_INCOMPLETE, ""
    if arrived.unreadable:
        reason = Reason.RESULT_UNREADABLE
        error = f"{arrived.unreadable} of {arrived.messages} result messages cannot be read; they are kept"
    elif not arrived.complete:
        error = f"{arrived.messages} of {arrived.total or 'unknown'} result messages came"
        if arrived.messages > arrived.below_total or (arrived.total is None and arrived.messages):
            error += f", numbered up to {arrived.last} with a gap"
    lacking = [o for o in operations if error or o.id_text not in states]
    detail = error or "no result message tells of this operation"
    added = tuple(make_responses(lacking, OperationState.FAILED, reason, detail))
    reported = [states[o.id_text] for o in operations if not error and o.id_text in states]
    counts = count([*reported, *(state_of(response) for response in added)])
    return Outcome(added, counts, verdict(counts, cancelled=False), error)


def _named(kept_as: str) -> str:
    return f"; it is kept as {kept_as}" if kept_as else ""


def _missing(told: Status, is_read: bool) -> tuple[OperationState, Reason, str]:
    if told is Status.CANCELLED:
        return OperationState.NOT_STARTED, Reason.CANCELLED, "cancelled before it was started"
    return (
        OperationState.FAILED if is_read else OperationState.UNKNOWN,
        Reason.RESULT_INCOMPLETE,
        "the plugin's result tells no outcome of this operation",
    )


def _completed(operation: Operation, response: Response, cancelled: bool) -> Response:
    state = state_of(response)
    reason = response.reason
    if cancelled and state is OperationState.NOT_STARTED:
        reason = Reason.CANCELLED.value  # whichever side stopped it
    elif state is not OperationState.SUCCEEDED:
        reason = reason_of(response, state)
    return msgspec.structs.replace(
        response,
        operation_id=operation.operation_id,
        request=msgspec.Raw(msgspec.json.encode({"op": operation.op, "path": operation.path})),
        state=state,
        reason=reason,
    )


def _outcome(responses: tuple[Response, ...], *, cancelled: bool, error: str = "") -> Outcome:
    counts = count(state_of(response) for response in responses)
    return Outcome(responses, counts, verdict(counts, cancelled=cancelled), error)
