# SPDX-License-Identifier: Apache-2.0
"""The plan step of a job: split it by who owns each managed object, durably and repeatably."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid5

import zstandard

from ran_datajobs.checkpoints import Checkpoint, Reached, pass_by
from ran_datajobs.dispatch.limits import DispatchLimits
from ran_datajobs.dispatch.transitions import TransitionWriter
from ran_datajobs.errors import Fenced
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.owners import Owners
from ran_datajobs.job import UNMATCHED_PART, OperationState, Reason, Response
from ran_datajobs.plan.split import Plan, RefusedOperation, split_accepted
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.parts import write_parts
from ran_datajobs.results.responses import synthesised
from ran_datajobs.store import parts, planning, sub_jobs
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.parts import Part
from ran_datajobs.store.planning import LeasedJob
from ran_datajobs.store.sub_jobs import JOB, SUB_JOB, Admitted, LeasedSubJob, NewSubJob

_MAX_REQUEST: Final = 1 << 31


class Planner:
    """Plans jobs. Planning the same job twice gives the same sub-jobs and the same objects."""

    def __init__(
        self,
        database: Database,
        index: OwnerIndex,
        objects: ObjectStore,
        write: TransitionWriter,
        limits: DispatchLimits,
        worker_id: UUID,
        reached: Reached = pass_by,
    ) -> None:
        self._database = database
        self._index = index
        self._objects = objects
        self._write = write
        self._limits = limits
        self._worker_id = worker_id
        self._reached = reached

    async def plan(self, job: LeasedJob, token: UUID) -> list[LeasedSubJob]:
        """Plan the job; of its sub-jobs those that this worker has leased under ``token`` in the same
        transaction, and counted in the limits. Raises Fenced when the lease of the job is void."""
        await self._index.catch_up()
        owners = self._index.snapshot()
        plan, new = await asyncio.to_thread(_split, job, owners)
        await self._reached(Checkpoint.PLAN_SPLIT)
        refused = await write_parts(
            self._objects,
            job.results_bucket,
            str(job.job_id),
            UNMATCHED_PART,
            refusals(plan.refused),
            may_replace=lambda: self._is_leased(job),
        )
        await self._reached(Checkpoint.PLAN_WRITTEN)
        counted: list[Admitted] = []
        try:
            leased = await self._write.admitting(
                lambda c, alone: self._record(
                    c, job, plan, new, refused, token, counted, each_lane_alone=alone
                )
            )
        except BaseException:
            self._uncount(counted)
            raise
        await self._reached(Checkpoint.PLAN_STORED)
        return leased

    async def _is_leased(self, job: LeasedJob) -> bool:
        async with self._database.connection() as connection:
            return await planning.is_leased(connection, job)

    async def _record(
        self,
        connection: Connection,
        job: LeasedJob,
        plan: Plan,
        new: list[NewSubJob],
        refused: list[Part],
        token: UUID,
        counted: list[Admitted],
        *,
        each_lane_alone: bool,
    ) -> list[LeasedSubJob]:
        """Write the plan, admit what may start, and lease of that what this worker can send at once."""
        self._uncount(counted)
        row = await planning.lock_job(connection, job.job_id)
        if row is None or row["planned"] or row["lease"] != job.lease:
            raise Fenced(f"job {job.job_id} was claimed by another worker")
        blocked = row["has_after"] and await planning.still_blocked(connection, job.job_id)
        unmatched = sum(r.reason is Reason.UNMATCHED for r in plan.refused)
        await planning.mark_planned(
            connection,
            job.job_id,
            sub_jobs=len(new),
            unmatched=unmatched,
            failed=0 if plan.parts_of else len(plan.refused) - unmatched,
            fanned_out=bool(plan.parts_of),
            blocked=blocked,
        )
        if refused:
            await parts.record(connection, job.job_id, refused)
        if not new:
            await sub_jobs.notify_due(connection, JOB)
            return []
        lanes = await sub_jobs.insert(connection, job.job_id, new)
        if row["cancel_asked"]:
            await sub_jobs.notify_due(connection, SUB_JOB)
        admitted: list[Admitted] = []
        if not blocked and not row["cancel_asked"]:
            await sub_jobs.lock_lanes(connection, lanes)
            admitted = await self._write.admit(
                connection, lanes, each_lane_alone=each_lane_alone, notify=False
            )
        counted += self._limits.fitting(admitted)
        if len(counted) < len(admitted):
            await sub_jobs.notify_due(connection, SUB_JOB)
        for each in counted:
            self._limits.add(each.plugin_id, each.size, creates=True)
        if not counted:
            await planning.commit_lazily(connection)
            return []
        return await sub_jobs.claim_admitted(
            connection, [each.sub_job_id for each in counted], token, self._worker_id
        )

    def _uncount(self, counted: list[Admitted]) -> None:
        for each in counted:
            self._limits.created(each.plugin_id, each.size)
            self._limits.remove(each.plugin_id)
        counted.clear()


def _split(job: LeasedJob, owners: Owners) -> tuple[Plan, list[NewSubJob]]:
    body = zstandard.ZstdDecompressor().decompress(job.body or b"", max_output_size=_MAX_REQUEST)
    plan = split_accepted(body, owners)
    return plan, [
        NewSubJob(
            uuid5(job.job_id, f"{s.plugin.plugin_id}/{s.data_producer_id}"),
            s.plugin.plugin_id,
            s.data_producer_id,
            s.body,
            s.operations,
            s.size,
        )
        for s in plan.sub_jobs
    ]


def refusals(refused: Iterable[RefusedOperation]) -> Iterable[Response]:
    """A response for every operation that no sub-job gets, in order."""
    for each in refused:
        yield from synthesised([each.operation], OperationState.FAILED, each.reason, each.detail)
