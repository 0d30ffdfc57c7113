# SPDX-License-Identifier: Apache-2.0
"""Registrations in a real PostgreSQL, and the lookup indexes that follow them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from ran_datajobs.config import Settings
from ran_datajobs.errors import InvalidRequest
from ran_datajobs.inventory import index as owner_index
from ran_datajobs.inventory import registry
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.owners import Owner
from ran_datajobs.inventory.registration import RegistrationOutcome
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.store.database import Database
from ran_datajobs.store.inventory import plugin_by_url

ADDRESS = "http://127.0.0.1:9001"


Register = Callable[[bytes], Awaitable[RegistrationOutcome]]


@pytest.fixture
def register(database: Database) -> Register:
    """Applies a registration to the store."""
    return partial(registry.register, database, Settings())


def body(**fields: Any) -> bytes:
    return json.dumps({"dmiPlugin": ADDRESS, **fields}).encode()


def handle(name: str, alternate_id: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"cmHandle": name, "alternateId": alternate_id, "dataProducerIdentifier": "p1", **fields}


async def fresh(database: Database) -> dict[str, Owner]:
    """The handles of an index that starts now."""
    return {owner.alternate_key: owner for owner in await OwnerIndex(database).catch_up()}


async def test_a_registered_handle_is_found_by_every_index(database: Database, register: Register) -> None:
    """An index that catches up after the response has the handle with everything that planning needs."""
    index = OwnerIndex(database)
    await index.catch_up()
    outcome = await register(
        body(
            dmiDialect="onap",
            stopOnError=True,
            dmiGiveUp=7,
            readSlots=2,
            createdCmHandles=[
                handle("ch-1", "/SN=1/ME=1", moduleSetTag="t", cmHandleProperties={"user": "rö\u2028ot"}),
                handle("ch-2"),
            ],
        )
    )
    assert not outcome.failed
    owners = await index.catch_up()
    owner = owners.owner_of("SN=1/ME=1/Cell=1")
    assert owner is not None
    assert (owner.cm_handle, owner.data_producer_id, owner.module_set_tag) == ("ch-1", "p1", "t")
    assert json.loads(owner.private_properties) == {"user": "rö\u2028ot"}
    async with database.connection() as connection:
        plugin = await plugin_by_url(connection, ADDRESS)
    assert plugin is not None
    assert (plugin.give_up, plugin.read_slots) == (7.0, 2)
    assert owner.write_plugin == PluginProfile(
        owner.write_plugin.plugin_id, ADDRESS, "onap", stop_on_error=True
    )
    assert len(owners) == 1
    assert {key: one.cm_handle for key, one in (await fresh(database)).items()} == {"SN=1/ME=1": "ch-1"}


async def test_a_setting_that_a_plugin_leaves_open_is_the_services(
    database: Database, register: Register
) -> None:
    """Only what is registered is stored: null means the service's setting."""
    await register(body(subJobTimeout=9, createdCmHandles=[handle("a", "/ME=1")]))
    async with database.connection() as connection:
        plugin = await plugin_by_url(connection, ADDRESS)
    assert plugin is not None
    assert (plugin.give_up, plugin.sub_job_timeout, plugin.read_slots) == (None, 9.0, None)


async def test_the_same_registration_again_changes_nothing(database: Database, register: Register) -> None:
    """A repeat succeeds, and the content of an index is the same afterwards."""
    registration = body(
        idempotent=True, createdCmHandles=[handle("a", "/ME=1", cmHandleProperties={"b": "1", "a": "2"})]
    )
    assert not (await register(registration)).failed
    index = OwnerIndex(database)
    (before,) = await index.catch_up()
    assert not (await register(registration)).failed
    (after,) = await index.catch_up()
    assert after is before


async def test_what_fails_is_listed_in_onaps_shape_and_the_rest_is_kept(
    database: Database, register: Register
) -> None:
    """The outcome encodes to ONAP's error lists. Valid handles of the same body are registered."""
    await register(body(createdCmHandles=[handle("a", "/ME=1")]))
    outcome = await register(
        body(
            createdCmHandles=[
                handle("a", "/ME=9"),
                handle("b", "ME=1"),
                handle("c!", "/ME=3"),
                handle("d", "/ME=4"),
            ],
            updatedCmHandles=[handle("nobody")],
            removedCmHandles=["nobody"],
        )
    )
    lists = json.loads(msgspec.json.encode(outcome))
    assert {key: [(e["cmHandle"], e["errorCode"]) for e in entries] for key, entries in lists.items()} == {
        "failedCreatedCmHandles": [("a", "109"), ("b", "109"), ("c!", "110")],
        "failedUpdatedCmHandles": [("nobody", "100")],
        "failedRemovedCmHandles": [("nobody", "100")],
        "failedUpgradeCmHandles": [],
    }
    assert all(entry["errorText"] for entries in lists.values() for entry in entries)
    assert {key: one.cm_handle for key, one in (await fresh(database)).items()} == {"ME=1": "a", "ME=4": "d"}


