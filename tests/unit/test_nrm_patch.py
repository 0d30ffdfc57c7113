# SPDX-License-Identifier: Apache-2.0
"""3GPP JSON patch on managed objects: the effect of each operation, and the refusals with their texts."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from ran_datajobs.model import ErrorDetail, Op
from ran_datajobs.nrm.model import load
from ran_datajobs.nrm.patch import Actions, Patch, Rejected, apply, apply_atomically, read_patch
from ran_datajobs.nrm.tree import Attributes, Overlay, Tree, restore
from tests.tiers import examples

MODEL = load()
LENIENT = load(strict=False)

ME = "SubNetwork=A/ManagedElement=1"
DU = f"{ME}/GNBDUFunction=1"
CELL = f"{DU}/NRCellDU=1"
CP = f"{ME}/GNBCUCPFunction=1"
FREQUENCY = f"{CP}/EUtranFrequency=1"

PLMN = {"plmnId": {"mcc": "272", "mnc": "01"}, "snssai": {"sst": 1}}
CELL_ATTRIBUTES: dict[str, Any] = {
    "administrativeState": "UNLOCKED",
    "operationalState": "ENABLED",
    "cellLocalId": 1,
    "nRPCI": 7,
    "arfcnDL": 640000,
    "bSChannelBwDL": 100,
    "ssbPeriodicity": 20,
    "ssbOffset": 0,
    "ssbDuration": 1,
    "pLMNInfoList": [PLMN],
    "nRSectorCarrierRef": ["SubNetwork=A,NRSectorCarrier=1"],
    "bWPRef": ["SubNetwork=A,BWP=1", "SubNetwork=A,BWP=2"],
}


def network() -> Tree:
    return Tree(
        [
            ("SubNetwork=A", {}),
            (ME, {"userLabel": "one"}),
            (DU, {"gNBId": 1, "gNBIdLength": 22, "gNBDUId": 1}),
            (CELL, copy.deepcopy(CELL_ATTRIBUTES)),
            (CP, {"gNBId": 1, "gNBIdLength": 22, "pLMNId": {"mcc": "272", "mnc": "01"}}),
            (FREQUENCY, {"userLabel": "f"}),
        ]
    )


def lock(attributes: Attributes, given: Any) -> Attributes | str:
    if given != {}:
        return "only an empty input"
    return {**attributes, "administrativeState": "LOCKED"}


def spoil(attributes: Attributes, given: Any) -> Attributes | str:
    return {**attributes, "nRPCI": 5000}


ACTIONS: Actions = {("NRCellDU", "lock"): lock, ("NRCellDU", "spoil"): spoil}


def do(tree: Tree, op: str, path: str, value: Any = UNSET, model: Any = MODEL) -> ErrorDetail | None:
    raw = UNSET if value is UNSET else Raw(msgspec.json.encode(value))
    patch = read_patch(Op(op), path, raw)
    return patch if isinstance(patch, ErrorDetail) else apply(patch, tree, model, ACTIONS)


def snapshot(tree: Tree) -> dict[str, Any]:
    return copy.deepcopy(dict(tree.items()))


PCI_SPELLINGS = [
    f"/{CELL}#/attributes/nRPCI",
    f"{CELL}#/attributes/nRPCI",
    f"/{CELL}/#/attributes/nRPCI",
    f"/{CELL}#attributes/nRPCI",
    f"/{CELL}/#attributes/nRPCI",
    f"/{CELL}#nRPCI",
    f"{CELL.replace('/', ',')}#/attributes/nRPCI",
    f"{CELL.replace('/', ', ')}/#nRPCI",
]


@pytest.mark.parametrize("path", PCI_SPELLINGS)
def test_every_spelling_of_a_path_names_the_same_attribute(path: str) -> None:
    """Slash and comma form, and every delimiter that the documents print around '#'."""
    tree = network()
    assert do(tree, "replace", path, 8) is None
    assert tree.attributes(CELL) == {**CELL_ATTRIBUTES, "nRPCI": 8}


@pytest.mark.parametrize(
    ("op", "fragment", "value", "changed"),
    [
        ("replace", "/attributes/nRPCI", 8, {"nRPCI": 8}),
        ("add", "/attributes/userLabel", "new", {"userLabel": "new"}),
        ("add", "/attributes/nRPCI", 9, {"nRPCI": 9}),
        ("add", "/attributes/bWPRef/-", "SubNetwork=A,BWP=3",
         {"bWPRef": ["SubNetwork=A,BWP=1", "SubNetwork=A,BWP=2", "SubNetwork=A,BWP=3"]}),
        ("add", "/attributes/bWPRef/0", "SubNetwork=A,BWP=0",
         {"bWPRef": ["SubNetwork=A,BWP=0", "SubNetwork=A,BWP=1", "SubNetwork=A,BWP=2"]}),
        ("replace", "/attributes/bWPRef/1", "SubNetwork=A,BWP=9",
         {"bWPRef": ["SubNetwork=A,BWP=1", "SubNetwork=A,BWP=9"]}),
        ("remove", "/attributes/bWPRef/0", UNSET, {"bWPRef": ["SubNetwork=A,BWP=2"]}),
        ("replace", "/attributes/pLMNInfoList/0/plmnId/mnc", "99",
         {"pLMNInfoList": [{"plmnId": {"mcc": "272", "mnc": "99"}, "snssai": {"sst": 1}}]}),
        ("add", "/attributes/pLMNInfoList/0/snssai/sd", "00000a",
         {"pLMNInfoList": [{"plmnId": PLMN["plmnId"], "snssai": {"sst": 1, "sd": "00000a"}}]}),
        ("merge", "/attributes", {"nRPCI": 3, "userLabel": "m"}, {"nRPCI": 3, "userLabel": "m"}),
        ("test", "/attributes/nRPCI", 7, {}),
        ("test", "/attributes/nRPCI", 7.0, {}),
        ("test", "/attributes/pLMNInfoList/0/snssai", {"sst": 1}, {}),
        ("action", "lock", {"input": {}}, {"administrativeState": "LOCKED"}),
    ],
)  # fmt: skip
def test_operations_on_attributes(op: str, fragment: str, value: Any, changed: dict[str, Any]) -> None:
    """RFC 6902 within the attributes, RFC 7396 for merge. All else is unchanged."""
    tree = network()
    assert do(tree, op, f"/{CELL}#{fragment}", value) is None
    assert tree.attributes(CELL) == {**CELL_ATTRIBUTES, **changed}


def test_a_merge_removes_with_null_and_takes_the_bare_path() -> None:
    """merge on the FDN applies to its attributes. null removes one. A Resource's attributes are accepted
    too."""
    tree = network()
    assert do(tree, "add", f"/{CELL}#/attributes/userLabel", "x") is None
    assert do(tree, "merge", f"/{CELL}", {"userLabel": None, "ssbDuration": 2}) is None
    assert tree.attributes(CELL) == {**CELL_ATTRIBUTES, "ssbDuration": 2}
    assert do(tree, "merge", f"/{CELL}", {"id": "1", "attributes": {"ssbDuration": 3}}) is None
    assert tree.attributes(CELL) == {**CELL_ATTRIBUTES, "ssbDuration": 3}


@pytest.mark.parametrize(
    "value",
    [
        {"id": "12", "attributes": {"userLabel": "label12"}},
        {"id": "12", "objectClass": "EUtranFrequency", "attributes": {"userLabel": "label12"}},
        {"attributes": {"userLabel": "label12"}},
        {"userLabel": "label12"},
        {"id": "12", "userLabel": "label12"},
    ],
)
def test_an_object_is_created_from_each_form_of_its_value(value: dict[str, Any]) -> None:
    """A Resource, with or without its class, or its attributes alone."""
    tree = network()
    assert do(tree, "add", f"{CP}/EUtranFrequency=12", value) is None
    assert tree.attributes(f"{CP}/EUtranFrequency=12") == {"userLabel": "label12"}
    assert list(tree.children(CP)) == [FREQUENCY, f"{CP}/EUtranFrequency=12"]


def test_a_new_object_gets_its_defaults() -> None:
    """An attribute with a default in the model has it if the creator gives no value."""
    tree = network()
    cell = {name: value for name, value in CELL_ATTRIBUTES.items() if not name.endswith("State")}
    assert do(tree, "add", f"{DU}/NRCellDU=2", cell) is None
    assert tree.attributes(f"{DU}/NRCellDU=2") == {**cell, "administrativeState": "LOCKED"}


def test_adding_an_object_that_exists_replaces_what_a_client_can_set() -> None:
    """Attributes that the value does not name are removed, except read-only ones (TS 32.158 A.4.4)."""
    tree = network()
    new = {name: value for name, value in CELL_ATTRIBUTES.items() if name != "operationalState"}
    assert do(tree, "add", f"/{CELL}#/attributes/userLabel", "gone") is None
    assert do(tree, "add", f"/{CELL}", {"id": "1", "attributes": {**new, "nRPCI": 1}}) is None
    assert tree.attributes(CELL) == {**CELL_ATTRIBUTES, "nRPCI": 1}


SCHEMA = "SCHEMA_VALIDATION_ERROR"
ABSENT = "DATA_NODE_TREE_ERROR"
FORBIDDEN = "MODIFICATION_NOT_ALLOWED"
APPLICATION = "APPLICATION_LAYER_ERROR"

REFUSALS = [
    # op, path, value, type, reason, bad data node
    ("replace", f"/{CELL}", {}, FORBIDDEN, "TARGET_DATA_NODE_FOUND", f"/{CELL}"),
    ("test", f"/{CELL}", {}, FORBIDDEN, "TARGET_DATA_NODE_FOUND", f"/{CELL}"),
    ("replace", f"/{DU}/NRCellDU=9#/attributes/nRPCI", 1,
     ABSENT, "TARGET_DATA_NODE_NOT_FOUND", f"/{DU}/NRCellDU=9"),
    ("merge", f"/{DU}/NRCellDU=9", {}, ABSENT, "TARGET_DATA_NODE_NOT_FOUND", f"/{DU}/NRCellDU=9"),
    ("remove", f"/{DU}/NRCellDU=9", UNSET,
     ABSENT, "TARGET_DATA_NODE_NOT_FOUND", f"/{DU}/NRCellDU=9"),
    ("action", f"/{DU}/NRCellDU=9#lock", {"input": {}},
     ABSENT, "TARGET_DATA_NODE_NOT_FOUND", f"/{DU}/NRCellDU=9"),
    ("add", f"/{ME}/GNBDUFunction=9/NRCellDU=1", CELL_ATTRIBUTES,
     ABSENT, "TARGET_DATA_NODE_PARENT_NOT_FOUND", f"/{ME}/GNBDUFunction=9/NRCellDU=1"),
    ("remove", f"/{DU}", UNSET, FORBIDDEN, "TARGET_DATA_NODE_DELETION_NOT_ALLOWED", f"/{DU}"),
    ("add", f"/{ME}/NRCellDU=1", CELL_ATTRIBUTES,
     SCHEMA, "NEW_DATA_NODE_CONTAINMENT_INVALID", f"/{ME}/NRCellDU=1"),
    ("add", f"/{ME}/SomeChild=1", {}, SCHEMA, "NEW_DATA_NODE_NAME_INVALID", f"/{ME}/SomeChild=1"),
    ("add", f"/{CP}/EUtranFrequency=2", {"id": "3", "attributes": {}},
     SCHEMA, "NEW_DATA_NODE_NAME_INVALID", f"/{CP}/EUtranFrequency=2"),
    ("add", f"/{CP}/EUtranFrequency=2", {"id": "2", "objectClass": "NRFrequency", "attributes": {}},
     SCHEMA, "NEW_DATA_NODE_NAME_INVALID", f"/{CP}/EUtranFrequency=2"),
    ("add", f"/{ME}/GNBDUFunction=2", {"id": "2", "attributes": {}, "NRCellDU": [{"id": "1"}]},
     SCHEMA, "NEW_DATA_NODE_CONTAINMENT_INVALID", f"/{ME}/GNBDUFunction=2"),
    ("add", f"/{ME}/GNBDUFunction=2", {"id": "2", "attributes": {"gNBId": 1, "gNBDUId": 1}},
     SCHEMA, "FINAL_DATA_NODE_MULTIPLICITY_INVALID",
     f"/{ME}/GNBDUFunction=2#/attributes/gNBIdLength"),
    ("replace", f"/{CELL}#/attributes/nRPCI", 1008,
     SCHEMA, "NEW_DATA_NODE_VALUE_INVALID", f"/{CELL}#/attributes/nRPCI"),
    ("replace", f"/{CELL}#/attributes/nRPCI", "7",
     SCHEMA, "NEW_DATA_NODE_VALUE_INVALID", f"/{CELL}#/attributes/nRPCI"),
    ("replace", f"/{CELL}#/attributes/pLMNInfoList/0/plmnId/mcc", "27",
     SCHEMA, "NEW_DATA_NODE_VALUE_INVALID", f"/{CELL}#/attributes/pLMNInfoList/0/plmnId/mcc"),
    ("merge", f"/{CELL}", {"ssbPeriodicity": 21},
     SCHEMA, "NEW_DATA_NODE_VALUE_INVALID", f"/{CELL}#/attributes/ssbPeriodicity"),
    ("merge", f"/{CELL}", {"ssbPeriodicity": 5, "ssbOffset": 5},
     SCHEMA, "FINAL_DATA_NODE_VALUE_INVALID", f"/{CELL}#/attributes/ssbOffset"),
    ("add", f"/{CELL}#/attributes/colour", "red",
     SCHEMA, "NEW_DATA_NODE_NAME_INVALID", f"/{CELL}#/attributes/colour"),
    ("merge", f"/{CELL}", {"colour": "red"},
     SCHEMA, "NEW_DATA_NODE_NAME_INVALID", f"/{CELL}#/attributes/colour"),
    ("replace", f"/{CELL}#/attributes/userLabel", "x",
     ABSENT, "TARGET_DATA_NODE_NOT_FOUND", f"/{CELL}#/attributes/userLabel"),
    ("remove", f"/{CELL}#/attributes/userLabel", UNSET,
     ABSENT, "TARGET_DATA_NODE_NOT_FOUND", f"/{CELL}#/attributes/userLabel"),
    ("replace", f"/{CELL}#/attributes/bWPRef/7", "SubNetwork=A,BWP=1",
     ABSENT, "TARGET_DATA_NODE_NOT_FOUND", f"/{CELL}#/attributes/bWPRef/7"),
    ("add", f"/{CELL}#/attributes/bWPRef/x", "SubNetwork=A,BWP=1",
     SCHEMA, "NEW_DATA_NODE_NAME_INVALID", f"/{CELL}#/attributes/bWPRef/x"),
    ("add", f"/{CELL}#/attributes/bWPRef/-", "SubNetwork=A,BWP=1",
     SCHEMA, "FINAL_DATA_NODE_UNIQUENESS_INVALID", f"/{CELL}#/attributes/bWPRef"),
    ("replace", f"/{CELL}#/attributes/operationalState", "DISABLED",
     FORBIDDEN, "TARGET_DATA_NODE_NOT_WRITABLE", f"/{CELL}#/attributes/operationalState"),
    ("remove", f"/{CELL}#/attributes/operationalState", UNSET,
     FORBIDDEN, "TARGET_DATA_NODE_NOT_WRITABLE", f"/{CELL}#/attributes/operationalState"),
    ("replace", f"/{CP}#/attributes/pLMNId/mcc", "234",
     FORBIDDEN, "TARGET_DATA_NODE_INVARIANT", f"/{CP}#/attributes/pLMNId"),
    ("remove", f"/{CELL}#/attributes/nRPCI", UNSET,
     SCHEMA, "FINAL_DATA_NODE_MULTIPLICITY_INVALID", f"/{CELL}#/attributes/nRPCI"),
    ("remove", f"/{CELL}#/attributes/pLMNInfoList/0", UNSET,
     SCHEMA, "FINAL_DATA_NODE_MULTIPLICITY_INVALID", f"/{CELL}#/attributes/pLMNInfoList"),
    ("remove", f"/{CELL}#/attributes", UNSET,
     FORBIDDEN, "TARGET_DATA_NODE_DELETION_NOT_ALLOWED", f"/{CELL}#/attributes"),
    ("test", f"/{CELL}#/attributes/nRPCI", 8, APPLICATION, "OTHER", f"/{CELL}#/attributes/nRPCI"),
    ("action", f"/{CELL}#dance", {"input": {}}, APPLICATION, "OTHER", f"/{CELL}#dance"),
    ("action", f"/{CELL}#lock", {"input": 1}, APPLICATION, "OTHER", f"/{CELL}#lock"),
    ("action", f"/{CELL}#spoil", {"input": {}}, APPLICATION, "OTHER", f"/{CELL}#spoil"),
    ("action", f"/{CELL}#lock", {}, "OTHER", "OTHER", f"/{CELL}#lock"),
    ("add", f"/{CELL}", 7, "OTHER", "OTHER", f"/{CELL}"),
    ("add", f"/{CELL}#/attributes/nRPCI", UNSET, "OTHER", "OTHER", f"/{CELL}#/attributes/nRPCI"),
    ("merge", f"/{CELL}#/attributes/nRPCI", {}, "OTHER", "OTHER", f"/{CELL}#/attributes/nRPCI"),
    ("merge", f"/{CELL}", 7, "OTHER", "OTHER", f"/{CELL}#/attributes"),
    ("replace", "no name#/attributes/x", 7, "OTHER", "OTHER", "no name#/attributes/x"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "path", "value", "kind", "reason", "node"), REFUSALS)
def test_a_refusal_says_why_and_names_the_node(
    op: str, path: str, value: Any, kind: str, reason: str, node: str
) -> None:
    """TS 28.572's type and reason, and the data node to blame. Nothing has changed."""
    tree = network()
    before = snapshot(tree)
    refused = do(tree, op, path, value)
    assert refused is not None
    assert (refused.type, refused.reason, refused.bad_data_node) == (kind, reason, node)
    assert refused.title
    assert snapshot(tree) == before


