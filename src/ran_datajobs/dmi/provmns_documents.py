# SPDX-License-Identifier: Apache-2.0
"""From operations to the requests of a ProvMnS server (TS 28.532, TS 32.158): which go into one document,
what the document says, where it is sent (pure)."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, UnsetType

from ran_datajobs import fdn
from ran_datajobs.errors import InvalidFdn
from ran_datajobs.job import ErrorDetail, Op, Operation
from ran_datajobs.nrm import json_patch
from ran_datajobs.nrm.faults import malformed
from ran_datajobs.nrm.model import Model
from ran_datajobs.nrm.names import class_of, id_of, parent_of

_MANAGED_ELEMENT: Final = "ManagedElement="
_IDENTIFIERS: Final = frozenset({"id", "objectClass", "objectInstance"})
_ENCODER: Final = msgspec.json.Encoder()


class Aliases:
    """The names of another generation of the model, by their stage-2 names (TS 28.541).

    ``classes``: stage-2 class to the server's; ``attributes``: per stage-2 class, stage-2 attribute to the
    server's. Names that are not listed are the same on both sides.
    """

    def __init__(
        self,
        classes: Mapping[str, str] | None = None,
        attributes: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._classes = dict(classes or {})
        self._attributes = {name: dict(table) for name, table in (attributes or {}).items()}
        self._classes_back = {theirs: ours for ours, theirs in self._classes.items()}
        self._attributes_back = {
            name: {theirs: ours for ours, theirs in table.items()} for name, table in self._attributes.items()
        }

    def __bool__(self) -> bool:
        return bool(self._classes or self._attributes)

    def with_those_of(self, other: Aliases) -> Aliases:
        """Both tables; where they differ, the other's name."""
        names = dict.fromkeys((*self._attributes, *other._attributes))
        return Aliases(
            self._classes | other._classes,
            {name: self._attributes.get(name, {}) | other._attributes.get(name, {}) for name in names},
        )

    def their_key(self, key: str) -> str:
        """A key in the server's class names."""
        return self._renamed(key, self._classes)

    def our_key(self, key: str) -> str:
        """A key in stage-2 class names."""
        return self._renamed(key, self._classes_back)

    def their_attribute(self, class_name: str, name: str) -> str:
        """The server's name of an attribute of a stage-2 class."""
        return self._attributes.get(class_name, {}).get(name, name)

    def their_names(self, class_name: str | None, name: str) -> frozenset[str]:
        """How the server may call an attribute of a class; None: of any class."""
        if class_name is not None:
            return frozenset((self.their_attribute(class_name, name),))
        return frozenset((name, *(self.their_attribute(each, name) for each in self._attributes)))

    def their_attributes(self, class_name: str, attributes: Any) -> Any:
        """Attributes in the server's names, where they are an object."""
        return _keys_renamed(attributes, self._attributes.get(class_name))

    def our_attributes(self, class_name: str, attributes: Any) -> Any:
        """Attributes in stage-2 names, where they are an object."""
        return _keys_renamed(attributes, self._attributes_back.get(class_name))

    def _renamed(self, key: str, table: Mapping[str, str]) -> str:
        if not table or not key:
            return key
        parts = (part.partition("=") for part in key.split("/"))
        return "/".join(f"{table.get(name, name)}={value}" for name, _, value in parts)


def openapi_aliases(model: Model) -> Aliases:
    """The names of the OpenAPI of TS 28.541 up to 19.1: ``GnbDuFunction``, ``nrPci`` and so on."""
    classes: dict[str, str] = {}
    attributes: dict[str, dict[str, str]] = {}
    for name in model:
        managed = model.managed_class(name)
        if managed is not None and managed.aliases:
            classes[name] = managed.aliases[0]
        spellings = {ours: theirs[0] for ours, theirs in model.attribute_spellings(name).items()}
        if spellings:
            attributes[name] = spellings
    return Aliases(classes, attributes)


class Span(enum.StrEnum):
    """How far one atomic document may reach."""

    ELEMENT = "element"  # objects of one ManagedElement
    PRODUCER = "producer"  # everything of the data producer


class Edit(Struct, frozen=True, gc=False):
    """One write operation, read. ``key`` in stage-2 names; ``element``: the topmost ManagedElement that the
    object is or lies in, empty where there is none; ``pointer``: the tokens below the attributes, None for
    the object itself. ``value``: its JSON tokens; for the object itself a Resource, decoded, with its class
    (as TS 32.158 wants it) and its id."""

    op: Op
    key: str
    element: str
    pointer: tuple[str, ...] | None
    value: Any
    fragment: str = ""

    @property
    def on_object(self) -> bool:
        """True when the object itself is created or deleted."""
        return self.pointer is None and self.op in {Op.ADD, Op.REMOVE}

    @property
    def anchor(self) -> str:
        """The key of an object that surely is there before the operation: the ManagedElement that it lies
        in, else the object, or the parent of a created one."""
        if not self.on_object:
            return self.element or self.key
        if self.element and self.key != self.element:
            return self.element
        return parent_of(self.key)


