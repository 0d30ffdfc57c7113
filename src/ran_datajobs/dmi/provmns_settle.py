# SPDX-License-Identifier: Apache-2.0
"""Was a document applied whose answer was lost? Tells by what the objects look like afterwards (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from ran_datajobs.dmi.provmns_documents import Edit
from ran_datajobs.job import Op
from ran_datajobs.nrm import json_patch
from ran_datajobs.nrm.json_patch import END, Misfit

Found = Mapping[str, Mapping[str, Any] | None]
"""The attributes of every object of a document, by key; None: there is no such object."""


def settles(edits: Sequence[Edit]) -> bool:
    """True when a look at the objects can tell: the document only sets and removes, whatever was before.

    An action, a test alone, and a list that grows or shrinks by one leave no mark that could be told from
    somebody else's.
    """
    return all(_leaves_a_mark(edit) for edit in edits) and any(edit.op is not Op.TEST for edit in edits)


def is_applied(edits: Sequence[Edit], found: Found) -> bool:
    """True when ``found`` is what the document leaves behind: doing it once more would change nothing."""
    now: dict[str, Any] = {key: None if value is None else dict(value) for key, value in found.items()}
    whole = {edit.key: place for place, edit in enumerate(edits) if edit.on_object}
    for place, edit in enumerate(edits):
        # What came before the object was made or deleted is no longer to be seen.
        if edit.op is not Op.TEST and place >= whole.get(edit.key, 0) and not _redo(edit, now):
            return False
    return all(_alike(found[key], value) for key, value in now.items())


def _leaves_a_mark(edit: Edit) -> bool:
    if edit.op is Op.ACTION:
        return False
    if edit.pointer and edit.op in {Op.ADD, Op.REMOVE}:
        return not (edit.pointer[-1] == END or edit.pointer[-1].isdigit())
    return True


def _redo(edit: Edit, now: dict[str, Any]) -> bool:
    """Do ``edit`` on ``now``; what is gone already counts as removed. False when it cannot be done."""
    value = msgspec.json.decode(edit.value) if isinstance(edit.value, Raw) else edit.value
    if edit.pointer is None:
        # A new object may have more than was given: defaults.
        there = now.get(edit.key) or {}
        now[edit.key] = None if edit.op is Op.REMOVE else {**there, **_attributes(value)}
        return True
    attributes = now.get(edit.key)
    if attributes is None:
        return False
    match edit.op:
        case Op.REMOVE:
            made = json_patch.remove(attributes, edit.pointer)
            made = attributes if isinstance(made, Misfit) else made
        case Op.MERGE:
            made = json_patch.merge(attributes, value)
        case Op.REPLACE if edit.pointer:
            made = json_patch.replace(attributes, edit.pointer, value)
        case _:
            made = json_patch.add(attributes, edit.pointer, value) if edit.pointer else value
    if not isinstance(made, dict):  # a Misfit, or a value that attributes cannot have
        return False
    now[edit.key] = made
    return True


def _attributes(resource: Any) -> Any:
    given = resource.get("attributes") if isinstance(resource, dict) else None
    return given if isinstance(given, dict) else {}


def _alike(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return json_patch.same(dict(one), dict(other))