@pytest.mark.parametrize("op", ["replace", "add", "merge"])
@pytest.mark.parametrize("stored", [12, 7])
def test_an_integer_written_as_a_float_is_the_integer(op: str, stored: int) -> None:
    """12.0 is stored and returned as 12, also if 12 was stored before. 12.5 is refused, and true is no
    number."""
    tree = network()
    assert do(tree, "replace", f"/{CELL}#/attributes/nRPCI", stored) is None
    fragment, bare = ("", True) if op == "merge" else ("#/attributes/nRPCI", False)

    def write(value: Any) -> ErrorDetail | None:
        return do(tree, op, f"/{CELL}{fragment}", {"nRPCI": value} if bare else value)

    assert write(12.0) is None
    after = tree.attributes(CELL)
    assert after is not None
    assert (type(after["nRPCI"]), after["nRPCI"]) == (int, 12)
    for wrong in (12.5, 1008.0, True, 1e300):
        refused = write(wrong)
        assert refused is not None
        assert (refused.reason, refused.bad_data_node) == (
            "NEW_DATA_NODE_VALUE_INVALID",
            f"/{CELL}#/attributes/nRPCI",
        )
    assert tree.attributes(CELL) == after


def test_an_integer_deep_in_a_value_is_an_integer() -> None:
    """Also in a field of a list's item, and in the value of an object that is created."""
    tree = network()
    assert do(tree, "replace", f"/{CELL}#/attributes/pLMNInfoList/0/snssai/sst", 2.0) is None
    assert (
        do(tree, "add", f"/{ME}/GNBDUFunction=2", {"gNBId": 1.0, "gNBIdLength": 22.0, "gNBDUId": 2}) is None
    )
    texts = [msgspec.json.encode(tree.attributes(key)) for key in (CELL, f"{ME}/GNBDUFunction=2")]
    assert b'"sst":2}' in texts[0]
    assert texts[1] == b'{"gNBId":1,"gNBIdLength":22,"gNBDUId":2}'


