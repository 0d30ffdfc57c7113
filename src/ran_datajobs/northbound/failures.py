# SPDX-License-Identifier: Apache-2.0
"""The operations of a job that did not succeed, streamed from its result objects in three formats."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final
from uuid import UUID

import msgspec
from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath
from litestar.response import Stream
from msgspec import Struct

from ran_datajobs.errors import StorageUnavailable
from ran_datajobs.job import OperationState, Response
from ran_datajobs.northbound import paths
from ran_datajobs.northbound.access import choose
from ran_datajobs.northbound.jobs import visible_job
from ran_datajobs.northbound.parts import AnyRequest, Api, Caller, Running
from ran_datajobs.northbound.problems import documented
from ran_datajobs.northbound.wire import Failure, FailureList
from ran_datajobs.reasons import reason_of
from ran_datajobs.results.responses import read_responses, state_of
from ran_datajobs.store import parts
from ran_datajobs.store.parts import Part

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
FORMATS: Final = (JSON, NDJSON, CSV)

_COLUMNS: Final = ("operationId", "path", "op", "state", "reason", "detail")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula (CSV injection)."""


class _Asked(Struct, frozen=True):
    path: str = ""
    op: str = ""


_asked_decoder: Final = msgspec.json.Decoder(_Asked)


@get(
    paths.FAILURES,
    opt={"produces": FORMATS},
    responses=documented(400, 401, 403, 404, 406, 503)
    | {
        200: ResponseSpec(
            FailureList, generate_examples=False, description="Also as application/x-ndjson and text/csv."
        )
    },
    tags=["data jobs"],
)
async def list_failures(job_id: FromPath[UUID], request: AnyRequest, api: Api, caller: Caller) -> Stream:
    """Every operation of a data job that did not succeed, and why. While the job runs: those known so far."""
    row = await visible_job(api, caller, job_id)
    media_type = choose(request.headers.get("accept", "*/*"), FORMATS) or JSON
    async with api.parts.database.connection() as connection:
        written = await parts.listing(connection, job_id)
    found = failures_in(api, row.results_bucket, written)
    nothing: list[Failure] = []
    first = await anext(found, nothing)  # a store that is away is told before the answer begins
    return Stream(_WRITERS[media_type](_chained(first, found)), media_type=media_type)


async def _chained(first: list[Failure], rest: AsyncIterator[list[Failure]]) -> AsyncIterator[list[Failure]]:
    yield first
    async for failures in rest:
        yield failures


async def failures_in(api: Running, bucket: str, written: Iterable[Part]) -> AsyncIterator[list[Failure]]:
    """The operations that did not succeed in each of these result objects. Raises StorageUnavailable."""
    for part in written:
        if part.failed == 0:
            continue
        body = await api.parts.objects.get(bucket, part.key)
        if body is None:
            raise StorageUnavailable(f"the result object {bucket}/{part.key} is gone")
        try:
            responses, _ = read_responses(body)
        except msgspec.DecodeError as error:
            raise StorageUnavailable(f"the result object {bucket}/{part.key} was spoilt") from error
        told = ((response, state_of(response)) for response in responses)
        yield [failure(response, state) for response, state in told if state is not OperationState.SUCCEEDED]


def failure(response: Response, state: OperationState) -> Failure:
    """What a result says about an operation that did not succeed."""
    try:
        asked = _asked_decoder.decode(response.request)
    except msgspec.DecodeError:
        asked = _Asked()
    error = response.errors[0] if response.errors else None
    return Failure(
        operation_id=response.operation_id,
        path=asked.path,
        op=asked.op,
        state=state.value,
        reason=reason_of(response, state),
        detail=(error.detail or error.title if error else "") or response.status_message,
    )


def cell(value: object) -> str:
    """``value`` as a CSV cell that no spreadsheet takes for a formula."""
    text = str(value)
    return "'" + text if text.startswith(_FORMULA) else text


async def _as_json(parts: AsyncIterator[list[Failure]]) -> AsyncIterator[bytes]:
    yield b'{"items":['
    comma = b""
    async for failures in parts:
        if failures:
            yield comma + msgspec.json.encode(failures)[1:-1]
            comma = b","
    yield b"]}"


async def _as_ndjson(parts: AsyncIterator[list[Failure]]) -> AsyncIterator[bytes]:
    async for failures in parts:
        yield msgspec.json.Encoder().encode_lines(failures)


async def _as_csv(parts: AsyncIterator[list[Failure]]) -> AsyncIterator[bytes]:
    yield (",".join(_COLUMNS) + "\r\n").encode()
    async for failures in parts:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(
            [cell(value) for value in msgspec.structs.astuple(one)] for one in failures
        )
        yield text.getvalue().encode()


_WRITERS: Final[Mapping[str, Callable[[AsyncIterator[list[Failure]]], AsyncIterator[bytes]]]] = (
    MappingProxyType({JSON: _as_json, NDJSON: _as_ndjson, CSV: _as_csv})
)
