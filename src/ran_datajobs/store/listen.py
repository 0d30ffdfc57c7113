# SPDX-License-Identifier: Apache-2.0
"""LISTEN on a dedicated connection that is re-established when it is lost; wake-ups of watchers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

import asyncpg

from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.store.database import Database, store_errors
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("database")

OUTBOX_CHANNEL: Final = "datajobs_outbox"
"""Notification channel of additions to the outbox; the payload is the shard."""

DUE_CHANNEL: Final = "datajobs_due"
"""Notification channel of due rows; the payload is the kind: ``job``, ``sub_job`` or ``cancel``."""

SUB_JOB_CHANNEL: Final = "datajobs_sub_job"
"""Notification channel of leased sub-jobs that another process changed; the payload is the sub-job's id."""

CHANGED_CHANNEL: Final = "datajobs_changed"
"""Notification channel of visible changes of jobs; the payload is the job's id."""

ASKED_EVERY: Final = 15.0
"""Interval in seconds of a query that detects a dead connection: a host that vanished closes none."""

ANSWER_WITHIN: Final = 5.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


async def follow(database: Database, channel: str, news: Callable[[str | None], None]) -> None:
    """Call ``news`` with the payload of every notification of ``channel``, until cancelled.

    After each connect it is called with ``None``: notifications may have been missed.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            await _until_lost(database, channel, news)
            pause = _FIRST_PAUSE
        except (StoreUnavailable, asyncpg.PostgresError):  # for example a password that is being changed
            pass
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _until_lost(database: Database, channel: str, news: Callable[[str | None], None]) -> None:
    connection = await database.listen_connection()
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _connection: lost.set())
    try:
        with store_errors():
            await connection.add_listener(channel, lambda _c, _pid, _channel, payload: news(str(payload)))
        news(None)
        while not lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lost.wait(), ASKED_EVERY)
            if not lost.is_set():
                with store_errors():
                    await connection.fetchval(_SQL["ready"], timeout=ANSWER_WITHIN)
    finally:
        connection.terminate()


class JobChanges:
    """Wakes the watchers of a job after each visible change of it.

    A wake-up carries no data: the watcher reads the job again. Several changes can cause one wake-up, and
    after a lost connection all watchers are woken, because changes may have been missed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watchers: dict[UUID, set[asyncio.Event]] = {}

    @property
    def watchers(self) -> int:
        """Number of open watches."""
        return sum(len(events) for events in self._watchers.values())

    @contextlib.contextmanager
    def watch(self, job_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job may have changed; the watcher clears it and reads."""
        event = asyncio.Event()
        self._watchers.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            events = self._watchers[job_id]
            events.discard(event)
            if not events:
                del self._watchers[job_id]

    async def run(self) -> None:
        """Listen until cancelled; reconnect whenever the connection is lost."""
        await follow(self._database, CHANGED_CHANNEL, self._notified)

    def wake_all(self) -> None:
        """Wake the watchers of all jobs."""
        self._notified(None)

    def _notified(self, job_id: str | None) -> None:
        watched = list(self._watchers) if job_id is None else [UUID(job_id)]
        for each in watched:
            for event in self._watchers.get(each, ()):
                event.set()
