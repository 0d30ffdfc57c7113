# SPDX-License-Identifier: Apache-2.0
"""The plan task: split an accepted job by who owns each managed object, durably and repeatably."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final
from uuid import UUID, uuid5

import zstandard

from ran_datajobs.checkpoints import Checkpoint, Reached, pass_by
from ran_datajobs.dispatch.tasks import Task, TaskKind, enqueue, enqueue_lanes_now
from ran_datajobs.dispatch.turn import Again, Done
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.job import UNMATCHED_PART, OperationState, Reason, Response
from ran_datajobs.plan.split import Plan, RefusedOperation, split_accepted
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.parts import write_parts
from ran_datajobs.results.responses import synthesised
from ran_datajobs.store import parts, planning
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.parts import Part
from ran_datajobs.store.planning import JobToPlan, NewSubJob

_MAX_REQUEST: Final = 1 << 31

PLANS_IN_MEMORY: Final = 4
"""Jobs whose request or plan one worker has in memory at a time; thousands may wait for theirs."""


class Planner:
    """Plans jobs. Planning the same job twice gives the same sub-jobs and the same objects."""

    def __init__(
        self, database: Database, index: OwnerIndex, objects: ObjectStore, reached: Reached = pass_by
    ) -> None:
        self._database = database
        self._index = index
        self._objects = objects
        self._reached = reached
        self._in_memory = asyncio.Semaphore(PLANS_IN_MEMORY)
        self._one_at_a_time = asyncio.Lock()  # the index must stand still while it is read on a thread

    async def handle(self, subject: str, _task_id: int) -> Done | Again:
        """Plan the job ``subject``; nothing when it is planned already or gone."""
        async with self._in_memory:
            return await self._plan(UUID(subject))

    async def _plan(self, job_id: UUID) -> Done:
        async with self._one_at_a_time:  # whoever waits for it has no request in memory yet
            async with self._database.connection() as connection:
                job = await planning.job_to_plan(connection, job_id)
            if job is None:
                return Done()
            await self._index.catch_up()
            plan, sub_jobs = await asyncio.to_thread(self._split, job)
        await self._reached(Checkpoint.PLAN_SPLIT)
        refused = await write_parts(
            self._objects,
            job.results_bucket,
            str(job_id),
            UNMATCHED_PART,
            refusals(plan.refused),
            may_replace=lambda: self._is_unplanned(job_id),
        )
        await self._reached(Checkpoint.PLAN_WRITTEN)
        await self._database.retried(lambda c: self._record(c, job_id, plan, sub_jobs, refused))
        await self._reached(Checkpoint.PLAN_STORED)
        return Done()

    async def _is_unplanned(self, job_id: UUID) -> bool:
        async with self._database.connection() as connection:
            return await planning.is_unplanned(connection, job_id)

    def _split(self, job: JobToPlan) -> tuple[Plan, list[NewSubJob]]:
        body = zstandard.ZstdDecompressor().decompress(job.body, max_output_size=_MAX_REQUEST)
        plan = split_accepted(body, self._index)
        return plan, [
            NewSubJob(
                uuid5(job.job_id, f"{s.plugin.plugin_id}/{s.data_producer_id}"),
                s.plugin.plugin_id,
                s.data_producer_id,
                s.body,
                s.operations,
            )
            for s in plan.sub_jobs
        ]

    async def _record(
        self,
        connection: Connection,
        job_id: UUID,
        plan: Plan,
        sub_jobs: list[NewSubJob],
        refused: list[Part],
    ) -> None:
        row = await planning.lock_job(connection, job_id)
        if row is None or row["planned"]:
            return
        blocked = await planning.still_blocked(connection, job_id)
        unmatched = sum(r.reason is Reason.UNMATCHED for r in plan.refused)
        await planning.mark_planned(
            connection,
            job_id,
            sub_jobs=len(sub_jobs),
            unmatched=unmatched,
            failed=0 if plan.parts_of else len(plan.refused) - unmatched,
            fanned_out=bool(plan.parts_of),
            blocked=blocked,
        )
        if refused:
            await parts.record(connection, job_id, refused)
        if not sub_jobs:
            await enqueue(connection, [Task(TaskKind.FINISH, str(job_id))])
            return
        wake = not blocked or row["cancel_asked"]
        lane_ids = await planning.insert_sub_jobs(connection, job_id, sub_jobs, wake=wake)
        await enqueue_lanes_now(connection, lane_ids)


def refusals(refused: Iterable[RefusedOperation]) -> Iterable[Response]:
    """A response for every operation that no sub-job gets, in order."""
    for each in refused:
        yield from synthesised([each.operation], OperationState.FAILED, each.reason, each.detail)
