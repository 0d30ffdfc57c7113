# SPDX-License-Identifier: Apache-2.0
"""Module sets: the class models of module set tags, each stored once. The models are bytes here.

``module_set_model`` has the digest of the model of each tag, ``class_model`` the models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set
from typing import Final

import zstandard
from msgspec import Struct

from ran_datajobs.store.database import Connection, Database, read_one
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("module_sets")

MOST_MODELS: Final = 32
"""Maximum number of different class models: every API and worker can hold all of them."""

MOST_TAGS: Final = 1000
"""Maximum number of module set tags with a class model."""

_MAX_MODEL: Final = 1 << 28
_LEVEL: Final = 9


class _Counts(Struct, frozen=True):
    models: int
    tags: int


async def put(database: Database, tag: str, model: bytes) -> bool | None:
    """Give a tag a model, in place of the one that it has. True if it had none; None, and nothing is changed,
    if there are :data:`MOST_MODELS` others, or :data:`MOST_TAGS` other tags."""
    compressed = zstandard.ZstdCompressor(level=_LEVEL).compress(model)
    digest = hashlib.sha256(model).digest()

    async def write(connection: Connection) -> bool:
        await connection.execute(_SQL["lock"])
        await connection.execute(_SQL["save_model"], digest, compressed)
        is_new = bool(await connection.fetchval(_SQL["save_tag"], tag, digest))
        await connection.execute(_SQL["remove_unused"])
        counts = read_one(_Counts, await connection.fetchrow(_SQL["counts"]))
        if counts is None or counts.models > MOST_MODELS or counts.tags > MOST_TAGS:
            raise _Full
        return is_new

    try:
        return await database.run_transaction(write)
    except _Full:
        return None


class _Full(Exception):
    """There is no room: the transaction is rolled back."""


async def remove(database: Database, tag: str) -> bool:
    """Remove the model of a tag. False if it has none."""

    async def write(connection: Connection) -> bool:
        await connection.execute(_SQL["lock"])
        removed = bool(await connection.fetchval(_SQL["remove_tag"], tag))
        await connection.execute(_SQL["remove_unused"])
        return removed

    return await database.run_transaction(write)


async def digests(connection: Connection, tags: Set[str]) -> dict[str, bytes]:
    """The digests of the models of those of ``tags`` that have one."""
    rows = await connection.fetch(_SQL["digests"], list(tags))
    return {row["module_set_tag"]: row["digest"] for row in rows}


async def model(connection: Connection, digest: bytes) -> bytes | None:
    """The model with a digest; None if it has been removed."""
    return _uncompressed(await connection.fetchval(_SQL["model"], digest))


async def model_of(database: Database, tag: str) -> bytes | None:
    """The model of a tag; None if it has none."""
    async with database.connection() as connection:
        return _uncompressed(await connection.fetchval(_SQL["model_of_tag"], tag))


def _uncompressed(compressed: bytes | None) -> bytes | None:
    if compressed is None:
        return None
    return zstandard.ZstdDecompressor().decompress(compressed, max_output_size=_MAX_MODEL)
