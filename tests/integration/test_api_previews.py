# SPDX-License-Identifier: Apache-2.0
"""Previews at the northbound API, and the plan of a preview in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from ran_datajobs.dispatch import steps
from ran_datajobs.results.outcomes import unpack
from ran_datajobs.store.database import Database
from tests.kit.api_service import READ, WRITE, Api, changes_nothing, northbound_api, plan, register

JOBS = "/ranoam/cm/v1/dataJob"
ONE = WRITE["data"][0]
NOTHING = {"data_job": 0, "job_request": 0, "idempotency_key": 0}


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service on one machine."""
    async with northbound_api(database, tmp_path, free_port) as running:
        yield running


@changes_nothing
@pytest.mark.parametrize(
    ("body", "query", "status", "pointer"),
    [
        (READ, "?preview=true", 400, "preview"),
        (WRITE, "?preview=yes", 400, "preview"),
        (WRITE | {"preview": True}, "", 400, "#/preview"),
        (WRITE | {"Previw": True}, "", 400, "#/Previw"),
        ({"data": [ONE | {"preview": True}]}, "", 400, "#/data/0/preview"),
        (WRITE, "?previews=true", 400, "previews"),
        (WRITE, "?basedOn=x", 422, "basedOn"),
    ],
)
async def test_what_is_no_preview_is_refused(
    unchanged: Api, body: Any, query: str, status: int, pointer: str
) -> None:
    """A preview of reads, and everything that looks like a preview and would be executed."""
    problem = (await unchanged.submit(body, query)).problem
    assert (problem["status"], problem["errors"][0]["pointer"]) == (status, pointer), problem
    assert await unchanged.left_behind() == NOTHING


async def test_the_plan_of_a_preview_reads_each_object_once_and_holds_no_value(api: Api) -> None:
    """Its sub-jobs are reads of the named objects and of the parents of new ones, with the children of one to
    delete; an operation without an owner has its outcome at once. The job cannot be retried: nothing of it
    was executed."""
    await register(api, 1, 2)
    element = "/SubNetwork=A/ManagedElement=1"
    lines = [
        ONE,
        ONE | {"operationId": "2", "path": f"{element}#/attributes/locationName"},
        {"op": "add", "path": f"{element}/GNBDUFunction=7", "operationId": "3", "value": {"attributes": {}}},
        {"op": "remove", "path": f"{element}/GNBDUFunction=8", "operationId": "4"},
        ONE | {"operationId": "5", "path": "/SubNetwork=B/ManagedElement=1#/attributes/userLabel"},
        {"op": "add", "path": "/SubNetwork=A/ManagedElement=2", "operationId": "6", "value": {}},
    ]
    job_id = await api.accepted({"data": lines}, "?Preview=TRUE")
    await plan(api, job_id)
    found = await api.rows("select type::text, body from sub_job where job_id = $1 order by position", job_id)
    reads = [msgspec.json.decode(unpack(row["body"])) for row in found]
    assert [row["type"] for row in found] == ["READ", "READ"]
    subtree = {"scopeType": "BASE_SUBTREE", "scopeLevel": 1}
    assert [[(each["op"], each["path"], each.get("scope")) for each in some] for some in reads] == [
        [
            ("read", element, None),
            ("read", f"{element}/GNBDUFunction=7", None),
            ("read", f"{element}/GNBDUFunction=8", subtree),
        ],
        [("read", "/SubNetwork=A/ManagedElement=2", None)],
    ]
    assert not any("value" in each for some in reads for each in some)
    job = (await api.get(f"{JOBS}/{job_id}")).json()
    assert (job["type"], job["operations"]["unmatched"], job["operations"]["pending"]) == ("PREVIEW", 1, 5)
    (outcome,) = (await api.get(f"{JOBS}/{job_id}/outcomes")).json()["items"]
    assert (outcome["operationId"], outcome["effect"]["kind"]) == ("5", "WOULD_FAIL")
    assert (outcome["reason"], outcome["effect"]["reason"]) == ("UNMATCHED", "UNMATCHED")
    listed = (await api.get(f"{JOBS}?type=PREVIEW")).json()["items"]
    assert [each["jobId"] for each in listed] == [str(job_id)]
    refused = (await api.post(f"{JOBS}/{job_id}/retry")).problem
    assert (refused["status"], "preview" in refused["detail"]) == (409, True)


async def test_no_operation_of_a_preview_can_be_stored_as_a_sub_job(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that plans a preview as a write, as one that does not know previews would, is refused by the
    database: no sub-job is left, and nothing can be sent."""
    await register(api, 1)
    job_id = await api.accepted(query="?preview=true")
    monkeypatch.setattr(steps, "split_preview", lambda _body, as_write, *_: as_write)
    with pytest.raises(asyncpg.CheckViolationError, match="sub_job_reads_or_writes"):
        await plan(api, job_id)
    assert await _sub_jobs(api, job_id) == 0


async def _sub_jobs(api: Api, job_id: UUID) -> int:
    (row,) = await api.rows("select count(*) as n from sub_job where job_id = $1", job_id)
    return int(row["n"])
