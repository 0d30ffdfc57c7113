# SPDX-License-Identifier: Apache-2.0
"""CM handles of a service: list them, load those of a file, and tell how both differ."""

from __future__ import annotations

import mmap
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec
from msgspec import Struct

from ran_datajobs.api import paths
from ran_datajobs.cli.api import Api, Refused
from ran_datajobs.cli.handle_csv import FIELDS, PLUGINS, PROPERTIES, Plugins
from ran_datajobs.cli.handle_files import Batch, HandleFile, in_batches
from ran_datajobs.errors import ServerUnreachable
from ran_datajobs.http.json_body import elements_decoder
from ran_datajobs.inventory.addresses import AddressRefused, normal_form
from ran_datajobs.inventory.registration import ALREADY_EXISTS, REMOVED, CmHandle, Registration, id_fault

_FAILED: Final = (
    "failedRemovedCmHandles",
    "failedCreatedCmHandles",
    "failedUpdatedCmHandles",
    "failedUpgradeCmHandles",
)
_CREATED: Final = "failedCreatedCmHandles"
_LONGEST_QUERY: Final = 4000
"""Maximum length of a query for handles by id, unless one id is longer."""

_TRIES: Final = 3

Handle = dict[str, Any]
"""A CM handle as the service lists it."""

Condition = dict[str, Any]
"""A condition of ONAP's searches: ``conditionName`` and ``conditionParameters``."""

Failure = dict[str, str]
"""Why the change of a handle was refused: ``cmHandle``, ``errorCode``, ``errorText``."""


# --- read ------------------------------------------------------------------------------------------------


class Listing:
    """The handles that match a query, at most ``limit``, a page of the service at a time.

    Afterwards ``next`` is the cursor of those behind them, None if there are none.
    """

    def __init__(self, api: Api, limit: int | None = None, cursor: str | None = None, **query: Any) -> None:
        self.next = cursor
        self._api = api
        self._left = sys.maxsize if limit is None else limit
        self._query = query

    def __iter__(self) -> Iterator[Handle]:
        while self._left > 0:
            size = min(self._left, paths.MAX_LIMIT)
            page = self._api.get(paths.CM_HANDLES, limit=size, cursor=self.next, **self._query)
            self._left -= len(page["items"])
            self.next = page["next"]
            yield from page["items"]
            if self.next is None:
                return


def found_by(api: Api, conditions: list[Condition], *, southbound: bool) -> Iterator[Handle]:
    """The handles that fulfil conditions of ONAP's searches, in the shape of a :class:`Listing`, but without
    plugins. ``southbound``: with conditions that are for administrators of the inventory."""
    path = paths.INVENTORY_SEARCHES if southbound else paths.SEARCHES
    body = msgspec.json.encode({"cmHandleQueryParameters": conditions})
    with tempfile.TemporaryFile() as spool:
        api.save(spool, "POST", path, body)
        for element in elements_decoder.decode(mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ)):
            handle = msgspec.json.decode(element)
            given = handle.pop(PROPERTIES["public"], None) or {}
            properties = {name: value for each in _listed(given) for name, value in each.items()}
            producer = handle.pop("dataProducerIdentifier", "")
            yield handle | {"dataProducerId": producer, "publicProperties": properties}


def _listed(properties: Any) -> list[dict[str, str]]:
    """NCMP of some versions has a list of one object."""
    return properties if isinstance(properties, list) else [properties]


def by_id(api: Api, ids: Iterable[str], *, private: bool = False) -> dict[str, Handle]:
    """The registered handles among ``ids``, with their private properties if ``private``."""
    found: dict[str, Handle] = {}
    for some in _split(ids):
        listing = Listing(api, cmHandle=some, privateProperties="true" if private else None)
        found |= {handle["cmHandle"]: handle for handle in listing}
    return found


def _split(ids: Iterable[str]) -> Iterator[list[str]]:
    """The valid ids, as many at once as an address can have."""
    some: list[str] = []
    length = 0
    for each in ids:
        if id_fault(each) is not None:
            continue
        size = len(quote(each)) + len("&cmHandle=")
        if some and length + size > _LONGEST_QUERY:
            yield some
            some, length = [], 0
        some.append(each)
        length += size
    if some:
        yield some


def plugins_of(handle: Handle) -> Plugins:
    """The addresses of a listed handle for :data:`PLUGINS`; those that ``dmiPlugin`` implies are empty."""
    plugin, read, write = (handle.get(name) or "" for name in ("dmiPlugin", "readPlugin", "writePlugin"))
    return plugin, "" if read == plugin else read, "" if write == plugin else write


