# SPDX-License-Identifier: Apache-2.0
"""Accepts a data job: checks the request, stores the job in one transaction, then answers.

Order of the checks: caller, limits of the caller and of the service, syntax of the body, destination. A
refused request leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import zstandard
from litestar import Response, post
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, QueryParameter

from ran_datajobs.api import dry_run, paths
from ran_datajobs.api.dependencies import AnyRequest, Api, ApiState, Caller
from ran_datajobs.api.destination import Destination, resolve
from ran_datajobs.api.openapi import SubmitOperation
from ran_datajobs.api.parameters import OFFERED_ONE_DAY
from ran_datajobs.api.problems import documented
from ran_datajobs.api.schemas import Plan, SubmitAnswer, submit_answer
from ran_datajobs.api.tokens import Client
from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.errors import InvalidRequest, StoreUnavailable
from ran_datajobs.http.problem import RETRY_AFTER
from ran_datajobs.model import Ignored
from ran_datajobs.planning.request import RequestHead, check_request, read_request
from ran_datajobs.store import jobs
from ran_datajobs.store.database import Connection
from ran_datajobs.store.jobs import (
    Inserted,
    KeyTaken,
    NewJob,
    StoredIdempotentAnswer,
    UnknownAfter,
    bucket_named,
)
from ran_datajobs.telemetry import Event

LARGE_BODY: Final = 256 * 1024
"""Size in bytes above which a body is processed in a thread, so that large jobs do not delay small ones."""

ZSTD_LEVEL: Final = 1
_MAX_KNOWN_BUCKETS: Final = 1000
_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


@post(
    paths.JOBS,
    status_code=202,
    responses=documented(400, 401, 403, 406, 408, 409, 413, 415, 422, 429, 503)
    | {
        200: ResponseSpec(Plan, generate_examples=False, description="The plan, for dryRun."),
        202: ResponseSpec(SubmitAnswer, generate_examples=False, description="Accepted and durable."),
    },
    operation_class=SubmitOperation,
    opt={OFFERED_ONE_DAY: True},
    tags=["data jobs"],
)
async def submit(
    request: AnyRequest,
    api: Api,
    caller: Caller,
    destination: Annotated[
        str | None,
        QueryParameter(description="A topic or a bucket, also as kafka:NAME or s3:NAME.", max_length=300),
    ] = None,
    dry: Annotated[
        bool, QueryParameter(name="dryRun", description="Answer with the plan; send and keep nothing.")
    ] = False,
    key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key", description="A repeat of the request with it makes no second job."
        ),
    ] = None,
) -> Response[SubmitAnswer] | Response[Plan]:
    """Submit a data job. The 202 is a promise: the job is durable before it is sent."""
    _check_key(key)
    await check_disk(api)
    async with api.bodies.json(request) as body:
        digest = await _digest(request.scope["query_string"], body) if key else b""
        kept = await admit(api, caller, None if dry else key)
        if kept is not None:
            return _repeated(api, kept, digest)
        read = partial(read_request if dry else check_request, max_operations=api.parts.limits.max_operations)
        head = await off_loop(len(body), read, body)
        resolved = await resolve(
            destination,
            bus=api.parts.bus,
            objects=api.parts.objects,
            embedded=api.parts.embedded_bus is not None,
            rules=api.parts.destination_rules,
            known_buckets=lambda: _known_buckets(api, caller),
        )
        if dry:
            return Response(await dry_run.plan(api, head), status_code=200)
        job = await new_job(api, caller, head, resolved, body)
        return await accept(api, caller, job, (key, digest) if key else None)


async def _known_buckets(api: ApiState, caller: Client) -> list[str]:
    """The service's own bucket, and the buckets that earlier jobs of this client named."""
    async with api.parts.database.connection() as connection:
        return [
            api.parts.results_bucket,
            *await jobs.buckets_named_by(connection, caller.name, _MAX_KNOWN_BUCKETS),
        ]


async def off_loop(size: int, function: Any, *args: Any) -> Any:
    """``function(*args)``, in a thread if its input of ``size`` bytes is large."""
    if size <= LARGE_BODY:
        return function(*args)
    return await asyncio.to_thread(function, *args)


async def new_job(
    api: ApiState,
    caller: Client,
    read: RequestHead,
    destination: Destination,
    body: bytes,
    *,
    retry_of: UUID | None = None,
) -> NewJob:
    """A job of ``caller`` from a checked request and its bytes."""
    return NewJob(
        job_id=uuid4(),
        client=caller.name,
        type=read.type,
        name=read.name,
        destination=destination.name,
        destination_kind=destination.kind,
        results_bucket=api.parts.results_bucket,
        accept_type=read.accept_type,
        content_type=read.content_type,
        activation_mode=read.activation_mode,
        priority=read.priority,
        after_jobs=read.after,
        retry_of=retry_of,
        operations=read.count,
        request=await off_loop(len(body), _compressed, body),
        ignored=read.ignored,
    )


