# SPDX-License-Identifier: Apache-2.0
"""The single writer of transitions, with group commit: many transitions go into one transaction.

Each transition names the lease of its sub-job. If another worker has claimed the sub-job since, the
transition changes nothing and raises Fenced.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ran_datajobs.dispatch.backoff import retry_delay
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.errors import Fenced, StoreUnavailable
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.batch import Batched
from ran_datajobs.store.dispatch import DispatchStore, Transition
from ran_datajobs.store.sub_jobs import SUB_JOB, Collecting, Postponement

T = TypeVar("T")

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
        self._batched: Batched[Transition, bool | None] = Batched(self._flush)

    async def __call__(self, transition: Transition) -> bool:
        """Write ``transition``; True when another process changed the sub-job while it was leased.

        Retries while the store is unavailable. Raises Fenced when the lease is void.
        """
        attention = await self.until_available(lambda: self._batched(transition))
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

    async def _flush(self, transitions: Sequence[Transition]) -> list[bool | None]:
        """Write the batch. A second transition of the same sub-job goes into another transaction, so that
        the lease of each is checked separately."""
        answers: dict[int, bool | None] = {}
        while rest := [each for each in transitions if id(each) not in answers]:
            first = {each.leased.sub_job_id: each for each in reversed(rest)}
            written = await self.store.write(list(first.values()))
            answers |= zip(map(id, first.values()), written, strict=True)
        for each in transitions:
            if isinstance(each, Postponement | Collecting):
                self.due(SUB_JOB, each.delay)
            if isinstance(each, Collecting):  # all its messages may have arrived
                self.due(SUB_JOB, 0.0)
        return [answers[id(each)] for each in transitions]
