# SPDX-License-Identifier: Apache-2.0
"""Selection of a read: scope, filter, attributes and fields (3GPP TS 32.158 §6.1 and §6.2; pure).

Objects are flat, in pre-order, the base first: ``id``, ``objectClass``, ``objectInstance`` (the full
distinguished name in comma form) and the selected ``attributes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from ran_datajobs.model import Operation, Scope, ScopeType
from ran_datajobs.nrm import filter as nrm_filter
from ran_datajobs.nrm import json_patch
from ran_datajobs.nrm.json_patch import index_of
from ran_datajobs.nrm.names import class_of, distinguished_name, id_of
from ran_datajobs.nrm.tree import Attributes, Objects, walk

FlatObject = dict[str, Any]

Scoped = tuple[str, int, Attributes | None]
"""Key of an object, level below the base, and attributes (None: cannot be selected)."""

_Places = dict[str, Any]
"""Selected positions in a JSON value, by token: the positions below each; None: the whole value."""

_IDENTIFIERS: Final = frozenset({"id", "objectClass", "objectInstance"})


class Selection(Struct, frozen=True):
    """Selected objects and attributes.

    ``deepest`` None: no limit. ``pointers`` None: all attributes; otherwise the tokens of each selected
    position below the attributes, () for all of them. ``nothing``: only names were requested, no attributes.
    """

    shallowest: int = 0
    deepest: int | None = 0
    filter: nrm_filter.Filter | None = None
    pointers: tuple[tuple[str, ...], ...] | None = None
    nothing: bool = False

    def reaches(self, level: int) -> bool:
        """Whether objects ``level`` levels below the base are in scope."""
        return level >= self.shallowest and (self.deepest is None or level <= self.deepest)

    def picked(self, class_name: str, attributes: Attributes) -> Attributes | None:
        """Selected attributes of an object in scope; None if neither it nor any of them is selected."""
        if self.filter is not None and not self.filter.selects(class_name, attributes):
            return None
        if self.nothing:
            return {}
        if self.pointers is None:
            return attributes
        picked = _picked(attributes, _places(self.pointers))
        return None if picked is UNSET or not picked else picked


def selection(
    base_class: str,
    scope: Scope | UnsetType | None,
    filters: str | Sequence[str] | UnsetType | None,
    attributes: Sequence[str] | UnsetType | None,
    fields: Sequence[str] | UnsetType | None,
) -> Selection:
    """Create the selection of a read; each part may be absent.

    Without a scope, a filter that names another class than the base's extends it to the whole subtree.
    Raises InvalidFilter.
    """
    texts = [filters] if isinstance(filters, str) else list(filters or ())
    wanted = nrm_filter.all_of([nrm_filter.parse(text) for text in texts]) if texts else None
    shallowest, deepest = _levels(base_class, scope or None, wanted)
    named = None if isinstance(attributes, UnsetType) else attributes
    pointed = None if isinstance(fields, UnsetType) else fields
    if named is None and pointed is None:
        return Selection(shallowest, deepest, wanted)
    pointers = tuple((name,) for name in named or ()) + tuple(
        pointer for field in pointed or () if (pointer := _pointer(field)) is not None
    )
    return Selection(shallowest, deepest, wanted, pointers, nothing=not named and not pointed)


def selection_of(operation: Operation, base_class: str) -> Selection:
    """The selection of a read operation. Raises InvalidFilter."""
    return selection(base_class, operation.scope, operation.filter, operation.attributes, operation.fields)


def selected(objects: Objects, base: str, wanted: Selection) -> Iterator[FlatObject]:
    """Yield the selected objects at and below ``base`` (empty: the root); none if it does not exist."""
    return select_from(scoped(objects, base, wanted), wanted)


def select_from(objects: Iterable[Scoped], wanted: Selection) -> Iterator[FlatObject]:
    """Yield the selected ones of ``objects`` as flat resources."""
    return flat_objects(picks(objects, wanted))


def scoped(objects: Objects, base: str, wanted: Selection) -> Iterator[Scoped]:
    """Yield the objects from ``base`` down to the deepest level, in pre-order; without attributes if the
    filter does not name their class."""
    classes = wanted.filter.classes if wanted.filter is not None else None
    for key, level in walk(objects, base, wanted.deepest):
        named = classes is None or class_of(key) in classes
        yield key, level, objects.attributes(key) if named else None


def picks(objects: Iterable[Scoped], wanted: Selection) -> Iterator[tuple[str, Attributes]]:
    """Yield the selected ones of ``objects`` with their selected attributes."""
    for key, level, attributes in objects:
        if attributes is not None and wanted.reaches(level):
            picked = wanted.picked(class_of(key), attributes)
            if picked is not None:
                yield key, picked


def flat_objects(picked: Iterable[tuple[str, Attributes]]) -> Iterator[FlatObject]:
    """Convert keys and attributes to flat resources."""
    for key, attributes in picked:
        yield {
            "id": id_of(key),
            "objectClass": class_of(key),
            "objectInstance": distinguished_name(key),
            "attributes": attributes,
        }


def _levels(
    base_class: str, scope: Scope | UnsetType | None, wanted: nrm_filter.Filter | None
) -> tuple[int, int | None]:
    if scope is None or isinstance(scope, UnsetType):
        below = wanted is not None and wanted.classes != {base_class}
        return 0, None if below else 0
    match scope.scope_type:
        case ScopeType.BASE_ONLY:
            return 0, 0
        case ScopeType.BASE_ALL:
            return 0, None
        case ScopeType.BASE_NTH_LEVEL:
            level = scope.scope_level or 0
            return level, level
        case ScopeType.BASE_SUBTREE:
            return 0, scope.scope_level


def _pointer(field: str) -> tuple[str, ...] | None:
    """Tokens below the attributes; None for an identifier or an invalid pointer."""
    tokens = json_patch.tokens_of(field if field.startswith("/") else "/" + field)
    if tokens is None or tokens[0] in _IDENTIFIERS:
        return None
    return tokens[1:] if tokens[0] == "attributes" else tokens


def _places(pointers: Iterable[tuple[str, ...]]) -> _Places | None:
    """The positions that the pointers name, as a tree; None: the whole value."""
    root: _Places = {}
    for pointer in pointers:
        if not pointer:
            return None
        at = root
        for token in pointer[:-1]:
            below: _Places | None = at.setdefault(token, {})
            if below is None:
                break  # the whole value is selected already
            at = below
        else:
            at[pointer[-1]] = None
    return root


def _picked(value: Any, places: _Places | None) -> Any:
    """Reduce a value to the selected positions, items in their order; UNSET if none exists."""
    if places is None:
        return value
    if type(value) is dict:
        members = {
            name: picked
            for name, below in places.items()
            if name in value and (picked := _picked(value[name], below)) is not UNSET
        }
        return members or UNSET
    if type(value) is list:
        found = {index: below for token, below in places.items() if (index := index_of(token)) is not None}
        items = [
            picked
            for index in sorted(found)
            if index < len(value) and (picked := _picked(value[index], found[index])) is not UNSET
        ]
        return items or UNSET
    return UNSET
