# SPDX-License-Identifier: Apache-2.0
"""Fault scripts, and their effect on an element's requests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.model import Op
from ran_datajobs.nrm.patch import Patch, Rejected
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.elements import UNSAVED, Done, Dropped, Elements
from ran_datajobs.simulator.faults import GOOD, MAX_SCRIPTS, Fault, FaultScripts, Script, Step, read_scripts
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.producers import ProducerView, element_of

FIRST, SECOND = layout.element_key(1), layout.element_key(2)
CELL = f"{FIRST}/GNBDUFunction=1/NRCellDU=1"


def label(text: str, element: str = FIRST) -> Patch:
    return Patch(Op.MERGE, element, (), value={"userLabel": text})


class Bench:
    """A small network in operation, with a clock that the test sets."""

    def __init__(self, *scripts: Script) -> None:
        self.network = Network(25)
        self.slept: list[float] = []
        self.scripts = FaultScripts(scripts)
        self.elements = Elements(
            self.network, self.network.model, self.network.actions, self.scripts, self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def label(self, element: str = FIRST) -> Any:
        attributes = self.network.attributes(element)
        assert attributes is not None
        return attributes["userLabel"]


def script(*steps: Step, element: str = "/" + FIRST, repeat: bool = False) -> Script:
    return Script(element, steps, repeat)


def test_steps_are_taken_one_per_request() -> None:
    """Each request takes one step, a step counts for `times` of them, and after the last step every request
    succeeds."""
    scripts = FaultScripts([script(Step(Fault.LIE, times=2), Step(Fault.APPLY), Step(Fault.DROP))])
    taken = [scripts.next_step(FIRST).fault for _ in range(6)]
    assert taken == [Fault.LIE, Fault.LIE, Fault.APPLY, Fault.DROP, Fault.APPLY, Fault.APPLY]
    assert scripts.next_step(SECOND) is GOOD


def test_a_script_can_begin_again() -> None:
    """With repeat, the first step follows the last."""
    scripts = FaultScripts([script(Step(Fault.LIE), Step(Fault.APPLY), repeat=True)])
    assert [scripts.next_step(FIRST).fault for _ in range(5)] == [
        Fault.LIE, Fault.APPLY, Fault.LIE, Fault.APPLY, Fault.LIE,
    ]  # fmt: skip


def test_flapping_drops_every_other_request() -> None:
    """The first, the third and so on of a flap step are dropped without being applied."""
    scripts = FaultScripts([script(Step(Fault.FLAP, times=4))])
    steps = [scripts.next_step(FIRST) for _ in range(5)]
    assert [step.fault for step in steps] == [Fault.DROP, Fault.APPLY, Fault.DROP, Fault.APPLY, Fault.APPLY]
    assert not steps[0].applied


def test_a_script_for_all_stands_behind_an_elements_own() -> None:
    """`*` applies to each element that has no script of its own. Clearing removes all."""
    everywhere = script(Step(Fault.LIE), element="*")
    scripts = FaultScripts([everywhere, script(Step(Fault.DROP))])
    assert [scripts.next_step(key).fault for key in (FIRST, SECOND, SECOND)] == [
        Fault.DROP, Fault.LIE, Fault.APPLY,
    ]  # fmt: skip
    assert scripts.loaded() == (everywhere, script(Step(Fault.DROP)))
    scripts.clear()
    assert scripts.loaded() == ()
    assert scripts.next_step(FIRST) is GOOD


def test_a_script_without_steps_ends_what_was_there() -> None:
    """Loading replaces an element's script; an empty one removes it."""
    scripts = FaultScripts([script(Step(Fault.LIE))])
    scripts.load([script()])
    assert scripts.next_step(FIRST) is GOOD


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b'{"scripts":[{"element":"*"}]}',
        b'{"scripts":[{"element":"*","steps":[{"fault":"x"}]}]}',
        b'{"scripts":[{"element":"*","steps":[{"fault":"stall","seconds":1e9}]}]}',
        b'{"scripts":[{"element":"*","steps":[{"fault":"lie","times":0}]}]}',
        b'{"scripts":[{"element":"*","steps":[],"typo":1}]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused(body: bytes) -> None:
    """Types, names and limits are checked when scripts are read."""
    with pytest.raises(InvalidRequest):
        read_scripts(body)


def test_a_name_that_is_no_fdn_changes_nothing() -> None:
    """One wrong element refuses the whole load."""
    scripts = FaultScripts()
    with pytest.raises(InvalidRequest):
        scripts.load([script(Step(Fault.LIE)), script(Step(Fault.LIE), element="nobody")])
    assert scripts.next_step(FIRST) is GOOD
    with pytest.raises(InvalidRequest):
        scripts.load([script(Step(Fault.LIE), element=f"ManagedElement={n}") for n in range(MAX_SCRIPTS + 1)])


