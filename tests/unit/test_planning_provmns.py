# SPDX-License-Identifier: Apache-2.0
"""Patch documents of ProvMnS as operations of a job, the places of their faults, and what writes have set."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from ran_datajobs.errors import InvalidRequest, TooManyOperations, UnsupportedRequest
from ran_datajobs.model import ActivationMode, Op
from ran_datajobs.planning.provmns import (
    JSON_PATCH,
    ProvMnsOperation,
    check_job,
    in_document,
    items_of,
    job_body,
    read_items,
    written,
)
from ran_datajobs.plugins.wire import JSON_PATCH_3GPP, TREE_FLAT

TARGET = "/SubNetwork=A/ManagedElement=1"


def read(*items: Any, kind: str = JSON_PATCH_3GPP) -> list[ProvMnsOperation]:
    """The operations of a document for ``TARGET``."""
    return read_items(items_of(msgspec.json.encode(items), 1000), kind, TARGET)


def as_job(*items: Any, kind: str = JSON_PATCH_3GPP) -> list[ProvMnsOperation]:
    """The same, checked as a job."""
    operations = read(*items, kind=kind)
    check_job(job_body(operations, TREE_FLAT, "a name"), 1000, in_document)
    return operations


def value_of(operation: ProvMnsOperation) -> Any:
    return None if operation.value is UNSET else msgspec.json.decode(operation.value)


@pytest.mark.parametrize("kind", [JSON_PATCH, JSON_PATCH_3GPP])
@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("/attributes/x", f"{TARGET}#/attributes/x"),
        ("/attributes/x/0/y~1z", f"{TARGET}#/attributes/x/0/y~1z"),
        ("#/attributes/x", f"{TARGET}#/attributes/x"),
        ("/#attributes/x", f"{TARGET}#attributes/x"),
        ("/B=1/C=2#/attributes/x", f"{TARGET}/B=1/C=2#/attributes/x"),
        ("B=1#x", f"{TARGET}/B=1#x"),
        ("/B=a%2Fb#/attributes/x", f"{TARGET}/B=a%2Fb#/attributes/x"),
        ("B=1,C=2#/attributes/x", f"{TARGET}/B=1/C=2#/attributes/x"),
        ("/attributes=1#/attributes/x", f"{TARGET}/attributes=1#/attributes/x"),
    ],
)
def test_both_spellings_of_a_path_are_read_with_both_media_types(path: str, whole: str, kind: str) -> None:
    """ONAP's load test sends steps below the target in a plain JSON Patch."""
    (operation,) = as_job({"op": "add", "path": path, "value": 1}, kind=kind)
    assert (operation.op, operation.path, value_of(operation)) == (Op.ADD, whole, 1)


@pytest.mark.parametrize("op", ["add", "replace"])
@pytest.mark.parametrize("path", ["/attributes", "#/attributes", "/#attributes"])
def test_all_attributes_at_once_are_an_add_of_the_object(op: str, path: str) -> None:
    """A data job has no other operation that gives an object exactly these attributes."""
    (operation,) = as_job({"op": op, "path": path, "value": {"x": 1}})
    assert (operation.op, operation.path) == (Op.ADD, TARGET)
    assert value_of(operation) == {"id": "1", "objectClass": "ManagedElement", "attributes": {"x": 1}}


def test_a_path_without_a_fragment_names_an_object() -> None:
    """Nothing, or only a slash, is the target itself. The value of a remove may be null, as NCMP sends it."""
    operations = as_job(
        {"op": "add", "path": "/B=1", "value": {"id": "1", "attributes": {}}},
        {"op": "remove", "path": "/B=1", "value": None, "from": None},
        {"op": "remove"},
        {"op": "merge", "path": "", "value": {"attributes": {"x": None}}},
    )
    assert [each.path for each in operations] == [f"{TARGET}/B=1", f"{TARGET}/B=1", TARGET, TARGET]


def test_several_operations_stop_at_the_first_failure_and_one_needs_no_such_plugin() -> None:
    """STOP_ON_ERROR makes no difference for one operation, and not every plugin offers it."""
    one = {"op": "remove", "path": "/attributes/x"}
    for items, mode in (((one,), ActivationMode.BEST_EFFORT), ((one, one), ActivationMode.STOP_ON_ERROR)):
        head = check_job(job_body(read(*items), TREE_FLAT, "a name"), 1000, in_document)
        assert (head.activation_mode, head.count, head.name) == (mode, len(items), "a name")


