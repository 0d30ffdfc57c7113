# SPDX-License-Identifier: Apache-2.0
"""The first minute on machines that are set up unlike most: it works, or one line says what helps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import asyncpg
import pytest

from tests.acceptance.commands import datajobs, started
from tests.peers.pgbouncer import pgbouncer


@pytest.fixture
def url(free_port: int) -> str:
    """Address of the service of a test."""
    return f"http://127.0.0.1:{free_port}"


def _a_job_ends(url: str) -> None:
    """A job that nobody owns anything of is taken, worked on and told to the end."""
    body = {"data": [{"op": "remove", "path": "/ManagedElement=nowhere", "operationId": "1"}]}
    done = datajobs("submit", "-", "--watch", "--server", url, stdin=json.dumps(body).encode())
    assert done.returncode == 1, done.stderr
    assert "UNMATCHED" in done.stdout + done.stderr or "unmatched" in done.stdout + done.stderr


# --- a pooler in front of the database ---------------------------------------------------------------


async def _session_names(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "select application_name from pg_stat_activity where datname = current_database()"
        )
    finally:
        await connection.close()
    return {row["application_name"] for row in rows}


async def test_a_pooler_that_keeps_sessions_is_a_database_like_any(
    tmp_path: Path, free_port: int, url: str, database_url: str
) -> None:
    """PgBouncer with session pooling: the service works, and its sessions bear its name."""
    with pgbouncer(database_url, "session") as pooled:
        arguments = ("serve", "--port", str(free_port), "--data-dir", tmp_path / "data")
        with started(*arguments, lines=tmp_path / "lines", DATAJOBS_DATABASE_URL=pooled) as service:
            service.until_ready(url)
            _a_job_ends(url)
            names = await _session_names(database_url)
            assert "ran-datajobs api" in names
            assert any(re.fullmatch("ran-datajobs [0-9a-f-]{36}", name) for name in names)
            assert service.end() == 0
            assert "refused" not in service.text()


@pytest.mark.parametrize(
    ("mode", "size", "round_robin"),
    [
        ("transaction", 1, False),
        ("transaction", 20, False),
        ("transaction", 20, True),
        ("statement", 20, False),
    ],
)
async def test_a_pooler_that_shares_sessions_is_refused_in_one_line(
    tmp_path: Path, database_url: str, mode: str, size: int, round_robin: bool
) -> None:
    """Status 2, with what is needed and why, however many sessions wait in the pool and whichever is next."""
    with pgbouncer(database_url, mode, size=size, round_robin=round_robin) as pooled:
        waiting = [await asyncpg.connect(pooled) for _ in range(min(size, 3))]
        for client in waiting:
            await client.execute("select pg_sleep(0.1)")
        arguments = ("serve", "--port", "0", "--data-dir", tmp_path / "data")
        done = datajobs(*arguments, DATAJOBS_DATABASE_URL=pooled)
        for client in waiting:
            client.terminate()
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    for word in ("DATAJOBS_DATABASE_URL", "session pooling", "notices", "advisory locks"):
        assert word in done.stderr
