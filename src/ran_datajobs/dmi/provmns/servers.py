# SPDX-License-Identifier: Apache-2.0
"""ProvMnS servers of the data producers of one plugin, configured by a file.

::

    {"*":     {"address": "http://ems.example/{dataProducerId}/ProvMnS/v1"},
     "ems-7": {"address": "https://10.0.0.7/ProvMnS/v1", "names": "openapi", "scope": "json",
               "aliases": {"attributes": {"NRCellDU": {"nRPCI": "nRPCIValue"}}}}}

``*`` is the entry of every data producer that is not named.
"""

from __future__ import annotations

import codecs
import enum
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
from msgspec import Meta, Raw, Struct, field

from ran_datajobs.dmi.provmns.documents import Span
from ran_datajobs.dmi.provmns.element import Http, ProvMnsElement, ProvMnsServer
from ran_datajobs.dmi.provmns.names import Aliases, openapi_aliases
from ran_datajobs.dmi.provmns.read import ScopeSpelling
from ran_datajobs.errors import UsageError
from ran_datajobs.http.json_body import fault_of, pointer_step
from ran_datajobs.nrm.model import Model, load

DATA_PRODUCER: Final = "{dataProducerId}"
"""Placeholder in an address for the id of the data producer."""

EVERY: Final = "*"

MAX_FILE: Final = 16 * 1024 * 1024
"""Maximum size of the file in bytes."""


class Names(enum.StrEnum):
    """Spelling of classes and attributes at a server."""

    STAGE_2 = "stage2"  # NRCellDU, nRPCI
    OPENAPI = "openapi"  # NrCellDu, nrPci: the OpenAPI of TS 28.541 up to 19.1


class AliasTable(Struct, frozen=True, forbid_unknown_fields=True):
    """A server's names by stage-2 name: of classes, and per stage-2 class of attributes."""

    classes: dict[str, str] = {}
    attributes: dict[str, dict[str, str]] = {}


class ServerEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One server. ``aliases`` override ``names``; the other fields are as in ProvMnsServer."""

    address: Annotated[str, Meta(pattern="^https?://", max_length=2_048)]
    names: Names = Names.STAGE_2
    aliases: AliasTable = field(default_factory=AliasTable)
    scope: ScopeSpelling = ScopeSpelling.EXPLODED
    document: Annotated[int, Meta(ge=1, le=10_000)] = 200
    span: Span = Span.ELEMENT
    concurrency: Annotated[int, Meta(ge=1, le=1_000)] = 8
    patience: Annotated[float, Meta(ge=0, le=600)] = 20.0
    actions: bool = False
    selectors: bool = False


_entries: Final = msgspec.json.Decoder(dict[str, Raw])
_entry: Final = msgspec.json.Decoder(ServerEntry)


def read_servers(file: Path) -> dict[str, ServerEntry]:
    """Read the entries of a file, by data producer id. Raises UsageError that describes the fault."""
    try:
        if (size := file.stat().st_size) > MAX_FILE:
            raise UsageError(f"{file} has {size} bytes, at most {MAX_FILE} are read")
        text = file.read_bytes().removeprefix(codecs.BOM_UTF8)
        return {name: _read_entry(file, name, entry) for name, entry in _entries.decode(text).items()}
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise UsageError(f"{file}: {': '.join(fault_of(error, text, _entries))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{file}: {error}") from error


def _read_entry(file: Path, name: str, entry: Raw) -> ServerEntry:
    try:
        return _entry.decode(entry)
    except msgspec.ValidationError as error:
        fault = fault_of(error, bytes(entry), _entry, below=(pointer_step(name),))
        raise UsageError(f"{file}: {': '.join(fault)}") from error


class ProvMnsElements:
    """Elements of all data producers, each created at its first use; all share ``http``."""

    def __init__(self, servers: dict[str, ServerEntry], http: Http) -> None:
        self._servers = servers
        self._http = http
        self._elements: dict[str, ProvMnsElement] = {}
        self._model = load()

    def element_of(self, data_producer_id: str) -> ProvMnsElement | None:
        """The element of a data producer; None if it has no entry."""
        found = self._elements.get(data_producer_id)
        if found is None:
            entry = self._servers.get(data_producer_id) or self._servers.get(EVERY)
            if entry is None:
                return None
            found = self._elements[data_producer_id] = self._made(entry, data_producer_id)
        return found

    def _made(self, entry: ServerEntry, data_producer_id: str) -> ProvMnsElement:
        server = ProvMnsServer(
            root=entry.address.replace(DATA_PRODUCER, quote(data_producer_id, safe="")),
            document=entry.document,
            span=entry.span,
            concurrency=entry.concurrency,
            patience=entry.patience,
            actions=entry.actions,
            scope_spelling=entry.scope,
            selectors=entry.selectors,
        )
        return ProvMnsElement(server, self._http, aliases_of(entry, self._model), self._model)


def aliases_of(entry: ServerEntry, model: Model) -> Aliases:
    """Names of a server: those of its generation, overridden by its aliases."""
    own = Aliases(entry.aliases.classes, entry.aliases.attributes)
    return own if entry.names is Names.STAGE_2 else openapi_aliases(model).with_those_of(own)
