# SPDX-License-Identifier: Apache-2.0
"""The objects that reads select, and the two formats of their results."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.model import Op, Operation, Scope, ScopeType
from ran_datajobs.nrm import select
from ran_datajobs.nrm.names import child_key, class_of, key_of_name
from ran_datajobs.nrm.resources import objects_of, shown_attributes, to_flat, to_hierarchical
from ran_datajobs.nrm.tree import Tree, walk
from ran_datajobs.simulator import serialise

ME = "SubNetwork=SN1/ManagedElement=ME1"
TREE = Tree(
    [
        ("SubNetwork=SN1", {"userLabel": "Berlin NW", "plmnId": {"mcc": 456, "mnc": 789}}),
        (ME, {"userLabel": "Berlin NW 1", "location": "Grunewald", "list": ["a", {"b": 1, "c": 2}, "d"]}),
        (f"{ME}/XyzFunction=X1", {"attrA": "xyz", "attrB": 551}),
        (f"{ME}/XyzFunction=X2", {"attrA": "abc", "attrB": 552}),
        (f"{ME}/Other=1", {"attrA": "o"}),
        ("SubNetwork=SN1/ManagedElement=ME2", {"userLabel": "Berlin NW 2", "location": "Spandau"}),
        ("SubNetwork=SN1/ManagedElement=ME2/XyzFunction=X1", {"attrA": "xyz"}),
    ]
)


def read(base: str, **asked: Any) -> list[dict[str, Any]]:
    operation = Operation(Op.READ, base, "1", **asked)
    return list(select.selected(TREE, base, select.selection_of(operation, class_of(base))))


def names(objects: list[dict[str, Any]]) -> list[str]:
    return [each["objectInstance"].removeprefix("SubNetwork=SN1").removeprefix(",") for each in objects]


ALL = [
    "",
    "ManagedElement=ME1",
    "ManagedElement=ME1,XyzFunction=X1",
    "ManagedElement=ME1,XyzFunction=X2",
    "ManagedElement=ME1,Other=1",
    "ManagedElement=ME2",
    "ManagedElement=ME2,XyzFunction=X1",
]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(ScopeType.BASE_ONLY), [ALL[0]]),
        (Scope(ScopeType.BASE_ALL), ALL),
        (Scope(ScopeType.BASE_SUBTREE), ALL),
        (Scope(ScopeType.BASE_SUBTREE, 0), [ALL[0]]),
        (Scope(ScopeType.BASE_SUBTREE, 1), [ALL[0], ALL[1], ALL[5]]),
        (Scope(ScopeType.BASE_NTH_LEVEL, 0), [ALL[0]]),
        (Scope(ScopeType.BASE_NTH_LEVEL, 1), [ALL[1], ALL[5]]),
        (Scope(ScopeType.BASE_NTH_LEVEL, 2), [ALL[2], ALL[3], ALL[4], ALL[6]]),
        (Scope(ScopeType.BASE_NTH_LEVEL, 3), []),
    ],
)
def test_scopes_reach_their_levels_in_pre_order(scope: Scope, expected: list[str]) -> None:
    """The four scope types of TS 32.158 §6.1, the base being level 0."""
    assert names(read("SubNetwork=SN1", scope=scope)) == expected


def test_an_object_is_named_in_full() -> None:
    """id, objectClass, objectInstance in comma form, and all attributes without a selection."""
    assert read(f"{ME}/XyzFunction=X1") == [
        {
            "id": "X1",
            "objectClass": "XyzFunction",
            "objectInstance": "SubNetwork=SN1,ManagedElement=ME1,XyzFunction=X1",
            "attributes": {"attrA": "xyz", "attrB": 551},
        }
    ]


def test_a_filter_without_scope_reaches_the_subtree_for_another_class_only() -> None:
    """A filter selects below the base if it names another class. If it names the base's own class, it selects
    only the base."""
    below = "XyzFunction/attributes/attrA==xyz"
    assert names(read("SubNetwork=SN1", filter=below)) == [ALL[2], ALL[6]]
    assert read("SubNetwork=SN1", filter=below, scope=Scope(ScopeType.BASE_ONLY)) == []
    own = ('SubNetwork/attributes/userLabel=="Berlin NW"', "SubNetwork/attributes/plmnId/mcc==456")
    assert names(read("SubNetwork=SN1", filter=own)) == [ALL[0]]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"attributes": ("userLabel",)}, {"userLabel": "Berlin NW 1"}),
        ({"attributes": ()}, {}),
        ({"fields": ("/attributes",)}, TREE.attributes(ME)),
        ({"fields": ("attributes/list/0",)}, {"list": ["a"]}),
        ({"fields": ("/attributes/list/1/c", "/attributes/list/2")}, {"list": [{"c": 2}, "d"]}),
        ({"fields": ("/list/2", "/list/1/c", "/list/0", "/list/1/b")},
         {"list": ["a", {"b": 1, "c": 2}, "d"]}),
        ({"fields": ("/list/1/c", "/list/1", "/list/1/b", "/list/7", "/list/01")},
         {"list": [{"b": 1, "c": 2}]}),
        ({"fields": ("location",), "attributes": ("userLabel",)},
         {"userLabel": "Berlin NW 1", "location": "Grunewald"}),
        ({"fields": ("/id",), "attributes": ("userLabel", "nope")}, {"userLabel": "Berlin NW 1"}),
    ],
)  # fmt: skip
def test_attributes_and_fields_select_parts(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    """Names and JSON Pointers add up; no other attribute is returned."""
    assert read(ME, **asked)[0]["attributes"] == expected


JSON = st.recursive(
    st.integers(0, 2) | st.none(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "0", "1"]), inner, min_size=1, max_size=3)
    ),
    max_leaves=12,
)
POINTERS = st.lists(
    st.lists(st.sampled_from(["a", "b", "0", "1", "2", "3", "01", "-"]), min_size=1, max_size=4).map(tuple),
    max_size=6,
)


def parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return [(str(index), item) for index, item in enumerate(value)] if isinstance(value, list) else []


def kept(value: Any, path: tuple[str, ...], pointers: list[tuple[str, ...]]) -> Any:
    """By definition: values at or below a pointer, and those on the path to it."""
    if path in pointers:
        return value
    below = [(name, kept(item, (*path, name), pointers)) for name, item in parts(value)]
    there = [(name, item) for name, item in below if item is not ...]
    if not there:
        return ...
    return dict(there) if isinstance(value, dict) else [item for _, item in there]


@given(st.dictionaries(st.sampled_from(["a", "b"]), JSON, min_size=1), POINTERS, st.randoms())
def test_fields_select_what_they_name_whatever_their_order(
    attributes: dict[str, Any], pointers: list[tuple[str, ...]], random: Any
) -> None:
    """Several fields in one array or object give each item once, complete and in its position. Neither their
    order nor a repetition changes the result."""
    expected = kept(attributes, (), pointers)
    random.shuffle(again := [*pointers, *pointers[:2]])
    for each in (pointers, again):
        picked = select.Selection(pointers=tuple(each)).picked("A", attributes)
        assert picked == (None if expected is ... else expected)


def test_objects_with_nothing_selected_are_dropped() -> None:
    """An object that has none of the selected attributes is not in the result (TS 32.158 §6.2.3)."""
    found = read("SubNetwork=SN1", scope=Scope(ScopeType.BASE_ALL), attributes=("location", "attrB"))
    assert names(found) == [ALL[1], ALL[2], ALL[3], ALL[5]]
    assert read(ME, attributes=("nope",)) == []


def test_unselected_ancestors_are_there_by_id_only() -> None:
    """The document starts at the base. An object on the path to a selected one has its id only, and other
    branches are absent (TS 32.158 A.2)."""
    found = read(
        "SubNetwork=SN1", filter="XyzFunction/attributes/attrB==552", scope=Scope(ScopeType.BASE_ALL)
    )
    assert to_hierarchical(found, "/SubNetwork=SN1") == {
        "id": "SN1",
        "ManagedElement": [
            {"id": "ME1", "XyzFunction": [{"id": "X2", "attributes": {"attrA": "abc", "attrB": 552}}]}
        ],
    }


def test_an_empty_selection_is_an_empty_document() -> None:
    """No selected object gives no document."""
    assert to_hierarchical([], "SubNetwork=SN1") == {}
    assert to_flat({}, "SubNetwork=SN1") == []


def test_below_the_root_the_class_names_come_first() -> None:
    """Without a base the document is that of the NRM root."""
    found = read("SubNetwork=SN1")
    assert to_hierarchical(found, "") == {"SubNetwork": [{"id": "SN1", "attributes": found[0]["attributes"]}]}


def test_an_object_outside_the_base_is_refused() -> None:
    """A document contains the objects at or below its base."""
    with pytest.raises(InvalidFdn):
        to_hierarchical(read("SubNetwork=SN1"), f"/{ME}")


IDS = st.text(alphabet="ab1/,=%#\\*é +", min_size=1, max_size=4).filter(
    lambda text: text == text.strip() and "*" not in text
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A tree with unusual ids, a few classes, and objects without attributes."""
    tree = Tree([("SubNetwork=root", {})])
    keys = ["SubNetwork=root"]
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(keys))
        key = child_key(parent, draw(st.sampled_from("ABC")), draw(IDS))
        if tree.attributes(key) is None:
            attributes = draw(st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 2)))
            tree.put(key, attributes)
            keys.append(key)
    return tree


