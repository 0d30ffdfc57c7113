# SPDX-License-Identifier: Apache-2.0
"""Routes for DMI plugins: ONAP's registration, the status push; and the topics of the embedded bus, of which
plugins publish to the internal one. With Kafka, clients read from Kafka.

A caller with the role ``plugin`` has access to the sub-jobs of its own plugin only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.exceptions import NotFoundException, PermissionDeniedException
from litestar.params import FromPath, QueryParameter
from msgspec import Meta, Raw, Struct

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import AnyRequest, Api, ApiDependencies, Caller
from ran_datajobs.api.jobs import Limit
from ran_datajobs.api.openapi import documented, success, with_body
from ran_datajobs.api.problems import Conflict
from ran_datajobs.api.request_body import too_large
from ran_datajobs.api.schemas import TopicMessage, TopicMessages
from ran_datajobs.api.tokens import Client, Role
from ran_datajobs.http.json_body import decoded, got, shortened
from ran_datajobs.inventory import registry
from ran_datajobs.inventory.registration import Registration, RegistrationOutcome
from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.events import DATA_PRODUCER_JOB_ID, SUB_JOB_ID
from ran_datajobs.messaging.topics import INTERNAL_TOPIC, STATUS_TOPIC, topic_problem
from ran_datajobs.model import MAX_MESSAGE_BYTES
from ran_datajobs.results.job_view import WireStatus
from ran_datajobs.store import jobs, sub_jobs

_MAX_PUSH: Final = 64 * 1024
_MAX_PUBLISH: Final = 64 * 1024 * 1024
_MAX_MESSAGES: Final = 10_000
_ACTIVE: Final = frozenset({"TRACKING", "COLLECTING"})

_Word = Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00]*$")]
_HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_HeaderValue = Annotated[str, Meta(max_length=2048, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")]


class StatusPush(Struct, frozen=True, rename="camel"):
    """The body of a status push."""

    data_producer_job_id: _Word
    status: WireStatus


class _NewMessage(Struct, frozen=True):
    headers: Annotated[dict[_HeaderName, _HeaderValue], Meta(max_length=64)]
    value: Raw
    key: _Word | None = None


class Publish(Struct, frozen=True):
    """Messages for the internal topic."""

    messages: Annotated[list[_NewMessage], Meta(max_length=_MAX_MESSAGES)]


_push_decoder: Final = msgspec.json.Decoder(StatusPush)
_publish_decoder: Final = msgspec.json.Decoder(Publish)


@post(
    paths.INVENTORY,
    status_code=200,
    responses=documented(408, 413, 415, 422, 429, ncmp=True)
    | {
        200: success(None, "All were taken."),
        207: success(RegistrationOutcome, "These were not taken, the others were."),
    },
    operation_class=with_body(Registration),
)
async def register(request: AnyRequest, api: Api) -> Response[RegistrationOutcome] | Response[bytes]:
    """Register a DMI plugin and create, update and remove CM handles."""
    async with api.bodies.json(request) as body:
        outcome = await registry.register(api.database, api.settings, body)
    if not outcome.failed:
        return Response(b"", status_code=200)
    return Response(outcome, status_code=500 if api.settings.registration_error_500 else 207)


@post(
    paths.STATUS_PUSH,
    status_code=204,
    responses=documented(404, 408, 409, 413, 415, 429, ncmp=True),
    operation_class=with_body(StatusPush),
)
async def push_status(sub_job_id: FromPath[UUID], request: AnyRequest, api: Api, caller: Caller) -> None:
    """Report a change of a sub-job's status: the service polls it at once and ignores the pushed status."""
    async with api.bodies.json(request, limit=_MAX_PUSH) as body:
        push = decoded(body, _push_decoder)
    job_id = push.data_producer_job_id
    async with api.database.transaction() as connection:
        found = (await jobs.pushed_sub_jobs(connection, [sub_job_id])).get(sub_job_id)
        if found is None or (caller.role is Role.PLUGIN and caller.dmi_url != found.url):
            raise NotFoundException(f"there is no sub-job {sub_job_id} of yours")
        if found.stage not in _ACTIVE or found.data_producer_job_id != job_id:
            raise Conflict(f"the sub-job is not active under the dataProducerJobId {got(job_id)}")
        await sub_jobs.poll_now(connection, sub_job_id, job_id)


