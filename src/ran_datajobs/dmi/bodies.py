# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a create to a checked new job, or to what is wrong with them (pure)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.dmi.jobs import NewJob
from ran_datajobs.errors import InvalidRequest
from ran_datajobs.job import Op, Operation
from ran_datajobs.southbound.wire import (
    ACCEPT_TYPES,
    CONTENT_TYPES,
    OnapCreate,
    OnapOperation,
    SeedCreate,
    SeedOperation,
    job_operation,
)

MAX_TEXT: Final = 2_048
"""Longest id, destination or name, in characters."""

MAX_LISTED: Final = 100
"""So many faults of one body are listed."""

_WITH_VALUE: Final = frozenset({Op.ADD, Op.REPLACE, Op.MERGE, Op.ACTION, Op.TEST})
_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<where>[^`]*)`)?$", re.DOTALL)
_SEED: Final = msgspec.json.Decoder(SeedCreate)
_ONAP: Final = msgspec.json.Decoder(OnapCreate)

Problem = tuple[str, str]


class _Data(Struct, frozen=True):
    data: list[Raw]


def seed_job(request_id: str, destination: str, key: str, body: bytes, most: int) -> NewJob:
    """The job of a seed create for ``request_id``; raises InvalidRequest. ``most``: operations at most."""
    create = _decoded(_SEED, SeedOperation, body)
    if create.request_id != request_id:
        raise InvalidRequest(
            "the body names another job than the path",
            (("#/requestId", f"must be {request_id!r} as in the path"),),
        )
    reads = {operation.op is Op.READ for operation in create.data}
    if len(reads) > 1:
        raise InvalidRequest("reads and writes are mixed", (("#/data", "must be all reads or no reads"),))
    return _new_job(create, create.request_id, True in reads, destination, key, body, most)


def onap_job(is_read: bool, destination: str, key: str, body: bytes, most: int) -> NewJob:
    """The job of a ``cmwriteJob`` or ``cmreadJob`` create; raises InvalidRequest."""
    create = _decoded(_ONAP, OnapOperation, body)
    wrong = [
        (f"#/data/{place}/op", f"{operation.op.value!r} is not for this kind of job")
        for place, operation in enumerate(create.data)
        if (operation.op is Op.READ) is not is_read
    ]
    if wrong:
        raise InvalidRequest("operations of the wrong kind", tuple(wrong[:MAX_LISTED]), len(wrong))
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
    operations = [_taken(job_operation(operation)) for operation in create.data]
    problems = list(
        _problems(
            create, {"request id": request_id, "destination": destination, "key": key}, operations, most
        )
    )
    if problems:
        raise InvalidRequest("the create cannot be used", tuple(problems[:MAX_LISTED]), len(problems))
    return NewJob(
        request_id,
        key,
        create.data_producer_id,
        destination,
        create.data_accept_type,
        create.activation_mode,
        is_read,
        len(operations),
        msgspec.json.encode(operations),
        _fingerprint(request_id, destination, body),
    )


def _taken(operation: Operation) -> Operation:
    """The operation as it is carried out: the value of a ``remove`` is ignored (RFC 6902 §4)."""
    return msgspec.structs.replace(operation, value=UNSET) if operation.op is Op.REMOVE else operation


def _problems(
    create: SeedCreate | OnapCreate, texts: dict[str, str], operations: Sequence[Operation], most: int
) -> Iterator[Problem]:
    if create.data_accept_type not in ACCEPT_TYPES:
        yield "#/dataAcceptType", f"must be one of {', '.join(sorted(ACCEPT_TYPES))}"
    if create.data_content_type not in CONTENT_TYPES:
        yield "#/dataContentType", f"must be one of {', '.join(sorted(CONTENT_TYPES))}"
    if not create.data_producer_id:
        yield "#/dataProducerId", "must not be empty"
    for name, text in (*texts.items(), ("dataProducerId", create.data_producer_id)):
        if len(text) > MAX_TEXT:
            yield "", f"{name} must have at most {MAX_TEXT} characters"
    if not 0 < len(operations) <= most:
        yield "#/data", f"must hold 1 to {most} operations, has {len(operations)}"
    seen: set[str] = set()
    for place, operation in enumerate(operations):
        if operation.id_text in seen:
            yield f"#/data/{place}/operationId", "stands twice"
        seen.add(operation.id_text)
        yield from _operation_problems(place, operation)


def _operation_problems(place: int, operation: Operation) -> Iterator[Problem]:
    has_value = not isinstance(operation.value, UnsetType)
    if not operation.path:
        yield f"#/data/{place}/path", "must not be empty"
    if operation.op in _WITH_VALUE and not has_value:
        yield f"#/data/{place}/value", f"is needed by {operation.op.value!r}"
    if operation.op not in _WITH_VALUE and has_value:
        yield f"#/data/{place}/value", f"does not belong to {operation.op.value!r}"
    if not isinstance(operation.scope, UnsetType):
        level = operation.scope.scope_level
        if level is not None and level < 0:
            yield f"#/data/{place}/scope/scopeLevel", "must not be negative"


def _decoded(
    decoder: msgspec.json.Decoder[Any], operation: type[SeedOperation | OnapOperation], body: bytes
) -> Any:
    try:
        # The value of a Raw member is not looked at below, so the whole text is checked here.
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        problems = _places(operation, body) or (_problem("", error),)
        raise InvalidRequest(
            "the create is not of the right shape", problems[:MAX_LISTED], len(problems)
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


def _places(operation: type[SeedOperation | OnapOperation], body: bytes) -> tuple[Problem, ...]:
    """The faults of single operations with their places, which the decoder of the whole does not tell."""
    problems: list[Problem] = []
    try:
        lines = msgspec.json.decode(body, type=_Data).data
    except msgspec.DecodeError:  # of another shape, or broken off behind the first fault
        return ()
    decode: Callable[[Raw], Any] = msgspec.json.Decoder(operation).decode
    for place, line in enumerate(lines):
        try:
            decode(line)
        except msgspec.DecodeError as error:
            problems.append(_problem(f"/data/{place}", error))
    return tuple(problems)


def _problem(below: str, error: msgspec.DecodeError) -> Problem:
    """``Expected `str`, got `int` - at `$.path``` as a JSON pointer and a sentence."""
    found = _PLACE.match(str(error))
    if found is None:
        return "#" + below, str(error)
    where = (found["where"] or "$").removeprefix("$").replace("[", ".").replace("]", "")
    return "#" + below + where.replace(".", "/"), found["what"]


def _fingerprint(request_id: str, destination: str, body: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in (request_id.encode(), destination.encode(), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
