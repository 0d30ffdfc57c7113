# SPDX-License-Identifier: Apache-2.0
"""Plugins that want credentials, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.port import (
    CancelTaken,
    Created,
    JobAddress,
    PluginProfile,
    Polled,
    Refused,
    Responses,
    Retryable,
)
from tests.kit.plugin_parts import address_of, call_for, writes
from tests.kit.plugins.scripted import Manner, Script, ScriptedPlugin

TOKEN = "token-4711"


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[ScriptedPlugin, str]]:
    """A plugin that wants a token, and its address."""
    plugin = ScriptedPlugin(manner=Manner(authorization=f"Bearer {TOKEN}"))
    async with plugin.serving() as url:
        yield plugin, url


def credentials(folder: Path, url: str, token: str = TOKEN) -> Credentials:
    file = folder / "credentials.json"
    file.write_text(json.dumps({url: {"token": token}}))
    return Credentials(file)


@pytest.mark.parametrize("dialect", ["seed", "onap"])
async def test_every_call_has_the_credentials(
    tmp_path: Path, scripted: tuple[ScriptedPlugin, str], dialect: str
) -> None:
    """Create, status, result, and both kinds of DELETE."""
    plugin, url = scripted
    plugin.script("producer-1", Script(statuses=("RUNNING",)))
    async with PeerHttp() as http:
        client = plugins_over(http, credentials(tmp_path, url))(PluginProfile(1, url, dialect))
        call = call_for(dialect, writes(1))
        created = await client.create(call)
        assert isinstance(created, Created)
        address = address_of(call, created)
        assert isinstance(await client.status(address), Polled)
        assert isinstance(await client.result(address), Responses)
        assert isinstance(await client.cancel(address), CancelTaken)
        assert isinstance(await client.cancel_job(call.job_id, is_read=False), CancelTaken)
    assert {each.authorization for each in plugin.received} == {f"Bearer {TOKEN}"}
    assert len(plugin.received) == 5


async def test_a_denial_says_what_to_do(tmp_path: Path, scripted: tuple[ScriptedPlugin, str]) -> None:
    """With none, and with wrong ones, which the plugin repeats in its answer: they are not in the cause."""
    _, url = scripted
    async with PeerHttp() as http:
        profile = PluginProfile(1, url, "auto")
        without = await plugins_over(http)(profile).create(call_for("seed", writes(1)))
        assert isinstance(without, Refused)
        assert "DATAJOBS_DMI_CREDENTIALS_FILE has none for its address" in without.cause
        wrong = plugins_over(http, credentials(tmp_path, url, "wrong-0815"))(profile)
        refused = await wrong.create(call_for("seed", writes(1)))
        advice = "it does not accept the credentials that DATAJOBS_DMI_CREDENTIALS_FILE has for its address"
        assert refused == Refused(f"HTTP 401: {advice}")
        polled = await wrong.status(JobAddress("j", "p", "d", "", False))
        assert isinstance(polled, Retryable)
        assert polled.cause.startswith("HTTP 401: it does not accept the credentials")


async def test_they_are_sent_to_their_address_only(
    tmp_path: Path, scripted: tuple[ScriptedPlugin, str]
) -> None:
    """A plugin at another port, or beside the path, gets none."""
    plugin, url = scripted
    plugin.manner = Manner()
    other = ScriptedPlugin()
    async with other.serving() as other_url, PeerHttp() as http:
        plugin_of = plugins_over(http, credentials(tmp_path, f"{url}/north"))
        for each in (url, f"{url}/northwest", f"{url}/north/%2e%2e", other_url):
            await plugin_of(PluginProfile(1, each, "seed")).create(call_for("seed", writes(1)))
        assert {each.authorization for each in (*plugin.received, *other.received)} == {None}
        await plugin_of(PluginProfile(1, f"{url}/north/a", "seed")).create(call_for("seed", writes(1)))
        assert plugin.received[-1].authorization == f"Bearer {TOKEN}"
