# SPDX-License-Identifier: Apache-2.0
"""The rows of the in-memory twin: the columns of the tables that dispatch reads or writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from ran_datajobs.model import JobType, NextCall, Stage, Status
from ran_datajobs.store.results import Part

OPEN = frozenset({Status.NOT_STARTED, Status.RUNNING, Status.CANCELLING})
INACTIVE = frozenset({Stage.WAITING, Stage.SETTLED})
COUNTED = frozenset({Stage.QUARANTINED, Stage.SETTLED})


@dataclass(eq=False)
class PluginRow:
    """A registered DMI plugin."""

    plugin_id: int
    url: str
    dialect: str = "seed"
    found_dialect: str | None = None
    idempotent: bool = False
    read_slots: int | None = None
    give_up: float | None = None
    sub_job_timeout: float | None = None
    bulk_cancel: bool = False


@dataclass(eq=False)
class CancelRow:
    """A cancelled job for which a plugin gets, or got, a cancel call."""

    job_id: UUID
    plugin_id: int
    due_at: float | None
    refused: bool = False
    failing_since: float | None = None
    lease: UUID | None = None
    leased_by: UUID | None = None
    leased_until: float = 0.0


@dataclass(eq=False)
class LaneRow:
    """A (plugin, data producer). ``served``: when each client was last served."""

    lane_id: int
    plugin_id: int
    data_producer_id: str
    served: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class JobRow:
    """A data job. Times are seconds of the twin's clock."""

    job_id: UUID
    seq: int
    client: str
    type: JobType
    priority: int
    after: tuple[UUID, ...]
    bucket: str
    operations: int
    body: bytes
    created_at: float
    due_at: float | None
    blocked: bool = False
    status: Status = Status.NOT_STARTED
    reason: str | None = None
    cancel_requested: bool = False
    planned: bool = False
    split_reads: bool = False
    sub_jobs: int = 0
    sub_jobs_open: int = 0
    cancelled_sub_jobs: int = 0
    succeeded: int = 0
    failed: int = 0
    unmatched: int = 0
    not_started: int = 0
    unknown: int = 0
    step_failures: int = 0
    objects_cause: str | None = None
    lease: UUID | None = None
    leased_by: UUID | None = None
    leased_until: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    version: int = 0


@dataclass(eq=False)
class SubJobRow:
    """A sub-job. Times are seconds of the twin's clock."""

    sub_job_id: UUID
    job_id: UUID
    position: int
    lane_id: int
    plugin_id: int
    type: JobType
    job_seq: int
    client: str
    priority: int
    blocked: bool
    cancel_requested: bool
    due_at: float | None
    body: bytes | None
    body_bytes: int
    operations: int
    created_at: float
    dialect: str
    stage: Stage = Stage.WAITING
    status: Status = Status.NOT_STARTED
    lease: UUID | None = None
    leased_by: UUID | None = None
    leased_until: float = 0.0
    attention: bool = False
    attempts: int = 0
    polls: int = 0
    data_producer_job_id: str | None = None
    result_topic: str | None = None
    result_total: int | None = None
    messages: int = 0
    reported_status: Status | None = None
    last_error: str | None = None
    failing_since: float | None = None
    objects_cause: str | None = None
    objects_since: float | None = None
    started_at: float | None = None
    last_message_at: float | None = None
    ended_at: float | None = None
    quarantined_until: float | None = None
    succeeded: int = 0
    failed: int = 0
    not_started: int = 0
    unknown: int = 0

    @property
    def next_call(self) -> NextCall:
        """What it does next."""
        if self.stage is Stage.STARTING or (self.stage is Stage.ADMITTED and not self.cancel_requested):
            return NextCall.CREATE
        if not self.cancel_requested:
            return NextCall.OTHER
        return NextCall.END_UNSENT if self.stage in (Stage.WAITING, Stage.ADMITTED) else NextCall.DELETE

    @property
    def active(self) -> bool:
        """True while it occupies a slot of its lane."""
        return self.stage not in INACTIVE

    @property
    def counted(self) -> bool:
        """True once its outcomes are counted."""
        return self.stage in COUNTED


@dataclass(eq=False)
class PartRow:
    """A result object. ``outcomes``: packed; for a message of a read."""

    part: Part
    outcomes: bytes | None = None
