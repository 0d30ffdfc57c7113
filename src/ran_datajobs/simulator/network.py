# SPDX-License-Identifier: Apache-2.0
"""Simulated radio network of many sites in little memory: a store of objects generated from a seed.

SubNetwork=Europe > SubNetwork=<region> > MeContext > ManagedElement > GNBDUFunction, GNBCUCPFunction and
GNBCUUPFunction (3GPP TS 28.622, TS 28.541). A site is generated on access and kept in an LRU
cache; only the changes of clients are stored permanently.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ran_datajobs.nrm.model import Model, load
from ran_datajobs.nrm.names import parent_of
from ran_datajobs.nrm.patch import Actions
from ran_datajobs.nrm.tree import Attributes, walk
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.actions import ACTIONS
from ran_datajobs.simulator.layout import COUNTRY
from ran_datajobs.simulator.registration import registration
from ran_datajobs.simulator.site import FREQUENCIES, frequency_attributes, site_objects

SITES_IN_MEMORY: Final = 1_000
"""Maximum sites in the cache; about 60 kB each."""


class Network:
    """Managed objects of ``sites`` sites; the same ``sites`` and ``seed`` give the same network."""

    actions: Final[Actions] = ACTIONS

    def __init__(self, sites: int = 200, seed: int = 1, model: Model | None = None) -> None:
        """``model`` validates changes; None: the model of this package."""
        self.sites = sites
        self.seed = seed
        self.model = model or load()
        self._made: OrderedDict[int, _Site] = OrderedDict()
        self._above = self._objects_above_the_sites()
        self._changed: dict[str, Attributes | None] = {}
        self._born: dict[str, dict[str, None]] = {}

    def data_producers(self) -> Mapping[str, tuple[str, ...]]:
        """Keys of the ManagedElements of every EMS, which is their data producer."""
        return layout.data_producers(self.sites)

    def registration(self, dmi_url: str, **plugin_fields: Any) -> dict[str, Any]:
        """Body of ``POST /ncmpInventory/v1/ch`` that registers every ManagedElement as a CM handle."""
        return registration(self.seed, self.sites, dmi_url, **plugin_fields)

    def attributes(self, key: str) -> Attributes | None:
        """Attributes of an object, read-only; None if it does not exist."""
        if key in self._changed:
            return self._changed[key]
        return self._as_made(key)

    def children(self, key: str) -> Iterable[str]:
        """Keys of the children, in a stable order; added ones last."""
        if not self._changed:
            return self._made_children(key)
        born = self._born.get(key, {})
        there = (
            child
            for child in self._made_children(key)
            if child not in born and self._changed.get(child, _UNTOUCHED) is not None
        )
        return [*there, *born]

    def put(self, key: str, attributes: Attributes) -> None:
        """Create an object, whose parent exists, or replace its attributes."""
        if self.attributes(key) is None:
            self._born.setdefault(parent_of(key), {})[key] = None
        self._changed[key] = attributes

    def delete(self, key: str) -> None:
        """Delete an object that exists and has no children."""
        parent = parent_of(key)
        born = self._born.get(parent)
        if born is not None and born.pop(key, _UNTOUCHED) is None and not born:
            del self._born[parent]
        if self._as_made(key) is None:
            del self._changed[key]
        else:
            self._changed[key] = None

    def walk(self) -> Iterator[tuple[str, Attributes]]:
        """Yield every object of the network with its attributes, in pre-order."""
        for key, _ in walk(self, ""):
            attributes = self.attributes(key)
            if attributes is not None:
                yield key, attributes

    @property
    def changes(self) -> int:
        """Number of objects that clients changed, including those set to their generated value."""
        return len(self._changed)

    def _as_made(self, key: str) -> Attributes | None:
        number = layout.site_number(key)
        if number is None:
            found = self._above.get(key)
            return found[0] if found else None
        return self._site(number).attributes.get(key) if 1 <= number <= self.sites else None

    def _made_children(self, key: str) -> Iterable[str]:
        number = layout.site_number(key)
        if number is None:
            found = self._above.get(key)
            return found[1] if found else ()
        return self._site(number).children.get(key, ()) if 1 <= number <= self.sites else ()

    def _site(self, number: int) -> _Site:
        site = self._made.get(number)
        if site is not None:
            self._made.move_to_end(number)
            return site
        site = self._made[number] = _Site(site_objects(self.seed, self.sites, number))
        if len(self._made) > SITES_IN_MEMORY:
            self._made.popitem(last=False)
        return site

    def _objects_above_the_sites(self) -> dict[str, tuple[Attributes | None, tuple[str, ...]]]:
        regions = tuple(layout.regions(self.sites))
        above: dict[str, tuple[Attributes | None, tuple[str, ...]]] = {
            "": (None, (COUNTRY,)),
            COUNTRY: ({"userLabel": "Europe"}, (*FREQUENCIES, *(region.key for region in regions))),
        }
        for index, key in enumerate(FREQUENCIES):
            above[key] = (frequency_attributes(index), ())
        for region in regions:
            contexts = tuple(map(layout.context_key, layout.sites_of(region, self.sites)))
            above[region.key] = ({"userLabel": region.name, "setOfMcc": [region.mcc]}, contexts)
        return above


class _Site:
    """Generated objects of a site."""

    __slots__ = ("attributes", "children")

    def __init__(self, objects: Iterable[tuple[str, Attributes]]) -> None:
        self.attributes = dict(objects)
        self.children: dict[str, list[str]] = {}
        for key in self.attributes:
            self.children.setdefault(parent_of(key), []).append(key)


_UNTOUCHED: Final[Attributes] = {}
