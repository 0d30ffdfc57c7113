# SPDX-License-Identifier: Apache-2.0
"""Writes the outbox rows of a job: result objects for its destination, status events for the status topic.

All functions write in the caller's transaction; its commit notifies the publishers, which deliver the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ran_datajobs.messaging import events
from ran_datajobs.messaging.topics import STATUS_TOPIC
from ran_datajobs.model import UNMATCHED_PART
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import manifest_key
from ran_datajobs.store import jobs, outbox
from ran_datajobs.store.database import Connection


class JobEventWriter(Struct, frozen=True):
    """Writes the outbox rows for changes of jobs, each in the transaction of the change."""

    view: JobView

    async def jobs_changed(self, connection: Connection, job_ids: Sequence[UUID]) -> None:
        """Queue a status event for each of these jobs, with the status that it has now."""
        messages = []
        for job_id in sorted(job_ids):
            row = await jobs.find(connection, job_id, None)
            if row is not None:
                (answer,) = await self.view.jobs(connection, [row], row.client)
                body = msgspec.json.encode(answer)
                messages.append(status_message(job_id, row.destination, row.version, body))
        await outbox.add(connection, messages)

    async def sub_jobs_settled(
        self, connection: Connection, job_ids: Sequence[UUID], sub_jobs: Sequence[UUID]
    ) -> None:
        """Queue all parts of settled sub-jobs of ``job_ids`` for their destinations.

        The rows of the parts must be written before, in this transaction or an earlier one.
        """
        found = await outbox.parts_to_deliver(connection, job_ids, [str(sub_job) for sub_job in sub_jobs])
        await outbox.add(connection, [_outgoing(part) for part in found])

    async def job_ended(self, connection: Connection, job_id: UUID) -> None:
        """Queue the end of the delivery, after all earlier parts, and the event of the terminal status."""
        await finish_delivery(connection, job_id)
        await self.jobs_changed(connection, [job_id])


async def finish_delivery(
    connection: Connection, job_id: UUID, sub_jobs: Sequence[str] | None = (UNMATCHED_PART,)
) -> None:
    """Queue the parts of ``sub_jobs`` (``None``: of all), then the end marker of the delivery.

    Call it once per delivery, after the parts of all other sub-jobs; the job's row need not be locked.
    Without a destination, or if the destination is the bucket that has the results, the delivery ends at
    once.
    """
    job = await jobs.lock(connection, job_id, None)
    if job is None:
        return
    if job.delivery_topic is None:
        await outbox.mark_delivered(connection, [(job_id, job.delivery_number)])
        return
    found = await outbox.parts_to_deliver(connection, [job_id], sub_jobs)
    bucket = job.results_bucket if job.destination_kind == jobs.BUCKET else None
    end = outbox.Outgoing(
        job_id,
        job.delivery_topic,
        headers=events.time_header(datetime.now(UTC)),
        bucket=bucket,
        object_key=manifest_key(job_id) if bucket else None,
        delivery=job.delivery_number,
        ends_delivery=True,
    )
    await outbox.add(connection, [*map(_outgoing, found), end])


async def redeliver(connection: Connection, job_id: UUID) -> bool:
    """Queue all parts of a terminal job again, with the next delivery number.

    Returns False and changes nothing while a delivery is pending, and while the job is being removed after
    its retention. To a bucket, only objects that are
    missing there or differ are written.
    """
    if await outbox.deliver_again(connection, job_id) is None:
        return False
    await finish_delivery(connection, job_id, None)
    return True


def status_message(job_id: UUID, destination: str | None, version: int, body: bytes) -> outbox.Outgoing:
    """Event for a change of a job's status; ``body`` is the JSON of ``GET /dataJob/{jobId}``."""
    value = b'{"data":%b}' % body
    return outbox.Outgoing(
        job_id,
        STATUS_TOPIC,
        key=str(job_id),
        headers=events.status_headers(str(job_id), destination or "", version, datetime.now(UTC)),
        value=value,
        size=len(value),
    )


def _outgoing(part: outbox.Part) -> outbox.Outgoing:
    """``part`` with the headers of a copy, or with the key and the headers of a message."""
    now = datetime.now(UTC)
    if part.is_copied:
        return replace(part, headers=events.time_header(now))
    identity = msgspec.convert(msgspec.to_builtins(part), events.ResultPart)
    key = events.message_key(identity.job_id, part.sub_job)
    return replace(part, key=key, headers=events.result_headers(identity, part.topic, events.SERVICE, now))
