# SPDX-License-Identifier: Apache-2.0
"""Routes for DMI plugins: the status push, and publishing to the internal topic of the embedded bus.

A caller with the role ``plugin`` has access to the sub-jobs of its own plugin only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import post
from litestar.exceptions import HTTPException, NotFoundException, PermissionDeniedException
from litestar.params import FromPath
from msgspec import Meta, Raw, Struct

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import AnyRequest, Api, ApiState, Caller
from ran_datajobs.api.openapi import PublishOperation, StatusPushOperation
from ran_datajobs.api.problems import documented
from ran_datajobs.api.request_body import too_large
from ran_datajobs.api.tokens import Client, Role
from ran_datajobs.errors import InvalidRequest
from ran_datajobs.http.json_body import decoded, got
from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.events import DATA_PRODUCER_JOB_ID, SUB_JOB_ID
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import MAX_MESSAGE_BYTES, Status, read_status
from ran_datajobs.store import jobs, sub_jobs
from ran_datajobs.store.jobs import PushedSubJob

_MAX_PUSH: Final = 64 * 1024
_MAX_PUBLISH: Final = 64 * 1024 * 1024
_MAX_MESSAGES: Final = 10_000
_ACTIVE: Final = frozenset({"TRACKING", "COLLECTING"})

_Word = Annotated[str, Meta(max_length=1024)]
_HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_HeaderValue = Annotated[str, Meta(max_length=2048, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")]


class _Push(Struct, frozen=True, rename="camel"):
    data_producer_job_id: _Word
    status: _Word


class _NewMessage(Struct, frozen=True):
    headers: Annotated[dict[_HeaderName, _HeaderValue], Meta(max_length=64)]
    value: Raw
    key: Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00]*$")] | None = None


class _Publish(Struct, frozen=True):
    messages: Annotated[list[_NewMessage], Meta(max_length=_MAX_MESSAGES)]


_push_decoder: Final = msgspec.json.Decoder(_Push)
_NO_TOPIC: Final = (
    f"messages can be published here to {INTERNAL_TOPIC} alone, and only where its bus is embedded: "
    "publish to others at the broker itself"
)
_publish_decoder: Final = msgspec.json.Decoder(_Publish)


@post(
    paths.STATUS_PUSH,
    status_code=204,
    responses=documented(400, 401, 403, 404, 406, 408, 409, 413, 415, 429, 503),
    operation_class=StatusPushOperation,
    tags=["plugins"],
)
async def push_status(sub_job_id: FromPath[UUID], request: AnyRequest, api: Api, caller: Caller) -> None:
    """Report a change of a sub-job's status: the service polls it at once and ignores the pushed status."""
    async with api.bodies.json(request, limit=_MAX_PUSH) as body:
        push = decoded(body, _push_decoder)
    if read_status(push.status) is None:
        raise _invalid(
            "#/status", f"must be one of {', '.join([*Status, 'FINSHED'])}; it is {got(push.status)}"
        )
    if "\0" in push.data_producer_job_id:
        raise _invalid("#/dataProducerJobId", "must not have the character U+0000")
    async with api.parts.database.transaction() as connection:
        found = await jobs.pushed_sub_job(connection, sub_job_id)
        if found is None or not _is_of(caller, found.url):
            raise NotFoundException(detail=f"there is no sub-job {sub_job_id} of yours")
        _check_active(found, push.data_producer_job_id)
        await sub_jobs.poll_now(connection, sub_job_id, push.data_producer_job_id)


@post(
    paths.TOPIC_MESSAGES,
    status_code=204,
    responses=documented(400, 401, 403, 404, 406, 408, 413, 415, 429, 503),
    operation_class=PublishOperation,
    tags=["plugins"],
)
async def publish(
    topic: FromPath[str],
    request: AnyRequest,
    api: Api,
    caller: Caller,
) -> None:
    """Publish results of reads to the internal topic, all messages or none."""
    if topic != INTERNAL_TOPIC or api.parts.embedded_bus is None:
        raise NotFoundException(detail=_NO_TOPIC)
    async with api.bodies.json(request, limit=_MAX_PUBLISH) as body:
        messages = [
            _message(place, new) for place, new in enumerate(decoded(body, _publish_decoder).messages)
        ]
        if caller.role is Role.PLUGIN:
            await _check_own(api, caller, messages)
        await api.parts.embedded_bus.publish(topic, messages)


def _message(place: int, new: _NewMessage) -> Message:
    value = bytes(new.value)
    if len(value) > MAX_MESSAGE_BYTES:
        raise too_large(f"message {place} has {len(value)} bytes, a value has at most {MAX_MESSAGE_BYTES}")
    headers = {name.lower(): text for name, text in new.headers.items()}
    return Message(key=new.key or "", headers=headers, value=value)


async def _check_own(api: ApiState, caller: Client, messages: Sequence[Message]) -> None:
    """Raise a 403 unless each message belongs to a sub-job of the caller's plugin, by the ids in its headers.

    The ids are checked in the order that the consumer of the topic uses: ``ce_subjobid`` first.
    """
    sub_jobs = {place: _uuid(message.headers[SUB_JOB_ID]) for place, message in _with(SUB_JOB_ID, messages)}
    others = {
        place: message.headers[DATA_PRODUCER_JOB_ID]
        for place, message in _with(DATA_PRODUCER_JOB_ID, messages)
        if place not in sub_jobs
    }
    async with api.parts.database.connection() as connection:
        by_sub_job = await jobs.plugins_of_sub_jobs(
            connection, sorted({known for known in sub_jobs.values() if known is not None})
        )
        by_producer_job = await jobs.plugins_of_producer_jobs(connection, sorted(set(others.values())))
    for place in range(len(messages)):
        urls: set[str] = set()
        known = sub_jobs.get(place)
        if known is not None and known in by_sub_job:
            urls = {by_sub_job[known]}
        elif place in others:
            urls = by_producer_job.get(others[place], set())
        if not urls or not all(_is_of(caller, url) for url in urls):
            raise PermissionDeniedException(
                detail=f"message {place} belongs to no sub-job of this plugin: "
                f"it needs {SUB_JOB_ID}, or {DATA_PRODUCER_JOB_ID} of an active one"
            )


def _with(header: str, messages: Sequence[Message]) -> list[tuple[int, Message]]:
    return [(place, message) for place, message in enumerate(messages) if header in message.headers]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _is_of(caller: Client, url: str) -> bool:
    return caller.role is Role.ADMIN or caller.dmi_url == url


def _check_active(found: PushedSubJob, data_producer_job_id: str) -> None:
    if found.stage not in _ACTIVE or found.data_producer_job_id != data_producer_job_id:
        raise HTTPException(
            status_code=409,
            detail=f"the sub-job is not active under the dataProducerJobId {got(data_producer_job_id)}",
        )


def _invalid(pointer: str, detail: str) -> InvalidRequest:
    return InvalidRequest(f"{pointer}: {detail}", ((pointer, detail),))
