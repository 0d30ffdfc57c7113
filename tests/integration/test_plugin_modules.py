# SPDX-License-Identifier: Apache-2.0
"""The modules of CM handles: asked of plugins over real HTTP, stored in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from ran_datajobs.config import Settings
from ran_datajobs.inventory.registry import register
from ran_datajobs.plugins.client import Answered, Broken, HttpBounds, PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.plugins.modules import MAX_MODULES, Failed, ModuleSync, NotOffered, modules_of
from ran_datajobs.store import modules as store
from ran_datajobs.store.database import Database
from ran_datajobs.store.modules import Module
from ran_datajobs.telemetry import Digest, logger
from tests.kit.plugins.scripted import Manner, ScriptedPlugin
from tests.kit.worker_parts import log_lines, rows

YANG = [
    {"moduleName": "ran-b", "revision": "2024-01-01", "namespace": "urn:b"},
    {"moduleName": "ran-a", "revision": "2023-01-01"},
    {"moduleName": "ran-a", "revision": "2024-02-02"},
]

HANDLES = """
    select h.cm_handle
    from cm_handle h
    join cm_handle_modules m on m.plugin_id = h.plugin_id and m.module_set_tag = h.module_set_tag
         and m.cm_handle = case when h.module_set_tag = '' then h.cm_handle else '' end
    join module_set s using (module_set_id)
    where not h.removed and s.names @> $1::text[] order by 1
