# SPDX-License-Identifier: Apache-2.0
"""Data node selectors: what is parsed, where a fault is, and which objects and attributes are selected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidSelector
from ran_datajobs.nrm import fdn, selectors
from ran_datajobs.nrm.names import class_of, id_of
from ran_datajobs.nrm.select import picks
from ran_datajobs.nrm.selectors import (
    EVERYTHING,
    MAX_SELECTORS,
    MAX_STEPS,
    MAX_TEXT,
    Matcher,
    Part,
    Selector,
    Selectors,
    Step,
    parse,
)
from ran_datajobs.nrm.tree import Attributes, Tree

ME = "SubNetwork=SN1/ManagedElement=ME1"
TREE = Tree(
    [
        ("SubNetwork=SN1", {"userLabel": "Berlin NW", "plmnId": {"mcc": 456, "mnc": 789}}),
        (ME, {"userLabel": "Berlin NW 1", "list": [{"b": 1, "c": 2}, {"b": 3}], "names": ["x", "y"]}),
        (f"{ME}/XyzFunction=X1", {"attrA": "xyz", "attrB": 551}),
        (f"{ME}/XyzFunction=X2", {"attrA": "abc"}),
        (f"{ME}/XyzFunction=X1/Leaf=ME1", {}),
        ("SubNetwork=SN1/ManagedElement=ME2", {"userLabel": "Berlin NW 2"}),
        ("SubNetwork=SN1/MeContext=a%2Fb", {"userLabel": "slash"}),
        ("SubNetwork=SN2", {"userLabel": "Berlin SO"}),
    ]
)


def found(text: str, objects: Any = TREE, base: str = "") -> dict[str, Attributes]:
    return dict(picks(selectors.scoped(objects, Selectors(parse(text)), base), EVERYTHING))


def names(text: str) -> list[str]:
    return [key.removeprefix("SubNetwork=SN1").lstrip("/") for key in found(text)]


# --- by example --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ('/SubNetwork[id="SN1"]/ManagedElement[id="ME1"]', ["ManagedElement=ME1"]),
        ('/SubNetwork[id="SN1"]/ManagedElement', ["ManagedElement=ME1", "ManagedElement=ME2"]),
        ('/SubNetwork[id="SN1"]/*', ["ManagedElement=ME1", "ManagedElement=ME2", "MeContext=a%2Fb"]),
        ('/SubNetwork[id="SN1"]/*[id="ME2"]', ["ManagedElement=ME2"]),
        ("/SubNetwork", ["", "SubNetwork=SN2"]),
        ('/SubNetwork[id="SN1"]/.', [""]),
        ('/SubNetwork[id="SN1"]/./ManagedElement[id="ME2"]/.', ["ManagedElement=ME2"]),
        ('//ManagedElement[id="ME2"]', ["ManagedElement=ME2"]),
        ('//*[id="ME1"]', ["ManagedElement=ME1", "ManagedElement=ME1/XyzFunction=X1/Leaf=ME1"]),
        ("//XyzFunction//.", [
            "ManagedElement=ME1/XyzFunction=X1",
            "ManagedElement=ME1/XyzFunction=X1/Leaf=ME1",
            "ManagedElement=ME1/XyzFunction=X2",
        ]),
        ("//XyzFunction//*", ["ManagedElement=ME1/XyzFunction=X1/Leaf=ME1"]),
        ('/SubNetwork[id="SN1"]//Leaf', ["ManagedElement=ME1/XyzFunction=X1/Leaf=ME1"]),
        ('//*[contains(id,"X")]', ["ManagedElement=ME1/XyzFunction=X1", "ManagedElement=ME1/XyzFunction=X2"]),
        ('//ManagedElement[contains(id, "ME2")]', ["ManagedElement=ME2"]),
        ('//*[contains(id,"2")]', []),
        ('/SubNetwork[id="SN1"]/MeContext[id="a/b"]', ["MeContext=a%2Fb"]),
        ('/SubNetwork[id="SN1"]/MeContext[id="a\\/b"]', ["MeContext=a%2Fb"]),
        ('/SubNetwork[id="SN1"]/MeContext[contains(id,"a/")]', ["MeContext=a%2Fb"]),
        ('/SubNetwork[id="SN1"]/ManagedElement[id="me1"]', []),
        ('/SubNetwork[id="SN9"]/ManagedElement', []),
        ("//attributes/attrB", ["ManagedElement=ME1/XyzFunction=X1"]),
        ('/SubNetwork[id="SN2"] OR /SubNetwork[id="SN1"]', ["", "SubNetwork=SN2"]),
    ],
)  # fmt: skip
def test_a_selector_selects_the_objects_at_its_end(text: str, selected: list[str]) -> None:
    """An object, all of a class, one level, any number of levels; in pre-order, each once."""
    assert names(text) == selected


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("/attributes", TREE.attributes(ME)),
        ("/attributes/*", TREE.attributes(ME)),
        ("/attributes/userLabel", {"userLabel": "Berlin NW 1"}),
        ("/attributes/list", {"list": [{"b": 1, "c": 2}, {"b": 3}]}),
        ("/attributes/list[1]", {"list": [{"b": 1, "c": 2}]}),
        ("/attributes/list[2]/b", {"list": [{"b": 3}]}),
        ("/attributes/list/c", {"list": [{"c": 2}]}),
        ("/attributes/list/./b", {"list": [{"b": 1}, {"b": 3}]}),
        ("/attributes/*/b", {"list": [{"b": 1}, {"b": 3}]}),
        ("/attributes/names[2]", {"names": ["y"]}),
        ("/attributes/names[0]", None),
        ("/attributes/userLabel[1]", {"userLabel": "Berlin NW 1"}),
        ("/attributes/userLabel[2]", None),
        ("/attributes/userLabel/x", None),
        ("/attributes/nothing", None),
    ],
)
def test_attributes_are_selected_by_name_and_number(text: str, attributes: Attributes | None) -> None:
    """Items are numbered from 1; without a number each counts. An object without a selected attribute is not
    selected."""
    assert found(f'/SubNetwork[id="SN1"]/ManagedElement[id="ME1"]{text}').get(ME) == attributes


def test_what_several_selectors_select_is_joined() -> None:
    """One object with the attributes of all of them; a whole object contains them."""
    me1 = '/SubNetwork[id="SN1"]/ManagedElement[id="ME1"]'
    joined = found(
        f"{me1}/attributes/names[2]\n//ManagedElement/attributes/userLabel\n{me1}/attributes/list[2]/b"
    )
    assert joined[ME] == {"userLabel": "Berlin NW 1", "list": [{"b": 3}], "names": ["y"]}
    assert joined["SubNetwork=SN1/ManagedElement=ME2"] == {"userLabel": "Berlin NW 2"}
    assert found(f"{me1}/attributes/names[2] OR {me1}")[ME] == TREE.attributes(ME)


def test_lines_are_separated_as_by_ncmp() -> None:
    """At line breaks and at the word OR. Blanks around, blank lines, comments and repetitions are dropped; an
    OR in a string or in a comment separates nothing."""
    text = '  /A \r\n\n&& /B OR /C\n/D[id="x OR y"] OR /E\tOR\t/A\u2028&&/F\n  &&/G\n/H OR && no OR /I'
    assert [each.text for each in parse(text)] == ["/A", '/D[id="x OR y"]', "/E", "/H", "/I"]


def test_the_base_is_what_all_leading_steps_have_in_common() -> None:
    """The leading run of steps with a class and an id; of several selectors the deepest common object."""
    first = '/SubNetwork[id="SN1"]/ManagedElement[id="ME1"]'
    assert parse(f'{first}/X[id="1"]/*')[0].base == "SubNetwork=SN1/ManagedElement=ME1/X=1"
    assert parse(f'{first}//X[id="1"]')[0].base == "SubNetwork=SN1/ManagedElement=ME1"
    assert parse(f'{first}/*[id="1"]/X[id="1"]')[0].base == "SubNetwork=SN1/ManagedElement=ME1"
    assert (
        Selectors(parse(f'{first}\n/SubNetwork[id="SN1"]/ManagedElement[id="ME2"]/X')).base
        == "SubNetwork=SN1"
    )
    assert Selectors(parse(f"{first}\n//X")).base == ""


def test_only_what_is_below_a_base_is_selected() -> None:
    """A read of one resource with a selector: objects at and below it."""
    assert list(found("//ManagedElement", base=ME)) == [ME]
    assert list(found("//XyzFunction", base=ME)) == [f"{ME}/XyzFunction=X1", f"{ME}/XyzFunction=X2"]
    assert found("/SubNetwork", base=ME) == {}
    assert list(found("/SubNetwork", base="SubNetwork=SN2")) == ["SubNetwork=SN2"]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("A", "a selector begins with '/', at position 0: <-- here --> A"),
        ("\n  &&\n /A\n\tB", "a selector begins with '/', at position 11: <-- here --> B"),
        ("/A[id=x]", "without blanks; other conditions (Jex advanced) are not offered, at position 2"),
        ("/A[id = \"x\"]", "at position 2: /A <-- here --> [id"),
        ("/A[name=\"x\"]", "at position 2: /A <-- here --> [name"),
        ("/A[id=\"x\" and id=\"y\"]", "at position 2"),
        ('/A[id="x"][id="y"]',
         'a step has at most one condition, at position 10: /A[id="x"] <-- here --> [id="y"]'),
        ("/A[2]", "managed objects have no order: an index is for attributes, at position 2"),
        ("/A/", "a step is empty, at position 3: /A/ <-- here -->"),
        ("/A///B", "a step is empty, at position 4"),
        ("//", "a step is empty, at position 2"),
        ("/A//", "a step is empty, at position 4"),
        ("/A/..", "a name, '*' or '.' is needed, at position 3"),
        ("/A/(B|C)", "a name, '*' or '.' is needed, at position 3"),
        ("/A B", "a step begins with '/', at position 2: /A <-- here -->  B"),
        ("/.", "no step names a managed object, at position 2"),
        ("/attributes/x", "no step names a managed object"),
        ("/A/attributes[1]", "attributes is no class"),
        ("/A/id", "id is no class: objects are selected, or their attributes/name, at position 5"),
        ("/A/attributes//x", "'//' is for managed objects, not for attributes, at position 15"),
        ('/A/attributes/x[id="1"]', "an attribute is the number of an item, [1], at position 15"),
        ("/A/attributes/.[1]", "the condition of an attribute is the number of an item"),
        ("/A/attributes/x[1", "the condition of an attribute is the number of an item"),
        ('/A[id=""]', "has no value after the '='"),
        ('/A[id=" x"]', "a value neither begins nor ends with a blank"),
        ('/A[id="\\u0000"]', "U+0000"),
        ('/A[id="\\q"]', "at position 2"),
        ('/A[id="x', "at position 2"),
        ("/" + "/".join(["A"] * (MAX_STEPS + 1)), f"a selector has at most {MAX_STEPS} steps"),
        ("/A/attributes" + "/a" * (MAX_STEPS + 1), f"a selector has at most {MAX_STEPS} steps below"),
        (f'/A[id="{"x" * fdn.MAX_LENGTH}"]', "at most 4000 are read"),
        ("".join(f'/A[id="{"x" * 3_000}"]' for _ in range(2)), "name an FDN of over 4000 characters"),
        ("/A" * MAX_TEXT, f"the text has {2 * MAX_TEXT} characters, at most {MAX_TEXT} are read"),
        ("\n".join(f"/A{n}" for n in range(MAX_SELECTORS + 1)), "more than 1000 selectors"),
        ("", "the text has no selector, only blank lines and comments"),
        ("&& /A", "the text has no selector"),
    ],
)  # fmt: skip
def test_a_fault_is_marked(text: str, detail: str) -> None:
    """The error says what is wrong and shows the place within the text."""
    with pytest.raises(InvalidSelector) as error:
        parse(text)
    assert detail in str(error.value)


def test_limits_are_the_ones_that_are_documented() -> None:
    """docs/budgets.md names them."""
    assert (MAX_TEXT, MAX_SELECTORS, MAX_STEPS) == (100_000, 1_000, 64)
    repeated = "\n".join(["/A"] * (MAX_SELECTORS + 1))
    assert len(parse(repeated)) == 1


# --- properties --------------------------------------------------------------------------------------

CLASSES = st.sampled_from(["A", "B", "Me.C-2", "attributesX", "_x:y"])
IDS = st.sampled_from(["1", "2", "12", "a b", 'q"q', "s/l", "%2F", "b\\s", "ü", "]", '[id="1"]', "x OR y"])
STEPS = (
    st.builds(
        Step,
        CLASSES | st.just("*"),
        st.booleans(),
        value=IDS.map(fdn.value_in_key) | st.none(),
    )
    | st.builds(Step, CLASSES | st.just("*"), st.booleans(), prefix=IDS.map(fdn.value_in_key))
    | st.builds(Step, st.just("."), st.booleans())
)
PARTS = st.builds(Part, st.sampled_from(["a", "b", "c-2", "*", "ü"]), st.none() | st.integers(0, 3))


def written(steps: tuple[Step, ...], parts: tuple[Part, ...], whole: bool) -> str:
    """A selector as a text."""
    text = ""
    for step in steps:
        text += ("//" if step.deep else "/") + step.class_name
        if step.value is not None:
            text += f"[id={json.dumps(id_of('X=' + step.value))}]"
        elif step.prefix is not None:
            text += f"[contains(id,{json.dumps(id_of('X=' + step.prefix))})]"
    if parts or not whole:
        text += "/attributes"
    return text + "".join(
        f"/{part.name}" + ("" if part.index is None else f"[{part.index}]") for part in parts
    )


SELECTORS = st.tuples(
    st.lists(STEPS, min_size=1, max_size=4).filter(
        lambda steps: any(s.deep or s.class_name != "." for s in steps)
    ),
    st.lists(PARTS, max_size=3),
    st.booleans(),
).map(lambda drawn: (tuple(drawn[0]), tuple(drawn[1]), drawn[2]))


@given(st.lists(SELECTORS, min_size=1, max_size=4), st.sampled_from(["\n", "\r\n", " OR ", "\n&& x\n\n"]))
def test_a_written_selector_is_read_back(drawn: list[Any], separator: str) -> None:
    """Each form of step and attribute, with ids that need escapes, in one text."""
    texts = {written(*each): Selector(written(*each), each[0], each[1]) for each in drawn}
    assert list(parse(separator.join(texts))) == list(texts.values())


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            ["/", "//", "A", "*", ".", "[id=", '"', '"x"', "]", "[contains(id,", ")", "[1]", "attributes",
             " OR ", "\n", "&&", "\\", " ", "id", "(", "|", "\x00", "\ud800"]
        ),
        max_size=12,
    ).map("".join)
)  # fmt: skip
def test_no_text_raises_another_error(text: str) -> None:
    """A text is read, and can then be evaluated, or is refused with the one error."""
    try:
        read = parse(text)
    except InvalidSelector as error:
        assert str(error)
    else:
        assert len(read) > 0
        list(selectors.scoped(TREE, Selectors(read)))


VALUES = st.sampled_from(
    [
        0,
        "x",
        None,
        {"a": 1},
        {"a": {"b": 2}, "ü": 3},
        [{"a": 1, "b": 2}, {"b": 3}],
        [{"a": [{"b": 1}, {"a": 2}]}],
    ]
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree = Tree()
    rdns = st.tuples(st.sampled_from(["A", "B"]), st.sampled_from(["1", "2", "12", "s/l", "%2F"]))
    for way in draw(st.lists(st.lists(rdns, min_size=1, max_size=4), max_size=10)):
        for length in range(1, len(way) + 1):
            key = fdn.key(fdn.render(tuple(way[:length])))
            if tree.attributes(key) is None:
                tree.put(key, {name: draw(VALUES) for name in draw(st.sampled_from(["", "a", "ab", "bü"]))})
    return tree


Node = tuple[str, tuple[Any, ...] | None]
"""An object, or a value in its attributes: its key, and the way to the value."""


def naive(tree: Tree, text: str) -> dict[str, Attributes]:
    """XPath's definition on sets of nodes, step by step; then the documents with the selected ones."""
    selected: set[Node] = set()
    for one in parse(text):
        nodes = {""}
        for step in one.steps:
            if step.deep:
                nodes |= {key for key, _ in tree.items() if any(_is_below(key, node) for node in nodes)}
            if step.class_name == ".":
                continue
            nodes = {child for node in nodes for child in tree.children(node) if _passes(step, child)}
        for key in nodes - {""}:
            ways: set[tuple[Any, ...]] = {()}
            for part in one.parts:
                ways = {way for above in ways for way in _members(tree.attributes(key), above, part)}
            selected |= {(key, way) for way in ways}
    documents: dict[str, Attributes] = {}
    for key, attributes in tree.items():
        ways = {way for node, way in selected if node == key and way is not None}
        if ways:
            documents[key] = _reduced(attributes, (), ways)
    return documents


