# SPDX-License-Identifier: Apache-2.0
"""Searches, lists and the tree of CM handles in a real PostgreSQL, compared with a naive evaluation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import Any

import pytest

from ran_datajobs.config import Settings
from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.inventory import registry
from ran_datajobs.inventory.searches import ALL, both, of_plugin, read_search
from ran_datajobs.nrm import fdn
from ran_datajobs.store import searches
from ran_datajobs.store.database import Database
from ran_datajobs.store.modules import Module, Question, answered, note_handles
from ran_datajobs.store.searches import HandleSearches, Search, Shows
from tests.kit.inventories import (
    MODULES,
    PLUGINS,
    Handle,
    fulfils,
    owner_among,
    random_condition,
    random_fdn,
    random_handles,
)
from tests.tiers import sampled

COUNT = 150
SEEDS = sampled(range(12), {0, 1, 2})


async def register(database: Database, handles: list[Handle], plugin: str = PLUGINS[0]) -> None:
    """Register handles of a plugin, all of which are taken."""
    body = json.dumps({"dmiPlugin": plugin, "createdCmHandles": handles}).encode()
    assert not (await registry.register(database, Settings(), body)).failed


async def know_modules(database: Database) -> None:
    """Record the modules of all handles."""
    await note_handles(database)
    async with database.transaction() as connection:
        for tag, names in MODULES.items():
            for row in await connection.fetch(
                "select plugin_id, cm_handle from cm_handle_modules where module_set_tag = $1",
                tag,
            ):
                modules = [Module(name) for name in names]
                question = Question(tag, row["cm_handle"], None, None)
                assert await answered(connection, row["plugin_id"], [question], modules)


async def found(database: Database, shows: Shows, wanted: Search | None, **options: Any) -> list[Any]:
    """The items of a search, decoded."""
    if wanted is None:
        return []
    return [
        json.loads(item)
        async for batch in HandleSearches(database).search(shows, wanted, **options)
        for item in batch
    ]


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_search_finds_what_a_naive_evaluation_finds(database: Database, seed: int) -> None:
    """Random conditions over a random inventory of two plugins, one of which is down in every second case."""
    rng = random.Random(seed)
    handles = random_handles(rng, COUNT)
    plugin_of = {handle["cmHandle"]: rng.choice(PLUGINS) for handle in handles}
    for plugin in PLUGINS:
        await register(database, [each for each in handles if plugin_of[each["cmHandle"]] == plugin], plugin)
    await know_modules(database)
    down = {PLUGINS[1]} if seed % 2 else set()
    await database.fetch("update dmi_plugin set healthy = false where url = any ($1::text[])", list(down))
    sizes = set()
    for _ in range(200):
        conditions = [random_condition(rng, handles) for _ in range(rng.choice((1, 1, 2, 3)))]
        body = {
            "cmHandleQueryParameters": [
                {"conditionName": name, "conditionParameters": parameters} for name, parameters in conditions
            ]
        }
        wanted = read_search(json.dumps(body).encode(), southbound=True)
        expected = [
            each
            for each in handles
            if all(fulfils(each, {plugin_of[each["cmHandle"]]}, down, condition) for condition in conditions)
        ]
        ids = await found(database, Shows.ID, wanted)
        assert sorted(ids) == sorted(each["cmHandle"] for each in expected), conditions
        alternate = await found(database, Shows.ALTERNATE_ID, wanted)
        assert sorted(alternate) == sorted(filter(None, (each["alternateId"] for each in expected)))
        sizes.add(len(ids))
    assert len(sizes) > 10


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_tree_has_every_handle_once(database: Database, seed: int) -> None:
    """Walked level by level with small pages, it has all alternate ids, and counts the handles below each."""
    rng = random.Random(seed)
    handles = random_handles(rng, COUNT)
    await register(database, handles)
    keys = {fdn.key(each["alternateId"]): each["cmHandle"] for each in handles if each["alternateId"]}
    walked: dict[str, str] = {}
    async with database.connection() as connection:

        async def walk(key: str) -> int:
            """The number of handles below ``key``."""
            first, more, seen = None, True, []
            while more:
                page, more = await searches.children(connection, key, first, rng.randint(1, 4))
                assert page or not more
                seen += page
                first = page[-1].next if page else None
            names = [each.rdn for each in seen]
            below = [
                each.removeprefix(f"{key}/" if key else "")
                for each in keys
                if each.startswith(f"{key}/" if key else "")
            ]
            assert len(names) == len({*names})
            assert {*names} == {each.split("/")[0] for each in below}
            total = 0
            for child in seen:
                path = f"{key}/{child.rdn}" if key else child.rdn
                if child.cm_handle is not None:
                    walked[path] = child.cm_handle
                assert child.handles == await walk(path) + (child.cm_handle is not None)
                total += child.handles
            return total

        assert await walk("") == len(keys)
    assert walked == keys


@pytest.mark.parametrize("seed", SEEDS)
async def test_lists_are_complete_page_by_page(database: Database, seed: int) -> None:
    """Each restriction, alone and with others, gives what a naive evaluation gives, by id."""
    rng = random.Random(seed)
    handles = random_handles(rng, COUNT)
    await register(database, handles)
    ordered = sorted(handles, key=lambda each: each["cmHandle"])
    async with database.connection() as connection:
        for _ in range(60):
            below = fdn.key(random_fdn(rng)) if rng.random() < 0.5 else None
            producer = rng.choice((None, None, "p1", ""))
            tag = rng.choice((None, None, "t2"))
            part = rng.choice((None, None, "Net", "1-", "h_", "%", "'"))
            restrictions = {
                "below": below,
                "producer": producer,
                "plugin": rng.choice((None, PLUGINS[0])),
                "tag": tag,
                "part": part,
            }
            after, limit, ids = None, rng.randint(1, 50), []
            while page := await searches.handles(connection, after=after, limit=limit, **restrictions):
                ids += [each.cm_handle for each in page]
                after = ids[-1]
            assert ids == [
                each["cmHandle"]
                for each in ordered
                if (below is None or (_key(each) + "/").startswith(below + "/"))
                and producer in (None, each["dataProducerIdentifier"])
                and tag in (None, each["moduleSetTag"])
                and (part is None or part in each["alternateId"] or part in each["cmHandle"])
            ], restrictions


def _key(handle: Handle) -> str:
    return fdn.key(handle["alternateId"]) if handle["alternateId"] else ""


async def test_the_owner_is_the_longest_prefix(database: Database) -> None:
    """As a naive evaluation finds it, for objects at, below and beside the handles."""
    rng = random.Random(5)
    handles = random_handles(rng, COUNT)
    await register(database, handles)
    async with database.connection() as connection:
        for _ in range(200):
            name = random_fdn(rng) + rng.choice(("", "/Unit=1", "/Unit=1/Port=2"))
            keys = list(fdn.ancestors(fdn.key(name)))
            row = await searches.owner(connection, keys)
            expected = owner_among(handles, name)
            assert (row and row.cm_handle) == (expected and expected["cmHandle"])
            assert await searches.owner_of(database, keys) == (row and row.cm_handle)


async def test_what_is_shown_of_a_handle(database: Database) -> None:
    """ONAP's shapes; the private properties only where they are asked for."""
    handle = {
        "cmHandle": "ch-1",
        "alternateId": '/A="1"',
        "moduleSetTag": "t",
        "publicCmHandleProperties": {"Color": 'y"', "Size": 7},
        "cmHandleProperties": {"password": 'se"cret'},
    }
    await register(database, [handle, {"cmHandle": "ch-2", "trustLevel": "NONE"}])
    first = Search(ids=frozenset({"ch-1"}))
    leaves = {
        "cmHandle": "ch-1",
        "alternateId": '/A="1"',
        "moduleSetTag": "t",
        "dataProducerIdentifier": "",
        "trustLevel": "COMPLETE",
    }
    (light,) = await found(database, Shows.LIGHTWEIGHT, first)
    assert light == leaves
    (details,) = await found(database, Shows.DETAILS, first)
    state = details.pop("state")
    assert details == leaves | {"publicCmHandleProperties": [{"Color": 'y"', "Size": "7"}]}
    assert state.pop("lastUpdateTime").endswith("+0000")
    assert state == {
        "cmHandleState": "READY",
        "dataSyncEnabled": False,
        "dataSyncState": {"operational": {"syncState": "NONE_REQUESTED"}},
    }
    (details,) = await found(database, Shows.DETAILS, first, private=True)
    assert details["cmHandleProperties"] == {"password": 'se"cret'}
    (light,) = await found(database, Shows.LIGHTWEIGHT, first, private=True)
    assert json.loads(light["dmiProperties"]) == {"password": 'se"cret'}
    assert await searches.one(database, Shows.MODULES, first) == b"[]"
    for shows in Shows:
        assert b"cret" not in (await searches.one(database, shows, first) or b"")
    (other,) = await found(database, Shows.LIGHTWEIGHT, Search(trust_levels=frozenset({"NONE"})))
    assert (other["cmHandle"], other["alternateId"]) == ("ch-2", "")