def as_registered(handle: Handle) -> dict[str, Any]:
    """A listed handle in the shape of a registration, without empty members."""
    members = handle | {
        "dataProducerIdentifier": handle.get("dataProducerId"),
        "trustLevel": handle.get("registeredTrustLevel"),
        PROPERTIES["public"]: _sorted(handle.get("publicProperties")),
        PROPERTIES["private"]: _sorted(handle.get("privateProperties")),
    }
    return {name: members[name] for name in (*FIELDS, *PROPERTIES.values()) if members.get(name)}


def _sorted(properties: Mapping[str, str] | None) -> dict[str, str]:
    return dict(sorted((properties or {}).items()))


def registrations(handles: Iterable[Handle]) -> Iterator[bytes]:
    """Registrations that create ``handles``: JSON, one a line, each with some handles of one plugin."""
    for plugins, group in in_batches((plugins_of(handle), as_registered(handle)) for handle in handles):
        named = {name: plugin for name, plugin in zip(PLUGINS, plugins, strict=True) if plugin}
        yield msgspec.json.encode(named | {"createdCmHandles": group}) + b"\n"


# --- load ------------------------------------------------------------------------------------------------


def register(api: Api, body: bytes) -> list[Failure]:
    """Send a registration. Returns the changes that were refused."""
    return [failure for failures in _registered(api, body).values() for failure in failures]


def load(api: Api, file: HandleFile, sent: Callable[[int], None]) -> Iterator[Failure]:
    """Send the registrations of a file and yield the changes that were refused.

    A handle that exists with other data is changed: what the file does not name stays. A repeat changes
    nothing. ``sent`` is called with the number of changes after each registration. Raises UsageError, with
    the place in the file, for a fault, and ServerUnreachable.
    """
    for batch in file.batches():
        failed = _sent(api, batch)
        existing = {f["cmHandle"]: f for f in failed[_CREATED] if f["errorCode"] == ALREADY_EXISTS}
        for failures in failed.values():
            yield from (failure for failure in failures if failure is not existing.get(failure["cmHandle"]))
        if existing:
            yield from _change(api, batch.checked(), existing)
        sent(batch.size)


def remove(api: Api, ids: Collection[str], sent: Callable[[int], None]) -> Iterator[Failure]:
    """Remove handles and yield those that were refused."""
    for _, some in in_batches((("",), each) for each in ids):
        yield from _tried(api, msgspec.json.encode({"removedCmHandles": some}))["failedRemovedCmHandles"]
        sent(len(some))


def _change(api: Api, registration: Registration, existing: Mapping[str, Failure]) -> Iterator[Failure]:
    """Update the handles of a registration that exist already, in one more registration."""
    known = by_id(api, existing)
    updates: list[CmHandle] = []
    for handle in registration.created_cm_handles or ():
        if (failure := existing.get(handle.cm_handle)) is None:
            continue
        if handle.cm_handle not in known:
            yield failure
        elif moved := _moved(registration, known[handle.cm_handle]):
            yield failure | {"errorText": moved}
        else:
            updates.append(handle)
    if updates:
        answer = _tried(api, msgspec.json.encode({"updatedCmHandles": updates}))
        yield from answer["failedUpdatedCmHandles"]


def _moved(registration: Registration, known: Handle) -> str:
    """Why a registration cannot change a registered handle; empty if both name the same plugins."""
    wanted = tuple(_normal(address) for address in registration.plugins[1:])
    has = (known.get("readPlugin"), known.get("writePlugin"))
    if wanted == has:
        return ""
    named = " and ".join(dict.fromkeys(filter(None, has)))
    return f"belongs to the plugin {named}: remove the handle, then load it again"


def _normal(address: str) -> str:
    try:
        return normal_form(address)
    except AddressRefused:
        return address


def _sent(api: Api, batch: Batch) -> dict[str, list[Failure]]:
    try:
        return _tried(api, batch.body)
    except Refused as error:
        if not any(pointer.startswith("#") for pointer, _ in error.faults):
            raise
        raise batch.located(error.faults) from error


def _tried(api: Api, body: bytes) -> dict[str, list[Failure]]:
    """Send a registration, which can be repeated without harm, a few times."""
    for _ in range(_TRIES - 1):
        try:
            return _registered(api, body)
        except ServerUnreachable as error:
            if isinstance(error.__cause__, ConnectionRefusedError):
                raise
    return _registered(api, body)


def _registered(api: Api, body: bytes) -> dict[str, list[Failure]]:
    # With DATAJOBS_REGISTRATION_ERROR_500 a registration that failed in part is answered with a 500.
    _, answer = api.call("POST", paths.INVENTORY, body=body, also=500)
    return {name: (answer or {}).get(name) or [] for name in _FAILED}


