# SPDX-License-Identifier: Apache-2.0
"""A lane's turn: start, track and collect its sub-jobs, then give the lane back.

One write runs at a time, and up to N reads beside it; none waits for another one's call. Whoever takes a turn
holds the lane under a fresh epoch; what is due soon is waited for, what is due later is left to a task of its
own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Coroutine
from random import random
from typing import Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.dispatch.backoff import until_next_look
from ran_datajobs.dispatch.progress import Progress
from ran_datajobs.dispatch.steps import LaneSteps, Release
from ran_datajobs.dispatch.sub_jobs import SubJobRunner
from ran_datajobs.errors import DataJobsError, Fenced, StoreUnavailable
from ran_datajobs.job import JobType
from ran_datajobs.store.lanes import (
    READY,
    ClaimedLane,
    ClosingWrite,
    Held,
    HeldElsewhere,
    Look,
    OpenSubJob,
    Waiting,
)

HOLD_FOR: Final = 1.0
"""Seconds that a lane is held while nothing of it is due; more is left to a delayed task. Also how often a
holder looks for something new while calls are under way."""

SOON: Final = 0.1
"""Seconds until a sub-job is looked at again whose step found it changed."""


class Done(Struct, frozen=True):
    """The turn is over, and whatever is left has a task of its own."""


class Again(Struct, frozen=True):
    """The same task is needed once more after ``delay`` seconds."""

    delay: float


class LaneTurns:
    """Takes turns in lanes. ``stopping`` ends them at the next sensible point, with nothing lost."""

    def __init__(
        self,
        steps: LaneSteps,
        runner: SubJobRunner,
        worker_id: UUID,
        *,
        default_read_slots: int,
        stopping: asyncio.Event,
    ) -> None:
        self._steps = steps
        self._runner = runner
        self._worker_id = worker_id
        self._default_read_slots = default_read_slots
        self._stopping = stopping
        self._held: dict[int, _HeldLane] = {}

    async def take(self, lane_id: int, task_id: int) -> Done | Again:
        """Take a turn for one task. Raises only what a later repeat can cure."""
        if self._stopping.is_set():
            return Again(0.0)
        claimed = await self._steps.claim((lane_id, task_id))
        match claimed:
            case None:
                return Done()
            case HeldElsewhere(worker_id=worker_id, task_id=holder):
                if worker_id == self._worker_id and lane_id in self._held:
                    self._held[lane_id].poke()
                    return Done()
                return Again(1.0) if holder == task_id or worker_id == self._worker_id else Done()
            case ClaimedLane():
                return await self._hold(claimed)

    async def _hold(self, lane: ClaimedLane) -> Done | Again:
        held = self._held[lane.lane_id] = _HeldLane(
            self._steps, self._runner, lane, lane.read_slots or self._default_read_slots, self._stopping
        )
        try:
            await held.work()
        except Fenced:
            pass  # whoever took the lane over has a task for it
        finally:
            self._steps.leave(lane)
            if self._held.get(lane.lane_id) is held:
                del self._held[lane.lane_id]
        return Done()


class _HeldLane:
    """A lane while this process holds it: what of it is under way, and when the rest goes on."""

    def __init__(
        self,
        steps: LaneSteps,
        runner: SubJobRunner,
        lane: ClaimedLane,
        slots: int,
        stopping: asyncio.Event,
    ) -> None:
        self._steps = steps
        self._runner = runner
        self._lane = lane
        self._slots = slots
        self._stopping = stopping
        self._poked = False
        self._steps_over = 0
        self._news = asyncio.Event()
        self._progress: dict[UUID, Progress] = {}
        self._under_way: dict[UUID, OpenSubJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._reopen_at = 0.0  # when the write that closed the lane is asked for again
        self._asking = False

    def poke(self) -> None:
        """Somebody says that there is something new: look again."""
        self._poked = True
        self._news.set()

    async def work(self) -> None:
        """Work until nothing is due soon, and give the lane back. Raises Fenced when it was lost."""
        try:
            while not await self._round():
                if self._failures:
                    raise min(self._failures, key=lambda failure: isinstance(failure, Exception))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _round(self) -> bool:
        """Look, start what is due, wait for news; True when the lane was given back."""
        self._news.clear()
        steps_over = self._steps_over
        look = await self._look()
        if look is None:
            raise Fenced(f"lane {self._lane.lane_id}")
        self._poked = self._poked or look.wanted
        if steps_over != self._steps_over:
            return False  # what was seen may be older than what a step has just written
        now = time.monotonic()
        chosen = choose(look, self._slots, self._under_way.values())
        self._remember(chosen, now, woken=self._poked)
        self._poked = False
        self._start_due(look, chosen, now)
        wait = self._until_next(look, chosen, now)
        if self._tasks:
            await _until(self._news, min(HOLD_FOR, HOLD_FOR if wait is None else wait))
            return False
        if wait is not None and wait <= HOLD_FOR and not self._stopping.is_set():
            await _until(self._news, wait, self._stopping)
            return False
        return await self._give_back(chosen, wait, now)

    async def _look(self) -> Look | None:
        """What there is to do. While the store is away, whoever has an answer that is not recorded waits."""
        while True:
            try:
                return await self._steps.look((self._lane.lane_id, self._lane.epoch, self._slots))
            except StoreUnavailable:
                if not self._tasks and all(p.answer is None for p in self._progress.values()):
                    raise
            await asyncio.sleep(HOLD_FOR)

    def _remember(self, chosen: list[OpenSubJob], now: float, *, woken: bool) -> None:
        kept = {i: p for i, p in self._progress.items() if i in self._under_way}
        for sub_job in chosen:
            known = self._progress.get(sub_job.sub_job_id)
            if known is None:
                known = Progress.of(sub_job, now)
            elif sub_job.sub_job_id not in self._under_way:
                known.seen(sub_job, now, woken=woken)
            kept[sub_job.sub_job_id] = known
        self._progress = kept

    def _start_due(self, look: Look, chosen: list[OpenSubJob], now: float) -> None:
        stopping = self._stopping.is_set()
        for sub_job in chosen:
            progress = self._progress[sub_job.sub_job_id]
            if sub_job.sub_job_id in self._under_way or (stopping and progress.answer is None):
                continue
            if progress.due_at <= now:
                self._under_way[sub_job.sub_job_id] = sub_job
                self._start(self._step(sub_job, progress))
        write = look.closed_by
        if write is None or self._asking or stopping or self._reopen_at > now or not _next_write_waits(look):
            return
        self._asking = True
        self._start(self._ask_for_reopening(write))

    def _start(self, step: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(step)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._steps_over += 1
        self._news.set()
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)

    async def _step(self, sub_job: OpenSubJob, progress: Progress) -> None:
        try:
            await self._runner.step(self._lane, sub_job, progress)
        except Fenced:
            progress.due_at = time.monotonic() + SOON  # the next look says whether the lane was lost
        except DataJobsError as error:
            if not error.retry_helps:
                raise
            progress.paused(time.monotonic(), random())  # noqa: S311 - spreads repeats, no secret
        finally:
            del self._under_way[sub_job.sub_job_id]

    async def _ask_for_reopening(self, write: ClosingWrite) -> None:
        """Let writes start again once the one that closed the lane has ended at its plugin."""
        try:
            if await self._runner.has_ended(self._lane, write):
                await self._steps.reopen((self._lane.lane_id, self._lane.epoch, write.sub_job_id))
        except DataJobsError as error:
            if not error.retry_helps:
                raise
        finally:
            delay = until_next_look(write.ended_for, random())  # noqa: S311 - spreads polls, no secret
            self._reopen_at = time.monotonic() + delay
            self._asking = False

    def _until_next(self, look: Look, chosen: list[OpenSubJob], now: float) -> float | None:
        """Seconds until something is due; ``None`` when nothing will be without somebody's doing."""
        waits = [
            max(0.0, self._progress[s.sub_job_id].due_at - now)
            for s in chosen
            if s.sub_job_id not in self._under_way
        ]
        if look.closed_for > 0 and _next_write_waits(look):
            waits.append(look.closed_for)
            if look.closed_by is not None and not self._asking:
                waits.append(max(0.0, self._reopen_at - now))
        return min(waits, default=None)

    async def _give_back(self, chosen: list[OpenSubJob], wait: float | None, now: float) -> bool:
        lane = self._lane
        waiting = tuple(
            Waiting(
                Held(s.sub_job_id, s.job_id, s.lane_id, lane.epoch),
                max(0.0, p.due_at - now),
                p.polls,
                p.seen_due,
                p.trouble,
            )
            for s in chosen
            if (p := self._progress[s.sub_job_id]).touched
        )
        again = 0.0 if self._stopping.is_set() and chosen else wait
        return await self._steps.release(Release(lane.lane_id, lane.epoch, waiting, again))


