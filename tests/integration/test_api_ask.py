# SPDX-License-Identifier: Apache-2.0
"""Queries about data jobs over HTTP: status, lists, sub-jobs, failures, result objects."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest

from ran_datajobs.api import paths
from ran_datajobs.model import OperationState, Status
from ran_datajobs.plugins.wire import aiohttp_route
from ran_datajobs.reasons import REASONS
from ran_datajobs.results.objects import manifest_key
from ran_datajobs.store.database import Database
from tests.kit.api_service import (
    READ,
    Api,
    changes_nothing,
    end_job,
    northbound_api,
    outcome,
    plan,
    register,
    writes,
)

pytestmark = pytest.mark.damages_rows  # the tests end jobs by hand, no worker runs

S, F, U = OperationState.SUCCEEDED, OperationState.FAILED, OperationState.UNKNOWN


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service on one machine."""
    async with northbound_api(database, tmp_path, free_port) as running:
        yield running


def job_path(job_id: UUID, what: str = "") -> str:
    """Address of a job, or of a resource below it."""
    return f"{paths.JOBS}/{job_id}{what}"


async def test_a_new_job_shows_every_field(api: Api) -> None:
    """GET returns the four published fields and the project's own. Nothing is counted yet, and all operations
    are pending."""
    job_id = await api.accepted(writes(3))
    job = (await api.get(job_path(job_id))).json()
    created = job.pop("createdAt")
    assert created.endswith("Z")
    assert job == {
        "jobId": str(job_id),
        "status": "NOT_STARTED",
        "statusuri": f"{api.root}{job_path(job_id)}",
        "resultsuri": f"{api.root}/s3-bucket/datajobs-results?jobId={job_id}",
        "type": "WRITE",
        "name": None,
        "destination": None,
        "priority": 4,
        "retryOf": None,
        "startedAt": None,
        "endedAt": None,
        "progressPercentage": 0,
        "operations": {
            "total": 3,
            "succeeded": 0,
            "failed": 0,
            "unmatched": 0,
            "notStarted": 0,
            "unknown": 0,
            "pending": 3,
        },
        "subJobs": {},
        "deliveryState": "PENDING",
    }


async def test_a_finished_job_is_spelt_as_the_standard_spells_it(api: Api) -> None:
    """FINSHED in JSON, 100 per cent, nothing pending, delivered to its bucket."""
    job_id = await api.accepted()
    await end_job(api, job_id, Status.FINISHED, [outcome("1", S)])
    job = (await api.get(job_path(job_id))).json()
    assert job["status"] == "FINSHED"
    assert job["progressPercentage"] == 100
    assert job["operations"]["succeeded"] == job["operations"]["total"] == 1
    assert job["operations"]["pending"] == 0
    assert job["deliveryState"] == "DELIVERED"
    assert job["endedAt"] is not None
    assert "reason" not in job


