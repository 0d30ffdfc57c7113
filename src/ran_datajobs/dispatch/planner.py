# SPDX-License-Identifier: Apache-2.0
"""The plan task: split an accepted job by who owns each managed object, durably and repeatably."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import random
from typing import Final
from uuid import UUID, uuid5

import zstandard

from ran_datajobs.checkpoints import Checkpoint, Reached, pass_by
from ran_datajobs.dispatch.lines import Lines
from ran_datajobs.dispatch.tasks import Again, Done, Task, TaskKind, enqueue, enqueue_lanes_now
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.owners import Owners
from ran_datajobs.job import UNMATCHED_PART, OperationState, Reason, Response
from ran_datajobs.plan.split import Plan, RefusedOperation, split_accepted
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.parts import write_parts
from ran_datajobs.results.responses import synthesised
from ran_datajobs.store import parts, planning
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.parts import Part
from ran_datajobs.store.planning import JobToPlan, NewSubJob, PlaceInLine

_MAX_REQUEST: Final = 1 << 31

PLANS_IN_MEMORY: Final = 4
"""Small jobs whose request or plan one worker has in memory at a time, beside one large one; thousands may
wait for theirs."""

LARGE: Final = 256 * 1024
"""Bytes of a stored request from which on a job is large: of those one is planned at a time."""

LINE: Final = 100
"""Jobs of one client that wait in a worker for their turn. The tasks of more go back for a while: others'
need room."""

_BACK_FOR: Final = 1.0
_BEHIND_LOOKS: Final = 40
_BEHIND_PAUSE: Final = 0.05
_LANES_AT_ONCE: Final = 200


class Planner:
    """Plans jobs. Planning the same job twice gives the same sub-jobs and the same objects.

    Jobs of one client are planned in the order of their submission, since their sub-jobs start in that order;
    one of a higher priority does not wait for those of a lower one. No client waits for another one's.
    """

    def __init__(
        self, database: Database, index: OwnerIndex, objects: ObjectStore, reached: Reached = pass_by
    ) -> None:
        self._database = database
        self._index = index
        self._objects = objects
        self._reached = reached
        self._clients = Lines()
        self._small = asyncio.Semaphore(PLANS_IN_MEMORY)
        self._large = asyncio.Semaphore(1)

    async def handle(self, subject: str, _task_id: int) -> Done | Again:
        """Plan the job ``subject``; nothing when it is planned already or gone."""
        job_id = UUID(subject)
        place = await self._place(job_id)
        if place is None:
            return Done()
        line = f"{place.priority} {place.client}"
        if self._clients.length(line) >= LINE:
            return Again(_BACK_FOR * (1.0 + random()))  # noqa: S311 - spreads repeats, no secret
        for _ in range(_BEHIND_LOOKS):
            async with self._clients.turn(line, place.seq):
                if place.behind:
                    again = await self._place(job_id)
                    if again is None:
                        return Done()
                    place = again
                if not place.behind:  # nobody gets before it any more
                    async with self._large if place.size >= LARGE else self._small:
                        return await self._plan(job_id)
            await asyncio.sleep(_BEHIND_PAUSE)  # the one before is on its way here, or another worker has it
        return Again(_BEHIND_PAUSE)

    async def _place(self, job_id: UUID) -> PlaceInLine | None:
        async with self._database.connection() as connection:
            return await planning.place_in_line(connection, job_id)

    async def _plan(self, job_id: UUID) -> Done:
        async with self._database.connection() as connection:
            job = await planning.job_to_plan(connection, job_id)
        if job is None:
            return Done()
        await self._index.catch_up()
        owners = self._index.snapshot()
        plan, sub_jobs = await asyncio.to_thread(_split, job, owners)
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
        tasks = await self._database.retried(lambda c: self._record(c, job_id, plan, sub_jobs, refused))
        await self._reached(Checkpoint.PLAN_STORED)
        return Done(tasks if len(sub_jobs) <= _LANES_AT_ONCE else ())

    async def _is_unplanned(self, job_id: UUID) -> bool:
        async with self._database.connection() as connection:
            return await planning.is_unplanned(connection, job_id)

    async def _record(
        self,
        connection: Connection,
        job_id: UUID,
        plan: Plan,
        sub_jobs: list[NewSubJob],
        refused: list[Part],
    ) -> tuple[Task, ...]:
        await planning.commit_lazily(connection)
        row = await planning.lock_job(connection, job_id)
        if row is None or row["planned"]:
            return ()
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
            finish = Task(TaskKind.FINISH, str(job_id))
            await enqueue(connection, [finish])
            return (finish,)
        wake = not blocked or row["cancel_asked"]
        lane_ids = await planning.insert_sub_jobs(connection, job_id, sub_jobs, wake=wake)
        return await enqueue_lanes_now(connection, lane_ids)


def _split(job: JobToPlan, owners: Owners) -> tuple[Plan, list[NewSubJob]]:
    body = zstandard.ZstdDecompressor().decompress(job.body, max_output_size=_MAX_REQUEST)
    plan = split_accepted(body, owners)
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


def refusals(refused: Iterable[RefusedOperation]) -> Iterable[Response]:
    """A response for every operation that no sub-job gets, in order."""
    for each in refused:
        yield from synthesised([each.operation], OperationState.FAILED, each.reason, each.detail)
