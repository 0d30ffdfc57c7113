# SPDX-License-Identifier: Apache-2.0
"""A worker process with its real parts, driven step by step, and its failure modes."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, Protocol
from uuid import UUID, uuid5

from ran_datajobs.checkpoints import Checkpoint, on_checkpoint
from ran_datajobs.config import Settings
from ran_datajobs.dispatch.limits import DispatchLimits
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.dispatch.worker import Worker
from ran_datajobs.errors import StorageUnavailable, StoreUnavailable
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.plugins.port import CreateCall, JobAddress, PluginProfile
from ran_datajobs.results.delivery import JobEventWriter
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.dispatch import DispatchStore
from ran_datajobs.telemetry import Logger
from tests.kit.plugins.stepped import Answer, Call, How, Plugin
from tests.kit.virtual_time import VirtualLoop

SETTINGS = Settings(
    dmi_retry_timeout=8.0,
    sub_job_timeout=25.0,
    unknown_write_quarantine=15.0,
    read_result_idle_timeout=5.0,
    priority_aging=20.0,
    read_slots=2,
)
_NAMES = UUID(int=0)

running_in: ContextVar[Process | None] = ContextVar("running_in", default=None)


class Loss(enum.StrEnum):
    """Point at which a session is lost."""

    BEFORE_COMMIT = "before its commit"  # the transaction is rolled back
    AFTER_COMMIT = "after its commit"  # the transaction is committed, the answer is lost


class Surroundings(Protocol):
    """Environment of a process."""

    loop: VirtualLoop
    database: Database
    plugins: dict[str, Plugin]
    calls: list[Call]
    stored: dict[str, bytes]
    objects_away: bool
    faults: list[str]
    log: Logger


class Process:
    """One worker process. ``number`` identifies it and seeds its random generator and ids."""

    def __init__(self, around: Surroundings, number: int) -> None:
        self.around = around
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.dead = False
        self.cut_off = False
        self.losses: list[tuple[Loss, int]] = []
        self.stands_still_at: Checkpoint | None = None
        self.executes_at_the_end = True
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in the order of creation
        self.stopping = asyncio.Event()
        self.worker_id = uuid5(_NAMES, str(number))
        runtime = _Runtime(self, number)
        database = _Database(self)
        objects = _Objects(self)
        announcer = JobEventWriter(JobView(Settings(api_root="http://service")))
        store = DispatchStore(database, self.worker_id, announcer, SETTINGS, around.log)
        self.limits = DispatchLimits(rows=6, creates_per_plugin=3, calls_per_plugin=3)
        self.worker = Worker(
            store,
            objects,
            OwnerIndex(database),
            lambda profile: _Client(self, profile),
            SETTINGS,
            DispatchNews(around.log),
            self.stopping,
            runtime,
            self.limits,
        )

    @property
    def frozen(self) -> bool:
        """True while the process is frozen."""
        return not self.goes_on.is_set()

    async def claim(self) -> None:
        """Run one iteration of the worker's loop."""
        await self._inside(self._turn())

    async def keep_up(self) -> None:
        """Run the worker's periodic work: reload rows that other processes changed, renew its leases."""
        await self._inside(self._upkeep())

    async def stop(self) -> None:
        """Stop in order: work that does not end within the grace period is given back."""
        self.stopping.set()
        for attempt in self.worker._attempts.values():
            attempt.attention.set()
        ending = self._begin(self.worker._let_end())
        await self.around.loop.settle()
        while not ending.done():
            self.around.loop.move(1.0)
            self.around.loop.ahead += 1.0
            await self.around.loop.settle()
        ending.result()
        self.dead = True

    async def crash(self) -> None:
        """End at once and lose everything in memory."""
        self.dead = True
        for task in tuple(self.tasks):
            task.cancel()
        await self.around.loop.settle()

    async def _turn(self) -> None:
        """Do the same as one iteration of the worker's loop."""
        worker = self.worker
        worker._due |= {"job", "sub_job", "cancel"}
        try:
            if worker._failures:
                await worker._renew()
            await worker._claim_due()
            worker._failures = 0
        except StoreUnavailable:
            worker._failures += 1

    async def _upkeep(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self.worker._look_for_attention()
            await self.worker._renew()

    async def _inside(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._begin(work)
        await self.around.loop.settle()
        assert task.done() or self.frozen, f"{task} waits for something"

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        context = copy_context()
        context.run(running_in.set, self)
        context.run(on_checkpoint.set, self._reached)
        task = self.around.loop.create_task(work, context=context)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.around.faults.append(repr(error))

    async def _reached(self, checkpoint: Checkpoint) -> None:
        if checkpoint is self.stands_still_at:
            self.stands_still_at = None
            self.goes_on.clear()
        await self.goes_on.wait()

    def loses(self, loss: Loss) -> bool:
        """Return whether the session at this point is lost; each loss lets some sessions pass first."""
        if not self.losses or self.losses[0][0] is not loss:
            return False
        left = self.losses[0][1]
        if left:
            self.losses[0] = (loss, left - 1)
            return False
        del self.losses[0]
        return True


def remember_task(task: asyncio.Task[Any], context: Context) -> None:
    """Record the process of a new task (:attr:`VirtualLoop.born`)."""
    if (process := context.get(running_in)) is not None:
        process.tasks[task] = None
        task.add_done_callback(lambda done: process.tasks.pop(done, None))


class _Runtime(Runtime):
    """Random numbers and ids derived from the number of the process, on the virtual clock of the loop."""

    def __init__(self, process: Process, number: int) -> None:
        super().__init__(Random(number))
        self._loop = process.around.loop
        self._process = process.worker_id
        self._ids = 0

    def now(self) -> float:
        return self._loop.time()

    def new_id(self) -> UUID:
        self._ids += 1
        return uuid5(self._process, str(self._ids))


class _Database(Database):
    """The database as seen by one process."""

    def __init__(self, process: Process) -> None:
        shared = process.around.database
        super().__init__(shared.pool, shared._url, shared._name, shared._unchanged)
        self._process = process

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        process = self._process
        await process.goes_on.wait()
        if process.dead:
            raise asyncio.CancelledError
        if process.cut_off:
            raise StoreUnavailable("cut off")
        with process.around.loop.busy():
            async with super().session() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        async with super().connection() as connection:
            if self._process.loses(Loss.BEFORE_COMMIT):
                raise StoreUnavailable("lost before the statement")
            yield connection
        if self._process.loses(Loss.AFTER_COMMIT):
            raise StoreUnavailable("lost after the statement")

    @contextlib.asynccontextmanager
    async def transaction(self, *, idle: float | None = None) -> AsyncIterator[Connection]:
        async with super().connection() as connection, connection.transaction():
            yield connection
            if self._process.loses(Loss.BEFORE_COMMIT):
                raise StoreUnavailable("lost before the commit")
        if self._process.loses(Loss.AFTER_COMMIT):
            raise StoreUnavailable("lost after the commit")


class _Objects(ObjectStore):
    """The object store as seen by one process."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def put(self, bucket: str, key: str, data: bytes, *, only_if_absent: bool = False) -> bool:
        stored = await self._reach()
        if only_if_absent and f"{bucket}/{key}" in stored:
            return False
        stored[f"{bucket}/{key}"] = data
        return True

    async def get(self, bucket: str, key: str) -> bytes | None:
        return (await self._reach()).get(f"{bucket}/{key}")

    async def _reach(self) -> dict[str, bytes]:
        await self._process.goes_on.wait()
        if self._process.around.objects_away:
            raise StorageUnavailable("unavailable")
        return self._process.around.stored


class _Client:
    """Client of a plugin in one process."""

    def __init__(self, process: Process, profile: PluginProfile) -> None:
        self._process = process
        self._plugin = process.around.plugins[profile.url]

    async def create(self, call: CreateCall) -> Any:
        return await self._ask("create", call, UUID(call.sub_job_id))

    async def status(self, address: JobAddress) -> Any:
        return await self._ask("status", address)

    async def result(self, address: JobAddress) -> Any:
        return await self._ask("result", address)

    async def cancel(self, address: JobAddress) -> Any:
        return await self._ask("cancel", address)

    async def _ask(
        self, kind: str, request: CreateCall | JobAddress, sub_job_id: UUID | None = None
    ) -> Answer:
        process, loop = self._process, self._process.around.loop
        attempt = process.worker._attempts.get(sub_job_id) if sub_job_id else None
        if attempt is not None and loop.time() >= attempt.valid_until:
            process.around.faults.append(f"the create of {sub_job_id} was sent under a void lease")
        await process.goes_on.wait()
        call = Call(process, self._plugin, request, kind, attempt)
        process.around.calls.append(call)
        try:
            answer = await call.answer
        except asyncio.CancelledError:
            if call.answer.cancelled():
                call.end(How.UNHEARD if process.executes_at_the_end else How.SILENT)
            raise
        finally:
            with contextlib.suppress(ValueError):
                process.around.calls.remove(call)
        await process.goes_on.wait()
        return answer
