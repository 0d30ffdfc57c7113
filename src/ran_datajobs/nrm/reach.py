# SPDX-License-Identifier: Apache-2.0
"""What a list of operations would change, and how many of them can interrupt the service of a cell (pure).

Classes and attributes are those of 3GPP TS 28.541 (NR NRM). ``docs/preview.md`` has the definitions.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from ran_datajobs.model import EffectCounts, EffectKind, Reach
from ran_datajobs.nrm.effects import Applied
from ran_datajobs.nrm.names import class_of

SITE: Final = "ManagedElement"
CELLS: Final = frozenset({"NRCellDU", "NRCellCU"})

_CARRIER: Final = frozenset({"arfcnDL", "arfcnUL", "bSChannelBwDL", "bSChannelBwUL"})
SERVICE_AFFECTING: Final = {
    "NRCellDU": _CARRIER
    | {
        "administrativeState",
        "arfcnSUL",
        "bSChannelBwSUL",
        "cellLocalId",
        "nRPCI",
        "nRSectorCarrierRef",
        "nRTAC",
        "pLMNInfoList",
        "ssbDuration",
        "ssbFrequency",
        "ssbOffset",
        "ssbPeriodicity",
        "ssbSubCarrierSpacing",
    },
    "NRCellCU": frozenset({"cellLocalId", "pLMNInfoList"}),
    "NRSectorCarrier": _CARRIER | {"txDirection"},
}
"""Attributes, by class, whose change takes a cell off the air or restarts it. Deleting an object of one of
these classes does so, too."""

_LOCKED: Final = "LOCKED"
_CHANGES: Final = frozenset({EffectKind.CHANGE, EffectKind.CREATE, EffectKind.DELETE})


class Survey:
    """Counts effects, and what they reach."""

    def __init__(self) -> None:
        self._kinds: Counter[EffectKind] = Counter()
        self._sites: set[str] = set()
        self._cells: set[str] = set()
        self._objects: set[str] = set()
        self._producers: set[str] = set()
        self._plugins: set[int] = set()
        self._attributes = 0
        self._service_affecting = 0

    def add(self, key: str, applied: Applied, producer: str, plugin_id: int) -> None:
        """Count an operation on the object ``key``, which would be sent to ``producer`` through a plugin.

        An empty ``producer``: its CM handle was removed meanwhile.
        """
        kind = applied.effect.kind
        self._kinds[kind] += 1
        if kind not in _CHANGES:
            return
        if producer:
            self._producers.add(producer)
            self._plugins.add(plugin_id)
        self._attributes += len(applied.changed)
        self._service_affecting += _is_service_affecting(class_of(key), applied)
        if key not in self._objects:
            self._objects.add(key)
            self._add_containers(key)

    def _add_containers(self, key: str) -> None:
        """Count the site and the cells that the object is, or is in."""
        end = 0
        while end >= 0:
            end = key.find("/", end + 1)
            above = key if end < 0 else key[:end]
            name = class_of(above)
            if name == SITE:
                self._sites.add(above)
            elif name in CELLS:
                self._cells.add(above)

    def add_refused(self, count: int) -> None:
        """Count operations that would not be sent."""
        self._kinds[EffectKind.WOULD_FAIL] += count

    @property
    def counts(self) -> EffectCounts:
        """The operations by kind of effect."""
        return EffectCounts(**{kind.value.lower(): self._kinds[kind] for kind in EffectKind})

    @property
    def reach(self) -> Reach:
        """What they would change."""
        return Reach(
            sites=len(self._sites),
            cells=len(self._cells),
            data_producers=len(self._producers),
            dmi_plugins=len(self._plugins),
            objects=len(self._objects),
            attributes=self._attributes,
            service_affecting=self._service_affecting,
        )


def _is_service_affecting(class_name: str, applied: Applied) -> bool:
    """Whether a change can interrupt the service of a cell. A cell that is LOCKED has no service."""
    affecting, old = SERVICE_AFFECTING.get(class_name), applied.old
    if affecting is None or old is None or old.get("administrativeState") == _LOCKED:
        return False
    return applied.effect.kind is EffectKind.DELETE or not affecting.isdisjoint(applied.changed)
