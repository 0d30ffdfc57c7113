# SPDX-License-Identifier: Apache-2.0
"""The steps of a job in the twin: plan and finish."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ran_datajobs.errors import Fenced
from ran_datajobs.model import DeliveryState, OperationCounts, PlannedSubJob, Status
from ran_datajobs.store import jobs
from ran_datajobs.store.dispatch import LeasedJob, PlannedJob
from ran_datajobs.store.results import FOREIGN_SEQUENCE, MAX_PIECES, Arrived, Part
from ran_datajobs.store.sub_jobs import JOB, SUB_JOB, sub_job_id
from tests.simulation.rows import OPEN, JobRow, LaneRow, PartRow, SubJobRow
from tests.simulation.tables import Tables

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Steps(Tables):
    """Plans, finish steps, and the recorded objects."""

    def record_plan(self, job: LeasedJob, plan: PlannedJob) -> None:
        """See the port."""
        row = self.jobs[job.job_id]
        if row.planned or row.lease != job.lease:
            raise Fenced(f"job {job.job_id} was claimed by another worker")
        blocked = any(self.jobs[each].status in OPEN for each in row.after)
        row.planned, row.blocked, row.split_reads, row.step_failures = True, blocked, plan.split_reads, 0
        row.sub_jobs = row.sub_jobs_open = len(plan.sub_jobs)
        row.unmatched, row.failed, row.objects_cause = plan.unmatched, plan.failed, None
        row.not_started = plan.not_started
        row.version += 1
        self._end_step(row, None if plan.sub_jobs else self.now())
        self.record(job.job_id, plan.parts)
        if not plan.sub_jobs:
            self.due(JOB)
            return
        lanes = self._insert(row, plan.sub_jobs)
        if row.cancel_requested or (not blocked and self.admit(lanes)):
            self.due(SUB_JOB)

    def _insert(self, job: JobRow, new: Sequence[PlannedSubJob]) -> list[int]:
        pairs = sorted({(each.plugin_id, each.data_producer_id) for each in new})
        known = {(lane.plugin_id, lane.data_producer_id): lane.lane_id for lane in self.lanes.values()}
        for pair in pairs:
            if pair not in known:
                known[pair] = len(self.lanes) + 1
                self.lanes[known[pair]] = LaneRow(known[pair], *pair)
        for position, each in enumerate(new):
            id_ = sub_job_id(job.job_id, each)
            self.sub_jobs[id_] = SubJobRow(
                id_,
                job.job_id,
                position,
                known[each.plugin_id, each.data_producer_id],
                each.plugin_id,
                job.type,
                job.seq,
                job.client,
                job.priority,
                job.blocked,
                job.cancel_requested,
                self.now() if job.cancel_requested else None,
                each.body,
                each.size,
                each.operations,
                self.now(),
                each.dialect,
            )
        return sorted({known[pair] for pair in pairs})

    def record(self, job_id: UUID, parts: Sequence[Part]) -> None:
        """Record ``parts``, the last ones of their sub-jobs."""
        kept, ends = self.parts[job_id], dict[str, int]()
        for part in parts:
            ends[part.sub_job] = max(ends.get(part.sub_job, 0), part.sequence + 1)
        for sub_job, sequence in [key for key in kept if key[1] >= ends.get(key[0], key[1] + 1)]:
            del kept[sub_job, sequence]
        kept.update({(part.sub_job, part.sequence): PartRow(part) for part in parts})

    def arrived(self, sub_job_id: UUID, job_id: UUID, total: int | None) -> Arrived:
        """See the port."""
        parts = self._parts_of(sub_job_id, job_id)
        sequences = [each.part.sequence for each in parts]
        numbers = {each for each in sequences if each >= 0}
        unreadable = sum(each < 0 and (FOREIGN_SEQUENCE - each) % MAX_PIECES == 0 for each in sequences)
        below = numbers if total is None else {each for each in numbers if each < total}
        packed = [each.outcomes for each in parts if each.outcomes is not None]
        return Arrived(len(numbers), len(below), max(numbers, default=-1), unreadable, total, packed)

    def _parts_of(self, sub_job_id: UUID, job_id: UUID) -> list[PartRow]:
        rows = self.parts[job_id].values()
        return [row for row in rows if row.part.sub_job == str(sub_job_id) and row.outcomes is not None]

    def finish_facts(self, job_id: UUID) -> tuple[jobs.JobRow, list[Part]]:
        """See the port."""
        job = self.jobs[job_id]
        order = {str(row.sub_job_id): row.position for row in self._of_job(job_id)}
        listed = sorted(
            (row.part for row in self.parts[job_id].values()),
            key=lambda part: (order.get(part.sub_job, math.inf), part.sequence),
        )
        return _job_row(job), listed

    def finish(
        self, leased: LeasedJob, status: Status, reason: str | None, counts: OperationCounts
    ) -> float | None:
        """See the port."""
        job = self.jobs[leased.job_id]
        if job.lease != leased.lease:
            raise Fenced(f"job {leased.job_id} was claimed by another worker")
        if job.status not in OPEN or not job.planned or job.sub_jobs_open:
            self._end_step(job, None)
            return None
        job.status, job.reason, job.ended_at, job.objects_cause = status, reason, self.now(), None
        job.succeeded, job.failed, job.unmatched = counts.succeeded, counts.failed, counts.unmatched
        job.not_started, job.unknown, job.step_failures = counts.not_started, counts.unknown, 0
        job.version += 1
        self._end_step(job, None)
        freed = {
            other.job_id
            for other in self.jobs.values()
            if other.blocked and job.job_id in other.after
            if not any(self.jobs[each].status in OPEN for each in other.after)
        }
        lanes: dict[int, None] = {}
        for other_id in freed:
            self.jobs[other_id].blocked = False
        for row in self.sub_jobs.values():
            if row.job_id in freed and row.blocked:
                row.blocked = False
                lanes[row.lane_id] = None
        if self.admit(lanes):
            self.due(SUB_JOB)
        return job.ended_at - job.created_at

    def step_over(self, leased: LeasedJob) -> None:
        """See the port."""
        job = self.jobs[leased.job_id]
        if job.lease == leased.lease:
            self._end_step(job, None)

    def step_failed(self, leased: LeasedJob, delay: float, objects_cause: str | None) -> None:
        """See the port."""
        job = self.jobs[leased.job_id]
        if job.lease == leased.lease:
            job.step_failures += 1
            job.objects_cause = objects_cause
            self._end_step(job, self.now() + delay)


def _job_row(job: JobRow) -> jobs.JobRow:
    def at(seconds: float | None) -> datetime | None:
        return None if seconds is None else EPOCH + timedelta(seconds=seconds)

    return jobs.JobRow(
        job_id=job.job_id,
        seq=job.seq,
        client=job.client,
        type=job.type,
        name=None,
        destination=None,
        destination_kind=jobs.BUCKET,
        results_bucket=job.bucket,
        activation_mode="BEST_EFFORT",
        priority=job.priority,
        retry_of=None,
        status=job.status,
        planned=job.planned,
        operations=job.operations,
        succeeded=job.succeeded,
        failed=job.failed,
        unmatched=job.unmatched,
        not_started=job.not_started,
        unknown=job.unknown,
        reason=job.reason,
        delivery_state=DeliveryState.PENDING,
        delivery_detail=None,
        created_at=EPOCH + timedelta(seconds=job.created_at),
        started_at=at(job.started_at),
        ended_at=at(job.ended_at),
        version=job.version,
        split_reads=job.split_reads,
        cancelled_sub_jobs=job.cancelled_sub_jobs,
    )
