# SPDX-License-Identifier: Apache-2.0
"""One suite for every element adapter of the DMI plugin.

An adapter joins the suite with an entry in ELEMENTS: a function from a network to the element of its first
EMS.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from ran_datajobs.dmi.element import Element, ReadChunk
from ran_datajobs.dmi.provmns.element import ProvMnsElement, ProvMnsServer
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.http.server import serving
from ran_datajobs.model import ActivationMode, Op, Operation, OperationState, Scope, ScopeType
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.server import provmns_app
from ran_datajobs.simulator.wire import PROVMNS

SITES = 25
MOST_IN_A_CHUNK = 1_000
PRODUCER = layout.data_producer_of(1)
OWN = layout.element_key(1)
FOREIGN = layout.element_key(layout.BLOCK + 1)
CELL = f"/{OWN}/GNBDUFunction=1/NRCellDU=1"
BEST_EFFORT, STOP_ON_ERROR = ActivationMode.BEST_EFFORT, ActivationMode.STOP_ON_ERROR
SUCCEEDED, FAILED, NOT_STARTED = (
    OperationState.SUCCEEDED,
    OperationState.FAILED,
    OperationState.NOT_STARTED,
)


@contextlib.asynccontextmanager
async def simulated(network: Network) -> AsyncIterator[Element]:
    """The network in this process."""
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    yield elements[PRODUCER]


@contextlib.asynccontextmanager
async def provmns(network: Network) -> AsyncIterator[Element]:
    """The network behind a ProvMnS server, over HTTP."""
    async with serving(provmns_app(network), "127.0.0.1", 0) as address, PeerHttp() as http:
        server = ProvMnsServer(f"{address}/{PRODUCER}{PROVMNS}", actions=True)
        yield ProvMnsElement(server, http)


ELEMENTS: dict[str, Callable[[Network], AbstractAsyncContextManager[Element]]] = {
    "simulated": simulated,
    "provmns": provmns,
}


@pytest.fixture
def network() -> Network:
    """A separate network of two EMSs for each test."""
    return Network(SITES)


@pytest.fixture(params=ELEMENTS)
async def element(request: pytest.FixtureRequest, network: Network) -> AsyncIterator[Element]:
    """The first EMS of ``network`` through each adapter."""
    async with ELEMENTS[request.param](network) as made:
        yield made


def write(op: Op, path: str, value: Any = UNSET) -> Operation:
    raw = UNSET if value is UNSET else Raw(msgspec.json.encode(value))
    return Operation(op, path, f"{op}-{path}", raw)


def read(path: str, **selection: Any) -> Operation:
    return Operation(Op.READ, path, "read", **selection)


async def states(
    element: Element, operations: Sequence[Operation], mode: ActivationMode = BEST_EFFORT
) -> list[OperationState]:
    return [outcome.state for outcome in await element.write(operations, mode)]


async def chunks_of(element: Element, operation: Operation) -> list[ReadChunk]:
    chunks = [chunk async for chunk in element.read(operation)]
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert not any(chunk.errors for chunk in chunks[:-1])
    return chunks


async def objects_of(element: Element, operation: Operation) -> list[dict[str, Any]]:
    chunks = await chunks_of(element, operation)
    assert not chunks[-1].errors, chunks[-1].errors
    return [one for chunk in chunks for one in chunk.objects]


async def test_writes_are_executed_in_their_order(element: Element) -> None:
    """Later operations see the effects of earlier ones. There is one outcome for each, in the same order."""
    operations = [
        write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 1),
        write(Op.TEST, f"{CELL}#/attributes/nRPCI", 1),
        write(Op.ADD, f"{CELL}/RRMPolicyRatio=1", policy("1")),
        write(Op.MERGE, f"{CELL}/RRMPolicyRatio=1#/attributes", {"rRMPolicyMinRatio": 20}),
        write(Op.TEST, f"{CELL}/RRMPolicyRatio=1#/attributes/rRMPolicyMinRatio", 20),
        write(Op.REMOVE, f"{CELL}/RRMPolicyRatio=1"),
        write(Op.REMOVE, f"{CELL}/RRMPolicyRatio=1"),
        write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 2),
    ]
    assert await states(element, operations) == [SUCCEEDED] * 6 + [FAILED, SUCCEEDED]
    (cell,) = await objects_of(element, read(CELL, attributes=("nRPCI",)))
    assert cell["attributes"] == {"nRPCI": 2}


def policy(identity: str) -> dict[str, Any]:
    return {
        "id": identity,
        "attributes": {
            "resourceType": "PRB",
            "rRMPolicyMemberList": [
                {"plmnId": {"mcc": "272", "mnc": "01"}, "snssai": {"sst": 1, "sd": "000001"}}
            ],
            "rRMPolicyMaxRatio": 80,
            "rRMPolicyMinRatio": 10,
            "rRMPolicyDedicatedRatio": 5,
        },
    }


async def test_a_refusal_names_the_data_node_and_changes_nothing(element: Element, network: Network) -> None:
    """Each refusal has TS 28.572's type and reason, and the objects are unchanged."""
    refused = [
        (write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 1008), "NEW_DATA_NODE_VALUE_INVALID"),
        (write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", "7"), "NEW_DATA_NODE_VALUE_INVALID"),
        (write(Op.REPLACE, f"{CELL}#/attributes/cellState", "INACTIVE"), "TARGET_DATA_NODE_NOT_WRITABLE"),
        (write(Op.ADD, f"{CELL}#/attributes/colour", "red"), "NEW_DATA_NODE_NAME_INVALID"),
        (write(Op.REMOVE, f"{CELL}#/attributes/nRPCI"), "FINAL_DATA_NODE_MULTIPLICITY_INVALID"),
        (write(Op.REMOVE, f"/{OWN}/GNBDUFunction=1"), "TARGET_DATA_NODE_DELETION_NOT_ALLOWED"),
        (write(Op.REMOVE, f"/{OWN}/GNBDUFunction=7"), "TARGET_DATA_NODE_NOT_FOUND"),
        (write(Op.ADD, f"{CELL}9/RRMPolicyRatio=1", policy("1")), "TARGET_DATA_NODE_PARENT_NOT_FOUND"),
        (write(Op.ADD, f"{CELL}/NRCellCU=1", {"id": "1"}), "NEW_DATA_NODE_CONTAINMENT_INVALID"),
    ]
    outcomes = await element.write([operation for operation, _ in refused], BEST_EFFORT)
    assert [outcome.state for outcome in outcomes] == [FAILED] * len(refused)
    assert [outcome.errors[0].reason for outcome in outcomes] == [reason for _, reason in refused]
    assert all(outcome.errors[0].type for outcome in outcomes)
    assert all(outcome.errors[0].bad_data_node.startswith(f"/{OWN}") for outcome in outcomes)
    assert network.changes == 0


