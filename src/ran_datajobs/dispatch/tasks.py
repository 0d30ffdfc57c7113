# SPDX-License-Identifier: Apache-2.0
"""The durable tasks, and how they join a transaction. PgQueuer is named here and in ``worker`` only.

A task only says that there is something to do: every handler can run twice and finds out in the store.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

from msgspec import Struct
from pgqueuer import AsyncpgDriver, Queries

from ran_datajobs.store import lanes
from ran_datajobs.store.database import Connection


class TaskKind(enum.StrEnum):
    """The entrypoints of the task engine."""

    PLAN = "plan"  # a job was accepted: split it
    LANE = "lane"  # a lane has something to do: take a turn
    FINISH = "finish"  # the last sub-job of a job was settled: manifest, verdict


class Task(Struct, frozen=True):
    """One task. ``subject`` is a job id or a lane id. Not before ``delay`` seconds from now."""

    kind: TaskKind
    subject: str
    delay: float = 0.0
    priority: int = 0


async def enqueue(connection: Connection, tasks: Sequence[Task]) -> None:
    """Add ``tasks`` in the caller's transaction: they exist when it commits, and not before."""
    if not tasks:
        return
    await Queries(AsyncpgDriver(cast(Any, connection))).enqueue(
        [str(task.kind) for task in tasks],
        [task.subject.encode() for task in tasks],
        [task.priority for task in tasks],
        [timedelta(seconds=task.delay) if task.delay else None for task in tasks],
    )


async def wake_lanes(connection: Connection, lane_ids: Sequence[int]) -> None:
    """Have somebody look at these lanes, in the caller's transaction: whoever holds one looks again."""
    await lanes.want(connection, lane_ids)
    await enqueue(connection, [Task(TaskKind.LANE, str(lane_id)) for lane_id in lane_ids])
