# SPDX-License-Identifier: Apache-2.0
"""Computes one outcome per operation of a sub-job from the plugin's result, and the final status. Pure.

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
UnreadableBody, Refused     UNKNOWN, RESULT_UNREADABLE
==============================  =====================================================================

A read does not succeed without its data: NoOutcomes, UnrecognisedResult and UnreadableBody make it FAILED,
RESULT_UNREADABLE, and so does a message that cannot be read; missing messages and missing entries make it
FAILED, RESULT_INCOMPLETE. Operations of a cancelled read without outcomes are NOT_STARTED, CANCELLED.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import zstandard
from msgspec import UNSET, Struct, UnsetType

from ran_datajobs.model import Op, Operation, OperationCounts, OperationState, Reason, Response, Status, worst
from ran_datajobs.plugins.port import (
    Entry,
    NoOutcomes,
    OnTopic,
    Refused,
    Responses,
    UnreadableBody,
    UnrecognisedResult,
)
from ran_datajobs.plugins.responses import match_entries, tell_apart
from ran_datajobs.reasons import with_reason
from ran_datajobs.results.responses import add_states, make_responses, request_of, state_of, states_in
from ran_datajobs.store.results import Arrived

Result = Responses | OnTopic | NoOutcomes | UnrecognisedResult | UnreadableBody | Refused
"""A final answer to a fetch: the result is not fetched again."""

NO_OUTCOMES: Final = "the plugin gave no outcomes"

_OF_STATUS: Final = {
    Status.FINISHED: (OperationState.SUCCEEDED, "", "the plugin says finished", ""),
    Status.FAILED: (OperationState.FAILED, "", NO_OUTCOMES, NO_OUTCOMES),
    Status.CANCELLED: (OperationState.NOT_STARTED, Reason.CANCELLED, "the plugin says cancelled", ""),
}
"""State, reason, detail and error of operations of which a plugin reports no more than a status."""


class _Line(Struct, frozen=True, rename="camel"):
    """Members that the service reads of an operation stored for a plugin, in either dialect."""

    op: Op
    path: str
    operation_id: str | int
    data_node_selector: str | UnsetType = UNSET


_LINES: Final = msgspec.json.Decoder(list[_Line])
_STATES: Final = msgspec.json.Decoder(dict[str, OperationState])


class Outcome(Struct, frozen=True):
    """Final status of a sub-job, and the responses to write as its result objects, in order.

    ``error``: what failed in the sub-job as a whole, for its ``lastError``; empty when nothing did.
    """

    responses: tuple[Response, ...]
    counts: OperationCounts
    status: Status
    error: str = ""


def unpack(body: bytes) -> bytes:
    """The stored operations as the JSON array that goes to the plugin."""
    return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(body)


def pack_outcomes(responses: Iterable[Response]) -> bytes:
    """``{operation id: state}`` of a message, compressed for storage in its row."""
    states: dict[str, OperationState] = {}
    add_states(states, states_in(responses))
    return zstandard.compress(msgspec.json.encode(states), 1)


def unpack_outcomes(messages: Iterable[bytes]) -> dict[str, OperationState]:
    """The worst state of each operation in what :func:`pack_outcomes` packed."""
    states: dict[str, OperationState] = {}
    for packed in messages:
        outcomes = _STATES.decode(zstandard.decompress(packed))
        add_states(states, outcomes.items())
    return states


def operations_of(array: bytes) -> list[Operation]:
    """The operations of a stored array, without their values."""
    return [
        Operation(line.op, line.path, line.operation_id, data_node_selector=line.data_node_selector)
        for line in _LINES.decode(array)
    ]


def all_the_same(
    operations: Sequence[Operation],
    state: OperationState,
    reason: Reason | str,
    detail: str,
    error: str = "",
    reported: Status | None = None,
) -> Outcome:
    """Outcome in which every operation of a sub-job has the same state and reason. ``reported``: the terminal
    status that the plugin reported, if any."""
    responses = make_responses(operations, state, reason, detail)
    return _outcome(responses, [state] * len(operations), reported, error)


def of_result(
    operations: Sequence[Operation],
    result: Result,
    reported: Status,
    *,
    is_read: bool,
    cancel_requested: bool = False,
    kept_as: str = "",
) -> Outcome:
    """Outcome of every operation from the ``result`` that followed the terminal status ``reported``.

    ``cancel_requested``: the client has cancelled the job. ``kept_as``: key of the object that stores a body
    without outcomes.
    """
    kept = f"; it is kept as {kept_as}" if kept_as else ""
    state = OperationState.FAILED if is_read else OperationState.UNKNOWN
    match result:
        case Responses(entries):
            return from_responses(
                operations, entries, reported, is_read=is_read, cancel_requested=cancel_requested
            )
        case UnreadableBody(cause=cause):
            error = f"the plugin's result cannot be read: {cause}{kept}"
        case Refused(cause=cause):
            state, error = OperationState.UNKNOWN, f"the plugin refuses the result: {cause}"
        case _ if is_read and reported is not Status.CANCELLED:
            error = f"{NO_OUTCOMES}{kept}"
        case _:
            detail = f"{NO_OUTCOMES}: it says {reported.value}"
            unknown = OperationState.UNKNOWN, Reason.OUTCOME_UNKNOWN, detail, NO_OUTCOMES
            return all_the_same(operations, *_OF_STATUS.get(reported, unknown), reported)
    return all_the_same(operations, state, Reason.RESULT_UNREADABLE, error, error, reported)


def from_responses(
    operations: Sequence[Operation],
    entries: Sequence[Entry],
    reported: Status,
    *,
    is_read: bool,
    cancel_requested: bool = False,
) -> Outcome:
    """Outcome of every operation, in the request's order, from the responses that a plugin listed.

    Of several responses the worst counts. A write keeps only the worst one; a read keeps all of them in
    order, since its result may be spread over several.
    """
    ids, paths = [each.id_text for each in operations], [each.path for each in operations]
    names, entries = tell_apart(ids, paths, entries)
    listing, doubts = match_entries(names, entries)
    cancelled = reported is Status.CANCELLED
    missing = (
        OperationState.FAILED if is_read else OperationState.UNKNOWN,
        Reason.RESULT_INCOMPLETE,
        "the plugin's result tells no outcome of this operation",
    )
    if cancelled:
        missing = OperationState.NOT_STARTED, Reason.CANCELLED, "cancelled before it was started"
    matched: list[Response] = []
    states: list[OperationState] = []
    for operation, name in zip(operations, names, strict=True):
        doubt = doubts.get(name, "")
        listed = [
            _completed(operation, each, cancelled or cancel_requested) for each in listing.get(name, ())
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
    return _outcome(matched, states, reported)


def from_messages(operations: Sequence[Operation], arrived: Arrived) -> Outcome:
    """Outcome of a read whose objects came as messages; it has only the responses that are still to be added.

    An operation that no message reports is FAILED; if a message is missing or cannot be read, every operation
    is FAILED.
    """
    reason, error = Reason.RESULT_INCOMPLETE, ""
    if arrived.unreadable:
        reason = Reason.RESULT_UNREADABLE
        error = f"{arrived.unreadable} of {arrived.messages} result messages cannot be read; they are kept"
    elif not arrived.complete:
        error = f"{arrived.messages} of {arrived.total or 'unknown'} result messages came"
        if arrived.messages > arrived.below_total or (arrived.total is None and arrived.messages):
            error += f", numbered up to {arrived.last} with a gap"
    states = {} if error else unpack_outcomes(arrived.outcomes)
    lacking = [operation for operation in operations if operation.id_text not in states]
    detail = error or "no result message tells of this operation"
    added = make_responses(lacking, OperationState.FAILED, reason, detail)
    found = [states.get(operation.id_text, OperationState.FAILED) for operation in operations]
    return _outcome(added, found, None, error)


def _completed(operation: Operation, response: Response, cancelled: bool) -> Response:
    state = state_of(response)
    response = with_reason(response, state)
    stopped = cancelled and state is OperationState.NOT_STARTED  # whichever side stopped it
    return msgspec.structs.replace(
        response,
        operation_id=operation.operation_id,
        request=request_of(operation),
        state=state,
        reason=Reason.CANCELLED.value if stopped else response.reason,
    )


def _outcome(
    responses: Iterable[Response],
    states: Iterable[OperationState],
    reported: Status | None,
    error: str = "",
) -> Outcome:
    counts = count(states)
    status = verdict(counts, cancelled=reported is Status.CANCELLED)
    return Outcome(tuple(responses), counts, status, error)


def count(states: Iterable[OperationState]) -> OperationCounts:
    """Count the operations in each state; ``states`` may be a Counter of them."""
    tally = Counter(states)
    return OperationCounts(
        total=tally.total(),
        succeeded=tally[OperationState.SUCCEEDED],
        failed=tally[OperationState.FAILED],
        unmatched=0,
        not_started=tally[OperationState.NOT_STARTED],
        unknown=tally[OperationState.UNKNOWN],
        pending=0,
    )


def verdict(counts: OperationCounts, *, cancelled: bool) -> Status:
    """The terminal status of a job or sub-job with these counts; the first rule that holds decides.

    Every operation succeeded: FINISHED; a cancel stopped a sub-job: CANCELLED; none succeeded: FAILED;
    else PARTIALLY_FAILED. ``counts.pending`` must be 0.
    """
    if counts.succeeded == counts.total:
        return Status.FINISHED
    if cancelled:
        return Status.CANCELLED
    if counts.succeeded == 0:
        return Status.FAILED
    return Status.PARTIALLY_FAILED


def why(counts: OperationCounts, status: Status) -> str | None:
    """One sentence that explains a FAILED or PARTIALLY_FAILED job; ``None`` for any other status."""
    if status not in (Status.FAILED, Status.PARTIALLY_FAILED):
        return None
    parts = [
        f"{number:,} {words}"
        for number, words in (
            (counts.failed, "failed"),
            (counts.unmatched, "matched no CM handle"),
            (counts.not_started, "not started"),
            (counts.unknown, "with unknown outcome"),
        )
        if number
    ]
    return f"of {counts.total:,} operations: " + ", ".join(parts)
