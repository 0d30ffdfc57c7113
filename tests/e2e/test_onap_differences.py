# SPDX-License-Identifier: Apache-2.0
"""What is answered otherwise than at NCMP, as docs/onap.md says: each test names rows of its tables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.commands import datajobs
from tests.kit.onap_client import alternate_id, conditions, load_test_handle
from tests.kit.onap_service import Ncmp, served_ncmp
from tests.kit.whole_service import JOBS

WRITE = {"op": "merge", "path": f"{alternate_id(1)}/X=1", "operationId": "1", "value": {"a": 1}}
LOAD_TEST = {"dataAcceptType": "application/json", "dataContentType": "application/merge-patch+json"}
"""The media types of the load test."""


@pytest.fixture
async def ncmp(database_url: str, tmp_path: Path) -> AsyncIterator[Ncmp]:
    """A service with three handles, whose plugin takes selectors."""
    async with served_ncmp(database_url, tmp_path, (1, 2, 3), selectors=True) as served:
        yield served


async def test_jobs_that_ncmp_takes(ncmp: Ncmp) -> None:
    """What NCMP passes on unread is a 400 with a pointer to the fault, and nothing is left of it."""
    for query, envelope, pointer in (
        ("", {"data": []}, "#/data"),
        ("", {"data": [WRITE, WRITE]}, "#/data/1/operationId"),
        ("", {"data": [WRITE | {"op": "create"}]}, "#/data/0/op"),
        ("", {"data": [WRITE], **LOAD_TEST}, "#/dataAcceptType"),
        ("?destination=device/managed-element-collection", {"data": [WRITE]}, "destination"),
    ):
        answer = await ncmp.client.ask("POST", JOBS + query, envelope)
        assert (answer.status, answer.media_type) == (400, "application/problem+json"), answer
        assert answer.body["errors"][0]["pointer"] == pointer
    assert (await ncmp.service.call("GET", JOBS, expect=200))["items"] == []


async def test_jobs_that_ncmp_answers_with_500(ncmp: Ncmp) -> None:
    """A path in comma form, a fragment right after the handle, and one unknown name beside known ones: the
    job runs, and the unknown one fails alone."""
    comma = alternate_id(1).removeprefix("/").replace("/", ",")
    job_id = await ncmp.service.submit(
        [
            WRITE | {"path": comma, "operationId": "comma"},
            WRITE | {"op": "replace", "path": f"{alternate_id(2)}#/attributes/x", "operationId": "fragment"},
            WRITE | {"path": "/ManagedElement=99", "operationId": "nobody"},
        ]
    )
    job = await ncmp.service.ended(job_id)
    assert (job["status"], job["operations"]["succeeded"]) == ("PARTIALLY_FAILED", 2)
    (failure,) = await ncmp.service.failures(job_id)
    assert (failure["operationId"], failure["reason"]) == ("nobody", "UNMATCHED")


async def test_selectors_in_a_dry_run(ncmp: Ncmp) -> None:
    """A dry run names the sub-jobs of the selectors, and those that nobody owns, as NCMP's read does."""
    nobody = '/SubNetwork[id="Nix"]/ManagedElement[id="1"]'
    owned = '/SubNetwork[id="Europe"]/SubNetwork[id="Ireland"]/MeContext[id="MyRadioNode1"]'
    text = f'//NRCellDU\n&& a comment\n{nobody}\n{owned}/ManagedElement[id="MyManagedElement1"]'
    read = {"op": "read", "operationId": "s", "dataNodeSelector": text}
    plan = await ncmp.service.call("POST", f"{JOBS}?dryRun=true", {"data": [read]}, expect=200)
    assert [each["dmiServiceName"] for each in plan["subJobs"]] == [ncmp.plugin]
    assert [each["dataNodeSelector"] for each in plan["unmatched"]] == [nobody]


