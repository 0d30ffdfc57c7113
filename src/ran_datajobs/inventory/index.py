# SPDX-License-Identifier: Apache-2.0
"""The lookup index of a process: the CM handles of the store in memory, updated by version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from sys import intern
from typing import Final

from asyncpg import Record
from msgspec import structs

from ran_datajobs.inventory.owners import NO_PLUGIN, Owner, Owners
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.store.database import Connection, Database, read
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("inventory")

_BATCH: Final = 10_000
_LARGE: Final = 10_000
"""Number of owners above which a change is computed on a thread, to keep the event loop responsive."""


class OwnerIndex:
    """Follows the owners of managed objects in the store."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version = -1
        self._plugins: dict[int, PluginProfile] = {}
        self._owners = Owners()
        self._lock = asyncio.Lock()

    async def catch_up(self) -> Owners:
        """The owners, with everything that was registered before this call. Raises StoreUnavailable.

        Takes one query when nothing changed.
        """
        async with self._lock, self._database.connection() as connection:
            if await connection.fetchval(_SQL["versions"]) != self._version:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    await self._load_changes(connection)
            return self._owners

    async def _load_changes(self, connection: Connection) -> None:
        """Load what changed since the last call; everything once tombstones of removed handles are gone."""
        ((newest, pruned),) = await connection.fetch(_SQL["versions"])
        is_new = self._version < pruned
        since = -1 if is_new else self._version
        plugins = read(PluginProfile, await connection.fetch(_SQL["plugins_since"], since))
        changed = {plugin.plugin_id: plugin for plugin in plugins}
        self._plugins |= changed
        seen: set[str] = set()
        come: list[Owner] = []
        shared: dict[bytes, bytes] = {}
        handles = await connection.cursor(_SQL["owners_since"], since)
        while batch := await handles.fetch(_BATCH):
            seen.update(record["cm_handle"] for record in batch)
            come += [self._owner(record, shared) for record in batch if record["alternate_key"] is not None]
        if len(self._owners) + len(come) > _LARGE:
            self._owners = await asyncio.to_thread(self._changed, is_new, seen, changed, come)
        else:
            self._owners = self._changed(is_new, seen, changed, come)
        self._version = newest

    def _changed(
        self, is_new: bool, seen: Set[str], changed: Mapping[int, PluginProfile], come: list[Owner]
    ) -> Owners:
        """The owners after a change: all are read anew (``is_new``), or the handles ``seen``; those of the
        plugins ``changed`` get these, and ``come`` are the ones that were read."""
        known = self._owners
        gone = {owner.alternate_key for owner in known if is_new or owner.cm_handle in seen}
        come += [
            structs.replace(
                owner,
                read_plugin=self._plugins[owner.read_plugin.plugin_id],
                write_plugin=self._plugins[owner.write_plugin.plugin_id],
            )
            for owner in (known if changed else ())
            if not changed.keys().isdisjoint((owner.read_plugin.plugin_id, owner.write_plugin.plugin_id))
            and owner.alternate_key not in gone
        ]
        return known.changed(gone, come)

    def _owner(self, record: Record, shared: dict[bytes, bytes]) -> Owner:
        """The owner of one row. Strings and properties that many handles share are stored once."""
        cm_handle, key, read_id, write_id, producer, tag, properties = record
        return Owner(
            cm_handle,
            key,
            NO_PLUGIN if read_id is None else self._plugins[read_id],
            NO_PLUGIN if write_id is None else self._plugins[write_id],
            "" if read_id is None else intern(producer),
            intern(tag),
            shared.setdefault(properties, properties),
        )
