# SPDX-License-Identifier: Apache-2.0
"""Opening the store: what only another address can cure is wrong use, not an outage."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import pytest

from ran_datajobs.errors import StoreUnavailable, WrongUse
from ran_datajobs.ports import free_port
from ran_datajobs.store.database import Database


def _with(url: str, **parts: str) -> str:
    return urlunsplit(urlsplit(url)._replace(**parts))


async def test_a_database_that_does_not_exist_is_wrong_use(postgres_url: str) -> None:
    """The message names the setting and the database; it can be read without a traceback."""
    with pytest.raises(WrongUse, match=r"DATAJOBS_DATABASE_URL cannot be used: .*no_such_database"):
        await Database.open(_with(postgres_url, path="/no_such_database"))


async def test_a_wrong_address_is_wrong_use() -> None:
    """What is no address of a database is said to be none."""
    with pytest.raises(WrongUse, match="DATAJOBS_DATABASE_URL"):
        await Database.open("http://127.0.0.1/")


async def test_a_server_that_is_away_may_come_back(postgres_url: str) -> None:
    """Nobody listens: that is an outage, and a repeat can help."""
    gone = _with(postgres_url, netloc=f"postgres@127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable):
        await Database.open(gone)