"""
"""The query in the docstring of ``store.modules``."""


def handle(name: str, tag: str = "", **properties: str) -> dict[str, Any]:
    return {"cmHandle": name, "moduleSetTag": tag, "cmHandleProperties": properties}


async def registered(database: Database, url: str, *created: dict[str, Any], **fields: Any) -> None:
    body = {"dmiPlugin": url, "createdCmHandles": created, **fields}
    assert not (await register(database, Settings(), msgspec.json.encode(body))).failed


async def having(database: Database, *names: str) -> list[str]:
    """The handles that have all of these modules."""
    return [each["cm_handle"] for each in await rows(database, HANDLES, list(names))]


async def due_now(database: Database) -> None:
    await database.fetch("update dmi_plugin set modules_due_at = now() where modules_due_at is not null")


@pytest.fixture
async def http() -> AsyncIterator[PeerHttp]:
    """A client with a short timeout."""
    async with PeerHttp(HttpBounds(total=1.0)) as peers:
        yield peers


def sync(database: Database, http: PeerHttp, credentials: Credentials | None = None) -> ModuleSync:
    return ModuleSync(database, http, credentials or Credentials(None), logger(), Digest(logger()))


async def test_a_plugin_is_asked_once_for_each_tag(database: Database, http: PeerHttp) -> None:
    """And for each handle without one, with its properties. Handles with the same modules share one set."""
    plugin = ScriptedPlugin(manner=Manner(modules=YANG))
    async with plugin.serving() as url:
        tagged = [handle(f"t{n}", f"tag-{n % 2}", user="u") for n in range(20)]
        await registered(database, url, *tagged, handle("u1", user="eins"), handle("u2", user="zwei"))
        run = sync(database, http)
        await run.sync()
        assert sorted((body["moduleSetTag"], name) for name, body in plugin.asked_modules) == [
            ("", "u1"), ("", "u2"), ("tag-0", "t0"), ("tag-1", "t1"),
        ]  # fmt: skip
        bodies = dict(plugin.asked_modules)
        assert bodies["u1"] == {"cmHandleProperties": {"user": "eins"}, "moduleSetTag": ""}
        assert len(await having(database, "ran-a", "ran-b")) == 22
        assert await having(database, "ran-a", "ran-c") == []
        (only,) = await rows(database, "select names, modules from module_set")
        assert only["names"] == ["ran-a", "ran-b"]
        assert only["modules"] == [
            {"moduleName": "ran-a", "revision": "2023-01-01"},
            {"moduleName": "ran-a", "revision": "2024-02-02"},
            {"moduleName": "ran-b", "revision": "2024-01-01"},
        ]
        await registered(database, url, handle("t100", "tag-1"), handle("t101", "tag-2"))
        await run.sync()
        assert [name for name, _ in plugin.asked_modules[4:]] == ["t101"]
        assert len(await having(database, "ran-a")) == 24


async def test_a_handle_that_is_upgraded_gets_the_modules_of_its_new_tag(
    database: Database, http: PeerHttp
) -> None:
    """They are asked for under the new tag; those of the old one are forgotten when no handle has it."""
    plugin = ScriptedPlugin(manner=Manner(modules=YANG))
    async with plugin.serving() as url:
        await registered(database, url, handle("a", "old"))
        run = sync(database, http)
        await run.sync()
        plugin.manner = Manner(modules=[{"moduleName": "ran-new", "revision": ""}])
        await registered(database, url, upgradedCmHandles={"cmHandles": ["a"], "moduleSetTag": "new"})
        await run.sync()
        assert await having(database, "ran-new") == ["a"]
        assert await having(database, "ran-a") == []
        await store.forget(database)
        assert len(await rows(database, "select 1 from cm_handle_modules")) == 1
        assert len(await rows(database, "select 1 from module_set")) == 1
        await registered(database, url, removedCmHandles=["a"])
        await store.forget(database)
        assert not await rows(database, "select 1 from cm_handle_modules")
        assert not await rows(database, "select 1 from module_set")
        await registered(database, url, handle("a", "new"))
        await run.sync()
        assert await having(database, "ran-new") == ["a"]


async def test_the_model_plugin_is_asked(database: Database, http: PeerHttp) -> None:
    """``dmiModelPlugin`` of a registration, for the handles of its ``dmiDataPlugin``."""
    model, data = ScriptedPlugin(manner=Manner(modules=YANG)), ScriptedPlugin()
    async with model.serving() as model_url, data.serving() as data_url:
        await registered(database, "", handle("a"), dmiDataPlugin=data_url, dmiModelPlugin=model_url)
        await sync(database, http).sync()
        assert [name for name, _ in model.asked_modules] == ["a"]
        assert not data.received
        assert await having(database, "ran-a") == ["a"]


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_plugin_without_the_call_is_left_alone(
    database: Database, http: PeerHttp, status: int
) -> None:
    """After one call for 300 handles, until handles are registered again."""
    plugin = ScriptedPlugin(manner=Manner(modules=status))
    async with plugin.serving() as url:
        await registered(database, url, *(handle(f"ch-{n}") for n in range(300)))
        run = sync(database, http)
        with log_lines() as lines:
            await run.sync()
            run._digest.write()
            assert [line["event"] for line in lines()] == ["modules.not_offered"]
        asked = len(plugin.asked_modules)
        assert asked == 1
        await due_now(database)
        await run.sync()
        assert len(plugin.asked_modules) == asked
        plugin.manner = Manner(modules=YANG)
        changed = {"cmHandle": "ch-7", "publicCmHandleProperties": {"a": "b"}}
        await registered(database, url, handle("ch-new"), updatedCmHandles=[changed])
        await run.sync()
        assert {name for name, _ in plugin.asked_modules[asked:]} == {"ch-7", "ch-new"}
        assert await having(database, "ran-a") == ["ch-7", "ch-new"]


@pytest.mark.parametrize("status", [500, 503, 401, 400])
async def test_a_failure_is_repeated_with_another_handle(
    database: Database, http: PeerHttp, status: int
) -> None:
    """After a pause that grows. What was asked for survives the worker."""
    plugin = ScriptedPlugin(manner=Manner(modules=status))
    async with plugin.serving() as url:
        await registered(database, url, handle("a", "tag"), handle("b", "tag"), handle("c", "tag"))
        for _ in range(4):
            await sync(database, http).sync()  # each in a worker of its own
            await due_now(database)
        assert [name for name, _ in plugin.asked_modules] == ["a", "b", "c", "a"]
        plugin.manner = Manner(modules=YANG)
        await sync(database, http).sync()
        assert await having(database, "ran-b") == ["a", "b", "c"]
        (row,) = await rows(database, "select modules_due_at from dmi_plugin")
        assert row["modules_due_at"] is None


async def test_the_pause_after_a_failure_grows(database: Database, http: PeerHttp) -> None:
    """From 5 s, twice as long each time, to 5 min."""
    plugin = ScriptedPlugin(manner=Manner(modules=500))
    async with plugin.serving() as url:
        await registered(database, url, handle("a", "tag"))
        pauses = []
        for _ in range(8):
            await sync(database, http).sync()
            (row,) = await rows(
                database,
                "select extract(epoch from modules_due_at - clock_timestamp())::float8 as pause"
                " from dmi_plugin",
            )
            pauses.append(row["pause"])
            await due_now(database)
    limits = [5, 10, 20, 40, 80, 160, 300, 300]
    assert all(0.5 * most < pause <= most for pause, most in zip(pauses, limits, strict=True))


async def test_a_silent_plugin_delays_no_other_one(
    database: Database, http: PeerHttp, free_port: int
) -> None:
    """It is asked once, then again later."""
    plugin = ScriptedPlugin(manner=Manner(modules=YANG))
    async with plugin.serving() as url:
        await registered(database, f"http://127.0.0.1:{free_port}", *(handle(f"d{n}") for n in range(100)))
        await registered(database, url, *(handle(f"ch-{n}") for n in range(100)))
        await sync(database, http).sync()
        assert len(await having(database, "ran-a")) == 100
        failed = await rows(database, "select 1 from cm_handle_modules where attempts > 0")
        assert len(failed) == 1


async def test_several_workers_ask_once(database: Database, http: PeerHttp) -> None:
    """Each question is asked by one of them, while handles are being registered."""
    plugin = ScriptedPlugin(manner=Manner(modules=YANG))
    async with plugin.serving() as url:

        async def work() -> None:
            for _ in range(10):
                await sync(database, http).sync()
                await asyncio.sleep(0.02)

        async def create() -> None:
            for n in range(10):
                await registered(database, url, *(handle(f"ch-{n}-{m}") for m in range(5)))

        await asyncio.gather(work(), work(), work(), create())
        await sync(database, http).sync()
    asked = Counter(name for name, _ in plugin.asked_modules)
    assert len(asked) == 50
    assert set(asked.values()) == {1}


async def test_credentials_and_a_bound(
    database: Database, http: PeerHttp, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call has the plugin's credentials. A plugin with more different sets of modules than the bound has
    the others unknown."""
    monkeypatch.setattr(store, "MOST_SETS", 2)
    plugin = ScriptedPlugin(manner=Manner(authorization="Bearer t"))
    async with plugin.serving() as url:
        (tmp_path / "file").write_text(json.dumps({url: {"token": "t"}}))
        run = sync(database, http, Credentials(tmp_path / "file"))
        for n in range(3):
            plugin.manner.modules = [{"moduleName": f"m-{n}", "revision": "1"}]
            await registered(database, url, handle(f"ch-{n}"))
            await run.sync()
        plugin.manner.modules = [{"moduleName": "m-0", "revision": "1"}]
        await registered(database, url, handle("ch-3"))
        await run.sync()
    assert {each.authorization for each in plugin.received} == {"Bearer t"}
    assert await having(database, "m-0") == ["ch-0", "ch-3"]
    assert await having(database, "m-1") == ["ch-1"]
    assert await having(database, "m-2") == []
    assert len(await rows(database, "select 1 from module_set")) == 2


