# SPDX-License-Identifier: Apache-2.0
"""The pure parts of the ProvMnS element: documents, error bodies, and the check after a lost response."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from ran_datajobs.dmi.provmns.documents import (
    Edit,
    Span,
    document,
    documents,
    independent,
    read_edit,
    target_of,
    uri_of,
)
from ran_datajobs.dmi.provmns.error_bodies import TYPES, read_refusal
from ran_datajobs.dmi.provmns.names import Aliases, openapi_aliases
from ran_datajobs.dmi.provmns.nodes import Asked
from ran_datajobs.dmi.provmns.reconcile import Settled, settled
from ran_datajobs.model import ErrorDetail, Op, Operation
from ran_datajobs.nrm.faults import REASONS
from ran_datajobs.nrm.model import ManagedClass, Model, load
from ran_datajobs.nrm.patch import Rejected, apply_atomically, read_patch
from ran_datajobs.nrm.tree import Tree
from tests.tiers import examples

BASE = "SubNetwork=X/ManagedElement=1"
CLASSES = ("SubNetwork", "ManagedElement", "GNBDUFunction")
OPEN = Model({name: ManagedClass(children=frozenset(CLASSES), open=True) for name in CLASSES})


def edit(op: Op, path: str, value: bytes | None = None) -> Edit:
    found = read_edit(Operation(op, path, 1, UNSET if value is None else Raw(value)))
    assert isinstance(found, Edit), found
    return found


def test_a_document_looks_as_ts_32_158_prints_it() -> None:
    """Paths are offsets to the target with the attribute behind ``#``; a created object names its class."""
    edits = [
        edit(Op.REPLACE, f"/{BASE}#/attributes/userLabel", b'"Berlin NW-1"'),
        edit(Op.MERGE, f"{BASE}", b'{"attributes":{"a":1}}'),
        edit(Op.ADD, f"/{BASE}/GNBDUFunction=1", b'{"id":"1","attributes":{"gNBId":1.0}}'),
        edit(Op.ADD, f"/{BASE}/GNBDUFunction=2", b'{"gNBId":2}'),
        edit(Op.TEST, f"/{BASE}/GNBDUFunction=1/#attributes/a~1b", b"1"),
        edit(Op.REMOVE, f"/{BASE}/GNBDUFunction=1"),
    ]
    target = target_of(edits)
    assert target == BASE
    assert msgspec.json.decode(document(edits, target, Aliases())) == [
        {"op": "replace", "path": "#/attributes/userLabel", "value": "Berlin NW-1"},
        {"op": "merge", "path": "#/attributes", "value": {"a": 1}},
        {
            "op": "add",
            "path": "/GNBDUFunction=1",
            "value": {"id": "1", "objectClass": "GNBDUFunction", "attributes": {"gNBId": 1.0}},
        },
        {
            "op": "add",
            "path": "/GNBDUFunction=2",
            "value": {"id": "2", "objectClass": "GNBDUFunction", "attributes": {"gNBId": 2}},
        },
        {"op": "test", "path": "/GNBDUFunction=1#/attributes/a~1b", "value": 1},
        {"op": "remove", "path": "/GNBDUFunction=1"},
    ]


@pytest.mark.parametrize(
    "value",
    [
        b'{"id":null,"objectClass":null,"attributes":{"gNBId":2}}',
        b'{"id":null,"attributes":null,"gNBId":2}',
        b'{"objectInstance":null,"gNBId":2}',
    ],
)
def test_null_for_a_member_of_a_resource_is_left_out(value: bytes) -> None:
    """The server gets the id and the class of the path, and the attributes."""
    one = edit(Op.ADD, f"/{BASE}/GNBDUFunction=2", value)
    assert one.value == {"id": "2", "objectClass": "GNBDUFunction", "attributes": {"gNBId": 2}}


def test_an_unknown_member_of_a_resource_is_left_to_the_server() -> None:
    """It is sent unchanged."""
    one = edit(Op.ADD, f"/{BASE}/GNBDUFunction=2", b'{"class":"x","attributes":{"gNBId":2}}')
    assert one.value["class"] == "x"