async def accept(
    api: ApiState, caller: Client, job: NewJob, key: tuple[str, bytes] | None = None
) -> Response[SubmitAnswer]:
    """Store the job, due for planning, in one transaction, then answer with 202."""
    await api.parts.reached(Checkpoint.ACCEPT_CHECKED)

    async def write(connection: Connection) -> None:
        match await jobs.insert(connection, job, sees=caller.sees, key=key):
            case UnknownAfter(job_ids):
                raise _unknown_after(job, job_ids)
            case KeyTaken():
                raise _KeyRaceLost
            case Inserted():
                pass

    try:
        await api.parts.database.run_transaction(write)
    except _KeyRaceLost:
        return await _first_answer(api, caller, key)
    await api.parts.reached(Checkpoint.ACCEPT_STORED)
    api.parts.metrics.jobs_accepted.labels(type=job.type.value).inc()
    api.parts.log.info(
        Event.JOB_ACCEPTED,
        job_id=str(job.job_id),
        client=job.client,
        type=job.type.value,
        operations=job.operations,
        destination=job.destination,
    )
    named = bucket_named(job.destination_kind, job.destination, job.results_bucket)
    return _accepted(api, job.job_id, named, job.ignored)


class _KeyRaceLost(Exception):
    """Rolls back the transaction: a concurrent request wrote the same Idempotency-Key."""


async def _first_answer(
    api: ApiState, caller: Client, key: tuple[str, bytes] | None
) -> Response[SubmitAnswer]:
    name, digest = key or ("", b"")
    async with api.parts.database.connection() as connection:
        kept = (await jobs.admission(connection, caller.name, name, 0)).kept
    if kept is None:
        raise StoreUnavailable("the job of this Idempotency-Key has just been removed: send it again")
    return _repeated(api, kept, digest)


def _accepted(api: ApiState, job_id: UUID, bucket: str, ignored: Ignored | None) -> Response[SubmitAnswer]:
    answer = submit_answer(job_id, bucket, api.addresses, ignored)
    return Response(answer, status_code=202, headers={"Location": answer.statusuri})


def _repeated(api: ApiState, kept: StoredIdempotentAnswer, digest: bytes) -> Response[SubmitAnswer]:
    if kept.digest != digest:
        raise HTTPException(
            status_code=409,
            detail="this Idempotency-Key was sent with another request before: take a new key for a new job",
        )
    return _accepted(api, kept.job_id, kept.bucket_named, kept.ignored)


async def admit(api: ApiState, caller: Client, key: str | None) -> StoredIdempotentAnswer | None:
    """The stored answer of the key, if any. Otherwise raises 429 if the caller has too many open jobs."""
    limit = api.parts.limits.max_open_jobs
    async with api.parts.database.connection() as connection:
        admission = await jobs.admission(connection, caller.name, key, limit)
    if admission.kept is None and admission.open_jobs >= limit:
        raise HTTPException(
            status_code=429,
            detail=f"{admission.open_jobs} of your data jobs are open, which is the most that "
            "DATAJOBS_MAX_OPEN_JOBS allows: wait until some end",
            headers={"Retry-After": str(RETRY_AFTER)},
        )
    return admission.kept


async def check_disk(api: ApiState) -> None:
    """Raise 503 if the disk has too little free space for new jobs or cannot be reached."""
    disk, wanted = api.parts.disk, api.parts.limits.min_free_disk
    if disk is None:
        return
    try:
        free = (await asyncio.to_thread(shutil.disk_usage, disk)).free
    except OSError as error:
        problem = f"the service's data dir cannot be reached: {error.strerror}"
    else:
        problem = f"the service's disk has {free} bytes free, new jobs need {wanted}" if free < wanted else ""
    if problem:
        raise HTTPException(status_code=503, detail=problem, headers={"Retry-After": str(RETRY_AFTER)})


def _check_key(key: str | None) -> None:
    if key is not None and not _KEY.fullmatch(key):
        message = "must have 1 to 255 visible ASCII characters"
        raise ValidationException(extra=[{"key": "Idempotency-Key", "message": message}])


async def _digest(query: bytes, body: bytes) -> bytes:
    return bytes(await off_loop(len(body), _sha256, query, body))


def _sha256(query: bytes, body: bytes) -> bytes:
    digest = hashlib.sha256(b"%d:" % len(query) + query)
    digest.update(body)
    return digest.digest()


def _compressed(body: bytes) -> bytes:
    return zstandard.compress(body, ZSTD_LEVEL)


def _unknown_after(job: NewJob, unknown: tuple[UUID, ...]) -> InvalidRequest:
    problems = tuple(
        (f"#/after/{place}", "there is no such data job")
        for place, job_id in enumerate(job.after_jobs)
        if job_id in unknown
    )
    return InvalidRequest(f"{problems[0][0]}: {problems[0][1]}", problems)