@pytest.mark.parametrize(
    "value",
    [
        {"id": None, "objectClass": None, "attributes": {"userLabel": "x"}},
        {"id": None, "objectInstance": None, "attributes": None, "userLabel": "x"},
        {"objectClass": None, "userLabel": "x"},
    ],
)
def test_null_for_a_member_of_a_resource_is_as_if_absent(value: dict[str, Any]) -> None:
    """Some clients write null for attributes that they omit from the object that an ``add`` creates."""
    tree = network()
    assert do(tree, "add", f"/{CP}/EUtranFrequency=2", value) is None
    assert tree.attributes(f"{CP}/EUtranFrequency=2") == {"userLabel": "x"}


def test_an_unknown_member_beside_the_attributes_is_named() -> None:
    """``class`` is not ``objectClass``. A list of children is reported as such."""
    tree = network()
    refused = do(tree, "add", f"/{CELL}", {"id": "1", "class": "NRCellDU", "attributes": {"nRPCI": 8}})
    assert refused is not None
    assert (refused.reason, refused.bad_data_node) == ("NEW_DATA_NODE_NAME_INVALID", f"/{CELL}")
    assert "'class'" in refused.detail and "objectClass" in refused.detail
    nested = do(tree, "add", f"/{DU}", {"attributes": {}, "NRCellDU": [{"id": "1"}]})
    assert nested is not None
    assert (nested.reason, nested.detail) == (
        "NEW_DATA_NODE_CONTAINMENT_INVALID",
        "one operation creates one object: send NRCellDU by itself",
    )


