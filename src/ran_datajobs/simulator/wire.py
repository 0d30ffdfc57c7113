# SPDX-License-Identifier: Apache-2.0
"""Wire format of a ProvMnS server: paths, media types, queries, documents, errors (pure).

Sources: 3GPP TS 28.532 (OpenAPI), TS 32.158 (REST solution sets), TS 28.623 (error bodies). Media types and
query spellings of every generation are accepted; the first of each is sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidFdn, InvalidFilter, InvalidSelector
from ran_datajobs.http.json_body import decoded, fault_of, got
from ran_datajobs.model import ErrorDetail, Op, Scope, ScopeType
from ran_datajobs.nrm import fdn, json_patch
from ran_datajobs.nrm.names import class_of, distinguished_name, id_of
from ran_datajobs.nrm.patch import Patch, read_patch
from ran_datajobs.nrm.select import Selection, selection
from ran_datajobs.nrm.selectors import Selectors, parse
from ran_datajobs.nrm.tree import Attributes

PROVMNS: Final = "/ProvMnS/v1"
FAULTS: Final = "/faults"
NOTIFICATIONS: Final = "/notifications"
HEALTHZ: Final = "/healthz"
OPENAPI: Final = "/schema/openapi.json"

JSON: Final = "application/json"
HIERARCHICAL: Final = "application/vnd.3gpp.object-tree-hierarchical+json"
FLAT: Final = "application/vnd.3gpp.object-tree-flat+json"
JSON_PATCH: Final = "application/json-patch+json"
THREE_GPP_PATCHES: Final = ("application/3gpp-json-patch+json", "application/vnd.3gpp.json-patch+json")
MERGE_PATCH: Final = "application/merge-patch+json"
FORM: Final = "application/x-www-form-urlencoded"

MAX_BODY: Final = 64 * 1024 * 1024
"""Maximum size of a body in bytes."""

MAX_OPERATIONS: Final = 10_000
"""Maximum operations of a patch document."""

MAX_QUERY: Final = 64 * 1024
"""Maximum length of a query in characters."""

_OFFERED: Final = (JSON, HIERARCHICAL, FLAT)
"""Media types of read answers; the first is the default."""

_QUALITY: Final = re.compile(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)")
_ANY: Final = ("*/*", "application/*")


class ErrorBody(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """ErrorResponseDefault, -Get or -Patch of TS 28.623 (19.1); ``errors`` are TS 28.572 ErrorDetails.

    ``bad_op`` points to the faulty operation of a patch document.
    """

    status: str
    type: str
    reason: str = ""
    title: str = ""
    bad_op: str = ""
    bad_objects: tuple[str, ...] = ()
    bad_attributes: tuple[str, ...] = ()
    bad_query_params: tuple[str, ...] = ()
    other_problems: tuple[ErrorBody, ...] = ()
    errors: tuple[ErrorDetail, ...] = ()


_TYPES: Final = {
    400: "VALIDATION_ERROR",
    404: "IE_NOT_FOUND",
    413: "SERVER_LIMITATION",
    422: "SERVER_LIMITATION",
}


def error_body(status: int, title: str, **more: Any) -> ErrorBody:
    """Create an error answer; the status determines its type, as in ONAP's implementation."""
    return ErrorBody(str(status), _TYPES.get(status, "APPLICATION_LAYER_ERROR"), title=title, **more)


_STATUS_OF: Final = {
    "TARGET_DATA_NODE_NOT_FOUND": 404,
    "TARGET_DATA_NODE_PARENT_NOT_FOUND": 404,
    "TARGET_DATA_NODE_DELETION_NOT_ALLOWED": 409,
    "ACCESS_DENIED": 403,
}


def refusal(error: ErrorDetail, position: int | None = None) -> ErrorBody:
    """Create the answer for a refusal of an object; ``position``: of the operation in its document."""
    status = 400 if error.type == "OTHER" else _STATUS_OF.get(error.reason, 422)
    title = f"{error.title}: {error.detail}" if error.detail else error.title
    attribute = "#" in error.bad_data_node
    return ErrorBody(
        str(status),
        _TYPES.get(status, "APPLICATION_LAYER_ERROR"),
        error.reason,
        title,
        "" if position is None else f"/{position}",
        () if attribute else (error.bad_data_node,),
        (error.bad_data_node,) if attribute else (),
        errors=(error,),
    )


def resource(key: str, attributes: Attributes) -> dict[str, Any]:
    """An object in the form of answers."""
    return {
        "id": id_of(key),
        "objectClass": class_of(key),
        "objectInstance": distinguished_name(key),
        "attributes": attributes,
    }


def etag(key: str, attributes: Attributes) -> str:
    """The entity tag of an object in this state."""
    return f'"{hashlib.sha256(msgspec.json.encode((key, attributes), order="sorted")).hexdigest()[:24]}"'


def tag_matches(condition: str, tag: str | None) -> bool:
    """Whether If-Match or If-None-Match names the tag (None: the object does not exist)."""
    if tag is None:
        return False
    return condition.strip() == "*" or tag in (each.strip() for each in condition.split(","))


