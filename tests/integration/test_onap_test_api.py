# SPDX-License-Identifier: Apache-2.0
"""ONAP's test interface of data jobs: its load test's requests, what NCMP takes and other clients do not, the
same id again, and the wait for the creates."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest
import pytest_asyncio

from ran_datajobs.api import onap_test, paths
from ran_datajobs.api.tokens import Role, add
from ran_datajobs.http.ports import free_port
from ran_datajobs.store.database import Database
from tests import invariants
from tests.conftest import copied_database
from tests.kit.api_service import Answer as ApiAnswer
from tests.kit.api_service import Api, northbound_api
from tests.kit.onap_client import Answer, OnapClient, alternate_id, onap_client
from tests.kit.plugins.scripted import Executed, Script, ScriptedPlugin, Step
from tests.kit.whole_service import JOBS, Service, whole_service
from tests.kit.worker_parts import until

WRITE: Final = "/do-not-use/dataJobs/{}/write"
READ: Final = "/do-not-use/dataJobs/read"
LOAD_TEST: Final = {
    "destination": "device/managed-element-collection",
    "dataAcceptType": "application/json",
    "dataContentType": "application/merge-patch+json",
}
"""The metadata of the load test."""

_MEDIA_TYPES: Final = {
    key: re.compile(rb'"%b":"([^"]*)"' % key.encode()) for key in LOAD_TEST if key != "destination"
}

in_one_loop: Final = pytest.mark.asyncio(loop_scope="module")


class Ncmp(NamedTuple):
    """A service with the test interface, ONAP's client of it, and a plugin."""

    service: Service
    client: OnapClient
    plugin: ScriptedPlugin
    address: str

    async def write(self, job_id: str, operations: Any, **metadata: Any) -> Answer:
        """A write with the metadata of the load test, but for ``metadata``."""
        return await self.client.ask("POST", WRITE.format(job_id), body_of(operations, **metadata))

    async def job(self, job_id: str) -> Any:
        """The ended data job that a write with this id made; there is only one."""
        listed = await self.service.call("GET", f"{JOBS}?limit=1000", expect=200)
        (found,) = [each["jobId"] for each in listed["items"] if each["name"] == job_id]
        return await self.service.ended(found)

    def creates(self, producer: str) -> list[dict[str, str]]:
        """Destination and media types of each create for a data producer."""
        return [
            {"destination": call.destination}
            | {key: _MEDIA_TYPES[key].search(call.body)[1].decode() for key in _MEDIA_TYPES}  # type: ignore[index]
            for call in self.plugin.calls
            if call.kind == "create" and call.data_producer_id == producer
        ]

    def got(self, producer: str) -> list[Executed]:
        """What the plugin executed for a data producer."""
        return [each for each in self.plugin.history if each.data_producer_id == producer]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ncmp(
    postgres_url: str, whole_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ncmp]:
    """One service for all tests; each uses a data producer of its own. In the end the rules of
    :mod:`tests.invariants` hold."""
    plugin = ScriptedPlugin()
    async with (
        copied_database(postgres_url, whole_database) as url,
        plugin.serving() as address,
        whole_service(url, tmp_path_factory.mktemp("ncmp"), onap_test_api="1") as service,
        onap_client(service.root) as client,
    ):
        producers = ("usual", "again", "shared", "refused", "stalls", "lost")
        handles = {alternate_id(n): producer for n, producer in enumerate(producers)}
        await service.register(address, handles, dmiDialect="onap")
        yield Ncmp(service, client, plugin, address)
        async with service.database.connection() as connection:
            assert not await invariants.violations(connection)


def body_of(operations: Any, **metadata: Any) -> dict[str, Any]:
    """The body of a write."""
    return {
        "dataJobMetadata": LOAD_TEST | metadata,
        "dataJobWriteRequest": {"data": operations},
    }


def pair(number: int, place: int = 1) -> list[dict[str, Any]]:
    """Two operations as the load test sends them, at the handle of this number."""
    below = f"{alternate_id(number)}/SomeChild=child"
    return [
        {"path": f"{below}-1", "op": "add", "operationId": f"{place}-1", "value": {"key": "a"}},
        {
            "path": f"{below}-2/SomeGrandChild=grand-child-2",
            "op": "merge",
            "operationId": f"{place}-2",
            "value": {"key": "b"},
        },
    ]


