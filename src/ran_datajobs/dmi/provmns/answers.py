# SPDX-License-Identifier: Apache-2.0
"""Parse the answer of a ProvMnS server to a read, flat or hierarchical, into stage-2 names (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.errors import InvalidFdn
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.names import class_of, id_of, key_of_name
from ran_datajobs.nrm.resources import objects_of, shown_attributes

Placed = tuple[str, dict[str, Any]]
"""Key in stage-2 names, and attributes."""

_DOMAIN = "DC="


def objects_in(document: Any, base: str, aliases: Aliases) -> list[Placed]:
    """The objects at and below ``base`` (in stage-2 names; empty: the root) of a decoded answer, in its
    order.

    Ancestors of the base are left out. Raises InvalidFdn for an object elsewhere, and TypeError, LookupError
    or InvalidFdn for a document that is not a valid answer.
    """
    theirs = aliases.their_key(base)
    found: list[Placed] = []
    for name, attributes in _resources(document, theirs):
        place = key_within(name, theirs)
        if place and (not theirs or place == theirs or place.startswith(theirs + "/")):
            key = aliases.our_key(place)
            found.append((key, aliases.our_attributes(class_of(key), attributes or {})))
        elif place and not theirs.startswith(place + "/"):
            raise InvalidFdn(f"/{name} does not lie at or below /{theirs}")
    return found


def key_within(key: str, base: str) -> str:
    """``key`` relative to the same root as ``base``: servers may add a DC prefix or omit upper RDNs."""
    at = f"/{key}/".find(f"/{base}/")
    if at >= 0:
        return key[at:]
    if not base.startswith(_DOMAIN):
        while key.startswith(_DOMAIN):
            key = key.partition("/")[2]
    first = key.partition("/")[0]
    for ancestor in fdn.ancestors(base):
        above, _, last = ancestor.rpartition("/")
        if last == first:
            return f"{above}/{key}" if above else key
    return key


def _resources(document: Any, base: str) -> Iterable[tuple[str, dict[str, Any] | None]]:
    if type(document) is list:
        return [(key_of_name(each["objectInstance"]), shown_attributes(each)) for each in document]
    return objects_of(document, _top(document, base)) if document else ()


def _top(document: dict[str, Any], base: str) -> str:
    """Key of the top object of a hierarchical document: the base or one of its ancestors (TS 32.158 §6.1).
    Empty for the root, which has no id."""
    if "id" not in document:
        return ""
    for key in fdn.ancestors(base):
        if id_of(key) == document["id"]:
            return key
    raise InvalidFdn(f"the document is about the id {document['id']!r:.80}, not about /{base}")