def location(root: str, key: str) -> str:
    """Address of an object below ``root``, percent-encoded to ASCII."""
    return root + PROVMNS + quote(fdn.render(fdn.parse(f"/{key}")), safe="!$&'()+,;=:@/%")


def media_type_for(accept: str) -> str | None:
    """Media type of a read answer; None if none is acceptable (406).

    The one with the highest quality, then the first; a quality of 0 excludes it (RFC 9110 §12.5.1).
    """
    ranges = [_media_range(each) for each in accept.lower().split(",") if each.strip()]
    if not ranges:
        return JSON
    refused = {name for name, quality in ranges if quality == 0}
    for name, quality in sorted(ranges, key=lambda each: -each[1]):
        if quality == 0:
            continue
        if name in _OFFERED and name not in refused:
            return name
        if name in _ANY and not (name == _ANY[0] and _ANY[1] in refused):
            left = [each for each in _OFFERED if each not in refused]
            if left:
                return left[0]
    return None


def _media_range(text: str) -> tuple[str, float]:
    """Parse a media range and its quality; 1 if that is missing or invalid."""
    name, *parameters = (each.strip() for each in text.split(";"))
    for each in parameters:
        if found := _QUALITY.fullmatch(each):
            return name, float(found[1])
    return name, 1.0


# --- queries of reads --------------------------------------------------------------------------------


class BadQuery(Struct, frozen=True):
    """An invalid query, and the faulty parameter."""

    parameter: str
    detail: str


class _WireScope(Struct, frozen=True, rename="camel"):
    scope_type: ScopeType = ScopeType.BASE_ONLY
    scope_level: int | None = None


_scope_decoder: Final = msgspec.json.Decoder(_WireScope)


class Parameters(Struct, frozen=True):
    """The parameters of a read; None: absent. ``selector`` stands alone."""

    scope: Scope | None = None
    filters: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None
    fields: tuple[str, ...] | None = None
    selector: str | None = None


def read_query(query: str, base: str) -> Selection | Selectors | BadQuery:
    """The selection of a read that the query describes; ``base``: the key that the path names."""
    given = read_parameters(query)
    if isinstance(given, BadQuery):
        return given
    if given.selector is not None:
        try:
            return Selectors(parse(given.selector))
        except InvalidSelector as error:
            return BadQuery("dataNodeSelector", str(error))
    try:
        return selection(class_of(base), given.scope, given.filters, given.attributes, given.fields)
    except InvalidFilter as error:
        return BadQuery("filter", str(error))


def read_parameters(query: str) -> Parameters | BadQuery:
    """Parse the query of a read: scope (exploded, or JSON from 19.2 on), filter, attributes and fields; or
    dataNodeSelector (from 18.3 on), alone. Filters and selectors are not parsed."""
    if len(query) > MAX_QUERY:
        return BadQuery("", f"a query has at most {MAX_QUERY} characters")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=1_000)
    except ValueError as error:
        return BadQuery("", str(error))
    asked: dict[str, list[str]] = {}
    for name, value in pairs:
        asked.setdefault(name, []).append(value)
    if "dataNodeSelector" in asked:
        return _alone("\n".join(asked["dataNodeSelector"]), asked)
    scope = _scope(asked)
    if isinstance(scope, BadQuery):
        return scope
    fields = _listed(asked.get("fields"))
    for each in fields or ():
        if json_patch.tokens_of(each if each.startswith("/") else "/" + each) is None:
            return BadQuery(
                "fields", f"{each!r} is not a JSON Pointer (RFC 6901): '~' must be followed by 0 or 1"
            )
    filters = tuple(asked["filter"]) if "filter" in asked else None
    return Parameters(scope, filters, _listed(asked.get("attributes")), fields)


def _alone(selector: str, asked: Mapping[str, Sequence[str]]) -> Parameters | BadQuery:
    beside = sorted(asked.keys() & {"scope", "scopeType", "scopeLevel", "filter", "attributes", "fields"})
    if beside:
        return BadQuery(
            beside[0], "cannot stand beside dataNodeSelector, which selects objects and attributes"
        )
    return Parameters(selector=selector)


def _scope(asked: Mapping[str, Sequence[str]]) -> Scope | BadQuery | None:
    if "scope" in asked:
        try:
            found = _scope_decoder.decode(asked["scope"][-1])
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            return BadQuery("scope", _no_scope(error, asked["scope"][-1]))
        kind, level = found.scope_type, found.scope_level
    elif "scopeType" in asked or "scopeLevel" in asked:
        try:
            kind = ScopeType(asked.get("scopeType", [ScopeType.BASE_ONLY])[-1])
        except ValueError:
            return BadQuery(
                "scopeType", f"must be one of {', '.join(ScopeType)}; it is {got(asked['scopeType'][-1])}"
            )
        text = asked.get("scopeLevel", [""])[-1]
        if text and not (text.isascii() and text.isdigit() and len(text) <= 4):
            return BadQuery(
                "scopeLevel", f"must be a whole number from 0 to {fdn.MAX_RDNS}; it is {got(text)}"
            )
        level = int(text) if text else None
    else:
        return None
    if level is None and kind is ScopeType.BASE_NTH_LEVEL:
        return BadQuery("scopeLevel", "is missing: the scope type BASE_NTH_LEVEL needs it")
    if level is not None and not 0 <= level <= fdn.MAX_RDNS:
        return BadQuery("scopeLevel", f"must be a whole number from 0 to {fdn.MAX_RDNS}; it is {level}")
    return Scope(kind, level)


