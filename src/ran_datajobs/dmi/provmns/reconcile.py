# SPDX-License-Identifier: Apache-2.0
"""Was a document applied whose answer was lost? Tells by what the objects look like afterwards (pure).

A document is DONE when doing it on what is found would succeed and change nothing: then it has succeeded, or
would have, and the objects are as it wants them. A ``remove`` of what is gone and a ``test`` would not: they
may have been refused as well as executed. It is NOT_DONE when it cannot leave behind what is found.
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
from ran_datajobs.nrm.json_patch import END, Misfit
from ran_datajobs.nrm.model import Attribute, Model
from ran_datajobs.nrm.names import class_of, id_of

Found = Mapping[str, Mapping[str, Any] | None]
"""The attributes of every object of a document, by key; None: there is no such object."""


class Settled(enum.Enum):
    """What a look at the objects says of a document."""

    DONE = "it was applied, or would have been and would have changed nothing"
    NOT_DONE = "it was not applied"
    OPEN = "it may have been applied or refused"


def settled(edits: Sequence[Edit], found: Found, model: Model) -> Settled:
    """Whether the document of ``edits`` was applied as a whole. ``model`` says what servers add to objects.

    Values that a later edit overwrites are taken for such that the server accepts.
    """
    if not all(_leaves_a_mark(edit, model) for edit in edits):
        return Settled.OPEN
    if any((found[edit.key] is None) is not _deletes(edit) for edit in _last(edits)):
        return Settled.NOT_DONE
    again = _done_again(edits, found, model)
    if again is not None and _alike(again, found):
        return Settled.DONE
    left = _left_behind(edits, found)
    if left is None:
        # Of several edits one may have undone what another one needs.
        return Settled.NOT_DONE if len(edits) == 1 else Settled.OPEN
    return Settled.OPEN if _alike(left, found) else Settled.NOT_DONE


def _leaves_a_mark(edit: Edit, model: Model) -> bool:
    """False where before and after cannot be told apart: an action, a test, a list that grows or shrinks by
    one, an attribute that clients cannot set, and what servers may understand differently."""
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


def _done_again(edits: Sequence[Edit], found: Found, model: Model) -> dict[str, Any] | None:
    """What the document would make of ``found``; None when it would be refused, or may be."""
    now: dict[str, Any] = {key: None if value is None else dict(value) for key, value in found.items()}
    for edit in edits:
        attributes = now[edit.key]
        if edit.op is Op.REMOVE or attributes is None:
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
        if type(made) is not dict:  # a Misfit, or a value that attributes cannot have
            return None
        now[edit.key] = made
    return now


def _left_behind(edits: Sequence[Edit], found: Found) -> dict[str, Any] | None:
    """``found`` with everything that the document sets and without what it removes: another thing than
    ``found`` when it was not applied. None when that cannot be told."""
    now: dict[str, Any] = dict(found)
    whole = {
        edit.key: place for place, edit in enumerate(edits) if not edit.pointer and edit.op is not Op.MERGE
    }
    for place, edit in enumerate(edits):
        # What came before all attributes were set anew is no longer to be seen.
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
    """True for a Resource that surely nobody refuses because of its form."""
    return (
        type(value) is dict
        and value.keys() == {"id", "objectClass", "attributes"}
        and (value["id"], value["objectClass"]) == (id_of(key), class_of(key))
        and type(value["attributes"]) is dict
    )


def _added_by_servers(key: str, attributes: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """What an object has although nobody gave it: defaults, and what clients cannot set."""
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
