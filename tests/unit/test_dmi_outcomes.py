# SPDX-License-Identifier: Apache-2.0
"""Failures without an explanation still name their data node."""

from __future__ import annotations

import pytest
from msgspec import UNSET, Raw, structs

from ran_datajobs.dmi.element import Outcome
from ran_datajobs.dmi.outcomes import broken_element, response_of, room_for_image, uncertain
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.model import ActivationMode, ObjectState, Op, Operation, OperationState
from ran_datajobs.nrm.faults import REASONS
from ran_datajobs.nrm.model import load
from ran_datajobs.nrm.tree import Tree
from ran_datajobs.plugins.port import IMAGE_BYTES, MAX_IMAGE
from ran_datajobs.simulator.faults import EVERYWHERE, Fault, FaultScripts, Script, Step

ELEMENT = "SubNetwork=X/ManagedElement=1"


@pytest.mark.parametrize(
    ("op", "path", "node"),
    [
        (Op.REPLACE, "SubNetwork=X,ManagedElement=1#userLabel", f"/{ELEMENT}#/attributes/userLabel"),
        (Op.REMOVE, ELEMENT, f"/{ELEMENT}"),
        (Op.ACTION, f"/{ELEMENT}#Restart", f"/{ELEMENT}#Restart"),
        (Op.READ, f"/{ELEMENT}", f"/{ELEMENT}"),
        (Op.REMOVE, "no name", "no name"),
    ],
)
def test_what_a_broken_element_leaves_open_names_its_node(op: Op, path: str, node: str) -> None:
    """An operation that was being executed when the plugin was killed also names its data node."""
    operation = Operation(op, path, 1)
    assert broken_element(operation).bad_data_node == node
    [error] = uncertain(operation).errors
    assert error.bad_data_node == node


def test_before_images_fit_into_a_result() -> None:
    """One of 4 KiB fits whatever the number of operations, a larger one if all of its size fit."""
    operation = Operation(Op.REMOVE, f"/{ELEMENT}", 1)
    for operations, size, fits in (
        (1, MAX_IMAGE, True), (1, MAX_IMAGE + 1, False), (10**6, IMAGE_BYTES, True),
        (10**6, IMAGE_BYTES + 1, False), (1_000, 30_000, True), (1_000, 40_000, False),
    ):  # fmt: skip
        image = ObjectState({"a": "x" * (size - len('{"attributes":{"a":""}}'))})
        for state in (OperationState.SUCCEEDED, OperationState.UNKNOWN):
            response = response_of(operation, Outcome(state, before=image), room_for_image(operations))
            assert (response.before is not UNSET) is fits, (operations, size)


def scripted(step: Step) -> FaultScripts:
    return FaultScripts((Script(EVERYWHERE, (step,), repeat=True),))


async def test_a_dropped_connection_names_its_node() -> None:
    """Of a read and of a write, which has its before-image. Whether a guard held is not known."""
    tree = Tree([("SubNetwork=X", {}), (ELEMENT, {})])
    scripts = scripted(Step(Fault.DROP))
    element = simulated_elements(tree, load(), {}, {"ems": [ELEMENT]}, scripts)["ems"]
    operation = Operation(Op.REPLACE, f"/{ELEMENT}#/attributes/userLabel", 1, Raw(b'"x"'))
    [outcome] = await element.write([operation], ActivationMode.BEST_EFFORT, images=True)
    assert outcome.state is OperationState.UNKNOWN
    assert outcome.errors[0].bad_data_node == f"/{ELEMENT}#/attributes/userLabel"
    assert outcome.before == ObjectState({"userLabel": None})
    guarded = structs.replace(operation, expect=ObjectState(absent=True))
    [outcome] = await element.write([guarded], ActivationMode.BEST_EFFORT)
    assert (outcome.state, outcome.reason) == (OperationState.UNKNOWN, "")
    [chunk] = [each async for each in element.read(Operation(Op.READ, f"/{ELEMENT}", 1))]
    assert chunk.errors[0].bad_data_node == f"/{ELEMENT}"


async def test_a_scripted_refusal_has_a_reason_of_the_standard() -> None:
    """The free text of a script becomes the detail."""
    tree = Tree([("SubNetwork=X", {}), (ELEMENT, {})])
    scripts = scripted(Step(Fault.REFUSE, reason="out of coffee"))
    element = simulated_elements(tree, load(), {}, {"ems": [ELEMENT]}, scripts)["ems"]
    [chunk] = [each async for each in element.read(Operation(Op.READ, f"/{ELEMENT}", 1))]
    [error] = chunk.errors
    assert error.reason in REASONS
    assert (error.reason, error.detail) == ("OTHER", "out of coffee")