def many(count: int) -> bytes:
    return msgspec.json.encode({"schemas": [{"moduleName": f"m{n}", "revision": "1"} for n in range(count)]})


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        (Answered(200, b'{"schemas":[]}'), []),
        (Answered(200, b'{"schemas":[{"moduleName":"m"}]}'), [Module("m")]),
        (Answered(200, b'{"schemas":[{"moduleName":"m","revision":null}]}'), [Module("m")]),
        (Answered(200, b'{"schemas":[{"moduleName":""}]}'), Failed),
        (Answered(200, b'{"schemas":[{"moduleName":"a\\u0000b"}]}'), Failed),
        (Answered(200, b'{"schemas":{}}'), Failed),
        (Answered(200, b"{}"), Failed),
        (Answered(200, b""), Failed),
        (Answered(200, b"\xff"), Failed),
        (Answered(200, b"[" * 10_000), Failed),
        (Answered(200, many(MAX_MODULES + 1)), Failed),
        (Answered(200, None), Failed),
        (Answered(204, b""), Failed),
        (Answered(307, b""), Failed),
        (Answered(404, b""), NotOffered),
        (Answered(501, b""), NotOffered),
        (Answered(500, b'{"message":"secret"}'), Failed),
        (Broken("connection closed before the answer"), Failed),
    ],
)
def test_what_an_answer_means(exchange: Any, expected: Sequence[Module] | type) -> None:
    """Modules, no such call, or a failure, which quotes nothing of the answer."""
    found = modules_of(exchange)
    assert found == expected if isinstance(expected, list) else isinstance(found, expected)  # type: ignore[arg-type]
    assert "secret" not in str(found)


def test_as_many_modules_as_an_answer_may_have() -> None:
    """The bound itself is taken."""
    found = modules_of(Answered(200, many(MAX_MODULES)))
    assert isinstance(found, list)
    assert len(found) == MAX_MODULES
