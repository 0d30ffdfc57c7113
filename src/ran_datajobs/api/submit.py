# SPDX-License-Identifier: Apache-2.0
"""Accepts a data job, or a retry of one: checks the request, stores the job in one transaction, then answers.

Order of the checks: caller, limits of the caller and of the service, syntax of the body, destination. A
refused request leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from functools import partial
from typing import Annotated, Final
from uuid import UUID, uuid4

import msgspec
import zstandard
from litestar import Response, post
from litestar.exceptions import ServiceUnavailableException, TooManyRequestsException
from litestar.params import HeaderParameter, QueryParameter

from ran_datajobs.api import paths, schemas
from ran_datajobs.api.dependencies import AnyRequest, Api, ApiDependencies, Caller, Job
from ran_datajobs.api.destination import Destination, resolve
from ran_datajobs.api.jobs import stored_request
from ran_datajobs.api.openapi import documented, success, with_body
from ran_datajobs.api.problems import OFFERED_ONE_DAY, Conflict
from ran_datajobs.api.request_body import off_loop
from ran_datajobs.api.schemas import Plan, SubmitAnswer
from ran_datajobs.api.tokens import Client
from ran_datajobs.checkpoints import Checkpoint, reached
from ran_datajobs.errors import InvalidRequest, StorageUnavailable, StoreUnavailable
from ran_datajobs.inventory.owners import Owners
from ran_datajobs.model import JobType, OperationState, Reason, Validation
from ran_datajobs.planning.keys import PREVIEW
from ran_datajobs.planning.model_validation import ModelsByTag
from ran_datajobs.planning.policy import Verdicts, inquiry
from ran_datajobs.planning.request import JobRequest, check_request, read_accepted
from ran_datajobs.planning.split import split, split_and_ask, split_permitted, tags_of
from ran_datajobs.plugins.policy import PolicyExecutor
from ran_datajobs.plugins.wire import TREE_FLAT
from ran_datajobs.results.parts import load_failures
from ran_datajobs.store import jobs, results
from ran_datajobs.store.jobs import JobRow, NewJob

ZSTD_LEVEL: Final = 1
_MAX_KNOWN_BUCKETS: Final = 1000
_OF_INVENTORY: Final = frozenset({Reason.UNMATCHED, Reason.NO_DATA_PRODUCER, Reason.MODE_NOT_SUPPORTED})
_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


class KeyOfAnother(Conflict):
    """The Idempotency-Key came with another request before."""


@post(
    paths.JOBS,
    status_code=202,
    responses=documented(408, 409, 413, 415, 422, 429)
    | {200: success(Plan, "The plan, for dryRun."), 202: success(SubmitAnswer, "Accepted and durable.")},
    operation_class=with_body(schemas.SUBMIT),
    opt={OFFERED_ONE_DAY: True},
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
    preview: Annotated[
        bool,
        QueryParameter(
            name=PREVIEW, description="Read the objects and tell the effect of each operation; write nothing."
        ),
    ] = False,
    key: Annotated[
        str | None,
        HeaderParameter(
            name="Idempotency-Key", description="A repeat of the request with it makes no second job."
        ),
    ] = None,
) -> Response[SubmitAnswer] | Response[Plan]:
    """Submit a data job. The 202 is a promise: the job is durable before it is sent.

    With `preview=true` it only reads, and its outcomes tell the effect of each operation.
    """
    check_key(key)
    await check_disk(api)
    async with api.bodies.json(request) as body:
        taken: tuple[str, bytes] | None = None
        if key and not dry:
            taken = key, await off_loop(len(body), digest, request.scope["query_string"], body)
        if first := await check_admission(api, caller, taken):
            return accepted(api, first)
        head = await off_loop(len(body), check_request, body, api.settings.max_operations)
        resolved = await resolve(
            destination,
            api.settings,
            bus=api.bus,
            objects=api.objects,
            known_buckets=lambda: _known_buckets(api, caller),
        )
        if preview:
            head = _as_preview(head)
        if dry:
            return Response(await _plan(api, caller, head, body), status_code=200)
        return accepted(api, await accept(api, caller, head, resolved, body, key=taken))


@post(
    paths.RETRY,
    status_code=202,
    responses=documented(404, 409, 429) | {202: success(SubmitAnswer, "Accepted and durable.")},
)
async def retry(
    job: Job,
    api: Api,
    caller: Caller,
    include_unknown: Annotated[
        bool,
        QueryParameter(name="includeUnknown", description="Also the operations that may have been executed."),
    ] = False,
) -> Response[SubmitAnswer]:
    """Submit a new data job of the operations that did not succeed: same ids, order, destination and mode."""
    if job.type is JobType.PREVIEW:
        raise Conflict("a preview executes nothing: there is nothing to retry, submit it again")
    if not job.status.terminal:
        raise Conflict("the data job is still under way: cancel it or wait")
    await check_disk(api)
    await check_admission(api, caller, None)
    async with api.database.connection() as connection:
        written = await results.listing(connection, job.job_id)
    states, lost = await load_failures(api.objects, job.results_bucket, written)
    if lost:
        raise StorageUnavailable(f"result objects in bucket {job.results_bucket} are gone or spoilt")
    kept_out = set() if include_unknown else {OperationState.UNKNOWN}
    wanted = {operation for operation, state in states.items() if state not in kept_out}
    hint = ": operations of unknown outcome are repeated with ?includeUnknown=true only"
    nothing = Conflict(f"there is nothing to retry{'' if include_unknown else hint}")
    if not wanted:
        raise nothing
    async with stored_request(api, job.job_id, _left_over, wanted) as left:
        if left is None:
            raise nothing
        destination = Destination(job.destination, job.destination_kind, job.plugin_destination)
        head = msgspec.structs.replace(left[0], ignored=job.ignored)  # as in the first answer
        return accepted(api, await accept(api, caller, head, destination, left[1], retry_of=job.job_id))


def _as_preview(head: JobRequest) -> JobRequest:
    """The request as a preview. Raises InvalidRequest for one of reads.

    The format in which plugins answer its reads is not the client's: its results have no objects.
    """
    if head.type is JobType.READ:
        raise InvalidRequest.at(PREVIEW, "is for operations that change objects; these are reads")
    return msgspec.structs.replace(head, type=JobType.PREVIEW, accept_type=TREE_FLAT)


def _left_over(stored: bytes, wanted: set[str]) -> tuple[JobRequest, bytes]:
    """The request with only the ``wanted`` operations, and its body; their order and ids are kept.

    Raises Conflict if several operations have the id of one: it does not say which of them succeeded.
    """
    envelope, operations = read_accepted(stored)
    left = [operation for operation in operations if str(operation.operation_id) in wanted]
    if len({str(operation.operation_id) for operation in left}) < len(left):
        raise Conflict("several operations have the same operationId: submit those to repeat as a new job")
    body = msgspec.json.encode(
        {
            "dataAcceptType": envelope.accept_type,
            "dataContentType": envelope.content_type,
            "activationMode": envelope.activation_mode,
            "validation": envelope.validation,
            "priority": envelope.priority,
            "name": envelope.name,
            "data": left,
        }
    )
    return check_request(body, max_operations=len(left), as_ncmp=True), body


async def _plan(api: ApiDependencies, caller: Client, read: JobRequest, body: bytes) -> Plan:
    """The plan of the request, with the operations that validation and the policy executor allow now."""
    owners = await api.owners.catch_up()
    models = await _models(api, read, body, owners)
    if api.policy is None:
        found = await asyncio.to_thread(split, body, owners, models)
    else:
        verdicts = await _verdicts(api, api.policy, caller, body, owners, models)
        whole_job = api.settings.policy_scope == "job"
        found = await asyncio.to_thread(split_permitted, body, owners, verdicts, models, whole_job=whole_job)
    # A read can have several refused parts and counts as one operation.
    refused = {each.position: each for each in found.refused}.values()
    return Plan(
        sub_jobs=[
            schemas.PlannedSubJob(sub_job.plugin_url, sub_job.data_producer_id, sub_job.operations)
            for sub_job in found.sub_jobs
        ],
        operations=schemas.PlannedOperations(read.count, found.unmatched),
        unmatched=[
            schemas.UnmatchedOperation(
                each.operation.operation_id,
                each.operation.path,
                each.reason,
                each.operation.data_node_selector,
                msgspec.UNSET if each.reason in _OF_INVENTORY else each.detail,
            )
            for each in refused
        ],
        ignored=read.ignored.keys if read.ignored else msgspec.UNSET,
        ignored_count=read.ignored.count if read.ignored else msgspec.UNSET,
        warnings=found.warnings.items if found.warnings else msgspec.UNSET,
        warning_count=found.warnings.count if found.warnings else msgspec.UNSET,
    )


async def _models(api: ApiDependencies, read: JobRequest, body: bytes, owners: Owners) -> ModelsByTag | None:
    """The class models of a request that is validated."""
    if read.validation is Validation.OFF:
        return None
    return await api.models.of_tags(await asyncio.to_thread(tags_of, body, owners))


async def _verdicts(
    api: ApiDependencies,
    policy: PolicyExecutor,
    caller: Client,
    body: bytes,
    owners: Owners,
    models: ModelsByTag | None,
) -> Verdicts:
    """Ask the policy executor, as the settings say with the header of the caller."""
    _, batches = await asyncio.to_thread(split_and_ask, body, owners, models)
    allow = api.settings.policy_unreachable == "allow"
    return await policy.answer(
        inquiry(batches, allow_unreachable=allow),
        as_caller=api.settings.asks_policy_as_caller,
        authorization=caller.authorization,
    )


async def _known_buckets(api: ApiDependencies, caller: Client) -> list[str]:
    """The service's own bucket, and the buckets that earlier jobs of this client named."""
    async with api.database.connection() as connection:
        named = await jobs.buckets_named_by(connection, caller.name, _MAX_KNOWN_BUCKETS)
    return [api.settings.results_bucket, *named]


