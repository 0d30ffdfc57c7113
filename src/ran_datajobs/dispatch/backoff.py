# SPDX-License-Identifier: Apache-2.0
"""Delays before the next poll or retry: growing, jittered, bounded. Pure."""

from __future__ import annotations

from typing import Final

FIRST_POLL: Final = 0.2
LONGEST_POLL: Final = 30.0
_GROWTH: Final = 1.5


def _grown(first: float, longest: float, times: int, jitter: float) -> float:
    """A delay between step ``times`` of the geometric series and the next, within first … longest."""
    low = min(longest / _GROWTH, first * _GROWTH ** min(times, 64))
    return low * (1 + (_GROWTH - 1) * jitter)


def poll_delay(polls: int, jitter: float) -> float:
    """Seconds until the next poll after ``polls`` polls; ``jitter``: a random number in [0, 1).

    Each delay is drawn between one step of the series 0.2, 0.3, 0.45 … 30 s and the next.
    """
    return _grown(FIRST_POLL, LONGEST_POLL, polls, jitter)


def unresolved_write_poll_delay(ended_for: float, jitter: float) -> float:
    """Seconds until the next status poll of a quarantined write that ended ``ended_for`` seconds ago."""
    return min(LONGEST_POLL, max(FIRST_POLL, 0.3 * ended_for)) * (1 - 0.25 * jitter)


def retry_delay(failures: int, jitter: float) -> float:
    """Seconds until the retry of an action that failed ``failures`` times."""
    return _grown(0.25, 15.0, failures, jitter)


def until_next_call(failing_for: float, jitter: float, asked: float | None = None) -> float:
    """Seconds until the retry of a plugin call that first failed ``failing_for`` seconds ago; at least
    ``asked``, the peer's ``Retry-After``, of which at most 60 s count.

    The delay is half to three quarters of ``failing_for``, between 0.25 and 15 s, so that it grows without a
    stored retry count.
    """
    pause = min(15.0, max(0.25, failing_for / 2)) * (1 + 0.5 * jitter)
    return max(min(pause, 15.0), min(asked or 0.0, 60.0))
