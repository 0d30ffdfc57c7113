# SPDX-License-Identifier: Apache-2.0
"""Split the objects of reads into messages for the internal topic (pure). Source: ONAP's DataJobEvent.

Every message is a complete document of at most ``limit`` bytes, split between operations; a larger result
is split between objects. An operation can therefore have several responses; it has succeeded if all have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from ran_datajobs.dmi.outcomes import (
    APPLIED,
    CANNOT_READ,
    TOO_LARGE,
    UNKNOWN_ERROR,
    message_of,
    request_of,
)
from ran_datajobs.model import MAX_MESSAGE_BYTES, ErrorDetail, Operation, OperationState, Response
from ran_datajobs.nrm.fdn import split_path
from ran_datajobs.nrm.resources import to_hierarchical
from ran_datajobs.plugins.wire import TREE_FLAT
from ran_datajobs.reasons import with_reason

FlatObject = dict[str, Any]
"""A Resource with ``id``, ``objectClass``, ``objectInstance`` and the selected ``attributes``."""

Render = Callable[[Operation, Sequence[FlatObject]], object]
"""Renders flat objects in pre-order as the result of an operation in the job's ``dataAcceptType``."""

_HEAD: Final = b'{"data":{"responses":['
_TAIL: Final = b"]}}"
_ENCODER: Final = msgspec.json.Encoder()


class MessageCutter:
    """Collects the outcomes of reads in order and returns each message once it is full."""

    def __init__(self, render: Render, limit: int = MAX_MESSAGE_BYTES) -> None:
        self._render = render
        self._room = limit - len(_HEAD) - len(_TAIL)
        self._responses: list[bytes] = []
        self._size = 0
        self._full: list[bytes] = []
        self._objects: list[FlatObject] = []
        self._objects_size = 0
        self._parts = 0
        self._too_large: list[str] = []
        self.succeeded = 0

    def objects(self, operation: Operation, objects: Sequence[FlatObject]) -> None:
        """Add objects of ``operation``. Raises InvalidFdn when one is not below its base."""
        for one in objects:
            size = len(_ENCODER.encode(one)) + 1
            if self._objects and self._objects_size + size > self._room // 2:
                self._send(operation)
            self._objects.append(one)
            self._objects_size += size

    def end(self, operation: Operation, errors: tuple[ErrorDetail, ...] = ()) -> None:
        """End ``operation``. With ``errors`` it has failed, and its buffered objects are dropped."""
        if errors:
            self._objects.clear()
            self._fail(operation, CANNOT_READ, OperationState.FAILED, errors)
        else:
            if self._objects or not (self._parts or self._too_large):
                self._send(operation)
            if self._too_large:
                self._fail(operation, TOO_LARGE, OperationState.FAILED, _oversize(self._too_large))
            else:
                self.succeeded += 1
        self._objects_size = 0
        self._parts = 0
        self._too_large = []

    def never_read(self, operation: Operation) -> None:
        """Add ``operation`` as not started, because of a cancel or an earlier failure."""
        self._fail(operation, UNKNOWN_ERROR, OperationState.NOT_STARTED, ())
        self._parts = 0

    def full(self) -> list[bytes]:
        """Return the complete messages; each is returned once."""
        messages, self._full = self._full, []
        return messages

    def rest(self) -> list[bytes]:
        """Return all remaining messages, including the last, incomplete one."""
        self._close()
        return self.full()

    def _send(self, operation: Operation) -> None:
        objects, self._objects, self._objects_size = self._objects, [], 0
        self._send_objects(operation, objects)

    def _send_objects(self, operation: Operation, objects: Sequence[FlatObject]) -> None:
        """Append a response with ``objects``; if it exceeds a message, one response for each half."""
        response = _ENCODER.encode(
            Response(
                operation.operation_id,
                APPLIED,
                "read",
                request_of(operation),
                Raw(_ENCODER.encode(self._render(operation, objects))),
                OperationState.SUCCEEDED,
            )
        )
        if len(response) <= self._room:
            self._append(response)
        elif len(objects) > 1:
            half = len(objects) // 2
            self._send_objects(operation, objects[:half])
            self._send_objects(operation, objects[half:])
        else:
            self._too_large.append(str(objects[0].get("objectInstance", "")) if objects else "")

    def _fail(
        self, operation: Operation, code: int, state: OperationState, errors: tuple[ErrorDetail, ...]
    ) -> None:
        response = Response(
            operation.operation_id,
            code,
            "not started" if state is OperationState.NOT_STARTED else message_of(errors),
            request_of(operation),
            state=state,
            errors=errors,
        )
        self._append(_ENCODER.encode(with_reason(response, state)))

    def _append(self, response: bytes) -> None:
        if self._responses and self._size + len(response) + 1 > self._room:
            self._close()
        self._responses.append(response)
        self._size += len(response) + 1
        self._parts += 1

    def _close(self) -> None:
        if self._responses:
            self._full.append(_HEAD + b",".join(self._responses) + _TAIL)
            self._responses = []
            self._size = 0


def flat(_: Operation, objects: Sequence[FlatObject]) -> object:
    """``application/vnd.3gpp.object-tree-flat+json``: the selected objects as one array (TS 32.158)."""
    return list(objects)


def hierarchical(operation: Operation, objects: Sequence[FlatObject]) -> object:
    """``application/vnd.3gpp.object-tree-hierarchical+json``: one document from the base of the read down.

    The base of a read by selector is the NRM root if its path is ``/``.
    """
    base = split_path(operation.path)[0]
    return to_hierarchical(objects, "" if base == "/" else base)


def render_of(accept_type: str) -> Render:
    """The renderer for ``accept_type``."""
    return flat if accept_type == TREE_FLAT else hierarchical


def _oversize(instances: Sequence[str]) -> tuple[ErrorDetail, ...]:
    return tuple(
        ErrorDetail(
            type="APPLICATION_LAYER_ERROR",
            bad_data_node=instance,
            reason="OTHER",
            title="The object is larger than a message may be",
        )
        for instance in instances[:20]
    )
