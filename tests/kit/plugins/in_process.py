# SPDX-License-Identifier: Apache-2.0
"""DMI plugin in the process of the worker, without HTTP."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from ran_datajobs.model import OperationState, Response, Status
from ran_datajobs.plugins.port import (
    CancelAnswer,
    CancelTaken,
    CreateAnswer,
    CreateCall,
    Created,
    Entry,
    JobAddress,
    Polled,
    Responses,
    ResultAnswer,
    StatusAnswer,
)

_Answer = TypeVar("_Answer")

SUCCEEDED: Final = Responses((Entry(1, Response(1, 0, "", state=OperationState.SUCCEEDED)),))


class InProcessPlugin:
    """A DMI plugin that records every call and answers as set.

    ``create_answers``, ``polled``: the answers in order; the last one is repeated. A call waits for
    ``before_…`` if that is set.
    """

    def __init__(self) -> None:
        self.creates: list[CreateCall] = []
        self.calls: list[str] = []  # other than creates
        self.create_answers: list[CreateAnswer] = [Created("producer-job")]
        self.polled: list[StatusAnswer] = [Polled(Status.FINISHED)]
        self.results: ResultAnswer = SUCCEEDED
        self.results_after_cancel: ResultAnswer = Responses(())
        self.cancelled: CancelAnswer = CancelTaken()
        self.cancelled_whole: list[CancelAnswer] = [CancelTaken()]
        self.before_create: asyncio.Event | None = None
        self.before_poll: asyncio.Event | None = None

    async def create(self, call: CreateCall) -> CreateAnswer:
        """Record the call, wait, answer."""
        self.creates.append(call)
        if self.before_create is not None:
            await self.before_create.wait()
        return _next(self.create_answers)

    async def status(self, _address: JobAddress) -> StatusAnswer:
        """Record the call, wait, answer."""
        self.calls.append("status")
        answer = _next(self.polled)
        if self.before_poll is not None:
            await self.before_poll.wait()
        return answer

    async def result(self, _address: JobAddress) -> ResultAnswer:
        """Record the call, answer."""
        self.calls.append("result")
        return self.results

    async def cancel(self, _address: JobAddress) -> CancelAnswer:
        """Record the call. Nothing more is executed, and the status is CANCELLED."""
        self.calls.append("cancel")
        self.polled, self.results = [Polled(Status.CANCELLED)], self.results_after_cancel
        return self.cancelled

    async def cancel_job(self, job_id: str, *, is_read: bool) -> CancelAnswer:
        """Record the call. Nothing more is executed, and every status is CANCELLED."""
        self.calls.append(f"cancel all of {job_id}")
        answer = _next(self.cancelled_whole)
        if isinstance(answer, CancelTaken):
            self.polled, self.results = [Polled(Status.CANCELLED)], self.results_after_cancel
        return answer

    @property
    def created(self) -> list[str]:
        """The data producers of the creates, in order."""
        return [call.data_producer_id for call in self.creates]


def _next(answers: list[_Answer]) -> _Answer:
    return answers.pop(0) if len(answers) > 1 else answers[0]
