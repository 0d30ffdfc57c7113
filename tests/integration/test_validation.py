# SPDX-License-Identifier: Apache-2.0
"""Validation of jobs through the API and a worker: dry run, failures, warnings, retry."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ran_datajobs.model import Validation
from ran_datajobs.store.database import Database
from tests.kit.api_service import Api, changes_nothing, northbound_api, plan, register
from tests.kit.worker_parts import claim_jobs, worker_parts

ELEMENT = "/SubNetwork=A/ManagedElement=1"
CELL = f"{ELEMENT}/GNBDUFunction=1/NRCellDU=1"
OPERATIONS = [
    {"op": "merge", "path": CELL, "operationId": "good", "value": {"nRPCI": 3}},
    {"op": "merge", "path": CELL, "operationId": "bad", "value": {"nRPCI": 5000}},
    {"op": "test", "path": f"{CELL}#/attributes/nRPCI", "operationId": "never", "value": "x"},
    {"op": "merge", "path": CELL, "operationId": 4, "value": {"vendors": 3}},
    {"op": "merge", "path": "/SubNetwork=Z", "operationId": "nobody", "value": {"vendors": 3}},
]
VALUE, NAME = "NEW_DATA_NODE_VALUE_INVALID", "NEW_DATA_NODE_NAME_INVALID"


def job(mode: str) -> dict[str, Any]:
    return {"validation": mode, "data": OPERATIONS}


async def shown(api: Api, job_id: UUID, below: str = "") -> Any:
    return (await api.get(f"/ranoam/cm/v1/dataJob/{job_id}{below}")).json()


def ids(warnings: list[dict[str, Any]]) -> list[tuple[Any, str]]:
    return [(each["operationId"], each["reason"]) for each in warnings]


async def test_strict_fails_and_warn_warns(database: Database, tmp_path: Path, free_port: int) -> None:
    """STRICT fails what is wrong, unsent, with its reason; WARN sends it. Warnings are in the job and in a
    dry run; a retry validates again."""
    async with northbound_api(database, tmp_path, free_port) as api:
        await register(api, 1)
        dry = (await api.submit(job("STRICT"), "?dryRun=true")).json()
        assert dry["subJobs"][0]["operations"] == 2
        assert {(each["operationId"], each["reason"]) for each in dry["unmatched"]} == {
            ("bad", VALUE),
            ("never", "VALIDATION_FAILED"),
            ("nobody", "UNMATCHED"),
        }
        assert dry["operations"] == {"total": 5, "unmatched": 1}
        assert "nRPCI: 5000 is not in 0..1007" in dry["unmatched"][0]["detail"]
        assert ids(dry["warnings"]) == [(4, NAME)]

        strict = await api.accepted(job("STRICT"))
        assert "warnings" not in await shown(api, strict)
        await plan(api, strict)
        got = await shown(api, strict)
        assert (got["operations"]["failed"], got["operations"]["pending"]) == (2, 2)
        assert (ids(got["warnings"]), got["warningCount"]) == ([(4, NAME)], 1)
        failures = {each["operationId"]: each for each in (await shown(api, strict, "/failures"))["items"]}
        assert (failures["bad"]["reason"], failures["bad"]["state"]) == (VALUE, "FAILED")
        assert failures["never"]["reason"] == "VALIDATION_FAILED"

        warn = await api.accepted(job("WARN"))
        await plan(api, warn)
        got = await shown(api, warn)
        assert (got["operations"]["failed"], got["operations"]["pending"]) == (0, 4)
        assert ids(got["warnings"]) == [("bad", VALUE), ("never", "VALIDATION_FAILED"), (4, NAME)]
        assert set(got["warnings"][0]) == {"operationId", "path", "reason", "detail"}
        listed = (await api.get("/ranoam/cm/v1/dataJob")).json()["items"]
        assert [each["warningCount"] for each in listed] == [3, 1]


async def test_a_retry_validates_again(database: Database, tmp_path: Path, free_port: int) -> None:
    """A job all of whose operations fail validation ends without a sub-job; so does its retry."""
    async with northbound_api(database, tmp_path, free_port) as api:
        await register(api, 1)
        failed = await api.accepted({"validation": "STRICT", "data": OPERATIONS[1:3]})
        await plan(api, failed)
        worker = worker_parts(database, api.parts.objects, index=api.parts.owners)
        (leased,) = await claim_jobs(database)
        await worker.steps.finish(leased)
        assert (await shown(api, failed))["status"] == "FAILED"
        answer = await api.post(f"/ranoam/cm/v1/dataJob/{failed}/retry")
        assert answer.status == 202, answer.body
        again = UUID(answer.json()["jobId"])
        (leased,) = await claim_jobs(database)
        assert leased.validation is Validation.STRICT
        await worker.steps.plan(leased)
        assert (await shown(api, again))["operations"]["failed"] == 2


@changes_nothing
@pytest.mark.parametrize("mode", ["strict", "ON", 1, True, ["STRICT"]])
async def test_another_mode_is_a_400(unchanged: Api, mode: Any) -> None:
    """The problem names the key."""
    answer = await unchanged.submit({"validation": mode, "data": OPERATIONS})
    assert answer.problem["errors"][0]["pointer"] == "#/validation"
