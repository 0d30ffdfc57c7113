# SPDX-License-Identifier: Apache-2.0
"""A JSON body decoded at the border: into typed values, or an error that points at the place. Pure."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from ran_datajobs.errors import InvalidRequest

_PATH_STEP: Final = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.+)`", re.DOTALL)
_EXPECTED: Final = re.compile(r"Expected `([^`]+)`(.*?)(?:, got `([^`]+)`)?", re.DOTALL)
_LENGTH: Final = re.compile(r"of length (>=|<=) (\d+)")
_RANGE: Final = re.compile(r"(>=|<=|>|<) (\S+)")
_COMPARED: Final = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}
_KINDS: Final = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
    "uuid": "a UUID",
    "datetime": "a date and time (RFC 3339)",
}
_LONGEST_NAME: Final = 128
_TOLD_STEPS: Final = 3
"""So far a pointer leads into a typed body: below may be the names of private properties."""

MOST_STEPS: Final = 16
"""So far a pointer leads at all."""

MAX_TOLD: Final = 40
"""So many characters of a wrong value are told."""

NESTED_TOO_DEEPLY: Final = "the body is nested more deeply than can be read, which is about 1,000 levels"

_SCALARS: Final = (str, int, float, type(None))

# Everything up to half of a surrogate pair, which is the group: whole pairs go with the rest.
_HALF_A_PAIR: Final = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)*+"
    rb"(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)
_MOST_HALVES: Final = 1000
_OTHER_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32 LE"),
    (codecs.BOM_UTF32_BE, "UTF-32 BE"),
    (codecs.BOM_UTF16_LE, "UTF-16 LE"),
    (codecs.BOM_UTF16_BE, "UTF-16 BE"),
)
_OTHER_STARTS: Final = (
    (re.compile(rb"\0\0\0[^\0]"), "UTF-32 BE"),
    (re.compile(rb"[^\0]\0\0\0"), "UTF-32 LE"),
    (re.compile(rb"\0[^\0]"), "UTF-16 BE"),
    (re.compile(rb"[^\0]\0"), "UTF-16 LE"),
)
"""How a JSON text begins in another encoding, without a mark: its first character is ASCII (RFC 4627 §3)."""

_Body = TypeVar("_Body")


class Key:
    """A name in an object as it is spelt. No two are equal: all members of an object are kept."""

    __slots__ = ("spelt",)

    def __init__(self, spelt: str) -> None:
        self.spelt = spelt


members_decoder: Final = msgspec.json.Decoder(dict[Key, Raw], dec_hook=lambda _type, spelt: Key(spelt))
"""Reads the members of an object, in order and undecoded; a name can stand twice."""

elements_decoder: Final = msgspec.json.Decoder(list[Raw])
"""Reads the elements of a list, undecoded."""


def json_text(body: bytes) -> bytes:
    """The JSON text that a client sent, without a byte order mark at its start (RFC 8259 §8.1).

    Raises InvalidRequest when it begins like UTF-16 or UTF-32; whether the rest is UTF-8 is not looked at.
    """
    if body.startswith(codecs.BOM_UTF8):
        return bytes(memoryview(body)[len(codecs.BOM_UTF8) :])
    if encoding := _other_encoding(body[:4]):
        raise InvalidRequest(f"the body must be UTF-8, and it is {encoding}")
    return body


def decoded(body: bytes, decoder: msgspec.json.Decoder[_Body]) -> _Body:
    """``body`` as what ``decoder`` reads. Raises InvalidRequest, for a wrong shape or type with the JSON
    pointer of the first fault."""
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise InvalidRequest(NESTED_TOO_DEEPLY) from None
    except msgspec.ValidationError as error:
        pointer, detail = fault_of(error, body, decoder)
        raise InvalidRequest(f"{pointer}: {detail}", ((pointer, detail),)) from None
    except msgspec.DecodeError as error:
        raise malformed(body, error, _TOLD_STEPS) from None


def malformed(body: bytes, error: msgspec.DecodeError, most_steps: int = MOST_STEPS) -> InvalidRequest:
    """What to say of a ``body`` that is not JSON, as ``error`` has it.

    Half of a surrogate pair is well-formed by JSON's grammar, and no text: it is told with its place, at most
    ``most_steps`` deep.
    """
    pointer = _place_of_half_a_pair(body, most_steps)
    if pointer is None:
        words = str(error)
        if words == "Input data was truncated":
            words = "JSON is malformed: it ends before its last value is complete"
        return InvalidRequest(words)
    detail = "is not a Unicode text: it has half of a surrogate pair"
    return InvalidRequest(f"{pointer}: {detail}", ((pointer, detail),))


def shortened(name: str) -> str:
    """A name that a client made up, as it is told: cut where it is very long."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def pointer_step(name: str) -> str:
    """The same as one step of a JSON pointer (RFC 6901)."""
    return shortened(name).replace("~", "~0").replace("/", "~1")


