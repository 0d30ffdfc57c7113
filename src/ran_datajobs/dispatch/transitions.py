# SPDX-License-Identifier: Apache-2.0
"""The single writer of transitions, with group commit: transitions that arrive while a transaction runs go
into the next one together.

Each transition names the lease of its sub-job. If another worker has claimed the sub-job since, the
transition changes nothing and raises Fenced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from ran_datajobs.dispatch.backoff import retry_delay
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.errors import Fenced, StoreUnavailable
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.dispatch import DispatchStore, Transition
from ran_datajobs.store.sub_jobs import SUB_JOB, Collecting, Postponement

T = TypeVar("T")

MOST: Final = 500
"""Maximum number of transitions in one transaction."""

LONGEST_PAUSE: Final = 1.0
"""Maximum delay in seconds until a call of an unavailable store is repeated."""


@dataclass(eq=False)
class TransitionWriter:
    """Makes transitions durable, many in one transaction."""

    store: DispatchStore
    runtime: Runtime
    news: DispatchNews
    due: Callable[[str, float], None]
    """Called after a commit with a kind of row and the seconds until one is due."""

    def __post_init__(self) -> None:
        self._waiting: list[tuple[Transition, asyncio.Future[bool | None]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self, transition: Transition) -> bool:
        """Write ``transition``; True when another process changed the sub-job while it was leased.

        Retries while the store is unavailable. Raises Fenced when the lease is void.
        """
        attention = await self.until_available(lambda: self._written(transition))
        if attention is None:
            raise Fenced(f"sub-job {transition.leased.sub_job_id} was claimed by another worker")
        return attention

    async def until_available(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the answer of ``call``, which is repeated while the store is unavailable."""
        failures = 0
        while True:
            try:
                return await call()
            except StoreUnavailable:
                failures += 1
                await self.runtime.sleep(min(LONGEST_PAUSE, retry_delay(failures, self.runtime.random())))

    async def _written(self, transition: Transition) -> bool | None:
        attention: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((transition, attention))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return await attention

    async def _run(self) -> None:
        while self._waiting:
            await self._write_batch()
        self._runner = None

    async def _write_batch(self) -> None:
        """Write transitions of different sub-jobs. A second one of the same sub-job goes into another
        transaction, so that the lease of each is checked separately. An error is raised to every caller."""
        batch: dict[UUID, tuple[Transition, asyncio.Future[bool | None]]] = {}
        later = []
        for each in self._waiting:
            sub_job_id = each[0].leased.sub_job_id
            if sub_job_id in batch or len(batch) == MOST:
                later.append(each)
            else:
                batch[sub_job_id] = each
        self._waiting = later
        transitions = [transition for transition, _ in batch.values()]
        try:
            written = await self.store.write(transitions)
        except Exception as error:
            for _, attention in batch.values():
                if not attention.done():
                    attention.set_exception(error)
            return
        for (_, attention), answer in zip(batch.values(), written, strict=True):
            if not attention.done():
                attention.set_result(answer)
        for transition in transitions:
            if isinstance(transition, Postponement | Collecting):
                self.due(SUB_JOB, transition.delay)
            if isinstance(transition, Collecting):  # all its messages may have arrived
                self.due(SUB_JOB, 0.0)
