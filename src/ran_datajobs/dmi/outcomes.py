# SPDX-License-Identifier: Apache-2.0
"""Convert the outcomes of an element into responses, one per operation (pure).

The codes are from ONAP's list: 0 applied, 103 cannot read, 108 unknown error, 112 message too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.dmi.element import Outcome
from ran_datajobs.model import ErrorDetail, Operation, OperationState, Reason, Response
from ran_datajobs.nrm.faults import no_answer, node_of
from ran_datajobs.plugins.port import IMAGE_BYTES, MAX_IMAGE
from ran_datajobs.reasons import with_reason

IMAGES: Final = 32 * 1024 * 1024
"""Size in bytes that the before-images of a job may have together, if that is more than IMAGE_BYTES each."""

APPLIED: Final = 0
CANNOT_READ: Final = 103
UNKNOWN_ERROR: Final = 108
TOO_LARGE: Final = 112

_ENCODER: Final = msgspec.json.Encoder()

NOT_STARTED: Final = Outcome(OperationState.NOT_STARTED)
"""Outcome of an operation that was not executed because of a cancel or an earlier failure."""


class _Request(Struct, frozen=True, rename="camel"):
    op: str
    path: str
    data_node_selector: str | UnsetType = UNSET


def uncertain(operation: Operation) -> Outcome:
    """Outcome of an operation that was being executed when the plugin was killed: it is not repeated."""
    node = node_of(operation)
    error = no_answer(node, "The plugin ended while it was executing this operation")
    return Outcome(OperationState.UNKNOWN, (error,))


def broken_element(operation: Operation) -> ErrorDetail:
    """Error of an operation whose element raised or returned a wrong number of outcomes."""
    return no_answer(node_of(operation), "The plugin could not communicate with the element")


def request_of(operation: Operation) -> Raw:
    """The part of ``operation`` that its response repeats."""
    return Raw(_ENCODER.encode(_Request(operation.op, operation.path, operation.data_node_selector)))


def room_for_image(operations: int) -> int:
    """Maximum size in bytes of a before-image in a job of so many operations: all together, they fit into a
    result that NCMP takes."""
    return min(MAX_IMAGE, max(IMAGE_BYTES, IMAGES // operations))


def response_of(operation: Operation, outcome: Outcome, room: int = MAX_IMAGE) -> Response:
    """The response to a write, without its before-image if this has more than ``room`` bytes."""
    before = _image(outcome, room)
    match outcome.state:
        case OperationState.SUCCEEDED:
            return Response(
                operation.operation_id,
                APPLIED,
                "applied",
                request_of(operation),
                state=outcome.state,
                before=before,
            )
        case OperationState.NOT_STARTED:
            message, reason = "not started", Reason.NOT_STARTED.value
        case OperationState.UNKNOWN:
            message, reason = _message(outcome), Reason.OUTCOME_UNKNOWN.value
        case OperationState.FAILED:
            message, reason = _message(outcome), outcome.reason
    response = Response(
        operation.operation_id,
        UNKNOWN_ERROR,
        message,
        request_of(operation),
        state=outcome.state,
        reason=reason,
        errors=outcome.errors,
        before=before,
    )
    return with_reason(response, outcome.state)


def message_of(errors: Sequence[ErrorDetail]) -> str:
    """One line that describes the first error: its title or detail, else its reason or type."""
    if not errors:
        return "failed"
    first = errors[0]
    return first.title or first.detail or first.reason or first.type


def encode_members(
    operations: Sequence[Operation], outcomes: Sequence[Outcome], room: int = MAX_IMAGE
) -> bytes:
    """The responses to ``operations`` as comma-separated JSON, in order; ``room`` as for a single one."""
    responses = [
        response_of(operation, outcome, room) for operation, outcome in zip(operations, outcomes, strict=True)
    ]
    return _ENCODER.encode(responses)[1:-1]


def encode_ids(operations: Sequence[Operation]) -> bytes:
    """The ids of ``operations`` as a JSON array."""
    return _ENCODER.encode([operation.operation_id for operation in operations])


def _image(outcome: Outcome, room: int) -> Raw | UnsetType:
    if outcome.before is None:
        return UNSET
    image = Raw(_ENCODER.encode(outcome.before))
    return image if len(image) <= room else UNSET


def _message(outcome: Outcome) -> str:
    return message_of(outcome.errors)
