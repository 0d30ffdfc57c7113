# SPDX-License-Identifier: Apache-2.0
"""Validation of a job while it is planned: what fails is not sent, what is doubtful gives a warning."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from ran_datajobs.inventory.owners import Owners
from ran_datajobs.model import OperationState, Reason
from ran_datajobs.nrm.class_model import ClassModel
from ran_datajobs.nrm.model import Attribute, ManagedClass, Model, load
from ran_datajobs.planning.model_validation import ModelsByTag
from ran_datajobs.planning.policy import Verdicts
from ran_datajobs.planning.split import Plan, split, split_and_ask, split_permitted, tags_of
from tests.unit.test_planning_split import bodies, owner, refusals, request

ONE, TWO = "ManagedElement=1", "ManagedElement=2"
OWNERS = Owners([owner(ONE, producer="p1"), structs.replace(owner(TWO, producer="p2"), module_set_tag="own")])
OWN = Model({"ManagedElement": ManagedClass(attributes={"userLabel": Attribute("integer")})}, complete=True)
MODELS = ModelsByTag(ClassModel(load()), {"own": ClassModel(OWN), "other": ClassModel(OWN)})
VALUE, NAME = "NEW_DATA_NODE_VALUE_INVALID", "NEW_DATA_NODE_NAME_INVALID"


def label(element: str, value: Any) -> dict[str, Any]:
    return {"op": "merge", "path": f"/{element}", "value": {"userLabel": value}}


def sent(plan: Plan) -> list[str]:
    return sorted(each["operationId"] for body in bodies(plan).values() for each in body)


def test_strict_fails_what_is_wrong_by_the_model_of_the_handle() -> None:
    """The model is that of the handle's tag, and the built-in one for other handles."""
    body = request(label(ONE, "x"), label(ONE, 1), label(TWO, "x"), label(TWO, 1), validation="STRICT")
    plan = split(body, OWNERS, MODELS)
    assert refusals(plan) == [(1, VALUE), (2, VALUE)]
    assert {each.state for each in plan.refused} == {OperationState.FAILED}
    assert plan.refused[0].detail == "not sent, because it fails validation: userLabel: 1 is not a string"
    assert (sent(plan), plan.warnings) == (["0", "3"], None)
    assert tags_of(body, OWNERS) == {"tag", "own"}


@pytest.mark.parametrize("mode", ["WARN", "STRICT"])
def test_warnings_are_bounded(mode: str) -> None:
    """The first 100 are listed, and all are counted; everything is sent."""
    vendors = {"op": "merge", "path": f"/{ONE}", "value": {"vendors": 1}}
    body = request(*[vendors] * 150, validation=mode)
    plan = split(body, OWNERS, MODELS)
    assert plan.warnings is not None
    assert (len(plan.warnings.items), plan.warnings.count, len(sent(plan))) == (100, 150, 150)
    first = plan.warnings.items[0]
    assert (first.operation_id, first.path, first.reason) == ("0", f"/{ONE}", NAME)


def test_warn_sends_what_is_wrong_and_lists_it() -> None:
    """WARN and STRICT find the same."""
    plan = split(request(label(ONE, 1), validation="WARN"), OWNERS, MODELS)
    assert plan.warnings is not None
    (warning,) = plan.warnings.items
    assert (warning.reason, warning.detail) == (VALUE, "userLabel: 1 is not a string")
    assert (sent(plan), plan.refused) == (["0"], [])


def test_off_finds_nothing() -> None:
    """Without the key nothing is validated."""
    assert split(request(label(ONE, 1)), OWNERS, MODELS) == split(request(label(ONE, 1)), OWNERS)


def test_a_failure_stops_a_sub_job_that_stops_on_error() -> None:
    """Later operations for the same data producer are not started, others are."""
    lines = label(ONE, 1), label(ONE, "x"), label(TWO, 1)
    plan = split(request(*lines, validation="STRICT", activationMode="STOP_ON_ERROR"), OWNERS, MODELS)
    assert refusals(plan) == [(0, VALUE), (1, Reason.NOT_STARTED)]
    assert sent(plan) == ["2"]


def test_the_policy_executor_is_not_asked_for_what_fails() -> None:
    """And what it denies has no effect on what follows."""
    removal = {"op": "remove", "path": f"/{ONE}"}
    body = request(label(ONE, 1), removal, label(ONE, "x"), validation="STRICT")
    plan, batches = split_and_ask(body, OWNERS, MODELS)
    assert refusals(plan) == [(0, VALUE), (2, "TARGET_DATA_NODE_NOT_FOUND")]
    assert [list(each.positions) for each in batches] == [[1]]
    verdicts = Verdicts()
    verdicts.allow([2])
    verdicts.deny([1], "no")
    plan = split_permitted(body, OWNERS, verdicts, MODELS, whole_job=False)
    assert refusals(plan) == [(0, VALUE), (1, Reason.POLICY_DENIED)]


def test_reads_are_validated_by_the_model_of_their_base() -> None:
    """A base that cannot exist fails; an unknown attribute of the base alone gives a warning."""
    lines: list[dict[str, Any]] = [
        {"op": "read", "path": f"/{ONE}/NRCellDU=1"},
        {"op": "read", "path": f"/{ONE}", "attributes": ["userLabel", "x"]},
        {"op": "read", "path": f"/{ONE}", "attributes": "nRPCI", "scope": {"scopeType": "BASE_ALL"}},
        {"op": "read", "dataNodeSelector": '/ManagedElement[id="1"]/NRCellDU[id="1"]'},
    ]
    plan = split(request(*lines, validation="STRICT"), OWNERS, MODELS)
    assert refusals(plan)[0] == (0, "TARGET_DATA_NODE_NOT_FOUND")
    assert plan.warnings is not None
    assert [each.operation_id for each in plan.warnings.items] == ["1"]
