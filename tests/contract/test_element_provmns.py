# SPDX-License-Identifier: Apache-2.0
"""The ProvMnS element: batching operations into documents does not change outcomes, and an outcome that
cannot be determined is UNKNOWN."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from ran_datajobs.dmi.element import Outcome
from ran_datajobs.dmi.provmns.documents import Edit, Span, read_edit
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.model import ActivationMode, ErrorDetail, Op, Operation, OperationState, Scope, ScopeType
from ran_datajobs.nrm.patch import Patch, Rejected, apply, apply_atomically, read_patch
from ran_datajobs.nrm.tree import Tree
from ran_datajobs.plugins.client import Answered
from tests.tiers import examples

from .provmns_network import ELEMENTS, element_over, network, objects, read
from .provmns_twin import OPEN, Errors, Hint, Mishap, ProvMnsTwin, Shape

SUCCEEDED, FAILED, NOT_STARTED, UNKNOWN = (
    OperationState.SUCCEEDED,
    OperationState.FAILED,
    OperationState.NOT_STARTED,
    OperationState.UNKNOWN,
)
BEST_EFFORT, STOP_ON_ERROR = ActivationMode.BEST_EFFORT, ActivationMode.STOP_ON_ERROR


pointers = st.sampled_from(["userLabel", "gNBId", "nested/a", "nested/b", "list/0", "list/-", "missing/x"])
values = st.sampled_from([b"1", b'"text"', b"[1,2]", b'{"a":2}', b"null", b"1.5"]).map(Raw)


@st.composite
def write_operations(draw: st.DrawFn) -> list[Operation]:
    """A few writes of every kind, valid and invalid, in both spellings of a path."""
    operations: list[Operation] = []
    for number in range(draw(st.integers(1, 12))):
        op = draw(st.sampled_from([Op.ADD, Op.ADD, Op.REPLACE, Op.REPLACE, Op.MERGE, Op.REMOVE, Op.TEST]))
        path = draw(st.sampled_from(["/", ""])) + draw(objects)
        value: Any = draw(values)
        if op is Op.MERGE:
            path += draw(st.sampled_from(["", "#/attributes", "/#/attributes"]))
            value = draw(st.sampled_from([b'{"gNBId":7}', b'{"nested":null,"n":[]}', b"3"]).map(Raw))
        elif op in {Op.ADD, Op.REMOVE} and draw(st.booleans()):
            value = Raw(
                draw(
                    st.sampled_from(
                        [
                            b'{"attributes":{"gNBId":9}}',
                            b'{"gNBId":9}',
                            b'{"id":"3","attributes":{}}',
                            b'{"id":"3","objectClass":"GNBDUFunction","attributes":{"u":1}}',
                            b"7",
                        ]
                    )
                )
            )
        else:
            path += draw(st.sampled_from(["#/attributes/", "/#/attributes/", "#"])) + draw(pointers)
        operations.append(Operation(op, path, number, UNSET if op is Op.REMOVE else value))
    return operations


def one_by_one(tree: Tree, operations: Sequence[Operation], mode: ActivationMode) -> list[OperationState]:
    """Outcome of each operation sent by itself, in order."""
    states: list[OperationState] = []
    for operation in operations:
        if mode is STOP_ON_ERROR and FAILED in states:
            states.append(NOT_STARTED)
            continue
        patch = read_patch(operation.op, operation.path, operation.value)
        refused = patch if isinstance(patch, ErrorDetail) else apply(patch, tree, OPEN, {})
        states.append(SUCCEEDED if refused is None else FAILED)
    return states


def states_of(outcomes: Sequence[Outcome]) -> list[OperationState]:
    return [outcome.state for outcome in outcomes]


@settings(max_examples=examples(300), deadline=None)
@given(
    write_operations(),
    st.sampled_from(ActivationMode),
    st.sampled_from(Span),
    st.sampled_from(Errors),
    st.sampled_from(Hint),
    st.sampled_from([1, 2, 5, 200]),
    st.booleans(),
)
def test_documents_have_the_outcomes_of_single_operations(
    operations: list[Operation],
    mode: ActivationMode,
    span: Span,
    errors: Errors,
    hint: Hint,
    most: int,
    only_vnd: bool,
) -> None:
    """However operations are batched, and whether a refusal names the right operation or not: states and
    objects afterwards are those of sending each operation by itself."""
    alone, together = network(), network()
    expected = one_by_one(alone, operations, mode)
    twin = ProvMnsTwin(together, errors=errors, hint=hint, only_vnd=only_vnd)
    outcomes = asyncio.run(element_over(twin, span=span, document=most).write(operations, mode))
    assert states_of(outcomes) == expected
    assert dict(together.items()) == dict(alone.items())


@settings(max_examples=examples(300), deadline=None)
@given(
    write_operations(),
    st.sampled_from(ActivationMode),
    st.lists(
        st.none() | st.sampled_from([Mishap.LOST_BEFORE, Mishap.LOST_AFTER, Mishap.ERROR_AFTER]), max_size=8
    ),
)
def test_lost_answers_are_never_told_wrong(
    operations: list[Operation], mode: ActivationMode, mishaps: list[Mishap | None]
) -> None:
    """When answers are lost, every write is sent at most once, and an operation reported as NOT_STARTED was
    not sent."""
    tree = network()
    twin = ProvMnsTwin(tree)
    twin.mishaps.extend(mishaps)
    before = dict(tree.items())
    outcomes = asyncio.run(element_over(twin, document=1).write(operations, mode))
    sent = [outcome for outcome in outcomes if outcome.state is not NOT_STARTED]
    assert len(outcomes) == len(operations)
    assert len(twin.requests) <= len(sent), "a write whose answer was lost was sent again"
    if not twin.requests:
        assert dict(tree.items()) == before


@st.composite
def settling_operations(draw: st.DrawFn) -> list[Operation]:
    """Writes of a few attributes and objects, often to their current values."""
    operations: list[Operation] = []
    for number in range(draw(st.integers(1, 5))):
        key = f"{ELEMENTS[0]}/GNBDUFunction={draw(st.integers(1, 3))}"
        op = draw(st.sampled_from([Op.ADD, Op.REPLACE, Op.MERGE, Op.REMOVE, Op.TEST]))
        if op in {Op.ADD, Op.REMOVE} and draw(st.booleans()):
            given = st.sampled_from(
                [
                    b'{"attributes":{}}',
                    b'{"attributes":{"gNBId":1,"nested":{"a":1}}}',
                    b'{"attributes":{"gNBId":2,"nested":{"a":1},"x":1}}',
                    b'{"id":"1","gNBId":1,"nested":{"a":1}}',
                    b"7",
                ]
            )
            operations.append(
                Operation(op, "/" + key, number, UNSET if op is Op.REMOVE else Raw(draw(given)))
            )
        elif op is Op.MERGE:
            value = draw(st.sampled_from([b'{"gNBId":1}', b'{"gNBId":null}', b'{"x":null}', b"3"]))
            operations.append(Operation(op, "/" + key, number, Raw(value)))
        else:
            pointer = draw(
                st.sampled_from(["/gNBId", "/x", "/nested/a", "/nested/b", "/nested", "/list/0", ""])
            )
            value = draw(st.sampled_from([b"1", b"2", b'{"a":1}', b'{"gNBId":1,"nested":{"a":1}}']))
            path = f"/{key}#/attributes{pointer}"
            operations.append(Operation(op, path, number, UNSET if op is Op.REMOVE else Raw(value)))
    return operations


@settings(max_examples=examples(800), deadline=None)
@given(
    settling_operations() | write_operations(),
    st.sampled_from(ActivationMode),
    st.sampled_from([1, 3, 200]),
    st.lists(
        st.none()
        | st.sampled_from([Mishap.LOST_BEFORE, Mishap.LOST_AFTER, Mishap.ERROR_BEFORE, Mishap.ERROR_AFTER]),
        min_size=1,
        max_size=8,
    ),
)
def test_what_is_told_of_a_lost_answer_is_what_the_server_did(
    operations: list[Operation], mode: ActivationMode, most: int, mishaps: list[Mishap | None]
) -> None:
    """SUCCEEDED: the document can be applied to the objects as they were before, and the result matches the
    current objects. FAILED: nothing has changed."""
    twin = ProvMnsTwin(network())
    twin.mishaps.extend(mishaps)
    element = element_over(twin, span=Span.PRODUCER, document=most)
    outcomes = asyncio.run(element.write(operations, mode))
    sent = [
        (read_patch(operation.op, operation.path, operation.value), outcome.state)
        for operation, outcome in zip(operations, outcomes, strict=True)
        if isinstance(read_edit(operation), Edit)
    ]
    for write in twin.writes:
        if write.refused and not write.lost and write.operations > 1:
            continue  # the document was split
        mine, sent = sent[: write.operations], sent[write.operations :]
        states = {state for _, state in mine}
        if SUCCEEDED in states:
            assert states == {SUCCEEDED}
            tree = Tree(write.before.items())
            patches = [patch for patch, _ in mine if isinstance(patch, Patch)]
            assert len(patches) == len(mine)
            assert not isinstance(apply_atomically(patches, tree, OPEN, {}), Rejected)
            assert dict(tree.items()) == write.after
        elif FAILED in states:
            assert write.after == write.before
    assert all(state is NOT_STARTED for _, state in sent)


def replaces(count: int, element: str = ELEMENTS[0]) -> list[Operation]:
    return [
        Operation(Op.REPLACE, f"/{element}#/attributes/userLabel", number, Raw(f'"new {number}"'.encode()))
        for number in range(count)
    ]


async def test_consecutive_operations_of_one_element_share_a_document() -> None:
    """One request per element and run; a run of operations on the whole producer needs one."""
    operations = [*replaces(50), *replaces(50, ELEMENTS[1])]
    twin = ProvMnsTwin(network())
    assert states_of(await element_over(twin).write(operations, BEST_EFFORT)) == [SUCCEEDED] * 100
    assert twin.requests == [("PATCH", f"/{element}") for element in ELEMENTS]
    twin = ProvMnsTwin(network())
    assert states_of(await element_over(twin, span=Span.PRODUCER).write(operations, BEST_EFFORT))
    assert twin.requests == [("PATCH", "/SubNetwork=X")]


async def test_interleaved_operations_are_gathered_per_element() -> None:
    """Under BEST_EFFORT interleaved operations are grouped into one request per element, in their order. An
    operation that concerns all elements keeps its position. STOP_ON_ERROR keeps the order of the request."""
    mixed = [each for pair in zip(replaces(20), replaces(20, ELEMENTS[1]), strict=True) for each in pair]
    above = [Operation(Op.REPLACE, "/SubNetwork=X#/attributes/userLabel", 99, Raw(b'"above"'))]
    unreadable = [Operation(Op.REMOVE, "no name", 98)]
    operations = [*mixed, *unreadable, *mixed, *above, *mixed]
    expected = [SUCCEEDED] * 40 + [FAILED] + [SUCCEEDED] * 81
    tree = network()
    twin = ProvMnsTwin(tree)
    assert states_of(await element_over(twin).write(operations, BEST_EFFORT)) == expected
    both = [("PATCH", f"/{element}") for element in ELEMENTS]
    assert twin.requests == [*both, ("PATCH", "/SubNetwork=X"), *both]
    assert [(tree.attributes(element) or {})["userLabel"] for element in ELEMENTS] == ["new 19"] * 2
    twin = ProvMnsTwin(network())
    assert states_of(await element_over(twin).write(mixed, STOP_ON_ERROR)) == [SUCCEEDED] * 40
    assert twin.requests == both * 20


async def test_one_bad_operation_costs_three_requests_more() -> None:
    """If a refusal names the operation, the document is split around it."""
    operations = replaces(100)
    operations[40] = Operation(Op.REMOVE, f"/{ELEMENTS[0]}#/attributes/missing", 40)
    twin = ProvMnsTwin(network())
    outcomes = await element_over(twin).write(operations, BEST_EFFORT)
    assert states_of(outcomes) == [SUCCEEDED] * 40 + [FAILED] + [SUCCEEDED] * 59
    assert len(twin.requests) == 4
    assert outcomes[40].errors[0].reason == "TARGET_DATA_NODE_NOT_FOUND"


async def test_what_lies_below_the_root_is_put_and_deleted() -> None:
    """A top object has no resource to patch: it is created with PUT and deleted with DELETE."""
    operations = [
        Operation(Op.ADD, "/SubNetwork=Y", 1, Raw(b'{"attributes":{"userLabel":"y"}}')),
        Operation(Op.REPLACE, "/SubNetwork=Y#/attributes/userLabel", 2, Raw(b'"z"')),
        Operation(Op.REMOVE, "/SubNetwork=Y", 3),
    ]
    twin = ProvMnsTwin(network())
    assert states_of(await element_over(twin).write(operations, BEST_EFFORT)) == [SUCCEEDED] * 3
    assert twin.requests == [
        ("PUT", "/SubNetwork=Y"),
        ("PATCH", "/SubNetwork=Y"),
        ("DELETE", "/SubNetwork=Y"),
    ]


@pytest.mark.parametrize("errors", Errors)
async def test_every_generation_of_errors_becomes_an_error_detail(errors: Errors) -> None:
    """Type and reason are of TS 28.572, and the data node is named, whatever the server's error format."""
    twin = ProvMnsTwin(network(), errors=errors)
    operation = Operation(Op.REPLACE, f"/{ELEMENTS[0]}/GNBDUFunction=9#/attributes/gNBId", 1, Raw(b"1"))
    [outcome] = await element_over(twin).write([operation], BEST_EFFORT)
    assert outcome.state is FAILED
    [error] = outcome.errors
    assert (error.type, error.reason) == ("DATA_NODE_TREE_ERROR", "TARGET_DATA_NODE_NOT_FOUND")
    assert error.bad_data_node.startswith(f"/{ELEMENTS[0]}/GNBDUFunction=9")


