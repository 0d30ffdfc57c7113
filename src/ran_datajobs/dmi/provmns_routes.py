# SPDX-License-Identifier: Apache-2.0
"""ProvMnS (TS 28.532) and actions at the plugin, as ONAP's NCMP forwards them.

A request is executed at the element of the data producer that owns its object, in the lane of this data
producer: writes wait for its data jobs and for each other. It is not in the journal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, delete, get, patch, post, put
from litestar.di import NamedDependency
from msgspec import Struct

from ran_datajobs.dmi import provmns_requests as requests
from ran_datajobs.dmi.element import Element, Outcome
from ran_datajobs.dmi.jobs import Late, NoElement, PluginJobs, TooManyJobs
from ran_datajobs.dmi.outcomes import broken_element
from ran_datajobs.dmi.owners import Owners, Unavailable
from ran_datajobs.dmi.provmns_requests import BadRequest
from ran_datajobs.http.json_body import got
from ran_datajobs.http.problem import RETRY_AFTER
from ran_datajobs.model import ActivationMode, ErrorDetail, Operation, OperationState
from ran_datajobs.nrm.resources import to_hierarchical
from ran_datajobs.simulator import wire
from ran_datajobs.telemetry import Logger

ACTIONS: Final = "/prov-mns-extensions/v1alpha1/actions"
MAX_ANSWER: Final = 64 * 1024 * 1024
"""Maximum size in bytes of the objects of a read; NCMP takes no larger answer."""

_Request = Request[Any, Any, Any]
_Objects = list[dict[str, Any]]
_Result = TypeVar("_Result")
_OBJECT: Final = wire.PROVMNS + "/{ldn:path}"
_NOT_FOUND: Final = "TARGET_DATA_NODE_NOT_FOUND"


class Refused(Exception):
    """Carries an error answer to the exception handler of the application."""

    def __init__(self, body: wire.ErrorBody) -> None:
        super().__init__(body.title)
        self.body = body


class _TooMuch(Struct, frozen=True):
    """The objects exceed MAX_ANSWER."""


class ProvMnS:
    """Executes requests at the elements. ``within``: seconds until an answer, less than NCMP waits."""

    def __init__(self, jobs: PluginJobs, owners: Owners, within: float, log: Logger) -> None:
        self._jobs = jobs
        self._owners = owners
        self._within = within
        self._log = log

    async def read(self, request: _Request) -> Response[Any]:
        """GET with scope, filter, attributes and fields, or with dataNodeSelector."""
        target = _target(request.scope["path"].removeprefix(wire.PROVMNS))
        accept = request.headers.get("Accept", "")
        kind = wire.media_type_for(accept)
        if kind is None:
            detail = f"Accept must take {wire.HIERARCHICAL} or {wire.FLAT}; it is {got(accept)}"
            raise Refused(wire.error_body(406, detail))
        query = request.scope["query_string"].decode("latin-1")
        operation = _taken(requests.read_operation(query, target))
        found = await self._at_element(
            target, lambda element: self._objects(element, operation), is_read=True
        )
        objects = _read(found)
        if isinstance(operation.data_node_selector, str):
            objects = requests.within(objects, target)
        if not objects:
            return Response(None, status_code=204)
        document = objects if kind == wire.FLAT else to_hierarchical(objects, f"/{target}")
        return Response(msgspec.json.encode(document), status_code=200, media_type=kind)

    async def change(self, request: _Request) -> Response[Any]:
        """PATCH: executed up to the first operation that fails."""
        target = _target(request.scope["path"].removeprefix(wire.PROVMNS))
        content_type = request.headers.get("Content-Type", "")
        body = await request.body()
        operations = _taken(requests.patch_operations(content_type, body, target))
        if operations:
            await self._write(target, operations, document=True)
        return Response(None, status_code=204)

    async def replace(self, request: _Request) -> Response[Any]:
        """PUT: 201 if it created the object, else 200, with the object as it is then."""
        target = _target(request.scope["path"].removeprefix(wire.PROVMNS))
        operation = requests.put_operation(await request.body(), target)

        async def work(element: Element) -> tuple[bool, Sequence[Outcome], Any]:
            before = await self._objects(element, requests.read_alone(target, names=True))
            outcomes = await self._outcomes(element, [operation])
            succeeded = outcomes[0].state is OperationState.SUCCEEDED
            after = await self._objects(element, requests.read_alone(target)) if succeeded else None
            return isinstance(before, ErrorDetail) and before.reason == _NOT_FOUND, outcomes, after

        created, outcomes, after = await self._at_element(target, work, is_read=False)
        _check(outcomes, document=False)
        headers = {"Location": wire.location("", target)} if created else {}
        if not isinstance(after, list) or not after:
            return Response(None, status_code=201 if created else 204, headers=headers)
        return Response(after[0], status_code=201 if created else 200, media_type=wire.JSON, headers=headers)

    async def delete(self, request: _Request) -> Response[Any]:
        """DELETE: deletes an object without children."""
        target = _target(request.scope["path"].removeprefix(wire.PROVMNS))
        await self._write(target, [requests.delete_operation(target)], document=False)
        return Response(None, status_code=204)

    async def act(self, request: _Request) -> Response[Any]:
        """POST of an action. Elements return no output: 204."""
        path, _, name = request.scope["path"].removeprefix(ACTIONS).rstrip("/").rpartition("/")
        target = _target(path)
        operation = requests.action_operation(await request.body(), target, unquote(name))
        await self._write(target, [operation], document=False)
        return Response(None, status_code=204)

    async def _write(self, target: str, operations: Sequence[Operation], *, document: bool) -> None:
        outcomes = await self._at_element(
            target, lambda element: self._outcomes(element, operations), is_read=False
        )
        _check(outcomes, document=document)

    async def _at_element(
        self, target: str, work: Callable[[Element], Awaitable[_Result]], *, is_read: bool
    ) -> _Result:
        """Result of ``work`` at the element of the owner of ``target``. Raises Refused if there is none."""
        data_producer_id = await self._owners.data_producer_of(target)
        if isinstance(data_producer_id, Unavailable):
            raise Refused(wire.error_body(503, data_producer_id.cause))
        if data_producer_id is None:
            raise Refused(wire.error_body(404, f"no data producer owns /{target}"))
        done = await self._jobs.call(data_producer_id, work, is_read=is_read, within=self._within)
        match done:
            case NoElement():
                raise Refused(wire.error_body(404, f"no element for data producer {data_producer_id!r}"))
            case TooManyJobs():
                raise Refused(wire.error_body(503, "too many jobs are waiting; nothing was executed"))
            case Late(started=False):
                detail = f"data producer {data_producer_id!r} is busy; nothing was executed"
                raise Refused(wire.error_body(503, detail))
            case Late():
                detail = f"no answer within {self._within:g} s; what was asked may yet be executed"
                raise Refused(wire.error_body(504, detail))
            case _:
                return done

    async def _outcomes(self, element: Element, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Outcomes of the element; UNKNOWN for the first operation if it raises."""
        try:
            return await element.write(operations, ActivationMode.STOP_ON_ERROR)
        except Exception as error:
            return [Outcome(OperationState.UNKNOWN, (self._broken(operations[0], error),))]

    async def _objects(self, element: Element, operation: Operation) -> _Objects | _TooMuch | ErrorDetail:
        objects: _Objects = []
        size = 0
        try:
            async for chunk in element.read(operation):
                if chunk.errors:
                    return chunk.errors[0]
                size += len(msgspec.json.encode(chunk.objects))
                if size > MAX_ANSWER:
                    return _TooMuch()
                objects += chunk.objects
        except Exception as error:
            return self._broken(operation, error)
        return objects

    def _broken(self, operation: Operation, error: Exception) -> ErrorDetail:
        self._log.error("dmi.element_broken", path=operation.path, cause=repr(error))
        return broken_element(operation)


