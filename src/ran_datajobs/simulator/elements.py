# SPDX-License-Identifier: Apache-2.0
"""Elements of a network: atomic execution of patch documents, with faults.

A document is atomic (RFC 5789). An element saves changes with a delay: a restart reverts the changes of its
latest UNSAVED documents in this element, but not in other elements.
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
"""Number of an element's latest documents that are only in its memory."""

_REMEMBERED: Final = 10_000
"""Maximum elements whose latest documents are kept for a restart."""


class Done(Struct, frozen=True):
    """The document was executed, or the LIE fault reports it as executed."""


class Dropped(Struct, frozen=True):
    """The connection is closed without an answer."""


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
        """``changed`` is called after each executed document, with the previous state of the objects."""
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
        first: Callable[[], ErrorDetail | None] = lambda: None,
    ) -> Answer:
        """Execute all of ``patches`` or none. ``objects``: the part of the network to change.

        ``first`` is called directly before the changes, with no other task in between; an error that it
        returns refuses the document, and an exception from it prevents the changes, too.
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
        done: Before | Rejected
        if refused := first():
            done = Rejected(0, refused)
        else:
            done = apply_atomically(patches, objects or self._network, self._model, self._actions)
        if isinstance(done, Rejected):
            return done if step.fault is not Fault.DROP else Dropped()
        self._remember(done)
        self._changed(done)
        if step.fault is Fault.RESTART:
            self._restart(element)
        return Dropped() if step.fault in (Fault.DROP, Fault.RESTART) else Done()

    async def read(self, key: str) -> Answer:
        """Apply the fault before a read of the object; Done if the read may continue."""
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
        """Consume one step per element; return the first that is a fault, and its element."""
        steps = [(self._scripts.next_step(element), element) for element in elements]
        return next((each for each in steps if each[0].fault is not Fault.APPLY), steps[0])

    def _remember(self, done: Before) -> None:
        """Keep the previous state of the changed objects, per element."""
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
    """Whether the object can be restored: its ancestors outside the element may have changed."""
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
