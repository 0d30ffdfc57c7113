# SPDX-License-Identifier: Apache-2.0
"""Module sets over real HTTP: a zip of YANG modules becomes the class model of a module set tag."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ran_datajobs.api import paths
from ran_datajobs.errors import InvalidRequest
from ran_datajobs.inventory import module_reader
from ran_datajobs.inventory.module_sets import StoredModuleSets
from ran_datajobs.nrm.module_set import encode
from ran_datajobs.nrm.yang import read
from ran_datajobs.store import module_sets
from ran_datajobs.store.database import Database
from tests.kit.api_service import Answer, Api, northbound_api
from tests.kit.plugins.scripted import ScriptedPlugin
from tests.kit.whole_service import whole_service
from tests.kit.yang import modules, zipped


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API, whose inventory is empty."""
    async with northbound_api(database, tmp_path, free_port) as running:
        yield running


async def put(api: Api, path: str, body: bytes | io.BytesIO, headers: dict[str, str] | None = None) -> Answer:
    """PUT a zip."""
    headers = {"Content-Type": "application/zip"} | (headers or {})
    return await api.call("PUT", path, data=body, headers=headers)


async def test_a_module_set_is_put_shown_and_deleted(api: Api) -> None:
    """201 for a new tag and 200 for one that has modules. A fault is named with its file and line, in RFC
    9457's problem and in NCMP's error body, and what the tag has stays."""
    path = paths.module_set("vendor/2")
    answer = await put(api, path, zipped(modules()))
    assert answer.status == 201, answer.body
    shown = answer.json()
    assert shown["moduleSetTag"] == "vendor/2"
    assert {"ManagedElement", "NRCellDU", "xvFan"} < {*shown["classes"]}
    assert {"moduleName": "x-cell", "revision": "2026-02-02"} in shown["modules"]
    fewer = {name: text for name, text in modules().items() if name != "x-vendor.yang"}
    assert (await put(api, path, zipped(fewer))).status == 200
    assert "xvFan" not in (await api.get(path)).json()["classes"]

    broken = modules()
    line = broken["x-cell.yang"].split("type xt:State;")[0].count("\n") + 1
    broken["x-cell.yang"] = broken["x-cell.yang"].replace("type xt:State;", "type xt:Staat;")
    answer = await put(api, path, zipped(broken))
    assert answer.status == 400
    detail = "the typedef xt:Staat is not defined"
    assert answer.problem["errors"] == [{"pointer": f"x-cell.yang:{line}", "detail": detail}]
    ncmp = await put(api, path, b"PK", {"Accept": "application/json"})
    assert ncmp.json() == {
        "status": "400 BAD_REQUEST",
        "message": "Bad Request",
        "details": "the body is not a zip that can be read: File is not a zip file",
    }
    assert (await api.get(path)).json()["moduleSetTag"] == "vendor/2"

    assert (await api.call("DELETE", path)).status == 204
    assert await api.rows("select from class_model") == []
    for method in ("DELETE", "GET"):
        assert (await api.call(method, path)).problem["status"] == 404


async def test_requests_that_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another media type or encoding, a body that is too large, a tag that is not allowed."""
    for headers in ({"Content-Type": "application/json"}, {"Content-Encoding": "gzip"}):
        assert (await put(api, paths.module_set("t"), b"PK", headers)).problem["status"] == 415
    large = io.BytesIO(bytes(module_reader.MAX_ZIP + 1))
    assert (await put(api, paths.module_set("t"), large)).problem["status"] == 413
    for tag in ("a" * 2000, "a\0b", " a"):
        path = paths.module_set(tag)
        for answer in (await put(api, path, b"PK"), await api.get(path)):
            assert answer.problem["status"] == 400, answer.body
    monkeypatch.setattr(module_sets, "MOST_TAGS", 0)
    answer = await put(api, paths.module_set("t"), zipped(modules()))
    assert answer.problem["status"] == 409
    assert await api.rows("select from class_model") == []


async def test_a_model_is_stored_and_loaded_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of its tags; a change is seen by the next look-up of every process."""
    files = modules()
    whole = encode(read(files))
    del files["x-vendor.yang"]
    fewer = encode(read(files))
    assert [await module_sets.put(database, tag, whole) for tag in ("a", "b", "a")] == [True, True, False]
    assert len(await database.fetch("select from class_model")) == 1
    one, other = StoredModuleSets(database), StoredModuleSets(database)
    before = await one.by_tag({"a", "b", "unknown"})
    assert before.keys() == {"a", "b"} and before["a"] is before["b"]
    assert await one.by_tag(set()) == {}
    assert await module_sets.put(database, "b", fewer) is False
    after = await one.by_tag({"a", "b"})
    assert after["a"] is before["a"] and after["b"] is not before["b"]
    assert {*before["b"].model} - {*(await other.by_tag({"b"}))["b"].model} == {"xvFan"}

    def change(number: int) -> Awaitable[bool | None]:
        tag = f"t{number % 3}"
        if number % 4:
            return module_sets.put(database, tag, (whole, fewer)[number % 2])
        return module_sets.remove(database, tag)

    await asyncio.gather(*map(change, range(24)))
    for tag in ("t0", "t1", "t2"):
        await module_sets.remove(database, tag)
    assert len(await database.fetch("select from class_model")) == 2

    monkeypatch.setattr(module_sets, "MOST_MODELS", 2)
    assert await module_sets.put(database, "c", whole) is True
    assert await module_sets.put(database, "d", b"{}") is None
    assert await module_sets.model_of(database, "d") is None
    monkeypatch.setattr(module_sets, "MOST_MODELS", 1)
    await one.by_tag({"a", "b"})
    assert len(one._kept) == 1
    removed = [await module_sets.remove(database, tag) for tag in ("b", "b", "a", "c")]
    assert removed == [True, False, True, True]
    assert await database.fetch("select from class_model") == []