def choose(look: Look, read_slots: int, under_way: Collection[OpenSubJob] = ()) -> list[OpenSubJob]:
    """The sub-jobs that may be worked on now. Pure.

    All that were started, those to be cancelled, and out of the waiting ones the first write when no other
    write is under way, and as many reads as slots are free. ``under_way``: those with a step that is not
    over; the store may show them as they were before it.
    """
    busy = {s.sub_job_id for s in under_way}
    started = [s for s in look.sub_jobs if s.stage != READY or s.sub_job_id in busy]
    cancelled = [s for s in look.sub_jobs if s.stage == READY and s.cancel_asked and s.sub_job_id not in busy]
    waiting = [
        s for s in look.sub_jobs if s.stage == READY and not s.cancel_asked and s.sub_job_id not in busy
    ]
    writes = [s for s in waiting if s.type is JobType.WRITE]
    reads = [s for s in waiting if s.type is JobType.READ]
    occupied = {s.sub_job_id: s.type for s in (*under_way, *started) if not _ends_unsent(s)}
    if look.closed_for > 0 or JobType.WRITE in occupied.values():
        writes = []
    free = max(0, read_slots - sum(type_ is JobType.READ for type_ in occupied.values()))
    return [*started, *cancelled, *writes[:1], *reads[:free]]


def _ends_unsent(sub_job: OpenSubJob) -> bool:
    """It was cancelled before it was started, and takes no place."""
    return sub_job.stage == READY and sub_job.cancel_asked


def _next_write_waits(look: Look) -> bool:
    return any(s.type is JobType.WRITE and s.stage == READY and not s.cancel_asked for s in look.sub_jobs)


async def _until(news: asyncio.Event, seconds: float, other: asyncio.Event | None = None) -> None:
    """Wait for ``news``, or for the ``other`` event, ``seconds`` at most."""
    if other is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.001)):
                await news.wait()
        return
    waits = [asyncio.ensure_future(news.wait()), asyncio.ensure_future(other.wait())]
    try:
        await asyncio.wait(waits, timeout=max(seconds, 0.001), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
