# SPDX-License-Identifier: Apache-2.0
"""ONAP's requests of the inventory, unmodified, over real HTTP: the same statuses and bodies as at NCMP, or
the difference that docs/onap.md documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.onap_client import (
    MODULE_SET_TAGS,
    PRODUCER,
    READY,
    Answer,
    alternate_id,
    conditions,
    cps_path,
    load_test_handle,
    onap_client,
)
from tests.kit.onap_service import Ncmp, served_ncmp
from tests.kit.whole_service import JOBS, whole_service
from tests.tiers import sampled

HANDLES = range(1, 12)


@pytest.fixture
async def ncmp(database_url: str, tmp_path: Path) -> AsyncIterator[Ncmp]:
    """A service with eleven handles."""
    async with served_ncmp(database_url, tmp_path, HANDLES) as served:
        yield served


def refused(answer: Answer, status: int, word: str, *, message: str | None = None) -> None:
    """Assert an error in the form of NCMP, whose details contain ``word``."""
    assert answer.status == status, answer
    assert answer.media_type == "application/json"
    assert set(answer.body) == {"status", "message", "details"}
    assert answer.body["status"].startswith(f"{status} ")
    assert word in answer.body["details"]
    if message is not None:
        assert answer.body["message"] == message


@pytest.mark.parametrize("number", sampled([500, 50_000], {500}))
async def test_the_load_test_registers_polls_and_removes(
    database_url: str, tmp_path: Path, number: int
) -> None:
    """Batches of at most 2,000 handles with properties that are numbers are taken, each with 200. The search
    for READY handles then finds all of them, with their alternate ids; after the removal it finds none."""
    batch = min(2000, number // 5)
    async with served_ncmp(database_url, tmp_path) as (_, client, plugin):
        for start in range(1, number + 1, batch):
            await client.registered(plugin, map(load_test_handle, range(start, start + batch)))
        await client.until_ready(number)
        names = await client.ids(cps_path(READY), outputAlternateId="true")
        assert set(names) == {alternate_id(n) for n in range(1, number + 1)}
        assert len(names) == number
        for start in range(1, number + 1, batch):
            removed = [f"ch-{n}" for n in range(start, start + batch)]
            assert (await client.register(plugin, removedCmHandles=removed))[:2] == (200, None)
        assert await client.ids(cps_path(READY)) == []


def lightweight(number: int) -> dict[str, Any]:
    """A handle as the second version of the searches shows it."""
    return {
        "cmHandle": f"ch-{number}",
        "alternateId": alternate_id(number),
        "moduleSetTag": MODULE_SET_TAGS[number % 5],
        "dataProducerIdentifier": PRODUCER,
        "trustLevel": "COMPLETE",
    }


def whole(number: int) -> dict[str, Any]:
    """A handle as the first version shows it, without its state."""
    return lightweight(number) | {
        "publicCmHandleProperties": [{"systemId": str(number), "systemName": "ncmp"}]
    }


def stateless(handle: dict[str, Any]) -> dict[str, Any]:
    """A handle without its state, which is checked here."""
    state = handle.pop("state")
    assert state["cmHandleState"] == "READY"
    assert state["dataSyncEnabled"] is False
    assert set(state["dataSyncState"]) == {"operational"}
    assert set(state["dataSyncState"]["operational"]) >= {"syncState"}
    assert state["lastUpdateTime"].endswith("+0000")
    return handle


SEARCHES: list[tuple[Any, set[int]]] = [
    ({"cmHandleQueryParameters": []}, set(HANDLES)),
    ({}, set(HANDLES)),
    (conditions(("hasAllProperties", [{"systemName": "ncmp"}])), set(HANDLES)),
    (conditions(("hasAllProperties", [{"systemName": "ncmp"}, {"systemId": "7"}])), {7}),
    (conditions(("hasAllProperties", [{"segmentId": "7"}])), set()),
    (conditions(("cmHandleWithTrustLevel", [{"trustLevel": "COMPLETE"}])), set(HANDLES)),
    (conditions(("cmHandleWithTrustLevel", [{"trustLevel": "NONE"}])), set()),
    (cps_path(READY), set(HANDLES)),
    (cps_path("//state[@cm-handle-state='LOCKED']"), set()),
    (cps_path("//public-properties[@name='systemId' and @value='3']"), {3}),
    (cps_path(f"//cm-handles[@alternate-id='{alternate_id(5)}']"), {5}),
    (cps_path("//cm-handles[contains(@alternate-id,'MyRadioNode1')]"), {1, 10, 11}),
    (
        conditions(
            ("hasAllProperties", [{"systemName": "ncmp"}]),
            ("cmHandleWithCpsPath", [{"cpsPath": "//public-properties[@name='systemId' and @value='3']"}]),
        ),
        {3},
    ),
]


async def test_searches(ncmp: Ncmp) -> None:
    """Each condition finds the same handles in every search: ids, alternate ids, objects of both versions,
    northbound and southbound."""
    for body, numbers in SEARCHES:
        names = {f"ch-{n}" for n in numbers}
        alternates = {alternate_id(n) for n in numbers}
        for path in ("/ncmp/v1/ch/id-searches", "/ncmpInventory/v1/ch/searches"):
            assert set(await ncmp.client.ids(body, path)) == names, body
            assert set(await ncmp.client.ids(body, path, outputAlternateId="false")) == names
            assert set(await ncmp.client.ids(body, path, outputAlternateId="true")) == alternates
        for path in ("/ncmp/v1/ch/searches", "/ncmpInventory/v1/ch/searchCmHandles"):
            answer = await ncmp.client.ask("POST", path, body)
            assert answer.status == 200, answer
            found = {each["cmHandle"]: stateless(each) for each in answer.body}
            assert found == {f"ch-{n}": whole(n) for n in numbers}
        for path in ("/ncmp/v2/ch/searches", "/ncmpInventory/v2/ch/searches"):
            answer = await ncmp.client.ask("POST", path, body)
            assert answer.status == 200, answer
            assert {each["cmHandle"]: each for each in answer.body} == {
                f"ch-{n}": lightweight(n) for n in numbers
            }


async def test_searches_of_plugins(ncmp: Ncmp) -> None:
    """Private properties and the plugin are conditions southbound, and a 400 northbound; private properties
    are shown where they are asked for, and nowhere else."""
    private = conditions(("hasAllAdditionalProperties", [{"segmentId": "7"}]))
    of_plugin = conditions(("cmHandleWithDmiPlugin", [{"dmiPluginName": ncmp.plugin}]))
    inventory = "/ncmpInventory/v1/ch"
    assert await ncmp.client.ids(private, f"{inventory}/searches") == ["ch-7"]
    assert set(await ncmp.client.ids(of_plugin, f"{inventory}/searches")) == {f"ch-{n}" for n in HANDLES}
    for body in (private, of_plugin):
        refused(await ncmp.client.ask("POST", "/ncmp/v1/ch/id-searches", body), 400, "")
    shown = await ncmp.client.ask("POST", f"{inventory}/searchCmHandles?outputDmiProperties=true", private)
    (handle,) = shown.body
    assert handle["cmHandleProperties"] == {
        name: str(value) for name, value in load_test_handle(7)["cmHandleProperties"].items()
    }
    hidden = await ncmp.client.ask("POST", f"{inventory}/searchCmHandles", private)
    assert "cmHandleProperties" not in hidden.body[0]
    found = await ncmp.client.ask("GET", f"{inventory}/cmHandles?dmi-plugin-identifier={ncmp.plugin}")
    assert set(found.body) == {f"ch-{n}" for n in HANDLES}
    named = f"{inventory}/cmHandles?dmi-plugin-identifier={ncmp.plugin}&outputAlternateId=true"
    assert set((await ncmp.client.ask("GET", named)).body) == {alternate_id(n) for n in HANDLES}
    nobody = await ncmp.client.ask("GET", f"{inventory}/cmHandles?dmi-plugin-identifier=http://nobody")
    assert nobody[:2] == (200, [])


async def test_look_ups(ncmp: Ncmp) -> None:
    """A handle is found by its id and by its alternate id, which is percent-encoded, with its parts."""
    for reference in ("ch-3", alternate_id(3)):
        answer = await ncmp.client.of_handle(reference)
        assert answer.status == 200, answer
        state = answer.body["state"]
        assert stateless(answer.body) == whole(3)
        assert (await ncmp.client.of_handle(reference, "/state"))[:2] == (200, {"state": state})
        properties = {"publicCmHandleProperties": [{"systemId": "3", "systemName": "ncmp"}]}
        assert (await ncmp.client.of_handle(reference, "/properties"))[:2] == (200, properties)
        assert (await ncmp.client.of_handle(reference, version="v2"))[:2] == (200, lightweight(3))
    for name in (alternate_id(3), f"{alternate_id(3)}/GNBDUFunction=1/NRCellDU=2"):
        path = f"/ncmpInventory/v1/ch?distinguishedName={name.replace('=', '%3D')}"
        answer = await ncmp.client.ask("GET", path)
        assert answer.status == 200, answer
        assert stateless(answer.body) == whole(3)
        answer = await ncmp.client.ask("GET", f"{path}&outputDmiProperties=true")
        assert answer.body["cmHandleProperties"]["segmentId"] == "3"


async def test_a_handle_that_is_not_there(ncmp: Ncmp) -> None:
    """NCMP's 404 for each way to ask for one."""
    for version, what in (("v1", ""), ("v1", "/properties"), ("v1", "/state"), ("v2", "")):
        answer = await ncmp.client.of_handle("nobody", what, version)
        refused(answer, 404, "No cm handles found with reference nobody", message="Cm handle not found")
    answer = await ncmp.client.ask("GET", "/ncmpInventory/v1/ch?distinguishedName=/ManagedElement%3D99")
    refused(answer, 404, "")


