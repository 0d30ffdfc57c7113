# SPDX-License-Identifier: Apache-2.0
"""The health of plugins: over real HTTP, into a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from ran_datajobs.config import Settings
from ran_datajobs.inventory.registry import register
from ran_datajobs.plugins.client import Answered, Broken, HttpBounds, NotSent, PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.plugins.health import Health, HealthChecks, health_of
from ran_datajobs.store.database import Database
from ran_datajobs.store.figures import figures
from ran_datajobs.telemetry import Digest, logger
from tests.kit.plugins.scripted import Manner, ScriptedPlugin
from tests.kit.worker_parts import log_lines, rows

UP = b'{"status":"UP"}'

TRUST = """
    select h.cm_handle,
           case when h.trust_level = 'NONE' or array[h.plugin_id, h.read_plugin_id, h.write_plugin_id]
                     && array(select plugin_id from dmi_plugin where not healthy)
                then 'NONE' else 'COMPLETE' end as trust_level
    from cm_handle h order by 1
"""
"""The expression of migration 16."""


async def registered(database: Database, url: str, *handles: str, **fields: Any) -> None:
    created = [{"cmHandle": each, "dataProducerIdentifier": "p"} for each in handles]
    body = {"dmiPlugin": url, "createdCmHandles": created, **fields}
    assert not (await register(database, Settings(), msgspec.json.encode(body))).failed


@pytest.fixture
async def http() -> AsyncIterator[PeerHttp]:
    """A client with a short timeout."""
    async with PeerHttp(HttpBounds(total=1.0)) as peers:
        yield peers


def checks(database: Database, http: PeerHttp, interval: float = 30.0) -> HealthChecks:
    return HealthChecks(database, http, Credentials(None), logger(), Digest(logger()), interval)


async def due_now(database: Database) -> None:
    await database.fetch("update dmi_plugin set health_due_at = now()")


async def health(database: Database) -> list[tuple[Any, Any]]:
    found = await rows(database, "select healthy, health_cause from dmi_plugin order by plugin_id")
    return [(each["healthy"], each["health_cause"]) for each in found]


async def test_health_follows_the_plugin(database: Database, http: PeerHttp) -> None:
    """Unknown, up, down, up again: each state has its beginning, and its cause while it is down. The trust of
    its handles is the worse of their own and its health, also where it is the plugin of their reads only."""
    plugin, other = ScriptedPlugin(), "http://127.0.0.1:1"
    async with plugin.serving() as url:
        await registered(database, url, "a", "b", updatedCmHandles=[{"cmHandle": "b", "trustLevel": "NONE"}])
        await registered(database, other, "c", dmiDatajobsReadPlugin=url)
        await database.fetch("update dmi_plugin set health_due_at = 'infinity' where url = $1", other)
        run = checks(database, http)
        with log_lines() as lines:
            seen = []
            for status in (None, "UP", "UP", "DOWN", "OUT_OF_SERVICE", "UP"):
                plugin.manner = Manner(health=status)
                await database.fetch("update dmi_plugin set health_due_at = now() where url = $1", url)
                await run.check_due()
                (row,) = await rows(database, "select * from dmi_plugin where url = $1", url)
                trust = [each["trust_level"] for each in await rows(database, TRUST)]
                seen.append((row["healthy"], row["health_cause"], trust, row["healthy_since"]))
            run.digest.write()
            noted = [(line["health"], line["level"]) for line in lines()]
    good, bad = ["COMPLETE", "NONE", "COMPLETE"], ["NONE", "NONE", "NONE"]
    assert [each[:3] for each in seen] == [
        (None, None, good),
        (True, None, good),
        (True, None, good),
        (False, "HTTP 503, its health is DOWN", bad),
        (False, "its health is OUT_OF_SERVICE", bad),
        (True, None, good),
    ]
    since = [each[3] for each in seen]
    assert since[1] == since[2]
    assert since[3] == since[4]
    assert len(set(since)) == 4
    assert sorted(noted) == [("DOWN", "warning"), ("UP", "info")]


async def test_a_plugin_that_does_not_answer_is_down(
    database: Database, http: PeerHttp, free_port: int
) -> None:
    """A refused connection and a silent plugin; the metric counts the plugins."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        await registered(database, f"http://127.0.0.1:{free_port}", "a")
        await registered(database, f"http://127.0.0.1:{port}", "b")
        await checks(database, http).check_due()
    refused, mute = await health(database)
    assert refused == (False, "connection refused")
    assert mute[0] is False
    async with database.connection() as connection:
        found = (await figures(connection))["datajobs_plugins"]
    assert found == {"UP": 0.0, "DOWN": 2.0, "UNKNOWN": 0.0}


