# SPDX-License-Identifier: Apache-2.0
"""Writes documents as objects under fixed keys, and reads failures back from them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Final

import msgspec
from msgspec import Struct

from ran_datajobs.errors import Fenced, StorageUnavailable
from ran_datajobs.model import OperationState, Response, worst
from ran_datajobs.results.objects import MAX_OBJECT_BYTES, ObjectStore, part_key
from ran_datajobs.results.responses import Document, documents, read_responses, state_of
from ran_datajobs.store.parts import Part, piece_sequence

MAX_RAW_BYTES: Final = MAX_OBJECT_BYTES
"""Maximum number of bytes stored of a body that cannot be read."""

_PARALLEL: Final = 8
_AT_ONCE: Final = 1000


async def always() -> bool:
    """Default for ``is_still_owner``: there is no other writer."""
    return True


async def write_parts(
    objects: ObjectStore,
    bucket: str,
    job_id: str,
    sub_job: str,
    responses: Iterable[Response],
    first_sequence: int = 0,
    *,
    is_still_owner: Callable[[], Awaitable[bool]] = always,
) -> list[Part]:
    """Write ``responses`` as documents from ``first_sequence`` on. Returns the rows to record, once all is
    durable.

    A repeat writes the same keys; an object with the same bytes is not written again. ``is_still_owner`` is
    called right before an object of an earlier attempt, with other bytes, is replaced: where it returns
    False, Fenced is raised. At most eight documents are held at a time. Raises StorageUnavailable.
    """
    parts: list[Part] = []
    numbered = enumerate(documents(responses), start=first_sequence)
    are_many = isinstance(responses, Sized) and len(responses) > _AT_ONCE
    while some := (
        await asyncio.to_thread(_next, numbered) if are_many else _next(numbered)
    ):  # on a thread, so that the event loop continues
        try:
            async with asyncio.TaskGroup() as group:
                puts = [
                    group.create_task(
                        write_part(objects, bucket, job_id, sub_job, sequence, document, is_still_owner)
                    )
                    for sequence, document in some
                ]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        parts += [put.result() for put in puts]
    return parts


def _next(numbered: Iterator[tuple[int, Document]]) -> list[tuple[int, Document]]:
    return list(islice(numbered, _PARALLEL))


async def write_part(
    objects: ObjectStore,
    bucket: str,
    job_id: str,
    sub_job: str,
    sequence: int,
    document: Document,
    is_still_owner: Callable[[], Awaitable[bool]] = always,
) -> Part:
    """Write one document under its fixed key. Returns the row to record, once it is durable."""
    key = part_key(job_id, sub_job, sequence)
    if (
        not await objects.put(bucket, key, document.body, only_if_absent=True)
        and await objects.get(bucket, key) != document.body
    ):
        if not await is_still_owner():
            raise Fenced(f"{bucket}/{key} was written by somebody else")
        await objects.put(bucket, key, document.body)
    return _part(key, sub_job, sequence, document.body, document)


async def store_message_fragment(
    objects: ObjectStore, bucket: str, job_id: str, sub_job: str, message: int, piece: int, document: Document
) -> tuple[Part, bytes]:
    """Store one fragment of a plugin's message, unless its key already has valid results.

    Returns the row and the stored bytes. The owner of the bucket can write to it, too: an object that is not
    a result document is replaced.
    """
    key = part_key(job_id, sub_job, message, piece)
    sequence = piece_sequence(message, piece)
    if not await objects.put(bucket, key, document.body, only_if_absent=True):
        there = await objects.get(bucket, key)
        if there is None:
            raise StorageUnavailable(f"the result object {bucket}/{key} came and went")
        if there != document.body:
            if (kept := _responses_in(there)) is not None:
                failed = sum(state_of(response) is not OperationState.SUCCEEDED for response in kept)
                return _part(key, sub_job, sequence, there, Document(there, len(kept), failed)), there
            await objects.put(bucket, key, document.body)
    return _part(key, sub_job, sequence, document.body, document), document.body


async def keep_raw(
    objects: ObjectStore, bucket: str, key: str, sub_job: str, sequence: int, body: bytes
) -> Part:
    """Store a body or message of a plugin unchanged, at most :data:`MAX_RAW_BYTES` of it. Returns its row."""
    kept = body[:MAX_RAW_BYTES]
    await objects.put(bucket, key, kept)
    return Part(sub_job, sequence, key, len(kept), hashlib.sha256(kept).hexdigest(), 0, 0)


def _responses_in(body: bytes) -> list[Response] | None:
    """Responses of a result object; ``None`` when it is not a result document."""
    try:
        return read_responses(body)[0]
    except msgspec.DecodeError:
        return None


def _part(key: str, sub_job: str, sequence: int, body: bytes, document: Document) -> Part:
    digest = hashlib.sha256(body).hexdigest()
    return Part(sub_job, sequence, key, len(body), digest, document.operations, document.failed)


class Failures(Struct, frozen=True):
    """Operations with a response that is not SUCCEEDED: the worst state of each, by its id as a string.

    ``lost``: number of further failed outcomes, in objects that were removed or damaged.
    """

    states: dict[str, OperationState]
    lost: int


async def failed_operations(
    objects: ObjectStore, bucket: str, parts: Iterable[Part]
) -> dict[str, OperationState]:
    """Worst state of every operation with a response that is not SUCCEEDED, by operation id as a string.

    Reads only objects that hold a failure. Raises StorageUnavailable when one of them is missing or damaged.
    """
    failures = await load_failures(objects, bucket, parts)
    if failures.lost:
        raise StorageUnavailable(f"result objects in bucket {bucket} are gone or spoilt")
    return failures.states


async def load_failures(objects: ObjectStore, bucket: str, parts: Iterable[Part]) -> Failures:
    """Read the failures from those objects of a job that hold any. Raises StorageUnavailable."""
    found: dict[str, OperationState] = {}
    lost = 0
    for part in parts:
        if part.failed == 0:
            continue
        body = await objects.get(bucket, part.key)
        responses = None if body is None else _responses_in(body)
        if responses is None:
            lost += part.failed
            continue
        for response in responses:
            state = state_of(response)
            if state is not OperationState.SUCCEEDED:
                operation = str(response.operation_id)
                found[operation] = worst((state, found.get(operation, state)))
    return Failures(found, lost)