def test_scripts_survive_the_wire() -> None:
    """A script that is encoded and read again is unchanged."""
    written = (script(Step(Fault.STALL, seconds=0.5), Step(Fault.REFUSE, reason="OTHER"), repeat=True),)
    assert read_scripts(msgspec.json.encode({"scripts": written})) == written


async def test_refusing_and_lying_change_nothing() -> None:
    """A refusal names the first operation of the element and the reason. A lie is answered as done."""
    bench = Bench(script(Step(Fault.REFUSE), Step(Fault.LIE)))
    refused = await bench.elements.write([label("x", SECOND), label("x")])
    assert isinstance(refused, Rejected)
    assert (refused.position, refused.error.reason) == (1, "ACCESS_DENIED")
    assert await bench.elements.write([label("x")]) == Done()
    assert bench.label() != "x"
    assert bench.label(SECOND) != "x"


async def test_a_stall_is_bounded_and_then_done() -> None:
    """The element waits as long as the step says, then applies the request."""
    bench = Bench(script(Step(Fault.STALL, seconds=7.5)))
    assert await bench.elements.write([label("late")]) == Done()
    assert (bench.slept, bench.label()) == ([7.5], "late")


@pytest.mark.parametrize("applied", [True, False])
async def test_a_dropped_request_was_done_or_not(applied: bool) -> None:
    """`applied` says whether the connection breaks before or after the change."""
    bench = Bench(script(Step(Fault.DROP, applied=applied)))
    assert await bench.elements.write([label("new")]) == Dropped()
    assert (bench.label() == "new") is applied


async def test_a_restart_forgets_what_was_not_saved() -> None:
    """The latest UNSAVED documents, the active one included, are lost. Older ones stay."""
    bench = Bench(script(Step(Fault.APPLY, times=5), Step(Fault.RESTART)))
    created = f"{FIRST}/GNBCUCPFunction=1/EUtranFrequency=99"
    for text in ("first", "second"):
        assert await bench.elements.write([label(text)]) == Done()
    assert (
        await bench.elements.write([Patch(Op.ADD, created, value={"id": "99", "attributes": {}})]) == Done()
    )
    for text in ("fourth", "fifth"):
        assert await bench.elements.write([label(text)]) == Done()
    assert await bench.elements.write([label("sixth")]) == Dropped()
    assert UNSAVED == 4
    assert bench.label() == "second"
    assert bench.network.attributes(created) is None
    assert await bench.elements.write([label("again")]) == Done()


async def test_reads_meet_faults_too() -> None:
    """A read is refused, dropped or answered by the same script."""
    bench = Bench(script(Step(Fault.REFUSE), Step(Fault.DROP), Step(Fault.STALL, seconds=1)))
    assert isinstance(await bench.elements.read(CELL), Rejected)
    assert await bench.elements.read(CELL) == Dropped()
    assert await bench.elements.read(CELL) == Done()
    assert await bench.elements.read(layout.COUNTRY) == Done()


async def test_a_document_is_refused_as_a_whole() -> None:
    """One bad operation undoes those before it, also over several elements."""
    bench = Bench()
    before = bench.label()
    bad = Patch(Op.REPLACE, CELL, ("nRPCI",), value=5000)
    refused = await bench.elements.write([label("x"), label("x", SECOND), bad])
    assert isinstance(refused, Rejected)
    assert refused.position == 2
    assert bench.label() == before


def test_a_producer_sees_its_own_elements() -> None:
    """The view of an EMS contains the path to its elements and all of them, and nothing else."""
    network = Network(2 * layout.BLOCK)
    producers = network.data_producers()
    own = producers[layout.data_producer_of(1)]
    view = ProducerView(network, own)
    foreign = layout.element_key(layout.BLOCK + 1)
    assert view.attributes(FIRST) == network.attributes(FIRST)
    assert view.attributes(CELL) == network.attributes(CELL)
    assert view.attributes(foreign) is None
    assert list(view.children("")) == [layout.COUNTRY]
    assert list(view.children(layout.COUNTRY)) == [layout.region_of(1).key]
    assert len(list(view.children(layout.region_of(1).key))) == layout.BLOCK
    assert view.owns(CELL)
    assert not view.owns(layout.COUNTRY)
    assert not view.owns(foreign)


def test_an_object_lies_in_the_topmost_element_above_it() -> None:
    """element_of names the ManagedElement that an object is, or that contains it."""
    assert element_of(CELL) == FIRST
    assert element_of(FIRST) == FIRST
    assert element_of(layout.COUNTRY) == ""
