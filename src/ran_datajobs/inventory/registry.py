# SPDX-License-Identifier: Apache-2.0
"""Applies ONAP's registration of a DMI plugin and its CM handles to the store."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import structs

from ran_datajobs.inventory.addresses import AddressRefused, checked
from ran_datajobs.inventory.registration import (
    Registration,
    RegistrationOutcome,
    alternate_keys,
    changes_of,
    handles_named,
    read_registration,
)
from ran_datajobs.store import inventory as store
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.inventory import PluginRow
from ran_datajobs.telemetry import logger

_LONGEST_REGISTRATION: Final = 60.0
"""Maximum seconds for computing the changes of a large registration; only other registrations wait."""


async def register(database: Database, dmi_allow: tuple[str, ...], body: bytes) -> RegistrationOutcome:
    """Apply the valid parts of a registration in one transaction; the outcome lists the rest.

    ``dmi_allow`` lists the addresses that may be a plugin: see :func:`checked`. Durable on return; every
    lookup index that catches up afterwards has the changes. A repeat of the same registration changes nothing
    and succeeds. Raises InvalidRequest for a wrong shape or type, and StoreUnavailable; nothing is applied
    then.
    """
    registration = await asyncio.to_thread(read_registration, body)
    address, address_fault = "", None
    if registration.address:
        try:
            address = checked(registration.address, dmi_allow)
        except AddressRefused as refusal:
            address_fault = str(refusal)
    async with database.transaction(idle=_LONGEST_REGISTRATION) as connection:
        version = await store.lock_inventory(connection)
        plugin_id = await _saved_plugin(connection, address, registration, version) if address else 0
        keys = await asyncio.to_thread(alternate_keys, registration)
        changes = await asyncio.to_thread(
            changes_of,
            registration,
            keys,
            await store.handles_by_id(connection, handles_named(registration)),
            await store.holders_of(connection, keys.values()),
            plugin_id,
            address_fault,
        )
        await store.remove_handles(connection, changes.remove, version)
        await store.save_handles(connection, changes.save, version)
    logger().info(
        "inventory.registered",
        plugin=address or None,
        created=len(registration.created_cm_handles or ()),
        updated=len(registration.updated_cm_handles or ()),
        removed=len(registration.removed_cm_handles or ()),
        failed=changes.outcome.failed,
    )
    return changes.outcome


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
