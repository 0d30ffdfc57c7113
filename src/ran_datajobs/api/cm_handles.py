# SPDX-License-Identifier: Apache-2.0
"""Routes that list CM handles page by page, show the network as a tree, and name owners of managed objects.

They show public data only. FDNs are accepted in every spelling (:mod:`ran_datajobs.nrm.fdn`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated, Final
from uuid import UUID

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import QueryParameter
from msgspec import Struct

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import Api, Caller
from ran_datajobs.api.inventory import check_private
from ran_datajobs.api.jobs import Limit, not_a_cursor
from ran_datajobs.api.openapi import documented
from ran_datajobs.errors import InvalidFdn, InvalidRequest
from ran_datajobs.http.json_body import shortened
from ran_datajobs.inventory.addresses import AddressRefused, normal_form
from ran_datajobs.model import JobType
from ran_datajobs.nrm import fdn
from ran_datajobs.results.job_view import WireStatus
from ran_datajobs.store import searches
from ran_datajobs.store.searches import CmHandleItem, Neighbour

MAX_OPEN_JOBS: Final = 100
"""Maximum number of open jobs that an owner is shown with."""

NO_PLUGIN: Final = "none"
"""In place of an address: handles that have no plugin."""

Cursor = Annotated[
    str | None, QueryParameter(name="cursor", max_length=2700, description="`next` of the page before.")
]


class CmHandlePage(Struct, frozen=True):
    """CM handles by id; ``next`` is the cursor of the next page."""

    items: list[CmHandleItem]
    next: str | None


class OpenJobOfOwner(Struct, frozen=True, rename="camel"):
    """An open data job that has an open sub-job for the owner's data producer."""

    job_id: UUID
    name: str | None
    type: JobType
    status: WireStatus


class CmHandleOwner(Struct, frozen=True, rename="camel"):
    """The owner of a managed object. ``open_jobs``: the newest 100 of the ``open_job_count`` open jobs that
    the caller may see and that have an open sub-job for its data producer."""

    cm_handle: str
    alternate_id: str
    data_producer_id: str
    read_plugin: str
    write_plugin: str
    open_jobs: list[OpenJobOfOwner]
    open_job_count: int


class ChildItem(Struct, frozen=True, rename="camel"):
    """A managed object directly below another one. ``cm_handle``: the handle with this alternate id, if there
    is one. ``handles``: the number of handles at this object and below it."""

    fdn: str
    rdn: str
    cm_handle: str | None
    handles: int


class ChildPage(Struct, frozen=True):
    """Managed objects directly below another one; ``next`` is the cursor of the next page."""

    items: list[ChildItem]
    next: str | None


@get(paths.CM_HANDLES, responses=documented())
async def list_cm_handles(
    api: Api,
    caller: Caller,
    below: Annotated[
        str | None,
        QueryParameter(
            name="alternateIdPrefix", description="Only the handle with this FDN, and handles below it."
        ),
    ] = None,
    producer: Annotated[str | None, QueryParameter(name="dataProducerId", description="Only these.")] = None,
    plugin: Annotated[
        str | None,
        QueryParameter(
            description="Only handles that the DMI plugin of this address reads or writes; `none`: only "
            "those without a plugin."
        ),
    ] = None,
    tag: Annotated[str | None, QueryParameter(name="moduleSetTag", description="Only these.")] = None,
    search: Annotated[
        str | None,
        QueryParameter(
            description="Only handles whose alternate id or id contains this text.",
            min_length=1,
            max_length=255,
        ),
    ] = None,
    ids: Annotated[list[str] | None, QueryParameter(name="cmHandle", description="Only these.")] = None,
    private: Annotated[
        bool,
        QueryParameter(name="privateProperties", description="Private properties too; for `admin` alone."),
    ] = False,
    limit: Limit = paths.DEFAULT_LIMIT,
    after: Cursor = None,
) -> CmHandlePage:
    """CM handles by id."""
    check_private(caller, private)
    for each in ids or ():
        _storable("cmHandle", each)
    texts = [
        _storable(name, text)
        for name, text in (("dataProducerId", producer), ("moduleSetTag", tag), ("search", search))
    ]
    key = None if below is None else _key("alternateIdPrefix", below)
    address = None if plugin is None else _address(plugin)
    behind = _place(after)
    async with api.database.connection() as connection:
        found = await searches.handles(
            connection,
            below=key,
            producer=texts[0],
            plugin=address,
            tag=texts[1],
            part=texts[2],
            after=behind,
            limit=limit + 1,
            private=private,
            ids=ids,
        )
    page = found[:limit]
    return CmHandlePage(page, _cursor(page[-1].cm_handle) if len(found) > limit else None)


