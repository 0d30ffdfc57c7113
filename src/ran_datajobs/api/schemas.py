# SPDX-License-Identifier: Apache-2.0
"""Types of answers, except those of jobs and sub-jobs (``results.job_view``), and of the body of a submit."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ran_datajobs.api import paths
from ran_datajobs.model import ActivationMode, Effect, IgnoredKey, Op, OperationWarning, Scope, Validation
from ran_datajobs.nrm.selectors import MAX_TEXT
from ran_datajobs.planning.envelope import DEFAULT_PRIORITY, HIGHEST_PRIORITY, MAX_AFTER, MAX_NAME
from ran_datajobs.planning.keys import NOT_OFFERED
from ran_datajobs.plugins.wire import ACCEPT_TYPES, CONTENT_TYPES
from ran_datajobs.reasons import REASONS, Explanation
from ran_datajobs.results.job_view import JobAnswer, SubJobAnswer, WireStatus

_Texts = list[str] | str | UnsetType
_NOT_OFFERED = f"{', '.join(NOT_OFFERED.values())} are not offered yet: 422."


class SubmittedOperation(Struct, rename="camel"):
    """An operation in the body of a submit, for the OpenAPI document."""

    op: Op
    path: Annotated[
        str | UnsetType,
        Meta(
            description="FDN of a managed object, with a fragment for an attribute or an action. Mandatory "
            "without dataNodeSelector.",
            examples=["/SubNetwork=Europe/ManagedElement=NR01/GNBDUFunction=1#/attributes/userLabel"],
        ),
    ] = UNSET
    operation_id: Annotated[
        str | int | UnsetType, Meta(description="Unique as a string; absent: the position from 0.")
    ] = UNSET
    value: Annotated[
        Any, Meta(description="What is written; an action's {\"input\": ...}. A remove's is ignored.")
    ] = UNSET
    attributes: Annotated[_Texts, Meta(description="Read: names of attributes.")] = UNSET
    fields: Annotated[_Texts, Meta(description="Read: JSON Pointers.")] = UNSET
    filter: Annotated[_Texts, Meta(description="Read: conditions that must all hold.")] = UNSET
    scope: Scope | UnsetType = UNSET
    data_node_selector: Annotated[
        Annotated[str, Meta(max_length=MAX_TEXT)] | UnsetType,
        Meta(
            description="Read: selectors (Jex basic of TS 32.161, with `//` and `contains(id,...)`), one a "
            "line or separated by the word OR, in place of path, attributes, fields, filter and scope.",
            examples=['//ManagedElement[contains(id,"NR01")]/attributes/userLabel'],
        ),
    ] = UNSET


_AcceptType = Annotated[str, Meta(extra_json_schema={"enum": sorted(ACCEPT_TYPES)})]
_ContentType = Annotated[str, Meta(extra_json_schema={"enum": sorted(CONTENT_TYPES)})]


class SubmitBody(Struct, rename="camel"):
    """The body of a submit, for the OpenAPI document."""

    data: Annotated[list[SubmittedOperation], Meta(min_length=1)]
    data_accept_type: _AcceptType | UnsetType = UNSET
    data_content_type: _ContentType | UnsetType = UNSET
    name: Annotated[str, Meta(max_length=MAX_NAME)] | UnsetType = UNSET
    activation_mode: ActivationMode = ActivationMode.BEST_EFFORT
    validation: Annotated[
        Validation,
        Meta(
            description="Whether operations are compared with the class model of their CM handle. STRICT: "
            "what is wrong fails and is not sent; WARN: it is sent, and listed in `warnings`."
        ),
    ] = Validation.OFF
    priority: Annotated[int, Meta(ge=0, le=HIGHEST_PRIORITY)] = DEFAULT_PRIORITY
    after: Annotated[list[UUID], Meta(max_length=MAX_AFTER)] | UnsetType = UNSET


SUBMIT = Annotated[
    SubmitBody,
    Meta(
        title="Submit",
        description="Keys of the body count in any case; one that stands twice is a 400. Keys of operations "
        "are exact. Other keys, and a read's in a write, are ignored and listed in `ignored`, but one of the "
        f"body that is one edit away from a key that is missing is a 400. {_NOT_OFFERED}",
    ),
]


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
    it. ``data_node_selector``: the selectors of this part of a read, if it has any; ``path`` is then the FDN
    with which they begin, or ``/``."""

    operation_id: str | int
    path: str
    op: str
    state: str
    reason: ReasonWord
    detail: str
    data_producer_id: str | None
    data_node_selector: str | UnsetType = UNSET


class OperationOutcome(Failure, frozen=True, rename="camel"):
    """An operation with its outcome. ``reason`` and ``detail`` are empty if it succeeded. ``value``: for a
    write or a preview, the value in the request. ``before``: the object directly before a write, if the
    plugin tells it. ``effect``: of a preview.

    ``data_producer_id`` is null if no data producer received it.
    """

    reason: str
    value: Raw | UnsetType = UNSET
    before: Raw | UnsetType = UNSET
    effect: Effect | UnsetType = UNSET


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
    """An operation that would be in no sub-job, or a part of a read that would not. ``detail``: of the policy
    executor or the validation, if that is why."""

    operation_id: str | int
    path: str
    reason: str
    data_node_selector: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class Plan(Struct, frozen=True, rename="camel"):
    """The plan of a submit: the answer to ``dryRun``. Nothing is sent or stored.

    ``ignored``: as in the answer to a submit. ``warnings``: the first 100 of the ``warningCount`` of the
    validation; absent if there are none.
    """

    sub_jobs: list[PlannedSubJob]
    operations: PlannedOperations
    unmatched: list[UnmatchedOperation]
    ignored: tuple[IgnoredKey, ...] | UnsetType = UNSET
    ignored_count: int | UnsetType = UNSET
    warnings: tuple[OperationWarning, ...] | UnsetType = UNSET
    warning_count: int | UnsetType = UNSET


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