@pytest.mark.parametrize(
    "body",
    [
        conditions(("hasAllOfIt", [{"a": "b"}])),
        conditions(("", [])),
        cps_path("//state[@cm-handle-state="),
        cps_path("state"),
        conditions(("cmHandleWithCpsPath", [{"path": READY}])),
        conditions(("hasAllProperties", [{"": "x"}])),
        {"cmHandleQueryParameters": "all"},
        {"cmHandleQueryParameters": [{"conditionName": 7}]},
        [],
    ],
)
async def test_searches_that_are_refused(ncmp: Ncmp, body: Any) -> None:
    """A condition that is unknown or cannot be read is a 400 in NCMP's form, in every search."""
    for path in ("/ncmp/v1/ch/id-searches", "/ncmp/v1/ch/searches", "/ncmp/v2/ch/searches"):
        refused(await ncmp.client.ask("POST", path, body), 400, "")
    for path in ("v1/ch/searches", "v1/ch/searchCmHandles", "v2/ch/searches"):
        refused(await ncmp.client.ask("POST", f"/ncmpInventory/{path}", body), 400, "")


async def failures(answer: Answer, status: int = 207) -> dict[str, list[tuple[str, str]]]:
    """Handle and code of each failure of a registration, by the name of its list."""
    assert answer.status == status, answer
    assert answer.media_type == "application/json"
    return {
        name: [(each["cmHandle"], each["errorCode"]) for each in failed]
        for name, failed in answer.body.items()
        if failed
    }