async def test_the_spelling_of_finished_is_a_setting(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """The setting makes the API write FINISHED. A filter accepts both spellings."""
    async with northbound_api(database, tmp_path, free_port, finished_spelling="FINISHED") as api:
        job_id = await api.accepted()
        await end_job(api, job_id, Status.FINISHED, [outcome("1", S)])
        assert (await api.get(job_path(job_id))).json()["status"] == "FINISHED"
        for spelling in ("FINSHED", "FINISHED"):
            assert len((await api.get(f"{paths.JOBS}?status={spelling}")).json()["items"]) == 1


async def test_a_job_that_failed_in_part_says_why(api: Api) -> None:
    """The response has a reason when the job is FAILED or PARTIALLY_FAILED. The counts add up to the
    total."""
    job_id = await api.accepted(writes(3))
    await end_job(api, job_id, Status.PARTIALLY_FAILED, [outcome(0, S), outcome(1, F), outcome(2, U)])
    job = (await api.get(job_path(job_id))).json()
    assert job["status"] == "PARTIALLY_FAILED"
    assert job["reason"] == "it is a test"
    counts = job["operations"]
    assert counts.pop("total") == sum(counts.values()) == 3


@changes_nothing
async def test_unknown_jobs_are_a_404_everywhere(unchanged: Api) -> None:
    """An id that never existed and a text that is no id get the same response."""
    for job_id in (str(uuid4()), "no-id"):
        for what in ("", "/subJobs", "/failures", "/outcomes", "/request", "/events"):
            assert (await unchanged.get(f"{paths.JOBS}/{job_id}{what}")).problem["status"] == 404
        for what in ("/cancel", "/retry", "/redeliver"):
            assert (await unchanged.post(f"{paths.JOBS}/{job_id}{what}")).problem["status"] == 404
        assert (await unchanged.get(f"/s3-bucket/datajobs-results/{job_id}/manifest.json")).problem[
            "status"
        ] == 404


async def test_the_list_is_newest_first_and_pages_without_gap(api: Api) -> None:
    """Following next returns each job once, newest first, also when jobs are added meanwhile."""
    submitted = [await api.accepted() for _ in range(5)]
    first = (await api.get(f"{paths.JOBS}?limit=2")).json()
    await api.accepted()
    second = (await api.get(f"{paths.JOBS}?limit=2&cursor={first['next']}")).json()
    third = (await api.get(f"{paths.JOBS}?limit=2&cursor={second['next']}")).json()
    listed = [UUID(job["jobId"]) for page in (first, second, third) for job in page["items"]]
    assert listed == submitted[::-1]
    assert third["next"] is None


async def test_the_list_is_found_by_the_beginning_of_an_id(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prefix of the id selects all jobs that begin with it, newest first and in pages, in any case, up to
    the whole id."""
    ids = [
        "3f0c1a2b-0000-4000-8000-000000000001",
        "3f0c1a2b-ffff-4fff-bfff-fffffffffffe",
        "3f0c1a2c-0000-4000-8000-000000000000",
    ]
    monkeypatch.setattr("ran_datajobs.api.submit.uuid4", map(UUID, ids).__next__)
    for _ in ids:
        await api.accepted(READ)

    async def listed(query: str) -> list[str]:
        return [job["jobId"] for job in (await api.get(f"{paths.JOBS}?{query}")).json()["items"]]

    assert await listed("idPrefix=3f0c1a2b") == ids[1::-1]
    assert await listed("idPrefix=3F0C1A2B-F") == await listed("idPrefix=3f0c1a2bffff") == [ids[1]]
    assert await listed(f"idPrefix={ids[0]}") == [ids[0]]
    assert await listed("idPrefix=3f0c1a2d") == await listed("idPrefix=3&type=WRITE") == []
    first = (await api.get(f"{paths.JOBS}?idPrefix=3&limit=2")).json()
    assert [job["jobId"] for job in first["items"]] == ids[:0:-1]
    assert await listed(f"idPrefix=3&cursor={first['next']}") == [ids[0]]


async def test_the_list_is_filtered_by_status_and_type(api: Api) -> None:
    """Only jobs in that status, only jobs of that type, and both."""
    write, read = await api.accepted(), await api.accepted(READ)
    await end_job(api, write, Status.FAILED, [outcome("1", F)])

    async def listed(query: str) -> list[str]:
        return [job["jobId"] for job in (await api.get(f"{paths.JOBS}?{query}")).json()["items"]]

    assert await listed("type=READ") == [str(read)]
    assert await listed("status=FAILED") == [str(write)]
    assert await listed("status=FAILED&type=READ") == []


@changes_nothing
@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=" + "9" * 40,
        "cursor=nonsense",
        "cursor=s0",
        "status=DONE",
        "type=BOTH",
        "cursor=%00",
        "idPrefix=",
        "idPrefix=x",
        "idPrefix=3f0c-1a2b",
        "idPrefix=%00",
        "cursor=" + "x" * 100,
    ],
)
async def test_a_parameter_that_is_wrong_is_a_400(unchanged: Api, query: str) -> None:
    """The problem names the parameter."""
    answer = await unchanged.get(f"{paths.JOBS}?{query}")
    assert answer.problem["status"] == 400
    assert answer.problem["errors"][0]["pointer"] == query.partition("=")[0]


async def test_sub_jobs_are_listed_in_order_and_paged(api: Api) -> None:
    """Each sub-job has its plugin, producer, status and counts. Private properties are never returned."""
    await register(api, *range(5))
    job_id = await api.accepted(writes(5))
    await plan(api, job_id)
    first = await api.get(job_path(job_id, "/subJobs?limit=3"))
    second = await api.get(job_path(job_id, f"/subJobs?limit=3&cursor={first.json()['next']}"))
    sub_jobs = first.json()["items"] + second.json()["items"]
    assert [sub["dataProducerId"] for sub in sub_jobs] == [f"producer-{n}" for n in range(5)]
    assert second.json()["next"] is None
    sub_job = sub_jobs[0]
    assert UUID(sub_job.pop("subJobId"))
    assert sub_job == {
        "dmiServiceName": "http://127.0.0.1:9",
        "dataProducerId": "producer-0",
        "dataProducerJobId": None,
        "status": "NOT_STARTED",
        "operations": {
            "total": 1,
            "succeeded": 0,
            "failed": 0,
            "unmatched": 0,
            "notStarted": 0,
            "unknown": 0,
            "pending": 1,
        },
        "attempts": 0,
        "lastError": None,
    }
    assert (await api.get(job_path(job_id))).json()["subJobs"] == {"NOT_STARTED": 5}
    assert b"a-private-property" not in first.body


FAILING = [
    outcome(0, S),
    outcome(1, F, "/A=1#/attributes/x", "out of range", "NEW_DATA_NODE_VALUE_INVALID"),
    outcome("2", U, "=cmd()", "-1", "OUTCOME_UNKNOWN"),
]


async def test_failures_are_every_operation_that_did_not_succeed(api: Api) -> None:
    """Each with its id in the original JSON type, path, op, state, reason and detail."""
    job_id = await api.accepted(writes(3))
    await end_job(api, job_id, Status.PARTIALLY_FAILED, FAILING)
    answer = await api.get(job_path(job_id, "/failures"))
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json() == {
        "items": [
            {
                "operationId": 1,
                "path": "/A=1#/attributes/x",
                "op": "replace",
                "state": "FAILED",
                "reason": "NEW_DATA_NODE_VALUE_INVALID",
                "detail": "out of range",
                "dataProducerId": None,
            },
            {
                "operationId": "2",
                "path": "=cmd()",
                "op": "replace",
                "state": "UNKNOWN",
                "reason": "OUTCOME_UNKNOWN",
                "detail": "-1",
                "dataProducerId": None,
            },
        ]
    }


async def test_failures_come_as_lines_and_as_csv(api: Api) -> None:
    """Accept selects the format. In CSV no cell is a formula."""
    job_id = await api.accepted(writes(3))
    await end_job(api, job_id, Status.PARTIALLY_FAILED, FAILING)
    lines = await api.get(job_path(job_id, "/failures"), headers={"Accept": "application/x-ndjson"})
    assert [msgspec.json.decode(line)["operationId"] for line in lines.body.splitlines()] == [1, "2"]
    table = await api.get(job_path(job_id, "/failures"), headers={"Accept": "text/csv"})
    assert table.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(table.body.decode(), newline="")))
    assert rows[0] == ["operationId", "path", "op", "state", "reason", "detail", "dataProducerId"]
    assert rows[2] == ["2", "'=cmd()", "replace", "UNKNOWN", "OUTCOME_UNKNOWN", "'-1", ""]
    refused = await api.get(job_path(job_id, "/failures"), headers={"Accept": "image/png"})
    assert refused.problem["status"] == 406


async def test_a_job_without_failures_has_an_empty_list(api: Api) -> None:
    """The list is empty in each format."""
    job_id = await api.accepted()
    assert (await api.get(job_path(job_id, "/failures"))).json() == {"items": []}
    lines = await api.get(job_path(job_id, "/failures"), headers={"Accept": "application/x-ndjson"})
    assert lines.body == b""


async def test_failures_of_many_objects_are_one_document(api: Api) -> None:
    """The list is streamed from all objects and is one valid document. It includes the failures of
    planning."""
    await register(api, 0)
    job_id = await api.accepted(writes(2))
    await plan(api, job_id)
    detail = "x" * 400
    await end_job(api, job_id, Status.PARTIALLY_FAILED, [outcome(n, F, "/A=1", detail) for n in range(5000)])
    items = (await api.get(job_path(job_id, "/failures"))).json()["items"]
    assert len(items) == 5001
    assert Counter(item["reason"] for item in items) == {"STATUS_108": 5000, "UNMATCHED": 1}


async def test_a_result_of_an_earlier_version_has_a_reason(api: Api) -> None:
    """An object that has no reasons is shown with derived ones, in each format."""
    job_id = await api.accepted(writes(4))
    await end_job(api, job_id, Status.FAILED, [outcome(n, F) for n in range(4)])
    (part,) = await api.rows("select key from result_part")
    reported: list[dict[str, object]] = [
        {"statusCode": 103, "state": "FAILED"},
        {"statusCode": 108, "state": "FAILED", "errors": [{"type": "SERVER_ERROR", "badDataNode": "/A=1"}]},
        {"statusCode": 108, "state": "NOT_STARTED", "reason": ""},
        {"statusCode": 108, "state": "UNKNOWN", "reason": " "},
    ]
    old = [{"operationId": n, "statusMessage": "no", "request": {}} | each for n, each in enumerate(reported)]
    await api.parts.objects.put("datajobs-results", part["key"], msgspec.json.encode({"responses": old}))
    wanted = ["STATUS_103", "SERVER_ERROR", "NOT_STARTED", "OUTCOME_UNKNOWN"]
    path = job_path(job_id, "/failures")
    assert [item["reason"] for item in (await api.get(path)).json()["items"]] == wanted
    lines = await api.get(path, headers={"Accept": "application/x-ndjson"})
    assert [msgspec.json.decode(line)["reason"] for line in lines.body.splitlines()] == wanted
    table = await api.get(path, headers={"Accept": "text/csv"})
    rows = csv.DictReader(io.StringIO(table.body.decode(), newline=""))
    assert [row["reason"] for row in rows] == wanted


@changes_nothing
async def test_every_reason_is_explained(unchanged: Api) -> None:
    """The list is that of the code, with the entry for all other words last. A client may cache it."""
    answer = await unchanged.get(paths.REASONS)
    assert answer.headers["Content-Type"] == "application/json"
    items = answer.json()["items"]
    assert items == msgspec.to_builtins(list(REASONS))
    assert [item["reason"] for item in items if item["pattern"]] == ["STATUS_<code>", "<word of the plugin>"]
    assert answer.headers["Cache-Control"] == "no-cache"
    kept = await unchanged.get(paths.REASONS, headers={"If-None-Match": answer.headers["ETag"]})
    assert (kept.status, kept.body, kept.headers["ETag"]) == (304, b"", answer.headers["ETag"])
    assert (await unchanged.get(paths.REASONS, headers={"If-None-Match": "*"})).status == 304
    assert (await unchanged.get(paths.REASONS, headers={"If-None-Match": '"another"'})).body == answer.body
    assert (await unchanged.get(paths.REASONS, headers={"Accept": "text/csv"})).problem["status"] == 406


@changes_nothing
async def test_the_schema_names_the_reasons_and_the_call_that_explains_them(unchanged: Api) -> None:
    """OpenAPI's ``reason`` of a failure lists every word of the list, and the list has its own schema."""
    schema = (await unchanged.get(paths.SCHEMA)).json()
    answer = schema["paths"][paths.REASONS]["get"]["responses"]["200"]["content"]["application/json"]
    shapes = schema["components"]["schemas"]
    assert answer["schema"]["$ref"].endswith("/ReasonList")
    assert set(shapes["Explanation"]["properties"]) == {"reason", "title", "meaning", "advice", "pattern"}
    failures = schema["paths"][aiohttp_route(paths.FAILURES)]["get"]["responses"]["200"]["content"]
    listed = shapes[failures["application/json"]["schema"]["$ref"].rpartition("/")[2]]
    failure = shapes[listed["properties"]["items"]["items"]["$ref"].rpartition("/")[2]]
    reason = failure["properties"]["reason"]
    assert reason["minLength"] == 1
    assert reason["examples"] == [each.reason for each in REASONS if each.pattern is None]
    assert paths.REASONS in reason["description"]


@pytest.mark.parametrize("results", ["?jobId={}", "/{}/manifest.json"])
async def test_the_manifest_is_not_there_before_the_end(api: Api, results: str) -> None:
    """404 with Retry-After, also when an object exists already: it is shown with the terminal status. Both
    addresses return the same, and neither response may be cached permanently."""
    job_id = await api.accepted()
    results = "/s3-bucket/datajobs-results" + results.format(job_id)
    await api.parts.objects.put("datajobs-results", manifest_key(str(job_id)), b"{}")
    answer = await api.get(results)
    assert answer.problem["status"] == 404
    assert int(answer.headers["Retry-After"]) > 0
    await end_job(api, job_id, Status.FINISHED, [outcome("1", S)])
    shown = await api.get(results)
    assert shown.json() == {"status": "FINISHED"}
    assert "immutable" not in shown.headers.get("Cache-Control", "")


async def test_result_objects_can_be_read_and_nothing_else_in_any_bucket(api: Api) -> None:
    """Each recorded object and the manifest are returned; no other key, bucket or job is."""
    job_id, other = await api.accepted(), await api.accepted()
    await end_job(api, job_id, Status.FINISHED, [outcome("1", S)])
    (part,) = await api.rows("select key from result_part")
    found = await api.get(f"/s3-bucket/datajobs-results/{part['key']}")
    assert found.status == 200
    assert found.json()["responses"][0]["operationId"] == "1"
    assert (await api.get(f"/s3-bucket/datajobs-results/{job_id}/manifest.json")).status == 200
    await api.parts.objects.put("datajobs-results", f"{job_id}/planted.json", b"{}")
    await api.parts.objects.put("datajobs-results", "planted.json", b"{}")
    tail = part["key"].partition("/")[2]
    for path in (
        f"datajobs-results/{job_id}/planted.json",
        "datajobs-results/planted.json",
        f"other-bucket/{part['key']}",
        f"datajobs-results/{other}/{tail}",
        f"datajobs-results/{job_id}/x/../{tail}",
        f"datajobs-results/{job_id}/%2e%2e/{job_id}/{tail}",
        f"datajobs-results/{job_id}/%00",
        f"..%2f..%2fetc/{job_id}/passwd",
    ):
        answer = await api.get(f"/s3-bucket/{path}")
        assert answer.problem["status"] == 404, path
    assert (await api.get(f"/s3-bucket/other-bucket?jobId={job_id}")).problem["status"] == 404
    for query in ("", "?jobId=x"):
        problem = (await api.get(f"/s3-bucket/datajobs-results{query}")).problem
        assert (problem["status"], problem["errors"][0]["pointer"]) == (400, "jobId")


async def test_probes_and_metrics(api: Api) -> None:
    """The process is alive, its parts are reachable, and its metrics can be read."""
    assert (await api.get(paths.HEALTHZ)).json() == {"status": "ok"}
    assert (await api.get(paths.READYZ)).json() == {"status": "ok"}
    await api.accepted()
    answer = await api.get(paths.METRICS)
    assert answer.headers["Content-Type"].lower().count("charset=utf-8") == 1
    figures = answer.body.decode()
    assert 'datajobs_jobs_accepted_total{type="WRITE"} 1.0' in figures
    assert 'route="/ranoam/cm/v1/dataJob",status="202"' in figures
    assert "datajobs_body_bytes_in_flight 0.0" in figures
    api.parts.stopping.set()
    assert (await api.get(paths.READYZ)).problem["status"] == 503
    assert (await api.get(paths.HEALTHZ)).status == 200


@changes_nothing
async def test_unknown_places_and_methods_are_problems(unchanged: Api) -> None:
    """404 and 405 are problems like every error."""
    assert (await unchanged.get("/nowhere")).problem["status"] == 404
    assert (await unchanged.get("/ranoam/cm/v1/nowhere")).problem["instance"] == "/ranoam/cm/v1/nowhere"
    for path in ("/schema/nowhere", "/schema/swagger", "/schema/a/b"):
        assert (await unchanged.get(path)).problem["status"] == 404
    refused = await unchanged.call("DELETE", paths.JOBS)
    assert refused.problem["status"] == 405


@changes_nothing
@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (paths.JOBS, "GET, OPTIONS, POST"),
        ("/ranoam/cm/v1/topics/t/messages", "GET, OPTIONS, POST"),
        (paths.METRICS, "GET, OPTIONS"),
        ("/schema", "GET, OPTIONS"),
    ],
)
async def test_a_path_tells_all_its_methods(unchanged: Api, path: str, methods: str) -> None:
    """OPTIONS, and the 405 for any other method, name the same methods."""
    reported = await unchanged.call("OPTIONS", path)
    assert (reported.status, reported.headers["Allow"]) == (204, methods)
    refused = await unchanged.call("DELETE", path)
    assert (refused.problem["status"], refused.headers["Allow"]) == (405, methods)