async def test_removed_handles_leave_the_indexes_and_can_come_back(
    database: Database, register: Register
) -> None:
    """A tombstone removes the handle from an index that had it. A new create inserts it again."""
    await register(body(createdCmHandles=[handle("a", "/ME=1"), handle("b", "/ME=2")]))
    index = OwnerIndex(database)
    before = await index.catch_up()
    await register(body(removedCmHandles=["a"]))
    owners = await index.catch_up()
    assert [one.cm_handle for one in owners] == ["b"]
    assert owners.owner_of("ME=1") is None
    assert [one.cm_handle for one in before] == ["a", "b"], "a plan under way keeps what it began with"
    await register(body(createdCmHandles=[handle("a", "/ME=3"), handle("c", "/ME=1")]))
    assert sorted((one.cm_handle, one.alternate_key) for one in await index.catch_up()) == [
        ("a", "ME=3"),
        ("b", "ME=2"),
        ("c", "ME=1"),
    ]


async def test_handles_trade_alternate_ids_in_one_registration(
    database: Database, register: Register
) -> None:
    """Removed, created and updated handles can exchange alternate ids within one transaction."""
    await register(body(createdCmHandles=[handle("a", "/ME=1"), handle("b", "/ME=2"), handle("c", "/ME=3")]))
    index = OwnerIndex(database)
    await index.catch_up()
    outcome = await register(
        body(
            removedCmHandles=["c"],
            updatedCmHandles=[handle("a", "/ME=3"), handle("b", "/ME=1")],
            createdCmHandles=[handle("d", "/ME=4")],
        )
    )
    assert not outcome.failed
    expected = {"ME=3": "a", "ME=1": "b", "ME=4": "d"}
    assert {one.alternate_key: one.cm_handle for one in await index.catch_up()} == expected
    assert {key: one.cm_handle for key, one in (await fresh(database)).items()} == expected


async def test_a_changed_plugin_reaches_the_handles_that_it_has(
    database: Database, register: Register
) -> None:
    """A later registration's values for the plugin are seen with every handle. Values that it omits do not
    change."""
    await register(body(idempotent=True, createdCmHandles=[handle("a", "/ME=1")]))
    index = OwnerIndex(database)
    await index.catch_up()
    await register(body(dmiDialect="onap"))
    owner = (await index.catch_up()).owner_of("ME=1")
    assert owner is not None
    assert (owner.write_plugin.dialect, owner.write_plugin.idempotent) == ("onap", True)


READS, WRITES = "http://127.0.0.1:9002", "http://127.0.0.1:9003"


async def test_a_handle_has_a_plugin_for_reads_and_another_for_writes(
    database: Database, register: Register
) -> None:
    """An index that follows has both, and what a later registration changes of either of them. The settings
    of a registration are those of each plugin that it names."""
    index = OwnerIndex(database)
    both = {"dmiDatajobsReadPlugin": READS, "dmiDatajobsWritePlugin": WRITES}
    await register(body(**both, idempotent=True, createdCmHandles=[handle("a", "/ME=1")]))
    await register(body(createdCmHandles=[handle("b", "/ME=2")]))
    a, b = await index.catch_up()
    assert (a.read_plugin.url, a.write_plugin.url) == (READS, WRITES)
    assert (b.read_plugin.url, b.write_plugin.url) == (ADDRESS, ADDRESS)
    assert b.read_plugin is b.write_plugin
    assert all(each.idempotent for each in (a.read_plugin, a.write_plugin, b.write_plugin))
    await register(body(dmiPlugin=READS, selectors=True, operationProperties=False))
    await register(body(dmiPlugin=WRITES, guards=True, beforeImages=True))
    await register(body(dmiPlugin=WRITES, dmiDialect="onap", beforeImages=False))
    async with database.connection() as connection:
        plugins = [await plugin_by_url(connection, url) for url in (READS, WRITES)]
    promised = [(each.guards, each.before_images) for each in plugins if each is not None]
    assert promised == [(False, False), (True, False)]
    for owners in (await index.catch_up(), await OwnerIndex(database).catch_up()):
        found = owners.owner_of("ME=1")
        assert found is not None
        assert (found.read_plugin.selectors, found.read_plugin.operation_properties) == (True, False)
        assert (found.write_plugin.selectors, found.write_plugin.operation_properties) == (False, True)
        assert (found.read_plugin.dialect, found.write_plugin.dialect) == ("auto", "onap")


