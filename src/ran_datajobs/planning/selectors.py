# SPDX-License-Identifier: Apache-2.0
"""Which CM handles get the selectors of a read (pure).

:mod:`ran_datajobs.nrm.selectors` has the grammar. The rules are those of ONAP's NCMP (``JexParser`` and
``ReadRequestExaminer`` of CPS 3.8); the first that holds decides:

======================================================  ==============================================
selector                                                sent to
======================================================  ==============================================
has ``//``, or no ``[id=`` and no ``[contains(id,`` of  every handle (a broadcast)
a ManagedElement or MeContext
has a ``contains(id,"x")`` of one of these two classes  the handles with an RDN of this class, in
                                                        their alternate ids, whose value begins with
                                                        ``x``; the first such step counts
has leading steps ``/Class[id="x"]``                    the handle with the longest alternate id that
                                                        is a prefix of the FDN that these name
any other                                               no handle
======================================================  ==============================================

Three points differ. NCMP finds ``ManagedElement[id=`` and ``ManagedElement=x`` as texts, and therefore also
in longer class names and in strings: here they are steps and RDNs. It takes an ``[id=`` without quotes for a
selector that nobody owns: here a selector that does not parse refuses the request, so that a typing error is
not reported as a gap in the inventory. And it lists a selector once for each handle: here each pair of plugin
and data producer gets it once.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from ran_datajobs.inventory.owners import Owners, one_per_lane
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.selectors import MAX_STEPS, Selector, parse

ELEMENTS: Final = ("ManagedElement", "MeContext")
"""Classes of the objects under whose names CM handles are registered."""

_ELEMENT_STEPS: Final = tuple(f"/{name}[" for name in ELEMENTS)

# The usual text: one selector of leading steps with plain ids, then names alone.
_ID_STEP: Final = (
    rf'/(?!(?:attributes|id|objectClass|objectInstance)\[){fdn.CLASS}\[id="[!$&-)+\-.0->@-\[\]-~]++"\]'
)
_NAME_STEP: Final = rf"/(?!(?:id|objectClass|objectInstance)(?:/|\Z)){fdn.CLASS}"
_USUAL: Final = re.compile(rf"((?:{_ID_STEP})++)(?:{_NAME_STEP})*+")


class Classified(Struct, frozen=True):
    """The different selectors of a text. ``broadcast``: those that every handle gets. ``owned``: by plugin
    for reads (its URL) and data producer, those of their handles. ``unowned``: those of no handle."""

    broadcast: list[str]
    owned: dict[tuple[str, str], list[str]]
    unowned: list[str]


class Route(Struct, frozen=True, gc=False):
    """What decides who gets a selector: ``begins``, a class and the beginning of a value, if it is there;
    else ``base``, the key of the object that the leading steps name. ``is_broadcast``: every handle gets
    it."""

    text: str
    base: str
    is_broadcast: bool = False
    begins: tuple[str, str] | None = None


def routes_of(text: str) -> tuple[Route, ...]:
    """The routes of the different selectors of a text, in order. Raises InvalidSelector."""
    usual = _usual(text)
    if usual is not None:
        base = usual[1].replace('[id="', "=").replace('"]', "")[1:]
        return (Route(text, base, is_broadcast=not any(step in text for step in _ELEMENT_STEPS)),)
    return tuple(map(_route_of, parse(text)))


def classify(text: str, owners: Owners) -> Classified:
    """Who gets each selector of a text. Raises InvalidSelector."""
    found = Classified([], {}, [])
    for route in routes_of(text):
        if route.is_broadcast:
            found.broadcast.append(route.text)
            continue
        if route.begins is not None:
            some = one_per_lane(owners.named(*route.begins))
        else:
            some = [owner for owner in (owners.owner_of(route.base),) if owner is not None]
        for owner in some:
            lane = owner.read_plugin.url, owner.data_producer_id
            found.owned.setdefault(lane, []).append(route.text)
        if not some:
            found.unowned.append(route.text)
    return found


def check(text: str) -> None:
    """Raise InvalidSelector for a text that :func:`routes_of` would not take."""
    if _usual(text) is None:
        parse(text)


def _usual(text: str) -> re.Match[str] | None:
    if len(text) > fdn.MAX_LENGTH or text.count("/") > MAX_STEPS:
        return None
    return _USUAL.fullmatch(text)


def _route_of(selector: Selector) -> Route:
    of_elements = [step for step in selector.steps if step.class_name in ELEMENTS]
    named = [step for step in of_elements if step.value is not None or step.prefix is not None]
    if selector.deepest is None or not named:
        return Route(selector.text, selector.base, is_broadcast=True)
    begins = next(((step.class_name, step.prefix) for step in named if step.prefix is not None), None)
    return Route(selector.text, selector.base, begins=begins)
