# SPDX-License-Identifier: Apache-2.0
"""Named crash points in the life of a job, between one durable step and the next.

The stages call :func:`reached` at each, which does nothing by default. Crash tests set a hook that kills the
process.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeAlias


class Checkpoint(enum.StrEnum):
    """The boundaries of accept, plan, start, track, cancel, collect, finish and deliver, in this order."""

    ACCEPT_CHECKED = "accept.checked"  # the request is good; nothing is stored
    ACCEPT_STORED = "accept.stored"  # the job is durable; the 202 is not sent
    PLAN_SPLIT = "plan.split"  # the sub-jobs are known; nothing is stored
    PLAN_WRITTEN = "plan.written"  # the objects of refused operations are written
    PLAN_STORED = "plan.stored"  # the sub-jobs are durable; none is started
    START_MARKED = "start.marked"  # STARTING is durable; the create is not sent
    START_SENT = "start.sent"  # the create was answered; the id is not recorded
    START_RECORDED = "start.recorded"  # the id is durable
    TRACK_REPORTED = "track.reported"  # the plugin reported a terminal status; nothing is stored
    CANCEL_SENT = "cancel.sent"  # the plugin answered the DELETE; nothing is stored
    CANCEL_RECORDED = "cancel.recorded"  # the cancel of the plugin is durable
    BULK_CANCEL_SENT = "bulk_cancel.sent"  # the plugin answered the DELETE of a whole job; nothing is stored
    COLLECT_FETCHED = "collect.fetched"  # the result is fetched; no object is written
    COLLECT_WRITTEN = "collect.written"  # the objects are written; the sub-job is not settled
    COLLECT_SETTLED = "collect.settled"  # the sub-job is settled
    FINISH_COUNTED = "finish.counted"  # the verdict is known; no manifest is written
    FINISH_WRITTEN = "finish.written"  # the manifest is written; the job is not terminal
    FINISH_STORED = "finish.stored"  # the job is terminal
    ARRIVAL_AWAITED = "arrival.awaited"  # the wait for a read's messages is durable
    ARRIVAL_WRITTEN = "arrival.written"  # a read's message is an object; it is not recorded
    ARRIVAL_STORED = "arrival.stored"  # it is recorded; its offset is not committed
    DELIVER_READ = "deliver.read"  # the messages are ready; none is published
    DELIVER_PUBLISHED = "deliver.published"  # readers can see them; the outbox still has them
    DELIVER_STORED = "deliver.stored"  # their outbox rows are deleted


CheckpointHook: TypeAlias = Callable[[Checkpoint], Awaitable[None]]

on_checkpoint: ContextVar[CheckpointHook | None] = ContextVar("on_checkpoint", default=None)
"""What the tasks of this context call at each checkpoint; ``None`` outside crash tests."""


async def reached(checkpoint: Checkpoint) -> None:
    """Call :data:`on_checkpoint`."""
    if (hook := on_checkpoint.get()) is not None:
        await hook(checkpoint)
