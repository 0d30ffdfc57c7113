# SPDX-License-Identifier: Apache-2.0
"""ProvMnS at the API: what is refused before anything is stored, and how long an answer waits for its job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio

from ran_datajobs.api import paths, provmns, provmns_jobs
from ran_datajobs.errors import StorageUnavailable, StoreUnavailable
from ran_datajobs.model import OperationState, Reason, Response, Status
from ran_datajobs.plugins.wire import JSON_PATCH_3GPP, JSON_PATCH_VND_3GPP, MERGE_PATCH, TREE_FLAT
from ran_datajobs.store.database import Database
from tests.kit.api_service import (
    Answer,
    Api,
    changes_nothing,
    end_job,
    northbound_api,
    outcome,
    plan,
    register,
)

ROOT = paths.PROVMNS_ROOT
ELEMENT = f"{ROOT}/SubNetwork=A/ManagedElement=1"
ACTION = f"{paths.ACTIONS}/SubNetwork=A/ManagedElement=1/lock"
LABEL = {"op": "replace", "path": "/attributes/userLabel", "value": "x"}
PATCH = {"Content-Type": JSON_PATCH_3GPP}
NOTHING = {"data_job": 0, "job_request": 0, "idempotency_key": 0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api_of_the_file(api_of_the_file: Api) -> Api:
    """The API of the file, with handles of a plugin without stopOnError; one of them has no data producer."""
    await register(api_of_the_file, 1, 2)
    await register(api_of_the_file, 3, producer="")
    return api_of_the_file


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """An API without a worker, with a handle."""
    async with northbound_api(database, tmp_path, free_port) as running:
        await register(running, 1)
        yield running


async def patched(api: Api, body: Any, path: str = ELEMENT, **headers: str) -> Answer:
    """PATCH a document, or bytes."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    named = PATCH | {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.call("PATCH", path, data=data, headers=named)


REFUSED: dict[str, tuple[str, str, Any, dict[str, str], int, str]] = {
    "nobody owns it": ("GET", f"{ROOT}/B=1", None, {}, 404, "no CM handle"),
    "nobody owns what is written": ("DELETE", f"{ROOT}/B=1", None, {}, 404, "no CM handle"),
    "nobody owns the target of an action": ("POST", f"{paths.ACTIONS}/B=1/x", {}, {}, 404, "no CM handle"),
    "no data producer": ("GET", f"{ROOT}/SubNetwork=A/ManagedElement=3", None, {}, 422, "dataProducer"),
    "several operations, no stopOnError": ("PATCH", ELEMENT, [LABEL, LABEL], PATCH, 422, "separately"),
    "two owners": (
        "PATCH",
        f"{ROOT}/SubNetwork=A",
        [{"op": "remove", "path": f"/ManagedElement={n}#/attributes/x"} for n in (1, 2)],
        PATCH,
        422,
        "STOP_ON_ERROR",
    ),
    "a selector, no selectors": (
        "GET", f"{ELEMENT}?dataNodeSelector=//B", None, {}, 422, "does not read by dataNodeSelector",
    ),
    "merge patch": ("PATCH", ELEMENT, {}, {"Content-Type": MERGE_PATCH}, 415, "Content-Type"),
    "3GPP merge patch": (
        "PATCH", ELEMENT, {}, {"Content-Type": "application/3gpp-merge-patch+json"}, 415, "Content-Type",
    ),
    "no media type": ("PUT", ELEMENT, b"{}", {"Content-Type": "text/plain"}, 415, "Content-Type"),
    "copy": ("PATCH", ELEMENT, [{"op": "copy", "path": "/attributes/x"}], PATCH, 422, "copy"),
    "no JSON": ("PATCH", ELEMENT, b"[{", PATCH, 400, "malformed"),
    "an object that is none": ("PUT", ELEMENT, [], {}, 400, "must be an object"),
    "an action without a name": ("POST", f"{paths.ACTIONS}/A=1", {}, {}, 400, "managed object"),
    "an action with a bad name": ("POST", f"{paths.ACTIONS}/A=1/9", {}, {}, 400, "name of an action"),
    "an input that is no object": ("POST", ACTION, {"value": 7}, {}, 400, "must be an object"),
    "an address that names no object": ("GET", f"{ROOT}/SubNetwork=", None, {}, 400, "no value"),
    "an address that is not UTF-8": ("GET", f"{ROOT}/A=%FF", None, {}, 400, "UTF-8"),
    "a wildcard": ("DELETE", f"{ROOT}/A=*", None, {}, 400, "wildcard"),
    "the root": ("GET", ROOT, None, {}, 400, "name an object"),
    "POST": ("POST", ELEMENT, {}, {}, 405, "Method"),
    "another version": ("GET", ELEMENT, None, {"Version": "2.0.0"}, 406, "1.0.0-alpha.1"),
    "another media type": ("GET", ELEMENT, None, {"Accept": "text/html"}, 406, "Accept"),
    "a flat tree of what was written": (
        "PATCH", ELEMENT, [LABEL], PATCH | {"Accept": TREE_FLAT}, 406, "Accept",
    ),
    "a link on another site": ("GET", ELEMENT, None, {"Sec-Fetch-Site": "cross-site"}, 403, "another site"),
    "a condition": ("PUT", ELEMENT, {}, {"If-Match": '"x"'}, 422, "If-Match"),
    "a bad key": ("PUT", ELEMENT, {}, {"Idempotency-Key": " "}, 400, "Idempotency-Key"),
    "an unknown parameter": ("GET", f"{ELEMENT}?scopetyp=BASE_ALL", None, {}, 400, "scopeType"),
    "a parameter of a write": ("DELETE", f"{ELEMENT}?scopeType=BASE_ALL", None, {}, 400, "has none"),
    "a bad scope": ("GET", f"{ELEMENT}?scopeType=ALL", None, {}, 400, "BASE_ALL"),
    "a scope without its level": ("GET", f"{ELEMENT}?scopeType=BASE_NTH_LEVEL", None, {}, 400, "scopeLevel"),
    "a level that no scope has": ("GET", f"{ELEMENT}?scopeLevel={10**30}", None, {}, 400, "scopeLevel"),
    "two scopes": ("GET", f"{ELEMENT}?scopeLevel=1&scope=%7B%7D", None, {}, 400, "scope"),
    "a scope that is no JSON": ("GET", f"{ELEMENT}?scope=BASE_ALL", None, {}, 400, "JSON object"),
    "a bad filter": ("GET", f"{ELEMENT}?filter=%3D%3D", None, {}, 400, "position"),
    "a bad pointer": ("GET", f"{ELEMENT}?fields=/attributes/~2", None, {}, 400, "JSON Pointer"),
    "a selector beside attributes": (
        "GET", f"{ELEMENT}?dataNodeSelector=//B&attributes=x", None, {}, 400, "cannot stand beside",
    ),
    "a bad selector": ("GET", f"{ROOT}?dataNodeSelector=B", None, {}, 400, "dataNodeSelector"),
}  # fmt: skip