async def accept(
    api: ApiDependencies,
    caller: Client,
    read: JobRequest,
    destination: Destination,
    body: bytes,
    *,
    retry_of: UUID | None = None,
    key: tuple[str, bytes] | None = None,
) -> NewJob | JobRow:
    """Store a job from a checked request and its bytes, due for planning, in one transaction.

    If the policy executor is asked with the caller's header, it is asked before: the header is not stored.

    ``key``: an Idempotency-Key, and the digest of the request. Returns the job, which is durable; the one of
    the ``key`` if a concurrent request was first.
    """
    verdicts: bytes | None = None
    if api.policy is not None and api.settings.asks_policy_as_caller and read.type is not JobType.READ:
        owners = await api.owners.catch_up()
        models = await _models(api, read, body, owners)
        asked = await _verdicts(api, api.policy, caller, body, owners, models)
        verdicts = await off_loop(len(body), asked.encoded)
    job = NewJob(
        job_id=uuid4(),
        client=caller.name,
        destination=destination.name,
        destination_kind=destination.kind,
        results_bucket=api.settings.results_bucket,
        retry_of=retry_of,
        request=await off_loop(len(body), zstandard.compress, body, ZSTD_LEVEL),
        plugin_destination=destination.of_plugins,
        verdicts=verdicts,
        **msgspec.structs.asdict(read),
    )
    await reached(Checkpoint.ACCEPT_CHECKED)
    try:
        await api.database.run_transaction(partial(jobs.insert, job=job, sees=caller.sees, key=key))
    except jobs.UnknownAfter as error:
        raise _unknown_after(job, *error.args) from None
    except jobs.KeyTaken:  # by a concurrent request
        if first := await check_admission(api, caller, key):
            return first
        lost = "the job of this Idempotency-Key has just been removed: send it again"
        raise StoreUnavailable(lost) from None
    await reached(Checkpoint.ACCEPT_STORED)
    api.metrics.jobs_accepted.labels(type=job.type.value).inc()
    api.log.info(
        "job.accepted",
        job_id=str(job.job_id),
        client=job.client,
        type=job.type.value,
        operations=job.count,
        destination=job.destination,
    )
    return job