async def test_the_same_registration_with_three_plugins_changes_nothing(
    database: Database, register: Register
) -> None:
    """The plugins of a handle are part of it: the same ones are a repeat, others a conflict."""
    both = {"dmiDatajobsReadPlugin": READS, "dmiDatajobsWritePlugin": WRITES}
    created = [handle("a", "/ME=1")]
    index = OwnerIndex(database)
    for again in (both, both | {"dmiDatajobsReadPlugin": READS.upper() + "/"}):
        assert not (await register(body(**again, createdCmHandles=created))).failed
    (before,) = await index.catch_up()
    outcome = await register(body(dmiDatajobsReadPlugin=READS, createdCmHandles=created))
    assert [failed.error_code for failed in outcome.failed_created_cm_handles] == ["109"]
    assert list(await index.catch_up()) == [before]


@pytest.mark.parametrize("dialect", ["auto", "seed", "onap"])
async def test_a_plugin_that_names_no_dialect_has_that_of_the_setting(
    database: Database, dialect: str
) -> None:
    """DATAJOBS_DMI_DIALECT counts when a plugin is registered for the first time; what was found out about a
    plugin outlives a registration."""
    settings = Settings(dmi_dialect=dialect)
    await registry.register(database, settings, body(createdCmHandles=[handle("a", "/ME=1")]))
    async with database.connection() as connection:
        await connection.execute("update dmi_plugin set found_dialect = 'onap'")
    await registry.register(database, Settings(dmi_dialect="seed"), body(idempotent=True))
    (owner,) = await OwnerIndex(database).catch_up()
    plugin = owner.write_plugin
    assert (plugin.dialect, plugin.found_dialect, plugin.idempotent) == (dialect, "onap", True)
    assert plugin.spoken_dialect == ("onap" if dialect == "auto" else dialect)


FIELDS = ("dmiPlugin", "dmiDataPlugin", "dmiModelPlugin", "dmiDatajobsReadPlugin", "dmiDatajobsWritePlugin")


@pytest.mark.parametrize("field", FIELDS)
async def test_every_address_of_a_plugin_must_be_allowed(
    database: Database, register: Register, field: str
) -> None:
    """One that is not fails the created handles, by the name of its field, and none of the plugins is
    stored. The rest of the registration is applied."""
    await register(body(createdCmHandles=[handle("a", "/ME=1")]))
    named = dict.fromkeys(FIELDS, "http://127.0.0.9:1") | {field: "http://169.254.169.254"}
    outcome = await register(body(**named, createdCmHandles=[handle("b", "/ME=2")], removedCmHandles=["a"]))
    (failure,) = outcome.failed_created_cm_handles
    assert (failure.cm_handle, failure.error_code) == ("b", "108")
    assert failure.error_text.startswith(f"{field}: the host '169.254.169.254'")
    assert outcome.failed == 1
    assert await fresh(database) == {}
    async with database.connection() as connection:
        assert [row["url"] for row in await connection.fetch("select url from dmi_plugin")] == [ADDRESS]


@pytest.mark.parametrize("address", ["http://10.0.0.1:80", "ftp://127.0.0.1", "http://u:hunter2@127.0.0.1"])
async def test_a_plugin_that_is_not_allowed_gets_no_handles(
    database: Database, register: Register, address: str
) -> None:
    """Its handles fail one by one, nothing is stored, and the response repeats no password."""
    outcome = await register(body(dmiPlugin=address, createdCmHandles=[handle("a", "/ME=1")]))
    (failure,) = outcome.failed_created_cm_handles
    assert (failure.cm_handle, failure.error_code) == ("a", "108")
    assert "hunter2" not in failure.error_text
    assert await fresh(database) == {}


async def test_a_wrong_shape_takes_nothing(database: Database, register: Register) -> None:
    """One wrong type refuses the whole body."""
    with pytest.raises(InvalidRequest):
        await register(body(createdCmHandles=[handle("a", "/ME=1"), handle("b", 7)]))  # type: ignore[arg-type]
    assert await fresh(database) == {}


