# SPDX-License-Identifier: Apache-2.0
"""Module sets over real HTTP: a zip of YANG modules becomes the class model of a module set tag."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ran_datajobs.api import paths
from ran_datajobs.errors import InvalidRequest
from ran_datajobs.inventory import module_reader
from ran_datajobs.store import module_sets
from ran_datajobs.store.database import Database
from tests.kit.api_service import Answer, Api, northbound_api
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
    assert shown["classes"] == ["Clock", "GNBDUFunction", "ManagedElement", "NRCellDU", "SubNetwork", "xvFan"]
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