def answered(ncmp: Ncmp, producer: str) -> list[dict[str, Any]]:
    """The answer to a write that the plugin took for one data producer."""
    (taken,) = ncmp.got(producer)
    return [
        {
            "subJobId": taken.data_producer_job_id,
            "dmiServiceName": ncmp.address,
            "dataProducerId": producer,
        }
    ]


@in_one_loop
async def test_the_load_tests_write(ncmp: Ncmp) -> None:
    """It is answered with the one sub-job and the plugin's id of it. The plugin gets media types, destination
    and a bare attribute object as given; the value of a remove is ignored. The data job has the given id as
    its name, and its results are in the service's own bucket."""
    remove = {"path": f"{alternate_id(0)}/X=1", "op": "remove", "operationId": "3", "value": {"key": "c"}}
    name = "a job/of ONAP"
    answer = await ncmp.write(quote(name, safe=""), [*pair(0), remove])
    assert answer == Answer(200, answered(ncmp, "usual"), "application/json")
    assert ncmp.creates("usual") == [LOAD_TEST]
    (taken,) = ncmp.got("usual")
    assert [(each.op, each.operation_id) for each in taken.operations] == [
        ("add", "1-1"),
        ("merge", "1-2"),
        ("remove", "3"),
    ]
    assert [bytes(each.value) for each in taken.operations[:2]] == [b'{"key": "a"}', b'{"key": "b"}']
    job = await ncmp.job(name)
    assert (job["status"], job["destination"], job["deliveryState"]) == ("FINSHED", None, "DELIVERED")
    assert "/s3-bucket/datajobs-results?" in job["resultsuri"]
    assert len(await ncmp.service.responses(job)) == 3


@in_one_loop
async def test_the_same_id_again(ncmp: Ncmp) -> None:
    """Concurrent repeats under both paths, and a later one, are answered alike and executed once. The same id
    with another body is a 409 in NCMP's form."""
    path, body = WRITE.format("repeated"), body_of(pair(1))
    asked = [path, "/ncmp/v1" + path, path, path, path]
    answers = await asyncio.gather(*(ncmp.client.ask("POST", each, body) for each in asked))
    await ncmp.job("repeated")
    answers.append(await ncmp.client.ask("POST", path, body))
    assert [(each.status, each.body) for each in answers] == [(200, answered(ncmp, "again"))] * 6
    other = await ncmp.write("repeated", pair(1, place=2))
    assert (other.status, other.body["status"]) == (409, "409 CONFLICT")
    assert "another request" in other.body["details"]
    assert len(ncmp.got("again")) == 1


