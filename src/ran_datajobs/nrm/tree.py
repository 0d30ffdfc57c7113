# SPDX-License-Identifier: Apache-2.0
"""Stores of managed objects for patches and reads: the port and two implementations (pure).

Objects are named by key (:func:`ran_datajobs.nrm.fdn.key`). Attribute values are never changed in place: a
change puts a new dict, which may share unchanged values with the old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from ran_datajobs.nrm.names import parent_of

Attributes = dict[str, Any]

Before = list[tuple[str, Attributes | None]]
"""Objects before a change, by key (None: it did not exist), in the order in which to restore them."""


class Objects(Protocol):
    """A store of managed objects."""

    def attributes(self, key: str) -> Attributes | None:
        """Attributes of an object, read-only; None if it does not exist."""
        ...

    def children(self, key: str) -> Iterable[str]:
        """Keys of the children, in a stable order; of the root for the empty key."""
        ...

    def put(self, key: str, attributes: Attributes) -> None:
        """Create an object, whose parent exists, or replace its attributes."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object that exists and has no children."""
        ...


class Tree:
    """Managed objects in memory."""

    def __init__(self, objects: Iterable[tuple[str, Attributes]] = ()) -> None:
        """``objects``: in any order in which parents precede their children."""
        self._attributes: dict[str, Attributes] = {}
        self._children: dict[str, dict[str, None]] = {}
        for key, attributes in objects:
            self.put(key, attributes)

    def __len__(self) -> int:
        return len(self._attributes)

    def attributes(self, key: str) -> Attributes | None:
        return self._attributes.get(key)

    def children(self, key: str) -> Iterable[str]:
        return tuple(self._children.get(key, ()))

    def put(self, key: str, attributes: Attributes) -> None:
        if key not in self._attributes:
            self._children.setdefault(parent_of(key), {})[key] = None
        self._attributes[key] = attributes

    def delete(self, key: str) -> None:
        del self._attributes[key]
        siblings = self._children[parent_of(key)]
        del siblings[key]
        if not siblings:
            del self._children[parent_of(key)]

    def items(self) -> Iterator[tuple[str, Attributes]]:
        """Every object, parents before their children, in an order that recreates the same tree."""
        return iter(self._attributes.items())


class Overlay:
    """Pending changes over another store, applied to it by :meth:`commit`."""

    def __init__(self, beneath: Objects) -> None:
        self._beneath = beneath
        self._changed: dict[str, Attributes | None] = {}
        self._born: dict[str, dict[str, None]] = {}

    def attributes(self, key: str) -> Attributes | None:
        if key in self._changed:
            return self._changed[key]
        return self._beneath.attributes(key)

    def children(self, key: str) -> Iterable[str]:
        for child in self._beneath.children(key):
            if self._changed.get(child, _THERE) is not None:
                yield child
        for child in self._born.get(key, ()):
            if self._changed[child] is not None:
                yield child

    def put(self, key: str, attributes: Attributes) -> None:
        if key not in self._changed and self._beneath.attributes(key) is None:
            self._born.setdefault(parent_of(key), {})[key] = None
        self._changed[key] = attributes

    def delete(self, key: str) -> None:
        self._changed[key] = None

    def commit(self) -> Before:
        """Apply the changes to the store beneath. Returns the previous state, with which :func:`restore`
        undoes the commit."""
        before: Before = []
        for key in sorted(self._changed, key=_depth, reverse=True):
            if self._changed[key] is None and (old := self._beneath.attributes(key)) is not None:
                before.append((key, old))
                self._beneath.delete(key)
        before.reverse()
        born: Before = []
        for key in sorted(self._changed, key=_depth):
            new = self._changed[key]
            if new is not None:
                old = self._beneath.attributes(key)
                (born if old is None else before).append((key, old))
                self._beneath.put(key, new)
        self._changed, self._born = {}, {}
        return [*before, *reversed(born)]


_THERE: Attributes = {}


def restore(objects: Objects, before: Before) -> None:
    """Undo a commit, given its return value."""
    for key, attributes in before:
        if attributes is None:
            objects.delete(key)
        else:
            objects.put(key, attributes)


def walk(objects: Objects, key: str, depth: int | None = None) -> Iterator[tuple[str, int]]:
    """Yield the keys of the subtree in pre-order with their level, the base (level 0) first.

    ``depth``: maximum level below the base; None: unlimited. The root (empty key) is level 0 but not an
    object: it is not among the keys.
    """
    pending: list[Iterator[str]] = []
    if key:
        if objects.attributes(key) is None:
            return
        yield key, 0
    pending.append(iter(objects.children(key)))
    while pending:
        if depth is not None and len(pending) > depth:
            pending.pop()
            continue
        child = next(pending[-1], None)
        if child is None:
            pending.pop()
            continue
        yield child, len(pending)
        pending.append(iter(objects.children(child)))


def _depth(key: str) -> int:
    return key.count("/")
