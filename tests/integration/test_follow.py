# SPDX-License-Identifier: Apache-2.0
"""The inventory follows that of an NCMP: over real HTTP, into a real PostgreSQL, with events on the embedded
bus."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ran_datajobs.api import paths
from ran_datajobs.cli.api import Api
from ran_datajobs.cli.handles import Difference
from ran_datajobs.cli.ncmp import differences_from_ncmp
from ran_datajobs.config import Settings
from ran_datajobs.http.ports import free_port
from ran_datajobs.inventory.follow import followed_by
from ran_datajobs.inventory.follower import BATCH, Follower
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.ncmp import Ncmp as NcmpClient
from ran_datajobs.inventory.ncmp import bounds
from ran_datajobs.inventory.registry import register
from ran_datajobs.messaging.bus import Bus, Message
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.messaging.topics import LCM_TOPIC
from ran_datajobs.model import Reason
from ran_datajobs.planning.split import split
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.store.database import Database
from ran_datajobs.telemetry import Digest, Metrics, logger
from tests.kit.api_service import northbound_api
from tests.kit.ncmp import Handle, Ncmp, event, handle
from tests.kit.worker_parts import log_lines, rows, until

ONE, OTHER, NOT_FOLLOWED = "http://127.0.0.1:9", "http://127.0.0.1:10", "http://elsewhere:9"
EVENTS = "inventory-events"


@dataclass
class Following:
    """A database that follows an NCMP."""

    ncmp: Ncmp
    database: Database
    settings: Settings
    metrics: Metrics
    credentials: Path | None = None

    @contextlib.asynccontextmanager
    async def running(self, bus: Bus | None = None, **options: float) -> AsyncIterator[None]:
        """Follow during the block; without a ``bus``, on the embedded one."""
        followed = followed_by(self.settings.follow_ncmp, self.settings.follow_plugins, ("127.0.0.0/8",))
        assert followed is not None
        async with PeerHttp(bounds(5.0)) as http:
            follower = Follower(
                self.database,
                bus or PostgresBus(self.database, poll_interval=0.05),
                NcmpClient(http, Credentials(self.credentials), followed),
                self.settings,
                logger(),
                Digest(logger()),
                self.metrics,
                **{"gather": 0.0, "compare_pause": 0.0, "look_every": 0.05, **options},
            )
            task = asyncio.create_task(follower.run())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def handles(self) -> dict[str, tuple[Any, ...]]:
        """Alternate id, producer, plugin, private properties, and whether it is followed, of each handle."""
        found = await rows(
            self.database,
            "select h.*, p.url from cm_handle h left join dmi_plugin p using (plugin_id) where not removed",
        )
        return {
            each["cm_handle"]: (
                each["alternate_id"],
                each["data_producer_id"],
                each["url"],
                each["private_properties"],
                each["followed"],
            )
            for each in found
        }

    async def same(self) -> None:
        """Return once the inventory has all handles of NCMP as they are there."""
        wanted = {name: as_followed(each) for name, each in self.ncmp.handles.items()}

        async def holds() -> bool:
            found = await self.handles()
            return {name: each for name, each in found.items() if each[-1]} == wanted

        await until(holds)

    async def sends(self, *messages: Message) -> None:
        """Publish events."""
        await PostgresBus(self.database).publish(LCM_TOPIC, messages)


def as_followed(each: Handle) -> tuple[Any, ...]:
    """A handle of NCMP as it is registered here."""
    plugin = next((plugin for plugin in (ONE, OTHER) if plugin in each["plugin"]), None)
    return each["alternateId"], each["dataProducerIdentifier"], plugin, each["cmHandleProperties"], True


@pytest.fixture
async def following(database: Database) -> AsyncIterator[Following]:
    """An NCMP that is followed with two plugins, and no handle yet."""
    ncmp = Ncmp()
    async with ncmp.serving() as url:
        settings = Settings(
            follow_ncmp=url, follow_plugins=(ONE, OTHER), inventory_events_topic=EVENTS, dmi_dialect="onap"
        )
        yield Following(ncmp, database, settings, Metrics())


async def test_the_inventory_becomes_that_of_ncmp(following: Following) -> None:
    """The first comparison registers all handles, in batches, with the first followed plugin that has them
    or without one, and takes over those that are registered; local ones stay. Later events change what they
    name: created, changed, moved to each other's names or to another plugin, deleted. Each change has one
    event of this service."""
    ncmp = following.ncmp
    body = {"dmiPlugin": OTHER, "createdCmHandles": [{"cmHandle": "b"}, {"cmHandle": "mine"}]}
    await register(following.database, Settings(), msgspec.json.encode(body))
    ncmp.put(handle("a", ONE + OTHER), handle("b", OTHER), handle("c", NOT_FOLLOWED))
    ncmp.put(*(handle(f"n{n}", ONE, publicCmHandleProperties=[]) for n in range(BATCH)))
    with log_lines() as lines:
        async with following.running():
            await following.same()
            assert (await following.handles())["mine"][-1] is False
            (plugin,) = await rows(following.database, "select * from dmi_plugin where url = $1", ONE)
            assert plugin["dialect"] == "onap"
            asked = ncmp.asked.copy()
            local = msgspec.json.encode({"removedCmHandles": ["a"]})
            outcome = await register(following.database, following.settings, local)
            assert [each.error_code for each in outcome.failed_removed_cm_handles] == ["108"]
            ncmp.put(handle("d", ONE), handle("a", ONE, cmHandleProperties={"segmentId": "8"}))
            ncmp.put(handle("n1", ONE, alternateId="/ManagedElement=n2"))
            ncmp.put(handle("n2", ONE, alternateId="/ManagedElement=n1"))
            ncmp.put(handle("n3", OTHER))
            del ncmp.handles["b"]
            await following.sends(
                event("n3", "delete"), event("n3", "create"), event("n3", "update"),
                event("d", "create", 1), event("d", "update", 1), event("a", "update"),
                event("n1", "update"), event("n2", "update"), event("b", "delete"),
            )  # fmt: skip
            await following.same()
            assert ncmp.asked["search"] == asked["search"]
            assert ncmp.asked["look-up"] - asked["look-up"] == 6
            assert ncmp.asked["plugin"] - asked["plugin"] == 2
    (compared,) = [line for line in lines() if line["event"] == "follow.compared"]
    counts = {
        name: compared[name]
        for name in ("handles", "created", "changed", "removed", "refused", "without_plugin")
    }
    assert counts == {
        "handles": BATCH + 3,
        "created": BATCH + 2,
        "changed": 1,
        "removed": 0,
        "refused": 0,
        "without_plugin": 1,
    }
    events = await rows(
        following.database,
        "select key, headers->>'ce_type' as kind from outbox where key in ('a', 'b', 'd') "
        "order by key, position",
    )
    kinds = [(each["key"], each["kind"].rpartition(".")[2]) for each in events]
    assert kinds == [("a", "create"), ("a", "update"), ("b", "update"), ("b", "delete"), ("d", "create")]


async def test_an_operation_for_a_handle_without_a_plugin_fails(following: Following) -> None:
    """It owns its objects, so that no handle above it gets them; the detail says what is missing."""
    following.ncmp.put(
        handle("above", ONE, alternateId="/SN=1"), handle("none", NOT_FOLLOWED, alternateId="/SN=1/ME=1")
    )
    async with following.running():
        await following.same()
    owners = await OwnerIndex(following.database).catch_up()
    operations = [
        {"op": "merge", "path": "/SN=1/ME=1/Cell=1", "operationId": 1, "value": {"a": 1}},
        {"op": "merge", "path": "/SN=1/ME=2", "operationId": 2, "value": {"a": 1}},
    ]
    plan = split(json.dumps({"data": operations}).encode(), owners)
    assert [(each.reason, each.position) for each in plan.refused] == [(Reason.NO_DATA_PRODUCER, 0)]
    assert "no DMI plugin" in plan.refused[0].detail
    assert [each.operations for each in plan.sub_jobs] == [1]


async def test_a_lost_event_is_found_by_the_next_comparison(following: Following) -> None:
    """An event that cannot be read leads to a comparison: what has changed without an event arrives, and what
    is gone is removed, if NCMP does not find it by its id either."""
    ncmp = following.ncmp
    ncmp.put(handle("a", ONE), handle("b", ONE), handle("c", ONE))
    async with following.running():
        await following.same()
        ncmp.put(handle("a", OTHER, alternateId="/ManagedElement=other"))
        del ncmp.handles["b"]
        ncmp.unlisted = {"c"}
        await following.sends(Message("x", {}, b"{"))
        await following.same()
        ncmp.unknown = {"c"}  # an event that says nothing of a deletion
        searches = ncmp.asked["search"]
        await following.sends(event("c", "update"))
        await until(lambda: ncmp.asked["search"] > searches)
        ncmp.unlisted, ncmp.unknown = set(), set()
        await following.sends(Message("x", {}, b"{"))
        await following.same()


async def test_what_changes_during_a_comparison_arrives(following: Following) -> None:
    """A search shows NCMP as it was at its beginning. Events that come meanwhile are looked up afterwards."""
    ncmp = following.ncmp
    ncmp.put(handle("a", ONE), handle("b", ONE))
    ncmp.searching = asyncio.Event()
    async with following.running():
        await until(lambda: ncmp.asked["search"] == 1)
        del ncmp.handles["a"]
        ncmp.put(handle("b", OTHER, dataProducerIdentifier="q"), handle("c", ONE))
        await following.sends(event("a", "delete"), event("b", "update"), event("c", "create"))
        received = "select 1 from bus_position where topic = $1 and next_offset = 3"
        await until(lambda: rows(following.database, received, LCM_TOPIC))
        ncmp.searching.set()
        await following.same()
    assert ncmp.asked["search"] == 1


async def test_ncmp_can_be_away(following: Following) -> None:
    """This is logged once, and shown as a metric; nothing is removed. When it is back, all that has happened
    arrives, also that of which events came meanwhile."""
    ncmp = following.ncmp
    ncmp.put(handle("a", ONE), handle("b", ONE))
    with log_lines() as lines:
        async with following.running():
            await following.same()
            ncmp.status = 503
            del ncmp.handles["a"]
            ncmp.put(handle("c", ONE))
            await following.sends(event("a", "delete"), event("c", "create"))
            await until(lambda: b"datajobs_follow_failing 1.0" in following.metrics.exposition())
            asked = ncmp.asked["search"]
            await until(lambda: ncmp.asked["search"] > asked)
            assert sorted(await following.handles()) == ["a", "b"]
            ncmp.status = 200
            await following.same()
            assert b"datajobs_follow_failing 0.0" in following.metrics.exposition()
            assert b'datajobs_follow_changes_total{change="removed"} 1.0' in following.metrics.exposition()
    said = [line["event"] for line in lines() if line["event"].startswith("follow.")]
    assert said.count("follow.unavailable") == said.count("follow.available") == 1


async def test_what_cannot_be_registered_is_counted(following: Following) -> None:
    """A handle in another shape, with an invalid id or with the alternate id of another one stops nothing."""
    following.ncmp.put(handle("a", ONE), handle("z", ONE))
    following.ncmp.items = [
        b'{"cmHandle":"x","alternateId":7}',
        b"7",
        b'{"cmHandle":"a b"}',
        b'{"cmHandle":"y","alternateId":"/ManagedElement=a"}',
    ]
    with log_lines() as lines:
        async with following.running():
            await following.same()
            await until(lambda: any(line["event"] == "follow.compared" for line in lines()))
    (compared,) = [line for line in lines() if line["event"] == "follow.compared"]
    assert compared["refused"] == 4


async def test_one_worker_follows_and_the_next_takes_over(following: Following) -> None:
    """Of two workers one compares. When its session is cut within a search, it changes nothing more; the
    next one begins with a comparison."""
    ncmp = following.ncmp
    ncmp.put(handle("a", ONE))
    with log_lines() as lines:
        async with following.running(), following.running():
            await following.same()
            assert ncmp.asked["search"] == 1
            ncmp.put(handle("b", ONE))
            ncmp.searching = asyncio.Event()
            await following.sends(Message("x", {}, b"{"))
            await until(lambda: ncmp.asked["search"] == 2)
            waiting, ncmp.searching = ncmp.searching, None
            await rows(
                following.database,
                "select pg_terminate_backend(pid) from pg_locks"
                " where locktype = 'advisory' and objid = 7263406",
            )
            ncmp.handles.pop("a")
            waiting.set()
            await following.same()
    assert [line["event"] for line in lines()].count("follow.started") == 2


async def test_ncmp_gets_the_credentials_of_its_address(following: Following, tmp_path: Path) -> None:
    """From the file of the plugins' credentials. Without an entry the log says what is missing."""
    encoded = base64.b64encode(b"cpsuser:secret").decode()
    following.ncmp._authorization = f"Basic {encoded}"
    following.ncmp.put(handle("a", ONE))
    with log_lines() as lines:
        async with following.running():
            await until(lambda: any(line["event"] == "follow.unavailable" for line in lines()))
    (said,) = [line for line in lines() if line["event"] == "follow.unavailable"]
    assert "DATAJOBS_DMI_CREDENTIALS_FILE has none" in said["cause"]
    following.credentials = tmp_path / "credentials"
    entry = {"username": "cpsuser", "password": "secret"}
    following.credentials.write_text(json.dumps({following.settings.follow_ncmp: entry}))
    async with following.running():
        await following.same()


