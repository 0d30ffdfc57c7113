# SPDX-License-Identifier: Apache-2.0
"""Lookup of the owner of a managed object: CM handles by alternate id, in memory. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Set
from functools import cached_property
from typing import Final

from msgspec import Struct

from ran_datajobs.plugins.port import PluginProfile

NO_PLUGIN: Final = PluginProfile(0, "", selectors=True)
"""The plugin of a handle that has none, and that planning therefore treats as one without a data producer."""


class Owner(Struct, frozen=True, gc=False):
    """A CM handle as planning needs it.

    ``private_properties`` is a JSON object, already encoded. ``read_plugin`` executes its reads and
    ``write_plugin`` all other operations, usually the same object; a plugin is shared by all its handles.
    """

    cm_handle: str
    alternate_key: str
    read_plugin: PluginProfile
    write_plugin: PluginProfile
    data_producer_id: str
    module_set_tag: str
    private_properties: bytes

    def __repr__(self) -> str:
        """Without the private properties: they are secrets."""
        return f"Owner({self.cm_handle!r}, {self.alternate_key!r})"


def lane_of(owner: Owner) -> tuple[int, str]:
    """The pair of plugin for reads and data producer."""
    return owner.read_plugin.plugin_id, owner.data_producer_id


def one_per_lane(owners: Iterable[Owner]) -> list[Owner]:
    """The first of ``owners`` with each pair of plugin for reads and data producer."""
    found: dict[tuple[int, str], Owner] = {}
    for owner in owners:
        found.setdefault(lane_of(owner), owner)
    return list(found.values())


class Owners:
    """An unchanging lookup of owners by FDN. Keys are normal forms (:func:`ran_datajobs.nrm.fdn.key`)."""

    def __init__(self, owners: Iterable[Owner] = ()) -> None:
        self._by_key = {owner.alternate_key: owner for owner in owners}
        self._sorted = sorted(self._by_key)
        self._named: dict[str, tuple[list[str], list[Owner]]] = {}
        self._depths = Counter(map(_depth, self._by_key))

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Owner]:
        return iter(self._by_key.values())

    def owner_of(self, key: str) -> Owner | None:
        """The owner whose alternate id is the longest whole-RDN prefix of ``key``."""
        find = self._by_key.get
        owner = find(key)
        end = len(key)
        # Like fdn.ancestors, without its generator: this runs for every operation of a job.
        while owner is None and (end := key.rfind("/", 0, end)) > 0:
            owner = find(key[:end])
        return owner

    def under(self, keys: Iterable[str]) -> list[Owner | None]:
        """For each key the owner whose alternate id it is, if any, in order."""
        return list(map(self._by_key.get, keys))

    @property
    def depths(self) -> frozenset[int]:
        """Numbers of RDNs that alternate ids have."""
        return frozenset(self._depths)

    def owners_below(self, key: str, level: int | None = None) -> list[Owner]:
        """The owners strictly below ``key``, at most ``level`` levels down (None: all), by key."""
        # Every key below "A=1" begins with "A=1/", and "0" is the character after "/".
        first = bisect_left(self._sorted, key + "/")
        end = bisect_left(self._sorted, key + "0", lo=first)
        below = self._sorted[first:end]
        if level is not None:
            deepest = key.count("/") + level
            below = [one for one in below if one.count("/") <= deepest]
        return [self._by_key[one] for one in below]

    def named(self, class_name: str, beginning: str) -> list[Owner]:
        """The owners with an RDN of this class in their alternate ids whose value, as in a key, begins with
        ``beginning``; by value, and by key. The first call for a class makes an index of its RDNs."""
        if class_name not in self._named:
            rdns = [
                (value, key)
                for key in self._sorted
                for name, _, value in (rdn.partition("=") for rdn in key.split("/"))
                if name == class_name
            ]
            rdns.sort()
            self._named[class_name] = [value for value, _ in rdns], [self._by_key[key] for _, key in rdns]
        values, owners = self._named[class_name]
        first = end = bisect_left(values, beginning)
        while end < len(values) and values[end].startswith(beginning):
            end += 1
        return owners[first:end]

    @cached_property
    def lanes(self) -> list[Owner]:
        """One owner of each pair of plugin for reads and data producer."""
        return one_per_lane(self._by_key[key] for key in self._sorted)

    def changed(self, gone: Set[str], come: Collection[Owner]) -> Owners:
        """A copy without the owners under the keys ``gone``, then with those of ``come``."""
        new = {owner.alternate_key: owner for owner in come}
        lost = gone - new.keys()
        added = sorted(new.keys() - self._by_key.keys())
        copy = Owners()
        copy._by_key = self._by_key.copy()
        for key in lost:
            del copy._by_key[key]
        copy._by_key |= new
        copy._depths = self._depths + Counter(map(_depth, added)) - Counter(map(_depth, lost))
        kept = [key for key in self._sorted if key not in lost] if lost else self._sorted
        # Two sorted runs: the sort only merges them.
        copy._sorted = sorted(kept + added) if added else kept
        return copy


def _depth(key: str) -> int:
    """Number of RDNs of a key."""
    return key.count("/") + 1
