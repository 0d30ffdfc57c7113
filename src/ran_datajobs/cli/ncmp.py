# SPDX-License-Identifier: Apache-2.0
"""How the inventory of a service differs from that of the NCMP that it follows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from ran_datajobs.cli.api import Api
from ran_datajobs.cli.handles import Difference, Handle, Listing, by_id
from ran_datajobs.config import Settings
from ran_datajobs.errors import InvalidFdn, UsageError
from ran_datajobs.inventory.follow import Followed, Unreadable, followed_by, handle_in
from ran_datajobs.inventory.ncmp import Found, Ncmp, bounds
from ran_datajobs.inventory.registration import CmHandle, Failure, handle_fault
from ran_datajobs.nrm import fdn
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.credentials import Credentials

_BATCH: Final = 500


def differences_from_ncmp(settings: Settings, api: Api) -> Iterator[Difference]:
    """Yield what a comparison with NCMP would create, change, remove and refuse. Handles that are registered
    locally are left out, unless NCMP has one with the same id.

    Raises UsageError, and NcmpUnavailable and ServerUnreachable.
    """
    followed = followed_by(settings.follow_ncmp, settings.follow_plugins, None)
    if followed is None:
        raise UsageError(
            "compare with what? Name a FILE, or set DATAJOBS_FOLLOW_NCMP and DATAJOBS_FOLLOW_PLUGINS"
        )
    found, owners = asyncio.run(_read(settings, followed))
    with found:
        missing, local = set[str](), dict[str, str]()
        for handle in Listing(api):
            if handle.get("followed"):
                missing.add(handle["cmHandle"])
            elif handle.get("alternateId"):
                local[_key(handle["alternateId"])] = handle["cmHandle"]
        for items in found.batches(_BATCH):
            seen = []
            for item in items:
                try:
                    seen.append(handle_in(item))
                except Unreadable as error:
                    yield Difference("refuse", "", why=str(error))
            known = by_id(api, [each.cm_handle for each in seen], private=True)
            for each in seen:
                missing.discard(each.cm_handle)
                plugin = owners.get(each.cm_handle, "")
                yield from _difference(each, plugin, known.get(each.cm_handle), local)
    yield from (Difference("remove", cm_handle) for cm_handle in sorted(missing))


async def _read(settings: Settings, followed: Followed) -> tuple[Found, dict[str, str]]:
    async with PeerHttp(bounds(settings.dmi_connect_timeout)) as http:
        ncmp = Ncmp(http, Credentials(settings.dmi_credentials_file), followed)
        found = await ncmp.handles()
        try:
            return found, await ncmp.owners()
        except BaseException:
            found.close()
            raise


def _difference(
    seen: CmHandle | Failure, plugin: str, known: Handle | None, local: dict[str, str]
) -> Iterator[Difference]:
    if isinstance(seen, Failure):
        yield Difference("refuse", seen.cm_handle, why=seen.error_text)
    elif fault := handle_fault(seen):
        yield Difference("refuse", seen.cm_handle, why=fault)
    elif known is None or not known.get("followed"):
        holder = local.get(_key(seen.name), seen.cm_handle)
        if holder != seen.cm_handle:
            yield Difference("refuse", seen.cm_handle, why=f"the alternate id is that of {holder}")
        elif known is None:
            yield Difference("create", seen.cm_handle)
        else:
            fields = _fields(seen, plugin, known)
            yield Difference(
                "change", seen.cm_handle, fields, why="" if fields else "is registered here, too"
            )
    elif fields := _fields(seen, plugin, known):
        yield Difference("change", seen.cm_handle, fields)


def _fields(seen: CmHandle, plugin: str, known: Handle) -> dict[str, tuple[str | None, str | None]]:
    """The registered value and that of NCMP of each field and property that differs."""
    pairs = {
        "alternateId": (known.get("alternateId"), seen.name),
        "dataProducerIdentifier": (known.get("dataProducerId"), seen.data_producer_identifier),
        "moduleSetTag": (known.get("moduleSetTag"), seen.module_set_tag),
        "dmiPlugin": (known.get("dmiPlugin"), plugin),
    }
    fields = {name: (old or None, new or None) for name, (old, new) in pairs.items()}
    for prefix, ours, theirs in (
        ("public", known.get("publicProperties"), seen.public_cm_handle_properties),
        ("private", known.get("privateProperties"), seen.cm_handle_properties),
    ):
        old, new = ours or {}, {name: value for name, value in (theirs or {}).items() if value is not None}
        fields |= {
            f"{prefix}.{name}": (old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())
        }
    return {
        name: (None, None) if name.startswith("private.") else (old, new)
        for name, (old, new) in fields.items()
        if old != new
    }


def _key(name: str) -> str:
    """The normal form of an alternate id; empty if it has none."""
    try:
        return fdn.key(name) if name else ""
    except InvalidFdn:
        return ""
