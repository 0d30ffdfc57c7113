# SPDX-License-Identifier: Apache-2.0
"""ONAP's test interface of data jobs, which its load test and DCMs in development call.

It is offered if ``DATAJOBS_ONAP_TEST_API`` is set. A write is an ordinary data job, whose name is the id that
the client gave; the answer waits until the plugins have answered all its creates. Source: ``test-dcm-rest``
of ONAP CPS 3.8 (``DataJobControllerForTest``, ``DataJobServiceImpl``).
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Final
from urllib.parse import unquote_to_bytes
from uuid import UUID

import msgspec
from litestar import Response, post
from litestar.params import FromPath
from msgspec import Meta, Raw, Struct

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import AnyRequest, Api, ApiDependencies, Caller
from ran_datajobs.api.destination import Destination
from ran_datajobs.api.jobs import awaited
from ran_datajobs.api.openapi import documented, success, with_body
from ran_datajobs.api.problems import Conflict
from ran_datajobs.api.request_body import off_loop
from ran_datajobs.api.submit import KeyOfAnother, accept, check_admission, check_disk, check_watchers, digest
from ran_datajobs.api.tokens import Client
from ran_datajobs.errors import InvalidRequest, InvalidSelector, RefusedRequest, TooManyOperations
from ran_datajobs.http.json_body import decoded
from ran_datajobs.model import JobType
from ran_datajobs.nrm.selectors import MAX_TEXT
from ran_datajobs.planning import selectors
from ran_datajobs.planning.envelope import MAX_NAME
from ran_datajobs.planning.request import JobRequest, check_request
from ran_datajobs.store import jobs
from ran_datajobs.store.database import Connection
from ran_datajobs.store.jobs import BUCKET

CREATES_WITHIN: Final = 60.0
"""Seconds after which a write is answered although creates are still to be answered."""

_MAX_READ_BODY: Final = 8 * MAX_TEXT
_KEY: Final = " ONAP "
"""Beginning of the keys under which ids of data jobs are stored: no Idempotency-Key begins with a blank."""

_OF_METADATA: Final = frozenset({"/dataAcceptType", "/dataContentType"})
_EMPTY_LIST: Final = re.compile(rb"\[[ \t\r\n]*+\]")


class Metadata(Struct, frozen=True, rename="camel"):
    """What plugins get, whatever it is; results stay in the service's own bucket."""

    destination: Annotated[str, Meta(max_length=300)] | None = None
    data_accept_type: str | None = None
    data_content_type: str | None = None


class _Operations(Struct, frozen=True):
    data: Raw


class _WriteBody(Struct, frozen=True, rename="camel"):
    data_job_metadata: Metadata
    data_job_write_request: _Operations


class WriteOperation(Struct, frozen=True, rename="camel"):
    """An operation, for the OpenAPI document. Several can have the same id."""

    op: str
    path: str
    operation_id: str | int | None = None
    value: Any = None


class WriteRequest(Struct, frozen=True):
    """The operations, for the OpenAPI document."""

    data: list[WriteOperation]


class WriteBody(Struct, frozen=True, rename="camel"):
    """The body of a write, for the OpenAPI document."""

    data_job_metadata: Metadata
    data_job_write_request: WriteRequest


class SubJobWriteResponse(Struct, frozen=True, rename="camel"):
    """A sub-job. ``sub_job_id``: the id that its plugin gave it; null if the plugin has not accepted it."""

    sub_job_id: str | None
    dmi_service_name: str
    data_producer_id: str


class ReadProperties(Struct, frozen=True, rename="camel"):
    """What is to be read. ``results_type`` has no effect."""

    data_node_selector: Annotated[str, Meta(max_length=MAX_TEXT)] | None = None
    results_type: str | None = None


class ReadBody(Struct, frozen=True, rename="camel"):
    """The body of a read. Only its selectors have an effect."""

    read_properties: ReadProperties
    name: str | None = None
    job_id: str | None = None
    description: str | None = None


class ClassifiedSelectors(Struct, frozen=True, rename="camel"):
    """Who gets each selector. ``dmi_selectors``: by plugin, then by ``plugin#dataProducerId``.
    ``not_ready_selectors`` is empty: handles are READY from the start."""

    broadcast_selectors: list[str]
    dmi_selectors: dict[str, dict[str, list[str]]]
    not_ready_selectors: list[str]
    error_selectors: list[str]


_write_decoder: Final = msgspec.json.Decoder(_WriteBody)
_read_decoder: Final = msgspec.json.Decoder(ReadBody)


