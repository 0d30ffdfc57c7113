# SPDX-License-Identifier: Apache-2.0
"""Reads what a plugin says about operations: the ``{"responses": […]}`` of results and of bus messages.

Tolerant where the sources differ, and safe: unknown keys are dropped, among them any echo of private
properties, and texts are cut. Source: ONAP's DataJobEvent (CPS-2154).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.job import ErrorDetail, OperationState, Response

MAX_TEXT: Final = 2_000
"""Longest text, in characters, that is kept of a plugin's message, reason or error."""

MAX_ERRORS: Final = 20
"""Most errors that are kept of one response."""

SUCCESS_CODE: Final = 0
FAILURE_CODE: Final = 108
"""ONAP's "unknown error": stands where a plugin told a state and no code."""


class _Request(Struct, frozen=True, omit_defaults=True):
    """What is kept of an echoed request: enough to recognise the operation, nothing of its handle."""

    op: str = ""
    path: str = ""


class _Error(Struct, frozen=True, rename="camel"):
    """An ErrorDetail of TS 28.572 as a peer may write it: every member may be missing."""

    type: str | None = None
    bad_data_node: str | None = None
    reason: str | None = None
    title: str | None = None
    detail: str | None = None


class _Response(Struct, frozen=True, rename="camel"):
    """A response as a peer may write it."""

    operation_id: str | int
    status_code: int | str | None = None
    status_message: str | None = None
    request: _Request | None = None
    result: Raw | UnsetType = UNSET
    state: str | None = None
    reason: str | None = None
    errors: tuple[_Error, ...] | None = None


class _Inner(Struct, frozen=True):
    responses: tuple[_Response, ...]


class _Document(Struct, frozen=True):
    responses: tuple[_Response, ...] | UnsetType = UNSET
    data: _Inner | UnsetType = UNSET


_DECODER: Final = msgspec.json.Decoder(_Document)
_ENCODER: Final = msgspec.json.Encoder()
_STATES: Final = {state.value: state for state in OperationState}
_NO_REQUEST: Final = Raw(b"{}")


def state_of_code(status_code: int) -> OperationState:
    """The state that ONAP's code list implies: 0-99 success, 100-199 failure, others say nothing."""
    if 0 <= status_code <= 99:
        return OperationState.SUCCEEDED
    return OperationState.FAILED if 100 <= status_code <= 199 else OperationState.UNKNOWN


def decode_responses(body: bytes, count: int | None = None) -> tuple[Response, ...] | None:
    """The outcomes in ``{"responses": […]}`` or ``{"data": {"responses": […]}}``, in their order.

    ``state`` is always set: the peer's, else what its code implies. ``None`` when ``body`` has another
    shape, when a response has neither state nor code, or when there are not ``count`` of them.
    """
    try:
        # A Raw member is skipped over without a look at its characters, so the whole is checked first.
        if not body.isascii():
            body.decode()
        document = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(document.responses, UnsetType):
        given = document.responses
    elif not isinstance(document.data, UnsetType):
        given = document.data.responses
    else:
        return None
    if count is not None and len(given) != count:
        return None
    responses: list[Response] = []
    for one in given:
        response = _checked(one)
        if response is None:
            return None
        responses.append(response)
    return tuple(responses)


def encode_responses(responses: Sequence[Response]) -> bytes:
    """``{"responses": […]}``, the shape of results and of result objects."""
    return _ENCODER.encode({"responses": responses})


def _checked(given: _Response) -> Response | None:
    """``given`` with its state settled and its texts cut; ``None`` when it says nothing of the outcome."""
    state = _STATES.get(given.state) if given.state is not None else None
    code = _integer(given.status_code)
    if code is None:
        if state is None:
            return None
        code = SUCCESS_CODE if state is OperationState.SUCCEEDED else FAILURE_CODE
    return Response(
        operation_id=given.operation_id,
        status_code=code,
        status_message=_text(given.status_message),
        request=_NO_REQUEST if given.request is None else Raw(_ENCODER.encode(given.request)),
        # A copy: the slice of a Raw keeps the whole body in memory.
        result=given.result if isinstance(given.result, UnsetType) else given.result.copy(),
        state=state_of_code(code) if state is None else state,
        reason=_text(given.reason),
        errors=tuple(_error(error) for error in (given.errors or ())[:MAX_ERRORS]),
    )


def _integer(code: int | str | None) -> int | None:
    if isinstance(code, str):
        text = code.strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None
    return code


def _text(text: str | None) -> str:
    return "" if text is None else text[:MAX_TEXT]


def _error(given: _Error) -> ErrorDetail:
    return ErrorDetail(
        type=_text(given.type) or "OTHER",
        bad_data_node=_text(given.bad_data_node),
        reason=_text(given.reason),
        title=_text(given.title),
        detail=_text(given.detail),
    )
