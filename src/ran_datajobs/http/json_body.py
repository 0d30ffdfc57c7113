# SPDX-License-Identifier: Apache-2.0
"""Decodes JSON bodies into typed values, or into an error with the JSON pointer of the fault. Pure."""

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
_BOUND: Final = re.compile(r"(of length )?(>=|<=|>|<) (\S+)")
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
_MAX_NAME: Final = 128
TYPED_STEPS: Final = 3
"""Maximum depth of a pointer into a typed body: names of private properties can occur below."""

MOST_STEPS: Final = 16
"""Maximum depth of a pointer."""

MAX_SHOWN: Final = 40
"""Maximum number of characters of a wrong value in an error text."""

NESTED_TOO_DEEPLY: Final = "the body is nested more deeply than can be read, which is about 1,000 levels"

# Matches up to the first unpaired surrogate, which is the group; whole pairs are skipped.
_HALF_A_PAIR: Final = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)*+"
    rb"(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)
_MAX_HALVES: Final = 1000
_Body = TypeVar("_Body")


class Key:
    """A name in an object. No two keys are equal, so that members with the same name are all kept."""

    __slots__ = ("spelt",)

    def __init__(self, spelt: str) -> None:
        self.spelt = spelt


members_decoder: Final = msgspec.json.Decoder(dict[Key, Raw], dec_hook=lambda _type, spelt: Key(spelt))
"""Reads the members of an object, in order and undecoded; a name can occur twice."""

elements_decoder: Final = msgspec.json.Decoder(list[Raw])
"""Reads the elements of a list, undecoded."""


def json_text(body: bytes) -> bytes:
    """The JSON text that a client sent, without a byte order mark at its start (RFC 8259 §8.1).

    Raises InvalidRequest if it begins like UTF-16 or UTF-32. Does not check that the rest is UTF-8.
    """
    encoding = json.detect_encoding(body)
    if encoding.startswith("utf-8"):
        return body.removeprefix(codecs.BOM_UTF8)
    end = encoding[7:].upper() or ("LE" if body.startswith(b"\xff") else "BE")  # of the byte order mark
    raise InvalidRequest(f"the body must be UTF-8, and it is {encoding[:6].upper()} {end}")


def decoded(body: bytes, decoder: msgspec.json.Decoder[_Body], most_steps: int = TYPED_STEPS) -> _Body:
    """Decode ``body`` with ``decoder``. Raises InvalidRequest; for a wrong shape or type with the pointer of
    the first fault, for an unpaired surrogate with its pointer, at most ``most_steps`` deep."""
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise InvalidRequest(NESTED_TOO_DEEPLY) from None
    except msgspec.ValidationError as error:
        raise InvalidRequest.at(*fault_of(error, body, decoder)) from None
    except msgspec.DecodeError as error:
        raise malformed(body, error, most_steps) from None


def malformed(body: bytes, error: msgspec.DecodeError, most_steps: int = MOST_STEPS) -> InvalidRequest:
    """The refusal of a ``body`` that is not JSON, from the decoder's ``error``.

    An unpaired surrogate is well-formed by JSON's grammar, but not Unicode text: it is reported with its JSON
    pointer, at most ``most_steps`` deep.
    """
    pointer = _place_of_half_a_pair(body, most_steps)
    if pointer is None:
        words = str(error)
        if words == "Input data was truncated":
            words = "JSON is malformed: it ends before its last value is complete"
        return InvalidRequest(words)
    return InvalidRequest.at(pointer, "is not a Unicode text: it has half of a surrogate pair")


def shortened(name: str) -> str:
    """A name from a client for an error text, cut if it is very long."""
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "…"


def pointer_step(name: str) -> str:
    """A shortened name as one step of a JSON pointer (RFC 6901)."""
    return shortened(name).replace("~", "~0").replace("/", "~1")


def half_of_a_pair(body: bytes) -> int | None:
    """Offset of the first unpaired surrogate; None if there is none."""
    found = _HALF_A_PAIR.match(body)
    return found.start(1) if found else None


