# SPDX-License-Identifier: Apache-2.0
"""Checks which addresses may be registered as DMI plugins. Pure: no name is resolved.

An entry of the list is a host name, ``*.example.org`` for the hosts below it, an address or a network
(``10.0.0.0/8``), or an origin (``https://dmi.example.org:8443``). An entry does not restrict the path.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ran_datajobs.http.json_body import got

MAX_ADDRESS: Final = 2000
"""Maximum length of a plugin address in characters."""

_PORTS: Final = {"http": 80, "https": 443}


class AddressRefused(ValueError):
    """The address cannot be a DMI plugin; the text says why."""


def normal_form(address: str) -> str:
    """``address`` with a lower-case origin and no trailing slash, as it is stored.

    Raises AddressRefused for anything but an http or https address without user, query and fragment.
    """
    return _written(_split(address))


def checked(address: str, allowed: Iterable[str]) -> str:
    """:func:`normal_form` of an ``address`` that one of the entries in ``allowed`` (``DATAJOBS_DMI_ALLOW``)
    names. Raises AddressRefused for any other."""
    parts = _split(address)
    if not any(_allows(entry.strip().lower(), parts) for entry in allowed):
        raise AddressRefused(f"the host {parts.hostname!r} is not one that DATAJOBS_DMI_ALLOW names")
    return _written(parts)


def _allows(entry: str, parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if "://" in entry:
        return _origin(urlsplit(entry)) == _origin(parts)
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # the host or the entry is a name
        return host == entry or (entry.startswith("*.") and host.endswith(entry[1:]))


_FORM: Final = "an address is written http://host:port or https://host:port"


def _split(address: str) -> SplitResult:
    if len(address) > MAX_ADDRESS or not address.isascii() or not address.isprintable() or " " in address:
        needed = f"an address has at most {MAX_ADDRESS} printable ASCII characters, no blanks"
        raise AddressRefused(f"{needed}; this is {got(address)}")
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise AddressRefused(f"{_FORM}; this is no URL") from None
    if "@" in parts.netloc:
        raise AddressRefused("an address has no user and no password: take out what stands before the '@'")
    if parts.scheme not in _PORTS or not parts.hostname:
        raise AddressRefused(f"{_FORM}; this is {got(address)}")
    if "?" in address or "#" in address or "\\" in address:
        raise AddressRefused(f"an address has no query, no fragment and no backslash; this is {got(address)}")
    if port == 0 or parts.netloc.endswith(":"):
        raise AddressRefused(f"the port of an address is 1 to 65535; this is {got(address)}")
    if any(part in {".", ".."} for part in parts.path.split("/")):
        raise AddressRefused(f"an address has no '.' or '..' in its path; this is {got(address)}")
    return parts


def _written(parts: SplitResult) -> str:
    host = parts.hostname or ""
    shown_host = f"[{host}]" if ":" in host else host
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{shown_host}{port}{parts.path.rstrip('/')}"


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    port = parts.port or _PORTS.get(parts.scheme, 0)
    return parts.scheme, parts.hostname or "", port
