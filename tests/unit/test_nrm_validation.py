# SPDX-License-Identifier: Apache-2.0
"""Validation against a class model: what is found, in which order, and that it agrees with an element."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw, Struct

from ran_datajobs.model import ErrorDetail, Op
from ran_datajobs.nrm.class_model import ClassModel, Finding
from ran_datajobs.nrm.model import Attribute, ManagedClass, Model, load
from ran_datajobs.nrm.names import child_key, class_of
from ran_datajobs.nrm.patch import Patch, apply, read_patch
from ran_datajobs.nrm.quick_check import check_of
from ran_datajobs.nrm.tree import Overlay
from ran_datajobs.nrm.validation import Validator
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network

ELEMENT = "/SubNetwork=Europe/MeContext=1/ManagedElement=1"
CELL = f"{ELEMENT}/GNBDUFunction=1/NRCellDU=1"
CELL_CU = f"{ELEMENT}/GNBCUCPFunction=1/NRCellCU=1"
ATTRIBUTES = f"{CELL}#/attributes"
RELATION = f"{CELL_CU}/NRCellRelation=1"
PLMN = [{"plmnId": {"mcc": "262", "mnc": "01"}, "snssai": {"sst": 1}}]
BUILT_IN = ClassModel(load())

NAME, VALUE = "NEW_DATA_NODE_NAME_INVALID", "NEW_DATA_NODE_VALUE_INVALID"
PLACE, NOT_FOUND = "NEW_DATA_NODE_CONTAINMENT_INVALID", "TARGET_DATA_NODE_NOT_FOUND"
NO_PARENT = "TARGET_DATA_NODE_PARENT_NOT_FOUND"
MANY, TWICE = "FINAL_DATA_NODE_MULTIPLICITY_INVALID", "FINAL_DATA_NODE_UNIQUENESS_INVALID"
READ_ONLY, INVARIANT = "TARGET_DATA_NODE_NOT_WRITABLE", "TARGET_DATA_NODE_INVARIANT"
KEPT, ONE = "TARGET_DATA_NODE_DELETION_NOT_ALLOWED", "FINAL_DATA_NODE_CARDINALITY_INVALID"


class Step(Struct, frozen=True):
    """One operation."""

    op: Op
    path: str
    value: Any = UNSET

    @property
    def raw(self) -> Any:
        return UNSET if self.value is UNSET else Raw(msgspec.json.encode(self.value))


def step(op: str, path: str, value: Any = UNSET) -> Step:
    return Step(Op(op), path, value)


def judged(steps: Sequence[Step], model: ClassModel = BUILT_IN) -> list[list[Finding]]:
    """The findings of each operation; what fails is not sent."""
    validator, found = Validator(), []
    for each in steps:
        findings = list(validator.findings(each.op, each.path, each.raw, model))
        if all(finding.is_warning for finding in findings):
            validator.executed()
        found.append(findings)
    return found


def reasons(*steps: Step, model: ClassModel = BUILT_IN) -> list[str]:
    """The reasons of the last operation; a warning in brackets."""
    found = judged(steps, model)[-1]
    return [f"({each.reason})" if each.is_warning else each.reason for each in found]


@pytest.mark.parametrize(("operation", "expected"), [
    # what is valid
    (step("merge", CELL, {"nRPCI": 1007, "userLabel": "x"}), []),
    (step("merge", CELL, {"attributes": {"nRPCI": 1.0}}), []),
    (step("replace", f"{ATTRIBUTES}/nrPci", 12), []),
    (step("merge", CELL.replace("NRCellDU", "NrCellDu"), {"nRPCI": 1}), []),
    (step("add", f"{CELL_CU}/NRCellRelation=9", {"id": "9", "attributes": {
        "adjacentNRCellRef": "SubNetwork=A,NRCellCU=1", "nRFreqRelationRef": "SubNetwork=A,NRFreqRelation=1",
        }}), []),
    (step("add", f"{ELEMENT}/GNBCUCPFunction=2",
          {"objectClass": "GnbCuCpFunction", "attributes": {"pLMNId": {"mcc": "262", "mnc": "01"}}}), []),
    (step("replace", f"{ATTRIBUTES}/pLMNInfoList/0/snssai/sst", 255), []),
    (step("merge", RELATION, {"cellIndividualOffset": {"rsrpOffsetSsb": 1}}), []),
    (step("remove", f"{ATTRIBUTES}/nRTAC"), []),
    (step("remove", CELL), []),
    (step("action", f"{CELL}#Restart", {"input": {}}), []),
    (step("test", f"{ATTRIBUTES}/operationalState", "ENABLED"), []),
    (step("read", CELL), []),
    # class and containment
    (step("add", f"{ELEMENT}/NRCellDU=1", {"attributes": {}}), [PLACE]),
    (step("add", "/NRCellDU=1", {"attributes": {}}), [PLACE]),
    (step("add", f"{ELEMENT}/NRCellDU=1/RRMPolicyRatio=1", {"attributes": {}}), [NO_PARENT]),
    (step("merge", f"{ELEMENT}/NRCellDU=1", {"nRPCI": 1}), [NOT_FOUND]),
    (step("read", f"{ELEMENT}/NRCellDU=1"), [NOT_FOUND]),
    (step("add", CELL, {"id": "2", "attributes": {}}), [NAME]),
    (step("add", CELL, {"objectClass": "NRCellCU", "attributes": {}}), [NAME]),
    (step("add", CELL, {"attributes": {}, "RRMPolicyRatio": [{"id": "1"}]}), [PLACE]),
    (step("add", CELL, {"attributes": []}), [VALUE]),
    # attribute, type, range
    (step("merge", CELL, {"nRPCI": 1008}), [VALUE]),
    (step("merge", CELL, {"nRPCI": "12"}), [VALUE]),
    (step("merge", CELL, {"nRPCI": 1.5, "cellLocalId": -1}), [VALUE, VALUE]),
    (step("merge", CELL, {"administrativeState": "ON"}), [VALUE]),
    (step("replace", f"{ATTRIBUTES}/nrPci", True), [VALUE]),
    (step("replace", f"{ATTRIBUTES}/pLMNInfoList/0/snssai/sst", 256), [VALUE]),
    (step("add", f"{ATTRIBUTES}/pLMNInfoList/-", {"plmnId": 3}), [VALUE]),
    (step("replace", f"{ATTRIBUTES}/pLMNInfoList/-", PLMN[0]), [NAME]),
    (step("replace", f"{ATTRIBUTES}/pLMNInfoList/x", PLMN[0]), [NAME]),
    (step("replace", f"{ATTRIBUTES}/nRPCI/x", 1), [NOT_FOUND]),
    (step("replace", f"{ATTRIBUTES}/bWPRef", ["SubNetwork=A,BWP=1", "SubNetwork=A,BWP=1"]), [TWICE]),
    (step("replace", f"{ATTRIBUTES}/bWPRef", [""]), [VALUE]),
    (step("test", f"{ATTRIBUTES}/nRPCI", 1008), ["VALIDATION_FAILED"]),
    # writable, references
    (step("merge", CELL, {"operationalState": "ENABLED"}), [READ_ONLY]),
    (step("merge", CELL, {"operationalState": None}), [READ_ONLY]),
    (step("remove", f"{ATTRIBUTES}/operationalState"), [READ_ONLY]),
    (step("replace", f"{ATTRIBUTES}/cellState", "no state"), [READ_ONLY]),
    (step("merge", f"{ELEMENT}/GNBCUCPFunction=1", {"pLMNId": {"mcc": "262", "mnc": "02"}}), [INVARIANT]),
    (step("replace", f"{ELEMENT}/GNBCUCPFunction=1#/attributes/pLMNId/mcc", "262"), [INVARIANT]),
    (step("merge", RELATION, {"adjacentNRCellRef": "SubNetwork=A,NRCellDU=1"}), [VALUE]),
    (step("merge", RELATION, {"adjacentNRCellRef": "SubNetwork=A,NrCellCu=1"}), []),
    # what the model does not know may be a vendor's
    (step("merge", CELL, {"vendorTilt": 3, "nRPCI": 1}), [f"({NAME})"]),
    (step("merge", CELL, {"vendorTilt": 3, "nRPCI": 5000}), [f"({NAME})", VALUE]),
    (step("replace", f"{ATTRIBUTES}/vendorTilt/deep", 3), [f"({NAME})"]),
    (step("merge", f"{ELEMENT}/GNBCUCPFunction=1/NRNetwork=1", {"anyName": 1, "userLabel": 5}), [VALUE]),
    (step("merge", f"{CELL}/VendorThing=1", {"x": 1}), [f"({NAME})"]),
    (step("merge", f"{CELL}/VsDataContainer=1", {"x": 1, "y": 2}), [f"({NAME})"]),
    (step("merge", RELATION, {"adjacentNRCellRef": "SubNetwork=A,VendorCell=1"}), [f"({VALUE})"]),
    (step("merge", CELL, {"pLMNInfoList": [{"plmnId": {"vendor": 1, "mcc": "1", "mnc": "01"}}]}),
     [f"({NAME})", VALUE]),
    (step("merge", "/Vendor=1/NRCellDU=1", {"nRPCI": 1}), []),
])  # fmt: skip
def test_one_operation(operation: Step, expected: list[str]) -> None:
    """Each finding has the reason of TS 28.572; only what the model does not know is a warning."""
    assert reasons(operation) == expected


def test_a_warning_names_the_attribute_in_the_case_of_the_model() -> None:
    """A wrong case is the most frequent typing error, and still can be a vendor's name."""
    ((finding,),) = judged([step("merge", CELL, {"nRpCI": 1})])
    assert finding == Finding(NAME, "NRCellDU has no attribute nRpCI: did you mean nRPCI?", True)


