# SPDX-License-Identifier: Apache-2.0
"""Reads the inventory of an NCMP through its southbound interface (``/ncmpInventory/v1``).

Source: OpenAPI of ONAP CPS-NCMP (``openapi-inventory.yml``). The look-up of a handle by its distinguished
name, which finds ids too, is in NCMP from 3.7.8 on.
"""

from __future__ import annotations

import asyncio
import mmap
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import IO, Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from ran_datajobs.errors import NcmpUnavailable
from ran_datajobs.http.json_body import elements_decoder
from ran_datajobs.inventory.follow import Followed, owners_of
from ran_datajobs.plugins.client import Answered, Exchange, HttpBounds, PeerHttp
from ran_datajobs.plugins.credentials import Credentials

ANSWER_WITHIN: Final = 60.0
"""Timeout in seconds of a list of the handles of a plugin, and of a look-up."""

SEARCH_WITHIN: Final = 600.0
"""Timeout in seconds of the search for all handles, which takes NCMP 15 s for 50,000."""

MAX_SEARCH: Final = 2 << 30
"""Maximum size in bytes of the answer to this search, which is kept in a temporary file."""

MOST_COMMAS: Final = 20_000_000
"""Maximum number of commas in it, which bounds the number of its items, and so the memory for their places. A
handle has about 25 with its properties."""

AT_ONCE: Final = 8
"""Maximum number of concurrent look-ups."""

_SEARCH: Final = "/ncmpInventory/v1/ch/searchCmHandles?outputDmiProperties=true"
_PLUGIN: Final = "/ncmpInventory/v1/ch/cmHandles?dmi-plugin-identifier="
_LOOK_UP: Final = "/ncmpInventory/v1/ch?outputDmiProperties=true&distinguishedName="
_ALL: Final = b'{"cmHandleQueryParameters":[]}'
_NOT_FOUND: Final = "404 NOT_FOUND"
_CHUNK: Final = 1 << 20

_ids: Final = msgspec.json.Decoder(list[str])


class _Error(Struct, frozen=True):
    """NCMP's error body; that of a path which it does not have is another one."""

    status: str


_error: Final = msgspec.json.Decoder(_Error)


class _Named(Struct, frozen=True, rename="camel"):
    cm_handle: str


_named: Final = msgspec.json.Decoder(_Named)


def bounds(connect: float) -> HttpBounds:
    """Bounds of the client; ``connect``: timeout in seconds of a connection."""
    return HttpBounds(
        connect=connect, total=ANSWER_WITHIN, result_total=SEARCH_WITHIN, connections=2 * AT_ONCE
    )


class Ncmp(Struct, frozen=True):
    """The client of an NCMP. Every method raises NcmpUnavailable for any other answer than NCMP's."""

    http: PeerHttp
    credentials: Credentials
    followed: Followed

    async def handles(self) -> Found:
        """All its handles, with their private properties; the caller closes the result."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - Found closes it
        try:
            answer = await self.http.download(
                "POST",
                self.followed.url + _SEARCH,
                file,
                MAX_SEARCH,
                body=_ALL,
                headers=self._headers({"Content-Type": "application/json"}),
            )
            self._check(answer, "search")
            return await asyncio.to_thread(Found, file)
        except BaseException:
            file.close()
            raise

    async def owners(self) -> dict[str, str]:
        """The plugin of each handle that one of the followed plugins has, by the handle's id."""
        plugins = self.followed.plugins.items()
        lists = [(plugin, await self._handles_of(written)) for plugin, written in plugins]
        return await asyncio.to_thread(owners_of, lists)

    async def _handles_of(self, plugin: str) -> list[str]:
        url = self.followed.url + _PLUGIN + quote(plugin, safe="")
        answer = await self.http.exchange("GET", url, headers=self._headers(), result=True)
        body = self._check(answer, "list of the handles of a plugin")
        try:
            return await asyncio.to_thread(_ids.decode, body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._unavailable("its list of the handles of a plugin is no list of texts") from None

    async def look_up(self, cm_handle: str) -> bytes | None:
        """The handle with an id, as the searches show it; None if it has none."""
        url = self.followed.url + _LOOK_UP + quote(cm_handle, safe="")
        answer = await self.http.exchange("GET", url, headers=self._headers())
        match answer:
            case Answered(404, bytes(body)) if _is_error(body):
                return None
            case Answered(200, bytes(body)):
                try:
                    if _named.decode(body).cm_handle == cm_handle:
                        return body
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    pass
                raise self._unavailable("its answer to a look-up is not the CM handle")
        self._check(answer, "look-up")
        raise AssertionError("unreachable")

    def _headers(self, more: dict[str, str] | None = None) -> dict[str, str]:
        return {
            "Accept": "application/json",
            **(more or {}),
            **self.credentials.headers(self.followed.url),
        }

    def _check(self, answer: Exchange, call: str) -> bytes:
        """The body of an answer with the status 200. Raises NcmpUnavailable for any other."""
        match answer:
            case Answered(200, bytes(body)):
                return body
            case Answered(200):
                raise self._unavailable(f"its answer to a {call} is larger than {answer.bound} bytes")
            case Answered(401 | 403 as code):
                advice = self.credentials.advice(self.followed.url)
                raise self._unavailable(f"it answers a {call} with {code}: {advice}")
            case Answered(code):
                raise self._unavailable(f"it answers a {call} with {code}")
            case _:
                raise self._unavailable(answer.cause)

    def _unavailable(self, cause: str) -> NcmpUnavailable:
        return NcmpUnavailable(f"NCMP at {self.followed.url}: {cause}")


def _is_error(body: bytes) -> bool:
    try:
        return _error.decode(body).status == _NOT_FOUND
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


class Found:
    """The items of a search, in a file that is closed at the end of a ``with`` block. Only their places are
    in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        """Raises NcmpUnavailable unless ``file`` holds a JSON list that is not too long."""
        self._file = file
        file.flush()
        file.seek(0)
        if sum(chunk.count(b",") for chunk in iter(partial(file.read, _CHUNK), b"")) > MOST_COMMAS:
            raise NcmpUnavailable(f"NCMP's answer to a search has more than {MOST_COMMAS} commas")
        try:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._items = elements_decoder.decode(self._map)
        except (ValueError, msgspec.DecodeError, RecursionError):
            raise NcmpUnavailable("NCMP's answer to a search is no list of CM handles") from None

    def __enter__(self) -> Found:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file."""
        self._items.clear()
        self._file.close()

    def __len__(self) -> int:
        return len(self._items)

    def batches(self, size: int) -> Iterator[list[Raw]]:
        """The items, ``size`` at a time."""
        for start in range(0, len(self._items), size):
            yield self._items[start : start + size]
