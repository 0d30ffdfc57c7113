# SPDX-License-Identifier: Apache-2.0
"""Routes of a job's results: manifests and result objects, outcomes that are streamed from these objects in
three formats, and the operations of the stored request. No other object of a bucket is served."""

from __future__ import annotations

import contextlib
import csv
import io
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Annotated, Final, TypeAlias
from uuid import UUID

import msgspec
from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect, Stream
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import astuple

from ran_datajobs import model
from ran_datajobs.api import paths
from ran_datajobs.api.auth import choose
from ran_datajobs.api.dependencies import AnyRequest, Api, ApiDependencies, Caller, Job, begun
from ran_datajobs.api.jobs import Cursor, Limit, cursor, place_of, stored_request
from ran_datajobs.api.openapi import documented, success
from ran_datajobs.api.schemas import FailureList, OperationOutcome, OutcomeList, RequestPage
from ran_datajobs.api.tokens import Client
from ran_datajobs.errors import InvalidFdn, InvalidRequest, StorageUnavailable
from ran_datajobs.http.problem import RETRY_AFTER
from ran_datajobs.model import UNMATCHED_PART, JobType, OperationState, worst
from ran_datajobs.nrm import fdn
from ran_datajobs.planning.request import operations_as_they_came, read_accepted
from ran_datajobs.reasons import reason_of
from ran_datajobs.results.objects import JSON_CONTENT_TYPE, manifest_key
from ran_datajobs.results.responses import read_responses, state_of
from ran_datajobs.store import jobs, results
from ran_datajobs.store.jobs import JobRow

