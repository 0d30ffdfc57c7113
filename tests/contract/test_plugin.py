# SPDX-License-Identifier: Apache-2.0
"""The contract of a DMI plugin, in both dialects, over real HTTP: the reference plugin and its simulated
twin."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.model import OperationState, Status
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.port import (
    Created,
    DmiPlugin,
    JobAddress,
    Lost,
    PluginProfile,
    Polled,
    Refused,
    Responses,
)
from tests.kit.plugin_parts import WatchedElement, address_of, call_for, served_plugin, until_terminal, writes
from tests.kit.plugins.scripted import ScriptedPlugin

DIALECTS = ("seed", "onap")


@contextlib.asynccontextmanager
async def reference(folder: Path) -> AsyncIterator[str]:
    element = WatchedElement()
    async with served_plugin(PluginSettings(folder), lambda _: element) as url:
        yield url


@contextlib.asynccontextmanager
async def scripted(_: Path) -> AsyncIterator[str]:
    async with ScriptedPlugin().serving() as url:
        yield url


@pytest.fixture(params=[reference, scripted], ids=["reference", "scripted"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The base address of a plugin without faults."""
    async with request.param(tmp_path / "dmi") as address:
        yield address


@pytest.fixture(params=DIALECTS)
async def plugin(request: pytest.FixtureRequest, url: str) -> AsyncIterator[tuple[str, DmiPlugin]]:
    """A dialect and the client that speaks it."""
    async with PeerHttp() as http:
        yield request.param, plugins_over(http)(PluginProfile(1, url, request.param))


async def test_a_write_goes_from_create_to_its_outcomes_in_order(plugin: tuple[str, DmiPlugin]) -> None:
    """A write is created, ends FINISHED, and its result has one success per operation in their order."""
    dialect, client = plugin
    call = call_for(dialect, writes(1_250))
    address = address_of(call, await client.create(call))
    assert (await until_terminal(client, address))[-1] is Status.FINISHED
    result = await client.result(address)
    assert isinstance(result, Responses)
    assert [int(one.operation_id) for one in result.responses] == list(range(1_250))
    assert {one.state for one in result.responses} == {OperationState.SUCCEEDED}


async def test_the_same_key_is_the_same_job(plugin: tuple[str, DmiPlugin]) -> None:
    """A repeated create with the same Idempotency-Key returns the id of the first."""
    dialect, client = plugin
    call = call_for(dialect, writes(3))
    first, second = await client.create(call), await client.create(call)
    assert isinstance(first, Created)
    assert first == second


async def test_another_key_is_another_job(plugin: tuple[str, DmiPlugin]) -> None:
    """Two creates with different keys are two jobs, though their bodies are equal."""
    dialect, client = plugin
    one = await client.create(call_for(dialect, writes(1), job_id="job-1"))
    two = await client.create(call_for(dialect, writes(1), job_id="job-1"))
    assert isinstance(one, Created)
    assert isinstance(two, Created)
    assert one != two


async def test_an_unknown_job_is_lost(plugin: tuple[str, DmiPlugin]) -> None:
    """Status and result of an id that the plugin never assigned are Lost; it cannot be cancelled."""
    _, client = plugin
    address = JobAddress("no-job", "producer-1", "no such id", "", False)
    assert isinstance(await client.status(address), Lost)
    assert isinstance(await client.result(address), Lost)
    assert isinstance(await client.cancel(address), Refused)


async def test_names_of_any_characters_arrive(plugin: tuple[str, DmiPlugin]) -> None:
    """Slashes, percent signs, blanks and dots within ids reach the plugin unchanged."""
    dialect, client = plugin
    call = call_for(dialect, writes(1), data_producer_id="EMS 1/é%2F?#&=..", job_id="../../job 1")
    address = address_of(call, await client.create(call))
    assert (await until_terminal(client, address))[-1] is Status.FINISHED


async def test_a_body_that_is_no_create_is_refused(plugin: tuple[str, DmiPlugin]) -> None:
    """An operation list of the wrong shape is Refused with the plugin's text; no job is created."""
    dialect, client = plugin
    call = call_for(dialect, writes(1))
    answer = await client.create(structs.replace(call, operations=b'[{"op":"copy"}]'))
    assert isinstance(answer, Refused)
    assert answer.cause.startswith("HTTP 400: ")


async def test_polling_again_after_the_end_tells_the_same(plugin: tuple[str, DmiPlugin]) -> None:
    """A terminal status and a result can be read again and stay the same."""
    dialect, client = plugin
    call = call_for(dialect, writes(2))
    address = address_of(call, await client.create(call))
    await until_terminal(client, address)
    assert await client.status(address) == Polled(Status.FINISHED)
    first, second = await client.result(address), await client.result(address)
    assert isinstance(first, Responses)
    assert isinstance(second, Responses)
    assert [one.operation_id for one in first.responses] == [one.operation_id for one in second.responses]
