# SPDX-License-Identifier: Apache-2.0
"""Decode the body of a submit into a checked request. Pure.

A fault that the request alone shows causes the whole request to be refused, with the location of every fault.
Faults that need the inventory are found when the job is planned. Sources: ONAP's data-job pages; TS 32.158
§6.4.3 for the operations; TS 28.572 for the activation mode.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import UnsupportedRequest
from ran_datajobs.model import ActivationMode, Ignored, JobType, Op, Operation
from ran_datajobs.planning.envelope import Envelope, locate_operations, open_envelope, read_envelope
from ran_datajobs.planning.fast_path import all_on_fast_path
from ran_datajobs.planning.keys import UnknownKeys
from ran_datajobs.planning.operations import (
    Line,
    WriteLine,
    decode_operations,
    has_no_duplicate_keys,
    ops_of,
    pieces,
    quick_lines,
)
from ran_datajobs.planning.problems import Problems
from ran_datajobs.planning.validation import names, validate_operation

MAX_OPERATIONS: Final = 1_000_000
MAX_OPERATION_ID: Final = 1024
"""Maximum length of an operation id, in characters."""

_INTEGER_IDS: Final = range(-(2**63), 2**64)


class RequestHead(Struct, frozen=True):
    """The fields of a checked request that concern the job as a whole. ``count``: number of operations.

    ``ignored``: the ignored keys; None when there are none.
    """

    type: JobType
    name: str | None
    accept_type: str
    content_type: str
    activation_mode: ActivationMode
    priority: int
    after: tuple[uuid.UUID, ...]
    count: int
    ignored: Ignored | None


class JobRequest(RequestHead, frozen=True):
    """A checked request. ``operations`` keep their order; all are reads or none is."""

    operations: list[Operation]


def check_request(body: bytes, *, max_operations: int = MAX_OPERATIONS) -> RequestHead:
    """Check the whole body of a submit, without returning its operations.

    Raises what :func:`read_request` raises.
    """
    quickly = _checked_quickly(body, max_operations)
    return _head_of(_read_with_care(body, max_operations)) if quickly is None else quickly


def read_request(body: bytes, *, max_operations: int = MAX_OPERATIONS) -> JobRequest:
    """Decode and check the whole body of a submit.

    Paths keep their code points and values their JSON tokens. Raises InvalidRequest with (pointer, detail)
    pairs, TooManyOperations, or UnsupportedRequest for what is not offered; nothing else for any bytes.
    """
    lines: list[WriteLine] = []
    head = _checked_quickly(body, max_operations, lines)
    return _read_with_care(body, max_operations) if head is None else _request(head, lines)


def read_accepted(body: bytes) -> JobRequest:
    """:func:`read_request` of a body that was accepted, possibly by an older version: keys that are refused
    now are ignored."""
    lines: list[WriteLine] = []
    head = _checked_quickly(body, len(body), lines)
    return _read_with_care(body, len(body), accepted=True) if head is None else _request(head, lines)


def operations_as_they_came(body: bytes) -> list[Raw]:
    """The operations of an accepted body, in order, with their original bytes."""
    data = open_envelope(body, Problems(), UnknownKeys())[1]
    return msgspec.json.decode(data, type=list[Raw]) if data else []


def _read_with_care(body: bytes, max_operations: int, *, accepted: bool = False) -> JobRequest:
    """Return the request, or raise an error with all its problems."""
    problems, unknown = Problems(), UnknownKeys()
    envelope, data = open_envelope(body, problems, unknown)
    if not accepted:
        problems.extend(unknown.slips)
    lines: list[Line | None] = []
    if data is None or data == b"null":
        problems.add("#/data", "is missing: the list of operations")
    else:
        lines = decode_operations(data, max_operations, problems, unknown)
        if not lines:
            problems.add("#/data", "is empty: a job has at least one operation")
    _check(lines, problems)
    problems.raise_if_any()
    if not accepted:
        unknown.not_offered.raise_if_any(UnsupportedRequest)
    good = [line for line in lines if line is not None]
    return _request(_head(envelope, len(good), unknown.ignored, is_read=good[0].op is Op.READ), good)


def _checked_quickly(
    body: bytes, max_operations: int, kept: list[WriteLine] | None = None
) -> RequestHead | None:
    """Fast path: the head of a valid request of the usual form; None for every other body.

    The lines are appended to ``kept``; without it they are dropped once they are checked.
    """
    cut = locate_operations(body)
    if cut is None:
        return None
    problems, unknown = Problems(), UnknownKeys()
    envelope = read_envelope(cut.envelope, problems, unknown)
    if problems.count or unknown.refused:
        return None
    ids: set[str] = set()
    kinds: set[bool] = set()
    count = 0
    try:
        for piece in pieces(body, cut):
            lines = quick_lines(piece)
            if lines is None or not has_no_duplicate_keys(piece, lines):
                return None
            if not all_on_fast_path(lines) and any(validate_operation(line) for line in lines):
                return None
            texts = _good_ids(lines, count)
            if texts is None:
                return None
            ids.update(texts)
            kinds.update(op is Op.READ for op in ops_of(lines))
            count += len(lines)
            if kept is not None:
                kept += lines
            if count > max_operations:
                return None
    except (msgspec.DecodeError, RecursionError):
        return None
    if len(kinds) != 1 or len(ids) < count:
        return None
    return _head(envelope, count, unknown.ignored, is_read=kinds.pop())


def _good_ids(lines: Sequence[WriteLine], first: int) -> Sequence[str] | None:
    """The operation ids of lines from position ``first`` on, as texts; None when one is invalid."""
    ids: list[Any] = [line.operation_id for line in lines]
    try:
        all_ids = "".join(ids)
    except TypeError:  # an integer or a missing id
        if any(one is not None and _id_fault(one) for one in ids):
            return None
        return [str(number if one is None else one) for number, one in enumerate(ids, first)]
    good = "" not in ids and all_ids.isprintable() and max(map(len, ids)) <= MAX_OPERATION_ID
    return ids if good else None


def _check(lines: list[Line | None], problems: Problems) -> None:
    """Check every line; faults are added to ``problems``."""
    for number, line in enumerate(lines):
        if line is None:
            continue
        for field, detail in validate_operation(line):
            problems.add(f"#/data/{number}/{field}", detail)
    _check_one_type(lines, problems)
    _check_ids(lines, problems)


def _check_one_type(lines: list[Line | None], problems: Problems) -> None:
    kinds = [line is not None and line.op is Op.READ for line in lines if line is not None]
    if not kinds or all(kinds) or not any(kinds):
        return
    first = next(line for line in lines if line is not None).op is Op.READ
    number = next(n for n, line in enumerate(lines) if line is not None and (line.op is Op.READ) is not first)
    problems.add(f"#/data/{number}/op", "a job has only reads, or no reads: submit the others separately")


def _check_ids(lines: list[Line | None], problems: Problems) -> None:
    owner: dict[str, int] = {}
    for number, line in enumerate(lines):
        if line is None or line.operation_id is None:
            continue
        if fault := _id_fault(line.operation_id):
            problems.add(f"#/data/{number}/operationId", fault)
            continue
        first = owner.setdefault(str(line.operation_id), number)
        if first != number:
            problems.add(f"#/data/{number}/operationId", f"is the id of #/data/{first} already")
    for number, line in enumerate(lines):
        if line is not None and line.operation_id is None and str(number) in owner:
            taken = owner[str(number)]
            problems.add(
                f"#/data/{taken}/operationId",
                f"is the id that #/data/{number} has by its position: give that one an id of its own",
            )


def _id_fault(operation_id: str | int) -> str | None:
    if isinstance(operation_id, int):
        return None if operation_id in _INTEGER_IDS else "does not fit into 64 bits: write it as a string"
    if not operation_id or len(operation_id) > MAX_OPERATION_ID or not operation_id.isprintable():
        return f"must have 1 to {MAX_OPERATION_ID} printable characters"
    return None


def _head(envelope: Envelope, count: int, ignored: Ignored | None, *, is_read: bool) -> RequestHead:
    return RequestHead(
        type=JobType.READ if is_read else JobType.WRITE,
        name=envelope.name,
        accept_type=envelope.accept_type,
        content_type=envelope.content_type,
        activation_mode=envelope.activation_mode,
        priority=envelope.priority,
        after=envelope.after,
        count=count,
        ignored=ignored,
    )


def _head_of(request: JobRequest) -> RequestHead:
    return RequestHead(*(getattr(request, field) for field in RequestHead.__struct_fields__))


def _request(head: RequestHead, lines: Sequence[WriteLine]) -> JobRequest:
    operations = [_operation(number, line) for number, line in enumerate(lines)]
    return JobRequest(**msgspec.structs.asdict(head), operations=operations)


def _operation(number: int, line: WriteLine) -> Operation:
    operation_id = str(number) if line.operation_id is None else line.operation_id
    if line.op is Op.READ and isinstance(line, Line):
        return _read(operation_id, line)
    value = UNSET if line.op is Op.REMOVE else line.value
    return Operation(line.op, line.path, operation_id, value)


def _read(operation_id: str | int, line: Line) -> Operation:
    filters: str | tuple[str, ...] | UnsetType = UNSET
    if isinstance(line.filter, str):
        filters = line.filter
    elif line.filter:
        filters = tuple(line.filter)
    return Operation(
        line.op,
        line.path,
        operation_id,
        attributes=UNSET if line.attributes is None else names(line.attributes),
        fields=UNSET if line.fields is None else names(line.fields),
        filter=filters,
        scope=UNSET if line.scope is None else line.scope,
    )
