# SPDX-License-Identifier: Apache-2.0
"""No input makes the service answer 500, and every answer is declared in its OpenAPI document."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ran_datajobs.api import onap_test, paths
from ran_datajobs.model import OperationState, Status
from ran_datajobs.store.database import Database
from tests.kit.api_service import Api, end_job, northbound_api, outcome, plan, register, writes
from tests.tiers import nightly

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PATIENCE = 10


@pytest.fixture
async def api(
    database: Database, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Api]:
    """The API of a service on one machine, with an inventory and ONAP's test interface."""
    monkeypatch.setattr(onap_test, "CREATES_WITHIN", 0.05)  # no worker runs
    async with northbound_api(database, tmp_path, free_port, onap_test_api=True) as running:
        await register(running, 0, 1)
        yield running


async def known_places(api: Api) -> list[dict[str, str]]:
    """Path parameters of existing resources, for an ended job with results."""
    ended = await api.accepted(writes(2), "?destination=kafka:Topic")
    await plan(api, ended)
    results = [outcome(0, OperationState.FAILED), outcome(1, OperationState.UNKNOWN)]
    await end_job(api, ended, Status.FAILED, results)
    (part,) = await api.rows("select key from result_part where sub_job <> 'unmatched'")
    (sub_job, *_) = await api.rows("select sub_job_id from sub_job")
    return [
        {
            "job_id": str(ended),
            "sub_job_id": str(sub_job["sub_job_id"]),
            "topic": topic,
            "bucket_id": "datajobs-results",
            "part": part["key"].partition("/")[2],
            "reference": "ch-0",
            "tag": "a/b",
            "data_job_id": "x/%2F\u00e4",
            "dn": "SubNetwork=A/ManagedElement=9",  # without an owner: no worker would execute its job
            "dn_and_action": "SubNetwork=A/ManagedElement=9/lock",
        }
        for topic in ("Topic", "ncmp-async-m2m")
    ]


schemathesis.serializer.alias("application/zip", "application/octet-stream")


@pytest.mark.nightly
@pytest.mark.damages_rows  # the test ends jobs itself, no worker runs
async def test_the_served_openapi_holds_for_generated_requests(api: Api) -> None:
    """Valid and invalid requests of every operation, with path parameters of existing and of missing
    resources."""
    places = await known_places(api)
    schema = await asyncio.to_thread(schemathesis.openapi.from_url, api.root + paths.SCHEMA)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 18
    called = 0
    for operation in operations:
        names = {parameter.name for parameter in operation.path_parameters}
        chosen = [{name: place[name] for name in names} for place in places] if names else []
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            for fixed in (None, *chosen):
                called += await asyncio.to_thread(_fuzz, api, operation, mode, fixed)
    assert called > 300


def _fuzz(api: Api, operation: Any, mode: GenerationMode, fixed: dict[str, str] | None) -> int:
    """Send generated requests and return their number; 0 if the operation has no request of this mode."""
    called = 0

    @BOUNDED
    @given(operation.as_strategy(generation_mode=mode, path_parameters=fixed))
    def run(case: Any) -> None:
        nonlocal called
        response = case.call(base_url=api.root, timeout=PATIENCE)
        case.validate_response(response, checks=CHECKS)
        called += 1

    with contextlib.suppress(Unsatisfiable):
        run()
    return called


POSTS = [
    paths.JOBS,
    paths.INVENTORY,
    paths.ID_SEARCHES,
    paths.INVENTORY_SEARCHES,
    paths.fill(paths.TOPIC_MESSAGES, topic="ncmp-async-m2m"),
    paths.JOBS + "?dryRun=true",
    nightly(paths.fill(paths.ONAP_TEST_WRITE, data_job_id="x")),
    nightly(paths.ONAP_TEST_READ),
]
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
KEYS = st.sampled_from(
    [
        "data",
        "DATA",
        "op",
        "path",
        "operationId",
        "value",
        "scope",
        "scopeType",
        "scopeLevel",
        "filter",
        "attributes",
        "fields",
        "dataNodeSelector",
        "after",
        "name",
        "priority",
        "prioritty",
        "undoable",
        "expect",
        "dmiPlugin",
        "dmiDatajobsReadPlugin",
        "dmiDatajobsWritePlugin",
        "createdCmHandles",
        "updatedCmHandles",
        "upgradedCmHandles",
        "cmHandle",
        "alternateId",
        "cmHandleProperties",
        "removedCmHandles",
        "cmHandleQueryParameters",
        "conditions",
        "conditionName",
        "conditionParameters",
        "dataJobMetadata",
        "dataJobWriteRequest",
        "destination",
        "readProperties",
        "cpsPath",
        "messages",
        "headers",
        "key",
    ]
) | st.text(max_size=8)
WORDS = st.sampled_from(
    [
        "read",
        "add",
        "merge",
        "/A=1",
        "A=1#/attributes/x",
        "A=1,B=2",
        "/%2F=%00",
        "A/attributes/x==1",
        "(((",
        "BASE_SUBTREE",
        '//A[id="1"]/attributes/x',
        "/A OR\n//[",
        "http://127.0.0.1:9",
        "http://[",
        "\0",
        "\ud7ff",
        "cmHandleWithCpsPath",
        "hasAllProperties",
        "//cm-handles[contains(@id,'a')]",
    ]
)
JSON = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)


