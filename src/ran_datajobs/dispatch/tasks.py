# SPDX-License-Identifier: Apache-2.0
"""The durable tasks, and how they join a transaction. PgQueuer is named here and in ``worker`` only.

A task only says that there is something to do: every handler can run twice and finds out in the store.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, cast

from msgspec import Struct
from pgqueuer import AsyncpgDriver, Queries

from ran_datajobs.store import lanes
from ran_datajobs.store.database import Connection

LANES_PER_TASK: Final = 50
"""Most lanes that one task names. A task costs about as much as a turn of a lane."""

_SHARES: Final = 16
"""Into about so many tasks the lanes of one plugin are divided, so that several workers find some."""

BEGUN: Final = 0
"""Stands for the id of a task that was begun before the engine gave it out; it is in the queue as well."""


class TaskKind(enum.StrEnum):
    """The entrypoints of the task engine."""

    PLAN = "plan"  # a job was accepted: split it
    LANE = "lane"  # lanes of one plugin have something to do: take a turn in each
    FINISH = "finish"  # the last sub-job of a job was settled: manifest, verdict


class Task(Struct, frozen=True):
    """One task. ``subject`` is a job id or names lanes (:class:`LaneTask`). Not before ``delay`` seconds from
    now."""

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


class Done(Struct, frozen=True):
    """The task is done, and whatever is left has a task of its own. ``next``: of those some that this worker
    may as well begin at once."""

    next: tuple[Task, ...] = ()


class Again(Struct, frozen=True):
    """The same task is needed once more after ``delay`` seconds."""

    delay: float


class LaneTask(Struct, frozen=True):
    """The subject of a :attr:`TaskKind.LANE`: lanes of one plugin."""

    plugin_id: int
    lane_ids: tuple[int, ...]

    @property
    def subject(self) -> str:
        """Its text in a task: ``plugin:lane,lane``."""
        return f"{self.plugin_id}:{','.join(map(str, self.lane_ids))}"

    @classmethod
    def of(cls, subject: str) -> LaneTask:
        """The task with this subject. One of an older version names a lane alone; its plugin counts as 0."""
        plugin_id, named, lane_ids = subject.partition(":")
        if not named:
            return cls(0, (int(subject),))
        return cls(int(plugin_id), tuple(map(int, lane_ids.split(","))))


def lane_tasks(plugins: Mapping[int, int], delays: Mapping[int, float]) -> list[Task]:
    """Tasks for the lanes of ``delays`` (lane id → seconds) whose plugin ``plugins`` knows. Pure."""
    together: defaultdict[tuple[int, float], list[int]] = defaultdict(list)
    for lane_id in sorted(delays):
        if lane_id in plugins:
            together[plugins[lane_id], delays[lane_id]].append(lane_id)
    tasks = []
    for (plugin_id, delay), lane_ids in together.items():
        size = min(LANES_PER_TASK, -(-len(lane_ids) // _SHARES))
        for first in range(0, len(lane_ids), size):
            named = LaneTask(plugin_id, tuple(lane_ids[first : first + size]))
            tasks.append(Task(TaskKind.LANE, named.subject, delay))
    return tasks


async def enqueue_lanes(connection: Connection, delays: Mapping[int, float]) -> tuple[Task, ...]:
    """Have somebody look at these lanes (lane id → not before so many seconds from now), in the caller's
    transaction; the tasks. Holders are reached where the caller has marked the lanes as wanted."""
    if not delays:
        return ()
    tasks = lane_tasks(await lanes.plugins_of(connection, sorted(delays)), delays)
    await enqueue(connection, tasks)
    return tuple(tasks)


async def enqueue_lanes_now(connection: Connection, lane_ids: Iterable[int]) -> tuple[Task, ...]:
    """:func:`enqueue_lanes` without any delay."""
    return await enqueue_lanes(connection, dict.fromkeys(lane_ids, 0.0))


async def wake_lanes(connection: Connection, lane_ids: Sequence[int]) -> None:
    """Have somebody look at these lanes, in the caller's transaction: whoever holds one looks again."""
    await lanes.want(connection, lane_ids)
    await enqueue_lanes_now(connection, lane_ids)
