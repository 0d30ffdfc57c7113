# SPDX-License-Identifier: Apache-2.0
"""Types of answers, except those of jobs and sub-jobs (``results.job_view``)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ran_datajobs.api import paths
from ran_datajobs.model import Ignored, IgnoredKey
from ran_datajobs.reasons import REASONS, Explanation
from ran_datajobs.results.addresses import Addresses
from ran_datajobs.results.job_view import JobAnswer, SubJobAnswer, WireStatus


class SubmitAnswer(Struct, frozen=True):
    """The answer to an accepted submit: the job is durable (ONAP CPS-NCMP data jobs).

    ``ignored``: the first 100 of the ``ignoredCount`` keys of the request that were ignored; absent if none
    was.
    """

    jobId: UUID  # noqa: N815 - the wire's spelling
    status: WireStatus
    statusuri: str
    resultsuri: str
    ignored: tuple[IgnoredKey, ...] | UnsetType = UNSET
    ignoredCount: int | UnsetType = UNSET  # noqa: N815


class JobPage(Struct, frozen=True):
    """Jobs, newest first; ``next`` is the cursor of the next page."""

    items: list[JobAnswer]
    next: str | None


class SubJobPage(Struct, frozen=True):
    """Sub-jobs in their order; ``next`` is the cursor of the next page."""

    items: list[SubJobAnswer]
    next: str | None


ReasonWord = Annotated[
    str,
    Meta(
        min_length=1,
        description=f"One of those that `GET {paths.REASONS}` explains, or a word of the DMI plugin.",
        examples=[each.reason for each in REASONS if each.pattern is None],
    ),
]


class Failure(Struct, frozen=True, rename="camel"):
    """An operation that did not succeed, and why. ``data_producer_id`` is null if no data producer received
    it."""

    operation_id: str | int
    path: str
    op: str
    state: str
    reason: ReasonWord
    detail: str
    data_producer_id: str | None


class OperationOutcome(Struct, frozen=True, rename="camel"):
    """An operation with its outcome. ``reason`` and ``detail`` are empty if it succeeded. ``value``: for a
    write, the value in the request.

    ``data_producer_id`` is null if no data producer received it.
    """

    operation_id: str | int
    path: str
    op: str
    state: str
    reason: str
    detail: str
    data_producer_id: str | None
    value: Raw | UnsetType = UNSET


class OutcomeList(Struct, frozen=True):
    """Operations with their outcomes."""

    items: list[OperationOutcome]


class RequestPage(Struct, frozen=True):
    """Operations as submitted; ``next`` is the cursor of the next page."""

    items: list[Raw]
    next: str | None


class ReasonList(Struct, frozen=True):
    """Every reason of a failed operation, with its explanation."""

    items: list[Explanation]


class FailureList(Struct, frozen=True):
    """Every operation that did not succeed."""

    items: list[Failure]


class PlannedSubJob(Struct, frozen=True, rename="camel"):
    """A sub-job that a submit would create."""

    dmi_service_name: str
    data_producer_id: str
    operations: int


class PlannedOperations(Struct, frozen=True):
    """The number of operations of a submit, and of those that no CM handle owns."""

    total: int
    unmatched: int


class UnmatchedOperation(Struct, frozen=True, rename="camel"):
    """An operation that would be in no sub-job."""

    operation_id: str | int
    path: str
    reason: str


class Plan(Struct, frozen=True, rename="camel"):
    """The plan of a submit: the answer to ``dryRun``. Nothing is sent or stored.

    ``ignored``: as in the answer to a submit.
    """

    sub_jobs: list[PlannedSubJob]
    operations: PlannedOperations
    unmatched: list[UnmatchedOperation]
    ignored: tuple[IgnoredKey, ...] | UnsetType = UNSET
    ignored_count: int | UnsetType = UNSET


class TopicMessage(Struct, frozen=True):
    """A message in a topic of the embedded bus. ``value`` is JSON."""

    offset: int
    headers: dict[str, str]
    key: str | None
    value: Raw


class TopicMessages(Struct, frozen=True):
    """Messages of a topic in order."""

    items: list[TopicMessage]


class Alive(Struct, frozen=True):
    """The answer of a probe."""

    status: Literal["ok"] = "ok"


def submit_answer(job_id: UUID, bucket: str, addresses: Addresses, ignored: Ignored | None) -> SubmitAnswer:
    """The answer to a submit; a repetition returns the same bytes."""
    return SubmitAnswer(
        job_id,
        "NOT_STARTED",
        addresses.job(job_id),
        addresses.results(bucket, job_id),
        ignored.keys if ignored else UNSET,
        ignored.count if ignored else UNSET,
    )