def _encoded(value: Any) -> bytes:
    return msgspec.json.encode(value)


@pytest.mark.parametrize("path", POSTS)
async def test_no_body_makes_a_500(api: Api, path: str) -> None:
    """Random bytes, random JSON, and JSON with the service's own keys in the wrong positions."""
    bodies = st.binary(max_size=200) | JSON.map(_encoded) | st.dictionaries(KEYS, JSON).map(_encoded)
    await asyncio.to_thread(
        _none_is_500,
        bodies,
        lambda session, body: session.post(
            api.root + path, data=body, headers={"Content-Type": "application/json"}, timeout=PATIENCE
        ),
    )


ELEMENT = "SubNetwork=A/ManagedElement=1"
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"op": WORDS | st.sampled_from(["replace", "remove", "test"]), "path": WORDS}
    ).flatmap(lambda item: st.builds(lambda value: item | {"value": value}, JSON)),
    max_size=3,
).map(_encoded)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("method", "path", "media_type"),
    [
        ("PATCH", f"{paths.PROVMNS_ROOT}/{ELEMENT}", "application/3gpp-json-patch+json"),
        ("PUT", f"{paths.PROVMNS_ROOT}/{ELEMENT}", "application/json"),
        ("POST", f"{paths.ACTIONS}/{ELEMENT}/lock", "application/json"),
    ],
)
async def test_no_body_of_provmns_makes_a_500(api: Api, method: str, path: str, media_type: str) -> None:
    """Also of an object that has an owner, so that jobs are made of the good ones."""
    headers = {"Content-Type": media_type, "Prefer": "respond-async"}
    await asyncio.to_thread(
        _none_is_500,
        st.binary(max_size=200) | JSON.map(_encoded) | ITEMS,
        lambda session, body: session.request(
            method, api.root + path, data=body, headers=headers, timeout=PATIENCE
        ),
    )


async def test_no_path_query_or_header_makes_a_500(api: Api) -> None:
    """Arbitrary text in a path, a query or a header."""
    (job,) = (await api.get(paths.JOBS + "?limit=1")).json()["items"] or [{"jobId": await api.accepted()}]
    starts = st.sampled_from(
        [
            "/",
            f"{paths.JOBS}/",
            f"{paths.JOBS}/{job['jobId']}/",
            "/s3-bucket/",
            f"/s3-bucket/datajobs-results/{job['jobId']}/",
            "/ranoam/cm/v1/topics/",
            "/schema/",
            f"{paths.JOBS}?",
            f"{paths.JOBS}?cursor=",
            f"{paths.PROVMNS_ROOT}/",
            f"{paths.PROVMNS_ROOT}/B=1?",
            f"{paths.PROVMNS_ROOT}/B=1?scope=",
            f"{paths.ACTIONS}/",
            f"{paths.JOBS}?limit=1&",
            "/ranoam/cm/v1/topics/x/messages?from=",
            "/ncmp/v1/ch/",
            "/do-not-use/dataJobs/",
            "/ncmp/v1/ch/%2FSubNetwork%3DA",
            f"{paths.INVENTORY}?distinguishedName=",
            f"{paths.PLUGIN_HANDLES}?dmi-plugin-identifier=",
            f"{paths.CM_HANDLES}?cursor=",
            f"{paths.CM_HANDLES}?search=",
            f"{paths.CM_HANDLE_OWNER}?fdn=",
            f"{paths.CM_HANDLE_CHILDREN}?cursor=",
        ]
    )
    ends = st.text(max_size=30).map(requests.utils.quote) | st.text("%/.\\?&=;:{}0aF", max_size=20)
    headers = st.dictionaries(
        st.sampled_from(["Accept", "Authorization", "Last-Event-ID", "If-None-Match", "Idempotency-Key"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30).map(str.strip),
        max_size=3,
    )
    methods = st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "DELETE", "PUT"])
    await asyncio.to_thread(
        _none_is_500,
        st.tuples(methods, starts, ends, headers),
        lambda session, asked: session.request(
            asked[0],
            api.root + asked[1] + asked[2],
            headers={name: text.encode("latin-1") for name, text in asked[3].items()},
            timeout=PATIENCE,
            stream=True,
        ),
    )


def _none_is_500(
    inputs: st.SearchStrategy[Any], send: Callable[[requests.Session, Any], requests.Response]
) -> None:
    with requests.Session() as session:

        @settings(BOUNDED, max_examples=60)
        @given(inputs)
        def run(one: Any) -> None:
            with send(session, one) as response:
                assert response.status_code < 500, response.text

        run()


async def test_what_is_no_http_gets_no_500(api: Api) -> None:
    """Malformed requests are answered with 400 or by closing the connection."""
    for raw in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /ranoam/cm/v1/dataJob HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /ranoam/cm/v1/dataJob HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n\r\n",
        b"\x00\xff\r\n\r\n",
    ):
        host, port = api.root.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(raw)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        assert not answer.startswith(b"HTTP/1.1 5"), answer
    async with aiohttp.ClientSession() as session, session.get(api.root + paths.HEALTHZ) as response:
        assert response.status == 200
