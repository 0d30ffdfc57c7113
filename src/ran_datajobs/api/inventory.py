# SPDX-License-Identifier: Apache-2.0
"""Searches and look-ups of CM handles with ONAP's paths and answers.

Northbound (``/ncmp``), for rApps: public data. Southbound (``/ncmpInventory``), for DMI plugins and the
administrators of the inventory: a caller with the role ``plugin`` finds the handles of its own plugin only,
and private properties are for ``admin`` alone. Source: OpenAPI of ONAP CPS-NCMP (``openapi.yml``,
``openapi-inventory.yml``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Final, TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes

from litestar import Response, get, post
from litestar.exceptions import PermissionDeniedException
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream
from msgspec import Struct

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import AnyRequest, Api, ApiDependencies, Caller, begun
from ran_datajobs.api.openapi import documented, success, with_body
from ran_datajobs.api.problems import NcmpRefusal
from ran_datajobs.api.tokens import Client, Role
from ran_datajobs.errors import InvalidFdn, StoreUnavailable
from ran_datajobs.http.json_body import shortened
from ran_datajobs.inventory import searches
from ran_datajobs.inventory.searches import Found, SearchBody
from ran_datajobs.nrm import fdn
from ran_datajobs.store import searches as store
from ran_datajobs.store.modules import Module
from ran_datajobs.store.searches import Search, Shows

READER_WITHIN: Final = 15.0
"""Seconds after which the search ends for a client that takes nothing: less than the store waits."""

_Item = TypeVar("_Item")

_OutputAlternateId: TypeAlias = Annotated[
    bool,
    QueryParameter(
        name="outputAlternateId",
        description="Alternate ids in place of ids; handles without one are left out.",
    ),
]
_Ignored: TypeAlias = Annotated[
    bool | None, QueryParameter(name="outputAlternateId", description="Has no effect here.")
]
_OutputDmiProperties: TypeAlias = Annotated[
    bool,
    QueryParameter(name="outputDmiProperties", description="Private properties too; for `admin` alone."),
]


class State(Struct, frozen=True, rename="camel"):
    """The state of a handle: ``READY`` since it was registered or changed last."""

    cm_handle_state: str
    data_sync_enabled: bool
    data_sync_state: dict[str, dict[str, str]]
    last_update_time: str


class LightweightHandle(Struct, frozen=True, rename="camel", kw_only=True):
    """A handle without its public properties and its state, for the OpenAPI document.

    ``dmi_properties``: the private properties as JSON text, if asked for.
    """

    cm_handle: str
    alternate_id: str
    module_set_tag: str
    data_producer_identifier: str
    trust_level: str
    dmi_properties: str | None = None


class PublicProperties(Struct, frozen=True, rename="camel"):
    """The public properties, in a list of one object."""

    public_cm_handle_properties: list[dict[str, str]]


class HandleState(Struct, frozen=True):
    """The state of a handle."""

    state: State


class HandleDetails(Struct, frozen=True, rename="camel", kw_only=True):
    """A handle, for the OpenAPI document. ``cm_handle_properties``: the private properties, if asked for."""

    cm_handle: str
    alternate_id: str
    module_set_tag: str
    data_producer_identifier: str
    trust_level: str
    public_cm_handle_properties: list[dict[str, str]]
    state: State
    cm_handle_properties: dict[str, str] | None = None


def _search_of(body: Any, description: str) -> dict[str, Any]:
    """The documented answers of a search, of which ``body`` is the type, and the body of its requests."""
    return {
        "status_code": 200,
        "responses": documented(408, 413, 415, 429, ncmp=True) | {200: success(body, description)},
        "operation_class": with_body(SearchBody),
    }


_IDS: Final = _search_of(list[str], "Ids, or alternate ids.")
_DETAILS: Final = _search_of(list[HandleDetails], "The handles.")
_LIGHTWEIGHT: Final = _search_of(list[LightweightHandle], "The handles.")


@post(paths.ID_SEARCHES, **_IDS)
async def search_ids(request: AnyRequest, api: Api, alternate: _OutputAlternateId = False) -> Stream:
    """Ids of the CM handles that fulfil all conditions."""
    return await _found(api, _ids(alternate), await _wanted(request, api))


@post(paths.SEARCHES, **_DETAILS)
async def search_handles(request: AnyRequest, api: Api, _alternate: _Ignored = None) -> Stream:
    """CM handles that fulfil all conditions."""
    return await _found(api, Shows.DETAILS, await _wanted(request, api))


@post(paths.SEARCHES_V2, **_LIGHTWEIGHT)
async def search_lightweight(request: AnyRequest, api: Api, _alternate: _Ignored = None) -> Stream:
    """CM handles that fulfil all conditions, without their public properties and state."""
    return await _found(api, Shows.LIGHTWEIGHT, await _wanted(request, api))


@post(paths.INVENTORY_ID_SEARCHES, **_IDS)
async def search_inventory_ids(
    request: AnyRequest, api: Api, caller: Caller, alternate: _OutputAlternateId = False
) -> Stream:
    """Ids of the CM handles that fulfil all conditions, also on private data."""
    return await _found(api, _ids(alternate), await _wanted_by(caller, request, api))


@post(paths.INVENTORY_SEARCHES, **_DETAILS)
async def search_inventory(
    request: AnyRequest,
    api: Api,
    caller: Caller,
    private: _OutputDmiProperties = False,
    older_name: Annotated[
        bool,
        QueryParameter(
            name="includeAdditionalPropertiesInQuery",
            description="ONAP's older name of `outputDmiProperties`.",
        ),
    ] = False,
    _alternate: _Ignored = None,
) -> Stream:
    """CM handles that fulfil all conditions, also on private data."""
    private = private or older_name
    check_private(caller, private)
    return await _found(api, Shows.DETAILS, await _wanted_by(caller, request, api), private)


@post(paths.INVENTORY_SEARCHES_V2, **_LIGHTWEIGHT)
async def search_inventory_lightweight(
    request: AnyRequest,
    api: Api,
    caller: Caller,
    private: _OutputDmiProperties = False,
    _alternate: _Ignored = None,
) -> Stream:
    """CM handles that fulfil all conditions, also on private data, without public properties and state."""
    check_private(caller, private)
    return await _found(api, Shows.LIGHTWEIGHT, await _wanted_by(caller, request, api), private)


@get(
    paths.PLUGIN_HANDLES,
    responses=documented(ncmp=True) | {200: success(list[str], "Ids, or alternate ids.")},
)
async def list_plugin_handles(
    api: Api,
    caller: Caller,
    address: Annotated[
        str, QueryParameter(name="dmi-plugin-identifier", description="The address of a DMI plugin.")
    ],
    alternate: _OutputAlternateId = False,
) -> Stream:
    """Ids of the CM handles that a DMI plugin reads or writes."""
    return await _found(api, _ids(alternate), searches.both(searches.of_plugin(address), _own(caller)))


@get(paths.INVENTORY, responses=documented(404, ncmp=True) | {200: success(HandleDetails, "The handle.")})
async def get_handle_by_name(
    api: Api,
    caller: Caller,
    name: Annotated[
        str, QueryParameter(name="distinguishedName", description="The FDN of any managed object.")
    ],
    private: _OutputDmiProperties = False,
) -> Response[bytes]:
    """The CM handle that owns a managed object: the one with the longest matching alternate id."""
    check_private(caller, private)
    return await _shown(api, Shows.DETAILS, name, _own(caller), owner=True, private=private)


def _look_up(body: Any, *statuses: int) -> dict[str, Any]:
    return {"responses": documented(*statuses, ncmp=True) | {200: success(body, "Found.")}}


@get(paths.HANDLE, **_look_up(HandleDetails, 404))
async def get_handle(reference: FromPath[str], request: AnyRequest, api: Api) -> Response[bytes]:
    """The CM handle with an id or an alternate id, or the one that owns the managed object of an FDN."""
    return await _shown(api, Shows.DETAILS, reference_of(request), owner=True)


@get(paths.HANDLE_V2, **_look_up(LightweightHandle, 404))
async def get_handle_lightweight(reference: FromPath[str], request: AnyRequest, api: Api) -> Response[bytes]:
    """The same without public properties and state."""
    return await _shown(api, Shows.LIGHTWEIGHT, reference_of(request), owner=True)


@get(paths.HANDLE_PROPERTIES, **_look_up(PublicProperties, 404))
async def get_handle_properties(reference: FromPath[str], request: AnyRequest, api: Api) -> Response[bytes]:
    """The public properties of the CM handle with an id or an alternate id."""
    return await _shown(api, Shows.PROPERTIES, reference_of(request))


@get(paths.HANDLE_STATE, **_look_up(HandleState, 404))
async def get_handle_state(reference: FromPath[str], request: AnyRequest, api: Api) -> Response[bytes]:
    """The state of the CM handle with an id or an alternate id."""
    return await _shown(api, Shows.STATE, reference_of(request))


@get(paths.HANDLE_MODULES, **_look_up(list[Module]))
async def list_modules(reference: FromPath[str], request: AnyRequest, api: Api) -> Response[bytes]:
    """The YANG modules of the CM handle with an id or an alternate id: none while they are not known, and, as
    in ONAP, none of an unknown handle."""
    try:
        return await _shown(api, Shows.MODULES, reference_of(request))
    except NcmpRefusal:
        return Response(b"[]", media_type="application/json")


def reference_of(request: AnyRequest) -> str:
    """The id or alternate id in the path of a request: its fourth segment, in which a slash is ``%2F``."""
    segments = [each for each in request.scope["raw_path"].split(b"/") if each]
    return unquote_to_bytes(segments[3]).decode("utf-8", "replace") if len(segments) > 3 else ""


async def _wanted(request: AnyRequest, api: ApiDependencies, *, southbound: bool = False) -> Found:
    async with api.bodies.json(request, limit=searches.MAX_BODY) as body:
        return searches.read_search(body, southbound=southbound)


async def _wanted_by(caller: Client, request: AnyRequest, api: ApiDependencies) -> Found:
    """What a southbound search looks for among the handles that ``caller`` may see."""
    wanted = await _wanted(request, api, southbound=True)
    if wanted is not None and wanted.private_properties:
        check_private(caller, True)
    return searches.both(wanted, _own(caller))


def _own(caller: Client) -> Found:
    """The handles that a southbound caller may see."""
    return searches.of_plugin(caller.dmi_url or "") if caller.role is Role.PLUGIN else searches.ALL


def check_private(caller: Client, private: bool) -> None:
    """Raise PermissionDeniedException if private properties are asked for and ``caller`` may not see them."""
    if private and caller.role is not Role.ADMIN:
        raise PermissionDeniedException(f"private properties are for the role {Role.ADMIN} alone")


def _ids(alternate: bool) -> Shows:
    return Shows.ALTERNATE_ID if alternate else Shows.ID


async def _shown(
    api: ApiDependencies,
    shows: Shows,
    reference: str,
    among: Found = searches.ALL,
    *,
    owner: bool = False,
    private: bool = False,
) -> Response[bytes]:
    """The handle with an id or an alternate id; ``owner``: or the one that owns the object of this FDN.

    Raises a 404 if there is none in ``among``.
    """
    handle = None
    if "\0" not in reference:
        keys = list(fdn.ancestors(_key(reference)))
        handle = await store.owner_of(api.database, keys if owner else keys[:1]) or reference
    wanted = handle and searches.both(Search(ids=frozenset({handle})), among)
    found = await store.one(api.database, shows, wanted, private=private) if wanted else None
    if found is None:
        details = f"No cm handles found with reference {shortened(reference)}"
        raise NcmpRefusal(404, "Cm handle not found", details)
    return Response(found, media_type="application/json")


def _key(reference: str) -> str:
    """The normal form of an FDN; empty for any other text."""
    try:
        return fdn.key(reference)
    except InvalidFdn:
        return ""


async def _found(api: ApiDependencies, shows: Shows, wanted: Found, private: bool = False) -> Stream:
    """A JSON array of the handles that have what is ``wanted``, streamed. An error before its first byte is
    answered with its status; a later one ends the connection."""
    batches = _none() if wanted is None else api.searches.search(shows, wanted, private=private)
    items = await begun(read_ahead(batches, READER_WITHIN))
    return Stream(_as_array(items), media_type="application/json")


async def _none() -> AsyncGenerator[list[bytes], None]:
    yield []


async def _as_array(batches: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    start = b"["
    async for batch in batches:
        if batch:
            yield start + b",".join(batch)
            start = b","
    yield b"]" if start == b"," else b"[]"


async def read_ahead(items: AsyncGenerator[_Item, None], within: float) -> AsyncIterator[_Item]:
    """``items``, of which the next is read while one is used. They are closed when the result is closed, and
    when none is taken for ``within`` seconds, which raises StoreUnavailable at the next."""
    waiting: asyncio.Queue[_Item | Exception | None] = asyncio.Queue(1)

    async def read() -> None:
        end: Exception | None = None
        try:
            async with contextlib.aclosing(items):
                async for item in items:
                    try:
                        async with asyncio.timeout(within):
                            await waiting.put(item)
                    except TimeoutError:
                        raise StoreUnavailable(f"the client took nothing for {within:g} s") from None
        except Exception as error:
            end = error
        await waiting.put(end)

    reading = asyncio.create_task(read())
    try:
        while (item := await waiting.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
