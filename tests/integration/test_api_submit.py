# SPDX-License-Identifier: Apache-2.0
"""Submit of a data job over HTTP: the promise of the 202, and refusals that leave no trace."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import zstandard

from ran_datajobs.api import paths
from ran_datajobs.store.database import Database
from tests.kit.api_service import (
    JSON,
    READ,
    WRITE,
    Api,
    changes_nothing,
    northbound_api,
    register,
    writes,
)
from tests.kit.worker_parts import claim_jobs

NOTHING = {"data_job": 0, "job_request": 0, "idempotency_key": 0}
ONE = {"data_job": 1, "job_request": 1, "idempotency_key": 0}
PATH = "/SubNetwork=A/ManagedElement=1"


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service on one machine."""
    async with northbound_api(database, tmp_path, free_port) as running:
        yield running


async def test_a_submit_is_answered_with_202_and_the_four_fields(api: Api) -> None:
    """The 202 has Location and exactly the four fields of the published response, all addresses absolute."""
    answer = await api.submit()
    assert answer.status == 202, answer.body
    job_id = answer.json()["jobId"]
    assert answer.json() == {
        "jobId": job_id,
        "status": "NOT_STARTED",
        "statusuri": f"{api.root}{paths.JOBS}/{job_id}",
        "resultsuri": f"{api.root}/s3-bucket/datajobs-results?jobId={job_id}",
    }
    assert answer.headers["Location"] == answer.json()["statusuri"]


async def test_the_202_comes_after_the_job_is_durable(api: Api) -> None:
    """When the client gets the response, the job and its bytes are stored, and its plan is due."""
    body = b'{"data": [{"op":"add","path":"/A=1","value":{"attributes":{"x": 1.0}}}]}'
    job_id = await api.accepted(body)
    assert await api.left_behind() == ONE
    (stored,) = await api.rows("select body from job_request where job_id = $1", job_id)
    assert zstandard.decompress(stored["body"]) == body
    (step,) = await claim_jobs(api.parts.database)
    assert (step.job_id, step.planned, step.body) == (job_id, False, stored["body"])


async def test_what_the_envelope_says_is_kept(api: Api) -> None:
    """Envelope keys match in any case. GET shows their values."""
    job_id = await api.accepted(
        {"NAME": "nightly", "Priority": 9, "DATA": READ["data"]}, "?destination=my-bucket"
    )
    job = (await api.get(f"{paths.JOBS}/{job_id}")).json()
    assert (job["name"], job["priority"], job["type"], job["destination"]) == (
        "nightly",
        9,
        "READ",
        "my-bucket",
    )
    assert job["resultsuri"] == f"{api.root}/s3-bucket/my-bucket?jobId={job_id}"


def one(**operation: Any) -> dict[str, Any]:
    """A job of one operation."""
    return {"data": [operation]}


REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", ""),
    "no object": (b"[]", ""),
    "not UTF-8": (b'{"name": "\xff"}', ""),
    "nested too deeply": (b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    "no data": ({}, "#/data"),
    "empty data": ({"data": []}, "#/data"),
    "one key twice": (b'{"data": [], "DATA": []}', "#/data"),
    "an unknown op": (one(op="frobnicate", path=PATH, value={}), "#/data/0/op"),
    "copy": (one(op="copy", path=PATH, value={}), "#/data/0/op"),
    "move": (one(op="move", path=PATH, value={}), "#/data/0/op"),
    "a malformed FDN": (one(op="add", path="/SubNetwork", value={}), "#/data/0/path"),
    "no path": (one(op="add", value={}), "#/data/0/path"),
    "a missing value": (one(op="replace", path=PATH + "#/attributes/x"), "#/data/0/value"),
    "a superfluous value": (one(op="read", path=PATH, value=1), "#/data/0/value"),
    "a bad filter": (one(op="read", path=PATH, filter="&&"), "#/data/0/filter"),
    "reads and writes": ({"data": [READ["data"][0], WRITE["data"][0] | {"operationId": "2"}]}, "#/data/1/op"),
    "an id twice": (
        {"data": [WRITE["data"][0], WRITE["data"][0] | {"operationId": 1}]},
        "#/data/1/operationId",
    ),
    "an unknown accept type": (WRITE | {"dataAcceptType": "text/plain"}, "#/dataAcceptType"),
    "a bad priority": (WRITE | {"priority": 10}, "#/priority"),
    "an unknown after": (WRITE | {"after": [str(uuid4())]}, "#/after/0"),
    "an after that is no id": (WRITE | {"after": ["x"]}, "#/after/0"),
    "a name with NUL": (WRITE | {"name": "a\0b"}, "#/name"),
    "a lone surrogate in a name": (b'{"name": "\\ud800", "data": []}', "#/name"),
    "a lone surrogate in a path": (b'{"data": [{"op":"remove","path":"/A=\\udfff"}]}', "#/data/0/path"),
    "a lone surrogate in a value": (
        b'{"data": [{"op":"merge","path":"/A=1","value":{"x":["\\ud800"]}}]}',
        "#/data/0/value/x/0",
    ),
    "all attributes replaced": (one(op="replace", path=PATH + "#/attributes", value={}), "#/data/0/path"),
    "a slip of the pen": (WRITE | {"prioritty": 9}, "#/prioritty"),
    "a dry run in the body": (WRITE | {"dryrun": True}, "#/dryrun"),
}


@changes_nothing
@pytest.mark.parametrize("case", REFUSED)
async def test_a_body_that_is_wrong_is_a_400_with_the_place_and_leaves_nothing(
    unchanged: Api, case: str
) -> None:
    """The problem names the fault by a JSON pointer, and no row was written."""
    body, pointer = REFUSED[case]
    answer = await unchanged.submit(body)
    assert answer.status == 400, answer.body
    if pointer:
        assert answer.problem["errors"][0]["pointer"] == pointer
    assert answer.problem["detail"]
    assert await unchanged.left_behind() == NOTHING


@changes_nothing
async def test_one_hundred_errors_are_listed_and_all_are_counted(unchanged: Api) -> None:
    """errors has the first 100 faults, errorCount counts all."""
    answer = await unchanged.submit({"data": [{"op": "?", "path": PATH} for _ in range(250)]})
    assert answer.status == 400
    assert len(answer.problem["errors"]) == 100
    assert answer.problem["errorCount"] == 250


@changes_nothing
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (WRITE | {"activationMode": "ATOMIC"}, "#/activationMode"),
        (WRITE | {"Undoable": True}, "#/Undoable"),
        ({"data": [WRITE["data"][0] | {"expect": {"exists": True}}]}, "#/data/0/expect"),
    ],
)
async def test_what_is_not_offered_is_a_422_that_names_it(unchanged: Api, body: Any, pointer: str) -> None:
    """The request is valid, but unsupported: a client must not rely on a mode that is not applied."""
    problem = (await unchanged.submit(body)).problem
    assert (problem["status"], problem["errors"][0]["pointer"]) == (422, pointer)
    assert await unchanged.left_behind() == NOTHING


@changes_nothing
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"]
)
async def test_a_body_that_is_no_json_type_is_a_415(unchanged: Api, content_type: str) -> None:
    """Only JSON media types are read, so that no simple HTML form of another site is accepted."""
    answer = await unchanged.submit(headers={"Content-Type": content_type})
    assert answer.problem["status"] == 415
    assert await unchanged.left_behind() == NOTHING


async def test_every_json_type_is_taken(api: Api) -> None:
    """ONAP's clients send application/3gpp-json-patch+json."""
    await api.accepted(headers={"Content-Type": "application/3gpp-json-patch+json"})


