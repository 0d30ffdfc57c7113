# SPDX-License-Identifier: Apache-2.0
"""How the clients handle a faulty DMI plugin: every fault over real HTTP, in both dialects."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from ran_datajobs.model import OperationState, Status
from ran_datajobs.plugins.client import HttpBounds, PeerHttp
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.port import (
    CancelTaken,
    Created,
    DmiPlugin,
    JobAddress,
    Lost,
    NoOutcomes,
    OutcomeUnknown,
    PluginProfile,
    Polled,
    Refused,
    Responses,
    Retryable,
    UnreadableBody,
    UnrecognisedResult,
)
from tests.kit.plugin_parts import DEADLINE, SECRETS, address_of, call_for, writes
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step

SHORT = HttpBounds(total=1.0, result_total=1.0, answer_bytes=100_000, result_bytes=200_000)


def _once(step: Step) -> tuple[Step, ...]:
    """``step`` once, then no fault. A GET dropped on a kept-alive connection is retried once at once."""
    return (step, step, Step.OBEY) if step is Step.DROP else (step, Step.OBEY)


@pytest.fixture(params=["seed", "onap"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Each dialect."""
    spoken: str = request.param
    return spoken


@pytest.fixture
async def twin(dialect: str) -> AsyncIterator[tuple[ScriptedPlugin, DmiPlugin]]:
    """A scripted plugin and a client with short bounds."""
    scripted = ScriptedPlugin()
    async with scripted.serving() as url, PeerHttp(SHORT) as http:
        yield scripted, plugins_over(http)(PluginProfile(1, url, dialect))
    gc.collect()


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step.REFUSE, Refused),
        (Step.NOT_IMPLEMENTED, Refused),
        (Step.LOSE, Refused),
        (Step.REDIRECT, Refused),
        (Step.BUSY, Retryable),
        (Step.ERROR, OutcomeUnknown),
        (Step.WRONG_SHAPE, OutcomeUnknown),
        (Step.NOT_JSON, OutcomeUnknown),
        (Step.HUGE, OutcomeUnknown),
        (Step.STALL, OutcomeUnknown),
        (Step.DROP, OutcomeUnknown),
        (Step.CUT, OutcomeUnknown),
        (Step.GARBAGE, OutcomeUnknown),
    ],
)
async def test_a_create_that_fails_tells_whether_it_can_have_arrived(
    dialect: str, twin: tuple[ScriptedPlugin, DmiPlugin], step: Step, expected: type
) -> None:
    """Only a 503 counts as not arrived and only an explicit refusal as refused; anything else is unknown."""
    scripted, client = twin
    scripted.script("producer-1", Script(create=(step, Step.OBEY)))
    call = call_for(dialect, writes(2))
    assert isinstance(await client.create(call), expected)
    assert isinstance(await client.create(call), Created)
    executed = {Refused: 1, Retryable: 1, OutcomeUnknown: 1}[expected]
    assert len(scripted.history) == executed, "the repeat with the same key executed nothing more"


async def test_a_busy_plugin_may_say_when_to_come_back(
    dialect: str, twin: tuple[ScriptedPlugin, DmiPlugin]
) -> None:
    """Retry-After of a 503 is returned in seconds."""
    scripted, client = twin
    scripted.script("producer-1", Script(create=(Step.BUSY,)))
    answer = await client.create(call_for(dialect, writes(1)))
    assert isinstance(answer, Retryable)
    assert (answer.cause, answer.retry_after) == ("HTTP 503: busy by its script", 1.0)


async def test_connection_refused(dialect: str, free_port: int) -> None:
    """A refused connection proves that a create did not arrive."""
    async with PeerHttp(SHORT) as http:
        client = plugins_over(http)(PluginProfile(1, f"http://127.0.0.1:{free_port}", dialect))
        assert await client.create(call_for(dialect, writes(1))) == Retryable("connection refused")
        assert await client.status(JobAddress("j", "p", "d", "", False)) == Retryable("connection refused")


async def test_no_such_host(dialect: str) -> None:
    """A name that does not resolve proves that a create did not arrive."""
    async with PeerHttp(SHORT) as http:
        client = plugins_over(http)(PluginProfile(1, "http://no-such-host.invalid:1", dialect))
        assert isinstance(await client.create(call_for(dialect, writes(1))), Retryable)


async def test_no_free_connection_means_not_arrived(
    dialect: str, twin: tuple[ScriptedPlugin, DmiPlugin]
) -> None:
    """A create that gets no connection, since all to its host are in use, was not sent and does not count as
    sent."""
    scripted, _ = twin
    scripted.script("stalling", Script(create=(Step.STALL,)))
    bounds = HttpBounds(connect=0.2, total=5.0, per_host=1)
    async with scripted.serving() as url, PeerHttp(bounds) as http:
        client = plugins_over(http)(PluginProfile(1, url, dialect))
        scripted.changed.clear()
        stalled = asyncio.create_task(
            client.create(call_for(dialect, writes(1), data_producer_id="stalling"))
        )
        async with asyncio.timeout(DEADLINE):
            await scripted.changed.wait()
        assert await client.create(call_for(dialect, writes(1))) == Retryable("no connection in time")
        stalled.cancel()
        await asyncio.gather(stalled, return_exceptions=True)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step.LOSE, Lost),
        (Step.REFUSE, Retryable),
        (Step.BUSY, Retryable),
        (Step.ERROR, Retryable),
        (Step.WRONG_SHAPE, Retryable),
        (Step.NOT_JSON, Retryable),
        (Step.HUGE, Retryable),
        (Step.STALL, Retryable),
        (Step.DROP, Retryable),
        (Step.CUT, Retryable),
        (Step.GARBAGE, Retryable),
        (Step.REDIRECT, Retryable),
    ],
)
async def test_a_poll_that_fails_is_no_answer_unless_the_job_is_gone(
    dialect: str, twin: tuple[ScriptedPlugin, DmiPlugin], step: Step, expected: type
) -> None:
    """Only 404 means that the job is lost; after any other fault the next poll works."""
    scripted, client = twin
    scripted.script("producer-1", Script(status=_once(step)))
    call = call_for(dialect, writes(1))
    address = address_of(call, await client.create(call))
    assert isinstance(await client.status(address), expected)
    assert await client.status(address) == Polled(Status.FINISHED)


