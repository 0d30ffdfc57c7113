# SPDX-License-Identifier: Apache-2.0
"""Convert operations into requests to a ProvMnS server (TS 28.532, TS 32.158): their grouping into
documents, the contents and the target of a document (pure)."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.errors import InvalidFdn
from ran_datajobs.model import ErrorDetail, ObjectState, Op, Operation
from ran_datajobs.nrm import fdn, json_patch
from ran_datajobs.nrm.faults import malformed
from ran_datajobs.nrm.names import class_of, common_ancestor, id_of, parent_of
from ran_datajobs.nrm.patch import RESOURCE

_MANAGED_ELEMENT: Final = "ManagedElement="
_ENCODER: Final = msgspec.json.Encoder()


class Span(enum.StrEnum):
    """Objects that one atomic document may contain."""

    ELEMENT = "element"  # objects of one ManagedElement
    PRODUCER = "producer"  # everything of the data producer


class Edit(Struct, frozen=True, gc=False):
    """One parsed write operation. ``key``: in stage-2 names; ``element``: the topmost ManagedElement that is
    or contains the object, empty if there is none; ``pointer``: the tokens below the attributes, None for
    the object itself. ``value``: its JSON tokens; for the object itself a decoded Resource with its class
    (as TS 32.158 requires) and id. ``expect``: its guard."""

    op: Op
    key: str
    element: str
    pointer: tuple[str, ...] | None
    value: Any
    fragment: str = ""
    expect: ObjectState | None = None

    @property
    def on_object(self) -> bool:
        """Whether the operation creates or deletes the object itself."""
        return self.pointer is None and self.op in {Op.ADD, Op.REMOVE}

    @property
    def tests(self) -> tuple[tuple[str, Any], ...]:
        """The attributes of the guard, and their values, that ``test`` operations before it compare."""
        expected = UNSET if self.expect is None else self.expect.attributes
        if isinstance(expected, UnsetType):
            return ()
        return tuple((name, value) for name, value in expected.items() if value is not None)

    @property
    def is_tested(self) -> bool:
        """Whether the server compares the whole guard, or there is none. ``test`` cannot express that an
        object or an attribute is absent, or that an object exists; and an object directly below the root is
        created and deleted without a document that could have tests."""
        if self.expect is None:
            return True
        expected = self.expect.attributes
        is_whole = not isinstance(expected, UnsetType) and 0 < len(expected) == len(self.tests)
        return is_whole and bool(self.anchor)

    @property
    def anchor(self) -> str:
        """Key of an object that exists before the operation: the ManagedElement that contains the object;
        without one, the object, or the parent of one that is created or deleted."""
        if not self.on_object:
            return self.element or self.key
        if self.element and self.key != self.element:
            return self.element
        return parent_of(self.key)


def read_edit(operation: Operation) -> Edit | ErrorDetail:
    """Parse an operation for a server, or return its error. The value of an Edit can be decoded."""
    edit = _unguarded(operation)
    if isinstance(edit, Edit) and isinstance(operation.expect, ObjectState):
        return structs.replace(edit, expect=operation.expect)
    return edit


def _unguarded(operation: Operation) -> Edit | ErrorDetail:
    try:
        text, fragment = fdn.split_path(operation.path)
        key = fdn.key(text)
        element = element_of(key)
        pointer = None
        if fragment is not None and operation.op is not Op.ACTION:
            pointer = fdn.attribute_pointer(fragment)[1:]
    except InvalidFdn as error:
        return malformed(operation.path, str(error))
    value = _raw(operation.value)
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return malformed(operation.path, f"the value is not JSON: {error}")
    if json_patch.too_deep(decoded):
        return malformed(operation.path, f"the value is nested more than {json_patch.MAX_DEPTH} deep")
    if operation.op is Op.ACTION:
        return Edit(operation.op, key, element, None, value, fragment or "")
    if operation.op is Op.MERGE:
        merged = value if pointer is not None else _merged_by(decoded, value)
        return Edit(operation.op, key, element, pointer or (), merged)
    if pointer is None and operation.op is Op.ADD:
        return Edit(operation.op, key, element, None, _resource_of(key, decoded))
    if pointer is None and operation.op is not Op.REMOVE:
        return malformed(operation.path, f"{operation.op.value} needs an attribute, #/attributes/name")
    return Edit(operation.op, key, element, pointer, value)


def documents(
    edits: Sequence[Edit], span: Span, most: int, *, images: bool = False
) -> Iterator[tuple[int, int]]:
    """Yield ranges [first, end) of ``edits`` that form one document of at most ``most`` operations each, the
    ``test`` operations of guards included; a guard of more is in a document of its own.

    Edits whose only common ancestor is the root are in separate documents. An edit with a guard, and every
    edit if ``images`` are wanted, begins a document if an earlier one is of the same object: the object is
    compared and read as it is before the document.
    """
    first, size = 0, 0
    written: set[str] = set()
    for place, edit in enumerate(edits):
        more = 1 + len(edit.tests)
        looks = images or edit.expect is not None
        if place > first and (
            size + more > most or (looks and edit.key in written) or not _together(edits[first], edit, span)
        ):
            yield first, place
            first, size = place, 0
            written.clear()
        size += more
        written.add(edit.key)
    if edits:
        yield first, len(edits)


def independent(edits: Sequence[Edit | ErrorDetail], span: Span) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield steps: tuples of groups of positions in ``edits``.

    The groups of one step are independent: they may be executed concurrently, each in its order, and each
    step after the previous one. With :attr:`Span.ELEMENT` a group has the edits of one ManagedElement. Edits
    that create or delete an element, or are above all elements, are in a separate step. Errors are left out.
    """
    groups: dict[str, list[int]] = {}
    for place, edit in enumerate(edits):
        if isinstance(edit, ErrorDetail):
            continue
        name = edit.element
        if span is Span.PRODUCER or (edit.on_object and edit.key == name):
            name = ""
        if groups and ("" in groups) is not (name == ""):
            yield tuple(map(tuple, groups.values()))
            groups = {}
        groups.setdefault(name, []).append(place)
    if groups:
        yield tuple(map(tuple, groups.values()))


