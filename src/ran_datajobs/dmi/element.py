# SPDX-License-Identifier: Apache-2.0
"""Port of the reference plugin to the elements of one data producer, which execute its operations.

Adapters: ``simulated`` (a network in this process) and ``provmns`` (any ProvMnS server over HTTP,
TS 28.532). An element returns a refusal as data, never raises it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from msgspec import Struct

from ran_datajobs.model import ActivationMode, ErrorDetail, ObjectState, Operation, OperationState, Reason


class Outcome(Struct, frozen=True, gc=False):
    """Outcome of one write operation. ``reason``: its reason, if no reason of the errors says it. ``before``:
    the object directly before the operation, if it was executed or may have been; None: not asked for, or not
    known."""

    state: OperationState
    errors: tuple[ErrorDetail, ...] = ()
    reason: str = ""
    before: ObjectState | None = None


def changed_since(error: ErrorDetail) -> Outcome:
    """The outcome of an operation whose guard does not hold: it changed nothing."""
    return Outcome(OperationState.FAILED, (error,), Reason.CHANGED_SINCE)


class ReadChunk(Struct, frozen=True):
    """Part of the selected objects of one read, as flat Resource dicts in pre-order
    (``id``, ``objectClass``, ``objectInstance``, ``attributes``). ``last`` ends the read;
    ``errors`` not empty: the read failed."""

    objects: tuple[dict[str, Any], ...]
    last: bool
    errors: tuple[ErrorDetail, ...] = ()


class Element(Protocol):
    """Executes the operations of one data producer."""

    async def write(
        self, operations: Sequence[Operation], mode: ActivationMode, *, images: bool = False
    ) -> Sequence[Outcome]:
        """Execute in order and return one outcome per operation, in the same order. Under STOP_ON_ERROR the
        operations after the first failure are NOT_STARTED.

        An operation with ``expect`` is executed only if its object is as expected at its turn, else it is
        FAILED with CHANGED_SINCE; no other write through this element comes between. ``images``: with
        before-images.
        """
        ...

    def read(self, operation: Operation) -> AsyncIterator[ReadChunk]:
        """Yield the objects that scope, filter, attributes and fields select, or that ``dataNodeSelector``
        selects, in chunks of bounded size. A selector whose objects do not exist selects nothing."""
        ...