def test_policies_under_one_parent_share_what_there_is() -> None:
    """The minimum ratios of all RRMPolicyRatio of one parent add up to 100 at most (TS 28.541 §4.3.36)."""
    tree = network()
    policy = {"resourceType": "PRB", "rRMPolicyMemberList": [PLMN], "rRMPolicyMaxRatio": 90}
    assert do(tree, "add", f"{CELL}/RRMPolicyRatio=1", {**policy, "rRMPolicyMinRatio": 60}) is None
    second = do(tree, "add", f"{CELL}/RRMPolicyRatio=2", {**policy, "rRMPolicyMinRatio": 50})
    assert second is not None
    assert second.reason == "FINAL_DATA_NODE_VALUE_INVALID"
    assert do(tree, "add", f"{CELL}/RRMPolicyRatio=2", {**policy, "rRMPolicyMinRatio": 40}) is None
    wrong = do(tree, "merge", f"{CELL}/RRMPolicyRatio=2", {"rRMPolicyMaxRatio": 30})
    assert wrong is not None
    assert wrong.reason == "FINAL_DATA_NODE_VALUE_INVALID"


def test_a_parent_has_one_child_of_a_single_class() -> None:
    """A second EP_F1C below a GNBDUFunction is refused. The first can be written again."""
    tree = network()
    assert do(tree, "add", f"{DU}/EP_F1C=1", {"anything": 1}) is None
    assert do(tree, "add", f"{DU}/EP_F1C=1", {"anything": 2}) is None
    second = do(tree, "add", f"{DU}/EP_F1C=2", {})
    assert second is not None
    assert second.reason == "FINAL_DATA_NODE_CARDINALITY_INVALID"