async def test_statuses_are_read_in_both_spellings_and_nonsense_is_no_answer(
    dialect: str, twin: tuple[ScriptedPlugin, DmiPlugin]
) -> None:
    """FINSHED and FINISHED are finished; an unknown status counts as no answer."""
    scripted, client = twin
    scripted.script("producer-1", Script(statuses=("RUNNING", "DONE", "finished", "FINISHED", "FINSHED")))
    call = call_for(dialect, writes(1))
    address = address_of(call, await client.create(call))
    assert await client.status(address) == Polled(Status.RUNNING)
    assert isinstance(await client.status(address), Retryable)
    assert isinstance(await client.status(address), Retryable)
    assert await client.status(address) == Polled(Status.FINISHED)
    assert await client.status(address) == Polled(Status.FINISHED)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step.LOSE, Lost),
        (Step.WRONG_SHAPE, UnrecognisedResult),
        (Step.NOT_JSON, UnreadableBody),
        (Step.NOTHING, NoOutcomes),
        (Step.REFUSE, Refused),
        (Step.NOT_YET, Retryable),
        (Step.NOT_IMPLEMENTED, Retryable),
        (Step.REDIRECT, Retryable),
        (Step.BUSY, Retryable),
        (Step.ERROR, Retryable),
        (Step.HUGE, Retryable),
        (Step.STALL, Retryable),
        (Step.DROP, Retryable),
        (Step.CUT, Retryable),
        (Step.GARBAGE, Retryable),
    ],
)
async def test_a_fetch_that_fails_can_be_repeated_and_a_body_without_outcomes_is_kept(
    dialect: str, twin: tuple[ScriptedPlugin, DmiPlugin], step: Step, expected: type
) -> None:
    """A body without outcomes is returned unchanged and a refusal is final. After any other fault the result
    can be fetched again."""
    scripted, client = twin
    scripted.script("producer-1", Script(result=_once(step), outcome=OperationState.FAILED))
    call = call_for(dialect, writes(2))
    address = address_of(call, await client.create(call))
    answer = await client.result(address)
    assert isinstance(answer, expected)
    if isinstance(answer, UnrecognisedResult | UnreadableBody):
        assert answer.body == (b'{"verdict":["fine"]}' if expected is UnrecognisedResult else b"\xff\xfe{")
    result = await client.result(address)
    assert isinstance(result, Responses)
    assert [one.state for one in result.responses] == [OperationState.FAILED] * 2


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step.OBEY, CancelTaken),
        (Step.LOSE, Refused),
        (Step.NOT_IMPLEMENTED, Refused),
        (Step.REFUSE, Refused),
        (Step.BUSY, Retryable),
        (Step.ERROR, Retryable),
        (Step.STALL, Retryable),
        (Step.GARBAGE, Retryable),
    ],
)
async def test_a_cancel_that_fails_tells_whether_to_ask_again(
    dialect: str, twin: tuple[ScriptedPlugin, DmiPlugin], step: Step, expected: type
) -> None:
    """A plugin without support for cancel returns a final answer; after a fault the call can be repeated."""
    scripted, client = twin
    scripted.script("producer-1", Script(cancel=(step,)))
    call = call_for(dialect, writes(1))
    address = address_of(call, await client.create(call))
    assert isinstance(await client.cancel(address), expected)


async def test_a_refusal_that_repeats_private_properties_is_told_without_its_words(
    dialect: str, twin: tuple[ScriptedPlugin, DmiPlugin]
) -> None:
    """The text of a plugin's refusal is returned, unless it contains a private property."""
    scripted, client = twin
    scripted.script("producer-1", Script(create=(Step.REFUSE, Step.ECHO)))
    call = call_for(dialect, writes(1))
    assert await client.create(call) == Refused("HTTP 400: refused by its script")
    assert await client.create(call) == Refused("HTTP 400")
    assert SECRETS[0] in call.operations, "the request did hold one"


async def test_the_bound_of_a_result_grows_with_its_operations(dialect: str) -> None:
    """A result too large for its number of operations is not read; one of the same size for a large job
    is."""
    scripted = ScriptedPlugin()
    bounds = HttpBounds(result_bytes=1_000)
    async with scripted.serving() as url, PeerHttp(bounds) as http:
        client = plugins_over(http)(PluginProfile(1, url, dialect))
        call = call_for(dialect, writes(500))
        address = address_of(call, await client.create(call))
        answer = await client.result(address)
        assert answer == Retryable("the result is larger than the bound of 1000 bytes", answered=True)
        assert isinstance(await client.result(structs.replace(address, operations=500)), Responses)
