# SPDX-License-Identifier: Apache-2.0
"""Dry run: the plan of a submit, without sending or storing anything."""

from __future__ import annotations

import asyncio

from msgspec import UNSET

from ran_datajobs.api.dependencies import ApiState
from ran_datajobs.api.schemas import Plan, PlannedOperations, PlannedSubJob, UnmatchedOperation
from ran_datajobs.model import Reason
from ran_datajobs.planning.request import JobRequest
from ran_datajobs.planning.split import split


async def plan(api: ApiState, read: JobRequest) -> Plan:
    """The plan of the request with the current inventory."""
    async with api.planning:  # the index must not change while a thread plans over it
        await api.parts.owners.catch_up()
        return await asyncio.to_thread(_plan, api, read)


def _plan(api: ApiState, read: JobRequest) -> Plan:
    found = split(read, api.parts.owners)
    # A read can have several refused parts and counts as one operation.
    refused = {each.position: each for each in found.refused}.values()
    return Plan(
        sub_jobs=[
            PlannedSubJob(sub_job.plugin.url, sub_job.data_producer_id, sub_job.operations)
            for sub_job in found.sub_jobs
        ],
        operations=PlannedOperations(read.count, sum(each.reason is Reason.UNMATCHED for each in refused)),
        unmatched=[
            UnmatchedOperation(each.operation.operation_id, each.operation.path, each.reason.value)
            for each in refused
        ],
        ignored=read.ignored.keys if read.ignored else UNSET,
        ignored_count=read.ignored.count if read.ignored else UNSET,
    )
