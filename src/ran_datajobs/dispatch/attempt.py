# SPDX-License-Identifier: Apache-2.0
"""A leased sub-job in the memory of its worker: the claimed row and the progress since."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from msgspec import Struct
from msgspec.structs import replace

from ran_datajobs.model import JobType, OperationState, Stage, Status
from ran_datajobs.plugins.port import JobAddress, PluginProfile
from ran_datajobs.store.sub_jobs import LEASE_SECONDS, Leased, LeasedSubJob


class DispatchTimes(Struct, frozen=True):
    """Time limits in seconds. A plugin's registration may override ``give_up`` and ``sub_job_timeout``."""

    give_up: float = 120.0
    sub_job_timeout: float = 3600.0
    lane_quarantine: float = 300.0
    result_idle: float = 30.0


@dataclass(eq=False)
class Attempt:
    """In-memory state of a leased sub-job. Lost on a crash without harm.

    ``claimed_at``, ``valid_until``: times on the executor's clock; a renewal extends ``valid_until``.
    ``creating``, ``cancelling``: its create, or its cancellation, counts against the limits. ``sent``: its
    create may have been sent. ``reported_status``: the terminal status that its plugin reported to this
    process.
    """

    sub_job: LeasedSubJob
    claimed_at: float
    valid_until: float
    attention: asyncio.Event = field(default_factory=asyncio.Event)
    operations: bytes | None = None
    creating: bool = False
    cancelling: bool = False
    sent: bool = False
    reported_status: Status | None = None

    @property
    def is_unsent(self) -> bool:
        """True when the sub-job is STARTING and no create of it was sent."""
        return self.sub_job.stage is Stage.STARTING and self.sub_job.was is Stage.ADMITTED and not self.sent

    @property
    def never_sent(self) -> bool:
        """True when the sub-job was cancelled before its start and ends without a call."""
        return self.sub_job.stage in (Stage.WAITING, Stage.ADMITTED)

    @property
    def leased(self) -> Leased:
        """The identifiers of the row, and its lease."""
        sub_job = self.sub_job
        return Leased(sub_job.sub_job_id, sub_job.job_id, sub_job.lane_id, sub_job.lease)

    @property
    def is_read(self) -> bool:
        """True for a read sub-job."""
        return self.sub_job.type is JobType.READ

    @property
    def repeat_is_safe(self) -> bool:
        """True when a second create does no harm."""
        return self.sub_job.idempotent or self.is_read

    @property
    def unfinished(self) -> OperationState:
        """The state of an operation that was sent and has no outcome."""
        return OperationState.FAILED if self.is_read else OperationState.UNKNOWN

    @property
    def address(self) -> JobAddress:
        """The address of the data-producer job at its plugin."""
        sub_job = self.sub_job
        return JobAddress(
            str(sub_job.job_id),
            sub_job.data_producer_id,
            sub_job.data_producer_job_id or "",
            sub_job.destination or sub_job.results_bucket,
            self.is_read,
            sub_job.operations,
        )

    def profile(self, times: DispatchTimes) -> PluginProfile:
        """The plugin's profile, with the time limits in effect for it."""
        sub_job = self.sub_job
        return PluginProfile(
            plugin_id=sub_job.plugin_id,
            url=sub_job.url,
            dialect=sub_job.dialect,
            idempotent=sub_job.idempotent,
            stop_on_error=sub_job.stop_on_error,
            give_up=times.give_up if sub_job.give_up is None else sub_job.give_up,
            sub_job_timeout=(
                times.sub_job_timeout if sub_job.sub_job_timeout is None else sub_job.sub_job_timeout
            ),
        )

    async def wait_for_attention(self, seconds: float) -> None:
        """Return when another process has changed the sub-job, or after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.attention.wait()

    def failing_for(self, now: float, reported: Status | None = None) -> float:
        """Seconds since the first failed call; for a fetch (``reported``), since its own first failure."""
        known = self.sub_job.failing_for
        if known is None or (reported is not None and self.sub_job.reported_status is None):
            return 0.0
        return known + now - self.claimed_at

    def running_for(self, now: float) -> float:
        """Seconds since the first create was marked."""
        return (self.sub_job.running_for or 0.0) + now - self.claimed_at

    def started(self, data_producer_job_id: str) -> None:
        """Update the in-memory row after the create was recorded."""
        sub_job = self.sub_job
        self.sub_job = replace(
            sub_job,
            stage=Stage.TRACKING,
            status=Status.RUNNING if sub_job.status is Status.NOT_STARTED else sub_job.status,
            data_producer_job_id=data_producer_job_id,
            polls=0,
            failing_for=None,
            running_for=sub_job.running_for or 0.0,
            body=None,
        )


def attempt_of(sub_job: LeasedSubJob, claimed_at: float) -> Attempt:
    """Return the attempt for a sub-job that was leased by a claim sent at ``claimed_at``."""
    return Attempt(sub_job, claimed_at, claimed_at + LEASE_SECONDS)