def test_values_keep_their_tokens() -> None:
    """A value of an attribute is sent as it was written: 1.50 stays 1.50."""
    one = edit(Op.REPLACE, f"/{BASE}#/attributes/x", b'{"a": 1.50}')
    assert b'{"a": 1.50}' in document([one], BASE, Aliases())


def test_names_are_percent_encoded_in_addresses() -> None:
    """A slash or a question mark within an id does not end the path."""
    key = edit(Op.REMOVE, "SubNetwork=a%2Fb/ManagedElement=c%3Fd")
    assert uri_of(key.key, Aliases()) in {"/SubNetwork=a%2Fb/ManagedElement=c%3Fd"}


@given(
    st.lists(
        st.sampled_from([f"/{BASE}", "/SubNetwork=X", "/SubNetwork=X/ManagedElement=2", "/SubNetwork=Y"]),
        max_size=30,
    ),
    st.sampled_from(Span),
    st.integers(1, 7),
)
def test_documents_cover_everything_once_in_order(paths: list[str], span: Span, most: int) -> None:
    """The pieces are contiguous, none is empty or too long, and each has a target."""
    edits = [edit(Op.REMOVE, path + "#/attributes/x") for path in paths]
    pieces = list(documents(edits, span, most))
    assert [place for first, end in pieces for place in range(first, end)] == list(range(len(edits)))
    for first, end in pieces:
        assert 0 < end - first <= most
        target = target_of(edits[first:end])
        assert all(one.key == target or one.key.startswith(target + "/") for one in edits[first:end])


@given(
    st.lists(
        st.sampled_from(
            [
                (Op.REMOVE, "/SubNetwork=X#/attributes/x"),
                (Op.REMOVE, f"/{BASE}"),
                (Op.REMOVE, f"/{BASE}#/attributes/x"),
                (Op.REMOVE, f"/{BASE}/ManagedElement=9"),
                (Op.REMOVE, "/SubNetwork=X/ManagedElement=2/GNBDUFunction=1"),
                (Op.REMOVE, "no name"),
            ]
        ),
        max_size=20,
    ),
    st.sampled_from(Span),
)
def test_only_what_cannot_concern_one_another_changes_its_order(
    lines: list[tuple[Op, str]], span: Span
) -> None:
    """Every readable operation is in one group of one step. Within a group the order is that of the request.
    An operation on the element itself, or above it, keeps its position relative to all others."""
    edits = [read_edit(Operation(op, path, 1)) for op, path in lines]
    steps = list(independent(edits, span))
    order = [place for step in steps for group in step for place in group]
    assert sorted(order) == [place for place, each in enumerate(edits) if isinstance(each, Edit)]

    def concerns_all(place: int) -> bool:
        return lines[place] in {(Op.REMOVE, "/SubNetwork=X#/attributes/x"), (Op.REMOVE, f"/{BASE}")}

    for at, place in enumerate(order):
        for later in order[at + 1 :]:
            if later < place:
                assert span is Span.ELEMENT
                one, other = edits[place], edits[later]
                assert isinstance(one, Edit)
                assert isinstance(other, Edit)
                assert one.element != other.element
                assert not concerns_all(place)
                assert not concerns_all(later)


@pytest.mark.parametrize(
    ("op", "path", "value"),
    [
        (Op.REPLACE, f"/{BASE}", b"1"),
        (Op.TEST, f"/{BASE}", b"1"),
        (Op.ADD, "no fdn", b"1"),
        (Op.ADD, f"/{BASE}#/other/x", b"1"),
    ],
)
def test_what_cannot_be_sent_says_why(op: Op, path: str, value: bytes) -> None:
    """An operation that no server could understand is an ErrorDetail at once."""
    assert isinstance(read_edit(Operation(op, path, 1, Raw(value))), ErrorDetail)


