# SPDX-License-Identifier: Apache-2.0
"""The class model: its 3GPP classes, and its checks of values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.nrm.model import Attribute, Model, load

CLASSES = [
    "SubNetwork",
    "MeContext",
    "ManagedElement",
    "GNBDUFunction",
    "GNBCUCPFunction",
    "GNBCUUPFunction",
    "NRCellDU",
    "NRCellCU",
    "NRSectorCarrier",
    "BWP",
    "NRCellRelation",
    "NRFreqRelation",
    "EUtranCellRelation",
    "EUtranFreqRelation",
    "NRFrequency",
    "EUtranFrequency",
    "ExternalGNBCUCPFunction",
    "ExternalNRCellCU",
    "RRMPolicyRatio",
]


@pytest.fixture(scope="module")
def model() -> Model:
    return load()


def attribute(model: Model, class_name: str, name: str) -> Attribute:
    managed = model.managed_class(class_name)
    assert managed is not None
    return managed.attributes[name]


def test_the_classes_of_the_nr_model_are_there(model: Model) -> None:
    """The nineteen classes of TS 28.541 and TS 28.622 of a network of gNBs."""
    assert set(CLASSES) <= set(model)


@pytest.mark.parametrize(
    ("class_name", "name", "good", "bad"),
    [
        ("NRCellDU", "nRPCI", [0, 1007], [-1, 1008, 7.0, "7", True, None]),
        ("NRCellDU", "ssbPeriodicity", [5, 160], [6, 0, 320]),
        ("NRCellDU", "administrativeState", ["LOCKED", "SHUTTINGDOWN"], ["locked", "", 1, None]),
        ("NRCellDU", "cellLocalId", [0, 16383], [16384]),
        ("NRFreqRelation", "pMax", [-30, 33], [-31, 34]),
        ("NRFreqRelation", "qQualMin", [-34, -3, 0], [-2, 1]),
        ("GNBDUFunction", "gNBDUName", ["x", "x" * 150], ["", "x" * 151]),
        ("GNBDUFunction", "gNBDUId", [68719476735], [68719476736]),
        ("GNBCUCPFunction", "pLMNId", [{"mcc": "272", "mnc": "01"}],
         [{"mcc": "27", "mnc": "01"}, {"mcc": "272"}, {"mcc": "272", "mnc": "01", "x": 1}, []]),
        ("NRCellDU", "pLMNInfoList",
         [[{"plmnId": {"mcc": "272", "mnc": "01"}, "snssai": {"sst": 1, "sd": "00000a"}}]],
         [[], [{"snssai": {"sst": 1}}], [{"plmnId": {"mcc": "272", "mnc": "1"}}]]),
        ("NRCellRelation", "adjacentNRCellRef", ["SubNetwork=A,NRCellCU=1"], ["NRCellCU", "", 1]),
        ("NRCellRelation", "isHOAllowed", [True, False], [1, "true"]),
        ("NRFreqRelation", "blockListEntry", [[], [1, 2]], [[1, 1], [1008], 1]),
    ],
)  # fmt: skip
def test_values_are_judged_by_type_and_range(
    model: Model, class_name: str, name: str, good: list[Any], bad: list[Any]
) -> None:
    """Values that the model allows pass. Each other value has a fault that names the attribute."""
    known = attribute(model, class_name, name)
    assert [value for value in good if known.fault(value, (name,))] == []
    for value in bad:
        fault = known.fault(value, (name,))
        assert fault is not None, value
        assert fault.pointer[0] == name


@pytest.mark.parametrize(
    ("class_name", "name", "flags"),
    [
        ("NRCellDU", "operationalState", {"read_only"}),
        ("NRCellDU", "nRPCI", {"mandatory"}),
        ("GNBCUCPFunction", "pLMNId", {"mandatory", "invariant"}),
        ("GNBCUUPFunction", "gNBCUUPId", {"mandatory", "invariant"}),
        ("NRCellDU", "userLabel", set()),
        ("NRCellDU", "rimRSMonitoringStartTime", set()),
        ("NRCellCU", "nRFrequencyRef", {"read_only"}),
    ],
)
def test_flags_are_those_of_stage_2(model: Model, class_name: str, name: str, flags: set[str]) -> None:
    """Read-only, invariant and mandatory come from the tables of TS 28.541 §4.3."""
    known = attribute(model, class_name, name)
    assert {flag for flag in ("read_only", "mandatory", "invariant") if getattr(known, flag)} == flags


def test_containment_is_that_of_the_model(model: Model) -> None:
    """A class is contained as in TS 28.622 and TS 28.541, and a few can be at the root."""
    assert model.contains("MeContext", "ManagedElement")
    assert model.contains("GNBDUFunction", "NRCellDU")
    assert model.contains("GNBCUCPFunction", "EUtraNetwork")
    assert not model.contains("GNBCUCPFunction", "NRCellDU")
    assert not model.contains("NRCellDU", "GNBDUFunction")
    assert model.contains("", "SubNetwork")
    assert not model.contains("", "NRCellDU")


def test_other_spellings_lead_to_stage_2(model: Model) -> None:
    """Class and attribute names of the OpenAPI generations are spellings of the stage-2 names."""
    cell = model.managed_class("NRCellDU")
    assert cell is not None
    assert cell.aliases == ("NrCellDu",)
    assert "nrPci" in model.attribute_spellings("NRCellDU")["nRPCI"]
    assert "blackListEntry" in model.attribute_spellings("NRFreqRelation")["blockListEntry"]


def test_spellings_are_no_other_attributes_name(model: Model) -> None:
    """No other spelling of an attribute is the name or a spelling of another attribute of its class."""
    for class_name in model:
        managed = model.managed_class(class_name)
        assert managed is not None
        names = list(managed.attributes)
        for spellings in model.attribute_spellings(class_name).values():
            names.extend(spellings)
        assert len(names) == len(set(names)), class_name


def test_defaults_are_allowed_values(model: Model) -> None:
    """Every default fits its attribute."""
    for class_name in model:
        managed = model.managed_class(class_name)
        assert managed is not None
        for name, value in managed.defaults().items():
            assert managed.attributes[name].fault(value) is None, (class_name, name)


def test_classes_without_description_are_open_and_unknown_ones_are_not(model: Model) -> None:
    """A class that is only contained accepts any attribute. An unknown class is none, except for vendors."""
    contained = model.managed_class("EP_F1C")
    assert contained is not None
    assert contained.open
    assert model.managed_class("SomeChild") is None
    lenient = load(strict=False)
    own = lenient.managed_class("SomeChild")
    assert own is not None
    assert own.open
    assert lenient.contains("ManagedElement", "SomeChild")
    assert lenient.contains("SomeChild", "SomeGrandChild")
    assert not lenient.contains("SubNetwork", "NRCellDU")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    max_leaves=8,
)


@given(JSON)
def test_any_value_can_be_judged(value: Any) -> None:
    """Any JSON value can be checked, and each fault has a text for a person."""
    for name in ("NRCellDU", "GNBCUCPFunction", "NRFreqRelation"):
        managed = MODEL.managed_class(name)
        assert managed is not None
        for known in managed.attributes.values():
            fault = known.fault(value)
            assert fault is None or fault.detail


MODEL = load()