async def test_registrations_that_fail_in_part(ncmp: Ncmp) -> None:
    """ONAP's lists and codes. The status is 207 where NCMP has 500; the other handles are taken."""
    answer = await ncmp.client.register(
        ncmp.plugin,
        createdCmHandles=[
            load_test_handle(100) | {"alternateId": alternate_id(1)},
            load_test_handle(101) | {"cmHandle": "a b/c"},
            load_test_handle(1) | {"dataProducerIdentifier": "other"},
            load_test_handle(102),
        ],
        updatedCmHandles=[{"cmHandle": "nobody"}],
        removedCmHandles=["nobody-2"],
        upgradedCmHandles={"cmHandles": ["nobody-3", "ch-2"], "moduleSetTag": "tagZ"},
    )
    assert await failures(answer) == {
        "failedCreatedCmHandles": [("ch-100", "109"), ("a b/c", "110"), ("ch-1", "109")],
        "failedUpdatedCmHandles": [("nobody", "100")],
        "failedRemovedCmHandles": [("nobody-2", "100")],
        "failedUpgradeCmHandles": [("nobody-3", "100")],
    }
    (missing,) = answer.body["failedUpdatedCmHandles"]
    assert missing["errorText"] == "cm handle reference(s) not found"
    assert (await ncmp.client.of_handle("ch-102")).status == 200
    assert (await ncmp.client.of_handle("ch-2")).body["moduleSetTag"] == "tagZ"


