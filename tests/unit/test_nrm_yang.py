# SPDX-License-Identifier: Apache-2.0
"""YANG modules as a class model."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest

from ran_datajobs.errors import InvalidModules
from ran_datajobs.nrm import patterns, yang, yang_modules
from ran_datajobs.nrm.model import Attribute, ManagedClass, Model
from ran_datajobs.nrm.module_set import ModuleSet, YangModule, decode, encode, names
from ran_datajobs.nrm.yang import read
from tests.kit.yang import modules
from tests.tiers import nightly


@pytest.fixture(scope="module")
def module_set() -> ModuleSet:
    return read(modules())


@pytest.fixture(scope="module")
def cell(module_set: ModuleSet) -> ManagedClass:
    return module_set.classes["NRCellDU"]


def test_classes_are_lists_by_id(module_set: ModuleSet) -> None:
    """Of the modules and of those that augment them; what is mounted is contained, too."""
    model = module_set.model()
    above = {"SubNetwork", "MeContext", "ManagedElement"}  # no module describes MeContext
    assert {*model} == {*above, "GNBDUFunction", "NRCellDU", "Clock", "xvFan"}
    assert model.roots == above and model.complete
    assert model.contains("SubNetwork", "MeContext") and model.contains("MeContext", "ManagedElement")
    assert "setOfMcc" in module_set.classes["SubNetwork"].attributes
    assert not [each for each in module_set.classes["MeContext"].attributes.values() if each.mandatory]
    du = module_set.classes["GNBDUFunction"]
    assert du.children == {"NRCellDU", "Clock", "xvFan"} and du.single == {"Clock"}
    assert model.contains("", "ManagedElement") and model.contains("SubNetwork", "ManagedElement")
    assert not model.contains("", "NRCellDU") and not model.contains("ManagedElement", "NRCellDU")
    assert model.vendors_own("SomethingElse")
    assert module_set.modules == [
        YangModule("x-cell", "2026-02-02"),
        YangModule("x-element", "2026-01-01"),
        YangModule("x-types", "2026-01-01"),
        YangModule("x-vendor", "2026-03-03"),
    ]


PLMN = {"mcc": "001", "mnc": "01"}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("nRPCI", [0, 503], [504, -1, "7", True, None, 7.5]),  # a deviation
        ("administrativeState", ["LOCKED"], ["locked", "", 1]),
        ("pLMNInfoList", [[PLMN], [{"plmnId": PLMN}]], [[], [{"mcc": "001"}], [{**PLMN, "mnc": "1"}], "x"]),
        ("pLMNId", [PLMN, [PLMN]], [[], [PLMN, PLMN], {}, {"mcc": "0001", "mnc": "01"}]),
        ("offsets", [[{"offset": 3.5}, {"idx": 1, "offset": "-3.5"}]], [[{"offset": 3.6}], [{"idx": 1}]]),
        ("nRSectorCarrierRef", [["A=1,B=2", "/A=1"]], [[], ["no"], [1], "A=1", ["A=1", "A=1"]]),
        ("nRFrequencyRef", ["A=1,NRFrequency=2", ["A=1,NRFrequency=2"]], ["no", ["no"], 1]),
        ("gNBId", [4294967295, "7"], [4294967296, "x", -1]),
        ("shareOfCapacity", [0, 50], [51, 100]),
        ("tac", [65535, "none"], [65536, "some"]),
        ("sameAsLabel", ["x"], [1]),
        ("host", ["a", "a-b", "b" * 22], ["-a", "xxyz", "", "b" * 23, "a" * 65]),
        ("optional", [{"inside": True}], [{}, {"inside": 1}, {"other": True}]),
        ("maxPower", [-30, -10, 0, 32767], [-31, -9, 9]),
        ("energyLevel", [100], [101]),
    ],
)
def test_types_are_those_of_the_modules(
    cell: ManagedClass, name: str, good: list[Any], bad: list[Any]
) -> None:
    """Types, ranges, patterns, structs and references; JSON of stage 2 and of RFC 7951."""
    attribute = cell.attributes[name]
    assert [value for value in good if attribute.fault(value)] == []
    assert [value for value in bad if not attribute.fault(value)] == []


def test_properties_of_attributes(cell: ManagedClass) -> None:
    """What depends on a feature, a condition, a choice or a presence is not mandatory, nor is what is
    read-only."""

    def having(what: str) -> set[str]:
        return {name for name, each in cell.attributes.items() if getattr(each, what)}

    assert having("mandatory") == {
        "nRPCI",
        "cellKind",
        "pLMNInfoList",
        "pLMNId",
        "nRSectorCarrierRef",
        "needed",
        "energyLevel",
    }
    assert having("read_only") == {"operationalState"}
    assert having("invariant") == {"cellKind"}
    assert cell.defaults() == {"administrativeState": "LOCKED", "shareOfCapacity": 10}
    assert (cell.attributes["maxPower"].unit, cell.attributes["energyLevel"].unit) == ("dBm", "percent")
    assert cell.attributes["energyLevel"].aliases == ("x-vendor:energyLevel",)
    assert "nrPci" in cell.attributes["nRPCI"].aliases
    assert {"sleepTime", "wakeTime", "lowBand", "highBand"} <= cell.attributes.keys()


def test_the_naming_attribute_has_its_type(module_set: ModuleSet) -> None:
    """Length and values of ids."""
    assert module_set.classes["NRCellDU"].id == Attribute("string", length=(1, 64))
    assert module_set.classes["Clock"].id == Attribute("enum", values=("one",))


def test_the_stored_form_has_each_attribute_once(module_set: ModuleSet) -> None:
    """It gives the same module set again, and equal module sets have the same."""
    stored = encode(module_set)
    again = decode(stored)
    assert again == module_set
    assert encode(again) == stored == encode(read(dict(reversed(modules().items()))))
    assert names(stored) == (module_set.modules, sorted(module_set.classes))
    copies = {f"C{number}": module_set.classes["NRCellDU"] for number in range(50)}
    many = encode(ModuleSet([], copies, frozenset()))
    assert many.count(b'"SHUTTINGDOWN"') == 1
    first, *others = decode(many).classes.values()
    assert all(each.attributes["nRPCI"] is first.attributes["nRPCI"] for each in others)


def test_a_class_in_two_places_has_what_it_has_in_either() -> None:
    """Values are valid for either; mandatory is what both require."""
    two = """module a { namespace "urn:a"; prefix a;
      list A { key id; leaf id { type string; } container attributes { leaf x { type uint8; mandatory true; }
        leaf y { type uint8; mandatory true; } }
        list C { key id; leaf id { type string; } container attributes { leaf z { type boolean; } } } }
      list B { key id; leaf id { type string; } list A { key id; leaf id { type string; }
        container attributes { leaf x { type string; mandatory true; } } } } }"""
    found = read({"a.yang": two}).classes["A"]
    assert found.children == {"C"} and found.attributes.keys() == {"x", "y"}
    assert not found.attributes["x"].fault(7) and not found.attributes["x"].fault("t")
    assert found.attributes["x"].fault(True)
    assert (found.attributes["x"].mandatory, found.attributes["y"].mandatory) == (True, False)


def _line(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.parametrize(
    ("file", "old", "new", "detail"),
    [
        ("x-cell.yang", "prefix xc;", "prefix xc", "syntax"),
        ("x-cell.yang", 'range "0..1007"', 'range "0...x"', "0...x"),
        ("x-cell.yang", "type xt:State;", "type xt:Staat;", "typedef xt:Staat is not defined"),
        ("x-cell.yang", "uses CellGrp;", "uses CelGrp;", "grouping CelGrp is not defined"),
        ("x-cell.yang", "type xt:SmallPercent", "type xx:SmallPercent", "prefix xx is not declared"),
        ("x-cell.yang", "xt:inVariant;", "xx:inVariant;", "'xx' is not declared"),
        ("x-cell.yang", "include x-cell-power;", "include x-cell-energy;", "x-cell-energy is not in the zip"),
        ("x-cell.yang", "import x-element {", "import x-el {", "x-el is not in the zip"),
        ("x-cell.yang", "import x-element { prefix xe; }", "import x-element;", "prefix"),
        ("x-cell.yang", 'path "/xe:ManagedElement', 'path "/xe:ManagedElemint', "leads to no leaf"),
        ("x-cell.yang", 'pattern "[a-z](', 'pattern "[a-z]((', "a-z"),
        ("x-cell.yang", "fraction-digits 1;", "fraction-digits one;", "one"),
        ("x-cell.yang", "if-feature xe:sleeping;", 'if-feature "xe:sleeping or";', "features"),
        ("x-cell.yang", 'description "Escapes: \\"', 'description "Escapes: \\q', "escape sequence"),
        ("x-types.yang", "default 10;", "default ten;", "ten"),
        ("x-types.yang", "type uint8 {", "type SmallPercent {", "derived from itself"),
        ("x-cell-power.yang", "belongs-to x-cell", "belongs-to x-call", "x-call is not in the zip"),
    ],
)
def test_a_fault_has_its_file_and_line(file: str, old: str, new: str, detail: str) -> None:
    """Of the statement in which it is."""
    files = modules()
    assert old in files[file]
    line = _line(files[file], old)
    files[file] = files[file].replace(old, new, 1)
    with pytest.raises(InvalidModules) as raised:
        read(files)
    fault = raised.value
    assert (fault.file, detail in fault.detail) == (file, True), str(fault)
    assert abs(fault.line - line) <= (1 if detail == "syntax" else 0), str(fault)


def test_definitions_that_need_themselves_are_refused() -> None:
    """Modules that import each other, and groupings."""
    files = {
        name: f"module {name} {{ namespace {name}; prefix {name}; import {other} {{ prefix o; }} }}"
        for name, other in ("ab", "bc", "ca")
    }
    with pytest.raises(InvalidModules, match=r"^[abc]:1: modules import each other: . < . < . < .$"):
        read(files)
    text = modules()["x-types.yang"].replace("leaf mcc {", "uses PlmnIdGrp; leaf mcc {")
    with pytest.raises(InvalidModules, match=r"^x-types.yang:\d+: definitions refer to themselves"):
        read(modules() | {"x-types.yang": text})


def test_a_module_is_in_one_file() -> None:
    """With the same revision; of several revisions the newest is implemented."""
    files = modules()
    files["copy.yang"] = files["x-types.yang"]
    with pytest.raises(InvalidModules, match=r"x-types.yang:2: the module x-types is also in copy.yang"):
        read(files)
    files["copy.yang"] = files["copy.yang"].replace("2026-01-01", "2025-01-01").replace("uint8", "uint16")
    found = read(files)
    assert len(found.modules) == 5
    assert found.classes["NRCellDU"].attributes["energyLevel"].fault(101)


def test_texts_that_are_no_module_set() -> None:
    """No module, an empty text, two modules, another language; and modules without a class."""
    for text, detail in (
        ("", "within"),
        ("\ufeff// nothing\n", "within"),
        ("<xml/>", "syntax"),
        ("container x;", "begins with a module"),
        ("module a { namespace a; prefix a; } module b;", "one module"),
        ("module " + "{a " * 5000, "nested too deeply"),
        ("module a { namespace a; prefix a; }", "no module has a class"),
        ('module "a b" { namespace a; prefix a; }', "no name that is allowed"),
        ('module a { namespace a; prefix a; leaf "b\0" { type string; } }', "no name that is allowed"),
    ):
        with pytest.raises(InvalidModules, match=detail):
            read({"a.yang": text})


def test_what_is_resolved_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groupings that use each other twice, and attributes."""
    text = "module a { namespace a; prefix a; grouping g0 { leaf x { type string; } }\n"
    for number in range(1, 40):
        used = f"{{ uses g{number - 1}; }}"
        text += f"grouping g{number} {{ container a {used} container b {used} }}\n"
    text += "list A { key id; leaf id { type string; } container attributes { uses g39; } } }"
    monkeypatch.setattr(yang_modules, "MOST_USES", 500)
    with pytest.raises(InvalidModules, match=r"a\.yang:\d+: more than 500 groupings and types are used"):
        read({"a.yang": text})
    monkeypatch.setattr(yang, "MOST_ATTRIBUTES", 20)
    with pytest.raises(InvalidModules, match="more than 20 attributes"):
        read(modules())
    monkeypatch.setattr(yang, "MOST_CLASSES", 3)
    with pytest.raises(InvalidModules, match=r"more than (3 classes|20 attributes)"):
        read(modules())


