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
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final, assert_never, cast
from uuid import UUID

import msgspec
import zstandard
from msgspec import Struct

from ran_datajobs.checkpoints import Checkpoint, CheckpointHook, no_checkpoints
from ran_datajobs.errors import StorageUnavailable
from ran_datajobs.messaging import events
from ran_datajobs.messaging.bus import Bus, Received
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import OperationState, Reason, Response, worst
from ran_datajobs.plugins.port import Nameless, Responses, UnreadableBody, UnrecognisedResult, Untold
from ran_datajobs.plugins.responses import read_outcomes
from ran_datajobs.results.objects import ObjectStore, unreadable_key
from ran_datajobs.results.parts import keep_raw, store_message_fragment
from ran_datajobs.results.responses import CANNOT_READ, Document, cut, read_responses, state_of
from ran_datajobs.store import read_messages as store
from ran_datajobs.store import sub_jobs
from ran_datajobs.store.database import Database
from ran_datajobs.store.parts import ADDED_SEQUENCE, MAX_PIECES, unreadable_sequence
from ran_datajobs.store.read_messages import (
    ActiveRead,
    MessageCorrelation,
    MessageFragment,
    ReadStarting,
    ReceivedMessage,
)

CONSUMER: Final = "ran-datajobs-results"
"""Name of the consumer of the internal topic."""

MAX_VALUE_BYTES: Final = 16 * 1024 * 1024
"""Maximum size in bytes of a message that is decoded."""

_MAX_OUTCOMES: Final = 1 << 28
_MAX_NAME: Final = 1000
_PARALLEL: Final = 8
_SOON_TRIES: Final = 10
_SOON_PAUSE: Final = 0.2
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 3.0


class Dropped(enum.StrEnum):
    """Why a message was not accepted; all but the last two: why it could not be read, or only in part."""

    TOO_LARGE = "TOO_LARGE"  # over MAX_VALUE_BYTES, or more than MAX_PIECES objects
    NOT_A_RESULT = "NOT_A_RESULT"  # no list of responses, or one that names no operation
    BAD_COUNT = "BAD_COUNT"  # ce_sequence or ce_total is not a number, or out of range
    BAD_NAME = "BAD_NAME"  # a name in a header that the store cannot hold
    NO_ACTIVE_READ = "NO_ACTIVE_READ"  # it matches no active read, or several


_STATES: Final = msgspec.json.Decoder(dict[str, OperationState])


class _Arrived(Struct, frozen=True):
    """A decoded message that may belong to a read; the read is not looked up yet.

    ``fault``: why it cannot be read, or only in part; ``None`` when nothing is wrong with it.
    """

    claimed: MessageCorrelation
    sequence: int | None
    total: int | None
    documents: tuple[Document, ...]
    """Each becomes an object: several if the message exceeds the limit of an object, none if it is
    unreadable."""
    outcomes: tuple[bytes, ...]
    """Packed outcomes of each of these documents."""
    fault: Dropped | None = None
    value: bytes = b""
    """The unchanged message, if something is wrong with it."""

    @property
    def sha256(self) -> str:
        """Digest, equal for equal messages."""
        digest = hashlib.sha256(self.value)
        for document in self.documents:
            digest.update(document.body)
        return digest.hexdigest()


