# SPDX-License-Identifier: Apache-2.0
"""Simulated elements of one data producer, in this process, with scripted faults.

An EMS manages its own ManagedElements only. A read with a base above them goes to every EMS below the base;
each returns its own objects, so that all parts together contain each object once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, assert_never

from ran_datajobs.dmi.element import Outcome, ReadChunk, changed_since
from ran_datajobs.errors import InvalidFdn, InvalidFilter, InvalidSelector
from ran_datajobs.model import ActivationMode, ErrorDetail, ObjectState, Operation, OperationState
from ran_datajobs.nrm import faults, fdn, guards
from ran_datajobs.nrm.model import Model
from ran_datajobs.nrm.names import class_of
from ran_datajobs.nrm.patch import Actions, Patch, Rejected, read_patch
from ran_datajobs.nrm.select import FlatObject, Selection, flat_objects, picks, selection_of
from ran_datajobs.nrm.selectors import EVERYTHING, Selectors, parse
from ran_datajobs.nrm.tree import Objects
from ran_datajobs.simulator.elements import Done, Dropped, Elements
from ran_datajobs.simulator.faults import FaultScripts
from ran_datajobs.simulator.producers import ProducerView

CHUNK: Final = 200
"""Maximum objects in one chunk of a read."""

WRITES_AT_ONCE: Final = 50
"""Number of operations after which a write yields to the event loop."""

_NOT_STARTED: Final = Outcome(OperationState.NOT_STARTED)
_CLOSED: Final = "The element closed the connection"


class SimulatedElement:
    """One data producer: ``view`` is its part of the network, ``elements`` executes the operations."""

    def __init__(self, view: ProducerView, elements: Elements) -> None:
        self._view = view
        self._elements = elements

    async def write(
        self, operations: Sequence[Operation], mode: ActivationMode, *, images: bool = False
    ) -> Sequence[Outcome]:
        """Execute in order, each operation as a separate document; a refused one changes nothing."""
        outcomes: list[Outcome] = []
        for number, operation in enumerate(operations, 1):
            outcome = await self._write_one(operation, images)
            outcomes.append(outcome)
            if outcome.state is not OperationState.SUCCEEDED and mode is ActivationMode.STOP_ON_ERROR:
                break
            if number % WRITES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return outcomes + [_NOT_STARTED] * (len(operations) - len(outcomes))

    async def read(self, operation: Operation) -> AsyncIterator[ReadChunk]:
        """Yield the selected objects of this producer, at most CHUNK at a time."""
        selected = await self._selected(operation)
        if isinstance(selected, ErrorDetail):
            yield ReadChunk((), last=True, errors=(selected,))
            return
        while len(objects := tuple(islice(selected, CHUNK))) == CHUNK:
            yield ReadChunk(objects, last=False)
            await asyncio.sleep(0)
        yield ReadChunk(objects, last=True)

    async def _write_one(self, operation: Operation, images: bool) -> Outcome:
        patch = read_patch(operation.op, operation.path, operation.value)
        if isinstance(patch, ErrorDetail):
            return _failed(patch)
        if not self._view.owns(patch.key):
            return _failed(faults.object_not_found(patch.key))
        look = _LookBefore(self._view, patch, operation, images)
        answer = await self._elements.write((patch,), self._view, look)
        match answer:
            case Done():
                return Outcome(OperationState.SUCCEEDED, before=look.before)
            case Rejected(error=error) if error is look.changed:
                return changed_since(error)
            case Rejected():
                return _failed(answer.error)
            case Dropped():
                error = faults.no_answer(faults.node(patch.key, patch.pointer), _CLOSED)
                return Outcome(OperationState.UNKNOWN, (error,), before=look.before)
            case _:
                assert_never(answer)

    async def _selected(self, operation: Operation) -> Iterator[FlatObject] | ErrorDetail:
        wanted: Selection | Selectors
        try:
            if isinstance(operation.data_node_selector, str):
                wanted = Selectors(parse(operation.data_node_selector))
                base = wanted.base
            else:
                base = fdn.key(operation.path)
                wanted = selection_of(operation, class_of(base))
        except (InvalidFdn, InvalidFilter, InvalidSelector) as error:
            return faults.malformed(operation.path, str(error))
        answer = await self._elements.read(base)
        match answer:
            case Done():
                if isinstance(wanted, Selectors):
                    return flat_objects(picks(self._view.selected(wanted), EVERYTHING))
                if self._view.attributes(base) is None:
                    return faults.object_not_found(base)
                return flat_objects(picks(self._view.scoped(base, wanted), wanted))
            case Rejected():
                return answer.error
            case Dropped():
                return faults.no_answer(faults.node(base), _CLOSED)
            case _:
                assert_never(answer)


class _LookBefore:
    """Compares an object with the guard of its operation and keeps its before-image. To be called directly
    before the change: returns the error of a guard that does not hold."""

    def __init__(self, objects: Objects, patch: Patch, operation: Operation, images: bool) -> None:
        self._objects = objects
        self._patch = patch
        self._expect = operation.expect
        self._images = images
        self.before: ObjectState | None = None
        self.changed: ErrorDetail | None = None

    def __call__(self) -> ErrorDetail | None:
        patch = self._patch
        if self._images or isinstance(self._expect, ObjectState):
            attributes = self._objects.attributes(patch.key)
            if isinstance(self._expect, ObjectState):
                self.changed = guards.changed_since(self._expect, patch.key, attributes)
            if self._images:
                self.before = guards.image_of(patch.op, patch.pointer, patch.value, attributes)
        return self.changed


def simulated_elements(
    objects: Objects,
    model: Model,
    actions: Actions,
    data_producers: Mapping[str, Collection[str]],
    scripts: FaultScripts | None = None,
) -> dict[str, SimulatedElement]:
    """Create the data producers, by id: ``data_producers`` maps each to the keys of its ManagedElements.

    All share ``objects``; changes are validated against ``model``. ``scripts``: the faults.
    """
    elements = Elements(objects, model, actions, scripts or FaultScripts())
    return {
        name: SimulatedElement(ProducerView(objects, keys), elements) for name, keys in data_producers.items()
    }


def _failed(error: ErrorDetail) -> Outcome:
    return Outcome(OperationState.FAILED, (error,))