def _is_below(key: str, node: str) -> bool:
    return not node or key.startswith(f"{node}/")


def _passes(step: Step, key: str) -> bool:
    wanted = None if step.value is None else id_of("X=" + step.value)
    begins = "" if step.prefix is None else id_of("X=" + step.prefix)
    return (
        step.class_name in ("*", class_of(key))
        and wanted in (None, id_of(key))
        and id_of(key).startswith(begins)
    )


def _at(value: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        value = value[step]
    return value


def _members(attributes: Any, above: tuple[Any, ...], part: Part) -> Iterator[tuple[Any, ...]]:
    value = _at(attributes, above)
    if not isinstance(value, dict):
        return
    for name, member in value.items():
        if part.name in ("*", name):
            items = (
                [(*above, name, n) for n in range(len(member))]
                if isinstance(member, list)
                else [(*above, name)]
            )
            for number, way in enumerate(items, 1):
                if part.index in (None, number):
                    yield way


def _reduced(value: Any, here: tuple[Any, ...], ways: set[tuple[Any, ...]]) -> Any:
    if any(here[: len(way)] == way for way in ways):
        return value
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    kept = [
        (step, _reduced(each, (*here, step), ways))
        for step, each in steps
        if any(way[: len(here) + 1] == (*here, step) or (*here, step)[: len(way)] == way for way in ways)
    ]
    return dict(kept) if isinstance(value, dict) else [each for _, each in kept]


@given(
    trees(),
    st.lists(
        st.tuples(
            st.lists(
                st.builds(
                    Step,
                    st.sampled_from(["A", "B", "*", "."]),
                    st.booleans(),
                    value=st.none(),
                    prefix=st.none() | st.sampled_from(["1", "s%2F"]),
                ).map(lambda step: Step(step.class_name, step.deep) if step.class_name == "." else step)
                | st.builds(
                    Step, st.sampled_from(["A", "*"]), st.booleans(), value=st.sampled_from(["1", "s%2Fl"])
                ),
                min_size=1,
                max_size=4,
            ).filter(lambda steps: any(s.deep or s.class_name != "." for s in steps)),
            st.lists(
                st.builds(Part, st.sampled_from(["a", "b", "*"]), st.none() | st.integers(0, 2)), max_size=3
            ),
        ).map(lambda drawn: written(tuple(drawn[0]), tuple(drawn[1]), whole=True)),
        min_size=1,
        max_size=3,
    ),
)
def test_a_tree_is_evaluated_like_xpath(tree: Tree, texts: list[str]) -> None:
    """The same objects and attributes as a naive evaluation on sets of nodes; and the same for a walk of the
    tree as for objects that come one by one."""
    text = "\n".join(texts)
    expected = naive(tree, text)
    assert found(text, tree) == expected
    matcher = Matcher(Selectors(parse(text)))
    one_by_one = {key: matcher.picked(key, attributes) for key, attributes in tree.items()}
    assert {key: picked for key, picked in one_by_one.items() if picked is not None} == expected


@given(trees(), SELECTORS)
def test_what_is_selected_lies_at_or_below_the_base(tree: Tree, drawn: Any) -> None:
    """And between the shallowest and the deepest level of the selector."""
    one = parse(written(*drawn))[0]
    for key in found(one.text, tree):
        assert not one.base or f"{key}/".startswith(f"{one.base}/")
        levels = key.count("/") + 1
        assert one.shallowest <= levels
        assert one.deepest is None or levels <= one.deepest
