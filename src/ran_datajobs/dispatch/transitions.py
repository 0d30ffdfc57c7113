# SPDX-License-Identifier: Apache-2.0
"""The one writer of transitions: what several executors decide goes into one transaction (group commit).

Each transition names the lease of its sub-job. It raises Fenced when another worker has claimed the sub-job
since, and changes nothing then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from ran_datajobs.dispatch.backoff import retry_delay
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.errors import Fenced, StoreUnavailable
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.batch import Batched
from ran_datajobs.store.dispatch import DispatchStore, Transition

_LONGEST_PAUSE: Final = 1.0
_AT_ONCE: Final = 500


class TransitionWriter:
    """Makes transitions durable, many in one transaction."""

    def __init__(
        self,
        store: DispatchStore,
        runtime: Runtime,
        news: DispatchNews,
        *,
        due: Callable[[str, float], None] = lambda _kind, _delay: None,
    ) -> None:
        """``due`` gets, after a commit, what is due (``sub_job`` or ``job``) and in how many seconds."""
        self.due = due
        self.news = news
        self._store = store
        self._runtime = runtime
        self._begun: Batched[UUID, None] = Batched(self._flush_begun, most=_AT_ONCE)
        self._batched: Batched[Transition, bool | None] = Batched(self._flush, most=_AT_ONCE)

    async def __call__(self, transition: Transition) -> bool:
        """Write ``transition``; True when another process changed the sub-job while it was leased.

        While the store is away it is tried again. Raises Fenced when the lease is void.
        """
        failures = 0
        while True:
            try:
                attention = await self._batched(transition)
            except StoreUnavailable:
                failures += 1
                delay = retry_delay(failures, self._runtime.random())
                await self._runtime.sleep(min(_LONGEST_PAUSE, delay))
                continue
            if attention is None:
                raise Fenced(f"sub-job {transition.leased.sub_job_id} was claimed by another worker")
            return attention

    async def begun(self, job_id: UUID) -> None:
        """Record that a create of the job is being sent: it is RUNNING now. Raises StoreUnavailable."""
        await self._begun(job_id)

    async def _flush_begun(self, job_ids: Sequence[UUID]) -> list[None]:
        await self._store.begun(job_ids)
        return [None] * len(job_ids)

    async def _flush(self, transitions: Sequence[Transition]) -> list[bool | None]:
        """Write the batch. Of two attempts at one sub-job the later transition has a transaction of its own:
        what the earlier one's lease is worth is seen apart."""
        answers: list[bool | None] = []
        while rest := transitions[len(answers) :]:
            written = await self._store.write(rest[: _until_repeat(rest)])
            answers += written.attention
            for kind, delay in written.due:
                self.due(kind, delay)
        return answers


def _until_repeat(transitions: Sequence[Transition]) -> int:
    """How many of these, from the first on, are of different sub-jobs."""
    seen: set[UUID] = set()
    for count, each in enumerate(transitions):
        if each.leased.sub_job_id in seen:
            return count
        seen.add(each.leased.sub_job_id)
    return len(transitions)
