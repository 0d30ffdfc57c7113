# SPDX-License-Identifier: Apache-2.0
"""The lookup index of a process: the CM handles of the store in memory, updated by version."""

from __future__ import annotations

import asyncio
from sys import intern

from asyncpg import Record
from msgspec import convert, structs

from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.store.database import Database
from ran_datajobs.store.inventory import changes_since


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
        async with self._lock, changes_since(self._database, self._version) as changes:
            if changes is None:
                return self._owners
            anew = {plugin.plugin_id for plugin in changes.plugins}
            for plugin in changes.plugins:
                self._plugins[plugin.plugin_id] = convert(plugin, PluginProfile, from_attributes=True)
            seen: set[str] = set()
            come: list[Owner] = []
            shared: dict[bytes, bytes] = {}
            async for batch in changes.handles:
                seen.update(record["cm_handle"] for record in batch)
                come.extend(
                    self._owner(record, shared) for record in batch if record["alternate_key"] is not None
                )
            known = self._owners
            gone = {owner.alternate_key for owner in known if changes.anew or owner.cm_handle in seen}
            come += [
                structs.replace(owner, plugin=self._plugins[owner.plugin.plugin_id])
                for owner in known
                if owner.plugin.plugin_id in anew and owner.alternate_key not in gone
            ]
            self._owners = known.changed(gone, come)
            self._version = changes.version
            return self._owners

    def _owner(self, record: Record, shared: dict[bytes, bytes]) -> Owner:
        """The owner of one row. Strings and properties that many handles share are stored once."""
        cm_handle, key, plugin_id, producer, tag, properties = record
        properties = shared.setdefault(properties, properties)
        return Owner(cm_handle, key, self._plugins[plugin_id], intern(producer), intern(tag), properties)