@pytest.mark.parametrize(
    ("mishap", "settled", "unsettled"),
    [
        (Mishap.LOST_AFTER, SUCCEEDED, UNKNOWN),
        (Mishap.LOST_BEFORE, UNKNOWN, UNKNOWN),
        (Mishap.ERROR_AFTER, SUCCEEDED, UNKNOWN),
        (Mishap.ERROR_BEFORE, FAILED, UNKNOWN),
        (Mishap.BUSY, SUCCEEDED, SUCCEEDED),
        (Mishap.UNREACHABLE, SUCCEEDED, SUCCEEDED),
    ],
)
async def test_a_lost_answer_is_looked_for_in_the_objects(
    mishap: Mishap, settled: OperationState, unsettled: OperationState
) -> None:
    """Applied and visible: SUCCEEDED. Not visible after a completed 500: FAILED. Otherwise, and if the
    operation leaves no visible effect: UNKNOWN. Only requests that provably did not arrive are sent again."""
    for operations, expected in (
        (replaces(3), settled),
        ([Operation(Op.ADD, f"/{ELEMENTS[0]}#/attributes/list/-", 1, Raw(b"3"))], unsettled),
    ):
        twin = ProvMnsTwin(network())
        twin.mishaps.append(mishap)
        outcomes = await element_over(twin).write(operations, BEST_EFFORT)
        assert states_of(outcomes) == [expected] * len(operations)
        assert len(twin.requests) == (2 if mishap in {Mishap.BUSY, Mishap.UNREACHABLE} else 1)


