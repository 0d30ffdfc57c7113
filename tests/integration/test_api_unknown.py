# SPDX-License-Identifier: Apache-2.0
"""Unknown keys and parameters, and bodies in other encodings: each is refused or reported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import requests
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ran_datajobs.api import paths
from ran_datajobs.messaging.topics import INTERNAL_TOPIC, STATUS_TOPIC
from ran_datajobs.model import OperationState, Status
from ran_datajobs.plugins.wire import aiohttp_route
from ran_datajobs.results.outcomes import unpack
from ran_datajobs.store.database import Database
from tests.integration.test_api_access import EXPECTED
from tests.kit.api_service import (
    JSON,
    WRITE,
    Api,
    changes_nothing,
    end_job,
    northbound_api,
    outcome,
    plan,
    publish,
    register,
    writes,
)
from tests.tiers import examples

NOTHING = {"data_job": 0, "job_request": 0, "idempotency_key": 0}
NOTED = {
    "data": [one | {"note": "x", "filter": "X/attributes/x==1"} for one in writes(2)["data"]],
    "notBefore": "2027-01-01T00:00:00Z",
    "a/b\0": 1,
}
IGNORED = [
    {"pointer": "#/notBefore"},
    {"pointer": "#/a~1b\0"},
    {"name": "note", "count": 2},
    {"name": "filter", "count": 2},
]


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service on one machine."""
    async with northbound_api(database, tmp_path, free_port) as running:
        yield running


def reported(answer: Any) -> tuple[Any, Any]:
    """The keys that a response reports as ignored."""
    return answer.get("ignored"), answer.get("ignoredCount")


# --- keys --------------------------------------------------------------------------------------------