CU = f"{ELEMENT}/GNBCUCPFunction=1"
NEW_CU = step("add", CU, {"attributes": {"pLMNId": {"mcc": "262", "mnc": "01"}}})


@pytest.mark.parametrize(("steps", "expected"), [
    # what may not change after creation
    ((NEW_CU, step("merge", CU, {"pLMNId": {"mcc": "262", "mnc": "01"}})), []),
    ((NEW_CU, step("merge", CU, {"pLMNId": {"mcc": "262", "mnc": "02"}})), [INVARIANT]),
    ((NEW_CU, step("replace", f"{CU}#/attributes/pLMNId", {"mcc": "262", "mnc": "01"})), []),
    ((NEW_CU, step("remove", f"{CU}#/attributes/pLMNId")), [INVARIANT]),
    ((NEW_CU, NEW_CU), []),
    ((NEW_CU, step("add", CU, {"attributes": {"pLMNId": {"mcc": "1", "mnc": "02"}}})), [INVARIANT]),
    ((NEW_CU, step("add", CU, {"attributes": {}}), NEW_CU), []),
    ((NEW_CU, step("remove", CU), NEW_CU), []),
    # what the job has removed
    ((step("remove", CELL), step("merge", CELL, {"nRPCI": 1})), [NOT_FOUND]),
    ((step("remove", CELL), step("remove", CELL)), [NOT_FOUND]),
    ((step("remove", CELL), step("add", f"{CELL}/RRMPolicyRatio=1", {"attributes": {}})), [NO_PARENT]),
    ((step("remove", CELL), step("merge", f"{CELL}/RRMPolicyRatio=1", {})), [NOT_FOUND]),
    ((step("remove", CELL), step("merge", f"{CELL}1", {"nRPCI": 1})), []),
    ((step("remove", CELL), step("add", CELL, {"attributes": {}}), step("merge", CELL, {"nRPCI": 1})), []),
    # what the job has created
    ((NEW_CU, step("add", f"{CU}/NRCellCU=1", {"attributes": {}}), step("remove", CU)), [KEPT]),
    ((NEW_CU, step("add", f"{CU}/NRCellCU=1", {}), step("add", f"{CU}/NRCellCU=1", {}),
      step("remove", f"{CU}/NRCellCU=1"), step("remove", CU)), []),
    ((step("add", f"{ELEMENT}/AlarmList=1", {}), step("add", f"{ELEMENT}/AlarmList=2", {})), [ONE]),
    ((step("add", f"{ELEMENT}/AlarmList=1", {}), step("remove", f"{ELEMENT}/AlarmList=1"),
      step("add", f"{ELEMENT}/AlarmList=2", {})), []),
    # what fails has no effect
    ((step("add", CU, {"attributes": {"gNBId": "x"}}),
      step("add", CU, {"attributes": {"pLMNId": {"mcc": "1", "mnc": "02"}}})), [VALUE]),
    ((step("add", CU, {"attributes": {"gNBId": "x"}}), NEW_CU), []),
])  # fmt: skip
def test_the_order_of_the_job_counts(steps: tuple[Step, ...], expected: list[str]) -> None:
    """The last operation is judged by what the ones before it do."""
    assert reasons(*steps, model=BUILT_IN) == expected


