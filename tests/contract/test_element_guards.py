# SPDX-License-Identifier: Apache-2.0
"""Guards and before-images, for every element adapter of the DMI plugin, and what is special about ProvMnS
servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs

from ran_datajobs.dmi.element import Element, Outcome
from ran_datajobs.dmi.provmns.documents import Span
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.model import ActivationMode, ErrorDetail, ObjectState, Op, Operation, OperationState
from ran_datajobs.nrm import guards
from ran_datajobs.nrm.patch import apply, read_patch
from ran_datajobs.nrm.tree import Tree
from ran_datajobs.plugins.client import Answered, NotSent
from ran_datajobs.simulator.network import Network
from tests.tiers import examples

from .provmns_network import ELEMENTS as KEYS
from .provmns_network import element_over
from .provmns_network import network as small_network
from .provmns_twin import OPEN, Errors, Hint, Mishap, ProvMnsTwin
from .test_element import CELL, ELEMENTS, OWN, policy, write
from .test_element_provmns import write_operations

BEST_EFFORT, STOP_ON_ERROR = ActivationMode.BEST_EFFORT, ActivationMode.STOP_ON_ERROR
SUCCEEDED, FAILED, NOT_STARTED, UNKNOWN = (
    OperationState.SUCCEEDED,
    OperationState.FAILED,
    OperationState.NOT_STARTED,
    OperationState.UNKNOWN,
)
CHANGED = "CHANGED_SINCE"
EXISTS, ABSENT = ObjectState(exists=True), ObjectState(absent=True)
POLICY = f"{CELL}/RRMPolicyRatio=1"
NOBODY = f"/{OWN}/GNBDUFunction=9"


@pytest.fixture
def network() -> Network:
    """A network for each test."""
    return Network(1)


@pytest.fixture(params=ELEMENTS)
async def element(request: pytest.FixtureRequest, network: Network) -> AsyncIterator[Element]:
    """The first EMS of ``network`` through each adapter."""
    async with ELEMENTS[request.param](network) as made:
        yield made


def guarded(expect: ObjectState, op: Op, path: str, *value: Any) -> Operation:
    return structs.replace(write(op, path, *value), expect=expect)


def has(**attributes: Any) -> ObjectState:
    return ObjectState(attributes)


def results(outcomes: Sequence[Outcome]) -> list[tuple[OperationState, str]]:
    return [(outcome.state, outcome.reason) for outcome in outcomes]


async def test_an_operation_is_executed_only_if_its_object_is_as_expected(element: Element) -> None:
    """A guard is compared at the turn of its operation, with what earlier ones have left. The error of one
    that does not hold names the difference; nothing is changed, and later operations go on."""
    pci, label = f"{CELL}#/attributes/nRPCI", f"{CELL}#/attributes/userLabel"
    operations = [
        write(Op.REPLACE, pci, 1),
        write(Op.ADD, label, "first"),
        guarded(has(nRPCI=1, userLabel="first"), Op.REPLACE, pci, 2),
        guarded(has(nRPCI=1), Op.REPLACE, pci, 3),
        guarded(has(nRPCI=2.0), Op.REMOVE, label),
        guarded(has(userLabel=None), Op.REPLACE, pci, 4),
        guarded(has(userLabel="first"), Op.REPLACE, pci, 5),
        guarded(EXISTS, Op.MERGE, f"{CELL}#/attributes", {"nRPCI": 6}),
        guarded(ABSENT, Op.REPLACE, pci, 7),
        guarded(has(), Op.TEST, pci, 6),
        guarded(ABSENT, Op.ADD, POLICY, policy("1")),
        guarded(ABSENT, Op.ADD, POLICY, policy("1")),
        guarded(EXISTS, Op.REMOVE, POLICY),
        guarded(EXISTS, Op.REMOVE, POLICY),
        guarded(has(rRMPolicyMinRatio=10), Op.REMOVE, POLICY),
        guarded(EXISTS, Op.ADD, NOBODY, {"attributes": {}}),
        write(Op.TEST, pci, 6),
    ]
    done, changed = (SUCCEEDED, ""), (FAILED, CHANGED)
    expected = [
        done, done, done, changed, done, done, changed, done, changed, done,
        done, changed, done, changed, changed, changed, done,
    ]  # fmt: skip
    outcomes = await element.write(operations, BEST_EFFORT)
    assert results(outcomes) == expected
    [error] = outcomes[3].errors
    assert (error.bad_data_node, error.detail) == (pci, "it is 2, expected was 1")
    assert outcomes[11].errors[0].bad_data_node == POLICY
    assert all(outcome.before is None for outcome in outcomes)


async def test_a_guard_that_does_not_hold_stops_a_sub_job_that_stops(element: Element) -> None:
    """CHANGED_SINCE is a failure like any other."""
    pci = f"{CELL}#/attributes/nRPCI"
    for guard in (has(nRPCI=21), ABSENT):
        operations = [
            write(Op.REPLACE, pci, 20),
            guarded(guard, Op.REPLACE, pci, 22),
            write(Op.REPLACE, pci, 23),
        ]
        outcomes = await element.write(operations, STOP_ON_ERROR)
        assert results(outcomes) == [(SUCCEEDED, ""), (FAILED, CHANGED), (NOT_STARTED, "")]
        assert results(await element.write([write(Op.TEST, pci, 20)], BEST_EFFORT)) == [(SUCCEEDED, "")]


async def test_an_executed_operation_tells_what_was_before(element: Element, network: Network) -> None:
    """The attributes that it names, or all if it concerns the object; null for one without a value. A
    before-image is what was directly before, also if an earlier operation of the batch made it. A refused
    operation has none."""
    cell = dict(network.attributes(CELL[1:]) or {})
    label = {"userLabel": cell.get("userLabel")}
    operations = [
        write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 31),
        write(Op.MERGE, f"{CELL}#/attributes", {"nRPCI": 32, "userLabel": "x"}),
        write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 5000),
        write(Op.ADD, POLICY, policy("1")),
        write(Op.REMOVE, POLICY),
        write(Op.REPLACE, f"{CELL}#/attributes/pLMNInfoList/0/snssai/sst", 2),
        write(Op.ADD, CELL, {"id": "1", "attributes": cell}),
    ]
    outcomes = await element.write(operations, BEST_EFFORT, images=True)
    assert [each.state for each in outcomes] == [SUCCEEDED] * 2 + [FAILED] + [SUCCEEDED] * 4, outcomes
    assert outcomes[0].before == ObjectState({"nRPCI": cell["nRPCI"]})
    assert outcomes[1].before == ObjectState({"nRPCI": 31, **label})
    assert outcomes[2].before is None
    assert outcomes[3].before == ABSENT
    removed = outcomes[4].before
    assert removed is not None
    assert isinstance(removed.attributes, dict)
    assert policy("1")["attributes"].items() <= removed.attributes.items()
    assert outcomes[5].before == ObjectState({"pLMNInfoList": cell["pLMNInfoList"]})
    replaced = outcomes[6].before
    assert replaced is not None
    assert isinstance(replaced.attributes, dict)
    assert replaced.attributes["nRPCI"] == 32
    assert replaced.attributes.keys() >= cell.keys()


async def test_a_before_image_is_a_guard_that_holds(element: Element) -> None:
    """What one write tells can be sent with the next one of the same kind; after another write it does not
    hold any more."""
    labels = [write(Op.MERGE, f"{CELL}#/attributes", {"userLabel": text}) for text in ("a", "b", "c")]
    (first,) = await element.write(labels[:1], BEST_EFFORT)
    _, second = await element.write(labels[:2], BEST_EFFORT, images=True)
    assert first.before is None
    assert second.before is not None
    again = structs.replace(labels[2], expect=second.before)
    assert results(await element.write([labels[0], again], BEST_EFFORT)) == [(SUCCEEDED, "")] * 2
    assert results(await element.write([again], BEST_EFFORT)) == [(FAILED, CHANGED)]


# --- ProvMnS servers -----------------------------------------------------------------------------------

_expectations = st.sampled_from(
    [
        EXISTS,
        ABSENT,
        has(),
        has(userLabel="label"),
        has(userLabel="text", list=[1, 2]),
        has(gNBId=1, nested={"a": 1}),
        has(gNBId=7),
        has(gNBId=None),
        has(missing=None, gNBId=2),
    ]
)


@st.composite
def guarded_operations(draw: st.DrawFn) -> list[Operation]:
    """Writes of every kind, some of them with guards."""
    return [
        structs.replace(operation, expect=draw(_expectations)) if draw(st.booleans()) else operation
        for operation in draw(write_operations())
    ]


def one_by_one(
    tree: Tree, operations: Sequence[Operation], mode: ActivationMode
) -> list[tuple[OperationState, str, ObjectState | None]]:
    """Outcome of each operation compared and sent by itself, in order, with its before-image."""
    found: list[tuple[OperationState, str, ObjectState | None]] = []
    for operation in operations:
        if mode is STOP_ON_ERROR and any(state is FAILED for state, _, _ in found):
            found.append((NOT_STARTED, "", None))
            continue
        patch = read_patch(operation.op, operation.path, operation.value)
        if isinstance(patch, ErrorDetail):
            found.append((FAILED, "", None))
            continue
        before = tree.attributes(patch.key)
        expect = operation.expect
        if isinstance(expect, ObjectState) and guards.changed_since(expect, patch.key, before):
            found.append((FAILED, CHANGED, None))
        elif apply(patch, tree, OPEN, {}) is not None:
            found.append((FAILED, "", None))
        else:
            image = guards.image_of(patch.op, patch.pointer, patch.value, before)
            found.append((SUCCEEDED, "", image))
    return found


@settings(max_examples=examples(400), deadline=None)
@given(
    guarded_operations(),
    st.sampled_from(ActivationMode),
    st.sampled_from(Span),
    st.sampled_from(Errors),
    st.sampled_from(Hint),
    st.sampled_from([1, 3, 200]),
    st.booleans(),
)
def test_documents_compare_and_tell_as_single_operations(
    operations: list[Operation],
    mode: ActivationMode,
    span: Span,
    errors: Errors,
    hint: Hint,
    most: int,
    images: bool,
) -> None:
    """However operations are batched, and whether a refusal names the right operation or not: states,
    reasons, before-images and objects are those of single operations, each compared directly before."""
    alone, together = small_network(), small_network()
    expected = one_by_one(alone, operations, mode)
    twin = ProvMnsTwin(together, errors=errors, hint=hint)
    element = element_over(twin, span=span, document=most)
    outcomes = asyncio.run(element.write(operations, mode, images=images))
    assert [(each.state, each.reason, each.before) for each in outcomes] == [
        (state, reason, before if images else None) for state, reason, before in expected
    ]
    assert dict(together.items()) == dict(alone.items())


FUNCTION = f"/{KEYS[0]}/GNBDUFunction=1"


def replace_id(value: bytes, expect: ObjectState) -> Operation:
    return Operation(Op.REPLACE, f"{FUNCTION}#/attributes/gNBId", 1, Raw(value), expect=expect)


async def test_the_server_compares_and_writes_in_one_step() -> None:
    """Values are tests of the same document, in the server's own names; nothing is read before. What tests
    cannot express is read."""
    aliases = Aliases({"GNBDUFunction": "GnbDuFunction"}, {"GNBDUFunction": {"gNBId": "gnbId"}})
    theirs = Tree([("SubNetwork=X", {}), (KEYS[0], {}), (f"{KEYS[0]}/GnbDuFunction=1", {"gnbId": 1})])
    twin = ProvMnsTwin(theirs)
    outcomes = await element_over(twin, aliases).write([replace_id(b"2", has(gNBId=1))], BEST_EFFORT)
    assert results(outcomes) == [(SUCCEEDED, "")]
    assert (twin.reads, [each.operations for each in twin.writes]) == ([], [2])
    outcomes = await element_over(twin, aliases).write([replace_id(b"3", has(gNBId=1))], BEST_EFFORT)
    assert results(outcomes) == [(FAILED, CHANGED)]
    assert outcomes[0].errors[0].bad_data_node == f"{FUNCTION}#/attributes/gNBId"
    assert len(twin.writes) == 2
    outcomes = await element_over(twin, aliases).write([replace_id(b"3", ABSENT)], BEST_EFFORT)
    assert results(outcomes) == [(FAILED, CHANGED)]
    assert len(twin.writes) == 2, "it was not sent"
    assert theirs.attributes(f"{KEYS[0]}/GnbDuFunction=1") == {"gnbId": 2}


async def test_an_object_below_the_root_is_compared_before() -> None:
    """It is created and deleted without a document that could have tests."""
    twin = ProvMnsTwin(small_network())
    value = Raw(b'{"attributes":{"userLabel":"y"}}')
    operations = [
        Operation(Op.ADD, "/SubNetwork=Y", 1, value, expect=ABSENT),
        Operation(Op.REMOVE, "/SubNetwork=Y", 2, expect=has(userLabel="x")),
        Operation(Op.REMOVE, "/SubNetwork=Y", 3, expect=has(userLabel="y")),
    ]
    outcomes = await element_over(twin).write(operations, BEST_EFFORT)
    assert results(outcomes) == [(SUCCEEDED, ""), (FAILED, CHANGED), (SUCCEEDED, "")]
    assert [method for method, _ in twin.requests] == ["PUT", "DELETE"]


async def test_an_object_that_cannot_be_read_is_not_written() -> None:
    """Without the comparison, or without the before-image, the operation has failed; the others of its
    document are executed."""
    other = Operation(Op.REPLACE, f"/{KEYS[0]}#/attributes/userLabel", 2, Raw(b'"x"'))
    for operations, images, expected in (
        ([replace_id(b"5", EXISTS), other], False, [FAILED, SUCCEEDED]),
        ([replace_id(b"5", has(gNBId=1)), other], True, [FAILED, SUCCEEDED]),
    ):
        twin = ProvMnsTwin(small_network())
        twin.read_mishaps.append(Answered(403, b""))
        outcomes = await element_over(twin).write(operations, BEST_EFFORT, images=images)
        assert [each.state for each in outcomes] == expected
        assert outcomes[0].errors[0].reason == "ACCESS_DENIED"
        assert (twin.tree.attributes(FUNCTION[1:]) or {})["gNBId"] == 1


async def test_reads_before_writes_share_the_patience_of_their_batch() -> None:
    """A server that stays away is waited for once, and not for each object. Nothing is sent."""
    twin = ProvMnsTwin(small_network())
    twin.read_mishaps.extend([NotSent("connection refused")] * 100)
    operations = [replace_id(b"5", EXISTS)] * 20
    outcomes = await element_over(twin, patience=0.3).write(operations, BEST_EFFORT)
    assert {each.state for each in outcomes} == {FAILED}
    assert len(twin.reads) <= len(operations) + 1
    assert not twin.requests


@pytest.mark.parametrize(
    ("mishap", "expect", "state"),
    [
        (Mishap.LOST_AFTER, has(gNBId=1), UNKNOWN),
        (Mishap.LOST_AFTER, has(nested={"a": 1}), SUCCEEDED),
        (Mishap.ERROR_BEFORE, has(gNBId=1), FAILED),
        (Mishap.ERROR_BEFORE, has(gNBId=9), FAILED),
        (Mishap.BUSY, has(gNBId=1), SUCCEEDED),
    ],
)
async def test_a_lost_answer_does_not_say_that_a_guard_held(
    mishap: Mishap, expect: ObjectState, state: OperationState
) -> None:
    """If the object is in its target state and the guard does not hold for it, the write may have been
    executed, or refused because the object was so before: UNKNOWN, with the before-image. Nothing is sent
    twice."""
    twin = ProvMnsTwin(small_network())
    twin.mishaps.append(mishap)
    [outcome] = await element_over(twin).write([replace_id(b"2", expect)], BEST_EFFORT, images=True)
    assert (outcome.state, outcome.reason) == (state, CHANGED if expect == has(gNBId=9) else "")
    assert outcome.before == (None if state is FAILED else has(gNBId=1))