def half_of_a_pair(body: bytes) -> int | None:
    """Where the first half of a surrogate pair stands alone; None when there is none."""
    found = _HALF_A_PAIR.match(body)
    return found.start(1) if found else None


def _other_encoding(start: bytes) -> str | None:
    for mark, name in _OTHER_MARKS:
        if start.startswith(mark):
            return name
    return next((name for begins, name in _OTHER_STARTS if begins.match(start)), None)


def _place_of_half_a_pair(body: bytes, most_steps: int) -> str | None:
    """The pointer of the first half of a surrogate pair that stands alone; of the object where it is in a
    name. None when there is none, when there are very many, and when the body is no JSON besides."""
    halves: list[int] = []
    while len(halves) < _MOST_HALVES and (half := _HALF_A_PAIR.match(body, halves[-1] + 6 if halves else 0)):
        halves.append(half.start(1))
    if not halves:
        return None
    # The first one becomes an escape that the body has not got: whatever contains it is on the way.
    unused = next((code for code in range(0xE000, 0xF900) if b"\\u%04x" % code not in body), 0xFFFD)
    marker = b"\\u%04x" % unused
    mended = bytearray(body)
    for at in halves:
        mended[at : at + 6] = b"\\ufffd" if at > halves[0] else marker
    steps, text = "", bytes(mended)
    try:
        for _ in range(most_steps):
            found = next(((step, raw) for step, raw in _inside(text) if marker in raw), None)
            if found is None:
                break
            steps, text = f"{steps}/{found[0]}", found[1]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return "#" + steps


def _inside(text: bytes) -> Iterator[tuple[str, bytes]]:
    """The step to each value inside an object or a list, and its text; nothing for other values."""
    match text.lstrip(b" \t\r\n")[:1]:
        case b"{":
            for key, raw in members_decoder.decode(text).items():
                yield pointer_step(key.spelt), bytes(raw)
        case b"[":
            for place, raw in enumerate(elements_decoder.decode(text)):
                yield str(place), bytes(raw)
        case _:
            msgspec.json.Decoder(Raw).decode(text)


def fault_of(
    error: msgspec.ValidationError, body: bytes, decoder: msgspec.json.Decoder[Any], below: Sequence[str] = ()
) -> tuple[str, str]:
    """Where ``body`` has a fault (a JSON pointer), and what is needed and given there.

    ``below``: the steps to where ``body`` stands in what the client sent.
    The key of a free form object stays unsaid, and so does what is below it.
    """
    words, _, place = str(error).partition(" - at `")
    steps = [name or number for name, number in _PATH_STEP.findall(place.rstrip("`"))]
    if missing := _MISSING.fullmatch(words):
        steps.append(missing[1])
        return _pointer([*below, *steps]), "is missing"
    if unknown := _UNKNOWN.fullmatch(words):
        steps.append(pointer_step(unknown[1]))
        return _pointer([*below, *steps]), "is not known here: take it out"
    inside = "..." not in steps and len(steps) <= MOST_STEPS
    given = _value_at(body, steps) if inside else None
    return _pointer([*below, *steps]), in_words(words, given, _choices(decoder.type, steps))