class ReadResultConsumer:
    """The service's consumer of the internal topic."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        objects: ObjectStore,
        *,
        dropped: Callable[[Dropped, Received], None] = lambda *_: None,
        troubled: Callable[[Exception], None] = lambda _: None,
        reached: CheckpointHook = no_checkpoints,
    ) -> None:
        """``dropped`` is called with each rejected message, ``troubled`` with each error before a retry."""
        self._database = database
        self._bus = bus
        self._objects = objects
        self._dropped = dropped
        self._troubled = troubled
        self._reached = reached
        self._pause = _FIRST_PAUSE

    async def run(self) -> None:
        """Consume messages until cancelled. After an error it retries, with growing pauses.

        Each try is a task of its own: a group of tasks in which one failed can leave its parent marked as
        cancelled (CPython 3.11), which must not end the consumer.
        """
        while True:
            taking = asyncio.create_task(self._take_until_it_fails())
            try:
                await asyncio.wait((taking,))
            finally:
                taking.cancel()
                (end,) = await asyncio.gather(taking, return_exceptions=True)
            match end:
                case ExceptionGroup():
                    self._troubled(end.exceptions[0])
                case Exception():
                    self._troubled(end)  # including bugs: the consumer continues
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _take_until_it_fails(self) -> None:
        stream = cast("AsyncGenerator[list[Received], None]", self._bus.receive(INTERNAL_TOPIC, CONSUMER))
        async with (
            contextlib.aclosing(stream),
            contextlib.aclosing(_one_ahead(stream)) as batches,
            asyncio.TaskGroup() as group,
        ):
            passing: asyncio.Task[None] | None = None
            async for batch in batches:
                await self.take(batch)
                if passing is not None:
                    await passing
                passing = group.create_task(self._bus.passed(CONSUMER, batch[-1]))
                self._pause = _FIRST_PAUSE

    async def take(self, batch: Sequence[Received]) -> None:
        """Store the messages of active reads, durably on return; drop the rest.

        A message that may belong to a sub-job whose create is just being answered is retried for 2 s.
        """
        waiting: list[tuple[Received, _Arrived]] = []
        for received in batch:
            message = read_message(received)
            if isinstance(message, Dropped):
                self._dropped(message, received)
            else:
                waiting.append((received, message))
        for attempt in range(_SOON_TRIES + 1):
            waiting = await self._keep(waiting)
            if not waiting:
                return
            if attempt < _SOON_TRIES:
                await asyncio.sleep(_SOON_PAUSE)
        for received, message in waiting:
            self._dropped(message.fault or Dropped.NO_ACTIVE_READ, received)

    async def _keep(self, messages: Sequence[tuple[Received, _Arrived]]) -> list[tuple[Received, _Arrived]]:
        """Store the messages whose read is found. Returns those whose read may be recorded soon."""
        if not messages:
            return []
        async with self._database.connection() as connection:
            reads = await store.find(connection, [usable.claimed for _, usable in messages])
        later: list[tuple[Received, _Arrived]] = []
        found: list[tuple[ActiveRead, _Arrived]] = []
        for (received, usable), read in zip(messages, reads, strict=True):
            match read:
                case ActiveRead():
                    found.append((read, usable))
                case ReadStarting():
                    later.append((received, usable))
                case None:
                    self._dropped(usable.fault or Dropped.NO_ACTIVE_READ, received)
        if found:
            try:
                written = await self._write(await self._numbered(found))
            except StorageUnavailable as unavailable:
                cause, waiting = str(unavailable), {read.sub_job_id for read, _ in found}
                await self._database.run_transaction(
                    lambda c: sub_jobs.wait_for_objects(c, sorted(waiting), cause)
                )
                raise
            await self._reached(Checkpoint.ARRIVAL_WRITTEN)
            await self._database.run_transaction(lambda c: store.record(c, written))
            await self._reached(Checkpoint.ARRIVAL_STORED)
        return later

    async def _numbered(
        self, found: Sequence[tuple[ActiveRead, _Arrived]]
    ) -> list[tuple[ActiveRead, int, _Arrived]]:
        """Number the messages. One without a sequence gets the next of its read, or that of equal stored
        bytes.

        Of several messages with one sequence the first is kept; one without never takes the sequence of
        another.
        """
        numbered: dict[tuple[UUID, int], tuple[ActiveRead, int, _Arrived]] = {}
        without: list[tuple[ActiveRead, _Arrived]] = []
        for read, usable in found:
            if usable.sequence is None:
                without.append((read, usable))
            else:
                numbered.setdefault((read.sub_job_id, usable.sequence), (read, usable.sequence, usable))
        digests: dict[UUID, dict[str, int]] = {}
        last: dict[UUID, int] = {}
        for sub_job_id, sequence in numbered:
            last[sub_job_id] = max(sequence, last.get(sub_job_id, -1))
        for read, usable in without:
            sub_job_id = read.sub_job_id
            if sub_job_id not in digests:
                async with self._database.connection() as connection:
                    digests[sub_job_id] = await store.known_digests(connection, read)
                highest = max(digests[sub_job_id].values(), default=-1)
                last[sub_job_id] = max(highest, last.get(sub_job_id, -1))
            sequence = digests[sub_job_id].setdefault(usable.sha256, last[sub_job_id] + 1)
            last[sub_job_id] = max(sequence, last[sub_job_id])
            numbered.setdefault((sub_job_id, sequence), (read, sequence, usable))
        return list(numbered.values())

    async def _write(self, numbered: Sequence[tuple[ActiveRead, int, _Arrived]]) -> list[ReceivedMessage]:
        """Write the objects, at most eight messages at a time."""
        slots = asyncio.Semaphore(_PARALLEL)

        async def write(read: ActiveRead, sequence: int, usable: _Arrived) -> ReceivedMessage:
            async with slots:
                pieces = [
                    await self._kept_piece(read, sequence, place, usable)
                    for place in range(len(usable.documents))
                ]
                if usable.fault is not None:
                    pieces.append(await self._kept_raw(read, sequence, usable))
            whole = usable.sha256 if len(pieces) > 1 or usable.fault is not None else None
            return ReceivedMessage(read, sequence, whole, tuple(pieces), usable.total)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(write(*each)) for each in numbered]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return [task.result() for task in tasks]

    async def _kept_piece(
        self, read: ActiveRead, message: int, place: int, usable: _Arrived
    ) -> MessageFragment:
        document = usable.documents[place]
        part, body = await store_message_fragment(
            self._objects, read.bucket, str(read.job_id), str(read.sub_job_id), message, place, document
        )
        if body is document.body:
            return MessageFragment(part, usable.outcomes[place])
        return MessageFragment(part, pack_outcomes(read_responses(body)[0]))

    async def _kept_raw(self, read: ActiveRead, message: int, usable: _Arrived) -> MessageFragment:
        job, sub_job = str(read.job_id), str(read.sub_job_id)
        key = unreadable_key(job, sub_job, message)
        sequence = unreadable_sequence(message)
        part = await keep_raw(self._objects, read.bucket, key, sub_job, sequence, usable.value)
        return MessageFragment(part, pack_outcomes(()))


async def _one_ahead(
    stream: AsyncGenerator[list[Received], None],
) -> AsyncGenerator[list[Received], None]:
    """Batches of ``stream``; the next one is fetched while one is processed."""
    coming = asyncio.ensure_future(anext(stream))
    try:
        while True:
            await asyncio.wait((coming,))  # its cancellation must not look like that of this task
            batch = coming.result()
            coming = asyncio.ensure_future(anext(stream))
            yield batch
    except StopAsyncIteration:
        return
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def read_message(received: Received) -> _Arrived | Dropped:
    """Decode an untrusted message. Returns Dropped when it can belong to no read (pure)."""
    message = received.message
    claimed = _claimed(message.headers, received.topic)
    if claimed is None:
        return Dropped.BAD_NAME
    faults: list[Dropped] = []
    counts: list[int | None] = []
    for name, least, below in ((events.SEQUENCE, 0, ADDED_SEQUENCE), (events.TOTAL, 1, ADDED_SEQUENCE)):
        count = events.count_in(message.headers, name)
        sane = count is not None and least <= count < below
        counts.append(count if sane else None)
        if not sane and name in message.headers:
            faults.append(Dropped.BAD_COUNT)
    sequence, total = counts
    documents: tuple[Document, ...] = ()
    outcomes: tuple[bytes, ...] = ()
    if len(message.value) > MAX_VALUE_BYTES:
        faults.append(Dropped.TOO_LARGE)
    else:
        responses, whole = _responses(message.value)
        if not whole:
            faults.append(Dropped.NOT_A_RESULT)
        if whole or responses:
            documents, outcomes = _cut(responses)
        if len(documents) > MAX_PIECES:
            faults.append(Dropped.TOO_LARGE)
            documents, outcomes = (), ()
    if not faults:
        return _Arrived(claimed, sequence, total, documents, outcomes)
    return _Arrived(claimed, sequence, total, documents, outcomes, faults[0], message.value)


def _responses(value: bytes) -> tuple[list[Response], bool]:
    """Outcomes in a message, and whether each of its entries names its operation.

    An operation that is named without an outcome is FAILED: its data cannot be found in the message.
    """
    read = read_outcomes(value, is_read=True)
    match read:
        case UnrecognisedResult() | UnreadableBody():
            return [], False
        case Responses(entries):
            pass
        case _:
            assert_never(read)
    found: list[Response] = []
    whole = True
    for entry in entries:
        match entry:
            case Response():
                found.append(entry)
            case Untold(operation_id) if operation_id is not None:
                found.append(
                    Response(
                        operation_id,
                        CANNOT_READ,
                        "the plugin's message tells no outcome of this operation",
                        state=OperationState.FAILED,
                        reason=Reason.RESULT_UNREADABLE.value,
                    )
                )
            case Nameless() | Untold():
                whole = False
            case _:
                assert_never(entry)
    return found, whole


def _cut(responses: Sequence[Response]) -> tuple[tuple[Document, ...], tuple[bytes, ...]]:
    """``responses`` as documents, and the packed outcomes of each."""
    documents = cut(responses)
    grouped = [responses] if len(documents) == 1 else [read_responses(each.body)[0] for each in documents]
    return documents, tuple(map(pack_outcomes, grouped))


def pack_outcomes(responses: Sequence[Response]) -> bytes:
    """``{operation id: state}`` of a message, compressed for storage in its row."""
    states: dict[str, OperationState] = {}
    for response in responses:
        state = state_of(response)
        operation = str(response.operation_id)
        states[operation] = worst((state, states.get(operation, state)))
    return zstandard.compress(msgspec.json.encode(states), 1)


def unpack_outcomes(packed: bytes) -> dict[str, OperationState]:
    """Inverse of :func:`pack_outcomes`."""
    return _STATES.decode(zstandard.decompress(packed, max_output_size=_MAX_OUTCOMES))


def _claimed(headers: Mapping[str, str], topic: str) -> MessageCorrelation | None:
    """Identifiers in the headers of a message; ``None`` if a needed name cannot be stored."""
    sub_job = _uuid(headers.get(events.SUB_JOB_ID, ""))
    names = [
        headers.get(name, "")[:_MAX_NAME] for name in (events.DATA_PRODUCER_JOB_ID, events.DATA_PRODUCER_ID)
    ]
    if not all(map(_storable, names)):
        if sub_job is None:
            return None
        names = ["", ""]
    return MessageCorrelation(
        _uuid(headers.get(events.CORRELATION_ID, "")), sub_job, names[0], names[1], topic
    )


def _storable(name: str) -> bool:
    """False for characters that PostgreSQL cannot store: a NUL, half of a surrogate pair."""
    return "\0" not in name and not any("\ud800" <= each <= "\udfff" for each in name)


def _uuid(text: str) -> UUID | None:
    with contextlib.suppress(ValueError):
        return UUID(text)
    return None
