# SPDX-License-Identifier: Apache-2.0
"""The vocabulary: data job, sub-job, operation, outcome, and the closed set of their states.

This module imports nothing of ours. Everything here is a value.

Sources: ONAP CPS-NCMP data-job pages; ProcessMonitor of 3GPP TS 28.623; JSON patch of TS 32.158 §6.4.3;
activation modes of TS 28.572.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from msgspec import UNSET, Raw, Struct, UnsetType


class Status(enum.StrEnum):
    """State of a data job or of a sub-job (ProcessMonitor.status, TS 28.623).

    ``FINISHED`` is spelt ``FINSHED`` on the wire: see :func:`wire_status` and :func:`read_status`.
    """

    NOT_STARTED = "NOT_STARTED"  # accepted and durable; nothing was sent to a plugin
    RUNNING = "RUNNING"  # at least one sub-job was started
    FINISHED = "FINISHED"  # every operation succeeded
    FAILED = "FAILED"  # no operation succeeded
    PARTIALLY_FAILED = "PARTIALLY_FAILED"  # some succeeded, some did not
    CANCELLING = "CANCELLING"  # a cancel was asked; sub-jobs are still being settled
    CANCELLED = "CANCELLED"  # a cancel stopped at least one sub-job

    @property
    def terminal(self) -> bool:
        """True when no arrow leads out of this state."""
        return not ALLOWED[self]


ALLOWED: Final[dict[Status, frozenset[Status]]] = {
    Status.NOT_STARTED: frozenset({Status.RUNNING, Status.FAILED, Status.CANCELLING, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.FINISHED, Status.FAILED, Status.PARTIALLY_FAILED, Status.CANCELLING}),
    Status.CANCELLING: frozenset({Status.CANCELLED, Status.FINISHED, Status.PARTIALLY_FAILED, Status.FAILED}),
    Status.FINISHED: frozenset(),
    Status.FAILED: frozenset(),
    Status.PARTIALLY_FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""The only arrows between states. A terminal state has none."""


class Stage(enum.StrEnum):
    """Where a sub-job stands in its lane, one (DMI plugin, data producer)."""

    WAITING = "WAITING"  # waits for a place in its lane
    ADMITTED = "ADMITTED"  # has its place; the create is to be sent
    STARTING = "STARTING"  # the create is being sent: after a crash its outcome is unknown
    TRACKING = "TRACKING"  # the plugin has it; its status is polled
    COLLECTING = "COLLECTING"  # terminal at the plugin; the result is being fetched
    QUARANTINED = (
        "QUARANTINED"  # counted; its plugin may still be executing it: the lane starts no other write
    )
    SETTLED = "SETTLED"  # counted; nothing more happens


STAGES: Final[dict[Stage, frozenset[Stage]]] = {
    Stage.WAITING: frozenset({Stage.ADMITTED, Stage.SETTLED}),
    Stage.ADMITTED: frozenset({Stage.STARTING, Stage.SETTLED}),
    Stage.STARTING: frozenset({Stage.ADMITTED, Stage.TRACKING, Stage.QUARANTINED, Stage.SETTLED}),
    Stage.TRACKING: frozenset({Stage.COLLECTING, Stage.QUARANTINED, Stage.SETTLED}),
    Stage.COLLECTING: frozenset({Stage.QUARANTINED, Stage.SETTLED}),
    Stage.QUARANTINED: frozenset({Stage.SETTLED}),
    Stage.SETTLED: frozenset(),
}
"""The only arrows between stages."""


class LaneState(enum.StrEnum):
    """Whether a lane starts a write; derived from the stages of its writes, and not stored."""

    FREE = "FREE"  # no write of it is active: the next one is admitted
    OCCUPIED = "OCCUPIED"  # one write is ADMITTED, STARTING, TRACKING or COLLECTING
    QUARANTINED = "QUARANTINED"  # one write is QUARANTINED


LANES: Final[dict[LaneState, frozenset[LaneState]]] = {
    LaneState.FREE: frozenset({LaneState.OCCUPIED}),
    LaneState.OCCUPIED: frozenset({LaneState.FREE, LaneState.QUARANTINED}),
    LaneState.QUARANTINED: frozenset({LaneState.FREE, LaneState.OCCUPIED}),
}
"""The only arrows between states of a lane. It stays OCCUPIED where a write that ends admits the next."""


def lane_state(active_write: Stage | None) -> LaneState:
    """The state of a lane, by the stage of its one write that is neither WAITING nor SETTLED."""
    if active_write is None:
        return LaneState.FREE
    return LaneState.QUARANTINED if active_write is Stage.QUARANTINED else LaneState.OCCUPIED


DEFAULT_FINISHED_SPELLING: Final = "FINSHED"
"""The literal of ProcessMonitor in every version of TS 28.623 up to 19.7, and of ONAP's pages."""


