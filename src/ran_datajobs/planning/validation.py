# SPDX-License-Identifier: Apache-2.0
"""Validation rules for operations that need the request alone (TS 32.158 §6.4.3). Pure.

A rule returns (field, detail) pairs; none means that the operation is well formed.
"""

from __future__ import annotations

import itertools
import re
from typing import Final

import msgspec
from msgspec import Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidFdn, InvalidFilter, InvalidSelector
from ran_datajobs.model import Op, Scope, ScopeType
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm import filter as nrm_filter
from ran_datajobs.planning import selectors
from ran_datajobs.plugins.wire import SeedOperation, names

MAX_FRAGMENT: Final = 4000
"""Maximum length of a path's fragment, in characters."""

MAX_NAMES: Final = 1000
"""Maximum number of attributes, fields or filters of one read."""

MAX_SCOPE_LEVEL: Final = fdn.MAX_RDNS

MAX_DEPTH: Final = 200
"""Maximum nesting depth of a value."""

Findings = tuple[tuple[str, str], ...]
"""(field, detail) of every fault of an operation."""

_NONE: Final[Findings] = ()
_ACTION_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_BAD_TILDE: Final = re.compile(r"~(?![01])")
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])')
_members: Final = msgspec.json.Decoder(dict[str, Raw])


def validate_operation(line: SeedOperation) -> Findings:
    """Return the faults of a line."""
    if line.data_node_selector is not None:
        return _read_by_selector(line, line.data_node_selector)
    fdn_text, fragment = fdn.split_path(line.path)
    try:
        fdn.key(fdn_text)
    except InvalidFdn as error:
        return (("path", str(error)), *_findings_without_fdn(line, fragment))
    return _findings_without_fdn(line, fragment)


def _findings_without_fdn(line: SeedOperation, fragment: str | None) -> Findings:
    if fragment is not None and (len(fragment) > MAX_FRAGMENT or not fragment.isprintable()):
        return (("path", f"what follows '#' must be printable, with at most {MAX_FRAGMENT} characters"),)
    if line.op is Op.READ:
        return _read(line, fragment)
    value = b"" if line.op is Op.REMOVE or isinstance(line.value, UnsetType) else bytes(line.value)
    if _too_deep(value):
        return (("value", f"is nested deeper than {MAX_DEPTH}"),)
    return _action(fragment, value) if line.op is Op.ACTION else _write(line.op, fragment, value)


def _too_deep(value: bytes) -> bool:
    """True when a JSON value nests deeper than MAX_DEPTH."""
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    steps = (1 if bracket[1] else -1 if bracket[2] else 0 for bracket in _BRACKETS.finditer(value))
    return max(itertools.accumulate(steps)) > MAX_DEPTH


# --- writes: the value's JSON tokens, empty when there is none ---------------------------------------


class _Rule(Struct, frozen=True):
    """Faults of a write: without a value, and with a path that names the object, all attributes or one."""

    missing: str = ""
    of_object: str = ""
    of_all: str = "names no attribute: FDN#/attributes/name"
    of_one: str = ""


_RULES: Final = {
    Op.ADD: _Rule("is missing: the object, or the attribute's value"),
    Op.REPLACE: _Rule(
        "is missing: the attribute's new value",
        "replace is not for objects: name an attribute, #/attributes/name, or use merge",
        "replace is for one attribute: name it, #/attributes/name, or use merge",
    ),
    Op.MERGE: _Rule(
        "must be an object with the attributes to merge",
        of_all="",
        of_one="merge is for all attributes: end the path with #/attributes, or with the FDN",
    ),
    Op.REMOVE: _Rule(),  # a value is ignored, as RFC 6902 §4 permits: ONAP's clients send one
    Op.TEST: _Rule(
        "is missing: the value that the attribute should have",
        "test needs an attribute: FDN#/attributes/name",
    ),
}


def _write(op: Op, fragment: str | None, value: bytes) -> Findings:
    rule = _RULES[op]
    if fragment is None and rule.of_object:
        return (("path", rule.of_object),)
    path = _NONE if fragment is None else _attribute(fragment, rule)
    is_object = value.startswith(b"{")
    if (not value and rule.missing) or (op is Op.MERGE and not is_object):
        return (("value", rule.missing), *path)
    if op is Op.ADD and fragment is None and not is_object:
        return (("value", 'must be an object: {"id": …, "attributes": {…}}'),)
    return path