async def test_private_properties_stay_out_of_every_answer(register: Register) -> None:
    """Neither the outcome of a conflict nor its representation contains a private property."""
    secret = {"password": "hunter2"}
    await register(body(createdCmHandles=[handle("a", "/ME=1", cmHandleProperties=secret)]))
    outcome = await register(body(createdCmHandles=[handle("a", "/ME=2", cmHandleProperties=secret)]))
    assert outcome.failed
    assert "hunter2" not in repr(outcome) + msgspec.json.encode(outcome).decode()


async def test_many_handles_register_in_bulk(database: Database, register: Register) -> None:
    """Thousands of handles take a handful of statements. All are stored afterwards."""
    handles = [handle(f"ch-{n}", f"/SN=1/ME={n}", dataProducerIdentifier=f"p{n % 7}") for n in range(5_000)]
    assert not (await register(body(createdCmHandles=handles))).failed
    owners = await fresh(database)
    assert len(owners) == 5_000
    assert owners["SN=1/ME=4999"].data_producer_id == "p1"
    assert len({id(one.write_plugin) for one in owners.values()}) == 1


async def test_an_index_misses_nothing_of_registrations_at_the_same_time(
    database: Database, register: Register
) -> None:
    """Versions commit in order: an index that catches up continually ends with every handle."""
    index = OwnerIndex(database)
    registrations = [
        asyncio.create_task(register(body(createdCmHandles=[handle(f"ch-{n}", f"/ME={n}")])))
        for n in range(40)
    ]
    while not all(task.done() for task in registrations):
        await index.catch_up()
        answered = {f"ch-{n}" for n, task in enumerate(registrations) if task.done()}
        assert answered <= {one.cm_handle for one in await index.catch_up()}
    outcomes: list[RegistrationOutcome] = await asyncio.gather(*registrations)
    assert not all(outcome.failed for outcome in outcomes)
    assert len(await index.catch_up()) == 40


async def test_one_of_two_claims_on_an_alternate_id_wins(database: Database, register: Register) -> None:
    """Concurrent registrations claim an alternate id: one gets it, the others get the conflict."""
    outcomes = await asyncio.gather(
        *(register(body(createdCmHandles=[handle(f"ch-{n}", "/ME=1")])) for n in range(8))
    )
    failures = [outcome.failed_created_cm_handles[0].error_code for outcome in outcomes if outcome.failed]
    assert failures == ["109"] * 7
    assert len(await fresh(database)) == 1


@pytest.mark.parametrize(("seed", "large"), [(1, 0), (2, 10_000), (3, 10_000), (4, 0)])
async def test_following_equals_starting_anew(
    database: Database, register: Register, monkeypatch: pytest.MonkeyPatch, seed: int, large: int
) -> None:
    """After any sequence of registrations, an index that followed has the same content as a new one, also
    where it is so large that a thread computes its changes."""
    monkeypatch.setattr(owner_index, "_LARGE", large)
    rng = random.Random(seed)
    index = OwnerIndex(database)
    for _ in range(25):
        names = rng.sample(["a", "b", "c", "d", "e", "f"], 4)
        fields = {
            "removedCmHandles": names[:1] if rng.random() < 0.6 else [],
            "createdCmHandles": [
                handle(names[1], f"/SN=1/ME={rng.randrange(6)}", moduleSetTag=str(rng.random()))
            ],
            "updatedCmHandles": [handle(names[2], f"/SN=1/ME={rng.randrange(6)}"), {"cmHandle": names[3]}],
            "dmiDialect": rng.choice(["seed", "onap"]),
            "dmiPlugin": rng.choice([ADDRESS, "http://127.0.0.2:1"]),
            "dmiDatajobsReadPlugin": rng.choice([READS, ""]),
            "dmiDatajobsWritePlugin": rng.choice([WRITES, READS, ""]),
        }
        await register(body(**fields))
        if rng.random() < 0.5:
            await index.catch_up()
    followed, anew = await index.catch_up(), await OwnerIndex(database).catch_up()
    assert {one.alternate_key: one for one in followed} == {one.alternate_key: one for one in anew}
    assert followed.owners_below("SN=1") == anew.owners_below("SN=1")
    assert followed.depths == anew.depths
    assert followed.owners_below("SN=1") == anew.owners_below("SN=1") != []
