# SPDX-License-Identifier: Apache-2.0
"""Reads by data node selector: every element adapter selects what the objects themselves would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ran_datajobs.dmi.element import Element
from ran_datajobs.dmi.provmns.element import ProvMnsElement, ProvMnsServer
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.dmi.provmns.read import ScopeSpelling
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.http.server import serving
from ran_datajobs.model import Op, Operation
from ran_datajobs.nrm import selectors
from ran_datajobs.nrm.select import select_from
from ran_datajobs.nrm.selectors import EVERYTHING, Selectors, parse
from ran_datajobs.nrm.tree import Objects
from ran_datajobs.plugins.client import Answered, PeerHttp
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.producers import ProducerView
from ran_datajobs.simulator.server import provmns_app
from ran_datajobs.simulator.wire import PROVMNS
from tests.tiers import examples

from .provmns_network import ELEMENTS, element_over, network, read
from .provmns_twin import ProvMnsTwin, Shape

SITES = layout.BLOCK + 2
PRODUCER = layout.data_producer_of(1)
NETWORK = Network(SITES)


def steps(key: str) -> str:
    return "".join('/{}[id="{}"]'.format(*rdn.split("=")) for rdn in key.split("/"))


OWN = steps(layout.element_key(1))
FOREIGN = steps(layout.element_key(layout.BLOCK + 1))


@contextlib.asynccontextmanager
async def simulated() -> AsyncIterator[Element]:
    """The network in this process."""
    yield simulated_elements(NETWORK, NETWORK.model, NETWORK.actions, NETWORK.data_producers())[PRODUCER]


def provmns(**server: Any) -> Callable[[], AbstractAsyncContextManager[Element]]:
    """The network behind a ProvMnS server, over HTTP."""

    @contextlib.asynccontextmanager
    async def element() -> AsyncIterator[Element]:
        async with serving(provmns_app(NETWORK), "127.0.0.1", 0) as address, PeerHttp() as http:
            yield ProvMnsElement(ProvMnsServer(f"{address}/{PRODUCER}{PROVMNS}", **server), http)

    return element


ADAPTERS = {
    "simulated": simulated,
    "provmns, scopes": provmns(),
    "provmns, scopes as JSON": provmns(scope_spelling=ScopeSpelling.JSON),
    "provmns, selectors": provmns(selectors=True),
}

SELECTED = {
    "an object": (f'{OWN}/GNBDUFunction[id="1"]/NRCellDU[id="2"]', 1),
    "all of a class": (f"{OWN}/GNBDUFunction/NRCellDU", len(layout.CELLS)),
    "a subtree": (f'{OWN}/GNBDUFunction[id="1"]//.', None),
    "everywhere": ("//NRCellDU/attributes/nRPCI", layout.BLOCK * len(layout.CELLS)),
    "by the beginning of the id": ('//ManagedElement[contains(id,"NR1")]/attributes/userLabel', None),
    "one level": (f"{OWN}/*", None),
    "the items of a list": (
        f"{OWN}/GNBDUFunction/NRCellDU/attributes/pLMNInfoList[1]/plmnId/mcc",
        len(layout.CELLS),
    ),
    "several lines": (
        "\n".join(
            f"{OWN}{rest}"
            for rest in (
                "/attributes/userLabel",
                "/GNBDUFunction/NRCellDU/attributes/nRPCI",
                '/GNBDUFunction[id="1"]/NRCellDU[id="2"]',
            )
        ),
        1 + len(layout.CELLS),
    ),
    "more lines than a query can have": (
        "\n".join(f'{OWN}/GNBDUFunction[id="1"]/NRCellDU[id="{n}"]' for n in range(60)),
        len(layout.CELLS),
    ),
    "objects above the elements": ('/SubNetwork[id="Europe"] OR //MeContext', 0),
    "another producer's objects": (f"{FOREIGN}//.", 0),
    "what does not exist": (f'{OWN}/GNBDUFunction[id="9"]/NRCellDU', 0),
    "an attribute that no object has": (f"{OWN}//attributes/noSuchAttribute", 0),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_every_adapter_selects_the_same(adapter: str) -> None:
    """Exactly the producer's own objects with the selected attributes, each once. What does not exist selects
    nothing: it is no error."""
    view = ProducerView(NETWORK, NETWORK.data_producers()[PRODUCER])
    async with ADAPTERS[adapter]() as element:
        for name, (text, count) in SELECTED.items():
            operation = Operation(Op.READ, "/", name, data_node_selector=text)
            found: list[dict[str, Any]] = []
            chunks = [chunk async for chunk in element.read(operation)]
            for chunk in chunks:
                assert not chunk.errors, (name, chunk.errors)
                found += chunk.objects
            assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
            expected = list(select_from(view.selected(Selectors(parse(text))), EVERYTHING))
            assert count in (len(expected), None), name
            assert bool(expected) is (count != 0), name
            assert by_name(found) == by_name(expected), name
            assert len(found) == len(expected), name


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_selector_that_does_not_parse_fails_its_operation(adapter: str) -> None:
    """With the place in the detail."""
    async with ADAPTERS[adapter]() as element:
        operation = Operation(Op.READ, "/", "bad", data_node_selector="//A[")
        (chunk,) = [chunk async for chunk in element.read(operation)]
        assert [error.reason for error in chunk.errors] == ["OTHER"]
        assert "//A <-- here --> [" in chunk.errors[0].detail


def by_name(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["objectInstance"]: one for one in objects}


def evaluated(objects: Objects, text: str) -> list[dict[str, Any]]:
    return list(select_from(selectors.scoped(objects, Selectors(parse(text))), EVERYTHING))


texts = st.lists(
    st.sampled_from(
        [
            "//.",
            "/SubNetwork",
            "/SubNetwork/*",
            "//GNBDUFunction/attributes/nested/a",
            '//*[contains(id,"1")]/attributes/*',
            "//ManagedElement/attributes/list[2]",
            '/SubNetwork[id="Y"]//.',
            *(steps(each) for each in ELEMENTS),
            *(f"{steps(each)}/GNBDUFunction/attributes/gNBId" for each in ELEMENTS),
            *(f'{steps(each)}/GNBDUFunction[id="3"]' for each in ELEMENTS),
            f"{steps(ELEMENTS[1])}//GNBDUFunction",
            '/SubNetwork[id="X"]/./MeContext/.',
        ]
    ),
    min_size=1,
    max_size=4,
).map("\n".join)


@settings(max_examples=examples(200), deadline=None)
@given(
    texts,
    st.sampled_from(Shape),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 200, 500]),
)
def test_selectors_select_what_the_objects_themselves_would(
    text: str, shape: Shape, beside: bool, sparse: bool, knows: bool, most_bytes: int | None
) -> None:
    """Whatever the form of the server's answers, whether it knows selectors, and also when a large answer is
    read in parts."""
    tree = network()
    twin = ProvMnsTwin(
        tree, shape=shape, beside=beside, sparse=sparse, most_bytes=most_bytes, knows_selectors=knows
    )
    operation = Operation(Op.READ, "/", 1, data_node_selector=text)
    found, errors = asyncio.run(read(element_over(twin, selectors=knows), operation))
    if errors:
        assert most_bytes is not None, errors
        assert errors[0].title == "The object is larger than an answer may be"
    else:
        assert by_name(found) == by_name(evaluated(tree, text))
        assert len(found) == len(by_name(found))


async def test_a_server_with_names_of_its_own_gets_no_selector() -> None:
    """It would have to be translated: scopes are sent instead, and the result is the same."""
    twin = ProvMnsTwin(network(), knows_selectors=False)
    element = element_over(twin, Aliases(attributes={"GNBDUFunction": {"colour": "color"}}), selectors=True)
    text = f"{steps(ELEMENTS[0])}/GNBDUFunction/attributes/gNBId"
    found, errors = await read(element, Operation(Op.READ, "/", 1, data_node_selector=text))
    assert (found, errors) == (evaluated(network(), text), ())
    (asked,) = twin.reads
    assert asked.endswith(f"/{ELEMENTS[0]}?scopeType=BASE_NTH_LEVEL&scopeLevel=1&attributes=gNBId")


async def test_a_server_that_does_not_answer_for_the_root_fails_the_read() -> None:
    """A broadcast reads from the root. Its 404 does not mean that nothing is selected."""
    for knows in (True, False):
        twin = ProvMnsTwin(network(), knows_selectors=knows)
        twin.read_mishaps.append(Answered(404, b""))
        operation = Operation(Op.READ, "/", 1, data_node_selector="//GNBDUFunction")
        _, errors = await read(element_over(twin, selectors=knows), operation)
        assert [error.reason for error in errors] == ["TARGET_DATA_NODE_NOT_FOUND"]
