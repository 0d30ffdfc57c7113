# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests: a real PostgreSQL, a database per test, a free port, and a check for leftovers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from ran_datajobs.http import ports
from ran_datajobs.local.postgres import EmbeddedPostgres
from ran_datajobs.store.database import Database
from tests import invariants
from tests.peers.kafka import kafka_broker as kafka_broker
from tests.peers.s3 import s3_service as s3_service

# A busy machine must not fail a test. A property that sets no number of its own has 40 examples.
settings.register_profile("without-clock", deadline=None, max_examples=40)
settings.load_profile("without-clock")
# More of them: `make nightly`.
if examples := os.environ.get("HYPOTHESIS_EXAMPLES"):
    settings.register_profile("many", settings.get_profile("without-clock"), max_examples=int(examples))
    settings.load_profile("many")

_OWN_FOLDER = f"ran-datajobs-tests-{os.getpid()}-"


class _OneBroker(LoadFileScheduling):  # type: ignore[misc]
    """Runs the tests of a file in one process, and all files that use the Kafka broker in the same one: to
    start a broker takes as long as many tests."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "kafka" if _uses_kafka(file) else file


@functools.cache
def _uses_kafka(file: str) -> bool:
    return "kafka_broker" in (Path(__file__).parents[1] / file).read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _OneBroker:
    """Distribute the tests over the processes by file."""
    return _OneBroker(config, log)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the session if it leaves a child process or a temporary folder of its own."""
    yield
    assert not _children(), "child processes were left"
    assert not list(Path(tempfile.gettempdir()).glob(f"{_OWN_FOLDER}*")), "temporary folders were left"


def _children() -> dict[int, str]:
    """Running child processes: id and command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == os.getpid() and state != "Z":
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a PostgreSQL server of this test process; ``DATAJOBS_TEST_SERVER`` selects another one."""
    if url := os.environ.get("DATAJOBS_TEST_SERVER"):
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix=_OWN_FOLDER))
    server = EmbeddedPostgres(folder, durable=False)
    with asyncio.Runner() as runner:
        try:
            yield runner.run(server.start())
        finally:
            runner.run(server.stop())
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def empty_database(postgres_url: str) -> Iterator[str]:
    """Name of an empty database that is copied for each test. Its copies install the triggers of
    :mod:`tests.invariants` once they have the newest schema."""
    name = f"test_empty_{secrets.token_hex(8)}"
    asyncio.run(on_server(postgres_url, f'create database "{name}"'))
    asyncio.run(on_server(address_of(postgres_url, name), invariants.preparation()))
    try:
        yield name
    finally:
        asyncio.run(on_server(postgres_url, f'drop database "{name}" with (force)'))


@pytest.fixture(scope="session")
def whole_database(postgres_url: str, empty_database: str) -> Iterator[str]:
    """Name of a database with the newest schema that is copied for each test."""
    name = f"test_whole_{secrets.token_hex(8)}"

    async def make() -> None:
        await on_server(postgres_url, f'create database "{name}" template "{empty_database}"')
        opened = await Database.open(address_of(postgres_url, name), size=1)
        try:
            await opened.migrate()
        finally:
            await opened.close()

    asyncio.run(make())
    try:
        yield name
    finally:
        asyncio.run(on_server(postgres_url, f'drop database "{name}" with (force)'))


ANOTHER_INSTALLATION = "update installation set installation_id = gen_random_uuid()"
"""Copies with the same id would share positions and transactional ids in Kafka."""


@pytest.fixture
async def database_url(
    postgres_url: str, empty_database: str, whole_database: str, request: pytest.FixtureRequest
) -> AsyncIterator[str]:
    """URL of a new database with the newest schema, no rows and its own installation id. It is checked for
    violated rules and dropped afterwards. Where ``without_schema`` is marked it is empty.
    """
    whole = request.node.get_closest_marker("without_schema") is None
    async with copied_database(postgres_url, whole_database if whole else empty_database) as url:
        if whole:
            await on_server(url, ANOTHER_INSTALLATION)
        yield url
        broken = await _broken_rules(url)
    if request.node.get_closest_marker("damages_rows") is None:
        assert not broken, "\n".join(["the rows of dispatch break rules of tests/invariants:", *broken])


@contextlib.asynccontextmanager
async def copied_database(server: str, template: str) -> AsyncIterator[str]:
    """URL of a copy of a database of a server; the copy is dropped afterwards."""
    name = f"test_{secrets.token_hex(8)}"
    await on_server(server, f'create database "{name}" template "{template}" strategy file_copy')
    try:
        yield address_of(server, name)
    finally:
        await on_server(server, f'drop database "{name}" with (force)')


def address_of(url: str, database: str) -> str:
    """URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


async def _broken_rules(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return await invariants.violations(connection)
    finally:
        await connection.close()


async def on_server(url: str, statement: str) -> None:
    """Execute one or more statements on a separate connection."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Open database with the newest schema."""
    opened = await Database.open(database_url)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def free_port() -> int:
    """Unused loopback port."""
    return ports.free_port()