def test_invariant_attributes_are_set_at_creation() -> None:
    """pLMNId of a GNBCUCPFunction is accepted with the object, and the same value again is no change."""
    tree = network()
    attributes = {"gNBId": 2, "gNBIdLength": 22, "pLMNId": {"mcc": "272", "mnc": "01"}}
    assert do(tree, "add", f"{ME}/GNBCUCPFunction=2", attributes) is None
    assert do(tree, "merge", f"{ME}/GNBCUCPFunction=2", attributes) is None


def test_vendors_objects_spring_up_where_the_model_takes_them() -> None:
    """Without a strict model, a merge creates objects of unknown classes and their missing parents."""
    tree = network()
    assert do(tree, "add", f"/{ME}/SomeChild=child-1", {"attributes": {"a": 1}}, LENIENT) is None
    deep = f"/{ME}/SomeChild=child-2/SomeGrandChild=3"
    assert do(tree, "merge", deep, {"a": 2}, LENIENT) is None
    assert tree.attributes(deep[1:]) == {"a": 2}
    assert do(tree, "merge", f"/{DU}/NRCellDU=9", {"nRPCI": 2}, LENIENT) is not None
    assert do(tree, "merge", f"/{ME}/SomeChild=4", 7, LENIENT) is not None
    assert tree.attributes(f"{ME}/SomeChild=4") is None