def wire_status(status: Status, finished: str = DEFAULT_FINISHED_SPELLING) -> str:
    """The spelling of ``status`` that goes over the wire."""
    return finished if status is Status.FINISHED else status.value


_READ: Final = {status.value: status for status in Status} | {"FINSHED": Status.FINISHED}


def read_status(text: object) -> Status | None:
    """The status a peer wrote; ``FINSHED`` and ``FINISHED`` both read as finished; else ``None``."""
    return _READ.get(text) if isinstance(text, str) else None


class JobType(enum.StrEnum):
    """All operations of one job are reads, or none is."""

    READ = "READ"
    WRITE = "WRITE"


class Op(enum.StrEnum):
    """What an operation does (TS 32.158 §6.4.3; ``read`` and ``action`` from ONAP's data-job page)."""

    READ = "read"  # objects selected by scope and filter
    ADD = "add"  # create an object, or set or append an attribute
    REPLACE = "replace"  # set an attribute to a new value
    MERGE = "merge"  # RFC 7396 merge into an object's attributes
    REMOVE = "remove"  # delete a leaf object, or an attribute
    ACTION = "action"  # call a named action of an object
    TEST = "test"  # fail unless an attribute has this value


class ActivationMode(enum.StrEnum):
    """How far a sub-job goes after a failure (TS 28.572 activationMode; ``ATOMIC`` is not offered)."""

    BEST_EFFORT = "BEST_EFFORT"  # every operation is tried
    STOP_ON_ERROR = "STOP_ON_ERROR"  # the first failure ends the sub-job, the rest is NOT_STARTED


class ScopeType(enum.StrEnum):
    """Which objects below the base a read reaches (TS 32.158 §6.1)."""

    BASE_ONLY = "BASE_ONLY"  # the base object
    BASE_ALL = "BASE_ALL"  # the base object and everything below it
    BASE_NTH_LEVEL = "BASE_NTH_LEVEL"  # the objects exactly n levels below the base
    BASE_SUBTREE = "BASE_SUBTREE"  # the base object down to level n, n included


class OperationState(enum.StrEnum):
    """What became of one operation."""

    SUCCEEDED = "SUCCEEDED"  # applied, or read
    FAILED = "FAILED"  # refused by us, by the plugin or by the element; nothing was changed
    NOT_STARTED = "NOT_STARTED"  # never sent, or never reached by the plugin
    UNKNOWN = "UNKNOWN"  # may have been executed: nobody can tell


OPERATIONS: Final[dict[OperationState, frozenset[OperationState]]] = {
    state: frozenset() for state in OperationState
}
"""An operation has no state until its outcome is known; no arrow leads from one outcome to another."""


_FROM_BEST_TO_WORST: Final = {
    OperationState.SUCCEEDED: 0,
    OperationState.NOT_STARTED: 1,
    OperationState.FAILED: 2,
    OperationState.UNKNOWN: 3,
}


def worst(states: Iterable[OperationState]) -> OperationState:
    """The one state of an operation of which several are told; SUCCEEDED when all say so, or none is told.

    The order is SUCCEEDED, NOT_STARTED, FAILED, UNKNOWN: what nobody can tell is worse than a failure.
    """
    return max(states, key=_FROM_BEST_TO_WORST.__getitem__, default=OperationState.SUCCEEDED)


class DeliveryState(enum.StrEnum):
    """How far the results got on their way to the destination."""

    PENDING = "PENDING"  # not there yet, or being retried
    DELIVERED = "DELIVERED"  # the destination has everything
    FAILED = "FAILED"  # given up; the objects stay readable at resultsuri


DELIVERIES: Final[dict[DeliveryState, frozenset[DeliveryState]]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.DELIVERED, DeliveryState.FAILED}),
    DeliveryState.DELIVERED: frozenset({DeliveryState.PENDING}),
    DeliveryState.FAILED: frozenset({DeliveryState.PENDING}),
}
"""The only arrows of a delivery. A redeliver makes it PENDING again."""


class WaitCode(enum.StrEnum):
    """What a job or sub-job waits for; the first that holds is told.

    ``until``, where it is told, is when the service gives up, the plugin is called again, or the quarantine
    ends at the latest: see :data:`WAITS`.
    """

    OBJECTS = "OBJECTS"  # a bucket that is to take its result objects does not
    AFTER = "AFTER"  # jobs that it names in ``after`` are open
    LANE_BUSY = "LANE_BUSY"  # others have the places of its data producer
    QUARANTINE = "QUARANTINE"  # a write of its data producer may still be executed, and no other one starts
    CIRCUIT_OPEN = "CIRCUIT_OPEN"  # no call of its plugin is made for a while: many had no answer
    PLUGIN_UNAVAILABLE = "PLUGIN_UNAVAILABLE"  # calls of its plugin fail
    LIMIT = "LIMIT"  # admitted; the workers have no room for one more create of its plugin
    BUS = "BUS"  # its results wait for the message bus, or for a topic that refuses them


