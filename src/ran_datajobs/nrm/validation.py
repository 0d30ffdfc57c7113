# SPDX-License-Identifier: Apache-2.0
"""Validation of operations against a class model, in the order of their job (pure).

An operation is judged by what the request alone shows: its path, its value, and what earlier operations of
the job do. An object that the job does not create may exist or not, and have any values. The reasons are
those of TS 28.572, as an element gives them (:mod:`ran_datajobs.nrm.patch`), or ``VALIDATION_FAILED``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ran_datajobs.model import ErrorDetail, Op, Reason
from ran_datajobs.nrm import faults, fdn, json_patch
from ran_datajobs.nrm.class_model import (
    ClassModel,
    DescribedClass,
    Finding,
    KnownAttribute,
    Place,
    Target,
    in_names_of,
)
from ran_datajobs.nrm.faults import Fault
from ran_datajobs.nrm.model import Attribute
from ran_datajobs.nrm.names import class_of, id_of, parent_of
from ran_datajobs.nrm.patch import resource_of

_NOT_FOUND: Final = "TARGET_DATA_NODE_NOT_FOUND"
_PARENT_NOT_FOUND: Final = "TARGET_DATA_NODE_PARENT_NOT_FOUND"
_NOT_CONTAINED: Final = "NEW_DATA_NODE_CONTAINMENT_INVALID"
_NOT_WRITABLE: Final = "TARGET_DATA_NODE_NOT_WRITABLE"
_INVARIANT: Final = "TARGET_DATA_NODE_INVARIANT"
_NOT_DELETABLE: Final = "TARGET_DATA_NODE_DELETION_NOT_ALLOWED"
_ONE_ONLY: Final = "FINAL_DATA_NODE_CARDINALITY_INVALID"

_IDS: Final = re.compile(r"=[^/]*")
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")
_NONE: Final[Sequence[Finding]] = ()
_MAX_DETAIL: Final = 500

Created = dict[str, Any]
"""The invariant attributes of an object that the job has created."""


class Validator:
    """Validates the operations of one job. Each is passed to :meth:`findings`, in order, and then to
    :meth:`executed` if it is sent."""

    def __init__(self) -> None:
        self._objects: dict[str, Created | None] = {}  # None: the job has removed it
        self._removed = 0
        self._children: dict[str, int] = {}
        self._single: dict[tuple[str, str], str] = {}
        self._effect: tuple[str, Created | None, tuple[str, str] | None] | None = None

    def findings(
        self, op: Op, path: str, value: Raw | UnsetType, model: ClassModel, names: Sequence[str] = ()
    ) -> Sequence[Finding]:
        """What is wrong with an operation, which is well formed; nothing if it is valid.

        ``names``: the attributes that a read selects of its base object.
        """
        self._effect = None
        text, fragment = fdn.split_path(path)
        key = fdn.key(text)
        class_path = _IDS.sub("", key)
        place = model.place(class_path)
        is_new = op is Op.ADD and fragment is None
        found: list[Finding] = []
        if place.unknown is not None:
            found.append(place.unknown)
        if fault := _misplaced(place, is_new=is_new) or self._absent(key, is_new):
            found.append(fault)
            return found
        try:
            decoded = UNSET if isinstance(value, UnsetType) else msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            found.append(Finding(faults.VALUE_INVALID, f"the value cannot be read: {error}"))
            return found
        match op:
            case Op.ADD if fragment is None:
                found += self._creation(key, decoded, place, model)
            case Op.REMOVE if fragment is None:
                found += self._deletion(key, place)
            case Op.MERGE:
                found += self._merge(key, decoded, fragment, place, model)
            case Op.READ:
                selected = (model.attribute(place, name) for name in names)
                found += [each for each in selected if isinstance(each, Finding)]
            case Op.ACTION:
                pass
            case _:
                target = model.target(class_path, fragment or "")
                found += self._change(op, key, decoded, target, model)
        return found

    def executed(self) -> None:
        """Record what the operation that was judged last creates or removes."""
        if self._effect is None:
            return
        key, state, single = self._effect
        was = self._objects.get(key)
        self._removed += (state is None) - (key in self._objects and was is None)
        step = (state is not None) - (was is not None)
        if step:
            parent = parent_of(key)
            self._children[parent] = self._children.get(parent, 0) + step
        self._objects[key] = state
        if single is not None:
            if state is not None:
                self._single[single] = key
            elif self._single.get(single) == key:
                del self._single[single]
        self._effect = None

    # --- the object itself ---------------------------------------------------------------------------

    def _absent(self, key: str, is_new: bool) -> Finding | None:
        """The finding about an object, or a parent, that the job has removed."""
        if not self._removed:
            return None
        for ancestor in fdn.ancestors(parent_of(key)):
            if self._objects.get(ancestor, _EXISTS) is None:
                reason = _PARENT_NOT_FOUND if is_new else _NOT_FOUND
                return Finding(reason, f"an earlier operation of the job removes /{ancestor}")
        if not is_new and self._objects.get(key, _EXISTS) is None:
            return Finding(_NOT_FOUND, "an earlier operation of the job removes the object")
        return None

    def _creation(self, key: str, value: Any, place: Place, model: ClassModel) -> list[Finding]:
        given = _attributes_of(key, value, model)
        if isinstance(given, Finding):
            return [given]
        old = self._objects.get(key)
        found: list[Finding] = []
        created: Created = {}
        if place.found is not None:
            created = dict(place.found.invariants)
            found += _id_findings(key, place.found)
        single = (parent_of(key), place.found.name) if place.found is not None and place.is_single else None
        if single is not None and (other := self._single.get(single, key)) != key:
            found.append(Finding(_ONE_ONLY, f"an earlier operation of the job creates /{other}"))
        for spelt, known, item in _in_question(given, place, model, found):
            name, attribute = known.name, known.attribute
            if attribute.read_only:
                found.append(_not_writable(name))
            elif attribute.invariant and old is not None and not json_patch.same(old.get(name, UNSET), item):
                found.append(_invariant(name))
            else:
                found += _value_findings(attribute, item, (spelt,), model)
                if attribute.invariant:
                    created[name] = item
        if place.found is not None and place.found.required:
            attributes = place.found.attributes
            there = {attributes[spelt].name for spelt in given if spelt in attributes}
            found += [
                Finding(faults.MULTIPLICITY, f"{place.found.name} needs {name}")
                for name in place.found.required
                if name not in there
            ]
        self._effect = key, created if old is None else {**created, **old}, single
        return found

    def _deletion(self, key: str, place: Place) -> Sequence[Finding]:
        if self._children.get(key):
            detail = "an earlier operation of the job creates an object below it: delete that first"
            return (Finding(_NOT_DELETABLE, detail),)
        single = (parent_of(key), place.found.name) if place.found is not None and place.is_single else None
        self._effect = key, None, single
        return _NONE

    # --- its attributes ------------------------------------------------------------------------------

    def _change(self, op: Op, key: str, value: Any, target: Target, model: ClassModel) -> Sequence[Finding]:
        """``add``, ``replace``, ``remove`` or ``test`` of an attribute or a value within one."""
        if target.is_end and op is not Op.ADD:
            detail = f"{json_patch.END} names no item that exists"
            return (Finding(faults.NAME_INVALID, detail),)
        top, finding = target.top, target.finding
        if op is not Op.TEST and top is not None:
            if top.read_only:
                return (_not_writable(target.name),)
            if top.invariant and not (op is not Op.REMOVE and self._is_same(key, target, value)):
                return (_invariant(target.name),)
        if finding is not None:
            reason = Reason.VALIDATION_FAILED.value if finding.reason == "OTHER" else finding.reason
            return (finding._replace(reason=reason),)
        if target.value is None:
            return _NONE
        if op is Op.REMOVE:
            if target.value.mandatory:
                return (Finding(faults.MULTIPLICITY, f"{'/'.join(target.pointer)} is mandatory"),)
            return _NONE
        if target.is_valid is not None and target.is_valid(value):
            return _NONE
        found = _value_findings(target.value, value, target.pointer, model)
        if op is Op.TEST:
            reason = Reason.VALIDATION_FAILED.value
            return [
                each if each.is_warning else Finding(reason, f"the test cannot succeed: {each.detail}")
                for each in found
            ]
        return found

    def _is_same(self, key: str, target: Target, value: Any) -> bool:
        """True if the job has created the object with this value of an invariant attribute."""
        created = self._objects.get(key)
        if created is None or len(target.pointer) > 1:
            return False
        return json_patch.same(created.get(target.name, UNSET), value)

    def _merge(
        self, key: str, value: Any, fragment: str | None, place: Place, model: ClassModel
    ) -> list[Finding]:
        if fragment is None and type(value) is dict and type(value.get("attributes")) is dict:
            value = _attributes_of(key, value, model)
            if isinstance(value, Finding):
                return [value]
        if type(value) is not dict:  # an older version may have accepted it
            return [Finding(faults.VALUE_INVALID, "the value of a merge is an object")]
        created = self._objects.get(key)
        found: list[Finding] = []
        for spelt, known, item in _in_question(value, place, model, found):
            name, attribute = known.name, known.attribute
            if attribute.read_only:
                found.append(_not_writable(name))
            elif attribute.invariant and not (
                created is not None and json_patch.same(created.get(name, UNSET), item)
            ):
                found.append(_invariant(name))
            else:
                found += _merge_findings(attribute, item, (spelt,), model)
        return found


_EXISTS: Final[Created] = {}
_EMPTY: Final[dict[str, KnownAttribute]] = {}


def _misplaced(place: Place, *, is_new: bool) -> Finding | None:
    if place.misplaced_above:
        return Finding(_PARENT_NOT_FOUND if is_new else _NOT_FOUND, place.misplaced_above)
    if place.misplaced:
        return Finding(_NOT_CONTAINED if is_new else _NOT_FOUND, place.misplaced)
    return None


def _attributes_of(key: str, value: Any, model: ClassModel) -> dict[str, Any] | Finding:
    """The attributes in the value of an ``add`` or a ``merge`` of an object."""
    given = resource_of(key, value)
    if not isinstance(given, ErrorDetail):
        return given
    named = value.get("objectClass") if type(value) is dict else None
    own = class_of(key)
    if type(named) is str and named != own and model.canonical(named) == model.canonical(own) is not None:
        return _attributes_of(key, {**value, "objectClass": own}, model)  # another spelling of it
    if given.reason == "OTHER":
        return Finding(faults.VALUE_INVALID, given.detail)
    return Finding(given.reason, given.detail)


def _id_findings(key: str, described: DescribedClass) -> Sequence[Finding]:
    """The finding about an id that is not of the type of the naming attribute."""
    kind = described.managed.id
    if kind is None:
        return _NONE
    text: Any = id_of(key)
    if kind.type == "integer" and _INTEGER.fullmatch(text):
        text = int(text)
    fault = kind.fault(text)
    return _NONE if fault is None else (Finding(faults.NAME_INVALID, f"the id: {fault.detail}"),)


def _in_question(
    members: Mapping[str, Any], place: Place, model: ClassModel, found: list[Finding]
) -> Iterator[tuple[str, KnownAttribute, Any]]:
    """The attributes among ``members`` that are protected, or whose value is not known to be valid: spelling,
    attribute and value. The findings about names that the model does not know go to ``found``."""
    attributes = place.found.attributes if place.found is not None else _EMPTY
    for spelt, item in members.items():
        known: KnownAttribute | Finding | None = attributes.get(spelt)
        if known is None:
            known = model.attribute(place, spelt)
        if isinstance(known, Finding):
            found.append(known)
            if place.found is not None and not place.found.described:
                return  # it is the same for each name
        elif known is not None and (known.is_protected or not known.is_valid(item)):
            yield spelt, known, item


def _value_findings(
    attribute: Attribute, value: Any, at: tuple[str | int, ...], model: ClassModel
) -> Sequence[Finding]:
    """What is wrong with a whole value: the first fault, and a warning for each unknown field."""
    fault = attribute.fault(attribute.normal(value), at)
    if fault is None:
        return _NONE
    warnings: Sequence[Finding] = _NONE
    if fault.reason == faults.NAME_INVALID:  # a field, which may be spelt otherwise
        unknown: list[tuple[str | int, ...]] = []
        fault = attribute.fault(attribute.normal(in_names_of(attribute, value, at, unknown)), at)
        warnings = [
            Finding(faults.NAME_INVALID, f"{_joined(each)} is not a field of this attribute", is_warning=True)
            for each in unknown
        ]
    return warnings if fault is None else [*warnings, _finding(fault, model)]


def _merge_findings(
    attribute: Attribute, value: Any, at: tuple[str | int, ...], model: ClassModel
) -> Sequence[Finding]:
    """What is wrong with a value that is merged by RFC 7396: null removes, an object is merged by members."""
    if value is None:
        if attribute.mandatory:
            return (Finding(faults.MULTIPLICITY, f"{_joined(at)} is mandatory"),)
        return _NONE
    if attribute.type != "object" or type(value) is not dict or not attribute.fields:
        return _value_findings(attribute, value, at, model)
    found: list[Finding] = []
    for spelt, item in value.items():
        field = attribute.fields.get(spelt) or next(
            (each for each in attribute.fields.values() if spelt in each.aliases), None
        )
        if field is None:
            detail = f"{_joined((*at, spelt))} is not a field of this attribute"
            found.append(Finding(faults.NAME_INVALID, detail, is_warning=True))
        else:
            found += _merge_findings(field, item, (*at, spelt), model)
    return found


def _finding(fault: Fault, model: ClassModel) -> Finding:
    # A reference to an object of a vendor's class can be right.
    is_warning = bool(fault.named_class) and model.canonical(fault.named_class) is None
    return Finding(fault.reason, f"{_joined(fault.pointer)}: {fault.detail}"[:_MAX_DETAIL], is_warning)


def _not_writable(name: str) -> Finding:
    return Finding(_NOT_WRITABLE, f"{name} is read-only")


def _invariant(name: str) -> Finding:
    return Finding(_INVARIANT, f"{name} can be set at creation only")


def _joined(pointer: Sequence[str | int]) -> str:
    text = "/".join(map(str, pointer))
    return text if len(text) <= 200 else text[:197] + "..."
