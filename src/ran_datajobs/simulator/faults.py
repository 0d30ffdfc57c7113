# SPDX-License-Identifier: Apache-2.0
"""What an element does wrong on purpose: a script of faults per element, loadable while the network runs.

A script is a list of steps; each request that reaches the element takes one. After the last step the
element behaves, or the script begins again (``repeat``). A step with ``times`` stands for that many.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from ran_datajobs.errors import InvalidFdn, InvalidRequest
from ran_datajobs.http.json_body import decoded
from ran_datajobs.nrm import fdn

MAX_STEPS: Final = 1_000
MAX_SCRIPTS: Final = 10_000
LONGEST_STALL: Final = 120.0
"""Seconds."""

EVERYWHERE: Final = "*"
"""Instead of an FDN: every element that has no script of its own."""


class Fault(enum.StrEnum):
    """What becomes of one request."""

    APPLY = "apply"  # nothing wrong: it is done and answered
    REFUSE = "refuse"  # refused with `reason`; nothing is done
    STALL = "stall"  # done and answered, but only after `seconds`
    DROP = "drop"  # the connection is closed instead of an answer; `applied` says whether it was done before
    FLAP = "flap"  # of the requests of this step every other one, the first too, is dropped and not done
    LIE = "lie"  # answered as done; nothing is done
    RESTART = "restart"  # done in memory, then the element restarts: what it had not saved is forgotten


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a script."""

    fault: Fault
    times: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    seconds: Annotated[float, Meta(ge=0, le=LONGEST_STALL)] = 1.0
    reason: Annotated[str, Meta(max_length=100)] = "ACCESS_DENIED"
    applied: bool = True


class Script(Struct, frozen=True, forbid_unknown_fields=True):
    """The faults of one element, named by the FDN of its ManagedElement, or of all others (``*``)."""

    element: Annotated[str, Meta(max_length=fdn.MAX_LENGTH)]
    steps: Annotated[tuple[Step, ...], Meta(max_length=MAX_STEPS)]
    repeat: bool = False


class Scripts(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a load: the scripts that it names replace those of the same elements."""

    scripts: Annotated[tuple[Script, ...], Meta(max_length=MAX_SCRIPTS)]


GOOD: Final = Step(Fault.APPLY)

_decoder: Final = msgspec.json.Decoder(Scripts)


def read_scripts(body: bytes) -> tuple[Script, ...]:
    """The scripts of a body. Raises InvalidRequest."""
    return decoded(body, _decoder).scripts


class _Standing:
    """How far an element has come in its script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._step = 0
        self._taken = 0

    def next(self) -> Step:
        steps = self.script.steps
        if self._step == len(steps):
            if not self.script.repeat or not steps:
                return GOOD
            self._step = 0
        step, turn = steps[self._step], self._taken
        self._taken += 1
        if self._taken == step.times:
            self._step, self._taken = self._step + 1, 0
        if step.fault is Fault.FLAP:
            return Step(Fault.DROP, applied=False) if turn % 2 == 0 else GOOD
        return step


class FaultScripts:
    """The scripts in force."""

    def __init__(self, scripts: Sequence[Script] = ()) -> None:
        """Raises InvalidRequest for an element that is no FDN."""
        self._standing: dict[str, _Standing] = {}
        self._everywhere: Script | None = None
        self.load(scripts)

    def load(self, scripts: Sequence[Script]) -> None:
        """Put scripts in force from their first step. One without steps ends what was there.

        Raises InvalidRequest for an element that is no FDN; then nothing has changed.
        """
        keys = [_key(script.element) for script in scripts]
        if len(self._standing.keys() | set(keys)) > MAX_SCRIPTS:
            many = len(self._standing.keys() | set(keys))
            raise InvalidRequest(f"{many} elements would have scripts, at most {MAX_SCRIPTS} can have some")
        for key, script in zip(keys, scripts, strict=True):
            if key == EVERYWHERE:
                self._everywhere = script if script.steps else None
                self._standing = {k: s for k, s in self._standing.items() if s.script.element != EVERYWHERE}
            elif script.steps:
                self._standing[key] = _Standing(script)
            else:
                self._standing.pop(key, None)

    def clear(self) -> None:
        """Every element behaves from now on."""
        self._standing.clear()
        self._everywhere = None

    def loaded(self) -> tuple[Script, ...]:
        """The scripts in force, as they were loaded."""
        everywhere = (self._everywhere,) if self._everywhere else ()
        own = (each.script for each in self._standing.values() if each.script.element != EVERYWHERE)
        return (*everywhere, *own)

    def next_step(self, element: str) -> Step:
        """What becomes of the request that reaches the element with this key now."""
        standing = self._standing.get(element)
        if standing is None:
            if self._everywhere is None:
                return GOOD
            standing = self._standing[element] = _Standing(self._everywhere)
        return standing.next()


def _key(element: str) -> str:
    if element == EVERYWHERE:
        return element
    try:
        return fdn.key(element)
    except InvalidFdn as error:
        raise InvalidRequest(f"element {element[:80]!r}: {error}") from None
