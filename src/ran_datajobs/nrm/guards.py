# SPDX-License-Identifier: Apache-2.0
"""Guards and before-images of operations on managed objects (pure).

A guard says what an object must be for its operation to be executed. A before-image says what it was directly
before. Both are an :class:`~ran_datajobs.model.ObjectState`: a before-image that is sent as the guard of the
same operation holds as long as nothing that the operation names has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import UnsetType

from ran_datajobs.http.json_body import got
from ran_datajobs.model import ErrorDetail, ObjectState, Op
from ran_datajobs.nrm import faults
from ran_datajobs.nrm.json_patch import same

ABSENT: Final = ObjectState(absent=True)
"""An object that does not exist."""


def changed_since(
    expected: ObjectState, key: str, attributes: Mapping[str, Any] | None
) -> ErrorDetail | None:
    """The error of the first difference between the object ``key`` and what is expected of it; None if there
    is none. ``attributes``: those of the object; None: it does not exist."""
    if expected.absent:
        return None if attributes is None else faults.changed(key, None, "it exists, expected was no object")
    if attributes is None:
        return faults.changed(key, None, "the object does not exist")
    wanted = {} if isinstance(expected.attributes, UnsetType) else expected.attributes
    for name, value in wanted.items():
        there = attributes.get(name)
        if not same(there, value):
            return faults.changed(key, (name,), f"it is {got(there)}, expected was {got(value)}")
    return None


def image_of(
    op: Op, pointer: tuple[str, ...] | None, value: Any, attributes: Mapping[str, Any] | None
) -> ObjectState:
    """The before-image of a write: the attributes that it names, whole, or all of them if it concerns the
    object or all its attributes. ``pointer``, ``value``: of the write, as in
    :class:`~ran_datajobs.nrm.patch.Patch`; ``attributes``: those of the object before; None: it did not
    exist."""
    if attributes is None:
        return ABSENT
    if op is Op.MERGE:
        if pointer is None and type(value) is dict and type(value.get("attributes")) is dict:
            value = value["attributes"]
        names = tuple(value) if type(value) is dict else ()
    elif pointer:
        names = pointer[:1]
    else:
        names = tuple(attributes)
    return ObjectState({name: attributes.get(name) for name in names})