async def test_diff_lists_what_a_comparison_would_change(following: Following, tmp_path: Path) -> None:
    """Each handle to create, change, remove or refuse; afterwards only what is refused. Values of private
    properties are not shown. Handles of no plugin are listed by the API as such."""
    ncmp = following.ncmp
    body = {
        "dmiPlugin": OTHER,
        "createdCmHandles": [{"cmHandle": "mine", "alternateId": "/ManagedElement=x"}, {"cmHandle": "both"}],
    }
    await register(following.database, Settings(), msgspec.json.encode(body))
    ncmp.put(*(handle(name, ONE) for name in ("same", "gone", "moved")))
    async with following.running():
        await following.same()
    del ncmp.handles["gone"]
    ncmp.put(handle("moved", NOT_FOLLOWED, cmHandleProperties={"k": "s3cret"}, publicCmHandleProperties=[{}]))
    ncmp.put(
        handle("new", ONE), handle("both", OTHER), handle("x", ONE), handle("bad", ONE, alternateId="no")
    )
    async with northbound_api(following.database, tmp_path, free_port()) as api:
        settings = following.settings.with_changes(server=api.root)

        def differences() -> dict[str, Difference]:
            return {each.cm_handle: each for each in differences_from_ncmp(settings, Api(settings))}

        found = await asyncio.to_thread(differences)
        assert {name: each.change for name, each in found.items()} == {
            "gone": "remove", "moved": "change", "new": "create",
            "both": "change", "x": "refuse", "bad": "refuse",
        }  # fmt: skip
        assert found["moved"].fields == {
            "dmiPlugin": (ONE, None),
            "public.Color": ("yellow", None),
            "private.k": (None, None),
            "private.segmentId": (None, None),
        }
        assert found["x"].why == "the alternate id is that of mine"
        async with following.running():
            await until(lambda: _has(following, "new"))
            await until(lambda: _has(following, "gone", there=False))
        assert (await asyncio.to_thread(differences)).keys() == {"x", "bad"}
        listed = (await api.get(paths.CM_HANDLES + "?plugin=none")).json()["items"]
        assert [(each["cmHandle"], each["dmiPlugin"], each["followed"]) for each in listed] == [
            ("moved", "", True)
        ]
        owner = (await api.get(paths.CM_HANDLE_OWNER + "?fdn=/ManagedElement=moved/Cell=1")).json()
        assert (owner["cmHandle"], owner["writePlugin"], owner["openJobCount"]) == ("moved", "", 0)


async def _has(following: Following, name: str, *, there: bool = True) -> bool:
    return (name in await following.handles()) is there