async def test_handles_that_ncmp_takes_or_refuses(ncmp: Ncmp) -> None:
    """Codes and statuses of the table of ``RestInputCmHandle``, and a handle without a data producer."""
    for number, changes, code in (
        (4, {"cmHandleStatus": "READY"}, None),
        (5, {"alternateId": "p1"}, "110"),
        (6, {"alternateId": None}, None),
        (7, {"dataProducerIdentifier": ""}, None),
        (8, {"moduleSetTag": "a\ttag"}, "110"),
    ):
        answer = await ncmp.client.register(
            ncmp.plugin, createdCmHandles=[load_test_handle(number) | changes]
        )
        if code is None:
            assert answer[:2] == (200, None), answer
        else:
            assert answer.status == 207
            (failure,) = answer.body["failedCreatedCmHandles"]
            assert failure["errorCode"] == code
    elsewhere = await ncmp.client.register("http://example.org", createdCmHandles=[load_test_handle(9)])
    (failure,) = elsewhere.body["failedCreatedCmHandles"]
    assert (elsewhere.status, failure["errorCode"]) == (207, "108")
    moved = {"cmHandle": "ch-2", "alternateId": "/ManagedElement=moved"}
    assert (await ncmp.client.register(ncmp.plugin, updatedCmHandles=[moved]))[:2] == (200, None)
    job_id = await ncmp.service.submit([WRITE | {"path": alternate_id(7)}])
    await ncmp.service.ended(job_id)
    (failure,) = await ncmp.service.failures(job_id)
    assert failure["reason"] == "NO_DATA_PRODUCER"


async def test_errors(ncmp: Ncmp) -> None:
    """NCMP's body below its paths, a problem where the client takes one, and for everything else."""
    for method, path, body, status in (
        ("POST", "/ncmp/v1/ch/id-searches?unknown=1", {}, "400 BAD_REQUEST"),
        ("POST", "/ncmpInventory/v1/ch", {"createdCmHandles": [{"cmHandle": 7}]}, "400 BAD_REQUEST"),
        ("GET", "/ncmpInventory/v1/ch", None, "400 BAD_REQUEST"),
        ("GET", "/ncmp/v1/ch/nobody", None, "404 NOT_FOUND"),
        ("POST", "/do-not-use/dataJobs/x/write", {}, "400 BAD_REQUEST"),
    ):
        answer = await ncmp.client.ask(method, path, body)
        assert (f"{answer.status} ", answer.media_type) == (status[:4], "application/json")
        assert (answer.body["status"], set(answer.body)) == (status, {"status", "message", "details"})
        accept = {"Accept": "application/json, application/problem+json"}
        problem = await ncmp.client.ask(method, path, body, accept)
        assert (problem.status, problem.media_type) == (answer.status, "application/problem+json")
        assert problem.body["status"] == answer.status
    other = await ncmp.client.ask("POST", "/no/where", {})
    assert (other.status, other.media_type) == (404, "application/problem+json")


async def test_searches_show_handles_without_an_alternate_id_by_id_alone(ncmp: Ncmp) -> None:
    """A search for alternate ids leaves out a handle that has none."""
    await ncmp.client.registered(ncmp.plugin, [load_test_handle(4) | {"alternateId": None}])
    assert set(await ncmp.client.ids({})) == {"ch-1", "ch-2", "ch-3", "ch-4"}
    assert set(await ncmp.client.ids({}, outputAlternateId="true")) == {alternate_id(n) for n in (1, 2, 3)}


async def test_private_properties_of_the_second_version(ncmp: Ncmp) -> None:
    """``dmiProperties`` is JSON as a text, as at NCMP, and only where it is asked for."""
    path = "/ncmpInventory/v2/ch/searches"
    shown: Any = (await ncmp.client.ask("POST", f"{path}?outputDmiProperties=true", {})).body
    assert {json.loads(each["dmiProperties"])["segmentId"] for each in shown} == {"1", "2", "3"}
    hidden: Any = (await ncmp.client.ask("POST", path, {})).body
    assert not any("dmiProperties" in each for each in hidden)


async def test_the_answer_of_a_search_is_loaded(ncmp: Ncmp, tmp_path: Path) -> None:
    """What a southbound search shows of a plugin's handles, private properties included, is a file that
    ``datajobs inventory load`` registers: this is how an inventory is copied."""
    of_plugin = conditions(("cmHandleWithDmiPlugin", [{"dmiPluginName": ncmp.plugin}]))
    path = "/ncmpInventory/v1/ch/searchCmHandles?outputDmiProperties=true"
    before = (await ncmp.client.ask("POST", path, of_plugin)).body
    file = tmp_path / "handles.json"
    file.write_text(json.dumps(before), encoding="utf-8")
    names = [each["cmHandle"] for each in before]
    assert (await ncmp.client.register(ncmp.plugin, removedCmHandles=names)).status == 200
    load = ("inventory", "load", file, "--plugin", ncmp.plugin, "--server", ncmp.service.root)
    done = await asyncio.to_thread(datajobs, *load)
    assert done.returncode == 0, done.stderr
    after = (await ncmp.client.ask("POST", path, of_plugin)).body
    for each in (*before, *after):
        del each["state"]
    assert sorted(after, key=str) == sorted(before, key=str)