def test_the_aliases_of_the_model_are_those_of_the_openapi() -> None:
    """``GNBDUFunction`` and ``nRPCI`` are spelt differently in the OpenAPI of TS 28.541, in both
    directions."""
    aliases = openapi_aliases(load())
    key = "SubNetwork=X/ManagedElement=1/GNBDUFunction=1/NRCellDU=2"
    theirs = aliases.their_key(key)
    assert theirs == "SubNetwork=X/ManagedElement=1/GnbDuFunction=1/NrCellDu=2"
    assert aliases.our_key(theirs) == key
    assert aliases.their_attribute("NRCellDU", "nRPCI") == "nrPci"
    assert aliases.our_attributes("NRCellDU", {"nrPci": 7, "userLabel": "x"}) == {
        "nRPCI": 7,
        "userLabel": "x",
    }


@pytest.mark.parametrize(
    ("status", "body", "expected", "bad"),
    [
        (422, {"error": {"errorInfo": "why"}}, ("SCHEMA_VALIDATION_ERROR", "/n", "why"), None),
        (
            404,
            {"status": "404", "type": "IE_NOT_FOUND", "title": "t"},
            ("DATA_NODE_TREE_ERROR", "/n", ""),
            None,
        ),
        (409, {"type": "X", "badObjects": ["/A=1"]}, ("MODIFICATION_NOT_ALLOWED", "/A=1", ""), None),
        (400, {"type": "X", "badAttributes": [{"name": "/b"}]}, ("SCHEMA_VALIDATION_ERROR", "/b", ""), None),
        (400, {"type": "X", "badQueryParams": ["scope"]}, ("SCHEMA_VALIDATION_ERROR", "scope", ""), None),
        (
            422,
            {"type": "X", "badOp": "/3", "otherProblems": ["a", 7, "b"]},
            ("SCHEMA_VALIDATION_ERROR", "/n", "a; b"),
            3,
        ),
        (422, {"type": "X", "badOP": "#/4/path"}, ("SCHEMA_VALIDATION_ERROR", "/n", ""), 4),
        (422, {"badOp": "-1"}, ("SCHEMA_VALIDATION_ERROR", "/n", ""), None),
        (422, {"badOp": True}, ("SCHEMA_VALIDATION_ERROR", "/n", ""), None),
        (
            409,
            {"type": "X", "badOp": "/1", "errors": [{"type": "OTHER", "badDataNode": "/D=1", "detail": "d"}]},
            ("OTHER", "/D=1", "d"),
            1,
        ),
        (403, {}, ("ACCESS_CONTROL_CONFLICT", "/n", ""), None),
        (500, {}, ("SERVER_ERROR", "/n", ""), None),
        (
            422,
            {
                "type": "DATA_NODE_TREE_ERROR",
                "reason": "TARGET_DATA_NODE_PARENT_NOT_FOUND",
                "badDataNode": "/C=1",
            },
            ("DATA_NODE_TREE_ERROR", "/C=1", ""),
            None,
        ),
    ],
)
def test_error_bodies(status: int, body: Any, expected: tuple[str, str, str], bad: int | None) -> None:
    """The members of each generation are mapped to those of TS 28.572."""
    refusal = read_refusal(status, msgspec.json.encode(body), "/n")
    assert (refusal.error.type, refusal.error.bad_data_node, refusal.error.detail) == expected
    assert refusal.bad == bad


