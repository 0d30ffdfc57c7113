# SPDX-License-Identifier: Apache-2.0
"""Lenient reading of JSON documents of peers, with every member kept. Pure.

A usual decoder keeps the last of two members with one name; here both are returned, so that a contradiction
can be detected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from ran_datajobs.http.json_body import elements_decoder, got, members_decoder

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Some stacks write it in front of every UTF-8 text; RFC 8259 §8.1 lets a reader skip it."""

NULL: Final = Raw(b"null")

_BLANKS: Final = b" \t\r\n"
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,15}(?:\.0*)?")
_FLOAT_IS_EXACT: Final = 2.0**53
_ESCAPES: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_REPLACEMENT: Final = rb"\ufffd"
_STRINGS: Final = re.compile(rb'"((?:[^"\\]|\\.)*+)"([ \t\r\n]*+:)?', re.DOTALL)

_Document = TypeVar("_Document")


class Unreadable(ValueError):
    """Bytes cannot be read. The text completes "it cannot be read: …"."""


def text_of(body: bytes) -> bytes:
    """``body`` without one byte order mark at its start, and without blanks around it. The text is not
    checked to be JSON. Raises Unreadable.

    Half of a surrogate pair, which occurs in a text that was cut at a fixed length, becomes U+FFFD: a decoder
    would refuse the whole document for it.
    """
    text = body.removeprefix(BYTE_ORDER_MARK)
    try:
        # A decoder does not check the characters of a Raw member, so the whole text is checked first.
        if not text.isascii():
            text.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 (byte {error.start})") from None
    text = text.strip(_BLANKS)
    if not text:
        raise Unreadable("it is empty")
    if b"\\" in text and (b"\\ud" in text or b"\\uD" in text):  # a search for one byte is the fastest
        return _ESCAPES.sub(lambda found: _REPLACEMENT if found[1] else found[0], text)
    return text


def is_object(text: bytes | Raw) -> bool:
    """Whether the JSON ``text`` is an object, by its first character."""
    return bytes(memoryview(text)[:1]) == b"{"


def is_list(text: bytes | Raw) -> bool:
    """Whether the JSON ``text`` is a list, by its first character."""
    return bytes(memoryview(text)[:1]) == b"["


def members(text: bytes | Raw) -> list[tuple[str, Raw]]:
    """All members of an object in order, also those of one name; none of another value. Raises Unreadable."""
    if not is_object(text):
        return []
    return [(name.spelt, value) for name, value in _decoded(members_decoder, text).items()]


def items(text: bytes | Raw) -> list[Raw]:
    """The items of a list. Raises Unreadable."""
    return _decoded(elements_decoder, text)


def _decoded(decoder: msgspec.json.Decoder[_Document], text: bytes | Raw) -> _Document:
    try:
        return decoder.decode(text)
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise Unreadable(f"it is no JSON document ({error})") from None


def value_of(text: bytes | Raw) -> Any:
    """A member's value; ``None`` also if it is nested too deeply or a number is out of range."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def whole_number(value: object) -> int | None:
    """A whole number however it is written: ``108``, ``108.0``, ``"108"``; ``None`` for everything else."""
    if isinstance(value, str):
        text = value.strip()
        return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _FLOAT_IS_EXACT else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def words_of(value: object) -> str:
    """A text, or a number as text; empty for everything else."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


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
            yield str(value_of(b'"%b"' % found[1]))


def shown(value: Raw) -> str:
    """A JSON value for messages: printable, on one line, cut if it is long. The contents of an object or a
    list are left out, since they may be confidential."""
    return " ".join("".join(char if char.isprintable() else " " for char in got(value)).split())
