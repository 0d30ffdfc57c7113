# SPDX-License-Identifier: Apache-2.0
"""DELETE of a whole job, in both dialects, over real HTTP: the reference plugin and its simulated twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec import structs

from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.model import Operation, OperationState, Status
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.port import (
    CancelTaken,
    DmiPlugin,
    PluginProfile,
    Polled,
    Refused,
    Responses,
    Retryable,
)
from tests.kit.plugin_parts import (
    DEADLINE,
    KeptMessages,
    WatchedElement,
    address_of,
    call_for,
    reads,
    served_plugin,
    until_terminal,
    writes,
)
from tests.kit.plugins.scripted import ScriptedPlugin, Step

from .test_plugin_killed import BATCH, executed, killed_when, process

NOT_STARTED = OperationState.NOT_STARTED


@pytest.fixture(params=["seed", "onap"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Each dialect."""
    return str(request.param)


@pytest.fixture
async def http() -> AsyncIterator[PeerHttp]:
    """The client of all peers."""
    async with PeerHttp() as client:
        yield client


def client(http: PeerHttp, url: str, dialect: str) -> DmiPlugin:
    return plugins_over(http)(PluginProfile(1, url, dialect))


@pytest.mark.parametrize("operations", [writes(3), reads("Small")], ids=["write", "read"])
async def test_a_job_that_comes_after_its_cancel_ends_cancelled(
    tmp_path: Path, http: PeerHttp, dialect: str, operations: list[Operation]
) -> None:
    """The plugin accepts the DELETE of an unknown job. A later create of that job is answered as usual, its
    status is CANCELLED, and nothing is executed. Another job is executed."""
    element, messages = WatchedElement(), KeptMessages()
    async with served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: element, messages) as url:
        plugin = client(http, url, dialect)
        call, other = call_for(dialect, operations), call_for(dialect, operations)
        assert await plugin.cancel_job(call.job_id, is_read=call.is_read) == CancelTaken()
        assert await plugin.cancel_job(call.job_id, is_read=call.is_read) == CancelTaken()
        address = address_of(call, await plugin.create(call))
        assert (await until_terminal(plugin, address))[-1] is Status.CANCELLED
        assert element.executed == []
        another = address_of(other, await plugin.create(other))
        assert (await until_terminal(plugin, another))[-1] is Status.FINISHED
        assert len(element.executed) == len(operations)


async def test_one_call_stops_all_that_there_is_of_a_job(
    tmp_path: Path, http: PeerHttp, dialect: str
) -> None:
    """A running sub-job stops at its next batch and a waiting one ends at once, at every data producer. The
    job of another client in the same lane continues."""
    element = WatchedElement()
    element.gate.clear()
    async with served_plugin(PluginSettings(tmp_path / "dmi", batch=2), lambda _: element) as url:
        plugin = client(http, url, dialect)
        job_id = str(uuid4())
        calls = [
            call_for(dialect, writes(5, first=100 * n), job_id=job_id, data_producer_id=f"producer-{n % 2}")
            for n in range(4)
        ]
        other = call_for(dialect, writes(1, first=900), data_producer_id="producer-0")
        addresses = [address_of(call, await plugin.create(call)) for call in calls]
        another = address_of(other, await plugin.create(other))
        await asyncio.wait_for(element.waiting.wait(), DEADLINE)
        assert await plugin.cancel_job(job_id, is_read=False) == CancelTaken()
        for address in addresses[2:]:
            assert (await until_terminal(plugin, address))[-1] is Status.CANCELLED
        assert await plugin.status(another) == Polled(Status.NOT_STARTED)
        element.gate.set()
        for address in addresses[:2]:
            assert (await until_terminal(plugin, address))[-1] is Status.CANCELLED
            result = await plugin.result(address)
            assert isinstance(result, Responses)
            assert [each.state for each in result.responses][2:] == [NOT_STARTED] * 3
        assert (await until_terminal(plugin, another))[-1] is Status.FINISHED
        assert sorted(int(one) for one in element.executed) == [0, 1, 100, 101, 900]


