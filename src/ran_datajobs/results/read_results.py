# SPDX-License-Identifier: Apache-2.0
"""Consumes the result messages of plugins from the internal topic and stores them as objects.

No part of a message is trusted. A message is accepted only for an active read sub-job, and becomes the object
``{jobId}/{subJobId}/{sequence}.json`` of that job, whatever destination it names. A duplicate changes
nothing. A message larger than the limit of an object is split into several. A message that cannot be read, or
only in part, is also stored unchanged: its read does not succeed.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.checkpoints import Checkpoint, reached
from ran_datajobs.errors import StorageUnavailable
from ran_datajobs.messaging import events
from ran_datajobs.messaging.bus import Bus, Received
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import OperationState, Reason, Response
from ran_datajobs.plugins.port import Responses
from ran_datajobs.plugins.responses import CANNOT_READ, read_outcomes
from ran_datajobs.results.objects import ObjectStore, concurrently
from ran_datajobs.results.outcomes import pack_outcomes
from ran_datajobs.results.parts import ResultWriter
from ran_datajobs.results.responses import Document, cut, read_responses
from ran_datajobs.store import results as store
from ran_datajobs.store import sub_jobs
from ran_datajobs.store.database import Database

CONSUMER: Final = "ran-datajobs-results"
"""Name of the consumer of the internal topic."""

MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""Maximum size in bytes of a message that is decoded."""

_MAX_NAME: Final = 1000
_NOT_STORABLE: Final = re.compile("[\0\ud800-\udfff]")
_SOON_TRIES: Final = 10
_SOON_PAUSE: Final = 0.2
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 3.0


class Dropped(enum.StrEnum):
    """Why a message was not accepted; all but the last: why it could not be read, or only in part."""

    TOO_LARGE = "TOO_LARGE"  # over MAX_VALUE_BYTES, or more than store.MAX_PIECES objects
    NOT_A_RESULT = "NOT_A_RESULT"  # no list of responses, or one that names no operation
    BAD_COUNT = "BAD_COUNT"  # ce_sequence or ce_total is not a number, or out of range
    NO_ACTIVE_READ = "NO_ACTIVE_READ"  # it matches no active read, or several


class _Arrived(Struct, frozen=True):
    """A decoded message that may belong to a read; the read is not looked up yet.

    ``documents``: each becomes an object; several if the message exceeds the limit of an object, none if it
    is unreadable. ``outcomes``: the packed outcomes in them. ``fault``: why the message cannot be read, or
    only in part.
    """

    received: Received
    claimed: store.MessageCorrelation
    sequence: int | None
    total: int | None
    documents: tuple[Document, ...]
    outcomes: bytes
    fault: Dropped | None

    @property
    def sha256(self) -> str:
        """Digest, equal for equal messages."""
        digest = hashlib.sha256(self.received.message.value if self.fault else b"")
        for document in self.documents:
            digest.update(document.body)
        return digest.hexdigest()


