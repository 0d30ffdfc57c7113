# SPDX-License-Identifier: Apache-2.0
"""Filters of reads: the objects that they select, and the positions of their errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidFilter
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm import filter as nrm_filter
from ran_datajobs.nrm.filter import all_of, parse

CELL = {
    "nRPCI": 7,
    "administrativeState": "LOCKED",
    "pLMNInfoList": [{"plmnId": {"mcc": "272", "mnc": "01"}}],
    "share": 0.5,
    "on": True,
    "code": "007",
    "label": "a b",
    "none": None,
    "pair": [1, "b"],
    "slice": {"sst": 1, "sd": "a b"},
}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("NRCellDU/attributes/administrativeState==LOCKED", True),
        ("NRCellDU/attributes/administrativeState == LOCKED", True),
        ('NRCellDU/attributes/administrativeState=="LOCKED"', True),
        ("NRCellDU/attributes/administrativeState!=LOCKED", False),
        ("NRCellCU/attributes/administrativeState==LOCKED", False),
        ("NRCellDU/attributes/nRPCI==7.0", True),
        ("NRCellDU/attributes/nRPCI<10", True),
        ("NRCellDU/attributes/nRPCI>=8", False),
        ('NRCellDU/attributes/nRPCI<"10"', False),
        ("NRCellDU/attributes/code==7", False),
        ("NRCellDU/attributes/code==007", True),
        ("NRCellDU/attributes/share<=0.5", True),
        ("NRCellDU/attributes/on==true", True),
        ("NRCellDU/attributes/none==null", True),
        ('NRCellDU/attributes/label=="a b"', True),
        ("NRCellDU/attributes/missing==1", False),
        ("NRCellDU/attributes/missing!=1", False),
        ("NRCellDU/attributes/pLMNInfoList/0/plmnId/mcc==272", True),
        ("NRCellDU/attributes/pLMNInfoList/1/plmnId/mcc!=272", False),
        ("NRCellDU/attributes/nRPCI in (1, 7, 9)", True),
        ("NRCellDU/attributes/administrativeState in (UNLOCKED)", False),
        ("NRCellDU/attributes/nRPCI==7 && NRCellDU/attributes/on==true", True),
        ("NRCellDU/attributes/nRPCI==8 || NRCellDU/attributes/on==true", True),
        ("NRCellDU/attributes/nRPCI==8 || NRCellDU/attributes/on==true && NRCellDU/attributes/x==1", False),
        ("(NRCellDU/attributes/nRPCI==8||NRCellDU/attributes/on==true)&&NRCellDU/attributes/share<1", True),
        ("BWP/attributes/x==1 || NRCellDU/attributes/nRPCI==7", True),
        ('NRCellDU/attributes/pair==[1,"b"]', True),
        ('NRCellDU/attributes/pair == [ 1, "b" ] && NRCellDU/attributes/nRPCI==7', True),
        ('NRCellDU/attributes/pair=="[1,\\"b\\"]"', True),
        ('NRCellDU/attributes/pair!=["b",1]', True),
        ('NRCellDU/attributes/pair in ([], {"a":1}, [1,"b"])', True),
        ('NRCellDU/attributes/slice=={"sd":"a b","sst":1}', True),
        ('NRCellDU/attributes/slice == { "sst" : 1, "sd" : "a b" }', True),
        ('NRCellDU/attributes/slice=={"sst":1,"sd":"a)b"}', False),
        ('NRCellDU/attributes/pLMNInfoList==[{"plmnId":{"mcc":"272","mnc":"01"}}]', True),
        ("NRCellDU/attributes/label==a[0]", False),
        ("NRCellDU/attributes/code!=NaN", True),
        (f"NRCellDU/attributes/pLMNInfoList/{'9' * 5_000}==1", False),
        (f"NRCellDU/attributes/nRPCI=={'9' * 5_000}", False),
    ],
)  # fmt: skip
def test_a_filter_selects_what_its_terms_say(text: str, selected: bool) -> None:
    """Numbers compare as numbers, all other values as strings. A missing attribute makes a comparison
    false."""
    assert parse(text).selects("NRCellDU", CELL) is selected


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("NRCellDU", 0),
        ("NRCellDU/nRPCI==7", 0),
        ("NRCellDU/attributes/nRPCI", 25),
        ("NRCellDU/attributes/nRPCI==", 27),
        ("NRCellDU/attributes/nRPCI=7", 25),
        ("NRCellDU/attributes/nRPCI==7 &&", 31),
        ("NRCellDU/attributes/nRPCI==7 & x", 29),
        ("(NRCellDU/attributes/nRPCI==7", 29),
        ("NRCellDU/attributes/nRPCI==7)", 28),
        ("NRCellDU/attributes/nRPCI in 7", 29),
        ("NRCellDU/attributes/nRPCI in (7", 31),
        ("NRCellDU/attributes/nRPCI==7 NRCellDU/attributes/x==1", 29),
        ('NRCellDU/attributes/x=="\\q"', 23),
        ('NRCellDU/attributes/x=="open', 23),
        ("NRCellDU/attributes/nRPCI==7 && BWP/attributes/x==1", 32),
        ("NRCellDU/attributes/x==[1,2", 27),
        ("NRCellDU/attributes/x==[1,]", 26),
        ("NRCellDU/attributes/x=={a:1}", 24),
        ("NRCellDU/attributes/x == [NaN]", 25),
        ("NRCellDU/attributes/x==[1]x", 26),
        ("NRCellDU/attributes/x==[1] && NRCellDU/attributes/y={}", 51),
        ("NRCellDU/attributes/x in ([1], {}", 33),
        ("NRCellDU/attributes/x==" + "[" * 5_000, 23),
        ("NRCellDU/attributes/x==" + "[" * 250 + "]" * 250, 23),
        (f"NRCellDU/attributes/x==[{'9' * 5_000}]", 23),
        ("[1] == NRCellDU/attributes/x", 0),
    ],
)
def test_a_wrong_filter_says_where(text: str, position: int) -> None:
    """The error has the index of the wrong character, also for a group of two classes."""
    with pytest.raises(InvalidFilter) as refused:
        parse(text)
    assert refused.value.position == position


@pytest.mark.parametrize("name", ["Vs.D", "urn:Vs-D_1", "_X"])
def test_every_class_of_an_fdn_can_be_named(name: str) -> None:
    """Any text valid before the '=' of an RDN is valid before /attributes."""
    assert fdn.parse(f"/{name}=1") == ((name, "1"),)
    assert parse(f"{name}/attributes/x==1").selects(name, {"x": 1})


def test_a_filter_is_bounded() -> None:
    """Length, nesting and the number of alternatives have limits. Exceeding one is an ordinary refusal."""
    term = "A/attributes/x==1"
    for text in (
        f"{term} || " * 2_000 + term,
        "(" * (nrm_filter.MAX_NESTING + 2) + term + ")" * (nrm_filter.MAX_NESTING + 2),
        " && ".join([f"({term} || {term} || {term})"] * 12),
    ):
        with pytest.raises(InvalidFilter):
            parse(text)


def test_several_filters_must_all_hold() -> None:
    """all_of selects what every filter selects; filters of different classes cannot all hold."""
    both = all_of([parse("A/attributes/x>1"), parse("A/attributes/x<5 || B/attributes/x==1")])
    assert both.classes == {"A"}
    assert [value for value in range(8) if both.selects("A", {"x": value})] == [2, 3, 4]
    with pytest.raises(InvalidFilter):
        all_of([parse("A/attributes/x==1"), parse("B/attributes/x==1")])


@given(st.text(alphabet='AB/attributesx01.=!<>&|()" in,\\[]{}:', max_size=60))
def test_any_text_is_a_filter_or_says_where_it_is_not(text: str) -> None:
    """Any text is parsed or refused. A position is within the text or just behind it."""
    try:
        found = parse(text)
    except InvalidFilter as error:
        assert 0 <= error.position <= len(text)
    else:
        assert found.classes


NAMES = st.sampled_from(["x", "y"])
LITERALS = st.integers(-3, 3) | st.sampled_from(["a", "b"]) | st.booleans()
TERMS = st.tuples(NAMES, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), LITERALS)


def holds(term: tuple[str, str, Any], attributes: dict[str, Any]) -> bool:
    name, op, literal = term
    if name not in attributes:
        return False
    value = attributes[name]
    numbers = all(type(each) is int for each in (value, literal))
    left, right = (value, literal) if numbers else (json.dumps(value), json.dumps(literal))
    if not numbers:
        left, right = (text.strip('"') for text in (left, right))
    return {
        "==": left == right, "!=": left != right, "<": left < right,
        "<=": left <= right, ">": left > right, ">=": left >= right,
    }[op]  # fmt: skip


@given(
    st.lists(st.lists(TERMS, min_size=1, max_size=3), min_size=1, max_size=3),
    st.dictionaries(NAMES, LITERALS),
)
def test_and_binds_tighter_than_or(
    groups: list[list[tuple[str, str, Any]]], attributes: dict[str, Any]
) -> None:
    """A filter without parentheses holds when one of its '&&' groups holds as a whole."""
    text = " || ".join(
        " && ".join(f"A/attributes/{name} {op} {json.dumps(literal)}" for name, op, literal in group)
        for group in groups
    )
    expected = any(all(holds(term, attributes) for term in group) for group in groups)
    assert parse(text).selects("A", attributes) is expected
