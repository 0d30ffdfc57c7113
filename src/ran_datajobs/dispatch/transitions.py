# SPDX-License-Identifier: Apache-2.0
"""The single writer of transitions, with group commit: many transitions go into one transaction.

Each transition names the lease of its sub-job. If another worker has claimed the sub-job since, the
transition changes nothing and raises Fenced.
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
        """``due`` is called after a commit with a kind of row and the seconds until one is due."""
        self.due = due
        self.news = news
        self._store = store
        self._runtime = runtime
        self._begun: Batched[UUID, None] = Batched(self._flush_begun, most=_AT_ONCE)
        self._batched: Batched[Transition, bool | None] = Batched(self._flush, most=_AT_ONCE)

    async def __call__(self, transition: Transition) -> bool:
        """Write ``transition``; True when another process changed the sub-job while it was leased.

        Retries while the store is unavailable. Raises Fenced when the lease is void.
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
        """Set the job to RUNNING when a create of it is being sent. Raises StoreUnavailable."""
        await self._begun(job_id)

    async def _flush_begun(self, job_ids: Sequence[UUID]) -> list[None]:
        await self._store.begun(job_ids)
        return [None] * len(job_ids)

    async def _flush(self, transitions: Sequence[Transition]) -> list[bool | None]:
        """Write the batch. A second transition of the same sub-job goes into another transaction, so that
        the lease of each is checked separately."""
        answers: list[bool | None] = []
        while rest := transitions[len(answers) :]:
            written = await self._store.write(rest[: _until_repeat(rest)])
            answers += written.attention
            for kind, delay in written.due:
                self.due(kind, delay)
        return answers


def _until_repeat(transitions: Sequence[Transition]) -> int:
    """Length of the longest prefix in which no sub-job occurs twice."""
    seen: set[UUID] = set()
    for count, each in enumerate(transitions):
        if each.leased.sub_job_id in seen:
            return count
        seen.add(each.leased.sub_job_id)
    return len(transitions)
