# SPDX-License-Identifier: Apache-2.0
"""Determine from the current objects whether a document was applied whose answer was lost (pure).

A document is DONE when applying it to the current objects would succeed and change nothing: it has succeeded,
or would have, and the objects are in its target state. This excludes a ``remove`` of an absent value and a
``test``: they may have been refused as well as executed, and so may an operation whose guard does not hold
for the current objects. It is NOT_DONE when it could not have produced the
current objects.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from ran_datajobs.dmi.provmns.documents import Edit
from ran_datajobs.model import Op
from ran_datajobs.nrm import json_patch
from ran_datajobs.nrm.guards import changed_since
from ran_datajobs.nrm.json_patch import END, Misfit
from ran_datajobs.nrm.model import Attribute, Model
from ran_datajobs.nrm.names import class_of, id_of

Found = Mapping[str, Mapping[str, Any] | None]
"""Attributes of every object of a document, by key; None: the object does not exist."""


class Settled(enum.Enum):
    """Outcome of a document, as determined from the objects."""

    DONE = "it was applied, or would have been and would have changed nothing"
    NOT_DONE = "it was not applied"
    OPEN = "it may have been applied or refused"


def settled(edits: Sequence[Edit], found: Found, model: Model) -> Settled:
    """Determine whether the document of ``edits`` was applied. ``model``: attributes that servers add.

    Assumes that the server accepts values that a later edit overwrites.
    """
    if not all(_is_visible(edit, model) for edit in edits):
        return Settled.OPEN
    if any((found[edit.key] is None) is not _deletes(edit) for edit in _last(edits)):
        return Settled.NOT_DONE
    again = _reapplied(edits, found, model)
    if again is not None and _alike(again, found):
        return Settled.DONE
    left = _with_effects(edits, found)
    if left is None:
        # One of several edits may have undone a precondition of another.
        return Settled.NOT_DONE if len(edits) == 1 else Settled.OPEN
    return Settled.OPEN if _alike(left, found) else Settled.NOT_DONE


def _is_visible(edit: Edit, model: Model) -> bool:
    """False if the objects do not show whether the edit was applied: an action, a test, an insertion into or
    removal from a list, a read-only attribute, and edits that servers may interpret differently."""
    if edit.op in {Op.ACTION, Op.TEST}:
        return False
    if edit.pointer is None:
        return True
    if edit.op is Op.REMOVE and not edit.pointer:
        return False
    if edit.op is Op.MERGE and edit.pointer:
        return False
    if edit.pointer and edit.op in {Op.ADD, Op.REMOVE} and _of_list(edit.pointer[-1]):
        return False
    names = edit.pointer[:1] or tuple(_object(_value(edit)))
    known = _attributes_of(model, edit.key)
    return not any(name in known and known[name].read_only for name in names)


def _reapplied(edits: Sequence[Edit], found: Found, model: Model) -> dict[str, Any] | None:
    """Result of applying the document to ``found``; None if it would or may be refused."""
    now: dict[str, Any] = {key: None if value is None else dict(value) for key, value in found.items()}
    for edit in edits:
        attributes = now[edit.key]
        if edit.op is Op.REMOVE or attributes is None:
            return None
        if edit.expect is not None and changed_since(edit.expect, edit.key, attributes):
            return None
        value = _value(edit)
        if edit.pointer is None:
            if not _is_resource(edit.key, value):
                return None
            made: Any = _added_by_servers(edit.key, attributes, model) | value["attributes"]
        elif edit.op is Op.MERGE:
            made = json_patch.merge(attributes, value)
        elif not edit.pointer:
            made = _added_by_servers(edit.key, attributes, model) | value if type(value) is dict else None
        elif edit.op is Op.REPLACE:
            made = json_patch.replace(attributes, edit.pointer, value)
        else:
            made = json_patch.add(attributes, edit.pointer, value)
        if type(made) is not dict:  # a Misfit, or not a valid value of attributes
            return None
        now[edit.key] = made
    return now


def _with_effects(edits: Sequence[Edit], found: Found) -> dict[str, Any] | None:
    """``found`` with all values that the document sets and without those that it removes; differs from
    ``found`` if the document was not applied. None if that cannot be determined."""
    now: dict[str, Any] = dict(found)
    whole = {
        edit.key: place for place, edit in enumerate(edits) if not edit.pointer and edit.op is not Op.MERGE
    }
    for place, edit in enumerate(edits):
        # A later edit that sets all attributes hides this one.
        if place < whole.get(edit.key, 0) or now[edit.key] is None:
            continue
        attributes, value = now[edit.key], _value(edit)
        made: Any
        if edit.op is Op.REMOVE:
            made = json_patch.remove(attributes, edit.pointer or ())
            made = attributes if isinstance(made, Misfit) else made
        elif edit.op is Op.MERGE:
            made = json_patch.merge(attributes, value)
        elif edit.pointer is None:
            made = attributes | _object(_object(value).get("attributes"))
        elif not edit.pointer:
            made = attributes | value if type(value) is dict else None
        elif edit.op is Op.REPLACE:
            made = json_patch.replace(attributes, edit.pointer, value)
        else:
            made = json_patch.add(attributes, edit.pointer, value)
        if type(made) is not dict:
            return None
        now[edit.key] = made
    return now


def _last(edits: Sequence[Edit]) -> Sequence[Edit]:
    """The last edit of each object."""
    return list({edit.key: edit for edit in edits}.values())


def _deletes(edit: Edit) -> bool:
    return edit.on_object and edit.op is Op.REMOVE


def _is_resource(key: str, value: Any) -> bool:
    """Whether a value is a Resource in a form that every server accepts."""
    return (
        type(value) is dict
        and value.keys() == {"id", "objectClass", "attributes"}
        and (value["id"], value["objectClass"]) == (id_of(key), class_of(key))
        and type(value["attributes"]) is dict
    )


def _added_by_servers(key: str, attributes: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Attributes that servers add to an object: defaults and read-only ones."""
    known = _attributes_of(model, key)
    return {
        name: value
        for name, value in attributes.items()
        if name in known and (known[name].read_only or json_patch.same(known[name].default, value))
    }


def _attributes_of(model: Model, key: str) -> Mapping[str, Attribute]:
    managed = model.managed_class(class_of(key))
    return managed.attributes if managed is not None else {}


def _of_list(token: str) -> bool:
    return token == END or token.isdigit()


def _value(edit: Edit) -> Any:
    return msgspec.json.decode(edit.value) if isinstance(edit.value, Raw) else edit.value


def _object(value: Any) -> dict[str, Any]:
    return value if type(value) is dict else {}


def _alike(one: Found, other: Found) -> bool:
    return all(json_patch.same(value, other[key]) for key, value in one.items())