@post(
    [paths.ONAP_TEST_WRITE, paths.ONAP_TEST_BASE + paths.ONAP_TEST_WRITE],
    status_code=200,
    responses=documented(408, 409, 413, 415, 422, 429, ncmp=True)
    | {200: success(list[SubJobWriteResponse], "The sub-jobs. Location: the data job.")},
    operation_class=with_body(WriteBody),
)
async def write(
    data_job_id: FromPath[str], request: AnyRequest, api: Api, caller: Caller
) -> Response[list[SubJobWriteResponse]]:
    """Submit a data job under an id of the client; answered when plugins have answered all its creates.

    After 60 s it is answered with the sub-jobs that are planned. A repeat of the request makes no second job
    for 24 hours; another request with the same id is a 409. A request without operations makes no job.
    """
    name = _id_in_path(request)
    await check_disk(api)
    check_watchers(api)
    job_id = await _accepted(name, request, api, caller)
    if job_id is None:
        return Response([])

    async def answered(connection: Connection) -> bool:
        return await jobs.creates_answered(connection, job_id)

    await awaited(api, request, job_id, CREATES_WITHIN, answered)
    async with api.database.connection() as connection:
        sub_jobs = [SubJobWriteResponse(*each) for each in await jobs.creates(connection, job_id)]
    return Response(sub_jobs, headers={"Location": api.view.job_uri(job_id)})


async def _accepted(name: str, request: AnyRequest, api: ApiDependencies, caller: Client) -> UUID | None:
    """The data job of a write, which is durable: a new one, or the one that an earlier request of the same id
    made; ``None`` for a write without operations."""
    async with api.bodies.json(request) as body:
        key = _KEY + name, await off_loop(len(body), digest, b"", body)
        try:
            if first := await check_admission(api, caller, key):
                return first.job_id
            with api.bodies.held(len(body)):  # it is copied
                made = await off_loop(len(body), _request_of, name, body, api.settings.max_operations)
                if made is None:
                    return None
                head, destination, ordinary = made
                return (await accept(api, caller, head, destination, ordinary, key=key)).job_id
        except KeyOfAnother:
            detail = "this data job id was sent with another request before: take a new id for a new job"
            raise Conflict(detail) from None


def _id_in_path(request: AnyRequest) -> str:
    """The id in the path of a write, its last segment but one, in which a slash is ``%2F``."""
    segments = [each for each in request.scope["raw_path"].split(b"/") if each]
    try:
        name = unquote_to_bytes(segments[-2]).decode()
    except UnicodeDecodeError:
        raise InvalidRequest.at("dataJobId", "is not UTF-8") from None
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidRequest.at("dataJobId", f"must have at most {MAX_NAME} characters, all printable")
    return name


def _request_of(name: str, body: bytes, max_operations: int) -> tuple[JobRequest, Destination, bytes] | None:
    """The checked request of an ordinary data job, its destination and its body; ``None`` without operations.

    Raises InvalidRequest, TooManyOperations or UnsupportedRequest, with pointers into ``body``.
    """
    asked = decoded(body, _write_decoder)
    metadata = asked.data_job_metadata
    if metadata.destination and not metadata.destination.isprintable():
        raise InvalidRequest.at("#/dataJobMetadata/destination", "has a character that cannot be printed")
    data = memoryview(asked.data_job_write_request.data)
    if _EMPTY_LIST.fullmatch(data):
        return None
    envelope = msgspec.json.encode(
        {
            "name": name,
            "dataAcceptType": metadata.data_accept_type,
            "dataContentType": metadata.data_content_type,
        }
    )
    ordinary = b"".join((envelope[:-1], b',"data":', data, b"}"))
    try:
        head = check_request(ordinary, max_operations, as_ncmp=True)
    except TooManyOperations:
        raise
    except RefusedRequest as error:
        raise error.moved(_pointer) from None
    if head.type is JobType.READ:
        raise InvalidRequest.at("#/dataJobWriteRequest/data/0/op", "is a read, and this job is a write")
    return head, Destination(None, BUCKET, metadata.destination or None), ordinary


def _pointer(pointer: str) -> str:
    """A JSON pointer into the body of an ordinary data job, as one into the body of a write."""
    place = pointer.removeprefix("#")
    member = "dataJobMetadata" if place in _OF_METADATA else "dataJobWriteRequest"
    return f"#/{member}{place}"


@post(
    [paths.ONAP_TEST_READ, paths.ONAP_TEST_BASE + paths.ONAP_TEST_READ],
    status_code=200,
    responses=documented(408, 413, 415, 429, ncmp=True)
    | {200: success(ClassifiedSelectors, "Who gets them.")},
    operation_class=with_body(ReadBody),
)
async def classify(request: AnyRequest, api: Api) -> ClassifiedSelectors:
    """Which plugins and data producers would get the selectors of a read; none is called."""
    async with api.bodies.json(request, limit=_MAX_READ_BODY) as body:
        text = decoded(body, _read_decoder).read_properties.data_node_selector or ""
    if not text.strip():
        return ClassifiedSelectors([], {}, [], [])
    owners = await api.owners.catch_up()
    try:
        found = await asyncio.to_thread(selectors.classify, text, owners)
    except InvalidSelector as error:
        raise InvalidRequest.at("#/readProperties/dataNodeSelector", str(error)) from None
    of_plugins: dict[str, dict[str, list[str]]] = {}
    for (plugin, producer), some in found.owned.items():
        of_plugins.setdefault(plugin, {})[f"{plugin}#{producer}"] = some
    return ClassifiedSelectors(found.broadcast, of_plugins, [], found.unowned)
