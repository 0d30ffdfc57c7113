# SPDX-License-Identifier: Apache-2.0
"""ProvMnS server (3GPP TS 28.532) of the simulated network, with routes for faults and notifications.

``{root}/ProvMnS/v1/{URI-LDN}``: the whole network without a root, one data producer's elements below
``/{dataProducerId}``. Filter and data node selector are in the grammars of this project
(:mod:`ran_datajobs.nrm.filter`, :mod:`ran_datajobs.nrm.selectors`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, assert_never

from litestar import Litestar, Request, Response, delete, get, patch, post, put
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.response import Stream
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Raw

from ran_datajobs.errors import InvalidFdn, InvalidRequest
from ran_datajobs.http.json_body import got
from ran_datajobs.http.server import serving
from ran_datajobs.model import ErrorDetail, Op
from ran_datajobs.nrm import faults, select, selectors
from ran_datajobs.nrm.patch import Patch, Rejected, read_patch
from ran_datajobs.nrm.select import Scoped, Selection
from ran_datajobs.nrm.selectors import EVERYTHING, Selectors
from ran_datajobs.nrm.tree import Attributes, Objects
from ran_datajobs.simulator import cooperative, openapi, serialise, wire
from ran_datajobs.simulator.connections import close_connection_of
from ran_datajobs.simulator.creation import NewObject, read_new_object
from ran_datajobs.simulator.elements import Done, Dropped, Elements
from ran_datajobs.simulator.faults import FaultScripts, Script, read_scripts
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.notifications import Notifications, read_consumer
from ran_datajobs.simulator.producers import ProducerView

_Request = Request[Any, Any, Any]
_Answer = Response[Any] | Stream

_PATHS: Final = [
    wire.PROVMNS,
    wire.PROVMNS + "/{ldn:path}",
    "/{data_producer:str}" + wire.PROVMNS,
    "/{data_producer:str}" + wire.PROVMNS + "/{ldn:path}",
]


class _Gone(Exception):
    """The connection was closed: no answer is possible."""


class _Refused(Exception):
    """Carries an error answer from a handler to the exception handler of the application."""

    def __init__(self, body: wire.ErrorBody) -> None:
        super().__init__(body.title)
        self.body = body


class _Part:
    """The whole network, or the part of one data producer."""

    def __init__(self, network: Objects, view: ProducerView | None) -> None:
        self.objects: Objects = view or network
        self._view = view

    def scoped(self, base: str, wanted: Selection | Selectors, by_class: bool) -> Iterator[Scoped]:
        objects: Objects = serialise.ByClass(self.objects) if by_class else self.objects
        if isinstance(wanted, Selectors):
            looked_at = selectors.scoped(objects, wanted, base)
        else:
            looked_at = select.scoped(objects, base, wanted)
        for key, level, attributes in looked_at:
            own = attributes is not None and (self._view is None or self._view.owns(key))
            yield key, level, attributes if own else None

    def foreign(self, patches: Sequence[Patch]) -> Rejected | None:
        """Refuse a document that would change objects outside the producer's elements."""
        for position, each in enumerate(patches):
            if self._view is not None and not self._view.owns(each.key):
                return Rejected(position, faults.object_not_found(each.key))
        return None


