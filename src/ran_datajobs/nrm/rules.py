# SPDX-License-Identifier: Apache-2.0
"""Constraints across attributes of an object and its siblings (3GPP TS 28.541 §4.3; pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ran_datajobs.nrm.faults import FINAL_VALUE_INVALID, Fault
from ran_datajobs.nrm.names import class_of, parent_of
from ran_datajobs.nrm.tree import Attributes, Objects

_WHOLE: Final = 100


def together(objects: Objects, key: str, attributes: Attributes) -> Fault | None:
    """The fault of individually valid ``attributes`` in combination, for the object ``key``; else None."""
    rule = _RULES.get(class_of(key))
    return rule(objects, key, attributes) if rule else None


def depends_on_siblings(class_name: str) -> bool:
    """Whether :func:`together` compares an object of the class with its siblings."""
    return class_name in _COMPARED


def _cell(_: Objects, __: str, attributes: Attributes) -> Fault | None:
    """Check that the offset of the SSB is within its period."""
    offset, period = attributes.get("ssbOffset"), attributes.get("ssbPeriodicity")
    if offset is not None and period is not None and offset >= period:
        return Fault(FINAL_VALUE_INVALID, f"ssbOffset is less than ssbPeriodicity, {period}", ("ssbOffset",))
    return None


def _policy(objects: Objects, key: str, attributes: Attributes) -> Fault | None:
    """Check dedicated ≤ min ≤ max, and that all policies of one parent add up to at most 100."""
    dedicated, least, most = (_ratio(attributes, name) for name in ("Dedicated", "Min", "Max"))
    if not dedicated <= least <= most:
        return Fault(
            FINAL_VALUE_INVALID,
            f"dedicated {dedicated} <= min {least} <= max {most} does not hold",
            ("rRMPolicyMinRatio",),
        )
    for name, own in (("Dedicated", dedicated), ("Min", least)):
        total = own + sum(
            _ratio(objects.attributes(sibling) or {}, name)
            for sibling in objects.children(parent_of(key))
            if sibling != key and class_of(sibling) == "RRMPolicyRatio"
        )
        if total > _WHOLE:
            attribute = f"rRMPolicy{name}Ratio"
            return Fault(
                FINAL_VALUE_INVALID, f"all {attribute} under one parent add up to {total}", (attribute,)
            )
    return None


def _ratio(attributes: Attributes, name: str) -> Any:
    return attributes.get(f"rRMPolicy{name}Ratio", _WHOLE if name == "Max" else 0)


_COMPARED: Final = frozenset({"RRMPolicyRatio"})
_RULES: Final[dict[str, Callable[[Objects, str, Attributes], Fault | None]]] = {
    "NRCellDU": _cell,
    "RRMPolicyRatio": _policy,
}