WAITS: Final[dict[WaitCode, tuple[str, str]]] = {
    WaitCode.OBJECTS: ("the bucket of the results", "gives up at"),
    WaitCode.AFTER: ("other jobs", ""),
    WaitCode.LANE_BUSY: ("its turn at the data producer", ""),
    WaitCode.QUARANTINE: ("the end of a quarantine", "over at the latest at"),
    WaitCode.CIRCUIT_OPEN: ("the next trial call to the DMI plugin", "called again at"),
    WaitCode.PLUGIN_UNAVAILABLE: ("the DMI plugin", "gives up at"),
    WaitCode.LIMIT: ("room in the workers", ""),
    WaitCode.BUS: ("the message bus", "gives up at"),
}
"""Of each code: what it is, and what happens at ``until``, in words; none: it has no ``until``."""


class Reason(enum.StrEnum):
    """Why an operation did not succeed, where the cause is ours and not the plugin's.

    :mod:`ran_datajobs.reasons` explains these and the plugins' words.
    """

    UNMATCHED = "UNMATCHED"  # no CM handle owns the FDN
    NO_DATA_PRODUCER = "NO_DATA_PRODUCER"  # the handle has no dataProducerIdentifier
    DMI_UNREACHABLE = "DMI_UNREACHABLE"  # the plugin was never reached, or stopped answering
    DMI_REFUSED = "DMI_REFUSED"  # the plugin answered the create with a refusal
    DMI_LOST_JOB = "DMI_LOST_JOB"  # the plugin answered 404 or 410 for a job it had accepted
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"  # the plugin may have executed it
    RESULT_INCOMPLETE = "RESULT_INCOMPLETE"  # fewer result messages came than were announced
    RESULT_UNREADABLE = "RESULT_UNREADABLE"  # the result cannot be had, or tells no outcomes
    MODE_NOT_SUPPORTED = "MODE_NOT_SUPPORTED"  # the plugin does not honour STOP_ON_ERROR
    CANCELLED = "CANCELLED"  # a cancel came first
    NOT_STARTED = "NOT_STARTED"  # an earlier failure stopped the sub-job


class Scope(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Scope of a read (TS 32.158 §6.1); ``scope_level`` counts from the base, which is level 0."""

    scope_type: ScopeType = ScopeType.BASE_ONLY
    scope_level: int | None = None


class Operation(Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """One checked line of a request.

    ``path`` has the code points of the request and ``value`` its JSON tokens: both go to the plugin as
    they came. ``operation_id`` keeps its JSON type (string or integer); :attr:`id_text` is its string.
    """

    op: Op
    path: str
    operation_id: str | int
    value: Raw | UnsetType = UNSET
    attributes: tuple[str, ...] | UnsetType = UNSET
    fields: tuple[str, ...] | UnsetType = UNSET
    filter: str | tuple[str, ...] | UnsetType = UNSET
    scope: Scope | UnsetType = UNSET

    @property
    def id_text(self) -> str:
        """The operation id as a string: ids are unique in this form."""
        return str(self.operation_id)


class IgnoredKey(Struct, frozen=True, omit_defaults=True):
    """A key of a request that means nothing here: the JSON ``pointer`` of one in the envelope, or the
    ``name`` of one in operations and the ``count`` of operations that have it."""

    pointer: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    count: int | UnsetType = UNSET


class Ignored(Struct, frozen=True):
    """The keys of a request that were ignored: the first of them, and how many there are."""

    keys: tuple[IgnoredKey, ...]
    count: int


class ErrorDetail(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """ErrorDetail of TS 28.572: why one operation failed and which data node is to blame."""

    type: str
    bad_data_node: str
    reason: str = ""
    title: str = ""
    detail: str = ""


class Response(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The outcome of one operation as it stands in results (ONAP's DataJobEvent, CPS-2154).

    ``status_code``: 0-99 success, 100-199 failure. ``result`` is a read's objects, in the job's
    ``dataAcceptType``. ``reason`` says why an operation did not succeed (:class:`Reason`, else the
    plugin's word); :func:`ran_datajobs.reasons.reason_of` finds it where it is empty. Keys that a plugin
    adds are dropped, among them any echo of private properties.
    """

    operation_id: str | int
    status_code: int
    status_message: str
    request: Raw = Raw(b"{}")
    result: Raw | UnsetType = UNSET
    state: OperationState | UnsetType = UNSET
    reason: str = ""
    errors: tuple[ErrorDetail, ...] = ()


class Counts(Struct, frozen=True, omit_defaults=False, rename="camel"):
    """How many operations are in which state; disjoint, they add up to ``total``."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    unmatched: int = 0
    not_started: int = 0
    unknown: int = 0
    pending: int = 0


UNMATCHED_PART: Final = "unmatched"
"""Stands where a sub-job id stands, for the operations that no sub-job got."""

MAX_MESSAGE_BYTES: Final = 900_000
"""Upper bound of one result object and of one bus message, before compression."""
