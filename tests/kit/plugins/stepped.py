# SPDX-License-Identifier: Apache-2.0
"""DMI plugins in this process. A call waits until the test answers it; executions are recorded."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from ran_datajobs.dispatch.attempt import Attempt
from ran_datajobs.model import Operation, OperationState, Response, Status
from ran_datajobs.plugins.port import (
    CancelAnswer,
    CancelTaken,
    CreateAnswer,
    CreateCall,
    Created,
    Entry,
    JobAddress,
    Lost,
    OnTopic,
    OutcomeUnknown,
    Polled,
    Refused,
    Responses,
    ResultAnswer,
    Retryable,
    StatusAnswer,
    UnrecognisedResult,
)
from tests.kit.plugins.scripted import Executed

if TYPE_CHECKING:
    from tests.machine.process import Process

Answer = CreateAnswer | StatusAnswer | ResultAnswer | CancelAnswer
TOPIC: Final = "ncmp-async-m2m"
_OPERATIONS: Final = msgspec.json.Decoder(list[Operation])


class How(enum.StrEnum):
    """How a call ends. A value that does not apply to a call is treated as :attr:`WELL`."""

    WELL = (
        "well"  # a create is accepted; a status is FINISHED; a result has every outcome; a DELETE is accepted
    )
    UNHEARD = "unheard"  # the call takes effect, its answer is lost
    SILENT = "silent"  # the call is lost, without an answer
    NOT_ARRIVED = "not arrived"  # a create that provably did not arrive
    REFUSED = "refused"  # a create is refused; a DELETE is not possible; one operation of a result failed
    LOST = "lost"  # the plugin has lost the job
    RUNNING = "running"  # a status that is not terminal; a result on a topic
    FAILED = "failed"  # a terminal status; a result of no known shape
    CANCELLED = "cancelled"  # a terminal status; a result without one of the operations


class _Job:
    """State of one sub-job at a plugin. ``late``: the worker's lease had expired when the create arrived."""

    def __init__(self, executed: Executed, *, late: bool) -> None:
        self.executed = executed
        self.status: Status | None = None
        self.late = late
        self.published = 0


class Overlap(msgspec.Struct, frozen=True):
    """A write that began while the plugin executed another one of the same data producer."""

    begun: UUID
    executing: UUID