async def test_a_server_that_stays_away_fails_everything_within_its_patience() -> None:
    """Nothing was executed: FAILED, and NOT_STARTED for later operations under STOP_ON_ERROR."""
    for mode, expected in ((BEST_EFFORT, [FAILED] * 3), (STOP_ON_ERROR, [FAILED, NOT_STARTED, NOT_STARTED])):
        twin = ProvMnsTwin(network())
        twin.mishaps.extend([Mishap.UNREACHABLE] * 100)
        outcomes = await element_over(twin, patience=0.0).write(replaces(3), mode)
        assert states_of(outcomes) == expected
        assert len(twin.requests) == 1


async def test_actions_are_refused_where_the_server_has_none() -> None:
    """ProvMnS has no actions. The operation fails with that reason."""
    operation = Operation(Op.ACTION, f"/{ELEMENTS[0]}#Restart", 1, Raw(b'{"input":{}}'))
    twin = ProvMnsTwin(network())
    [outcome] = await element_over(twin).write([operation], BEST_EFFORT)
    assert outcome.state is FAILED
    assert "no actions" in outcome.errors[0].detail or "ProvMnS has none" in outcome.errors[0].detail
    assert not twin.requests


@pytest.mark.parametrize("shape", Shape)
async def test_a_removal_that_did_not_happen_is_seen(shape: Shape) -> None:
    """However a server writes names in its answer, an object that still exists is found."""
    twin = ProvMnsTwin(network(), shape=shape)
    twin.mishaps.append(Mishap.ERROR_BEFORE)
    operation = Operation(Op.REMOVE, f"/{ELEMENTS[0]}/GNBDUFunction=1", 1)
    assert states_of(await element_over(twin).write([operation], BEST_EFFORT)) == [FAILED]


