# SPDX-License-Identifier: Apache-2.0
"""Requests of ProvMnS (3GPP TS 28.532) as the body of a data job, and what its writes have set. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidFdn, InvalidRequest, TooManyOperations, UnsupportedRequest
from ran_datajobs.http.json_body import (
    decoded,
    elements_decoder,
    got,
    members_decoder,
    pointer_step,
)
from ran_datajobs.model import ActivationMode, Op, Scope
from ran_datajobs.nrm import fdn, json_patch
from ran_datajobs.nrm.names import class_of, distinguished_name, id_of
from ran_datajobs.nrm.patch import RESOURCE, path_below
from ran_datajobs.nrm.resources import Document, to_hierarchical
from ran_datajobs.planning.keys import Problems
from ran_datajobs.planning.request import JobRequest, check_request
from ran_datajobs.plugins.wire import JSON_PATCH_3GPP, JSON_PATCH_VND_3GPP

JSON_PATCH: Final = "application/json-patch+json"
PATCHES: Final = (JSON_PATCH_3GPP, JSON_PATCH_VND_3GPP, JSON_PATCH)
"""Media types of the patch documents that are taken."""

_OPS: Final = {op.value: op for op in (Op.ADD, Op.MERGE, Op.REMOVE, Op.REPLACE, Op.TEST)}
_NOT_OFFERED: Final = {"copy", "move"}


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


class _Word:
    """A text whose occurrences are counted while they are decoded."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class PatchItem(Struct, frozen=True):
    """One item of a patch document (PatchItem of TS 28.532), of which a path is read."""

    op: _Word
    path: str = ""
    value: Raw | UnsetType = UNSET


def job_body(operations: Sequence[ProvMnsOperation], accept_type: str, name: str) -> bytes:
    """The body of a submit for these operations, of which the first failure ends the job."""
    several = len(operations) > 1
    mode = ActivationMode.STOP_ON_ERROR if several else ActivationMode.BEST_EFFORT
    return msgspec.json.encode(_Job(accept_type, mode, name, operations))


Place = Callable[[str, str], str]
"""Maps the position and the field of an operation, as ``0`` and ``value``, to a pointer into what the client
sent, or to the name of a parameter."""


def in_document(position: str, field: str) -> str:
    """The place of a field in a patch document."""
    return f"#/{position}/{field}"


def check_job(body: bytes, max_operations: int, place: Place) -> JobRequest:
    """Check a body of :func:`job_body`; see :func:`~ran_datajobs.planning.request.check_request`. ``place``
    has the pointers of problems."""

    def moved(pointer: str) -> str:
        _, data, rest = pointer.partition("#/data/")
        position, _, field = rest.partition("/")
        return place(position, field) if data else pointer

    try:
        return check_request(body, max_operations)
    except TooManyOperations:
        raise
    except (InvalidRequest, UnsupportedRequest) as error:
        raise error.moved(moved) from None


# --- patch documents ---------------------------------------------------------------------------------


def items_of(document: bytes, most: int) -> list[PatchItem]:
    """The items of a patch document. Raises InvalidRequest, and TooManyOperations if there are more than
    ``most``, without building them."""
    numbers = itertools.count(1)

    def counted(_type: type, given: object) -> _Word:
        if next(numbers) > most:
            raise TooManyOperations(most)
        if not isinstance(given, str):
            raise TypeError("Expected `str`")
        return _Word(given)

    items = decoded(document, msgspec.json.Decoder(list[PatchItem], dec_hook=counted))
    if not items:
        raise InvalidRequest.at("#", "is empty: a patch has at least one operation")
    problems = Problems()
    for number, item in enumerate(elements_decoder.decode(document)):
        names = Counter(key.spelt for key in members_decoder.decode(item))
        for name, count in names.items():
            if count > 1:
                problems.add(f"#/{number}/{pointer_step(name)}", "occurs twice")
    problems.raise_if_any()
    return items


def read_items(items: Sequence[PatchItem], media_type: str, target: str) -> list[ProvMnsOperation]:
    """The operations of a patch document of ``media_type`` for the object ``target``, an FDN.

    Raises InvalidRequest for paths that cannot be read, and UnsupportedRequest for operations that are not
    offered, with pointers into the document. Values, and what a path names, are checked by
    :func:`check_job`.
    """
    problems, unsupported = Problems(), Problems()
    operations = []
    for number, item in enumerate(items):
        op = _OPS.get(item.op.text)
        if op is None or (op is Op.MERGE and media_type == JSON_PATCH):
            unsupported.add(f"#/{number}/op", _why_not(item.op.text, media_type))
            continue
        try:
            path = path_below(target, item.path)
            if op not in (Op.ADD, Op.REPLACE) or not _names_all_attributes(path):
                operations.append(ProvMnsOperation(op, path, item.value))
            elif isinstance(item.value, UnsetType) or bytes(item.value)[:1] != b"{":
                problems.add(f"#/{number}/value", "must be an object with all attributes")
            else:
                operations.append(_whole_object(path, item.value))
        except InvalidFdn as error:
            problems.add(f"#/{number}/path", f"{error}; {_WANTED}")
    problems.raise_if_any()
    unsupported.raise_if_any(UnsupportedRequest)
    return operations


