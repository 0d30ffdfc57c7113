# SPDX-License-Identifier: Apache-2.0
"""Route that submits the unsuccessful operations of a finished job as a new job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final
from uuid import UUID

import msgspec
import zstandard
from litestar import Response, post
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter
from msgspec import Struct

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import Api, Caller
from ran_datajobs.api.destination import Destination
from ran_datajobs.api.jobs import existing
from ran_datajobs.api.problems import documented
from ran_datajobs.api.schemas import SubmitAnswer
from ran_datajobs.api.submit import accept, admit, check_disk, new_job, off_loop
from ran_datajobs.model import Operation, OperationState
from ran_datajobs.planning.request import JobRequest, read_accepted
from ran_datajobs.results.parts import failed_operations
from ran_datajobs.store import jobs, parts


class _Body(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A submit body with the operations to repeat."""

    data_accept_type: str
    data_content_type: str
    activation_mode: str
    priority: int
    data: list[Operation]
    name: str | None = None


_encoder: Final = msgspec.json.Encoder()


@post(
    paths.RETRY,
    status_code=202,
    responses=documented(400, 401, 403, 404, 406, 409, 429, 503)
    | {202: ResponseSpec(SubmitAnswer, generate_examples=False, description="Accepted and durable.")},
    tags=["data jobs"],
)
async def retry(
    job_id: FromPath[UUID],
    api: Api,
    caller: Caller,
    include_unknown: Annotated[
        bool,
        QueryParameter(name="includeUnknown", description="Also the operations that may have been executed."),
    ] = False,
) -> Response[SubmitAnswer]:
    """Submit a new data job of the operations that did not succeed: same ids, order, destination and mode."""
    await check_disk(api)
    await admit(api, caller, None)
    async with api.parts.database.connection() as connection:
        row = existing(await jobs.find(connection, job_id, caller.sees))
        if not row.status.terminal:
            raise HTTPException(status_code=409, detail="the data job is still under way: cancel it or wait")
        written = await parts.listing(connection, job_id)
        size = await jobs.request_size(connection, job_id)
    with api.bodies.held(size):
        states = await failed_operations(api.parts.objects, row.results_bucket, written)
        wanted = to_repeat(states, include_unknown=include_unknown)
        async with api.parts.database.connection() as connection:
            stored = await jobs.request_of(connection, job_id) if wanted else None
        if stored is None:
            hint = "" if include_unknown else _UNKNOWN_HINT
            raise HTTPException(status_code=409, detail=f"there is nothing to retry{hint}")
        read, body = await off_loop(size, _left_over, stored, wanted)
        destination = Destination(row.destination, row.destination_kind)
        head = msgspec.structs.replace(read, ignored=row.ignored)  # as in the first answer
        job = await new_job(api, caller, head, destination, body, retry_of=job_id)
        return await accept(api, caller, job)


_UNKNOWN_HINT: Final = ": operations of unknown outcome are repeated with ?includeUnknown=true only"


def to_repeat(states: Mapping[str, OperationState], *, include_unknown: bool) -> set[str]:
    """The ids of the operations to repeat: all in ``states``, those UNKNOWN only with ``include_unknown``."""
    return {
        operation
        for operation, state in states.items()
        if include_unknown or state is not OperationState.UNKNOWN
    }


def left_over(read: JobRequest, wanted: set[str]) -> JobRequest:
    """The request with only the ``wanted`` operations; their order and ids are kept."""
    operations = [operation for operation in read.operations if operation.id_text in wanted]
    return msgspec.structs.replace(read, operations=operations, count=len(operations), after=())


def _left_over(stored: bytes, wanted: set[str]) -> tuple[JobRequest, bytes]:
    read = left_over(read_accepted(zstandard.decompress(stored)), wanted)
    body = _Body(
        data_accept_type=read.accept_type,
        data_content_type=read.content_type,
        activation_mode=read.activation_mode,
        priority=read.priority,
        data=read.operations,
        name=read.name,
    )
    return read, _encoder.encode(body)
