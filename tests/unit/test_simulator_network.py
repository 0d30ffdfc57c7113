# SPDX-License-Identifier: Apache-2.0
"""The simulated network: its content by seed, and the persistence of changes to it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ran_datajobs.inventory.registration import handle_fault, read_registration
from ran_datajobs.nrm.model import Model, load
from ran_datajobs.nrm.names import class_of, key_of_name, parent_of
from ran_datajobs.nrm.rules import together
from ran_datajobs.nrm.tree import Tree, walk
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import SITES_IN_MEMORY, Network

SMALL = 25


@pytest.fixture(scope="module")
def model() -> Model:
    return load()


def faults_of(network: Network, model: Model, key: str, attributes: dict[str, Any]) -> list[object]:
    managed = model.managed_class(class_of(key))
    assert managed is not None, key
    assert model.contains(class_of(parent_of(key)), class_of(key)), key
    found: list[object] = []
    for name, value in attributes.items():
        known = managed.attributes.get(name)
        fault = known.fault(value, (name,)) if known else None if managed.open else "unknown attribute"
        if fault:
            found.append((key, name, fault))
    found += [(key, name) for name, a in managed.attributes.items() if a.mandatory and name not in attributes]
    if fault := together(network, key, attributes):
        found.append((key, fault))
    return found


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), sites=st.integers(1, 45))
def test_every_generated_object_fits_the_class_model(seed: int, sites: int) -> None:
    """Containment, types, ranges, mandatory attributes and the rules between them hold for any seed."""
    network = Network(sites, seed)
    for key, attributes in network.walk():
        assert not faults_of(network, network.model, key, attributes)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), sites=st.integers(1, 45))
def test_neighbours_refer_to_each_other(seed: int, sites: int) -> None:
    """For each NRCellRelation there is one in the other direction, and every reference leads to an object."""
    network = Network(sites, seed)
    directed = set()
    for key, attributes in network.walk():
        if class_of(key) == "NRCellRelation":
            directed.add((parent_of(key), key_of_name(attributes["adjacentNRCellRef"])))
            assert network.attributes(key_of_name(attributes["nRFreqRelationRef"])) is not None
    assert directed
    assert {(there, here) for here, there in directed} == directed
    assert all(network.attributes(there) is not None for _, there in directed)


def test_references_of_a_cell_lead_to_objects() -> None:
    """Sector carriers, BWPs and frequencies that cells name exist."""
    network = Network(SMALL)
    named = 0
    for key, attributes in network.walk():
        references = [*attributes.get("nRSectorCarrierRef", ()), *attributes.get("bWPRef", ())]
        if class_of(key) in ("NRCellCU", "NRFreqRelation"):
            references.append(attributes["nRFrequencyRef"])
        for reference in references:
            assert network.attributes(key_of_name(reference)) is not None, (key, reference)
            named += 1
    assert named > SMALL * 12


def test_the_seed_alone_decides() -> None:
    """Two networks of one seed are equal, in whatever order they are read. Another seed differs."""
    one, other = Network(SMALL, 7), Network(SMALL, 7)
    backwards = {key: other.attributes(key) for key, _ in reversed(list(walk(one, "")))}
    assert dict(one.walk()) == backwards
    assert dict(Network(SMALL, 8).walk()) != backwards


def test_a_site_has_what_a_gnb_has() -> None:
    """Three cells, carriers and relations per site. Site 3 has the second CU-CP of the page's examples."""
    network = Network(SMALL)
    assert layout.element_key(3) == (
        "SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR03gNodeBRadio00003/ManagedElement=NR03gNodeBRadio00003"
    )
    found = Counter(class_of(key) for key, _ in walk(network, layout.element_key(5)))
    assert found == {
        "ManagedElement": 1,
        "GNBDUFunction": 1,
        "NRCellDU": 3,
        "NRSectorCarrier": 3,
        "BWP": 6,
        "GNBCUCPFunction": 1,
        "NRCellCU": 3,
        "NRCellRelation": 12,
        "NRFreqRelation": 3,
        "GNBCUUPFunction": 1,
    }
    assert network.attributes(f"{layout.element_key(3)}/GNBCUCPFunction=2/EUtraNetwork=1") is not None
    locked = network.attributes(f"{layout.element_key(1)}/GNBDUFunction=1/NRCellDU=3")
    assert locked is not None
    assert locked["administrativeState"] == "LOCKED"