# --- a module set ------------------------------------------------------------------------------------


def string(**more: Any) -> Attribute:
    return Attribute("string", **more)


OWN = ClassModel(
    Model(
        {
            "ManagedElement": ManagedClass(children=frozenset({"Antenna"})),
            "Antenna": ManagedClass(
                id=Attribute("integer", ranges=((1, 8),)),
                children=frozenset({"Antenna"}),
                attributes={
                    "tilt": Attribute("integer", ranges=((-90, 90),), mandatory=True),
                    "mode": Attribute("enum", values=("A", "B"), mandatory=True, default="A"),
                    "limit": Attribute("union", options=(Attribute("integer"), string(pattern="unbounded"))),
                    "free": Attribute("any"),
                    "beams": Attribute(
                        "list",
                        min_items=1,
                        items=Attribute("object", fields={"name": string(mandatory=True), "note": string()}),
                    ),
                },
            ),
        },
        roots=frozenset({"ManagedElement"}),
        complete=True,
    )
)
ANTENNA = f"{ELEMENT}/Antenna=1"


@pytest.mark.parametrize(("operation", "expected"), [
    (step("add", ANTENNA, {"attributes": {"tilt": 3}}), []),
    (step("add", ANTENNA, {"attributes": {"mode": "B"}}), [MANY]),
    (step("remove", f"{ANTENNA}#/attributes/tilt"), [MANY]),
    (step("merge", ANTENNA, {"tilt": None}), [MANY]),
    (step("merge", ANTENNA, {"beams": []}), [MANY]),
    (step("merge", ANTENNA, {"beams": [{"note": "x"}]}), [MANY]),
    (step("remove", f"{ANTENNA}#/attributes/beams/0/name"), [MANY]),
    (step("remove", f"{ANTENNA}#/attributes/beams/0/note"), []),
    (step("merge", ANTENNA, {"limit": "unbounded", "free": [{"x": None}]}), []),
    (step("merge", ANTENNA, {"limit": 2.0}), []),
    (step("merge", ANTENNA, {"limit": "none"}), [VALUE]),
    (step("add", f"{ELEMENT}/Antenna=9", {"attributes": {"tilt": 3}}), [NAME]),
    (step("add", f"{ELEMENT}/Antenna=north", {"attributes": {"tilt": 3}}), [NAME]),
    (step("merge", f"{ELEMENT}/Tower=1/Antenna=1", {"tilt": 3}), [f"({NAME})"]),
    (step("add", "/SubNetwork=A/Antenna=1", {"attributes": {"tilt": 3}}), []),
])  # fmt: skip
def test_the_modules_of_the_elements(operation: Step, expected: list[str]) -> None:
    """They require their mandatory attributes and describe nothing above their roots."""
    assert reasons(operation, model=OWN) == expected