def target_of(edits: Sequence[Edit]) -> str:
    """Key of an object that is or contains every object of a document; empty for the root."""
    return common_ancestor(edit.anchor for edit in edits)


def document(edits: Sequence[Edit], target: str, aliases: Aliases) -> bytes:
    """A 3GPP JSON Patch document for the object ``target`` (TS 32.158 §6.4.3)."""
    offsets = {key: _offset(key, target, aliases) for key in dict.fromkeys(edit.key for edit in edits)}
    return _ENCODER.encode([item for edit in edits for item in _items(edit, offsets[edit.key], aliases)])


def edit_of_item(edits: Sequence[Edit], item: int) -> int | None:
    """Position of the edit whose operation, or one of whose tests, is at ``item`` in the document; None
    behind its end."""
    for place, edit in enumerate(edits):
        item -= 1 + len(edit.tests)
        if item < 0:
            return place
    return None


def resource(edit: Edit, aliases: Aliases) -> bytes:
    """Body of the PUT for an ``add`` of an object."""
    return _ENCODER.encode(_their_resource(edit, aliases))


def uri_of(key: str, aliases: Aliases) -> str:
    """URI-LDN of an object, percent-encoded, with a leading slash; empty for the root."""
    return fdn.render(fdn.parse("/" + aliases.their_key(key))) if key else ""


def _offset(key: str, target: str, aliases: Aliases) -> str:
    """Path of the object ``key`` in a document for ``target``, which is or contains it."""
    return uri_of(key[len(target) :].lstrip("/") if target else key, aliases)


def _items(edit: Edit, path: str, aliases: Aliases) -> Iterator[dict[str, Any]]:
    for name, value in edit.tests:
        yield _item(Edit(Op.TEST, edit.key, edit.element, (name,), value), path, aliases)
    yield _item(edit, path, aliases)


def _item(edit: Edit, path: str, aliases: Aliases) -> dict[str, Any]:
    value = edit.value
    if edit.op is Op.ACTION:
        path += f"#{edit.fragment}"
    elif edit.pointer is None:
        value = _their_resource(edit, aliases)
    else:
        tokens, there = aliases.their_pointer(class_of(edit.key), edit.pointer)
        if there.theirs or there.below:
            value = there.in_theirs(_decoded(value))
        path += "#/attributes" + "".join(
            "/" + token.replace("~", "~0").replace("/", "~1") for token in tokens
        )
    item: dict[str, Any] = {"op": edit.op.value, "path": path}
    if edit.op is not Op.REMOVE:
        item["value"] = value
    return item


def _their_resource(edit: Edit, aliases: Aliases) -> Any:
    given = edit.value
    if not aliases or not isinstance(given, dict):
        return given
    theirs = {"attributes": aliases.their_attributes(class_of(edit.key), given["attributes"])}
    if given["objectClass"] == class_of(edit.key):
        theirs["objectClass"] = class_of(aliases.their_key(edit.key))
    return given | theirs


def _together(one: Edit, other: Edit, span: Span) -> bool:
    if one.element and one.element == other.element and one.anchor == other.anchor:
        return True
    if not target_of((one, other)):
        return False
    return span is Span.PRODUCER or (one.element or one.key) == (other.element or other.key)


def element_of(key: str) -> str:
    """Topmost ManagedElement that is or contains an object; empty if there is none."""
    at = key.find(_MANAGED_ELEMENT)
    while at > 0 and key[at - 1] != "/":
        at = key.find(_MANAGED_ELEMENT, at + 1)
    if at < 0:
        return ""
    end = key.find("/", at)
    return key if end < 0 else key[:end]


def _resource_of(key: str, given: Any) -> Any:
    """The value of an ``add`` as a Resource; the value may also be the attributes alone. A value that is not
    an object, and an id or class that contradicts the path, are kept for the server to refuse. Members of a
    Resource that are null are treated as absent."""
    if not isinstance(given, dict):
        return given
    own = {"id": id_of(key), "objectClass": class_of(key)}
    own |= {name: given[name] for name in RESOURCE if given.get(name) is not None}
    rest = {name: item for name, item in given.items() if name not in RESOURCE}
    return own | rest if "attributes" in own else own | {"attributes": rest}


def _merged_by(given: Any, tokens: Raw) -> Any:
    """Attributes that a merge on an object name sets; the value may be a Resource or the attributes."""
    if (
        isinstance(given, dict)
        and isinstance(given.get("attributes"), dict)
        and not given.keys() - set(RESOURCE)
    ):
        return given["attributes"]
    return tokens


def _raw(value: Raw | UnsetType) -> Raw:
    return Raw(b"null") if isinstance(value, UnsetType) else value


def _decoded(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, Raw) else value