@changes_nothing
async def test_a_compressed_body_is_a_415(unchanged: Api) -> None:
    """A body with a content encoding, which could be a decompression bomb, is not decompressed."""
    answer = await unchanged.submit(headers={"Content-Encoding": "gzip"})
    assert answer.problem["status"] == 415


async def test_a_body_over_the_limit_is_a_413_however_it_is_sent(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """With and without Content-Length, and no row is left. A body of the maximum size is accepted."""
    body = msgspec.json.encode(WRITE)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 16):
            yield body[start : start + 16]
        yield b" "

    async with northbound_api(database, tmp_path, free_port, max_body=len(body)) as api:
        assert (await api.submit(body + b" ")).problem["status"] == 413
        chunked = await api.call("POST", paths.JOBS, data=pieces(), headers=JSON)
        assert chunked.problem["status"] == 413
        assert await api.left_behind() == NOTHING
        await api.accepted(body)


async def test_too_many_operations_are_a_413(database: Database, tmp_path: Path, free_port: int) -> None:
    """A job of the maximum number of operations is accepted, one more is refused."""
    async with northbound_api(database, tmp_path, free_port, max_operations=10) as api:
        assert (await api.submit(writes(11))).problem["status"] == 413
        assert await api.left_behind() == NOTHING
        await api.accepted(writes(10))


async def test_too_many_bytes_in_flight_are_a_429(database: Database, tmp_path: Path, free_port: int) -> None:
    """While one body is being received, another one is refused with Retry-After. Afterwards it is
    accepted."""
    body = msgspec.json.encode(WRITE)
    room = len(body) + 10
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:20]
        await go_on.wait()
        yield body[20:]

    async with northbound_api(database, tmp_path, free_port, max_body_bytes_in_flight=room) as api:
        slow = asyncio.create_task(api.call("POST", paths.JOBS, data=slowly(), headers=JSON))
        async with asyncio.timeout(20):
            while b"datajobs_body_bytes_in_flight 20.0" not in (await api.get(paths.METRICS)).body:
                pass
        refused = await api.submit(body)
        assert refused.problem["status"] == 429
        assert int(refused.headers["Retry-After"]) > 0
        go_on.set()
        assert (await slow).status == 202
        await api.accepted(body)