def read_edit(operation: Operation) -> Edit | ErrorDetail:
    """The operation as it goes to a server, or why it cannot go. A value that is taken can be decoded."""
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


def documents(edits: Sequence[Edit], span: Span, most: int) -> Iterator[tuple[int, int]]:
    """Places [first, end) of consecutive ``edits`` that share one document of at most ``most`` operations.

    What has no place below the root is by itself.
    """
    first = 0
    for place in range(1, len(edits) + 1):
        if place == len(edits) or place - first >= most or not _together(edits[first], edits[place], span):
            yield first, place
            first = place


def independent(edits: Sequence[Edit | ErrorDetail], span: Span) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Places of ``edits`` in groups that do not concern one another, when each keeps its own order.

    The groups of one step may be executed at the same time, a later step only after it. Within elements
    (:attr:`Span.ELEMENT`) a group is what concerns one ManagedElement. What creates or deletes an element,
    or lies above all of them, concerns everybody: it is in a step of its own. Unreadable ones are left out.
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
    """The key of an object that contains everything a document touches; empty for the root."""
    anchors = list(dict.fromkeys(edit.anchor for edit in edits))
    common = anchors[0].split("/")
    for anchor in anchors[1:]:
        other = anchor.split("/")
        length = 0
        for one, two in zip(common, other, strict=False):
            if one != two:
                break
            length += 1
        common = common[:length]
    return "/".join(common)


def document(edits: Sequence[Edit], target: str, aliases: Aliases) -> bytes:
    """A 3GPP JSON Patch document for the object ``target`` (TS 32.158 §6.4.3)."""
    offsets = {key: _offset(key, target, aliases) for key in dict.fromkeys(edit.key for edit in edits)}
    return _ENCODER.encode([_item(edit, offsets[edit.key], aliases) for edit in edits])


def resource(edit: Edit, aliases: Aliases) -> bytes:
    """The object that an ``add`` creates, as PUT wants it."""
    return _ENCODER.encode(_their_resource(edit, aliases))


def uri_of(key: str, aliases: Aliases) -> str:
    """The URI-LDN of an object, with its leading slash and percent-encoded; empty for the root."""
    return fdn.render(fdn.parse("/" + aliases.their_key(key))) if key else ""


def _offset(key: str, target: str, aliases: Aliases) -> str:
    """How a document for ``target`` names the object at or below it."""
    return uri_of(key[len(target) :].lstrip("/") if target else key, aliases)


def _item(edit: Edit, path: str, aliases: Aliases) -> dict[str, Any]:
    class_name = class_of(edit.key)
    value = edit.value
    if edit.op is Op.ACTION:
        path += f"#{edit.fragment}"
    elif edit.pointer is None:
        value = _their_resource(edit, aliases)
    else:
        tokens = list(edit.pointer)
        if tokens:
            tokens[0] = aliases.their_attribute(class_name, tokens[0])
        elif aliases:
            value = aliases.their_attributes(class_name, _decoded(value))
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
    """The topmost ManagedElement that an object is or lies in; empty where there is none."""
    at = key.find(_MANAGED_ELEMENT)
    while at > 0 and key[at - 1] != "/":
        at = key.find(_MANAGED_ELEMENT, at + 1)
    if at < 0:
        return ""
    end = key.find("/", at)
    return key if end < 0 else key[:end]


def _resource_of(key: str, given: Any) -> Any:
    """The value of an ``add`` as a Resource: it may also be the attributes alone. Another kind of value, and
    an id or a class that contradicts the path, stay for the server to refuse."""
    if not isinstance(given, dict):
        return given
    named = {"id": id_of(key), "objectClass": class_of(key)}
    if "attributes" in given:
        return named | given
    own = {name: item for name, item in given.items() if name in _IDENTIFIERS}
    rest = {name: item for name, item in given.items() if name not in _IDENTIFIERS}
    return named | own | {"attributes": rest}


def _merged_by(given: Any, tokens: Raw) -> Any:
    """What a merge on the bare name of an object puts into its attributes: a Resource is taken too."""
    if (
        isinstance(given, dict)
        and isinstance(given.get("attributes"), dict)
        and not given.keys() - _OF_RESOURCE
    ):
        return given["attributes"]
    return tokens


_OF_RESOURCE: Final = _IDENTIFIERS | {"attributes"}


def _raw(value: Raw | UnsetType) -> Raw:
    return Raw(b"null") if isinstance(value, UnsetType) else value


def _decoded(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, Raw) else value


def _keys_renamed(attributes: Any, table: Mapping[str, str] | None) -> Any:
    if not table or not isinstance(attributes, dict):
        return attributes
    return {table.get(name, name): value for name, value in attributes.items()}
