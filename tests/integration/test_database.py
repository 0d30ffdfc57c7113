# SPDX-License-Identifier: Apache-2.0
"""Opening the store: an error that only another address can cure is wrong use, not an outage."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from ran_datajobs.errors import StoreUnavailable, UsageError
from ran_datajobs.http.ports import free_port
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database, check_sessions
from tests.conftest import address_of


def _with(url: str, **parts: str) -> str:
    return urlunsplit(urlsplit(url)._replace(**parts))


async def test_a_database_that_does_not_exist_is_wrong_use(postgres_url: str) -> None:
    """The message names the setting and the database, without a traceback."""
    with pytest.raises(UsageError, match=r"DATAJOBS_DATABASE_URL cannot be used: .*no_such_database"):
        await Database.open(_with(postgres_url, path="/no_such_database"))


async def test_a_wrong_address_is_wrong_use() -> None:
    """A text that is no database address is reported as such."""
    with pytest.raises(UsageError, match="DATAJOBS_DATABASE_URL"):
        await Database.open("http://127.0.0.1/")


async def test_a_server_that_is_away_may_come_back(postgres_url: str) -> None:
    """No server listens: that is an outage, and a retry can succeed."""
    gone = _with(postgres_url, netloc=f"postgres@127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable):
        await Database.open(gone)


async def test_a_session_that_was_changed_is_told_anew(database_url: str) -> None:
    """The settings of a session are restored for its next user, its application name included."""
    database = await Database.open(database_url, size=1)
    settings = ("application_name", "timezone", "idle_in_transaction_session_timeout", "tcp_user_timeout")
    try:
        async with database.connection() as connection:
            pid = await connection.fetchval("select pg_backend_pid()")
            settings_shown = [await connection.fetchval(f"show {name}") for name in settings]
        async with database.session() as connection:
            await connection.execute("set timezone = 'Asia/Tokyo'; set application_name = 'other'")
        async with database.connection() as connection:
            assert await connection.fetchval("select pg_backend_pid()") == pid
            assert [await connection.fetchval(f"show {name}") for name in settings] == settings_shown
    finally:
        await database.close()
    assert settings_shown == ["ran-datajobs api", "UTC", "5s", "10000"]


async def test_a_worker_executes_generic_plans(database_url: str) -> None:
    """In its sessions alone: a list of jobs, which the API reads, is planned for the filters that it has."""
    plans = []
    for worker_id in (uuid4(), None):
        database = await Database.open(database_url, size=1, worker_id=worker_id)
        try:
            async with database.connection() as connection:
                plans.append(await connection.fetchval("show plan_cache_mode"))
        finally:
            await database.close()
    assert plans == ["force_generic_plan", "auto"]


async def test_sessions_belong_to_one_server(database_url: str) -> None:
    """PostgreSQL itself is never mistaken for a pooler that shares sessions."""
    for _ in range(5):
        await check_sessions(database_url)


async def test_a_copied_database_is_an_installation_of_its_own(
    postgres_url: str, whole_database: str, database: Database
) -> None:
    """Kafka's state is kept by installation, so each test database is an installation of its own."""
    original = await Database.open(address_of(postgres_url, whole_database), size=1)
    try:
        async with original.connection() as connection, database.connection() as of_copy:
            assert await outbox.installation(connection) != await outbox.installation(of_copy)
            assert await of_copy.fetchval("select count(*) from installation") == 1
    finally:
        await original.close()
