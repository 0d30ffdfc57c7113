# SPDX-License-Identifier: Apache-2.0
"""Executes one leased sub-job: start it at its plugin, poll it, collect its result, cancel it, time it out.

One function per stage; each ends in a transition. A plugin's errors become outcomes. Retries follow the
southbound contract: polls and fetches are retried until a timeout; a create only where a second one does no
harm. Memory holds nothing that is needed after a crash.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, assert_never

from msgspec.structs import replace

from ran_datajobs.checkpoints import Checkpoint, CheckpointHook, no_checkpoints
from ran_datajobs.dispatch.attempt import Attempt, DispatchTimes
from ran_datajobs.dispatch.backoff import poll_delay, unresolved_write_poll_delay, until_next_call
from ran_datajobs.dispatch.limits import DispatchLimits
from ran_datajobs.dispatch.news import reasons_of
from ran_datajobs.dispatch.transitions import TransitionWriter
from ran_datajobs.errors import Fenced, StorageUnavailable
from ran_datajobs.model import ActivationMode, Operation, OperationState, Reason, Stage, Status
from ran_datajobs.plugins.circuit_breaker import CircuitBreakers
from ran_datajobs.plugins.port import (
    CancelTaken,
    CannotCancel,
    CreateAnswer,
    CreateCall,
    Created,
    DmiPlugin,
    Lost,
    NoAnswer,
    NotArrived,
    OnTopic,
    OutcomeUnknown,
    Polled,
    Refused,
    UnreadableBody,
    UnrecognisedResult,
)
from ran_datajobs.results import outcomes
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.outcomes import Outcome
from ran_datajobs.results.parts import store_raw, write_parts
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.dispatch import CancelTold, DispatchStore, Ended, QuarantineOver, Started
from ran_datajobs.store.parts import ADDED_SEQUENCE, Part
from ran_datajobs.store.sub_jobs import Collecting, Postponement, Settlement

T = TypeVar("T")

HOLD_FOR: Final = 1.0
"""Maximum delay in seconds for which a lease is held until the next poll; a later poll needs a new claim."""

THREAD_OVER: Final = 1000
"""Number of operations above which outcomes are computed on a thread, to keep the event loop responsive."""

LARGE_AT_ONCE: Final = 2
"""Maximum number of such results processed concurrently: threads compete with the event loop for the GIL."""

LEAST_PATIENCE: Final = 1.0
"""Minimum read timeout of a fetch in seconds, however little is left of its retry timeout."""

KEPT_UP_TO: Final = 8192
"""Maximum size, in bytes, of operations that stay in memory from the create to the result."""

_ERROR_LENGTH: Final = 2000


class Executor:
    """Executes leased sub-jobs. Each worker has one, which runs many attempts concurrently."""

    def __init__(
        self,
        store: DispatchStore,
        write: TransitionWriter,
        circuits: CircuitBreakers,
        objects: ObjectStore,
        limits: DispatchLimits,
        times: DispatchTimes,
        runtime: Runtime,
        stopping: asyncio.Event,
        reached: CheckpointHook = no_checkpoints,
    ) -> None:
        self._listening_since = runtime.now()
        self._store = store
        self._write = write
        self._circuits = circuits
        self._objects = objects
        self._limits = limits
        self._times = times
        self._runtime = runtime
        self._stopping = stopping
        self._reached = reached
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    def listens_anew(self) -> None:
        """Restart the idle timeout of reads: from now on the worker can consume their messages (again)."""
        self._listening_since = self._runtime.now()

    async def run(self, attempt: Attempt) -> None:
        """Work until the lease ends. Raises Fenced when another worker has claimed the sub-job.

        If the object store is unavailable, the row records it and the step is retried later. The idle timeout
        of reads then restarts: their messages could not be consumed either.
        """
        try:
            await self._run(attempt)
        except StorageUnavailable as error:
            self.listens_anew()
            await self._store.wait_for_objects(attempt.leased, str(error)[:_ERROR_LENGTH])
            delay = until_next_call(attempt.sub_job.no_objects_for or 0.0, self._runtime.random())
            await self._write(
                Postponement(
                    attempt.leased, delay, attempt.sub_job.polls, reported_status=attempt.reported_status
                )
            )

    async def _run(self, attempt: Attempt) -> None:
        while (delay := await self._step(attempt)) is not None:
            if delay <= HOLD_FOR and not self._stopping.is_set():
                await attempt.wait_for_attention(delay)
            if delay > HOLD_FOR or attempt.attention.is_set() or self._stopping.is_set():
                later = 0.0 if attempt.attention.is_set() else delay
                await self._write(Postponement(attempt.leased, later, attempt.sub_job.polls))
                return

    async def _step(self, attempt: Attempt) -> float | None:
        """Run one step. Returns the seconds until the next one, or ``None`` when the lease has ended."""
        sub_job = attempt.sub_job
        match sub_job.stage:
            case Stage.WAITING | Stage.ADMITTED:
                return await self._end_unsent(attempt)
            case Stage.STARTING:
                return await self._start(attempt)
            case Stage.TRACKING | Stage.COLLECTING if sub_job.cancel_requested:
                return await self._cancel(attempt)
            case Stage.COLLECTING if sub_job.result_topic is None:
                return await self._collect(attempt, sub_job.reported_status or Status.FAILED)
            case Stage.TRACKING if self._time_left(attempt) <= 0:
                return await self._time_out(attempt)
            case Stage.TRACKING:
                return await self._track(attempt)
            case Stage.COLLECTING:
                return await self._gather(attempt)
            case Stage.QUARANTINED:
                return await self._probe(attempt)
            case Stage.SETTLED:
                raise Fenced("the sub-job is settled")
            case _:
                assert_never(sub_job.stage)

    # --- start ---------------------------------------------------------------------------------------

    async def _start(self, attempt: Attempt) -> float | None:
        """Send the create, unless an earlier one may have arrived and a second could do harm.

        A create that was not sent before the lease became void counts as not arrived.
        """
        lost = attempt.sub_job.was is not Stage.ADMITTED
        if lost and not attempt.repeat_is_safe:
            return await self._end_unknown(attempt, "the create was under way when its worker ended")
        try:
            answer = self._circuits.shut(attempt.sub_job.plugin_id) or await self._create(attempt)
        finally:
            self._create_answered(attempt)
        if answer is None:
            cause = "" if attempt.sub_job.failing_for is None else "not sent again: the row was given back"
            polls = attempt.sub_job.polls
            await self._write(Postponement(attempt.leased, 0.0, polls, cause, unsent=not lost))
            return None
        return await self._take(attempt, answer, lost=lost)

    async def _create(self, attempt: Attempt) -> CreateAnswer | None:
        """Send the create and return its answer; ``None``: it was not sent, because the worker is stopping
        or another process has changed the row."""
        sub_job = attempt.sub_job
        async with self._limits.create(sub_job.plugin_id, sub_job.body_bytes):
            if self._stopping.is_set() or attempt.attention.is_set():  # it may have been cancelled
                return None
            await self._reached(Checkpoint.START_MARKED)
            operations = await self._operations_array(attempt)
            if self._runtime.now() >= attempt.valid_until:
                return NotArrived("not sent: the lease of its worker had ended")
            attempt.sent = True
            answer = await self._plugin(attempt).create(
                CreateCall(
                    job_id=str(sub_job.job_id),
                    sub_job_id=str(sub_job.sub_job_id),
                    data_producer_id=sub_job.data_producer_id,
                    destination=sub_job.destination or sub_job.results_bucket,
                    accept_type=sub_job.accept_type,
                    content_type=sub_job.content_type,
                    activation_mode=ActivationMode(sub_job.activation_mode),
                    is_read=attempt.is_read,
                    operations=operations,
                )
            )
            await self._reached(Checkpoint.START_SENT)
            return answer

    async def _take(self, attempt: Attempt, answer: CreateAnswer, *, lost: bool) -> float | None:
        """Record the answer to the create. ``lost``: an earlier create may have arrived."""
        match answer:
            case Created(data_producer_job_id=producer_job):
                if await self._write(Started(attempt.leased, producer_job)):
                    attempt.attention.set()
                await self._reached(Checkpoint.START_RECORDED)
                attempt.started(producer_job)
                return self._until_next_poll(attempt)
            case Refused(cause=cause):
                return await self._end_all(attempt, OperationState.FAILED, Reason.DMI_REFUSED, cause)
            case NotArrived(cause=cause, retry_after=asked) if lost:
                return await self._again(attempt, cause, asked, attempt.unfinished)
            case NotArrived(cause=cause, retry_after=asked):
                return await self._again(attempt, cause, asked, OperationState.FAILED, unsent=True)
            case OutcomeUnknown(cause=cause):
                if attempt.repeat_is_safe:
                    return await self._again(attempt, cause, None, attempt.unfinished)
                return await self._end_unknown(attempt, cause)
            case _:
                assert_never(answer)

    def _create_answered(self, attempt: Attempt) -> None:
        if attempt.creating:
            attempt.creating = False
            self._limits.created(attempt.sub_job.plugin_id, attempt.sub_job.body_bytes)

    # --- track and collect ---------------------------------------------------------------------------

    async def _track(self, attempt: Attempt) -> float | None:
        """Poll the status; when it is terminal, collect the result at once."""
        async with self._limits.call(attempt.sub_job.plugin_id):
            if attempt.attention.is_set():  # while it waited for a slot
                return 0.0
            answer = await self._plugin(attempt).status(attempt.address)
        match answer:
            case Polled(status=status) if status.terminal:
                await self._reached(Checkpoint.TRACK_TOLD)
                return await self._collect(attempt, status)
            case Polled():
                recovered = attempt.sub_job.failing_for is not None
                delay = self._until_next_poll(attempt)
                if not recovered:
                    return delay
                await self._write(Postponement(attempt.leased, delay, attempt.sub_job.polls))
                return None
            case Lost(cause=cause):
                return await self._end_lost(attempt, cause)
            case NoAnswer(cause=cause, retry_after=asked):
                return await self._again(attempt, cause, asked, attempt.unfinished)
            case _:
                assert_never(answer)

    async def _collect(self, attempt: Attempt, reported: Status) -> float | None:
        attempt.reported_status = reported
        async with self._limits.operations(attempt.sub_job.plugin_id, attempt.sub_job.body_bytes):
            if attempt.sub_job.operations <= THREAD_OVER:
                return await self._fetch(attempt, reported)
            async with self._large:
                return await self._fetch(attempt, reported)

    async def _fetch(self, attempt: Attempt, reported: Status) -> float | None:
        """Fetch the result of a sub-job that is terminal at its plugin, and end the sub-job with it."""
        left = attempt.profile(self._times).give_up - self._failing_for(attempt, reported)
        address = replace(attempt.address, patience=max(left, LEAST_PATIENCE))
        async with self._limits.call(attempt.sub_job.plugin_id):
            answer = await self._plugin(attempt).result(address)
        await self._reached(Checkpoint.COLLECT_FETCHED)
        match answer:
            case OnTopic(topic=topic) if attempt.is_read:
                delay = max(0.05, min(self._times.result_idle + 0.05, self._time_left(attempt)))
                await self._write(Collecting(attempt.leased, topic, reported, delay))
                await self._reached(Checkpoint.ARRIVAL_AWAITED)
                return None
            case Lost() if reported is Status.CANCELLED:
                outcome = outcomes.from_status(await self._operations(attempt), reported)
                return await self._end(attempt, outcome)
            case Lost(cause=cause):
                return await self._fetch_again(attempt, cause, None, reported)
            case NoAnswer(cause=cause, retry_after=asked):
                return await self._fetch_again(attempt, cause, asked, reported)
            case _:
                return await self._end_with(attempt, answer, reported)

    async def _fetch_again(
        self, attempt: Attempt, cause: str, asked: float | None, reported: Status
    ) -> float | None:
        """Retry a failed fetch later, or end the sub-job after the retry timeout. The plugin has reported a
        terminal status, so the lane continues."""
        if not self._retries_over(attempt, reported):
            await self._postpone(attempt, cause, asked, reported=reported)
            return None
        give_up = attempt.profile(self._times).give_up
        error = f"the plugin's result was not to be had within {give_up:g} s: {cause}"
        outcome = outcomes.unreadable(await self._operations(attempt), error, reported)
        return await self._end(attempt, outcome)

    async def _end_with(self, attempt: Attempt, result: outcomes.Result, reported: Status) -> float | None:
        """End the sub-job with the fetched result; a body without outcomes is stored unchanged."""
        sub_job = attempt.sub_job
        kept: list[Part] = []
        if isinstance(result, UnrecognisedResult | UnreadableBody):
            kept.append(
                await store_raw(
                    self._objects, sub_job.results_bucket, sub_job.job_id, sub_job.sub_job_id, result.body
                )
            )
        operations = await self._operations(attempt)
        outcome = await self._computed(
            len(operations),
            lambda: outcomes.of_result(
                operations,
                result,
                reported,
                is_read=attempt.is_read,
                cancel_requested=sub_job.job_cancel_requested,
                kept_as=kept[0].key if kept else "",
            ),
        )
        return await self._end(attempt, outcome, kept)

    async def _gather(self, attempt: Attempt) -> float | None:
        """End a read when all its messages have arrived, or after the idle timeout.

        Only time in which this worker could consume messages counts: messages sent while the service or its
        database was unavailable arrive afterwards.
        """
        sub_job = attempt.sub_job
        arrived = await self._store.arrived(sub_job.sub_job_id, sub_job.job_id, sub_job.result_total)
        if not arrived.all_in and self._time_left(attempt) <= 0:
            return await self._time_out(attempt)
        idle = min(sub_job.idle_for or 0.0, self._runtime.now() - self._listening_since)
        left = self._times.result_idle - idle
        if not arrived.all_in and left >= 0.0:
            delay = max(0.05, min(left + 0.05, self._time_left(attempt)))
            await self._write(Postponement(attempt.leased, delay, sub_job.polls))
            return None
        packed = await self._store.arrived_outcomes(sub_job.sub_job_id, sub_job.job_id)
        outcome = outcomes.from_messages(await self._operations(attempt), packed, arrived)
        return await self._end(attempt, outcome)

    # --- cancel, timeout, quarantine -----------------------------------------------------------------

    async def _cancel(self, attempt: Attempt) -> float | None:
        """Send the DELETE once; the status at the plugin determines how the sub-job ends.

        A plugin that does not answer the DELETE within the retry timeout counts as one that cannot cancel;
        the retry timeout of its polls starts then.
        """
        async with self._limits.delete(attempt.sub_job.plugin_id):
            answer = await self._plugin(attempt).cancel(attempt.address)
        match answer:
            case CancelTaken() | CannotCancel():
                pass
            case NoAnswer(cause=cause, retry_after=asked):
                if not self._retries_over(attempt):
                    await self._postpone(attempt, cause, asked)
                    return None
            case _:
                assert_never(answer)
        await self._reached(Checkpoint.CANCEL_SENT)
        if await self._write(CancelTold(attempt.leased)):
            attempt.attention.set()
        if attempt.cancelling:
            attempt.cancelling = False
            self._limits.cancelled(attempt.sub_job.plugin_id, unsent=False)
        await self._reached(Checkpoint.CANCEL_RECORDED)
        attempt.sub_job = replace(attempt.sub_job, cancel_requested=False, failing_for=None)
        return 0.0

    async def _time_out(self, attempt: Attempt) -> float | None:
        """Cancel once and end the sub-job, unless a last poll shows that it has ended at the plugin.

        Unless the plugin accepted the DELETE, it may still execute a write, which goes into quarantine.
        """
        plugin = self._plugin(attempt)
        if attempt.sub_job.stage is Stage.TRACKING:
            async with self._limits.call(attempt.sub_job.plugin_id):
                answer = await plugin.status(attempt.address)
            if isinstance(answer, Polled) and answer.status.terminal:
                return await self._collect(attempt, answer.status)
        async with self._limits.delete(attempt.sub_job.plugin_id):
            stopped = await plugin.cancel(attempt.address)
        return await self._end_all(
            attempt,
            OperationState.UNKNOWN,
            Reason.OUTCOME_UNKNOWN,
            f"not terminal after {attempt.profile(self._times).sub_job_timeout:g} s",
            quarantine=not attempt.is_read and not isinstance(stopped, CancelTaken),
        )

    async def _probe(self, attempt: Attempt) -> float | None:
        """End the quarantine of a write when its plugin no longer executes it, or its time is over."""
        sub_job = attempt.sub_job
        left = sub_job.quarantined_for or 0.0
        over = left <= 0
        if not over and sub_job.data_producer_job_id is not None:
            async with self._limits.call(sub_job.plugin_id):
                answer = await self._plugin(attempt).status(attempt.address)
            over = isinstance(answer, Lost) or (isinstance(answer, Polled) and answer.status.terminal)
        if over:
            await self._write(QuarantineOver(attempt.leased))
            self._write.news.lane_reopened(sub_job)
            return None
        delay = unresolved_write_poll_delay(sub_job.ended_for or 0.0, self._runtime.random())
        if sub_job.data_producer_job_id is None:
            delay = left
        await self._write(Postponement(attempt.leased, min(delay, left + 0.01), sub_job.polls))
        return None

    # --- retries and ends ----------------------------------------------------------------------------

    async def _again(
        self,
        attempt: Attempt,
        cause: str,
        asked: float | None,
        state: OperationState,
        *,
        unsent: bool = False,
    ) -> float | None:
        """Retry a failed call later, or end the sub-job after the retry timeout.

        ``unsent``: the call was a create that did not arrive.
        """
        if not self._retries_over(attempt):
            await self._postpone(attempt, cause, asked, unsent=unsent)
            return None
        return await self._end_all(
            attempt,
            state,
            Reason.DMI_UNREACHABLE,
            f"given up after {attempt.profile(self._times).give_up:g} s: {cause}",
            quarantine=state is OperationState.UNKNOWN,
        )

    async def _postpone(
        self,
        attempt: Attempt,
        cause: str,
        asked: float | None,
        *,
        unsent: bool = False,
        reported: Status | None = None,
    ) -> None:
        failing_for = self._failing_for(attempt, reported)
        left = attempt.profile(self._times).give_up - failing_for
        delay = min(until_next_call(failing_for, self._runtime.random(), asked), max(0.05, left))
        if attempt.sub_job.stage in (Stage.TRACKING, Stage.COLLECTING):
            delay = min(delay, max(0.05, self._time_left(attempt)))
        await self._write(
            Postponement(
                attempt.leased,
                delay,
                attempt.sub_job.polls,
                cause[:_ERROR_LENGTH],
                unsent=unsent,
                reported_status=reported,
                trial=self._circuits.next_trial(attempt.sub_job.plugin_id),
            )
        )

    async def _end_unsent(self, attempt: Attempt) -> float | None:
        """End a sub-job that was cancelled before its start: no operation was sent."""
        outcome = outcomes.all_the_same(
            await self._operations(attempt),
            OperationState.NOT_STARTED,
            Reason.CANCELLED,
            "cancelled before it was sent",
            cancelled=True,
        )
        return await self._end(attempt, outcome)

    async def _end_unknown(self, attempt: Attempt, cause: str) -> float | None:
        return await self._end_all(
            attempt,
            OperationState.UNKNOWN,
            Reason.OUTCOME_UNKNOWN,
            cause,
            quarantine=not attempt.is_read,
        )

    async def _end_lost(self, attempt: Attempt, cause: str) -> float | None:
        return await self._end_all(attempt, attempt.unfinished, Reason.DMI_LOST_JOB, cause)

    async def _end_all(
        self,
        attempt: Attempt,
        state: OperationState,
        reason: Reason,
        cause: str,
        *,
        quarantine: bool = False,
    ) -> float | None:
        """End the sub-job with all operations in one state."""
        operations = await self._operations(attempt)
        outcome = await self._computed(
            len(operations), lambda: outcomes.all_the_same(operations, state, reason, cause)
        )
        return await self._end(attempt, outcome, error=cause, quarantine=quarantine)

    async def _end(
        self,
        attempt: Attempt,
        outcome: Outcome,
        kept: Sequence[Part] = (),
        *,
        error: str = "",
        quarantine: bool = False,
    ) -> float | None:
        """Write the result objects, then settle the sub-job."""
        written = await self._written(attempt, outcome)
        await self._reached(Checkpoint.COLLECT_WRITTEN)
        counts = outcome.counts
        settlement = Settlement(
            attempt.leased,
            outcome.status,
            counts.succeeded,
            counts.failed,
            counts.not_started,
            counts.unknown,
            (error or outcome.error)[:_ERROR_LENGTH].replace("\0", " "),
            self._times.lane_quarantine if quarantine else 0.0,
            counts.succeeded
            + (0 if error else counts.failed),  # an error of the service: nothing was executed
        )
        await self._write(Ended(settlement, (*written, *kept)))
        reasons: Counter[str] = Counter()
        if counts.succeeded < counts.total:
            reasons = await self._computed(len(outcome.responses), lambda: reasons_of(outcome.responses))
        self._write.news.sub_job_ended(attempt.sub_job, counts, reasons, settlement)
        await self._reached(Checkpoint.COLLECT_SETTLED)
        return None

    async def _written(self, attempt: Attempt, outcome: Outcome) -> list[Part]:
        """Write the result objects and return them.

        The answer to a create exists only in memory, so the write is retried here until the object store is
        available. In other stages the error is raised: a later step obtains the result again.
        """
        failures = 0
        while True:
            try:
                return await write_parts(
                    self._objects,
                    attempt.sub_job.results_bucket,
                    attempt.sub_job.job_id,
                    attempt.sub_job.sub_job_id,
                    outcome.responses,
                    # behind every message that the plugin of a read has sent, or may still send
                    first_sequence=ADDED_SEQUENCE if attempt.is_read else 0,
                    is_still_owner=lambda: self._store.is_leased(attempt.leased),
                )
            except StorageUnavailable as error:
                if attempt.sub_job.stage is not Stage.STARTING:
                    raise
                await self._store.wait_for_objects(attempt.leased, str(error)[:_ERROR_LENGTH])
            await self._runtime.sleep(until_next_call(float(failures), self._runtime.random()))
            failures += 1

    # --- values of an attempt ------------------------------------------------------------------------

    def _failing_for(self, attempt: Attempt, reported: Status | None = None) -> float:
        return attempt.failing_for(self._runtime.now(), reported)

    def _retries_over(self, attempt: Attempt, reported: Status | None = None) -> bool:
        return self._failing_for(attempt, reported) >= attempt.profile(self._times).give_up

    def _time_left(self, attempt: Attempt) -> float:
        """Seconds until the sub-job times out."""
        return attempt.profile(self._times).sub_job_timeout - attempt.running_for(self._runtime.now())

    def _plugin(self, attempt: Attempt) -> DmiPlugin:
        return self._circuits.with_circuit_breaker(attempt.profile(self._times))

    def _until_next_poll(self, attempt: Attempt) -> float:
        delay = poll_delay(attempt.sub_job.polls, self._runtime.random())
        attempt.sub_job = replace(attempt.sub_job, polls=attempt.sub_job.polls + 1)
        return max(0.0, min(delay, self._time_left(attempt) + 0.01))

    async def _operations_array(self, attempt: Attempt) -> bytes:
        """The operations as the JSON array that is sent to the plugin."""
        if attempt.operations is not None:
            return attempt.operations
        body = attempt.sub_job.body
        if body is None:
            body = await self._store.body_of(attempt.sub_job.sub_job_id)
        if body is None:
            raise Fenced("the sub-job was ended by another worker")
        array = await self._computed(attempt.sub_job.operations, lambda: outcomes.unpack(body))
        if len(array) <= KEPT_UP_TO:
            attempt.operations = array
        return array

    async def _computed(self, size: int, work: Callable[[], T]) -> T:
        return await self._runtime.in_thread(work) if size > THREAD_OVER else work()

    async def _operations(self, attempt: Attempt) -> list[Operation]:
        array = await self._operations_array(attempt)
        return await self._computed(attempt.sub_job.operations, lambda: outcomes.operations_of(array))
