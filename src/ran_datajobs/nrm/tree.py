# SPDX-License-Identifier: Apache-2.0
"""Trees of managed objects: the store that patches and reads work on, and two of its kinds. Pure.

Objects are named by key (:func:`ran_datajobs.nrm.fdn.key`). Attribute values are never changed in place: a
change puts a new dict, which may share what it did not touch with the old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from ran_datajobs.nrm.names import parent_of

Attributes = dict[str, Any]

Before = list[tuple[str, Attributes | None]]
"""What objects were before a change, by key; None: not there. In the order in which it is to be restored."""


class Objects(Protocol):
    """A store of managed objects."""

    def attributes(self, key: str) -> Attributes | None:
        """The attributes of an object, not to be changed; None when it does not exist."""
        ...

    def children(self, key: str) -> Iterable[str]:
        """The keys of the objects directly below, in a stable order; the root's for the empty key."""
        ...

    def put(self, key: str, attributes: Attributes) -> None:
        """Create an object, whose parent exists, or give it other attributes."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object that exists and has no children."""
        ...


class Tree:
    """Managed objects in memory."""

    def __init__(self, objects: Iterable[tuple[str, Attributes]] = ()) -> None:
        """Takes objects in any order in which parents come before their children."""
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
        """Every object, parents before their children, in an order that rebuilds the same tree."""
        return iter(self._attributes.items())


class Overlay:
    """Changes over another store, which nobody sees until :meth:`commit`."""

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
        """Put everything into the store beneath. Gives what was there before: restored in this order, it
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
    """Undo a commit with what it gave back."""
    for key, attributes in before:
        if attributes is None:
            objects.delete(key)
        else:
            objects.put(key, attributes)


def walk(objects: Objects, key: str, depth: int | None = None) -> Iterator[tuple[str, int]]:
    """The keys of the subtree in pre-order with their level, the base (level 0) first.

    ``depth``: no deeper than that many levels below the base; None: all of it. The empty key, the root, is
    level 0 too but no object: it is not among the keys.
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
