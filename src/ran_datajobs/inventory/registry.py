# SPDX-License-Identifier: Apache-2.0
"""Applies ONAP's registration of a DMI plugin and its CM handles to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from msgspec import structs

from ran_datajobs.config import Settings
from ran_datajobs.inventory.addresses import AddressRefused, checked
from ran_datajobs.inventory.events import changed_handles, events_of
from ran_datajobs.inventory.registration import (
    Changes,
    PluginIds,
    Registration,
    RegistrationOutcome,
    alternate_keys,
    changes_of,
    handles_named,
    read_registration,
)
from ran_datajobs.store import inventory as store
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.inventory import HandleRow, PluginRow
from ran_datajobs.telemetry import logger

LONGEST_REGISTRATION: Final = 60.0
"""Maximum seconds for computing the changes of a large registration; only other registrations wait."""

EVENT_BATCH: Final = 10_000
"""Number of events that are built and written at a time."""


async def register(database: Database, settings: Settings, body: bytes) -> RegistrationOutcome:
    """Apply the valid parts of a registration in one transaction; the outcome lists the rest.

    Durable on return, with the events of changed handles; every lookup index that catches up afterwards has
    the changes. A repeat of the same registration changes nothing and succeeds. Raises InvalidRequest for a
    wrong shape or type, and StoreUnavailable; nothing is applied then.
    """
    registration = await asyncio.to_thread(read_registration, body)
    addresses, fault = _checked_addresses(registration, settings.dmi_allow)
    default = PluginRow("", dialect=settings.dmi_dialect)
    async with database.transaction(idle=LONGEST_REGISTRATION) as connection:
        version = await store.lock_inventory(connection)
        ids = {
            address: await _saved_plugin(connection, registration, structs.replace(default, url=url), version)
            for address, url in addresses.items()
        }
        general = ids.get(registration.plugins[0], 0)
        if general and (model := registration.addresses.get("dmiModelPlugin")):
            url = checked(model, settings.dmi_allow)
            await _save_model_plugin(connection, general, structs.replace(default, url=url), version)
        keys = await asyncio.to_thread(alternate_keys, registration)
        known = await store.handles_by_id(connection, handles_named(registration))
        changes = await asyncio.to_thread(
            changes_of,
            registration,
            keys,
            known,
            await store.holders_of(connection, keys.values()),
            PluginIds.of(*(ids.get(address, 0) for address in registration.plugins)),
            fault,
            following=settings.follow_ncmp is not None,
        )
        await write_changes(connection, changes, known, version, settings.inventory_events_topic)
    logger().info(
        "inventory.registered",
        plugin=", ".join(dict.fromkeys(addresses.values())) or None,
        created=len(registration.created_cm_handles or ()),
        updated=len(registration.updated_cm_handles or ()),
        removed=len(registration.removed_cm_handles or ()),
        failed=changes.outcome.failed,
    )
    return changes.outcome


async def write_changes(
    connection: Connection,
    changes: Changes,
    known: Mapping[str, HandleRow],
    version: int,
    events_topic: str | None,
) -> None:
    """Write changes of the inventory, and their events if these have a topic, in the caller's transaction,
    which has the lock of the inventory. ``known``: the handles before."""
    await store.remove_handles(connection, changes.remove, version)
    await store.save_handles(connection, changes.save, changes.leave, version)
    if events_topic is None:
        return
    changed = changed_handles(changes, known)
    for start in range(0, len(changed), EVENT_BATCH):
        batch = changed[start : start + EVENT_BATCH]
        await outbox.add(
            connection, await asyncio.to_thread(events_of, batch, events_topic, datetime.now(UTC))
        )


async def _save_model_plugin(connection: Connection, plugin_id: int, model: PluginRow, version: int) -> None:
    """Store the plugin that is asked for the modules of the handles of another one."""
    stored = await store.plugin_by_url(connection, model.url)
    model_id = stored.plugin_id if stored else await store.save_plugin(connection, model, version)
    await store.set_model_plugin(connection, plugin_id, None if model_id == plugin_id else model_id)


def _checked_addresses(
    registration: Registration, allowed: tuple[str, ...]
) -> tuple[dict[str, str], str | None]:
    """The addresses of the plugins that the registration names for data jobs, in normal form by the address
    as written. None of them, and the reason, if one of its addresses cannot be used."""
    normal: dict[str, str] = {}
    for field, address in registration.addresses.items():
        try:
            normal[address] = checked(address, allowed)
        except AddressRefused as refusal:
            return {}, f"{field}: {refusal}"
    return {address: normal[address] for address in registration.plugins if address}, None


async def _saved_plugin(
    connection: Connection, registration: Registration, default: PluginRow, version: int
) -> int:
    """Store a plugin that the registration names, with the settings in it. Returns its id. ``default``: the
    plugin without any settings."""
    stored = await store.plugin_by_url(connection, default.url)
    fields = {name: getattr(registration, name, None) for name in PluginRow.__struct_fields__}
    given = {name: value for name, value in fields.items() if value is not None}
    wanted = structs.replace(stored or default, **given)
    if wanted == stored:
        return stored.plugin_id
    return await store.save_plugin(connection, wanted, version)
