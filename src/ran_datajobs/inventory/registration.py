# SPDX-License-Identifier: Apache-2.0
"""Decodes the body of ``POST /ncmpInventory/v1/ch`` in ONAP's shape, checks it handle by handle and computes
the changes that it makes to the inventory. Pure.

Handles are removed first, then created, updated and upgraded, as in ONAP: one registration can move an
alternate id from one handle to another, or a handle from one plugin to another.

A wrong shape or type rejects the whole body; a fault of one handle becomes a :class:`Failure` of that handle.
No message contains private properties (``cmHandleProperties``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from ran_datajobs.errors import InvalidFdn, InvalidRequest
from ran_datajobs.http.json_body import TYPED_STEPS, decoded, malformed
from ran_datajobs.nrm import fdn
from ran_datajobs.store.inventory import HandleRow

# ONAP's codes (NcmpResponseStatus of CPS) that a registration can answer.
NOT_FOUND: Final = "100"  # no such CM handle
UNKNOWN_ERROR: Final = "108"  # anything without a code of its own; the text says what
ALREADY_EXISTS: Final = "109"  # the handle exists with other data, or another one has its alternate id
INVALID_CHARACTER: Final = "110"  # a character or a length that is not allowed

MAX_CM_HANDLE: Final = 255
MAX_ALTERNATE_KEY: Final = 2000
MAX_WORD: Final = 512
MAX_PROPERTIES: Final = 64 * 1024
"""Maximum characters of a handle id, bytes of the normal form of an alternate id, characters of a producer
id or a module set tag, bytes of all properties of a handle as JSON."""

_NOT_FOUND: Final = "cm handle reference(s) not found"
_EXISTS: Final = "cm-handle already exists"
_INVALID_ID: Final = (
    "cm handle reference has an invalid character(s) in id: letters, digits, '-' and '_' are allowed"
)
_FOLLOWED: Final = "the handle is one of the NCMP that this service follows: change it there"
"""ONAP's texts, except for the last one; what is behind the colon, here and where they are used, is this
project's."""

_HANDLE_ID: Final = re.compile(r"[\w-]+")

