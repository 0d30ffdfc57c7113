# SPDX-License-Identifier: Apache-2.0
"""Actions of the objects of the simulated network, by class and name (pure).

Locking and shutting down follow the administrative state of ITU-T X.731, which TS 28.541 refers to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ran_datajobs.nrm.patch import Action, ActionFailed, Actions
from ran_datajobs.nrm.tree import Attributes


def _to_administrative_state(state: str, cell_state: str) -> Action:
    def act(attributes: Attributes, given: Any) -> Attributes | ActionFailed:
        if wrong := _unexpected(given):
            return wrong
        active = cell_state if attributes.get("operationalState") == "ENABLED" else "IDLE"
        return {**attributes, "administrativeState": state, "cellState": active}

    return act


def _restart(attributes: Attributes, given: Any) -> Attributes | ActionFailed:
    """Keep all attributes and set ``userDefinedState`` to RESTARTED."""
    if wrong := _unexpected(given):
        return wrong
    return {**attributes, "userDefinedState": "RESTARTED"}


def _unexpected(given: Any) -> str | None:
    if given is None or given == {}:
        return None
    if not isinstance(given, Mapping):
        return "the input is an object"
    if given.keys() - {"reason"}:
        return f"the input {min(given.keys() - {'reason'})!r} is unknown: only a reason is taken"
    return None if isinstance(given["reason"], str) else "the reason is a string"


ACTIONS: Final[Actions] = {
    ("NRCellDU", "lock"): _to_administrative_state("LOCKED", "IDLE"),
    ("NRCellDU", "unlock"): _to_administrative_state("UNLOCKED", "ACTIVE"),
    ("NRCellDU", "shutDown"): _to_administrative_state("SHUTTINGDOWN", "INACTIVE"),
    ("ManagedElement", "restart"): _restart,
}
"""Each takes ``{"input": {}}``, optionally with a ``reason``."""
