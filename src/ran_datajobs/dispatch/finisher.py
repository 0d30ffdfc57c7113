# SPDX-License-Identifier: Apache-2.0
"""The finish task: count, write the manifest, and only then show the verdict."""

from __future__ import annotations

from uuid import UUID

from ran_datajobs.checkpoints import Checkpoint, Reached, pass_by
from ran_datajobs.dispatch.announce import Announcer
from ran_datajobs.dispatch.tasks import Again, Done, enqueue_lanes_now
from ran_datajobs.job import Counts, OperationState, Status
from ran_datajobs.results.manifest import manifest
from ran_datajobs.results.objects import ObjectStore, manifest_key
from ran_datajobs.results.parts import known_failures
from ran_datajobs.results.verdict import verdict, why
from ran_datajobs.store import jobs, parts, planning
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.jobs import JobRow


class Finisher:
    """Makes jobs terminal once their last sub-job is settled. Doing it twice changes nothing."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        announcer: Announcer,
        finished_spelling: str,
        reached: Reached = pass_by,
    ) -> None:
        self._database = database
        self._objects = objects
        self._announcer = announcer
        self._finished = finished_spelling
        self._reached = reached

    async def handle(self, subject: str, _task_id: int) -> Done | Again:
        """Finish the job ``subject``; nothing when it is terminal already or gone."""
        job_id = UUID(subject)
        async with self._database.connection() as connection:
            job = await jobs.find(connection, job_id, None)
            if job is None or job.status.terminal:
                return Done()
            listed = await parts.listing(connection, job_id)
            fanned_out, cancelled = await planning.finish_facts(connection, job_id)
        counts = job.counts
        if fanned_out:
            counts = await self._counts_by_operation(job, listed)
        status = verdict(counts, cancelled=cancelled)
        await self._reached(Checkpoint.FINISH_COUNTED)
        await self._objects.put(
            job.results_bucket,
            manifest_key(str(job_id)),
            manifest(job, status, counts, listed, self._finished),
        )
        await self._reached(Checkpoint.FINISH_WRITTEN)
        await self._database.retried(lambda c: self._record(c, job_id, status, counts))
        await self._reached(Checkpoint.FINISH_STORED)
        return Done()

    async def _counts_by_operation(self, job: JobRow, listed: list[parts.Part]) -> Counts:
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

    async def _record(self, connection: Connection, job_id: UUID, status: Status, counts: Counts) -> None:
        job = await planning.lock_job(connection, job_id)
        if job is None:
            return
        if status is Status.CANCELLED and await planning.cancel_arrow(connection, job_id):
            await self._announcer.jobs_changed(connection, [job_id])
        if not await planning.finish(connection, job_id, status, why(counts, status), counts):
            return
        await self._announcer.job_ended(connection, job_id)
        await enqueue_lanes_now(connection, await planning.unblock_after(connection, job_id))
