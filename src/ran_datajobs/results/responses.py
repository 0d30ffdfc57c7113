# SPDX-License-Identifier: Apache-2.0
"""Writes outcomes as result documents ``{"responses": […]}``, each complete and of bounded size (pure).

A document is the content of one result object and, wrapped in ``{"data": …}``, of one bus message (ONAP's
DataJobEvent, CPS-2154). Documents are split between operations; a larger result between its objects.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct

from ran_datajobs.model import (
    MAX_MESSAGE_BYTES,
    Operation,
    OperationState,
    Reason,
    Response,
    worst,
)
from ran_datajobs.plugins.responses import APPLIED, CANNOT_READ, UNKNOWN_ERROR, KeptRequest
from ran_datajobs.reasons import with_reason

MAX_DOCUMENT_BYTES: Final = MAX_MESSAGE_BYTES - len(b'{"data":}')
"""Maximum size in bytes of a document that fits a bus message unchanged."""

_MAX_RESULT_BYTES: Final = 60 * 1024 * 1024
_MAX_TEXT: Final = 1000
_MAX_ERRORS: Final = 10
_START: Final = b'{"responses":['
_END: Final = b"]}"

NOT_OWNED: Final = 100
NOT_RESPONDING: Final = 102
TOO_LARGE: Final = 112

_CODE_OF: Final[Mapping[str, int]] = {
    Reason.UNMATCHED: NOT_OWNED,
    Reason.DMI_UNREACHABLE: NOT_RESPONDING,
    Reason.DMI_LOST_JOB: NOT_RESPONDING,
    Reason.RESULT_INCOMPLETE: CANNOT_READ,
    Reason.RESULT_UNREADABLE: CANNOT_READ,
}
"""Codes of ONAP's NcmpResponseStatus for the reasons that the service itself gives; UNKNOWN_ERROR for the
others."""


class Document(Struct, frozen=True):
    """One ``{"responses": […]}``. ``operations`` counts its responses, ``failed`` those not SUCCEEDED."""

    body: bytes
    operations: int
    failed: int


class _Responses(Struct, frozen=True):
    responses: list[Raw]


class _Usable(Struct, frozen=True):
    responses: list[Response]


_ENCODER: Final = msgspec.json.Encoder()
_RESPONSE: Final = msgspec.json.Decoder(Response, strict=False)
_RESPONSES: Final = msgspec.json.Decoder(_Responses)
_USABLE: Final = msgspec.json.Decoder(_Usable, strict=False)
_ITEMS: Final = msgspec.json.Decoder(list[Raw])


def add_states(states: dict[str, OperationState], more: Iterable[tuple[str, OperationState]]) -> None:
    """Add states by operation id to ``states``: of several for one operation the worst counts."""
    for operation, state in more:
        states[operation] = worst((state, states.get(operation, state)))


def states_in(responses: Iterable[Response]) -> Iterator[tuple[str, OperationState]]:
    """The operation id, as a string, and the state of each response."""
    return ((str(each.operation_id), state_of(each)) for each in responses)


def state_of(response: Response) -> OperationState:
    """State of the operation: as the plugin reported it, else by ``statusCode`` (0-99 is success)."""
    if response.state is not UNSET:
        return response.state
    return OperationState.SUCCEEDED if 0 <= response.status_code <= 99 else OperationState.FAILED


def make_responses(
    operations: Iterable[Operation], state: OperationState, reason: str, detail: str
) -> Iterator[Response]:
    """A response for every operation whose outcome no plugin reported.

    ``reason`` is a :class:`~ran_datajobs.model.Reason` or empty, ``detail`` a sentence in plain English.
    """
    code = APPLIED if state is OperationState.SUCCEEDED else _CODE_OF.get(reason, UNKNOWN_ERROR)
    for operation in operations:
        yield Response(
            operation.operation_id, code, detail, request_of(operation), state=state, reason=reason
        )


def request_of(operation: Operation) -> Raw:
    """The request of ``operation`` as its result keeps it."""
    selector = "" if operation.data_node_selector is UNSET else operation.data_node_selector
    return Raw(_ENCODER.encode(KeptRequest(operation.op, operation.path, selector)))


def _explained(response: Response) -> Response:
    return with_reason(response, state_of(response))


def documents(responses: Iterable[Response], limit: int = MAX_DOCUMENT_BYTES) -> Iterator[Document]:
    """``responses`` in order as documents of at most ``limit`` bytes, each split as late as possible.

    Without responses there is no document. A document is larger only if it consists of a single managed
    object over the limit. A failure gets a reason, even if it has none.
    """
    room = limit - len(_START) - len(_END)
    for group in _grouped(_pieces(responses, room), room):
        yield _document(group)


def cut(responses: Sequence[Response]) -> tuple[Document, ...]:
    """All :func:`documents` of a message; without responses, one empty document."""
    return tuple(documents(responses)) or (_document([]),)


def message_value(body: bytes, object_uri: str) -> bytes:
    """Value of the bus message for one result object ``body``.

    An object over the limit is referenced instead of embedded: its responses keep all but their ``result``,
    which becomes ``{"dataref": object_uri, "sha256": …}``. If that is too large as well, the data is only the
    reference.
    """
    if len(body) <= MAX_DOCUMENT_BYTES:
        return b'{"data":%b}' % body
    reference = Raw(_ENCODER.encode({"dataref": object_uri, "sha256": hashlib.sha256(body).hexdigest()}))
    found = [_RESPONSE.decode(raw) for raw in _RESPONSES.decode(body).responses]
    responses = [
        each if each.result is UNSET else msgspec.structs.replace(each, result=reference) for each in found
    ]
    value = _ENCODER.encode({"data": {"responses": responses}})
    return value if len(value) <= MAX_MESSAGE_BYTES else b'{"data":%b}' % bytes(reference)


def read_responses(body: bytes) -> list[Response]:
    """Responses of a result object, without its unusable entries.

    The object is not trusted: the owner of the bucket can write to it, too. A failure gets a reason, even if
    the document has none. Raises msgspec.DecodeError for anything but ``{"responses": […]}`` in UTF-8, and
    for excessive nesting.
    """
    try:
        if not body.isascii():  # a Raw member is skipped without decoding its characters
            body.decode()
        try:
            usable = _USABLE.decode(body).responses
        except msgspec.ValidationError:
            usable = []
            for raw in _RESPONSES.decode(body).responses:
                with contextlib.suppress(msgspec.DecodeError):
                    usable.append(_RESPONSE.decode(raw))
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"no JSON that is of use: {error}") from error
    return list(map(_explained, usable))


_Piece = tuple[bytes, bool]
"""JSON of a response, or of an item of its result; and whether its operation did not succeed."""


def _document(pieces: list[_Piece]) -> Document:
    body = _START + b",".join(piece for piece, _ in pieces) + _END
    return Document(body, len(pieces), sum(failed for _, failed in pieces))


def _grouped(pieces: Iterable[_Piece], room: int) -> Iterator[list[_Piece]]:
    """Lists of ``pieces`` in order, each with as many as fit ``room`` bytes with commas, but at least one."""
    group: list[_Piece] = []
    size = 0
    for piece in pieces:
        if group and size + len(piece[0]) + len(group) > room:
            yield group
            group, size = [], 0
        group.append(piece)
        size += len(piece[0])
    if group:
        yield group


def _pieces(responses: Iterable[Response], room: int) -> Iterator[_Piece]:
    """Each response in ``room`` bytes; an oversize one in several pieces."""
    for response in responses:
        explained = _explained(response)
        encoded = _ENCODER.encode(explained)
        if len(encoded) <= room:
            yield encoded, state_of(response) is not OperationState.SUCCEEDED
        else:
            yield from _cut(explained, room)


def _cut(response: Response, room: int) -> Iterator[_Piece]:
    """An oversize response in several pieces, split between the items of its result list. If no result can
    hold one of its objects, the response is a failure."""
    failed = state_of(response) is not OperationState.SUCCEEDED
    head = _bounded(msgspec.structs.replace(response, result=UNSET), room)
    if response.result is UNSET:
        yield _ENCODER.encode(head), failed
        return
    try:
        items = [(bytes(item), False) for item in _ITEMS.decode(response.result)]
    except msgspec.DecodeError:  # a tree counts as one object
        items = []
    largest = max((len(item) for item, _ in items), default=len(response.result))
    if largest > _MAX_RESULT_BYTES:
        detail = f"a single object of {largest} bytes is more than a result can hold"
        state = OperationState.FAILED
        too_large = Response(head.operation_id, TOO_LARGE, detail, head.request, state=state)
        yield _ENCODER.encode(_explained(too_large)), True
    elif not items:
        yield _with_result(head, response.result), failed
    else:
        for group in _grouped(items, room - len(_with_result(head, Raw(b"[]")))):
            yield _with_result(head, Raw(b"[%b]" % b",".join(item for item, _ in group))), failed


def _with_result(head: Response, result: Raw) -> bytes:
    return _ENCODER.encode(msgspec.structs.replace(head, result=result))


def _bounded(head: Response, room: int) -> Response:
    """``head`` (without its result) in less than half of ``room``: texts and errors are shortened; if that
    is not enough, errors, request and before-image are dropped."""
    short = msgspec.structs.replace(
        head,
        status_message=head.status_message[:_MAX_TEXT],
        reason=head.reason[:_MAX_TEXT],
        errors=head.errors[:_MAX_ERRORS],
    )
    for each in (head, short):
        if len(_ENCODER.encode(each)) * 2 <= room:
            return each
    return msgspec.structs.replace(short, request=Raw(b"{}"), errors=(), before=UNSET)
