# SPDX-License-Identifier: Apache-2.0
"""Fault injection: a script of faults per element, which can be loaded while the network runs.

A script is a list of steps; each request to the element consumes one. After the last step the element works
normally, or the script restarts (``repeat``). A step with ``times`` applies to that many requests.
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
"""Maximum duration of a stall in seconds."""

EVERYWHERE: Final = "*"
"""Used in place of an FDN: every element without its own script."""


class Fault(enum.StrEnum):
    """Effect on one request."""

    APPLY = "apply"  # no fault: executed and answered
    REFUSE = "refuse"  # refused with `reason`; not executed
    STALL = "stall"  # executed and answered after `seconds`
    DROP = "drop"  # connection closed instead of an answer; `applied`: executed before
    FLAP = "flap"  # every other request of this step, the first included, is dropped, not executed
    LIE = "lie"  # answered as executed; not executed
    RESTART = "restart"  # executed in memory, then the element restarts and loses unsaved changes


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
    """Body of a load: its scripts replace those of the same elements."""

    scripts: Annotated[tuple[Script, ...], Meta(max_length=MAX_SCRIPTS)]


GOOD: Final = Step(Fault.APPLY)

_decoder: Final = msgspec.json.Decoder(Scripts)


def read_scripts(body: bytes) -> tuple[Script, ...]:
    """Decode the scripts of a body. Raises InvalidRequest."""
    return decoded(body, _decoder).scripts


class _Position:
    """Position of an element in its script."""

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
        step, number = steps[self._step], self._taken
        self._taken += 1
        if self._taken == step.times:
            self._step, self._taken = self._step + 1, 0
        if step.fault is Fault.FLAP:
            return Step(Fault.DROP, applied=False) if number % 2 == 0 else GOOD
        return step


class FaultScripts:
    """The active scripts."""

    def __init__(self, scripts: Sequence[Script] = ()) -> None:
        """Raises InvalidRequest for an element that is not an FDN."""
        self._positions: dict[str, _Position] = {}
        self._everywhere: Script | None = None
        self.load(scripts)

    def load(self, scripts: Sequence[Script]) -> None:
        """Activate scripts at their first step. A script without steps removes the active one.

        Raises InvalidRequest for an element that is not an FDN, and then changes nothing.
        """
        keys = [_key(script.element) for script in scripts]
        if len(self._positions.keys() | set(keys)) > MAX_SCRIPTS:
            many = len(self._positions.keys() | set(keys))
            raise InvalidRequest(f"{many} elements would have scripts, at most {MAX_SCRIPTS} can have some")
        for key, script in zip(keys, scripts, strict=True):
            if key == EVERYWHERE:
                self._everywhere = script if script.steps else None
                self._positions = {k: s for k, s in self._positions.items() if s.script.element != EVERYWHERE}
            elif script.steps:
                self._positions[key] = _Position(script)
            else:
                self._positions.pop(key, None)

    def clear(self) -> None:
        """Remove all scripts."""
        self._positions.clear()
        self._everywhere = None

    def loaded(self) -> tuple[Script, ...]:
        """The active scripts, as they were loaded."""
        everywhere = (self._everywhere,) if self._everywhere else ()
        own = (each.script for each in self._positions.values() if each.script.element != EVERYWHERE)
        return (*everywhere, *own)

    def next_step(self, element: str) -> Step:
        """Consume and return the step for a request to the element with this key."""
        position = self._positions.get(element)
        if position is None:
            if self._everywhere is None:
                return GOOD
            position = self._positions[element] = _Position(self._everywhere)
        return position.next()


def _key(element: str) -> str:
    if element == EVERYWHERE:
        return element
    try:
        return fdn.key(element)
    except InvalidFdn as error:
        raise InvalidRequest(f"element {element[:80]!r}: {error}") from None
