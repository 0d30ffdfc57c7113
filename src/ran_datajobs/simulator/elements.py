# SPDX-License-Identifier: Apache-2.0
"""The elements of a network at work: documents of patches are done as a whole, faults included.

A document is atomic (RFC 5789). An element saves what it was told a little later: what its latest UNSAVED
documents did in it is lost when it restarts; what they did in other elements stays.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from msgspec import Struct

from ran_datajobs.model import ErrorDetail
from ran_datajobs.nrm.faults import REASONS
from ran_datajobs.nrm.model import Model
from ran_datajobs.nrm.names import parent_of
from ran_datajobs.nrm.patch import Actions, Patch, Rejected, apply_atomically
from ran_datajobs.nrm.tree import Attributes, Before, Objects, restore
from ran_datajobs.simulator.faults import Fault, FaultScripts, Step
from ran_datajobs.simulator.producers import element_of

UNSAVED: Final = 4
"""So many of an element's latest documents are in its memory only."""

_REMEMBERED: Final = 10_000
"""So many elements' latest documents are remembered for a restart."""


class Done(Struct, frozen=True):
    """The document was done, or a lie says so."""


class Dropped(Struct, frozen=True):
    """No answer comes: the connection is closed."""


Answer = Done | Rejected | Dropped


class Elements:
    """Executes documents on a network. One per network."""

    def __init__(
        self,
        network: Objects,
        model: Model,
        actions: Actions,
        scripts: FaultScripts,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        changed: Callable[[Before], None] = lambda _: None,
    ) -> None:
        """``changed`` is called after each document that was done, with what the objects were before."""
        self._network = network
        self._model = model
        self._actions = actions
        self._scripts = scripts
        self._sleep = sleep
        self._changed = changed
        self._unsaved: OrderedDict[str, deque[Before]] = OrderedDict()

    async def write(
        self,
        patches: Sequence[Patch],
        objects: Objects | None = None,
        first: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Do all of ``patches`` or none. ``objects``: a part of the network to do them in.

        ``first`` is called when nothing else can come between it and the changes; what it raises prevents
        them.
        """
        elements = list(dict.fromkeys(element_of(patch.key) for patch in patches))
        step, element = self._step(elements)
        match step.fault:
            case Fault.REFUSE:
                position = next(
                    index for index, patch in enumerate(patches) if element_of(patch.key) == element
                )
                return Rejected(position, _refusal(element, step))
            case Fault.LIE:
                return Done()
            case Fault.DROP if not step.applied:
                return Dropped()
            case Fault.STALL:
                await self._sleep(step.seconds)
        first()
        done = apply_atomically(patches, objects or self._network, self._model, self._actions)
        if isinstance(done, Rejected):
            return done if step.fault is not Fault.DROP else Dropped()
        self._remember(done)
        self._changed(done)
        if step.fault is Fault.RESTART:
            self._restart(element)
        return Dropped() if step.fault in (Fault.DROP, Fault.RESTART) else Done()

    async def read(self, key: str) -> Answer:
        """What comes before a read of the object: Done when it may go on."""
        step, element = self._step([element_of(key)])
        match step.fault:
            case Fault.REFUSE:
                return Rejected(0, _refusal(element, step))
            case Fault.DROP:
                return Dropped()
            case Fault.RESTART:
                self._restart(element)
                return Dropped()
            case Fault.STALL:
                await self._sleep(step.seconds)
        return Done()

    def _step(self, elements: Sequence[str]) -> tuple[Step, str]:
        """The first step of one of the elements that is a fault, and the element; each takes one."""
        steps = [(self._scripts.next_step(element), element) for element in elements]
        return next((each for each in steps if each[0].fault is not Fault.APPLY), steps[0])

    def _remember(self, done: Before) -> None:
        """Each element remembers its own part."""
        parts: dict[str, Before] = {}
        for key, attributes in done:
            parts.setdefault(element_of(key), []).append((key, attributes))
        for element, part in parts.items():
            self._unsaved.setdefault(element, deque(maxlen=UNSAVED)).append(part)
            self._unsaved.move_to_end(element)
            if len(self._unsaved) > _REMEMBERED:
                self._unsaved.popitem(last=False)

    def _restart(self, element: str) -> None:
        for part in reversed(self._unsaved.pop(element, ())):
            for key, attributes in part:
                if _fits(self._network, key, attributes):
                    restore(self._network, [(key, attributes)])


def _fits(objects: Objects, key: str, attributes: Attributes | None) -> bool:
    """Whether the object can be so again: what stands above an element has a history of its own."""
    there = objects.attributes(key) is not None
    if attributes is None:
        return there and next(iter(objects.children(key)), None) is None
    parent = parent_of(key)
    return there or not parent or objects.attributes(parent) is not None


def _refusal(element: str, step: Step) -> ErrorDetail:
    kind = "ACCESS_CONTROL_CONFLICT" if step.reason == "ACCESS_DENIED" else "APPLICATION_LAYER_ERROR"
    known = step.reason in REASONS
    reason, detail = (step.reason, "") if known else ("OTHER", step.reason)
    return ErrorDetail(kind, f"/{element}", reason, "The element refuses", detail)
