# SPDX-License-Identifier: Apache-2.0
"""Applies registrations of CM handles to the store."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import structs

from ran_datajobs.inventory.addresses import AddressRefused, checked
from ran_datajobs.inventory.registration import (
    Registration,
    RegistrationOutcome,
    alternate_keys_named,
    changes_of,
    handles_named,
    read_registration,
)
from ran_datajobs.store import inventory as store
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.inventory import PluginRow
from ran_datajobs.telemetry import Event, logger

_LONGEST_REGISTRATION: Final = 60.0
"""Maximum seconds for computing the changes of a large registration; only other registrations wait."""


class Registry:
    """Writes the inventory: ONAP's registration of a DMI plugin and its CM handles.

    ``dmi_allow`` lists the addresses that may be a plugin: see :func:`checked`.
    """

    def __init__(self, database: Database, dmi_allow: tuple[str, ...]) -> None:
        self._database = database
        self._log = logger()
        self._dmi_allow = dmi_allow

    async def register(self, body: bytes) -> RegistrationOutcome:
        """Apply the valid parts of a registration in one transaction; the outcome lists the rest.

        Durable on return; every lookup index that catches up afterwards has the changes. A repeat of the same
        registration changes nothing and succeeds. Raises InvalidRequest for a wrong shape or type, and
        StoreUnavailable; nothing is applied then.
        """
        registration = await asyncio.to_thread(read_registration, body)
        address, address_fault = self._address(registration)
        async with self._database.transaction(idle=_LONGEST_REGISTRATION) as connection:
            version = await store.lock_inventory(connection)
            plugin_id = await _saved_plugin(connection, address, registration, version) if address else 0
            changes = await asyncio.to_thread(
                changes_of,
                registration,
                await store.handles_by_id(connection, handles_named(registration)),
                await store.holders_of(connection, alternate_keys_named(registration)),
                plugin_id,
                address_fault,
            )
            await store.remove_handles(connection, changes.remove, version)
            await store.save_handles(connection, changes.save, version)
        self._log.info(
            Event.INVENTORY_REGISTERED,
            plugin=address or None,
            created=len(registration.created_cm_handles or ()),
            updated=len(registration.updated_cm_handles or ()),
            removed=len(registration.removed_cm_handles or ()),
            failed=changes.outcome.failed,
        )
        return changes.outcome

    def _address(self, registration: Registration) -> tuple[str, str | None]:
        if not registration.address:
            return "", None
        try:
            return checked(registration.address, self._dmi_allow), None
        except AddressRefused as refusal:
            return "", str(refusal)


async def _saved_plugin(
    connection: Connection, address: str, registration: Registration, version: int
) -> int:
    """Store the settings of the plugin that the registration names. Returns the id of the plugin."""
    stored = await store.plugin_by_url(connection, address)
    fields = {name: getattr(registration, name, None) for name in PluginRow.__struct_fields__}
    given = {name: value for name, value in fields.items() if value is not None}
    wanted = structs.replace(stored or PluginRow(address), **given)
    if wanted == stored:
        return stored.plugin_id
    return await store.save_plugin(connection, wanted, version)
