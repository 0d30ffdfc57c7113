# SPDX-License-Identifier: Apache-2.0
"""Execution of the jobs of the reference plugin; a SIGKILL at any point repeats no write.

The executor records a batch of writes as started before it sends the batch to the element, and its outcomes
afterwards. After a restart, operations that were started and have no outcome are UNKNOWN. Reads are repeated
from their start: messages are published only when all of them are in the journal.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import structs

from ran_datajobs.dmi.element import Element, Outcome
from ran_datajobs.dmi.journal import Executed, Executing, Journal
from ran_datajobs.dmi.messages import MessageCutter, render_of
from ran_datajobs.dmi.outcomes import (
    NOT_STARTED,
    broken_element,
    encode_ids,
    encode_members,
    room_for_image,
    uncertain,
)
from ran_datajobs.dmi.publisher import Publisher
from ran_datajobs.dmi.records import AcceptedJob, JobState, ended, running, undeliverable
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.errors import BusUnavailable, StoreUnavailable, UsageError
from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.events import (
    PLUGIN,
    SUB_JOB_ID,
    ResultPart,
    message_key,
    result_headers,
)
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import ActivationMode, Operation, OperationState
from ran_datajobs.telemetry import Logger

_OPERATIONS: Final = msgspec.json.Decoder(list[Operation])
_UNTOUCHED_PIECE: Final = 5_000
_MESSAGES_AT_ONCE: Final = 4
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 10.0

JOURNAL_AWAY: Final = 1.0
"""Seconds before a failed write to the journal is retried."""


class Standing:
    """State of a job in memory.

    ``state`` is the current state, ``shown`` the state that is in the journal: clients see only that one.
    ``halt`` is called between batches and returns whether the plugin is being stopped.
    """

    def __init__(self, state: JobState, halt: Callable[[], bool]) -> None:
        self.state = state
        self.shown = state
        self.halt = halt


class Executor:
    """Executes jobs on their elements; every step is recorded in the journal before the next one begins."""

    def __init__(
        self,
        journal: Journal,
        publisher: Publisher,
        settings: PluginSettings,
        log: Logger,
    ) -> None:
        self._journal = journal
        self._publisher = publisher
        self._settings = settings
        self._log = log

    async def write(self, standing: Standing, element: Element) -> None:
        """Execute a write job from its current state to its end, or to the next batch when halted."""
        operations = _OPERATIONS.decode(await self._journal.operations(standing.state.job.job_id))
        executed = self._uncertain(standing, operations)
        while not standing.halt():
            state = standing.state
            if state.halted or state.done == len(operations):
                await self._end_write(standing, operations, executed)
                return
            first, end = state.done, min(state.done + self._settings.batch, len(operations))
            batch = operations[first:end]
            standing.state = running(structs.replace(state, started=end))
            await self._record(standing, executed, Executing(first, encode_ids(batch)))
            if standing.state.cancel_asked:  # cancelled while the batch was being recorded
                executed = []
                await self._withdraw(standing)
                continue
            outcomes = await self._written(state.job, element, batch)
            executed = [Executed(first, encode_members(batch, outcomes, room_for_image(len(operations))))]
            standing.state = _counted(standing.state, outcomes, end)
        if executed:
            await self._record(standing, executed)

    async def read(self, standing: Standing, element: Element) -> None:
        """Execute a read job: read, publish the messages and end the job."""
        job = standing.state.job
        if standing.state.messages is None:
            await self._spool(standing, element)
        if standing.halt():
            return
        try:
            await self._publish(standing)
        except (BusUnavailable, UsageError) as error:
            self._log.error("dmi.read_undeliverable", data_producer_job_id=job.job_id, cause=str(error))
            standing.state = undeliverable(standing.state)
            await self._record(standing)
            return
        if standing.halt() and standing.state.published != standing.state.messages:
            return
        standing.state = ended(standing.state, job.total - standing.state.done)
        await self._record(standing)

    async def _record(
        self,
        standing: Standing,
        executed: Sequence[Executed] = (),
        executing: Executing | None = None,
        messages: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Write to the journal; on failure, retry until it succeeds."""
        while True:
            state = standing.state
            try:
                await self._journal.record(state, executed, executing, messages)
            except StoreUnavailable as error:
                self._log.error("dmi.journal_unavailable", cause=str(error), pause=JOURNAL_AWAY)
                await asyncio.sleep(JOURNAL_AWAY)
            else:
                standing.shown = state
                return

    async def _withdraw(self, standing: Standing) -> None:
        """Withdraw the next batch from the journal: it was recorded as started, but not executed."""
        standing.state = structs.replace(standing.state, started=standing.state.done)
        state = standing.state
        await self._journal.withdraw(state)
        standing.shown = state

    def _uncertain(self, standing: Standing, operations: Sequence[Operation]) -> list[Executed]:
        """UNKNOWN outcomes of the operations that were being executed when the plugin was killed."""
        state = standing.state
        if not state.uncertain:
            return []
        lost = operations[state.done : state.started]
        outcomes = [uncertain(operation) for operation in lost]
        standing.state = _counted(state, outcomes, state.started)
        return [Executed(state.done, encode_members(lost, outcomes))]

    async def _written(
        self, job: AcceptedJob, element: Element, batch: Sequence[Operation]
    ) -> Sequence[Outcome]:
        """Outcomes of the element. If it raises or returns a wrong number, the whole batch is UNKNOWN."""
        try:
            outcomes = await element.write(batch, job.activation_mode, images=job.before_images)
            if len(outcomes) == len(batch):
                return outcomes
            cause = f"{len(outcomes)} outcomes of {len(batch)} operations"
        except Exception as error:
            cause = repr(error)
        self._log.error("dmi.element_broken", data_producer_job_id=job.job_id, cause=cause)
        return [Outcome(OperationState.UNKNOWN, (broken_element(operation),)) for operation in batch]

    async def _end_write(
        self, standing: Standing, operations: Sequence[Operation], executed: list[Executed]
    ) -> None:
        untouched = len(operations) - standing.state.done
        pieces = list(executed)
        for first in range(standing.state.done, len(operations), _UNTOUCHED_PIECE):
            rest = operations[first : first + _UNTOUCHED_PIECE]
            pieces.append(Executed(first, encode_members(rest, [NOT_STARTED] * len(rest))))
        standing.state = ended(standing.state, untouched)
        await self._record(standing, pieces)

    async def _spool(self, standing: Standing, element: Element) -> None:
        """Read into the journal. ``done`` counts the operations that were read, successfully or not."""
        job = standing.state.job
        operations = _OPERATIONS.decode(await self._journal.operations(job.job_id))
        await self._journal.forget_messages(job.job_id)
        standing.state = running(
            structs.replace(standing.state, started=0, done=0, succeeded=0, stopped=False)
        )
        await self._record(standing, executing=Executing(0, encode_ids(operations)))
        cutter = MessageCutter(render_of(job.accept_type))
        sequence = done = 0
        for operation in operations:
            if standing.halt():
                return
            if standing.state.halted:
                cutter.never_read(operation)
                continue
            await self._read_one(job, cutter, element, operation)
            done += 1
            standing.state = structs.replace(
                standing.state,
                stopped=job.activation_mode is ActivationMode.STOP_ON_ERROR and cutter.succeeded < done,
            )
            full = list(enumerate(cutter.full(), sequence))
            if full:
                await self._record(standing, messages=full)
                sequence += len(full)
        rest = list(enumerate(cutter.rest(), sequence))
        standing.state = structs.replace(
            standing.state, started=done, done=done, succeeded=cutter.succeeded, messages=sequence + len(rest)
        )
        await self._record(standing, messages=rest)

    async def _read_one(
        self, job: AcceptedJob, cutter: MessageCutter, element: Element, operation: Operation
    ) -> None:
        try:
            async for chunk in element.read(operation):
                if chunk.errors:
                    cutter.end(operation, chunk.errors)
                    return
                cutter.objects(operation, chunk.objects)
            cutter.end(operation)
        except Exception as error:
            self._log.error("dmi.element_broken", data_producer_job_id=job.job_id, cause=repr(error))
            cutter.end(operation, (broken_element(operation),))

    async def _publish(self, standing: Standing) -> None:
        """Publish the remaining messages of a job in order, with back-off while the bus is unavailable."""
        total = standing.state.messages or 0
        job = standing.state.job
        while standing.state.published < total and not standing.halt():
            first = standing.state.published
            values = await self._journal.messages(job.job_id, first, _MESSAGES_AT_ONCE)
            at = datetime.fromtimestamp(job.created_at, UTC)
            await self._publish_with_retry(
                standing,
                [message_of(job, sequence, total, value, at) for sequence, value in enumerate(values, first)],
            )
            if standing.halt():
                return
            standing.state = structs.replace(standing.state, published=first + len(values))
            await self._record(standing)

    async def _publish_with_retry(self, standing: Standing, messages: Sequence[Message]) -> None:
        clock = asyncio.get_running_loop()
        until = clock.time() + self._settings.publish_give_up
        wait = _FIRST_WAIT
        while not standing.halt():
            try:
                await self._publisher.publish(INTERNAL_TOPIC, messages)
            except BusUnavailable:
                if standing.state.cancel_asked or clock.time() + wait > until:
                    raise
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                return


def message_of(job: AcceptedJob, sequence: int, total: int, value: bytes, at: datetime) -> Message:
    """Message of a read for the internal topic.

    Without an ``Idempotency-Key``, the sub-job is unknown to the plugin: the header is left out, and
    ``ce_dataproducerjobid`` identifies the part.
    """
    sub_job = job.sub_job_id or job.job_id
    part = ResultPart(job.request_id, sub_job, sequence, total, job.data_producer_id, job.job_id)
    headers = result_headers(part, job.destination, PLUGIN, at)
    if not job.sub_job_id:
        del headers[SUB_JOB_ID]
    return Message(message_key(job.request_id, sub_job), headers, value)


def _counted(state: JobState, outcomes: Sequence[Outcome], done: int) -> JobState:
    succeeded = sum(outcome.state is OperationState.SUCCEEDED for outcome in outcomes)
    stop = state.job.activation_mode is ActivationMode.STOP_ON_ERROR and succeeded < len(outcomes)
    return structs.replace(
        state, done=done, succeeded=state.succeeded + succeeded, stopped=state.stopped or stop
    )
