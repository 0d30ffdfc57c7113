# SPDX-License-Identifier: Apache-2.0
"""Errors of managed objects as 3GPP TS 28.572 ErrorDetails (pure).

One function per error; each names the faulty data node: ``/Class=id/Class=id#/attributes/name``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from ran_datajobs import reasons
from ran_datajobs.errors import InvalidFdn
from ran_datajobs.model import ErrorDetail, Op, Operation, Reason
from ran_datajobs.nrm import fdn

_SCHEMA: Final = "SCHEMA_VALIDATION_ERROR"
_TREE: Final = "DATA_NODE_TREE_ERROR"
_MODIFICATION: Final = "MODIFICATION_NOT_ALLOWED"
_APPLICATION: Final = "APPLICATION_LAYER_ERROR"

REASONS: Final = frozenset(reasons.TS_28572)
"""All reasons of TS 28.572."""


class Fault(NamedTuple):
    """Fault of a value according to the model; ``pointer``: tokens below the attributes.

    ``named_class``: the class of the object that a reference names, if that is its fault.
    """

    reason: str
    detail: str
    pointer: tuple[str | int, ...] = ()
    named_class: str = ""


NAME_INVALID: Final = "NEW_DATA_NODE_NAME_INVALID"
VALUE_INVALID: Final = "NEW_DATA_NODE_VALUE_INVALID"
FINAL_VALUE_INVALID: Final = "FINAL_DATA_NODE_VALUE_INVALID"
NOT_UNIQUE: Final = "FINAL_DATA_NODE_UNIQUENESS_INVALID"
MULTIPLICITY: Final = "FINAL_DATA_NODE_MULTIPLICITY_INVALID"


def node(key: str, pointer: tuple[str | int, ...] | None = None) -> str:
    """Name of a managed object, or of a value in its attributes, in an error."""
    if pointer is None:
        return "/" + key
    tokens = "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in pointer)
    return f"/{key}#/attributes{tokens}"


def node_of(operation: Operation) -> str:
    """Name of the target of an operation in an error; its path if that is invalid."""
    text, fragment = fdn.split_path(operation.path)
    try:
        key = fdn.key(text)
        if fragment is None or operation.op is Op.READ:
            return node(key)
        if operation.op is Op.ACTION:
            return f"/{key}#{fragment}"
        return node(key, fdn.attribute_pointer(fragment)[1:])
    except InvalidFdn:
        return operation.path


def no_answer(bad_data_node: str, title: str, detail: str = "") -> ErrorDetail:
    """The outcome of an operation is unknown: no answer from the element or an intermediary."""
    return ErrorDetail("SERVER_ERROR", bad_data_node, "OTHER", title, detail)


def refused_value(key: str, fault: Fault) -> ErrorDetail:
    """A value that the model does not allow."""
    return ErrorDetail(_SCHEMA, node(key, fault.pointer), fault.reason, _title(fault.reason), fault.detail)


def object_not_found(key: str) -> ErrorDetail:
    """The managed object does not exist."""
    return ErrorDetail(_TREE, node(key), "TARGET_DATA_NODE_NOT_FOUND", "The managed object does not exist")


def parent_not_found(key: str, parent: str) -> ErrorDetail:
    """The object that should contain the new one does not exist."""
    return ErrorDetail(
        _TREE,
        node(key),
        "TARGET_DATA_NODE_PARENT_NOT_FOUND",
        "The parent does not exist",
        f"/{parent} does not exist",
    )


def attribute_not_found(key: str, pointer: tuple[str | int, ...], detail: str = "") -> ErrorDetail:
    """The attribute, or the value within it, does not exist."""
    return ErrorDetail(
        _TREE, node(key, pointer), "TARGET_DATA_NODE_NOT_FOUND", "The attribute has no value", detail
    )


def object_found(key: str, detail: str) -> ErrorDetail:
    """The operation is not for managed objects."""
    return ErrorDetail(
        _MODIFICATION, node(key), "TARGET_DATA_NODE_FOUND", "Not applicable to a managed object", detail
    )


def has_children(key: str, child: str) -> ErrorDetail:
    """An object with children cannot be deleted."""
    return ErrorDetail(
        _MODIFICATION,
        node(key),
        "TARGET_DATA_NODE_DELETION_NOT_ALLOWED",
        "The managed object has children",
        f"delete its children first, for example /{child}",
    )


def not_deletable(key: str, pointer: tuple[str | int, ...], detail: str) -> ErrorDetail:
    """The data node cannot be removed."""
    return ErrorDetail(
        _MODIFICATION,
        node(key, pointer),
        "TARGET_DATA_NODE_DELETION_NOT_ALLOWED",
        "Removing is not allowed",
        detail,
    )


def not_writable(key: str, pointer: tuple[str | int, ...]) -> ErrorDetail:
    """The attribute is read-only."""
    return ErrorDetail(
        _MODIFICATION, node(key, pointer), "TARGET_DATA_NODE_NOT_WRITABLE", "The attribute is read-only"
    )


def invariant(key: str, pointer: tuple[str | int, ...]) -> ErrorDetail:
    """The attribute can only be set at creation."""
    return ErrorDetail(
        _MODIFICATION,
        node(key, pointer),
        "TARGET_DATA_NODE_INVARIANT",
        "The attribute can be set at creation only",
    )


def not_contained(key: str, detail: str) -> ErrorDetail:
    """The model does not allow this object there."""
    return ErrorDetail(
        _SCHEMA,
        node(key),
        "NEW_DATA_NODE_CONTAINMENT_INVALID",
        "The managed object cannot be contained there",
        detail,
    )


def unknown_member(key: str, name: str, known: Iterable[str]) -> ErrorDetail:
    """The value of a creation has a member that is not a member of a Resource."""
    detail = f"{name[:64]!r} is not a member of a Resource, which are {', '.join(known)}"
    return ErrorDetail(_SCHEMA, node(key), NAME_INVALID, "The member is unknown", detail)


def unknown_class(key: str, class_name: str) -> ErrorDetail:
    """The model has no such class."""
    return ErrorDetail(_SCHEMA, node(key), NAME_INVALID, _title(NAME_INVALID), f"no class {class_name}")


def wrong_name(key: str, detail: str) -> ErrorDetail:
    """The value of a creation names another object than its path."""
    return ErrorDetail(_SCHEMA, node(key), NAME_INVALID, "The value and the path differ", detail)


def one_only(key: str, other: str) -> ErrorDetail:
    """The parent can have one child of this class."""
    return ErrorDetail(
        _SCHEMA,
        node(key),
        "FINAL_DATA_NODE_CARDINALITY_INVALID",
        "At most one object of this class",
        f"there is /{other} already",
    )


def malformed(path: str, detail: str) -> ErrorDetail:
    """The operation is malformed."""
    return ErrorDetail("OTHER", path, "OTHER", "The operation is malformed", detail)


def different(key: str, pointer: tuple[str | int, ...]) -> ErrorDetail:
    """A test found another value than expected."""
    return ErrorDetail(
        _APPLICATION, node(key, pointer), "OTHER", "The test failed", "the attribute has another value"
    )


def changed(key: str, pointer: tuple[str | int, ...] | None, detail: str) -> ErrorDetail:
    """The object is not as the guard of the operation expects it."""
    return ErrorDetail(
        _APPLICATION, node(key, pointer), "OTHER", reasons.explanation_of(Reason.CHANGED_SINCE).title, detail
    )


def unknown_action(key: str, name: str) -> ErrorDetail:
    """The class has no such action."""
    return ErrorDetail(
        _APPLICATION, f"/{key}#{name}", "OTHER", "The action is unknown", f"no action {name!r} here"
    )


def action_failed(key: str, name: str, detail: str) -> ErrorDetail:
    """The action's input or the object's state does not allow it."""
    return ErrorDetail(_APPLICATION, f"/{key}#{name}", "OTHER", "The action failed", detail)


def _title(reason: str) -> str:
    return reasons.explanation_of(reason).title
