# SPDX-License-Identifier: Apache-2.0
"""Permission: what is asked for each operation, in which requests, and what follows for the plan."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.inventory.owners import Owners
from ran_datajobs.model import OperationState, Reason
from ran_datajobs.planning import policy
from ran_datajobs.planning.policy import NOT_ASKED, Batch, Part, Verdicts, decoded, inquiry
from ran_datajobs.planning.split import Plan, split, split_and_ask, split_permitted
from ran_datajobs.plugins.policy import Allowed, Decision, Denied, Refused, Unreachable
from tests.unit.test_planning_split import ONAP, bodies, owner, read, refusals, request, write

NETWORK = Owners([owner("SN=1/ME=1", producer="p1"), owner("SN=1/ME=2", producer="p2")])


def asked_for(*operations: dict[str, Any], owners: Owners = NETWORK) -> list[dict[str, Any]]:
    """What is asked for the operations of a job."""
    _, batches = split_and_ask(request(*operations), owners)
    bodies = [json.loads(Part(each, 0, len(each.positions)).body()) for each in batches]
    assert all(body["changeRequestFormat"] == "cm-legacy" for body in bodies)
    return [each for body in bodies for each in body["operations"]]


# --- what is asked -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "word", "attributes"),
    [
        ({"op": "add", "value": {"id": "7", "attributes": {"a": 1.50}}}, "create", {"a": 1.5}),
        ({"op": "add", "value": {"a": 1}}, "create", {"a": 1}),
        ({"op": "add", "value": {"attributes": {}, "a": 1}}, "create", {"attributes": {}, "a": 1}),
        ({"op": "merge", "value": {"attributes": {"a": None}}}, "patch", {"a": None}),
        ({"op": "merge", "path": "#/attributes", "value": {"a": 1}}, "patch", {"a": 1}),
        ({"op": "replace", "path": "#/attributes/a/b~1c", "value": [1]}, "update", {"a": {"b/c": [1]}}),
        ({"op": "add", "path": "#/attributes/a/-", "value": 1}, "update", {"a": {"-": 1}}),
        ({"op": "remove", "path": "#/attributes/a"}, "patch", {"a": None}),
        ({"op": "action", "path": "#Restart", "value": {"input": {}}}, "update", {"Restart": {"input": {}}}),
    ],
)
def test_a_change_is_asked_for_as_of_a_child(operation: dict[str, Any], word: str, attributes: Any) -> None:
    """The parent is the resource; the class, the id and the attributes are in the change request."""
    path = "/SN=1/ME=1/DU=2/Cell=7" + operation.get("path", "")
    (asked,) = asked_for(operation | {"path": path})
    assert asked == {
        "operation": word,
        "entityHandleId": "SN-1_ME-1",
        "resourceIdentifier": "/DU=2",
        "targetIdentifier": "/SN=1/ME=1",
        "changeRequest": {"Cell": [{"id": "7", "attributes": attributes}]},
    }


def test_a_delete_names_the_object() -> None:
    """It has no change request."""
    (asked,) = asked_for({"op": "remove", "path": "SN=1, ME=1, DU=2"})
    assert asked["operation"] == "delete"
    assert (asked["targetIdentifier"], asked["resourceIdentifier"]) == ("/SN=1/ME=1", "/DU=2")
    assert "changeRequest" not in asked


def test_every_spelling_of_an_object_is_asked_for_alike() -> None:
    """FDNs are in one normal form, and an id is as it is. The object of the CM handle has no resource."""
    one, other, own = asked_for(
        write("/SN=1/ME=1/DU=a%2Fb%2Cc"), write(r"SN=1,ME=1,DU=a/b\2Cc"), write("/SN=1/ME=1")
    )
    assert one == other
    assert one["changeRequest"]["DU"][0]["id"] == "a/b,c"
    assert own["resourceIdentifier"] == ""
    assert own["changeRequest"]["ME"][0]["id"] == "1"


def test_only_what_would_be_sent_and_would_change_something_is_asked_for() -> None:
    """No read, no test, and no operation without an owner, a data producer or a plugin for it."""
    owners = Owners([owner("ME=1"), owner("ME=2", producer=""), owner("ME=3", ONAP)])
    tested = {"op": "test", "path": "/ME=1#/attributes/a", "value": 1}
    assert asked_for(tested, write("/ME=2"), write("/ME=4"), owners=owners) == []
    assert asked_for(read("/ME=1"), owners=owners) == []
    _, batches = split_and_ask(request(write("/ME=3"), activationMode="STOP_ON_ERROR"), owners)
    assert batches == []


_PATHS = [
    "A=1/B=2",
    "/A=1",
    "A=1,B=\\2C",
    "/A=1/B=%2F%25#x",
    "/A=1#/attributes",
    "/A=1/B=ü#/attributes/a~0/-",
]
_VALUES = [
    "{}",
    '{"attributes":{}}',
    '{"attributes":null,"id":1}',
    '{"attributes":7}',
    '{"input":[]}',
    "7",
    "null",
    "",
]


@given(
    st.sampled_from(["add", "merge", "replace", "remove", "action"]),
    st.sampled_from([*_PATHS, "/A=1/B=2#Act"]),
    st.sampled_from(_VALUES),
)
def test_whatever_is_accepted_is_asked_for(op: str, path: str, value: str) -> None:
    """No accepted operation is sent without a question, which has the members that it must have."""
    operation = {"op": op, "path": path} | ({"value": json.loads(value)} if value else {})
    owners = Owners([owner("A=1")])
    try:
        (asked,) = asked_for(operation, owners=owners)
    except InvalidRequest:
        return
    assert asked["operation"] in {"create", "update", "patch", "delete"}
    assert asked["targetIdentifier"] == "/A=1"
    ((name, (changed,)),) = asked.get("changeRequest", {"B": [{"id": "", "attributes": None}]}).items()
    assert (name in {"A", "B"}, set(changed)) == (True, {"id", "attributes"})


def test_a_request_has_at_most_a_thousand_operations_and_a_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that is larger than the bound alone has a request of its own."""
    body = request(*(write("/SN=1/ME=1", operationId=n) for n in range(2500)))
    plan, batches = split_and_ask(body, NETWORK)
    assert [len(each.positions) for each in batches] == [1000, 1000, 500]
    assert plan == split(body, NETWORK)
    monkeypatch.setattr(policy, "MAX_BYTES", 1000)
    large = write("/SN=1/ME=1", value={"a": "x" * 1000})
    _, batches = split_and_ask(request(*[write("/SN=1/ME=1")] * 9, large, write("/SN=1/ME=1")), NETWORK)
    assert [len(each.positions) for each in batches][-2:] == [1, 1]
    assert all(each.ends[-1] <= 1001 or len(each.positions) == 1 for each in batches)
    assert sum(len(each.positions) for each in batches) == 11


