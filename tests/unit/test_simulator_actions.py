# SPDX-License-Identifier: Apache-2.0
"""The actions of the simulated network."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from ran_datajobs.model import ErrorDetail, Op
from ran_datajobs.nrm.patch import Patch, apply, read_patch
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network

ELEMENT = layout.element_key(1)
CELL = f"{ELEMENT}/GNBDUFunction=1/NRCellDU=3"


def call(network: Network, path: str, given: Any) -> ErrorDetail | None:
    patch = read_patch(Op.ACTION, path, Raw(msgspec.json.encode({"input": given})))
    assert isinstance(patch, Patch)
    return apply(patch, network, network.model, network.actions)


@pytest.mark.parametrize(
    ("name", "state", "cell_state"),
    [("lock", "LOCKED", "IDLE"), ("unlock", "UNLOCKED", "ACTIVE"), ("shutDown", "SHUTTINGDOWN", "INACTIVE")],
)
def test_a_cell_changes_its_administrative_state(name: str, state: str, cell_state: str) -> None:
    """An enabled cell takes the state of the action, and its cell state follows. Nothing else changes."""
    network = Network(1)
    before = network.attributes(CELL)
    assert before is not None
    network.put(CELL, {**before, "operationalState": "ENABLED"})
    assert call(network, f"/{CELL}#{name}", {"reason": "test"}) is None
    assert network.attributes(CELL) == {
        **before,
        "operationalState": "ENABLED",
        "administrativeState": state,
        "cellState": cell_state,
    }


def test_a_disabled_cell_stays_idle() -> None:
    """Unlocking does not activate a cell that is out of service."""
    network = Network(1)
    before = network.attributes(CELL)
    assert before is not None
    network.put(CELL, {**before, "operationalState": "DISABLED"})
    assert call(network, f"/{CELL}#unlock", {}) is None
    after = network.attributes(CELL)
    assert after is not None
    assert (after["administrativeState"], after["cellState"]) == ("UNLOCKED", "IDLE")


def test_a_restarted_element_says_so() -> None:
    """``restart`` leaves a record that the operator can read."""
    network = Network(1)
    assert call(network, f"/{ELEMENT}#restart", None) is None
    after = network.attributes(ELEMENT)
    assert after is not None
    assert after["userDefinedState"] == "RESTARTED"


@pytest.mark.parametrize("given", ["now", 3, [], {"when": "now"}, {"reason": 7}])
@pytest.mark.parametrize("path", [f"/{CELL}#lock", f"/{ELEMENT}#restart"])
def test_a_wrong_input_changes_nothing(path: str, given: Any) -> None:
    """An action refuses unknown inputs, and names them."""
    network = Network(1)
    error = call(network, path, given)
    assert error is not None
    assert error.detail
    assert network.changes == 0


def test_an_unknown_action_is_refused() -> None:
    """A class without the action refuses it, also if another class has it."""
    network = Network(1)
    for path in (f"/{CELL}#selfDestruct", f"/{ELEMENT}#lock"):
        error = call(network, path, {})
        assert error is not None
        assert error.bad_data_node == path
    assert network.changes == 0