async def test_stop_on_error_ends_at_the_first_failure(element: Element, network: Network) -> None:
    """Operations after the first failure are NOT_STARTED; those before it stay done."""
    operations = [
        write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 11),
        write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 5000),
        write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 12),
        write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 13),
    ]
    assert await states(element, operations, STOP_ON_ERROR) == [SUCCEEDED, FAILED, NOT_STARTED, NOT_STARTED]
    attributes = network.attributes(CELL[1:])
    assert attributes is not None
    assert attributes["nRPCI"] == 11


async def test_nothing_to_write_is_nothing(element: Element) -> None:
    """No operations, no outcomes."""
    assert list(await element.write((), BEST_EFFORT)) == []


async def test_another_producers_objects_are_unknown(element: Element, network: Network) -> None:
    """An EMS neither changes nor shows objects of another EMS or objects above its elements."""
    operations = [
        write(Op.REPLACE, f"/{FOREIGN}#/attributes/userLabel", "mine"),
        write(Op.REPLACE, "/SubNetwork=Europe#/attributes/userLabel", "mine"),
    ]
    outcomes = await element.write(operations, BEST_EFFORT)
    assert [outcome.errors[0].reason for outcome in outcomes] == ["TARGET_DATA_NODE_NOT_FOUND"] * 2
    (chunk,) = await chunks_of(element, read(f"/{FOREIGN}"))
    assert [error.reason for error in chunk.errors] == ["TARGET_DATA_NODE_NOT_FOUND"]
    assert network.changes == 0


async def test_a_read_of_nothing_fails(element: Element) -> None:
    """A read whose base does not exist is an error, not an empty result."""
    (chunk,) = await chunks_of(element, read(f"/{OWN}/GNBDUFunction=9"))
    assert chunk.objects == ()
    assert [error.reason for error in chunk.errors] == ["TARGET_DATA_NODE_NOT_FOUND"]


