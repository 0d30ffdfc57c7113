# SPDX-License-Identifier: Apache-2.0
"""A leased sub-job in the memory of its worker: the claimed row and the progress since."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ran_datajobs.model import ActivationMode, JobType, NextCall, OperationState, Stage, Status
from ran_datajobs.plugins.port import CreateCall, JobAddress, PluginProfile
from ran_datajobs.store.sub_jobs import LEASE_SECONDS, LeasedSubJob


@dataclass(eq=False)
class Attempt:
    """In-memory state of a leased sub-job. Lost on a crash without harm.

    ``claimed_at``, ``valid_until``: times on the executor's clock; a renewal extends ``valid_until``.
    ``sent``: its create may have been sent. ``reported_status``: the terminal status that its plugin
    reported to this process. ``reasons``: those of the operations that did not succeed.
    """

    sub_job: LeasedSubJob
    claimed_at: float
    valid_until: float = field(init=False)
    next_call: NextCall = field(init=False)
    attention: asyncio.Event = field(default_factory=asyncio.Event)
    operations: bytes | None = None
    sent: bool = False
    reported_status: Status | None = None
    reasons: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.valid_until = self.claimed_at + LEASE_SECONDS
        self.next_call = self.sub_job.next_call

    @property
    def is_unsent(self) -> bool:
        """True when the sub-job is STARTING and no create of it was sent."""
        return self.sub_job.stage is Stage.STARTING and self.sub_job.was is Stage.ADMITTED and not self.sent

    @property
    def is_read(self) -> bool:
        """True for a read sub-job."""
        return self.sub_job.type is JobType.READ

    @property
    def repeat_is_safe(self) -> bool:
        """True when a second create does no harm."""
        return self.sub_job.idempotent or self.is_read

    @property
    def brings_images(self) -> bool:
        """True for a write at a plugin that brings before-images."""
        return self.sub_job.before_images and not self.is_read

    @property
    def unfinished(self) -> OperationState:
        """The state of an operation that was sent and has no outcome."""
        return OperationState.FAILED if self.is_read else OperationState.UNKNOWN

    @property
    def plugin_to_create_at(self) -> PluginProfile:
        """The plugin with the dialect that is registered and found; later calls use that of the sub-job."""
        sub_job = self.sub_job
        registered, found = sub_job.plugin_dialect, sub_job.found_dialect
        return PluginProfile(sub_job.plugin_id, sub_job.url, registered, found_dialect=found)

    def create_call(self, operations: bytes, may_be_sent: Callable[[], bool]) -> CreateCall:
        """The create of the sub-job."""
        sub_job = self.sub_job
        return CreateCall(
            job_id=str(sub_job.job_id),
            sub_job_id=str(sub_job.sub_job_id),
            data_producer_id=sub_job.data_producer_id,
            destination=sub_job.destination or sub_job.results_bucket,
            accept_type=sub_job.accept_type,
            content_type=sub_job.content_type,
            activation_mode=ActivationMode(sub_job.activation_mode),
            is_read=self.is_read,
            operations=operations,
            dialect=sub_job.dialect,
            before_images=self.brings_images,
            may_be_sent=may_be_sent,
        )

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
            before_images=self.brings_images,
        )
