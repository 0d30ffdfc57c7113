# SPDX-License-Identifier: Apache-2.0
"""Rows of the inventory: CM handles and DMI plugins.

Every change takes a new version under one lock, so that versions commit in order: a reader that has seen
version n has seen all changes up to n. A removed handle remains as a tombstone without its data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from ran_datajobs.store.database import Connection, read, read_one
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("inventory")

_BATCH: Final = 10_000


class PluginRow(Struct, frozen=True):
    """A DMI plugin as registered; ``None`` means the service's setting. ``plugin_id`` 0: not stored yet.

    ``found_dialect`` is not registered: it is what a plugin of the dialect ``auto`` was found to speak.
    """

    url: str
    dialect: str = "auto"
    idempotent: bool = False
    stop_on_error: bool = False
    give_up: float | None = None
    sub_job_timeout: float | None = None
    read_slots: int | None = None
    bulk_cancel: bool = False
    selectors: bool = False
    operation_properties: bool = True
    guards: bool = False
    before_images: bool = False
    found_dialect: str | None = None
    plugin_id: int = 0


class HandleRow(Struct, frozen=True, gc=False):
    """A CM handle. ``alternate_key`` is the normal form of ``alternate_id``; both None if it has none.

    ``read_plugin_id``, ``write_plugin_id``: the plugins of its reads and writes; None means ``plugin_id``.
    ``followed``: it is a handle of the NCMP that is followed. Such a one can have no plugin.
    """

    cm_handle: str
    plugin_id: int | None
    alternate_id: str | None = None
    alternate_key: str | None = None
    data_producer_id: str = ""
    module_set_tag: str = ""
    private_properties: dict[str, str] = {}
    public_properties: dict[str, str] = {}
    trust_level: str = ""
    read_plugin_id: int | None = None
    write_plugin_id: int | None = None
    followed: bool = False


async def lock_inventory(connection: Connection) -> int:
    """Take the lock for changes of the inventory, until the transaction ends. Returns a new version."""
    version: int = await connection.fetchval(_SQL["lock_inventory"])
    return version


async def plugin_by_url(connection: Connection, url: str) -> PluginRow | None:
    """The plugin that was registered under ``url``."""
    return read_one(PluginRow, await connection.fetchrow(_SQL["plugin_by_url"], url))


async def save_plugin(connection: Connection, plugin: PluginRow, version: int) -> int:
    """Insert or update a plugin by its URL, all but what was found out of it. Returns its id."""
    *settings, _found, _id = astuple(plugin)
    plugin_id: int = await connection.fetchval(_SQL["save_plugin"], version, *settings)
    return plugin_id


async def save_found_dialect(connection: Connection, plugin_id: int, dialect: str) -> bool:
    """Record what a plugin of the dialect ``auto`` was found to speak; False when it is recorded already."""
    if not await connection.fetchval(_SQL["speaks_other"], plugin_id, dialect):
        return False
    version = await lock_inventory(connection)
    return bool(await connection.fetchval(_SQL["save_found_dialect"], plugin_id, dialect, version))


async def set_model_plugin(connection: Connection, plugin_id: int, model_plugin_id: int | None) -> None:
    """Set the plugin that is asked for the modules of the handles of a plugin; ``None``: itself."""
    await connection.execute(_SQL["set_model_plugin"], plugin_id, model_plugin_id)


async def handles_by_id(connection: Connection, ids: Iterable[str]) -> dict[str, HandleRow]:
    """The registered handles among ``ids``."""
    records = await connection.fetch(_SQL["handles_by_id"], list(ids))
    return {row.cm_handle: row for row in read(HandleRow, records)}


async def followed_ids(connection: Connection) -> list[str]:
    """The ids of the handles of the NCMP that is followed."""
    return [record["cm_handle"] for record in await connection.fetch(_SQL["followed_ids"])]


async def claim_following(connection: Connection) -> bool:
    """Take the lock of the one worker that follows an NCMP, until the session ends; False if it is taken."""
    return bool(await connection.fetchval(_SQL["claim_following"]))


async def check_session(connection: Connection) -> None:
    """Raise StoreUnavailable if the session has ended, and with it its locks."""
    await connection.execute(_SQL["check_session"])


async def holders_of(connection: Connection, alternate_keys: Iterable[str]) -> dict[str, str]:
    """The handle that has each of ``alternate_keys``; unused keys are absent."""
    records = await connection.fetch(_SQL["holders_of"], list(alternate_keys))
    return {record["alternate_key"]: record["cm_handle"] for record in records}


async def remove_handles(connection: Connection, ids: Sequence[str], version: int) -> None:
    """Turn handles into tombstones: free their alternate ids, delete their properties."""
    await connection.execute(_SQL["remove_handles"], ids, version)


async def save_handles(
    connection: Connection, rows: Sequence[HandleRow], leave: Sequence[str], version: int
) -> None:
    """Insert or overwrite handles. They may exchange alternate ids: those in ``leave`` leave theirs first."""
    if leave:
        await connection.execute(_SQL["release_alternate_keys"], leave)
    for start in range(0, len(rows), _BATCH):
        # One JSON document: the driver needs four times as long for an array of each column.
        batch = msgspec.json.encode(rows[start : start + _BATCH]).decode()
        await connection.execute(_SQL["save_handles"], version, batch)
