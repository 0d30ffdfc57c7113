# SPDX-License-Identifier: Apache-2.0
"""3GPP JSON Patch on managed objects, validated against the class model (pure).

One operation changes one object or nothing (3GPP TS 32.158 §6.4.3). ``add`` of an existing object replaces
its attributes; ``replace`` is for attributes only; ``merge`` merges into the attributes by RFC 7396;
``remove`` deletes an object without children or an attribute; ``test`` changes nothing; ``action`` calls an
action of the element. Within the attributes RFC 6902 applies. A refusal is a TS 28.572 ErrorDetail that names
the data node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.http.json_body import got
from ran_datajobs.model import ErrorDetail, Op
from ran_datajobs.nrm import faults, fdn, json_patch
from ran_datajobs.nrm.faults import Fault
from ran_datajobs.nrm.json_patch import Misfit, Why
from ran_datajobs.nrm.model import ManagedClass, Model
from ran_datajobs.nrm.names import class_of, id_of, parent_of
from ran_datajobs.nrm.resources import are_children
from ran_datajobs.nrm.rules import together
from ran_datajobs.nrm.tree import Attributes, Before, Objects, Overlay

RESOURCE: Final = ("id", "objectClass", "objectInstance", "attributes")
"""Members of a Resource other than its children (TS 32.158 §4.3)."""

_EMPTY: Final[Attributes] = {}

ActionFailed = str
"""Why an action failed."""

Action = Callable[[Attributes, Any], Attributes | ActionFailed]
"""Maps an object's attributes and the action's input to its new attributes."""

Actions = Mapping[tuple[str, str], Action]
"""Actions of an element, by (class, action name)."""


class Rejected(Struct, frozen=True):
    """The operation at ``position`` caused the refusal of a document; nothing has changed."""

    position: int
    error: ErrorDetail


class Patch(Struct, frozen=True):
    """A parsed operation. ``pointer``: the tokens below the attributes, None for the object itself.

    ``source``: an ``add`` copies the value from there (``copy`` of RFC 6902), or moves it if ``moving``.
    """

    op: Op
    key: str
    pointer: tuple[str, ...] | None = None
    action: str = ""
    value: Any = UNSET
    source: tuple[str, ...] | None = None
    moving: bool = False


def read_patch(op: Op, path: str, value: Raw | UnsetType, base: str = "") -> Patch | ErrorDetail:
    """Parse an operation on ``path``, in any spelling, or return its error.

    ``base``: key of the target URI to which a ProvMnS path is relative; its FDN may then be empty.
    """
    fdn_text, fragment = fdn.split_path(path)
    try:
        if not base:
            key = fdn.key(fdn_text)
        else:
            key = base if fdn_text in ("", "/") else f"{base}/{fdn.key(fdn_text)}"
        pointer = None
        if fragment is not None and op is not Op.ACTION:
            pointer = fdn.attribute_pointer(fragment)[1:]
    except InvalidFdn as error:
        return faults.malformed(path, str(error))
    try:
        decoded = UNSET if isinstance(value, UnsetType) else msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return faults.malformed(path, f"the value is not JSON: {error}")
    if json_patch.too_deep(decoded):
        return faults.malformed(
            path, f"the value is nested more than {json_patch.MAX_DEPTH} deep, which is the most"
        )
    return Patch(op, key, pointer, (fragment or "") if op is Op.ACTION else "", decoded)


def path_below(target: str, path: str) -> str:
    """The path of an item of a patch document with its whole FDN. ``target``: the FDN in the document's
    address, in slash form.

    Two spellings are read, whatever the media type says, because clients mix them: a JSON Pointer into the
    target (RFC 6902, ``/attributes/x``), and steps below the target with a fragment (TS 32.158 §6.4.3,
    ``/Class=id#/attributes/x``). No path can be both: an RDN has an equals sign. Raises InvalidFdn.
    """
    if path == "/attributes" or path.startswith("/attributes/"):
        return f"{target}#{path}"
    steps, fragment = fdn.split_path(path)
    name = target if steps in ("", "/") else target + fdn.render(fdn.parse(steps))
    return name if fragment is None else f"{name}#{fragment}"


def apply(patch: Patch, objects: Objects, model: Model, actions: Actions) -> ErrorDetail | None:
    """Apply ``patch``. Returns None, or the error if it was refused and nothing has changed."""
    if patch.value is UNSET and patch.op is not Op.REMOVE and patch.source is None:
        return faults.malformed(faults.node(patch.key, patch.pointer), "the value is missing")
    if patch.op is Op.ACTION:
        return _act(patch, objects, model, actions)
    if patch.pointer is None and patch.op is not Op.MERGE:
        return _on_object(patch, objects, model)
    return _on_attributes(patch, objects, model)


def apply_atomically(
    patches: Iterable[Patch], objects: Objects, model: Model, actions: Actions
) -> Before | Rejected:
    """Apply all of ``patches`` in order, or none of them (RFC 5789: a patch document is atomic).

    Returns the previous state for :func:`ran_datajobs.nrm.tree.restore`.
    """
    staged = Overlay(objects)
    for position, patch in enumerate(patches):
        refused = apply(patch, staged, model, actions)
        if refused is not None:
            return Rejected(position, refused)
    return staged.commit()


# --- the object itself -------------------------------------------------------------------------------


def _on_object(patch: Patch, objects: Objects, model: Model) -> ErrorDetail | None:
    match patch.op:
        case Op.ADD:
            return _put(patch, objects, model)
        case Op.REMOVE:
            return _delete(patch.key, objects)
        case _:
            hint = "name an attribute, #/attributes/name"
            return faults.object_found(patch.key, f"{patch.op.value} is not for objects: {hint}")


def _put(patch: Patch, objects: Objects, model: Model) -> ErrorDetail | None:
    key = patch.key
    given = resource_of(key, patch.value)
    if isinstance(given, ErrorDetail):
        return given
    managed = model.managed_class(class_of(key))
    if managed is None:
        return faults.unknown_class(key, class_of(key))
    old = objects.attributes(key)
    if old is None:
        refused = _not_placed(key, objects, model)
        if refused is not None:
            return refused
        new = {**managed.defaults(), **given}
    else:
        new = {**managed.defaults(), **_kept(managed, old), **given}
    final = _checked(managed, key, old, new, objects)
    if isinstance(final, ErrorDetail):
        return final
    objects.put(key, final)
    return None


def resource_of(key: str, value: Any) -> Attributes | ErrorDetail:
    """The attributes in a value: of a Resource, or of an object with attributes only.

    Members of a Resource that are null are treated as absent.
    """
    if type(value) is not dict:
        return faults.malformed(
            faults.node(key),
            f"the value of a managed object must be an object with attributes; it is {got(value)}",
        )
    own = {name: value[name] for name in RESOURCE if value.get(name) is not None}
    rest = {name: item for name, item in value.items() if name not in RESOURCE}
    if "id" in own and own["id"] != id_of(key):
        return faults.wrong_name(key, f"the id in the value is {got(own['id'])}, in the path {id_of(key)!r}")
    if "objectClass" in own and own["objectClass"] != class_of(key):
        named = got(own["objectClass"])
        return faults.wrong_name(
            key, f"the objectClass in the value is {named}, in the path {class_of(key)!r}"
        )
    if "attributes" not in own:
        return rest
    for name, item in rest.items():
        if are_children(name, item):
            return faults.not_contained(key, f"one operation creates one object: send {name} by itself")
        return faults.unknown_member(key, name, RESOURCE)
    attributes = own["attributes"]
    if type(attributes) is not dict:
        return faults.malformed(
            faults.node(key, ()), f"attributes must be an object; it is {got(attributes)}"
        )
    return attributes


def _not_placed(key: str, objects: Objects, model: Model) -> ErrorDetail | None:
    """The error if no object can be created at ``key``; else None."""
    parent = parent_of(key)
    if parent and objects.attributes(parent) is None:
        return faults.parent_not_found(key, parent)
    name = class_of(key)
    if not model.contains(class_of(parent), name):
        return faults.not_contained(key, f"{class_of(parent) or 'the root'} does not contain {name}")
    holder = model.managed_class(class_of(parent)) if parent else None
    if holder is not None and name in holder.single:
        for sibling in objects.children(parent):
            if class_of(sibling) == name:
                return faults.one_only(key, sibling)
    return None


def _kept(managed: ManagedClass, old: Attributes) -> Attributes:
    """Attributes that a replacement keeps: read-only and invariant ones."""
    return {
        name: value
        for name, value in old.items()
        if (attribute := managed.attributes.get(name)) is not None
        and (attribute.read_only or attribute.invariant)
    }


def _delete(key: str, objects: Objects) -> ErrorDetail | None:
    if objects.attributes(key) is None:
        return faults.object_not_found(key)
    child = next(iter(objects.children(key)), None)
    if child is not None:
        return faults.has_children(key, child)
    objects.delete(key)
    return None


# --- its attributes ----------------------------------------------------------------------------------


def _on_attributes(patch: Patch, objects: Objects, model: Model) -> ErrorDetail | None:
    key, pointer = patch.key, patch.pointer or ()
    old = objects.attributes(key)
    lacking: list[str] = []
    if old is None:
        lacking = _missing_vendor_objects(key, objects, model) if patch.op is Op.MERGE else []
        if not lacking:
            return faults.object_not_found(key)
        old = {}
    managed = model.managed_class(class_of(key))
    if managed is None:
        return faults.unknown_class(key, class_of(key))
    if pointer and not managed.open and pointer[0] not in managed.attributes:
        return faults.refused_value(
            key, Fault(faults.NAME_INVALID, f"{class_of(key)} has no such attribute", pointer[:1])
        )
    new = _patched(patch, managed, old, pointer)
    if isinstance(new, ErrorDetail):
        return new
    if new is old:
        return None
    final = _checked(managed, key, old, new, objects)
    if isinstance(final, ErrorDetail):
        return final
    for above in lacking[:-1]:
        objects.put(above, {})
    objects.put(key, final)
    return None


def _missing_vendor_objects(key: str, objects: Objects, model: Model) -> list[str]:
    """The missing objects down to and including ``key``, if all are of vendor-specific classes.

    A merge creates them. Empty if one is of another class.
    """
    missing: list[str] = []
    while key and objects.attributes(key) is None:
        if not model.vendors_own(class_of(key)):
            return []
        missing.insert(0, key)
        key = parent_of(key)
    return missing if key else []


def _patched(
    patch: Patch, managed: ManagedClass, old: Attributes, pointer: tuple[str, ...]
) -> Attributes | ErrorDetail:
    """The attributes after the operation, not yet validated; ``old`` itself after a test."""
    key, value = patch.key, patch.value
    made: Any
    match patch.op:
        case Op.MERGE:
            made = _merged(patch, old, pointer)
        case Op.TEST:
            made = json_patch.test(old, pointer, value)
        case Op.REMOVE if not pointer:
            return faults.not_deletable(key, (), "name one attribute, or remove the object")
        case Op.REMOVE:
            made = json_patch.remove(old, pointer)
        case Op.ADD if patch.source is not None and pointer:
            take = json_patch.move if patch.moving else json_patch.copy
            made = take(old, patch.source, pointer)
        case Op.ADD | Op.REPLACE if not pointer:
            if type(value) is not dict:
                return faults.malformed(
                    faults.node(key, ()), f"attributes must be an object; it is {got(value)}"
                )
            made = {**_kept(managed, old), **value}
        case Op.ADD:
            made = json_patch.add(old, pointer, value)
        case _:
            made = json_patch.replace(old, pointer, value)
    if isinstance(made, Misfit):
        return _misfit(key, made)
    result: Attributes | ErrorDetail = made
    return result


def _merged(patch: Patch, old: Attributes, pointer: tuple[str, ...]) -> Any:
    value = patch.value
    if patch.pointer is None and type(value) is dict and type(value.get("attributes")) is dict:
        value = resource_of(patch.key, value)
        if isinstance(value, ErrorDetail):
            return value
    if pointer:
        return faults.malformed(
            faults.node(patch.key, pointer),
            "the path of a merge must end with #/attributes: name what is below in the value",
        )
    if type(value) is not dict:
        return faults.malformed(
            faults.node(patch.key, ()), f"the value of a merge must be an object; it is {got(value)}"
        )
    return json_patch.merge(old, value)


def _misfit(key: str, misfit: Misfit) -> ErrorDetail:
    match misfit.why:
        case Why.DIFFERENT:
            return faults.different(key, misfit.at)
        case Why.INDEX:
            detail = "not an index of this list"
            return faults.refused_value(key, Fault(faults.NAME_INVALID, detail, misfit.at))
        case _:
            return faults.attribute_not_found(key, misfit.at)


def _checked(
    managed: ManagedClass, key: str, old: Attributes | None, new: Attributes, objects: Objects
) -> Attributes | ErrorDetail:
    """Validate ``new`` as attributes of an object that had ``old`` (None: it is new). Returns the normal
    form or the error."""
    if managed.open:
        return new
    before = _EMPTY if old is None else old
    normal = new
    for name, given in new.items():
        was = before.get(name, UNSET)
        if was is given:
            continue
        attribute = managed.attributes.get(name)
        if attribute is None:
            detail = f"{class_of(key)} has no such attribute"
            return faults.refused_value(key, Fault(faults.NAME_INVALID, detail, (name,)))
        value = attribute.normal(given)
        if value is not given:
            normal = {**normal, name: value}
        if was is not UNSET and json_patch.same(was, value):
            continue
        if attribute.read_only:
            return faults.not_writable(key, (name,))
        if attribute.invariant and old is not None:
            return faults.invariant(key, (name,))
        if fault := attribute.fault(value, (name,)):
            return faults.refused_value(key, fault)
    if refused := _lacking(managed, key, old, normal):
        return refused
    fault = together(objects, key, normal)
    return faults.refused_value(key, fault) if fault else normal


def _lacking(managed: ManagedClass, key: str, old: Attributes | None, new: Attributes) -> ErrorDetail | None:
    """The error if ``new`` lacks a required attribute; for an existing object, only removals are checked."""
    names = managed.attributes if old is None else old.keys() - new.keys()
    for name in names:
        attribute = managed.attributes.get(name)
        if attribute is None or name in new:
            continue
        if old is not None and attribute.read_only:
            return faults.not_writable(key, (name,))
        if old is not None and attribute.invariant:
            return faults.invariant(key, (name,))
        if attribute.mandatory:
            detail = f"{class_of(key)} needs {name}"
            return faults.refused_value(key, Fault(faults.MULTIPLICITY, detail, (name,)))
    return None


# --- actions -----------------------------------------------------------------------------------------


def _act(patch: Patch, objects: Objects, model: Model, actions: Actions) -> ErrorDetail | None:
    old = objects.attributes(patch.key)
    if old is None:
        return faults.object_not_found(patch.key)
    if type(patch.value) is not dict or "input" not in patch.value:
        return faults.malformed(
            f"/{patch.key}#{patch.action}",
            f'the value of an action must be {{"input": …}}; it is {got(patch.value)}',
        )
    action = actions.get((class_of(patch.key), patch.action))
    if action is None:
        return faults.unknown_action(patch.key, patch.action)
    new = action(old, patch.value["input"])
    if isinstance(new, ActionFailed):
        return faults.action_failed(patch.key, patch.action, new)
    managed = model.managed_class(class_of(patch.key))
    if managed is not None and not managed.open:
        for name, value in new.items():
            attribute = managed.attributes.get(name)
            if attribute is None or (fault := attribute.fault(value, (name,))):
                detail = fault.detail if attribute is not None and fault else f"no attribute {name}"
                return faults.action_failed(patch.key, patch.action, detail)
    objects.put(patch.key, new)
    return None
