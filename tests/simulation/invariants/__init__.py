# SPDX-License-Identifier: Apache-2.0
"""What must hold of a simulated service after every call, one file each.

====================  ==================================================================================
``one_write``         at most one write is at work at a data producer
``quarantine``        no write starts while another one of its lane is in quarantine
``creates``           no plugin executes a write twice, nor begins one while it executes another
``turns``             what was admitted was the first of what waited and was admissible
``ended_once``        each operation is counted once
``claimable``         what is to be worked on is leased, or due, or waits for something that is
``arrows``            a status and a stage change by the arrows of ``model.py`` alone
``leases``            a lease has one holder, and nobody keeps one without working on the row
``slots``             what a worker counts in its limits is what it works on
``truth``             what is told of a write is what its plugin did
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
    """One invariant of a run; it may remember what it saw before."""

    name: str

    def violations(self, world: World) -> Iterator[str]:
        """What breaks it now."""


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