async def test_updates(ncmp: Ncmp) -> None:
    """What an update does not name stays; null and ``~`` remove a property, numbers become texts, and the
    data producer can change."""
    answer = await ncmp.client.register(
        ncmp.plugin,
        updatedCmHandles=[
            {
                "cmHandle": "ch-1",
                "publicCmHandleProperties": {"systemId": None, "systemName": "~", "level": 5, "on": True},
                "cmHandleProperties": {"segmentId": 99},
                "dataProducerIdentifier": "another-producer",
            }
        ],
    )
    assert answer[:2] == (200, None)
    found = (await ncmp.client.of_handle("ch-1")).body
    assert found["publicCmHandleProperties"] == [{"level": "5", "on": "true"}]
    assert found["dataProducerIdentifier"] == "another-producer"
    assert (found["alternateId"], found["moduleSetTag"]) == (alternate_id(1), MODULE_SET_TAGS[1])
    body = conditions(("hasAllAdditionalProperties", [{"segmentId": "99"}, {"syncStatus": "ACTIVE"}]))
    assert await ncmp.client.ids(body, "/ncmpInventory/v1/ch/searches") == ["ch-1"]


async def test_a_registration_of_nothing(ncmp: Ncmp) -> None:
    """As at NCMP it is taken, and the same one again; here a repeated create is a success as well, where NCMP
    has 500 and 109."""
    assert (await ncmp.client.register(ncmp.plugin))[:2] == (200, None)
    assert (await ncmp.client.ask("POST", "/ncmpInventory/v1/ch", {}))[:2] == (200, None)
    await ncmp.client.registered(ncmp.plugin, map(load_test_handle, HANDLES))


async def test_the_status_of_ncmp_for_a_failure(database_url: str, tmp_path: Path) -> None:
    """With the setting for it, a registration that failed in part has NCMP's 500."""
    async with (
        whole_service(database_url, tmp_path, registration_error_500="1") as service,
        onap_client(service.root) as client,
    ):
        answer = await client.register("http://127.0.0.1:9", removedCmHandles=["nobody"])
        assert await failures(answer, 500) == {"failedRemovedCmHandles": [("nobody", "100")]}


async def test_the_load_test_writes(ncmp: Ncmp) -> None:
    """The operations of the load test (``add`` of bare attributes and ``merge`` below a handle, and
    ``remove`` with a value) end well at the reference plugin, in the one sub-job of their data producer, with
    the media types and the destination of the load test, and with ids that are repeated."""
    value = {"key": "some-value"}
    operations = [
        {"op": op, "path": f"{alternate_id(n)}/SomeChild=child-1", "operationId": f"1-{op}", "value": value}
        for n in HANDLES
        for op in ("add", "merge", "remove")
    ]
    metadata = {
        "destination": "device/managed-element-collection",
        "dataAcceptType": "application/json",
        "dataContentType": "application/merge-patch+json",
    }
    body = {"dataJobMetadata": metadata, "dataJobWriteRequest": {"data": operations}}
    answer = await ncmp.client.ask("POST", "/do-not-use/dataJobs/a-job/write", body)
    (listed,) = (await ncmp.service.call("GET", JOBS, expect=200))["items"]
    job = await ncmp.service.ended(listed["jobId"])
    assert (job["name"], job["status"], job["operations"]["succeeded"]) == (
        "a-job",
        "FINSHED",
        len(operations),
    )
    (sub_job,) = await ncmp.service.sub_jobs(job["jobId"])
    expected = {
        "subJobId": sub_job["dataProducerJobId"],
        "dmiServiceName": ncmp.plugin,
        "dataProducerId": PRODUCER,
    }
    assert answer == Answer(200, [expected], "application/json")