# --- requests and verdicts ---------------------------------------------------------------------------


def run(
    batches: Sequence[Batch], decide: Callable[[Part], Decision], *, allow: bool = False
) -> tuple[Verdicts, list[Part]]:
    """The verdicts, and the requests in order; ``decide`` answers them."""
    asking, requests = inquiry(batches, allow_unreachable=allow), list[Part]()
    try:
        parts = next(asking)
        while True:
            requests += parts  # type: ignore[arg-type]
            parts = asking.send([decide(part) for part in parts])  # type: ignore[arg-type]
    except StopIteration as end:
        return end.value, requests


def batches_of(*sizes: int) -> list[Batch]:
    """Batches of operations at consecutive positions, each of which writes its position."""
    found, start = list[Batch](), 0
    for size in sizes:
        positions = range(start, start + size)
        operations = [write("/SN=1/ME=1", value={"n": position}) for position in positions]
        _, (batch,) = split_and_ask(request(*operations), NETWORK)
        found.append(replace(batch, positions=array("I", positions)))
        start += size
    return found


def written(part: Part) -> list[int]:
    """What the operations in the body of a request write."""
    operations = json.loads(part.body())["operations"]
    return [each["changeRequest"]["ME"][0]["attributes"]["n"] for each in operations]


SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(data=st.data(), sizes=SIZES, extra=st.integers(0, 60), allow=st.booleans())
def test_each_operation_has_one_verdict(
    data: st.DataObject, sizes: list[int], extra: int, allow: bool
) -> None:
    """An operation is allowed if a request with it is answered with allow, or if none of its requests has an
    answer and that allows. There are no more requests than the batches and the further ones, the larger ones
    before the smaller ones."""
    total = sum(sizes)
    bad = data.draw(st.sets(st.integers(0, total - 1), max_size=total))
    fails_at = data.draw(st.none() | st.integers(0, 30))
    failure = data.draw(st.sampled_from([Refused("HTTP 401"), Unreachable("connection refused")]))
    allowed, denied, number = set[int](), set[int](), 0

    def decide(part: Part) -> Decision:
        nonlocal number
        number += 1
        assert written(part) == list(part.positions)
        if fails_at is not None and number > fails_at:
            return failure
        if bad & set(part.positions):
            denied.update(part.positions)
            return Denied("no")
        allowed.update(part.positions)
        return Allowed()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "EXTRA_REQUESTS", extra)
        verdicts, requests = run(batches_of(*sizes), decide, allow=allow)
    permitted = {n for n in range(total) if verdicts.denial_of(n) is None}
    unasked = set(range(total)) - allowed - denied
    lets_pass = allow and isinstance(failure, Unreachable)
    assert permitted == allowed | (unasked if lets_pass else set())
    assert set(verdicts.denied) == set(range(total)) - permitted
    assert NOT_ASKED not in verdicts.denied.values()
    assert len(requests) <= len(sizes) + extra
    assert [part.denied is not None for part in requests] == [False] * len(sizes) + [True] * (
        len(requests) - len(sizes)
    )
    if fails_at is None and extra >= 2 * total:
        assert set(verdicts.denied) == bad
    kept = decoded(verdicts.encoded())
    assert [kept.denial_of(n) for n in range(total + 1)] == [verdicts.denial_of(n) for n in range(total + 1)]


