# SPDX-License-Identifier: Apache-2.0
"""The circuit breaker of a plugin: opened only by calls without an answer, probed one call at a time, closed
by any answer."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ran_datajobs.model import ActivationMode, Status
from ran_datajobs.plugins.circuit_breaker import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    OPENS_AFTER,
    PROBE_LASTS,
    CircuitBreaker,
    CircuitBreakers,
    ask,
    on_failure,
)
from ran_datajobs.plugins.port import (
    CancelAnswer,
    CancelTaken,
    CreateAnswer,
    CreateCall,
    Created,
    DmiPlugin,
    JobAddress,
    Lost,
    OutcomeUnknown,
    PluginProfile,
    Polled,
    Refused,
    Responses,
    ResultAnswer,
    Retryable,
    StatusAnswer,
)
from ran_datajobs.runtime import Runtime

CALL = CreateCall("j", "s", "p", "d", "", "", ActivationMode.BEST_EFFORT, False, b"[]")
ADDRESS = JobAddress("j", "p", "x", "d", False)


class CircuitCalls(RuleBasedStateMachine):
    """Many callers with concurrent calls, on a clock that advances at random."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = CircuitBreaker()
        self.now = 0.0
        self.under_way: deque[bool] = deque()  # whether it is a probe
        self.silences = 0
        self.probe_ends = 0.0

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        was_open = self.circuit.open_until is not None
        self.circuit, wait = ask(self.circuit, self.now)
        if wait == 0.0:
            assert not was_open or True not in self.under_way or self.now >= self.probe_ends
            if was_open:
                self.probe_ends = self.now + PROBE_LASTS
            self.under_way.append(was_open)
        else:
            assert was_open
            assert self.silences >= OPENS_AFTER
            assert wait <= max(LONGEST_PAUSE, PROBE_LASTS) * 1.001

    @precondition(lambda self: self.under_way)
    @rule()
    def answer(self) -> None:
        self.under_way.popleft()
        self.under_way = deque(False for _ in self.under_way)  # no probes of a circuit that opens later
        self.circuit = CircuitBreaker()
        self.silences = 0
        assert ask(self.circuit, self.now)[1] == 0.0

    @precondition(lambda self: self.under_way)
    @rule(jitter=st.floats(0, 1, exclude_max=True))
    def silence(self, jitter: float) -> None:
        probe = self.under_way.popleft()
        before = self.circuit
        self.circuit = on_failure(before, self.now, jitter, "refused", probe=probe)
        self.silences += 1
        if before.open_until is not None and not probe:
            assert self.circuit == before
        elif self.circuit.open_until is not None:
            pause = self.circuit.open_until - self.now
            wished = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(before.probes, 16))
            assert 0.74 * wished <= pause <= wished * 1.001

    @invariant()
    def only_a_row_of_silences_opens(self) -> None:
        assert (self.circuit.open_until is not None) <= (self.silences >= OPENS_AFTER)


TestCircuitCalls = CircuitCalls.TestCase
TestCircuitCalls.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_probes_come_at_growing_intervals_up_to_a_bound(chances: list[float]) -> None:
    """However long a plugin is unavailable, it is probed once per pause, each about twice the last, 30 s at
    most."""
    circuit, now, pauses = CircuitBreaker(), 0.0, []
    for _ in range(OPENS_AFTER - 1):
        circuit = on_failure(circuit, now, 0.0, "x", probe=False)
    assert ask(circuit, now)[1] == 0.0
    circuit = on_failure(circuit, now, 0.0, "x", probe=False)
    for jitter in chances:
        circuit, wait = ask(circuit, now)
        assert 0.0 < wait <= LONGEST_PAUSE * 1.001
        pauses.append(wait)
        now += wait
        circuit, allowed = ask(circuit, now)
        assert allowed == 0.0
        assert ask(circuit, now)[1] > 0.0
        circuit = on_failure(circuit, now, jitter, "x", probe=True)
    assert all(later >= 0.7 * earlier for earlier, later in pairwise(pauses))
    assert len(pauses) < 7 or pauses[-1] >= 0.74 * LONGEST_PAUSE


class _Scripted:
    """A plugin that gives the same answer to every call of a kind, and counts the calls. While it ``hangs``,
    it gives no status."""

    def __init__(self) -> None:
        self.calls = 0
        self.hangs = False
        self.called = asyncio.Event()
        self.create_answer: CreateAnswer = Retryable("connection refused")
        self.status_answer: StatusAnswer = Retryable("no answer within 60 s")
        self.result_answer: ResultAnswer = Retryable("connection closed before the answer")
        self.cancel_answer: CancelAnswer = Retryable("connection refused")

    async def create(self, _call: CreateCall) -> CreateAnswer:
        self.calls += 1
        return self.create_answer

    async def status(self, _address: JobAddress) -> StatusAnswer:
        self.calls += 1
        if self.hangs:
            self.called.set()
            await asyncio.Event().wait()
        return self.status_answer

    async def result(self, _address: JobAddress) -> ResultAnswer:
        self.calls += 1
        return self.result_answer

    async def cancel(self, _address: JobAddress) -> CancelAnswer:
        self.calls += 1
        return self.cancel_answer