# --- beside an element -------------------------------------------------------------------------------


class Draft:
    """Random operations on a simulated network, and what they become at it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.network = Network(4, seed)
        self.model = self.network.model
        self.keys = [key for key, _ in self.network.walk() if layout.element_key(1) in key]

    def error(self, operation: Step, objects: Any) -> ErrorDetail | None:
        """The error of the element."""
        patch = read_patch(operation.op, operation.path, operation.raw)
        assert isinstance(patch, Patch)
        return apply(patch, objects, self.model, self.network.actions)

    def value_of(self, attribute: Attribute, old: Any) -> Any:
        """A valid value; the one of an object where there is nothing to choose."""
        match attribute.type:
            case "integer" if attribute.ranges:
                low, high = self.rng.choice(attribute.ranges)
                return self.rng.randint(int(low), int(high))
            case "enum":
                return self.rng.choice(attribute.values)
            case "boolean":
                return self.rng.random() < 0.5
            case "string" if not attribute.pattern:
                return f"{self.rng.random()}"
            case _:
                return old

    def _one_of(self, *classes: str) -> str:
        return self.rng.choice([key for key in self.keys if class_of(key) in classes])

    def writable(self, key: str) -> list[str]:
        managed = self.model.managed_class(class_of(key))
        assert managed is not None
        return [
            name
            for name in self.network.attributes(key) or {}
            if (found := managed.attributes.get(name)) and not (found.read_only or found.invariant)
        ]

    def attribute(self, key: str, name: str) -> Attribute:
        managed = self.model.managed_class(class_of(key))
        assert managed is not None
        return managed.attributes[name]

    def changed(self) -> tuple[str, str, Any]:
        """An object, and an attribute of it with a valid value."""
        while True:
            key = self.rng.choice(self.keys)
            if names := self.writable(key):
                name = self.rng.choice(names)
                old = (self.network.attributes(key) or {})[name]
                return key, name, self.value_of(self.attribute(key, name), old)

    def operations(self) -> Iterator[Step]:
        """Operations that mostly are valid."""
        while True:
            key, name, value = self.changed()
            path = f"/{key}#/attributes/{name}"
            match self.rng.randrange(6):
                case 0:
                    yield step("merge", f"/{key}", {name: value})
                case 1:
                    yield step("replace", path, value)
                case 2:
                    yield step("add", path, value)
                case 3:
                    yield step("test", path, (self.network.attributes(key) or {})[name])
                case 4 if not self.attribute(key, name).mandatory:
                    yield step("remove", path)
                case _:
                    yield from self.creation()

    def creation(self) -> Iterator[Step]:
        """A copy of an object under another name, then its removal."""
        key = self._one_of("BWP", "NRCellRelation")
        new = f"/{child_key(key.rpartition('/')[0], class_of(key), f'new-{self.rng.randrange(10**9)}')}"
        yield step("add", new, {"attributes": self.network.attributes(key)})
        yield step("remove", new)

    def mistakes(self) -> Iterator[tuple[Step, str]]:
        """Operations with one mistake, and the reason."""
        wrong: list[Callable[[], tuple[Step, str]]] = [
            self._out_of_range,
            self._wrong_type,
            self._read_only,
            self._misplaced,
            self._other_id,
            self._reference,
            self._invariant,
        ]
        while True:
            yield self.rng.choice(wrong)()

    def _at(self, key: str, name: str, value: Any) -> Step:
        return self.rng.choice(
            (
                step("merge", f"/{key}", {name: value}),
                step("replace", f"/{key}#/attributes/{name}", value),
                step("add", f"/{key}#/attributes/{name}", value),
            )
        )

    def _out_of_range(self) -> tuple[Step, str]:
        while True:
            key, name, _ = self.changed()
            if ranges := self.attribute(key, name).ranges:
                edge = self.rng.choice((int(ranges[0][0]) - 1, int(ranges[-1][1]) + 1))
                return self._at(key, name, edge), VALUE

    def _wrong_type(self) -> tuple[Step, str]:
        key, name, value = self.changed()
        wrong = [each for each in (7, "?", True, [7], {"a": 1}) if type(each) is not type(value)]
        return self._at(key, name, [[]] if type(value) is list else self.rng.choice(wrong)), VALUE

    def _read_only(self) -> tuple[Step, str]:
        key = self._one_of("NRCellDU")
        old = (self.network.attributes(key) or {})["operationalState"]
        value = "DISABLED" if old == "ENABLED" else "ENABLED"
        return self._at(key, "operationalState", value), READ_ONLY

    def _misplaced(self) -> tuple[Step, str]:
        key = self._one_of("NRCellDU", "NRCellRelation")
        return step("add", f"/{key}/NRCellDU=9", {"attributes": {}}), PLACE

    def _other_id(self) -> tuple[Step, str]:
        return step("add", f"/{self.rng.choice(self.keys)}", {"id": "another", "attributes": {}}), NAME

    def _reference(self) -> tuple[Step, str]:
        key = self._one_of("NRCellRelation")
        return self._at(key, "adjacentNRCellRef", f"SubNetwork=A,BWP={self.rng.randrange(99)}"), VALUE

    def _invariant(self) -> tuple[Step, str]:
        key = self._one_of("GNBCUCPFunction")
        return self._at(key, "pLMNId", {"mcc": "001", "mnc": f"{self.rng.randrange(10, 99)}"}), INVARIANT


@pytest.mark.parametrize("number", [1_000, pytest.param(100_000, marks=pytest.mark.nightly)])
def test_what_an_element_accepts_has_no_finding(number: int) -> None:
    """No false alarm: operations that the simulated network executes, in order, have no finding."""
    draft, validator, accepted = Draft(number), Validator(), 0
    objects = Overlay(draft.network)
    for operation in draft.operations():
        if draft.error(operation, objects) is None:
            found = validator.findings(operation.op, operation.path, operation.raw, BUILT_IN)
            assert not found, (operation, found)
            validator.executed()
            accepted += 1
            if accepted == number:
                return


def test_a_mistake_is_found_with_the_reason_of_the_element() -> None:
    """Every operation with a mistake fails, with the reason that the simulated network gives for it."""
    draft = Draft(1)
    for operation, reason in itertools.islice(draft.mistakes(), 2_000):
        error = draft.error(operation, Overlay(draft.network))
        assert error is not None and error.reason == reason, (operation, error)
        assert reasons(operation) == [reason], operation


def test_the_quick_check_never_overlooks_a_fault() -> None:
    """It says valid only of what has no fault, and does so of every value of the simulated network."""
    draft = Draft(1)
    values: list[Any] = [
        None,
        True,
        1,
        -1,
        2.0,
        1e9,
        "",
        "x",
        "A=1,NRCellCU=2",
        [],
        [[]],
        [1, 1],
        {},
        {"mcc": "1"},
    ]
    for key in draft.keys:
        managed = draft.model.managed_class(class_of(key))
        assert managed is not None
        for name, own in (draft.network.attributes(key) or {}).items():
            if (attribute := managed.attributes.get(name)) is None:
                continue
            is_valid = check_of(attribute)
            assert is_valid(own), (key, name, own)
            for value in (*values, draft.value_of(attribute, own), [own, own]):
                assert not is_valid(value) or attribute.fault(attribute.normal(value)) is None, (name, value)
