# SPDX-License-Identifier: Apache-2.0
"""Server-Sent Events of a data job: ``status``, ``progress`` and ``subjob``.

The id of an event is the version of the job up to which all events have been sent. Of the events of one
version, the last has the id of this version, the others that of the previous one. A client that resumes with
``Last-Event-ID`` therefore misses no event, and can receive a few again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from litestar import get
from litestar.exceptions import TooManyRequestsException
from litestar.params import FromPath, HeaderParameter
from litestar.response import Stream
from msgspec import Struct

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import Api, ApiDependencies, Caller, begun
from ran_datajobs.api.jobs import visible_job
from ran_datajobs.api.problems import documented, success
from ran_datajobs.model import Counts, Status
from ran_datajobs.results.job_view import JobAnswer, SubJobAnswer, WireStatus
from ran_datajobs.store import jobs
from ran_datajobs.store.jobs import JobRow

EVENT_STREAM: Final = "text/event-stream"
_MIN_INTERVAL: Final = 0.2
_SUB_JOBS_AT_ONCE: Final = 500
_VERSION: Final = re.compile(r"[0-9]{1,18}")


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
    job_id: FromPath[UUID],
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
    row = await visible_job(api, caller, job_id)
    known = _VERSION.fullmatch((last_event_id or "").strip())
    return Stream(
        await begun(_events(api, row.job_id, caller.sees, int(known[0]) if known else 0)),
        media_type=EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class Progress(Struct, frozen=True, rename="camel"):
    """Data of a ``progress`` event."""

    status: WireStatus
    progress_percentage: int
    operations: Counts


class StreamPosition(Struct):
    """The state that a stream sent last. All events up to ``version`` were sent."""

    version: int
    status: Status | None = None
    operations: Counts | None = None


async def _events(api: ApiDependencies, job_id: UUID, sees: str | None, since: int) -> AsyncIterator[bytes]:
    if api.changes.watchers >= api.limits.max_event_streams:
        raise TooManyRequestsException(
            f"{api.changes.watchers} event streams are open, the most: try later, or poll the job"
        )
    shown = StreamPosition(since)
    with api.changes.watch(job_id) as changed:
        yield b"retry: 2000\n\n"
        while not api.stopping.is_set():
            changed.clear()
            async for piece in _events_since(api, job_id, sees, shown):
                yield piece
            if shown.status is None or shown.status.terminal:
                return
            try:
                async with asyncio.timeout(api.limits.event_keep_alive):
                    await changed.wait()
                await asyncio.sleep(_MIN_INTERVAL)
            except TimeoutError:
                yield b": still here\n\n"


async def _events_since(
    api: ApiDependencies, job_id: UUID, sees: str | None, shown: StreamPosition
) -> AsyncIterator[bytes]:
    """Yield the events since ``shown``. Sets ``shown.status`` to ``None`` if the job was removed."""
    place = (shown.version, jobs.LAST_POSITION)
    complete = False
    while not complete:
        async with api.database.connection() as connection:
            row = await jobs.find(connection, job_id, None)
            if row is None:
                shown.status = None
                return
            changed = await jobs.changed_sub_jobs(
                connection, job_id, behind=place, until=row.version, limit=_SUB_JOBS_AT_ONCE
            )
            complete = len(changed) < _SUB_JOBS_AT_ONCE
            sub_jobs = await api.view.sub_jobs(connection, changed, sees)
            job = api.view.job(row, {}) if complete else None
            if complete and row.status is not shown.status:
                (job,) = await api.view.jobs(connection, [row], sees)
        if changed:
            place = (changed[-1].version, changed[-1].position)
        versions = (sub_job.version for sub_job in changed)
        for piece in encode(row, job, list(zip(versions, sub_jobs, strict=True)), shown):
            yield piece


def encode(
    row: JobRow, job: JobAnswer | None, sub_jobs: Sequence[tuple[int, SubJobAnswer]], shown: StreamPosition
) -> list[bytes]:
    """The events between ``shown`` and ``row``; updates ``shown``.

    ``sub_jobs``: (version, sub-job) pairs in order. ``job`` is ``None`` while more sub-jobs follow: the job's
    own events come after all sub-jobs, and the status event is the last one.
    """
    events: list[tuple[str, int, Any]] = [("subjob", version, sub_job) for version, sub_job in sub_jobs]
    if job is not None:
        if job.operations != shown.operations:
            progress = Progress(job.status, job.progress_percentage, job.operations)
            events.append(("progress", row.version, progress))
            shown.operations = job.operations
        if row.status is not shown.status:
            events.append(("status", row.version, job))
            shown.status = row.status
    pieces = []
    for place, (name, version, data) in enumerate(events, start=1):
        ends_version = events[place][1] > version if place < len(events) else job is not None
        shown.version = max(shown.version, version if ends_version else version - 1)
        pieces.append(
            b"id: %d\nevent: %s\ndata: %s\n\n" % (shown.version, name.encode(), msgspec.json.encode(data))
        )
    if job is not None:
        shown.version = max(shown.version, row.version)
    return pieces