class ReadResultConsumer(Struct, eq=False):
    """The service's consumer of the internal topic. ``dropped`` is called with each rejected message,
    ``troubled`` with each error before a retry."""

    database: Database
    bus: Bus
    objects: ObjectStore
    dropped: Callable[[Dropped, Received], None] = lambda *_: None
    troubled: Callable[[Exception], None] = lambda _: None

    async def run(self) -> None:
        """Consume messages until cancelled. After an error it retries, with growing pauses."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with contextlib.aclosing(self.bus.receive(INTERNAL_TOPIC, CONSUMER)) as batches:
                    async for batch in batches:
                        await self.take(batch)
                        pause = _FIRST_PAUSE
            except Exception as error:  # including bugs: the consumer continues
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # the error is what became of the cancellation
                    raise asyncio.CancelledError from error
                self.troubled(error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def take(self, batch: Sequence[Received]) -> None:
        """Store the messages of active reads, durably on return; drop the rest.

        A message that may belong to a sub-job whose create is just being answered is retried for 2 s.
        """
        waiting = [read_message(received) for received in batch]
        for is_last in [False] * _SOON_TRIES + [True]:
            waiting = await self._keep(waiting, is_last=is_last)
            if not waiting:
                return
            await asyncio.sleep(_SOON_PAUSE)

    async def _keep(self, messages: Sequence[_Arrived], *, is_last: bool) -> list[_Arrived]:
        """Store the messages whose read is found. Returns those whose read may be recorded soon, unless this
        is the last try."""
        if not messages:
            return []
        async with self.database.connection() as connection:
            reads = await store.find_reads(connection, [message.claimed for message in messages])
        later: list[_Arrived] = []
        found: list[tuple[store.ActiveRead, _Arrived]] = []
        for message, read in zip(messages, reads, strict=True):
            match read:
                case store.ActiveRead():
                    found.append((read, message))
                case store.ReadStarting() if not is_last:
                    later.append(message)
                case _:
                    self.dropped(message.fault or Dropped.NO_ACTIVE_READ, message.received)
        if found:
            try:
                written = await concurrently(self._write, await self._numbered(found))
            except StorageUnavailable as unavailable:
                cause, waiting = str(unavailable), {read.sub_job_id for read, _ in found}
                await self.database.run_transaction(
                    lambda c: sub_jobs.wait_for_objects(c, sorted(waiting), cause)
                )
                raise
            await reached(Checkpoint.ARRIVAL_WRITTEN)
            await self.database.run_transaction(lambda c: store.record_messages(c, written))
            await reached(Checkpoint.ARRIVAL_STORED)
        return later

    async def _numbered(
        self, found: Sequence[tuple[store.ActiveRead, _Arrived]]
    ) -> list[tuple[store.ActiveRead, int, _Arrived]]:
        """Number the messages. One without a sequence gets the next of its read, or that of equal stored
        bytes.

        Of several messages with one sequence the first is kept; one without never takes the sequence of
        another.
        """
        numbered: dict[tuple[UUID, int], tuple[store.ActiveRead, int, _Arrived]] = {}
        digests: dict[UUID, dict[str, int]] = {}
        last: dict[UUID, int] = {}
        for read, message in sorted(found, key=lambda each: each[1].sequence is None):
            sub_job_id, sequence = read.sub_job_id, message.sequence
            if sequence is None:
                if sub_job_id not in digests:
                    async with self.database.connection() as connection:
                        digests[sub_job_id] = await store.known_digests(connection, read)
                    last[sub_job_id] = max(last.get(sub_job_id, -1), -1, *digests[sub_job_id].values())
                sequence = digests[sub_job_id].setdefault(message.sha256, last[sub_job_id] + 1)
            last[sub_job_id] = max(sequence, last.get(sub_job_id, -1))
            numbered.setdefault((sub_job_id, sequence), (read, sequence, message))
        return list(numbered.values())

    async def _write(self, numbered: tuple[store.ActiveRead, int, _Arrived]) -> store.ReceivedMessage:
        """Write the objects of one message."""
        read, sequence, message = numbered
        writer = ResultWriter(self.objects, read.bucket, read.job_id, read.sub_job_id)
        stored = [
            await writer.write_fragment(sequence, piece, document)
            for piece, document in enumerate(message.documents)
        ]
        pieces, outcomes = [part for part, _ in stored], message.outcomes
        if [body for _, body in stored] != [each.body for each in message.documents]:  # of another message
            outcomes = pack_outcomes(each for _, body in stored for each in read_responses(body))
        if message.fault is not None:
            pieces.append(await writer.write_raw(message.received.message.value, sequence))
        whole = message.sha256 if len(pieces) > 1 or message.fault is not None else None
        return store.ReceivedMessage(read, sequence, whole, tuple(pieces), outcomes, message.total)


def read_message(received: Received) -> _Arrived:
    """Decode an untrusted message (pure)."""
    headers, value = received.message.headers, received.message.value
    fault: Dropped | None = None
    counts: list[int | None] = []
    for name, least in ((events.SEQUENCE, 0), (events.TOTAL, 1)):
        count = events.count_in(headers, name)
        counts.append(count if count is not None and least <= count < store.ADDED_SEQUENCE else None)
        if counts[-1] is None and name in headers:
            fault = Dropped.BAD_COUNT
    sequence, total = counts
    documents: tuple[Document, ...] = ()
    responses: list[Response] = []
    if len(value) > MAX_VALUE_BYTES:
        fault = fault or Dropped.TOO_LARGE
    else:
        responses, whole = _responses(value)
        if not whole:
            fault = fault or Dropped.NOT_A_RESULT
        if whole or responses:
            documents = cut(responses)
        if len(documents) > store.MAX_PIECES:
            fault = fault or Dropped.TOO_LARGE
            documents, responses = (), []
    claimed = _claimed(headers, received.topic)
    return _Arrived(received, claimed, sequence, total, documents, pack_outcomes(responses), fault)


def _responses(value: bytes) -> tuple[list[Response], bool]:
    """Outcomes in a message, and whether each of its entries names its operation.

    An operation that is named without an outcome is FAILED: its data cannot be found in the message.
    """
    read = read_outcomes(value, is_read=True)
    if not isinstance(read, Responses):
        return [], False
    found: list[Response] = []
    whole = True
    for entry in read.entries:
        if entry.operation_id is None:
            whole = False
        elif entry.response is not None:
            found.append(entry.response)
        else:
            found.append(
                Response(
                    entry.operation_id,
                    CANNOT_READ,
                    "the plugin's message has no outcome of this operation",
                    state=OperationState.FAILED,
                    reason=Reason.RESULT_UNREADABLE.value,
                )
            )
    return found, whole


def _claimed(headers: Mapping[str, str], topic: str) -> store.MessageCorrelation:
    """Identifiers in the headers of a message. A name that PostgreSQL cannot store matches no read."""
    job_id, sub_job = (_uuid(headers.get(name, "")) for name in (events.CORRELATION_ID, events.SUB_JOB_ID))
    producer_job, producer = (
        _NOT_STORABLE.sub("\ufffd", headers.get(name, "")[:_MAX_NAME])
        for name in (events.DATA_PRODUCER_JOB_ID, events.DATA_PRODUCER_ID)
    )
    return store.MessageCorrelation(job_id, sub_job, producer_job, producer, topic)


def _uuid(text: str) -> UUID | None:
    with contextlib.suppress(ValueError):
        return UUID(text)
    return None
