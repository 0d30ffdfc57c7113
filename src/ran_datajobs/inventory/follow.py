# SPDX-License-Identifier: Apache-2.0
"""What the inventory of an NCMP, which is followed, changes in the inventory of this service. Pure.

Sources: ONAP CPS-NCMP, OpenAPI of its inventory (``RestOutputCmHandle``), ``schemas/lcm/lcm-event-v1.json``
and ``lcm-event-v2.json``. An event is read for the handle that it names only, which is then looked up: it has
no private properties, NCMP sends the events of a handle from several threads, and none for a change of
properties or of the alternate id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from ran_datajobs.errors import UsageError
from ran_datajobs.inventory.addresses import AddressRefused, checked, normal_form
from ran_datajobs.inventory.registration import (
    INVALID_CHARACTER,
    Changes,
    CmHandle,
    Failure,
    InventoryChanges,
    PluginIds,
    RegistrationOutcome,
    row_of,
)
from ran_datajobs.store.inventory import HandleRow

_CREATE: Final = ".create"
_DELETE: Final = ".delete"


class Followed(Struct, frozen=True):
    """The NCMP that is followed, and its plugins whose handles get operations.

    ``plugins``: the address in normal form of each, and the address as NCMP has it, in the order in which
    they count.
    """

    url: str
    plugins: Mapping[str, str]


def followed_by(ncmp: str | None, plugins: Sequence[str], allowed: Sequence[str] | None) -> Followed | None:
    """What the settings ``DATAJOBS_FOLLOW_NCMP`` and ``DATAJOBS_FOLLOW_PLUGINS`` name; None if nothing.

    ``allowed``: ``DATAJOBS_DMI_ALLOW``, which the plugins must pass; None: they are not called. Raises
    UsageError.
    """
    if ncmp is None and not plugins:
        return None
    if ncmp is None or not plugins:
        raise UsageError(
            "DATAJOBS_FOLLOW_NCMP and DATAJOBS_FOLLOW_PLUGINS belong together: set both, or none of them"
        )
    try:
        url = normal_form(ncmp)
    except AddressRefused as refusal:
        raise UsageError(f"DATAJOBS_FOLLOW_NCMP: {refusal}") from refusal
    named: dict[str, str] = {}
    for plugin in plugins:
        try:
            named.setdefault(normal_form(plugin) if allowed is None else checked(plugin, allowed), plugin)
        except AddressRefused as refusal:
            raise UsageError(f"DATAJOBS_FOLLOW_PLUGINS: {refusal}") from refusal
    return Followed(url, named)


# --- what NCMP sends -------------------------------------------------------------------------------------


class Unreadable(ValueError):
    """A message, or an answer, has not the shape of NCMP's; the text says which."""


class Change(Struct, frozen=True):
    """What an event tells: the handle that it is about, and whether this was deleted. ``may_move``: it was
    deleted or created, and so may have another plugin than before."""

    cm_handle: str
    deleted: bool
    may_move: bool


class _Payload(Struct, frozen=True, rename="camel"):
    cm_handle_id: str


class _Event(Struct, frozen=True, rename="camel"):
    event: _Payload
    event_type: str = ""


class _Handle(Struct, frozen=True, rename="camel"):
    """``RestOutputCmHandle``. A list of properties has one object; in some versions there is no list."""

    cm_handle: str
    alternate_id: str | None = None
    module_set_tag: str | None = None
    data_producer_identifier: str | None = None
    public_cm_handle_properties: Raw = Raw(b"null")
    cm_handle_properties: Raw = Raw(b"null")


class _Named(Struct, frozen=True, rename="camel"):
    cm_handle: str


