# SPDX-License-Identifier: Apache-2.0
"""Domain model: data job, sub-job, operation, outcome, and their states with the allowed transitions.

This module imports no other module of the package, and holds only values.

Sources: ONAP CPS-NCMP data-job pages; ProcessMonitor of 3GPP TS 28.623; JSON patch of TS 32.158 §6.4.3;
activation modes of TS 28.572.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final

from msgspec import UNSET, Raw, Struct, UnsetType, field


class Status(enum.StrEnum):
    """State of a data job or of a sub-job (ProcessMonitor.status, TS 28.623).

    ``FINISHED`` is spelt ``FINSHED`` on the wire: see :func:`wire_status` and :func:`read_status`.
    """

    NOT_STARTED = "NOT_STARTED"  # accepted and durable; nothing was sent to a plugin
    RUNNING = "RUNNING"  # at least one sub-job was started
    FINISHED = "FINISHED"  # every operation succeeded
    FAILED = "FAILED"  # no operation succeeded
    PARTIALLY_FAILED = "PARTIALLY_FAILED"  # some succeeded, some did not
    CANCELLING = "CANCELLING"  # a cancel was requested; sub-jobs are still being settled
    CANCELLED = "CANCELLED"  # a cancel stopped at least one sub-job

    @property
    def terminal(self) -> bool:
        """True when no transition leads out of this state."""
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
"""The allowed transitions between states. A terminal state has none."""


class Stage(enum.StrEnum):
    """Stage of a sub-job in its lane, the queue of one (DMI plugin, data producer)."""

    WAITING = "WAITING"  # waits for a slot in its lane
    ADMITTED = "ADMITTED"  # has a slot; the create is to be sent
    STARTING = "STARTING"  # the create is being sent: after a crash its outcome is unknown
    TRACKING = "TRACKING"  # the plugin accepted it; its status is polled
    COLLECTING = "COLLECTING"  # terminal at the plugin; the result is being fetched
    QUARANTINED = (
        "QUARANTINED"  # counted; its plugin may still be executing it: the lane starts no other write
    )
    SETTLED = "SETTLED"  # counted; nothing more happens


class NextCall(enum.StrEnum):
    """What a sub-job does next, as far as the limits distinguish it."""

    CREATE = "CREATE"  # its create is to be sent, or may have been sent
    DELETE = "DELETE"  # its plugin is to cancel it
    END_UNSENT = "END_UNSENT"  # it was cancelled before its start and ends without a call
    OTHER = "OTHER"  # a poll or a fetch


STAGES: Final[dict[Stage, frozenset[Stage]]] = {
    Stage.WAITING: frozenset({Stage.ADMITTED, Stage.SETTLED}),
    Stage.ADMITTED: frozenset({Stage.STARTING, Stage.SETTLED}),
    Stage.STARTING: frozenset({Stage.ADMITTED, Stage.TRACKING, Stage.QUARANTINED, Stage.SETTLED}),
    Stage.TRACKING: frozenset({Stage.COLLECTING, Stage.QUARANTINED, Stage.SETTLED}),
    Stage.COLLECTING: frozenset({Stage.QUARANTINED, Stage.SETTLED}),
    Stage.QUARANTINED: frozenset({Stage.SETTLED}),
    Stage.SETTLED: frozenset(),
}
"""The allowed transitions between stages."""


class LaneState(enum.StrEnum):
    """Whether a lane can start a write; derived, not stored: from the stage of the one write of it that is
    neither WAITING nor SETTLED."""

    FREE = "FREE"  # no write of it is active: the next one is admitted
    OCCUPIED = "OCCUPIED"  # one write is ADMITTED, STARTING, TRACKING or COLLECTING
    QUARANTINED = "QUARANTINED"  # one write is QUARANTINED


DEFAULT_FINISHED_SPELLING: Final = "FINSHED"
"""Spelling in ProcessMonitor of every version of TS 28.623 up to 19.7, and in the pages of ONAP."""


def wire_status(status: Status, finished: str = DEFAULT_FINISHED_SPELLING) -> str:
    """Wire spelling of ``status``."""
    return finished if status is Status.FINISHED else status.value


_READ: Final = {status.value: status for status in Status} | {"FINSHED": Status.FINISHED}


def read_status(text: object) -> Status | None:
    """Status that a peer wrote; ``FINSHED`` and ``FINISHED`` both mean finished; else ``None``."""
    return _READ.get(text) if isinstance(text, str) else None


class JobType(enum.StrEnum):
    """Type of a job: all its operations are reads, or none is. The sub-jobs of a preview are reads."""

    READ = "READ"
    WRITE = "WRITE"
    PREVIEW = "PREVIEW"  # of writes: their effects are computed from what is read, and nothing is written


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


class Validation(enum.StrEnum):
    """What happens to an operation that the class model of its object does not allow."""

    OFF = "OFF"  # operations are not validated
    WARN = "WARN"  # it is sent, and the job has a warning
    STRICT = "STRICT"  # it fails and is not sent; what the model does not know gives a warning


class ScopeType(enum.StrEnum):
    """Which objects below the base a read reaches (TS 32.158 §6.1)."""

    BASE_ONLY = "BASE_ONLY"  # the base object
    BASE_ALL = "BASE_ALL"  # the base object and everything below it
    BASE_NTH_LEVEL = "BASE_NTH_LEVEL"  # the objects exactly n levels below the base
    BASE_SUBTREE = "BASE_SUBTREE"  # the base object down to level n, n included


class OperationState(enum.StrEnum):
    """Outcome of one operation, from the best to the worst. It does not change once it is known."""

    SUCCEEDED = "SUCCEEDED"  # applied, or read
    NOT_STARTED = "NOT_STARTED"  # never sent, or never reached by the plugin
    FAILED = "FAILED"  # refused by the service, the plugin or the element; nothing was changed
    UNKNOWN = "UNKNOWN"  # may have been executed


_RANK: Final = {state: rank for rank, state in enumerate(OperationState)}


def worst(states: Iterable[OperationState]) -> OperationState:
    """The worst of the states reported for one operation; SUCCEEDED without any.

    The order is SUCCEEDED, NOT_STARTED, FAILED, UNKNOWN: an unknown outcome is worse than a failure.
    """
    return max(states, key=_RANK.__getitem__, default=OperationState.SUCCEEDED)


class DeliveryState(enum.StrEnum):
    """State of the delivery of the results to the destination."""

    PENDING = "PENDING"  # not complete, or being retried
    DELIVERED = "DELIVERED"  # the destination has everything
    FAILED = "FAILED"  # timed out; the objects stay readable at resultsuri


DELIVERIES: Final[dict[DeliveryState, frozenset[DeliveryState]]] = {
    DeliveryState.PENDING: frozenset({DeliveryState.DELIVERED, DeliveryState.FAILED}),
    DeliveryState.DELIVERED: frozenset({DeliveryState.PENDING}),
    DeliveryState.FAILED: frozenset({DeliveryState.PENDING}),
}
"""The allowed transitions of a delivery. A redeliver makes it PENDING again."""


class WaitCode(enum.StrEnum):
    """What a job or sub-job waits for; the first that applies is reported.

    ``until``, if reported, is the time when the service stops retrying, when it calls the plugin again, or
    when the quarantine ends at the latest: see :data:`WAITS`.
    """

    OBJECTS = "OBJECTS"  # a bucket does not take its result objects
    AFTER = "AFTER"  # jobs named in its ``after`` are open
    LANE_BUSY = "LANE_BUSY"  # other sub-jobs have the slots of its data producer
    QUARANTINE = "QUARANTINE"  # a write of its data producer may still be executing; no other one starts
    CIRCUIT_OPEN = "CIRCUIT_OPEN"  # calls of its plugin are suspended, after many without an answer
    PLUGIN_UNAVAILABLE = "PLUGIN_UNAVAILABLE"  # calls of its plugin fail
    LIMIT = "LIMIT"  # admitted; the workers have no capacity for another create of its plugin
    BUS = "BUS"  # its results wait for the message bus, or for a topic that refuses them


WAITS: Final[dict[WaitCode, tuple[str, str]]] = {
    WaitCode.OBJECTS: ("the bucket of the results", "times out at"),
    WaitCode.AFTER: ("other jobs", ""),
    WaitCode.LANE_BUSY: ("a slot at the data producer", ""),
    WaitCode.QUARANTINE: ("the end of a quarantine", "over at the latest at"),
    WaitCode.CIRCUIT_OPEN: ("the next trial call to the DMI plugin", "called again at"),
    WaitCode.PLUGIN_UNAVAILABLE: ("the DMI plugin", "times out at"),
    WaitCode.LIMIT: ("a free worker slot", ""),
    WaitCode.BUS: ("the message bus", "times out at"),
}
"""For each code, in words: what is waited for, and what happens at ``until``; empty without ``until``."""


class Reason(enum.StrEnum):
    """Why an operation did not succeed, if the service and not the plugin gives the reason.

    :mod:`ran_datajobs.reasons` explains these and the reasons that plugins give.
    """

    UNMATCHED = "UNMATCHED"  # no CM handle owns the FDN
    NO_DATA_PRODUCER = "NO_DATA_PRODUCER"  # the handle has no dataProducerIdentifier, or no plugin
    DMI_UNREACHABLE = "DMI_UNREACHABLE"  # the plugin was never reached, or stopped answering
    DMI_REFUSED = "DMI_REFUSED"  # the plugin answered the create with a refusal
    DMI_LOST_JOB = "DMI_LOST_JOB"  # the plugin answered 404 or 410 for a job it had accepted
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"  # the plugin may have executed it
    RESULT_INCOMPLETE = "RESULT_INCOMPLETE"  # fewer result messages came than were announced
    RESULT_UNREADABLE = "RESULT_UNREADABLE"  # the result cannot be fetched or read, or has no outcomes
    MODE_NOT_SUPPORTED = (
        "MODE_NOT_SUPPORTED"  # the plugin does not honour STOP_ON_ERROR, or does not read by selector
    )
    VALIDATION_FAILED = "VALIDATION_FAILED"  # the class model does not allow it; TS 28.572 has no word for it
    POLICY_DENIED = "POLICY_DENIED"  # the policy executor did not allow it, or could not be asked
    CHANGED_SINCE = "CHANGED_SINCE"  # the object is not as the guard of the operation expects it
    EFFECT_UNKNOWN = "EFFECT_UNKNOWN"  # a preview cannot compute the effect from what it has read
    CANCELLED = "CANCELLED"  # a cancel came first
    NOT_STARTED = "NOT_STARTED"  # an earlier failure stopped the sub-job, or a denial the job


class Scope(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Scope of a read (TS 32.158 §6.1); ``scope_level`` counts from the base, which is level 0.

    ``scopeType`` is always sent: the default of a factory is never left out.
    """

    scope_type: ScopeType = field(default_factory=lambda: ScopeType.BASE_ONLY)
    scope_level: int | None = None