_FIELDS: Final = OperationOutcome.__struct_encode_fields__
_COLUMNS: Final = tuple(
    name for name in _FIELDS if name not in ("dataNodeSelector", "value", "before", "effect")
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""Prefixes of cells that a spreadsheet evaluates as formulas (CSV injection)."""

_ALSO: Final = "Also as application/x-ndjson and text/csv."
_ONLY_THESE: Final = "Only these; may stand several times."
_OPERATION: Final = "o"
_NOT_SUCCEEDED: Final = frozenset(OperationState) - {OperationState.SUCCEEDED}

Values = Mapping[str, Raw]
"""Values of a request's operations by operation id (a string)."""

_NO_VALUES: Final = contextlib.nullcontext[Values | None](None)


class _Asked(Struct, frozen=True, rename="camel"):
    path: str = ""
    op: str = ""
    data_node_selector: str | UnsetType = UNSET


_asked_decoder: Final = msgspec.json.Decoder(_Asked)
_effect_decoder: Final = msgspec.json.Decoder(model.Effect)


class Wanted(Struct, frozen=True):
    """Filter of outcomes; an empty set, and ``None``, match all. ``below``: the normal form of an FDN, which
    matches the object itself and the objects below it."""

    states: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    producers: frozenset[str] = frozenset()
    below: str | None = None

    def takes(self, outcome: OperationOutcome) -> bool:
        """True if the filter matches ``outcome``."""
        return (
            (not self.states or outcome.state in self.states)
            and (not self.reasons or outcome.reason in self.reasons)
            and (not self.producers or outcome.data_producer_id in self.producers)
            and (self.below is None or _is_below(outcome.path, self.below))
        )


def _is_below(path: str, ancestor: str) -> bool:
    with contextlib.suppress(InvalidFdn):
        return (fdn.key_of_path(path) + "/").startswith(ancestor + "/")
    return False


def cell(value: object) -> str:
    """``value``, or the text of a JSON value, as a CSV cell that no spreadsheet evaluates as a formula."""
    if value is None or value is UNSET:
        return ""
    if isinstance(value, model.Effect):
        value = Raw(msgspec.json.encode(value))
    text = bytes(value).decode() if isinstance(value, Raw) else str(value)
    return "'" + text if text.startswith(_FORMULA) else text


Outcomes = AsyncIterator[list[OperationOutcome]]


async def _as_json(found: Outcomes, _columns: tuple[str, ...]) -> AsyncIterator[bytes]:
    yield b'{"items":['
    comma = b""
    async for outcomes in found:
        if outcomes:
            yield comma + msgspec.json.encode(outcomes)[1:-1]
            comma = b","
    yield b"]}"


async def _as_ndjson(found: Outcomes, _columns: tuple[str, ...]) -> AsyncIterator[bytes]:
    async for outcomes in found:
        yield msgspec.json.Encoder().encode_lines(outcomes)


async def _as_csv(found: Outcomes, columns: tuple[str, ...]) -> AsyncIterator[bytes]:
    yield (",".join(columns) + "\r\n").encode()
    places = list(map(_FIELDS.index, columns))
    async for outcomes in found:
        text = io.StringIO(newline="")
        rows = ([fields[place] for place in places] for fields in map(astuple, outcomes))
        csv.writer(text).writerows(map(cell, row) for row in rows)
        yield text.getvalue().encode()


_WRITERS: Final = {"application/json": _as_json, "application/x-ndjson": _as_ndjson, "text/csv": _as_csv}
_FORMATS: Final = {"produces": tuple(_WRITERS)}


@get(
    paths.FAILURES,
    opt=_FORMATS,
    responses=documented(404) | {200: success(FailureList, _ALSO)},
)
async def list_failures(job: Job, request: AnyRequest, api: Api) -> Stream:
    """Every operation of a data job that did not succeed, and why. While the job runs: those known so far."""
    return await _streamed(api, request, job, Wanted(_NOT_SUCCEEDED), with_values=False)


@get(
    paths.OUTCOMES,
    opt=_FORMATS,
    responses=documented(404, 429) | {200: success(OutcomeList, _ALSO)},
)
async def list_outcomes(
    job: Job,
    request: AnyRequest,
    api: Api,
    states: Annotated[
        list[OperationState] | None, QueryParameter(name="state", description=_ONLY_THESE)
    ] = None,
    reasons: Annotated[list[str] | None, QueryParameter(name="reason", description=_ONLY_THESE)] = None,
    producers: Annotated[
        list[str] | None, QueryParameter(name="dataProducerId", description=_ONLY_THESE)
    ] = None,
    below: Annotated[
        str | None, QueryParameter(description="Only the object with this FDN, and objects below it.")
    ] = None,
) -> Stream:
    """Every operation of a data job that has an outcome, with its outcome.

    Pending operations are omitted; the job has their count. A read of several data producers has an outcome
    for each of them. `value` is the value in the request, `before` the object directly before a write, from
    a plugin that is registered with `beforeImages`: `{"attributes": {...}}` with those that the operation
    names, null for one without a value, or `{"absent": true}`. Of a preview, each has its `effect` when the
    preview has ended.
    """
    wanted = Wanted(
        frozenset(states or ()), frozenset(reasons or ()), frozenset(producers or ()), _key_of(below)
    )
    return await _streamed(api, request, job, wanted, with_values=job.type is not JobType.READ)


@get(
    paths.REQUEST,
    responses=documented(404, 429)
    | {200: success(RequestPage, "The JSON of each operation is what was sent.")},
)
async def get_request(
    job: Job, api: Api, limit: Limit = paths.DEFAULT_LIMIT, after: Cursor = None
) -> RequestPage:
    """The operations of a data job as submitted, in order.

    The request is available from the 202 until the job is removed.
    """
    start = place_of(_OPERATION, after) or 0
    async with stored_request(api, job.job_id, operations_as_they_came) as stored:
        operations = stored or []
        following = cursor(_OPERATION, start + limit) if len(operations) > start + limit else None
        return RequestPage(operations[start : start + limit], following)


def _key_of(below: str | None) -> str | None:
    try:
        return None if below is None else fdn.key(below)
    except InvalidFdn as error:
        raise InvalidRequest.at("below", f"must be an FDN: {error}") from error


async def _streamed(
    api: ApiDependencies, request: AnyRequest, row: JobRow, wanted: Wanted, *, with_values: bool
) -> Stream:
    media_type = choose(request.headers.get("accept", "*/*"), tuple(_WRITERS)) or "application/json"
    outcomes = await begun(outcomes_of(api, row, wanted, with_values=with_values))
    columns = _COLUMNS
    if row.type is JobType.READ:
        columns += ("dataNodeSelector",)
    elif with_values:
        columns += ("value", "before") if row.type is JobType.WRITE else ("value", "effect")
    return Stream(_WRITERS[media_type](outcomes, columns), media_type=media_type)


async def outcomes_of(
    api: ApiDependencies, row: JobRow, wanted: Wanted, *, with_values: bool = False
) -> AsyncIterator[list[OperationOutcome]]:
    """The outcomes of a job that match ``wanted``, in batches. Raises StorageUnavailable.

    A read can have several responses; the worst of them is its outcome.
    """
    async with api.database.connection() as connection:
        written = await results.listing_by_producer(connection, row.job_id)
    async with stored_request(api, row.job_id, _values) if with_values else _NO_VALUES as values:
        of_read: dict[str, OperationOutcome] = {}
        sub_job, values = "", values or {}
        failed_alone = wanted.states and OperationState.SUCCEEDED not in wanted.states
        for part, producer in written:
            if part.operations == 0 or (failed_alone and part.failed == 0):
                continue
            if row.type is JobType.PREVIEW and part.sub_job != UNMATCHED_PART:
                continue  # what it has read
            outcomes = [outcome_of(each, producer, values) for each in await responses_in(api, row, part)]
            if row.type is not JobType.READ:
                yield list(filter(wanted.takes, outcomes))
                continue
            if part.sub_job != sub_job:
                yield list(filter(wanted.takes, of_read.values()))
                sub_job, of_read = part.sub_job, {}
            for outcome in outcomes:
                known = of_read.setdefault(str(outcome.operation_id), outcome)
                if worst(map(OperationState, (known.state, outcome.state))) != known.state:
                    of_read[str(outcome.operation_id)] = outcome
        yield list(filter(wanted.takes, of_read.values()))


async def responses_in(api: ApiDependencies, row: JobRow, part: results.Part) -> list[model.Response]:
    """The responses in a result object of a job. Raises StorageUnavailable."""
    body = await api.objects.get(row.results_bucket, part.key)
    if body is None:
        raise StorageUnavailable(f"the result object {row.results_bucket}/{part.key} is gone")
    try:
        return read_responses(body)
    except msgspec.DecodeError as error:
        raise StorageUnavailable(f"the result object {row.results_bucket}/{part.key} was spoilt") from error


def _values(body: bytes) -> Values:
    """The values of the operations whose ids no other one has."""
    operations = read_accepted(body)[1]
    times = Counter(str(each.operation_id) for each in operations)
    return {
        str(each.operation_id): each.value
        for each in operations
        if not isinstance(each.value, UnsetType) and times[str(each.operation_id)] == 1
    }


def outcome_of(response: model.Response, producer: str | None, values: Values) -> OperationOutcome:
    """The outcome of an operation according to its result."""
    try:
        asked = _asked_decoder.decode(response.request)
    except msgspec.DecodeError:
        asked = _Asked()
    state = state_of(response)
    succeeded = state is OperationState.SUCCEEDED
    error = response.errors[0] if response.errors else None
    return OperationOutcome(
        operation_id=response.operation_id,
        path=asked.path,
        op=asked.op,
        state=state.value,
        reason="" if succeeded else reason_of(response, state),
        detail="" if succeeded else (error.detail or error.title if error else "") or response.status_message,
        data_producer_id=producer if response.data_producer_id is UNSET else response.data_producer_id,
        data_node_selector=asked.data_node_selector,
        value=values.get(str(response.operation_id), UNSET),
        before=response.before,
        effect=_effect_in(response),
    )


def _effect_in(response: model.Response) -> model.Effect | UnsetType:
    """The effect that a preview has found. The owner of the bucket can write to its object."""
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        if not isinstance(response.effect, UnsetType):
            return _effect_decoder.decode(response.effect)
    return UNSET


_ANSWERS: Final = documented(404) | {
    200: success(dict[str, object], "The object.", JSON_CONTENT_TYPE),
    307: success(None, "Where it can be read without a token."),
}
_PRESIGNED_LIFETIME: Final = timedelta(minutes=15)
_Presigned: TypeAlias = Annotated[
    bool,
    QueryParameter(
        description="Answer with 307 and an address at the S3 service that needs no token for 15 minutes; "
        "where the results are in a folder, with the object itself."
    ),
]
_IMMUTABLE: Final = {"Cache-Control": "private, max-age=86400, immutable"}


@get(paths.BUCKET, responses=_ANSWERS)
async def get_manifest(
    bucket_id: FromPath[str],
    api: Api,
    caller: Caller,
    job_id: Annotated[UUID, QueryParameter(name="jobId", description="The data job.")],
    presigned: _Presigned = False,
) -> Stream | Redirect:
    """The manifest of a data job: status, counts and the list of its result objects. Written last."""
    return await _object(api, caller, bucket_id, job_id, manifest_key(str(job_id)), presigned)


@get(paths.OBJECT, responses=_ANSWERS)
async def get_object(
    bucket_id: FromPath[str],
    job_id: FromPath[UUID],
    part: FromPath[str],
    api: Api,
    caller: Caller,
    presigned: _Presigned = False,
) -> Stream | Redirect:
    """One result object of a data job: `{"responses": [...]}`."""
    return await _object(api, caller, bucket_id, job_id, f"{job_id}{part}", presigned)


async def _object(
    api: ApiDependencies, caller: Client, bucket: str, job_id: UUID, key: str, presigned: bool
) -> Stream | Redirect:
    """The object of the job, whose results must be in ``bucket``, or a redirect to its presigned address.

    Raises a 404 for any other object, and for the manifest while the job runs, even if one is written.
    """
    is_manifest = key == manifest_key(str(job_id))
    async with api.database.connection() as connection:
        row = await jobs.find(connection, job_id, caller.sees)
        if row is None or bucket not in (row.results_bucket, row.bucket_named):  # the service's, the client's
            raise NotFoundException(
                f"no data job {job_id} that you can see has its results in the bucket {bucket[:63]!r}"
            )
        if is_manifest:
            known = row.status.terminal
        else:
            known = "\0" not in key and await jobs.has_part(connection, job_id, key)
    if known and presigned:
        address = await api.objects.presigned(row.results_bucket, key, _PRESIGNED_LIFETIME)
        if address is not None:
            return Redirect(address, status_code=307)
    found = await api.objects.stream(row.results_bucket, key) if known else None
    if found is None and is_manifest:
        raise NotFoundException(
            "the manifest is not written yet: it is the last object of a data job",
            headers={"Retry-After": str(RETRY_AFTER)},
        )
    if found is None:
        raise NotFoundException("this data job has no such result object")
    size, pieces = found
    caching = {} if is_manifest else _IMMUTABLE
    return Stream(pieces, media_type=JSON_CONTENT_TYPE, headers=caching | {"Content-Length": str(size)})
