# SPDX-License-Identifier: Apache-2.0
"""The one loop of a worker: claim rows that are due, run a step of each, renew the leases, sleep until due.

The rows are the queue. A worker keeps a row in memory only while it has the lease, and renews exactly the
leases of the rows it works on. When a worker has ended, its leases become void and other workers claim its
rows. Database notifications only shorten a wait: without them the loop polls once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from ran_datajobs.config import Settings
from ran_datajobs.dispatch.attempt import Attempt
from ran_datajobs.dispatch.backoff import retry_delay
from ran_datajobs.dispatch.executor import Executor
from ran_datajobs.dispatch.limits import DispatchLimits, job_room
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.dispatch.steps import JobSteps
from ran_datajobs.dispatch.transitions import LONGEST_PAUSE, TransitionWriter
from ran_datajobs.errors import (
    DataJobsError,
    Fenced,
    PolicyUnavailable,
    StorageUnavailable,
    StoreUnavailable,
    Unavailable,
)
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.model import Stage, Status
from ran_datajobs.planning.model_validation import ModelSource
from ran_datajobs.plugins.circuit_breaker import CircuitBreakers
from ran_datajobs.plugins.policy import PolicyExecutor
from ran_datajobs.plugins.port import DmiPlugin, PluginProfile
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.dispatch import DispatchStore, LeasedJob
from ran_datajobs.store.sub_jobs import (
    CANCEL,
    JOB,
    LEASE_SECONDS,
    SUB_JOB,
    LeasedCancel,
    LeasedSubJob,
    Postponement,
)

KINDS: Final = frozenset({JOB, SUB_JOB, CANCEL})
"""The kinds of rows that a worker claims."""

LOOK_EVERY: Final = 1.0
"""Interval in seconds at which a worker polls for due rows without a notification."""

RENEW_EVERY: Final = 3.0
"""Interval in seconds between two renewals of a worker's leases."""

CLAIM_PAUSE: Final = 0.004
"""Minimum interval in seconds between two claims, so that rows due in between are claimed together."""

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")