async def test_a_client_that_pauses_too_long_is_a_408(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """A body that stops arriving does not hold its budget forever."""
    never = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with northbound_api(database, tmp_path, free_port, body_pause=0.05) as api:
        answer = await api.call("POST", paths.JOBS, data=stuck(), headers=JSON)
        assert answer.problem["status"] == 408
        assert await api.left_behind() == NOTHING


@pytest.mark.damages_rows
async def test_too_many_open_jobs_are_a_429(database: Database, tmp_path: Path, free_port: int) -> None:
    """The limit counts open jobs only: when one ends, another one is accepted."""
    async with northbound_api(database, tmp_path, free_port, max_open_jobs=2) as api:
        first = await api.accepted()
        await api.accepted(headers={"Idempotency-Key": "k"})
        refused = await api.submit()
        assert refused.problem["status"] == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert (await api.submit(headers={"Idempotency-Key": "k"})).status == 202
        assert (await api.left_behind())["data_job"] == 2
        await api.rows("update data_job set status = 'CANCELLED' where job_id = $1 returning 1", first)
        await api.accepted()


async def test_too_little_free_disk_is_a_503(database: Database, tmp_path: Path, free_port: int) -> None:
    """New jobs are refused with the reason. Queries still work."""
    needed = shutil.disk_usage(tmp_path).total + 1
    async with northbound_api(database, tmp_path, free_port, min_free_disk=needed) as api:
        refused = await api.submit()
        assert refused.problem["status"] == 503
        assert "disk" in refused.problem["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        assert await api.left_behind() == NOTHING
        assert (await api.get(paths.JOBS)).status == 200


async def test_a_disk_that_is_not_there_is_a_503(database: Database, tmp_path: Path, free_port: int) -> None:
    """The file system of the data dir is not mounted any more: new jobs are refused with the reason."""
    async with northbound_api(database, tmp_path, free_port, data_dir=tmp_path / "unmounted") as api:
        refused = await api.submit()
        assert refused.problem["status"] == 503
        assert "data dir" in refused.problem["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        assert await api.left_behind() == NOTHING


async def test_a_store_that_is_away_is_a_503(database_url: str, tmp_path: Path, free_port: int) -> None:
    """Without its store every call is refused with the reason and Retry-After."""
    closed = await Database.open(database_url)
    await closed.close()
    async with northbound_api(closed, tmp_path, free_port) as api:
        for answer in (await api.submit(), await api.get(paths.JOBS), await api.get(paths.READYZ)):
            assert answer.problem["status"] == 503
            assert int(answer.headers["Retry-After"]) > 0
        assert (await api.get(paths.HEALTHZ)).status == 200


async def test_a_repeat_with_the_same_key_gets_the_first_answer(api: Api) -> None:
    """Same bytes and same key: the same response and one job, also later in the job's life."""
    headers = {"Idempotency-Key": "retune-1"}
    first = await api.submit(headers=headers)
    await api.rows("update data_job set status = 'RUNNING' returning 1")
    again = await api.submit(headers=headers)
    assert (again.status, again.body, again.headers["Location"]) == (
        202,
        first.body,
        first.headers["Location"],
    )
    assert (await api.left_behind())["data_job"] == 1


async def test_a_key_with_another_request_is_a_409(api: Api) -> None:
    """Other bytes, or another query, with a used key are an error, and make no job."""
    headers = {"Idempotency-Key": "retune-1"}
    await api.accepted(headers=headers)
    assert (await api.submit(READ, headers=headers)).problem["status"] == 409
    assert (await api.submit(query="?destination=other", headers=headers)).problem["status"] == 409
    assert (await api.left_behind())["data_job"] == 1


async def test_a_key_is_free_again_after_24_hours(api: Api) -> None:
    """An expired key makes a new job, and refers to that one afterwards."""
    headers = {"Idempotency-Key": "retune-1"}
    first = await api.accepted(headers=headers)
    await api.rows("update idempotency_key set created_at = now() - interval '25 hours' returning 1")
    second = await api.accepted(READ, headers=headers)
    assert second != first
    assert await api.accepted(READ, headers=headers) == second


async def test_one_hundred_identical_requests_make_one_job(api: Api) -> None:
    """Of 100 concurrent requests with one key, one makes the job, and all get its response."""
    answers = await asyncio.gather(*(api.submit(headers={"Idempotency-Key": "race"}) for _ in range(100)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body for answer in answers}) == 1
    assert await api.left_behind() == ONE | {"idempotency_key": 1}


@changes_nothing
@pytest.mark.parametrize("key", ["", " ", "x" * 256, "ümlaut"])
async def test_a_key_that_is_none_is_a_400(unchanged: Api, key: str) -> None:
    """A key has 1 to 255 visible ASCII characters."""
    answer = await unchanged.submit(headers={"Idempotency-Key": key})
    assert answer.problem["status"] == 400
    assert await unchanged.left_behind() == NOTHING


async def test_a_dry_run_shows_the_plan_and_keeps_nothing(api: Api) -> None:
    """Sub-jobs per data producer in order, the operations without an owner, and no row. Private properties
    stay private."""
    await register(api, 1, 2)
    answer = await api.submit(writes(4), "?dryRun=true", headers={"Idempotency-Key": "dry"})
    assert answer.status == 200, answer.body
    plan = answer.json()
    assert [(sub["dataProducerId"], sub["operations"]) for sub in plan["subJobs"]] == [
        ("producer-1", 1),
        ("producer-2", 1),
    ]
    assert plan["operations"] == {"total": 4, "unmatched": 2}
    assert plan["unmatched"] == [
        {
            "operationId": n,
            "path": f"/SubNetwork=A/ManagedElement={n}#/attributes/userLabel",
            "reason": "UNMATCHED",
        }
        for n in (0, 3)
    ]
    assert b"a-private-property" not in answer.body
    assert await api.left_behind() == NOTHING


@changes_nothing
async def test_a_dry_run_is_checked_like_a_submit(unchanged: Api) -> None:
    """A dry run refuses the same requests as a submit."""
    assert (await unchanged.submit({"data": []}, "?dryRun=true")).problem["status"] == 400
    assert (await unchanged.submit(query="?dryRun=true&destination=kafka:__x")).problem["status"] == 400
    assert (await unchanged.submit(query="?dryRun=perhaps")).problem["status"] == 400


@pytest.mark.damages_rows
async def test_after_waits_for_open_jobs_only(api: Api) -> None:
    """A job that names an open one waits for it, one that names an ended one does not."""
    first = await api.accepted()
    waiting = await api.accepted(WRITE | {"after": [str(first)]})
    assert (await api.get(f"{paths.JOBS}/{waiting}")).json()["waitingFor"]["code"] == "AFTER"
    await api.rows(
        "update data_job set status = 'FAILED', ended_at = now() where job_id = $1 returning 1", first
    )
    free = await api.accepted(WRITE | {"after": [str(first), str(first)]})
    assert "waitingFor" not in (await api.get(f"{paths.JOBS}/{free}")).json()


DESTINATIONS = {
    "my-bucket": ("my-bucket", "BUCKET", "datajobs-results"),
    "s3:my-bucket": ("my-bucket", "BUCKET", "datajobs-results"),
    "kafka:My_Topic": ("My_Topic", "TOPIC", "datajobs-results"),
}


@pytest.mark.parametrize("destination", DESTINATIONS)
async def test_a_destination_is_a_bucket_or_a_topic(api: Api, destination: str) -> None:
    """The embedded parts accept every valid name. A bare name is a bucket. The name is kept without
    prefix."""
    await api.accepted(query=f"?destination={destination}")
    (row,) = await api.rows("select destination, destination_kind, results_bucket from data_job")
    assert tuple(row.values()) == DESTINATIONS[destination]


@changes_nothing
@pytest.mark.parametrize(
    "destination",
    [
        "",
        "kafka:",
        "s3:",
        "ncmp-async-m2m",
        "kafka:ncmp-async-m2m",
        "kafka:ncmp-data-job-status",
        "kafka:__consumer_offsets",
        "__consumer_offsets",
        "kafka:..",
        "..",
        "s3:..",
        "s3:../other",
        "s3:UPPER",
        "s3:a",
        "s3:192.168.0.1",
        "kafka:a/b",
        "kafka:a%00b",
        "kafka:" + "x" * 250,
        "s3:" + "x" * 64,
        "ftp:somewhere",
    ],
)
async def test_a_destination_that_cannot_be_is_a_400(unchanged: Api, destination: str) -> None:
    """Invalid names, the service's own topics and topics that begin with __ are refused without a trace."""
    answer = await unchanged.submit(query=f"?destination={destination}")
    assert answer.problem["status"] == 400, answer.body
    assert answer.problem["errors"][0]["pointer"] == "destination"
    assert await unchanged.left_behind() == NOTHING


@changes_nothing
async def test_the_syntax_is_checked_before_the_destination(unchanged: Api) -> None:
    """A fault of the body is reported first."""
    answer = await unchanged.submit({"data": []}, "?destination=kafka:__x")
    assert answer.problem["errors"][0]["pointer"] == "#/data"


async def test_a_job_is_accepted_while_one_that_it_names_ends(api: Api) -> None:
    """A submit waits for no transaction that ends a job."""
    first = await api.accepted()
    async with api.parts.database.transaction() as finisher, asyncio.timeout(30):
        await finisher.execute("select from data_job where job_id = $1 for update", first)
        assert (await api.submit(writes(1) | {"after": [str(first)]})).status == 202