CELL = f"{BASE}/GNBDUFunction=1/NRCellDU=1"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("/attributes/nrPci", f"/{CELL}#/attributes/nRPCI"),
        ("#/attributes/nrPci", f"/{CELL}#/attributes/nRPCI"),
        ("nrPci", f"/{CELL}#/attributes/nRPCI"),
        ("/attributes/npnIdentityList/0/nidList", f"/{CELL}#/attributes/nPNIdentityList/0/nIDList"),
        ("/GnbDuFunction=1#/attributes/gnbDuId", f"/{BASE}/GNBDUFunction=1#/attributes/gNBDUId"),
        (f"/{BASE}/GnbDuFunction=1#/attributes/gnbDuId", f"/{BASE}/GNBDUFunction=1#/attributes/gNBDUId"),
        ("DC=example.org,SubNetwork=X,ManagedElement=1,GnbDuFunction=1", f"/{BASE}/GNBDUFunction=1"),
        ("/SubNetwork=X", "/SubNetwork=X"),
        ("/SubNetwork=Y/ManagedElement=2", "/SubNetwork=Y/ManagedElement=2"),
        ("/GnbDuFunction=1/NrCellDu=1", f"/{CELL}"),
    ],
)
def test_nodes_are_named_in_full_and_in_stage_2(words: str, expected: str) -> None:
    """A server may name them as offsets, with a DC prefix, by their attribute alone, and in its own names."""
    asked = Asked(CELL, BASE, openapi_aliases(load()), ("userLabel",))
    for body in (
        {"badAttributes": [words]},
        {"type": "X", "badObjects": [{"name": words}]},
        {"type": "DATA_NODE_TREE_ERROR", "badDataNode": words},
        {"type": "X", "otherProblems": [{"title": "t", "badAttributes": [words]}]},
    ):
        assert read_refusal(422, msgspec.json.encode(body), asked).error.bad_data_node == expected


def test_what_names_no_node_is_kept_as_words() -> None:
    """Without a node the error names that of the request, also for an action."""
    asked = Asked(CELL, BASE, Aliases(), ("a",))
    for body in ({"badObjects": ["the cell = bad"]}, {"badQueryParams": ["the cell = bad"]}):
        error = read_refusal(422, msgspec.json.encode(body), asked).error
        assert (error.bad_data_node, error.detail) == (f"/{CELL}#/attributes/a", "the cell = bad")
    action = Asked(CELL, BASE, Aliases(), action="Restart")
    assert read_refusal(422, b"", action).error.bad_data_node == f"/{CELL}#Restart"
    named = b'{"badAttributes": ["/GNBDUFunction=1/NRCellDU=1#Restart"]}'
    assert read_refusal(422, named, action).error.bad_data_node == f"/{CELL}#Restart"


@pytest.mark.parametrize(
    ("reason", "expected", "detail"),
    [
        ("something free", "OTHER", "something free"),
        ("TARGET_DATA_NODE_INVARIANT", "TARGET_DATA_NODE_INVARIANT", ""),
        (None, "NEW_DATA_NODE_VALUE_INVALID", ""),
    ],
)
def test_a_reason_is_one_of_the_standards(reason: str | None, expected: str, detail: str) -> None:
    """Other texts are not lost: they become the detail."""
    error = read_refusal(422, msgspec.json.encode({"reason": reason}), "/n").error
    assert (error.reason, error.detail) == (expected, detail)


def test_other_problems_may_be_objects() -> None:
    """Their texts are kept. If the response blames no operation, the one that these errors blame is used."""
    problems = [{"type": "X", "title": "one"}, {"title": "two", "badOp": "/2"}, "three"]
    refusal = read_refusal(422, msgspec.json.encode({"otherProblems": problems}), "/n")
    assert refusal.bad == 2
    assert set(refusal.error.detail.split("; ")) == {"one", "two", "three"}
    first = read_refusal(422, msgspec.json.encode({"badOp": "/0", "otherProblems": problems}), "/n")
    assert first.bad == 0


@given(
    st.integers(400, 599),
    st.none()
    | st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(
            ["error", "errors", "type", "reason", "title", "badOp", "badAttributes", "otherProblems"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
            ),
        ),
    ).map(msgspec.json.encode),
)
def test_no_error_body_makes_the_reader_fail(status: int, body: bytes | None) -> None:
    """Any body of a server becomes an ErrorDetail with a type of TS 28.572."""
    for asked in ("/n", Asked(BASE, "", Aliases())):
        error = read_refusal(status, body, asked).error
        assert error.type in TYPES
        assert error.reason in REASONS
        assert error.bad_data_node or asked == "/n"


