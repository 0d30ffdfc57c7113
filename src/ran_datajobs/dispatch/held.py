# SPDX-License-Identifier: Apache-2.0
"""A lane while this process holds it: what may run in it, what is under way, and when the rest goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine
from random import random
from typing import Final, assert_never
from uuid import UUID

from msgspec.structs import replace

from ran_datajobs.dispatch.backoff import until_next_look
from ran_datajobs.dispatch.progress import Moved, Progress, Settled, StepEnd, Unsure
from ran_datajobs.dispatch.steps import LaneSteps, Release, Taken
from ran_datajobs.dispatch.sub_jobs import SubJobRunner
from ran_datajobs.errors import DataJobsError, Fenced, StoreUnavailable
from ran_datajobs.job import JobType
from ran_datajobs.store.lanes import READY, ClosingWrite, Held, Look, OpenSubJob, Waiting

HOLD_FOR: Final = 1.0
"""Seconds that a lane is held while nothing of it is due; more is left to a delayed task."""

LOOK_EVERY: Final = 60.0
"""Seconds after which a holder looks even when nobody said that there is something new."""

SOON: Final = 0.1
"""Seconds until a sub-job is looked at again whose step found it changed."""


class HeldLane:
    """A lane while this process holds it: what of it is under way, and when the rest goes on.

    What the lane's own steps change is known without asking. Others say so in the store and with a task: the
    holder looks when it is poked, and at least every :data:`LOOK_EVERY`; and a lane in which something
    changed cannot be given back. What others change during a step counts after it.
    """

    def __init__(self, steps: LaneSteps, runner: SubJobRunner, taken: Taken, stopping: asyncio.Event) -> None:
        self._steps = steps
        self._runner = runner
        self._lane = taken.lane
        self._seen = taken.look
        self._seen_at = time.monotonic()
        self._stale = False
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
        self._over = asyncio.Event()
        self._broken_off = False

    def over(self, *, broken_off: bool) -> None:
        """The turn is over; ``broken_off``: by an error or a cancellation, and the lane may still be held."""
        self._broken_off = broken_off
        self._over.set()

    async def is_broken_off(self) -> bool:
        """Whether the turn was broken off, once it is over."""
        await self._over.wait()
        return self._broken_off

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
            if self._tasks:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _round(self) -> bool:
        """See what there is, start what is due, wait for news; True when the lane was given back."""
        self._news.clear()
        now = time.monotonic()
        if self._must_look(now):
            steps_over = self._steps_over
            look = await self._look()
            if look is None:
                raise Fenced(f"lane {self._lane.lane_id}")
            self._poked = self._poked or look.wanted
            if steps_over != self._steps_over:
                return False  # what was seen may be older than what a step has just written
            self._seen, self._seen_at, self._stale = look, now, False
            now = time.monotonic()
        look = self._seen
        chosen = choose(look, self._lane.read_slots, self._under_way.values())
        self._remember(chosen, now, woken=self._poked)
        self._poked = False
        self._start_due(look, chosen, now)
        wait = self._until_next(look, chosen, now)
        if self._tasks or (wait is not None and wait <= HOLD_FOR and not self._stopping.is_set()):
            await _until(self._news, min(LOOK_EVERY, LOOK_EVERY if wait is None else wait))
            return False
        if await self._give_back(chosen, wait, now):
            return True
        self._stale = True
        return False

    def _must_look(self, now: float) -> bool:
        return self._stale or self._poked or self._seen.closed_for > 0 or now - self._seen_at >= LOOK_EVERY

    def _learn(self, sub_job: OpenSubJob, end: StepEnd) -> None:
        """Take in what a step has made of ``sub_job``."""
        match end:
            case Moved(sub_job=moved):
                others = (moved if s.sub_job_id == moved.sub_job_id else s for s in self._seen.sub_jobs)
                self._seen = replace(self._seen, sub_jobs=tuple(others))
            case Settled():
                left = (s for s in self._seen.sub_jobs if s.sub_job_id != sub_job.sub_job_id)
                self._seen = replace(self._seen, sub_jobs=tuple(left))
                self._stale = self._stale or self._seen.more
            case Unsure():
                self._stale = True
            case _:
                assert_never(end)

    async def _look(self) -> Look | None:
        """What there is to do. While the store is away, whoever has an answer that is not recorded waits."""
        while True:
            try:
                return await self._steps.look((self._lane.lane_id, self._lane.epoch, self._lane.read_slots))
            except StoreUnavailable:
                if not self._tasks and all(p.answer is None for p in self._progress.values()):
                    raise
            await asyncio.sleep(HOLD_FOR)

    def _remember(self, chosen: list[OpenSubJob], now: float, *, woken: bool) -> None:
        kept = {i: p for i, p in self._progress.items() if i in self._under_way}
        for progress in kept.values():
            progress.woken = progress.woken or woken
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
                self._start(self._step(_older(sub_job, now - self._seen_at), progress))
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
        end: StepEnd = Unsure()
        try:
            end = await self._runner.step(self._lane, sub_job, progress)
        except Fenced:
            progress.due_at = time.monotonic() + SOON  # the next look says whether the lane was lost
        except DataJobsError as error:
            if not error.retry_helps:
                raise
            progress.paused(time.monotonic(), random())  # noqa: S311 - spreads repeats, no secret
        finally:
            del self._under_way[sub_job.sub_job_id]
            self._learn(sub_job, Unsure() if progress.woken and isinstance(end, Moved) else end)

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


def _older(sub_job: OpenSubJob, seconds: float) -> OpenSubJob:
    """``sub_job`` as it stands so many seconds after it was seen."""
    if sub_job.running_for is None and sub_job.idle_for is None:
        return sub_job
    return replace(
        sub_job,
        running_for=None if sub_job.running_for is None else sub_job.running_for + seconds,
        idle_for=None if sub_job.idle_for is None else sub_job.idle_for + seconds,
    )


async def _until(news: asyncio.Event, seconds: float) -> None:
    """Wait for ``news``, ``seconds`` at most; they are told as news, too."""
    alarm = asyncio.get_running_loop().call_later(max(seconds, 0.001), news.set)
    try:
        await news.wait()
    finally:
        alarm.cancel()