def test_what_lies_outside_does_not_exist() -> None:
    """Neither a site beyond the last, nor one under another region or name, nor its children."""
    network = Network(SMALL)
    beyond = layout.element_key(SMALL + 1)
    misplaced = layout.element_key(1).replace("Ireland", "France")
    misnamed = layout.element_key(1).replace("NR01", "NR02")
    for key in (beyond, misplaced, misnamed, f"{misplaced}/GNBDUFunction=1", "SubNetwork=Asia", "nonsense"):
        assert network.attributes(key) is None
        assert not list(network.children(key))


def test_every_object_is_below_its_parent_once() -> None:
    """``children`` and ``attributes`` have the same objects."""
    network = Network(450)
    keys = [key for key, _ in network.walk()]
    assert len(set(keys)) == len(keys)
    elements = [key for key in keys if class_of(key) == "ManagedElement"]
    assert sorted(elements) == sorted(map(layout.element_key, range(1, 451)))
    assert list(network.data_producers()) == list(
        dict.fromkeys(layout.data_producer_of(number) for number in range(1, 451))
    )
    assert sorted(sum(network.data_producers().values(), ())) == sorted(elements)
    assert network.data_producers()["ems-ireland-2"][0] == layout.element_key(401)


def test_changes_outlive_the_sites_in_memory() -> None:
    """A site that was evicted and generated again still has the changes of clients."""
    network = Network(SITES_IN_MEMORY + 50)
    cell = f"{layout.element_key(1)}/GNBDUFunction=1/NRCellDU=1"
    before = network.attributes(cell)
    assert before is not None
    network.put(cell, {**before, "nRPCI": 77})
    network.put(f"{cell}/RRMPolicyRatio=1", {"resourceType": "PRB"})
    for number in range(2, network.sites + 1):
        assert network.attributes(layout.element_key(number)) is not None
    assert network.attributes(cell) == {**before, "nRPCI": 77}
    assert list(network.children(cell)) == [f"{cell}/RRMPolicyRatio=1"]
    assert network.changes == 2


def test_the_registration_is_taken_by_the_inventory() -> None:
    """One valid CM handle per ManagedElement, with the EMS as data producer."""
    network = Network(SMALL)
    body = msgspec.json.encode(network.registration("http://127.0.0.1:8081", idempotent=True))
    registration = read_registration(body)
    assert registration.idempotent
    assert registration.plugins == ("http://127.0.0.1:8081",) * 3
    handles = registration.created_cm_handles or []
    assert not [fault for handle in handles if (fault := handle_fault(handle))]
    assert {(handle.alternate_id or "")[1:]: handle.data_producer_identifier for handle in handles} == {
        key: name for name, keys in network.data_producers().items() for key in keys
    }
    assert all(handle.cm_handle_properties and handle.public_cm_handle_properties for handle in handles)


class NetworkIsATree(RuleBasedStateMachine):
    """A network that clients change equals a plain tree with the same changes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network(2)
        self.tree = Tree(self.network.walk())
        self.number = 0

    def some_key(self, data: st.DataObject, *, leaf: bool) -> str:
        keys = [key for key, _ in self.tree.items() if not leaf or not list(self.tree.children(key))]
        return data.draw(st.sampled_from(keys))

    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        key = self.some_key(data, leaf=False)
        self.number += 1
        for each in (self.network, self.tree):
            each.put(key, {"userLabel": str(self.number)})

    @rule(data=st.data(), identity=st.sampled_from("abc"))
    def create(self, data: st.DataObject, identity: str) -> None:
        key = f"{self.some_key(data, leaf=False)}/VsDataContainer={identity}"
        for each in (self.network, self.tree):
            each.put(key, {"userLabel": identity})

    @precondition(lambda self: len(self.tree) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = self.some_key(data, leaf=True)
        for each in (self.network, self.tree):
            each.delete(key)

    @rule(data=st.data())
    def delete_and_create_again(self, data: st.DataObject) -> None:
        key = self.some_key(data, leaf=True)
        for each in (self.network, self.tree):
            each.delete(key)
            each.put(key, {"userLabel": "again"})

    @invariant()
    def same_objects_in_the_same_order(self) -> None:
        assert list(self.network.walk()) == [
            (key, self.tree.attributes(key)) for key, _ in walk(self.tree, "")
        ]


TestNetworkIsATree = NetworkIsATree.TestCase
TestNetworkIsATree.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
