# SPDX-License-Identifier: Apache-2.0
"""Rules that a simulated service keeps after every call, one file each.

====================  ==================================================================================
``one_write``         at most one write is active at a data producer
``quarantine``        no write starts while another one of its lane is in quarantine
``creates``           no plugin executes a write twice, nor begins one while it executes another
``turns``             an admitted sub-job was the first of the admissible waiting ones
``ended_once``        each operation is counted once
``claimable``         open work is leased, or due, or waits for work that is
``arrows``            a status and a stage change only by the transitions of ``model.py``
``leases``            a lease has one holder, and no worker keeps one without working on the row
``slots``             the counts in a worker's limits are those of its active work
``truth``             the outcomes of a write are those of its plugin
====================  ==================================================================================

At the end: ``ends`` (every job has ended, its operations are in its objects once) and ``leaks`` (no task,
call, slot or lease is left).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final, Protocol

from tests.simulation.invariants import (
    arrows,
    claimable,
    creates,
    ended_once,
    ends,
    leaks,
    leases,
    one_write,
    quarantine,
    slots,
    truth,
    turns,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

AT_THE_END: Final[Sequence[ModuleType]] = (ends, leaks)


class Rule(Protocol):
    """One invariant of a run. It may keep state between calls."""

    name: str

    def violations(self, world: World) -> Iterator[str]:
        """The violations now."""


def rules() -> list[Rule]:
    """The invariants of a new run."""
    return [
        one_write.OneWrite(),
        quarantine.Quarantine(),
        creates.Creates(),
        turns.Turns(),
        ended_once.EndedOnce(),
        claimable.Claimable(),
        arrows.Arrows(),
        leases.Leases(),
        slots.Slots(),
        truth.Truth(),
    ]