_WANTED: Final = "a path is /attributes/name, or Class=id steps below the target and #/attributes/name"


def _why_not(op: str, media_type: str) -> str:
    if op in _NOT_OFFERED:
        return "copy and move are not offered: write an add and a remove"
    if op == Op.MERGE.value:
        return f"merge is an operation of 3GPP JSON Patch: {media_type} does not have it"
    return f"must be one of {', '.join(_OPS)}; it is {got(op)}"


def _names_all_attributes(path: str) -> bool:
    fragment = fdn.split_path(path)[1]
    return fragment is not None and fragment.removeprefix("/") == "attributes"


def _whole_object(path: str, attributes: Raw) -> ProvMnsOperation:
    """The ``add`` that gives an object exactly these attributes."""
    name = fdn.split_path(path)[0]
    key = fdn.key(name)
    resource = {"id": id_of(key), "objectClass": class_of(key), "attributes": attributes}
    return ProvMnsOperation(Op.ADD, name, Raw(msgspec.json.encode(resource)))


# --- what was written --------------------------------------------------------------------------------


def written(operations: Sequence[ProvMnsOperation], target: str) -> Document:
    """What executed writes have set, as a hierarchical document of ``target``, an FDN that contains all.

    It has each object that they changed, with the attributes that they set; values keep their JSON tokens. A
    change of a single item of a list is left out: the whole list is not known. The operations are checked.
    """
    shown: dict[str, _Held] = {}
    for operation in operations:
        name, fragment = fdn.split_path(str(operation.path))
        key = fdn.key(name)
        pointer = () if fragment is None else fdn.attribute_pointer(fragment)[1:]
        value = Raw(b"null") if isinstance(operation.value, UnsetType) else operation.value
        match operation.op:
            case Op.REMOVE if fragment is None:
                shown.pop(key, None)
            case Op.ADD if fragment is None:
                shown[key] = _attributes_in(value)
            case Op.MERGE:
                patch = _attributes_in(value) if fragment is None else _opened(value)
                shown[key] = _merged(shown.get(key, {}), patch)
            case Op.REMOVE:
                shown.setdefault(key, {}).pop(pointer[0], None)
            case Op.ADD | Op.REPLACE:
                _set(shown.setdefault(key, {}), pointer, value)
    objects = [
        {"objectInstance": distinguished_name(key), "attributes": attributes}
        for key, attributes in shown.items()
    ]
    return to_hierarchical(objects, target) or {"id": id_of(fdn.key(target))}


_Held = dict[str, Any]
"""Attributes, or members of one. A value is undecoded, or again such an object."""

_members: Final = msgspec.json.Decoder(dict[str, Raw])


def _opened(value: Any) -> _Held:
    """The members of a value; none if it is no object."""
    if isinstance(value, Raw):
        return {**_members.decode(value)} if bytes(value)[:1] == b"{" else {}
    return value if isinstance(value, dict) else {}


def _attributes_in(value: Raw) -> _Held:
    """The attributes of a Resource, or of a bare object of attributes."""
    members = _opened(value)
    if bytes(members.get("attributes", Raw(b"null")))[:1] == b"{":
        return _opened(members["attributes"])
    return {name: each for name, each in members.items() if name not in RESOURCE}


def _merged(target: _Held, patch: _Held) -> _Held:
    """``target`` after a merge (RFC 7396 §2)."""
    merged = dict(target)
    for name, value in patch.items():
        if bytes(value) == b"null":
            merged.pop(name, None)
        else:
            is_object = bytes(value)[:1] == b"{"
            merged[name] = _merged(_opened(merged.get(name)), _opened(value)) if is_object else value
    return merged


def _set(attributes: _Held, pointer: Sequence[str], value: Raw) -> None:
    """Set the value at a pointer; remove the attribute if the value is an item of a list."""
    if any(token == json_patch.END or token.isdigit() for token in pointer):
        attributes.pop(pointer[0], None)
        return
    holder = attributes
    for token in pointer[:-1]:
        below = _opened(holder.get(token))
        holder[token] = below
        holder = below
    holder[pointer[-1]] = value
