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
from msgspec import Struct

from ran_datajobs.errors import Fenced
from ran_datajobs.model import (
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
    finished: str,
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


class ResultWriter(Struct, frozen=True):
    """Writes the result objects of a sub-job, or of the operations that are in none (``UNMATCHED_PART``).

    Each method returns the rows to record, once the objects are durable. Raises StorageUnavailable.
    """

    objects: ObjectStore
    bucket: str
    job_id: UUID
    sub_job: UUID | str

    async def write(
        self,
        responses: Iterable[Response],
        is_still_owner: Callable[[], Awaitable[bool]],
        first_sequence: int = 0,
    ) -> list[Part]:
        """Write ``responses`` as documents from ``first_sequence`` on.

        A repeat writes the same keys; an object with the same bytes is not written again. ``is_still_owner``
        is called right before an object of an earlier attempt, with other bytes, is replaced: where it
        returns False, Fenced is raised. At most eight documents are held at a time.
        """

        async def write(numbered: tuple[int, Document]) -> Part:
            sequence, document = numbered
            key = part_key(self.job_id, self.sub_job, sequence)
            if (
                not await self.objects.put(self.bucket, key, document.body, only_if_absent=True)
                and await self.objects.get(self.bucket, key) != document.body
            ):
                if not await is_still_owner():
                    raise Fenced(f"{self.bucket}/{key} was written by another process")
                await self.objects.put(self.bucket, key, document.body)
            return self._part(key, sequence, document)

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

    async def write_fragment(self, message: int, piece: int, document: Document) -> tuple[Part, bytes]:
        """Store one fragment of a plugin's message, unless its key already has valid results.

        Returns the row and the stored bytes. The owner of the bucket can write to it, too: an object that is
        not a result document is replaced.
        """
        key = part_key(self.job_id, self.sub_job, message, piece)
        if not await self.objects.put(self.bucket, key, document.body, only_if_absent=True):
            there = await self.objects.get(self.bucket, key)
            if there != document.body:
                kept = _responses_in(there)
                if there is None or kept is None:
                    await self.objects.put(self.bucket, key, document.body)
                else:
                    document = Document(there, len(kept), len(_failed(kept)))
        return self._part(key, piece_sequence(message, piece), document), document.body

    async def write_raw(self, body: bytes, message: int | None = None) -> Part:
        """Store at most :data:`MAX_OBJECT_BYTES` of a plugin's result body unchanged, or of its ``message``
        with this number."""
        key, kept = raw_key(self.job_id, self.sub_job, message), body[:MAX_OBJECT_BYTES]
        sequence = FOREIGN_SEQUENCE if message is None else unreadable_sequence(message)
        await self.objects.put(self.bucket, key, kept)
        return self._part(key, sequence, Document(kept, 0, 0))

    def _part(self, key: str, sequence: int, document: Document) -> Part:
        body, digest = document.body, hashlib.sha256(document.body).hexdigest()
        return Part(str(self.sub_job), sequence, key, len(body), digest, document.operations, document.failed)


def _responses_in(body: bytes | None) -> list[Response] | None:
    """Responses of a result object; ``None`` when it is missing or not a result document."""
    try:
        return None if body is None else read_responses(body)
    except msgspec.DecodeError:
        return None


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
