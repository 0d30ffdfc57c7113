# SPDX-License-Identifier: Apache-2.0
"""The finish step of a job: count, write the manifest, and only then show the final status."""

from __future__ import annotations

from ran_datajobs.checkpoints import Checkpoint, Reached, pass_by
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.job import Counts, OperationState
from ran_datajobs.results.manifest import manifest
from ran_datajobs.results.objects import ObjectStore, manifest_key
from ran_datajobs.results.parts import known_failures
from ran_datajobs.results.verdict import verdict, why
from ran_datajobs.store.dispatch import DispatchStore
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.parts import Part
from ran_datajobs.store.planning import LeasedJob


class Finisher:
    """Makes jobs terminal once their last sub-job is settled. Doing it twice changes nothing."""

    def __init__(
        self,
        store: DispatchStore,
        objects: ObjectStore,
        finished_spelling: str,
        news: DispatchNews,
        reached: Reached = pass_by,
    ) -> None:
        self._store = store
        self._objects = objects
        self._finished = finished_spelling
        self._news = news
        self._reached = reached

    async def finish(self, leased: LeasedJob) -> None:
        """Finish the job; its lease ends. Raises Fenced when another worker has claimed it."""
        facts = await self._store.finish_facts(leased.job_id)
        if facts is None or facts.job.status.terminal:
            await self._store.step_over(leased)
            return
        job = facts.job
        counts = job.counts
        if facts.fanned_out:
            counts = await self._counts_by_operation(job, facts.parts)
        status = verdict(counts, cancelled=facts.cancelled)
        await self._reached(Checkpoint.FINISH_COUNTED)
        await self._objects.put(
            job.results_bucket,
            manifest_key(str(job.job_id)),
            manifest(job, status, counts, facts.parts, self._finished),
        )
        await self._reached(Checkpoint.FINISH_WRITTEN)
        ended = await self._store.finish(leased, status, why(counts, status), counts)
        await self._reached(Checkpoint.FINISH_STORED)
        if ended:
            self._news.ended(leased, status, why(counts, status), counts, facts.seconds)

    async def _counts_by_operation(self, job: JobRow, listed: list[Part]) -> Counts:
        """A read of several parts has succeeded when every part did: count operations, not parts.

        A failure in an object that was removed or spoilt counts as an operation that failed.
        """
        failures = await known_failures(self._objects, job.results_bucket, listed)
        states = list(failures.states.values())
        states += [OperationState.FAILED] * min(failures.lost, job.operations - len(states))
        failed = sum(state is OperationState.FAILED for state in states) - job.unmatched
        unknown = sum(state is OperationState.UNKNOWN for state in states)
        not_started = sum(state is OperationState.NOT_STARTED for state in states)
        return Counts(
            total=job.operations,
            succeeded=job.operations - len(states),
            failed=failed,
            unmatched=job.unmatched,
            not_started=not_started,
            unknown=unknown,
        )
