# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the conformance checks: findings, operations without effect, jobs run to their end."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from ran_datajobs.dmi.conformance.bus import Topics
from ran_datajobs.model import ALLOWED, ActivationMode, ObjectState, Op, Scope, ScopeType, Status
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.port import (
    CreateAnswer,
    CreateCall,
    Created,
    DmiPlugin,
    JobAddress,
    OutcomeUnknown,
    Polled,
    Refused,
    Retryable,
)
from ran_datajobs.plugins.wire import SeedOperation

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
_NO_ELEMENT: Final = "/ManagedElement=dmi-check"
_DESTINATION: Final = "dmi-check"


class Holds(Struct, frozen=True):
    """The plugin keeps the promise; ``note``: its choice, if the contract allows several."""

    note: str = ""


class Fails(Struct, frozen=True):
    """The plugin breaks the promise, and how."""

    note: str


class Skipped(Struct, frozen=True):
    """The promise was not checked, and why."""

    note: str


Finding = Holds | Fails | Skipped


class Subject(Struct, frozen=True):
    """Subject of the checks. ``fdn``: an object of the data producer; empty: none is known. ``patience``:
    timeout of a job in seconds."""

    dialect: wire.Dialect
    data_producer_id: str
    fdn: str = ""
    patience: float = 30.0

    def harmless(self, count: int = 1) -> list[SeedOperation]:
        """Writes that succeed if the object exists and change nothing: empty merges."""
        path = f"{self.fdn or _NO_ELEMENT}#/attributes"
        return [SeedOperation(Op.MERGE, path, f"merge-{number}", Raw(b"{}")) for number in range(count)]

    def refused(self, name: str = "refused", size: int = 0) -> SeedOperation:
        """A write to an object that does not exist."""
        path = f"{self.fdn or _NO_ELEMENT}/GNBDUFunction=dmi-check-none#/attributes/gNBDUName"
        return SeedOperation(Op.REPLACE, path, name, Raw(b'"' + b"x" * (size or 1) + b'"'))

    def guarded(self) -> list[SeedOperation]:
        """Empty merges with guards: the first holds, the others do not, the last since its object does not
        exist."""
        there = f"{self.fdn or _NO_ELEMENT}#/attributes"
        nowhere = f"{self.fdn or _NO_ELEMENT}/GNBDUFunction=dmi-check-none#/attributes"
        guards = (
            (there, ObjectState(exists=True)),
            (there, ObjectState(absent=True)),
            (there, ObjectState({"userLabel": f"dmi-check-{uuid.uuid4()}"})),
            (nowhere, ObjectState(exists=True)),
        )
        return [
            SeedOperation(Op.MERGE, path, f"guarded-{number}", Raw(b"{}"), expect=expect)
            for number, (path, expect) in enumerate(guards)
        ]

    def read(self) -> SeedOperation:
        """A read of a single object."""
        scope = Scope(ScopeType.BASE_ONLY)
        return SeedOperation(
            Op.READ, self.fdn or _NO_ELEMENT, "read-0", attributes=("userLabel",), scope=scope
        )


class Ended(Struct, frozen=True):
    """A job that ended, and its successive statuses."""

    address: JobAddress
    statuses: tuple[Status, ...]


class NotEnded(Struct, frozen=True):
    """A job whose end was not reported, and why."""

    why: str


class Trial:
    """Runs jobs on one plugin. Every job has a new id and a new key."""

    def __init__(self, plugin: DmiPlugin, subject: Subject, topics: Topics | None = None) -> None:
        """``topics``: reader of the messages of the plugin; None: they are not read."""
        self.plugin = plugin
        self.subject = subject
        self.topics = topics
        self._first: tuple[JobAddress, Ended | NotEnded] | Fails | None = None
        self._first_read: tuple[CreateCall, Ended | NotEnded] | None = None

    def call(
        self,
        operations: Sequence[SeedOperation],
        mode: ActivationMode = ActivationMode.BEST_EFFORT,
        encoded: bytes | UnsetType = UNSET,
        *,
        images: bool = False,
    ) -> CreateCall:
        """Create call of a new sub-job; ``images``: with before-images."""
        if isinstance(encoded, UnsetType):
            is_onap = self.subject.dialect is wire.Dialect.ONAP
            encoded = msgspec.json.encode(
                list(map(wire.onap_operation, operations)) if is_onap else operations
            )
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
            before_images=images,
        )

    def address(self, call: CreateCall, job_id: str) -> JobAddress:
        """Address of the job of a create."""
        return JobAddress(call.job_id, call.data_producer_id, job_id, call.destination, call.is_read)

    def elsewhere(self) -> JobAddress:
        """Address of a job that does not exist."""
        no_such = f"dmi-check-{uuid.uuid4()}"
        return JobAddress(str(uuid.uuid4()), self.subject.data_producer_id, no_such, _DESTINATION, False)

    async def first_write(self) -> tuple[JobAddress, Ended | NotEnded] | Fails:
        """A write of three operations, run to its end once and shared by the checks."""
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
        """A read of one object, run to its end once and shared by the checks."""
        if self._first_read is None:
            call = self.call([self.subject.read()])
            self._first_read = call, await self.run(call)
        return self._first_read

    async def run(self, call: CreateCall) -> Ended | NotEnded:
        """Create a job and poll it to its end. Returns NotEnded at once if the first write did not end."""
        first = await self.first_write()
        if isinstance(first, Fails):
            return NotEnded("no job can be created")
        if isinstance(first[1], NotEnded):
            return NotEnded("the plugin reports no end of jobs")
        created = await self.plugin.create(call)
        if not isinstance(created, Created):
            return NotEnded(words(created))
        return await self.until_ended(self.address(call, created.data_producer_job_id))

    async def until_ended(self, address: JobAddress) -> Ended | NotEnded:
        """Poll until the status is terminal or the timeout expires."""
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
    """``other`` with the job id and the Idempotency-Key of ``call``."""
    return structs.replace(other, job_id=call.job_id, sub_job_id=call.sub_job_id)


def step_outside(statuses: Sequence[Status]) -> str:
    """The first transition that is not allowed, directly or over states between two polls; empty if none."""
    for one, other in itertools.pairwise(statuses):
        if other not in _reachable(one):
            return f"{one.value} → {other.value}"
    return ""


def words(answer: CreateAnswer) -> str:
    """The answer to a create in words."""
    match answer:
        case Created(job_id):
            return f"accepted as {job_id}"
        case Refused(cause):
            return f"refused: {cause}"
        case Retryable(cause):
            return f"not accepted: {cause}"
        case OutcomeUnknown(cause):
            return f"it is unknown whether it was accepted: {cause}"


def _reachable(status: Status) -> set[Status]:
    found: set[Status] = set()
    waiting = [status]
    while waiting:
        for each in ALLOWED[waiting.pop()] - found:
            found.add(each)
            waiting.append(each)
    return found
