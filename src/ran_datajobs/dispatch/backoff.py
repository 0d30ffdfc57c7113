# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next poll or repeat: growing, jittered, bounded. Pure."""

from __future__ import annotations

from typing import Final

FIRST_POLL: Final = 0.2
LONGEST_POLL: Final = 30.0
_GROWTH: Final = 1.5


def _grown(first: float, longest: float, times: int, chance: float) -> float:
    """Somewhere between one step of the growing series and the next; never outside first … longest."""
    low = min(longest / _GROWTH, first * _GROWTH ** min(times, 64))
    return low * (1 + (_GROWTH - 1) * chance)


def poll_delay(polls: int, chance: float) -> float:
    """Seconds until the next poll after ``polls`` of them; ``chance`` in [0, 1) spreads the peers.

    Each is drawn between one step of the series 0.2, 0.3, 0.45 … 30 s and the next.
    """
    return _grown(FIRST_POLL, LONGEST_POLL, polls, chance)


def unresolved_write_poll_delay(ended_for: float, chance: float) -> float:
    """Seconds until a write that was given up ``ended_for`` seconds ago is asked for once more."""
    return min(LONGEST_POLL, max(FIRST_POLL, 0.3 * ended_for)) * (1 - 0.25 * chance)


def retry_delay(failures: int, chance: float, asked: float | None = None) -> float:
    """Seconds until something that failed ``failures`` times before is tried again; at least what the peer
    asked for, at most 60 s."""
    return max(_grown(0.25, 15.0, failures, chance), min(asked or 0.0, 60.0))


def until_next_call(failing_for: float, chance: float, asked: float | None = None) -> float:
    """Seconds until a failed call of a plugin is repeated whose first failure was ``in_trouble_for`` seconds
    ago; at least what the peer asked for, at most 60 s.

    About half as long again as the trouble has lasted, between 0.25 and 15 s: the pause grows by itself, and
    nothing has to be counted.
    """
    pause = min(15.0, max(0.25, failing_for / 2)) * (1 + 0.5 * chance)
    return max(min(pause, 15.0), min(asked or 0.0, 60.0))
