# SPDX-License-Identifier: Apache-2.0
"""Wire form of jobs and sub-jobs: in answers of the API, in events, on the status topic.

Source: ONAP CPS-NCMP data jobs; ProcessMonitor of TS 28.622.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from ran_datajobs.config import Settings
from ran_datajobs.model import (
    EffectCounts,
    IgnoredKey,
    OperationCounts,
    OperationWarning,
    Reach,
    Status,
    wire_status,
)
from ran_datajobs.results import waits
from ran_datajobs.results.waits import WaitingFor
from ran_datajobs.store import jobs as store_jobs
from ran_datajobs.store.database import Connection
from ran_datajobs.store.jobs import JobRow, SubJobRow

JOBS: Final = "/ranoam/cm/v1/dataJob"
BUCKETS: Final = "/s3-bucket"

WireStatus = Literal[
    "NOT_STARTED", "RUNNING", "FINSHED", "FINISHED", "FAILED", "PARTIALLY_FAILED", "CANCELLING", "CANCELLED"
]
"""FINISHED has two spellings on the wire: ``FINSHED`` unless the service is configured otherwise."""


class JobAnswer(Struct, frozen=True, rename="camel"):
    """A data job. ``reason`` is there when it is FAILED or PARTIALLY_FAILED. Times are RFC 3339, UTC.

    ``delivery_detail`` is why the delivery waits or has failed, and ``waiting_for`` what the job waits for.
    After a cancel, ``cancelled_at`` is when it was accepted and ``ended_after_cancel`` how many operations
    plugins had executed, with or without success, that were counted after it.
    ``ignored`` is there when keys of the request mean nothing here: the first 100 of ``ignored_count``, and
    ``warnings`` when the validation warns of operations: the first 100 of ``warning_count``. ``preview`` and
    ``reach`` are there when a preview has ended.
    """

    job_id: UUID
    status: WireStatus
    statusuri: str
    resultsuri: str
    type: Literal["READ", "WRITE", "PREVIEW"]
    name: str | None
    destination: str | None
    priority: int
    retry_of: UUID | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress_percentage: int
    operations: OperationCounts
    sub_jobs: dict[str, int]
    delivery_state: Literal["PENDING", "DELIVERED", "FAILED"]
    delivery_detail: str | UnsetType = UNSET
    waiting_for: WaitingFor | UnsetType = UNSET
    cancelled_at: datetime | UnsetType = UNSET
    ended_after_cancel: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    ignored: tuple[IgnoredKey, ...] | UnsetType = UNSET
    ignored_count: int | UnsetType = UNSET
    warnings: tuple[OperationWarning, ...] | UnsetType = UNSET
    warning_count: int | UnsetType = UNSET
    preview: EffectCounts | UnsetType = UNSET
    reach: Reach | UnsetType = UNSET


class SubJobAnswer(Struct, frozen=True, rename="camel"):
    """The part of a job for one (DMI plugin, data producer)."""

    sub_job_id: UUID
    dmi_service_name: str
    data_producer_id: str
    data_producer_job_id: str | None
    status: WireStatus
    operations: OperationCounts
    attempts: int
    last_error: str | None
    waiting_for: WaitingFor | UnsetType = UNSET


class JobView(Struct, frozen=True):
    """Converts stored rows to their wire form. Addresses are absolute, and independent of the Host of a
    request."""

    settings: Settings

    def job_uri(self, job_id: UUID) -> str:
        """``statusuri`` of a job."""
        return f"{self.settings.effective_api_root}{JOBS}/{job_id}"

    def results_uri(self, bucket: str, job_id: UUID) -> str:
        """``resultsuri`` of a job: its manifest."""
        return f"{self.settings.effective_api_root}{BUCKETS}/{bucket}?jobId={job_id}"

    def object_uri(self, bucket: str, key: str) -> str:
        """Address of one result object by its key."""
        return f"{self.settings.effective_api_root}{BUCKETS}/{bucket}/{key}"

    def status(self, status: Status) -> WireStatus:
        """Wire spelling of ``status``."""
        return wire_status(status, self.settings.finished_spelling)  # type: ignore[return-value]  # the settings allow two spellings

    async def jobs(self, connection: Connection, rows: Sequence[JobRow], sees: str | None) -> list[JobAnswer]:
        """The jobs as GET shows them. They name only jobs of the client ``sees``; ``None``: of any client."""
        counts = await store_jobs.count_sub_jobs(connection, [row.job_id for row in rows])
        waiting = await waits.of_jobs(connection, rows, sees, self.settings)
        return [self.job(row, counts[row.job_id], waiting.get(row.job_id)) for row in rows]

    async def sub_jobs(
        self, connection: Connection, rows: Sequence[SubJobRow], sees: str | None
    ) -> list[SubJobAnswer]:
        """The sub-jobs as the list shows them; ``sees``: see :meth:`jobs`."""
        open_ones = [row.sub_job_id for row in rows if not row.status.terminal]
        waiting = await waits.of_sub_jobs(connection, open_ones, sees, self.settings)
        return [self.sub_job(row, waiting.get(row.sub_job_id)) for row in rows]

    def job(
        self, row: JobRow, sub_jobs: Mapping[Status, int], waiting: WaitingFor | None = None
    ) -> JobAnswer:
        """The job as GET shows it. ``sub_jobs``: number of its sub-jobs by status."""
        return JobAnswer(
            job_id=row.job_id,
            status=self.status(row.status),
            statusuri=self.job_uri(row.job_id),
            resultsuri=self.results_uri(row.bucket_named, row.job_id),
            type=row.type.value,
            name=row.name,
            destination=row.destination,
            priority=row.priority,
            retry_of=row.retry_of,
            created_at=row.created_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            progress_percentage=progress(row.counts, terminal=row.status.terminal),
            operations=row.counts,
            sub_jobs={self.status(status): count for status, count in sub_jobs.items()},
            delivery_state=row.delivery_state.value,
            delivery_detail=row.delivery_detail or UNSET,
            waiting_for=waiting or UNSET,
            cancelled_at=row.cancelled_at or UNSET,
            ended_after_cancel=UNSET if row.ended_after_cancel is None else row.ended_after_cancel,
            reason=row.reason or UNSET,
            ignored=row.ignored.keys if row.ignored else UNSET,
            ignored_count=row.ignored.count if row.ignored else UNSET,
            warnings=row.warnings.items if row.warnings else UNSET,
            warning_count=row.warnings.count if row.warnings else UNSET,
            preview=row.preview or UNSET,
            reach=row.reach or UNSET,
        )

    def sub_job(self, row: SubJobRow, waiting: WaitingFor | None = None) -> SubJobAnswer:
        """The sub-job as the list shows it."""
        return SubJobAnswer(
            sub_job_id=row.sub_job_id,
            dmi_service_name=row.url,
            data_producer_id=row.data_producer_id,
            data_producer_job_id=row.data_producer_job_id,
            status=self.status(row.status),
            operations=row.counts,
            attempts=row.attempts,
            last_error=row.last_error,
            waiting_for=waiting or UNSET,
        )


def progress(counts: OperationCounts, *, terminal: bool) -> int:
    """``progressPercentage`` (TS 28.622 ProcessMonitor): 0 to 100, and 100 in a terminal job only."""
    if terminal:
        return 100
    return min(99, (counts.total - counts.pending) * 100 // counts.total)