def _attribute(fragment: str, rule: _Rule) -> Findings:
    try:
        fault = rule.of_one if len(fdn.attribute_pointer(fragment)) > 1 else rule.of_all
    except InvalidFdn as error:
        fault = str(error)
    return (("path", fault),) if fault else _NONE


def _action(fragment: str | None, value: bytes) -> Findings:
    if fragment is None or not _ACTION_NAME.fullmatch(fragment):
        return (("path", "lacks the name of an action: FDN#ActionName"),)
    if not value.startswith(b"{") or "input" not in _members.decode(value):
        return (("value", 'must be an object with "input"'),)
    return _NONE


# --- reads -------------------------------------------------------------------------------------------


def _read_by_selector(line: SeedOperation, selector: str) -> Findings:
    if line.op is not Op.READ:
        return (("dataNodeSelector", f"is for reads: a {line.op.value} names its object with path"),)
    beside = {
        "path": line.path,
        "attributes": line.attributes is not None,
        "fields": line.fields is not None,
        "filter": line.filter is not None,
        "scope": line.scope is not None,
        "value": _has_value(line),
    }
    found = [
        (field, "cannot stand beside a dataNodeSelector, which names objects and attributes itself")
        for field, is_there in beside.items()
        if is_there
    ]
    try:
        selectors.check(selector)
    except InvalidSelector as error:
        found.append(("dataNodeSelector", str(error)))
    return tuple(found)


def _has_value(line: SeedOperation) -> bool:
    return not isinstance(line.value, UnsetType) and bytes(line.value) != b"null"


def _read(line: SeedOperation, fragment: str | None) -> Findings:
    found: list[tuple[str, str]] = []
    if fragment is not None:
        found.append(("path", "a read names an object; attributes go into 'attributes' or 'fields'"))
    if _has_value(line):
        found.append(("value", "is superfluous: a read takes none"))
    pointers = names(line.fields) or ()
    found.extend(_names("attributes", names(line.attributes) or ()))
    found.extend(_names("fields", pointers))
    if any(map(_BAD_TILDE.search, pointers)):
        found.append(("fields", "a JSON Pointer has only ~0 and ~1 after a '~'"))
    if line.filter is not None:
        found.extend(_filters(line.filter))
    if line.scope is not None:
        found.extend(_scope(line.scope))
    return tuple(found)


def _names(field: str, given: tuple[str, ...]) -> Findings:
    if len(given) > MAX_NAMES:
        return ((field, f"has {len(given)} entries, at most {MAX_NAMES} are read"),)
    for number, name in enumerate(given, 1):
        if not (name.strip() and name.isprintable()):
            return ((field, f"entry {number} is empty, or has a character that cannot be printed"),)
    return _NONE


def _filters(given: tuple[str, ...] | str) -> Findings:
    """Check each filter alone, then their conjunction."""
    texts = [given] if isinstance(given, str) else given
    if len(texts) > MAX_NAMES:
        return (("filter", f"has {len(texts)} entries, at most {MAX_NAMES} are read"),)
    parsed: list[nrm_filter.Filter] = []
    faults: list[tuple[str, str]] = []
    for number, text in enumerate(texts):
        try:
            parsed.append(nrm_filter.parse(text))
        except InvalidFilter as error:
            faults.append(("filter" if isinstance(given, str) else f"filter/{number}", str(error)))
    if not faults and len(parsed) > 1:
        try:
            nrm_filter.all_of(parsed)
        except InvalidFilter as error:
            faults.append(("filter", error.detail))
    return tuple(faults)


def _scope(scope: Scope) -> Findings:
    level = scope.scope_level
    if level is None:
        if scope.scope_type is ScopeType.BASE_NTH_LEVEL:
            return (("scope/scopeLevel", "is missing: BASE_NTH_LEVEL needs it"),)
    elif not 0 <= level <= MAX_SCOPE_LEVEL:
        return (("scope/scopeLevel", f"must be an integer from 0 to {MAX_SCOPE_LEVEL}"),)
    return _NONE
