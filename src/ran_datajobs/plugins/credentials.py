# SPDX-License-Identifier: Apache-2.0
"""Credentials of DMI plugins, from a file that an operator writes.

::

    {"http://dmi.example.org:8080": {"username": "cpsuser", "password": "…"},
     "https://gateway.example.org/dmi/north": {"token": "…"}}

An entry is for all plugins below its address: those with the same scheme, host and port, whose path begins
with the whole segments of its path. Of several entries the longest path counts. A user name and a password
are sent as Basic (RFC 7617), a token as Bearer (RFC 6750).
"""

from __future__ import annotations

import base64
import codecs
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
from msgspec import Meta, Raw, Struct

from ran_datajobs.errors import UsageError
from ran_datajobs.telemetry import Logger

SETTING: Final = "DATAJOBS_DMI_CREDENTIALS_FILE"

LOOK_EVERY: Final = 1.0
"""Minimum interval in seconds between two checks whether the file has changed."""

MAX_FILE: Final = 1024 * 1024
"""Maximum size of the file in bytes."""

_PORTS: Final = {"http": 80, "https": 443}
_USER: Final = re.compile(r"[^:\x00-\x1f\x7f]+")
_PASSWORD: Final = re.compile(r"[^\x00-\x1f\x7f]+")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")

_Word = Annotated[str, Meta(min_length=1, max_length=16_384)]


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    username: _Word | None = None
    password: _Word | None = None
    token: _Word | None = None

    def __repr__(self) -> str:
        """Without the secrets."""
        return "_Entry()"


class Authorization(Struct, frozen=True):
    """The ``Authorization`` header for a plugin. ``secrets``: texts that may be in no answer or log."""

    header: str
    secrets: tuple[str, ...]

    def __repr__(self) -> str:
        """Without the secrets."""
        return "Authorization()"


class _Address(Struct, frozen=True):
    """Scheme, host and port, and the segments of the path."""

    origin: tuple[str, str, int]
    path: tuple[str, ...]

    def covers(self, other: _Address) -> bool:
        return self.origin == other.origin and other.path[: len(self.path)] == self.path


_entries: Final = msgspec.json.Decoder(dict[str, Raw])
_entry: Final = msgspec.json.Decoder(_Entry)


class Credentials:
    """The entries of a file, which is read again when it has changed. Without a file there are none.

    Raises UsageError when the file cannot be used. When it is changed and cannot be used then, this is logged
    once, and the entries that were read before count.
    """

    def __init__(self, file: Path | None, log: Logger | None = None) -> None:
        self._file = file
        self._log = log
        self._version: tuple[int, ...] | None = None
        self._looked_at = time.monotonic()
        self._entries: Mapping[_Address, Authorization] = {}
        self._found: dict[str, Authorization | None] = {}  # by address of a plugin
        if file is not None:
            self._version = _version_of(file)
            self._entries = read_credentials(file)

    def of(self, url: str) -> Authorization | None:
        """What is sent to the plugin at ``url``, its base address."""
        self._read_changes()
        if not self._entries:
            return None
        if url not in self._found:
            self._found[url] = self._longest(url)
        return self._found[url]

    def headers(self, url: str) -> dict[str, str]:
        """The ``Authorization`` header for the plugin at ``url``, if there is one."""
        found = self.of(url)
        return {} if found is None else {"Authorization": found.header}

    def advice(self, url: str) -> str:
        """What to do about a plugin that refuses calls without permission (401, 403)."""
        if self.of(url) is None:
            return f"it wants credentials, and {SETTING} has none for its address"
        return f"it does not accept the credentials that {SETTING} has for its address"

    def _longest(self, url: str) -> Authorization | None:
        try:
            plugin = _address(url)
        except ValueError:
            return None
        covering = [each for each in self._entries if each.covers(plugin)]
        return self._entries[max(covering, key=lambda each: len(each.path))] if covering else None

    def _read_changes(self) -> None:
        now = time.monotonic()
        if self._file is None or now < self._looked_at + LOOK_EVERY:
            return
        self._looked_at = now
        version = _version_of(self._file)
        if version == self._version:
            return
        self._version = version
        try:
            self._entries = read_credentials(self._file)
        except UsageError as error:
            if self._log is not None:
                self._log.error("credentials.unusable", file=str(self._file), cause=str(error))
            return
        self._found.clear()
        if self._log is not None:
            self._log.info("credentials.read", file=str(self._file), addresses=len(self._entries))


def read_credentials(file: Path) -> dict[_Address, Authorization]:
    """Read the entries of a file. Raises UsageError, whose text contains no secret."""
    try:
        if (size := file.stat().st_size) > MAX_FILE:
            raise UsageError(f"{SETTING}: {file} has {size} bytes, at most {MAX_FILE} are read")
        text = file.read_bytes().removeprefix(codecs.BOM_UTF8)
        entries = _entries.decode(text)
    except OSError as error:
        raise UsageError(f"{SETTING}: {file} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        wanted = '{"http://host:port": {"username": "…", "password": "…"}} or {"…": {"token": "…"}}'
        raise UsageError(f"{SETTING}: {file} is not JSON of the form {wanted}") from None
    found: dict[_Address, Authorization] = {}
    for place, (url, entry) in enumerate(entries.items(), start=1):
        try:
            address = _address(url)
        except ValueError as error:  # the text may contain a password: it is not quoted
            raise UsageError(f"{SETTING}: {file}: the address of entry {place} {error}") from None
        if address in found:
            raise UsageError(f"{SETTING}: {file}: two entries are for the address {url}")
        found[address] = _authorization(file, url, entry)
    return found


def _authorization(file: Path, url: str, entry: Raw) -> Authorization:
    wanted = f"{SETTING}: {file}: the entry of {url} must have"
    try:
        read = _entry.decode(entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UsageError(f"{wanted} the texts username and password, or token, and nothing else") from None
    match read:
        case _Entry(username=None, password=None, token=str(token)):
            if not _TOKEN.fullmatch(token):
                raise UsageError(f"{wanted} a token of letters, digits and - . _ ~ + /")
            return Authorization(f"Bearer {token}", (token,))
        case _Entry(username=str(user), password=str(password), token=None):
            if not _USER.fullmatch(user) or not _PASSWORD.fullmatch(password):
                raise UsageError(f"{wanted} no ':' in its username and no control characters")
            encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
            return Authorization(f"Basic {encoded}", (encoded, password))
        case _:
            raise UsageError(f"{wanted} either username and password, or token")


def _address(url: str) -> _Address:
    """Raises ValueError; the text says what is wrong without quoting ``url``."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme not in _PORTS or not host or not url.isascii():
        raise ValueError("is not written http://host:port or https://host:port")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError("has a user, a query or a fragment")
    return _Address((parts.scheme, host, port or _PORTS[parts.scheme]), _segments(parts))


def _segments(parts: SplitResult) -> tuple[str, ...]:
    decoded = unquote(parts.path).replace("\\", "/").split("/")
    if any(segment in {".", ".."} for segment in decoded):
        raise ValueError("has '.' or '..' in its path")
    path = parts.path.rstrip("/")
    return tuple(path.split("/")[1:]) if path else ()


def _version_of(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