def _place_of_half_a_pair(body: bytes, most_steps: int) -> str | None:
    """The pointer of the first unpaired surrogate; of the object if it is in a name. None if there is none,
    if there are very many, or if the body has other faults of syntax."""
    # Replace the first one by an escape that occurs nowhere else: each value with it is on the path.
    unused = next((code for code in range(0xE000, 0xF900) if b"\\u%04x" % code not in body), 0xFFFD)
    marker = b"\\u%04x" % unused
    mended, at = bytearray(body), 0
    for replacement in [marker] + [b"\\ufffd"] * (_MAX_HALVES - 1):
        half = _HALF_A_PAIR.match(body, at)
        if half is None:
            break
        mended[half.start(1) : half.end()] = replacement
        at = half.end()
    if at == 0:
        return None
    steps, text = "", bytes(mended)
    try:
        for _ in range(most_steps):
            found = next(((step, raw) for step, raw in _children(text) if marker in raw), None)
            if found is None:
                break
            steps, text = f"{steps}/{found[0]}", found[1]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return "#" + steps


def _children(text: bytes) -> Iterator[tuple[str, bytes]]:
    """The pointer step and JSON text of each value in an object or a list; nothing for other values."""
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
    """The JSON pointer of the fault in ``body``, and the text of what is required and what is given there.

    ``below``: the steps to ``body`` in what the client sent. The key of a free-form object and the values
    below it are not shown.
    """
    words, _, place = str(error).partition(" - at `")
    steps = [name or number for name, number in _PATH_STEP.findall(place.rstrip("`"))]
    if missing := _MISSING.fullmatch(words):
        steps.append(missing[1])
        return _pointer([*below, *steps]), "is missing"
    if unknown := _UNKNOWN.fullmatch(words):
        steps.append(pointer_step(unknown[1]))
        return _pointer([*below, *steps]), "is not known here: take it out"
    given = None if "..." in steps else _value_at(body, steps)
    return _pointer([*below, *steps]), in_words(words, given, choices_of(decoder.type, steps))


def in_words(words: str, given: Raw | str | None = None, choices: Sequence[str] = ()) -> str:
    """The decoder's message ``words`` for a wrong value, reworded like ``must be a string; it is 7``.

    ``given``: the value, if it may be shown; ``choices``: the values that are allowed.
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
    """A value for an error text: strings and numbers as JSON, cut if long; objects and lists only by kind."""
    if isinstance(value, dict | list | tuple):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, Raw):
        text = bytes(value)[: 4 * MAX_SHOWN].decode("utf-8", "ignore")
    else:
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    kind = {"{": "an object", "[": "a list"}.get(text[:1])
    return kind or (text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")


def _pointer(steps: Iterable[str]) -> str:
    return "#" + "".join(f"/{step}" for step in steps if step != "...")


def _bound(words: str) -> str:
    """``of length <= 3`` in words."""
    if found := _BOUND.fullmatch(words):
        return f" {_COMPARED[found[2]]} {found[3]}{' in length' if found[1] else ''}"
    return f" {words}" if words else ""


def _value_at(body: bytes, steps: Sequence[str]) -> Raw | None:
    value = body.lstrip(b" \t\r\n")
    try:
        for step in steps:
            value = [raw for name, raw in _children(value) if name == step][-1].lstrip(b" \t\r\n")
    except (IndexError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Raw(value)


def choices_of(wanted: object, steps: Sequence[str] = ()) -> tuple[str, ...]:
    """The values that the type allows at ``steps``, if they can be listed."""
    found: dict[str, None] = {}
    for node in _types_at(msgspec.inspect.type_info(wanted), steps):
        match node:
            case msgspec.inspect.EnumType(cls):
                found.update(dict.fromkeys(str(member.value) for member in cls))
            case msgspec.inspect.LiteralType(values):
                found.update(dict.fromkeys(str(value) or '""' for value in values))
            case msgspec.inspect.NoneType():
                pass
            case _:
                return ()
    return tuple(found)


def _types_at(node: msgspec.inspect.Type, steps: Sequence[str]) -> Iterator[msgspec.inspect.Type]:
    """The types that a value at ``steps`` can have."""
    match node:
        case msgspec.inspect.Metadata(type=inner):
            yield from _types_at(inner, steps)
        case msgspec.inspect.UnionType(types=types):
            for one in types:
                yield from _types_at(one, steps)
        case _ if not steps:
            yield node
        case msgspec.inspect.StructType(fields=fields):
            for field in fields:
                if field.encode_name == steps[0]:
                    yield from _types_at(field.type, steps[1:])
        case msgspec.inspect.ListType(item_type=inner) | msgspec.inspect.VarTupleType(item_type=inner):
            yield from _types_at(inner, steps[1:])
        case msgspec.inspect.DictType(value_type=inner):
            yield from _types_at(inner, steps[1:])