@get(paths.CM_HANDLE_OWNER, responses=documented(404))
async def get_owner(
    api: Api,
    caller: Caller,
    name: Annotated[str, QueryParameter(name="fdn", description="The FDN of any managed object.")],
) -> CmHandleOwner:
    """The CM handle that owns a managed object, and the open jobs of its data producer."""
    key = _key("fdn", name)
    async with api.database.connection() as connection:
        found = await searches.owner(connection, list(fdn.ancestors(key)))
        if found is None:
            raise NotFoundException(without_owner(key, await searches.neighbours(connection, key)))
        jobs, count = await searches.open_jobs(connection, found, caller.sees, MAX_OPEN_JOBS)
    open_jobs = [OpenJobOfOwner(job.job_id, job.name, job.type, api.view.status(job.status)) for job in jobs]
    return CmHandleOwner(
        found.cm_handle,
        found.alternate_id,
        found.data_producer_id,
        found.read_plugin,
        found.write_plugin,
        open_jobs,
        count,
    )


@get(paths.CM_HANDLE_CHILDREN, responses=documented())
async def list_children(
    api: Api,
    name: Annotated[
        str, QueryParameter(name="fdn", description="The FDN of a managed object; without one: the roots.")
    ] = "",
    limit: Limit = paths.DEFAULT_LIMIT,
    after: Cursor = None,
) -> ChildPage:
    """Managed objects directly below another one that are or contain alternate ids of CM handles."""
    key = _key("fdn", name) if name else ""
    first = _place(after)
    if after is not None and first is not None and key and not f"{key}/" <= first < f"{key}0":
        raise not_a_cursor(after)
    async with api.database.connection() as connection:
        found, more = await searches.children(connection, key, first, limit)
    parent = f"/{key}" if key else ""
    items = [ChildItem(f"{parent}/{each.rdn}", each.rdn, each.cm_handle, each.handles) for each in found]
    return ChildPage(items, _cursor(found[-1].next) if more else None)


def without_owner(key: str, near: Sequence[Neighbour]) -> str:
    """Why no handle owns the object of ``key``, with the nearest of the handles ``near`` it."""
    shown = shortened(f"/{key}")
    if not near:
        return f"no CM handle owns {shown}: none has an alternate id"
    rdns = key.split("/")

    def common(handle: Neighbour) -> int:
        """The number of leading RDNs that both have."""
        theirs = handle.alternate_key.split("/")
        pairs = enumerate(zip(rdns, theirs, strict=False))
        return next((place for place, (mine, other) in pairs if mine != other), min(len(rdns), len(theirs)))

    def alike(handle: Neighbour) -> int:
        """The number of leading characters that both have."""
        pairs = zip(key, handle.alternate_key, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    nearest = max(near, key=lambda each: (common(each), alike(each)))
    same = common(nearest)
    handle = f"the nearest CM handle is {nearest.cm_handle} ({shortened(nearest.alternate_id)})"
    if same == len(rdns):
        return f"no CM handle owns {shown}: {handle}, which is below it"
    theirs = nearest.alternate_key.split("/")[same]
    mine = rdns[same]
    why = f"its RDN {same + 1} is {shortened(theirs)}, not {shortened(mine)}"
    if mine.lower() == theirs.lower():
        why += ": case matters"
    return f"no CM handle owns {shown}: {handle}, and {why}"


def _key(parameter: str, name: str) -> str:
    try:
        return fdn.key(name)
    except InvalidFdn as error:
        raise InvalidRequest.at(parameter, f"must be an FDN: {error}") from error


def _address(plugin: str) -> str:
    if plugin == NO_PLUGIN:
        return ""
    try:
        return normal_form(plugin.strip())
    except AddressRefused as refusal:
        raise InvalidRequest.at("plugin", str(refusal)) from refusal


def _storable(parameter: str, text: str | None) -> str | None:
    if text is not None and "\0" in text:
        raise InvalidRequest.at(parameter, "has the character U+0000, which no handle has")
    return text


def _cursor(place: str) -> str:
    """The cursor for the position behind a text: opaque to clients, it grants no access."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _place(cursor: str | None) -> str | None:
    """The text in a cursor, ``None`` for no cursor. Raises InvalidRequest."""
    if cursor is None:
        return None
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise not_a_cursor(cursor) from None
    if not place or "\0" in place:
        raise not_a_cursor(cursor)
    return place
