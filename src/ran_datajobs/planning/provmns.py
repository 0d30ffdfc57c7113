# SPDX-License-Identifier: Apache-2.0
"""Requests of ProvMnS (3GPP TS 28.532) as the body of a data job, and what its writes write. Pure.

A patch document is relative to the object of its address, the target. Two spellings of a path are read, with
both media types, because clients mix them: a JSON Pointer into the target (RFC 6902, ``/attributes/x``), and
steps below the target with a fragment (TS 32.158 §6.4.3, ``/Class=id#/attributes/x``). An RDN has an equals
sign, and the pointer begins with ``attributes``: no path can be both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidFdn, InvalidRequest, UnsupportedRequest
from ran_datajobs.http.json_body import (
    decoded,
    elements_decoder,
    fault_of,
    got,
    members_decoder,
    pointer_step,
)
from ran_datajobs.model import ActivationMode, Op, Scope
from ran_datajobs.nrm import fdn, json_patch
from ran_datajobs.nrm.fdn import Rdns
from ran_datajobs.nrm.names import class_of, distinguished_name, id_of
from ran_datajobs.nrm.patch import RESOURCE
from ran_datajobs.nrm.resources import Document, to_hierarchical
from ran_datajobs.planning.keys import Problems
from ran_datajobs.planning.request import JobRequest, check_request
from ran_datajobs.plugins.wire import JSON_PATCH_3GPP, JSON_PATCH_VND_3GPP

JSON_PATCH: Final = "application/json-patch+json"
PATCHES: Final = (JSON_PATCH_3GPP, JSON_PATCH_VND_3GPP, JSON_PATCH)
"""Media types of the patch documents that are taken."""

_OPS: Final = {op.value: op for op in (Op.ADD, Op.MERGE, Op.REMOVE, Op.REPLACE, Op.TEST)}
_NOT_OFFERED: Final = {"copy", "move"}
_POINTER: Final = "/attributes"


class ProvMnsOperation(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One operation of the job of a request."""

    op: Op
    path: str | UnsetType = UNSET
    value: Raw | UnsetType = UNSET
    attributes: list[str] | None = None
    fields: list[str] | None = None
    filter: str | None = None
    scope: Scope | None = None
    data_node_selector: str | None = None


class _Job(Struct, frozen=True, rename="camel"):
    data_accept_type: str
    activation_mode: ActivationMode
    name: str
    data: Sequence[ProvMnsOperation]


class _Item(Struct, frozen=True):
    op: str
    path: str = ""
    value: Raw | UnsetType = UNSET


_item_decoder: Final = msgspec.json.Decoder(_Item)


def job_body(operations: Sequence[ProvMnsOperation], accept_type: str, name: str) -> bytes:
    """The body of a submit for these operations, of which the first failure ends the job."""
    several = len(operations) > 1
    mode = ActivationMode.STOP_ON_ERROR if several else ActivationMode.BEST_EFFORT
    return msgspec.json.encode(_Job(accept_type, mode, name, operations))


def check_job(body: bytes, max_operations: int, root: str) -> JobRequest:
    """Check a body of :func:`job_body`; see :func:`~ran_datajobs.planning.request.check_request`.

    The pointers of problems are those of the client: ``root`` replaces ``#/data/``, and for a request of a
    single operation that has no document, an empty ``root`` leaves the name of the parameter.
    """
    try:
        return check_request(body, max_operations)
    except (InvalidRequest, UnsupportedRequest) as error:
        if not error.problems or not error.problems[0][0].startswith("#/data/"):
            raise
        begin = len("#/data/") if root else len("#/data/0/")
        found = Problems()
        for pointer, detail in error.problems:
            found.add(root + pointer[begin:], detail)
        found.count = error.count
        found.raise_if_any(type(error))
        raise


# --- patch documents ---------------------------------------------------------------------------------


def items_of(document: bytes) -> list[Raw]:
    """The items of a patch document, not decoded. Raises InvalidRequest."""
    if document.lstrip(b" \t\r\n")[:1] != b"[":
        raise InvalidRequest.at("#", "must be a list of operations")
    items = decoded(document, elements_decoder)
    if not items:
        raise InvalidRequest.at("#", "is empty: a patch has at least one operation")
    return items