async def test_a_repeated_create_after_the_cancel_is_the_same_job(
    tmp_path: Path, http: PeerHttp, dialect: str
) -> None:
    """The Idempotency-Key still refers to the cancelled job: the repeated create starts nothing."""
    element = WatchedElement()
    element.gate.clear()
    async with served_plugin(PluginSettings(tmp_path / "dmi", batch=1), lambda _: element) as url:
        plugin = client(http, url, dialect)
        call = call_for(dialect, writes(3))
        created = await plugin.create(call)
        await asyncio.wait_for(element.waiting.wait(), DEADLINE)
        await plugin.cancel_job(call.job_id, is_read=False)
        assert await plugin.create(call) == created
        element.gate.set()
        assert (await until_terminal(plugin, address_of(call, created)))[-1] is Status.CANCELLED
        assert [int(one) for one in element.executed] == [0]


async def test_a_killed_plugin_remembers_what_was_cancelled(tmp_path: Path, free_port: int) -> None:
    """A plugin killed right after its answer executes none of the job after a restart: neither accepted nor
    later sub-jobs. Cancelled jobs that it has dropped do not affect other jobs."""
    url, job_id = f"http://127.0.0.1:{free_port}", str(uuid4())
    async with PeerHttp() as http:
        plugin = client(http, url, "seed")
        calls = [call_for("seed", writes(10 * BATCH, first=1_000 * n), job_id=job_id) for n in range(3)]
        other = call_for("seed", writes(5, first=9_000))
        async with process(tmp_path, free_port) as started:
            addresses = [address_of(call, await plugin.create(call)) for call in calls]
            another = address_of(other, await plugin.create(other))
            assert await plugin.cancel_job(job_id, is_read=False) == CancelTaken()
            answered = executed(tmp_path)
            await killed_when(started, lambda: True)
        before = executed(tmp_path)
        async with process(tmp_path, free_port):
            late = call_for("seed", writes(5, first=8_000), job_id=job_id)
            addresses.append(address_of(late, await plugin.create(late)))
            for address in addresses:
                assert (await until_terminal(plugin, address))[-1] is Status.CANCELLED
            assert (await until_terminal(plugin, another))[-1] is Status.FINISHED
    assert len(before) - len(answered) <= BATCH, "at most the batch that was being executed"
    assert len(before) < 30 * BATCH
    assert [each for each in executed(tmp_path) if each < 9_000] == [each for each in before if each < 9_000]


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (Step.OBEY, CancelTaken),
        (Step.LOSE, Refused),
        (Step.NOT_IMPLEMENTED, Refused),
        (Step.REFUSE, Refused),
        (Step.BUSY, Retryable),
        (Step.ERROR, Retryable),
        (Step.DROP, Retryable),
    ],
)
async def test_what_a_plugin_may_answer(http: PeerHttp, dialect: str, step: Step, kind: type) -> None:
    """2xx means accepted; 4xx and 501 mean unsupported; anything else is no answer. The address contains the
    job's id encoded, whatever its characters."""
    scripted = ScriptedPlugin(cancel_all=(step,))
    async with scripted.serving() as url:
        for is_read in (False, True):
            answer = await client(http, url, dialect).cancel_job("job/1 ü", is_read=is_read)
            assert isinstance(answer, kind)
        assert {(each.kind, each.sub_job_id) for each in scripted.calls} == {("cancel all", "job/1 ü")}


async def test_the_twin_cancels_whole_jobs_too(http: PeerHttp, dialect: str) -> None:
    """A scripted plugin reports CANCELLED for all sub-jobs of the data job, and for no other."""
    scripted = ScriptedPlugin()
    async with scripted.serving() as url:
        plugin = client(http, url, dialect)
        call = call_for(dialect, writes(2))
        other = structs.replace(call_for(dialect, writes(2)), data_producer_id="producer-2")
        mine, another = [address_of(each, await plugin.create(each)) for each in (call, other)]
        await plugin.cancel_job(call.job_id, is_read=False)
        assert await plugin.status(mine) == Polled(Status.CANCELLED)
        assert await plugin.status(another) == Polled(Status.FINISHED)