@changes_nothing
async def test_a_query_parameter_that_stands_twice_is_a_400(unchanged: Api) -> None:
    """The intended one is ambiguous, in whatever case the two are spelt."""
    for query, name in (("destination=a&destination=b", "destination"), ("dryRun=1&dryrun=1", "dryRun")):
        problem = (await unchanged.submit(query=f"?{query}")).problem
        assert (problem["status"], problem["errors"]) == (
            400,
            [{"pointer": name, "detail": "stands twice: give it once"}],
        )
    assert (await unchanged.get(f"{paths.JOBS}?limit=1&limit=2")).problem["errors"][0]["pointer"] == "limit"
    assert await unchanged.left_behind() == dict.fromkeys(await unchanged.left_behind(), 0)


@changes_nothing
async def test_an_answer_that_is_not_wanted_is_a_406(unchanged: Api) -> None:
    """A client that does not accept JSON gets a 406. A browser's Accept gets JSON."""
    assert (await unchanged.get(paths.JOBS, headers={"Accept": "text/html"})).problem["status"] == 406
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    assert (await unchanged.get(paths.JOBS, headers=browser)).status == 200


async def test_the_page_is_served_with_its_files(database: Database, tmp_path: Path, free_port: int) -> None:
    """index.html at /, its files below it, revalidated by their ETag. Nothing outside the folder is
    served."""
    folder = tmp_path / "static"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "page.js").write_text("export {}")
    (tmp_path / "secret").write_text("secret")
    async with northbound_api(database, tmp_path, free_port, static=folder) as api:
        index = await api.get("/")
        assert (index.status, index.body) == (200, b"<!doctype html>")
        assert index.headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in index.headers["Content-Security-Policy"]
        script = await api.get("/page.js")
        assert script.headers["Content-Type"].startswith("text/javascript")
        again = await api.get("/page.js", headers={"If-None-Match": script.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        for path in ("/other.js", "/..%2fsecret", "/%2e%2e/secret", "/static/page.js"):
            assert (await api.get(path)).problem["status"] == 404


@changes_nothing
async def test_the_schema_is_openapi_and_names_every_call(unchanged: Api) -> None:
    """/schema is one OpenAPI 3.1 document with every route of the API."""
    answer = await unchanged.get(paths.SCHEMA)
    assert answer.headers["Content-Type"].startswith("application/json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    submit = document["paths"][paths.JOBS]["post"]
    assert {"200", "202", "400", "409", "413", "415", "422", "429", "503"} <= set(submit["responses"])
    assert submit["requestBody"]["required"] is True
    assert {parameter["name"] for parameter in submit["parameters"]} == {
        "destination",
        "dryRun",
        "preview",
        "Idempotency-Key",
    }
    assert {
        aiohttp_route(path)
        for path in (
            paths.JOBS,
            paths.JOB,
            paths.SUB_JOBS,
            paths.FAILURES,
            paths.OUTCOMES,
            paths.REQUEST,
            paths.EVENTS,
            paths.CANCEL,
            paths.RETRY,
            paths.REDELIVER,
            paths.REASONS,
            paths.BUCKET,
            paths.OBJECT,
            paths.TOPIC_MESSAGES,
            paths.INVENTORY,
            paths.PLUGIN_HANDLES,
            paths.INVENTORY_ID_SEARCHES,
            paths.INVENTORY_SEARCHES,
            paths.INVENTORY_SEARCHES_V2,
            paths.ID_SEARCHES,
            paths.SEARCHES,
            paths.SEARCHES_V2,
            paths.HANDLE,
            paths.HANDLE_V2,
            paths.HANDLE_PROPERTIES,
            paths.HANDLE_STATE,
            paths.HANDLE_MODULES,
            paths.MODULE_SET,
            paths.CM_HANDLES,
            paths.CM_HANDLE_OWNER,
            paths.CM_HANDLE_CHILDREN,
            paths.STATUS_PUSH,
            paths.PROVMNS_ROOT,
            paths.PROVMNS,
            paths.ACTION,
            paths.HEALTHZ,
            paths.READYZ,
            paths.METRICS,
        )
    } == set(document["paths"])
