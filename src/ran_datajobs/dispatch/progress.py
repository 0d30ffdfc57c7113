# SPDX-License-Identifier: Apache-2.0
"""What a turn remembers of one sub-job between two of its steps. Nothing here is needed after a crash."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec import Struct

from ran_datajobs.dispatch.backoff import until_repeat
from ran_datajobs.job import Status
from ran_datajobs.southbound.plugin import CancelAnswer, CreateAnswer
from ran_datajobs.store.lanes import COLLECTING, READY, STARTING, OpenSubJob


class Moved(Struct, frozen=True):
    """A step is over, and its sub-job stands in the store as it does here."""

    sub_job: OpenSubJob


class Settled(Struct, frozen=True):
    """A step is over, and its sub-job with it."""


class Unsure(Struct, frozen=True):
    """A step is over; the store says where its sub-job stands."""


StepEnd = Moved | Settled | Unsure

FETCHING: Final = -1
"""Stands in place of the number of polls once the plugin has told a terminal status: ``trouble_since`` is
then that of the result, and no poll ends it."""


@dataclass
class Progress:
    """When a sub-job goes on, and what went wrong lately. Times are seconds of the process's own clock."""

    due_at: float
    polls: int
    trouble: str  # the last failed call in words; empty when the last one went well
    trouble_since: float | None
    failures: int = 0
    create_lost: bool = False  # a create was sent whose outcome nobody knows
    answer: CreateAnswer | None = None  # to the create, until it is recorded: it is never asked for twice
    told: Status | None = None  # the terminal status that the plugin told, where this process heard it
    stopped: CancelAnswer | None = None  # what the plugin said to the cancel of a time-out
    seen_due: datetime | None = None  # due_at in the store when the holder looked
    body: bytes | None = None  # its operations for the plugin, where they are small
    touched: bool = False
    woken: bool = False  # somebody changed something in the lane during a step that is not over

    @classmethod
    def of(cls, sub_job: OpenSubJob, now: float) -> Progress:
        """What the store knows, on this process's clock."""
        in_trouble_for = sub_job.in_trouble_for
        return cls(
            due_at=now if sub_job.stage == COLLECTING else now + (sub_job.due_in or 0.0),
            polls=sub_job.polls,
            trouble="",
            trouble_since=None if in_trouble_for is None else now - in_trouble_for,
            create_lost=sub_job.stage == STARTING,
            seen_due=sub_job.due_at,
        )

    @property
    def fetching(self) -> bool:
        """Whether the plugin has told a terminal status."""
        return self.polls == FETCHING

    def ended(self, told: Status, now: float) -> None:
        """The plugin told a terminal status. From the first one on, its result has the budget to itself."""
        self.told = told
        if not self.fetching:
            self.recovered()
            self.polls, self.trouble_since = FETCHING, now

    def seen(self, sub_job: OpenSubJob, now: float, *, woken: bool) -> None:
        """The holder looked again. ``woken``: somebody changed something in the lane: a message of a read
        came, a plugin pushed, a cancel was asked. What waits for that goes on at once."""
        pushed = sub_job.due_at is not None and sub_job.due_at != self.seen_due and not sub_job.due_in
        woken, self.woken = woken or self.woken, False
        self.seen_due = sub_job.due_at
        if sub_job.cancel_asked and sub_job.stage == READY:
            self.due_at = min(self.due_at, now)  # nobody needs to be asked
        elif pushed or (woken and not self.trouble and (sub_job.stage == COLLECTING or sub_job.cancel_asked)):
            self.due_at = min(self.due_at, now)

    def stumbled(
        self, cause: str, now: float, chance: float, asked: float | None = None, budget: float = math.inf
    ) -> None:
        """A call failed; the next one comes after a growing while, and at the latest when ``budget`` seconds
        have passed since the first of the failed ones."""
        self.trouble = cause
        self.trouble_since = now if self.trouble_since is None else self.trouble_since
        self.due_at = now + until_repeat(self.failures, chance, asked)
        self.due_at = max(now + 0.05, min(self.due_at, self.trouble_since + budget))
        self.failures += 1
        self.touched = True

    def paused(self, now: float, chance: float) -> None:
        """Something of ours is away, and the plugin has no part in it: its time budget does not run."""
        self.due_at = now + until_repeat(self.failures, chance)
        self.failures += 1
        self.touched = True

    def recovered(self) -> None:
        """A call went well again."""
        self.trouble, self.trouble_since, self.failures = "", None, 0

    def in_trouble_for(self, now: float) -> float:
        """Seconds since the first of the failed calls; 0 when the last one went well."""
        return 0.0 if self.trouble_since is None else now - self.trouble_since
