# SPDX-License-Identifier: Apache-2.0
"""HTTP routes of the reference DMI plugin: the calls of both dialects, those that ONAP's NCMP makes of every
plugin (modules, health; ProvMnS and actions in :mod:`~ran_datajobs.dmi.provmns_routes`), and two additional
ones.

These are ``GET /healthz``, and ``GET /dmi/v1/history?dataProducerId=&after=&limit=``: the batches that were
sent to the element of a data producer, in order, one line each. The history is for tests and operators; NCMP
does not use it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, assert_never
from urllib.parse import unquote

from litestar import Litestar, Request, Response, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ClientException, NotFoundException
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from ran_datajobs.dmi import provmns_routes
from ran_datajobs.dmi.bodies import onap_job, seed_job
from ran_datajobs.dmi.jobs import NewJob, NoElement, PluginJobs, Taken, TooManyJobs
from ran_datajobs.dmi.journal import KeyTaken
from ran_datajobs.dmi.owners import Owners
from ran_datajobs.dmi.problems import answer_problems, problem
from ran_datajobs.dmi.records import JobState
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.http.json_body import got
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import Status, wire_status
from ran_datajobs.plugins import wire
from ran_datajobs.telemetry import Logger

HISTORY: Final = "/dmi/v1/history"
MAX_HISTORY: Final = 1_000
"""Maximum lines of history in one answer."""

_Request = Request[Any, Any, State]
_Destination = Annotated[str, QueryParameter(name=wire.DESTINATION)]


class HistoryLine(Struct, frozen=True, rename="camel"):
    """A batch of operations that was sent to the element, in this order."""

    number: int
    request_id: str
    sub_job_id: str
    data_producer_job_id: str
    operation_ids: list[str | int]


class History(Struct, frozen=True):
    """Lines in order; for the next page, set ``after`` to the number of the last line."""

    items: list[HistoryLine]


class _Plugin:
    """Jobs and settings of the plugin, and the steps that both dialects share."""

    def __init__(self, jobs: PluginJobs, settings: PluginSettings) -> None:
        self.jobs = jobs
        self.settings = settings

    def job(self, data_producer_job_id: str, **expected: str) -> JobState:
        """The job with an id from a path. Raises a 404 if none has this id and the ``expected`` fields."""
        state = self.jobs.state(unquote(data_producer_job_id))
        if state is None or any(getattr(state.job, name) != value for name, value in expected.items()):
            raise NotFoundException("this plugin has no job of this id")
        return state

    async def create(self, request: _Request, new: NewJob, dialect: wire.Dialect) -> Response[Any]:
        match await self.jobs.take(new):
            case Taken(job_id):
                return Response({wire.CREATED_ID[dialect]: job_id}, status_code=201)
            case KeyTaken():
                return problem(request, 409, f"{wire.IDEMPOTENCY_KEY} belongs to another request")
            case NoElement():
                return problem(request, 422, f"no element for data producer {new.data_producer_id!r}")
            case TooManyJobs():
                return problem(request, 503, "too many jobs are waiting")
            case other:
                assert_never(other)

    def status(self, state: JobState) -> Response[wire.StatusBody]:
        return Response(wire.StatusBody(wire_status(state.status, self.settings.finished_spelling)))

    def result(self, request: _Request, state: JobState) -> Response[Any] | Stream:
        if not state.status.terminal:
            later = {"Retry-After": "1"}
            return problem(
                request, 409, f"the job is {state.status.value}: it has no result yet", headers=later
            )
        if state.job.is_read:
            return Response({"resulturi": INTERNAL_TOPIC})
        return Stream(_document(self.jobs.responses(state.job.job_id)), media_type=wire.JSON)

    async def cancel(self, request: _Request, state: JobState) -> Response[Any]:
        if state.status.terminal:
            return problem(request, 409, f"the job has ended: {state.status.value}")
        asked = await self.jobs.cancel(state.job.job_id)
        status = wire_status((asked or state).status, self.settings.finished_spelling)
        return Response(wire.StatusBody(status), status_code=202)

    async def cancel_all(self, request_id: str) -> Response[Any]:
        await self.jobs.cancel_all(unquote(request_id))
        return Response(wire.StatusBody(Status.CANCELLING.value), status_code=202)


_Served = NamedDependency[_Plugin]


@post(wire.SEED_CREATE, status_code=201)
async def seed_create(
    request: _Request, plugin: _Served, request_id: FromPath[str], destination: _Destination = ""
) -> Response[Any]:
    new = seed_job(
        unquote(request_id), destination, _key(request), await _body(request), plugin.settings.operations
    )
    return await plugin.create(request, new, wire.Dialect.SEED)


@get(wire.SEED_STATUS)
async def seed_status(
    plugin: _Served, request_id: FromPath[str], data_producer_job_id: FromPath[str]
) -> Response[wire.StatusBody]:
    return plugin.status(plugin.job(data_producer_job_id, request_id=unquote(request_id)))


@get(wire.SEED_RESULT)
async def seed_result(
    request: _Request, plugin: _Served, request_id: FromPath[str], data_producer_job_id: FromPath[str]
) -> Response[Any] | Stream:
    return plugin.result(request, plugin.job(data_producer_job_id, request_id=unquote(request_id)))


@delete(wire.SEED_JOB, status_code=202)
async def seed_cancel(
    request: _Request, plugin: _Served, request_id: FromPath[str], data_producer_job_id: FromPath[str]
) -> Response[Any]:
    return await plugin.cancel(request, plugin.job(data_producer_job_id, request_id=unquote(request_id)))


@delete(wire.SEED_WHOLE_JOB, status_code=202)
async def seed_cancel_all(plugin: _Served, request_id: FromPath[str]) -> Response[Any]:
    return await plugin.cancel_all(request_id)


@post(wire.ONAP_CREATE_WRITE, status_code=201)
async def onap_create_write(
    request: _Request, plugin: _Served, destination: _Destination = ""
) -> Response[Any]:
    new = onap_job(False, destination, _key(request), await _body(request), plugin.settings.operations)
    return await plugin.create(request, new, wire.Dialect.ONAP)


@post(wire.ONAP_CREATE_READ, status_code=201)
async def onap_create_read(
    request: _Request, plugin: _Served, destination: _Destination = ""
) -> Response[Any]:
    new = onap_job(True, destination, _key(request), await _body(request), plugin.settings.operations)
    return await plugin.create(request, new, wire.Dialect.ONAP)


@get(wire.ONAP_STATUS)
async def onap_status(
    plugin: _Served, data_producer_id: FromPath[str], data_producer_job_id: FromPath[str]
) -> Response[wire.StatusBody]:
    return plugin.status(plugin.job(data_producer_job_id, data_producer_id=unquote(data_producer_id)))


@get(wire.ONAP_RESULT)
async def onap_result(
    request: _Request, plugin: _Served, data_producer_id: FromPath[str], data_producer_job_id: FromPath[str]
) -> Response[Any] | Stream:
    return plugin.result(
        request, plugin.job(data_producer_job_id, data_producer_id=unquote(data_producer_id))
    )


@delete(wire.ONAP_JOB, status_code=202)
async def onap_cancel(
    request: _Request, plugin: _Served, data_producer_id: FromPath[str], data_producer_job_id: FromPath[str]
) -> Response[Any]:
    return await plugin.cancel(
        request, plugin.job(data_producer_job_id, data_producer_id=unquote(data_producer_id))
    )


@delete([wire.ONAP_WHOLE_WRITE_JOB, wire.ONAP_WHOLE_READ_JOB], status_code=202)
async def onap_cancel_all(plugin: _Served, request_id: FromPath[str]) -> Response[Any]:
    return await plugin.cancel_all(request_id)


@get(HISTORY)
async def history(
    plugin: _Served,
    data_producer_id: Annotated[str, QueryParameter(name=wire.DATA_PRODUCER_ID)],
    after: Annotated[int, QueryParameter(ge=0)] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=MAX_HISTORY)] = 100,
) -> History:
    return History(
        [
            HistoryLine(
                line.number,
                line.job.request_id,
                line.job.sub_job_id,
                line.job.job_id,
                line.operation_ids,
            )
            for line in await plugin.jobs.history(data_producer_id, after, limit)
        ]
    )


@post(wire.MODULES, status_code=200)
async def modules(cm_handle: FromPath[str]) -> dict[str, list[str]]:
    """NCMP asks for the YANG modules of a handle: this plugin has none, for any handle."""
    return {"schemas": []}


@post(wire.MODULE_RESOURCES, status_code=200)
async def module_resources(cm_handle: FromPath[str]) -> list[str]:
    """NCMP asks for the texts of modules."""
    return []


@get(wire.ACTUATOR_HEALTH)
async def actuator_health() -> dict[str, str]:
    return {"status": wire.UP}


@get(wire.HEALTHZ)
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


def plugin_app(
    jobs: PluginJobs, settings: PluginSettings, log: Logger, owners: Owners | None = None
) -> ASGIApp:
    """Create the application for ``jobs``, which must be open while it is served. Without ``owners`` it
    serves no ProvMnS."""
    plugin = _Plugin(jobs, settings)
    dependencies = {"plugin": Provide(lambda: plugin, sync_to_thread=False)}
    provmns_handlers = () if owners is None else provmns_routes.HANDLERS
    if owners is not None:
        provmns = provmns_routes.ProvMnS(jobs, owners, settings.call_timeout, log)
        dependencies["provmns"] = Provide(lambda: provmns, sync_to_thread=False)
    app = Litestar(
        [
            seed_create, seed_status, seed_result, seed_cancel, seed_cancel_all, onap_cancel_all,
            onap_create_write, onap_create_read, onap_status, onap_result, onap_cancel,
            modules, module_resources, history, actuator_health, healthz, *provmns_handlers,
        ],
        dependencies=dependencies,
        exception_handlers={
            provmns_routes.Refused: provmns_routes.answer_refused,
            Exception: answer_problems(log),
        },
        request_max_body_size=settings.body_bytes,
        openapi_config=None,
        logging_config=None,
    )  # fmt: skip
    return _routed_undecoded(app)


def _routed_undecoded(app: Litestar) -> ASGIApp:
    """``app``, routed by the undecoded path: a ``%2F`` within an id is not a separator."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        if "raw_path" in scope:
            scope["path"] = scope["raw_path"].decode("utf-8", "surrogateescape")
        await app(scope, receive, send)

    return routed


def _key(request: _Request) -> str:
    return request.headers.get(wire.IDEMPOTENCY_KEY, "").strip()


async def _body(request: _Request) -> bytes:
    kind = request.headers.get("Content-Type", wire.JSON).partition(";")[0].strip().lower()
    if kind != wire.JSON and not kind.endswith("+json"):
        given = got(kind) if kind else "missing"
        raise ClientException(f"Content-Type must be application/json; it is {given}", status_code=415)
    return await request.body()


async def _document(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield ``{"responses": […]}`` with the pieces inside."""
    yield b'{"responses":['
    between = b""
    async for piece in pieces:
        yield between + piece
        between = b","
    yield b"]}"
