# SPDX-License-Identifier: Apache-2.0
"""Jobs of one reference plugin: accept, execute in lanes, query, cancel.

A lane is the queue of one data producer: its writes run one at a time in order of arrival, its reads
concurrently with them.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from ran_datajobs.dmi.element import Element
from ran_datajobs.dmi.execution import JOURNAL_AWAY, Executor, Standing
from ran_datajobs.dmi.journal import Accepted, Execution, Journal, KeyTaken, Repeated
from ran_datajobs.dmi.publisher import StatusNews
from ran_datajobs.dmi.records import AcceptedJob, JobState, cancelling
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.model import ActivationMode
from ran_datajobs.telemetry import Logger

ElementOf = Callable[[str], Element | None]
"""Returns the element of a data producer id; ``None`` if the plugin does not serve it."""

_PRUNE_EVERY: Final = 600.0
_PRUNE_AT_ONCE: Final = 1_000
_NEWS_AT_ONCE: Final = 1_000

_Result = TypeVar("_Result")


class NewJob(Struct, frozen=True):
    """A validated create. ``operations``: JSON array of ``job.Operation``; ``sub_job_id``: its key."""

    request_id: str
    sub_job_id: str
    data_producer_id: str
    destination: str
    accept_type: str
    activation_mode: ActivationMode
    is_read: bool
    total: int
    operations: bytes
    fingerprint: bytes
    before_images: bool = False


class Taken(Struct, frozen=True):
    """The job is in the journal under this id, from this call or an earlier one with the same key."""

    job_id: str


class TooManyJobs(Struct, frozen=True):
    """The job was not accepted: the maximum number of open jobs is reached."""


class NoElement(Struct, frozen=True):
    """The plugin does not serve this data producer."""


class Late(Struct, frozen=True):
    """The time of a call is over. ``started``: the element is executing it and may yet complete it; otherwise
    it is never executed."""

    started: bool


class _Call(Generic[_Result]):
    """A call of an element outside a job: ``turn`` is done when it may start."""

    def __init__(self, work: Callable[[Element], Awaitable[_Result]]) -> None:
        self.work = work
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.started = False


class _Lane:
    """What waits for one data producer."""

    def __init__(self) -> None:
        self.writes: deque[Standing | asyncio.Future[None]] = deque()
        self.reads: deque[Standing | asyncio.Future[None]] = deque()
        self.write_runs = False
        self.reads_running = 0


class PluginJobs:
    """All jobs of the plugin; executed between :meth:`open` and :meth:`close`."""

    def __init__(
        self,
        journal: Journal,
        executor: Executor,
        element_of: ElementOf,
        settings: PluginSettings,
        log: Logger,
        news: StatusNews | None = None,
    ) -> None:
        self._journal = journal
        self._executor = executor
        self._element_of = element_of
        self._settings = settings
        self._news = news
        self._standing: dict[str, Standing] = {}
        self._of_request: dict[str, set[str]] = {}  # data job: ids of its jobs
        self._cancelled: set[str] = set()  # data jobs that start no further job
        self._lanes: dict[str, _Lane] = {}
        self._open = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._notifying: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(settings.executing)
        self._stopping = False
        self._log = log

    async def open(self) -> None:
        """Open the journal and enqueue every job in it that has not ended, in order of arrival."""
        states = await self._journal.open()
        self._cancelled = await self._journal.cancelled()
        for state in states:
            standing = self._keep(state)
            if not state.status.terminal:
                self._enqueue(standing)
        self._pruner = asyncio.create_task(self._prune(), name="dmi.prune")

    async def close(self) -> None:
        """Stop between batches. Waits at most the grace period for running batches; the journal keeps the
        rest for the next start."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._settings.grace)
        rest = {*self._tasks, *self._notifying, self._pruner}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._journal.close()

    async def take(self, new: NewJob) -> Taken | KeyTaken | TooManyJobs | NoElement:
        """Accept a job; durable on return. The same key with the same request returns the same job."""
        if self._element_of(new.data_producer_id) is None:
            return NoElement()
        if self._open >= self._settings.open_jobs:
            return TooManyJobs()
        job = AcceptedJob(
            str(uuid.uuid4()),
            new.request_id,
            new.sub_job_id,
            new.data_producer_id,
            new.destination,
            new.accept_type,
            new.activation_mode,
            new.is_read,
            new.total,
            time.time(),
            new.before_images,
        )
        match await self._journal.accept(job, new.fingerprint, new.operations):
            case Accepted():
                standing = self._keep(JobState(job))
                self._enqueue(standing)
                if standing.state.cancel_asked:
                    self._settle_waiting(standing)
                return Taken(job.job_id)
            case Repeated(job_id):
                return Taken(job_id)
            case KeyTaken() as taken:
                return taken

    async def call(
        self,
        data_producer_id: str,
        work: Callable[[Element], Awaitable[_Result]],
        *,
        is_read: bool,
        within: float,
    ) -> _Result | Late | TooManyJobs | NoElement:
        """Result of ``work`` at the element of a data producer, which waits for its turn in the lane like a
        job. It is not in the journal: a caller that gets no answer knows no outcome. Of the seconds
        ``within``, waiting for the turn is a part. ``work`` that was started is completed, even if the
        caller no longer waits."""
        element = self._element_of(data_producer_id)
        if element is None:
            return NoElement()
        if self._open >= self._settings.open_jobs:
            return TooManyJobs()
        lane = self._lanes.setdefault(data_producer_id, _Lane())
        call = _Call(work)
        self._open += 1
        (lane.reads if is_read else lane.writes).append(call.turn)
        self._advance(lane)
        task = self._start(self._run_call(lane, call, element, is_read), data_producer_id)
        try:
            await asyncio.wait({task}, timeout=within)
        finally:
            if not task.done() and not call.started:
                task.cancel()
        return task.result() if task.done() and not task.cancelled() else Late(call.started)

    def state(self, job_id: str) -> JobState | None:
        """State of a job; ``None`` if there is no job with this id."""
        standing = self._standing.get(job_id)
        return None if standing is None else standing.shown

    async def cancel(self, job_id: str) -> JobState | None:
        """Cancel a job: at once if it waits, else before its next batch. Returns its state, which is
        terminal if it had ended before; ``None`` if there is no job with this id."""
        standing = self._standing.get(job_id)
        if standing is None:
            return None
        if not standing.state.status.terminal and not standing.state.cancel_asked:
            state = standing.state = cancelling(standing.state)
            await self._journal.record(state)
            standing.shown = state
            self._settle_waiting(standing)
        return standing.shown

    async def cancel_all(self, request_id: str) -> None:
        """Cancel all jobs of a data job, including those that arrive later; durable on return.

        A waiting job ends at once, a running one before its next batch.
        """
        self._cancelled.add(request_id)
        found = [self._standing[job_id] for job_id in self._of_request.get(request_id, ())]
        asked = [each for each in found if not each.state.status.terminal and not each.state.cancel_asked]
        for standing in asked:
            standing.state = cancelling(standing.state)
        states = [standing.state for standing in asked]
        await self._journal.cancel_all(request_id, [each for each in states if not each.status.terminal])
        for standing, state in zip(asked, states, strict=True):
            if not standing.state.status.terminal:
                standing.shown = state
                self._settle_waiting(standing)

    def responses(self, job_id: str) -> AsyncIterator[bytes]:
        """Yield the outcomes of a write in the order of its operations, as pieces of comma-separated JSON."""
        return self._journal.responses(job_id)

    async def history(self, data_producer_id: str, after: int, limit: int) -> list[Execution]:
        """Batches that were sent to the element of a data producer, in order, after line ``after``."""
        return await self._journal.history(data_producer_id, after, limit)

    def _keep(self, state: JobState) -> Standing:
        """Add a job to the memory; if its data job was cancelled before, the job starts as cancelled."""
        job = state.job
        if job.request_id in self._cancelled and not state.status.terminal and not state.cancel_asked:
            state = cancelling(state)
        standing = self._standing[job.job_id] = Standing(state, self._halting)
        self._of_request.setdefault(job.request_id, set()).add(job.job_id)
        return standing

    def _settle_waiting(self, standing: Standing) -> None:
        """End a cancelled job that still waits in its lane, ahead of the jobs before it."""
        job = standing.state.job
        lane = self._lanes[job.data_producer_id]
        waiting = lane.reads if job.is_read else lane.writes
        if standing in waiting:
            waiting.remove(standing)
            self._start(self._run(standing), job.job_id)

    def _halting(self) -> bool:
        return self._stopping

    def _enqueue(self, standing: Standing) -> None:
        job = standing.state.job
        lane = self._lanes.setdefault(job.data_producer_id, _Lane())
        self._open += 1
        (lane.reads if job.is_read else lane.writes).append(standing)
        self._advance(lane)

    def _advance(self, lane: _Lane) -> None:
        """Start the jobs that may run now."""
        if self._stopping:
            return
        while lane.writes and not lane.write_runs:
            lane.write_runs = self._begin(lane, lane.writes.popleft(), self._run_write)
        while lane.reads and lane.reads_running < self._settings.reads:
            lane.reads_running += self._begin(lane, lane.reads.popleft(), self._run_read)

    def _begin(
        self,
        lane: _Lane,
        waiting: Standing | asyncio.Future[None],
        run: Callable[[_Lane, Standing], Coroutine[None, None, None]],
    ) -> bool:
        """Start a job or a call. False if nobody waits for the call any more."""
        if isinstance(waiting, Standing):
            self._start(run(lane, waiting), waiting.state.job.job_id)
        elif waiting.done():
            return False
        else:
            waiting.set_result(None)
        return True

    async def _run_call(self, lane: _Lane, call: _Call[_Result], element: Element, is_read: bool) -> _Result:
        try:
            await call.turn
            async with self._slots:
                call.started = True
                return await call.work(element)
        finally:
            self._open -= 1
            if not call.turn.cancelled():
                if is_read:
                    lane.reads_running -= 1
                else:
                    lane.write_runs = False
                self._advance(lane)

    async def _run_write(self, lane: _Lane, standing: Standing) -> None:
        try:
            await self._run(standing)
        finally:
            lane.write_runs = False
            self._advance(lane)

    async def _run_read(self, lane: _Lane, standing: Standing) -> None:
        try:
            await self._run(standing)
        finally:
            lane.reads_running -= 1
            self._advance(lane)

    async def _run(self, standing: Standing) -> None:
        job = standing.state.job
        element = self._element_of(job.data_producer_id)
        if element is None:
            cause = f"data producer {job.data_producer_id!r} no longer has an element"
            self._log.error("dmi.element_broken", data_producer_job_id=job.job_id, cause=cause)
            return
        async with self._slots:
            while not self._stopping and not standing.state.status.terminal:
                try:
                    await (self._executor.read if job.is_read else self._executor.write)(standing, element)
                except StoreUnavailable as error:
                    self._log.error("dmi.journal_unavailable", cause=str(error), pause=JOURNAL_AWAY)
                    await asyncio.sleep(JOURNAL_AWAY)
        if standing.state.status.terminal:
            self._open -= 1
            self._notify(standing.state)

    def _notify(self, state: JobState) -> None:
        """Send the final status to NCMP, unless too many such calls are in flight: NCMP polls as well."""
        if self._news is not None and state.job.sub_job_id and len(self._notifying) < _NEWS_AT_ONCE:
            news = self._news.tell(state.job.sub_job_id, state.job.job_id, state.status)
            task = asyncio.create_task(news, name="dmi.news")
            self._notifying.add(task)
            task.add_done_callback(self._notifying.discard)

    async def _prune(self) -> None:
        """Delete jobs and cancels that are older than the retention, periodically."""
        while True:
            try:
                before = time.time() - self._settings.retention
                while forgotten := await self._journal.forget_ended(before, _PRUNE_AT_ONCE):
                    for job_id in forgotten:
                        self._forget(job_id)
                self._cancelled -= set(await self._journal.forget_cancelled(before))
            except StoreUnavailable as error:
                self._log.error("dmi.journal_unavailable", cause=str(error), pause=_PRUNE_EVERY)
            await asyncio.sleep(_PRUNE_EVERY)

    def _forget(self, job_id: str) -> None:
        if standing := self._standing.pop(job_id, None):
            request_id = standing.state.job.request_id
            self._of_request[request_id].discard(job_id)
            if not self._of_request[request_id]:
                del self._of_request[request_id]

    def _start(self, work: Coroutine[None, None, _Result], subject: str) -> asyncio.Task[_Result]:
        task = asyncio.create_task(work, name=f"dmi.job.{subject}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error(
                "task.failed", kind="dmi", subject=task.get_name(), cause=repr(error), exc_info=error
            )
