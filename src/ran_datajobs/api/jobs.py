# SPDX-License-Identifier: Apache-2.0
"""Routes that read data jobs, cancel them, deliver their results again, and stream their events.

A cursor of a list is opaque to clients and validated on return: a position that grants no access.

The id of a server-sent event is the version of the job up to which all events of sub-jobs have been sent: for
a sub-job's event the version before its own, because others of the same version can follow. Each stream
begins with the job's progress and status. A client that resumes with ``Last-Event-ID`` therefore misses no
event, and can receive a few again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Annotated, Any, Final, Literal, TypeVar
from uuid import UUID

import msgspec
import zstandard
from litestar import get, post
from litestar.exceptions import NotFoundException, TooManyRequestsException
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.response import Stream
from msgspec import Struct

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import AnyRequest, Api, ApiDependencies, Caller, Job, begun
from ran_datajobs.api.openapi import documented, success
from ran_datajobs.api.problems import Conflict
from ran_datajobs.api.request_body import off_loop
from ran_datajobs.api.schemas import JobPage, SubJobPage
from ran_datajobs.api.tokens import Client
from ran_datajobs.errors import InvalidRequest, StoreUnavailable
from ran_datajobs.http.json_body import shortened
from ran_datajobs.model import DeliveryState, JobType, OperationCounts, Status, read_status
from ran_datajobs.results import delivery
from ran_datajobs.results.job_view import JobAnswer, SubJobAnswer, WireStatus
from ran_datajobs.store import jobs
from ran_datajobs.store.database import Connection
from ran_datajobs.store.jobs import JobRow

Limit = Annotated[
    int, QueryParameter(name="limit", ge=1, le=paths.MAX_LIMIT, description="How many items at most.")
]
Cursor = Annotated[
    str | None, QueryParameter(name="cursor", max_length=64, description="`next` of the page before.")
]
_JOB, _SUB_JOB = "j", "s"
_SOME_DIGITS: Final = re.compile(r"[0-9a-f]{1,32}")
_CURSOR: Final = re.compile(r"([a-z])(0|[1-9][0-9]{0,17})")
EVENT_STREAM: Final = "text/event-stream"
_MIN_INTERVAL: Final = 0.2
_SUB_JOBS_AT_ONCE: Final = 500
_VERSION: Final = re.compile(r"[0-9]{1,18}")
_Read = TypeVar("_Read")


def cursor(kind: str, place: int) -> str:
    """The cursor for position ``place`` (from 0) in a list of ``kind``, one lower-case letter."""
    return f"{kind}{place}"


def place_of(kind: str, text: str | None) -> int | None:
    """The position in a cursor, ``None`` for no cursor. Raises InvalidRequest."""
    if text is None:
        return None
    if (found := _CURSOR.fullmatch(text)) and found[1] == kind:
        return int(found[2])
    raise not_a_cursor(text)


def not_a_cursor(text: str) -> InvalidRequest:
    """The error of a ``text`` that is no cursor of the list."""
    return InvalidRequest.at("cursor", f"{text[:64]!r} is not a cursor of this list: take it from 'next'")


async def visible_job(job_id: FromPath[UUID], api: Api, caller: Caller) -> JobRow:
    """The job of a path. Raises a 404 if it does not exist or the caller may not see it."""
    async with api.database.connection() as connection:
        return existing(await jobs.find(connection, job_id, caller.sees))


def existing(row: JobRow | None) -> JobRow:
    """``row``. Raises a 404 if it is ``None``."""
    if row is None:
        raise NotFoundException("there is no data job of this id that you can see")
    return row


@contextlib.asynccontextmanager
async def stored_request(
    api: ApiDependencies, job_id: UUID, read: Callable[..., _Read], *args: Any
) -> AsyncIterator[_Read | None]:
    """``read(body, *args)`` of the stored request of a job; ``None`` if it was removed.

    The body counts as in flight until the block ends.
    """
    async with api.database.connection() as connection:
        size = await jobs.request_size(connection, job_id)
    with api.bodies.held(size):
        async with api.database.connection() as connection:
            stored = await jobs.request_of(connection, job_id)
        yield await off_loop(size, lambda: read(zstandard.decompress(stored), *args)) if stored else None


async def awaited(
    api: ApiDependencies,
    request: AnyRequest,
    job_id: UUID,
    seconds: float,
    look: Callable[[Connection], Awaitable[_Read | None]],
) -> _Read | None:
    """The first result of ``look`` that counts as true; it is called at once, and after each change of the
    job.

    ``None`` after ``seconds``, when the client of ``request`` has gone, and when the service stops. ``look``
    is not called while the database is unavailable.
    """
    deadline = time.monotonic() + seconds
    gone = asyncio.create_task(_disconnected(request))
    try:
        with api.changes.watch(job_id) as changed:
            while True:
                changed.clear()
                with contextlib.suppress(StoreUnavailable):  # its return wakes all watchers
                    async with api.database.connection() as connection:
                        if found := await look(connection):
                            return found
                left = deadline - time.monotonic()
                if left <= 0 or gone.done() or api.stopping.is_set():
                    return None
                news = asyncio.create_task(changed.wait())
                try:
                    await asyncio.wait({news, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
    finally:
        gone.cancel()


async def _disconnected(request: AnyRequest) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@get(paths.JOB, responses=documented(404))
async def get_job(job: Job, api: Api, caller: Caller) -> JobAnswer:
    """The current state of a data job."""
    return await _answer(api, caller, job)


@get(paths.JOBS, responses=documented())
async def list_jobs(
    api: Api,
    caller: Caller,
    status: Annotated[WireStatus | None, QueryParameter(description="Only these.")] = None,
    type: Annotated[JobType | None, QueryParameter(description="Only jobs of this type.")] = None,
    id_prefix: Annotated[
        str | None,
        QueryParameter(
            name="idPrefix", description="Only jobs whose id begins so, e.g. `3f0c1a2b`.", max_length=36
        ),
    ] = None,
    limit: Limit = paths.DEFAULT_LIMIT,
    after: Cursor = None,
) -> JobPage:
    """Data jobs, newest first."""
    wanted = read_status(status)
    ids = _id_range(id_prefix)
    before = place_of(_JOB, after)
    async with api.database.connection() as connection:
        found = await jobs.newest(
            connection, caller.sees, status=wanted, type=type, before=before, limit=limit + 1, ids=ids
        )
        page = found[:limit]
        items = await api.view.jobs(connection, page, caller.sees)
    return JobPage(items, cursor(_JOB, page[-1].seq) if len(found) > limit else None)


@get(paths.SUB_JOBS, responses=documented(404))
async def list_sub_jobs(
    job: Job, api: Api, caller: Caller, limit: Limit = paths.DEFAULT_LIMIT, after: Cursor = None
) -> SubJobPage:
    """The sub-jobs of a data job in their order."""
    place = place_of(_SUB_JOB, after)
    async with api.database.connection() as connection:
        behind = -1 if place is None else min(place, jobs.LAST_POSITION)
        found = await jobs.sub_jobs(connection, job.job_id, after=behind, limit=limit + 1)
        page = found[:limit]
        items = await api.view.sub_jobs(connection, page, caller.sees)
    return SubJobPage(items, cursor(_SUB_JOB, page[-1].position) if len(found) > limit else None)


@post(paths.CANCEL, status_code=202, responses=documented(404, 409))
async def cancel_job(job_id: FromPath[UUID], api: Api, caller: Caller) -> JobAnswer:
    """Cancel a data job: unstarted sub-jobs never start, and plugins are asked to cancel the others."""

    async def ask(connection: Connection) -> tuple[JobRow, bool]:
        row = existing(await jobs.lock(connection, job_id, caller.sees))
        if row.status.terminal:
            raise Conflict(f"the data job is over: its status is {api.view.status(row.status)}")
        if row.status is Status.CANCELLING:
            return row, False
        row = await jobs.cancel(connection, job_id)
        await delivery.JobEventWriter(api.view).jobs_changed(connection, [job_id])
        return row, True

    row, is_new = await api.database.run_transaction(ask)
    if is_new:
        api.log.info("job.cancel_requested", job_id=str(job_id), client=caller.name)
    return await _answer(api, caller, row)


@post(paths.REDELIVER, status_code=202, responses=documented(404, 409))
async def redeliver(job_id: FromPath[UUID], api: Api, caller: Caller) -> JobAnswer:
    """Deliver the results of a finished data job to its destination again.

    All messages are published to a topic again; a bucket gets the objects that are missing there or differ.
    """
    async with api.database.transaction() as connection:
        row = existing(await jobs.lock(connection, job_id, caller.sees))
        if row.delivery_state is DeliveryState.PENDING or not row.status.terminal:
            raise Conflict(
                "the delivery of this data job is still under way: it can be repeated once "
                "deliveryState is DELIVERED or FAILED"
            )
        was_queued = await delivery.redeliver(connection, job_id)  # not while the job is being removed
        row = existing(await jobs.find(connection, job_id, caller.sees) if was_queued else None)
    return await _answer(api, caller, row)


async def _answer(api: ApiDependencies, caller: Client, row: JobRow) -> JobAnswer:
    async with api.database.connection() as connection:
        (answer,) = await api.view.jobs(connection, [row], caller.sees)
    return answer


def _id_range(text: str | None) -> tuple[UUID, UUID] | None:
    """The lowest and the highest id that begin with ``text``."""
    if text is None:
        return None
    start = text.lower()
    digits = start.replace("-", "")
    if _SOME_DIGITS.fullmatch(digits):
        first = UUID(digits.ljust(32, "0"))
        if start in (str(first)[: len(start)], first.hex[: len(start)]):
            return first, UUID(digits.ljust(32, "f"))
    detail = f"{shortened(text)!r} begins no job id: an id has the digits 0-9 and a-f, as in 3f0c1a2b-5d6e"
    raise InvalidRequest.at("idPrefix", detail)


class SentEvent(Struct, frozen=True, omit_defaults=True):
    """One event of the stream, as OpenAPI describes it. ``data`` is JSON and carries ``status``."""

    event: Literal["status", "progress", "subjob"] = "status"
    id: str = ""
    data: str = ""
    retry: int = 0


@get(
    paths.EVENTS,
    media_type=EVENT_STREAM,
    opt={"produces": (EVENT_STREAM,)},
    responses=documented(404, 429) | {200: success(SentEvent, "The events.", EVENT_STREAM)},
)
async def job_events(
    job: Job,
    api: Api,
    caller: Caller,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(
            name="Last-Event-ID", max_length=64, description="Goes on behind the event with this id."
        ),
    ] = None,
) -> Stream:
    """Stream the changes of a data job; the last event is the `status` event of its terminal status."""
    known = _VERSION.fullmatch((last_event_id or "").strip())
    return Stream(
        await begun(_events(api, job.job_id, caller.sees, int(known[0]) if known else 0)),
        media_type=EVENT_STREAM,
        headers={"X-Accel-Buffering": "no"},
    )


class Progress(Struct, frozen=True, rename="camel"):
    """Data of a ``progress`` event."""

    status: WireStatus
    progress_percentage: int
    operations: OperationCounts


async def _events(api: ApiDependencies, job_id: UUID, sees: str | None, since: int) -> AsyncIterator[bytes]:
    if api.changes.watchers >= api.max_event_streams:
        raise TooManyRequestsException(
            f"{api.changes.watchers} event streams are open, the most: try later, or poll the job"
        )
    place, shown = (since, jobs.LAST_POSITION), None
    with api.changes.watch(job_id) as changed:
        yield b"retry: 2000\n\n"
        while not api.stopping.is_set():
            changed.clear()
            async with api.database.connection() as connection:
                row = await jobs.find(connection, job_id, None)
                if row is None:
                    return
                sub_jobs = await jobs.changed_sub_jobs(
                    connection, job_id, behind=place, until=row.version, limit=_SUB_JOBS_AT_ONCE
                )
                answers = await api.view.sub_jobs(connection, sub_jobs, sees)
                more_follow = len(sub_jobs) == _SUB_JOBS_AT_ONCE
                job = None if more_follow else api.view.job(row, {})
                if job is not None and (shown is None or row.status is not shown.status):
                    (job,) = await api.view.jobs(connection, [row], sees)
            versions = [sub_job.version for sub_job in sub_jobs]
            for piece in encode(row, job, zip(versions, answers, strict=True), shown):
                yield piece
            if more_follow:
                place = (sub_jobs[-1].version, sub_jobs[-1].position)
                continue
            place, shown = (row.version, jobs.LAST_POSITION), row
            if row.status.terminal:
                return
            try:
                async with asyncio.timeout(api.event_keep_alive):
                    await changed.wait()
                await asyncio.sleep(_MIN_INTERVAL)
            except TimeoutError:
                yield b": still here\n\n"


def encode(
    row: JobRow, job: JobAnswer | None, sub_jobs: Iterable[tuple[int, SubJobAnswer]], shown: JobRow | None
) -> list[bytes]:
    """The events between ``shown``, if any, and ``row``.

    ``sub_jobs``: (version, sub-job) pairs in order. ``job`` is ``None`` while more sub-jobs follow: the job's
    own events come after all sub-jobs, and the status event is the last one.
    """
    events: list[tuple[str, int, Any]] = [("subjob", version - 1, sub_job) for version, sub_job in sub_jobs]
    if job is not None and (shown is None or row.counts != shown.counts):
        progress = Progress(job.status, job.progress_percentage, job.operations)
        events.append(("progress", row.version, progress))
    if job is not None and (shown is None or row.status is not shown.status):
        events.append(("status", row.version, job))
    return [
        b"id: %d\nevent: %s\ndata: %s\n\n" % (version, name.encode(), msgspec.json.encode(data))
        for name, version, data in events
    ]
