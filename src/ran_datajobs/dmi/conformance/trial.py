# SPDX-License-Identifier: Apache-2.0
"""What the conformance checks of a DMI plugin share: findings, harmless operations, jobs run to their end."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Sequence
from typing import Final

from msgspec import UNSET, Raw, Struct, UnsetType, structs

from ran_datajobs.dmi.conformance.bus import Topics
from ran_datajobs.model import ALLOWED, ActivationMode, Op, Operation, Scope, ScopeType, Status
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.port import (
    CreateAnswer,
    CreateCall,
    Created,
    DmiPlugin,
    JobAddress,
    NotArrived,
    OutcomeUnknown,
    Polled,
    Refused,
)

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
_NOBODY: Final = "/ManagedElement=dmi-check"
_DESTINATION: Final = "dmi-check"


class Holds(Struct, frozen=True):
    """The plugin keeps the promise; ``note``: what it did, where it may choose."""

    note: str = ""


class Fails(Struct, frozen=True):
    """The plugin breaks the promise, and how."""

    note: str


class Skipped(Struct, frozen=True):
    """The promise was not tried, and why."""

    note: str


Finding = Holds | Fails | Skipped


class Subject(Struct, frozen=True):
    """Whom to try. ``fdn``: an object that the data producer has; empty: none is known. ``patience``: seconds
    that a job may take."""

    dialect: wire.Dialect
    data_producer_id: str
    fdn: str = ""
    patience: float = 30.0

    def harmless(self, count: int = 1) -> list[Operation]:
        """Writes that succeed where the object exists, and change nothing: empty merges."""
        path = f"{self.fdn or _NOBODY}#/attributes"
        return [Operation(Op.MERGE, path, f"merge-{number}", Raw(b"{}")) for number in range(count)]

    def refused(self, name: str = "refused", size: int = 0) -> Operation:
        """A write to an object that is nowhere."""
        path = f"{self.fdn or _NOBODY}/GNBDUFunction=dmi-check-none#/attributes/gNBDUName"
        return Operation(Op.REPLACE, path, name, Raw(b'"' + b"x" * (size or 1) + b'"'))

    def read(self) -> Operation:
        """A read of one object by name."""
        scope = Scope(ScopeType.BASE_ONLY)
        return Operation(Op.READ, self.fdn or _NOBODY, "read-0", attributes=("userLabel",), scope=scope)


class Ended(Struct, frozen=True):
    """A job that ended, and every status on the way, each once."""

    address: JobAddress
    statuses: tuple[Status, ...]


class NotEnded(Struct, frozen=True):
    """A job that told no end, and why."""

    why: str


class Trial:
    """Talks to one plugin. Every job has an id and a key of its own."""

    def __init__(self, plugin: DmiPlugin, subject: Subject, topics: Topics | None = None) -> None:
        """``topics``: where what the plugin publishes is read; None: it is not."""
        self.plugin = plugin
        self.subject = subject
        self.topics = topics
        self._first: tuple[JobAddress, Ended | NotEnded] | Fails | None = None
        self._first_read: tuple[CreateCall, Ended | NotEnded] | None = None

    def call(
        self,
        operations: Sequence[Operation],
        mode: ActivationMode = ActivationMode.BEST_EFFORT,
        encoded: bytes | UnsetType = UNSET,
    ) -> CreateCall:
        """A create of a new sub-job."""
        if isinstance(encoded, UnsetType):
            spoken = [wire.peer_operation(self.subject.dialect, each) for each in operations]
            encoded = wire.encode_operations(spoken)
        return CreateCall(
            job_id=str(uuid.uuid4()),
            sub_job_id=str(uuid.uuid4()),
            data_producer_id=self.subject.data_producer_id,
            destination=_DESTINATION,
            accept_type=wire.TREE_FLAT,
            content_type=wire.JSON_PATCH_3GPP,
            activation_mode=mode,
            is_read=any(each.op is Op.READ for each in operations),
            operations=encoded,
        )

    def address(self, call: CreateCall, job_id: str) -> JobAddress:
        """Where the job of a create is asked for."""
        return JobAddress(call.job_id, call.data_producer_id, job_id, call.destination, call.is_read)

    def elsewhere(self) -> JobAddress:
        """Names a job that no plugin ever gave."""
        no_such = f"dmi-check-{uuid.uuid4()}"
        return JobAddress(str(uuid.uuid4()), self.subject.data_producer_id, no_such, _DESTINATION, False)

    async def first_write(self) -> tuple[JobAddress, Ended | NotEnded] | Fails:
        """A write of three operations, run to its end once for all checks that look at it."""
        if self._first is None:
            call = self.call(self.subject.harmless(3))
            created = await self.plugin.create(call)
            if isinstance(created, Created):
                address = self.address(call, created.data_producer_job_id)
                self._first = address, await self.until_ended(address)
            else:
                self._first = Fails(words(created))
        return self._first

    async def first_read(self) -> tuple[CreateCall, Ended | NotEnded]:
        """A read of one object, run to its end once for all checks that look at it."""
        if self._first_read is None:
            call = self.call([self.subject.read()])
            self._first_read = call, await self.run(call)
        return self._first_read

    async def run(self, call: CreateCall) -> Ended | NotEnded:
        """Create a job and follow it to its end. Not tried when the plugin ended no job before."""
        first = await self.first_write()
        if isinstance(first, Fails):
            return NotEnded("no job can be created")
        if isinstance(first[1], NotEnded):
            return NotEnded("the plugin tells no end of jobs")
        created = await self.plugin.create(call)
        if not isinstance(created, Created):
            return NotEnded(words(created))
        return await self.until_ended(self.address(call, created.data_producer_job_id))

    async def until_ended(self, address: JobAddress) -> Ended | NotEnded:
        """Poll until the status is terminal, or patience is over."""
        statuses = [Status.NOT_STARTED]
        pause, problem = _FIRST_PAUSE, "no answer"
        try:
            async with asyncio.timeout(self.subject.patience):
                while True:
                    match await self.plugin.status(address):
                        case Polled(status):
                            if status is not statuses[-1]:
                                statuses.append(status)
                            if status.terminal:
                                return Ended(address, tuple(statuses))
                            problem = f"still {status.value}"
                        case answer:
                            problem = answer.cause
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
        except TimeoutError:
            return NotEnded(f"no end within {self.subject.patience:g} s: {problem}")


def with_same_key(call: CreateCall, other: CreateCall) -> CreateCall:
    """``other`` under the job and the Idempotency-Key of ``call``."""
    return structs.replace(other, job_id=call.job_id, sub_job_id=call.sub_job_id)


def step_outside(statuses: Sequence[Status]) -> str:
    """The first step that no arrows lead along; polls may miss states on the way. Empty when all is well."""
    for one, other in itertools.pairwise(statuses):
        if other not in _reachable(one):
            return f"{one.value} → {other.value}"
    return ""


def words(answer: CreateAnswer) -> str:
    """What became of a create, in words."""
    match answer:
        case Created(job_id):
            return f"taken as {job_id}"
        case Refused(cause):
            return f"refused: {cause}"
        case NotArrived(cause):
            return f"not taken: {cause}"
        case OutcomeUnknown(cause):
            return f"nobody can tell whether it was taken: {cause}"


def _reachable(status: Status) -> set[Status]:
    found: set[Status] = set()
    waiting = [status]
    while waiting:
        for each in ALLOWED[waiting.pop()] - found:
            found.add(each)
            waiting.append(each)
    return found
