# SPDX-License-Identifier: Apache-2.0
"""The examples: written by their scripts, accepted as requests, and ending as they say."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from ran_datajobs.dmi.element import ReadChunk
from ran_datajobs.dmi.provmns.element import ProvMnsElement, ProvMnsServer
from ran_datajobs.dmi.simulated import SimulatedElement, simulated_elements
from ran_datajobs.http.server import serving
from ran_datajobs.inventory.registration import handle_fault, read_registration
from ran_datajobs.model import ActivationMode, JobType, Op, Operation, OperationState
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.model import load
from ran_datajobs.nrm.tree import Tree
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.reasons import reason_of_errors
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.producers import element_of
from ran_datajobs.simulator.server import provmns_app
from ran_datajobs.simulator.wire import PROVMNS
from tests.unit.planning_parts import ReadRequest, read_request

EXAMPLES = Path(__file__).parents[2] / "examples"
WRITTEN = sorted(path.name for path in EXAMPLES.glob("*.json"))


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the script wrote all examples again."""
    folder = tmp_path_factory.mktemp("examples")
    run("make_examples.py", "--dir", str(folder))
    return folder


def run(script: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(EXAMPLES / script), *arguments], check=True, timeout=120)


def request_of(name: str) -> ReadRequest:
    return read_request((EXAMPLES / name).read_bytes())


def operations_of(request: ReadRequest) -> list[Operation]:
    """The operations as a plugin executes them."""
    return msgspec.json.decode(msgspec.json.encode(request.operations), type=list[Operation])


def expected(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXAMPLES / name).read_text())
    return document


def lanes_of(network: Network, operations: Iterator[Operation]) -> dict[str, list[Operation]]:
    owners = {element: name for name, keys in network.data_producers().items() for element in keys}
    lanes: dict[str, list[Operation]] = {}
    for operation in operations:
        key = fdn.key(fdn.split_path(operation.path)[0])
        lanes.setdefault(owners.get(element_of(key), ""), []).append(operation)
    return lanes


def elements_of(network: Network) -> dict[str, SimulatedElement]:
    return simulated_elements(network, network.model, network.actions, network.data_producers())


async def chunks(element: SimulatedElement, operation: Operation) -> list[ReadChunk]:
    return [chunk async for chunk in element.read(operation)]


def test_the_scripts_write_what_is_there(rewritten: Path) -> None:
    """Each example is byte for byte what its script writes."""
    assert sorted(path.name for path in rewritten.iterdir()) == WRITTEN
    for name in WRITTEN:
        assert (rewritten / name).read_bytes() == (EXAMPLES / name).read_bytes(), name


async def test_the_write_job_has_every_kind_of_operation_and_failure() -> None:
    """It has the size and the mix that it says, and ends as it says on a separate network."""
    request = request_of("retune-pci.json")
    wanted = expected("retune-pci.expected.json")
    operations = operations_of(request)
    assert request.type is JobType.WRITE
    assert 3_000 <= len(operations) <= 5_000
    assert {operation.op for operation in operations} == set(Op) - {Op.READ}
    network = Network()
    lanes = lanes_of(network, iter(operations))
    reasons = Counter({"UNMATCHED": len(lanes.pop(""))})
    assert len(lanes) == wanted["dataProducers"] >= 5
    elements = elements_of(network)
    for name, lane in lanes.items():
        for outcome in await elements[name].write(lane, ActivationMode.BEST_EFFORT):
            if outcome.state is not OperationState.SUCCEEDED:
                reasons[reason_of_errors(outcome.errors)] += 1
    assert dict(reasons) == wanted["reasons"]
    failed = reasons.total() - reasons["UNMATCHED"]
    assert wanted["operations"] == {
        "total": len(operations),
        "succeeded": len(operations) - reasons.total(),
        "failed": failed,
        "unmatched": reasons["UNMATCHED"],
    }


async def test_the_write_job_ends_the_same_over_http() -> None:
    """Documents of many operations for each element have the outcomes of single ones, reason by reason."""
    network = Network()
    lanes = lanes_of(network, iter(operations_of(request_of("retune-pci.json"))))
    reasons = Counter({"UNMATCHED": len(lanes.pop(""))})
    async with serving(provmns_app(network), "127.0.0.1", 0) as address, PeerHttp() as http:
        for name, lane in lanes.items():
            element = ProvMnsElement(ProvMnsServer(f"{address}/{name}{PROVMNS}", actions=True), http)
            for outcome in await element.write(lane, ActivationMode.BEST_EFFORT):
                if outcome.state is not OperationState.SUCCEEDED:
                    reasons[reason_of_errors(outcome.errors)] += 1
    assert dict(reasons) == expected("retune-pci.expected.json")["reasons"]


