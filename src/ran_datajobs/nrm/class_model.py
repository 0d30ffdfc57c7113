# SPDX-License-Identifier: Apache-2.0
"""Class model as validation reads it: names in every spelling, and places by the classes of an FDN (pure).

What the model does not know may be a vendor's own, and gives a warning. Attributes, fields and objects that
the model marks as mandatory are required by a ``complete`` model only: those of 3GPP leave more to the
elements than their types say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.nrm import faults, fdn
from ran_datajobs.nrm.json_patch import END, index_of
from ran_datajobs.nrm.model import OPEN_CLASS, Attribute, ManagedClass, Model
from ran_datajobs.nrm.quick_check import IsValid, check_of

_K = TypeVar("_K")
_V = TypeVar("_V")

_MOST_KEPT: Final = 10_000
"""Number of places and targets that are kept; requests can name any number of them."""

_LONGEST_KEPT: Final = 500
"""Maximum length of the names of what is kept, in characters."""

_NOT_FOUND: Final = "TARGET_DATA_NODE_NOT_FOUND"


class Finding(NamedTuple):
    """What is wrong with an operation. ``is_warning``: the model does not know it, so it can be right."""

    reason: str
    detail: str
    is_warning: bool = False


class KnownAttribute(Struct, frozen=True, eq=False):
    """An attribute of a class by the model's ``name``. ``is_valid``: see :mod:`ran_datajobs.nrm.quick_check`.
    ``is_protected``: it is read-only, or can be set at creation only."""

    name: str
    attribute: Attribute
    is_valid: IsValid
    is_protected: bool


class DescribedClass(Struct, frozen=True, eq=False):
    """A class of a model. ``attributes``: by every spelling; ``open``: any attribute is accepted;
    ``described``: the model says which attributes it has; ``required``: those that a new object must be
    given; ``invariants``: the defaults of those that can be set at creation only."""

    name: str
    attributes: dict[str, KnownAttribute]
    managed: ManagedClass
    described: bool
    required: tuple[str, ...]
    invariants: dict[str, Any]

    @property
    def open(self) -> bool:
        """True if any attribute is accepted."""
        return self.managed.open


class Place(Struct, frozen=True, eq=False):
    """What a model says about the classes of an FDN, from the top.

    ``found``: the last one, if the model has it. ``misplaced``: why it cannot be contained in the one above
    it, ``misplaced_above`` the same of an ancestor; empty if they can. ``unknown``: the warning about a class
    that the model does not have. ``is_single``: the parent has at most one object of the class.
    """

    found: DescribedClass | None
    misplaced: str = ""
    misplaced_above: str = ""
    unknown: Finding | None = None
    is_single: bool = False


class Target(Struct, frozen=True, eq=False):
    """What a model says about an attribute, or a value within it.

    ``name``: of the attribute in the model. ``top``: the attribute, ``value``: what the path names; None if
    not known, and ``is_valid`` its check. ``finding``: what is wrong with the path.
    """

    pointer: tuple[str, ...]
    name: str = ""
    top: Attribute | None = None
    value: Attribute | None = None
    is_valid: IsValid | None = None
    finding: Finding | None = None

    @property
    def is_end(self) -> bool:
        """True if the path names the position after the last item of a list."""
        return len(self.pointer) > 1 and self.pointer[-1] == END


class ClassModel:
    """A model for validation. What is looked up is kept: jobs share one, also those of several threads."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._canonical = {each: each for name in model for each in (*_known_below(model, name), name)}
        self._by_lower_case = {each.lower(): each for each in self._canonical}
        for name in model:
            managed = model.managed_class(name)
            self._canonical.update(dict.fromkeys(managed.aliases, name) if managed else {})
        self._described = frozenset(model)
        self._classes: dict[str, DescribedClass] = {}
        self._places: dict[str, Place] = {}
        self._targets: dict[tuple[str, str], Target] = {}

    def canonical(self, class_name: str) -> str | None:
        """The model's name of a class in any spelling; None if it has no such class."""
        return self._canonical.get(class_name.partition(".")[0])

    def described(self, name: str) -> DescribedClass:
        """A class by the model's name."""
        found = self._classes.get(name)
        if found is None:
            managed = self.model.managed_class(name) or OPEN_CLASS
            attributes = managed.attributes
            if not self.model.complete:
                attributes = {each: _relaxed(attribute) for each, attribute in attributes.items()}
            known = [
                KnownAttribute(
                    each, attribute, check_of(attribute), attribute.read_only or attribute.invariant
                )
                for each, attribute in attributes.items()
            ]
            spelt = {spelling: each for each in known for spelling in (*each.attribute.aliases, each.name)}
            defaults = managed.defaults()
            found = DescribedClass(
                name,
                spelt,
                managed,
                name in self._described,
                tuple(each.name for each in known if each.attribute.mandatory and each.name not in defaults),
                {
                    each.name: defaults[each.name]
                    for each in known
                    if each.attribute.invariant and each.name in defaults
                },
            )
            self._classes[name] = found
        return found

    def place(self, class_path: str) -> Place:
        """The place of an object, by the classes of its FDN: ``SubNetwork/ManagedElement``."""
        found = self._places.get(class_path)
        if found is None:
            found = self._place(class_path.split("/"))
            _keep(self._places, class_path, found, len(class_path))
        return found

    def target(self, class_path: str, fragment: str) -> Target:
        """The attribute, or the value within one, that a fragment names at a place whose class is found."""
        found = self._targets.get((class_path, fragment))
        if found is None:
            found = self._target(self.place(class_path), fragment)
            _keep(self._targets, (class_path, fragment), found, len(class_path) + len(fragment))
        return found

    def attribute(self, place: Place, name: str) -> KnownAttribute | Finding | None:
        """An attribute of a class in any spelling; a warning if the model does not know it; None if the class
        accepts any."""
        if place.found is None:
            return None
        found = place.found.attributes.get(name)
        if found is not None:
            return found
        if not place.found.described:
            detail = f"the class model does not describe the attributes of {place.found.name}"
            return Finding(faults.NAME_INVALID, detail, is_warning=True)
        if place.found.open:
            return None
        known = {each.name.lower(): each.name for each in place.found.attributes.values()}
        return _unknown(f"{place.found.name} has no attribute {_shown(name)}", known.get(name.lower()))

    def _place(self, names: list[str]) -> Place:
        found = [self.canonical(name) for name in names]
        # A module set describes an element, not the objects above it.
        start = next((number for number, name in enumerate(found) if name is not None), len(names))
        misplaced: dict[int, str] = {}
        if start == 0 and found[0] is not None and not self.model.contains("", found[0]):
            misplaced[0] = f"an object of class {found[0]} is contained in another one"
        unknown = start if start == len(names) else None
        for number in range(start + 1, len(names)):
            parent, child = found[number - 1], found[number]
            if child is None:
                unknown = number if unknown is None else unknown
            elif parent is not None and parent in self._described and not self.model.contains(parent, child):
                misplaced[number] = f"{parent} does not contain {child}"
        last, above = len(names) - 1, found[-2] if len(names) > 1 else None
        name = found[-1]
        warning = None
        if unknown is not None:
            spelt = names[min(unknown, last)]
            known = self._by_lower_case.get(spelt.lower())
            warning = _unknown(f"the class model has no class {_shown(spelt)}", known)
        return Place(
            self.described(name) if name is not None else None,
            misplaced.pop(last, ""),
            next(iter(misplaced.values()), ""),
            warning,
            name is not None and above is not None and name in self.described(above).managed.single,
        )

    def _target(self, place: Place, fragment: str) -> Target:
        try:
            pointer = fdn.attribute_pointer(fragment)[1:]
        except InvalidFdn as error:  # an older version may have accepted it
            return Target((), finding=Finding("OTHER", str(error)))
        found = self.attribute(place, pointer[0]) if pointer else None
        if found is None or isinstance(found, Finding):
            return Target(pointer, finding=found)
        name, top = found.name, found.attribute
        value: Attribute | None = top
        finding: Finding | None = None
        for depth, token in enumerate(pointer[1:], 2):
            if value is None or value.type in ("any", "union"):
                value = None
                break
            at = "/".join(pointer[: depth - 1])
            if value.type == "list":
                if index_of(token) is None and not (token == END and depth == len(pointer)):
                    finding = Finding(faults.NAME_INVALID, f"{_shown(token)} is no index of the list {at}")
                value = value.items
            elif value.type != "object":
                finding = Finding(_NOT_FOUND, f"{_shown(at)} is one value: it has no {_shown(token)}")
            elif not value.fields:
                value = None
            else:
                field = _field(value, token)
                if field is None:
                    finding = _unknown(f"{_shown(at)} has no field {_shown(token)}", None)
                value = None if field is None else field[1]
            if finding is not None:
                break
        if value is None or finding is not None:
            return Target(pointer, name, top, finding=finding)
        return Target(pointer, name, top, value, check_of(value))


