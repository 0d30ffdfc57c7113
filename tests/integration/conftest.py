# SPDX-License-Identifier: Apache-2.0
"""One northbound API for all tests of a file that change nothing: starting the API is most of their run
time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ran_datajobs.http.ports import free_port
from ran_datajobs.store.database import Database
from tests.conftest import copied_database
from tests.kit.api_service import Api, northbound_api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api_of_the_file(
    postgres_url: str, whole_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Api]:
    """An API with its own store."""
    async with copied_database(postgres_url, whole_database) as url:
        database = await Database.open(url)
        try:
            async with northbound_api(database, tmp_path_factory.mktemp("api"), free_port()) as api:
                yield api
        finally:
            await database.close()


@pytest_asyncio.fixture(loop_scope="module")
async def unchanged(api_of_the_file: Api) -> AsyncIterator[Api]:
    """The API of the file, for a test that leaves every row unchanged (see ``changes_nothing``)."""
    before = await _rows(api_of_the_file)
    yield api_of_the_file
    assert await _rows(api_of_the_file) == before


async def _rows(api: Api) -> dict[str, int]:
    """Number of rows in each table."""
    tables = await api.rows("select tablename from pg_tables where schemaname = 'public' order by 1")
    counts = (f"(select count(*) from {each['tablename']}) as {each['tablename']}" for each in tables)
    (found,) = await api.rows(f"select {', '.join(counts)}")
    return found
