# SPDX-License-Identifier: Apache-2.0
"""The lines of a request's ``data``: decoded with their types, one per operation.

Valid input takes one typed pass. If a line has an unknown or misspelt key, or a value of the wrong type, all
lines are decoded again key by key: blanks around keys are trimmed (a published example has one), ignored keys
are counted, and every wrong field is reported. A duplicate key is a wrong field: a typed pass would silently
take the last one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidRequest, TooManyOperations
from ran_datajobs.http.json_body import (
    MAX_TOLD,
    NESTED_TOO_DEEPLY,
    Key,
    elements_decoder,
    got,
    members_decoder,
    pointer_step,
)
from ran_datajobs.model import Op, Scope, ScopeType
from ran_datajobs.planning.envelope import BodyLayout
from ran_datajobs.planning.keys import UnknownKeys
from ran_datajobs.planning.problems import Problems


class WriteLine(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel", gc=False
):
    """One operation as submitted, with the keys of a write. Types are checked, rules are not."""

    op: Op
    path: str
    operation_id: str | int | None = None
    value: Raw | UnsetType = UNSET


class Line(WriteLine, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel", gc=False):
    """One operation as submitted, with all keys. A read always has this type."""

    attributes: list[str] | str | None = None
    fields: list[str] | str | None = None
    filter: list[str] | str | None = None
    scope: Scope | None = None


T = TypeVar("T")

PIECE: Final = 256 * 1024
"""Approximate number of bytes decoded at once: a few milliseconds of work, and fits a CPU cache."""

# The boundary between two operations, if the second one begins with "op".
_BETWEEN: Final = re.compile(rb'\}[ \t\n\r]*+,(?=[ \t\n\r]*+\{[ \t\n\r]*+"op")')
_SHORTEST_LINE: Final = len('{"op":"add","path":""}')
lines_decoder: Final = msgspec.json.Decoder(list[Line])
_write_lines_decoder: Final = msgspec.json.Decoder(list[WriteLine])
_encoder: Final = msgspec.json.Encoder()
_members_of_each_decoder: Final = msgspec.json.Decoder(
    list[dict[Key, Raw]], dec_hook=lambda _type, spelt: Key(spelt)
)


def pieces(body: bytes, cut: BodyLayout) -> Iterator[bytes]:
    """Yield the operations of ``body`` in order as JSON lists of about a thousand, so that decoding one does
    not hold the GIL for long.

    What ``cut`` located is the inside of a JSON list exactly if every piece is a JSON list.
    """
    start = cut.start
    while start < cut.end:
        # A match inside a value leaves a bracket or a quote open before it: the piece does not decode, so
        # a false boundary never produces an operation.
        between = _BETWEEN.search(body, start + PIECE, cut.end)
        stop, after = (between.start() + 1, between.end()) if between else (cut.end, cut.end)
        yield b"[%b]" % body[start:stop]
        start = after


def in_pieces(body: bytes, cut: BodyLayout, decoder: msgspec.json.Decoder[list[T]]) -> Iterator[list[T]]:
    """Yield the same lists, decoded.

    Raises msgspec.DecodeError, or RecursionError, when what ``cut`` located is not the inside of a JSON list,
    or has an element that is not of the decoder's type.
    """
    return map(decoder.decode, pieces(body, cut))


def quick_lines(piece: bytes) -> Sequence[WriteLine] | None:
    """Decode the operations of a piece; None when one has a key that is ignored.

    Raises msgspec.DecodeError, or RecursionError, when the piece is no list of operations.
    """
    with contextlib.suppress(msgspec.ValidationError):
        writes = _write_lines_decoder.decode(piece)
        if Op.READ not in ops_of(writes):
            return writes
    lines = lines_decoder.decode(piece)
    return None if any(map(_ignored_keys, lines)) else lines


def ops_of(lines: Sequence[WriteLine]) -> set[Op]:
    """The kinds of operations in ``lines``."""
    return {line.op for line in lines}


def _ignored_keys(line: Line) -> list[str]:
    """The keys of a read that a write has."""
    if line.op is Op.READ:
        return []
    return [key for key in _READ_KEYS if getattr(line, key) is not None]


def has_no_duplicate_keys(piece: bytes, lines: Sequence[WriteLine | None]) -> bool:
    """True when no operation of ``piece`` has a key twice; ``lines``: the decoded piece.

    The encoder writes the shortest JSON text of the lines. A piece of the same length, blanks aside, has no
    room for a duplicate; any other piece is checked key by key.
    """
    shortest = _encoder.encode(lines)
    if len(piece) == len(shortest) or len(_without_blanks(piece)) == len(_without_blanks(shortest)):
        return True
    return all(map(_has_each_key_once, _members_of_each_decoder.decode(piece)))


def _without_blanks(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1)


def _has_each_key_once(members: dict[Key, Raw]) -> bool:
    scopes = [raw for key, raw in members.items() if key.spelt == "scope"]
    return len({key.spelt for key in members}) == len(members) and not any(map(_duplicate_in, scopes))


def _duplicate_in(scope: Raw) -> str | None:
    """The first duplicate key of a scope; ``null`` has none."""
    members = [] if bytes(scope) == b"null" else [key.spelt for key in members_decoder.decode(scope)]
    return next((key for place, key in enumerate(members) if key in members[:place]), None)


def decode_operations(
    data: bytes, max_operations: int, problems: Problems, unknown: UnknownKeys
) -> list[Line | None]:
    """The lines in order; None for a line with problems, which are added to ``problems``. Ignored keys are
    added to ``unknown``.

    Raises TooManyOperations before more than ``max_operations`` are built, InvalidRequest when ``data`` is
    not a list.
    """
    if len(data) > max_operations * _SHORTEST_LINE and _max_lines(data) > 2 * max_operations:
        _count_at_most(data, max_operations)
    try:
        decoded = lines_decoder.decode(data)
    except (msgspec.ValidationError, RecursionError):
        lines = _read_with_care(data, max_operations, problems, unknown)
    else:
        lines = _without_duplicate_keys(data, decoded, problems, unknown)
    if len(lines) > max_operations:
        raise TooManyOperations(max_operations)
    return lines


def _without_duplicate_keys(
    data: bytes, decoded: list[Line], problems: Problems, unknown: UnknownKeys
) -> list[Line | None]:
    """The lines; those with duplicate or ignored keys are decoded again key by key."""
    lines: list[Line | None] = []
    for number, (element, line) in enumerate(zip(elements_decoder.decode(data), decoded, strict=True)):
        if _ignored_keys(line) or not has_no_duplicate_keys(b"[%b]" % element, [line]):
            lines.append(_line(element, f"#/data/{number}", problems, unknown))
        else:
            lines.append(line)
    return lines


def _max_lines(data: bytes) -> int:
    """Upper bound of the number of lines: each has a ``path``, and letters are escaped only with ``\\u``."""
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
        raise _no_list(data) from None
    except RecursionError:
        raise InvalidRequest(NESTED_TOO_DEEPLY) from None


def _no_list(data: bytes) -> InvalidRequest:
    detail = f"must be a list of operations; it is {got(Raw(data.lstrip()))}"
    return InvalidRequest(f"#/data: {detail}", (("#/data", detail),))


class _Counted:
    """Placeholder for every element while elements are counted."""


_COUNTED: Final = _Counted()


def _read_with_care(
    data: bytes, max_operations: int, problems: Problems, unknown: UnknownKeys
) -> list[Line | None]:
    if len(data) > 2 * max_operations:
        _count_at_most(data, max_operations)
    try:
        elements = elements_decoder.decode(data)
    except (msgspec.ValidationError, RecursionError):
        raise _no_list(data) from None
    return [_line(element, f"#/data/{number}", problems, unknown) for number, element in enumerate(elements)]


def _line(element: Raw, pointer: str, problems: Problems, unknown: UnknownKeys) -> Line | None:
    try:
        members = members_decoder.decode(element)
    except msgspec.ValidationError:
        problems.add(pointer, f"must be an object; it is {got(element)}")
        return None
    before = problems.count
    trimmed: dict[str, Raw] = {}
    for member, raw in members.items():
        key = member.spelt.strip()
        if key in trimmed:
            problems.add(f"{pointer}/{pointer_step(key)}", "stands twice; blanks around keys are dropped")
        trimmed[key] = raw
    values = {key: _field(trimmed, key, pointer, problems) for key in _FIELDS}
    for key in ("op", "path"):
        if key not in trimmed or bytes(trimmed[key]) == b"null":
            problems.add(f"{pointer}/{key}", "is missing")
    if problems.count > before:
        return None
    is_read = values["op"] is Op.READ
    for key, raw in trimmed.items():
        is_null = bytes(raw) == b"null"
        if key not in _KEYS or (key in _READ_KEYS and not is_read and not is_null):
            unknown.in_operation(pointer, key, is_null=is_null)
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
        value = decoder.decode(raw)
        if isinstance(value, Scope) and (doubled := _duplicate_in(raw)):
            problems.add(f"{pointer}/{key}/{doubled}", "stands twice")
        return value
    except msgspec.ValidationError as error:
        problems.add(f"{pointer}/{key}", wanted(raw, error))
    except RecursionError:
        problems.add(
            f"{pointer}/{key}", "is nested more deeply than can be read, which is about 1,000 levels"
        )
    return None


def _words(text: str) -> Callable[[Raw, msgspec.ValidationError], str]:
    return lambda raw, _error: f"{text}; it is {got(raw)}"


def _op_problem(raw: Raw, _error: msgspec.ValidationError) -> str:
    if bytes(raw) in {b'"copy"', b'"move"'}:
        return "copy and move are not offered: write an add and a remove"
    return f"must be one of {', '.join(Op)}; it is {got(raw)}"


def _scope_problem(raw: Raw, error: msgspec.ValidationError) -> str:
    shown = bytes(raw)[:MAX_TOLD].decode("utf-8", "ignore")
    if "scopeLevel" in str(error):
        return f"scopeLevel must be an integer; it is in {shown}"
    return f"must be an object whose scopeType is one of {', '.join(ScopeType)}; it is {shown}"


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
_READ_KEYS: Final = ("attributes", "fields", "filter", "scope")
_KEYS: Final = frozenset({*_FIELDS, "value"})