class ObjectState(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is expected of a managed object (``expect`` of an operation), or what it was (``before`` of a
    response). Exactly one of the members is given.

    ``attributes``: the object exists, and its attributes have these values; null is an attribute without a
    value. ``absent``: it does not exist. ``exists``: it does.
    """

    attributes: dict[str, Any] | UnsetType = UNSET
    absent: bool = False
    exists: bool = False

    @property
    def is_one(self) -> bool:
        """False if none of the members is given, or several are."""
        return (self.attributes is not UNSET) + self.absent + self.exists == 1


class Operation(Struct, frozen=True, omit_defaults=True, rename="camel", gc=False):
    """One validated operation of a request.

    ``path`` has the code points of the request and ``value`` its JSON tokens: both are sent to the plugin
    unchanged. ``operation_id`` keeps its JSON type (string or integer); :attr:`id_text` is its string. A read
    by ``data_node_selector`` has as path the FDN of an object that is, or contains, all that it selects;
    ``/`` if there is none. ``expect``: the guard of a write.
    """

    op: Op
    path: str
    operation_id: str | int
    value: Raw | UnsetType = UNSET
    attributes: tuple[str, ...] | UnsetType = UNSET
    fields: tuple[str, ...] | UnsetType = UNSET
    filter: str | tuple[str, ...] | UnsetType = UNSET
    scope: Scope | UnsetType = UNSET
    data_node_selector: str | UnsetType = UNSET
    expect: ObjectState | UnsetType = UNSET

    @property
    def id_text(self) -> str:
        """The operation id as a string: ids are unique in this form."""
        return str(self.operation_id)


class PlannedSubJob(Struct, frozen=True):
    """The operations of a job for one data producer. ``body``: the JSON array for ``data`` of a create call,
    zstd, in the DMI ``dialect``; ``size``: its bytes, uncompressed."""

    plugin_id: int
    plugin_url: str
    data_producer_id: str
    operations: int
    body: bytes
    size: int
    dialect: str = "seed"


class IgnoredKey(Struct, frozen=True, omit_defaults=True):
    """A request key that the service ignores: the JSON ``pointer`` of a key in the envelope, or the
    ``name`` of a key in operations and the ``count`` of operations that have it."""

    pointer: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    count: int | UnsetType = UNSET


class Ignored(Struct, frozen=True):
    """The keys of a request that were ignored: the first of them, and how many there are."""

    keys: tuple[IgnoredKey, ...]
    count: int


class OperationWarning(Struct, frozen=True, rename="camel"):
    """What validation found wrong with an operation that it did not fail for it."""

    operation_id: str | int
    path: str
    reason: str
    detail: str


class Warnings(Struct, frozen=True):
    """The warnings of a job: the first of them, and how many there are."""

    items: tuple[OperationWarning, ...]
    count: int


class ErrorDetail(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """ErrorDetail of TS 28.572: why one operation failed and which data node is to blame."""

    type: str
    bad_data_node: str
    reason: str = ""
    title: str = ""
    detail: str = ""


class Response(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Outcome of one operation in the form in which results contain it (ONAP's DataJobEvent, CPS-2154).

    ``status_code``: 0-99 success, 100-199 failure. ``result`` is a read's objects, in the job's
    ``dataAcceptType``. ``reason`` says why an operation did not succeed (a :class:`Reason`, or the plugin's
    own); :func:`ran_datajobs.reasons.reason_of` derives it if it is empty. ``before``: the
    :class:`ObjectState` directly before a write. Unknown keys of a plugin are dropped, including any echo of
    private properties. ``effect`` and ``data_producer_id``: in a preview only, the :class:`Effect` and the
    data producer that would execute the operation.
    """

    operation_id: str | int
    status_code: int
    status_message: str
    request: Raw = Raw(b"{}")
    result: Raw | UnsetType = UNSET
    state: OperationState | UnsetType = UNSET
    reason: str = ""
    errors: tuple[ErrorDetail, ...] = ()
    before: Raw | UnsetType = UNSET
    effect: Raw | UnsetType = UNSET
    data_producer_id: str | UnsetType = UNSET


class OperationCounts(Struct, frozen=True, rename="camel"):
    """Number of operations in each state; disjoint, they add up to ``total``."""

    total: int
    succeeded: int
    failed: int
    unmatched: int
    not_started: int
    unknown: int
    pending: int


class EffectKind(enum.StrEnum):
    """What an operation of a preview would do."""

    CHANGE = "CHANGE"  # give attributes other values
    NO_CHANGE = "NO_CHANGE"  # succeed and change nothing
    CREATE = "CREATE"  # create the object
    DELETE = "DELETE"  # delete the object
    WOULD_FAIL = "WOULD_FAIL"  # fail, or not be sent
    UNKNOWN = "UNKNOWN"  # an object could not be read, or its state is not known at this point of the job


class Effect(Struct, frozen=True, omit_defaults=True):
    """Effect of one operation of a preview.

    ``before`` and ``after``: of a CHANGE the attributes that get another value, each if it has one; of a
    CREATE all attributes ``after``, of a DELETE all ``before``. ``reason``, ``detail``: why it WOULD_FAIL, or
    why the effect is UNKNOWN.
    """

    kind: EffectKind
    before: dict[str, Any] | UnsetType = UNSET
    after: dict[str, Any] | UnsetType = UNSET
    reason: str = ""
    detail: str = ""


class EffectCounts(Struct, frozen=True, rename="camel"):
    """Number of operations of a preview with each kind of effect; they add up to all operations."""

    change: int = 0
    no_change: int = 0
    create: int = 0
    delete: int = 0
    would_fail: int = 0
    unknown: int = 0


class Reach(Struct, frozen=True, rename="camel"):
    """What the operations of a preview would change: number of distinct sites, cells, data producers, DMI
    plugins and objects, and number of attributes that get another value. ``service_affecting``: number of
    operations that can interrupt the service of a cell."""

    sites: int = 0
    cells: int = 0
    data_producers: int = 0
    dmi_plugins: int = 0
    objects: int = 0
    attributes: int = 0
    service_affecting: int = 0


UNMATCHED_PART: Final = "unmatched"
"""Replaces the sub-job id for operations that belong to no sub-job: all operations of a preview do."""

MAX_MESSAGE_BYTES: Final = 900_000
"""Maximum size in bytes of a result object and of a bus message, before compression."""
