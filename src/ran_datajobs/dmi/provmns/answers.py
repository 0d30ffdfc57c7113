# SPDX-License-Identifier: Apache-2.0
"""What the answer of a ProvMnS server to a read holds, flat or hierarchical, in stage-2 names (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.errors import InvalidFdn
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.names import class_of, id_of, key_of_name
from ran_datajobs.nrm.resources import objects_of, shown_attributes

Placed = tuple[str, dict[str, Any]]
"""A key in stage-2 names, and the attributes."""

_DOMAIN = "DC="


def objects_in(document: Any, base: str, aliases: Aliases) -> list[Placed]:
    """The objects at and below ``base`` (in stage-2 names) of a decoded answer, in its order.

    What only leads to the base is left out. Raises InvalidFdn for an object that lies elsewhere, and
    TypeError, LookupError or InvalidFdn for what is no answer.
    """
    theirs = aliases.their_key(base)
    found: list[Placed] = []
    for name, attributes in _resources(document, theirs):
        place = key_within(name, theirs)
        if place == theirs or place.startswith(theirs + "/"):
            key = aliases.our_key(place)
            found.append((key, aliases.our_attributes(class_of(key), attributes or {})))
        elif place and not theirs.startswith(place + "/"):
            raise InvalidFdn(f"/{name} does not lie at or below /{theirs}")
    return found


def key_within(key: str, base: str) -> str:
    """``key`` as ``base`` begins, where servers put a DC prefix before it or leave out RDNs above it."""
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
    """The key of a hierarchical document: the base, or what is above it down to the root (TS 32.158
    §6.1). The root has no id."""
    if "id" not in document:
        return ""
    for key in fdn.ancestors(base):
        if id_of(key) == document["id"]:
            return key
    raise InvalidFdn(f"the document is about the id {document['id']!r:.80}, not about /{base}")