def sorted_by_name(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(objects, key=lambda each: str(each["objectInstance"]))


SELECTIONS = st.builds(
    lambda kind, level, text, attributes: select.selection(
        "SubNetwork", Scope(kind, level), text, attributes, None
    ),
    st.sampled_from(ScopeType),
    st.integers(0, 4),
    st.none() | st.sampled_from(["A/attributes/x==1", "B/attributes/y>0 || A/attributes/x in (0, 2)"]),
    st.none() | st.sampled_from([(), ("x",), ("x", "y")]),
)


@given(trees(), SELECTIONS)
def test_flat_and_hierarchical_are_the_same_result(tree: Tree, wanted: select.Selection) -> None:
    """A hierarchical document converted to flat has exactly the selected objects. Converted back it is
    unchanged."""
    found = list(select.selected(tree, "SubNetwork=root", wanted))
    document = to_hierarchical(found, "SubNetwork=root")
    again = to_flat(document, "SubNetwork=root")
    assert sorted_by_name(again) == sorted_by_name(found)
    assert to_hierarchical(again, "SubNetwork=root") == document


@given(trees(), SELECTIONS, st.sampled_from(["", "SubNetwork=root"]))
def test_streamed_answers_are_the_documents(tree: Tree, wanted: select.Selection, base: str) -> None:
    """The streams of a server give the same flat and hierarchical documents, without holding them in
    memory."""
    found = list(select.selected(serialise.ByClass(tree), base, wanted))
    assert json.loads(b"".join(serialise.flat(found))) == found
    if found:
        picked = ((key_of_name(each["objectInstance"]), each["attributes"]) for each in found)
        streamed = json.loads(b"".join(serialise.hierarchical(picked, base)))
        assert streamed == to_hierarchical(found, base)


@given(trees())
def test_a_walk_meets_every_object_once_in_pre_order(tree: Tree) -> None:
    """Parents come before their children, and a subtree is contiguous."""
    keys = [key for key, _ in walk(tree, "SubNetwork=root")]
    assert sorted(keys) == sorted(key for key, _ in tree.items())
    for index, key in enumerate(keys):
        below = [other for other in keys if other.startswith(key + "/")]
        assert keys[index + 1 : index + 1 + len(below)] == below


def test_attributes_may_stand_beside_the_identifiers() -> None:
    """Some generations write them there. Lists of objects with an id are children, as are empty lists under
    the name of a class. All else is an attribute."""
    document = {
        "id": "1",
        "objectClass": "SubNetwork",
        "userLabel": "x",
        "setOfMcc": ["262"],
        "empty": [],
        "attributes": {"own": 1},
        "MeContext": [],
        "ManagedElement": [{"id": "a", "priorityLabel": 7}, {"id": "b"}, {"id": "c", "attributes": None}],
    }
    assert objects_of(document, "SubNetwork=1") == [
        ("SubNetwork=1", {"userLabel": "x", "setOfMcc": ["262"], "empty": [], "own": 1}),
        ("SubNetwork=1/ManagedElement=a", {"priorityLabel": 7}),
        ("SubNetwork=1/ManagedElement=b", None),
        ("SubNetwork=1/ManagedElement=c", {}),
    ]


def test_attributes_that_are_no_object_are_refused() -> None:
    """They are not mistaken for objects without attributes."""
    with pytest.raises(TypeError):
        shown_attributes({"id": "1", "attributes": [1]})
    with pytest.raises(TypeError):
        objects_of([], "SubNetwork=1")  # type: ignore[arg-type]
