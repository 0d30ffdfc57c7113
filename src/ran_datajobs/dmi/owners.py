# SPDX-License-Identifier: Apache-2.0
"""Which data producer owns a managed object: a ProvMnS request names the object alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from ran_datajobs.nrm import fdn
from ran_datajobs.plugins.client import Answered, PeerHttp
from ran_datajobs.plugins.wire import DISTINGUISHED_NAME, INVENTORY, JSON, path_of

ANSWER_WITHIN: Final = 5.0
"""Timeout in seconds of NCMP's look-up of an owner, and between the bytes of its answer."""


class Unavailable(Struct, frozen=True):
    """The owner could not be asked for; ``cause`` says why."""

    cause: str


class Owners(Protocol):
    """Port to the data producers of managed objects."""

    async def data_producer_of(self, key: str) -> str | Unavailable | None:
        """Id of the data producer that owns an object; None if nobody does."""
        ...


class _CmHandle(Struct, frozen=True, rename="camel"):
    data_producer_identifier: str = ""


_handle: Final = msgspec.json.Decoder(_CmHandle)


class NcmpOwners:
    """The owners in the inventory of NCMP at ``address``. ``token``: a bearer token, if one is required."""

    def __init__(self, address: str, http: PeerHttp, token: str | None = None) -> None:
        self._address = address.rstrip("/")
        self._http = http
        self._headers = {"Accept": JSON} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def data_producer_of(self, key: str) -> str | Unavailable | None:
        """See :class:`Owners`. Each call asks NCMP once; NCMP has this look-up from 3.7.8 on."""
        url = self._address + path_of(INVENTORY, {DISTINGUISHED_NAME: f"/{key}"})
        match await self._http.exchange("GET", url, headers=self._headers, patience=ANSWER_WITHIN):
            case Answered(200, body) if body is not None:
                try:
                    return _handle.decode(body).data_producer_identifier or None
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    return Unavailable(f"{self._address} does not answer with a CM handle")
            case Answered(404):
                return None
            case Answered(status):
                return Unavailable(f"{self._address} answers {status} for the owner of an object")
            case failed:
                return Unavailable(f"{self._address} cannot be asked for the owner: {failed.cause}")


class ElementOwners:
    """The owners in a table of data producers and the keys of their ManagedElements."""

    def __init__(self, data_producers: Mapping[str, Iterable[str]]) -> None:
        self._owners = {key: name for name, keys in data_producers.items() for key in keys}

    async def data_producer_of(self, key: str) -> str | Unavailable | None:
        """See :class:`Owners`."""
        return next((self._owners[each] for each in fdn.ancestors(key) if each in self._owners), None)