@pytest.mark.parametrize("count", [12, nightly(400)])
def test_damaged_modules_are_refused_or_read(count: int) -> None:
    """A line, a word or a character that is missing or twice: no other error."""
    rng = random.Random(5)
    files = modules()
    for _ in range(count):
        name = rng.choice([*files])
        pieces = re.split(rng.choice([r"(\n)", r"(\s+)", r"(\b|[{};])"]), files[name])
        at = rng.randrange(len(pieces))
        pieces[at : at + 1] = rng.choice([[], [pieces[at], pieces[at]], ["}"], ["{"], ["9"], ['"']])
        try:
            read(files | {name: "".join(pieces)})
        except InvalidModules as fault:
            assert fault.file in files or fault.line == 0


# --- patterns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        "[0-9]{3}",
        "[a-z]+-[0-9]*",
        r"(([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])\.){3}[0-9]+",
        r"[\p{L}-[a-c]]{1,500}",
        r"\(a\)(b|c)?",
    ],
)
def test_a_usual_pattern_is_used(pattern: str) -> None:
    """The values of most modules are compared with their patterns."""
    assert patterns.ways(pattern) <= patterns.MOST_WAYS


def test_numbers_have_a_bound() -> None:
    """Of lengths and of lists: the stored form has whole numbers that every reader can read."""
    nines = "9" * 40
    text = f"""module a {{ namespace a; prefix a;
      list A {{ key id; leaf id {{ type string; }} container attributes {{
      leaf x {{ type string {{ length "0..{nines}"; }} }} leaf-list y {{ type string; min-elements {nines}; }}
      leaf z {{ type uint64 {{ range "0..{nines}"; }} }} }} }} }}"""
    found = read({"a.yang": text})
    assert decode(encode(found)) == found
    assert found.classes["A"].attributes["x"].length == (0, 2**53)


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|a)*b", "(a?){40}b", "a*a*a*a*b", "((a{0,8}){0,8}){0,8}", "(a*){0,9}", "(.*,)*x"]
)
def test_a_pattern_that_can_take_long_is_not_used(pattern: str) -> None:
    """Every value is valid for it."""
    assert patterns.ways(pattern) > patterns.MOST_WAYS
    assert patterns.joined([(pattern, pattern, False)]) == ""


