# SPDX-License-Identifier: Apache-2.0
"""Fast check of values by an attribute of the class model (pure).

The check of an attribute is made once, and says "valid" or "unknown": it never names a fault. Nearly all
values of a job are valid; for the others the caller takes the exact and slow way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from ran_datajobs.nrm.fdn import CLASS, MAX_RDNS
from ran_datajobs.nrm.model import MAX_STRING, Attribute

IsValid = Callable[[Any], bool]
"""True only if the attribute has no fault with the normal form of a value."""

_MOST_OPTIONS: Final = 8
_RDN: Final = rf"{CLASS}=[A-Za-z0-9_.:()@&'!-]++"
_NAME: Final = re.compile(rf"(?:{_RDN},){{0,{MAX_RDNS - 1}}}({CLASS})=[A-Za-z0-9_.:()@&'!-]++").fullmatch
_LONGEST_NAME: Final = 1000


def check_of(attribute: Attribute) -> IsValid:
    """The check for values of ``attribute``."""
    return _CHECKS[attribute.type](attribute)


def _never(_: Any) -> bool:
    return False


def _always(_: Any) -> bool:
    return True


def _integer(attribute: Attribute) -> IsValid:
    if len(attribute.ranges) == 1:
        ((low, high),) = attribute.ranges
        return lambda value: type(value) is int and low <= value <= high
    ranges = attribute.ranges
    if ranges and all(low == high for low, high in ranges):
        values = frozenset(low for low, _ in ranges)
        return lambda value: type(value) is int and value in values
    return lambda value: (
        type(value) is int and (not ranges or any(low <= value <= high for low, high in ranges))
    )


def _number(attribute: Attribute) -> IsValid:
    ranges = attribute.ranges
    return lambda value: (
        type(value) in (int, float) and (not ranges or any(low <= value <= high for low, high in ranges))
    )


def _boolean(_: Attribute) -> IsValid:
    return lambda value: type(value) is bool


def _string(attribute: Attribute) -> IsValid:
    low, high = attribute.length or (0, MAX_STRING)
    high = min(high, MAX_STRING)
    if not attribute.pattern:
        return lambda value: type(value) is str and low <= len(value) <= high
    matches = re.compile(attribute.pattern).fullmatch
    return lambda value: type(value) is str and low <= len(value) <= high and matches(value) is not None


def _enum(attribute: Attribute) -> IsValid:
    values = frozenset(attribute.values)
    return lambda value: type(value) is str and value in values


def _dn(attribute: Attribute) -> IsValid:
    references = attribute.references

    def is_valid(value: Any) -> bool:
        if type(value) is not str or len(value) > _LONGEST_NAME:
            return False
        found = _NAME(value)
        return found is not None and (not references or found[1] in references)

    return is_valid


def _list(attribute: Attribute) -> IsValid:
    least, most, is_unique = attribute.min_items, attribute.max_items, attribute.unique
    is_item = _always if attribute.items is None else check_of(attribute.items)
    if is_unique and (attribute.items is None or attribute.items.type not in ("string", "dn", "enum")):
        return _never

    def is_valid(value: Any) -> bool:
        if type(value) is not list or len(value) < least or (most is not None and len(value) > most):
            return False
        for item in value:
            if not is_item(item):
                return False
        return not is_unique or len(value) < 2 or len(set(value)) == len(value)

    return is_valid


def _object(attribute: Attribute) -> IsValid:
    fields = {name: check_of(field) for name, field in attribute.fields.items()}
    mandatory = frozenset(name for name, field in attribute.fields.items() if field.mandatory)

    def is_valid(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for name, item in value.items():
            is_field = fields.get(name)
            if is_field is None or not is_field(item):
                return False
        return not mandatory or mandatory <= value.keys()

    return is_valid if fields else lambda value: type(value) is dict


def _union(attribute: Attribute) -> IsValid:
    options = tuple(map(check_of, attribute.options[:_MOST_OPTIONS]))
    return lambda value: any(is_option(value) for is_option in options)


_CHECKS: Final[dict[str, Callable[[Attribute], IsValid]]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
    "enum": _enum,
    "dn": _dn,
    "list": _list,
    "object": _object,
    "union": _union,
    "any": lambda _: _always,
}
