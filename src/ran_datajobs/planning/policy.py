# SPDX-License-Identifier: Apache-2.0
"""Permission of a policy executor for the operations of a job: what is asked for each, in which requests, and
the verdicts. Pure.

A request asks for up to :data:`MAX_OPERATIONS` operations and has one answer. Those of a denied request are
asked for again in halves, down to single operations, all requests of one size before the smaller ones, with
at most :data:`EXTRA_REQUESTS` more requests for a job. An operation is allowed only if a request that
contains it is answered with ``allow``.

Source: ONAP's Operation permission API, and what CPS-NCMP sends to it (``cm-legacy``).
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final, assert_never

import msgspec
import zstandard
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.inventory.owners import Owner
from ran_datajobs.model import Op
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.patch import RESOURCE
from ran_datajobs.plugins.policy import Allowed, Decision, Denied, Inquiry, Refused, Unreachable
from ran_datajobs.plugins.wire import SeedOperation

MAX_OPERATIONS: Final = 1000
"""Maximum number of operations of a request."""

MAX_BYTES: Final = 4 * 1024 * 1024
"""Size in bytes that a request exceeds only if it has a single operation."""

EXTRA_REQUESTS: Final = 2000
"""Maximum number of requests of a job for halves of denied ones."""

NOT_ASKED: Final = "the policy executor was not asked for it when the job was accepted"

_FORMAT: Final = b'{"changeRequestFormat":"cm-legacy","operations":['
_ZSTD_LEVEL: Final = 1
_BRACE: Final = ord("{")
_RESOURCE: Final = frozenset(RESOURCE)
_members: Final = msgspec.json.Decoder(dict[str, Raw])
_encode: Final = msgspec.json.Encoder().encode


# --- what is asked -----------------------------------------------------------------------------------


class _Instance(Struct, frozen=True, gc=False):
    id: str
    attributes: Any


class _Asked(Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    operation: str
    entity_handle_id: str
    resource_identifier: str
    target_identifier: str
    change_request: dict[str, tuple[_Instance, ...]] | UnsetType = UNSET


def is_asked(op: Op) -> bool:
    """True for operations that need permission: a read or a test changes nothing."""
    return op is not Op.READ and op is not Op.TEST


def question_of(operation: SeedOperation, owner: Owner) -> bytes:
    """A write as the policy executor is asked for it, encoded.

    As from NCMP, the target is the alternate id of the CM handle, and the resource the FDN, below that, of
    the object to delete, else of the parent of the object that is created or changed: the change request has
    that object's class, id and attributes. Both FDNs are in the normal form of
    :func:`ran_datajobs.nrm.fdn.key`, with a leading slash.
    """
    fdn_text, fragment = fdn.split_path(operation.path)
    key = fdn.key(fdn_text)
    own = len(owner.alternate_key)
    target = f"/{owner.alternate_key}"
    if operation.op is Op.REMOVE and fragment is None:
        return _encode(_Asked("delete", owner.cm_handle, key[own:], target))
    parent, _, rdn = key.rpartition("/")
    class_name, _, name = rdn.partition("=")
    if "%" in name:
        name = fdn.parse(key)[-1][1]
    word, attributes = _change(operation.op, fragment, operation.value)
    change: dict[str, tuple[_Instance, ...]] = {class_name: (_Instance(name, attributes),)}
    return _encode(_Asked(word, owner.cm_handle, parent[own:], target, change))


def _change(op: Op, fragment: str | None, value: Raw | UnsetType) -> tuple[str, Any]:
    """The word for an operation other than a delete, and the attributes that it changes."""
    if value is UNSET:
        value = Raw(b"null")
    match op:
        case Op.ADD if fragment is None:
            return "create", _attributes_in(value)
        case Op.MERGE:
            return "patch", _attributes_in(value) if fragment is None else value
        case Op.ACTION:
            return "update", {fragment: value}
        case Op.REMOVE:
            return "patch", _nested(fragment, None)
        case _:
            return "update", _nested(fragment, value)


def _attributes_in(value: Raw) -> Raw:
    """The attributes of a Resource. A value with other members as a whole: a plugin may read those, too."""
    if not _is_object(value):
        return value
    members = _members.decode(value)
    attributes = members.get("attributes")
    if attributes is not None and _is_object(attributes) and members.keys() <= _RESOURCE:
        return attributes
    return value


def _is_object(value: Raw) -> bool:
    return memoryview(value)[0] == _BRACE


def _nested(fragment: str | None, value: Any) -> Any:
    """``value`` under the names that a fragment has below ``attributes``."""
    for name in reversed(fdn.attribute_pointer(fragment or "/attributes")[1:]):
        value = {name: value}
    return value


class Batch(Struct, frozen=True, eq=False):
    """Operations that are asked for together at first.

    ``positions``: theirs in the request. ``ends``: where each ends in the text of all, which is in ``frame``
    (zstd): a job can have a million of them.
    """

    positions: array[int]
    ends: array[int]
    frame: bytes


class Questions:
    """Collects the operations of a job for which permission is needed, in order."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._positions = array("I")
        self._encoded: list[bytes] = []
        self._size = 0

    def add(self, position: int, operation: SeedOperation, owner: Owner) -> None:
        """Add an operation of ``owner``, unless it needs no permission."""
        if not is_asked(operation.op):
            return
        encoded = question_of(operation, owner)
        if len(self._encoded) == MAX_OPERATIONS or self._size + len(encoded) > MAX_BYTES:
            self.close()
        self._positions.append(position)
        self._encoded.append(encoded)
        self._size += len(encoded) + 1

    def close(self) -> None:
        """End the last batch."""
        if self._encoded:
            ends = array("I", itertools.accumulate(len(each) + 1 for each in self._encoded))
            frame = zstandard.compress(b",".join((*self._encoded, b"")), _ZSTD_LEVEL)
            self.batches.append(Batch(self._positions, ends, frame))
            self._positions, self._encoded, self._size = array("I"), [], 0


