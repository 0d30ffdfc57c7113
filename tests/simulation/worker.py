# SPDX-License-Identifier: Apache-2.0
"""A simulated worker process: the real parts of dispatch, and the ways in which a process fails."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID, uuid5

from ran_datajobs.checkpoints import Checkpoint, on_checkpoint
from ran_datajobs.config import Settings
from ran_datajobs.dispatch.limits import DispatchLimits
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.dispatch.worker import Worker
from ran_datajobs.errors import StorageUnavailable, StoreUnavailable
from ran_datajobs.plugins.port import DmiPlugin, PluginProfile
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.runtime import Runtime
from tests.kit.plugins.characters import Client
from tests.simulation.store import TwinStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

T = TypeVar("T")

SETTINGS: Final = Settings(
    dmi_retry_timeout=8.0,
    sub_job_timeout=25.0,
    unknown_write_quarantine=15.0,
    read_result_idle_timeout=5.0,
    shutdown_grace=2.0,
)
ROWS: Final = 8
READS: Final = frozenset(
    {
        "arrived",
        "body_of",
        "end_silent_sessions",
        "finish_facts",
        "is_leased",
        "job_is_leased",
        "leased_under",
        "with_attention",
    }
)
"""Calls that change no row."""

_NAMES: Final = UUID(int=3)

running_in: ContextVar[SimulatedWorker | None] = ContextVar("running_in", default=None)


class Faults:
    """The faults of one worker; shares are of each call. ``crash_at``, ``freeze_at``: the number of the
    call."""

    def __init__(self, rng: Random) -> None:
        self.before = rng.choice([0.0, 0.0, 0.01, 0.05])
        self.after = rng.choice([0.0, 0.01, 0.05, 0.2])
        self.slow = rng.choice([0.0, 0.002, 0.2])
        self.deaf = rng.choice([0.0, 0.0, 0.5, 1.0])
        self.locked = rng.choice([0.0, 0.02, 0.2, 0.5])
        self.crash_at = rng.randint(1, 600) if rng.random() < 0.6 else 0
        self.freeze_at = rng.randint(1, 600) if rng.random() < 0.4 else 0
        self.stands_still_at = rng.choice([None, *Checkpoint])
        self.frozen_for = rng.choice([2.0, 9.0, 11.0, 14.0, 40.0])
        self.cut_off = [(start, start + rng.uniform(1.0, 25.0)) for start in _times(rng, 2, 120.0)]

    @classmethod
    def none(cls) -> Faults:
        """No faults."""
        faults = cls(Random(0))
        faults.before = faults.after = faults.slow = faults.deaf = faults.locked = 0.0
        faults.crash_at = faults.freeze_at = 0
        faults.cut_off, faults.stands_still_at = [], None
        return faults


def _times(rng: Random, most: int, until: float) -> list[float]:
    return [rng.uniform(0.0, until) for _ in range(rng.randint(0, most))]


class SimulatedWorker(Runtime):
    """One worker process. ``number`` identifies it permanently, and seeds its random generator."""

    def __init__(self, world: World, number: int, faults: Faults) -> None:
        self.world = world
        self.number = number
        self.faults = faults
        self.worker_id = uuid5(_NAMES, str(number))
        self.rng = Random(world.seed * 1_000 + number)
        self.dead = False
        self.leaving = False
        self.frozen_until = 0.0
        self.calls = 0
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in the order in which they began
        self.open_calls: set[object] = set()
        self.stopping = asyncio.Event()
        self._ids = 0
        self.store = TwinStore(world.twin, self.worker_id, self)
        self.limits = DispatchLimits(rows=ROWS, creates_per_plugin=4, calls_per_plugin=4)
        self.worker = Worker(
            self.store,
            _Objects(self),
            world.index,  # type: ignore[arg-type]
            self._client,
            SETTINGS,
            DispatchNews(world.log),
            self.stopping,
            self,
            self.limits,
        )

    def start(self) -> None:
        """Begin to work."""
        context = copy_context()
        context.run(running_in.set, self)
        context.run(on_checkpoint.set, self._reached)
        self.main = self.world.loop.create_task(self.worker.run(), context=context)
        self.main.add_done_callback(self._ended)

    @property
    def at_work(self) -> bool:
        """False while it is frozen, and once it has ended."""
        return not self.dead and self.world.loop.time() >= self.frozen_until

    def crash(self) -> None:
        """End at once: its memory is lost, and the calls that it has sent arrive."""
        if not self.dead:
            self.dead = True
            self.world.note(self.number, "crash")
            for task in tuple(self.tasks):
                task.cancel()
            self.world.replace(self)

    def leave(self) -> None:
        """Stop in order. Another worker starts later."""
        self.world.note(self.number, "stop")
        self.leaving = True
        self.stopping.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.dead:
            return
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.faults.append(f"worker {self.number} ended with {error!r}")
        if self.leaving:
            self.dead = True
            self.world.replace(self)

    # --- as the runtime of dispatch ------------------------------------------------------------------

    def now(self) -> float:
        return self.world.loop.time()

    def random(self) -> float:
        return self.rng.random()

    def new_id(self) -> UUID:
        self._ids += 1
        return uuid5(self.worker_id, str(self._ids))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.gate()

    async def in_thread(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(self.rng.choice([0.0, 0.0, 0.5]))
        await self.gate()
        return work()

    # --- as the connection to the store --------------------------------------------------------------

    async def before(self, call: str) -> None:
        await self.gate()
        self.world.note(self.number, call)
        if self.faults.slow:
            await asyncio.sleep(self.rng.uniform(0.0, self.faults.slow))
            await self.gate()
        if self._is_unavailable() or self.rng.random() < self.faults.before:
            raise StoreUnavailable("lost before the commit")

    async def after(self, call: str) -> None:
        if call not in READS:
            self.world.check(f"{call} of worker {self.number}")
        if self.rng.random() < self.faults.after:
            await self.gate()
            raise StoreUnavailable("lost after the commit")
        if self.faults.slow:
            await asyncio.sleep(self.rng.uniform(0.0, self.faults.slow))
        await self.gate()

    def hears(self) -> bool:
        return not self.dead and self.rng.random() >= self.faults.deaf

    def locked(self) -> bool:
        return self.rng.random() < self.faults.locked

    def _is_unavailable(self) -> bool:
        now = self.now()
        unavailable = (*self.world.store_unavailable, *self.faults.cut_off)
        return any(start <= now < end for start, end in unavailable)

    # --- where it fails ------------------------------------------------------------------------------

    async def gate(self) -> None:
        """Every await of dispatch ends here: the process continues, freezes for a while, or has ended."""
        self.calls += 1
        if self.calls == self.faults.crash_at:
            self.crash()
        if self.calls == self.faults.freeze_at:
            self._freeze()
        while not self.dead and self.now() < self.frozen_until:
            await asyncio.sleep(min(0.5, self.frozen_until - self.now()))
        if self.dead:
            raise asyncio.CancelledError

    async def _reached(self, checkpoint: Checkpoint) -> None:
        if checkpoint is self.faults.stands_still_at:
            self.faults.stands_still_at = None
            self._freeze()
        await self.gate()

    def _freeze(self) -> None:
        self.frozen_until = self.now() + self.faults.frozen_for
        self.world.note(self.number, "freeze")

    def _sends(self, sub_job_id: UUID) -> None:
        """A create is sent: this worker must hold its lease, whatever it assumes."""
        row = self.world.twin.sub_jobs[sub_job_id]
        if row.leased_by != self.worker_id:
            self.world.faults.append(f"leases: the create of {sub_job_id} was sent without its lease")

    def _client(self, profile: PluginProfile) -> DmiPlugin:
        def misled() -> None:
            self.world.faults.append(f"dialects: {profile.url} was asked in {profile.spoken_dialect}")

        plugin = self.world.plugins[profile.url]
        return Client(plugin, profile, self.gate, self._sends, self.open_calls, misled)


def remember_task(task: asyncio.Task[Any], context: Context) -> None:
    """Record the worker of the task."""
    if (worker := context.get(running_in)) is not None:
        worker.tasks[task] = None
        task.add_done_callback(lambda done: worker.tasks.pop(done, None))
        if worker.dead:
            task.cancel()


class _Objects(ObjectStore):
    """The object store as one worker reaches it."""

    def __init__(self, worker: SimulatedWorker) -> None:
        self._worker = worker

    async def put(self, bucket: str, key: str, data: bytes, *, only_if_absent: bool = False) -> bool:
        stored = await self._reach()
        if only_if_absent and key in stored:
            return False
        stored[key] = data
        await self._worker.gate()
        return True

    async def get(self, bucket: str, key: str) -> bytes | None:
        return (await self._reach()).get(key)

    async def _reach(self) -> dict[str, bytes]:
        await self._worker.gate()
        now = self._worker.now()
        if any(start <= now < end for start, end in self._worker.world.objects_unavailable):
            raise StorageUnavailable("unavailable")
        return self._worker.world.stored
