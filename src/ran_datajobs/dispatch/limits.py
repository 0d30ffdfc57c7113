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
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from ran_datajobs.model import Stage
from ran_datajobs.plugins.client import most_calls, most_deletes
from ran_datajobs.store.planning import JobRoom
from ran_datajobs.store.room import BODY_BYTES, CREATES_PER_PLUGIN, ROWS
from ran_datajobs.store.sub_jobs import LeasedSubJob, PluginRoom, Room

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


class WeightedSemaphore:
    """A FIFO semaphore of which a caller may take several units at once."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._out = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def out(self) -> int:
        """Number of units taken."""
        return self._out

    def allow(self, capacity: int) -> None:
        """Change the capacity; units already taken stay taken."""
        self._capacity = capacity
        self._admit()

    @contextlib.asynccontextmanager
    async def take(self, share: int = 1) -> AsyncIterator[None]:
        """Hold ``share`` units for the duration of the block; at most the capacity counts."""
        share = min(share, self._capacity)
        await self._acquire(share)
        try:
            yield
        finally:
            self._give_back(share)

    async def _acquire(self, share: int) -> None:
        if not self._waiting and self._out + share <= self._capacity:
            self._out += share
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((share, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._give_back(share)
            else:
                with contextlib.suppress(ValueError):  # already removed by _admit
                    self._waiting.remove((share, granted))
                self._admit()
            raise

    def _give_back(self, share: int) -> None:
        self._out -= share
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._out + self._waiting[0][0] <= self._capacity:
            share, granted = self._waiting.popleft()
            if not granted.done():
                self._out += share
                granted.set_result(None)


class Places:
    """Slots for calls, shared by the plugins: FIFO within a plugin, which may hold at most as many slots as
    are free."""

    def __init__(self, places: int, per_plugin: int) -> None:
        self._free = places
        self._per_plugin = per_plugin
        self._held: Counter[int] = Counter()
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}  # ordered by the last admission

    @contextlib.asynccontextmanager
    async def take(self, plugin_id: int) -> AsyncIterator[None]:
        """Hold a slot for the duration of the block."""
        if plugin_id not in self._waiting and self._admits(plugin_id):
            self._hold(plugin_id)
        else:
            await self._wait_for_slot(plugin_id)
        try:
            yield
        finally:
            self._give_back(plugin_id)

    async def _wait_for_slot(self, plugin_id: int) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(plugin_id, deque()).append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._give_back(plugin_id)
            raise

    def _admits(self, plugin_id: int) -> bool:
        return self._held[plugin_id] < min(self._per_plugin, self._free)

    def _hold(self, plugin_id: int) -> None:
        self._held[plugin_id] += 1
        self._free -= 1

    def _give_back(self, plugin_id: int) -> None:
        self._free += 1
        self._held[plugin_id] -= 1
        if not self._held[plugin_id]:
            del self._held[plugin_id]
        while any(self._admit(waiting) for waiting in tuple(self._waiting)):
            pass

    def _admit(self, plugin_id: int) -> bool:
        """Give a slot to the longest waiter of a plugin, if the plugin may hold one more."""
        waiters = self._waiting[plugin_id]
        while waiters and waiters[0].done():  # cancelled
            waiters.popleft()
        admitted = bool(waiters) and self._admits(plugin_id)
        if admitted:
            self._hold(plugin_id)
            waiters.popleft().set_result(None)
            self._waiting[plugin_id] = self._waiting.pop(plugin_id)
        if not waiters:
            del self._waiting[plugin_id]
        return admitted


class _PluginUsage:
    """What one plugin uses of the limits of this worker."""

    def __init__(self, calls: int, size: int) -> None:
        self.rows = 0
        self.creates = 0
        self.deletes = 0
        self.create_bytes = 0
        self.calls = WeightedSemaphore(calls)
        self.bytes = WeightedSemaphore(size)


class DispatchLimits:
    """Counts the work in progress of one worker: a leased sub-job from :meth:`add` to :meth:`remove`."""

    def __init__(
        self,
        *,
        rows: int = ROWS,
        body_bytes: int = BODY_BYTES,
        creates_per_plugin: int = CREATES_PER_PLUGIN,
        calls_per_plugin: int = CALLS_PER_PLUGIN,
        places: int | None = None,
    ) -> None:
        """``places``: maximum concurrent calls at all plugins; default: from the open file limit."""
        self._rows = rows
        self._body_bytes = body_bytes
        self._creates_per_plugin = creates_per_plugin
        self._calls_per_plugin = calls_per_plugin
        self._taken = 0
        self._unsent = 0
        self._create_bytes = 0
        self._bytes = WeightedSemaphore(body_bytes)
        self._places = Places(most_calls() if places is None else places, CALLS_PER_PLUGIN)
        self._deletes = Places(most_deletes() if places is None else places, CALLS_PER_PLUGIN)
        self._plugins: dict[int, _PluginUsage] = {}
        self._waiting: set[int] = set()  # plugins that have more creates due than may be sent
        self._deleting: set[int] = set()  # plugins that have more DELETEs due than may be sent
        self.jobs = {"small": 0, "large": 0, "finish": 0}
        self.freed: Callable[[], None] = lambda: None
        """Called when more may be claimed."""

    def room(self) -> Room:
        """How much more may be claimed now."""
        free = max(0, self._rows - self._taken)
        fair = max(1, free // 2) if free else 0
        bytes_free = self._body_bytes - self._create_bytes
        return Room(
            rows=free,
            size=max(0, bytes_free),
            other=PluginRoom(
                min(fair, self._creates_per_plugin),
                fair,
                max(0, min(bytes_free, self._body_bytes // 2)),
                DELETES_PER_PLUGIN,
            ),
            plugins={of: self._room_of(of, plugin, free) for of, plugin in self._plugins.items()},
            unsent=max(0, (UNSENT_BESIDE_DELETES if self._deleting else UNSENT) - self._unsent),
        )

    def _room_of(self, plugin_id: int, plugin: _PluginUsage, free: int) -> PluginRoom:
        fair = max(0, (free - plugin.rows) // 2 + 1) if free else 0
        creates = max(0, self._creates_per_plugin - plugin.creates)
        size = min(self._body_bytes - self._create_bytes, self._body_bytes // 2 - plugin.create_bytes)
        return PluginRoom(
            min(fair, creates),
            fair if creates and plugin_id not in self._deleting else min(fair, CALLS_BESIDE_CREATES),
            max(0, size),
            max(0, DELETES_PER_PLUGIN - plugin.deletes),
        )

    def job_room(self) -> JobRoom:
        """How many steps of jobs may be claimed now."""
        return JobRoom(
            SMALL_PLANS - self.jobs["small"], LARGE_PLANS - self.jobs["large"], FINISHES - self.jobs["finish"]
        )

    def is_full(self) -> bool:
        """True when a limit may keep due rows from being claimed."""
        free = max(0, self._rows - self._taken)
        if not free or self._create_bytes >= self._body_bytes or self._unsent >= UNSENT:
            return True
        rooms = (self._room_of(plugin_id, each, free) for plugin_id, each in self._plugins.items())
        return any(not (room.creates and room.calls and room.size and room.deletes) for room in rooms)

    def note(self, room: Room, claimed: Iterable[LeasedSubJob]) -> None:
        """Record plugins that may have more creates or DELETEs due than a claim within ``room`` took."""
        creates: Counter[int] = Counter()
        deletes: Counter[int] = Counter()
        for each in claimed:
            if is_create(each):
                creates[each.plugin_id] += 1
            elif each.cancel_requested and each.stage not in (Stage.WAITING, Stage.ADMITTED):
                deletes[each.plugin_id] += 1
        for plugin_id, plugin in self._plugins.items():
            within = room.plugins.get(plugin_id, room.other)
            for taken, most, waiting in (
                (creates[plugin_id], within.creates, self._waiting),
                (deletes[plugin_id], within.deletes, self._deleting),
            ):
                if most and taken >= most:
                    waiting.add(plugin_id)
                elif most:
                    waiting.discard(plugin_id)
            self._adjust(plugin_id, plugin)

    def add(self, plugin_id: int, size: int, *, creates: bool) -> None:
        """Count a leased sub-job, and its create while that has no answer."""
        plugin = self._of(plugin_id)
        plugin.rows += 1
        self._taken += 1
        if creates:
            plugin.creates += 1
            plugin.create_bytes += size
            self._create_bytes += size
            self._adjust(plugin_id, plugin)

    def add_cancel(self, plugin_id: int, *, unsent: bool) -> None:
        """Count that an added sub-job is to be cancelled, by a DELETE unless it is ``unsent``."""
        if unsent:
            self._unsent += 1
        else:
            self._of(plugin_id).deletes += 1

    def cancelled(self, plugin_id: int, *, unsent: bool) -> None:
        """Uncount a cancellation: its DELETE was answered, or the unsent sub-job has ended."""
        if unsent:
            self._unsent -= 1
        else:
            self._of(plugin_id).deletes -= 1
        self.freed()

    def created(self, plugin_id: int, size: int) -> None:
        """Uncount a create: it was answered, or is not sent after all."""
        plugin = self._of(plugin_id)
        plugin.creates -= 1
        plugin.create_bytes -= size
        self._create_bytes -= size
        self._adjust(plugin_id, plugin)
        self.freed()

    def remove(self, plugin_id: int) -> None:
        """Uncount a sub-job whose lease the worker no longer has."""
        plugin = self._of(plugin_id)
        plugin.rows -= 1
        self._taken -= 1
        if not plugin.rows:
            del self._plugins[plugin_id]
            self._waiting.discard(plugin_id)
            self._deleting.discard(plugin_id)
        self.freed()

    @contextlib.asynccontextmanager
    async def call(self, plugin_id: int) -> AsyncIterator[None]:
        """Hold a slot for one poll or fetch."""
        async with self._of(plugin_id).calls.take(), self._places.take(plugin_id):
            yield

    @contextlib.asynccontextmanager
    async def delete(self, plugin_id: int) -> AsyncIterator[None]:
        """Hold a slot for a DELETE. Other calls do not use these slots."""
        async with self._deletes.take(plugin_id):
            yield

    @contextlib.asynccontextmanager
    async def create(self, plugin_id: int, size: int) -> AsyncIterator[None]:
        """Hold a slot for a create, and the memory of its operations."""
        async with self.operations(plugin_id, size), self._places.take(plugin_id):
            yield

    @contextlib.asynccontextmanager
    async def operations(self, plugin_id: int, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes of operations in memory for the duration of the block. At most half of the
        limit counts, so that an unresponsive plugin leaves the other half free."""
        size = min(size, self._body_bytes // 2)
        async with self._of(plugin_id).bytes.take(size), self._bytes.take(size):
            yield

    def _of(self, plugin_id: int) -> _PluginUsage:
        plugin = self._plugins.get(plugin_id)
        if plugin is None:
            plugin = self._plugins[plugin_id] = _PluginUsage(self._calls_per_plugin, self._body_bytes // 2)
        return plugin

    def _adjust(self, plugin_id: int, plugin: _PluginUsage) -> None:
        full = plugin_id in self._waiting or plugin.creates >= self._creates_per_plugin
        full = full or plugin_id in self._deleting
        plugin.calls.allow(
            min(CALLS_BESIDE_CREATES, self._calls_per_plugin) if full else self._calls_per_plugin
        )


def is_create(sub_job: LeasedSubJob) -> bool:
    """True when the next call of a leased sub-job is its create."""
    return sub_job.stage is Stage.STARTING
