# SPDX-License-Identifier: Apache-2.0
"""A circuit per DMI plugin: after a row of calls without any answer, calls are not made for a while.

Each worker process keeps its own, in memory. The states and their arrows, all pure::

    closed ──OPENS_AFTER silent calls in a row──► open ──pause over: one probe──► probing
       ▲                                           ▲                               │  │
       └────────────── any answer ─────────────────┼───────────────────────────────┘  │
                                                   └── silent: a longer pause ────────┘

An answer is an answer, also a refusal or a 500: only silence (nothing sent, time-out, connection lost) opens
a circuit. A call that is not made is told as one that did not arrive, so that its time budget goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ran_datajobs.plugins.port import (
    CancelAnswer,
    CreateAnswer,
    CreateCall,
    DmiPlugin,
    JobAddress,
    NoAnswer,
    NotArrived,
    OutcomeUnknown,
    PluginProfile,
    ResultAnswer,
    StatusAnswer,
)
from ran_datajobs.runtime import Runtime

OPENS_AFTER: Final = 5
"""Calls in a row without any answer, after which a circuit opens."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
PROBE_LASTS: Final = 330.0
"""Seconds after which a probe that nobody heard of again is given up: longer than any call is bounded to."""

Answer = TypeVar("Answer")


class CircuitBreaker(Struct, frozen=True):
    """One plugin's state. ``shut_until``: no call before, on the clock of the caller; None: closed.

    ``silent``: calls in a row without an answer. ``probes``: of those, how many were made while it was open.
    """

    silent: int = 0
    probes: int = 0
    open_until: float | None = None
    cause: str = ""


def ask(circuit: CircuitBreaker, now: float) -> tuple[CircuitBreaker, float]:
    """(new state, seconds to wait): 0 says that the call may be made; in an open circuit it is the probe."""
    if circuit.open_until is None:
        return circuit, 0.0
    if now < circuit.open_until:
        return circuit, circuit.open_until - now
    return replace(circuit, open_until=now + PROBE_LASTS), 0.0


def on_answer(_circuit: CircuitBreaker) -> CircuitBreaker:
    """The plugin answered, whatever it said."""
    return CircuitBreaker()


def on_failure(
    circuit: CircuitBreaker, now: float, chance: float, cause: str, *, probe: bool
) -> CircuitBreaker:
    """A call had no answer. ``probe``: it was made in an open circuit; those made before it opened count
    for nothing more. ``chance`` in [0, 1) spreads the probes of many plugins."""
    if circuit.open_until is not None and not probe:
        return circuit
    silent = circuit.silent + 1
    if silent < OPENS_AFTER:
        return CircuitBreaker(silent, 0, None, cause)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(circuit.probes, 16)) * (1.0 - 0.25 * chance)
    return CircuitBreaker(silent, circuit.probes + 1, now + pause, cause)


class CircuitBreakers:
    """The circuits of all plugins that this process calls."""

    def __init__(
        self,
        plugin_for: Callable[[PluginProfile], DmiPlugin],
        runtime: Runtime,
        changed: Callable[[PluginProfile, CircuitBreaker, CircuitBreaker, float], None] = lambda *_: None,
    ) -> None:
        """``changed`` is told after each call what the circuit was and is, and the time."""
        self._plugin_for = plugin_for
        self._circuits: dict[int, CircuitBreaker] = {}
        self._runtime = runtime
        self._changed = changed

    def with_circuit_breaker(self, profile: PluginProfile) -> DmiPlugin:
        """A client of the plugin whose calls are made only while its circuit lets them."""
        return _GuardedPlugin(self, profile, self._plugin_for(profile))

    def shut(self, plugin_id: int) -> NotArrived | None:
        """Why no call of this plugin would be made now; ``None`` when one would."""
        circuit = self._circuits.get(plugin_id)
        if circuit is None or circuit.open_until is None or circuit.open_until <= self._runtime.now():
            return None
        return self._not_made(circuit, circuit.open_until - self._runtime.now())

    def next_trial(self, plugin_id: int) -> float | None:
        """Seconds in which no call of this plugin is made; ``None`` when its circuit is closed, or when a
        probe is under way."""
        circuit = self._circuits.get(plugin_id)
        left = (
            0.0 if circuit is None or circuit.open_until is None else circuit.open_until - self._runtime.now()
        )
        return left if 0.0 < left <= LONGEST_PAUSE else None

    async def call(self, plugin: PluginProfile, made: Callable[[], Awaitable[Answer]]) -> Answer | NotArrived:
        """What the plugin answers, or why it was not called. A probe that is cancelled was none."""
        plugin_id = plugin.plugin_id
        circuit = self._circuits.get(plugin_id, CircuitBreaker())
        asked, wait = ask(circuit, self._runtime.now())
        if wait > 0.0:
            return self._not_made(circuit, wait)
        if asked != circuit:
            self._circuits[plugin_id] = asked
        try:
            answer = await made()
        except BaseException:
            if asked != circuit and self._circuits.get(plugin_id) == asked:
                self._circuits[plugin_id] = circuit
            raise
        before = self._circuits.get(plugin_id, CircuitBreaker())
        if isinstance(answer, NotArrived | NoAnswer | OutcomeUnknown) and not answer.answered:
            self._circuits[plugin_id] = on_failure(
                before,
                self._runtime.now(),
                self._runtime.random(),
                answer.cause,
                probe=asked.open_until is not None,
            )
        else:
            self._circuits.pop(plugin_id, None)
        self._changed(plugin, before, self._circuits.get(plugin_id, CircuitBreaker()), self._runtime.now())
        return answer

    def _not_made(self, circuit: CircuitBreaker, wait: float) -> NotArrived:
        """Callers that wait for a probe do not come back all at once, and soon where it is under way: its
        answer may open the circuit to all of them."""
        cause = f"not called: {circuit.silent} calls in a row had no answer ({circuit.cause})"
        pause = FIRST_PAUSE if wait > LONGEST_PAUSE else wait
        return NotArrived(cause, pause * (1.0 + 0.5 * self._runtime.random()))


class _GuardedPlugin:
    """A call that is not made counts as not arrived, or as not answered, with the time to wait."""

    def __init__(self, circuits: CircuitBreakers, profile: PluginProfile, plugin: DmiPlugin) -> None:
        self._circuits = circuits
        self._profile = profile
        self._plugin = plugin

    async def create(self, call: CreateCall) -> CreateAnswer:
        return await self._circuits.call(self._profile, lambda: self._plugin.create(call))

    async def status(self, address: JobAddress) -> StatusAnswer:
        return _told(await self._circuits.call(self._profile, lambda: self._plugin.status(address)))

    async def result(self, address: JobAddress) -> ResultAnswer:
        return _told(await self._circuits.call(self._profile, lambda: self._plugin.result(address)))

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        return _told(await self._circuits.call(self._profile, lambda: self._plugin.cancel(address)))

    async def cancel_job(self, job_id: str, *, is_read: bool) -> CancelAnswer:
        made = lambda: self._plugin.cancel_job(job_id, is_read=is_read)  # noqa: E731
        return _told(await self._circuits.call(self._profile, made))


def _told(answer: Answer | NotArrived) -> Answer | NoAnswer:
    return NoAnswer(answer.cause, answer.retry_after) if isinstance(answer, NotArrived) else answer
