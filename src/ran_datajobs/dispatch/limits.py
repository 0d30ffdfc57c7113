# SPDX-License-Identifier: Apache-2.0
"""Limits of one worker: sub-jobs in memory, bytes of operations, and concurrent calls per plugin.

A claim takes no more rows than :meth:`DispatchLimits.room` returns, so that creates that cannot be sent yet
stay in the database, not marked as started. A plugin may hold at most as many slots as are free: one busy
plugin gets half of all slots, two get a third each. Source: Choudhury and Hahne, "Dynamic Queue Length
Thresholds for Shared-Memory Packet Switches", 1998.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from ran_datajobs.dispatch.attempt import Attempt
from ran_datajobs.model import NextCall
from ran_datajobs.plugins.client import most_calls, most_deletes
from ran_datajobs.store.dispatch import LARGE, JobRoom, LeasedJob
from ran_datajobs.store.sub_jobs import BODY_BYTES, CREATES_PER_PLUGIN, ROWS, PluginRoom, Room

CALLS_PER_PLUGIN: Final = 64
"""Maximum concurrent calls, per worker and plugin: creates, polls and fetches together; DELETEs apart."""

CALLS_BESIDE_CREATES: Final = 2
"""Maximum concurrent polls and fetches while more creates or DELETEs are due than may be sent."""

DELETES_PER_PLUGIN: Final = 256
"""Maximum number of sub-jobs to be cancelled, per worker and plugin. Their DELETEs have slots of their own,
so they wait for no other call."""

UNSENT: Final = 1000
"""Maximum number of cancelled sub-jobs, per worker, that are leased to end without a call."""

UNSENT_BESIDE_DELETES: Final = 32
"""The same while more DELETEs are due than may be sent: running sub-jobs are stopped first."""

SMALL_PLANS: Final = 4
LARGE_PLANS: Final = 1
FINISHES: Final = 32
"""Maximum concurrent steps of jobs per worker, of each kind."""


class Slots:
    """Units shared by the plugins, for calls or memory. FIFO within a plugin; the plugins take turns.

    ``most(plugin_id, free)``: the number of units that a plugin may hold while ``free`` ones are not held.
    """

    def __init__(self, capacity: int, most: Callable[[int, int], int]) -> None:
        self.free = capacity
        self._most = most
        self._held: Counter[int] = Counter()
        self._waiting: dict[int, deque[tuple[int, asyncio.Future[None]]]] = {}  # by the last admission

    @contextlib.asynccontextmanager
    async def take(self, plugin_id: int, units: int = 1) -> AsyncIterator[None]:
        """Hold ``units`` for the duration of the block."""
        granted: asyncio.Future[None] | None = None
        if self._waiting or units > self.free or not self._may_hold(plugin_id, units):
            granted = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(plugin_id, deque()).append((units, granted))
            self.admit()
        else:
            self._hold(plugin_id, units)
        try:
            if granted is not None:
                await granted
            yield
        finally:
            if granted is None or not granted.cancelled():
                self._hold(plugin_id, -units)
            self.admit()

    def admit(self) -> None:
        """Admit those who wait, as far as the limits allow."""
        while self._waiting and self._admit_one():
            pass

    def _admit_one(self) -> bool:
        for plugin_id, waiters in tuple(self._waiting.items()):
            while waiters and waiters[0][1].done():  # cancelled
                waiters.popleft()
            if not waiters:
                del self._waiting[plugin_id]
                continue
            units, granted = waiters[0]
            if not self._may_hold(plugin_id, units):
                continue
            if units > self.free:  # nobody overtakes it
                return False
            self._hold(plugin_id, units)
            waiters.popleft()
            granted.set_result(None)
            self._waiting[plugin_id] = self._waiting.pop(plugin_id)
            return True
        return False

    def _may_hold(self, plugin_id: int, units: int) -> bool:
        return self._held[plugin_id] + units <= self._most(plugin_id, self.free)

    def _hold(self, plugin_id: int, units: int) -> None:
        self._held[plugin_id] += units
        self.free -= units


@dataclass(kw_only=True, eq=False)
class DispatchLimits:
    """Counts the leased sub-jobs of one worker by their next calls, from :meth:`add` to :meth:`remove`."""

    rows: int = ROWS
    body_bytes: int = BODY_BYTES
    creates_per_plugin: int = CREATES_PER_PLUGIN
    calls_per_plugin: int = CALLS_PER_PLUGIN
    places: int | None = None
    """Maximum concurrent calls at all plugins; default: from the open file limit."""

    def __post_init__(self) -> None:
        self._bytes = Slots(self.body_bytes, lambda _plugin, _free: self.body_bytes // 2)
        self._polls = Slots(sys.maxsize, self._most_polls)
        self._places = Slots(most_calls() if self.places is None else self.places, _most_places)
        self._deletes = Slots(most_deletes() if self.places is None else self.places, _most_places)
        self._used: dict[int, Counter[NextCall]] = {}
        self._create_bytes: Counter[int] = Counter()
        self._more_due: set[tuple[int, NextCall]] = set()  # plugins that have more of a call due than allowed
        self.freed: Callable[[], None] = lambda: None
        """Called when more may be claimed."""

    def room(self) -> Room:
        """How much more may be claimed now."""
        free = max(0, self.rows - sum(used.total() for used in self._used.values()))
        size = self.body_bytes - self._create_bytes.total()
        deleting = any(call is NextCall.DELETE for _, call in self._more_due)
        unsent = sum(used[NextCall.END_UNSENT] for used in self._used.values())
        return Room(
            rows=free,
            size=max(0, size),
            other=self._room_of(0, free, size),
            plugins={plugin_id: self._room_of(plugin_id, free, size) for plugin_id in self._used},
            unsent=max(0, (UNSENT_BESIDE_DELETES if deleting else UNSENT) - unsent),
        )

    def _room_of(self, plugin_id: int, free: int, size: int) -> PluginRoom:
        used = self._used.get(plugin_id, Counter())
        fair = max(0, (free - used.total() + 1) // 2)
        creates = max(0, self.creates_per_plugin - used[NextCall.CREATE])
        deleting = (plugin_id, NextCall.DELETE) in self._more_due
        return PluginRoom(
            min(fair, creates),
            fair if creates and not deleting else min(fair, CALLS_BESIDE_CREATES),
            max(0, min(size, self.body_bytes // 2 - self._create_bytes[plugin_id])),
            max(0, DELETES_PER_PLUGIN - used[NextCall.DELETE]),
        )

    def note(self, room: Room, claimed: Iterable[Attempt]) -> None:
        """Record plugins that may have more creates or DELETEs due than a claim within ``room`` took."""
        taken = Counter((each.sub_job.plugin_id, each.next_call) for each in claimed)
        for plugin_id in self._used:
            within = room.plugins.get(plugin_id, room.other)
            for call, most in ((NextCall.CREATE, within.creates), (NextCall.DELETE, within.deletes)):
                if most and taken[plugin_id, call] >= most:
                    self._more_due.add((plugin_id, call))
                elif most:
                    self._more_due.discard((plugin_id, call))
        self._polls.admit()

    def add(self, attempt: Attempt) -> None:
        """Count a leased sub-job."""
        self._used.setdefault(attempt.sub_job.plugin_id, Counter())
        self._count(attempt, 1)

    def answered(self, attempt: Attempt) -> None:
        """Uncount the create or the cancellation of a sub-job: it was answered, or is not sent after all."""
        self._count(attempt, -1)
        attempt.next_call = NextCall.OTHER
        self._count(attempt, 1)
        self._polls.admit()
        self.freed()

    def remove(self, attempt: Attempt) -> None:
        """Uncount a sub-job whose lease the worker no longer has."""
        plugin_id = attempt.sub_job.plugin_id
        self._count(attempt, -1)
        if not self._used[plugin_id].total():
            del self._used[plugin_id]
            self._more_due -= {(plugin_id, call) for call in NextCall}
        self._polls.admit()
        self.freed()

    def _count(self, attempt: Attempt, sign: int) -> None:
        sub_job = attempt.sub_job
        self._used[sub_job.plugin_id][attempt.next_call] += sign
        if attempt.next_call is NextCall.CREATE:
            self._create_bytes[sub_job.plugin_id] += sign * sub_job.body_bytes

    @contextlib.asynccontextmanager
    async def call(self, plugin_id: int) -> AsyncIterator[None]:
        """Hold a slot for one poll or fetch."""
        async with self._polls.take(plugin_id), self._places.take(plugin_id):
            yield

    def delete(self, plugin_id: int) -> AbstractAsyncContextManager[None]:
        """Hold a slot for a DELETE. Other calls do not use these slots."""
        return self._deletes.take(plugin_id)

    @contextlib.asynccontextmanager
    async def create(self, plugin_id: int, size: int) -> AsyncIterator[None]:
        """Hold a slot for a create, and the memory of its operations."""
        async with self.operations(plugin_id, size), self._places.take(plugin_id):
            yield

    def operations(self, plugin_id: int, size: int) -> AbstractAsyncContextManager[None]:
        """Hold ``size`` bytes of operations in memory for the duration of the block. At most half of the
        limit counts, so that an unresponsive plugin leaves the other half free."""
        return self._bytes.take(plugin_id, min(size, self.body_bytes // 2))

    def _most_polls(self, plugin_id: int, _free: int) -> int:
        used = self._used.get(plugin_id)
        if (
            (used is not None and used[NextCall.CREATE] >= self.creates_per_plugin)
            or (plugin_id, NextCall.CREATE) in self._more_due
            or (plugin_id, NextCall.DELETE) in self._more_due
        ):
            return min(CALLS_BESIDE_CREATES, self.calls_per_plugin)
        return self.calls_per_plugin


def _most_places(_plugin_id: int, free: int) -> int:
    return min(CALLS_PER_PLUGIN, free)


def job_room(leased: Collection[LeasedJob]) -> JobRoom:
    """How many steps of jobs may be claimed beside those that are ``leased``."""
    plans = [len(job.body or b"") >= LARGE for job in leased if not job.planned]
    return JobRoom(
        SMALL_PLANS - plans.count(False),
        LARGE_PLANS - plans.count(True),
        FINISHES - (len(leased) - len(plans)),
    )