KEYS = (BASE, f"{BASE}/GNBDUFunction=1", f"{BASE}/GNBDUFunction=2")
operations = st.lists(
    st.one_of(
        st.builds(
            lambda op, key, name, value: Operation(op, f"/{key}#/attributes/{name}", 1, Raw(value)),
            st.sampled_from([Op.ADD, Op.REPLACE, Op.TEST]),
            st.sampled_from(KEYS),
            st.sampled_from(["a", "b", "nested/c", "list/0", "list/-"]),
            st.sampled_from([b"1", b"2", b"[]", b'{"c":1}']),
        ),
        st.builds(
            lambda key, name: Operation(Op.REMOVE, f"/{key}#/attributes/{name}", 1),
            st.sampled_from(KEYS),
            st.sampled_from(["a", "nested/c", "list/0"]),
        ),
        st.builds(
            lambda key, value: Operation(Op.MERGE, f"/{key}", 1, Raw(value)),
            st.sampled_from(KEYS),
            st.sampled_from([b'{"a":null}', b'{"a":2,"nested":{"c":null}}']),
        ),
        st.builds(lambda key: Operation(Op.REMOVE, f"/{key}", 1), st.sampled_from(KEYS[1:])),
        st.builds(
            lambda key: Operation(Op.ADD, f"/{key}", 1, Raw(b'{"attributes":{"a":1}}')),
            st.sampled_from(KEYS[1:]),
        ),
    ),
    min_size=1,
    max_size=4,
)


def network() -> Tree:
    attributes = {"a": 1, "b": 1, "nested": {"c": 1}, "list": [1, 2]}
    return Tree([("SubNetwork=X", {}), (BASE, attributes), (f"{BASE}/GNBDUFunction=1", attributes)])


def found(tree: Tree, edits: list[Edit]) -> dict[str, Any]:
    return {one.key: tree.attributes(one.key) for one in edits}


def applied(given_operations: list[Operation], tree: Tree) -> bool:
    """Apply the readable ones as one document. Returns False if it was refused."""
    patches = [read_patch(one.op, one.path, one.value) for one in given_operations]
    done = apply_atomically([one for one in patches if not isinstance(one, ErrorDetail)], tree, OPEN, {})
    return not isinstance(done, Rejected)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(operations)
def test_an_applied_document_is_not_taken_for_another(given_operations: list[Operation]) -> None:
    """The state after a document is never taken as a sign that it was not applied. If it only sets values,
    one in each object, it is recognised as applied."""
    edits = [one for one in map(read_edit, given_operations) if isinstance(one, Edit)]
    tree = network()
    assume(applied(given_operations, tree))
    seen = settled(edits, found(tree, edits), OPEN)
    assert seen is not Settled.NOT_DONE
    if all(sets(one) for one in edits) and len({one.key for one in edits}) == len(edits):
        assert seen is Settled.DONE


def sets(one: Edit) -> bool:
    return one.op in {Op.ADD, Op.REPLACE, Op.MERGE} and not (
        one.op is Op.ADD and one.pointer is not None and one.pointer[-1] in {"-", "0"}
    )


@settings(suppress_health_check=[HealthCheck.filter_too_much], max_examples=examples(300))
@given(operations)
def test_what_is_taken_for_applied_has_nothing_left_to_change(given_operations: list[Operation]) -> None:
    """If the document had not arrived, sending it now would succeed and change nothing."""
    edits = [one for one in map(read_edit, given_operations) if isinstance(one, Edit)]
    tree = network()
    assume(settled(edits, found(tree, edits), OPEN) is Settled.DONE)
    before = dict(tree.items())
    assert applied(given_operations, tree)
    assert dict(tree.items()) == before


