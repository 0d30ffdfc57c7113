# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens, which identify callers. The file holds digests only; a token is shown once, on creation.

A plain SHA-256 is enough because a token is 256 random bits and cannot be guessed.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ran_datajobs.errors import InvalidRequest, UsageError
from ran_datajobs.http.json_body import decoded, json_text
from ran_datajobs.inventory.addresses import AddressRefused, normal_form

_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_PREFIX: Final = "rdj_"
_MAX_TOKEN: Final = 200


class Role(enum.StrEnum):
    """What a client may do."""

    READ = "read"  # read its own jobs
    SUBMIT = "submit"  # also submit, cancel, retry, redeliver
    PLUGIN = "plugin"  # push status and publish results, for its own DMI plugin
    ADMIN = "admin"  # everything, including the inventory and the jobs of all clients


class Client(Struct, frozen=True, rename={"name": "client", "dmi_url": "dmiUrl"}, omit_defaults=True):
    """A caller. ``dmi_url``: the plugin of a caller with the role ``plugin``. ``authorization``: the header
    of its request, if the policy executor is asked with it; it is neither stored nor shown."""

    name: str
    role: Role
    dmi_url: str | None = None
    authorization: str | None = None

    def __repr__(self) -> str:
        """Without the header."""
        return f"Client({self.name!r}, {self.role.value!r})"

    @property
    def sees(self) -> str | None:
        """The client whose jobs it sees: itself, or (``None``) all clients."""
        return None if self.role is Role.ADMIN else self.name


LOCAL: Final = Client("local", Role.ADMIN)
"""The caller when the service listens on a loopback address without tokens."""


class Token(Client, frozen=True, kw_only=True):
    """A token of a client. ``sha256``: its digest."""

    sha256: str


class _File(Struct, frozen=True):
    tokens: tuple[Token, ...] = ()


def add(path: Path, client: str, role: Role, dmi_url: str | None = None) -> str:
    """Add a token for ``client`` and return it. It cannot be read again.

    ``dmi_url`` is stored in the inventory's normal form. Durable on return; the file is replaced atomically
    and has mode 0600. Raises UsageError.
    """
    if not _CLIENT.fullmatch(client):
        raise UsageError(
            f"{client!r} is not a client name, which is 1 to 100 letters, digits, dots, hyphens, '_' and '@'"
        )
    if (role is Role.PLUGIN) != (dmi_url is not None):
        raise UsageError("the role 'plugin', and no other, needs the address of its DMI plugin (--dmi URL)")
    try:
        url = None if dmi_url is None else normal_form(dmi_url.strip())
    except AddressRefused as refusal:
        raise UsageError(f"--dmi: {refusal}") from refusal
    token = _PREFIX + secrets.token_urlsafe(32)
    with _exclusive(path):
        _write(path, (*listing(path), Token(client, role, url, sha256=_digest(token))))
    return token


def revoke(path: Path, client: str) -> int:
    """Remove every token of ``client`` and return their number. Raises UsageError."""
    with _exclusive(path):
        tokens = listing(path)
        kept = tuple(token for token in tokens if token.name != client)
        if len(kept) != len(tokens):
            _write(path, kept)
    return len(tokens) - len(kept)


def client_of(path: Path, token: str) -> Client | None:
    """The client that holds ``token`` of the file; ``None`` if none does, or if the file cannot be read."""
    try:
        found = path.stat()
        tokens = _by_digest(path, found.st_mtime_ns, found.st_ino, found.st_size)
    except (OSError, UsageError):
        return None
    return tokens.get(_digest(token)) if len(token) <= _MAX_TOKEN else None


@lru_cache(maxsize=1)
def _by_digest(path: Path, *_version: int) -> dict[str, Token]:
    """The tokens of the file, which is read again when it has changed."""
    return {each.sha256: each for each in listing(path)}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


_decoder: Final = msgspec.json.Decoder(_File)


def listing(path: Path) -> tuple[Token, ...]:
    """The tokens of the file in the order they were added. Raises UsageError."""
    try:
        return decoded(json_text(path.read_bytes()), _decoder).tokens
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UsageError(f"the tokens file {path} cannot be read: {error.strerror}") from error
    except InvalidRequest as error:
        fault = f"{path} is not a tokens file, as `datajobs token add` makes one: {error}"
        raise UsageError(fault) from error


def _write(path: Path, tokens: tuple[Token, ...]) -> None:
    """Replace the file. The caller is the only writer."""
    text = msgspec.json.format(msgspec.json.encode(_File(tokens)), indent=2) + b"\n"
    written = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Admit one writer at a time, also across processes, so that no concurrent addition is lost."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(lock):
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise UsageError(f"the tokens file {path} cannot be written: {error.strerror}") from error