async def test_our_own_health_counts_where_there_is_no_actuator(database: Database, http: PeerHttp) -> None:
    """``/healthz`` is asked after a 404; a plugin that has neither is unknown, and so is one that denies."""
    ours, neither, denies = (
        ScriptedPlugin(manner=Manner(healthz=True)),
        ScriptedPlugin(),
        ScriptedPlugin(manner=Manner(authorization="Bearer x", health="DOWN")),
    )
    async with ours.serving() as one, neither.serving() as two, denies.serving() as three:
        for number, url in enumerate((one, two, three)):
            await registered(database, url, f"ch-{number}")
        await checks(database, http).check_due()
    assert await health(database) == [(True, None), (None, None), (None, None)]
    assert [each.path for each in neither.received] == ["/actuator/health", "/healthz"]


async def test_each_plugin_is_asked_once_in_an_interval(database: Database, http: PeerHttp) -> None:
    """However many workers ask. A plugin without handles is not asked."""
    plugin, unused = ScriptedPlugin(manner=Manner(health="UP")), ScriptedPlugin(manner=Manner(health="UP"))
    async with plugin.serving() as url, unused.serving() as unused_url:
        await registered(database, url, "a")
        await registered(database, unused_url, "b")
        await registered(database, unused_url, removedCmHandles=["b"])
        await asyncio.gather(*(checks(database, http).check_due() for _ in range(4)))
        assert len(plugin.received) == 1
        assert not unused.received
        await due_now(database)
        await asyncio.gather(*(checks(database, http).check_due() for _ in range(4)))
        assert len(plugin.received) == 2


async def test_a_plugin_gets_its_credentials(database: Database, http: PeerHttp, tmp_path: Any) -> None:
    """Also with this call."""
    plugin = ScriptedPlugin(manner=Manner(authorization="Bearer t", health="UP"))
    async with plugin.serving() as url:
        await registered(database, url, "a")
        (tmp_path / "file").write_text(json.dumps({url: {"token": "t"}}))
        run = HealthChecks(database, http, Credentials(tmp_path / "file"), logger(), Digest(logger()), 30.0)
        await run.check_due()
    assert await health(database) == [(True, None)]


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        (Answered(200, UP), Health(True)),
        (Answered(200, b'{"status":"UP","groups":["liveness"]}'), Health(True)),
        (Answered(200, b'{"status":"DOWN"}'), Health(False, "its health is DOWN")),
        (
            Answered(200, b'{"status":"x\\n' + b"y" * 500 + b'"}'),
            Health(False, "its health is x " + "y" * 98),
        ),
        (Answered(200, b"<html>"), Health(None)),
        (Answered(200, b'{"status":7}'), Health(None)),
        (Answered(200, None), Health(None)),
        (Answered(204, b""), Health(None)),
        (Answered(301, b""), Health(None)),
        (Answered(401, b""), Health(None)),
        (Answered(404, b""), Health(None)),
        (Answered(501, b""), Health(None)),
        (Answered(500, b"\xff"), Health(False, "HTTP 500")),
        (Answered(503, UP), Health(False, "HTTP 503, its health is UP")),
        (NotSent("connection refused"), Health(False, "connection refused")),
        (Broken("no whole answer within 5 s"), Health(False, "no whole answer within 5 s")),
    ],
)
def test_what_an_answer_means(exchange: Any, expected: Health) -> None:
    """The table of the module."""
    assert health_of(exchange) == expected