async def test_an_answer_without_the_object_asked_for_settles_nothing() -> None:
    """Such an answer does not prove that the object is absent: a read fails, a lost write is UNKNOWN."""
    other = msgspec.json.encode([{"objectInstance": "SubNetwork=X,ManagedElement=1,GNBDUFunction=1"}])
    for body in (b"[]", b"{}", other):
        for op, fragment in ((Op.REMOVE, ""), (Op.ADD, "#/attributes/userLabel")):
            twin = ProvMnsTwin(network())
            twin.mishaps.append(Mishap.ERROR_BEFORE)
            twin.read_mishaps.append(Answered(200, body))
            value = UNSET if op is Op.REMOVE else Raw(b"1")
            operation = Operation(op, f"/{ELEMENTS[0]}{fragment}", 1, value)
            assert states_of(await element_over(twin).write([operation], BEST_EFFORT)) == [UNKNOWN]
        twin.read_mishaps.append(Answered(200, body))
        found, errors = await read(element_over(twin), Operation(Op.READ, "/" + ELEMENTS[0], 1))
        assert found == []
        assert errors[0].title == "The element's answer cannot be read"


async def test_names_of_another_generation_are_translated_both_ways() -> None:
    """With aliases the server receives its own class and attribute names, and the element returns ours."""
    aliases = Aliases({"GNBDUFunction": "GnbDuFunction"}, {"GNBDUFunction": {"gNBId": "gnbId"}})
    theirs = Tree([("SubNetwork=X", {}), ("SubNetwork=X/ManagedElement=1", {})])
    theirs.put("SubNetwork=X/ManagedElement=1/GnbDuFunction=1", {"gnbId": 1})
    twin = ProvMnsTwin(theirs)
    element = element_over(twin, aliases)
    ours = "/SubNetwork=X/ManagedElement=1/GNBDUFunction"
    operations = [
        Operation(Op.REPLACE, f"{ours}=1#/attributes/gNBId", 1, Raw(b"5")),
        Operation(Op.ADD, f"{ours}=2", 2, Raw(b'{"id":"2","attributes":{"gNBId":6}}')),
        Operation(Op.MERGE, f"{ours}=2", 3, Raw(b'{"gNBId":7}')),
    ]
    assert states_of(await element.write(operations, BEST_EFFORT)) == [SUCCEEDED] * 3
    assert theirs.attributes("SubNetwork=X/ManagedElement=1/GnbDuFunction=1") == {"gnbId": 5}
    assert theirs.attributes("SubNetwork=X/ManagedElement=1/GnbDuFunction=2") == {"gnbId": 7}
    read_all = Operation(
        Op.READ,
        "/SubNetwork=X/ManagedElement=1",
        4,
        attributes=("gNBId",),
        filter="GNBDUFunction/attributes/gNBId == 5",
        scope=Scope(ScopeType.BASE_ALL),
    )
    found, _ = await read(element, read_all)
    assert found == [
        {
            "id": "1",
            "objectClass": "GNBDUFunction",
            "objectInstance": "SubNetwork=X,ManagedElement=1,GNBDUFunction=1",
            "attributes": {"gNBId": 5},
        }
    ]