def test_a_long_value_is_not_compared() -> None:
    """Nor does the worst pattern that is used take long."""
    text = patterns.joined([("a*a*a*b", "a*a*a*b", False)])
    begun = time.process_time()
    assert re.fullmatch(text, "a" * patterns.LONGEST) is None
    assert re.fullmatch(text, "a" * (patterns.LONGEST + 1)) is not None
    assert time.process_time() - begun < 5
    usual = patterns.joined([("[0-9]{2,3}|x", r"^(?:[0-9]{2,3}|x)$(?!\n\Z)", False)])
    assert usual == "[0-9]{2,3}|x" and not re.fullmatch(usual, "1x")
    anchored = patterns.joined([("^([0-9]{2}$)", r"^(?:\^(?:[0-9]{2}\$))$(?!\n\Z)", False)])
    assert [value for value in ("12", "^12$", "123", "$12") if re.fullmatch(anchored, value)] == [
        "12",
        "^12$",
    ]
    both = patterns.joined([("[a-c]+", "[a-c]+", False), ("b+", "b+", True)])
    assert [value for value in ("abc", "bb", "d") if re.fullmatch(both, value)] == ["abc"]


def test_a_model_of_a_module_set_is_a_model(module_set: ModuleSet) -> None:
    """What no module describes is a vendor's own."""
    model = module_set.model()
    assert isinstance(model, Model)
    assert model.contains("NRCellDU", "vendorsOwn") and model.managed_class("vendorsOwn") is not None
