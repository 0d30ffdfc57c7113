# SPDX-License-Identifier: Apache-2.0
"""Circuit breaker per DMI plugin: opens after 5 consecutive calls without any answer, for a while.

Each worker process keeps its own circuits, in memory. States and transitions, all pure::

    closed ──OPENS_AFTER silent calls in a row──► open ──pause over: one probe──► probing
       ▲                                           ▲                               │  │
       └────────────── any answer ─────────────────┼───────────────────────────────┘  │
                                                   └── silent: a longer pause ────────┘

Every answer closes a circuit, also a refusal or a 500. Only calls without an answer (nothing sent, timeout,
connection lost) open it. A call that is not made is returned as retryable, so that its retry timeout runs.
The duration of every call that is made is measured by kind and result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ran_datajobs.plugins.port import (
    DmiPlugin,
    Lost,
    OutcomeUnknown,
    PluginProfile,
    Refused,
    Retryable,
    UnreadableBody,
)
from ran_datajobs.runtime import Runtime
from ran_datajobs.telemetry import Metrics

OPENS_AFTER: Final = 5
"""Number of consecutive calls without any answer after which a circuit opens."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
PROBE_LASTS: Final = 330.0
"""Timeout in seconds of a probe whose answer is not recorded; longer than the timeout of any call."""

_RESULTS: Final[dict[type[object], str]] = {Refused: "refused", Lost: "lost", UnreadableBody: "unusable"}
Answer = TypeVar("Answer")
P = ParamSpec("P")


class CircuitBreaker(Struct, frozen=True):
    """State of one plugin's circuit. ``open_until``: no call before, on the caller's clock; None: closed.

    ``silent``: consecutive calls without an answer. ``probes``: how often it has opened since it was closed.
    """

    silent: int = 0
    probes: int = 0
    open_until: float | None = None
    cause: str = ""


def ask(circuit: CircuitBreaker, now: float) -> tuple[CircuitBreaker, float]:
    """Return (new state, seconds to wait). 0: the call may be made; in an open circuit it is the probe."""
    if circuit.open_until is None:
        return circuit, 0.0
    if now < circuit.open_until:
        return circuit, circuit.open_until - now
    return replace(circuit, open_until=now + PROBE_LASTS), 0.0


def on_failure(
    circuit: CircuitBreaker, now: float, jitter: float, cause: str, *, probe: bool
) -> CircuitBreaker:
    """Count a call without an answer. ``probe``: it was made in an open circuit; calls made before that
    opened are ignored. ``jitter``: a random number in [0, 1) that spreads the probes of many plugins."""
    if circuit.open_until is not None and not probe:
        return circuit
    silent = circuit.silent + 1
    if silent < OPENS_AFTER:
        return CircuitBreaker(silent, 0, None, cause)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(circuit.probes, 16)) * (1.0 - 0.25 * jitter)
    return CircuitBreaker(silent, circuit.probes + 1, now + pause, cause)


class CircuitBreakers:
    """The circuits of all plugins that this process calls."""

    def __init__(
        self,
        plugin_for: Callable[[PluginProfile], DmiPlugin],
        runtime: Runtime,
        metrics: Metrics | None = None,
        changed: Callable[[PluginProfile, CircuitBreaker, CircuitBreaker, float], None] = lambda *_: None,
    ) -> None:
        """``changed`` is called after each call, with the circuit before and after it, and the time."""
        self._plugin_for = plugin_for
        self._circuits: defaultdict[int, CircuitBreaker] = defaultdict(CircuitBreaker)
        self._runtime = runtime
        self._seconds = (metrics or Metrics()).plugin_call_seconds
        self._changed = changed

    def next_trial(self, plugin_id: int) -> float | None:
        """Seconds in which no call of this plugin is made; ``None`` when its circuit is closed, or when a
        probe is under way."""
        left = (self._circuits[plugin_id].open_until or 0.0) - self._runtime.now()
        return left if 0.0 < left <= LONGEST_PAUSE else None

    async def call(
        self,
        plugin: PluginProfile,
        method: Callable[Concatenate[DmiPlugin, P], Awaitable[Answer]],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> Answer | Retryable:
        """Call a ``method`` of the plugin if its circuit permits it. Returns its answer, or why it was not
        called. A cancelled probe does not count."""
        plugin_id = plugin.plugin_id
        begun = self._runtime.now()
        circuit = self._circuits[plugin_id]
        asked, wait = ask(circuit, begun)
        if wait > 0.0:
            return self._not_made(circuit, wait)
        self._circuits[plugin_id] = asked
        try:
            made = getattr(self._plugin_for(plugin), method.__name__)
            answer: Answer = await made(*arguments, **named)
        except BaseException:
            if self._circuits[plugin_id] == asked:
                self._circuits[plugin_id] = circuit
            raise
        now = self._runtime.now()
        self._seconds.labels(method.__name__, result_of(answer)).observe(now - begun)
        before, after = self._circuits[plugin_id], CircuitBreaker()
        if isinstance(answer, Retryable | OutcomeUnknown) and not answer.answered:
            probe = asked.open_until is not None
            after = on_failure(before, now, self._runtime.random(), answer.cause, probe=probe)
        self._circuits[plugin_id] = after
        self._changed(plugin, before, after, now)
        return answer

    def _not_made(self, circuit: CircuitBreaker, wait: float) -> Retryable:
        """The answer to a call that is not made. Callers retry at jittered times, and soon when a probe is in
        progress: its answer may close the circuit."""
        cause = f"not called: {circuit.silent} calls in a row had no answer ({circuit.cause})"
        pause = FIRST_PAUSE if wait > LONGEST_PAUSE else wait
        return Retryable(cause, pause * (1.0 + 0.5 * self._runtime.random()))


def result_of(answer: object) -> str:
    """The result of a call, for its metric: ``ok``, a usable answer; ``refused``, permanently; ``lost``: the
    plugin does not have the job (any more); ``unusable``, such as 503 or an unreadable one; ``silent``: no
    answer."""
    if isinstance(answer, Retryable | OutcomeUnknown):
        return "unusable" if answer.answered else "silent"
    return _RESULTS.get(type(answer), "ok")
