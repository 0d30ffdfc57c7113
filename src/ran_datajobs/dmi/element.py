# SPDX-License-Identifier: Apache-2.0
"""Port of the reference plugin to the elements of one data producer, which execute its operations.

Adapters: ``simulated`` (a network in this process) and ``provmns`` (any ProvMnS server over HTTP,
TS 28.532). An element returns a refusal as data, never raises it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from msgspec import Struct

from ran_datajobs.model import ActivationMode, ErrorDetail, Operation, OperationState


class Outcome(Struct, frozen=True, gc=False):
    """Outcome of one write operation."""

    state: OperationState
    errors: tuple[ErrorDetail, ...] = ()


class ReadChunk(Struct, frozen=True):
    """Part of the selected objects of one read, as flat Resource dicts in pre-order
    (``id``, ``objectClass``, ``objectInstance``, ``attributes``). ``last`` ends the read;
    ``errors`` not empty: the read failed."""

    objects: tuple[dict[str, Any], ...]
    last: bool
    errors: tuple[ErrorDetail, ...] = ()


class Element(Protocol):
    """Executes the operations of one data producer."""

    async def write(self, operations: Sequence[Operation], mode: ActivationMode) -> Sequence[Outcome]:
        """Execute in order and return one outcome per operation, in the same order. Under STOP_ON_ERROR the
        operations after the first failure are NOT_STARTED."""
        ...

    def read(self, operation: Operation) -> AsyncIterator[ReadChunk]:
        """Yield the objects that scope, filter, attributes and fields select, or that ``dataNodeSelector``
        selects, in chunks of bounded size. A selector whose objects do not exist selects nothing."""
        ...