def _keep(kept: dict[_K, _V], key: _K, value: _V, length: int) -> None:
    if length <= _LONGEST_KEPT:
        if len(kept) >= _MOST_KEPT:
            kept.clear()
        kept[key] = value


def in_names_of(
    attribute: Attribute, value: Any, at: tuple[str | int, ...], unknown: list[tuple[str | int, ...]]
) -> Any:
    """``value`` with the names of the model for fields, and without those that it does not have, which are
    added to ``unknown``."""
    if type(value) is list and attribute.items is not None:
        return [in_names_of(attribute.items, item, (*at, each), unknown) for each, item in enumerate(value)]
    if type(value) is not dict or not attribute.fields:
        return value
    renamed: dict[str, Any] = {}
    for spelt, item in value.items():
        field = _field(attribute, spelt)
        if field is None:
            unknown.append((*at, spelt))
        else:
            renamed[field[0]] = in_names_of(field[1], item, (*at, spelt), unknown)
    return renamed


def _field(attribute: Attribute, spelt: str) -> tuple[str, Attribute] | None:
    found = attribute.fields.get(spelt)
    if found is not None:
        return spelt, found
    return next((each for each in attribute.fields.items() if spelt in each[1].aliases), None)


def _known_below(model: Model, name: str) -> frozenset[str]:
    managed = model.managed_class(name)
    return managed.children if managed is not None else frozenset()


def _relaxed(attribute: Attribute) -> Attribute:
    """``attribute`` without what is mandatory, of a list the minimum number of items."""
    return replace(
        attribute,
        mandatory=False,
        min_items=0,
        items=None if attribute.items is None else _relaxed(attribute.items),
        fields=_each_relaxed(attribute.fields),
        options=tuple(map(_relaxed, attribute.options)),
    )


def _each_relaxed(fields: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {name: _relaxed(field) for name, field in fields.items()}


def _unknown(detail: str, near: str | None) -> Finding:
    hint = f": did you mean {near}?" if near else ""
    return Finding(faults.NAME_INVALID, detail + hint, is_warning=True)


def _shown(name: str) -> str:
    return name if len(name) <= 64 else name[:61] + "..."
