# SPDX-License-Identifier: Apache-2.0
"""The lines of a request's ``data``: decoded with their types, one per operation.

Clean input takes one typed pass. Where a line has a key that is not known exactly as it is spelt, or a value
of the wrong type, all are read again key by key: blanks around keys are trimmed (a published example has
one), unknown keys are ignored, and every wrong field is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidRequest, TooManyOperations
from ran_datajobs.job import Op, Scope, ScopeType
from ran_datajobs.plan.envelope import Cut
from ran_datajobs.plan.problems import Problems


class Line(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", gc=False):
    """One operation as it was written, types checked, rules not."""

    op: Op
    path: str
    operation_id: str | int | None = None
    value: Raw | UnsetType = UNSET
    attributes: list[str] | str | None = None
    fields: list[str] | str | None = None
    filter: list[str] | str | None = None
    scope: Scope | None = None


T = TypeVar("T")

PIECE: Final = 256 * 1024
"""About how many bytes are decoded at once: a few milliseconds' work, and what fits a cache."""

# Where one operation ends and the next begins, when its keys are in the usual order.
_BETWEEN: Final = re.compile(rb'\}[ \t\n\r]*+,(?=[ \t\n\r]*+\{[ \t\n\r]*+"op")')
_SHORTEST_LINE: Final = len('{"op":"add","path":""}')
lines_decoder: Final = msgspec.json.Decoder(list[Line])
_elements_decoder: Final = msgspec.json.Decoder(list[Raw])
_keys_decoder: Final = msgspec.json.Decoder(dict[str, Raw])


def in_pieces(body: bytes, cut: Cut, decoder: msgspec.json.Decoder[list[T]]) -> Iterator[list[T]]:
    """The operations of ``body`` in order, about a thousand at a time: nobody waits long for the interpreter.

    Raises msgspec.DecodeError, or RecursionError, when what ``cut`` found is not the inside of a JSON list,
    or has an element that is not of the decoder's type.
    """
    start = cut.start
    while start < cut.end:
        # A place that only looks like the end of an operation leaves a bracket or a quote open before it:
        # the piece does not decode, so nothing is ever taken for an operation that is none.
        between = _BETWEEN.search(body, start + PIECE, cut.end)
        stop, after = (between.start() + 1, between.end()) if between else (cut.end, cut.end)
        yield decoder.decode(b"[%b]" % body[start:stop])
        start = after


def read_lines(data: bytes, max_operations: int, problems: Problems) -> list[Line | None]:
    """The lines in order; None stands for one whose problems were noted.

    Raises TooManyOperations before more than ``max_operations`` are built, InvalidRequest when ``data`` is
    not a list.
    """
    if len(data) > max_operations * _SHORTEST_LINE and _most_lines(data) > 2 * max_operations:
        _count_at_most(data, max_operations)
    try:
        lines: list[Line | None] = lines_decoder.decode(data)  # type: ignore[assignment] # a list of its own
    except (msgspec.ValidationError, RecursionError):
        lines = _read_with_care(data, max_operations, problems)
    if len(lines) > max_operations:
        raise TooManyOperations(max_operations)
    return lines


def _most_lines(data: bytes) -> int:
    """An upper bound, quickly told: every line has a ``path``, and letters are escaped only with ``\\u``."""
    return data.count(b'"path"') + data.count(b"\\u")


def _count_at_most(data: bytes, max_operations: int) -> None:
    """Raise TooManyOperations when the list is longer, without building it."""
    seen = 0

    def count(_type: type, _element: object) -> _Counted:
        nonlocal seen
        seen += 1
        if seen > max_operations:
            raise TooManyOperations(max_operations)
        return _COUNTED

    try:
        msgspec.json.Decoder(list[_Counted], dec_hook=count).decode(data)
    except msgspec.ValidationError:
        raise InvalidRequest(
            "#/data: must be a list of operations", (("#/data", "must be a list"),)
        ) from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None


class _Counted:
    """Stands for every element while they are counted."""


_COUNTED: Final = _Counted()


def _read_with_care(data: bytes, max_operations: int, problems: Problems) -> list[Line | None]:
    if len(data) > 2 * max_operations:
        _count_at_most(data, max_operations)
    try:
        elements = _elements_decoder.decode(data)
    except (msgspec.ValidationError, RecursionError):
        raise InvalidRequest(
            "#/data: must be a list of operations", (("#/data", "must be a list"),)
        ) from None
    return [_line(element, f"#/data/{number}", problems) for number, element in enumerate(elements)]


def _line(element: Raw, pointer: str, problems: Problems) -> Line | None:
    try:
        keys = _keys_decoder.decode(element)
    except msgspec.ValidationError:
        problems.add(pointer, "must be an object")
        return None
    before = problems.count
    trimmed: dict[str, Raw] = {}
    for spelt, raw in keys.items():
        key = spelt.strip()
        if key in trimmed:
            problems.add(f"{pointer}/{key}", "stands twice; blanks around keys are dropped")
        trimmed[key] = raw
    values = {key: _field(trimmed, key, pointer, problems) for key in _FIELDS}
    for key in ("op", "path"):
        if key not in trimmed or bytes(trimmed[key]) == b"null":
            problems.add(f"{pointer}/{key}", "is missing")
    if problems.count > before:
        return None
    return Line(
        values["op"],
        values["path"],
        values["operationId"],
        trimmed.get("value", UNSET),
        values["attributes"],
        values["fields"],
        values["filter"],
        values["scope"],
    )


def _field(trimmed: dict[str, Raw], key: str, pointer: str, problems: Problems) -> Any:
    raw = trimmed.get(key)
    if raw is None:
        return None
    decoder, wanted = _FIELDS[key]
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        problems.add(f"{pointer}/{key}", wanted(raw, error))
    except RecursionError:
        problems.add(f"{pointer}/{key}", "is nested too deeply")
    return None


def _words(text: str) -> Callable[[Raw, msgspec.ValidationError], str]:
    return lambda _raw, _error: text


def _op_problem(raw: Raw, _error: msgspec.ValidationError) -> str:
    if bytes(raw) in {b'"copy"', b'"move"'}:
        return "copy and move are not offered: write an add and a remove"
    return f"must be one of {', '.join(Op)}"


def _scope_problem(_raw: Raw, error: msgspec.ValidationError) -> str:
    if "scopeLevel" in str(error):
        return "scopeLevel must be an integer"
    return f"must be an object whose scopeType is one of {', '.join(ScopeType)}"


_Field = tuple[msgspec.json.Decoder[Any], Callable[[Raw, msgspec.ValidationError], str]]
_NAMES: Final[_Field] = (
    msgspec.json.Decoder(list[str] | str | None),
    _words("must be a list of strings, or one comma-separated string"),
)
_FIELDS: Final[dict[str, _Field]] = {
    "op": (msgspec.json.Decoder(Op | None), _op_problem),
    "path": (msgspec.json.Decoder(str | None), _words("must be a string")),
    "operationId": (msgspec.json.Decoder(str | int | None), _words("must be a string or an integer")),
    "attributes": _NAMES,
    "fields": _NAMES,
    "filter": (msgspec.json.Decoder(list[str] | str | None), _words("must be a string or a list of strings")),
    "scope": (msgspec.json.Decoder(Scope | None), _scope_problem),
}
