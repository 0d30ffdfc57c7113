# SPDX-License-Identifier: Apache-2.0
"""The worker: takes durable tasks off PgQueuer and runs their handlers, for as long as it is alive.

A handler that fails is run again after a while: no task is dropped because something went wrong. PgQueuer
takes the tasks of a dead worker over after :data:`HEARTBEAT`; what its handlers write is fenced by epochs.

A worker that is told to stop takes no more tasks; those under way get a grace, and what is left after it goes
back to the queue at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from pgqueuer import Job, PgQueuer, RetryRequested

from ran_datajobs.dispatch.backoff import until_repeat
from ran_datajobs.dispatch.patient import PatientDriver, pause
from ran_datajobs.dispatch.tasks import (
    BEGUN,
    Again,
    Done,
    LaneTask,
    Task,
    TaskKind,
    enqueue,
    enqueue_lanes_now,
)
from ran_datajobs.dispatch.turn import LaneTurns
from ran_datajobs.errors import DataJobsError, StoreUnavailable
from ran_datajobs.store import lanes, planning
from ran_datajobs.store.database import Database
from ran_datajobs.telemetry import Event, Logger

ALIVE_FOR: Final = 5.0
"""Seconds that a worker counts as alive after its last sign of life, by the database's clock."""

SIGN_OF_LIFE: Final = 1.5
RESCUE_EVERY: Final = 1.0
FORGOTTEN_EVERY: Final = 9
"""Every so many rescues look at all open lanes and jobs for one that has lost its task."""

HEARTBEAT: Final = timedelta(seconds=6)
DEQUEUE_TIMEOUT: Final = timedelta(seconds=2)

LANE_TASKS: Final = 2000
"""Tasks for lanes that one worker has at a time; more wait in the database, and not in its memory."""

LANE_BATCH: Final = 10
"""Such tasks that are taken at once. Each names up to fifty lanes: other workers find some, too."""

JOB_TASKS: Final = 100
"""Tasks for whole jobs, plans and verdicts, that one worker has at a time: however many lanes wait, these
have an engine of their own."""

JOB_BATCH: Final = 20

FAILING_TASKS: Final = 10_000
"""Tasks of which a worker remembers how often they failed; another one may have ended them."""

Handler = Callable[[str, int], Awaitable[Done | Again]]
"""(subject, task id) → whether the task is done."""


