# SPDX-License-Identifier: Apache-2.0
"""The lines of a request's ``data``: decoded with their types, one per operation.

Clean input takes one typed pass. Where a line has a key that is not known exactly as it is spelt, or a value
of the wrong type, all are read again key by key: blanks around keys are trimmed (a published example has
one), unknown keys are ignored, and every wrong field is named. A key that stands twice is a wrong field: a
typed pass would take the last one and say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidRequest, TooManyOperations
from ran_datajobs.job import Op, Scope, ScopeType
from ran_datajobs.plan.envelope import Cut
from ran_datajobs.plan.problems import Problems


class Line(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel", gc=False):
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
_encoder: Final = msgspec.json.Encoder()


class _Key:
    """A key of an object as it is spelt. No two are equal: all members of an object are kept."""

    __slots__ = ("spelt",)

    def __init__(self, spelt: str) -> None:
        self.spelt = spelt


_members_decoder: Final = msgspec.json.Decoder(dict[_Key, Raw], dec_hook=lambda _type, spelt: _Key(spelt))
_members_of_each_decoder: Final = msgspec.json.Decoder(
    list[dict[_Key, Raw]], dec_hook=lambda _type, spelt: _Key(spelt)
)


def pieces(body: bytes, cut: Cut) -> Iterator[bytes]:
    """The operations of ``body`` in order as JSON lists of about a thousand: nobody waits long for the
    interpreter.

    What ``cut`` found is the inside of a JSON list exactly if every piece is a JSON list.
    """
    start = cut.start
    while start < cut.end:
        # A place that only looks like the end of an operation leaves a bracket or a quote open before it:
        # the piece does not decode, so nothing is ever taken for an operation that is none.
        between = _BETWEEN.search(body, start + PIECE, cut.end)
        stop, after = (between.start() + 1, between.end()) if between else (cut.end, cut.end)
        yield b"[%b]" % body[start:stop]
        start = after


def in_pieces(body: bytes, cut: Cut, decoder: msgspec.json.Decoder[list[T]]) -> Iterator[list[T]]:
    """The same, decoded.

    Raises msgspec.DecodeError, or RecursionError, when what ``cut`` found is not the inside of a JSON list,
    or has an element that is not of the decoder's type.
    """
    return map(decoder.decode, pieces(body, cut))


def each_key_stands_once(piece: bytes, lines: Sequence[Line | None]) -> bool:
    """True when no operation of ``piece`` has a key twice; ``lines`` is what it decodes to.

    No JSON text of the lines is shorter than the encoder's. One that is no longer, blanks aside, has no room
    for a second key; any other is looked at key by key.
    """
    shortest = _encoder.encode(lines)
    if len(piece) == len(shortest) or len(_without_blanks(piece)) == len(_without_blanks(shortest)):
        return True
    return all(map(_has_each_key_once, _members_of_each_decoder.decode(piece)))


def _without_blanks(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1)


def _has_each_key_once(members: dict[_Key, Raw]) -> bool:
    scopes = [raw for key, raw in members.items() if key.spelt == "scope"]
    return len({key.spelt for key in members}) == len(members) and not any(map(_doubled_in, scopes))


def _doubled_in(scope: Raw) -> str | None:
    """The first key that stands twice in a scope; ``null`` has none."""
    members = [] if bytes(scope) == b"null" else [key.spelt for key in _members_decoder.decode(scope)]
    return next((key for place, key in enumerate(members) if key in members[:place]), None)


def read_lines(data: bytes, max_operations: int, problems: Problems) -> list[Line | None]:
    """The lines in order; None stands for one whose problems were noted.

    Raises TooManyOperations before more than ``max_operations`` are built, InvalidRequest when ``data`` is
    not a list.
    """
    if len(data) > max_operations * _SHORTEST_LINE and _most_lines(data) > 2 * max_operations:
        _count_at_most(data, max_operations)
    try:
        lines: list[Line | None] = lines_decoder.decode(data)  # type: ignore[assignment] # a list of its own
        _refuse_doubled_keys(data, lines, problems)
    except (msgspec.ValidationError, RecursionError):
        lines = _read_with_care(data, max_operations, problems)
    if len(lines) > max_operations:
        raise TooManyOperations(max_operations)
    return lines


def _refuse_doubled_keys(data: bytes, lines: list[Line | None], problems: Problems) -> None:
    """Note the operations with a key that stands twice, and drop their lines."""
    for number, element in enumerate(_elements_decoder.decode(data)):
        if not each_key_stands_once(b"[%b]" % element, lines[number : number + 1]):
            lines[number] = _line(element, f"#/data/{number}", problems)


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
        members = _members_decoder.decode(element)
    except msgspec.ValidationError:
        problems.add(pointer, "must be an object")
        return None
    before = problems.count
    trimmed: dict[str, Raw] = {}
    for member, raw in members.items():
        key = member.spelt.strip()
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
        value = decoder.decode(raw)
        if isinstance(value, Scope) and (doubled := _doubled_in(raw)):
            problems.add(f"{pointer}/{key}/{doubled}", "stands twice")
        return value
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