def in_words(words: str, given: Raw | str | None = None, choices: Sequence[str] = ()) -> str:
    """What a decoder says of a value that it does not take, as ``must be a string; it is 7``.

    ``given``: the value, where it may be told; ``choices``: those that are taken.
    """
    kind = None
    if choices:
        needed = f"must be one of {', '.join(choices)}"
    elif found := _EXPECTED.fullmatch(words):
        kinds, bound, kind = found.groups()
        needed = f"must be {' or '.join(_KINDS.get(each, each) for each in kinds.split(' | '))}"
        needed += _bound(bound.strip())
    else:
        needed = f"cannot be used: {words[:1].lower()}{words[1:]}"
    if given is not None:
        return f"{needed}; it is {got(given)}"
    return f"{needed}; it is {_KINDS.get(kind, kind)}" if kind else needed


def got(value: object) -> str:
    """A value as it is told beside what is needed: texts and numbers as JSON, cut where they are long."""
    if isinstance(value, Raw):
        text = bytes(value)[: 4 * MAX_TOLD].decode("utf-8", "ignore")
    else:
        told = (
            json.dumps(value, ensure_ascii=False)
            if isinstance(value, _SCALARS)
            else "{"
            if isinstance(value, dict)
            else "["
        )
        text = told.encode("utf-8", "replace").decode()
    kind = {"{": "an object", "[": "a list"}.get(text[:1])
    return kind or (text if len(text) <= MAX_TOLD else text[:MAX_TOLD] + "…")


def _pointer(steps: Iterable[str]) -> str:
    return "#" + "".join(f"/{step}" for step in steps if step != "...")


def _bound(words: str) -> str:
    """``of length <= 3`` as people say it."""
    if found := _LENGTH.fullmatch(words):
        least = "at least" if found[1] == ">=" else "at most"
        return f" of {least} {found[2]} in length"
    if found := _RANGE.fullmatch(words):
        return f" {_COMPARED[found[1]]} {found[2]}"
    return f" {words}" if words else ""


def _value_at(body: bytes, steps: Sequence[str]) -> Raw | None:
    value = body.lstrip(b" \t\r\n")
    try:
        for step in steps:
            value = [raw for name, raw in _inside(value) if name == step][-1].lstrip(b" \t\r\n")
    except (IndexError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Raw(value)


def _choices(wanted: object, steps: Sequence[str]) -> tuple[str, ...]:
    """The values that the type takes at a place of it, when they can be listed."""
    places = [msgspec.inspect.type_info(wanted)]
    for step in steps:
        places = [below for place in _alternatives(places) for below in _below(place, step)]
    found: dict[str, None] = {}
    for place in _alternatives(places):
        match place:
            case msgspec.inspect.EnumType(cls):
                found.update(dict.fromkeys(str(member.value) for member in cls))
            case msgspec.inspect.LiteralType(values):
                found.update(dict.fromkeys(str(value) or '""' for value in values))
            case msgspec.inspect.NoneType():
                pass
            case _:
                return ()
    return tuple(found)


def _alternatives(places: Iterable[msgspec.inspect.Type]) -> Iterator[msgspec.inspect.Type]:
    for place in places:
        while isinstance(place, msgspec.inspect.Metadata):
            place = place.type
        if isinstance(place, msgspec.inspect.UnionType):
            yield from _alternatives(place.types)
        else:
            yield place


def _below(place: msgspec.inspect.Type, step: str) -> Iterator[msgspec.inspect.Type]:
    match place:
        case msgspec.inspect.StructType(fields=fields):
            yield from (field.type for field in fields if field.encode_name == step)
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            yield item
        case msgspec.inspect.DictType(value_type=value):
            yield value