_Seconds = Annotated[float, Meta(gt=0, le=7 * 24 * 3600)]
_Slots = Annotated[int, Meta(ge=1, le=1000)]
Properties = Annotated[
    dict[str, str | None],
    Meta(
        description="Texts; a number or a boolean becomes its JSON text. null is none, and in an update "
        'removes the property, as "~" does.',
        extra_json_schema={"additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
    ),
]

REMOVED: Final = "~"
"""Value that removes a property in an update, like null (OpenAPI of ONAP); in a create it is a plain text."""


class CmHandle(Struct, frozen=True, rename="camel", gc=False):
    """A CM handle in a registration. A property that is null counts as absent."""

    cm_handle: str
    cm_handle_properties: Properties | None = None
    public_cm_handle_properties: Properties | None = None
    module_set_tag: str | None = None
    alternate_id: str | None = None
    data_producer_identifier: str | None = None
    trust_level: Literal["COMPLETE", "NONE", ""] | None = None

    @property
    def name(self) -> str:
        """The alternate id without blanks around it; empty when none is given."""
        return (self.alternate_id or "").strip()

    def __repr__(self) -> str:
        """Without the properties: the private ones are secrets."""
        return f"CmHandle({self.cm_handle!r})"


class Upgrade(Struct, frozen=True, rename="camel"):
    """Handles that get another module set tag."""

    cm_handles: list[str]
    module_set_tag: str = ""


class Registration(Struct, frozen=True, rename="camel"):
    """A DMI plugin and the changes to its CM handles: removed first, then created, updated, upgraded.

    The fields from ``dialect`` on are this project's and apply to each plugin in :attr:`plugins`; None keeps
    the registered value.
    """

    dmi_plugin: str | None = None
    dmi_data_plugin: str | None = None
    dmi_model_plugin: str | None = None
    dmi_datajobs_read_plugin: str | None = None
    dmi_datajobs_write_plugin: str | None = None
    created_cm_handles: list[CmHandle] | None = None
    updated_cm_handles: list[CmHandle] | None = None
    removed_cm_handles: list[str] | None = None
    upgraded_cm_handles: Upgrade | None = None
    dialect: Literal["auto", "seed", "onap"] | None = msgspec.field(default=None, name="dmiDialect")
    idempotent: bool | None = None
    stop_on_error: bool | None = None
    give_up: _Seconds | None = msgspec.field(default=None, name="dmiGiveUp")
    sub_job_timeout: _Seconds | None = None
    read_slots: _Slots | None = None
    bulk_cancel: bool | None = None
    selectors: bool | None = None
    operation_properties: bool | None = None
    guards: bool | None = None
    before_images: bool | None = None

    @property
    def addresses(self) -> dict[str, str]:
        """The plugin addresses that are not blank, as written, by the name of their field."""
        fields = {name: (getattr(self, field) or "").strip() for name, field in _ADDRESSES.items()}
        return {name: address for name, address in fields.items() if address}

    @property
    def plugins(self) -> tuple[str, str, str]:
        """The addresses, as written, of the general plugin, that for reads and that for writes; empty where
        there is none.

        Reads and writes have a plugin of their own, or that of ``dmiPlugin``, or that of ``dmiDataPlugin``.
        """
        named = self.addresses
        general = named.get("dmiPlugin") or named.get("dmiDataPlugin", "")
        read = named.get("dmiDatajobsReadPlugin", general)
        write = named.get("dmiDatajobsWritePlugin", general)
        return general or write or read, read, write


_ADDRESSES: Final = {
    "dmiPlugin": "dmi_plugin",
    "dmiDataPlugin": "dmi_data_plugin",
    "dmiModelPlugin": "dmi_model_plugin",
    "dmiDatajobsReadPlugin": "dmi_datajobs_read_plugin",
    "dmiDatajobsWritePlugin": "dmi_datajobs_write_plugin",
}


class Failure(Struct, frozen=True, rename="camel"):
    """Why the change of one handle was not applied, in ONAP's shape."""

    cm_handle: str
    error_code: str
    error_text: str


class RegistrationOutcome(Struct, frozen=True, rename="camel"):
    """The changes that were not applied, in ONAP's lists."""

    failed_created_cm_handles: list[Failure] = []
    failed_updated_cm_handles: list[Failure] = []
    failed_removed_cm_handles: list[Failure] = []
    failed_upgrade_cm_handles: list[Failure] = []

    @property
    def failed(self) -> int:
        """Number of changes that were not applied."""
        return sum(map(len, msgspec.structs.astuple(self)))


class _SentHandle(CmHandle, frozen=True, rename="camel", gc=False):
    """A handle whose properties have integers, true and false as well: their text follows from the value."""

    cm_handle_properties: dict[str, str | int | bool | None] | None = None  # type: ignore[assignment]
    public_cm_handle_properties: dict[str, str | int | bool | None] | None = None  # type: ignore[assignment]


class _SentRegistration(Registration, frozen=True, rename="camel"):
    created_cm_handles: list[_SentHandle] | None = None  # type: ignore[assignment]
    updated_cm_handles: list[_SentHandle] | None = None  # type: ignore[assignment]


class _RawHandle(CmHandle, frozen=True, rename="camel"):
    """A handle as it is sent: the values of its properties are not decoded."""

    cm_handle_properties: dict[str, Raw] | None = None  # type: ignore[assignment]
    public_cm_handle_properties: dict[str, Raw] | None = None  # type: ignore[assignment]


class _RawRegistration(Registration, frozen=True, rename="camel"):
    created_cm_handles: list[_RawHandle] | None = None  # type: ignore[assignment]
    updated_cm_handles: list[_RawHandle] | None = None  # type: ignore[assignment]


_decoder: Final = msgspec.json.Decoder(_SentRegistration)
_raw_decoder: Final = msgspec.json.Decoder(_RawRegistration)
_string: Final = msgspec.json.Decoder(str)
_MINUS_ZERO: Final = re.compile(rb":\s*-0\s*[,}]")
_NAMES: Final = {
    "cm_handle_properties": "cmHandleProperties",
    "public_cm_handle_properties": "publicCmHandleProperties",
}


def read_registration(body: bytes) -> Registration:
    """Decode a registration. A property that is a number, true or false becomes its JSON text, as in ONAP.

    Raises InvalidRequest, with a pointer, for a wrong shape or type.
    """
    registration = _decoded(body)
    if registration.created_cm_handles and not all(registration.plugins):
        detail = "is missing: the address of the plugin that the created handles belong to"
        raise InvalidRequest(f"#/dmiPlugin: {detail}", (("#/dmiPlugin", detail),))
    return registration


def _decoded(body: bytes) -> Registration:
    """The registration with texts as properties.

    The texts of integers follow from their values, unless one is -0. Only a body with such a value, with
    fractions, or with errors is decoded token by token, which takes twice as long.
    """
    if not _MINUS_ZERO.search(body):
        with contextlib.suppress(InvalidRequest):
            sent = decoded(body, _decoder)
            for handle in (*(sent.created_cm_handles or ()), *(sent.updated_cm_handles or ())):
                _write_as_texts(handle.cm_handle_properties)
                _write_as_texts(handle.public_cm_handle_properties)
            return sent
    registration = decoded(body, _raw_decoder)
    try:
        _decode_properties("createdCmHandles", registration.created_cm_handles or ())
        _decode_properties("updatedCmHandles", registration.updated_cm_handles or ())
    except msgspec.DecodeError as error:
        raise malformed(body, error, TYPED_STEPS) from None
    return registration


def _write_as_texts(properties: dict[str, Any] | None) -> None:
    """Replace each integer, true and false by its JSON text."""
    for name, value in (properties or {}).items():
        if type(value) is not str and value is not None:
            properties[name] = str(value).lower()  # type: ignore[index]


def _decode_properties(where: str, handles: Sequence[_RawHandle]) -> None:
    """Decode the values of the properties of ``handles``, in place."""
    for place, handle in enumerate(handles):
        for field, name in _NAMES.items():
            if sent := getattr(handle, field):
                try:
                    texts = {key: _text(value) for key, value in sent.items()}
                except TypeError as error:
                    raise InvalidRequest.at(f"#/{where}/{place}/{name}", str(error)) from None
                msgspec.structs.force_setattr(handle, field, texts)


def _text(value: Raw) -> str | None:
    """The text of a property's JSON value. Raises TypeError for an object or a list."""
    token = bytes(value)
    match token[:1]:
        case b'"':
            return _string.decode(token)
        case b"n":
            return None
        case b"{" | b"[":
            raise TypeError(
                "may have strings, numbers, true, false and null; one value is an object or a list"
            )
    return token.decode()


def id_fault(cm_handle: str) -> str | None:
    """Why the id of a CM handle is invalid (ONAP allows letters, digits, ``-`` and ``_``), or None."""
    if len(cm_handle) > MAX_CM_HANDLE:
        return f"the cm handle id has {len(cm_handle)} characters, at most {MAX_CM_HANDLE} are kept"
    if not _HANDLE_ID.fullmatch(cm_handle):
        return _INVALID_ID
    return None


def handle_fault(handle: CmHandle, key: str | None = None) -> str | None:
    """Why a field of a CM handle is invalid, independent of what is registered, or None.

    ``key``: the normal form of its alternate id, if that is known already.
    """
    if fault := id_fault(handle.cm_handle):
        return fault
    if key is None and handle.name:
        try:
            key = fdn.key(handle.name)
        except InvalidFdn as error:
            return f"alternateId: {error}"
    if key is not None and (size := len(key.encode())) > MAX_ALTERNATE_KEY:
        return f"alternateId: has {size} bytes, at most {MAX_ALTERNATE_KEY} are kept"
    if (word := handle.data_producer_identifier) and (fault := word_fault(word)):
        return f"dataProducerIdentifier: {fault}"
    if (word := handle.module_set_tag) and (fault := word_fault(word)):
        return f"moduleSetTag: {fault}"
    if (properties := handle.cm_handle_properties) and (fault := _properties_fault(properties)):
        return f"cmHandleProperties: {fault}"
    if (properties := handle.public_cm_handle_properties) and (fault := _properties_fault(properties)):
        return f"publicCmHandleProperties: {fault}"
    return None


def _properties_fault(properties: Properties) -> str | None:
    encoded = msgspec.json.encode(properties)
    if b"\\u0000" in encoded and any("\0" in f"{name}{value}" for name, value in properties.items()):
        return "the character U+0000 cannot be kept"
    if (size := len(encoded)) > MAX_PROPERTIES:
        return f"has {size} bytes, at most {MAX_PROPERTIES} are kept"
    return None


def word_fault(word: str) -> str | None:
    """Why a producer id or a module set tag is invalid, or None."""
    if len(word) > MAX_WORD:
        return f"has {len(word)} characters, at most {MAX_WORD} are kept"
    if not word.isprintable() or word != word.strip():
        return "has a character that cannot be printed, or a blank at its end"
    return None


_Entry = TypeVar("_Entry")


class PluginIds(Struct, frozen=True):
    """The plugins of created handles, as in :class:`HandleRow`."""

    plugin_id: int | None
    read_plugin_id: int | None = None
    write_plugin_id: int | None = None

    @classmethod
    def of(cls, general: int, read: int, write: int) -> PluginIds:
        """The ids; those of reads and writes only where they differ."""
        return cls(general, None if read == general else read, None if write == general else write)


class Changes(Struct, frozen=True):
    """Rows to write, handles to remove, handles among the rows that leave their registered alternate id, and
    the failures."""

    save: list[HandleRow]
    remove: list[str]
    leave: list[str]
    outcome: RegistrationOutcome


def handles_named(registration: Registration) -> set[str]:
    """Every valid handle id that a registration names."""
    upgraded = registration.upgraded_cm_handles
    ids = {handle.cm_handle for handle in registration.created_cm_handles or ()}
    ids.update(handle.cm_handle for handle in registration.updated_cm_handles or ())
    ids.update(registration.removed_cm_handles or ())
    ids.update(upgraded.cm_handles if upgraded else ())
    return {cm_handle for cm_handle in ids if id_fault(cm_handle) is None}


def alternate_keys(registration: Registration) -> dict[str, str]:
    """The normal form of every valid alternate id that a registration names, by the id as written."""
    keys: dict[str, str] = {}
    for handle in (*(registration.created_cm_handles or ()), *(registration.updated_cm_handles or ())):
        if name := handle.name:
            with contextlib.suppress(InvalidFdn):
                keys[name] = fdn.key(name)
    return keys


def changes_of(
    registration: Registration,
    keys: Mapping[str, str],
    known: Mapping[str, HandleRow],
    holders: Mapping[str, str],
    plugins: PluginIds,
    address_fault: str | None,
    *,
    following: bool = False,
) -> Changes:
    """Compute the changes of ``registration``.

    ``keys``: of :func:`alternate_keys`. ``known`` holds the registered handles among :func:`handles_named`,
    ``holders`` the handle that has each of the keys. ``address_fault``: which address of a plugin cannot be
    used, and why; None when all can. ``following``: an NCMP is followed, and its handles are not changed.
    """
    inventory = InventoryChanges(keys, known, holders, protected=following)
    upgraded = registration.upgraded_cm_handles or Upgrade([])
    return inventory.changes(
        RegistrationOutcome(
            failed_removed_cm_handles=_failures(
                inventory.remove, dict.fromkeys(registration.removed_cm_handles or ())
            ),
            failed_created_cm_handles=_failures(
                lambda handle: inventory.create(handle, plugins, address_fault),
                registration.created_cm_handles,
            ),
            failed_updated_cm_handles=_failures(inventory.update, registration.updated_cm_handles),
            failed_upgrade_cm_handles=_failures(
                lambda cm_handle: inventory.upgrade(cm_handle, upgraded.module_set_tag),
                dict.fromkeys(upgraded.cm_handles),
            ),
        )
    )


def _failures(change: Callable[[_Entry], Failure | None], entries: Iterable[_Entry] | None) -> list[Failure]:
    return [failure for failure in map(change, entries or ()) if failure is not None]


def row_of(handle: CmHandle, key: str | None, plugins: PluginIds, *, followed: bool = False) -> HandleRow:
    """The row of a created handle, whose normal form of the alternate id is ``key``."""
    return HandleRow(
        handle.cm_handle,
        plugins.plugin_id,
        handle.name or None,
        key,
        handle.data_producer_identifier or "",
        handle.module_set_tag or "",
        _present(handle.cm_handle_properties),
        _present(handle.public_cm_handle_properties),
        handle.trust_level or "",
        plugins.read_plugin_id,
        plugins.write_plugin_id,
        followed,
    )


class InventoryChanges:
    """The known handles, and the changes made to them so far. Each method returns why its change fails, or
    None. ``keys``, ``known``, ``holders``: as for :func:`changes_of`; ``protected``: handles of an NCMP that
    is followed are not changed."""

    def __init__(
        self,
        keys: Mapping[str, str],
        known: Mapping[str, HandleRow],
        holders: Mapping[str, str],
        *,
        protected: bool = False,
    ) -> None:
        self._changed: dict[str, HandleRow | None] = {}
        self._keys = keys
        self._known = known
        self._holders = dict(holders)
        self._protected = protected

    def changes(self, outcome: RegistrationOutcome) -> Changes:
        """All changes so far; ``outcome``: those that failed."""
        return Changes(
            outcome=outcome,
            save=[row for row in self._changed.values() if row is not None],
            remove=[cm_handle for cm_handle, row in self._changed.items() if row is None],
            leave=[
                cm_handle
                for cm_handle, before in self._known.items()
                if (row := self._changed.get(cm_handle)) and before.alternate_key != row.alternate_key
            ],
        )

    def remove(self, cm_handle: str) -> Failure | None:
        existing = self._row(cm_handle)
        return _not_found(cm_handle) if existing is None else self._put(cm_handle, existing, None)

    def create(
        self, handle: CmHandle, plugins: PluginIds, address_fault: str | None, *, followed: bool = False
    ) -> Failure | None:
        key = self._keys.get(handle.name)
        if fault := handle_fault(handle, key):
            return Failure(handle.cm_handle, INVALID_CHARACTER, fault)
        if address_fault:
            return Failure(handle.cm_handle, UNKNOWN_ERROR, address_fault)
        existing = self._row(handle.cm_handle)
        kept = followed or (existing is not None and existing.followed)
        row = row_of(handle, key, plugins, followed=kept)
        if existing not in (None, row):
            return Failure(row.cm_handle, ALREADY_EXISTS, f"{_EXISTS}: with other data")
        return self._put(handle.cm_handle, existing, row)

    def update(self, handle: CmHandle) -> Failure | None:
        """Change the fields that the update has: absent and empty ones keep their value."""
        if fault := handle_fault(handle, self._keys.get(handle.name)):
            return Failure(handle.cm_handle, INVALID_CHARACTER, fault)
        existing = self._row(handle.cm_handle)
        if existing is None:
            return _not_found(handle.cm_handle)
        row = msgspec.structs.replace(
            existing,
            alternate_id=handle.name or existing.alternate_id,
            alternate_key=self._keys.get(handle.name, existing.alternate_key),
            data_producer_id=handle.data_producer_identifier or existing.data_producer_id,
            module_set_tag=handle.module_set_tag or existing.module_set_tag,
            private_properties=_merged(existing.private_properties, handle.cm_handle_properties),
            public_properties=_merged(existing.public_properties, handle.public_cm_handle_properties),
            trust_level=handle.trust_level or existing.trust_level,
        )
        return self._put(handle.cm_handle, existing, row)

    def upgrade(self, cm_handle: str, module_set_tag: str) -> Failure | None:
        if fault := word_fault(module_set_tag):
            return Failure(cm_handle, INVALID_CHARACTER, f"moduleSetTag: {fault}")
        existing = self._row(cm_handle)
        if existing is None:
            return _not_found(cm_handle)
        row = msgspec.structs.replace(existing, module_set_tag=module_set_tag)
        return self._put(cm_handle, existing, row)

    def _row(self, cm_handle: str) -> HandleRow | None:
        return self._changed.get(cm_handle, self._known.get(cm_handle))

    def _put(self, cm_handle: str, before: HandleRow | None, after: HandleRow | None) -> Failure | None:
        if before == after:
            return None
        if self._protected and before is not None and before.followed:
            return Failure(cm_handle, UNKNOWN_ERROR, _FOLLOWED)
        key = after.alternate_key if after else None
        if key and self._holders.get(key, cm_handle) != cm_handle:
            taken = f"{_EXISTS}: the alternate id is that of {self._holders[key]}"
            return Failure(cm_handle, ALREADY_EXISTS, taken)
        if before is not None and before.alternate_key:
            self._holders.pop(before.alternate_key, None)
        if key:
            self._holders[key] = cm_handle
        self._changed[cm_handle] = after
        return None


def _present(given: Properties | None) -> dict[str, str]:
    """The properties that are not null."""
    given = given or {}
    if None not in given.values():
        return given  # type: ignore[return-value]
    return {name: value for name, value in given.items() if value is not None}


def _merged(existing: Mapping[str, str], given: Properties | None) -> dict[str, str]:
    """``existing`` with the properties in ``given``; those that are null or :data:`REMOVED` are removed."""
    merged = dict(existing)
    for name, value in (given or {}).items():
        if value is None or value == REMOVED:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def _not_found(cm_handle: str) -> Failure:
    if fault := id_fault(cm_handle):
        return Failure(cm_handle, INVALID_CHARACTER, fault)
    return Failure(cm_handle, NOT_FOUND, _NOT_FOUND)