async def test_reading_ends_with_its_limits_and_with_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time-out and a cancel end the process, and the next reading has its turn."""
    reader = module_reader.ModuleReader()
    reading = asyncio.create_task(reader.read(zipped(modules())))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with monkeypatch.context() as patched, pytest.raises(InvalidRequest, match="cannot be read within"):
        patched.setattr(module_reader, "READ_WITHIN", 0.01)
        await reader.read(zipped(modules()))
    with pytest.raises(InvalidRequest, match=r"a\.yang:1: the type x is derived from itself"):
        text = "module a { prefix a; typedef x { type x; } leaf y { type x; } }"
        await reader.read(zipped({"a.yang": text}))


async def test_a_job_is_validated_by_the_modules_of_its_handle(database_url: str, tmp_path: Path) -> None:
    """In a dry run and by a worker, as soon as the modules are put: what they allow or require is not what
    the model of this package does. Without modules that model holds."""
    element = "/SubNetwork=1/ManagedElement={}"
    cell = element + "/GNBDUFunction=1/NRCellDU=1"
    whole = {"nRPCI": 1, "cellKind": "PICO", "energyLevel": 7, "needed": {"inside": True}}
    plmn = {"mcc": "001", "mnc": "01"}
    whole |= {"pLMNInfoList": [plmn], "pLMNId": plmn, "nRSectorCarrierRef": [element.format(1)]}
    wanted = [
        ("add", "", {"id": "1", "objectClass": "NRCellDU", "attributes": whole}, None),
        ("replace", "#/attributes/nRPCI", 600, "NEW_DATA_NODE_VALUE_INVALID"),  # valid in TS 28.541
        ("replace", "#/attributes/cellKind", "MACRO", "TARGET_DATA_NODE_INVARIANT"),
        ("replace", "#/attributes/energyLevel", 99, None),
        ("replace", "#/attributes/energyLevel", 101, "NEW_DATA_NODE_VALUE_INVALID"),
        ("replace", "#/attributes/operationalState", "ENABLED", "TARGET_DATA_NODE_NOT_WRITABLE"),
        ("replace", "#/attributes/unheardOf", 1, None),
    ]

    def body(number: int) -> dict[str, Any]:
        operations = [
            {"op": op, "path": cell.format(number) + below, "operationId": str(place), "value": value}
            for place, (op, below, value, _) in enumerate(wanted)
        ]
        return {"validation": "STRICT", "data": operations}

    plugin = ScriptedPlugin()
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        for number, tag in ((1, "vendor"), (2, "other")):
            handle = {"cmHandle": f"ch-{number}", "alternateId": element.format(number), "moduleSetTag": tag}
            created = {"createdCmHandles": [handle | {"dataProducerIdentifier": "p"}]}
            await service.call("POST", paths.INVENTORY, {"dmiPlugin": address} | created, expect=200)
        await service.call("POST", paths.JOBS + "?dryRun=true", body(1), expect=200)  # nothing was put yet
        async with aiohttp.ClientSession() as session:
            url, headers = service.root + paths.module_set("vendor"), {"Content-Type": "application/zip"}
            async with session.put(url, data=zipped(modules()), headers=headers) as answer:
                assert answer.status == 201
        reasons = {str(place): reason for place, (_, _, _, reason) in enumerate(wanted) if reason}
        dry = await service.call("POST", paths.JOBS + "?dryRun=true", body(1), expect=200)
        assert {each["operationId"]: each["reason"] for each in dry["unmatched"]} == reasons
        assert [each["operationId"] for each in dry["warnings"]] == ["6"]
        job = await service.ended(await service.submit(body(1)["data"], validation="STRICT"))
        failed = await service.failures(job["jobId"])
        assert {each["operationId"]: each["reason"] for each in failed} == reasons
        others = await service.call("POST", paths.JOBS + "?dryRun=true", body(2), expect=200)
        assert "1" not in {each["operationId"] for each in others["unmatched"]}