class ProvMnS:
    """A network, its elements and their fault scripts, for the routes."""

    def __init__(self, network: Network, scripts: FaultScripts | None = None) -> None:
        self.scripts = FaultScripts() if scripts is None else scripts
        self._network = network
        self.notifications = Notifications(network)
        self._elements = Elements(
            network, network.model, network.actions, self.scripts, changed=self.notifications.changed
        )
        self._whole = _Part(network, None)
        self._producers = {
            name: _Part(network, ProducerView(network, keys))
            for name, keys in network.data_producers().items()
        }

    def target(self, request: _Request) -> tuple[_Part, str]:
        """Part of the network and key that the path of a request names."""
        root, _, name = request.scope["path"].partition(wire.PROVMNS)
        producer = root.strip("/")
        part = self._producers.get(producer) if producer else self._whole
        if part is None:
            raise _Refused(wire.error_body(404, f"there is no data producer {producer[:80]!r} here"))
        try:
            return part, wire.read_key(name)
        except InvalidFdn as error:
            raise _Refused(wire.error_body(400, str(error))) from None

    # --- reads ---------------------------------------------------------------------------------------

    async def read(self, request: _Request, query: str) -> _Answer:
        """GET with scope, filter, attributes and fields, or with dataNodeSelector."""
        part, base = self.target(request)
        accept = request.headers.get("Accept", "")
        kind = wire.media_type_for(accept)
        if kind is None:
            detail = f"Accept must take {wire.HIERARCHICAL} or {wire.FLAT}; it is {got(accept)}"
            raise _Refused(wire.error_body(406, detail))
        wanted = wire.read_query(query, base)
        if isinstance(wanted, wire.BadQuery):
            bad = (wanted.parameter,) if wanted.parameter else ()
            raise _Refused(wire.error_body(400, wanted.detail, bad_query_params=bad))
        await self._before_read(request, base)
        attributes = part.objects.attributes(base) if base else None
        if base and attributes is None:
            raise _Refused(_not_found(base))
        headers: dict[str, str] = {}
        if attributes is not None and wanted == Selection():
            headers["ETag"] = tag = wire.etag(base, attributes)
            if wire.tag_matches(request.headers.get("If-None-Match", ""), tag):
                return Response(None, status_code=304, headers=headers)
        return await self._selected(part, base, wanted, kind, headers)

    async def _selected(
        self,
        part: _Part,
        base: str,
        wanted: Selection | Selectors,
        kind: str,
        headers: dict[str, str],
    ) -> _Answer:
        looked_at = part.scoped(base, wanted, by_class=kind != wire.FLAT)
        wanted = EVERYTHING if isinstance(wanted, Selectors) else wanted
        picked = cooperative.select_with_yields(looked_at, wanted)
        first = await cooperative.first_of(picked)
        if first is None:
            if wanted.pointers is None or wanted.filter is not None or not base:
                return Response(None, status_code=204)
            raise _Refused(_nothing_selected(base))
        found = chain((first,), picked)
        if kind == wire.FLAT:
            pieces = serialise.flat(None if each is None else wire.resource(*each) for each in found)
        else:
            pieces = serialise.hierarchical(found, base)
        return Stream(cooperative.yielding(pieces), media_type=kind, headers=headers)

    async def _before_read(self, request: _Request, base: str) -> None:
        match await self._elements.read(base):
            case Done():
                return
            case Rejected() as rejected:
                raise _Refused(wire.refusal(rejected.error))
            case Dropped():
                self._drop(request)
            case other:
                assert_never(other)

    # --- writes --------------------------------------------------------------------------------------

    async def write(
        self, request: _Request, part: _Part, patches: list[Patch], document: bool, condition_on: str
    ) -> None:
        """Execute all of ``patches`` or none. Raises if they are refused or the connection is dropped.

        ``condition_on``: the object whose entity tag If-Match or If-None-Match names; the condition is
        checked first, and again directly before the changes, since an element may delay them.
        """
        check = partial(self._check_condition, request, part, condition_on)
        check()
        if not patches:
            return
        match part.foreign(patches) or await self._elements.write(patches, part.objects, check):
            case Done():
                return
            case Rejected(position, error):
                raise _Refused(wire.refusal(error, position if document else None))
            case Dropped():
                self._drop(request)
            case other:
                assert_never(other)

    async def change(self, request: _Request) -> Response[Any]:
        """PATCH: one atomic document."""
        part, key = self.target(request)
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in (*wire.THREE_GPP_PATCHES, wire.JSON_PATCH, wire.MERGE_PATCH):
            offered = ", ".join((*wire.THREE_GPP_PATCHES, wire.JSON_PATCH, wire.MERGE_PATCH))
            raise _Refused(
                wire.error_body(
                    415, f"the Content-Type of a PATCH must be one of {offered}; it is {got(kind)}"
                )
            )
        read = wire.read_document(kind, await request.body(), key)
        if isinstance(read, wire.ErrorBody):
            raise _Refused(read)
        if isinstance(read, wire.BadOp):
            raise _Refused(wire.error_body(read.status, read.detail, bad_op=f"/{read.position}"))
        await self.write(request, part, read, document=kind != wire.MERGE_PATCH, condition_on=key)
        return self._written(request, part, key)

    async def put(self, request: _Request) -> Response[Any]:
        """PUT: create the object, or replace its attributes."""
        part, key = self.target(request)
        read = read_patch(Op.ADD, f"/{key}", Raw(await request.body()))
        if isinstance(read, ErrorDetail):
            raise _Refused(wire.refusal(read))
        new = part.objects.attributes(key) is None
        await self.write(request, part, [read], document=False, condition_on=key)
        if not new:
            return self._written(request, part, key)
        return self._created(request, part, key)

    async def create(self, request: _Request) -> Response[Any]:
        """POST to the parent: create an object whose id the producer assigns."""
        part, parent = self.target(request)
        new = read_new_object(await request.body(), parent, part.objects)
        if not isinstance(new, NewObject):
            raise _Refused(wire.refusal(new))
        add = Patch(Op.ADD, new.key, value=new.value)
        await self.write(request, part, [add], document=False, condition_on=parent)
        return self._created(request, part, new.key)

    async def delete(self, request: _Request) -> Response[Any]:
        """DELETE: delete an object without children."""
        part, key = self.target(request)
        if not key:
            raise _Refused(wire.error_body(409, "the NRM root cannot be deleted: name a managed object"))
        await self.write(request, part, [Patch(Op.REMOVE, key)], document=False, condition_on=key)
        return Response(None, status_code=204)

    def _check_condition(self, request: _Request, part: _Part, key: str) -> None:
        wanted, unwanted = request.headers.get("If-Match"), request.headers.get("If-None-Match")
        if wanted is None and unwanted is None:
            return
        attributes = part.objects.attributes(key)
        tag = None if attributes is None else wire.etag(key, attributes)
        if wanted is not None and not wire.tag_matches(wanted, tag):
            raise _Refused(
                wire.error_body(412, f"the entity tag is {tag or 'none'}; If-Match needs {wanted[:80]}")
            )
        if unwanted is not None and wire.tag_matches(unwanted, tag):
            raise _Refused(
                wire.error_body(
                    412, f"the entity tag is {tag}, which If-None-Match: {unwanted[:80]} excludes"
                )
            )

    def _written(self, request: _Request, part: _Part, key: str) -> Response[Any]:
        """204, or 200 with the object if the client prefers it."""
        attributes = part.objects.attributes(key) if key else None
        if attributes is None:
            return Response(None, status_code=204)
        headers = {"ETag": wire.etag(key, attributes)}
        if "return=representation" not in request.headers.get("Prefer", "").replace(" ", ""):
            return Response(None, status_code=204, headers=headers)
        return Response(wire.resource(key, attributes), media_type=wire.JSON, headers=headers)

    def _created(self, request: _Request, part: _Part, key: str) -> Response[Any]:
        attributes: Attributes = part.objects.attributes(key) or {}
        root = request.scope["path"].partition(wire.PROVMNS)[0]
        headers = {"Location": wire.location(root, key), "ETag": wire.etag(key, attributes)}
        return Response(
            wire.resource(key, attributes), status_code=201, media_type=wire.JSON, headers=headers
        )

    def _drop(self, request: _Request) -> None:
        client = request.scope.get("client")
        if client is not None:
            close_connection_of((client[0], int(client[1])))
        raise _Gone