def test_a_path_below_a_target_is_an_offset() -> None:
    """With a target URI, paths are relative to it. An empty one, or a fragment alone, is the target."""
    for path in ("/NRCellDU=1#/attributes/nRPCI", "NRCellDU=1/#nRPCI"):
        assert read_patch(Op.REPLACE, path, Raw(b"1"), DU) == Patch(Op.REPLACE, CELL, ("nRPCI",), value=1)
    assert read_patch(Op.REPLACE, "#/attributes/nRPCI", Raw(b"1"), CELL) == Patch(
        Op.REPLACE, CELL, ("nRPCI",), value=1
    )
    assert read_patch(Op.REMOVE, "", UNSET, CELL) == Patch(Op.REMOVE, CELL)


def test_values_that_are_no_json_or_too_deep_are_refused() -> None:
    """An operation that cannot be decoded, or nests too deeply, is malformed."""
    for raw in (b"{", b'"\xff"', b"[" * 300 + b"]" * 300, b"[" * 100_000):
        refused = read_patch(Op.REPLACE, f"/{CELL}#/attributes/userLabel", Raw(raw))
        assert isinstance(refused, ErrorDetail)
        assert refused.type == "OTHER"


def test_copy_and_move_within_the_attributes() -> None:
    """An add with a source copies the value from there, and removes it there for a move (RFC 6902 §4.4,
    §4.5)."""
    tree = network()
    copied = Patch(Op.ADD, CELL, ("nRTAC",), source=("nRPCI",))
    assert apply(copied, tree, MODEL, ACTIONS) is None
    assert tree.attributes(CELL) == {**CELL_ATTRIBUTES, "nRTAC": 7}
    moved = Patch(Op.ADD, CELL, ("arfcnUL",), source=("nRTAC",), moving=True)
    assert apply(moved, tree, MODEL, ACTIONS) is None
    assert tree.attributes(CELL) == {**CELL_ATTRIBUTES, "arfcnUL": 7}


