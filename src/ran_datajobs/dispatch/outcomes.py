# SPDX-License-Identifier: Apache-2.0
"""From what a plugin said to one outcome per operation of a sub-job. Pure.

Where outcomes and the plugin's status differ, outcomes win. An operation without an outcome gets one of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import zstandard
from msgspec import Struct

from ran_datajobs.job import (
    Counts,
    Op,
    Operation,
    OperationState,
    Reason,
    Response,
    Status,
)
from ran_datajobs.reasons import reason_of
from ran_datajobs.results.responses import state_of, synthesised, worst
from ran_datajobs.results.verdict import count, verdict

MAX_BODY_BYTES = 1 << 31


class _Line(Struct, frozen=True, rename="camel"):
    """What the service needs of an operation that it stored for a plugin, in either dialect."""

    op: Op
    path: str
    operation_id: str | int


_LINES = msgspec.json.Decoder(list[_Line])


class Outcome(Struct, frozen=True):
    """How a sub-job ended, and the responses to be written as its result objects, in order."""

    responses: tuple[Response, ...]
    counts: Counts
    status: Status


def unpack(body: bytes) -> bytes:
    """The stored operations as the JSON array that goes to the plugin."""
    return zstandard.ZstdDecompressor().decompress(body, max_output_size=MAX_BODY_BYTES)


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
) -> Outcome:
    """Every operation of a sub-job in one state, for one reason."""
    return _outcome(tuple(synthesised(operations, state, reason, detail)), cancelled=cancelled)


def from_responses(
    operations: Sequence[Operation],
    responses: Iterable[Response],
    told: Status,
    *,
    is_read: bool,
) -> Outcome:
    """The outcome of every operation, in the request's order, out of what a plugin listed.

    Ids are compared as strings; ids that were not asked for are dropped. Of two responses for one write the
    first counts. The result of a read may be spread over several responses: all are kept, in their order, and
    the worst state counts. An operation without a response is NOT_STARTED in a cancelled sub-job, else
    UNKNOWN.
    """
    by_id: dict[str, list[Response]] = {}
    for response in responses:
        found = by_id.setdefault(str(response.operation_id), [])
        if is_read or not found:
            found.append(response)
    missing_state, reason, detail = _missing(told)
    matched: list[Response] = []
    states: list[OperationState] = []
    for operation in operations:
        listed = by_id.get(operation.id_text)
        completed = (
            [_completed(operation, response) for response in listed]
            if listed
            else list(synthesised([operation], missing_state, reason, detail))
        )
        matched += completed
        states.append(worst(map(state_of, completed)))
    counts = count(states)
    return Outcome(tuple(matched), counts, verdict(counts, cancelled=told is Status.CANCELLED))


def from_status(operations: Sequence[Operation], told: Status) -> Outcome:
    """Outcomes out of the status alone, for a result of no known shape.

    FINISHED counts all operations as succeeded, FAILED all as failed, a cancel all as not started, anything
    else all as unknown.
    """
    match told:
        case Status.FINISHED:
            return all_the_same(operations, OperationState.SUCCEEDED, "", "the plugin says finished")
        case Status.FAILED:
            return all_the_same(operations, OperationState.FAILED, "", "the plugin says failed")
        case Status.CANCELLED:
            return all_the_same(
                operations,
                OperationState.NOT_STARTED,
                Reason.CANCELLED,
                "the plugin says cancelled",
                cancelled=True,
            )
        case _:
            return all_the_same(
                operations,
                OperationState.UNKNOWN,
                Reason.OUTCOME_UNKNOWN,
                f"the plugin says {told.value} and lists no outcomes",
            )


def from_states(
    operations: Sequence[Operation], states: Mapping[str, OperationState], *, complete: bool
) -> Outcome:
    """The outcome of a read whose objects came as messages; its responses are only those still to be added.

    ``states``: the worst state that the messages told, by operation id as a string. An operation that no
    message told about has failed; where messages are missing, every operation has.
    """
    lacking = [o for o in operations if not complete or o.id_text not in states]
    added = tuple(
        synthesised(
            lacking,
            OperationState.FAILED,
            Reason.RESULT_INCOMPLETE,
            "result messages of the plugin are missing",
        )
    )
    told = [states[o.id_text] for o in operations if complete and o.id_text in states]
    counts = count([*told, *(state_of(response) for response in added)])
    return Outcome(added, counts, verdict(counts, cancelled=False))


def _missing(told: Status) -> tuple[OperationState, Reason, str]:
    if told is Status.CANCELLED:
        return OperationState.NOT_STARTED, Reason.CANCELLED, "cancelled before it was started"
    return (
        OperationState.UNKNOWN,
        Reason.RESULT_INCOMPLETE,
        "the plugin's result does not list this operation",
    )


def _completed(operation: Operation, response: Response) -> Response:
    told = state_of(response)
    return msgspec.structs.replace(
        response,
        operation_id=operation.operation_id,
        request=msgspec.Raw(msgspec.json.encode({"op": operation.op, "path": operation.path})),
        state=told,
        reason=response.reason if told is OperationState.SUCCEEDED else reason_of(response, told),
    )


def _outcome(responses: tuple[Response, ...], *, cancelled: bool) -> Outcome:
    counts = count(state_of(response) for response in responses)
    return Outcome(responses, counts, verdict(counts, cancelled=cancelled))
