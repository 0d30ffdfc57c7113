# SPDX-License-Identifier: Apache-2.0
"""Decode and validate the body of a create (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.dmi.jobs import NewJob
from ran_datajobs.errors import InvalidFdn, InvalidRequest, InvalidSelector
from ran_datajobs.http.json_body import NESTED_TOO_DEEPLY, fault_of, got, malformed
from ran_datajobs.model import ObjectState, Op, Operation
from ran_datajobs.nrm import fdn, json_patch
from ran_datajobs.nrm.selectors import Selectors, parse
from ran_datajobs.plugins.wire import (
    ACCEPT_TYPES,
    CONTENT_TYPES,
    JSON,
    MERGE_PATCH,
    TREE_HIERARCHICAL,
    OnapCreate,
    ReceivedOnap,
    ReceivedSeed,
    SeedCreate,
    job_operation,
)

MAX_TEXT: Final = 2_048
"""Maximum length of an id, destination or name, in characters."""

MAX_LISTED: Final = 100
"""Maximum faults of one body in an answer."""

NCMP_ACCEPT_TYPES: Final = ACCEPT_TYPES | {JSON}
NCMP_CONTENT_TYPES: Final = CONTENT_TYPES | {JSON, MERGE_PATCH}
"""Media types in a create: NCMP passes on those of its client."""

_WITH_VALUE: Final = frozenset({Op.ADD, Op.REPLACE, Op.MERGE, Op.ACTION, Op.TEST})
_SEED: Final = msgspec.json.Decoder(SeedCreate)
_ONAP: Final = msgspec.json.Decoder(OnapCreate)

Problem = tuple[str, str]


class _Data(Struct, frozen=True):
    data: list[Raw]


def seed_job(request_id: str, destination: str, key: str, body: bytes, most: int) -> NewJob:
    """Job of a seed create for ``request_id``. Raises InvalidRequest. ``most``: maximum operations."""
    create = _decoded(_SEED, ReceivedSeed, body)
    if create.request_id != request_id:
        detail = f"must be {request_id!r} as in the path; it is {got(create.request_id)}"
        raise _refused([("#/requestId", detail)])
    reads = {operation.op is Op.READ for operation in create.data}
    if len(reads) > 1:
        detail = "must hold reads alone or writes alone; it holds both: send them as two jobs"
        raise _refused([("#/data", detail)])
    return _new_job(create, create.request_id, True in reads, destination, key, body, most)


def onap_job(is_read: bool, destination: str, key: str, body: bytes, most: int) -> NewJob:
    """Job of a ``cmwriteJob`` or ``cmreadJob`` create. Raises InvalidRequest."""
    create = _decoded(_ONAP, ReceivedOnap, body)
    needed = "'read' in a cmreadJob" if is_read else "that of a write in a cmwriteJob"
    wrong = [
        (f"#/data/{place}/op", f"must be {needed}; it is {got(operation.op.value)}")
        for place, operation in enumerate(create.data)
        if (operation.op is Op.READ) is not is_read
    ]
    if wrong:
        raise _refused(wrong)
    return _new_job(create, create.data_job_id, is_read, destination, key, body, most)


def _new_job(
    create: SeedCreate | OnapCreate,
    request_id: str,
    is_read: bool,
    destination: str,
    key: str,
    body: bytes,
    most: int,
) -> NewJob:
    lines: Sequence[ReceivedSeed | ReceivedOnap] = create.data
    operations = [_taken(job_operation(line, place)) for place, line in enumerate(lines)]
    problems = list(
        _problems(
            create, {"request id": request_id, "destination": destination, "key": key}, operations, most
        )
    )
    if problems:
        raise _refused(problems)
    return NewJob(
        request_id,
        key,
        create.data_producer_id,
        destination,
        TREE_HIERARCHICAL if create.data_accept_type == JSON else create.data_accept_type,
        create.activation_mode,
        is_read,
        len(operations),
        msgspec.json.encode(operations),
        _fingerprint(request_id, destination, body),
        create.before_images,
    )


def _refused(problems: Sequence[Problem]) -> InvalidRequest:
    """The error for a body with these faults; its text contains the first."""
    pointer, detail = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequest(f"{pointer}: {detail}{more}", tuple(problems[:MAX_LISTED]), len(problems))


def _taken(operation: Operation) -> Operation:
    """The operation to execute: the value of a ``remove`` is ignored (RFC 6902 §4)."""
    return msgspec.structs.replace(operation, value=UNSET) if operation.op is Op.REMOVE else operation


def _problems(
    create: SeedCreate | OnapCreate, texts: dict[str, str], operations: Sequence[Operation], most: int
) -> Iterator[Problem]:
    if create.data_accept_type not in NCMP_ACCEPT_TYPES:
        yield "#/dataAcceptType", _one_of(NCMP_ACCEPT_TYPES, create.data_accept_type)
    if create.data_content_type not in NCMP_CONTENT_TYPES:
        yield "#/dataContentType", _one_of(NCMP_CONTENT_TYPES, create.data_content_type)
    if not create.data_producer_id:
        yield "#/dataProducerId", "must not be empty"
    for name, text in (*texts.items(), ("dataProducerId", create.data_producer_id)):
        if len(text) > MAX_TEXT:
            yield "#", f"the {name} has {len(text)} characters, at most {MAX_TEXT} are kept"
    if not 0 < len(operations) <= most:
        yield "#/data", f"must hold 1 to {most} operations; it holds {len(operations)}"
    # The outcomes of writes are in the order of the request; NCMP passes on the ids of its client.
    may_repeat = isinstance(create, OnapCreate) or all(each.op is not Op.READ for each in operations)
    seen: dict[str, int] = {}
    for place, operation in enumerate(operations):
        if operation.id_text in seen and not may_repeat:
            first = f"#/data/{seen[operation.id_text]}"
            yield f"#/data/{place}/operationId", f"{got(operation.id_text)} is the id of {first} as well"
        seen.setdefault(operation.id_text, place)
        yield from _operation_problems(place, operation)


def _one_of(known: Collection[str], given: str) -> str:
    return f"must be one of {', '.join(sorted(known))}; it is {got(given)}"


def _operation_problems(place: int, operation: Operation) -> Iterator[Problem]:
    has_value = not isinstance(operation.value, UnsetType)
    if not operation.path:
        yield f"#/data/{place}/path", "must not be empty"
    if operation.op in _WITH_VALUE and not has_value:
        yield f"#/data/{place}/value", f"is needed by {operation.op.value!r}"
    if operation.op not in _WITH_VALUE and has_value:
        yield f"#/data/{place}/value", f"does not belong to {operation.op.value!r}: take it out"
    if isinstance(operation.expect, ObjectState):
        yield from _guard_problems(place, operation, operation.expect)
    if isinstance(operation.data_node_selector, str):
        yield from _selector_problems(place, operation, operation.data_node_selector)
    if not isinstance(operation.scope, UnsetType):
        level = operation.scope.scope_level
        if level is not None and level < 0:
            yield f"#/data/{place}/scope/scopeLevel", f"must be at least 0; it is {level}"


def _guard_problems(place: int, operation: Operation, expect: ObjectState) -> Iterator[Problem]:
    if operation.op is Op.READ:
        yield f"#/data/{place}/expect", "does not belong to 'read': take it out"
    elif not expect.is_one:
        yield f"#/data/{place}/expect", "must have attributes, or absent: true, or exists: true; one of them"
    elif json_patch.too_deep(expect.attributes):
        yield f"#/data/{place}/expect", f"is nested more than {json_patch.MAX_DEPTH} deep"


def _selector_problems(place: int, operation: Operation, selector: str) -> Iterator[Problem]:
    if operation.op is not Op.READ:
        yield f"#/data/{place}/dataNodeSelector", f"does not belong to {operation.op.value!r}: take it out"
        return
    try:
        base = Selectors(parse(selector)).base
    except InvalidSelector as error:
        yield f"#/data/{place}/dataNodeSelector", str(error)
        return
    try:
        key = "" if operation.path == "/" else fdn.key(operation.path)
    except InvalidFdn as error:
        yield f"#/data/{place}/path", str(error)
        return
    if key and not f"{base}/".startswith(f"{key}/"):
        needed = f"/{base} or an object above it, up to /, since all selectors select below"
        yield f"#/data/{place}/path", f"must be {needed}; it is {got(operation.path)}"


def _decoded(
    decoder: msgspec.json.Decoder[Any],
    operation: type[ReceivedSeed | ReceivedOnap],
    body: bytes,
) -> Any:
    try:
        # The decoder does not check the value of a Raw member, so the encoding of the whole text is checked.
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _refused(_places(operation, body) or (fault_of(error, body, decoder),)) from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise InvalidRequest(NESTED_TOO_DEEPLY) from None
    except msgspec.DecodeError as error:
        raise malformed(body, error) from None


def _places(operation: type[ReceivedSeed | ReceivedOnap], body: bytes) -> tuple[Problem, ...]:
    """Faults of the single operations with their pointers; the decoder of the body reports only the first."""
    problems: list[Problem] = []
    try:
        lines = msgspec.json.decode(body, type=_Data).data
    except msgspec.DecodeError:  # another shape, or malformed after the first fault
        return ()
    decoder = msgspec.json.Decoder(operation)
    for place, line in enumerate(lines):
        try:
            decoder.decode(line)
        except msgspec.ValidationError as error:
            problems.append(fault_of(error, bytes(line), decoder, below=("data", str(place))))
    return tuple(problems)


def _fingerprint(request_id: str, destination: str, body: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in (request_id.encode(), destination.encode(), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
