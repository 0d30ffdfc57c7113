# SPDX-License-Identifier: Apache-2.0
"""Wakes the watchers of a job when it changes: one LISTEN connection per process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from ran_datajobs.store.database import Database
from ran_datajobs.store.listen import follow

CHANNEL: Final = "datajobs_changed"


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
        await follow(self._database, CHANNEL, self._notified)

    def _notified(self, job_id: str | None) -> None:
        if job_id is None:
            self.wake_all()
            return
        with contextlib.suppress(ValueError):
            for event in self._watchers.get(UUID(job_id), ()):
                event.set()

    def wake_all(self) -> None:
        """Wake the watchers of all jobs."""
        for events in self._watchers.values():
            for event in events:
                event.set()