async def test_a_read_gives_whole_resources_in_pre_order(element: Element, network: Network) -> None:
    """The base comes first, then each object before its children, in chunks of bounded size."""
    function = f"{OWN}/GNBCUCPFunction=1"
    chunks = await chunks_of(element, read(f"/{function}", scope=Scope(ScopeType.BASE_ALL)))
    assert all(len(chunk.objects) <= MOST_IN_A_CHUNK for chunk in chunks)
    objects = [one for chunk in chunks for one in chunk.objects]
    assert objects[0] == {
        "id": "1",
        "objectClass": "GNBCUCPFunction",
        "objectInstance": function.replace("/", ","),
        "attributes": network.attributes(function),
    }
    seen: set[str] = set()
    for one in objects:
        name = one["objectInstance"]
        assert not seen or name.rpartition(",")[0] in seen
        seen.add(name)
    assert len(seen) == len(objects) == len([key for key, _ in network.walk() if key.startswith(function)])


@pytest.mark.parametrize(
    ("scope", "classes"),
    [
        (Scope(ScopeType.BASE_ONLY), {"ManagedElement"}),
        (Scope(ScopeType.BASE_NTH_LEVEL, 2), {"NRCellDU", "NRSectorCarrier", "BWP", "NRCellCU"}),
        (
            Scope(ScopeType.BASE_SUBTREE, 1),
            {"ManagedElement", "GNBDUFunction", "GNBCUCPFunction", "GNBCUUPFunction"},
        ),
    ],
)
async def test_the_scope_says_how_deep(element: Element, scope: Scope, classes: set[str]) -> None:
    """Level 0 is the base (TS 32.158 §6.1)."""
    objects = await objects_of(element, read(f"/{OWN}", scope=scope))
    assert {one["objectClass"] for one in objects} == classes


async def test_a_read_from_above_gives_the_producers_own(element: Element, network: Network) -> None:
    """Filter and level are relative to the base of the read. Objects above the elements are in no result."""
    operation = read(
        "/SubNetwork=Europe",
        scope=Scope(ScopeType.BASE_SUBTREE, 5),
        filter="NRCellDU/attributes/administrativeState==LOCKED",
        attributes=("nRPCI",),
    )
    found = await objects_of(element, operation)
    own = network.data_producers()[PRODUCER]
    assert [one["objectInstance"] for one in found] == [
        key.replace("/", ",")
        for key, attributes in network.walk()
        if key.startswith(tuple(f"{element}/" for element in own))
        and "/NRCellDU=" in key
        and attributes.get("administrativeState") == "LOCKED"
    ]
    assert found
    assert all(one["attributes"].keys() == {"nRPCI"} for one in found)
    assert not await objects_of(element, read("/SubNetwork=Europe"))
    above = read("/SubNetwork=Europe", scope=Scope(ScopeType.BASE_SUBTREE, 2))
    assert not await objects_of(element, above)


async def test_attributes_and_fields_are_joined(element: Element, network: Network) -> None:
    """The selections are combined. An empty list of attributes selects the names alone; objects without a
    selected attribute are omitted."""
    wanted = read(CELL, attributes=("nRPCI", "colour"), fields=("/attributes/pLMNInfoList/0/plmnId/mcc",))
    (cell,) = await objects_of(element, wanted)
    attributes = network.attributes(CELL[1:])
    assert attributes is not None
    assert cell["attributes"] == {
        "nRPCI": attributes["nRPCI"],
        "pLMNInfoList": [{"plmnId": {"mcc": "272"}}],
    }
    (bare,) = await objects_of(element, read(CELL, attributes=()))
    assert bare["attributes"] == {}
    assert await objects_of(element, read(CELL, attributes=("colour",))) == []


@pytest.mark.parametrize("path", ["", "no name", "/SubNetwork=", "/SubNetwork=*"])
async def test_what_cannot_be_read_is_refused(element: Element, path: str, network: Network) -> None:
    """A path that is no FDN fails its operation only."""
    good = write(Op.REPLACE, f"{CELL}#/attributes/nRPCI", 3)
    outcomes = await element.write([write(Op.REMOVE, path), good], BEST_EFFORT)
    assert [outcome.state for outcome in outcomes] == [FAILED, SUCCEEDED]
    assert outcomes[0].errors
    (chunk,) = await chunks_of(element, read(path))
    assert chunk.errors
    assert network.changes == 1
