# SPDX-License-Identifier: Apache-2.0
"""Convert error answers of ProvMnS servers of any generation into TS 28.572's ErrorDetail (pure).

18.1: ``{"error": {"errorInfo": …}}``. From 18.3: ``status, type, reason, title`` with ``badAttributes`` and
``badObjects``, ``badQueryParams``, or ``badOp`` (also spelt ``badOP``), and ``otherProblems``. Servers that
implement TS 28.572 send its ``type``, ``reason`` and ``badDataNode``, or a list ``errors`` of them, which
are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from ran_datajobs import reasons
from ran_datajobs.dmi.provmns.nodes import Asked
from ran_datajobs.model import ErrorDetail
from ran_datajobs.nrm.faults import REASONS
from ran_datajobs.plugins.responses import MAX_TEXT

TYPES: Final = frozenset({*reasons.TS_28572_TYPES, "OTHER"})
"""All types of TS 28.572."""

_BY_STATUS: Final = {
    400: ("SCHEMA_VALIDATION_ERROR", "NEW_DATA_NODE_VALUE_INVALID"),
    401: ("ACCESS_CONTROL_CONFLICT", "ACCESS_DENIED"),
    403: ("ACCESS_CONTROL_CONFLICT", "ACCESS_DENIED"),
    404: ("DATA_NODE_TREE_ERROR", "TARGET_DATA_NODE_NOT_FOUND"),
    409: ("MODIFICATION_NOT_ALLOWED", "OTHER"),
    422: ("SCHEMA_VALIDATION_ERROR", "NEW_DATA_NODE_VALUE_INVALID"),
}


class Refusal(Struct, frozen=True):
    """Why a server refused a request. ``bad``: index of the faulty operation, if the server names it."""

    error: ErrorDetail
    bad: int | None = None


class _Body(Struct, frozen=True, rename="camel"):
    """All members of an error in any generation; each may be missing or of any type."""

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


def read_refusal(status: int, body: bytes | None, asked: str | Asked) -> Refusal:
    """Read a 4xx or 5xx answer. If it names no node, the node of ``asked`` is reported. If ``asked`` is only
    a node, the server's names are not translated."""
    try:
        given = msgspec.json.decode(body or b"", type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        given = _Body()
    others = [msgspec.convert(each, _Body) for each in _items(given.other_problems) if isinstance(each, dict)]
    place = next((at for each in (given, *others) if (at := _bad_operation(each)) is not None), None)
    kind, reason = _BY_STATUS.get(status, ("SERVER_ERROR" if status >= 500 else "OTHER", "OTHER"))
    if _member(_first(given.errors), "type") in TYPES:
        given = msgspec.convert(_first(given.errors), _Body)
    named_type, why = _text(given.type), _text(given.reason)
    if why:
        reason = why if why in REASONS else "OTHER"
    node, unread = _node((given, *others), asked)
    words = [
        _text(given.detail) or _text(_member(given.error, "errorInfo")),
        "" if why == reason else why,
        *unread,
        *(each for each in _items(given.other_problems) if isinstance(each, str)),
        *(_text(each.title) or _text(each.detail) or _text(each.reason) for each in others),
    ]
    return Refusal(
        ErrorDetail(
            type=named_type if named_type in TYPES else kind,
            bad_data_node=node,
            reason=reason,
            title=_text(given.title) or f"The element answered {status}",
            detail="; ".join(word for word in words if word)[:MAX_TEXT],
        ),
        place,
    )


def _node(problems: Sequence[_Body], asked: str | Asked) -> tuple[str, list[str]]:
    """The first node reported as bad, and the texts that name no node."""
    if isinstance(asked, str):
        first = problems[0]
        return _text(first.bad_data_node) or next(_named(first, first.bad_query_params), asked), []
    unread: list[str] = []
    for each in problems:
        for text in (_text(each.bad_data_node), *_named(each)):
            if text and (node := asked.named(text)):
                return node, unread
            unread += [text] if text else []
        unread += _texts(each.bad_query_params)
    return asked.node, unread


def _named(given: _Body, *more: Any) -> Iterator[str]:
    """Yield the names that an answer reports as bad."""
    for group in (given.bad_attributes, given.bad_objects, *more):
        yield from _texts(group)


def _texts(group: Any) -> Iterator[str]:
    for each in _items(group):
        if text := _text(each) or _text(_member(each, "name")) or _text(_member(each, "path")):
            yield text


def _bad_operation(given: _Body) -> int | None:
    return _place(given.bad_op if given.bad_op is not None else given.bad_op_upper)


def _place(pointer: Any) -> int | None:
    """Parse ``/17`` or ``/17/path`` as 17."""
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