@changes_nothing
@pytest.mark.parametrize("case", REFUSED)
async def test_a_request_that_cannot_be_executed_leaves_nothing(unchanged: Api, case: str) -> None:
    """One body for 3GPP, R1 and RFC 9457, with R1's version; nothing is stored."""
    method, path, body, headers, status, words = REFUSED[case]
    data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
    json_type = {} if data is None else {"Content-Type": "application/json"}
    answer = await unchanged.call(method, path, data=data, headers=json_type | headers)
    problem = answer.problem
    assert (problem["status"], answer.headers["Version"]) == (status, "1.0.0-alpha.1"), problem
    assert words in str(problem)
    expected = {404: "IE_NOT_FOUND", 400: "VALIDATION_ERROR", 422: "SERVER_LIMITATION"}
    assert problem["type"] == expected.get(status, "APPLICATION_LAYER_ERROR")
    assert ("Accept-Patch" in answer.headers) == (status == 415 and method == "PATCH")
    assert await unchanged.left_behind() == NOTHING


@changes_nothing
async def test_the_bad_operation_and_the_bad_parameters_are_named(unchanged: Api) -> None:
    """badOp is the first faulty operation, otherProblems has the other ones."""
    bad = {"op": "remove", "path": "/x"}
    problem = (await patched(unchanged, [LABEL, bad, LABEL, bad])).problem
    assert (problem["badOp"], [each["badOp"] for each in problem["otherProblems"]]) == ("/1", ["/3"])
    problem = (await unchanged.get(f"{ELEMENT}?filter=%3D%3D&scopeType=BASE_NTH_LEVEL")).problem
    assert problem["badQueryParams"] == ["filter", "scopeLevel"] and "badOp" not in problem


