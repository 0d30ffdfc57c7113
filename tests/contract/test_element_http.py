# SPDX-License-Identifier: Apache-2.0
"""The same network in this process and over HTTP through a ProvMnS server: both give the same results."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from ran_datajobs.dmi.element import Element, Outcome
from ran_datajobs.dmi.provmns.documents import Span
from ran_datajobs.dmi.provmns.element import ProvMnsElement, ProvMnsServer
from ran_datajobs.dmi.provmns.read import ScopeSpelling
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.model import ActivationMode, ErrorDetail, Op, Operation, OperationState, Scope, ScopeType
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.server import serve
from tests.kit.plugin_parts import DEADLINE

SITES = 6


@contextlib.asynccontextmanager
async def in_process(network: Network) -> AsyncIterator[dict[str, Element]]:
    """The network's data producers, called directly."""
    yield dict(simulated_elements(network, network.model, network.actions, network.data_producers()))


@contextlib.asynccontextmanager
async def over_http(network: Network, **server: Any) -> AsyncIterator[dict[str, Element]]:
    """The network's data producers behind a ProvMnS server on a loopback port."""
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve("127.0.0.1", 0, network, ready.set_result))
    try:
        await asyncio.wait({serving, ready}, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        address = ready.result()
        async with PeerHttp() as http:
            yield {
                name: ProvMnsElement(
                    ProvMnsServer(f"{address}/{name}/ProvMnS/v1", actions=True, **server), http
                )
                for name in network.data_producers()
            }
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def every_kind_of_write(element: str) -> list[Operation]:
    """Valid and invalid writes of every op on one element, in an order that meets their preconditions."""
    du = f"/{element}/GNBDUFunction=1"
    lines: list[tuple[Op, str, Any]] = [
        (Op.REPLACE, f"/{element}#/attributes/userLabel", "new label"),
        (Op.REPLACE, f"{du}/NRCellDU=1#/attributes/nRPCI", 17),
        (Op.REPLACE, f"{du}/NRCellDU=1#/attributes/nRPCI", 5000),
        (Op.TEST, f"{du}/NRCellDU=1#/attributes/nRPCI", 17),
        (Op.TEST, f"{du}/NRCellDU=1#/attributes/nRPCI", 18),
        (Op.MERGE, f"{du}/NRCellDU=2#/attributes", {"nRPCI": 18, "userLabel": None}),
        (Op.MERGE, f"{du}/NRCellDU=2", {"operationalState": "DISABLED"}),
        (Op.ADD, f"{du}/NRCellDU=77", {"id": "77", "attributes": {"userLabel": "lacks what is mandatory"}}),
        (Op.ADD, f"{du}/NoSuchClass=1", {"id": "1", "attributes": {}}),
        (Op.REMOVE, f"{du}", None),
        (Op.REMOVE, f"{du}/NRCellDU=99", None),
        (Op.REPLACE, "/SubNetwork=Nowhere/ManagedElement=1#/attributes/userLabel", "x"),
        (Op.ACTION, f"{du}/NRCellDU=1#NoSuchAction", {"input": {}}),
        (Op.REPLACE, f"{du}/NRCellDU=3#/attributes/userLabel", "last"),
    ]
    return [
        Operation(op, path, number, UNSET if op is Op.REMOVE else Raw(msgspec.json.encode(value)))
        for number, (op, path, value) in enumerate(lines)
    ]


def shown(outcomes: Sequence[Outcome]) -> list[tuple[OperationState, tuple[ErrorDetail, ...]]]:
    return [(outcome.state, outcome.errors) for outcome in outcomes]


@pytest.mark.parametrize("mode", ActivationMode)
@pytest.mark.parametrize("span", Span)
async def test_writes_do_the_same_either_way(mode: ActivationMode, span: Span) -> None:
    """Every outcome, including the ErrorDetail, and every object afterwards are the same."""
    here, there = Network(SITES), Network(SITES)
    [producer, *_] = here.data_producers()
    operations = [
        operation
        for element in here.data_producers()[producer][:2]
        for operation in every_kind_of_write(element)
    ]
    if mode is ActivationMode.STOP_ON_ERROR:
        operations = [one for one in operations if one.operation_id != 2]
    async with in_process(here) as direct, over_http(there, span=span) as remote:
        expected = await direct[producer].write(operations, mode)
        outcomes = await remote[producer].write(operations, mode)
    assert shown(outcomes) == shown(expected)
    assert dict(there.walk()) == dict(here.walk())
    states = [outcome.state for outcome in outcomes]
    assert OperationState.SUCCEEDED in states
    assert OperationState.FAILED in states
    assert (OperationState.NOT_STARTED in states) is (mode is ActivationMode.STOP_ON_ERROR)


async def found(
    element: Element, operation: Operation
) -> tuple[list[dict[str, Any]], tuple[ErrorDetail, ...]]:
    objects: list[dict[str, Any]] = []
    async for chunk in element.read(operation):
        if chunk.errors:
            return objects, chunk.errors
        objects += chunk.objects
    return objects, ()


@pytest.mark.parametrize("spelling", ScopeSpelling)
async def test_reads_give_the_same_either_way(spelling: ScopeSpelling) -> None:
    """Scope, filter, attributes and fields select the same, in the same order, also above the elements."""
    network = Network(SITES)
    [producer, *_] = network.data_producers()
    [element, *_] = network.data_producers()[producer]
    above = element.partition("/")[0]
    reads = [
        {},
        {"attributes": ("userLabel",)},
        {"attributes": ("noSuchAttribute",)},
        {"fields": ("/attributes/userLabel",)},
        {"scope": Scope(ScopeType.BASE_ALL)},
        {"scope": Scope(ScopeType.BASE_ALL), "attributes": ()},
        {"scope": Scope(ScopeType.BASE_SUBTREE, 1)},
        {"scope": Scope(ScopeType.BASE_NTH_LEVEL, 2), "attributes": ("nRPCI",)},
        {"filter": "NRCellDU/attributes/nRPCI >= 100"},
        {"filter": ("NRCellDU/attributes/nRPCI >= 100", "NRCellDU/attributes/nRPCI < 500")},
        {"filter": "NRCellDU/attributes/nRPCI >= 0", "attributes": ("cellLocalId",)},
        {"filter": "NRCellDU/attributes/nRPCI == 100000"},
    ]
    some = 0
    async with in_process(network) as direct, over_http(network, scope_spelling=spelling) as remote:
        for base in (f"/{element}", f"/{above}", f"/{element}/GNBDUFunction=1", "/SubNetwork=Nowhere"):
            for number, selection in enumerate(reads):
                operation = Operation(Op.READ, base, number, **selection)
                expected, refused = await found(direct[producer], operation)
                objects, errors = await found(remote[producer], operation)
                assert objects == expected, (base, selection)
                assert bool(errors) is bool(refused), (base, selection)
                some += len(objects)
    assert some > 100, "the reads select something"
