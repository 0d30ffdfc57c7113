# SPDX-License-Identifier: Apache-2.0
"""Streaming encoders of read answers, in constant memory (3GPP TS 32.158 A.2; pure).

A None among the objects yields an empty piece at the same position of the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from ran_datajobs.nrm.names import class_of, id_of, parent_of
from ran_datajobs.nrm.tree import Attributes, Objects

_PIECE: Final = 64 * 1024
_encode: Final = msgspec.json.Encoder().encode

FlatObject = dict[str, Any]


class ByClass:
    """Wrapper of a store that groups children by class, as a hierarchical answer does."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def attributes(self, key: str) -> Attributes | None:
        """Attributes of an object; None if it does not exist."""
        return self._objects.attributes(key)

    def children(self, key: str) -> Iterable[str]:
        """Keys of the children, grouped by class in the order of the first child of each."""
        by_class: dict[str, list[str]] = {}
        for child in self._objects.children(key):
            by_class.setdefault(class_of(child), []).append(child)
        return [child for children in by_class.values() for child in children]

    def put(self, key: str, attributes: Attributes) -> None:
        """Create or change an object of the wrapped store."""
        self._objects.put(key, attributes)

    def delete(self, key: str) -> None:
        """Delete an object of the wrapped store."""
        self._objects.delete(key)


def flat(objects: Iterable[FlatObject | None]) -> Iterator[bytes]:
    """Encode the objects as a JSON array."""

    def pieces() -> Iterator[bytes]:
        separator = b"["
        for each in objects:
            if each is None:
                yield b""
                continue
            yield separator + _encode(each)
            separator = b","
        yield b"[]" if separator == b"[" else b"]"

    return _gathered(pieces())


def hierarchical(objects: Iterable[tuple[str, Attributes] | None], base: str) -> Iterator[bytes]:
    """Encode a document from the base (empty: the root) down to ``objects``.

    ``objects``: (key, selected attributes) in pre-order, with the children of one class adjacent.
    """
    return _gathered(_hierarchical(objects, base))


def _hierarchical(objects: Iterable[tuple[str, Attributes] | None], base: str) -> Iterator[bytes]:
    yield b"{" + _id(base) if base else b"{"
    comma = bool(base)  # the open object has a member
    open_keys = [base]
    open_class = [""]  # per open object: class whose array is open in it
    for each in objects:
        if each is None:
            yield b""
            continue
        key, attributes = each
        way = []
        while key != open_keys[-1] and not _within(key, open_keys[-1]):
            yield (b"]" if open_class[-1] else b"") + b"}"
            open_keys.pop()
            open_class.pop()
            comma = True
        above = key
        while above != open_keys[-1]:
            way.append(above)
            above = parent_of(above)
        for step in reversed(way):
            name = class_of(step)
            if open_class[-1] == name:
                yield b",{" + _id(step)
            else:
                end = b"]" if open_class[-1] else b""
                yield end + (b"," if comma or end else b"") + _encode(name) + b":[{" + _id(step)
                open_class[-1] = name
            open_keys.append(step)
            open_class.append("")
            comma = True
        yield b',"attributes":' + _encode(attributes)
    while open_keys:
        yield (b"]" if open_class.pop() else b"") + b"}"
        open_keys.pop()


def _within(key: str, above: str) -> bool:
    return not above or key.startswith(above + "/")


def _id(key: str) -> bytes:
    return b'"id":' + _encode(id_of(key))


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Combine pieces into larger ones; empty pieces are passed through."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        if not piece:
            yield piece
            continue
        waiting.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