def _no_scope(error: Exception, text: str) -> str:
    if isinstance(error, msgspec.ValidationError):
        return ": ".join(fault_of(error, text.encode("utf-8", "replace"), _scope_decoder))
    return f"must be a JSON object with scopeType and scopeLevel; it is {got(text)}"


def _listed(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """Split comma-separated names; an empty value is an empty list."""
    if values is None:
        return None
    return tuple(name for value in values for part in value.split(",") if (name := part.strip()))


# --- patch documents ---------------------------------------------------------------------------------


class _Item(Struct, frozen=True):
    op: str
    path: str = ""
    value: Raw | UnsetType = UNSET
    from_: str | UnsetType = msgspec.field(default=UNSET, name="from")


_items: Final = msgspec.json.Decoder(list[_Item])


class BadOp(Struct, frozen=True):
    """The faulty operation of a document, and the status of the answer."""

    position: int
    detail: str
    status: int = 400


def read_document(kind: str, body: bytes, target: str) -> list[Patch] | BadOp | ErrorBody:
    """Decode the operations of a patch document of media type ``kind`` for the object ``target``."""
    if kind == MERGE_PATCH:
        read = read_patch(Op.MERGE, f"/{target}", Raw(body))
        return refusal(read) if isinstance(read, ErrorDetail) else [read]
    items = decoded(body, _items)
    if len(items) > MAX_OPERATIONS:
        return error_body(
            413, f"the document has {len(items)} operations, at most {MAX_OPERATIONS} are taken: split it"
        )
    patches: list[Patch] = []
    for position, item in enumerate(items):
        read_item = _attribute_patch if kind == JSON_PATCH else _three_gpp_patch
        patch = read_item(position, item, target)
        if isinstance(patch, ErrorDetail):
            return refusal(patch, position)
        if isinstance(patch, BadOp):
            return patch
        patches.append(patch)
    return patches


_THREE_GPP_OPS: Final = {op.value: op for op in Op if op is not Op.READ}


def _three_gpp_patch(position: int, item: _Item, target: str) -> Patch | BadOp | ErrorDetail:
    op = _THREE_GPP_OPS.get(item.op)
    if op is None:
        return BadOp(
            position, f"the operation must be one of {', '.join(_THREE_GPP_OPS)}; it is {got(item.op)}", 422
        )
    patch = read_patch(op, item.path, item.value, target)
    if isinstance(patch, Patch) and op is Op.MERGE and patch.pointer != ():
        return BadOp(position, f"the path of a merge must end with #/attributes; it is {got(item.path)}", 422)
    return patch


_PLAIN_OPS: Final = {"add": Op.ADD, "remove": Op.REMOVE, "replace": Op.REPLACE, "test": Op.TEST}


def _attribute_patch(position: int, item: _Item, target: str) -> Patch | BadOp | ErrorDetail:
    """Convert an RFC 6902 operation: pointers into the target resource, restricted to the attributes."""
    pointer = _below_attributes(item.path)
    if pointer is None:
        return BadOp(
            position,
            f"with {JSON_PATCH} a path must be a JSON Pointer below /attributes; it is {got(item.path)}",
        )
    if item.op in ("copy", "move"):
        source = None if isinstance(item.from_, UnsetType) else _below_attributes(item.from_)
        if not source:
            return BadOp(position, f"{item.op} needs from, a JSON Pointer below /attributes")
        return Patch(Op.ADD, target, pointer, source=source, moving=item.op == "move")
    op = _PLAIN_OPS.get(item.op)
    if op is None:
        return BadOp(position, f"the operation must be one of RFC 6902; it is {got(item.op)}")
    read = read_patch(op, f"/{target}", item.value)
    return read if isinstance(read, ErrorDetail) else msgspec.structs.replace(read, pointer=pointer)


def _below_attributes(path: str) -> tuple[str, ...] | None:
    tokens = json_patch.tokens_of(path)
    return tokens[1:] if tokens and tokens[0] == "attributes" else None


def read_key(path: str) -> str:
    """Key of the object named by the part of a URI after the base; empty for the root.

    Raises InvalidFdn.
    """
    name = path.strip("/")
    if "*" in name:
        raise InvalidFdn(f"{name[:80]!r} has a '*': an object's name has no wildcards (TS 32.300 §7)")
    return fdn.key("/" + name) if name else ""
