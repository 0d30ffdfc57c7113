# SPDX-License-Identifier: Apache-2.0
"""Journal of the reference plugin: a SQLite file that only this process opens, to survive a SIGKILL.

WAL with ``synchronous=FULL``: the data of a call is on disk when the call returns. One thread writes; calls
that arrive while it commits are combined into the next commit.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import zstandard
from msgspec import Struct

from ran_datajobs.dmi.records import AcceptedJob, JobState
from ran_datajobs.errors import StoreUnavailable, UsageError
from ran_datajobs.model import Status
from ran_datajobs.store.queries import named_queries

_T = TypeVar("_T")
_Work = Callable[[sqlite3.Connection], Any]

_SHARED_COMMIT: Final = 512
_PAGE: Final = 16
_SCHEMA: Final = (
    "create_job",
    "create_outcome",
    "create_message",
    "create_execution",
    "create_execution_index",
    "create_cancelled",
)


class Accepted(Struct, frozen=True):
    """The new job was recorded."""


class Repeated(Struct, frozen=True):
    """The same request with the same key exists as ``job_id``."""

    job_id: str


class KeyTaken(Struct, frozen=True):
    """The key exists with another request."""


class Executing(Struct, frozen=True):
    """Operations that are about to be executed: their ids as a JSON array, from position ``first`` on."""

    first: int
    operation_ids: bytes


class Executed(Struct, frozen=True):
    """Outcomes from position ``first`` on: comma-separated JSON responses."""

    first: int
    responses: bytes


class Execution(Struct, frozen=True):
    """One line of the history: a batch of operations of ``job`` that was sent to the element."""

    number: int
    job: AcceptedJob
    operation_ids: list[str | int]


class Journal:
    """Journal in ``folder``. Use :meth:`open` and :meth:`close`. Raises StoreUnavailable if SQLite fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._queries = named_queries("journal", __package__)
        self._writing = ThreadPoolExecutor(1, "dmi-journal-write")
        self._reading = ThreadPoolExecutor(1, "dmi-journal-read")
        self._pending: list[tuple[_Work, asyncio.Future[Any]]] = []
        self._committer: asyncio.Task[None] | None = None

    async def open(self) -> list[JobState]:
        """Lock the folder for this process and return every job in it, in order of arrival.

        Raises UsageError when another process holds the lock.
        """
        self._owner = _locked(self._folder)
        self._writer = await self._on(self._writing, self._connect)
        self._reader = await self._on(self._reading, self._connect)
        return await self._on(self._reading, self._all_jobs)

    async def close(self) -> None:
        """Finish pending writes, then release the lock of the folder."""
        if self._committer is not None:
            await asyncio.wait({self._committer})
        await self._on(self._writing, self._writer.close)
        await self._on(self._reading, self._reader.close)
        self._writing.shutdown()
        self._reading.shutdown()
        os.close(self._owner)

    async def accept(
        self, job: AcceptedJob, fingerprint: bytes, operations: bytes
    ) -> Accepted | Repeated | KeyTaken:
        """Record a new job with its operations (a JSON array), unless its key exists."""
        query = self._queries

        def work(db: sqlite3.Connection) -> Accepted | Repeated | KeyTaken:
            key = job.sub_job_id or None
            if key is not None:
                found = db.execute(query["job_by_key"], (key,)).fetchone()
                if found is not None:
                    return Repeated(found[0]) if found[1] == fingerprint else KeyTaken()
            db.execute(
                query["insert_job"],
                (
                    job.job_id,
                    key,
                    fingerprint,
                    job.data_producer_id,
                    msgspec.json.encode(job),
                    _compressed(operations),
                    Status.NOT_STARTED.value,
                ),
            )
            return Accepted()

        return await self._write(work)

    async def operations(self, job_id: str) -> bytes:
        """The operations of a job that is not terminal, as a JSON array."""
        rows = await self._read("operations", (job_id,))
        return _decompressed(rows[0][0])

    async def record(
        self,
        state: JobState,
        executed: Sequence[Executed] = (),
        executing: Executing | None = None,
        messages: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Record ``state``, outcomes, history and messages atomically. A terminal state deletes the
        operations and the messages."""
        query = self._queries
        job_id = state.job.job_id

        def work(db: sqlite3.Connection) -> None:
            for one in executed:
                db.execute(query["insert_outcome"], (job_id, one.first, _compressed(one.responses)))
            if executing is not None:
                row = (job_id, executing.first, executing.operation_ids)
                db.execute(query["insert_execution"], row)
            for sequence, value in messages:
                db.execute(query["insert_message"], (job_id, sequence, _compressed(value)))
            db.execute(query["update_job"], (*_columns(state), job_id))
            if state.status.terminal:
                db.execute(query["end_job"], (time.time(), job_id))
                db.execute(query["delete_messages"], (job_id,))

        await self._write(work)

    async def cancel_all(self, request_id: str, states: Sequence[JobState]) -> None:
        """Record that a data job is cancelled, and the new ``states`` of its jobs."""
        query = self._queries

        def work(db: sqlite3.Connection) -> None:
            db.execute(query["insert_cancelled"], (request_id, time.time()))
            db.executemany(query["update_job"], [(*_columns(each), each.job.job_id) for each in states])

        await self._write(work)

    async def cancelled(self) -> set[str]:
        """The cancelled data jobs."""
        return {request_id for (request_id,) in await self._read("all_cancelled", ())}

    async def forget_cancelled(self, before: float) -> list[str]:
        """Delete the cancels before a time (seconds since 1970). Returns the ids of their data jobs."""

        def work(db: sqlite3.Connection) -> list[str]:
            return [row[0] for row in db.execute(self._queries["forget_cancelled"], (before,))]

        return await self._write(work)

    async def withdraw(self, state: JobState) -> None:
        """Record ``state`` and delete the batch that was not executed from the history."""
        query = self._queries

        def work(db: sqlite3.Connection) -> None:
            db.execute(query["delete_execution"], (state.job.job_id, state.done))
            db.execute(query["update_job"], (*_columns(state), state.job.job_id))

        await self._write(work)

    async def forget_messages(self, job_id: str) -> None:
        """Delete the messages of a read that is repeated from its start."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(self._queries["delete_messages"], (job_id,))

        await self._write(work)

    async def responses(self, job_id: str) -> AsyncIterator[bytes]:
        """Yield the outcomes of a job in the order of its operations, as pieces of comma-separated JSON."""
        places = [place for (place,) in await self._read("outcome_places", (job_id,))]
        for start in range(0, len(places), _PAGE):
            for (piece,) in await self._read("outcomes", (job_id, places[start], _PAGE)):
                yield _decompressed(piece)

    async def messages(self, job_id: str, first: int, limit: int) -> list[bytes]:
        """At most ``limit`` messages of a read, from sequence number ``first`` on."""
        return [_decompressed(value) for (value,) in await self._read("messages", (job_id, first, limit))]

    async def history(self, data_producer_id: str, after: int, limit: int) -> list[Execution]:
        """Batches that were sent to the element of a data producer, in order, after line ``after``."""
        rows = await self._read("history", (data_producer_id, after, limit))
        return [
            Execution(
                number,
                msgspec.json.decode(accepted, type=AcceptedJob),
                msgspec.json.decode(ids, type=list[str | int]),
            )
            for number, accepted, ids in rows
        ]

    async def forget_ended(self, before: float, limit: int) -> list[str]:
        """Delete at most ``limit`` jobs that ended before a time (seconds since 1970). Returns their ids."""
        query = self._queries

        def work(db: sqlite3.Connection) -> list[str]:
            found = [row[0] for row in db.execute(query["ended_before"], (before, limit))]
            db.executemany(query["delete_job"], [(job_id,) for job_id in found])
            return found

        return await self._write(work)

    async def _write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._pending.append((work, future))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_pending(), name="dmi.journal.commit")
        return await future

    async def _commit_pending(self) -> None:
        while self._pending:
            batch, self._pending = self._pending[:_SHARED_COMMIT], self._pending[_SHARED_COMMIT:]
            results = await self._on(self._writing, partial(self._commit, [work for work, _ in batch]))
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _commit(self, works: Sequence[_Work]) -> list[Any]:
        """Run ``works`` in one transaction. Returns one result each, or the same exception for all."""
        db = self._writer
        try:
            db.execute("begin immediate")
            results = [work(db) for work in works]
            db.execute("commit")
        except Exception as error:
            if db.in_transaction:
                db.execute("rollback")
            raised = StoreUnavailable(_refusal(error)) if isinstance(error, sqlite3.Error) else error
            return [raised for _ in works]
        return results

    async def _read(self, name: str, parameters: tuple[Any, ...]) -> list[Any]:
        def work() -> list[Any]:
            try:
                return self._reader.execute(self._queries[name], parameters).fetchall()
            except sqlite3.Error as error:
                raise StoreUnavailable(_refusal(error)) from error

        return await self._on(self._reading, work)

    async def _on(self, thread: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(thread, work)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._folder / "journal.sqlite3", isolation_level=None, check_same_thread=False)
        for setting in ("journal_mode=wal", "synchronous=full", "foreign_keys=on", "busy_timeout=5000"):
            db.execute(f"pragma {setting}")
        for name in _SCHEMA:
            db.execute(self._queries[name])
        return db

    def _all_jobs(self) -> list[JobState]:
        return [
            JobState(
                msgspec.json.decode(accepted, type=AcceptedJob),
                Status(status),
                bool(cancel_asked),
                started,
                done,
                succeeded,
                bool(stopped),
                messages,
                published,
            )
            for (
                accepted, status, cancel_asked, started, done, succeeded, stopped, messages, published,
            ) in self._reader.execute(self._queries["all_jobs"])
        ]  # fmt: skip


def _refusal(error: sqlite3.Error) -> str:
    return f"error of the plugin's journal: {error}"


def _columns(state: JobState) -> tuple[str | int | None, ...]:
    return (
        state.status.value,
        int(state.cancel_asked),
        state.started,
        state.done,
        state.succeeded,
        int(state.stopped),
        state.messages,
        state.published,
    )


def _locked(folder: Path) -> int:
    """Lock ``folder`` for this process. Returns the file descriptor that holds the lock."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "owner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(
            f"the data dir {folder} cannot be used: {error.strerror}; choose another with --data-dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise UsageError(
            f"{folder} belongs to another DMI plugin (process {owner}): stop it or choose another data dir"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)


def _decompressed(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data)
