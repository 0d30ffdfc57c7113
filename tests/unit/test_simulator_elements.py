# SPDX-License-Identifier: Apache-2.0
"""A condition of a write is looked at when nothing can come between it and the change."""

from __future__ import annotations

import pytest

from ran_datajobs.job import Op
from ran_datajobs.nrm.patch import Patch
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.elements import Done, Elements
from ran_datajobs.simulator.faults import Fault, FaultScripts, Script, Step
from ran_datajobs.simulator.network import Network

ELEMENT = layout.element_key(1)


class Changed(Exception):
    """The condition does not hold any more."""


async def test_a_condition_is_looked_at_after_the_element_took_its_time() -> None:
    """What another client changes while the element stalls is seen; then nothing is done."""
    network = Network(20)
    scripts = FaultScripts([Script("/" + ELEMENT, (Step(Fault.STALL), Step(Fault.APPLY)))])

    async def meanwhile(_: float) -> None:
        network.put(ELEMENT, {**(network.attributes(ELEMENT) or {}), "userLabel": "theirs"})

    elements = Elements(network, network.model, network.actions, scripts, meanwhile)

    def only_if_untouched() -> None:
        if (network.attributes(ELEMENT) or {}).get("userLabel") == "theirs":
            raise Changed

    ours = Patch(Op.REPLACE, ELEMENT, ("userLabel",), value="ours")
    with pytest.raises(Changed):
        await elements.write([ours], first=only_if_untouched)
    assert (network.attributes(ELEMENT) or {})["userLabel"] == "theirs"
    assert await elements.write([ours]) == Done()
    assert (network.attributes(ELEMENT) or {})["userLabel"] == "ours"
