# SPDX-License-Identifier: Apache-2.0
"""A read of several parts: shown once, counted once, and failed when one of its parts fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ran_datajobs.api import paths
from ran_datajobs.model import OperationState
from ran_datajobs.results.parts import ResultWriter
from ran_datajobs.store import results
from ran_datajobs.store.database import Database
from tests.kit.api_service import Api, northbound_api, outcome, plan, register
from tests.kit.worker_parts import always_owner, by_hand, claim_jobs, worker_parts

pytestmark = pytest.mark.damages_rows  # the tests end sub-jobs by hand

WIDE = {
    "op": "read",
    "path": "/SubNetwork=A",
    "operationId": "wide",
    "scope": {"scopeType": "BASE_ALL"},
}
NARROW = {"op": "read", "path": "/SubNetwork=A/ManagedElement=1", "operationId": "narrow"}
NOWHERE = {"op": "read", "path": "/SubNetwork=B", "operationId": "nowhere"}
JOB = {"data": [WIDE, NARROW, NOWHERE]}


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service whose network has two elements with a data producer and two without."""
    async with northbound_api(database, tmp_path, free_port) as running:
        await register(running, 1, 2)
        await register(running, 3, plugin="http://127.0.0.1:10", producer="")
        await register(running, 4, plugin="http://127.0.0.1:11", producer="")
        yield running


async def settle(api: Api, job_id: UUID, state: OperationState) -> None:
    """End every sub-job, with each of its operations in ``state``, and the job, as workers do."""
    database, objects = api.parts.database, api.parts.objects
    answers = {"producer-1": ["wide", "narrow"], "producer-2": ["wide"]}
    rows = await api.rows(
        "select s.sub_job_id, l.data_producer_id, j.results_bucket from sub_job s"
        " join lane l using (lane_id) join data_job j using (job_id) where job_id = $1",
        job_id,
    )
    assert {row["data_producer_id"] for row in rows} == set(answers)
    for row in rows:
        responses = [outcome(one, state) for one in answers[row["data_producer_id"]]]
        writer = ResultWriter(objects, row["results_bucket"], job_id, row["sub_job_id"])
        written = await writer.write(responses, always_owner)
        async with database.transaction() as connection:
            await results.record(connection, job_id, written)
    await by_hand(
        database,
        "with ended as (update sub_job set stage = 'SETTLED', status = 'FINISHED', due_at = null"
        " where job_id = $1) update data_job set sub_jobs_open = 0, status = 'RUNNING', due_at = now()"
        " where job_id = $1",
        job_id,
    )
    (step,) = await claim_jobs(database)
    await worker_parts(database, objects).steps.finish(step)


async def job_of(api: Api, job_id: UUID) -> Any:
    """The job as a client reads it."""
    return (await api.get(paths.fill(paths.JOB, job_id=job_id))).json()


async def test_a_part_without_a_producer_fails_the_read_and_counts_once(api: Api) -> None:
    """The read succeeded at two producers, and two elements have none: one failed operation."""
    job_id = await api.accepted(JOB)
    await plan(api, job_id)
    planned = (await job_of(api, job_id))["operations"]
    assert planned == {
        "total": 3,
        "succeeded": 0,
        "failed": 0,
        "unmatched": 1,
        "notStarted": 0,
        "unknown": 0,
        "pending": 2,
    }
    await settle(api, job_id, OperationState.SUCCEEDED)
    job = await job_of(api, job_id)
    assert job["status"] == "PARTIALLY_FAILED"
    assert job["operations"] == {
        "total": 3,
        "succeeded": 1,
        "failed": 1,
        "unmatched": 1,
        "notStarted": 0,
        "unknown": 0,
        "pending": 0,
    }
    failures = (await api.get(paths.fill(paths.FAILURES, job_id=job_id))).json()["items"]
    assert {(one["operationId"], one["reason"]) for one in failures} == {
        ("wide", "NO_DATA_PRODUCER"),
        ("nowhere", "UNMATCHED"),
    }


async def test_a_read_that_fails_in_every_part_counts_once(api: Api) -> None:
    """The read failed at both producers, and two elements have none: still one failed operation of three."""
    job_id = await api.accepted(JOB)
    await plan(api, job_id)
    await settle(api, job_id, OperationState.FAILED)
    job = await job_of(api, job_id)
    counts = job["operations"]
    assert (job["status"], counts["failed"], counts["unmatched"], counts["succeeded"]) == ("FAILED", 2, 1, 0)
    assert sum(counts.values()) == 2 * counts["total"]


async def test_a_dry_run_shows_a_refused_read_once(api: Api) -> None:
    """However many of its parts have no producer, it is one operation, and its other parts stay in the
    plan."""
    dry = (await api.submit(JOB, "?dryRun=true")).json()
    assert [(sub["dataProducerId"], sub["operations"]) for sub in dry["subJobs"]] == [
        ("producer-1", 2),
        ("producer-2", 1),
    ]
    assert dry["operations"] == {"total": 3, "unmatched": 1}
    assert [(one["operationId"], one["reason"]) for one in dry["unmatched"]] == [
        ("wide", "NO_DATA_PRODUCER"),
        ("nowhere", "UNMATCHED"),
    ]