async def test_a_change_and_a_new_registration_move_the_time_of_the_last_update(database: Database) -> None:
    """Each registration that changes the handle, and no other."""
    await register(database, [{"cmHandle": "a"}, {"cmHandle": "b"}])

    async def times() -> dict[str, str]:
        return {
            each["cmHandle"]: each["state"]["lastUpdateTime"]
            for each in await found(database, Shows.DETAILS, ALL)
        }

    before = await times()
    await asyncio.sleep(0.002)  # the times have milliseconds
    update = json.dumps({"updatedCmHandles": [{"cmHandle": "a", "moduleSetTag": "t"}, {"cmHandle": "b"}]})
    await registry.register(database, Settings(), update.encode())
    after = await times()
    assert after["a"] > before["a"]
    assert after["b"] == before["b"]


async def test_separate_plugins_for_reads_and_writes_count_both(database: Database) -> None:
    """A handle is found by each of its plugins, and its trust level is that of the worst."""
    read, write = PLUGINS
    body = {
        "dmiDatajobsReadPlugin": read,
        "dmiDatajobsWritePlugin": write,
        "dmiPlugin": "http://127.0.0.1:12",
    }
    created = {"createdCmHandles": [{"cmHandle": "a"}]}
    assert not (await registry.register(database, Settings(), json.dumps(body | created).encode())).failed
    for address in body.values():
        assert await found(database, Shows.ID, of_plugin(address)) == ["a"]
    both_plugins = both(of_plugin(read), of_plugin(write))
    assert await found(database, Shows.ID, both_plugins) == ["a"]
    assert await found(database, Shows.ID, both(both_plugins, of_plugin("http://127.0.0.1:13"))) == []
    none = Search(trust_levels=frozenset({"NONE"}))
    assert await found(database, Shows.ID, none) == []
    for address in body.values():
        await database.fetch("update dmi_plugin set healthy = url <> $1", address)
        assert await found(database, Shows.ID, none) == ["a"]
        (shown,) = await found(database, Shows.LIGHTWEIGHT, ALL)
        assert shown["trustLevel"] == "NONE"