def _target(path: str) -> str:
    """Key of the object that a path names. Raises Refused if it names none."""
    target = _taken(requests.target_of(path))
    if not target:
        raise Refused(wire.error_body(404, "the path names no managed object"))
    return target


def _taken(given: _Result | BadRequest) -> _Result:
    if isinstance(given, BadRequest):
        raise Refused(given.body)
    return given


def _read(found: _Objects | _TooMuch | ErrorDetail) -> _Objects:
    match found:
        case ErrorDetail():
            raise Refused(requests.refused((found,)))
        case _TooMuch():
            detail = f"the objects have more than {MAX_ANSWER} bytes: read fewer of them at once"
            raise Refused(wire.error_body(413, detail))
        case _:
            return found


def _check(outcomes: Sequence[Outcome], *, document: bool) -> None:
    """Raises Refused if an operation did not succeed."""
    body = requests.refusal_of(outcomes, document=document)
    if body is not None:
        raise Refused(body)


_Served = NamedDependency[ProvMnS]


@get(_OBJECT)
async def read(request: _Request, provmns: _Served) -> Response[Any]:
    return await provmns.read(request)


@patch(_OBJECT, request_max_body_size=wire.MAX_BODY)
async def change(request: _Request, provmns: _Served) -> Response[Any]:
    return await provmns.change(request)


@put(_OBJECT, request_max_body_size=wire.MAX_BODY)
async def replace(request: _Request, provmns: _Served) -> Response[Any]:
    return await provmns.replace(request)


@delete(_OBJECT, status_code=200)
async def remove(request: _Request, provmns: _Served) -> Response[Any]:
    return await provmns.delete(request)


@post(ACTIONS + "/{action:path}", request_max_body_size=wire.MAX_BODY)
async def act(request: _Request, provmns: _Served) -> Response[Any]:
    return await provmns.act(request)


HANDLERS: Final = (read, change, replace, remove, act)


def answer_refused(_: _Request, error: Refused) -> Response[wire.ErrorBody]:
    """The exception handler for Refused."""
    headers = {"Retry-After": str(RETRY_AFTER)} if error.body.status == "503" else {}
    return Response(error.body, status_code=int(error.body.status), media_type=wire.JSON, headers=headers)