@pytest.mark.parametrize(
    ("op", "fragment", "value"),
    [
        (Op.ADD, "#/attributes/list/-", b"1"),
        (Op.ADD, "#/attributes/list/0", b"1"),
        (Op.REMOVE, "#/attributes/list/0", None),
        (Op.REMOVE, "#/attributes/gone", None),
        (Op.REMOVE, "#/attributes", None),
        (Op.ACTION, "#Restart", b'{"input":{}}'),
        (Op.TEST, "#/attributes/a", b"1"),
        (Op.MERGE, "#/attributes/nested", b'{"c":1}'),
        (Op.ADD, "", b'{"attributes":{}}'),
        (Op.ADD, "", b'{"id":"other","attributes":{"a":1,"b":1,"nested":{"c":1},"list":[1,2]}}'),
        (Op.ADD, "", b"7"),
        (Op.REPLACE, "#/attributes", b'{"a":1}'),
        (Op.REMOVE, "/GNBDUFunction=2", None),
    ],
)
def test_what_leaves_no_mark_cannot_be_told(op: Op, fragment: str, value: bytes | None) -> None:
    """An action, a test, a list that grows or shrinks by one, a removal of an absent value, and an object
    that has more than it was given are left UNKNOWN."""
    one = edit(op, f"/{BASE}{fragment}", value)
    assert settled([one], found(network(), [one]), OPEN) is Settled.OPEN


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(Op.TEST, "#/attributes/a", b"99"), (Op.REPLACE, "#/attributes/b", b"1")], Settled.OPEN),
        ([(Op.REPLACE, "#/attributes/a", b"5"), (Op.REPLACE, "#/attributes/a", b"1")], Settled.DONE),
        ([(Op.REPLACE, "#/attributes/a", b"1"), (Op.REMOVE, "#/attributes/gone", None)], Settled.OPEN),
        ([(Op.REPLACE, "#/attributes/a", b"2"), (Op.REMOVE, "#/attributes/gone", None)], Settled.NOT_DONE),
        ([(Op.REMOVE, "#/attributes/a", None)], Settled.NOT_DONE),
        ([(Op.REMOVE, "", None)], Settled.NOT_DONE),
        ([(Op.ADD, "/GNBDUFunction=2", b"{}")], Settled.NOT_DONE),
        ([(Op.ADD, "/GNBDUFunction=2", b"{}"), (Op.REMOVE, "/GNBDUFunction=2", None)], Settled.OPEN),
        ([(Op.ADD, "#/attributes/c", b"1"), (Op.REMOVE, "#/attributes/c", None)], Settled.OPEN),
        ([(Op.ADD, "#/attributes/x/y", b"1"), (Op.REMOVE, "#/attributes/x", None)], Settled.OPEN),
    ],
)
def test_a_document_is_settled_as_a_whole(
    lines: list[tuple[Op, str, bytes | None]], expected: Settled
) -> None:
    """One edit that cannot be determined leaves all of them open. One that shows that the document was not
    applied is enough."""
    edits = [edit(op, f"/{BASE}{fragment}", value) for op, fragment, value in lines]
    assert settled(edits, found(network(), edits), OPEN) is expected


def test_what_servers_add_to_an_object_does_not_hide_it() -> None:
    """Defaults and read-only attributes may be present in addition to the given ones. Another value of an
    attribute with a default may not. Read-only attributes alone are no evidence."""
    cell = f"{BASE}/GNBDUFunction=1/NRCellDU=1"
    one = edit(Op.ADD, f"/{cell}", b'{"attributes":{"nRPCI":1}}')
    served = {"nRPCI": 1, "operationalState": "ENABLED", "administrativeState": "LOCKED"}
    assert settled([one], {cell: served}, load()) is Settled.DONE
    assert settled([one], {cell: served | {"administrativeState": "UNLOCKED"}}, load()) is Settled.OPEN
    assert settled([one], {cell: served | {"userLabel": "old"}}, load()) is Settled.OPEN
    assert settled([one], {cell: served | {"nRPCI": 2}}, load()) is Settled.NOT_DONE
    state = edit(Op.REPLACE, f"/{cell}#/attributes/operationalState", b'"ENABLED"')
    assert settled([state], {cell: served}, load()) is Settled.OPEN
