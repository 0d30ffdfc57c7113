# SPDX-License-Identifier: Apache-2.0
"""Module sets: the YANG modules of a module set tag, by which operations on its CM handles are validated."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Response, delete, get, put
from litestar.exceptions import HTTPException, NotFoundException
from litestar.params import FromPath
from msgspec import Meta, Struct

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import AnyRequest, Api
from ran_datajobs.api.inventory import reference_of
from ran_datajobs.api.openapi import documented, success, with_body
from ran_datajobs.api.problems import Conflict
from ran_datajobs.errors import InvalidRequest
from ran_datajobs.http.json_body import got, shortened
from ran_datajobs.inventory.module_reader import MAX_ZIP
from ran_datajobs.inventory.registration import word_fault
from ran_datajobs.nrm import module_set
from ran_datajobs.store import module_sets
from ran_datajobs.store.modules import Module

ZIP: Final = "application/zip"
_ZIP_TYPES: Final = frozenset({ZIP, "application/x-zip-compressed"})

_Zip = Annotated[str, Meta(description="A zip of .yang files.", extra_json_schema={"format": "binary"})]


class ModuleSet(Struct, frozen=True, rename="camel"):
    """The modules of a tag, and the classes of managed objects that they describe."""

    module_set_tag: str
    modules: list[Module]
    classes: list[str]


@put(
    paths.MODULE_SET,
    responses=documented(408, 409, 413, 415, 429, ncmp=True)
    | {200: success(ModuleSet, "Replaced."), 201: success(ModuleSet, "Created.")},
    operation_class=with_body(_Zip, ZIP),
)
async def put_module_set(tag: FromPath[str], request: AnyRequest, api: Api) -> Response[ModuleSet]:
    """Give a module set tag the YANG modules in a zip. They must be complete: all that they import."""
    tag = _tag_of(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _ZIP_TYPES:
        given = got(kind) if kind else "missing"
        raise HTTPException(status_code=415, detail=f"Content-Type must be {ZIP}; it is {given}")
    async with api.bodies.received(request, limit=MAX_ZIP) as body:
        stored = await api.module_reader.read(body)
    is_new = await module_sets.put(api.database, tag, stored)
    if is_new is None:
        raise Conflict(
            f"there are {module_sets.MOST_MODELS} other module sets, or {module_sets.MOST_TAGS} other tags: "
            "delete one first"
        )
    return Response(_shown(tag, stored), status_code=201 if is_new else 200)


@get(paths.MODULE_SET, responses=documented(404, ncmp=True))
async def get_module_set(tag: FromPath[str], request: AnyRequest, api: Api) -> ModuleSet:
    """The YANG modules that a module set tag was given, and their classes."""
    tag = _tag_of(request)
    stored = await module_sets.model_of(api.database, tag)
    if stored is None:
        raise _not_found(tag)
    return _shown(tag, stored)


@delete(paths.MODULE_SET, status_code=204, responses=documented(404, ncmp=True))
async def delete_module_set(tag: FromPath[str], request: AnyRequest, api: Api) -> None:
    """Remove the YANG modules of a module set tag: its handles have the model of this service again."""
    tag = _tag_of(request)
    if not await module_sets.remove(api.database, tag):
        raise _not_found(tag)


def _tag_of(request: AnyRequest) -> str:
    tag = reference_of(request)
    if fault := word_fault(tag):
        raise InvalidRequest.at("tag", fault)
    return tag


def _not_found(tag: str) -> NotFoundException:
    return NotFoundException(f"no modules were put for the module set tag {shortened(tag)!r}")


def _shown(tag: str, stored: bytes) -> ModuleSet:
    modules, classes = module_set.names(stored)
    return ModuleSet(tag, [Module(*each) for each in modules], classes)