class Plugin:
    """One DMI plugin. ``idempotent``: it honours ``Idempotency-Key``."""

    def __init__(self, url: str, *, idempotent: bool) -> None:
        self.url = url
        self.idempotent = idempotent
        self.record: list[Executed] = []
        self.overlaps: list[Overlap] = []
        self.jobs: dict[str, _Job] = {}
        self._refused: set[str] = set()

    def create(self, call: CreateCall, how: How, *, late: bool) -> CreateAnswer:
        """Accept, refuse or lose a create."""
        known = self._of_sub_job(call.sub_job_id) if self.idempotent else None
        match how:
            case How.NOT_ARRIVED:
                return Retryable("connection refused", answered=True)
            case How.SILENT:
                return OutcomeUnknown("connection lost")
            case How.REFUSED if known is None:
                self._refused.add(call.sub_job_id)
        if call.sub_job_id in self._refused:
            return Refused("not here")
        job_id = known or self._execute(call, late=late)
        return OutcomeUnknown("connection lost", answered=True) if how is How.UNHEARD else Created(job_id)

    def _of_sub_job(self, sub_job_id: str) -> str | None:
        """Return the job of a sub-job, even if the job is lost: the plugin keeps its keys."""
        return next(
            (each.data_producer_job_id for each in self.record if each.sub_job_id == sub_job_id), None
        )

    def _execute(self, call: CreateCall, *, late: bool) -> str:
        executed = Executed(
            f"{call.sub_job_id}/{len(self.record)}",
            call.job_id,
            call.sub_job_id,
            call.data_producer_id,
            tuple(_OPERATIONS.decode(call.operations)),
            call.is_read,
        )
        if not call.is_read and not late:
            self.overlaps += [
                Overlap(UUID(call.sub_job_id), UUID(job.executed.sub_job_id))
                for job in self.jobs.values()
                if job.status is None and not job.late and not job.executed.is_read
                if job.executed.data_producer_id == call.data_producer_id
            ]
        self.record.append(executed)
        self.jobs[executed.data_producer_job_id] = _Job(executed, late=late)
        return executed.data_producer_job_id

    def status(self, address: JobAddress, how: How) -> StatusAnswer:
        """Answer a status request; a terminal status ends the job."""
        job = self.jobs.get(address.data_producer_job_id)
        if how in (How.UNHEARD, How.SILENT, How.NOT_ARRIVED):
            return Retryable("no answer", answered=how is not How.SILENT)
        if job is None or how is How.LOST:
            self.jobs.pop(address.data_producer_job_id, None)
            return Lost("404")
        if job.status is None and how in (How.RUNNING, How.REFUSED):
            return Polled(Status.RUNNING)
        if job.status is None:
            job.status = {How.FAILED: Status.FAILED, How.CANCELLED: Status.CANCELLED}.get(
                how, Status.FINISHED
            )
        return Polled(job.status)

    def result(self, address: JobAddress, how: How) -> ResultAnswer:
        """Answer a result request."""
        job = self.jobs.get(address.data_producer_job_id)
        if how in (How.UNHEARD, How.SILENT, How.NOT_ARRIVED):
            return Retryable("no answer", answered=True)
        if job is None or how is How.LOST:
            self.jobs.pop(address.data_producer_job_id, None)
            return Lost("404")
        if how is How.RUNNING and job.executed.is_read:
            return OnTopic(TOPIC)
        if how is How.FAILED:
            return UnrecognisedResult(b'{"result": "as it came"}')
        responses = [_response(each.operation_id, failed=False) for each in job.executed.operations]
        if how is How.REFUSED:
            responses[0] = _response(responses[0].operation_id, failed=True)
        listed = responses[1:] if how is How.CANCELLED else responses
        return Responses(tuple(Entry(each.operation_id, each) for each in listed))

    def cancel(self, address: JobAddress, how: How) -> CancelAnswer:
        """Answer a DELETE; stop the job if it is accepted."""
        job = self.jobs.get(address.data_producer_job_id)
        if how in (How.SILENT, How.NOT_ARRIVED):
            return Retryable("no answer", answered=True)
        if job is None or how in (How.REFUSED, How.LOST):
            return Refused("405")
        if job.status is None:
            job.status = Status.CANCELLED
        return Retryable("no answer", answered=True) if how is How.UNHEARD else CancelTaken()


def _response(operation_id: str | int, *, failed: bool) -> Response:
    state = OperationState.FAILED if failed else OperationState.SUCCEEDED
    return Response(operation_id, 108 if failed else 0, "reported", state=state)


@dataclass(eq=False)
class Call:
    """A call of a worker that waits for its answer. ``attempt``: the attempt of a create, else None."""

    process: Process
    plugin: Plugin
    request: CreateCall | JobAddress
    kind: str
    attempt: Attempt | None
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def subject(self) -> str:
        """The id of the sub-job for a create, of the data producer's job for other calls."""
        match self.request:
            case CreateCall() as call:
                return call.sub_job_id
            case JobAddress() as address:
                return address.data_producer_job_id

    def end(self, how: How) -> None:
        """Deliver the call to the plugin and set its answer."""
        answer: Answer
        match self.request:
            case CreateCall() as call:
                now = asyncio.get_running_loop().time()
                late = self.attempt is not None and now >= self.attempt.valid_until
                answer = self.plugin.create(call, how, late=late)
            case JobAddress() as address:
                ask = {
                    "status": self.plugin.status,
                    "result": self.plugin.result,
                    "cancel": self.plugin.cancel,
                }[self.kind]
                answer = ask(address, how)
        if not self.answer.done():
            self.answer.set_result(answer)