@dataclass(eq=False)
class Worker:
    """Runs until ``stopping`` is set, and continues after every outage of the database.

    After ``stopping`` it claims nothing more. Work in progress gets the ``shutdown_grace`` of the settings;
    the leases of the rest are given back, and creates that were not sent are recorded as such.
    """

    store: DispatchStore
    objects: ObjectStore
    index: OwnerIndex
    plugin_for: Callable[[PluginProfile], DmiPlugin]
    settings: Settings
    news: DispatchNews
    stopping: asyncio.Event
    runtime: Runtime = field(default_factory=Runtime)
    limits: DispatchLimits = field(default_factory=DispatchLimits)
    policy: PolicyExecutor | None = None
    models: ModelSource = field(default_factory=ModelSource)

    def __post_init__(self) -> None:
        self.write = TransitionWriter(self.store, self.runtime, self.news, self.due_in)
        self.executor = Executor(
            self.write,
            CircuitBreakers(self.plugin_for, self.runtime, self.news.metrics, self.news.circuit_changed),
            self.objects,
            self.limits,
            self.settings,
            self.stopping,
        )
        self.steps = JobSteps(
            self.store,
            self.index,
            self.objects,
            self.settings,
            self.runtime,
            self.news,
            self.policy,
            self.models,
        )
        self._wake = asyncio.Event()
        self._due = set(KINDS)
        self._poll_at = 0.0  # when to claim all kinds, regardless of notifications
        self._failures = 0  # consecutive failures of claims
        self._unanswered: set[UUID] = set()  # tokens of claims whose answers were lost
        self._attempts: dict[UUID, Attempt] = {}
        self._jobs: dict[UUID, LeasedJob] = {}
        self._cancels: dict[tuple[UUID, int], LeasedCancel] = {}
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._begun: asyncio.Queue[UUID] = asyncio.Queue()
        self._renewing = asyncio.Lock()
        self._may_be_more = True  # rows may be due that the last claim had no room for
        self.limits.freed = self._room_freed

    def due_in(self, kind: str, seconds: float) -> None:
        """Schedule a claim of this kind of row in ``seconds``."""
        if seconds <= 0:
            self._mark_due(kind)
        elif seconds < 60:
            asyncio.get_running_loop().call_later(seconds, self._mark_due, kind)

    async def run(self, *beside: Coroutine[Any, Any, None]) -> None:
        """Run until stopped, and ``beside`` as long."""
        following = self.store.follow(self._noticed, self._noticed_sub_job)
        own = following, self._renew_forever(), self._mark_begun(), self._watch_stopping()
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(each) for each in (*own, *beside)]
            await self._claim_until_stopped()
            await self._let_end()
            for task in background:
                task.cancel()

    # --- the loop ------------------------------------------------------------------------------------

    async def _claim_until_stopped(self) -> None:
        while not self.stopping.is_set():
            self._wake.clear()
            try:
                if self._failures:
                    await self._renew()  # before this or another worker claims rows in progress here
                    self.executor.listens_anew()
                await self._claim_due()
                if self._failures:
                    self.news.log.info("worker.resumed")
                self._failures = 0
            except Exception as error:  # the loop continues after any failure
                if not self._failures or not isinstance(error, StoreUnavailable):
                    self.news.log.warning("worker.interrupted", cause=str(error) or type(error).__name__)
                self._failures += 1
                self._due |= KINDS
                await self._wait(min(LONGEST_PAUSE, retry_delay(self._failures, self.runtime.random())))
                continue
            await self.runtime.sleep(CLAIM_PAUSE)
            if not self._due:
                await self._wait(self._poll_at - self.runtime.now())

    async def _claim_due(self) -> None:
        await self._recover()
        due, self._due = self._due, set()
        now = self.runtime.now()
        if everything := now >= self._poll_at:
            due, self._poll_at = set(KINDS), now + LOOK_EVERY
        claims: list[Coroutine[Any, Any, None]] = []
        if JOB in due:
            claims.append(self._claim_jobs())
        if SUB_JOB in due:
            claims.append(self._claim_sub_jobs(void=everything))
        if CANCEL in due:
            claims.append(self._claim_cancels())
        ends = await asyncio.gather(*claims, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                self._poll_at = 0.0
                raise end

    async def _claim_sub_jobs(self, *, void: bool) -> None:
        """``void``: also claim rows with void leases, which costs more the more rows are leased."""
        room = self.limits.room()
        self._may_be_more = True  # what is freed during the claim is for the next one
        token, sent = self.runtime.new_id(), self.runtime.now()
        claimed = await self._claimed(token, self.store.claim_sub_jobs(room, token, void=void))
        self._may_be_more = room.is_full or bool(claimed)
        self.limits.note(room, self._begin_sub_jobs(claimed, sent))

    async def _claim_jobs(self) -> None:
        token = self.runtime.new_id()
        room = job_room(self._jobs.values())
        self._begin_jobs(await self._claimed(token, self.store.claim_jobs(room, token)))

    async def _claimed(self, token: UUID, claim: Awaitable[list[R]]) -> list[R]:
        """Return the rows of a claim. If its answer is lost, they are found by the ``token``."""
        try:
            return await claim
        except BaseException:
            self._unanswered.add(token)
            raise

    async def _claim_cancels(self) -> None:
        """Rows leased by a claim whose answer was lost are claimed again when their leases are void."""
        for leased in await self.store.claim_cancels(self.runtime.new_id()):
            self._begin(self._cancels, (leased.job_id, leased.plugin_id), leased, self._cancel_job(leased))

    async def _recover(self) -> None:
        """Start the rows leased by claims whose answers were lost: work on them has not begun."""
        for token in tuple(self._unanswered):
            sent = self.runtime.now()
            leased, found_jobs = await self.store.leased_under(token)
            found = [each for each in leased if not self._works_on(each)]
            kept = await self.store.renew({each.sub_job_id: each.lease for each in found}, {})
            self._begin_sub_jobs([each for each in found if each.sub_job_id in kept], sent)
            self._begin_jobs([job for job in found_jobs if job.job_id not in self._jobs])
            if len(kept) == len(found):
                self._unanswered.discard(token)
            else:
                self._mark_due(SUB_JOB)  # the others are locked now, or claimed by another worker

    def _works_on(self, sub_job: LeasedSubJob) -> bool:
        attempt = self._attempts.get(sub_job.sub_job_id)
        return attempt is not None and attempt.sub_job.lease == sub_job.lease

    def _begin_sub_jobs(self, claimed: list[LeasedSubJob], sent: float) -> list[Attempt]:
        attempts = [Attempt(sub_job, sent) for sub_job in claimed]
        for attempt in attempts:
            self.limits.add(attempt)
            self._begin(
                self._attempts,
                attempt.sub_job.sub_job_id,
                attempt,
                self._work_on(attempt),
                partial(self.limits.remove, attempt),
            )
        begun = {
            s.job_id for s in claimed if s.stage is Stage.STARTING and s.job_status is Status.NOT_STARTED
        }
        for job_id in begun:
            self._begun.put_nowait(job_id)
        return attempts

    async def _mark_begun(self) -> None:
        """Set jobs to RUNNING while their first creates are sent; the first answer to one does so, too."""
        while True:
            job_ids = {await self._begun.get()}
            while not self._begun.empty():
                job_ids.add(self._begun.get_nowait())
            with contextlib.suppress(Exception):
                await self.store.begun(list(job_ids))

    def _begin_jobs(self, claimed: list[LeasedJob]) -> None:
        for job in claimed:
            # A plan's sub-jobs are claimed with the next jobs, before the database's notification arrives.
            due = (JOB,) if job.planned else (JOB, SUB_JOB)
            self._begin(self._jobs, job.job_id, job, self._take_step(job), partial(self._mark_due, *due))

    def _begin(
        self,
        rows: dict[K, R],
        key: K,
        row: R,
        work: Coroutine[Any, Any, None],
        over: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the task of a leased row, which is in ``rows`` meanwhile. ``over`` is called when the task
        has ended, also if it never ran."""
        self._drop(key)  # its lease was void: this worker has claimed the row anew
        rows[key] = row
        task = self._tasks[key] = asyncio.create_task(work)

        def ended(done: asyncio.Task[None]) -> None:
            if self._tasks.get(key) is done:
                del self._tasks[key], rows[key]
            over()

        task.add_done_callback(ended)

    # --- one row -------------------------------------------------------------------------------------

    async def _work_on(self, attempt: Attempt) -> None:
        """Run the executor on a leased sub-job. After an unexpected error the row is due again later."""
        try:
            await self.executor.run(attempt)
        except Fenced:
            self.news.lease_lost(SUB_JOB)
        except Exception as error:
            self._log_failure(SUB_JOB, attempt.sub_job.sub_job_id, error)
            polls = attempt.sub_job.polls
            delay = retry_delay(polls, self.runtime.random())
            with contextlib.suppress(Exception):
                await self.write(Postponement(attempt.sub_job, delay, polls + 1))

    async def _take_step(self, job: LeasedJob) -> None:
        """Plan or finish a leased job. A failed step is due again after a growing delay."""
        try:
            await (self.steps.finish(job) if job.planned else self.steps.plan(job))
        except Fenced:
            self.news.lease_lost(JOB)
        except Exception as error:
            no_objects = str(error) if isinstance(error, StorageUnavailable) else None
            if no_objects is None and not isinstance(error, PolicyUnavailable):  # these are logged once
                self._log_failure("finish" if job.planned else "plan", job.job_id, error)
            delay = retry_delay(job.step_failures, self.runtime.random())
            await self.write.until_available(lambda: self.store.step_failed(job, delay, no_objects))
            self.due_in(JOB, delay)

    async def _cancel_job(self, leased: LeasedCancel) -> None:
        """Cancel a whole job at a plugin. After a failure the call is repeated once the lease is void."""
        try:
            await self.executor.cancel_job(leased)
        except Exception as error:
            self._log_failure(CANCEL, leased.job_id, error)

    def _log_failure(self, kind: str, subject: UUID, error: Exception) -> None:
        unexpected = not isinstance(error, Unavailable)
        self.news.log.warning(
            "task.failed", kind=kind, subject=str(subject), cause=str(error), exc_info=unexpected
        )

    # --- leases --------------------------------------------------------------------------------------

    async def _renew_forever(self) -> None:
        """Renew the leases every :data:`RENEW_EVERY` seconds; check for lost notifications every second."""
        next_renewal = self.runtime.now() + RENEW_EVERY
        while True:
            await self.runtime.sleep(min(LOOK_EVERY, max(0.05, next_renewal - self.runtime.now())))
            try:
                await self._look_for_attention()
                if self.runtime.now() >= next_renewal:
                    await self._renew()
                    await self.store.end_silent_sessions()
                    next_renewal = self.runtime.now() + RENEW_EVERY
            except StoreUnavailable:
                pass  # logged by the claim loop
            except Exception as error:
                self.news.log.warning("worker.interrupted", cause=str(error) or type(error).__name__)

    async def _renew(self) -> None:
        """Renew the leases of rows in progress. Rows that another worker has claimed are dropped; the next
        call, which waits for this one, leaves them out."""
        async with self._renewing:
            attempts = {
                sub_job_id: attempt
                for sub_job_id, attempt in self._attempts.items()
                if not self._tasks[sub_job_id].cancelling()
            }
            sent = self.runtime.now()
            if self._cancels:
                await self.store.renew_cancels(list(self._cancels.values()))
            if not attempts and not self._jobs:
                return
            kept = await self.store.renew(
                {sub_job_id: each.sub_job.lease for sub_job_id, each in attempts.items()},
                {job_id: each.lease for job_id, each in self._jobs.items()},
            )
            for sub_job_id, attempt in attempts.items():
                if sub_job_id in kept:
                    attempt.valid_until = sent + LEASE_SECONDS
                elif self._attempts.get(sub_job_id) is attempt and sent >= attempt.valid_until:
                    self._drop(sub_job_id)
                    self.news.lease_lost(SUB_JOB)

    def _drop(self, key: Hashable) -> None:
        if task := self._tasks.get(key):
            task.cancel()

    async def _look_for_attention(self) -> None:
        if not self._attempts:
            return
        for sub_job_id in await self.store.with_attention(list(self._attempts)):
            self._noticed_sub_job(str(sub_job_id))

    # --- notifications and waits ---------------------------------------------------------------------

    def _noticed(self, payload: str | None) -> None:
        self._mark_due(*(KINDS if payload is None else {payload}))

    def _noticed_sub_job(self, payload: str | None) -> None:
        if payload is not None and (attempt := self._attempts.get(UUID(payload))):
            attempt.attention.set()

    def _room_freed(self) -> None:
        if self._may_be_more:
            self._mark_due(SUB_JOB)

    def _mark_due(self, *kinds: str) -> None:
        self._due.update(kinds)
        self._wake.set()

    async def _wait(self, seconds: float) -> None:
        """Return when a kind is marked as due, or after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    # --- stop ----------------------------------------------------------------------------------------

    async def _watch_stopping(self) -> None:
        await self.stopping.wait()
        self._wake.set()
        for attempt in self._attempts.values():
            attempt.attention.set()

    async def _let_end(self) -> None:
        """Wait for work in progress; give back the leases of rows that do not end within the grace."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self.settings.shutdown_grace)
        attempts, jobs = list(self._attempts.values()), list(self._jobs.values())
        cancels = list(self._cancels.values())
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(DataJobsError):
            for leased in cancels:
                await self.store.postpone_cancel(leased, 0.0, failed=False)
        with contextlib.suppress(DataJobsError):
            await self.store.give_back(
                {each.sub_job.sub_job_id: each.sub_job.lease for each in attempts},
                [each.sub_job.sub_job_id for each in attempts if each.is_unsent],
                {each.job_id: each.lease for each in jobs},
                list(self._unanswered),
            )
