# SPDX-License-Identifier: Apache-2.0
"""Writes documents as objects under fixed keys, and reads back what they say of failures."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final

from ran_datajobs.errors import Fenced, StorageUnavailable
from ran_datajobs.job import OperationState, Response
from ran_datajobs.results.objects import ObjectStore, part_key
from ran_datajobs.results.responses import Document, document_of, documents, read_responses, state_of, worst
from ran_datajobs.store.parts import Part

_PARALLEL: Final = 8


async def always() -> bool:
    """The usual answer to "may I replace it": nobody else writes there."""
    return True


async def write_parts(
    objects: ObjectStore,
    bucket: str,
    job_id: str,
    sub_job: str,
    responses: Iterable[Response],
    first_sequence: int = 0,
    *,
    may_replace: Callable[[], Awaitable[bool]] = always,
) -> list[Part]:
    """Write ``responses`` as documents from ``first_sequence`` on; the rows to record, once all is durable.

    A repeat writes the same keys; an object that is there with the same bytes is left alone. ``may_replace``
    is asked right before one with other bytes, of an earlier attempt, is replaced: whoever was overtaken
    raises Fenced instead. At most eight documents are held at a time. Raises StorageUnavailable.
    """
    parts: list[Part] = []
    numbered = enumerate(documents(responses), start=first_sequence)
    while some := list(islice(numbered, _PARALLEL)):
        try:
            async with asyncio.TaskGroup() as group:
                puts = [
                    group.create_task(
                        write_part(objects, bucket, job_id, sub_job, sequence, document, may_replace)
                    )
                    for sequence, document in some
                ]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        parts += [put.result() for put in puts]
    return parts


async def write_part(
    objects: ObjectStore,
    bucket: str,
    job_id: str,
    sub_job: str,
    sequence: int,
    document: Document,
    may_replace: Callable[[], Awaitable[bool]] = always,
) -> Part:
    """Write one document under its fixed key; the row to record, once it is durable."""
    key = part_key(job_id, sub_job, sequence)
    if (
        not await objects.put(bucket, key, document.body, only_if_absent=True)
        and await objects.get(bucket, key) != document.body
    ):
        if not await may_replace():
            raise Fenced(f"{bucket}/{key} was written by somebody else")
        await objects.put(bucket, key, document.body)
    return _part(key, sub_job, sequence, document.body, document)


async def keep_part(
    objects: ObjectStore, bucket: str, job_id: str, sub_job: str, sequence: int, document: Document
) -> tuple[Part, bytes]:
    """Write one document unless its key has an object already, which then stands; its row and its bytes."""
    key = part_key(job_id, sub_job, sequence)
    if not await objects.put(bucket, key, document.body, only_if_absent=True):
        there = await objects.get(bucket, key)
        if there is None:
            raise StorageUnavailable(f"the result object {bucket}/{key} came and went")
        if there != document.body:
            document = document_of(read_responses(there)[0])
            return _part(key, sub_job, sequence, there, document), there
    return _part(key, sub_job, sequence, document.body, document), document.body


def _part(key: str, sub_job: str, sequence: int, body: bytes, document: Document) -> Part:
    digest = hashlib.sha256(body).hexdigest()
    return Part(sub_job, sequence, key, len(body), digest, document.operations, document.failed)


async def failed_operations(
    objects: ObjectStore, bucket: str, parts: Iterable[Part]
) -> dict[str, OperationState]:
    """The worst state of every operation that did not succeed somewhere, by operation id as a string.

    Reads only the objects that hold a failure. Raises StorageUnavailable when one of them is gone.
    """
    found: dict[str, OperationState] = {}
    for part in parts:
        if part.failed == 0:
            continue
        body = await objects.get(bucket, part.key)
        if body is None:
            raise StorageUnavailable(f"the result object {bucket}/{part.key} is gone")
        for response in read_responses(body)[0]:
            state = state_of(response)
            if state is not OperationState.SUCCEEDED:
                operation = str(response.operation_id)
                found[operation] = worst((state, found.get(operation, state)))
    return found