@in_one_loop
async def test_an_answer_that_a_crash_took(ncmp: Ncmp, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash between acceptance and answer, the repeat gets the answer of the job that was made."""

    async def crash(*_: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(onap_test, "awaited", crash)
        assert (await ncmp.write("crashed", pair(5))).status == 500
    await ncmp.job("crashed")
    assert (await ncmp.write("crashed", pair(5))).body == answered(ncmp, "lost")


@in_one_loop
async def test_operations_with_the_same_id(ncmp: Ncmp) -> None:
    """Each has an outcome of its own, and the plugin gets the ids as given. Such a job cannot be retried: an
    id does not say which operation has failed."""
    ncmp.plugin.script("shared", Script(refuses="bad"))
    paths_of = [f"{alternate_id(2)}/X={value}" for value in ("good", "bad", "better")]
    operations = [{"path": path, "op": "merge", "operationId": "x", "value": {}} for path in paths_of]
    assert (await ncmp.write("same-ids", operations)).status == 200
    job = await ncmp.job("same-ids")
    assert [each.operation_id for each in ncmp.got("shared")[0].operations] == ["x", "x", "x"]
    assert (job["status"], job["operations"]["succeeded"], job["operations"]["failed"]) == (
        "PARTIALLY_FAILED",
        2,
        1,
    )
    responses = await ncmp.service.responses(job)
    assert [(each["request"]["path"], each["state"]) for each in responses] == [
        (paths_of[0], "SUCCEEDED"),
        (paths_of[1], "FAILED"),
        (paths_of[2], "SUCCEEDED"),
    ]
    outcomes = await ncmp.service.call("GET", f"{JOBS}/{job['jobId']}/outcomes", expect=200)
    assert all("value" not in each for each in outcomes["items"])
    refused = await ncmp.service.call("POST", f"{JOBS}/{job['jobId']}/retry", expect=409)
    assert "same operationId" in refused["detail"]


@in_one_loop
async def test_writes_of_which_nothing_is_created(ncmp: Ncmp) -> None:
    """Without operations there is no job, and the id stays free. A job that has no sub-job, or whose create
    is refused, is answered as soon as it has failed; the plugin gave no id. A retry keeps what plugins
    get."""
    assert await ncmp.write("nothing", []) == Answer(200, [], "application/json")
    ncmp.plugin.script("refused", Script(create=(Step.REFUSE, Step.OBEY)))
    nobody = {"path": "/ManagedElement=99", "op": "merge", "operationId": "1", "value": {}}
    assert await ncmp.write("nothing", [nobody]) == Answer(200, [], "application/json")
    assert (await ncmp.job("nothing"))["operations"]["unmatched"] == 1
    sub_job = {"subJobId": None, "dmiServiceName": ncmp.address, "dataProducerId": "refused"}
    assert (await ncmp.write("refused", pair(3))).body == [sub_job]
    job = await ncmp.job("refused")
    assert job["status"] == "FAILED"
    retry = await ncmp.service.call("POST", f"{JOBS}/{job['jobId']}/retry", expect=202)
    await ncmp.service.ended(retry["jobId"])
    assert ncmp.creates("refused") == [LOAD_TEST] * 2


@in_one_loop
async def test_the_wait_is_bounded(ncmp: Ncmp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A create that is not answered delays the answer no longer than the bound: it has the sub-jobs that are
    planned by then, here without an id."""
    ncmp.plugin.script("stalls", Script(create=(Step.STALL,)))
    monkeypatch.setattr(onap_test, "CREATES_WITHIN", 0.2)
    sub_job = {"subJobId": None, "dmiServiceName": ncmp.address, "dataProducerId": "stalls"}

    async def planned() -> bool:
        answer = await ncmp.write("stalls", pair(4))
        assert answer.status == 200 and answer.body in ([], [sub_job])
        return answer.body == [sub_job]

    await until(planned)


@in_one_loop
async def test_reads_are_classified(ncmp: Ncmp) -> None:
    """By plugin and by plugin and data producer, under both paths; no plugin is called and no job is made."""
    context = '/SubNetwork[id="Europe"]/SubNetwork[id="Ireland"]/MeContext[id="MyRadioNode{0}"]'
    element = context + '/ManagedElement[id="MyManagedElement{0}"]'
    texts = [element.format(0), element.format(1) + "/NRCellDU", "//NRCellDU", element.format(99)]
    body = {
        "name": "my job",
        "jobId": "7",
        "description": "some",
        "readProperties": {
            "dataNodeSelector": "\n".join([*texts, texts[0], "&& a comment"]),
            "resultsType": "JSON",
        },
        "customProperties": {"a": "b"},
    }
    before = len(ncmp.plugin.received)
    for path in (READ, "/ncmp/v1" + READ):
        answer = await ncmp.client.ask("POST", path, body)
        assert answer.status == 200, answer
        assert answer.body == {
            "broadcastSelectors": ["//NRCellDU"],
            "dmiSelectors": {
                ncmp.address: {
                    f"{ncmp.address}#usual": [texts[0]],
                    f"{ncmp.address}#again": [texts[1]],
                }
            },
            "notReadySelectors": [],
            "errorSelectors": [texts[3]],
        }
    assert [each for each in list(ncmp.plugin.received)[before:] if "cmreadJob" in each.path] == []
    body["readProperties"] = {"dataNodeSelector": " "}
    assert (await ncmp.client.ask("POST", READ, body)).body["errorSelectors"] == []


BAD: Final[dict[str, tuple[str, Any, int, str]]] = {
    "no JSON": (WRITE.format(1), b"{", 400, ""),
    "a list": (WRITE.format(1), [], 400, ""),
    "no metadata": (WRITE.format(1), {"dataJobWriteRequest": {"data": []}}, 400, "#/dataJobMetadata"),
    "no operations": (WRITE.format(1), body_of(None), 400, "#/dataJobWriteRequest/data: is missing"),
    "no list": (WRITE.format(1), body_of({}), 400, "#/dataJobWriteRequest/data: must be a list"),
    "a bad op": (
        WRITE.format(1),
        body_of([pair(1)[0] | {"op": "create"}]),
        400,
        "#/dataJobWriteRequest/data/0/op",
    ),
    "an empty id": (
        WRITE.format(1),
        body_of([pair(1)[0] | {"operationId": ""}, pair(1)[1]]),
        400,
        "#/dataJobWriteRequest/data/0/operationId",
    ),
    "a read": (
        WRITE.format(1),
        body_of([{"op": "read", "path": "/A=1"}]),
        400,
        "#/dataJobWriteRequest/data/0/op",
    ),
    "a long media type": (
        WRITE.format(1),
        body_of(pair(1), dataContentType="x" * 300),
        400,
        "#/dataJobMetadata/dataContentType",
    ),
    "a destination that cannot be stored": (
        WRITE.format(1),
        body_of(pair(1), destination="a\0b"),
        400,
        "#/dataJobMetadata/destination",
    ),
    "an id that cannot be stored": (WRITE.format("a%00b"), body_of(pair(1)), 400, "dataJobId"),
    "an id that is no text": (WRITE.format("%FF"), body_of(pair(1)), 400, "dataJobId"),
    "a long id": (WRITE.format("x" * 300), body_of(pair(1)), 400, "dataJobId"),
    "too many": (
        WRITE.format(1),
        body_of(pair(1) + pair(1)[:1]),
        413,
        "at most 2 operations",
    ),
    "no selector": (
        READ,
        {"readProperties": {"dataNodeSelector": "&&"}},
        400,
        "#/readProperties/dataNodeSelector",
    ),
    "a bad selector": (READ, {"readProperties": {"dataNodeSelector": "x"}}, 400, "here --> x"),
    "no properties": (READ, {}, 400, "#/readProperties"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    postgres_url: str, whole_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Api, dict[str, dict[str, str]]]]:
    """An API with the test interface and tokens, and the headers of each role."""
    folder = tmp_path_factory.mktemp("api")
    tokens = folder / "tokens"
    headers = {
        role: {"Authorization": f"Bearer {add(tokens, role, role)}", "Accept": "application/json"}
        for role in (Role.READ, Role.SUBMIT)
    }
    async with copied_database(postgres_url, whole_database) as url:
        database = await Database.open(url)
        try:
            changes = {"onap_test_api": True, "tokens_file": tokens, "max_operations": 2}
            async with northbound_api(database, folder, free_port(), **changes) as api:
                yield api, headers
        finally:
            await database.close()


def ncmp_error(answer: ApiAnswer) -> str:
    """The details of an error in NCMP's form."""
    assert answer.headers["Content-Type"] == "application/json"
    body = answer.json()
    assert list(body) == ["status", "message", "details"]
    assert body["status"].startswith(f"{answer.status} ")
    details: str = body["details"]
    return details


@in_one_loop
@pytest.mark.parametrize("case", BAD)
async def test_requests_that_are_refused(guarded: tuple[Api, dict[str, dict[str, str]]], case: str) -> None:
    """The error has NCMP's form and names the place in the body that came; nothing is left of the request."""
    api, headers = guarded
    path, body, status, word = BAD[case]
    answer = await api.post(path, body, headers=headers[Role.SUBMIT])
    assert answer.status == status, answer.body
    assert word in ncmp_error(answer)
    assert await api.left_behind() == {"data_job": 0, "job_request": 0, "idempotency_key": 0}


@in_one_loop
async def test_who_may_ask(guarded: tuple[Api, dict[str, dict[str, str]]]) -> None:
    """The role submit writes; the role read has selectors classified only; without a token nobody does."""
    api, headers = guarded
    read = {"readProperties": {}}
    assert (await api.post(WRITE.format(1), body_of([]), headers=headers[Role.SUBMIT])).status == 200
    assert (await api.post(READ, read, headers=headers[Role.READ])).status == 200
    refused = await api.post(WRITE.format(1), body_of([]), headers=headers[Role.READ])
    assert (refused.status, "submit" in ncmp_error(refused)) == (403, True)
    for path in (WRITE.format(1), READ):
        assert (await api.post(path, read, headers={"Accept": "*/*"})).status == 401


async def test_it_is_off_by_default(database: Database, tmp_path: Path, free_port: int) -> None:
    """Without the setting its paths are a 404, and the OpenAPI document does not have them."""
    async with northbound_api(database, tmp_path, free_port) as api:
        for path in (WRITE.format(1), READ, "/ncmp/v1" + READ):
            answer = await api.post(path, body_of(pair(1)), headers={"Accept": "*/*"})
            assert answer.status == 404, answer.body
            ncmp_error(answer)
        document = (await api.get(paths.SCHEMA)).json()
        assert [each for each in document["paths"] if "do-not-use" in each] == []