# --- documents: all or nothing -----------------------------------------------------------------------

KEYS = [f"{CP}/EUtranFrequency={n}" for n in (1, 2)] + [
    f"{CP}/EUtraNetwork=1/EUtranFrequency={n}" for n in (1, 2)
]
KEYS.append(f"{CP}/EUtraNetwork=1")
LABELS = st.sampled_from(["a", "b", 7])
PATCHES = st.one_of(
    st.builds(
        lambda key, label: Patch(Op.ADD, key, value={"userLabel": label}), st.sampled_from(KEYS), LABELS
    ),
    st.builds(lambda key: Patch(Op.REMOVE, key), st.sampled_from(KEYS)),
    st.builds(
        lambda key, label: Patch(Op.MERGE, key, (), value={"userLabel": label}), st.sampled_from(KEYS), LABELS
    ),
    st.builds(
        lambda key, label: Patch(Op.TEST, key, ("userLabel",), value=label), st.sampled_from(KEYS), LABELS
    ),
)


@settings(max_examples=examples(300))
@given(st.lists(PATCHES, max_size=8))
def test_a_document_is_done_as_a_whole_or_not_at_all(patches: list[Patch]) -> None:
    """One after the other the same patches give the same network, up to the first refusal. A document with a
    refusal changes nothing and names it. An applied one can be undone."""
    one_by_one, whole = network(), network()
    before = snapshot(whole)
    refusals = [apply(patch, one_by_one, MODEL, ACTIONS) for patch in patches]
    first = next((index for index, refused in enumerate(refusals) if refused), None)
    outcome = apply_atomically(patches, whole, MODEL, ACTIONS)
    if isinstance(outcome, Rejected):
        assert (outcome.position, outcome.error) == (first, refusals[outcome.position])
        assert snapshot(whole) == before
    else:
        assert first is None
        assert snapshot(whole) == snapshot(one_by_one)
        for key in (CP, f"{CP}/EUtraNetwork=1"):
            assert set(whole.children(key)) == set(one_by_one.children(key))
        restore(whole, outcome)
        assert snapshot(whole) == before


@given(st.lists(PATCHES, max_size=8))
def test_staged_changes_are_seen_above_and_not_beneath(patches: list[Patch]) -> None:
    """Over a store, changes answer like the store with those changes. The store itself is unchanged."""
    beneath, changed = network(), network()
    before = snapshot(beneath)
    staged = Overlay(beneath)
    for patch in patches:
        assert apply(patch, staged, MODEL, ACTIONS) == apply(patch, changed, MODEL, ACTIONS)
    for key in (*KEYS, CP):
        assert staged.attributes(key) == changed.attributes(key)
        assert set(staged.children(key)) == set(changed.children(key))
    assert snapshot(beneath) == before
