# SPDX-License-Identifier: Apache-2.0
"""The objects that the reads of a preview have found, as copies on which its operations are applied."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.model import OperationState, Reason, Response
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.effects import Copies
from ran_datajobs.nrm.names import key_of_name, parent_of
from ran_datajobs.nrm.resources import objects_of, shown_attributes
from ran_datajobs.reasons import reason_of
from ran_datajobs.results.responses import read_responses, state_of

NOT_FOUND: Final = frozenset({"TARGET_DATA_NODE_NOT_FOUND", "TARGET_DATA_NODE_PARENT_NOT_FOUND"})
"""Reasons with which a read of an object that does not exist can fail (TS 28.572)."""

_SIZE_BITS: Final = 32


class _FlatObject(Struct, frozen=True, rename="camel"):
    object_instance: str
    attributes: Raw | UnsetType = UNSET


class _Request(Struct, frozen=True):
    path: str = ""


_kept_request: Final = msgspec.json.Decoder(_Request)
_flat_objects: Final = msgspec.json.Decoder(list[_FlatObject])


class ValuesOnDisk:
    """Values of :class:`~ran_datajobs.nrm.effects.Copies` in a nameless temporary file in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed in __exit__
        self._end = 0

    def __enter__(self) -> ValuesOnDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, data: bytes) -> int:
        """Append ``data``. Raises OSError when the disk is full."""
        place, left = self._end << _SIZE_BITS | len(data), memoryview(data)
        while left:
            written = os.pwrite(self._file.fileno(), left, self._end)
            self._end, left = self._end + written, left[written:]
        return place

    def at(self, place: int) -> bytes:
        """The data at a place."""
        return os.pread(self._file.fileno(), place & (1 << _SIZE_BITS) - 1, place >> _SIZE_BITS)


class ReadObjects:
    """Collects the results of reads into ``copies``.

    ``reads``: the key of each object, and whether its children are read, too; the id of a read is its
    position. Nothing else in a result counts.
    """

    def __init__(self, reads: Sequence[tuple[str, bool]], copies: Copies) -> None:
        self._reads = reads
        self._copies = copies
        self._answered = bytearray(len(reads))
        self._failed: dict[int, tuple[str, str]] = {}
        self._children: dict[str, dict[str, None]] = {}

    def take(self, body: bytes | None) -> None:
        """Take over a result object; ``None``, or one that was damaged, has no results."""
        try:
            responses = [] if body is None else read_responses(body)
        except msgspec.DecodeError:
            return
        for response in responses:
            number = _number(response.operation_id)
            if number is not None and number < len(self._reads):
                self._answered[number] = True
                self._take(number, response)

    def _take(self, number: int, response: Response) -> None:
        key, with_children = self._reads[number]
        state = state_of(response)
        if state is not OperationState.SUCCEEDED:
            if (reason := reason_of(response, state)) not in NOT_FOUND:
                error = response.errors[0] if response.errors else None
                detail = (error.detail or error.title if error else "") or response.status_message
                self._failed[number] = reason, f"/{key} could not be read: {detail}"
            return
        try:
            if not _is_for(response.request, key):
                raise ValueError("the response is for another object")
            for found, attributes in _objects_in(response.result, key):
                if found == key:
                    self._copies.found(key, attributes)
                elif with_children and parent_of(found) == key:
                    self._copies.found(found, attributes)
                    self._children.setdefault(key, {})[found] = None
        except (msgspec.DecodeError, InvalidFdn, LookupError, TypeError, ValueError, RecursionError):
            detail = f"the result of the read of /{key} has no objects"
            self._failed[number] = Reason.RESULT_UNREADABLE, detail

    def close(self, has_owner: Callable[[str], bool]) -> None:
        """Complete the copies when all results were taken.

        An object was asked for that no CM handle has (``has_owner``) only if it contains one that is
        registered: it exists.
        """
        for number, (key, with_children) in enumerate(self._reads):
            if (failed := self._failed.get(number)) is not None:
                self._copies.unread(key, *failed)
            elif not self._answered[number]:
                if has_owner(key):
                    self._copies.unread(key, Reason.RESULT_INCOMPLETE, f"/{key} was not read")
                elif not self._copies.is_found(key):
                    self._copies.found(key, b"{}")
            elif not self._copies.is_found(key):
                self._copies.absent(key)
            elif with_children:
                self._copies.has_children(key, self._children.get(key, ()))
        self._children.clear()


def _number(operation_id: str | int) -> int | None:
    text = str(operation_id)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _is_for(request: Raw, key: str) -> bool:
    """Whether a response, if it has the path of its read, is for this object."""
    path = _kept_request.decode(request).path
    return not path or fdn.key_of_path(path) == key


def _objects_in(result: Raw | UnsetType, base: str) -> Iterator[tuple[str, bytes]]:
    """Key and attributes (JSON) of the objects in the result of a read, in either format."""
    if result is UNSET:
        raise ValueError("no result")
    flat: list[_FlatObject] | None = None
    with contextlib.suppress(msgspec.ValidationError):
        flat = _flat_objects.decode(result)
    if flat is None or any(each.attributes is UNSET for each in flat):
        for key, found in _unusual(msgspec.json.decode(result), base):
            yield key, msgspec.json.encode(found)
        return
    for each in flat:
        attributes = b"" if isinstance(each.attributes, UnsetType) else bytes(each.attributes)
        if not attributes.startswith(b"{"):
            raise TypeError("attributes is not an object")
        yield key_of_name(each.object_instance), attributes


def _unusual(result: Any, base: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if type(result) is dict:
        found = objects_of(result, base) if result else []
        yield from ((key, attributes) for key, attributes in found if attributes is not None)
        return
    for each in result:
        yield key_of_name(each["objectInstance"]), shown_attributes(each) or {}