_Served = NamedDependency[ProvMnS]


@get(_PATHS)
async def read(request: _Request, provmns: _Served) -> _Answer:
    return await provmns.read(request, request.scope["query_string"].decode("latin-1"))


@post(_PATHS)
async def create(request: _Request, provmns: _Served) -> _Answer:
    if request.headers.get("X-HTTP-Method-Override", "").upper() == "GET":
        form = (await request.body()).decode("latin-1")
        answer = await provmns.read(request, form)
        if answer.status_code is None:
            answer.status_code = 200
        return answer
    return await provmns.create(request)


@put(_PATHS)
async def replace(request: _Request, provmns: _Served) -> Response[Any]:
    return await provmns.put(request)


@patch(_PATHS)
async def change(request: _Request, provmns: _Served) -> Response[Any]:
    return await provmns.change(request)


@delete(_PATHS, status_code=200)
async def remove(request: _Request, provmns: _Served) -> Response[Any]:
    return await provmns.delete(request)


@get(wire.FAULTS)
async def loaded_faults(provmns: _Served) -> dict[str, tuple[Script, ...]]:
    return {"scripts": provmns.scripts.loaded()}


@post(wire.FAULTS, status_code=204)
async def load_faults(request: _Request, provmns: _Served) -> None:
    provmns.scripts.load(read_scripts(await request.body()))