_event: Final = msgspec.json.Decoder(_Event)
_handle: Final = msgspec.json.Decoder(_Handle)
_named: Final = msgspec.json.Decoder(_Named)
_Texts = dict[str, str | int | float | bool | None]
_properties: Final = msgspec.json.Decoder(list[_Texts] | _Texts | None)
_DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def change_in(value: bytes) -> Change:
    """The change in the value of an LCM event of version 1 or 2. Raises Unreadable."""
    try:
        event = _event.decode(value)
    except _DECODE_ERRORS:
        raise Unreadable("a message is no LCM event") from None
    if not event.event.cm_handle_id:
        raise Unreadable("an LCM event has no CM handle")
    kind = event.event_type
    return Change(event.event.cm_handle_id, kind.endswith(_DELETE), kind.endswith((_CREATE, _DELETE)))


def handle_in(text: bytes | Raw) -> CmHandle | Failure:
    """The CM handle in an item of NCMP's searches, or why it cannot be read. Raises Unreadable if it has no
    id."""
    try:
        found = _handle.decode(text)
        return CmHandle(
            found.cm_handle,
            _texts(found.cm_handle_properties),
            _texts(found.public_cm_handle_properties),
            found.module_set_tag,
            found.alternate_id,
            found.data_producer_identifier,
        )
    except _DECODE_ERRORS:  # whose texts may quote properties
        try:
            return Failure(
                _named.decode(text).cm_handle, INVALID_CHARACTER, "NCMP shows it in an unknown shape"
            )
        except _DECODE_ERRORS:
            raise Unreadable("an item is no CM handle") from None


def _texts(properties: Raw) -> dict[str, str | None]:
    """Properties as texts; a number or a boolean becomes its JSON text."""
    decoded = _properties.decode(properties) or {}
    merged: dict[str, Any] = {}
    for each in decoded if isinstance(decoded, list) else [decoded]:
        merged |= each
    return {name: value if isinstance(value, str) else _json(value) for name, value in merged.items()}


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def owners_of(lists: Iterable[tuple[str, Collection[str]]]) -> dict[str, str]:
    """The plugin of each handle: of several that list it, the first. ``lists``: plugins and their handles."""
    owners: dict[str, str] = {}
    for plugin, ids in lists:
        for cm_handle in ids:
            owners.setdefault(cm_handle, plugin)
    return owners


# --- what changes ----------------------------------------------------------------------------------------


class Seen(Struct, frozen=True):
    """A handle as NCMP has it. ``plugin_id``: of its plugin, None if it has none of the followed ones."""

    handle: CmHandle
    plugin_id: int | None


def differs(seen: Seen, keys: Mapping[str, str], known: HandleRow | None) -> bool:
    """Whether a handle is another one than ``known``, the registered one."""
    return known != _row(seen, keys)


def changes_from(
    seen: Sequence[Seen],
    gone: Iterable[str],
    keys: Mapping[str, str],
    known: Mapping[str, HandleRow],
    holders: Mapping[str, str],
) -> Changes:
    """The changes that make the inventory what NCMP has: handles ``seen`` there, and handles ``gone``.

    ``keys``: the normal forms of the alternate ids. ``known``, ``holders``: the registered ones among these
    handles, and the handle that has each of the keys. All that change are removed first, so that handles can
    exchange their alternate ids. One that is refused is then not in the inventory, as what is known of it is
    wrong. A handle ``gone`` that is not followed stays.
    """
    inventory = InventoryChanges(keys, known, holders)
    changed = [each for each in seen if differs(each, keys, known.get(each.handle.cm_handle))]
    for cm_handle in gone:
        if (row := known.get(cm_handle)) is not None and row.followed:
            inventory.remove(cm_handle)
    for each in changed:
        if each.handle.cm_handle in known:
            inventory.remove(each.handle.cm_handle)
    refused = [
        failure
        for each in changed
        if (failure := inventory.create(each.handle, PluginIds(each.plugin_id), None, followed=True))
    ]
    return inventory.changes(RegistrationOutcome(failed_created_cm_handles=refused))


def _row(seen: Seen, keys: Mapping[str, str]) -> HandleRow:
    key = keys.get(seen.handle.name)
    return row_of(seen.handle, key, PluginIds(seen.plugin_id), followed=True)