async def test_a_failed_operation_of_the_write_job_changes_nothing() -> None:
    """Every failed operation leaves its object unchanged."""
    network = Network()
    lanes = lanes_of(network, iter(operations_of(request_of("retune-pci.json"))))
    lanes.pop("")
    elements = elements_of(network)
    checked = 0
    for name, lane in lanes.items():
        for operation in lane:
            key = fdn.key(fdn.split_path(operation.path)[0])
            before = network.attributes(key)
            (outcome,) = await elements[name].write((operation,), ActivationMode.BEST_EFFORT)
            if outcome.state is OperationState.FAILED:
                assert network.attributes(key) is before
                checked += 1
    assert checked == expected("retune-pci.expected.json")["operations"]["failed"]


async def test_the_read_job_selects_what_it_says() -> None:
    """Reads above the handles go to every data producer below. All parts together have the stated count."""
    request = request_of("read-cells.json")
    network = Network()
    elements = elements_of(network)
    objects = Counter[str]()
    for operation in operations_of(request):
        base = fdn.key(operation.path)
        seen: list[str] = []
        for name, keys in network.data_producers().items():
            if any(key == base or key.startswith(f"{base}/") or base.startswith(f"{key}/") for key in keys):
                for chunk in await chunks(elements[name], operation):
                    assert not chunk.errors
                    seen += [one["objectInstance"] for one in chunk.objects]
        assert len(set(seen)) == len(seen)
        objects[operation.id_text] = len(seen)
    assert dict(objects) == expected("read-cells.expected.json")["objects"]
    assert sum(objects.values()) > 200


async def test_the_pages_read_example_is_answered() -> None:
    """As printed: a string of attributes, a key with a blank, and a filter that reaches below its base."""
    network = Network()
    elements = elements_of(network)
    found = []
    for operation in operations_of(request_of("seed-read.json")):
        (chunk,) = await chunks(elements["ems-ireland-1"], operation)
        assert chunk.last
        assert not chunk.errors
        found.append(chunk.objects)
    function, locked, nothing = found
    assert [one["attributes"] for one in function] == [{"userLabel": "NR03gNodeBRadio00003 CU-CP 2"}]
    assert locked
    assert {one["objectClass"] for one in locked} == {"NRCellDU"}
    assert {one["attributes"]["administrativeState"] for one in locked} == {"LOCKED"}
    assert nothing == ()


async def test_the_pages_write_example_is_executed() -> None:
    """add, replace, action and remove succeed. Afterwards EUtranFrequency=12 exists with its label."""
    network = Network()
    operations = operations_of(request_of("seed-write.json"))
    outcomes = await elements_of(network)["ems-ireland-1"].write(operations, ActivationMode.STOP_ON_ERROR)
    assert [outcome.state for outcome in outcomes] == [OperationState.SUCCEEDED] * len(operations)
    parent = fdn.key(operations[0].path).rpartition("/")[0]
    assert {key: network.attributes(key) for key in network.children(parent)} == {
        f"{parent}/EUtranFrequency=12": {"userLabel": "label12"}
    }


async def test_the_load_job_runs_where_vendors_objects_are_taken(tmp_path: Path) -> None:
    """ONAP's load job and its inventory match. A lenient network accepts every operation."""
    run("load_jobs.py", "--operations", "100", "--handles", "50", "--producers", "7", "--dir", str(tmp_path))
    registration = read_registration((tmp_path / "load-inventory.json").read_bytes())
    handles = registration.created_cm_handles or []
    assert len(handles) == 50
    assert not [fault for handle in handles if (fault := handle_fault(handle))]
    producers: dict[str, list[str]] = {}
    for handle in handles:
        key = fdn.key(handle.alternate_id or "")
        producers.setdefault(handle.data_producer_identifier or "", []).append(key)
    assert len(producers) == 7
    tree = Tree([("SubNetwork=Europe", {}), ("SubNetwork=Europe/SubNetwork=Load", {})])
    for key in itertools.chain.from_iterable(producers.values()):
        tree.put(key, {})
    request = read_request((tmp_path / "load-job-100.json").read_bytes())
    operations = operations_of(request)
    elements = simulated_elements(tree, load(strict=False), {}, producers)
    owners = {key: name for name, keys in producers.items() for key in keys}
    succeeded = 0
    for operation in operations:
        owner = owners[element_of(fdn.key(operation.path))]
        (outcome,) = await elements[owner].write((operation,), ActivationMode.BEST_EFFORT)
        succeeded += outcome.state is OperationState.SUCCEEDED
    assert succeeded == len(operations) == 100
    merged = fdn.key(operations[1].path)
    assert isinstance(operations[1].value, Raw)
    assert tree.attributes(merged) == msgspec.json.decode(operations[1].value)
