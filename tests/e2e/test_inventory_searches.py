# SPDX-License-Identifier: Apache-2.0
"""ONAP's own searches, sent to a running service: the bodies of its load test and of its documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from ran_datajobs.http.ports import free_port
from tests.kit.commands import started

DMI = "http://127.0.0.1:9"
HANDLES = 2000
NODE = "/SubNetwork=Europe/SubNetwork=Ireland/MeContext=MyRadioNode{0}/ManagedElement=MyManagedElement{0}"
TAGS = ("tagA", "tagB", "tagC", "tagD", "tagE")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service with the handles of the load test."""
    port, folder = free_port(), tmp_path_factory.mktemp("service")
    arguments = ("serve", "--roles", "api", "--port", str(port), "--data-dir", folder / "data")
    with started(*arguments, lines=folder / "lines") as running:
        address = f"http://127.0.0.1:{port}"
        running.until_ready(address)
        assert call(address, "/ncmpInventory/v1/ch", registration()) == (200, None)
        yield address


def registration() -> dict[str, Any]:
    """A batch of the load test: numbers in the properties, five module set tags."""
    return {
        "dmiPlugin": DMI,
        "createdCmHandles": [
            {
                "cmHandle": f"ch-{n}",
                "alternateId": NODE.format(n),
                "moduleSetTag": TAGS[n % len(TAGS)],
                "dataProducerIdentifier": "some-data-producer-id",
                "cmHandleProperties": {
                    "segmentId": n,
                    "networkSegment": f"Region=NorthAmerica,Segment={n % 10 + 1}",
                    "deviceIdentifier": f"Element=RadioBaseStation_5G_{n + 1000}",
                    "hardwareVersion": f"HW-{TAGS[n % len(TAGS)]}",
                    "softwareVersion": f"Firmware_{TAGS[n % len(TAGS)]}",
                    "syncStatus": "ACTIVE",
                    "nodeCategory": "VirtualNode",
                },
                "publicCmHandleProperties": {"systemId": n, "systemName": "ncmp"},
            }
            for n in range(1, HANDLES + 1)
        ],
    }


