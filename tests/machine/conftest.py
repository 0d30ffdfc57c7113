# SPDX-License-Identifier: Apache-2.0
"""A database in virtual time for the tests of this folder."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from tests.conftest import address_of, on_server
from tests.kit.virtual_time import VirtualLoop
from tests.machine.service import Virtual, preparation


@pytest.fixture(scope="session")
def virtual(postgres_url: str) -> Iterator[Virtual]:
    """Yield a database of its own in virtual time, which is emptied for each service."""
    name = f"test_machine_{secrets.token_hex(8)}"
    asyncio.run(on_server(postgres_url, f'create database "{name}"'))
    try:
        asyncio.run(on_server(address_of(postgres_url, name), preparation(name)))
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            prepared = Virtual(runner, address_of(postgres_url, name))
            try:
                yield prepared
            finally:
                prepared.close()
    finally:
        asyncio.run(on_server(postgres_url, f'drop database "{name}" with (force)'))
