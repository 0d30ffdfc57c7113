# SPDX-License-Identifier: Apache-2.0
"""Executes one leased sub-job: start it at its plugin, poll it, collect its result, cancel it, time it out.

One function per stage. It returns the transition that ends the lease, or the seconds until the next step of
the same lease. A plugin's errors become outcomes. Retries follow the southbound contract: polls and fetches
are retried until a timeout; a create only where a second one does no harm. Memory holds nothing that is
needed after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, assert_never

from msgspec.structs import replace

from ran_datajobs.checkpoints import Checkpoint, reached
from ran_datajobs.config import Settings
from ran_datajobs.dispatch.attempt import Attempt
from ran_datajobs.dispatch.backoff import poll_delay, unresolved_write_poll_delay, until_next_call
from ran_datajobs.dispatch.limits import DispatchLimits
from ran_datajobs.dispatch.news import reasons_of
from ran_datajobs.dispatch.transitions import TransitionWriter
from ran_datajobs.errors import Fenced, StorageUnavailable
from ran_datajobs.model import Operation, OperationState, Reason, Stage, Status
from ran_datajobs.plugins.circuit_breaker import CircuitBreakers
from ran_datajobs.plugins.port import (
    AUTO,
    CancelTaken,
    CreateAnswer,
    Created,
    DmiPlugin,
    Lost,
    NoOutcomes,
    OnTopic,
    OutcomeUnknown,
    PluginProfile,
    Polled,
    Refused,
    Retryable,
    UnreadableBody,
    UnrecognisedResult,
)
from ran_datajobs.results import outcomes
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.outcomes import Outcome
from ran_datajobs.results.parts import ResultWriter
from ran_datajobs.store.dispatch import Transition
from ran_datajobs.store.results import ADDED_SEQUENCE, Part
from ran_datajobs.store.sub_jobs import (
    CANCEL,
    SUB_JOB,
    CancelSent,
    Collecting,
    Ended,
    LeasedCancel,
    LeasedSubJob,
    Postponement,
    QuarantineOver,
    Started,
)

T = TypeVar("T")
_Failure = Retryable | OutcomeUnknown | Lost

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


@dataclass(eq=False)
class Executor:
    """Executes leased sub-jobs. Each worker has one, which runs many attempts concurrently."""

    write: TransitionWriter
    circuits: CircuitBreakers
    objects: ObjectStore
    limits: DispatchLimits
    settings: Settings
    stopping: asyncio.Event

    def __post_init__(self) -> None:
        self.store, self.runtime = self.write.store, self.write.runtime
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._recording: set[int] = set()  # plugins whose found dialect is being recorded
        self.listens_anew()

    def listens_anew(self) -> None:
        """Restart the idle timeout of reads: from now on the worker can consume their messages (again)."""
        self._listening_since = self.runtime.now()

    async def run(self, attempt: Attempt) -> None:
        """Work until the lease ends. Raises Fenced when another worker has claimed the sub-job.

        If the object store is unavailable, the row records it and the step is retried later. The idle timeout
        of reads then restarts: their messages could not be consumed either.
        """
        try:
            last = await self._run(attempt)
        except StorageUnavailable as error:
            self.listens_anew()
            await self.store.wait_for_objects(attempt.sub_job, str(error)[:_ERROR_LENGTH])
            pause = until_next_call(attempt.sub_job.no_objects_for or 0.0, self.runtime.random())
            last = self._postponed(attempt, pause)
        await self.write(last)
        match last:
            case Ended():
                self.write.news.sub_job_ended(attempt.sub_job, attempt.reasons, last)
                await reached(Checkpoint.COLLECT_SETTLED)
            case QuarantineOver():
                self.write.news.lane_reopened(attempt.sub_job)
            case Collecting():
                await reached(Checkpoint.ARRIVAL_AWAITED)

    async def _run(self, attempt: Attempt) -> Transition:
        while True:
            step = await self._step(attempt)
            if not isinstance(step, float):
                return step
            if step <= HOLD_FOR and not self.stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(step):
                        await attempt.attention.wait()
            if step > HOLD_FOR or attempt.attention.is_set() or self.stopping.is_set():
                return self._postponed(attempt, 0.0 if attempt.attention.is_set() else step)

    async def _step(self, attempt: Attempt) -> float | Transition:
        """Run one step. Returns the seconds until the next one, or the transition that ends the lease."""
        sub_job = attempt.sub_job
        match sub_job.stage:
            case Stage.WAITING | Stage.ADMITTED:
                cause = "cancelled before it was sent"
                return await self._end_all(attempt, OperationState.NOT_STARTED, Reason.CANCELLED, cause)
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

    async def _start(self, attempt: Attempt) -> float | Transition:
        """Send the create, unless an earlier one may have arrived and a second could do harm.

        A create that was not sent before the lease became void counts as not arrived.
        """
        sub_job = attempt.sub_job
        lost = sub_job.was is not Stage.ADMITTED
        if lost and not attempt.repeat_is_safe:
            cause = "the create was under way when its worker ended"
            return await self._end_all(attempt, OperationState.UNKNOWN, Reason.OUTCOME_UNKNOWN, cause)
        try:
            answer = await self._create(attempt)
        finally:
            self.limits.answered(attempt)
        if answer is None:
            cause = "" if sub_job.failing_for is None else "not sent again: the row was given back"
            return self._postponed(attempt, 0.0, cause, unsent=not lost)
        return await self._take(attempt, answer, lost=lost)

    async def _create(self, attempt: Attempt) -> CreateAnswer | None:
        """Send the create and return its answer; ``None``: it was not sent, because the worker is stopping
        or another process has changed the row."""
        sub_job = attempt.sub_job
        async with self.limits.create(sub_job.plugin_id, sub_job.body_bytes):
            if self.stopping.is_set() or attempt.attention.is_set():  # it may have been cancelled
                return None
            await reached(Checkpoint.START_MARKED)
            operations = await self._operations_array(attempt)
            if self.runtime.now() >= attempt.valid_until:
                return Retryable("not sent: the lease of its worker had ended")
            attempt.sent = True
            call = attempt.create_call(operations, lambda: self._may_be_sent_again(attempt))
            answer = await self.circuits.call(attempt.plugin_to_create_at, DmiPlugin.create, call)
            await reached(Checkpoint.START_SENT)
            return answer

    def _may_be_sent_again(self, attempt: Attempt) -> bool:
        """Whether a create may be sent again in another form: its lease is valid, its row unchanged."""
        is_over = self.stopping.is_set() or attempt.attention.is_set()
        return not is_over and self.runtime.now() < attempt.valid_until

    async def _take(self, attempt: Attempt, answer: CreateAnswer, *, lost: bool) -> float | Transition:
        """Record the answer to the create. ``lost``: an earlier create may have arrived."""
        match answer:
            case Created(data_producer_job_id=producer_job, dialect=dialect):
                if await self.write(Started(attempt.sub_job, producer_job, dialect)):
                    attempt.attention.set()
                await reached(Checkpoint.START_RECORDED)
                if dialect is not None:
                    await self._remember(attempt.sub_job, dialect)
                attempt.sub_job = replace(
                    attempt.sub_job,
                    stage=Stage.TRACKING,
                    data_producer_job_id=producer_job,
                    dialect=dialect or attempt.sub_job.dialect,
                    polls=0,
                    failing_for=None,
                    body=None,
                )
                return self._until_next_poll(attempt)
            case Refused(cause=cause):
                return await self._end_all(attempt, OperationState.FAILED, Reason.DMI_REFUSED, cause)
            case Retryable():
                state = attempt.unfinished if lost else OperationState.FAILED
                return await self._again(attempt, answer, state, unsent=not lost)
            case OutcomeUnknown(cause=cause):
                if attempt.repeat_is_safe:
                    return await self._again(attempt, answer, attempt.unfinished)
                return await self._end_all(attempt, OperationState.UNKNOWN, Reason.OUTCOME_UNKNOWN, cause)
            case _:
                assert_never(answer)

    async def _remember(self, sub_job: LeasedSubJob, dialect: str) -> None:
        """Record the dialect that a plugin of the dialect ``auto`` was found to speak. Nothing depends on
        this record: the row of each sub-job has its own, and without it a create costs one more call."""
        plugin_id = sub_job.plugin_id
        if sub_job.plugin_dialect != AUTO or dialect == sub_job.found_dialect or plugin_id in self._recording:
            return
        self._recording.add(plugin_id)
        try:
            if await self.write.until_available(lambda: self.store.found_dialect(plugin_id, dialect)):
                self.write.news.dialect_found(sub_job, dialect)
        finally:
            self._recording.discard(plugin_id)

    # --- track and collect ---------------------------------------------------------------------------

    async def _track(self, attempt: Attempt) -> float | Transition:
        """Poll the status; when it is terminal, collect the result at once."""
        async with self.limits.call(attempt.sub_job.plugin_id):
            if attempt.attention.is_set():  # while it waited for a slot
                return 0.0
            answer = await self.circuits.call(_profile(attempt.sub_job), DmiPlugin.status, attempt.address)
        match answer:
            case Polled(status=status) if status.terminal:
                await reached(Checkpoint.TRACK_REPORTED)
                return await self._collect(attempt, status)
            case Polled():
                delay = self._until_next_poll(attempt)
                recovered = attempt.sub_job.failing_for is not None
                return self._postponed(attempt, delay) if recovered else delay
            case Lost(cause=cause):
                return await self._end_all(
                    attempt, attempt.unfinished, Reason.DMI_LOST_JOB, cause, executing=False
                )
            case Retryable():
                return await self._again(attempt, answer, attempt.unfinished)
            case _:
                assert_never(answer)

    async def _collect(self, attempt: Attempt, reported: Status) -> Transition:
        """Fetch the result of a sub-job that is terminal at its plugin, and end the sub-job with it."""
        attempt.reported_status = reported
        sub_job = attempt.sub_job
        large = self._large if sub_job.operations > THREAD_OVER else contextlib.nullcontext()
        async with self.limits.operations(sub_job.plugin_id, sub_job.body_bytes), large:
            return await self._fetch(attempt, reported)

    async def _fetch(self, attempt: Attempt, reported: Status) -> Transition:
        left = self._give_up(attempt.sub_job) - self._failing_for(attempt)
        address = replace(attempt.address, patience=max(left, LEAST_PATIENCE))
        async with self.limits.call(attempt.sub_job.plugin_id):
            answer = await self.circuits.call(_profile(attempt.sub_job), DmiPlugin.result, address)
        await reached(Checkpoint.COLLECT_FETCHED)
        match answer:
            case OnTopic(topic=topic) if attempt.is_read:
                delay = max(
                    0.05, min(self.settings.read_result_idle_timeout + 0.05, self._time_left(attempt))
                )
                return Collecting(attempt.sub_job, topic, reported, delay)
            case Lost() if reported is Status.CANCELLED:
                return await self._end_with(attempt, NoOutcomes(), reported)
            case Lost() | Retryable():
                if later := self._retry(attempt, answer):
                    return later
                give_up = self._give_up(attempt.sub_job)
                error = f"the plugin's result could not be fetched within {give_up:g} s: {answer.cause}"
                all_unread = OperationState.UNKNOWN, Reason.RESULT_UNREADABLE, error, error, reported
                return await self._end(attempt, lambda each: outcomes.all_the_same(each, *all_unread))
            case _:
                return await self._end_with(attempt, answer, reported)

    async def _end_with(self, attempt: Attempt, result: outcomes.Result, reported: Status) -> Transition:
        """End the sub-job with the fetched result; a body without outcomes is stored unchanged."""
        sub_job = attempt.sub_job
        kept: list[Part] = []
        if isinstance(result, UnrecognisedResult | UnreadableBody):
            kept.append(await self._writer(sub_job).write_raw(result.body))
        return await self._end(
            attempt,
            lambda operations: outcomes.of_result(
                operations,
                result,
                reported,
                is_read=attempt.is_read,
                cancel_requested=sub_job.job_cancel_requested,
                kept_as=kept[0].key if kept else "",
            ),
            kept,
        )

    async def _gather(self, attempt: Attempt) -> Transition:
        """End a read when all its messages have arrived, or after the idle timeout.

        Only time in which this worker could consume messages counts: messages sent while the service or its
        database was unavailable arrive afterwards.
        """
        sub_job = attempt.sub_job
        arrived = await self.store.arrived(sub_job.sub_job_id, sub_job.job_id, sub_job.result_total)
        if not arrived.all_in:
            time_left = self._time_left(attempt)
            if time_left <= 0:
                return await self._time_out(attempt)
            idle = min(sub_job.idle_for or 0.0, self.runtime.now() - self._listening_since)
            left = self.settings.read_result_idle_timeout - idle
            if left >= 0.0:
                return self._postponed(attempt, max(0.05, min(left + 0.05, time_left)))
        return await self._end(attempt, lambda operations: outcomes.from_messages(operations, arrived))

    # --- cancel, timeout, quarantine -----------------------------------------------------------------

    async def _cancel(self, attempt: Attempt) -> float | Transition:
        """Send the DELETE once; the status at the plugin determines how the sub-job ends.

        A plugin that does not answer the DELETE within the retry timeout counts as one that cannot cancel;
        the retry timeout of its polls starts then.
        """
        async with self.limits.delete(attempt.sub_job.plugin_id):
            answer = await self.circuits.call(_profile(attempt.sub_job), DmiPlugin.cancel, attempt.address)
        if isinstance(answer, Retryable) and (later := self._retry(attempt, answer)):
            return later
        await reached(Checkpoint.CANCEL_SENT)
        if await self.write(CancelSent(attempt.sub_job)):
            attempt.attention.set()
        self.limits.answered(attempt)
        await reached(Checkpoint.CANCEL_RECORDED)
        attempt.sub_job = replace(attempt.sub_job, cancel_requested=False, failing_for=None)
        return 0.0

    async def _time_out(self, attempt: Attempt) -> Transition:
        """Cancel once and end the sub-job, unless a last poll shows that it has ended at the plugin.

        Unless the plugin accepted the DELETE, it may still execute a write, which goes into quarantine.
        """
        sub_job, address = attempt.sub_job, attempt.address
        if sub_job.stage is Stage.TRACKING:
            async with self.limits.call(attempt.sub_job.plugin_id):
                answer = await self.circuits.call(_profile(sub_job), DmiPlugin.status, address)
            if isinstance(answer, Polled) and answer.status.terminal:
                return await self._collect(attempt, answer.status)
        async with self.limits.delete(attempt.sub_job.plugin_id):
            stopped = await self.circuits.call(_profile(sub_job), DmiPlugin.cancel, address)
        return await self._end_all(
            attempt,
            OperationState.UNKNOWN,
            Reason.OUTCOME_UNKNOWN,
            f"not terminal after {self._timeout(attempt.sub_job):g} s",
            executing=not attempt.is_read and not isinstance(stopped, CancelTaken),
        )

    async def _probe(self, attempt: Attempt) -> Transition:
        """End the quarantine of a write when its plugin no longer executes it, or its time is over."""
        sub_job = attempt.sub_job
        left = delay = sub_job.quarantined_for or 0.0
        if left > 0 and sub_job.data_producer_job_id is not None:
            async with self.limits.call(sub_job.plugin_id):
                answer = await self.circuits.call(_profile(sub_job), DmiPlugin.status, attempt.address)
            if isinstance(answer, Lost) or (isinstance(answer, Polled) and answer.status.terminal):
                return QuarantineOver(sub_job)
            pause = unresolved_write_poll_delay(sub_job.ended_for or 0.0, self.runtime.random())
            delay = min(pause, left + 0.01)
        return self._postponed(attempt, delay) if left > 0 else QuarantineOver(sub_job)

    async def cancel_job(self, leased: LeasedCancel) -> None:
        """Ask a plugin to cancel its whole share of a job by one DELETE, and record the answer.

        If the plugin refuses, or does not answer within the retry timeout, each of its sub-jobs becomes due
        for a DELETE of its own. Source: the southbound contract (``bulkCancel``).
        """
        async with self.limits.delete(leased.plugin_id):
            answer = await self.circuits.call(
                _profile(leased), DmiPlugin.cancel_job, str(leased.job_id), is_read=leased.is_read
            )
        await reached(Checkpoint.BULK_CANCEL_SENT)
        if isinstance(answer, Retryable) and leased.failing_for < self._give_up(leased):
            delay = until_next_call(leased.failing_for, self.runtime.random(), answer.retry_after)
            await self.store.postpone_cancel(leased, delay, failed=True)
            self.write.due(CANCEL, delay)
            return
        if not isinstance(answer, CancelTaken):
            self.write.news.bulk_cancel_refused(leased, answer.cause)
        await self.store.end_cancel(leased, refused=not isinstance(answer, CancelTaken))
        self.write.due(SUB_JOB, 0.0)

    # --- retries and ends ----------------------------------------------------------------------------

    async def _again(
        self, attempt: Attempt, answer: _Failure, state: OperationState, *, unsent: bool = False
    ) -> Transition:
        """Retry a failed call later, or end the sub-job after the retry timeout.

        ``unsent``: the call was a create that did not arrive.
        """
        return self._retry(attempt, answer, unsent=unsent) or await self._end_all(
            attempt,
            state,
            Reason.DMI_UNREACHABLE,
            f"given up after {self._give_up(attempt.sub_job):g} s: {answer.cause}",
        )

    def _retry(self, attempt: Attempt, answer: _Failure, *, unsent: bool = False) -> Postponement | None:
        """The postponement until a failed call is due again; ``None`` when the retry timeout is over."""
        failing_for = self._failing_for(attempt)
        left = self._give_up(attempt.sub_job) - failing_for
        if left <= 0:
            return None
        asked = answer.retry_after if isinstance(answer, Retryable) else None
        delay = min(until_next_call(failing_for, self.runtime.random(), asked), max(0.05, left))
        if attempt.sub_job.stage in (Stage.TRACKING, Stage.COLLECTING):
            delay = min(delay, max(0.05, self._time_left(attempt)))
        return self._postponed(attempt, delay, answer.cause[:_ERROR_LENGTH], unsent=unsent)

    def _postponed(
        self, attempt: Attempt, delay: float, cause: str = "", *, unsent: bool = False
    ) -> Postponement:
        sub_job = attempt.sub_job
        trial = self.circuits.next_trial(sub_job.plugin_id) if cause else None
        return Postponement(sub_job, delay, sub_job.polls, cause, unsent, attempt.reported_status, trial)

    async def _end_all(
        self,
        attempt: Attempt,
        state: OperationState,
        reason: Reason,
        cause: str,
        *,
        executing: bool = True,
    ) -> Transition:
        """End the sub-job with all operations in one state. If that is UNKNOWN, and the plugin may still be
        ``executing`` them, the sub-job goes into quarantine."""
        reported = Status.CANCELLED if reason is Reason.CANCELLED else None
        return await self._end(
            attempt,
            lambda operations: outcomes.all_the_same(operations, state, reason, cause, reported=reported),
            error="" if reported else cause,
            quarantine=executing and state is OperationState.UNKNOWN,
        )

    async def _end(
        self,
        attempt: Attempt,
        outcome_of: Callable[[list[Operation]], Outcome],
        kept: Sequence[Part] = (),
        *,
        error: str = "",
        quarantine: bool = False,
    ) -> Ended:
        """Write the result objects, and return the settlement of the sub-job with the outcome of its
        operations."""
        array = await self._operations_array(attempt)
        outcome = await self._computed(
            attempt.sub_job.operations, lambda: outcome_of(outcomes.operations_of(array))
        )
        written = await self._written(attempt, outcome)
        await reached(Checkpoint.COLLECT_WRITTEN)
        attempt.reasons = await self._computed(len(outcome.responses), lambda: reasons_of(outcome.responses))
        counts = outcome.counts
        return Ended(
            attempt.sub_job,
            outcome.status,
            counts.succeeded,
            counts.failed,
            counts.not_started,
            counts.unknown,
            (error or outcome.error)[:_ERROR_LENGTH].replace("\0", " "),
            self.settings.unknown_write_quarantine if quarantine else 0.0,
            counts.succeeded
            + (0 if error else counts.failed),  # an error of the service: nothing was executed
            (*written, *kept),
        )

    async def _written(self, attempt: Attempt, outcome: Outcome) -> list[Part]:
        """Write the result objects and return them.

        The answer to a create exists only in memory, so the write is retried here until the object store is
        available. In other stages the error is raised: a later step obtains the result again.
        """
        begun = self.runtime.now()
        while True:
            try:
                return await self._writer(attempt.sub_job).write(
                    outcome.responses,
                    is_still_owner=lambda: self.store.is_leased(attempt.sub_job),
                    first_sequence=ADDED_SEQUENCE if attempt.is_read else 0,
                )
            except StorageUnavailable as error:
                if attempt.sub_job.stage is not Stage.STARTING:
                    raise
                await self.store.wait_for_objects(attempt.sub_job, str(error)[:_ERROR_LENGTH])
            await self.runtime.sleep(until_next_call(self.runtime.now() - begun, self.runtime.random()))

    # --- values of an attempt ------------------------------------------------------------------------

    def _failing_for(self, attempt: Attempt) -> float:
        """Seconds since the first failed call; for the fetch of a result, since its own first failure."""
        sub_job = attempt.sub_job
        first_fetch = attempt.reported_status is not None and sub_job.reported_status is None
        if sub_job.failing_for is None or first_fetch:
            return 0.0
        return sub_job.failing_for + self.runtime.now() - attempt.claimed_at

    def _give_up(self, leased: LeasedSubJob | LeasedCancel) -> float:
        return self.settings.dmi_retry_timeout if leased.give_up is None else leased.give_up

    def _timeout(self, sub_job: LeasedSubJob) -> float:
        own = sub_job.sub_job_timeout
        return self.settings.sub_job_timeout if own is None else own

    def _time_left(self, attempt: Attempt) -> float:
        """Seconds until the sub-job times out; they count from its first create."""
        running_for = (attempt.sub_job.running_for or 0.0) + self.runtime.now() - attempt.claimed_at
        return self._timeout(attempt.sub_job) - running_for

    def _writer(self, sub_job: LeasedSubJob) -> ResultWriter:
        return ResultWriter(self.objects, sub_job.results_bucket, sub_job.job_id, sub_job.sub_job_id)

    def _until_next_poll(self, attempt: Attempt) -> float:
        delay = poll_delay(attempt.sub_job.polls, self.runtime.random())
        attempt.sub_job = replace(attempt.sub_job, polls=attempt.sub_job.polls + 1)
        return max(0.0, min(delay, self._time_left(attempt) + 0.01))

    async def _operations_array(self, attempt: Attempt) -> bytes:
        """The operations as the JSON array that is sent to the plugin."""
        if attempt.operations is not None:
            return attempt.operations
        body = attempt.sub_job.body or await self.store.body_of(attempt.sub_job.sub_job_id)
        if body is None:
            raise Fenced("the sub-job was ended by another worker")
        array = await self._computed(attempt.sub_job.operations, lambda: outcomes.unpack(body))
        if len(array) <= KEPT_UP_TO:
            attempt.operations = array
        return array

    async def _computed(self, size: int, work: Callable[[], T]) -> T:
        return await self.runtime.in_thread(work) if size > THREAD_OVER else work()


def _profile(leased: LeasedSubJob | LeasedCancel) -> PluginProfile:
    return PluginProfile(leased.plugin_id, leased.url, leased.dialect)