async def test_what_was_ignored_is_told_in_the_202_and_by_the_job(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """Pointers into the envelope, then each name in operations with a count: in the 202 and in its repeat, in
    a dry run, in GET and in the list, and after a restart of the service."""
    key = {"Idempotency-Key": "k"}
    async with northbound_api(database, tmp_path, free_port) as api:
        first = await api.submit(NOTED, headers=key)
        assert (first.status, reported(first.json())) == (202, (IGNORED, 4))
        assert (await api.submit(NOTED, headers=key)).body == first.body
        assert reported((await api.submit(NOTED, "?dryRun=true")).json()) == (IGNORED, 4)
    async with northbound_api(database, tmp_path, free_port) as api:
        job = (await api.get(f"{paths.JOBS}/{first.json()['jobId']}")).json()
        assert reported(job) == (IGNORED, 4)
        assert (await api.get(paths.JOBS)).json()["items"] == [job]
        assert (await api.submit(NOTED, headers=key)).body == first.body
        assert (await api.left_behind())["data_job"] == 1


async def test_nothing_is_told_where_nothing_was_ignored(api: Api) -> None:
    """The members are left out, so that the response has only the published members."""
    answer = await api.submit()
    assert reported(answer.json()) == (None, None)
    assert reported((await api.get(f"{paths.JOBS}/{answer.json()['jobId']}")).json()) == (None, None)


async def test_a_retry_tells_what_was_ignored_in_the_request_that_it_repeats(api: Api) -> None:
    """A retry, and a retry of the retry."""
    job_id = await api.accepted(NOTED)
    for _ in range(2):
        await plan(api, job_id)
        await end_job(api, job_id, Status.FAILED, [outcome(n, OperationState.FAILED) for n in (0, 1)])
        again = await api.post(f"{paths.JOBS}/{job_id}/retry")
        assert (again.status, reported(again.json())) == (202, (IGNORED, 4))
        job_id = again.json()["jobId"]
    assert reported((await api.get(f"{paths.JOBS}/{job_id}")).json()) == (IGNORED, 4)


async def test_a_status_event_is_the_body_of_the_job(api: Api) -> None:
    """With the ignored keys."""
    job_id = await api.accepted(NOTED, "?destination=kafka:Topic")
    await api.post(f"{paths.JOBS}/{job_id}/cancel")
    await publish(api)
    (event,) = (await api.get(paths.fill(paths.TOPIC_MESSAGES, topic=STATUS_TOPIC))).json()["items"]
    assert reported(event["value"]["data"]) == (IGNORED, 4)


async def test_a_hundred_ignored_keys_are_listed_and_all_are_counted(api: Api) -> None:
    """The response stays short."""
    answer = (await api.submit(WRITE | {f"key{n}": n for n in range(250)})).json()
    assert (len(answer["ignored"]), answer["ignoredCount"]) == (100, 250)


async def test_a_remove_with_a_value_goes_to_the_plugin_without_it(api: Api) -> None:
    """RFC 6902 lets a reader ignore it, and ONAP's clients send one: it does not count as an unknown key."""
    await register(api, 1)
    remove = {"op": "remove", "path": "/SubNetwork=A/ManagedElement=1", "operationId": "1", "value": {"x": 1}}
    answer = await api.submit({"data": [remove]})
    assert (answer.status, reported(answer.json())) == (202, (None, None))
    await plan(api, answer.json()["jobId"])
    (sub_job,) = await api.rows("select body from sub_job")
    (sent,) = msgspec.json.decode(unpack(sub_job["body"]))
    assert (sent["op"], "value" in sent) == ("remove", False)


async def test_a_job_that_was_accepted_before_its_keys_were_refused_is_planned(api: Api) -> None:
    """A job that an older version accepted with a 202 is executed."""
    await register(api, 0)
    job_id = await api.accepted(writes(1) | {"foo": 1})
    body = msgspec.json.encode(writes(1) | {"undoable": True, "prioritty": 9})
    await api.rows("update job_request set body = $1 returning 1", zstandard.compress(body))
    await plan(api, job_id)
    assert [row["operations"] for row in await api.rows("select operations from sub_job")] == [1]


# --- query parameters --------------------------------------------------------------------------------


@changes_nothing
@pytest.mark.parametrize("query", ["dryrun=true", "DRYRUN=1", "DryRun=True", "%64ryrun=true", "dryRUN=TRUE"])
async def test_a_dry_run_in_any_case_is_one(unchanged: Api, query: str) -> None:
    """The response is the plan, and nothing is stored."""
    answer = await unchanged.submit(query=f"?{query}")
    assert (answer.status, answer.json()["operations"]) == (200, {"total": 1, "unmatched": 1})
    assert await unchanged.left_behind() == NOTHING


@changes_nothing
@pytest.mark.parametrize(
    ("query", "name", "near"),
    [
        ("dryRunn=true", "dryRunn", "dryRun?"),
        ("dry-run=true", "dry-run", "dryRun?"),
        ("dry_run=true", "dry_run", "dryRun?"),
        ("dry%20run=true", "dry run", "dryRun?"),
        ("dryRun%20=true", "dryRun ", "dryRun?"),
        ("Destinations=x", "Destinations", "destination?"),
        ("key=x", "key", "destination, dryRun"),
        ("=x", "", "destination, dryRun"),
        ("x" * 5000, "x" * 127 + "…", "destination, dryRun"),
    ],
)
async def test_an_unknown_parameter_is_a_400_with_the_nearest_name(
    unchanged: Api, query: str, name: str, near: str
) -> None:
    """Without a similar parameter, the problem lists the known ones. Nothing is executed."""
    problem = (await unchanged.submit(query=f"?{query}")).problem
    (error,) = problem["errors"]
    assert (problem["status"], error["pointer"]) == (400, name)
    assert near in error["detail"]
    assert await unchanged.left_behind() == NOTHING


@changes_nothing
@pytest.mark.parametrize("query", ["basedOn=x", "BasedOn=", "skipunchanged=false"])
async def test_a_parameter_that_is_not_offered_yet_is_a_422_that_names_it(unchanged: Api, query: str) -> None:
    """A job that would be based on a preview is refused, not submitted."""
    problem = (await unchanged.submit(query=f"?{query}")).problem
    (error,) = problem["errors"]
    assert (problem["status"], error["pointer"].lower()) == (422, query.partition("=")[0].lower())
    assert error["pointer"] in problem["detail"]
    assert await unchanged.left_behind() == NOTHING


PLACES = {
    "job_id": uuid4(),
    "sub_job_id": uuid4(),
    "reference": "ch-1",
    "tag": "t",
    "dn": "A=1",
    "dn_and_action": "A=1/act",
    "topic": INTERNAL_TOPIC,
    "bucket_id": "b",
    "part": "x",
    "file": "x.js",
    "path": "x",
}
EXEMPT = {paths.PAGE, aiohttp_route(paths.PAGE_FILE), paths.SCHEMA, paths.SCHEMA_FILE,
          paths.SCHEMA + "/{path}"}  # fmt: skip


@changes_nothing
@pytest.mark.parametrize(
    ("method", "template"), sorted((method, aiohttp_route(path)) for method, path in EXPECTED)
)
async def test_every_call_judges_its_parameters(unchanged: Api, method: str, template: str) -> None:
    """A parameter that the call does not have is a 400 before any other check. The page and the OpenAPI
    document read no parameters, and accept those that a browser, a link or a cache adds."""
    path = template.format_map(PLACES)
    answer = await unchanged.call(method, f"{path}?nonsense=1", headers=JSON)
    if template in EXEMPT:
        assert answer.status in (200, 404)
    else:
        assert (answer.problem["status"], answer.problem["errors"][0]["pointer"]) == (400, "nonsense")


async def test_parameters_of_every_call_count_in_any_case(api: Api) -> None:
    """A filter in another case selects the same. A cursor continues at the same position."""
    first, second = await api.accepted(), await api.accepted()
    page = (await api.get(f"{paths.JOBS}?LIMIT=1&Status=NOT_STARTED")).json()
    assert [job["jobId"] for job in page["items"]] == [str(second)]
    rest = (await api.get(f"{paths.JOBS}?Limit=1&CURSOR={page['next']}")).json()
    assert [job["jobId"] for job in rest["items"]] == [str(first)]
    assert (await api.get(f"{paths.JOBS}?STATUS=RUNNING")).json()["items"] == []
    assert (await api.get(f"/s3-bucket/datajobs-results?jobid={first}")).status == 404
    retry = await api.post(f"{paths.JOBS}/{first}/retry?INCLUDEUNKNOWN=true")
    assert retry.problem["status"] == 409


NAMES = st.builds(
    lambda word, changes: "".join(change(letter) for letter, change in zip(word, changes, strict=False)),
    st.sampled_from(
        ["dryRun", "dryRuns", "dry_run", "dryrnu", "DRY-RUN", "dry.run", "dryRun ", "ryRun", "dryR"]
    ),
    st.lists(st.sampled_from([str.lower, str.upper, requests.utils.quote]), min_size=9, max_size=9),
)
WISHES = st.tuples(NAMES, st.sampled_from(["=true", "=TRUE", "=1", "=yes", "=", "", "=t", "=%31", "=on"]))


@changes_nothing
async def test_a_dry_run_asked_for_in_any_spelling_executes_nothing(unchanged: Api) -> None:
    """A parameter similar to `dryRun`, with any value, returns the plan or a refusal, and never makes a
    job."""
    seen: set[int] = set()

    def ask() -> None:
        with requests.Session() as session:

            @settings(max_examples=examples(200), derandomize=True, suppress_health_check=list(HealthCheck))
            @given(
                WISHES,
                st.sampled_from(["", "destination=b&", "&"]),
                st.sampled_from(["", "&", "&destination=c"]),
            )
            def run(wish: tuple[str, str], before: str, after: str) -> None:
                url = f"{unchanged.root}{paths.JOBS}?{before}{''.join(wish)}{after}"
                with session.post(url, json=WRITE, timeout=20) as answer:
                    assert answer.status_code in (200, 400), (url, answer.text)
                    seen.add(answer.status_code)

            run()

    await asyncio.to_thread(ask)
    assert seen == {200, 400}
    assert await unchanged.left_behind() == NOTHING


# --- encodings ---------------------------------------------------------------------------------------

POSTS = {
    "submit": (paths.JOBS, WRITE, 202),
    "registration": (paths.INVENTORY, {"dmiPlugin": "http://127.0.0.1:9", "createdCmHandles": []}, 200),
    "publish": (paths.fill(paths.TOPIC_MESSAGES, topic=INTERNAL_TOPIC), {"messages": []}, 204),
    "status push": (
        paths.fill(paths.STATUS_PUSH, sub_job_id=uuid4()),
        {"dataProducerJobId": "1", "status": "RUNNING"},
        404,
    ),
}


@pytest.mark.parametrize("post", POSTS)
async def test_a_byte_order_mark_before_a_body_is_taken_away(api: Api, post: str) -> None:
    """As Windows editors write it (RFC 8259 §8.1): the body is read without the mark."""
    path, body, status = POSTS[post]
    answer = await api.post(path, b"\xef\xbb\xbf" + msgspec.json.encode(body))
    assert answer.status == status, answer.body


async def test_a_job_with_a_byte_order_mark_is_kept_without_it(api: Api) -> None:
    """The stored request that is planned and retried is UTF-8."""
    await register(api, 0)
    job_id = await api.accepted(b"\xef\xbb\xbf" + msgspec.json.encode(writes(1)))
    (stored,) = await api.rows("select body from job_request")
    assert zstandard.decompress(stored["body"]) == msgspec.json.encode(writes(1))
    await plan(api, job_id)
    assert len(await api.rows("select 1 from sub_job")) == 1


ENCODINGS = {
    "utf-16": "UTF-16 LE",
    "utf-16-le": "UTF-16 LE",
    "utf-16-be": "UTF-16 BE",
    "utf-32": "UTF-32 LE",
    "utf-32-be": "UTF-32 BE",
}


@changes_nothing
@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_another_encoding_is_a_400_that_says_which(unchanged: Api, post: str, encoding: str) -> None:
    """With a byte order mark or without one."""
    path, body, _ = POSTS[post]
    answer = await unchanged.post(path, msgspec.json.encode(body).decode().encode(encoding))
    assert answer.problem["status"] == 400
    assert answer.problem["detail"] == f"the body must be UTF-8, and it is {ENCODINGS[encoding]}"
    assert await unchanged.left_behind() == NOTHING


# --- registrations -----------------------------------------------------------------------------------


async def test_numbers_and_booleans_in_properties_are_kept_as_their_text(api: Api) -> None:
    """ONAP accepts values that are no texts; the plugin gets texts. In an update null and "~" remove a
    property."""
    handle = {
        "cmHandle": "ch-1",
        "alternateId": "/SubNetwork=A/ManagedElement=1",
        "dataProducerIdentifier": "p",
        "cmHandleProperties": {"id": 123, "active": True, "gone": None, "x": "x", "y": "y"},
    }
    create = {"dmiPlugin": "http://127.0.0.1:9", "createdCmHandles": [handle]}
    for _ in range(2):
        assert (await api.post(paths.INVENTORY, create)).status == 200
    update = handle | {"cmHandleProperties": {"active": False, "x": None, "y": "~"}}
    assert (await api.post(paths.INVENTORY, {"updatedCmHandles": [update]})).status == 200
    job_id = await api.accepted()
    await plan(api, job_id)
    (sub_job,) = await api.rows("select body from sub_job")
    (sent,) = msgspec.json.decode(unpack(sub_job["body"]))
    assert sent["privateProperties"] == {"id": "123", "active": "false"}


@changes_nothing
@pytest.mark.parametrize("value", [{}, [], [1], {"a": "b"}])
async def test_a_property_that_is_no_text_refuses_the_registration(unchanged: Api, value: Any) -> None:
    """A wrong type is a 400, and no handle is registered."""
    handles = [
        {"cmHandle": "good"},
        {"cmHandle": "bad", "publicCmHandleProperties": {"n": 1, "secret": value}},
    ]
    answer = await unchanged.post(
        paths.INVENTORY, {"dmiPlugin": "http://127.0.0.1:9", "createdCmHandles": handles}
    )
    problem = answer.problem
    assert problem["status"] == 400
    assert problem["errors"][0]["pointer"] == "#/createdCmHandles/1/publicCmHandleProperties"
    assert await unchanged.rows("select 1 from cm_handle") == []


async def test_what_concerns_one_handle_is_a_207(api: Api) -> None:
    """The other handles are registered."""
    handles = [
        {"cmHandle": "a", "alternateId": "/A=1"},
        {"cmHandle": "b", "alternateId": "/A=1"},
        {"cmHandle": "c d"},
    ]
    body = {
        "dmiPlugin": "http://127.0.0.1:9",
        "createdCmHandles": handles,
        "updatedCmHandles": [{"cmHandle": "nobody"}],
        "removedCmHandles": ["never"],
    }
    answer = await api.post(paths.INVENTORY, body)
    assert answer.status == 207
    assert {name: [one["cmHandle"] for one in failed] for name, failed in answer.json().items()} == {
        "failedCreatedCmHandles": ["b", "c d"],
        "failedUpdatedCmHandles": ["nobody"],
        "failedRemovedCmHandles": ["never"],
        "failedUpgradeCmHandles": [],
    }
    assert [row["cm_handle"] for row in await api.rows("select cm_handle from cm_handle")] == ["a"]