class _Calls:
    """The calls of one plugin behind its circuit."""

    def __init__(self, circuits: CircuitBreakers, plugin_id: int = 1) -> None:
        self._circuits, self._profile = circuits, PluginProfile(plugin_id, "")

    async def create(self, call: CreateCall) -> CreateAnswer:
        return await self._circuits.call(self._profile, DmiPlugin.create, call)

    async def status(self, address: JobAddress) -> StatusAnswer:
        return await self._circuits.call(self._profile, DmiPlugin.status, address)

    async def result(self, address: JobAddress) -> ResultAnswer:
        return await self._circuits.call(self._profile, DmiPlugin.result, address)

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        return await self._circuits.call(self._profile, DmiPlugin.cancel, address)


class _Clock(Runtime):
    def __init__(self) -> None:
        super().__init__(Random(1))
        self.at = 0.0

    def now(self) -> float:
        return self.at


async def test_an_open_circuit_is_probed_and_closed_by_the_first_answer() -> None:
    """After several calls without an answer every kind of call is refused locally, with the time to wait.
    After that time one probe is sent, and its answer closes the circuit. Calls to another plugin are not
    affected."""
    dead, alive, clock = _Scripted(), _Scripted(), _Clock()
    alive.create_answer = Created("1")
    circuits = CircuitBreakers(lambda p: dead if p.plugin_id == 1 else alive, clock)
    plugin, other = _Calls(circuits), _Calls(circuits, 2)

    for _ in range(OPENS_AFTER):
        assert circuits.next_trial(1) is None
        await plugin.create(CALL)
    assert dead.calls == OPENS_AFTER

    shut = await plugin.create(CALL)
    assert isinstance(shut, Retryable)
    assert shut.retry_after is not None
    assert shut.retry_after > 0
    assert "not called" in shut.cause
    assert "connection refused" in shut.cause
    for answer in (await plugin.status(ADDRESS), await plugin.result(ADDRESS), await plugin.cancel(ADDRESS)):
        assert isinstance(answer, Retryable)
        assert answer.retry_after is not None
    assert circuits.next_trial(1) is not None
    assert dead.calls == OPENS_AFTER
    assert await other.create(CALL) == Created("1")

    clock.at += FIRST_PAUSE
    await plugin.create(CALL)
    await plugin.create(CALL)
    assert dead.calls == OPENS_AFTER + 1
    clock.at += 2 * FIRST_PAUSE
    dead.status_answer = Polled(Status.RUNNING)
    assert await plugin.status(ADDRESS) == Polled(Status.RUNNING)
    assert circuits.next_trial(1) is None
    await plugin.create(CALL)
    assert dead.calls == OPENS_AFTER + 3


async def test_a_cancelled_probe_is_repeated_by_the_next_call() -> None:
    """A worker that loses a lease cancels its calls: the next caller probes the plugin again."""
    scripted, clock = _Scripted(), _Clock()
    circuits = CircuitBreakers(lambda _: scripted, clock)
    plugin = _Calls(circuits)
    for _ in range(OPENS_AFTER):
        await plugin.create(CALL)
    clock.at += FIRST_PAUSE

    scripted.hangs = True
    probe = asyncio.create_task(plugin.status(ADDRESS))
    await scripted.called.wait()
    assert isinstance(await plugin.create(CALL), Retryable)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)

    scripted.hangs = False
    scripted.status_answer = Polled(Status.RUNNING)
    assert circuits.next_trial(1) is None
    assert await plugin.status(ADDRESS) == Polled(Status.RUNNING)


@pytest.mark.parametrize(
    "answer",
    [
        Refused("HTTP 400"),
        Created("x"),
        Retryable("HTTP 503", 1.0, answered=True),
        OutcomeUnknown("HTTP 500", answered=True),
    ],
)
async def test_every_answer_keeps_the_circuit_closed(answer: CreateAnswer) -> None:
    """Refusals, 503 and 500 are answers: they are passed on unchanged and never open a circuit."""
    scripted = _Scripted()
    scripted.create_answer = answer
    plugin = _Calls(CircuitBreakers(lambda _: scripted, Runtime(Random(1))))
    assert [await plugin.create(CALL) for _ in range(3 * OPENS_AFTER)] == [answer] * (3 * OPENS_AFTER)
    assert scripted.calls == 3 * OPENS_AFTER


async def test_every_kind_of_answer_ends_a_row_of_silences() -> None:
    """Four calls without an answer, an answer, four calls without: the circuit stays closed, whichever call
    was answered."""
    scripted = _Scripted()
    circuits = CircuitBreakers(lambda _: scripted, Runtime(Random(1)))
    plugin = _Calls(circuits)
    scripted.result_answer, scripted.cancel_answer, scripted.status_answer = (
        Responses(()),
        CancelTaken(),
        Lost("404"),
    )
    for call in (plugin.result, plugin.cancel, plugin.status):
        for _ in range(OPENS_AFTER - 1):
            await plugin.create(CALL)
        assert not isinstance(await call(ADDRESS), Retryable)
    scripted.cancel_answer = Refused("405")
    assert await plugin.cancel(ADDRESS) == Refused("405")
    assert circuits.next_trial(1) is None
    assert scripted.calls == 3 * OPENS_AFTER + 1
