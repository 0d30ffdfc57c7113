# SPDX-License-Identifier: Apache-2.0
"""Writes result objects under fixed keys: documents, bodies of plugins, the manifest. Reads failures back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence, Sized
from itertools import islice
from typing import Final
from uuid import UUID

import msgspec

from ran_datajobs.errors import Fenced
from ran_datajobs.model import (
    DEFAULT_FINISHED_SPELLING,
    UNMATCHED_PART,
    OperationCounts,
    OperationState,
    Response,
    Status,
    wire_status,
)
from ran_datajobs.results.objects import (
    MAX_OBJECT_BYTES,
    PARALLEL,
    ObjectStore,
    concurrently,
    part_key,
    raw_key,
)
from ran_datajobs.results.responses import Document, add_states, documents, read_responses, states_in
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.results import FOREIGN_SEQUENCE, Part, is_foreign, piece_sequence, unreadable_sequence

_AT_ONCE: Final = 1000


def manifest(
    job: JobRow,
    status: Status,
    operations: OperationCounts,
    parts: Sequence[Part],
    finished: str = DEFAULT_FINISHED_SPELLING,
) -> bytes:
    """JSON of the manifest of ``job``, whose final status is ``status``: its counts, and of each of
    ``parts``, in order, the size, the SHA-256 (hex) and the number of operations that it reports.

    It is written last: once it exists, every object that it names exists. Without ``subJobId``: operations
    that belong to no sub-job. ``foreign``: a plugin's own result body or message, stored unchanged.
    """
    objects: list[dict[str, object]] = []
    for part in parts:
        entry = {
            "key": part.key,
            "bytes": part.size,
            "sha256": part.sha256,
            "operations": part.operations,
            "failed": part.failed,
        }
        if part.sub_job != UNMATCHED_PART:
            entry["subJobId"] = part.sub_job
        if is_foreign(part.sequence):
            entry["foreign"] = True
        objects.append(entry)
    return msgspec.json.encode(
        {
            "jobId": job.job_id,
            "status": wire_status(status, finished),
            "operations": operations,
            "objects": objects,
        }
    )


async def write_parts(
    objects: ObjectStore,
    bucket: str,
    job_id: UUID,
    sub_job: UUID | str,
    responses: Iterable[Response],
    *,
    first_sequence: int = 0,
    is_still_owner: Callable[[], Awaitable[bool]],
) -> list[Part]:
    """Write ``responses`` as the documents of a sub-job from ``first_sequence`` on. Returns the rows to
    record, once all is durable.

    A repeat writes the same keys; an object with the same bytes is not written again. ``is_still_owner`` is
    called right before an object of an earlier attempt, with other bytes, is replaced: where it returns
    False, Fenced is raised. At most eight documents are held at a time. Raises StorageUnavailable.
    """

    async def write(numbered: tuple[int, Document]) -> Part:
        sequence, document = numbered
        key = part_key(job_id, sub_job, sequence)
        if (
            not await objects.put(bucket, key, document.body, only_if_absent=True)
            and await objects.get(bucket, key) != document.body
        ):
            if not await is_still_owner():
                raise Fenced(f"{bucket}/{key} was written by another process")
            await objects.put(bucket, key, document.body)
        return _part(key, sub_job, sequence, document)

    def next_documents() -> list[tuple[int, Document]]:
        return list(islice(numbered, PARALLEL))

    parts: list[Part] = []
    numbered = enumerate(documents(responses), start=first_sequence)
    are_many = isinstance(responses, Sized) and len(responses) > _AT_ONCE
    while some := (
        await asyncio.to_thread(next_documents) if are_many else next_documents()
    ):  # on a thread, so that the event loop continues
        parts += await concurrently(write, some)
    return parts


async def store_message_fragment(
    objects: ObjectStore,
    bucket: str,
    job_id: UUID,
    sub_job_id: UUID,
    message: int,
    piece: int,
    document: Document,
) -> tuple[Part, bytes]:
    """Store one fragment of a plugin's message, unless its key already has valid results.

    Returns the row and the stored bytes. The owner of the bucket can write to it, too: an object that is not
    a result document is replaced.
    """
    key = part_key(job_id, sub_job_id, message, piece)
    if not await objects.put(bucket, key, document.body, only_if_absent=True):
        there = await objects.get(bucket, key)
        if there != document.body:
            kept = _responses_in(there)
            if there is None or kept is None:
                await objects.put(bucket, key, document.body)
            else:
                document = Document(there, len(kept), len(_failed(kept)))
    return _part(key, sub_job_id, piece_sequence(message, piece), document), document.body


async def store_raw(
    objects: ObjectStore, bucket: str, job_id: UUID, sub_job_id: UUID, body: bytes, message: int | None = None
) -> Part:
    """Store at most :data:`MAX_OBJECT_BYTES` of a plugin's result body unchanged, or of its ``message`` with
    this number. Returns the row to record."""
    key, kept = raw_key(job_id, sub_job_id, message), body[:MAX_OBJECT_BYTES]
    sequence = FOREIGN_SEQUENCE if message is None else unreadable_sequence(message)
    await objects.put(bucket, key, kept)
    return _part(key, sub_job_id, sequence, Document(kept, 0, 0))


def _responses_in(body: bytes | None) -> list[Response] | None:
    """Responses of a result object; ``None`` when it is missing or not a result document."""
    try:
        return None if body is None else read_responses(body)
    except msgspec.DecodeError:
        return None


def _part(key: str, sub_job: UUID | str, sequence: int, document: Document) -> Part:
    body = document.body
    digest = hashlib.sha256(body).hexdigest()
    return Part(str(sub_job), sequence, key, len(body), digest, document.operations, document.failed)


async def load_failures(
    objects: ObjectStore, bucket: str, parts: Iterable[Part]
) -> tuple[dict[str, OperationState], int]:
    """Worst state of every operation with a response that is not SUCCEEDED, by operation id as a string; and
    the number of further failed outcomes, in objects that were removed or damaged.

    Reads only objects that hold a failure. Raises StorageUnavailable.
    """
    states: dict[str, OperationState] = {}
    lost = 0
    for part in parts:
        responses = _responses_in(await objects.get(bucket, part.key)) if part.failed else []
        if responses is None:
            lost += part.failed
        else:
            add_states(states, _failed(responses))
    return states, lost


def _failed(responses: Iterable[Response]) -> list[tuple[str, OperationState]]:
    return [each for each in states_in(responses) if each[1] is not OperationState.SUCCEEDED]