REFUSED: dict[str, tuple[Any, str, type[Exception]]] = {
    "copy": ({"op": "copy", "path": "/attributes/x", "from": "/attributes/y"}, "#/1/op", UnsupportedRequest),
    "move": ({"op": "move", "path": "/attributes/x", "from": "/attributes/y"}, "#/1/op", UnsupportedRequest),
    "an operation of a data job": ({"op": "action", "path": "#x", "value": {}}, "#/1/op", UnsupportedRequest),
    "no operation": ({"path": "/attributes/x"}, "#/1/op", InvalidRequest),
    "an operation that is a number": ({"op": 1, "path": "/attributes/x"}, "#/1/op", InvalidRequest),
    "no object": (7, "#/1", InvalidRequest),
    "a pointer to no attribute": ({"op": "remove", "path": "/userLabel"}, "#/1/path", InvalidRequest),
    "too long a name": ({"op": "add", "path": "/B=" + "x" * 3990, "value": {}}, "#/1/path", InvalidRequest),
    "too long a name, all attributes": (
        {"op": "add", "path": f"/B={'x' * 3990}#/attributes", "value": {}},
        "#/1/path",
        InvalidRequest,
    ),
    "replace of an object": ({"op": "replace", "path": "/B=1", "value": {}}, "#/1/path", InvalidRequest),
    "all attributes, no object": (
        {"op": "replace", "path": "/attributes", "value": 1},
        "#/1/value",
        InvalidRequest,
    ),
    "no value": ({"op": "add", "path": "/attributes/x"}, "#/1/value", InvalidRequest),
    "remove of all attributes": ({"op": "remove", "path": "/attributes"}, "#/1/path", InvalidRequest),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_item_is_named_by_its_place_in_the_document(case: str) -> None:
    """Faults of the document and those of the job's check have the client's pointers."""
    item, pointer, kind = REFUSED[case]
    with pytest.raises(kind) as refused:
        as_job({"op": "remove", "path": "/attributes/x"}, item)
    assert isinstance(refused.value, InvalidRequest | UnsupportedRequest)
    assert [place for place, _ in refused.value.problems] == [pointer]


def test_merge_is_no_operation_of_json_patch() -> None:
    """RFC 6902 does not have it; 3GPP JSON Patch does (TS 32.158 §6.4.3)."""
    item = {"op": "merge", "path": "#/attributes", "value": {}}
    assert as_job(item)[0].op is Op.MERGE
    with pytest.raises(UnsupportedRequest):
        as_job(item, kind=JSON_PATCH)


@pytest.mark.parametrize(
    "document", [b"", b"{}", b"[]", b"[1", b"null", b'[{"op":"remove","op":"add"}]', b"[" * 5000, b"[\xff]"]
)
def test_a_document_that_is_no_list_of_operations_is_refused(document: bytes) -> None:
    """Also an empty one, and one whose item has a member twice."""
    with pytest.raises(InvalidRequest):
        read_items(items_of(document, 3), JSON_PATCH, TARGET)


def test_the_number_of_operations_is_bounded() -> None:
    """The limit itself is allowed."""
    one = b'{"op":"remove","value":[1e400,{"op":1}]}'
    assert len(items_of(b"[%b]" % b",".join([one] * 3), 3)) == 3
    with pytest.raises(TooManyOperations):
        items_of(b"[%b,0" % b",".join([one] * 4), 3)  # refused before the end


WRITTEN: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "attributes": (
        [
            {"op": "replace", "path": "/attributes/x", "value": 1},
            {"op": "add", "path": "/attributes/plmnId/mcc", "value": "2"},
            {"op": "add", "path": "/attributes/plmnId/mnc", "value": "3"},
            {"op": "test", "path": "/attributes/y", "value": 4},
        ],
        {"id": "1", "attributes": {"x": 1, "plmnId": {"mcc": "2", "mnc": "3"}}},
    ),
    "an item of a list": (
        [
            {"op": "add", "path": "/attributes/x/-", "value": 1},
            {"op": "replace", "path": "/attributes/y", "value": [1, 2]},
            {"op": "remove", "path": "/attributes/y/0"},
        ],
        {"id": "1", "attributes": {}},
    ),
    "objects": (
        [
            {"op": "add", "path": "/B=1", "value": {"id": "1", "objectClass": "B", "attributes": {"x": 1}}},
            {"op": "add", "path": "/B=1/C=2", "value": {"y": 2}},
            {"op": "merge", "path": "/B=1#/attributes", "value": {"x": None, "z": {"a": 1}}},
            {"op": "add", "path": "/B=3", "value": {"id": "3"}},
            {"op": "remove", "path": "/B=3"},
        ],
        {
            "id": "1",
            "B": [{"id": "1", "attributes": {"z": {"a": 1}}, "C": [{"id": "2", "attributes": {"y": 2}}]}],
        },
    ),
    "nothing is left": ([{"op": "remove", "path": "/B=3"}], {"id": "1"}),
    "a value over a value": (
        [
            {"op": "add", "path": "/attributes/x", "value": 1},
            {"op": "add", "path": "/attributes/x/y", "value": 2},
        ],
        {"id": "1", "attributes": {"x": {"y": 2}}},
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_what_was_written_is_a_tree_of_the_target(case: str) -> None:
    """Each changed object with what was set; what an item of a list makes of the list is not known."""
    items, tree = WRITTEN[case]
    assert msgspec.json.decode(msgspec.json.encode(written(as_job(*items), TARGET))) == tree


def test_what_was_written_keeps_the_tokens_of_values() -> None:
    """Also of a number that is out of range for this program: after the write there must be no error."""
    document = b"""[{"op":"add","path":"/attributes/x","value":1e400},
                    {"op":"merge","path":"#/attributes","value":{"y":{"z":[1.0],"no":null}}},
                    {"op":"add","path":"/B=1","value":{"attributes":{"x":-1e999}}},
                    {"op":"add","path":"/B=1#/attributes/y/z","value":12345678901234567890123}]"""
    operations = read_items(items_of(document, 9), JSON_PATCH_3GPP, TARGET)
    check_job(job_body(operations, TREE_FLAT, "a name"), 1000, in_document)
    assert msgspec.json.encode(written(operations, TARGET)) == (
        b'{"id":"1","attributes":{"x":1e400,"y":{"z":[1.0]}},'
        b'"B":[{"id":"1","attributes":{"x":-1e999,"y":{"z":12345678901234567890123}}}]}'
    )
