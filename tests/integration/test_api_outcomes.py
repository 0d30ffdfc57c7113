# SPDX-License-Identifier: Apache-2.0
"""The operations of a job over HTTP: as submitted, with their outcomes, and those that a cancel left
undone."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from ran_datajobs.api import paths
from ran_datajobs.model import OperationState, Response, Status
from ran_datajobs.plugins.port import Entry, Polled, Responses
from ran_datajobs.store import retention
from ran_datajobs.store.database import Database
from tests.kit.api_service import Api, northbound_api, register
from tests.kit.plugins.in_process import InProcessPlugin
from tests.kit.worker_parts import DEADLINE, worker_parts

LABEL = "#/attributes/userLabel"
OPERATIONS = [
    b'{"op": "replace", "path": "/SubNetwork=A/ManagedElement=0#/attributes/userLabel", "value": 1.50}',
    (
        b'{ "path":"\\/SubNetwork=A/ManagedElement=1/GNBDUFunction=1#/attributes/x" , "op":"replace",'
        b' "operationId": 7, "value":{"b": 1e2,"a":"\\u00e4"}, "note": null}'
    ),
    b'{"op": "replace", "path": "/SubNetwork=A/ManagedElement=10#x", "operationId": "z", "value": "=1+1"}',
    b'{"op": "remove", "path": "/SubNetwork=B", "operationId": "nobody"}',
]
BODY = b'{"name": "as it came", "data": [\n  %b\n]}' % b",\n  ".join(OPERATIONS)


class AnsweringPlugin(InProcessPlugin):
    """Ends each sub-job with the outcomes that ``states`` gives for its operations; all others have
    succeeded."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, OperationState] = {}
        self.operations: dict[str, list[Any]] = {}

    async def create(self, call: Any) -> Any:
        """Store the ids of the data producer's operations."""
        ids = [each["operationId"] for each in msgspec.json.decode(call.operations)]
        self.operations[call.data_producer_id] = ids
        return await super().create(call)

    async def result(self, address: Any) -> Any:
        """The outcomes of the data producer's operations."""
        return Responses(
            tuple(
                Entry(
                    each,
                    Response(each, 0 if state is OperationState.SUCCEEDED else 108, "said so", state=state),
                )
                for each in self.operations[address.data_producer_id]
                for state in [self.states.get(str(each), OperationState.SUCCEEDED)]
            )
        )


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service on one machine. Elements 0, 1 and 10 have a data producer each."""
    async with northbound_api(database, tmp_path, free_port) as running:
        await register(running, 0, 1, 10)
        yield running


async def ended(api: Api, job_id: UUID, plugin: InProcessPlugin) -> Any:
    """The job, once a worker has ended it."""
    parts = api.parts
    async with worker_parts(parts.database, parts.objects, plugin, index=parts.owners).working():
        async with asyncio.timeout(DEADLINE):
            while not (job := (await api.get(paths.fill(paths.JOB, job_id=job_id))).json())["endedAt"]:
                await asyncio.sleep(0.02)
    return job


async def ended_with(api: Api, body: bytes, states: dict[str, OperationState]) -> UUID:
    """A job that has ended with these states of its operations. The others have succeeded."""
    plugin = AnsweringPlugin()
    plugin.states = states
    job_id = await api.accepted(body)
    await ended(api, job_id, plugin)
    return job_id


async def outcomes(api: Api, job_id: UUID, query: str = "", accept: str = "application/json") -> Any:
    """The response to a GET of the outcomes."""
    answer = await api.get(paths.fill(paths.OUTCOMES, job_id=job_id) + query, headers={"Accept": accept})
    assert answer.status == 200, answer.body
    return answer


def ids(answer: Any) -> list[Any]:
    """The operations that a response lists, without regard to order."""
    return sorted((each["operationId"] for each in answer.json()["items"]), key=str)


async def test_the_operations_of_a_request_are_told_as_they_came(api: Api) -> None:
    """The same bytes in the same order, page by page, from the 202 on: numbers, escapes, blanks and unknown
    keys are as submitted."""
    job_id = await api.accepted(BODY)
    address = paths.fill(paths.REQUEST, job_id=job_id)
    whole = await api.get(address)
    assert whole.body == b'{"items":[%b],"next":null}' % b",".join(OPERATIONS)
    first = await api.get(address + "?limit=3")
    assert first.body.startswith(b'{"items":[%b],"next":"' % b",".join(OPERATIONS[:3]))
    rest = await api.get(address + f"?limit=3&cursor={first.json()['next']}")
    assert rest.body == b'{"items":[%b],"next":null}' % OPERATIONS[3]
    assert (await api.get(address + "?cursor=nothing")).problem["status"] == 400


async def test_every_operation_is_told_with_its_outcome(api: Api) -> None:
    """Its id in the original JSON type, path, op, state, reason, detail, data producer, and its value as
    submitted; no reason if it has succeeded. Operations without a data producer are listed as well."""
    job_id = await ended_with(api, BODY, {"7": OperationState.FAILED})
    found = {each["operationId"]: each for each in (await outcomes(api, job_id)).json()["items"]}
    assert set(found) == {"0", 7, "z", "nobody"}
    assert found["0"] == {
        "operationId": "0",
        "path": f"/SubNetwork=A/ManagedElement=0{LABEL}",
        "op": "replace",
        "state": "SUCCEEDED",
        "reason": "",
        "detail": "",
        "dataProducerId": "producer-0",
        "value": 1.5,
    }
    assert (found[7]["state"], found[7]["reason"], found[7]["detail"]) == ("FAILED", "STATUS_108", "said so")
    assert found["nobody"]["reason"] == "UNMATCHED"
    assert found["nobody"]["dataProducerId"] is None
    assert "value" not in found["nobody"]
    assert b'"value":{"b": 1e2,"a":"\\u00e4"}' in (await outcomes(api, job_id)).body
    failures = (await api.get(paths.fill(paths.FAILURES, job_id=job_id))).json()["items"]
    failed = (await outcomes(api, job_id, "?state=FAILED&state=UNKNOWN&state=NOT_STARTED")).json()["items"]
    assert failures == [{name: each[name] for name in each if name != "value"} for each in failed]


async def test_outcomes_are_chosen_by_state_reason_data_producer_and_place(api: Api) -> None:
    """Each parameter may occur several times and matches any of its values; all parameters must match. below
    selects by whole RDNs, in any spelling. An unknown state, and a text that is no FDN, is a 400."""
    job_id = await ended_with(api, BODY, {"7": OperationState.FAILED, "z": OperationState.UNKNOWN})
    chosen = {
        "?state=SUCCEEDED": ["0"],
        "?state=UNKNOWN&STATE=SUCCEEDED": ["0", "z"],
        "?reason=UNMATCHED": ["nobody"],
        "?reason=UNMATCHED&reason=STATUS_108": [7, "nobody"],
        "?dataProducerId=producer-1&dataProducerId=producer-0": ["0", 7],
        "?dataProducerId=producer-1&state=SUCCEEDED": [],
        "?below=/SubNetwork=A/ManagedElement=1": [7],
        "?below=SubNetwork=A,ManagedElement=1": [7],
        "?below=SubNetwork=A": ["0", 7, "z"],
        "?below=SubNetwork=A&state=FAILED": [7],
    }
    assert {query: ids(await outcomes(api, job_id, query)) for query in chosen} == chosen
    address = paths.fill(paths.OUTCOMES, job_id=job_id)
    for query, name in (("?state=DONE", "state"), ("?below=nothing", "below"), ("?states=FAILED", "states")):
        problem = (await api.get(address + query)).problem
        assert (problem["status"], problem["errors"][0]["pointer"].split("/")[0]) == (400, name)


async def test_outcomes_come_as_lines_and_as_csv(api: Api) -> None:
    """Accept selects the format. A value is a JSON cell that no spreadsheet evaluates as a formula."""
    job_id = await ended_with(api, BODY, {"7": OperationState.FAILED})
    lines = await outcomes(api, job_id, accept="application/x-ndjson")
    assert len([msgspec.json.decode(line) for line in lines.body.splitlines()]) == 4
    table = await outcomes(api, job_id, accept="text/csv")
    found = list(csv.DictReader(io.StringIO(table.body.decode(), newline="")))
    assert {row["operationId"]: row["value"] for row in found} == {
        "0": "1.50",
        "7": '{"b": 1e2,"a":"\\u00e4"}',
        "z": '"=1+1"',
        "nobody": "",
    }


async def test_operations_without_an_outcome_are_left_out(api: Api) -> None:
    """A job that has just been accepted has an empty list. The job shows how many operations are pending."""
    job_id = await api.accepted(BODY)
    assert (await outcomes(api, job_id)).json() == {"items": []}
    job = (await api.get(paths.fill(paths.JOB, job_id=job_id))).json()
    assert job["operations"]["pending"] == 4


async def test_what_retention_has_removed_is_a_404(api: Api) -> None:
    """The request and the outcomes are available as long as the job exists."""
    job_id = await ended_with(api, BODY, {})
    async with api.parts.database.connection() as connection:
        await retention.remove_job(connection, job_id, 1000)
    for path in (paths.REQUEST, paths.OUTCOMES, paths.FAILURES):
        assert (await api.get(paths.fill(path, job_id=job_id))).problem["status"] == 404


async def test_a_cancelled_job_tells_when_and_what_ended_after_it(api: Api) -> None:
    """cancelledAt, and the number of operations that the plugin had executed, with or without success;
    operations that were not started do not count. A job that was not cancelled has neither field."""
    data = [
        {"op": "replace", "path": f"/SubNetwork=A/ManagedElement=0{LABEL}", "operationId": n, "value": n}
        for n in range(4)
    ]
    plugin = InProcessPlugin()
    plugin.polled = [Polled(Status.RUNNING)]
    states = [OperationState.SUCCEEDED, OperationState.FAILED, *[OperationState.NOT_STARTED] * 2]
    plugin.results_after_cancel = Responses(
        tuple(Entry(n, Response(n, 108 if n else 0, "", state=state)) for n, state in enumerate(states))
    )
    job_id = await api.accepted({"data": data})
    parts = api.parts
    worker = worker_parts(parts.database, parts.objects, plugin, index=parts.owners)

    async def job() -> Any:
        return (await api.get(paths.fill(paths.JOB, job_id=job_id))).json()

    async with worker.working():
        async with asyncio.timeout(DEADLINE):
            while not plugin.calls:
                await asyncio.sleep(0.01)
        assert not {"cancelledAt", "endedAfterCancel"} & set(await job())
        asked = (await api.post(paths.fill(paths.CANCEL, job_id=job_id))).json()
        assert asked["endedAfterCancel"] == 0
        async with asyncio.timeout(DEADLINE):
            while not (over := await job())["endedAt"]:
                await asyncio.sleep(0.02)
    assert over["status"] == "CANCELLED"
    assert over["cancelledAt"] == asked["cancelledAt"]
    assert over["createdAt"] < over["cancelledAt"] < over["endedAt"]
    assert over["endedAfterCancel"] == 2
