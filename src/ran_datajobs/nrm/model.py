# SPDX-License-Identifier: Apache-2.0
"""Class model: containment of managed objects, and types and constraints of their attributes (pure).

``classes.json`` holds facts of 3GPP TS 28.541 (NR NRM) and TS 28.622: names, types, ranges, read-only,
invariant and mandatory attributes (the tables of clause 4.3), and the other spellings of the OpenAPI
generations. Names are those of stage 2 (``NRCellDU``, ``nRPCI``).

Mandatory are the attributes that stage 2 marks M and that clients can set. A class that another class
contains but that has no entry is open: it accepts any attribute.

The YANG modules of a module set become a :class:`Model` of the same parts, with their own ``roots`` and
``complete``: operations are validated by either.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.faults import MULTIPLICITY, NAME_INVALID, NOT_UNIQUE, VALUE_INVALID, Fault

MAX_STRING: Final = 65_536
"""Maximum length of a string attribute in characters."""

_encode: Final = msgspec.json.Encoder(order="sorted").encode
_MAX_SHOWN: Final = 60
_EXACT: Final = 2.0**53
"""Up to this value, a float represents every integer exactly."""

Kind = Literal["integer", "number", "boolean", "string", "enum", "dn", "list", "object", "union", "any"]
"""Types of values. ``union``: valid for one of ``options``; ``any``: every JSON value is valid."""


class Attribute(Struct, frozen=True, omit_defaults=True):
    """Type and constraints of an attribute, list item or field. ``ranges``: inclusive pairs; ``length``: one.

    ``pattern``: a Python regular expression for the whole string. ``references``: classes that a ``dn`` may
    name, any if empty. ``fields`` of an ``object``, none: any. ``openapi``: its name in the OpenAPI up to
    19.1, if different; ``aliases``: all known other spellings.
    """

    type: Kind
    ranges: tuple[tuple[float, float], ...] = ()
    values: tuple[str, ...] = ()
    pattern: str = ""
    length: tuple[int, int] | None = None
    items: Attribute | None = None
    fields: dict[str, Attribute] = {}
    options: tuple[Attribute, ...] = ()
    references: frozenset[str] = frozenset()
    min_items: int = 0
    max_items: int | None = None
    unique: bool = False
    mandatory: bool = False
    read_only: bool = False
    invariant: bool = False
    default: Any = UNSET
    unit: str = ""
    openapi: str = ""
    aliases: tuple[str, ...] = ()

    def fault(self, value: Any, at: tuple[str | int, ...] = ()) -> Fault | None:
        """The fault of ``value``, which is at ``at`` below the attributes; None if it is valid."""
        return _CHECKS[self.type](self, value, at)

    def normal(self, value: Any) -> Any:
        """``value`` with integers where the model requires them: ``12.0`` is the integer 12 (JSON Schema).

        Returns the same object if nothing changes.
        """
        if self.type == "integer":
            return int(value) if type(value) is float and _is_integer(value) else value
        if type(value) is list and self.items is not None:
            items = [self.items.normal(item) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        if type(value) is dict and self.fields:
            fields = {
                name: self.fields[name].normal(item) if name in self.fields else item
                for name, item in value.items()
            }
            return fields if any(fields[name] is not item for name, item in value.items()) else value
        return value


class ManagedClass(Struct, frozen=True, omit_defaults=True):
    """A class of managed objects. ``single``: child classes with at most one instance.

    ``id``: type of the naming attribute, which an RDN has as text; None: any text.
    """

    id: Attribute | None = None
    children: frozenset[str] = frozenset()
    single: frozenset[str] = frozenset()
    attributes: dict[str, Attribute] = {}
    aliases: tuple[str, ...] = ()
    managed_function: bool = False
    open: bool = False

    def defaults(self) -> dict[str, Any]:
        """Default values of the attributes of a new object."""
        return {
            name: attribute.default
            for name, attribute in self.attributes.items()
            if not isinstance(attribute.default, UnsetType)
        }


class _Facts(Struct, frozen=True):
    managed_function: dict[str, Attribute]
    classes: dict[str, ManagedClass]


OPEN_CLASS: Final = ManagedClass(open=True)
"""Used for a class that is contained but not described: it accepts any attribute."""

ROOTS: Final = frozenset({"SubNetwork", "MeContext", "ManagedElement"})
"""Classes of objects that can be at the root."""


class Model:
    """Classes by stage-2 name.

    If not ``strict``, an unknown class is vendor-specific: open, and contained in any class. ``roots``:
    classes whose objects can be at the top of what the model describes. ``complete``: mandatory attributes
    are those of the elements themselves, so that an object without one is refused.
    """

    def __init__(
        self,
        classes: Mapping[str, ManagedClass],
        *,
        strict: bool = True,
        roots: frozenset[str] = ROOTS,
        complete: bool = False,
    ) -> None:
        self._classes = dict(classes)
        self._strict = strict
        self.roots = roots
        self.complete = complete
        self._known = {child for each in classes.values() for child in each.children}

    def __iter__(self) -> Iterator[str]:
        """Names of the described classes."""
        return iter(self._classes)

    def managed_class(self, name: str) -> ManagedClass | None:
        """The class; OPEN_CLASS if it is contained but not described; None if it is unknown."""
        found = self._classes.get(name)
        if found is None and (name in self._known or not self._strict):
            return OPEN_CLASS
        return found

    def knowing(self, classes: Iterable[str]) -> Model:
        """A copy in which those of ``classes`` that the model does not know are open."""
        made = copy.copy(self)
        made._known = self._known.union(classes)
        return made

    def vendors_own(self, name: str) -> bool:
        """Whether a class is vendor-specific; always False for a strict model."""
        return not self._strict and name not in self._classes and name not in self._known

    def contains(self, parent: str, child: str) -> bool:
        """Whether an object of ``parent`` (empty: the root) can contain one of ``child``."""
        if not parent:
            return child in self.roots
        if self.vendors_own(child) or self.vendors_own(parent):
            return True
        holder = self._classes.get(parent)
        return holder is not None and child in holder.children

    def attribute_spellings(self, class_name: str) -> dict[str, tuple[str, ...]]:
        """Other spellings in YANG and the OpenAPI generations, by attribute, if there are any."""
        found = self._classes.get(class_name, OPEN_CLASS)
        return {name: each.aliases for name, each in found.attributes.items() if each.aliases}


def load(*, strict: bool = True) -> Model:
    """Load the model of this package; not ``strict``: with vendor-specific classes, see :class:`Model`."""
    text = resources.files("ran_datajobs.nrm").joinpath("classes.json").read_bytes()
    facts = msgspec.json.decode(text, type=_Facts)
    return Model(
        {
            name: msgspec.structs.replace(each, attributes={**facts.managed_function, **each.attributes})
            if each.managed_function
            else each
            for name, each in facts.classes.items()
        },
        strict=strict,
    )


# --- one check per type ------------------------------------------------------------------------------

_At = tuple[str | int, ...]


def _integer(attribute: Attribute, value: Any, at: _At) -> Fault | None:
    if type(value) is not int:
        return Fault(VALUE_INVALID, f"{_shown(value)} is not an integer", at)
    return _in_ranges(attribute, value, at)


def _number(attribute: Attribute, value: Any, at: _At) -> Fault | None:
    if type(value) not in (int, float):
        return Fault(VALUE_INVALID, f"{_shown(value)} is not a number", at)
    return _in_ranges(attribute, value, at)


def _is_integer(value: float) -> bool:
    return value.is_integer() and abs(value) <= _EXACT


def _in_ranges(attribute: Attribute, value: float, at: _At) -> Fault | None:
    if not attribute.ranges or any(low <= value <= high for low, high in attribute.ranges):
        return None
    allowed = ", ".join(
        f"{low:g}" if low == high else f"{_plain(low)}..{_plain(high)}" for low, high in attribute.ranges
    )
    return Fault(VALUE_INVALID, f"{_shown(value)} is not in {allowed}", at)


def _boolean(_: Attribute, value: Any, at: _At) -> Fault | None:
    return None if type(value) is bool else Fault(VALUE_INVALID, f"{_shown(value)} is not true or false", at)


def _string(attribute: Attribute, value: Any, at: _At) -> Fault | None:
    if type(value) is not str:
        return Fault(VALUE_INVALID, f"{_shown(value)} is not a string", at)
    if len(value) > MAX_STRING:
        return Fault(VALUE_INVALID, f"a string has at most {MAX_STRING} characters", at)
    if attribute.length is not None and not attribute.length[0] <= len(value) <= attribute.length[1]:
        low, high = attribute.length
        return Fault(VALUE_INVALID, f"{len(value)} characters, allowed are {low} to {high}", at)
    if attribute.pattern and not re.fullmatch(attribute.pattern, value):
        return Fault(VALUE_INVALID, f"{_shown(value)} is not of the form {attribute.pattern}", at)
    return None


def _enum(attribute: Attribute, value: Any, at: _At) -> Fault | None:
    if type(value) is str and value in attribute.values:
        return None
    return Fault(VALUE_INVALID, f"{_shown(value)} is not one of {', '.join(attribute.values)}", at)


def _dn(attribute: Attribute, value: Any, at: _At) -> Fault | None:
    if type(value) is not str:
        return Fault(VALUE_INVALID, f"{_shown(value)} is not a distinguished name", at)
    try:
        class_name = fdn.parse(value)[-1][0]
    except InvalidFdn as error:
        return Fault(VALUE_INVALID, f"not a distinguished name: {error}", at)
    if attribute.references and class_name not in attribute.references:
        class_name = class_name.partition(".")[0]
        if class_name.lower() not in {each.lower() for each in attribute.references}:  # OpenAPI: NrCellDu
            allowed = " or ".join(sorted(attribute.references))
            return Fault(VALUE_INVALID, f"{_shown(value)} does not name a {allowed}", at, class_name)
    return None


def _list(attribute: Attribute, value: Any, at: _At) -> Fault | None:
    if type(value) is not list:
        return Fault(VALUE_INVALID, f"{_shown(value)} is not a list", at)
    if len(value) < attribute.min_items:
        return Fault(MULTIPLICITY, f"{len(value)} values, at least {attribute.min_items} are needed", at)
    if attribute.max_items is not None and len(value) > attribute.max_items:
        return Fault(MULTIPLICITY, f"{len(value)} values, at most {attribute.max_items} are allowed", at)
    if attribute.items is not None:
        for index, item in enumerate(value):
            if fault := attribute.items.fault(item, (*at, index)):
                return fault
    if attribute.unique and len(set(map(_encode, value))) < len(value):
        return Fault(NOT_UNIQUE, "the values of this list are distinct", at)
    return None


def _object(attribute: Attribute, value: Any, at: _At) -> Fault | None:
    if type(value) is not dict:
        return Fault(VALUE_INVALID, f"{_shown(value)} is not an object", at)
    if not attribute.fields:
        return None
    for name, item in value.items():
        field = attribute.fields.get(name)
        if field is None:
            return Fault(NAME_INVALID, f"{_shown(name)} is not a field of this attribute", (*at, name))
        if fault := field.fault(item, (*at, name)):
            return fault
    for name, field in attribute.fields.items():
        if field.mandatory and name not in value:
            return Fault(MULTIPLICITY, f"the field {name} is missing", (*at, name))
    return None


def _union(attribute: Attribute, value: Any, at: _At) -> Fault | None:
    found = None
    for option in attribute.options:
        found = option.fault(option.normal(value), at)
        if found is None:
            return None
    return found


def _any(_: Attribute, __: Any, ___: _At) -> Fault | None:
    return None


_CHECKS: Final[dict[Kind, Callable[[Attribute, Any, _At], Fault | None]]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
    "enum": _enum,
    "dn": _dn,
    "list": _list,
    "object": _object,
    "union": _union,
    "any": _any,
}


def _shown(value: Any) -> str:
    text = _encode(value).decode(errors="replace") if not isinstance(value, str) else repr(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)
