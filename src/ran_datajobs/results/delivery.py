# SPDX-License-Identifier: Apache-2.0
"""What a job sends: its result objects to its destination, its status changes to their topic.

Everything here only writes outbox rows in the caller's transaction; publisher and copier bring them out.
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
    """Send all parts of settled sub-jobs of ``job_ids`` to their destinations; the shards touched.

    Their part rows must be written, in this transaction or before.
    """
    found = await outbox.parts_to_deliver(connection, job_ids, [str(sub_job) for sub_job in sub_jobs])
    return await outbox.add(connection, [_outgoing(part, at) for part in found])


async def finish_delivery(connection: Connection, job_id: UUID, at: datetime) -> list[int]:
    """Send what no sub-job got, and let the delivery end after all that was sent; the shards touched.

    Call it once per delivery, after the last :func:`send_sub_jobs`, with the job's row locked or not. Without
    a destination, or where that is the bucket which has the results, the delivery ends at once.
    """
    return await _send(connection, job_id, [UNMATCHED_PART], at)


async def redeliver(connection: Connection, job_id: UUID, at: datetime) -> list[int] | None:
    """Send everything of a terminal job again, with the next delivery number; the shards touched.

    ``None`` when its delivery is still pending; nothing is changed then. To a bucket is written what is
    missing there or differs.
    """
    if await outbox.deliver_again(connection, job_id) is None:
        return None
    return await _send(connection, job_id, None, at)


def status_message(
    job_id: UUID, destination: str | None, version: int, body: bytes, at: datetime
) -> outbox.Outgoing:
    """The event of a change of a job's status; ``body`` is the JSON of ``GET /dataJob/{jobId}``."""
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
    """The parts of ``sub_jobs`` (``None``: all), and the mark that ends the delivery."""
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
