# SPDX-License-Identifier: Apache-2.0
"""Read and check JSON files of the user; report faults in them by line and column.

A file may have hundreds of megabytes: a valid one is scanned once, and no objects are built from it.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Raw

from ran_datajobs.cli.api import Refused
from ran_datajobs.errors import InvalidRequest, UsageError
from ran_datajobs.http.json_body import (
    elements_decoder,
    half_of_a_pair,
    json_text,
    members_decoder,
    pointer_step,
)

_STDIN: Final = "<stdin>"
_check: Final = msgspec.json.Decoder(Raw)
_AT_BYTE: Final = re.compile(r"^JSON is malformed: (.*) \(byte (\d+)\)$")
_BLANKS: Final = re.compile(rb"[ \t\r\n]*")
_NAME: Final = re.compile(rb'[ \t\r\n]*"(?:[^"\\]|\\.)*+"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_NEXT: Final = re.compile(rb"[ \t\r\n]*,?[ \t\r\n]*")
_LONGEST_WORD: Final = 40
_WORD: Final = re.compile(rb"[\w.+-]+", re.ASCII)
_HEAD: Final = re.compile(rb"[\w.+-]*\Z", re.ASCII)
_CLOSING: Final = "what closes the objects, lists and texts that are open"
_VALUE: Final = "an object, a list, a text in double quotes, a number, true, false or null"
_NEEDED: Final = {
    "invalid character": _VALUE,
    "invalid number": "a number as JSON has it: no zero in front, digits on both sides of a point",
    "invalid escaped character": 'one of " \\ / b f n r t u',
    "invalid character in unicode escape": "four hexadecimal digits",
    "trailing characters": "the end of the file",
    "trailing comma in array": "a value behind the comma, or no comma",
    "trailing comma in object": "a name in double quotes behind the comma, or no comma",
    "expected '\"'": "a name in double quotes",
}
"""Expected input for each error text of msgspec."""


class Document:
    """A JSON file: its ``name`` for messages, and its ``body``."""

    def __init__(self, name: str, body: bytes) -> None:
        self.name = name
        self.body = body

    @contextlib.contextmanager
    def located(self) -> Iterator[None]:
        """Add the position in the file to the faults that the service reports in the block."""
        try:
            yield
        except Refused as error:
            if not any(pointer.startswith("#") for pointer, _ in error.faults):
                raise
            messages = [f"{self._place(pointer)}{pointer}: {fault}" for pointer, fault in error.faults]
            raise UsageError(*messages, *error.more) from error

    def _place(self, pointer: str) -> str:
        if not pointer.startswith("#"):
            return ""
        return position(self.name, self.body, offset_of(self.body, pointer)) + ": "


def read_document(file: str) -> Document:
    """Read a file, or standard input for ``-``. Raises UsageError when it is unreadable or not JSON."""
    name = _STDIN if file == "-" else file
    body = _read(file)
    try:
        text = json_text(body)
        _check.decode(text)
        text.isascii() or text.decode()
    except InvalidRequest as error:
        raise UsageError(f"{name}:1:1: {error}".replace("the body", "the file")) from error
    except UnicodeDecodeError as error:
        what = f"got the byte 0x{text[error.start]:02x}, which is not UTF-8: save the file as UTF-8"
        raise UsageError(f"{position(name, text, error.start)}: {what}") from error
    except msgspec.DecodeError as error:
        at, what = fault(text, str(error))
        raise UsageError(f"{position(name, text, at)}: {what}") from error
    except RecursionError:
        pass  # the service checks the depth
    return Document(name, text)


def _read(file: str) -> bytes:
    try:
        if file != "-":
            return Path(file).read_bytes()
        if sys.stdin is None:
            raise UsageError("standard input is closed: name a file, or pipe the JSON in")
        return sys.stdin.buffer.read()
    except OSError as error:
        what = "standard input" if file == "-" else file
        raise UsageError(f"{what} cannot be read: {error.strerror or error}") from error


def position(name: str, text: bytes, at: int) -> str:
    """``FILE:LINE:COLUMN`` of a byte of a text; both count from 1, columns in characters."""
    start = text.rfind(b"\n", 0, at) + 1
    column = len(text[start:at].decode("utf-8", "replace")) + 1
    line = text.count(b"\n", 0, start) + 1
    return f"{name}:{line}:{column}"


def fault(text: bytes, error: str) -> tuple[int, str]:
    """Return the offset and a description of the fault that msgspec reported as ``error``."""
    found = _AT_BYTE.match(error)
    if (found is None or "escape" in error or "surrogate" in error) and (
        half := half_of_a_pair(text)
    ) is not None:
        return half, f"got {text[half : half + 6].decode()}, needed both halves of a surrogate pair"
    if found is None:
        at = len(text.rstrip())
        return at, f"got the end of the file, needed {_CLOSING if at else 'a JSON text'}"
    words, at = found[1], int(found[2])
    if words == "trailing characters":
        at -= 1
    if words == "invalid character" and text[at : at + 1] < b" ":
        return at, f"got {_got(text, at)} inside a text, needed its escape, such as \\n"
    if words in ("invalid character", "invalid number"):
        at -= len(_HEAD.search(text, max(0, at - _LONGEST_WORD), at)[0])  # type: ignore[index]
    return at, f"got {_got(text, at)}, needed {_NEEDED.get(words) or words.removeprefix('expected ')}"


def _got(text: bytes, at: int) -> str:
    if word := _WORD.match(text, at, at + _LONGEST_WORD):
        return repr(word[0].decode())
    shown = text[at : at + 4].decode("utf-8", "ignore")[:1]
    if not shown:
        return "the end of the file"
    return repr(shown) if shown.isprintable() else f"the character U+{ord(shown):04X}"


def offset_of(text: bytes, pointer: str) -> int:
    """Offset of the value that a JSON pointer names, or of its innermost enclosing value that exists.

    Names match as in the service: surrounding blanks and case are ignored, and the last of two equal names
    is used.
    """
    start = _after(_BLANKS, text, 0)
    value = text
    for step in pointer.removeprefix("#").split("/")[1:]:
        found = _inside(text, start, value, step)
        if found is None:
            break
        start, value = found
    return start


def _inside(text: bytes, start: int, value: bytes, step: str) -> tuple[int, bytes] | None:
    at = start + 1
    match text[start : start + 1]:
        case b"[" if step.isdecimal():
            at = _after(_BLANKS, text, at)
            for number, raw in enumerate(elements_decoder.decode(value)):
                if number == int(step):
                    return at, bytes(raw)
                at = _after(_NEXT, text, at + len(memoryview(raw)))
        case b"{":
            found: tuple[int, bytes] | None = None
            for key, raw in members_decoder.decode(value).items():
                at = _after(_NAME, text, at)
                if pointer_step(key.spelt).strip().lower() == step.strip().lower():
                    found = at, bytes(raw)
                at = _after(_NEXT, text, at + len(memoryview(raw)))
            return found
    return None


def _after(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