# --- compare ---------------------------------------------------------------------------------------------


class Difference(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What loading a file would do to one handle.

    ``fields``: old and new value of each that changes, None where there is none; of private properties
    neither is shown. ``why``: of a refusal.
    """

    change: Literal["create", "change", "remove", "refuse"]
    cm_handle: str
    fields: dict[str, tuple[str | None, str | None]] = {}
    why: str = ""


class Contents(Struct):
    """Handles and plugins that a file names."""

    ids: set[str]
    plugins: set[str]


def differences(api: Api, file: HandleFile) -> Iterator[Difference]:
    """Yield what loading ``file`` would change."""
    for batch in file.batches():
        yield from _differences(api, batch.checked())


def contents(file: HandleFile) -> Contents:
    """The handles that a file names, but not to remove them, and the plugins of those that it creates."""
    found = Contents(set(), set())
    for batch in file.batches():
        registration = batch.checked()
        found.ids.update(handle.cm_handle for handle in registration.created_cm_handles or ())
        found.ids.update(handle.cm_handle for handle in registration.updated_cm_handles or ())
        if registration.upgraded_cm_handles:
            found.ids.update(registration.upgraded_cm_handles.cm_handles)
        found.plugins.update(_normal(address) for address in registration.plugins[1:] if address)
    return found


def surplus(api: Api, kept: Contents) -> Iterator[str]:
    """The registered handles of the plugins in ``kept`` that are not among its handles."""
    for plugin in sorted(kept.plugins):
        for handle in Listing(api, plugin=plugin):
            owners = set(filter(None, (handle["readPlugin"], handle["writePlugin"])))
            # A handle with two plugins is in both lists.
            if handle["cmHandle"] not in kept.ids and owners <= kept.plugins and plugin == min(owners):
                yield str(handle["cmHandle"])


def _differences(api: Api, registration: Registration) -> Iterator[Difference]:
    created = registration.created_cm_handles or []
    updated = registration.updated_cm_handles or []
    removed = registration.removed_cm_handles or []
    upgraded = registration.upgraded_cm_handles
    private = any(handle.cm_handle_properties for handle in (*created, *updated))
    ids = dict.fromkeys([*removed, *(each.cm_handle for each in (*created, *updated))])
    ids |= dict.fromkeys(upgraded.cm_handles if upgraded else ())
    known = by_id(api, ids, private=private)
    for cm_handle in removed:
        if known.pop(cm_handle, None) is None:
            yield Difference("refuse", cm_handle, why="is not registered")
        else:
            yield Difference("remove", cm_handle)
    for handle in created:
        yield from _difference(registration, handle, known.get(handle.cm_handle), is_new=True)
    for handle in updated:
        yield from _difference(registration, handle, known.get(handle.cm_handle), is_new=False)
    for cm_handle in upgraded.cm_handles if upgraded else ():
        tag = CmHandle(cm_handle, module_set_tag=upgraded.module_set_tag if upgraded else "")
        yield from _difference(registration, tag, known.get(cm_handle), is_new=False)


def _difference(
    registration: Registration, handle: CmHandle, known: Handle | None, *, is_new: bool
) -> Iterator[Difference]:
    if known is None:
        if is_new:
            yield Difference("create", handle.cm_handle)
        else:
            yield Difference("refuse", handle.cm_handle, why="is not registered")
    elif is_new and (moved := _moved(registration, known)):
        yield Difference("refuse", handle.cm_handle, why=moved)
    elif fields := changed_fields(handle, known):
        yield Difference("change", handle.cm_handle, fields)


def changed_fields(handle: CmHandle, known: Handle) -> dict[str, tuple[str | None, str | None]]:
    """Old and new value of each field and property that an update of a registered handle changes."""
    given = {
        "alternateId": (known.get("alternateId"), handle.name),
        "dataProducerIdentifier": (known.get("dataProducerId"), handle.data_producer_identifier),
        "moduleSetTag": (known.get("moduleSetTag"), handle.module_set_tag),
        "trustLevel": (known.get("registeredTrustLevel"), handle.trust_level),
    }
    fields: dict[str, tuple[str | None, str | None]] = {
        name: (old or None, new) for name, (old, new) in given.items() if new and new != old
    }
    for prefix, properties, old in (
        ("public", handle.public_cm_handle_properties, known.get("publicProperties") or {}),
        ("private", handle.cm_handle_properties, known.get("privateProperties") or {}),
    ):
        for name, value in (properties or {}).items():
            new = None if value == REMOVED else value
            if new != old.get(name):
                shown = (old.get(name), new) if prefix == "public" else (None, None)
                fields[f"{prefix}.{name}"] = shown
    return fields