@get(paths.TOPIC_MESSAGES, responses=documented(404))
async def read_topic(
    topic: FromPath[str],
    api: Api,
    caller: Caller,
    first: Annotated[
        int, QueryParameter(name="from", ge=0, le=2**62, description="The first offset wanted.")
    ] = 0,
    limit: Limit = paths.DEFAULT_LIMIT,
) -> TopicMessages:
    """Messages of a destination topic of a known job, in order; only those of the caller's jobs.

    The role admin also reads the events of CM handles.
    """
    if api.embedded_bus is None:
        raise NotFoundException("topics are read at the bus itself: this service has no embedded one")
    if (problem := topic_problem(topic)) is not None:
        raise NotFoundException(f"there is no topic {shortened(topic)!r}: {problem}")
    has_events = topic == api.settings.inventory_events_topic and caller.sees is None
    if topic != STATUS_TOPIC and not has_events:
        async with api.database.connection() as connection:
            if not await jobs.has_topic(connection, topic, caller.sees):
                raise NotFoundException(
                    f"no data job that you can see goes to the topic {shortened(topic)!r}"
                )
    found = await api.embedded_bus.read(topic, first, limit, client=caller.sees)
    messages = [(received.offset, received.message) for received in found]
    return TopicMessages(
        [TopicMessage(offset, each.headers, each.key or None, Raw(each.value)) for offset, each in messages]
    )


@post(
    paths.TOPIC_MESSAGES,
    status_code=204,
    responses=documented(404, 408, 413, 415, 429),
    operation_class=with_body(Publish),
)
async def publish(topic: FromPath[str], request: AnyRequest, api: Api, caller: Caller) -> None:
    """Publish results of reads to the internal topic, all messages or none."""
    if topic != INTERNAL_TOPIC or api.embedded_bus is None:
        raise NotFoundException(
            f"messages can be published here to {INTERNAL_TOPIC} alone, and only where its bus is embedded: "
            "publish to others at the broker itself"
        )
    async with api.bodies.json(request, limit=_MAX_PUBLISH) as body:
        messages = [
            _message(place, new) for place, new in enumerate(decoded(body, _publish_decoder).messages)
        ]
        if caller.role is Role.PLUGIN:
            await _check_own(api, caller, messages)
        await api.embedded_bus.publish(topic, messages)


def _message(place: int, new: _NewMessage) -> Message:
    value = bytes(new.value)
    if len(value) > MAX_MESSAGE_BYTES:
        raise too_large(f"message {place} has {len(value)} bytes, a value has at most {MAX_MESSAGE_BYTES}")
    headers = {name.lower(): text for name, text in new.headers.items()}
    return Message(key=new.key or "", headers=headers, value=value)


async def _check_own(api: ApiDependencies, caller: Client, messages: Sequence[Message]) -> None:
    """Raise a 403 unless each message belongs to a sub-job of the caller's plugin, by its headers."""
    ids = [_id_of_sub_job(message) for message in messages]
    async with api.database.connection() as connection:
        pushed = await jobs.pushed_sub_jobs(connection, [each for each in ids if isinstance(each, UUID)])
        urls = await jobs.plugins_of_producer_jobs(
            connection, [each for each in ids if isinstance(each, str)]
        )
    plugins = {key: {found.url} for key, found in pushed.items()} | urls
    for place, each in enumerate(ids):
        if each is None or plugins.get(each) != {caller.dmi_url}:
            raise PermissionDeniedException(
                f"message {place} belongs to no sub-job of this plugin: "
                f"it needs {SUB_JOB_ID}, or {DATA_PRODUCER_JOB_ID} of an active one"
            )


def _id_of_sub_job(message: Message) -> UUID | str | None:
    """The id by which the consumer of the topic finds the sub-job: ``ce_subjobid``, or the producer's job."""
    text = message.headers.get(SUB_JOB_ID)
    if text is None:
        return message.headers.get(DATA_PRODUCER_JOB_ID)
    try:
        return UUID(text)
    except ValueError:
        return None
