# SPDX-License-Identifier: Apache-2.0
"""Conversion of results between flat objects and a hierarchical tree (3GPP TS 32.158 §7.6, A.2; pure).

Hierarchical: the document is the base object; children are in arrays under their class name. A selected
object has ``attributes``; an ancestor of selected objects that is not selected has only its id.
``objectClass`` and ``objectInstance`` follow from the position in the tree. For the NRM root (an empty base)
the members of the document are the class names of the top objects. An empty selection is an empty document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.names import child_key, class_of, distinguished_name, id_of, key_of_name, parent_of

FlatObject = dict[str, Any]
Document = dict[str, Any]
Attributes = dict[str, Any]

_OWN: Final = frozenset({"id", "objectClass", "objectInstance", "attributes"})


def to_hierarchical(objects: Iterable[FlatObject], base_fdn: str) -> Document:
    """Build one document from ``base_fdn`` (any spelling; empty: the root) down to ``objects``.

    ``objects`` are flat, each at or below the base. Siblings keep their order. Raises InvalidFdn for a name
    that is invalid or not below the base.
    """
    base = fdn.key(base_fdn) if base_fdn else ""
    document: Document = {"id": id_of(base)} if base else {}
    placed: dict[str, Document] = {base: document}
    count = 0
    for count, each in enumerate(objects, 1):  # noqa: B007 - detects an empty selection
        place = _place(key_of_name(each["objectInstance"]), placed)
        place["attributes"] = each.get("attributes", {})
    if not count:
        return {}
    return document


def to_flat(document: Document, base_fdn: str) -> list[FlatObject]:
    """The selected objects of a hierarchical document in pre-order; inverse of :func:`to_hierarchical`."""
    base = fdn.key(base_fdn) if base_fdn else ""
    return [
        {
            "id": id_of(key),
            "objectClass": class_of(key),
            "objectInstance": distinguished_name(key),
            "attributes": attributes,
        }
        for key, attributes in (objects_of(document, base) if document else ())
        if attributes is not None
    ]


def objects_of(document: Document, key: str) -> list[tuple[str, Attributes | None]]:
    """Every object of a hierarchical document whose top is ``key``, in pre-order, with its attributes.

    Raises TypeError, LookupError or InvalidFdn for an invalid document.
    """
    found: list[tuple[str, Attributes | None]] = []
    _collect(document, key, found)
    return found


def shown_attributes(resource: Document) -> Attributes | None:
    """The attributes of a resource; None if it has only identifiers and children.

    Some generations write attributes next to the identifiers and not under ``attributes``: both are accepted.
    Raises TypeError when ``attributes`` is not an object.
    """
    given = resource.get("attributes")
    if given is not None and type(given) is not dict:
        raise TypeError(f"attributes is {type(given).__name__}, not an object")
    beside = {
        name: value for name, value in resource.items() if name not in _OWN and not are_children(name, value)
    }
    if not beside:
        return given if given is not None or "attributes" not in resource else {}
    return {**beside, **(given or {})}


def _place(key: str, placed: dict[str, Document]) -> Document:
    """The document of an object; creates it and its missing ancestors."""
    missing: list[str] = []
    while key not in placed:
        if not key:
            raise InvalidFdn(f"/{missing[0]} does not lie at or below the base")
        missing.append(key)
        key = parent_of(key)
    place = placed[key]
    for lower in reversed(missing):
        made: Document = {"id": id_of(lower)}
        place.setdefault(class_of(lower), []).append(made)
        placed[lower] = place = made
    return place


def _collect(document: Document, key: str, found: list[tuple[str, Attributes | None]]) -> None:
    if type(document) is not dict:
        raise TypeError(f"a resource is {type(document).__name__}, not an object")
    found.append((key, shown_attributes(document)))
    for name, members in document.items():
        if name not in _OWN and are_children(name, members):
            for child in members:
                _collect(child, child_key(key, name, child["id"]), found)


def are_children(name: str, value: Any) -> bool:
    """Whether ``value`` is an array of objects with an id, or an empty array with a capitalised name."""
    if type(value) is not list:
        return False
    return all(type(each) is dict and "id" in each for each in value) if value else name[:1].isupper()