def call(address: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and decoded body of the answer; a POST if there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(address + path, data, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=60) as answer:
            status, text = answer.status, answer.read()
    except HTTPError as error:
        status, text = error.code, error.read()
    return status, json.loads(text) if text else None


def one(name: str, *parameters: dict[str, str]) -> dict[str, Any]:
    """A body with one condition."""
    return {"cmHandleQueryParameters": [{"conditionName": name, "conditionParameters": list(parameters)}]}


LOAD_TEST = {
    "no-filter": ({"cmHandleQueryParameters": []}, HANDLES),
    "property": (one("hasAllProperties", {"systemName": "ncmp"}), HANDLES),
    "trust-level": (one("cmHandleWithTrustLevel", {"trustLevel": "COMPLETE"}), HANDLES),
    "cps-path-for-ready-cm-handles": (
        one("cmHandleWithCpsPath", {"cpsPath": "//state[@cm-handle-state='READY']"}),
        HANDLES,
    ),
}


@pytest.mark.parametrize("scenario", LOAD_TEST)
def test_the_searches_of_the_load_test_find_all_handles(url: str, scenario: str) -> None:
    """The load test sends ``outputAlternateId=true`` with every search, and counts what it gets."""
    body, count = LOAD_TEST[scenario]
    status, ids = call(url, "/ncmp/v1/ch/id-searches?outputAlternateId=true", body)
    assert status == 200
    assert {*ids} == {NODE.format(n) for n in range(1, HANDLES + 1)}
    for version in ("v1", "v2"):
        status, handles = call(url, f"/ncmp/{version}/ch/searches?outputAlternateId=true", body)
        assert (status, len(handles)) == (200, count)
        assert {each["alternateId"] for each in handles} == {*ids}
        assert all("segmentId" not in json.dumps(each) for each in handles)


def test_the_module_of_nobody_finds_no_handle(url: str) -> None:
    """The plugin is not there to be asked for modules."""
    assert call(url, "/ncmp/v1/ch/id-searches", one("hasAllModules", {"moduleName": "module100"})) == (
        200,
        [],
    )


DOCUMENTED = {
    "hasAllProperties": (
        one("hasAllProperties", {"Color": "yellow"}, {"Shape": "circle"}, {"Size": "small"}),
        "/ncmp/v1/ch/searches",
        [],
    ),
    "hasAllAdditionalProperties": (
        one("hasAllAdditionalProperties", {"segmentId": "7"}, {"syncStatus": "ACTIVE"}),
        "/ncmpInventory/v1/ch/searches",
        ["ch-7"],
    ),
    "locked": (
        one("cmHandleWithCpsPath", {"cpsPath": "//state[@cm-handle-state='LOCKED']"}),
        "/ncmp/v1/ch/id-searches",
        [],
    ),
    "data sync": (
        one("cmHandleWithCpsPath", {"cpsPath": "//state[@data-sync-enabled='true']"}),
        "/ncmp/v1/ch/id-searches",
        [],
    ),
    "alternate id": (
        one("cmHandleWithCpsPath", {"cpsPath": f"//cm-handles[@alternate-id='{NODE.format(3)}']"}),
        "/ncmp/v1/ch/id-searches",
        ["ch-3"],
    ),
    "contains": (
        one("cmHandleWithCpsPath", {"cpsPath": "//cm-handles[contains(@alternate-id,'Node1999/')]"}),
        "/ncmp/v1/ch/id-searches",
        ["ch-1999"],
    ),
    "public property": (
        one("cmHandleWithCpsPath", {"cpsPath": "//public-properties[@name='systemId' and @value='5']"}),
        "/ncmp/v1/ch/id-searches",
        ["ch-5"],
    ),
    "private property": (
        one("cmHandleWithCpsPath", {"cpsPath": "//additional-properties[@name='segmentId' and @value='5']"}),
        "/ncmpInventory/v1/ch/searches",
        [],
    ),
    "of another plugin": (
        one("cmHandleWithDmiPlugin", {"dmiPluginName": "my-dmi-plugin"}),
        "/ncmpInventory/v1/ch/searches",
        [],
    ),
}


@pytest.mark.parametrize("example", DOCUMENTED)
def test_the_documented_conditions_are_answered(url: str, example: str) -> None:
    """With a list of ids, or of nothing."""
    body, path, found = DOCUMENTED[example]
    assert call(url, path, body) == (200, found)


def test_a_handle_is_looked_up(url: str) -> None:
    """By id, by alternate id, by the name of an object below it; with its state and its properties."""
    expected = {
        "cmHandle": "ch-7",
        "alternateId": NODE.format(7),
        "moduleSetTag": "tagC",
        "dataProducerIdentifier": "some-data-producer-id",
        "trustLevel": "COMPLETE",
    }
    reference = quote(NODE.format(7), safe="")
    assert call(url, f"/ncmp/v2/ch/{reference}") == (200, expected)
    status, details = call(url, "/ncmp/v1/ch/ch-7")
    assert status == 200
    assert details["publicCmHandleProperties"] == [{"systemId": "7", "systemName": "ncmp"}]
    assert {name: details[name] for name in expected} == expected
    assert details["state"]["cmHandleState"] == "READY"
    by_name = f"/ncmpInventory/v1/ch?distinguishedName={quote(NODE.format(7) + '/GNBDUFunction=1')}"
    assert call(url, by_name) == (200, details)
    assert call(url, f"{by_name}&outputDmiProperties=true")[1]["cmHandleProperties"]["segmentId"] == "7"
    assert call(url, f"/ncmp/v1/ch/{reference}/state") == (200, {"state": details["state"]})
    assert (
        call(url, f"/ncmpInventory/v1/ch/cmHandles?dmi-plugin-identifier={quote(DMI)}")[1].count("ch-7") == 1
    )


def test_refusals_have_onaps_error_body(url: str) -> None:
    """``status``, ``message`` and ``details``; no more."""
    status, error = call(url, "/ncmp/v1/ch/unknown")
    assert status == 404
    assert error == {
        "status": "404 NOT_FOUND",
        "message": "Cm handle not found",
        "details": "No cm handles found with reference unknown",
    }
    for path in ("/ncmp/v1/ch/id-searches", "/ncmp/v1/ch/searches", "/ncmpInventory/v1/ch/searches"):
        status, error = call(url, path, one("hasAllColours", {"a": "b"}))
        assert (status, error["status"]) == (400, "400 BAD_REQUEST")
        assert "hasAllProperties" in error["details"]
        assert error.keys() == {"status", "message", "details"}
    status, error = call(url, "/ncmp/v1/ch/id-searches", one("hasAllAdditionalProperties", {"a": "b"}))
    assert status == 400
    status, error = call(
        url, "/ncmp/v1/ch/id-searches", one("cmHandleWithCpsPath", {"cpsPath": "/bookstore"})
    )
    assert status == 400
    assert "//state[@cm-handle-state='READY']" in error["details"]
