# SPDX-License-Identifier: Apache-2.0
"""One step of one sub-job: start it at its plugin, ask how it is, collect its result, or cancel it.

What a plugin does wrong becomes an outcome. The rules for repeats are those of the southbound contract: polls
and fetches are repeated inside a time budget; a create only where a second one does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from random import Random
from typing import Final, TypeVar, assert_never

from msgspec import Struct
from msgspec.structs import replace

from ran_datajobs.checkpoints import Checkpoint, Reached, pass_by
from ran_datajobs.dispatch import outcomes
from ran_datajobs.dispatch.backoff import until_next_poll
from ran_datajobs.dispatch.circuit import Circuits
from ran_datajobs.dispatch.flight import Flights
from ran_datajobs.dispatch.outcomes import Outcome
from ran_datajobs.dispatch.progress import Moved, Progress, Settled, StepEnd, Unsure
from ran_datajobs.dispatch.steps import LaneSteps, Settling
from ran_datajobs.errors import Fenced
from ran_datajobs.job import ActivationMode, JobType, Operation, OperationState, Reason, Status
from ran_datajobs.results.collection import ResultObjects
from ran_datajobs.southbound.plugin import (
    CancelTaken,
    CannotCancel,
    CreateAnswer,
    CreateCall,
    Created,
    DmiPlugin,
    ForeignBody,
    JobAddress,
    Lost,
    NoAnswer,
    NotArrived,
    OnTopic,
    OutcomeUnknown,
    PluginProfile,
    Polled,
    Refused,
    UnreadableBody,
)
from ran_datajobs.store.lanes import (
    COLLECTING,
    READY,
    STARTING,
    TRACKING,
    ClaimedLane,
    ClosingWrite,
    Held,
    OpenSubJob,
    Settlement,
    Waiting,
)
from ran_datajobs.store.parts import Part

T = TypeVar("T")

THREAD_OVER: Final = 1000
"""Operations from which on outcomes are worked out on a thread, so that the loop goes on."""


LARGE_AT_ONCE: Final = 2
"""Such sub-jobs that are collected at a time: every thread that is busy holds up the loop, and small jobs."""

LEAST_PATIENCE: Final = 1.0
"""Seconds that a fetch may stand still, however little is left of its budget."""

KEPT_UP_TO: Final = 8192
"""Bytes of operations that a turn keeps between the create and the result, so that they are read once."""


class DispatchLimits(Struct, frozen=True):
    """Time limits in seconds, where the registration of a plugin does not say otherwise."""

    give_up: float = 120.0
    sub_job_timeout: float = 3600.0
    lane_quarantine: float = 300.0
    result_idle: float = 30.0


class SubJobRunner:
    """Drives sub-jobs, one step at a time."""

    def __init__(
        self,
        steps: LaneSteps,
        plugin_for: Callable[[PluginProfile], DmiPlugin],
        objects: ResultObjects,
        limits: DispatchLimits,
        chance: Random,
        flights: Flights,
        circuits: Circuits,
        reached: Reached = pass_by,
    ) -> None:
        self.reached = reached
        self.flights = flights
        self.circuits = circuits
        self.large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._steps = steps
        self._plugin_for = plugin_for
        self._objects = objects
        self._limits = limits
        self._chance = chance

    async def step(self, lane: ClaimedLane, sub_job: OpenSubJob, progress: Progress) -> StepEnd:
        """Bring ``sub_job`` one step on; where it stands then. Raises Fenced when the lane was lost."""
        progress.touched = True
        visit = _Visit(self, lane, sub_job, progress)
        if sub_job.stage == READY and sub_job.cancel_asked:
            await visit.end_unsent()
        elif sub_job.stage in (READY, STARTING):
            await visit.start()
        elif sub_job.cancel_asked:
            await visit.cancel()
        elif (sub_job.running_for or 0.0) > visit.profile.sub_job_timeout and not progress.fetching:
            await visit.time_out()
        elif sub_job.stage == TRACKING:
            await visit.track()
        elif sub_job.stage == COLLECTING:
            await visit.gather()
        return visit.end

    async def has_ended(self, lane: ClaimedLane, write: ClosingWrite) -> bool:
        """Whether a write that was given up has ended at its plugin, or is unknown there."""
        address = JobAddress(
            str(write.job_id),
            lane.data_producer_id,
            write.data_producer_job_id,
            write.destination,
            False,
            write.operations,
        )
        answer = await self._plugin_for(self.profile(lane)).status(address)
        match answer:
            case Polled(status=status):
                return status.terminal
            case Lost():
                return True
            case NoAnswer():
                return False
            case _:
                assert_never(answer)

    def profile(self, lane: ClaimedLane) -> PluginProfile:
        """The plugin of a lane, with the limits that hold for it."""
        limits = self._limits
        return PluginProfile(
            plugin_id=lane.plugin_id,
            url=lane.url,
            dialect=lane.dialect,
            idempotent=lane.idempotent,
            stop_on_error=lane.stop_on_error,
            give_up=limits.give_up if lane.give_up is None else lane.give_up,
            sub_job_timeout=(
                limits.sub_job_timeout if lane.sub_job_timeout is None else lane.sub_job_timeout
            ),
        )


class _Visit:
    """One step's view of a sub-job: its lane, its plugin, and what the turn remembers.

    ``end``: where the sub-job stands after the step.
    """

    def __init__(
        self, runner: SubJobRunner, lane: ClaimedLane, sub_job: OpenSubJob, progress: Progress
    ) -> None:
        self.end: StepEnd = Unsure()
        self._steps = runner._steps
        self._objects = runner._objects
        self._limits = runner._limits
        self._chance = runner._chance
        self._reached = runner.reached
        self._flights = runner.flights
        self._large = runner.large
        self._circuits = runner.circuits
        self.profile = runner.profile(lane)
        self._plugin = runner._plugin_for(self.profile)
        self._lane = lane
        self._sub_job = sub_job
        self._progress = progress
        self._held = Held(sub_job.sub_job_id, sub_job.job_id, sub_job.lane_id, lane.epoch)
        self._is_read = sub_job.type is JobType.READ

    @property
    def _destination(self) -> str:
        return self._sub_job.destination or self._sub_job.results_bucket

    @property
    def _repeat_is_safe(self) -> bool:
        return self.profile.idempotent or self._is_read

    @property
    def _gave_up(self) -> bool:
        return self._progress.in_trouble_for(time.monotonic()) >= self.profile.give_up

    def _address(self) -> JobAddress:
        return JobAddress(
            str(self._sub_job.job_id),
            self._lane.data_producer_id,
            self._sub_job.data_producer_job_id or "",
            self._destination,
            self._is_read,
            self._sub_job.operations,
        )

    async def start(self) -> None:
        """Send the create, unless an earlier one may have arrived and a second could do harm.

        Its answer is kept until it is recorded: when the store is away meanwhile, nothing is sent again.
        """
        if self._progress.answer is None:
            if self._progress.create_lost and not self._repeat_is_safe:
                await self._end_unknown("the create was under way when its worker ended")
                return
            async with self._flights.create(self.profile.url, self._sub_job.body_bytes) as cleared:
                if not cleared:
                    return
                shut = self._circuits.shut(self.profile.plugin_id)
                self._progress.answer = shut or await self._create()
        await self._take(self._progress.answer)

    async def _create(self) -> CreateAnswer:
        body = await self._steps.starting(self._held)
        if body is None:
            raise Fenced("the sub-job was taken over or cancelled")
        await self._reached(Checkpoint.START_MARKED)
        operations = outcomes.unpack(body)
        if len(operations) <= KEPT_UP_TO:
            self._progress.body = operations
        answer = await self._plugin.create(self._call(operations))
        await self._reached(Checkpoint.START_SENT)
        return answer

    async def _take(self, answer: CreateAnswer) -> None:
        progress = self._progress
        match answer:
            case Created(data_producer_job_id=producer_job):
                if not await self._steps.started((self._held, producer_job)):
                    raise Fenced("the sub-job was taken over while its create was under way")
                await self._reached(Checkpoint.START_RECORDED)
                progress.recovered()
                self._wait_for_next_poll()
                self.end = Moved(_started(self._sub_job, producer_job))
            case Refused(cause=cause):
                await self._end_all(OperationState.FAILED, Reason.DMI_REFUSED, cause)
            case NotArrived(cause=cause, retry_after=asked) if progress.create_lost:
                await self._repeat_or_end(cause, asked, self._unfinished)
            case NotArrived(cause=cause, retry_after=asked):
                await self._repeat_or_end(cause, asked, OperationState.FAILED, unsent=True)
            case OutcomeUnknown(cause=cause):
                progress.create_lost = True
                if self._repeat_is_safe:
                    await self._repeat_or_end(cause, None, self._unfinished)
                else:
                    await self._end_unknown(cause)
            case _:
                assert_never(answer)
        progress.answer = None

    def _call(self, operations: bytes) -> CreateCall:
        return CreateCall(
            job_id=str(self._sub_job.job_id),
            sub_job_id=str(self._sub_job.sub_job_id),
            data_producer_id=self._lane.data_producer_id,
            destination=self._destination,
            accept_type=self._sub_job.accept_type,
            content_type=self._sub_job.content_type,
            activation_mode=ActivationMode(self._sub_job.activation_mode),
            is_read=self._is_read,
            operations=operations,
        )

    async def track(self) -> None:
        """Ask the plugin for the status; a terminal one is followed by the result at once.

        Once it has told a terminal one, the time budget is the result's, whatever it answers to polls then.
        """
        if self._progress.told is not None:
            await self._collect(self._progress.told)
            return
        answer = await self._plugin.status(self._address())
        match answer:
            case Polled(status=status) if status.terminal:
                self._progress.ended(status, time.monotonic())
                await self._reached(Checkpoint.TRACK_TOLD)
                await self._collect(status)
            case Polled(status=status) if self._progress.fetching:
                await self._fetch_again_or_end(f"after its end the plugin says {status.value}", None)
            case Polled():
                self._progress.recovered()
                self._wait_for_next_poll()
                if self._sub_job.in_trouble_for is None:
                    self.end = Moved(self._sub_job)
            case Lost(cause=cause):
                await self._end_lost(cause)
            case NoAnswer(cause=cause, retry_after=asked) if self._progress.fetching:
                await self._fetch_again_or_end(cause, asked)
            case NoAnswer(cause=cause, retry_after=asked):
                await self._repeat_or_end(cause, asked, self._unfinished)
            case _:
                assert_never(answer)

    async def _collect(self, told: Status) -> None:
        async with self._flights.operations(self.profile.url, self._sub_job.body_bytes):
            if self._sub_job.operations <= THREAD_OVER:
                await self._fetch_and_end(told)
                return
            async with self._large:
                await self._fetch_and_end(told)

    async def _fetch_and_end(self, told: Status) -> None:
        left = self.profile.give_up - self._progress.in_trouble_for(time.monotonic())
        address = replace(self._address(), patience=max(left, LEAST_PATIENCE))
        answer = await self._plugin.result(address)
        await self._reached(Checkpoint.COLLECT_FETCHED)
        match answer:
            case OnTopic(topic=topic) if self._is_read:
                if not await self._steps.collecting((self._held, topic)):
                    raise Fenced("the sub-job was taken over while its result was fetched")
                await self._reached(Checkpoint.ARRIVAL_AWAITED)
                self._progress.recovered()
                self._progress.polls = 0
                self._progress.due_at = time.monotonic()
            case Lost() if told is Status.CANCELLED:
                await self._end(outcomes.from_status(await self._operations(), told))
            case Lost(cause=cause):
                await self._end_lost(cause)
            case NoAnswer(cause=cause, retry_after=asked):
                await self._fetch_again_or_end(cause, asked)
            case _:
                await self._end_with(answer, told)

    async def _end_with(self, result: outcomes.Result, told: Status) -> None:
        """End with what came, a body that has no outcomes kept as it is."""
        kept: tuple[Part, ...] = ()
        if isinstance(result, ForeignBody | UnreadableBody):
            kept = await self._objects.keep_foreign(
                self._sub_job.results_bucket, self._held.job_id, self._held.sub_job_id, result.body
            )
        operations = await self._operations()
        outcome = await _worked_out(
            len(operations),
            lambda: outcomes.of_result(
                operations,
                result,
                told,
                is_read=self._is_read,
                cancel_asked=self._sub_job.job_cancel_asked,
                kept_as=kept[0].key if kept else "",
            ),
        )
        await self._end(outcome, kept)

    async def gather(self) -> None:
        """See whether all messages of a read are in; the messages themselves are taken elsewhere."""
        arrived = await self._objects.arrived(
            self._held.sub_job_id, self._held.job_id, self._sub_job.result_total
        )
        left = self._limits.result_idle - (self._sub_job.idle_for or 0.0)
        if not arrived.all_in and left >= 0.0:
            self._progress.due_at = time.monotonic() + left + 0.05
            return
        states = await self._objects.states(self._held.job_id, self._held.sub_job_id)
        await self._end(outcomes.from_messages(await self._operations(), states, arrived))

    async def cancel(self) -> None:
        """Tell the plugin once; how the sub-job ends is its status's word, as ever.

        A plugin that does not answer the DELETE within the budget counts as one that cannot cancel; its polls
        then have a budget of their own.
        """
        answer = await self._plugin.cancel(self._address())
        match answer:
            case CancelTaken() | CannotCancel():
                pass
            case NoAnswer(cause=cause, retry_after=asked):
                if not self._gave_up:
                    self._stumble(cause, asked)
                    return
            case _:
                assert_never(answer)
        await self._reached(Checkpoint.CANCEL_SENT)
        if not await self._steps.cancelling(self._held):
            raise Fenced("the sub-job was taken over while it was being cancelled")
        await self._reached(Checkpoint.CANCEL_RECORDED)
        if not self._progress.fetching:
            self._progress.recovered()
        self._progress.due_at = time.monotonic()

    async def time_out(self) -> None:
        """Cancel once, then give up, unless it turns out to have ended: nobody may have asked for long.

        Unless the plugin took the DELETE it may still be executing: the lane is closed to other writes until
        its status says that it has ended.
        """
        if self._sub_job.stage == TRACKING and self._progress.told is None and self._progress.stopped is None:
            answer = await self._plugin.status(self._address())
            if isinstance(answer, Polled) and answer.status.terminal:
                self._progress.ended(answer.status, time.monotonic())
        if self._progress.told is not None:
            await self._collect(self._progress.told)
            return
        if self._progress.stopped is None:
            self._progress.stopped = await self._plugin.cancel(self._address())
        taken = isinstance(self._progress.stopped, CancelTaken)
        cause = f"not terminal after {self.profile.sub_job_timeout:g} s"
        await self._end_all(
            OperationState.UNKNOWN,
            Reason.OUTCOME_UNKNOWN,
            cause,
            close_lane=not self._is_read and not taken,
        )

    async def end_unsent(self) -> None:
        """A cancel came before the start: no operation was sent."""
        outcome = outcomes.all_the_same(
            await self._operations(),
            OperationState.NOT_STARTED,
            Reason.CANCELLED,
            "cancelled before it was sent",
            cancelled=True,
        )
        await self._end(outcome)

    @property
    def _unfinished(self) -> OperationState:
        """What is known of an operation that was sent and not heard of again."""
        return OperationState.FAILED if self._is_read else OperationState.UNKNOWN

    def _wait_for_next_poll(self) -> None:
        delay = until_next_poll(self._progress.polls, self._chance.random())
        self._progress.due_at = time.monotonic() + delay
        self._progress.polls += 1

    async def _fetch_again_or_end(self, cause: str, asked: float | None) -> None:
        """The result could not be had: once more after a while, or the end. The plugin has told that it is
        over, so the lane goes on."""
        if not self._gave_up:
            self._stumble(cause, asked)
            return
        error = f"the plugin's result was not to be had within {self.profile.give_up:g} s: {cause}"
        operations = await self._operations()
        await self._end(outcomes.unreadable(operations, error, self._progress.told))

    async def _repeat_or_end(
        self, cause: str, asked: float | None, state: OperationState, *, unsent: bool = False
    ) -> None:
        """A call failed: once more after a while, or the end where the budget is used up.

        ``unsent``: it was a create that did not arrive; the sub-job is as good as never started."""
        if not self._gave_up:
            self._stumble(cause, asked)
            if unsent and not await self._steps.not_arrived(self._waiting()):
                raise Fenced("the sub-job was taken over while its create was under way")
            return
        await self._end_all(
            state,
            Reason.DMI_UNREACHABLE,
            f"given up after {self.profile.give_up:g} s: {cause}",
            close_lane=state is OperationState.UNKNOWN,
        )

    def _stumble(self, cause: str, asked: float | None) -> None:
        self._progress.stumbled(cause, time.monotonic(), self._chance.random(), asked, self.profile.give_up)

    def _waiting(self) -> Waiting:
        progress = self._progress
        delay = max(0.0, progress.due_at - time.monotonic())
        return Waiting(self._held, delay, progress.polls, progress.seen_due, progress.trouble)

    async def _end_unknown(self, cause: str) -> None:
        await self._end_all(OperationState.UNKNOWN, Reason.OUTCOME_UNKNOWN, cause, close_lane=True)

    async def _end_lost(self, cause: str) -> None:
        await self._end_all(self._unfinished, Reason.DMI_LOST_JOB, cause)

    async def _end_all(
        self, state: OperationState, reason: Reason, cause: str, *, close_lane: bool = False
    ) -> None:
        operations = await self._operations()
        outcome = await _worked_out(
            len(operations), lambda: outcomes.all_the_same(operations, state, reason, cause)
        )
        await self._end(outcome, error=cause, close_lane=close_lane)

    async def _operations(self) -> list[Operation]:
        if self._progress.body is not None:
            return outcomes.operations_of(self._progress.body)
        body = await self._steps.body_of(self._held.sub_job_id)
        if body is None:
            raise Fenced("the sub-job was settled by somebody else")
        return await _worked_out(
            self._sub_job.operations, lambda: outcomes.operations_of(outcomes.unpack(body))
        )

    async def _end(
        self,
        outcome: Outcome,
        kept: tuple[Part, ...] = (),
        *,
        error: str = "",
        close_lane: bool = False,
    ) -> None:
        parts = await self._objects.write(
            self._sub_job.results_bucket,
            self._held.job_id,
            str(self._held.sub_job_id),
            outcome.responses,
            beside_messages=self._is_read,
            may_replace=lambda: self._steps.holds(self._held),
        )
        await self._reached(Checkpoint.COLLECT_WRITTEN)
        counts = outcome.counts
        settlement = Settlement(
            self._held,
            outcome.status,
            counts.succeeded,
            counts.failed,
            counts.not_started,
            counts.unknown,
            (error or outcome.error)[:2000],
            self._limits.lane_quarantine if close_lane else 0.0,
        )
        if not await self._steps.settle(Settling(settlement, (*parts, *kept))):
            raise Fenced("the sub-job was settled by somebody else")
        self.end = Settled()
        await self._reached(Checkpoint.COLLECT_SETTLED)


def _started(sub_job: OpenSubJob, data_producer_job_id: str) -> OpenSubJob:
    """``sub_job`` as it stands once its create is recorded."""
    return replace(
        sub_job,
        stage=TRACKING,
        status=Status.RUNNING if sub_job.status is Status.NOT_STARTED else sub_job.status,
        data_producer_job_id=data_producer_job_id,
        attempts=sub_job.attempts + 1,
        polls=0,
        due_at=None,
        due_in=None,
        in_trouble_for=None,
        running_for=sub_job.running_for or 0.0,
    )


async def _worked_out(size: int, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if size > THREAD_OVER else work()
