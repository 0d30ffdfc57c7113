# SPDX-License-Identifier: Apache-2.0
"""Computes the changes that a registration makes to the inventory. Pure.

Handles are removed first, then created, updated and upgraded, as in ONAP: one registration can move an
alternate id from one handle to another, or a handle from one plugin to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.inventory.registration import (
    ALREADY_EXISTS,
    ALTERNATE_ID_TAKEN,
    INVALID_CHARACTER,
    NOT_FOUND,
    REMOVED,
    UNKNOWN_ERROR,
    CmHandle,
    Failure,
    Properties,
    Registration,
    RegistrationOutcome,
    Upgrade,
    handle_fault,
    id_fault,
    word_fault,
)
from ran_datajobs.nrm import fdn
from ran_datajobs.store.handles import HandleRow

_Entry = TypeVar("_Entry")


class Changes(Struct, frozen=True):
    """Rows to write, handles to remove, and the failures."""

    save: list[HandleRow]
    remove: list[str]
    outcome: RegistrationOutcome


def handles_named(registration: Registration) -> set[str]:
    """Every valid handle id that a registration names."""
    upgraded = registration.upgraded_cm_handles
    ids = {handle.cm_handle for handle in registration.created_cm_handles or ()}
    ids.update(handle.cm_handle for handle in registration.updated_cm_handles or ())
    ids.update(registration.removed_cm_handles or ())
    ids.update(upgraded.cm_handles if upgraded else ())
    return {cm_handle for cm_handle in ids if id_fault(cm_handle) is None}


def alternate_keys_named(registration: Registration) -> set[str]:
    """The normal form of every valid alternate id that a registration names."""
    keys = set()
    for handle in (*(registration.created_cm_handles or ()), *(registration.updated_cm_handles or ())):
        try:
            keys.add(fdn.key(handle.name))
        except InvalidFdn:
            continue
    return keys


def changes_of(
    registration: Registration,
    known: Mapping[str, HandleRow],
    holders: Mapping[str, str],
    plugin_id: int,
    address_fault: str | None,
) -> Changes:
    """Compute the changes of ``registration``.

    ``known`` holds the registered handles among :func:`handles_named`, ``holders`` the handle that has each
    of :func:`alternate_keys_named`. ``address_fault``: why the plugin's address cannot be used, None when it
    can.
    """
    inventory = _Inventory(known, holders)
    new = HandleRow("", plugin_id)
    upgraded = registration.upgraded_cm_handles or Upgrade([])
    return Changes(
        outcome=RegistrationOutcome(
            failed_removed_cm_handles=_failures(
                inventory.remove, dict.fromkeys(registration.removed_cm_handles or ())
            ),
            failed_created_cm_handles=_failures(
                lambda handle: inventory.create(handle, new, address_fault), registration.created_cm_handles
            ),
            failed_updated_cm_handles=_failures(inventory.update, registration.updated_cm_handles),
            failed_upgrade_cm_handles=_failures(
                lambda cm_handle: inventory.upgrade(cm_handle, upgraded.module_set_tag),
                dict.fromkeys(upgraded.cm_handles),
            ),
        ),
        save=[row for row in inventory.changed.values() if row is not None],
        remove=[cm_handle for cm_handle, row in inventory.changed.items() if row is None],
    )


def _failures(change: Callable[[_Entry], Failure | None], entries: Iterable[_Entry] | None) -> list[Failure]:
    return [failure for failure in map(change, entries or ()) if failure is not None]


class _Inventory:
    """The known handles, and the changes made to them so far."""

    def __init__(self, known: Mapping[str, HandleRow], holders: Mapping[str, str]) -> None:
        self.changed: dict[str, HandleRow | None] = {}
        self._known = known
        self._holders = dict(holders)

    def remove(self, cm_handle: str) -> Failure | None:
        existing = self._row(cm_handle)
        return _not_found(cm_handle) if existing is None else self._put(cm_handle, existing, None)

    def create(self, handle: CmHandle, new: HandleRow, address_fault: str | None) -> Failure | None:
        if fault := handle_fault(handle):
            return Failure(handle.cm_handle, INVALID_CHARACTER, fault)
        if address_fault:
            return Failure(handle.cm_handle, UNKNOWN_ERROR, f"dmiPlugin: {address_fault}")
        row = _with_fields(msgspec.structs.replace(new, cm_handle=handle.cm_handle), handle, removed=None)
        existing = self._row(handle.cm_handle)
        if existing not in (None, row):
            return Failure(row.cm_handle, ALREADY_EXISTS, "cm-handle already exists with other data")
        return self._put(handle.cm_handle, existing, row)

    def update(self, handle: CmHandle) -> Failure | None:
        if fault := handle_fault(handle):
            return Failure(handle.cm_handle, INVALID_CHARACTER, fault)
        existing = self._row(handle.cm_handle)
        if existing is None:
            return _not_found(handle.cm_handle)
        return self._put(handle.cm_handle, existing, _with_fields(existing, handle, REMOVED))

    def upgrade(self, cm_handle: str, module_set_tag: str) -> Failure | None:
        if fault := word_fault(module_set_tag):
            return Failure(cm_handle, INVALID_CHARACTER, f"moduleSetTag: {fault}")
        existing = self._row(cm_handle)
        if existing is None:
            return _not_found(cm_handle)
        row = msgspec.structs.replace(existing, module_set_tag=module_set_tag)
        return self._put(cm_handle, existing, row)

    def _row(self, cm_handle: str) -> HandleRow | None:
        return self.changed.get(cm_handle, self._known.get(cm_handle))

    def _put(self, cm_handle: str, before: HandleRow | None, after: HandleRow | None) -> Failure | None:
        if before == after:
            return None
        key = after.alternate_key if after else None
        if key and self._holders.get(key, cm_handle) != cm_handle:
            return Failure(cm_handle, ALTERNATE_ID_TAKEN, "alternate id already associated")
        if before is not None and before.alternate_key:
            self._holders.pop(before.alternate_key, None)
        if key:
            self._holders[key] = cm_handle
        self.changed[cm_handle] = after
        return None


def _with_fields(row: HandleRow, handle: CmHandle, removed: str | None) -> HandleRow:
    """``row`` with the fields of ``handle``. Absent or empty fields keep their value; a property that is null
    or has the value ``removed`` is removed."""

    def merged(existing: Mapping[str, str], given: Properties | None) -> dict[str, str]:
        changed = given or {}
        kept = {name: value for name, value in existing.items() if name not in changed}
        texts = {name: value for name, value in changed.items() if value is not None and value != removed}
        return kept | texts

    alternate_id = handle.name
    return msgspec.structs.replace(
        row,
        alternate_id=alternate_id or row.alternate_id,
        alternate_key=fdn.key(alternate_id) if alternate_id else row.alternate_key,
        data_producer_id=handle.data_producer_identifier or row.data_producer_id,
        module_set_tag=handle.module_set_tag or row.module_set_tag,
        private_properties=merged(row.private_properties, handle.cm_handle_properties),
        public_properties=merged(row.public_properties, handle.public_cm_handle_properties),
        trust_level=handle.trust_level or row.trust_level,
    )


def _not_found(cm_handle: str) -> Failure:
    if fault := id_fault(cm_handle):
        return Failure(cm_handle, INVALID_CHARACTER, fault)
    return Failure(cm_handle, NOT_FOUND, "cm handle id(s) not found")