async def test_a_search_that_is_closed_ends_its_query(database: Database) -> None:
    """No session is in a transaction afterwards, and the slot is free for the next search."""
    await register(database, [{"cmHandle": f"ch-{number}"} for number in range(2000)])
    handle_searches = HandleSearches(database)
    for _ in range(searches.SEARCHES + 1):
        async with contextlib.aclosing(handle_searches.search(Shows.DETAILS, ALL)) as batches:
            assert len(await anext(batches)) < 2000
    async with database.connection() as connection:
        open_transactions = await connection.fetchval(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and state like 'idle in%'"
        )
    assert open_transactions == 0


async def test_a_search_waits_for_one_of_few_slots(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While too many run it is refused as unavailable; a small result keeps no slot."""
    monkeypatch.setattr(searches, "POOL_WITHIN", 0.05)
    await register(database, [{"cmHandle": f"ch-{number}"} for number in range(2000)])
    handle_searches = HandleSearches(database)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(searches.SEARCHES):
            batches = handle_searches.search(Shows.ID, ALL)
            await stack.enter_async_context(contextlib.aclosing(batches))
            await anext(batches)
        with pytest.raises(StoreUnavailable, match="searches are running"):
            await anext(handle_searches.search(Shows.ID, ALL))
    small = [
        handle_searches.search(Shows.ID, Search(ids=frozenset({"ch-1"})))
        for _ in range(2 * searches.SEARCHES)
    ]
    for batches in small:
        assert await anext(batches) == [b'"ch-1"']
