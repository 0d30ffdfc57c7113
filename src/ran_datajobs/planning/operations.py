# SPDX-License-Identifier: Apache-2.0
"""The lines of a request's ``data``: decoded with their types, one per operation.

Valid input takes one typed pass. If a line has an unknown or misspelt key, or a value of the wrong type, all
lines are decoded again key by key: blanks around keys are trimmed (a published example has one), ignored keys
are counted, and every wrong field is reported. A duplicate key is a wrong field: a typed pass would silently
take the last one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from ran_datajobs.errors import InvalidRequest, TooManyOperations
from ran_datajobs.http.json_body import MAX_SHOWN, elements_decoder, got, members_decoder, pointer_step
from ran_datajobs.model import Op, Scope, ScopeType
from ran_datajobs.planning.keys import Problems, UnknownKeys
from ran_datajobs.plugins.wire import SeedOperation, names

_lines_decoder: Final = msgspec.json.Decoder(list[SeedOperation])
_line_decoder: Final = msgspec.json.Decoder(SeedOperation)
_encoder: Final = msgspec.json.Encoder()


def decode_operations(
    data: bytes, first: int, problems: Problems, unknown: UnknownKeys, *, accepted: bool = False
) -> Sequence[SeedOperation | None]:
    """The lines of a JSON list in order, of which the first one has the position ``first`` in the request.
    None for a line with problems, which are added to ``problems``. Ignored keys are added to ``unknown``.

    ``accepted``: the request was checked for duplicate keys before. Raises msgspec.DecodeError or
    RecursionError when ``data`` is not JSON.
    """
    try:
        lines = _lines_decoder.decode(data)
        if not _needs_care(lines, accepted) and (accepted or _has_shortest_form(data, lines)):
            return lines
    except msgspec.ValidationError:
        pass
    return [
        _line(element, f"#/data/{number}", problems, unknown, accepted=accepted)
        for number, element in enumerate(elements_decoder.decode(data), first)
    ]


def accepted_operations(lists: Iterable[bytes]) -> Iterator[list[SeedOperation]]:
    """The operations of a request that was accepted, as it is executed: each with its id, and without what is
    ignored. ``lists``: JSON lists of operations.

    Keys that are refused now are ignored: an older version may have accepted them.
    """
    first, remove, read = 0, Op.REMOVE, Op.READ
    for data in lists:
        problems = Problems()
        lines = decode_operations(data, first, problems, UnknownKeys(Problems()), accepted=True)
        problems.raise_if_any()
        operations = [line for line in lines if line is not None]
        for number, operation in enumerate(operations, first):
            if operation.operation_id is None:
                operation.operation_id = str(number)
            if operation.path:
                operation.data_node_selector = None
            if operation.op is remove:
                operation.value = UNSET
            elif operation.op is read:
                operation.value = UNSET
                operation.attributes, operation.fields = names(operation.attributes), names(operation.fields)
                operation.filter = operation.filter or None
        yield operations
        first += len(operations)


def _needs_care(lines: Sequence[SeedOperation], accepted: bool) -> bool:
    """True when a write has a key of a read, or a line has CM handle data or a guard, or nothing that names
    its object.

    Unless ``accepted``, also when a scope has the default type: it is always encoded, and could make up for a
    doubled key in a comparison of lengths.
    """
    return any(
        line.op is not Op.READ
        or (not line.path and line.data_node_selector is None)
        or line.module_set_tag is not None
        or line.private_properties is not UNSET
        or line.expect is not None
        or not (accepted or line.scope is None or line.scope.scope_type is not ScopeType.BASE_ONLY)
        for line in lines
        if not line.path
        or line.attributes is not None
        or line.fields is not None
        or line.filter is not None
        or line.scope is not None
        or line.module_set_tag is not None
        or line.private_properties is not UNSET
        or line.expect is not None
    )


def _has_shortest_form(data: bytes, lines: Sequence[SeedOperation]) -> bool:
    """True when ``data`` is the shortest JSON text of ``lines``, blanks aside: no operation has a key twice.

    False is unknown: an escape or a ``null`` makes a text longer, too.
    """
    shortest = _encoder.encode(lines)
    return len(data) == len(shortest) or len(_without_blanks(data)) == len(_without_blanks(shortest))


def _without_blanks(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1)


def _duplicate_in(scope: Raw) -> str | None:
    """The first duplicate key of a scope, if it is an object."""
    keys = [key.spelt for key in members_decoder.decode(scope)] if bytes(scope)[:1] == b"{" else []
    return next((key for place, key in enumerate(keys) if key in keys[:place]), None)


class _Counted:
    """Placeholder for every element while elements are counted."""


_COUNTED: Final = _Counted()


def check_count(data: bytes, max_operations: int) -> None:
    """Raise TooManyOperations when the list is longer, without building it."""
    if len(data) <= 2 * max_operations or data.count(b",") < max_operations:
        return
    numbers = itertools.count(1)

    def count(_type: type, _element: object) -> _Counted:
        if next(numbers) > max_operations:
            raise TooManyOperations(max_operations)
        return _COUNTED

    try:
        msgspec.json.Decoder(list[_Counted], dec_hook=count).decode(data)
    except msgspec.ValidationError:
        detail = f"has a number that is out of range, among more than {max_operations} values"
        raise InvalidRequest.at("#/data", detail) from None


def _line(
    element: Raw, pointer: str, problems: Problems, unknown: UnknownKeys, *, accepted: bool
) -> SeedOperation | None:
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
            problems.add(f"{pointer}/{pointer_step(key)}", "occurs twice; blanks around keys are dropped")
        trimmed[key] = raw
    has_path, has_selector = _has(trimmed, "path"), _has(trimmed, _SELECTOR)
    if has_path and accepted:  # an older version did not know this key
        trimmed.pop(_SELECTOR, None)
    if has_selector and not has_path:
        trimmed.pop("path", None)
    if "scope" in trimmed and (doubled := _duplicate_in(trimmed["scope"])):
        problems.add(f"{pointer}/scope/{doubled}", "occurs twice")
    try:
        line = _line_decoder.decode(_encoder.encode({key: trimmed[key] for key in trimmed if key in _KEYS}))
    except msgspec.ValidationError:
        for key in _FIELDS:
            _check_field(key, trimmed.get(key, _NULL), f"{pointer}/{key}", problems)
    if not has_path and not has_selector:
        problems.add(f"{pointer}/path", "is missing")
    if problems.count > before:
        return None
    for key, raw in trimmed.items():
        is_null = bytes(raw) == b"null"
        if key not in _KEYS or (key in _READ_KEYS and line.op is not Op.READ and not is_null):
            unknown.in_operation(pointer, key, is_null=is_null)
    if line.op is not Op.READ:
        line.attributes = line.fields = line.filter = line.scope = None
    return line


def _has(members: dict[str, Raw], key: str) -> bool:
    return key in members and bytes(members[key]) != bytes(_NULL)


def _check_field(key: str, raw: Raw, pointer: str, problems: Problems) -> None:
    """Add the faults of one field's type to ``problems``."""
    decoder, needed = _FIELDS[key]
    try:
        value = decoder.decode(raw)
    except msgspec.ValidationError as error:
        given = got(raw)
        if key == "scope":
            given = bytes(raw)[:MAX_SHOWN].decode("utf-8", "ignore")
            if "scopeLevel" in str(error):
                needed, given = "scopeLevel must be an integer", f"in {given}"
        is_move = key == "op" and given in {'"copy"', '"move"'}
        problems.add(pointer, _NO_MOVE if is_move else f"{needed}; it is {given}")
        return
    if value is None and key == "op":
        problems.add(pointer, "is missing")


_NULL: Final = Raw(b"null")
_SELECTOR: Final = "dataNodeSelector"
_NO_MOVE: Final = "copy and move are not offered: write an add and a remove"
_names_decoder: Final = msgspec.json.Decoder(list[str] | str | None)
_NAMES: Final = "must be a list of strings, or one comma-separated string"
_FIELDS: Final[dict[str, tuple[msgspec.json.Decoder[Any], str]]] = {
    "op": (msgspec.json.Decoder(Op | None), f"must be one of {', '.join(Op)}"),
    "path": (msgspec.json.Decoder(str | None), "must be a string"),
    "operationId": (msgspec.json.Decoder(str | int | None), "must be a string or an integer"),
    "attributes": (_names_decoder, _NAMES),
    "fields": (_names_decoder, _NAMES),
    _SELECTOR: (msgspec.json.Decoder(str | None), "must be a string"),
    "filter": (_names_decoder, "must be a string or a list of strings"),
    "scope": (
        msgspec.json.Decoder(Scope | None),
        f"must be an object whose scopeType is one of {', '.join(ScopeType)}",
    ),
}
_READ_KEYS: Final = ("attributes", "fields", "filter", "scope")
_KEYS: Final = frozenset({*_FIELDS, "value"})
