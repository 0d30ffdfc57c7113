# SPDX-License-Identifier: Apache-2.0
"""View of one data producer on a network: its elements, and their ancestors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ran_datajobs.nrm import fdn, selectors
from ran_datajobs.nrm.names import parent_of
from ran_datajobs.nrm.select import Scoped, Selection, scoped
from ran_datajobs.nrm.selectors import Selectors
from ran_datajobs.nrm.tree import Attributes, Objects

_ELEMENT: Final = "ManagedElement="


def element_of(key: str) -> str:
    """Key of the topmost ManagedElement that is or contains an object; empty above the elements."""
    at = key.find(_ELEMENT)
    while at > 0 and key[at - 1] != "/":
        at = key.find(_ELEMENT, at + 1)
    if at < 0:
        return ""
    end = key.find("/", at)
    return key if end < 0 else key[:end]


class ProducerView:
    """Store with only the elements of one data producer.

    The ancestors of the elements exist in it, but do not belong to the producer: :meth:`owns` is False for
    them, and a read does not select them.
    """

    def __init__(self, network: Objects, elements: Iterable[str]) -> None:
        self._network = network
        self._elements = frozenset(elements)
        self._latest = ""
        self._above: dict[str, dict[str, None]] = {}
        for element in elements:
            for each in fdn.ancestors(element):
                self._above.setdefault(parent_of(each), {})[each] = None

    def owns(self, key: str) -> bool:
        """Whether an object is one of the producer's elements or is contained in one."""
        if key in self._elements or (self._latest and key.startswith(self._latest)):
            return True
        for each in fdn.ancestors(key):
            if each in self._elements:
                self._latest = f"{each}/"  # the next keys are mostly in the same element
                return True
        return False

    def attributes(self, key: str) -> Attributes | None:
        """Attributes of an object, read-only; None if it does not exist for the producer."""
        return self._network.attributes(key) if key in self._above or self.owns(key) else None

    def children(self, key: str) -> Iterable[str]:
        """Keys of the children, in a stable order."""
        if key not in self._above:
            return self._network.children(key) if self.owns(key) else ()
        return tuple(child for child in self._above[key] if self._network.attributes(child) is not None)

    def put(self, key: str, attributes: Attributes) -> None:
        """Create an object of the producer, whose parent exists, or replace its attributes."""
        self._network.put(key, attributes)

    def delete(self, key: str) -> None:
        """Delete an object of the producer that exists and has no children."""
        self._network.delete(key)

    def scoped(self, base: str, wanted: Selection) -> Iterator[Scoped]:
        """Yield the objects from ``base`` to the deepest level, in pre-order; attributes only for its own."""
        return self._own(scoped(self, base, wanted))

    def selected(self, wanted: Selectors) -> Iterator[Scoped]:
        """Yield the objects that were looked at, in pre-order; selected attributes only for its own."""
        return self._own(selectors.scoped(self, wanted))

    def _own(self, objects: Iterable[Scoped]) -> Iterator[Scoped]:
        for key, level, attributes in objects:
            yield key, level, attributes if attributes is not None and self.owns(key) else None
