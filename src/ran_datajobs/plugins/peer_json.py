# SPDX-License-Identifier: Apache-2.0
"""Lenient reading of JSON documents of peers, with every member kept. Pure.

A usual decoder keeps the last of two members with one name; here both are returned, so that a contradiction
can be detected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Some stacks write it in front of every UTF-8 text; RFC 8259 §8.1 lets a reader skip it."""

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Exceptions that decoding an untrusted text can raise."""

_SHOWN: Final = 60
_BLANKS: Final = b" \t\r\n"
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,15}(?:\.0*)?")
_FLOAT_IS_EXACT: Final = 2.0**53
_ESCAPES: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_REPLACEMENT: Final = rb"\ufffd"
_STRINGS: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"([ \t\r\n]*+:)?', re.DOTALL)


class Defect(Struct, frozen=True):
    """Why bytes cannot be read, in words that complete "it cannot be read: …"."""

    cause: str


class _Name:
    """The name of a member. No two are equal, so that a decoder keeps all members of an object."""

    __slots__ = ("spelt",)

    def __init__(self, spelt: str) -> None:
        self.spelt = spelt


_MEMBERS: Final = msgspec.json.Decoder(dict[_Name, Raw], dec_hook=lambda _type, spelt: _Name(spelt))
_ITEMS: Final = msgspec.json.Decoder(list[Raw])


def text_of(body: bytes) -> bytes | Defect:
    """``body`` without one byte order mark at its start. The text is not checked to be JSON.

    Half of a surrogate pair, which occurs in a text that was cut at a fixed length, becomes U+FFFD: a decoder
    would refuse the whole document for it.
    """
    text = body.removeprefix(BYTE_ORDER_MARK)
    if not text or text.isspace():
        return Defect("it is empty")
    try:
        # A decoder does not check the characters of a Raw member, so the whole text is checked first.
        if not text.isascii():
            text.decode()
    except UnicodeDecodeError as error:
        return Defect(f"it is not UTF-8 (byte {error.start})")
    if b"\\" in text and (b"\\ud" in text or b"\\uD" in text):  # a search for one byte is the fastest
        return _ESCAPES.sub(lambda found: _REPLACEMENT if found[1] else found[0], text)
    return text


def defect_of(error: Exception) -> Defect:
    """The defect that one of :data:`NOT_JSON` describes."""
    if isinstance(error, RecursionError):
        return Defect("it is nested too deeply")
    return Defect(f"it is no JSON document ({error})")


def is_object(text: bytes | Raw) -> bool:
    """Whether the JSON ``text`` is an object, by its first character."""
    return _first(text) == b"{"


def is_list(text: bytes | Raw) -> bool:
    """Whether the JSON ``text`` is a list, by its first character."""
    return _first(text) == b"["


def is_null(text: bytes | Raw) -> bool:
    """Whether the JSON ``text`` is ``null``, by its first character."""
    return _first(text) == b"n"


def _first(text: bytes | Raw) -> bytes:
    start = bytes(memoryview(text)[:1])
    return bytes(text).lstrip(_BLANKS)[:1] if start and start in _BLANKS else start


def members(text: bytes | Raw) -> list[tuple[str, Raw]]:
    """All members of an object in order, also those of one name. Raises one of :data:`NOT_JSON`."""
    return [(name.spelt, value) for name, value in _MEMBERS.decode(text).items()]


def items(text: bytes | Raw) -> list[Raw]:
    """The items of a list. Raises one of :data:`NOT_JSON`."""
    return _ITEMS.decode(text)


def value_of(text: bytes | Raw) -> Any:
    """A member's value; an empty object if it is nested too deeply or a number out of range."""
    try:
        return msgspec.json.decode(text)
    except NOT_JSON:
        return {}


def whole_number(value: object) -> int | None:
    """A whole number however it is written: ``108``, ``108.0``, ``"108"``; ``None`` for everything else."""
    if isinstance(value, str):
        text = value.strip()
        return int(text.partition(".")[0]) if text.isascii() and _WHOLE.fullmatch(text) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _FLOAT_IS_EXACT else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def words_of(value: object) -> str:
    """A text, or a number as text; empty for everything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


def name_of(value: object) -> str | int | None:
    """An identifier: a text, or a whole number; ``None`` for everything else."""
    return value if isinstance(value, str) else whole_number(value)


def folded(name: str) -> str:
    """``name`` reduced to its letters and digits, without case, to compare spellings."""
    return "".join(char for char in name.casefold() if char.isalnum())


def names_in(text: bytes) -> Iterator[str]:
    """The name of every member at any depth of a valid JSON ``text``."""
    for found in _STRINGS.finditer(text):
        if found[2] is not None:
            yield str(value_of(b'"%b"' % found[1])) if b"\\" in found[1] else found[1].decode()


def shown(value: bytes | Raw) -> str:
    """A JSON value for messages: printable, on one line, at most 60 characters. The contents of an object or
    a list are left out, since they may be confidential."""
    if is_object(value):
        return "an object"
    if is_list(value):
        return "a list"
    line = bytes(memoryview(value)[: 8 * _SHOWN]).decode(errors="replace")
    line = " ".join("".join(char if char.isprintable() else " " for char in line).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
