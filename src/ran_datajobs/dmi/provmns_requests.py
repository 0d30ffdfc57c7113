# SPDX-License-Identifier: Apache-2.0
"""ProvMnS requests (TS 28.532, OpenAPI of 18.6) to the plugin as operations, and their outcomes as answers
(pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.dmi.element import Outcome
from ran_datajobs.errors import InvalidFdn
from ran_datajobs.http.json_body import decoded, got
from ran_datajobs.model import ErrorDetail, Op, Operation, OperationState
from ran_datajobs.nrm.names import key_of_name
from ran_datajobs.nrm.patch import path_below
from ran_datajobs.simulator import wire

MAX_LISTED: Final = 100
"""Maximum executed operations that the answer to a refused document lists."""

_PLAIN_OPS: Final = {each.value: each for each in (Op.ADD, Op.REMOVE, Op.REPLACE, Op.TEST)}
_THREE_GPP_OPS: Final = _PLAIN_OPS | {Op.MERGE.value: Op.MERGE}
_PATCHES: Final[Mapping[str, Mapping[str, Op]]] = {
    **dict.fromkeys(wire.THREE_GPP_PATCHES, _THREE_GPP_OPS),
    wire.JSON_PATCH: _PLAIN_OPS,
}


class _Item(Struct, frozen=True):
    """A PatchItem. NCMP sends ``from`` and an absent ``value`` as null."""

    op: str
    path: str = ""
    value: Raw | UnsetType = UNSET


class _ActionValue(Struct, frozen=True):
    input: Raw = Raw(b"null")


class _Action(Struct, frozen=True):
    """ActionRequest of NCMP's ProvMnS extensions; each member may be absent or null."""

    value: _ActionValue | None = None


_items: Final = msgspec.json.Decoder(list[_Item])
_any: Final = msgspec.json.Decoder(Any)
_action: Final = msgspec.json.Decoder(_Action)


class BadRequest(Struct, frozen=True):
    """The request is refused with this answer; nothing was executed."""

    body: wire.ErrorBody


def target_of(path: str) -> str | BadRequest:
    """Key of the object that the part of an undecoded URI after the base names."""
    try:
        return wire.read_key(path)
    except InvalidFdn as error:
        return BadRequest(wire.error_body(400, str(error)))


def patch_operations(content_type: str, body: bytes, target: str) -> list[Operation] | BadRequest:
    """The operations of a patch document for the object ``target``. Raises InvalidRequest for another
    shape."""
    kind = content_type.partition(";")[0].strip().lower()
    known = _PATCHES.get(kind)
    if known is None:
        detail = f"the Content-Type of a PATCH must be one of {', '.join(_PATCHES)}; it is {got(kind)}"
        return BadRequest(wire.error_body(415, detail))
    items = decoded(body, _items)
    if len(items) > wire.MAX_OPERATIONS:
        detail = (
            f"the document has {len(items)} operations, at most {wire.MAX_OPERATIONS} are taken: split it"
        )
        return BadRequest(wire.error_body(413, detail))
    operations: list[Operation] = []
    for place, item in enumerate(items):
        op = known.get(item.op)
        if op is None:
            needed = ", ".join(known)
            return _bad_op(place, f"with {kind} op must be one of {needed}; it is {got(item.op)}", 422)
        try:
            path = path_below(_path_of(target), item.path)
        except InvalidFdn as error:
            return _bad_op(place, str(error))
        if op is not Op.REMOVE and isinstance(item.value, UnsetType):
            return _bad_op(place, f"{item.op} needs a value")
        operations.append(Operation(op, path, place, UNSET if op is Op.REMOVE else item.value))
    return operations


def put_operation(body: bytes, target: str) -> Operation:
    """The creation or replacement of an object. Raises InvalidRequest if ``body`` is not JSON."""
    decoded(body, _any)
    return Operation(Op.ADD, _path_of(target), 0, Raw(body))


def delete_operation(target: str) -> Operation:
    """The deletion of an object."""
    return Operation(Op.REMOVE, _path_of(target), 0)


def action_operation(body: bytes, target: str, name: str) -> Operation:
    """The execution of an action of an object, by default with an empty input. Raises InvalidRequest for a
    body of another shape."""
    given = (decoded(body, _action).value if body else None) or _ActionValue()
    value = b'{"input":' + (b"{}" if given.input == b"null" else bytes(given.input)) + b"}"
    return Operation(Op.ACTION, f"{_path_of(target)}#{name}", 0, Raw(value))


def read_operation(query: str, target: str) -> Operation | BadRequest:
    """The read that ``query`` describes, of the object ``target``."""
    given = wire.read_parameters(query)
    if isinstance(given, wire.BadQuery):
        bad = (given.parameter,) if given.parameter else ()
        return BadRequest(wire.error_body(400, given.detail, bad_query_params=bad))
    selector = given.selector
    return Operation(
        Op.READ,
        "/" if selector is not None else _path_of(target),
        0,
        attributes=_or_unset(given.attributes),
        fields=_or_unset(given.fields),
        filter=_or_unset(given.filters),
        scope=_or_unset(given.scope),
        data_node_selector=_or_unset(selector),
    )


def read_alone(target: str, *, names: bool = False) -> Operation:
    """The read of one object; ``names``: without its attributes."""
    return Operation(Op.READ, _path_of(target), 0, attributes=() if names else UNSET)


def within(objects: Sequence[dict[str, Any]], target: str) -> list[dict[str, Any]]:
    """Those of flat ``objects`` that are at or below ``target``."""
    return [each for each in objects if f"{key_of_name(each['objectInstance'])}/".startswith(f"{target}/")]


def refusal_of(outcomes: Sequence[Outcome], *, document: bool) -> wire.ErrorBody | None:
    """The answer for the first outcome that is not a success; None if there is none.

    ``document``: the operations are those of a patch document. What was applied before the first failure
    stays, and is listed in ``otherProblems``.
    """
    for place, outcome in enumerate(outcomes):
        if outcome.state is not OperationState.SUCCEEDED:
            body = refused(outcome.errors, place if document else None)
            return msgspec.structs.replace(body, other_problems=_applied(place))
    return None


def refused(errors: Sequence[ErrorDetail], place: int | None = None) -> wire.ErrorBody:
    """The answer for the errors of one operation; 504 if the element did not answer."""
    if not errors:
        return wire.error_body(504, "the element did not execute the operation")
    body = wire.refusal(errors[0], place)
    if errors[0].type == "SERVER_ERROR":
        return msgspec.structs.replace(body, status="504", type="APPLICATION_LAYER_ERROR")
    return body


def _applied(count: int) -> tuple[wire.ErrorBody, ...]:
    title = "was executed, and stays"
    return tuple(
        wire.ErrorBody("200", "APPLICATION_LAYER_ERROR", title=title, bad_op=f"/{place}")
        for place in range(min(count, MAX_LISTED))
    )


def _bad_op(place: int, detail: str, status: int = 400) -> BadRequest:
    return BadRequest(wire.error_body(status, detail, bad_op=f"/{place}"))


def _path_of(key: str) -> str:
    """A key as the path of an operation."""
    return f"/{key}"


def _or_unset(value: Any) -> Any:
    return UNSET if value is None else value
