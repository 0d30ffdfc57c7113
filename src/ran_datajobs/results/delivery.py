# SPDX-License-Identifier: Apache-2.0
"""Writes the outbox rows of a job: result objects for its destination, status events for the status topic.

All functions write in the caller's transaction; the publisher and the copier deliver the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from ran_datajobs.messaging.events import (
    SERVICE,
    ResultPart,
    message_key,
    result_headers,
    status_headers,
    time_header,
)
from ran_datajobs.messaging.topics import STATUS_TOPIC
from ran_datajobs.model import UNMATCHED_PART
from ran_datajobs.results.objects import manifest_key
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Connection


async def send_sub_jobs(
    connection: Connection, job_ids: Sequence[UUID], sub_jobs: Sequence[UUID], at: datetime
) -> list[int]:
    """Queue all parts of settled sub-jobs of ``job_ids`` for their destinations. Returns the shards touched.

    The rows of the parts must be written before, in this transaction or an earlier one.
    """
    found = await outbox.parts_to_deliver(connection, job_ids, [str(sub_job) for sub_job in sub_jobs])
    return await outbox.add(connection, [_outgoing(part, at) for part in found])


async def finish_delivery(connection: Connection, job_id: UUID, at: datetime) -> list[int]:
    """Queue the parts without a sub-job, then the end marker of the delivery. Returns the shards touched.

    Call it once per delivery, after the last :func:`send_sub_jobs`; the job's row need not be locked. Without
    a destination, or if the destination is the bucket that has the results, the delivery ends at once.
    """
    return await _send(connection, job_id, [UNMATCHED_PART], at)


async def redeliver(connection: Connection, job_id: UUID, at: datetime) -> list[int] | None:
    """Queue all parts of a terminal job again, with the next delivery number. Returns the shards touched.

    Returns ``None`` and changes nothing while a delivery is pending. To a bucket, only objects that are
    missing there or differ are written.
    """
    if await outbox.deliver_again(connection, job_id) is None:
        return None
    return await _send(connection, job_id, None, at)


def status_message(
    job_id: UUID, destination: str | None, version: int, body: bytes, at: datetime
) -> outbox.Outgoing:
    """Event for a change of a job's status; ``body`` is the JSON of ``GET /dataJob/{jobId}``."""
    value = b'{"data":%b}' % body
    return outbox.Outgoing(
        job_id,
        STATUS_TOPIC,
        key=str(job_id),
        headers=status_headers(str(job_id), destination or "", version, at),
        value=value,
        size=len(value),
    )


async def _send(connection: Connection, job_id: UUID, sub_jobs: list[str] | None, at: datetime) -> list[int]:
    """Queue the parts of ``sub_jobs`` (``None``: all), and the end marker of the delivery."""
    target = await outbox.target_of(connection, job_id)
    if target is None:
        return []
    if target.topic is None:
        await outbox.mark_delivered(connection, [(job_id, target.delivery)])
        return []
    found = await outbox.parts_to_deliver(connection, [job_id], sub_jobs)
    end = outbox.Outgoing(
        job_id, target.topic, headers=time_header(at), delivery=target.delivery, ends_delivery=True
    )
    if target.is_copied:
        end = replace(end, bucket=target.bucket, object_key=manifest_key(str(job_id)))
    return await outbox.add(connection, [*(_outgoing(part, at) for part in found), end])


def _outgoing(part: outbox.Part, at: datetime) -> outbox.Outgoing:
    if part.is_copied:
        return outbox.Outgoing(
            part.job_id,
            outbox.bucket_topic(part.destination),
            headers=time_header(at),
            bucket=part.bucket,
            object_key=part.key,
            size=part.size,
            delivery=part.delivery,
            sha256=part.sha256,
        )
    job_id = str(part.job_id)
    identity = ResultPart(
        job_id,
        part.sub_job,
        part.sequence,
        part.total,
        part.data_producer_id,
        part.data_producer_job_id,
        part.delivery,
    )
    return outbox.Outgoing(
        part.job_id,
        part.destination,
        key=message_key(job_id, part.sub_job),
        headers=result_headers(identity, part.destination, SERVICE, at),
        bucket=part.bucket,
        object_key=part.key,
        size=part.size,
        delivery=part.delivery,
    )