def test_the_details_say_why() -> None:
    """A single denied operation has its message; the others say for which requests the answer was."""

    def denies(part: Part) -> Decision:
        return Denied(f"message for {len(part)}") if 0 in part.positions else Allowed()

    verdicts, requests = run(batches_of(5), denies)
    assert verdicts.denied == {0: "the policy executor denies it: message for 1"}
    assert [len(part) for part in requests] == [5, 3, 2, 2, 1, 1, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "EXTRA_REQUESTS", 3)
        verdicts, _ = run(batches_of(5), denies)
    many = "the policy executor denies a request for 3 operations with this one: message for 3"
    used_up = "the 3 requests for parts of a job's denied requests are used up"
    assert verdicts.denied == dict.fromkeys(range(3), f"{many}; {used_up}")


def test_an_answer_that_stays_away_ends_the_requests() -> None:
    """What was denied in a larger request stays denied, even where unreachable means allowed."""

    def decide(part: Part) -> Decision:
        return Denied("no") if len(part) == 4 else Unreachable("HTTP 503")

    verdicts, requests = run(batches_of(4, 2), decide, allow=True)
    assert len(requests) == 2
    assert verdicts.unreachable == "HTTP 503"
    many = "the policy executor denies a request for 4 operations with this one: no"
    assert verdicts.denied == dict.fromkeys(range(4), f"{many}; it could not be asked for fewer: HTTP 503")
    verdicts, _ = run(batches_of(2), decide)
    assert set(verdicts.denied.values()) == {"the policy executor could not be asked: HTTP 503"}
    verdicts, _ = run(batches_of(2), lambda _: Refused("HTTP 404"), allow=True)
    assert set(verdicts.denied.values()) == {"the policy executor could not be asked: HTTP 404"}


def test_nothing_to_ask_needs_no_request() -> None:
    """The verdicts are empty: an operation that has an owner later is denied."""
    verdicts, requests = run([], lambda _: Allowed())
    assert requests == []
    assert decoded(verdicts.encoded()).denial_of(0) == NOT_ASKED


# --- the plan ----------------------------------------------------------------------------------------


def denying(*denied: int, of: int = 10) -> Verdicts:
    """Verdicts that deny these positions."""
    verdicts = Verdicts()
    verdicts.allow(set(range(of)) - set(denied))
    verdicts.deny(denied, "no")
    return verdicts


def sent(plan: Plan) -> list[str]:
    """The ids of the operations in sub-jobs."""
    return sorted(each["operationId"] for body in bodies(plan).values() for each in body)


PATHS = ("/SN=1/ME=1", "/SN=1/ME=2", "/SN=9", "/SN=1/ME=2/DU=1", "/SN=1/ME=1/DU=1")


def test_a_denied_operation_fails_and_the_others_are_sent() -> None:
    """A data producer all of whose operations are denied has no sub-job."""
    body = request(*map(write, PATHS))
    plan = split_permitted(body, NETWORK, denying(0, 4), whole_job=False)
    assert refusals(plan) == [(0, Reason.POLICY_DENIED), (2, Reason.UNMATCHED), (4, Reason.POLICY_DENIED)]
    assert {each.state for each in plan.refused} == {OperationState.FAILED}
    assert sent(plan) == ["1", "3"]
    assert [each.data_producer_id for each in plan.sub_jobs] == ["p2"]
    assert plan.unmatched == 1


def test_a_denied_operation_fails_the_whole_job() -> None:
    """Each operation has a reason: the others were not started, and what nobody owns stays unmatched."""
    body = request(*map(write, PATHS))
    plan = split_permitted(body, NETWORK, denying(3), whole_job=True)
    assert plan.sub_jobs == []
    assert [each.reason for each in plan.refused] == [
        Reason.NOT_STARTED,
        Reason.NOT_STARTED,
        Reason.UNMATCHED,
        Reason.POLICY_DENIED,
        Reason.NOT_STARTED,
    ]
    assert plan.refused[0].state is OperationState.NOT_STARTED
    assert "denies 1 of the job's operations" in plan.refused[0].detail
    assert split_permitted(body, NETWORK, denying(2), whole_job=True) == split(body, NETWORK)


def test_an_operation_that_was_not_asked_for_is_not_sent() -> None:
    """Its object had no owner when the policy executor was asked. A test needs no permission."""
    tested = {"op": "test", "path": "/SN=1/ME=1#/attributes/a", "value": 1}
    plan = split_permitted(request(tested, write("/SN=1/ME=1")), NETWORK, Verdicts(), whole_job=False)
    assert sent(plan) == ["0"]
    assert [each.detail for each in plan.refused] == [NOT_ASKED]


def test_a_denied_operation_is_an_error_at_which_a_sub_job_stops() -> None:
    """With STOP_ON_ERROR later operations for the same data producer are not started, others are."""
    body = request(*map(write, PATHS), activationMode="STOP_ON_ERROR")
    plan = split_permitted(body, NETWORK, denying(0), whole_job=False)
    assert refusals(plan) == [(0, Reason.POLICY_DENIED), (2, Reason.UNMATCHED), (4, Reason.NOT_STARTED)]
    assert sent(plan) == ["1", "3"]