@delete(wire.FAULTS, status_code=204)
async def clear_faults(provmns: _Served) -> None:
    provmns.scripts.clear()


@get(wire.NOTIFICATIONS)
async def asked_notifications(provmns: _Served) -> dict[str, str]:
    consumer = provmns.notifications.consumer
    return {"consumer": "" if consumer is None else consumer.consumer}


@put(wire.NOTIFICATIONS, status_code=204)
async def ask_for_notifications(request: _Request, provmns: _Served) -> None:
    provmns.notifications.ask_for(read_consumer(await request.body()))


@delete(wire.NOTIFICATIONS, status_code=204)
async def end_notifications(provmns: _Served) -> None:
    provmns.notifications.ask_for(None)


@get(wire.HEALTHZ)
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@get(wire.OPENAPI)
async def served_openapi() -> dict[str, Any]:
    return openapi.document()


def provmns_app(network: Network, scripts: FaultScripts | None = None) -> ASGIApp:
    """Create the server as an ASGI application."""
    provmns = ProvMnS(network, scripts)
    app = Litestar(
        [
            read, create, replace, change, remove,
            loaded_faults, load_faults, clear_faults,
            asked_notifications, ask_for_notifications, end_notifications, healthz, served_openapi,
        ],
        dependencies={"provmns": Provide(lambda: provmns, sync_to_thread=False)},
        exception_handlers={Exception: _answer_of},
        request_max_body_size=wire.MAX_BODY,
        openapi_config=None,
        logging_config=None,
    )  # fmt: skip

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        # A %2F within an id is not a separator: the undecoded path is routed.
        if "raw_path" in scope:
            scope["path"] = scope["raw_path"].decode("latin-1")
        await app(scope, receive, send)

    return routed


async def serve(host: str, port: int, network: Network, ready: Callable[[str], None]) -> None:
    """Serve ``network`` until cancelled; calls ``ready`` once with the address, when it accepts requests.

    Raises UsageError when the port is in use.
    """
    async with serving(provmns_app(network), host, port) as address:
        ready(address)
        await asyncio.get_running_loop().create_future()


def _answer_of(_: _Request, error: Exception) -> Response[Any]:
    match error:
        case _Refused():
            body = error.body
        case _Gone():
            body = wire.error_body(503, "the connection was closed")
        case InvalidRequest():
            body = wire.error_body(400, error.detail)
        case HTTPException():
            body = wire.error_body(error.status_code, error.detail)
        case _:
            raise error
    return Response(body, status_code=int(body.status), media_type=wire.JSON)


def _not_found(key: str) -> wire.ErrorBody:
    return wire.error_body(404, f"/{key} does not exist", reason="TARGET_DATA_NODE_NOT_FOUND")


def _nothing_selected(base: str) -> wire.ErrorBody:
    return wire.error_body(
        404, f"no object at or below /{base} has the attributes", bad_query_params=("attributes", "fields")
    )
