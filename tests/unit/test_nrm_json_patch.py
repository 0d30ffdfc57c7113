# SPDX-License-Identifier: Apache-2.0
"""RFC 6902 and RFC 7396 on JSON values: the public conformance suite, and laws that hold for all values."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.nrm import json_patch
from ran_datajobs.nrm.json_patch import Misfit, Why

SUITE = Path(__file__).parent / "json_patch_suite"

SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=2), below, max_size=3),
    max_leaves=12,
)


def cases() -> list[Any]:
    found = []
    for name in ("tests.json", "spec_tests.json"):
        for index, case in enumerate(json.loads((SUITE / name).read_text())):
            if "patch" in case and not case.get("disabled"):
                found.append(pytest.param(case, id=f"{name}:{index}"))
    return found


def patched(document: Any, patch: list[dict[str, Any]]) -> Any:
    """The document after a patch, as an RFC 6902 engine over this module's operations applies it."""
    for step in patch:
        tokens = json_patch.tokens_of(step["path"]) if isinstance(step.get("path"), str) else None
        if tokens is None:
            return "the path is no JSON Pointer"
        if step["op"] in ("add", "replace", "test"):
            if "value" not in step:
                return "the value is missing"
            document = getattr(json_patch, step["op"])(document, tokens, step["value"])
        elif step["op"] in ("move", "copy"):
            source = json_patch.tokens_of(step["from"]) if "from" in step else None
            if source is None:
                return "from is missing"
            document = getattr(json_patch, step["op"])(document, source, tokens)
        elif step["op"] == "remove":
            document = json_patch.remove(document, tokens)
        else:
            return "the operation is unknown"
        if isinstance(document, Misfit):
            return document
    return document


@pytest.mark.parametrize("case", cases())
def test_the_public_conformance_suite_holds(case: dict[str, Any]) -> None:
    """Each record of json-patch-test-suite gives its expected document, or fails if it has an error."""
    before = copy.deepcopy(case["doc"])
    result = patched(case["doc"], case["patch"])
    if "error" in case:
        assert isinstance(result, str | Misfit)
    else:
        assert not isinstance(result, Misfit)
        assert json_patch.same(result, case.get("expected", result))
    assert case["doc"] == before


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merging_follows_the_table_of_rfc_7396(target: Any, patch: Any, merged: Any) -> None:
    """The examples of RFC 7396, appendix A."""
    assert json_patch.merge(target, patch) == merged


@given(VALUES, VALUES)
def test_a_merge_done_twice_is_a_merge_done_once(target: Any, patch: Any) -> None:
    """Merging is idempotent, and does not change its arguments."""
    before = copy.deepcopy((target, patch))
    once = json_patch.merge(target, patch)
    assert json_patch.same(json_patch.merge(once, patch), once)
    assert (target, patch) == before


@given(VALUES)
def test_every_value_is_the_same_as_itself_read_again(value: Any) -> None:
    """Equality of JSON values survives a round trip through JSON text."""
    assert json_patch.same(value, json.loads(json.dumps(value)))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [(1, 1.0, True), (1, True, False), (0, False, False), ([1], [True], False), ({"a": 1}, {"a": 1.0}, True),
     ({"a": 1}, {"b": 1}, False), ("1", 1, False), (None, None, True), ([1, 2], [2, 1], False)],
)  # fmt: skip
def test_equality_is_that_of_json(one: Any, other: Any, equal: bool) -> None:
    """Numbers are equal by value, and no number is a boolean (RFC 6902 §4.6)."""
    assert json_patch.same(one, other) is equal
    assert json_patch.same(other, one) is equal


@given(VALUES, st.text(max_size=3), VALUES)
def test_what_was_added_is_found_and_removing_it_restores_the_rest(
    value: Any, name: str, member: Any
) -> None:
    """add, then find, then remove: the document is as before without that member."""
    document = {"x": value}
    added = json_patch.add(document, ("x", name), member)
    if type(value) is dict:
        assert json_patch.same(json_patch.find(added, ("x", name)), member)
        rest = {key: item for key, item in value.items() if key != name}
        assert json_patch.same(json_patch.remove(added, ("x", name)), {"x": rest})
    elif type(value) is not list:
        assert isinstance(added, Misfit)


def test_a_misfit_names_the_place() -> None:
    """A failure gives its position: the tokens down to the missing or wrong value."""
    document = {"a": {"b": [1]}}
    assert json_patch.remove(document, ("a", "c")) == Misfit(Why.MISSING, ("a", "c"))
    assert json_patch.replace(document, ("a", "b", "1"), 0) == Misfit(Why.MISSING, ("a", "b", "1"))
    assert json_patch.add(document, ("a", "b", "01"), 0) == Misfit(Why.INDEX, ("a", "b", "01"))
    assert json_patch.add(document, ("x", "b"), 0) == Misfit(Why.MISSING, ("x",))
    assert json_patch.test(document, ("a", "b"), [2]) == Misfit(Why.DIFFERENT, ("a", "b"))
    assert json_patch.move(document, ("a",), ("a", "b")) == Misfit(Why.INSIDE, ("a", "b"))
    assert json_patch.remove(document, ()) == Misfit(Why.ROOT, ())


@given(st.lists(st.text(max_size=4), max_size=4))
def test_a_pointer_gives_back_its_tokens(tokens: list[str]) -> None:
    """Escaping by RFC 6901 is undone; '~' and '/' within names are kept."""
    pointer = "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)
    assert json_patch.tokens_of(pointer) == tuple(tokens)


@pytest.mark.parametrize("pointer", ["a", "#/a", "/~", "/~2", "/a~x"])
def test_what_is_no_pointer_has_no_tokens(pointer: str) -> None:
    """A pointer begins with a slash, and '~' occurs before 0 or 1 only."""
    assert json_patch.tokens_of(pointer) is None


def test_depth_is_told_without_recursion() -> None:
    """A value of any depth is checked. MAX_DEPTH levels of nesting are the limit."""
    value: Any = 1
    for _ in range(json_patch.MAX_DEPTH):
        value = [value]
    assert not json_patch.too_deep(value)
    assert json_patch.too_deep([value])
    for _ in range(100_000):
        value = {"a": value}
    assert json_patch.too_deep(value)
    while type(value) is dict:  # dismantled level by level: the interpreter's own deallocation recurses
        value = value["a"]
