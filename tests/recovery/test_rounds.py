# SPDX-License-Identifier: Apache-2.0
"""SIGKILL for every kind of process under load; ``make crash`` performs a hundred times as many kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.kafka import KafkaBroker
from tests.recovery.round import KINDS, TEN, crash_round

pytestmark = pytest.mark.kafka


@pytest.mark.timeout(600)
async def test_nothing_is_lost_or_doubled_whatever_process_is_killed(
    tmp_path: Path, kafka_broker: KafkaBroker
) -> None:
    """Workers, the API, the supervisor, the embedded PostgreSQL and the broker are killed while two clients
    submit: every job that was answered with 202 ends and is delivered, every operation is reported once, and
    neither plugin executes one twice."""
    figures = await crash_round(1, len(TEN) + 1, tmp_path, kafka_broker)
    assert set(figures.kills) == set(KINDS)
    assert min(figures.kills.values()) >= 1
    assert sum(figures.kills.values()) == len(TEN) + 1
    assert figures.jobs > 0
    assert (figures.lost, figures.doubled, figures.faults) == (0, 0, ())