class Worker:
    """Runs tasks until :meth:`stop`. ``handlers`` covers every :class:`TaskKind`."""

    def __init__(
        self,
        database: Database,
        worker_id: UUID,
        handlers: Mapping[TaskKind, Handler],
        stopping: asyncio.Event,
        log: Logger,
        *,
        grace: float = 4.0,
        hurry: Callable[[], None] = lambda: None,
    ) -> None:
        """``grace``: seconds that tasks under way get once ``stopping`` is set; ``hurry`` is called then."""
        self._database = database
        self._worker_id = worker_id
        self._handlers = handlers
        self._stopping = stopping
        self._log = log
        self._grace = grace
        self._hurry = hurry
        self._engines: list[PgQueuer] = []
        self._under_way: set[asyncio.Timeout] = set()
        self._begun: set[asyncio.Task[None]] = set()
        self._failures: OrderedDict[int, int] = OrderedDict()
        self._stop_by = 0.0
        self._grace_over = asyncio.Event()

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Work until stopped, and over every outage of the database."""
        failures = 0
        logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)  # our own events say it better
        while not self._stopping.is_set():
            try:
                async with self._engines_running() as engines:
                    started()
                    await engines
                failures = 0
            except Exception as error:  # whatever it was, the work goes on when it is over
                failures += 1
                self._interrupted(error)
                await pause(until_repeat(failures, 0.5), self._stopping)

    @contextlib.asynccontextmanager
    async def _engines_running(self) -> AsyncIterator[asyncio.Future[tuple[None, None]]]:
        async with PatientDriver.opened(self._database, self._grace_over, self._interrupted) as driver:
            await self._sign_of_life()
            lane_engine, job_engine = PgQueuer(driver), PgQueuer(driver)
            self._engines = [lane_engine, job_engine]
            for kind, handler in self._handlers.items():
                self._register(lane_engine if kind is TaskKind.LANE else job_engine, kind, handler)
            try:
                async with asyncio.TaskGroup() as group:
                    beside = [
                        group.create_task(self._stay_alive()),
                        group.create_task(self._rescue()),
                        group.create_task(self._stop_engines()),
                    ]
                    yield asyncio.gather(
                        group.create_task(self._run_engine(lane_engine, LANE_BATCH, LANE_TASKS)),
                        group.create_task(self._run_engine(job_engine, JOB_BATCH, JOB_TASKS)),
                    )
                    for task in beside:
                        task.cancel()
            finally:
                self._engines = []
                await self._end_begun()
                await self._leave()

    def _interrupted(self, cause: Exception) -> None:
        while isinstance(cause, ExceptionGroup):
            cause = cause.exceptions[0]
        self._log.warning(Event.WORKER_INTERRUPTED, cause=str(cause))

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """What goes wrong in the block costs no task under way, a statement that somebody cancelled, say."""
        try:
            yield
        except StoreUnavailable:
            pass
        except Exception as error:
            self._interrupted(error)

    async def _run_engine(self, engine: PgQueuer, batch: int, most: int) -> None:
        await engine.qm.run(
            batch_size=batch,
            max_concurrent_tasks=most,
            dequeue_timeout=DEQUEUE_TIMEOUT,
            heartbeat_timeout=HEARTBEAT,
            log_aggregation_interval=timedelta(0),
        )

    async def _stop_engines(self) -> None:
        """Take no more tasks, and after the grace put those still under way back into the queue."""
        await self._stopping.wait()
        self._stop_by = asyncio.get_running_loop().time() + self._grace
        for engine in self._engines:
            engine.shutdown.set()
        self._hurry()
        await asyncio.sleep(self._grace)
        self._grace_over.set()
        now = asyncio.get_running_loop().time()
        for limit in tuple(self._under_way):
            if not limit.expired():
                limit.reschedule(now)

    def _register(self, engine: PgQueuer, kind: TaskKind, handler: Handler) -> None:
        async def run(job: Job) -> None:
            await self._handle(kind, handler, job)

        engine.entrypoint(kind.value)(run)

    async def _handle(self, kind: TaskKind, handler: Handler, job: Job) -> None:
        subject = (job.payload or b"").decode("utf-8", "replace")
        limit = asyncio.timeout(None)  # ends it when the worker stops; nothing else does
        try:
            async with limit:
                self._under_way.add(limit)
                ended = await handler(subject, int(job.id))
        except RetryRequested:
            raise
        except Exception as error:
            if limit.expired():
                raise RetryRequested(timedelta(0)) from error
            expected = isinstance(error, DataJobsError) and error.retry_helps
            self._log.warning(
                Event.TASK_FAILED, kind=kind.value, subject=subject, cause=str(error), exc_info=not expected
            )
            raise RetryRequested(timedelta(seconds=self._pause_after_failure(int(job.id)))) from error
        finally:
            self._under_way.discard(limit)
        self._failures.pop(int(job.id), None)
        if isinstance(ended, Again):
            raise RetryRequested(timedelta(seconds=ended.delay))
        for task in ended.next:
            begun = asyncio.create_task(self._begin(task))
            self._begun.add(begun)
            begun.add_done_callback(self._begun.discard)

    def _pause_after_failure(self, task_id: int) -> float:
        """Seconds until a task that failed is run again: growing with its failures, not with its repeats."""
        failures = self._failures.pop(task_id, 0)
        self._failures[task_id] = failures + 1
        if len(self._failures) > FAILING_TASKS:
            self._failures.popitem(last=False)
        return until_repeat(failures, 0.5)

    async def _begin(self, task: Task) -> None:
        """Do what a task says that is in the queue as well: the engine sees to it that it is done."""
        if not self._stopping.is_set():
            with contextlib.suppress(Exception):
                await self._handlers[task.kind](task.subject, BEGUN)

    async def _end_begun(self) -> None:
        """Let what was begun end in the grace of a worker that stops; cut it where the database is away."""
        if self._begun and self._stopping.is_set():
            await asyncio.wait(
                self._begun, timeout=max(0.0, self._stop_by - asyncio.get_running_loop().time())
            )
        for begun in self._begun:
            begun.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)

    async def _sign_of_life(self) -> None:
        async with self._database.connection() as connection:
            await lanes.worker_alive(connection, self._worker_id, ALIVE_FOR)

    async def _stay_alive(self) -> None:
        while True:
            await asyncio.sleep(SIGN_OF_LIFE)
            with self._going_on():
                await self._sign_of_life()

    async def _rescue(self) -> None:
        """Wake what a dead worker left behind; less often, what was cut off and lost its task."""
        for look in itertools.count(1):
            await asyncio.sleep(RESCUE_EVERY)
            with self._going_on():
                await self._database.end_sessions_of_dead_workers()
                if look % FORGOTTEN_EVERY == 0:
                    await self._database.retried(planning.unblock_forgotten)
                async with self._database.transaction() as connection:
                    lane_ids = set(await lanes.orphan_lanes(connection))
                    tasks = []
                    if look % FORGOTTEN_EVERY == 0:
                        lane_ids.update(await planning.forgotten_lanes(connection))
                        for job_id, planned in await planning.forgotten_jobs(connection):
                            tasks.append(Task(TaskKind.FINISH if planned else TaskKind.PLAN, str(job_id)))
                    await enqueue(connection, tasks)
                    await enqueue_lanes_now(connection, lane_ids)

    async def _leave(self) -> None:
        """Give back the lanes at once instead of waiting until they are missed."""
        with contextlib.suppress(DataJobsError):
            async with self._database.transaction() as connection:
                left = await lanes.worker_gone(connection, self._worker_id)
                await enqueue_lanes_now(connection, left)


def lane_handler(turns: LaneTurns) -> Handler:
    """The handler of :attr:`TaskKind.LANE`."""

    async def handle(subject: str, task_id: int) -> Done | Again:
        return await turns.take(LaneTask.of(subject), task_id)

    return handle