# --- requests and verdicts ---------------------------------------------------------------------------


class Part(Struct, frozen=True, eq=False):
    """One request: the operations of a batch from ``first`` to before ``end``.

    ``denied``: why a request that contained all of them and more was denied.
    """

    batch: Batch
    first: int
    end: int
    denied: str | None = None

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def positions(self) -> array[int]:
        """The positions of the operations in the job's request."""
        return self.batch.positions[self.first : self.end]

    def body(self) -> bytes:
        """The body of the request."""
        ends = self.batch.ends
        start = ends[self.first - 1] if self.first else 0
        text = zstandard.decompress(self.batch.frame)
        return b"%b%b]}" % (_FORMAT, text[start : ends[self.end - 1] - 1])

    def halves(self, denied: str) -> tuple[Part, Part]:
        """Two requests for the operations of this one, which was ``denied``."""
        middle = (self.first + self.end + 1) // 2
        return Part(self.batch, self.first, middle, denied), Part(self.batch, middle, self.end, denied)


class Verdicts:
    """Which operations of a job the policy executor allows, by position from 0, and why not the others.

    ``unreachable``: why it could not be asked, or not for all.
    """

    def __init__(self, unreachable: str | None = None) -> None:
        self.denied: dict[int, str] = {}
        self.unreachable = unreachable
        self._allowed = bytearray()

    def allow(self, positions: Iterable[int]) -> None:
        """Record that these operations are allowed."""
        for position in positions:
            if position >= len(self._allowed):
                self._allowed.extend(bytes(position + 1 - len(self._allowed)))
            self._allowed[position] = 1

    def deny(self, positions: Iterable[int], detail: str) -> None:
        """Record that these operations are denied."""
        self.denied.update(dict.fromkeys(positions, detail))

    def denial_of(self, position: int) -> str | None:
        """Why an operation is not allowed; ``None`` if it is. One that was not asked for is not allowed."""
        if position < len(self._allowed) and self._allowed[position]:
            return None
        return self.denied.get(position, NOT_ASKED)

    def encoded(self) -> bytes:
        """The verdicts as they are stored with a job (zstd)."""
        by_detail: dict[str, list[int]] = {}
        for position, detail in self.denied.items():
            by_detail.setdefault(detail, []).append(position)
        return zstandard.compress(msgspec.msgpack.encode((bytes(self._allowed), by_detail)), _ZSTD_LEVEL)


def decoded(stored: bytes) -> Verdicts:
    """The verdicts that were stored with a job."""
    packed = zstandard.decompress(stored, max_output_size=1 << 31)
    allowed, by_detail = msgspec.msgpack.decode(packed, type=tuple[bytearray, dict[str, list[int]]])
    verdicts = Verdicts()
    verdicts.allow(itertools.compress(itertools.count(), allowed))
    for detail, positions in by_detail.items():
        verdicts.deny(positions, detail)
    return verdicts


def inquiry(batches: Sequence[Batch], *, allow_unreachable: bool) -> Inquiry[Verdicts]:
    """The requests of a job, in rounds; see :data:`ran_datajobs.plugins.policy.Inquiry`.

    The next round has the halves of the requests that are denied in this one. ``allow_unreachable``: allow
    operations for which no request had a usable answer. The operations of a request that was denied are never
    allowed so.
    """
    verdicts = Verdicts()
    parts = [Part(batch, 0, len(batch.positions)) for batch in batches]
    extra = EXTRA_REQUESTS
    while parts:
        decisions = yield parts
        ended = next((each for each in decisions if isinstance(each, Refused | Unreachable)), None)
        if isinstance(ended, Unreachable):
            verdicts.unreachable = ended.cause
        halves: list[Part] = []
        for part, decision in zip(parts, decisions, strict=True):
            if isinstance(decision, Denied) and len(part) > 1 and ended is None and extra >= 2:
                halves += part.halves(_of_many(part, decision.message))
                extra -= 2
            elif (denial := _denial(part, decision, ended, allow_unreachable)) is None:
                verdicts.allow(part.positions)
            else:
                verdicts.deny(part.positions, denial)
        parts = halves
    return verdicts


def _denial(part: Part, decision: Decision, ended: Decision | None, allow_unreachable: bool) -> str | None:
    """Why the operations of a request are denied for good; ``None`` if they are allowed."""
    match decision:
        case Allowed():
            return None
        case Denied(message) if len(part) == 1:
            return f"the policy executor denies it: {message}"
        case Denied(message):
            many = _of_many(part, message)
            if isinstance(ended, Refused | Unreachable):
                return f"{many}; it could not be asked for fewer: {ended.cause}"
            return f"{many}; the {EXTRA_REQUESTS:,} requests for parts of a job's denied requests are used up"
        case Refused(cause) | Unreachable(cause) if part.denied is not None:
            return f"{part.denied}; it could not be asked for fewer: {cause}"
        case Unreachable() if allow_unreachable:
            return None
        case Refused(cause) | Unreachable(cause):
            return f"the policy executor could not be asked: {cause}"
        case _:
            assert_never(decision)


def _of_many(part: Part, message: str) -> str:
    return f"the policy executor denies a request for {len(part)} operations with this one: {message}"
