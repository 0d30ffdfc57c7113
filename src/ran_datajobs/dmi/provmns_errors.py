# SPDX-License-Identifier: Apache-2.0
"""From the error answers of ProvMnS servers, of any generation, to TS 28.572's ErrorDetail (pure).

18.1: ``{"error": {"errorInfo": …}}``. From 18.3: ``status, type, reason, title`` with ``badAttributes`` and
``badObjects``, ``badQueryParams``, or ``badOp`` (also spelt ``badOP``), and ``otherProblems``. Servers that
know TS 28.572 send its ``type``, ``reason`` and ``badDataNode``, or a list ``errors`` of them; theirs stand.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from ran_datajobs.job import ErrorDetail
from ran_datajobs.southbound.responses import MAX_TEXT

TYPES: Final = frozenset(
    {
        "SCHEMA_VALIDATION_ERROR",
        "DATA_NODE_TREE_ERROR",
        "MODIFICATION_NOT_ALLOWED",
        "ACCESS_CONTROL_CONFLICT",
        "APPLICATION_LAYER_ERROR",
        "SERVER_ERROR",
        "OTHER",
    }
)

_BY_STATUS: Final = {
    400: ("SCHEMA_VALIDATION_ERROR", "NEW_DATA_NODE_VALUE_INVALID"),
    401: ("ACCESS_CONTROL_CONFLICT", "ACCESS_DENIED"),
    403: ("ACCESS_CONTROL_CONFLICT", "ACCESS_DENIED"),
    404: ("DATA_NODE_TREE_ERROR", "TARGET_DATA_NODE_NOT_FOUND"),
    409: ("MODIFICATION_NOT_ALLOWED", "OTHER"),
    422: ("SCHEMA_VALIDATION_ERROR", "NEW_DATA_NODE_VALUE_INVALID"),
}


class Refusal(Struct, frozen=True):
    """Why a server refused a request. ``bad``: the place of the operation to blame, where it says so."""

    error: ErrorDetail
    bad: int | None = None


class _Body(Struct, frozen=True, rename="camel"):
    """Everything that any generation puts into an error; each member may be missing or of any kind."""

    error: Any = None
    errors: Any = None
    type: Any = None
    reason: Any = None
    title: Any = None
    detail: Any = None
    bad_data_node: Any = None
    bad_attributes: Any = None
    bad_objects: Any = None
    bad_query_params: Any = None
    other_problems: Any = None
    bad_op: Any = None
    bad_op_upper: Any = msgspec.field(default=None, name="badOP")


def read_refusal(status: int, body: bytes | None, node: str) -> Refusal:
    """What a 4xx or 5xx answer says; ``node`` is to blame where it names nothing."""
    try:
        given = msgspec.json.decode(body or b"", type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        given = _Body()
    place = _place(given.bad_op if given.bad_op is not None else given.bad_op_upper)
    kind, reason = _BY_STATUS.get(status, ("SERVER_ERROR" if status >= 500 else "OTHER", "OTHER"))
    if _member(_first(given.errors), "type") in TYPES:
        given = msgspec.convert(_first(given.errors), _Body)
    told = _text(given.type)
    detail = _text(given.detail) or _text(_member(given.error, "errorInfo"))
    more = [each for each in _items(given.other_problems) if isinstance(each, str)]
    return Refusal(
        ErrorDetail(
            type=told if told in TYPES else kind,
            bad_data_node=_text(given.bad_data_node) or _named(given) or node,
            reason=_text(given.reason) or reason,
            title=_text(given.title) or f"The element answered {status}",
            detail="; ".join(part for part in (detail, *more) if part)[:MAX_TEXT],
        ),
        place,
    )


def _named(given: _Body) -> str:
    """The first of what the answer calls bad."""
    for group in (given.bad_attributes, given.bad_objects, given.bad_query_params):
        for each in _items(group):
            if text := _text(each) or _text(_member(each, "name")) or _text(_member(each, "path")):
                return text
    return ""


def _place(pointer: Any) -> int | None:
    """``/17`` or ``/17/path`` as 17."""
    if isinstance(pointer, bool):
        return None
    if isinstance(pointer, int):
        return pointer if pointer >= 0 else None
    if not isinstance(pointer, str):
        return None
    token = pointer.removeprefix("#").removeprefix("/").partition("/")[0]
    return int(token) if token.isascii() and token.isdigit() and len(token) <= 9 else None


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