@pytest.mark.parametrize(
    ("op", "fragment", "value"),
    [
        (Op.ADD, "/GNBDUFunction=3", b'{"attributes":{"a":1e400}}'),
        (Op.MERGE, "", b'{"a":1e400}'),
        (Op.MERGE, "#/attributes", b'{"a":1e400}'),
        (Op.REPLACE, "#/attributes/userLabel", b"1e400"),
        (Op.REPLACE, "#/attributes/userLabel", b"[" * 300 + b"]" * 300),
    ],
)
@pytest.mark.parametrize("aliases", [None, Aliases({}, {"ManagedElement": {"other": "another"}})])
@pytest.mark.parametrize("mode", ActivationMode)
async def test_a_value_that_cannot_be_read_fails_its_own_operation(
    op: Op, fragment: str, value: bytes, aliases: Aliases | None, mode: ActivationMode
) -> None:
    """The others of the batch are executed, and the error names the operation's path."""
    path = f"/{ELEMENTS[0]}{fragment}"
    operations = [*replaces(3), Operation(op, path, 3, Raw(value)), *replaces(2)]
    twin = ProvMnsTwin(network())
    outcomes = await element_over(twin, aliases).write(operations, mode)
    rest = [NOT_STARTED] * 2 if mode is STOP_ON_ERROR else [SUCCEEDED] * 2
    assert states_of(outcomes) == [SUCCEEDED] * 3 + [FAILED] + rest
    [error] = outcomes[3].errors
    assert (error.title, error.bad_data_node) == ("The operation is malformed", path)
