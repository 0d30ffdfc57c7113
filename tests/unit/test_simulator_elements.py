# SPDX-License-Identifier: Apache-2.0
"""The elements in operation: conditions of writes, and the state that a restart loses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ran_datajobs.model import Op
from ran_datajobs.nrm.fdn import ancestors
from ran_datajobs.nrm.patch import Patch
from ran_datajobs.nrm.tree import walk
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.elements import UNSAVED, Done, Dropped, Elements
from ran_datajobs.simulator.faults import Fault, FaultScripts, Script, Step
from ran_datajobs.simulator.network import Network

ELEMENT = layout.element_key(1)


class Changed(Exception):
    """The condition does not hold any more."""


async def test_a_condition_is_looked_at_after_the_element_took_its_time() -> None:
    """A change by another client while the element stalls is seen. Then nothing is done."""
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


# --- restarts ----------------------------------------------------------------------------------------

OTHER = layout.element_key(2)
RELATION = "GNBCUCPFunction=1/EUtraNetwork=9"
PLACES = [
    "",
    "GNBCUCPFunction=1",
    RELATION,
    f"{RELATION}/EUtranFrequency=1",
    "GNBCUCPFunction=1/EUtranFrequency=9",
]
ABOVE = "SubNetwork=New"
NEW_ELEMENT = f"{ABOVE}/ManagedElement=1"


def state_of(network: Network, element: str) -> dict[str, Any]:
    return {key: network.attributes(key) for key, _ in walk(network, element)}


def running(network: Network) -> tuple[Elements, FaultScripts]:
    scripts = FaultScripts()
    return Elements(network, network.model, network.actions, scripts), scripts


async def restart(elements: Elements, scripts: FaultScripts, element: str) -> None:
    scripts.load([Script("/" + element, (Step(Fault.RESTART),))])
    assert await elements.read(element) == Dropped()


@pytest.mark.parametrize("second", ["remove", "add"])
async def test_a_restart_after_a_document_of_several_elements(second: str) -> None:
    """An element loses its own part of such a document, the other element keeps its own, and no object is
    left without its parent."""
    network = Network(20)
    elements, scripts = running(network)
    place, below = f"{ELEMENT}/{RELATION}", f"{ELEMENT}/{RELATION}/EUtranFrequency=1"
    rename = Patch(Op.MERGE, OTHER, (), value={"userLabel": "renamed"})
    change = Patch(Op.REMOVE, place) if second == "remove" else Patch(Op.ADD, below, value={"attributes": {}})
    before = state_of(network, ELEMENT)
    assert await elements.write([Patch(Op.ADD, place, value={"attributes": {}})]) == Done()
    assert await elements.write([change, rename]) == Done()
    await restart(elements, scripts, ELEMENT)
    assert state_of(network, ELEMENT) == before
    assert network.attributes(below) is None
    assert (network.attributes(OTHER) or {})["userLabel"] == "renamed"


ODD_JOBS = st.tuples(st.sampled_from([ELEMENT, OTHER]), st.sampled_from(PLACES), st.booleans())
DOCUMENTS = st.lists(ODD_JOBS, min_size=1, max_size=5)
TURNS = st.lists(DOCUMENTS | st.sampled_from([ELEMENT, OTHER]), min_size=2, max_size=14)


def document(network: Network, jobs: list[tuple[str, str, bool]], labels: Iterator[int]) -> list[Patch]:
    """A document that the network accepts: missing values are added, existing ones are changed or removed."""
    there = {key for element in (ELEMENT, OTHER) for key in state_of(network, element)}
    patches = []
    for element, place, remove in jobs:
        key = f"{element}/{place}".rstrip("/")
        label = {"userLabel": f"label {next(labels)}"}
        if key not in there:
            way = [each for each in ancestors(key) if each not in there and each.startswith(element)]
            there.update(way)
            patches += [Patch(Op.ADD, each, value=label) for each in reversed(way)]
        elif remove and not any(each.startswith(f"{key}/") for each in there):
            there.discard(key)
            patches.append(Patch(Op.REMOVE, key))
        else:
            patches.append(Patch(Op.MERGE, key, (), value=label))
    return patches


@settings(deadline=None)
@given(TURNS)
def test_a_restart_goes_back_by_the_latest_documents_of_the_element(turns: list[Any]) -> None:
    """Whatever documents changed several elements at once: a restart returns an element to its state before
    the latest UNSAVED documents that changed it, and changes nothing elsewhere."""
    network = Network(2)
    elements, scripts = running(network)
    saved = {element: [state_of(network, element)] for element in (ELEMENT, OTHER)}
    labels = itertools.count()

    async def run() -> None:
        for turn in turns:
            if isinstance(turn, str):
                await restart(elements, scripts, turn)
                saved[turn] = [saved[turn][max(0, len(saved[turn]) - 1 - UNSAVED)]]
            else:
                assert await elements.write(document(network, turn, labels)) == Done()
                for element, states in saved.items():
                    if (now := state_of(network, element)) != states[-1]:
                        states.append(now)
            for element, states in saved.items():
                assert state_of(network, element) == states[-1]

    asyncio.run(run())


async def test_a_restart_above_the_elements_leaves_no_orphan() -> None:
    """An object that was created above an element stays while the element exists, and an element does not
    come back below a removed one."""
    network = Network(20)
    elements, scripts = running(network)
    add = [Patch(Op.ADD, key, value={"attributes": {}}) for key in (ABOVE, NEW_ELEMENT)]
    assert await elements.write(add[:1]) == Done()
    assert await elements.write(add[1:]) == Done()
    scripts.load([Script("*", (Step(Fault.RESTART),))])
    assert await elements.read(ABOVE) == Dropped()
    assert [network.attributes(key) is None for key in (ABOVE, NEW_ELEMENT)] == [False, False]
    scripts.clear()
    assert await elements.write([Patch(Op.REMOVE, NEW_ELEMENT)]) == Done()
    assert await elements.write([Patch(Op.REMOVE, ABOVE)]) == Done()
    await restart(elements, scripts, NEW_ELEMENT)
    assert [network.attributes(key) is None for key in (ABOVE, NEW_ELEMENT)] == [True, True]
