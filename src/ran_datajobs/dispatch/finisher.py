# SPDX-License-Identifier: Apache-2.0
"""The finish step of a job: count, write the manifest, and only then show the final status."""

from __future__ import annotations

from ran_datajobs.checkpoints import Checkpoint, Reached, pass_by
from ran_datajobs.dispatch.transitions import TransitionWriter
from ran_datajobs.errors import Fenced
from ran_datajobs.job import Counts, OperationState, Status
from ran_datajobs.results.announce import Announcer
from ran_datajobs.results.manifest import manifest
from ran_datajobs.results.objects import ObjectStore, manifest_key
from ran_datajobs.results.parts import known_failures
from ran_datajobs.results.verdict import verdict, why
from ran_datajobs.store import jobs, parts, planning
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.planning import LeasedJob


class Finisher:
    """Makes jobs terminal once their last sub-job is settled. Doing it twice changes nothing."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        announcer: Announcer,
        write: TransitionWriter,
        finished_spelling: str,
        reached: Reached = pass_by,
    ) -> None:
        self._database = database
        self._objects = objects
        self._announcer = announcer
        self._write = write
        self._finished = finished_spelling
        self._reached = reached

    async def finish(self, leased: LeasedJob) -> None:
        """Finish the job; its lease ends. Raises Fenced when another worker has claimed it."""
        job_id = leased.job_id
        async with self._database.connection() as connection:
            job = await jobs.find(connection, job_id, None)
            if job is None or job.status.terminal:
                await planning.step_over(connection, leased)
                return
            listed = await parts.listing(connection, job_id)
            fanned_out, cancelled, seconds = await planning.finish_facts(connection, job_id)
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
        ended = await self._write.admitting(
            lambda c, alone: self._record(c, leased, status, counts, each_lane_alone=alone)
        )
        await self._reached(Checkpoint.FINISH_STORED)
        if ended:
            self._write.news.ended(leased, status, why(counts, status), counts, seconds)

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

    async def _record(
        self,
        connection: Connection,
        leased: LeasedJob,
        status: Status,
        counts: Counts,
        *,
        each_lane_alone: bool,
    ) -> bool:
        """Make the job terminal; whether it was this call that did."""
        job_id = leased.job_id
        job = await planning.lock_job(connection, job_id)
        if job is None:
            return False
        if job["lease"] != leased.lease:
            raise Fenced(f"job {job_id} was claimed by another worker")
        if status is Status.CANCELLED and await planning.cancel_arrow(connection, job_id):
            await self._announcer.jobs_changed(connection, [job_id])
        if not await planning.finish(connection, job_id, status, why(counts, status), counts):
            await planning.step_over(connection, leased)
            return False
        if lanes := await planning.unblock_after(connection, job_id):
            await self._write.admit(connection, lanes, each_lane_alone=each_lane_alone)
        await self._announcer.job_ended(connection, job_id)  # it locks a shard of the outbox
        return True