def read_items(items: Sequence[Raw], media_type: str, target: str) -> list[ProvMnsOperation]:
    """The operations of a patch document of ``media_type`` for the object ``target``, an FDN.

    Raises InvalidRequest for items that cannot be read, and UnsupportedRequest for operations that are not
    offered, with pointers into the document. Values, and what a path names, are checked by
    :func:`check_job`.
    """
    problems, unsupported = Problems(), Problems()
    base = fdn.parse(target)
    operations = []
    for number, raw in enumerate(items):
        item = _item(raw, f"#/{number}", problems)
        if item is None:
            continue
        op = _OPS.get(item.op)
        if op is None or (op is Op.MERGE and media_type == JSON_PATCH):
            unsupported.add(f"#/{number}/op", _why_not(item.op, media_type))
            continue
        try:
            path = _joined(base, item.path)
        except InvalidFdn as error:
            problems.add(f"#/{number}/path", f"{error}; {_WANTED}")
            continue
        operation = ProvMnsOperation(op, path, item.value)
        if op in (Op.ADD, Op.REPLACE) and _names_all_attributes(path):
            if isinstance(item.value, UnsetType) or bytes(item.value)[:1] != b"{":
                problems.add(f"#/{number}/value", "must be an object with all attributes")
                continue
            operation = _whole_object(path, item.value)
        operations.append(operation)
    problems.raise_if_any()
    unsupported.raise_if_any(UnsupportedRequest)
    return operations


_WANTED: Final = "a path is /attributes/name, or Class=id steps below the target and #/attributes/name"


def _item(raw: Raw, pointer: str, problems: Problems) -> _Item | None:
    try:
        names = [key.spelt for key in members_decoder.decode(raw)] if bytes(raw)[:1] == b"{" else []
        doubled = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if doubled is not None:
            problems.add(f"{pointer}/{pointer_step(doubled)}", "occurs twice")
            return None
        return _item_decoder.decode(raw)
    except msgspec.ValidationError as error:
        problems.add(*fault_of(error, bytes(raw), _item_decoder, [pointer[2:]]))
        return None


def _why_not(op: str, media_type: str) -> str:
    if op in _NOT_OFFERED:
        return "copy and move are not offered: write an add and a remove"
    if op == Op.MERGE.value:
        return f"merge is an operation of 3GPP JSON Patch: {media_type} does not have it"
    return f"must be one of {', '.join(_OPS)}; it is {got(op)}"


def _joined(base: Rdns, path: str) -> str:
    """The path, which is relative to the object ``base``, with its whole FDN. Raises InvalidFdn."""
    if path == _POINTER or path.startswith(_POINTER + "/"):
        return f"{fdn.render(base)}#{path}"
    steps, fragment = fdn.split_path(path)
    name = fdn.render(base if steps in ("", "/") else base + fdn.parse(steps))
    return name if fragment is None else f"{name}#{fragment}"


def _names_all_attributes(path: str) -> bool:
    fragment = fdn.split_path(path)[1]
    return fragment is not None and fragment.removeprefix("/") == _POINTER[1:]


def _whole_object(path: str, attributes: Raw) -> ProvMnsOperation:
    """The ``add`` that gives an object exactly these attributes."""
    name = fdn.split_path(path)[0]
    key = fdn.key(name)
    resource = {"id": id_of(key), "objectClass": class_of(key), "attributes": attributes}
    return ProvMnsOperation(Op.ADD, name, Raw(msgspec.json.encode(resource)))


# --- what was written --------------------------------------------------------------------------------


def written(operations: Sequence[ProvMnsOperation], target: str) -> Document:
    """What executed writes have set, as a hierarchical document of ``target``, an FDN that contains all.

    It has each object that they changed, with the attributes that they set. A change of a single item of a
    list is left out: the whole list is not known. The operations are checked.
    """
    shown: dict[str, dict[str, Any]] = {}
    for operation in operations:
        name, fragment = fdn.split_path(str(operation.path))
        key = fdn.key(name)
        pointer = () if fragment is None else fdn.attribute_pointer(fragment)[1:]
        value: Any = None if isinstance(operation.value, UnsetType) else msgspec.json.decode(operation.value)
        match operation.op:
            case Op.REMOVE if fragment is None:
                shown.pop(key, None)
            case Op.ADD if fragment is None:
                shown[key] = _attributes_in(value)
            case Op.MERGE:
                patch = _attributes_in(value) if fragment is None else value
                shown[key] = json_patch.merge(shown.get(key, {}), patch)
            case Op.ADD | Op.REPLACE | Op.REMOVE:
                attributes = shown.setdefault(key, {})
                if operation.op is Op.REMOVE or any(
                    token == json_patch.END or token.isdigit() for token in pointer
                ):
                    attributes.pop(pointer[0], None)
                else:
                    _set(attributes, pointer, value)
    objects = [
        {"objectInstance": distinguished_name(key), "attributes": attributes}
        for key, attributes in shown.items()
    ]
    return to_hierarchical(objects, target) or {"id": id_of(fdn.key(target))}


def _attributes_in(value: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a Resource, or of a bare object of attributes."""
    found = value.get("attributes")
    if isinstance(found, dict):
        return found
    return {name: each for name, each in value.items() if name not in RESOURCE}


def _set(attributes: dict[str, Any], pointer: Sequence[str], value: Any) -> None:
    holder = attributes
    for token in pointer[:-1]:
        below = holder.get(token)
        if not isinstance(below, dict):
            below = holder[token] = {}
        holder = below
    holder[pointer[-1]] = value
