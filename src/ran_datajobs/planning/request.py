# SPDX-License-Identifier: Apache-2.0
"""Decode the body of a submit into a checked request. Pure.

A fault that the request alone shows causes the whole request to be refused, with the location of every fault.
Faults that need the inventory are found when the job is planned. Sources: ONAP's data-job pages; TS 32.158
§6.4.3 for the operations; TS 28.572 for the activation mode.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ran_datajobs.errors import InvalidRequest, TooManyOperations, UnsupportedRequest
from ran_datajobs.http.json_body import NESTED_TOO_DEEPLY, got
from ran_datajobs.model import Ignored, JobType, Op
from ran_datajobs.planning.envelope import Envelope, open_envelope
from ran_datajobs.planning.fast_path import all_usual, in_pieces
from ran_datajobs.planning.keys import Problems, UnknownKeys
from ran_datajobs.planning.operations import accepted_operations, check_count, decode_operations
from ran_datajobs.planning.validation import validate_operation
from ran_datajobs.plugins.wire import SeedOperation

MAX_OPERATIONS: Final = 1_000_000
MAX_OPERATION_ID: Final = 1024
"""Maximum length of an operation id, in characters."""

_INTEGER_IDS: Final = range(-(2**63), 2**64)
T = TypeVar("T")


class JobRequest(Envelope, frozen=True, kw_only=True):
    """A checked request. All its operations are reads or none is.

    ``count``: their number. ``ignored``: the ignored keys; None when there are none.
    """

    type: JobType
    count: int
    ignored: Ignored | None


def check_request(body: bytes, max_operations: int = MAX_OPERATIONS, *, as_ncmp: bool = False) -> JobRequest:
    """Decode and check the whole body of a submit.

    ``as_ncmp``: take media types of any kind, and operations with the same id, as ONAP's NCMP does. Raises
    InvalidRequest with (pointer, detail) pairs, TooManyOperations, or UnsupportedRequest for what is not
    offered; nothing else for any bytes.
    """
    return read_in_pieces(
        body, lambda text, pieces: _check_pieces(text, pieces, max_operations, as_ncmp=as_ncmp)
    )


def read_accepted(body: bytes) -> tuple[Envelope, list[SeedOperation]]:
    """The envelope and the operations of a body that passed :func:`check_request`, also of an older version.

    Paths keep their code points and values their JSON tokens. If it was checked ``as_ncmp``, several
    operations can have the same id.
    """
    return read_in_pieces(body, _read_pieces)


def operations_as_they_came(body: bytes) -> list[Raw]:
    """The operations of an accepted body, in order, with their original bytes."""
    data = open_envelope(body, Problems(), UnknownKeys(Problems()))[1]
    return msgspec.json.decode(data, type=list[Raw]) if data else []


def read_in_pieces(body: bytes, read: Callable[[bytes, Iterable[bytes] | None], T]) -> T:
    """Read a request piece by piece; as a whole if it is not of the usual form, or not well formed.

    ``read`` takes a body, and the lists of its operations if they are not in its ``data``.
    """
    cut = in_pieces(body)
    if cut is not None:
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            return read(*cut)
    try:
        return read(body, None)
    except RecursionError:
        raise InvalidRequest(NESTED_TOO_DEEPLY) from None


def open_accepted(
    body: bytes, pieces: Iterable[bytes] | None
) -> tuple[Envelope, Iterator[list[SeedOperation]]]:
    """The envelope and the operations, in batches, of a body that was accepted."""
    envelope, data = open_envelope(body, Problems(), UnknownKeys(Problems()), any_types=True)
    return envelope, accepted_operations(pieces or [bytes(data or b"[]")])


def accepted_in_batches(body: bytes) -> tuple[Envelope, Iterator[list[SeedOperation]]]:
    """The envelope and the operations, in batches, of a body that was accepted; each batch is decoded when it
    is asked for."""
    text, pieces = (in_pieces(body) if read_in_pieces(body, _has_good_pieces) else None) or (body, None)
    return open_accepted(text, pieces)


def _has_good_pieces(_: bytes, pieces: Iterable[bytes] | None) -> bool:
    """Whether there are pieces. Raises msgspec.DecodeError if one of them is no list."""
    for piece in pieces or ():
        msgspec.json.decode(piece, type=list[Raw])
    return pieces is not None


def _read_pieces(body: bytes, pieces: Iterable[bytes] | None) -> tuple[Envelope, list[SeedOperation]]:
    envelope, batches = open_accepted(body, pieces)
    return envelope, list(itertools.chain.from_iterable(batches))


def _check_pieces(
    body: bytes, pieces: Iterable[bytes] | None, max_operations: int, *, as_ncmp: bool
) -> JobRequest:
    problems = Problems()
    unknown = UnknownKeys(problems)
    envelope, data = open_envelope(body, problems, unknown, any_types=as_ncmp)
    ids: list[str | int | UnsetType | None] = []
    different_ids: set[str | int | UnsetType | None] = set()
    usual_ids = True
    types: dict[bool, int] = {}  # first position of a read, and of another operation
    for piece in pieces or _list_of_operations(data, problems):
        first = len(ids)
        check_count(piece, max_operations)
        lines = decode_operations(piece, first, problems, unknown)
        good = [line for line in lines if line is not None]
        if not all_usual(good):
            for number, line in enumerate(lines, first):
                for field, detail in validate_operation(line) if line is not None else ():
                    problems.add(f"#/data/{number}/{field}", detail)
        for is_read in {op is Op.READ for op in {line.op for line in good}} - types.keys():
            types[is_read] = next(
                number
                for number, line in enumerate(lines, first)
                if line is not None and (line.op is Op.READ) is is_read
            )
        new_ids = [UNSET if line is None else line.operation_id for line in lines]
        usual_ids = usual_ids and _all_usual_ids(new_ids)
        ids += new_ids
        different_ids.update(new_ids)
        if len(ids) > max_operations:
            raise TooManyOperations(max_operations)
    if not ids and data is not None:
        problems.add("#/data", "is empty: a job has at least one operation")
    if len(types) > 1:
        detail = "a job has only reads, or no reads: submit the others separately"
        problems.add(f"#/data/{max(types.values())}/op", detail)
    if not usual_ids or (len(different_ids) < len(ids) and not as_ncmp):
        _check_ids(ids, problems, unique=not as_ncmp)
    problems.raise_if_any()
    unknown.not_offered.raise_if_any(UnsupportedRequest)
    return JobRequest(
        **msgspec.structs.asdict(envelope),
        type=JobType.READ if True in types else JobType.WRITE,
        count=len(ids),
        ignored=unknown.ignored,
    )


def _list_of_operations(data: Raw | None, problems: Problems) -> list[bytes]:
    if data is None:
        problems.add("#/data", "is missing: the list of operations")
        return []
    if bytes(memoryview(data)[:1]) != b"[":
        raise InvalidRequest.at("#/data", f"must be a list of operations; it is {got(data)}")
    return [bytes(data)]


def _all_usual_ids(ids: Sequence[Any]) -> bool:
    """True only if all ids are strings without a fault."""
    try:
        is_printable = "".join(ids).isprintable()
    except TypeError:
        return False
    return is_printable and "" not in ids and max(map(len, ids), default=0) <= MAX_OPERATION_ID


def _check_ids(ids: Sequence[str | int | UnsetType | None], problems: Problems, *, unique: bool) -> None:
    """Check the id of each operation: None if it has none, UNSET if the operation is malformed."""
    owner: dict[str, int] = {}
    for number, operation_id in enumerate(ids):
        if operation_id is None or operation_id is UNSET:
            continue
        if fault := _id_fault(operation_id):
            problems.add(f"#/data/{number}/operationId", fault)
            continue
        first = owner.setdefault(str(operation_id), number) if unique else number
        if first != number:
            problems.add(f"#/data/{number}/operationId", f"is the id of #/data/{first} already")
    for number, operation_id in enumerate(ids):
        if operation_id is None and str(number) in owner:
            problems.add(
                f"#/data/{owner[str(number)]}/operationId",
                f"is the id that #/data/{number} has by its position: give that one an id of its own",
            )


def _id_fault(operation_id: str | int) -> str | None:
    if isinstance(operation_id, int):
        return None if operation_id in _INTEGER_IDS else "does not fit into 64 bits: write it as a string"
    if not operation_id or len(operation_id) > MAX_OPERATION_ID or not operation_id.isprintable():
        return f"must have 1 to {MAX_OPERATION_ID} printable characters"
    return None