async def test_a_patch_has_one_owner_and_a_bounded_number_of_operations(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """Also where one data producer has both objects. Nothing is stored."""
    async with northbound_api(database, tmp_path, free_port, provmns_max_operations=3) as api:
        created = [
            {"cmHandle": f"ch-{n}", "alternateId": f"/A=1/B={n}", "dataProducerIdentifier": "p"}
            for n in (1, 2)
        ]
        registration = {"dmiPlugin": "http://127.0.0.1:9", "stopOnError": True, "createdCmHandles": created}
        assert (await api.post(paths.INVENTORY, registration)).status == 200
        items = [{"op": "remove", "path": f"/B={n}#/attributes/x"} for n in (1, 1, 2)]
        problem = (await patched(api, items, f"{ROOT}/A=1")).problem
        assert (problem["status"], problem["badOp"]) == (422, "/2")
        assert "ch-1" in problem["detail"] and "ch-2" in problem["detail"]
        problem = (await patched(api, [LABEL] * 4, f"{ROOT}/A=1/B=1")).problem
        assert (problem["status"], problem["type"]) == (413, "SERVER_LIMITATION")
        assert await api.left_behind() == NOTHING
        assert (await patched(api, [LABEL] * 3, f"{ROOT}/A=1/B=1", Prefer="wait=0")).status == 504
        (row,) = await api.rows("select activation_mode, operations from data_job")
        assert tuple(row.values()) == ("STOP_ON_ERROR", 3)


async def test_a_request_is_a_job_that_can_be_looked_up(api: Api) -> None:
    """After the time that the client prefers to wait a 504 names the job, whose name is the request; a client
    that prefers it gets a 202 at once, or after that time."""
    answers = [await api.get(ELEMENT, headers={"Prefer": prefer}) for prefer in (
        "wait=0", "respond-async", "respond-async, wait=0",
    )]  # fmt: skip
    assert [answer.status for answer in answers] == [504, 202, 202]
    applied = [answer.headers["Preference-Applied"] for answer in answers]
    assert applied == ["wait=0", "respond-async", "respond-async, wait=0"]
    assert {answer.headers["Version"] for answer in answers} == {"1.0.0-alpha.1"}
    late, accepted, _ = answers
    assert late.problem["instance"] == late.headers["Location"]
    assert accepted.headers["Location"] == accepted.json()["statusuri"]
    job = (await api.get(late.headers["Location"].removeprefix(api.root))).json()
    assert (job["type"], job["status"], job["name"]) == ("READ", "NOT_STARTED", f"GET {ELEMENT}")
    assert len((await api.get(paths.JOBS)).json()["items"]) == 3


async def waiting(api: Api, count: int = 1) -> UUID:
    """Wait until so many answers wait. Returns the id of the only job."""
    async with asyncio.timeout(20):
        while api.parts.changes.watchers < count:
            await asyncio.sleep(0.01)
    (row,) = await api.rows("select job_id from data_job")
    return UUID(str(row["job_id"]))


async def ended(
    api: Api, call: Any, status: Status, responses: Sequence[Response] = (), break_reads: bool = False
) -> Answer:
    """The answer to a call whose job ends like this."""
    answer: asyncio.Task[Answer] = asyncio.create_task(call)
    job_id = await waiting(api)
    await plan(api, job_id)
    if break_reads:

        async def gone(bucket: str, _key: str) -> bytes:
            raise StorageUnavailable(f"no bucket {bucket}")

        api.parts.objects.get = gone  # type: ignore[method-assign]
    await end_job(api, job_id, status, responses)
    return await answer


@pytest.mark.damages_rows  # the test ends jobs itself, no worker runs
async def test_an_unknown_outcome_is_a_504_with_the_job(api: Api) -> None:
    """A write that timed out at the plugin is shown neither as done nor as a failure."""
    responses = [outcome("0", OperationState.UNKNOWN, reason=Reason.OUTCOME_UNKNOWN, detail="timed out")]
    answer = await ended(api, patched(api, [LABEL]), Status.FAILED, responses)
    problem = answer.problem
    assert (problem["status"], problem["badOp"], problem["reason"]) == (504, "/0", "OUTCOME_UNKNOWN")
    assert answer.headers["Location"] == problem["instance"]


@pytest.mark.damages_rows
async def test_a_job_that_is_cancelled_meanwhile_is_a_conflict(api: Api) -> None:
    """The client of the request sees that it was not executed, and why."""
    responses = [outcome("0", OperationState.NOT_STARTED, reason=Reason.CANCELLED)]
    answer = await ended(api, api.call("DELETE", ELEMENT), Status.CANCELLED, responses)
    assert (answer.problem["status"], answer.problem["reason"]) == (409, "CANCELLED")


@pytest.mark.damages_rows
async def test_outcomes_that_cannot_be_read_are_not_known(api: Api) -> None:
    """The job has failed, and its objects are away: a 503 would say that nothing has been executed."""
    responses = [outcome("0", OperationState.FAILED)]
    answer = await ended(api, patched(api, [LABEL]), Status.FAILED, responses, break_reads=True)
    assert (answer.problem["status"], "Location" in answer.headers) == (504, True)
    assert "cannot be read" in answer.problem["detail"]


@pytest.mark.damages_rows
async def test_an_action_with_an_output_returns_it(api: Api) -> None:
    """With its input and the client's own properties, which the plugin gets beside the input."""
    done = outcome("0", OperationState.SUCCEEDED)
    done = msgspec.structs.replace(done, result=msgspec.Raw(b'{"output":[1,2]}'))
    body = b'{"customProperties":{"a":1e999},"value":{"input":{"delay":10.0}}}'
    answer = await ended(api, api.post(ACTION, body), Status.FINISHED, [done])
    assert answer.status == 200, answer.body
    result = b'{"value":{"input":{"delay":10.0},"output":[1,2]},"customProperties":{"a":1e999}}'
    assert answer.body == result
    (job,) = (await api.get(paths.JOBS)).json()["items"]
    request = (await api.get(f"{paths.JOBS}/{job['jobId']}/request")).body
    assert b'"path":"/SubNetwork=A/ManagedElement=1#lock"' in request
    assert b'"value":{"input":{"delay":10.0},"customProperties":{"a":1e999}}' in request


@pytest.mark.damages_rows
async def test_a_result_that_is_too_large_stays_where_it_is(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is made in memory; the problem has the address of the results."""
    monkeypatch.setattr(provmns, "MAX_RESULT", 100)
    done = outcome("0", OperationState.SUCCEEDED)
    done = msgspec.structs.replace(done, result=msgspec.Raw(b'{"id":"%b"}' % (b"x" * 100)))
    answer = await ended(api, api.get(ELEMENT), Status.FINISHED, [done])
    assert answer.problem["status"] == 413 and "/s3-bucket/" in answer.problem["detail"]


@pytest.mark.damages_rows
async def test_a_result_without_managed_objects_is_a_fault_of_the_plugin(api: Api) -> None:
    """It is no error of the service and none of the client."""
    done = outcome("0", OperationState.SUCCEEDED)
    done = msgspec.structs.replace(done, result=msgspec.Raw(b"[7]"))
    answer = await ended(api, api.get(ELEMENT), Status.FINISHED, [done])
    assert (answer.problem["status"], answer.problem["type"]) == (502, "APPLICATION_LAYER_ERROR")


@pytest.mark.damages_rows
async def test_a_repeat_under_an_idempotency_key_waits_for_the_first(api: Api) -> None:
    """Both get the outcome of the one job. The same key with another request is a 409."""
    headers = PATCH | {"Idempotency-Key": "k"}
    body = msgspec.json.encode([LABEL])

    async def send() -> Answer:
        return await api.call("PATCH", ELEMENT, data=body, headers=headers)

    first, second = asyncio.create_task(send()), asyncio.create_task(send())
    job_id = await waiting(api, 2)
    for path, kind in ((f"{ELEMENT}/B=1", JSON_PATCH_3GPP), (ELEMENT, JSON_PATCH_VND_3GPP)):
        other = await api.call("PATCH", path, data=body, headers=headers | {"Content-Type": kind})
        assert other.problem["status"] == 409, (path, kind)
    await plan(api, job_id)
    await end_job(api, job_id, Status.FINISHED, [outcome("0", OperationState.SUCCEEDED)])
    answers = [await first, await second, await send()]
    assert [answer.status for answer in answers] == [200] * 3
    assert {answer.body for answer in answers} == {b'{"id":"1","attributes":{"userLabel":"x"}}'}
    assert (await api.left_behind())["data_job"] == 1


async def test_a_client_that_hangs_up_is_not_waited_for(api: Api) -> None:
    """Its job goes on."""
    for call in (api.get(ELEMENT), patched(api, [LABEL])):
        answer = asyncio.create_task(call)
        async with asyncio.timeout(20):
            while not api.parts.changes.watchers:
                await asyncio.sleep(0.01)
            answer.cancel()
            while api.parts.changes.watchers:
                await asyncio.sleep(0.01)
    assert [row["status"] for row in await api.rows("select status from data_job")] == ["NOT_STARTED"] * 2


async def test_an_answer_outlives_the_database_and_not_the_service(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is away the job's state is not known: the answer waits on. When the service stops,
    the answer names the job."""
    find, asked = provmns_jobs.jobs.find, 0

    async def away(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailable("it is away")
        return await find(*args)

    monkeypatch.setattr(provmns_jobs.jobs, "find", away)
    answer = asyncio.create_task(patched(api, [LABEL]))
    await waiting(api)
    api.parts.changes.wake_all()
    async with asyncio.timeout(20):
        while asked < 2:
            await asyncio.sleep(0.01)
    assert not answer.done()
    api.parts.stopping.set()
    assert (await answer).problem["status"] == 504


async def test_answers_that_wait_are_bounded(database: Database, tmp_path: Path, free_port: int) -> None:
    """They count with the event streams, since both watch a job. Nothing is stored of the one too many."""
    async with northbound_api(database, tmp_path, free_port, max_event_streams=1) as api:
        await register(api, 1)
        first = asyncio.create_task(api.get(ELEMENT, headers={"Prefer": "wait=20"}))
        await waiting(api)
        refused = await api.get(ELEMENT)
        assert (refused.problem["status"], "Retry-After" in refused.headers) == (429, True)
        assert (await api.left_behind())["data_job"] == 1
        first.cancel()
