# SPDX-License-Identifier: Apache-2.0
"""Being woken by the database: LISTEN on a connection of its own, over lost connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import asyncpg

from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.store.database import Database, store_errors
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("database")

OUTBOX_CHANNEL: Final = "datajobs_outbox"
"""Notified, with the shard, whenever messages were added to the outbox."""

DUE_CHANNEL: Final = "datajobs_due"
"""Notified, with ``job`` or ``sub_job``, whenever a row of that kind became due."""

SUB_JOB_CHANNEL: Final = "datajobs_sub_job"
"""Notified, with the sub-job's id, whenever another process changed a sub-job that a worker has leased."""

ASKED_EVERY: Final = 15.0
"""Seconds after which a silent connection is asked whether the database is still at its other end: a machine
that vanished says nothing."""

ANSWER_WITHIN: Final = 5.0
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


async def follow(database: Database, channel: str, news: Callable[[str | None], None]) -> None:
    """Call ``news`` with the payload of every notice of ``channel``, for ever; end it by cancelling.

    After each connect it is called with ``None``: notices may have been missed.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            await _until_lost(database, channel, news)
            pause = _FIRST_PAUSE
        except (StoreUnavailable, asyncpg.PostgresError):  # a password that is being changed, say
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
