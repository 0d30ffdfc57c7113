# SPDX-License-Identifier: Apache-2.0
"""RFC 6902 (JSON Patch) and RFC 7396 (JSON Merge Patch) on JSON values (pure).

Values are never changed: each function returns a new document that shares unchanged values, or a
:class:`Misfit` with the reason of the failure. Pointers are tokens, already unescaped (RFC 6901).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

MAX_DEPTH: Final = 200
"""Maximum nesting of a value."""

END: Final = "-"
"""Token for the position after the last item of an array."""


class Why(enum.Enum):
    """Why a patch does not fit a document."""

    MISSING = "missing"  # the target, or its container, does not exist
    INDEX = "index"  # not an index of that array
    DIFFERENT = "different"  # a test found another value
    ROOT = "root"  # the whole document cannot be removed
    INSIDE = "inside"  # a value cannot be moved into itself


class Misfit(Struct, frozen=True):
    """Why a patch does not fit; ``at``: the tokens to the failing position."""

    why: Why
    at: tuple[str, ...]


Tokens = Sequence[str]


def find(document: Any, tokens: Tokens) -> Any:
    """The value at ``tokens``, or a Misfit."""
    value = document
    for depth, token in enumerate(tokens):
        if type(value) is dict:
            if token not in value:
                return Misfit(Why.MISSING, tuple(tokens[: depth + 1]))
            value = value[token]
        elif type(value) is list:
            index = index_of(token)
            if index is None:
                return Misfit(Why.INDEX, tuple(tokens[: depth + 1]))
            if index >= len(value):
                return Misfit(Why.MISSING, tuple(tokens[: depth + 1]))
            value = value[index]
        else:
            return Misfit(Why.MISSING, tuple(tokens[: depth + 1]))
    return value


def add(document: Any, tokens: Tokens, value: Any) -> Any:
    """Set a member, or insert into an array (RFC 6902 §4.1)."""

    def leaf(holder: Any, token: str) -> Any:
        if type(holder) is dict:
            return {**holder, token: value}
        if type(holder) is list:
            index = len(holder) if token == END else index_of(token)
            if index is None or index > len(holder):
                return Misfit(Why.INDEX, tuple(tokens))
            return [*holder[:index], value, *holder[index:]]
        return Misfit(Why.MISSING, tuple(tokens))

    return value if not tokens else _changed(document, tokens, leaf)


def remove(document: Any, tokens: Tokens) -> Any:
    """Remove a member or an item, which must exist (RFC 6902 §4.2)."""

    def leaf(holder: Any, token: str) -> Any:
        if type(holder) is dict:
            if token not in holder:
                return Misfit(Why.MISSING, tuple(tokens))
            return {name: item for name, item in holder.items() if name != token}
        if type(holder) is list:
            index = index_of(token)
            if index is None:
                return Misfit(Why.INDEX, tuple(tokens))
            if index >= len(holder):
                return Misfit(Why.MISSING, tuple(tokens))
            return [*holder[:index], *holder[index + 1 :]]
        return Misfit(Why.MISSING, tuple(tokens))

    return Misfit(Why.ROOT, ()) if not tokens else _changed(document, tokens, leaf)


def replace(document: Any, tokens: Tokens, value: Any) -> Any:
    """Replace the value of a member or an item, which must exist (RFC 6902 §4.3)."""

    def leaf(holder: Any, token: str) -> Any:
        if type(holder) is dict:
            if token not in holder:
                return Misfit(Why.MISSING, tuple(tokens))
            return {**holder, token: value}
        if type(holder) is list:
            index = index_of(token)
            if index is None:
                return Misfit(Why.INDEX, tuple(tokens))
            if index >= len(holder):
                return Misfit(Why.MISSING, tuple(tokens))
            return [*holder[:index], value, *holder[index + 1 :]]
        return Misfit(Why.MISSING, tuple(tokens))

    return value if not tokens else _changed(document, tokens, leaf)


def move(document: Any, source: Tokens, target: Tokens) -> Any:
    """Remove at ``source`` and add at ``target`` (RFC 6902 §4.4)."""
    value = find(document, source)
    if isinstance(value, Misfit):
        return value
    if len(target) > len(source) and list(target[: len(source)]) == list(source):
        return Misfit(Why.INSIDE, tuple(target))
    if list(source) == list(target):
        return document
    without = remove(document, source)
    return without if isinstance(without, Misfit) else add(without, target, value)


def copy(document: Any, source: Tokens, target: Tokens) -> Any:
    """Add the value at ``source`` at ``target`` (RFC 6902 §4.5)."""
    value = find(document, source)
    return value if isinstance(value, Misfit) else add(document, target, value)


def test(document: Any, tokens: Tokens, value: Any) -> Any:
    """Return the document itself if the value at ``tokens`` equals ``value`` (RFC 6902 §4.6)."""
    found = find(document, tokens)
    if isinstance(found, Misfit):
        return found
    return document if same(found, value) else Misfit(Why.DIFFERENT, tuple(tokens))


def merge(target: Any, patch: Any) -> Any:
    """Merge (RFC 7396 §2): objects member by member; null removes, any other value replaces."""
    if type(patch) is not dict:
        return patch
    merged = dict(target) if type(target) is dict else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values (RFC 6902 §4.6): 1 and 1.0 are equal, 1 and true are not."""
    if type(one) is dict:
        return (
            type(other) is dict
            and one.keys() == other.keys()
            and all(same(value, other[name]) for name, value in one.items())
        )
    if type(one) is list:
        return type(other) is list and len(one) == len(other) and all(map(same, one, other))
    if type(one) is bool or type(other) is bool:
        return one is other
    return bool(one == other)


def tokens_of(pointer: str) -> tuple[str, ...] | None:
    """Tokens of a JSON Pointer (RFC 6901); None if it is invalid."""
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        return None
    tokens = pointer[1:].split("/")
    if "~" not in pointer:
        return tuple(tokens)
    if any(token.replace("~0", "").replace("~1", "").count("~") for token in tokens):
        return None
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in tokens)


def index_of(token: str) -> int | None:
    """Parse an array index: digits without a leading zero. None if it is invalid."""
    if not token.isascii() or not token.isdigit() or len(token) > 9:
        return None
    if len(token) > 1 and token.startswith("0"):
        return None
    return int(token)


def too_deep(value: Any) -> bool:
    """Whether a value is nested more than MAX_DEPTH deep."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for each in level:
            if type(each) is dict:
                below.extend(item for item in each.values() if type(item) in (dict, list))
            elif type(each) is list:
                below.extend(item for item in each if type(item) in (dict, list))
        if not below:
            return False
        level = below
    return True


def _changed(document: Any, tokens: Tokens, leaf: Callable[[Any, str], Any]) -> Any:
    """``document`` with the container at ``tokens[:-1]`` replaced by the result of ``leaf``."""
    holders = [document]
    for depth in range(1, len(tokens)):
        holder = find(holders[-1], tokens[depth - 1 : depth])
        if isinstance(holder, Misfit):
            return Misfit(holder.why, tuple(tokens[:depth]))
        holders.append(holder)
    made = leaf(holders.pop(), tokens[-1])
    if isinstance(made, Misfit):
        return made
    for depth in range(len(tokens) - 2, -1, -1):
        holder, token = holders[depth], tokens[depth]
        if type(holder) is dict:
            made = {**holder, token: made}
        else:
            index = int(token)
            made = [*holder[:index], made, *holder[index + 1 :]]
    return made