def accepted(api: ApiDependencies, job: NewJob | JobRow) -> Response[SubmitAnswer]:
    """The answer to a submit; a repetition returns the same bytes."""
    ignored = job.ignored
    answer = SubmitAnswer(
        job.job_id,
        "NOT_STARTED",
        api.view.job_uri(job.job_id),
        api.view.results_uri(job.bucket_named, job.job_id),
        ignored.keys if ignored else msgspec.UNSET,
        ignored.count if ignored else msgspec.UNSET,
    )
    return Response(answer, status_code=202, headers={"Location": answer.statusuri})


async def check_admission(
    api: ApiDependencies, caller: Client, key: tuple[str, bytes] | None
) -> JobRow | None:
    """The job of the Idempotency-Key, if any; raises KeyOfAnother if its request had another digest.

    Without such a job, raises 429 if the caller has too many open jobs.
    """
    limit = api.settings.max_open_jobs
    async with api.database.connection() as connection:
        open_jobs, digest, first = await jobs.admission(
            connection, caller.name, key[0] if key else None, limit
        )
    if key and first:
        if digest != key[1]:
            raise KeyOfAnother(
                "this Idempotency-Key was sent with another request before: take a new key for a new job"
            )
        return first
    if open_jobs >= limit:
        raise TooManyRequestsException(
            f"{open_jobs} of your data jobs are open, which is the most that "
            "DATAJOBS_MAX_OPEN_JOBS allows: wait until some end"
        )
    return None


async def check_disk(api: ApiDependencies) -> None:
    """Raise 503 if the disk has too little free space for new jobs or cannot be reached."""
    try:
        free = (await asyncio.to_thread(shutil.disk_usage, api.settings.data_dir)).free
    except OSError as error:
        problem = f"the service's data dir cannot be reached: {error.strerror}"
        raise ServiceUnavailableException(problem) from error
    if free < api.settings.min_free_disk:
        needed = f"new jobs need {api.settings.min_free_disk}"
        raise ServiceUnavailableException(f"the service's disk has {free} bytes free, {needed}")


def check_watchers(api: ApiDependencies) -> None:
    """Raise 429 if too many clients wait for changes of jobs."""
    if api.changes.watchers >= api.max_event_streams:
        raise TooManyRequestsException(
            f"{api.changes.watchers} clients wait for the end of a job or for its events, the most"
        )


def check_key(key: str | None) -> None:
    """Raise InvalidRequest for an Idempotency-Key that is none."""
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest.at("Idempotency-Key", "must have 1 to 255 visible ASCII characters")


def digest(query: bytes, body: bytes) -> bytes:
    """The digest by which a repeat of a request under its Idempotency-Key is recognised."""
    found = hashlib.sha256(b"%d:" % len(query) + query)
    found.update(body)
    return found.digest()


def _unknown_after(job: NewJob, unknown: set[UUID]) -> InvalidRequest:
    problems = tuple(
        (f"#/after/{place}", "there is no such data job")
        for place, job_id in enumerate(job.after_jobs)
        if job_id in unknown
    )
    return InvalidRequest(": ".join(problems[0]), problems)
