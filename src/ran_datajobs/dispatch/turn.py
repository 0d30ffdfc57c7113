# SPDX-License-Identifier: Apache-2.0
"""Turns in lanes: take a lane for a task, have its sub-jobs started, tracked and collected, give it back.

One write runs at a time, and up to N reads beside it; none waits for another one's call. Whoever takes a turn
holds the lane under a fresh epoch; what is due soon is waited for, what is due later is left to a task of its
own.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from random import random
from typing import Final
from uuid import UUID

from ran_datajobs.dispatch.backoff import until_repeat
from ran_datajobs.dispatch.held import HeldLane
from ran_datajobs.dispatch.patient import pause
from ran_datajobs.dispatch.places import Places
from ran_datajobs.dispatch.steps import LaneSteps, Taken
from ran_datajobs.dispatch.sub_jobs import SubJobRunner
from ran_datajobs.dispatch.tasks import BEGUN, Again, Done, LaneTask
from ran_datajobs.errors import DataJobsError, Fenced
from ran_datajobs.store.lanes import HeldElsewhere

TASKS_OF_ONE: Final = 1000
"""Tasks for one plugin's lanes that a process has at a time. What is more goes back for a while: a task that
waits is one of those that the process may have in all."""

BACK_FOR: Final = 5.0


class _Claim:
    """A lane is being taken. ``poked``: meanwhile somebody told its holder, who may be us, to look."""

    poked = False


class LaneTurns:
    """Takes turns in lanes. ``stopping`` ends them at the next sensible point, with nothing lost."""

    def __init__(
        self,
        steps: LaneSteps,
        runner: SubJobRunner,
        worker_id: UUID,
        *,
        stopping: asyncio.Event,
        places: Places | None = None,
    ) -> None:
        self._steps = steps
        self._runner = runner
        self._worker_id = worker_id
        self._stopping = stopping
        self._places = places or Places()
        self._held: dict[int, HeldLane] = {}
        self._claiming: defaultdict[int, set[_Claim]] = defaultdict(set)
        self._tasks_of: defaultdict[int, int] = defaultdict(int)

    def changed(self, lane_id: str | None) -> None:
        """Somebody says that something changed in this lane, or (None) in any: whoever holds it looks."""
        if lane_id is None:
            self.hurry()
            return
        if held := self._held.get(int(lane_id)):
            held.poke()
        for claim in self._claiming.get(int(lane_id), ()):
            claim.poked = True

    def hurry(self) -> None:
        """All holders look again; lanes that only wait are given back when the worker is about to stop."""
        for held in self._held.values():
            held.poke()
        for claims in self._claiming.values():
            for claim in claims:
                claim.poked = True

    async def take(self, named: LaneTask, task_id: int) -> Done | Again:
        """Take a turn in each lane of one task. Raises only what a later repeat can cure."""
        if self._tasks_of[named.plugin_id] >= TASKS_OF_ONE:
            return Again(BACK_FOR * (1.0 + random()))  # noqa: S311 - spreads repeats, no secret
        self._tasks_of[named.plugin_id] += 1
        try:
            return await self._take_lanes(named, task_id)
        finally:
            self._tasks_of[named.plugin_id] -= 1

    async def _take_lanes(self, named: LaneTask, task_id: int) -> Done | Again:
        if len(named.lane_ids) == 1:
            async with self._places.one(named.plugin_id):
                return await self._take_lane(named.lane_ids[0], task_id)
        turns: list[asyncio.Task[Done | Again]] = []
        try:
            for lane_id in named.lane_ids:
                await self._places.take(named.plugin_id)
                turn = asyncio.create_task(self._take_lane_of_many(lane_id, task_id))
                turn.add_done_callback(lambda _: self._places.give_back(named.plugin_id))
                turns.append(turn)
            ends = await asyncio.gather(*turns, return_exceptions=True)
        except asyncio.CancelledError:
            for turn in turns:
                turn.cancel()
            await asyncio.gather(*turns, return_exceptions=True)
            raise
        failed = [end for end in ends if isinstance(end, BaseException)]
        if failed:
            raise failed[0]
        return next((end for end in ends if isinstance(end, Again)), Done())

    async def _take_lane_of_many(self, lane_id: int, task_id: int) -> Done | Again:
        """A turn in one lane of a task, taken again here where that helps: the task itself is repeated only
        when the turns in its other lanes are over."""
        for failures in itertools.count():
            try:
                end = await self._take_lane(lane_id, task_id)
            except DataJobsError as error:
                if self._stopping.is_set() or not error.retry_helps:
                    raise
                end = Again(until_repeat(failures, random()))  # noqa: S311 - spreads repeats, no secret
            if isinstance(end, Done) or self._stopping.is_set():
                return end
            await pause(end.delay, self._stopping)
        raise AssertionError("unreachable")

    async def _take_lane(self, lane_id: int, task_id: int) -> Done | Again:
        if self._stopping.is_set():
            return Again(0.0)
        claim = _Claim()
        self._claiming[lane_id].add(claim)
        try:
            claimed = await self._steps.claim((lane_id, task_id))
        finally:
            self._claiming[lane_id].discard(claim)
            if not self._claiming[lane_id]:
                del self._claiming[lane_id]
        match claimed:
            case None:
                return Done()
            case HeldElsewhere(worker_id=worker_id, task_id=holder, wanted=wanted):
                held = self._held.get(lane_id)
                if worker_id == self._worker_id and held is not None:
                    if wanted:
                        held.poke()
                    if holder == BEGUN and await held.is_broken_off():
                        return Again(0.0)
                    return Done()
                if holder == task_id or worker_id == self._worker_id:
                    return Again(1.0)
                await self._steps.poke_holder(lane_id)
                return Done()
            case Taken():
                return await self._hold(claimed, poked=claim.poked)

    async def _hold(self, taken: Taken, *, poked: bool) -> Done | Again:
        lane = taken.lane
        held = self._held[lane.lane_id] = HeldLane(self._steps, self._runner, taken, self._stopping)
        if poked:
            held.poke()
        broken_off = True
        try:
            await held.work()
            broken_off = False
        except Fenced:
            broken_off = False  # whoever took the lane over has a task for it
        finally:
            self._steps.leave(lane)
            if self._held.get(lane.lane_id) is held:
                del self._held[lane.lane_id]
            held.over(broken_off=broken_off)
        return Done()
