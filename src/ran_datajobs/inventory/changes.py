# SPDX-License-Identifier: Apache-2.0
"""Computes the changes that a registration makes to the inventory. Pure.

Handles are removed first, then created, updated and upgraded, as in ONAP: one registration can move an
alternate id from one handle to another, or a handle from one plugin to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
    handle_fault,
    id_fault,
    word_fault,
)
from ran_datajobs.nrm import fdn
from ran_datajobs.store.handles import HandleRow


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
    upgraded = registration.upgraded_cm_handles
    return Changes(
        outcome=RegistrationOutcome(
            failed_removed_cm_handles=inventory.remove(registration.removed_cm_handles or ()),
            failed_created_cm_handles=inventory.create(
                registration.created_cm_handles or (), plugin_id, address_fault
            ),
            failed_updated_cm_handles=inventory.update(registration.updated_cm_handles or ()),
            failed_upgrade_cm_handles=(
                inventory.upgrade(upgraded.cm_handles, upgraded.module_set_tag) if upgraded else []
            ),
        ),
        save=[row for row in inventory.changed.values() if row is not None],
        remove=[cm_handle for cm_handle, row in inventory.changed.items() if row is None],
    )


class _Inventory:
    """The known handles, and the changes made to them so far."""

    def __init__(self, known: Mapping[str, HandleRow], holders: Mapping[str, str]) -> None:
        self.changed: dict[str, HandleRow | None] = {}
        self._known = known
        self._holders = dict(holders)

    def remove(self, ids: Iterable[str]) -> list[Failure]:
        failures = []
        for cm_handle in dict.fromkeys(ids):
            row = self._row(cm_handle)
            if row is None:
                failures.append(_not_found(cm_handle))
            else:
                self._put(cm_handle, row, None)
        return failures

    def create(self, handles: Iterable[CmHandle], plugin_id: int, address_fault: str | None) -> list[Failure]:
        failures = []
        for handle in handles:
            fault = id_fault(handle.cm_handle) or handle_fault(handle)
            if fault:
                failures.append(Failure(handle.cm_handle, INVALID_CHARACTER, fault))
                continue
            if address_fault:
                failures.append(Failure(handle.cm_handle, UNKNOWN_ERROR, f"dmiPlugin: {address_fault}"))
                continue
            failure = self._create(_created_row(handle, plugin_id))
            if failure:
                failures.append(failure)
        return failures

    def _create(self, row: HandleRow) -> Failure | None:
        existing = self._row(row.cm_handle)
        if existing == row:
            return None
        if existing is not None:
            return Failure(row.cm_handle, ALREADY_EXISTS, "cm-handle already exists with other data")
        if self._taken(row):
            return _alternate_id_taken(row.cm_handle)
        self._put(row.cm_handle, None, row)
        return None

    def update(self, handles: Iterable[CmHandle]) -> list[Failure]:
        failures = []
        for handle in handles:
            fault = id_fault(handle.cm_handle) or handle_fault(handle)
            existing = self._row(handle.cm_handle)
            if fault:
                failures.append(Failure(handle.cm_handle, INVALID_CHARACTER, fault))
            elif existing is None:
                failures.append(_not_found(handle.cm_handle))
            else:
                row = _updated_row(existing, handle)
                if self._taken(row):
                    failures.append(_alternate_id_taken(handle.cm_handle))
                else:
                    self._put(handle.cm_handle, existing, row)
        return failures

    def upgrade(self, ids: Iterable[str], module_set_tag: str) -> list[Failure]:
        failures = []
        fault = word_fault(module_set_tag)
        for cm_handle in dict.fromkeys(ids):
            existing = self._row(cm_handle)
            if fault:
                failures.append(Failure(cm_handle, INVALID_CHARACTER, f"moduleSetTag: {fault}"))
            elif existing is None:
                failures.append(_not_found(cm_handle))
            else:
                row = msgspec.structs.replace(existing, module_set_tag=module_set_tag)
                self._put(cm_handle, existing, row)
        return failures

    def _row(self, cm_handle: str) -> HandleRow | None:
        return self.changed[cm_handle] if cm_handle in self.changed else self._known.get(cm_handle)

    def _taken(self, row: HandleRow) -> bool:
        return self._holders.get(row.alternate_key or "", row.cm_handle) != row.cm_handle

    def _put(self, cm_handle: str, before: HandleRow | None, after: HandleRow | None) -> None:
        if before == after:
            return
        if before is not None and before.alternate_key:
            self._holders.pop(before.alternate_key, None)
        if after is not None and after.alternate_key:
            self._holders[after.alternate_key] = cm_handle
        self.changed[cm_handle] = after


def _created_row(handle: CmHandle, plugin_id: int) -> HandleRow:
    alternate_id = handle.name
    return HandleRow(
        cm_handle=handle.cm_handle,
        plugin_id=plugin_id,
        alternate_id=alternate_id or None,
        alternate_key=fdn.key(alternate_id) if alternate_id else None,
        data_producer_id=handle.data_producer_identifier or "",
        module_set_tag=handle.module_set_tag or "",
        private_properties=_created(handle.cm_handle_properties),
        public_properties=_created(handle.public_cm_handle_properties),
        trust_level=handle.trust_level or "",
    )


def _updated_row(existing: HandleRow, handle: CmHandle) -> HandleRow:
    """Absent or empty fields keep their value; a property that is null or "~" is removed."""
    alternate_id = handle.name
    return msgspec.structs.replace(
        existing,
        alternate_id=alternate_id or existing.alternate_id,
        alternate_key=fdn.key(alternate_id) if alternate_id else existing.alternate_key,
        data_producer_id=handle.data_producer_identifier or existing.data_producer_id,
        module_set_tag=handle.module_set_tag or existing.module_set_tag,
        private_properties=_merged(existing.private_properties, handle.cm_handle_properties),
        public_properties=_merged(existing.public_properties, handle.public_cm_handle_properties),
        trust_level=handle.trust_level or existing.trust_level,
    )


def _created(given: Properties | None) -> dict[str, str]:
    return {name: value for name, value in (given or {}).items() if value is not None}


def _merged(existing: Mapping[str, str], given: Properties | None) -> dict[str, str]:
    changed = given or {}
    kept = {name: value for name, value in existing.items() if name not in changed}
    return kept | {name: value for name, value in changed.items() if value is not None and value != REMOVED}


def _not_found(cm_handle: str) -> Failure:
    fault = id_fault(cm_handle)
    if fault:
        return Failure(cm_handle, INVALID_CHARACTER, fault)
    return Failure(cm_handle, NOT_FOUND, "cm handle id(s) not found")


def _alternate_id_taken(cm_handle: str) -> Failure:
    return Failure(cm_handle, ALTERNATE_ID_TAKEN, "alternate id already associated")
