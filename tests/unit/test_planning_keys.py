# SPDX-License-Identifier: Apache-2.0
"""The keys of a request: those that are read, refused, or ignored and reported."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidRequest, UnsupportedRequest
from ran_datajobs.model import Ignored, IgnoredKey
from ran_datajobs.planning.keys import ENVELOPE, MAX_LISTED, MAX_UNLISTED, NOT_OFFERED, one_edit_apart
from ran_datajobs.planning.request import check_request, read_accepted

CELL = "/SubNetwork=SN1/ManagedElement=ME1/NRCellDU=1"
ADD = {"op": "add", "path": CELL, "value": {"id": "1", "attributes": {"nRPCI": 7}}}
VALUES = {
    "dataAcceptType": "application/vnd.3gpp.object-tree-flat+json",
    "dataContentType": "application/3gpp-json-patch+json",
    "name": "n",
    "activationMode": "BEST_EFFORT",
    "priority": 9,
    "after": [],
    "data": [ADD],
}


def text(members: list[tuple[str, Any]]) -> bytes:
    """A JSON object with these members in this order, including duplicates."""
    return b"{%b}" % b",".join(
        json.dumps(key).encode() + b":" + json.dumps(value).encode() for key, value in members
    )


def body(*operations: dict[str, Any], **envelope: Any) -> bytes:
    return json.dumps({**envelope, "data": list(operations)}).encode()


def ignored_in(request: bytes) -> Ignored | None:
    """The ignored keys."""
    return check_request(request).ignored


def surely_ignored_in(request: bytes) -> Ignored:
    """The same, if there are any."""
    reported = ignored_in(request)
    assert reported is not None
    return reported


def pointers(request: bytes, kind: type[InvalidRequest | UnsupportedRequest] = InvalidRequest) -> list[str]:
    with pytest.raises(kind) as refusal:
        check_request(request)
    return [pointer for pointer, _ in refusal.value.problems]


def distance(one: str, other: str) -> int:
    """Damerau's distance, by the textbook's table."""
    rows = [[max(i, j) if not i or not j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            changed = rows[i - 1][j - 1] + (one[i - 1] != other[j - 1])
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, changed)
            if i > 1 and j > 1 and one[i - 2 : i] == other[j - 2 : j][::-1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@st.composite
def slips(draw: st.DrawFn, words: st.SearchStrategy[str]) -> str:
    """A word with one typing error, or two."""
    word = draw(words)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, max(0, len(word) - 1)))
        letter = draw(st.sampled_from("aeiopt_ "))
        word = draw(
            st.sampled_from(
                [
                    word[:at] + letter + word[at:],
                    word[:at] + word[at + 1 :],
                    word[:at] + letter + word[at + 1 :],
                    word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
                ]
            )
        )
    return word


WORDS = st.sampled_from([*ENVELOPE, *NOT_OFFERED])


@given(WORDS | st.text("abc", max_size=5), slips(WORDS) | st.text("abc", max_size=5))
def test_one_edit_apart_is_a_distance_of_one(one: str, other: str) -> None:
    """Also for a letter that is added, omitted or changed, and for two that are swapped."""
    assert one_edit_apart(one, other) == one_edit_apart(other, one) == (distance(one, other) == 1)


KNOWN = st.sampled_from(list(VALUES))
ANY_CASE = st.sampled_from([str, str.lower, str.upper, str.swapcase, str.title])
OTHERS = (
    st.sampled_from([*NOT_OFFERED.values(), "notBefore", "x", "dryRun", "a/b~c"])
    | slips(KNOWN)
    | st.text(max_size=6)
)


@given(
    st.lists(st.tuples(KNOWN, ANY_CASE), max_size=4, unique_by=lambda one: one[0]),
    st.lists(st.tuples(OTHERS, ANY_CASE, st.sampled_from([1, False])), max_size=4),
)
def test_every_key_of_an_envelope_is_read_refused_or_told(
    known: list[tuple[str, Any]], others: list[tuple[str, Any, Any]]
) -> None:
    """A known key is read in any case. Of the others none is dropped silently: a duplicate, and a
    misspelling, is a 400 with its pointer; an unsupported one is a 422; the rest are reported."""
    members = [(change(key), VALUES[key]) for key, change in known]
    members += [(change(key), value) for key, change, value in others]
    members += [] if any(key.lower() == "data" for key, _ in members) else [("data", [ADD])]
    there = Counter(key.lower() for key, _ in members)
    refused, impossible, reported = set(), set(), []
    for key, value in members:
        lower, pointer = key.lower(), "#/" + key.replace("~", "~0").replace("/", "~1")
        if lower in ENVELOPE:
            refused |= {f"#/{ENVELOPE[lower]}"} if there[lower] > 1 or value in (1, False) else set()
        elif there[lower] > 1:
            refused |= {"#/" + last.replace("~", "~0").replace("/", "~1") for last, _ in members
                        if last.lower() == lower}  # fmt: skip
        elif lower in NOT_OFFERED:
            impossible.add(pointer)
        elif (lower == "dryrun" and value is not False) or any(
            distance(lower, each) == 1 for each in {*ENVELOPE, *NOT_OFFERED, "dryrun"} - set(there)
        ):
            refused.add(pointer)
        else:
            reported.append(IgnoredKey(pointer=pointer))
    if refused:
        assert set(pointers(text(members))) <= refused
    elif impossible:
        assert set(pointers(text(members), UnsupportedRequest)) == impossible
    else:
        assert ignored_in(text(members)) == (Ignored(tuple(reported), len(reported)) if reported else None)


@pytest.mark.parametrize(
    ("envelope", "said"),
    [
        ({"prioritty": 9}, "priority"),
        ({"Pirority": 9}, "priority"),
        ({"prioriy": 9}, "priority"),
        ({"names": "x"}, "name"),
        ({"activationmodes": "STOP_ON_ERROR"}, "activationMode"),
        ({"undoabel": True}, "undoable"),
        ({"dry_run": True}, "dryRun"),
    ],
)
def test_a_slip_of_the_pen_is_refused_with_the_key_that_was_meant(
    envelope: dict[str, Any], said: str
) -> None:
    """A letter too many, too few, another one, or two that are swapped."""
    (key,) = envelope
    with pytest.raises(InvalidRequest) as refusal:
        check_request(body(ADD, **envelope))
    assert refusal.value.problems == ((f"#/{key}", f"is not a key of a request: did you mean {said}?"),)


def test_a_key_near_one_that_stands_there_itself_is_ignored() -> None:
    """`date` next to `data`, and `names` next to `name`, are keys of another application."""
    reported = ignored_in(body(ADD, date="2026-01-01", name="n", names=["a"]))
    assert reported == Ignored((IgnoredKey(pointer="#/date"), IgnoredKey(pointer="#/names")), 2)


@pytest.mark.parametrize("key", [*NOT_OFFERED.values(), "BasedOn", "UNDOABLE"])
def test_what_is_not_offered_yet_is_refused_by_its_name(key: str) -> None:
    """A client must not rely on an unsupported mode: its key is refused even if its value turns it off."""
    for value in (True, False, "OFF"):
        with pytest.raises(UnsupportedRequest) as refusal:
            check_request(body(ADD, **{key: value}))
        assert refusal.value.problems[0][0] == f"#/{key}"
        assert NOT_OFFERED[key.lower()] in str(refusal.value)
    assert ignored_in(body(ADD, **{key: None})) is None


def test_a_guard_in_an_operation_is_not_offered_yet() -> None:
    """Each one is named, up to a hundred, and all are counted. A fault elsewhere is reported first."""
    with_circuit_breaker = {**ADD, "expect": {"exists": True}}
    assert pointers(body(ADD, with_circuit_breaker), UnsupportedRequest) == ["#/data/1/expect"]
    with pytest.raises(UnsupportedRequest) as refusal:
        check_request(body(*[with_circuit_breaker] * 250))
    assert (len(refusal.value.problems), refusal.value.count) == (100, 250)
    assert pointers(body(with_circuit_breaker, {**ADD, "op": "move"})) == ["#/data/1/op"]
    assert ignored_in(body({**ADD, "expect": None})) is None


def test_a_dry_run_asked_for_in_the_body_is_never_executed() -> None:
    """The problem says where the key belongs. An unused one is ignored like any other key."""
    for key in ("dryRun", "dryrun", "DRYRUN"):
        with pytest.raises(InvalidRequest, match="query parameter"):
            check_request(body(ADD, **{key: True}))
    assert ignored_in(body(ADD, dryRun=False)) == Ignored((IgnoredKey(pointer="#/dryRun"),), 1)


def test_ignored_keys_of_operations_are_told_once_with_a_count() -> None:
    """Those of the envelope first, with their pointers, verbatim and never taken for a misspelling."""
    reported = surely_ignored_in(
        body(
            {**ADD, "note": 1, "Path": 1},
            {**ADD, "note": None, "operationID": 7, "valu": 1},
            {**ADD, " note ": 1},
            notBefore="2027-01-01T00:00:00Z",
        )
    )
    assert reported.keys == (
        IgnoredKey(pointer="#/notBefore"),
        IgnoredKey(name="note", count=3),
        IgnoredKey(name="Path", count=1),
        IgnoredKey(name="operationID", count=1),
        IgnoredKey(name="valu", count=1),
    )
    assert reported.count == 5


def test_a_filter_in_a_write_is_told() -> None:
    """A restriction of a read on a write is refused, since it would have no effect. `null` restricts
    nothing."""
    remove = {"op": "remove", "path": CELL, "filter": "NRCellDU/attributes/x==1", "scope": {}}
    many = [{**remove, "path": f"{CELL}{n}"} for n in range(3000)]
    assert surely_ignored_in(body(ADD, *many)).keys == (
        IgnoredKey(name="filter", count=3000),
        IgnoredKey(name="scope", count=3000),
    )
    assert ignored_in(body({**ADD, "filter": None, "attributes": None, "fields": None})) is None
    assert ignored_in(body({"op": "read", "path": CELL, "filter": "NRCellDU/attributes/x==1"})) is None


def test_a_hundred_ignored_keys_are_told_and_all_are_counted() -> None:
    """Names in operations are listed separately up to a limit. Very long ones are cut."""
    many = {f"x{n}": 1 for n in range(250)}
    reported = surely_ignored_in(body({**ADD, **many}, **{f"key{n}": 1 for n in range(10)}))
    assert (len(reported.keys), reported.count) == (MAX_LISTED, 260)
    assert reported.keys[9:11] == (IgnoredKey(pointer="#/key9"), IgnoredKey(name="x0", count=1))
    (told_long,) = surely_ignored_in(body({**ADD, "k" * 5000: 1})).keys
    assert isinstance(told_long.name, str) and len(told_long.name) == 128
    far_too_many = {f"y{n}": 1 for n in range(MAX_UNLISTED + 1000)}
    assert surely_ignored_in(body({**ADD, **far_too_many})).count == MAX_LISTED + MAX_UNLISTED


@pytest.mark.parametrize(
    "accepted",
    [
        body(ADD, undoable=True, prioritty=9),
        body({**ADD, "expect": {"absent": True}}),
        text([("foo", 1), ("FOO", 2), ("data", [ADD])]),
        body({**ADD, "x": 1}, activationMode="STOP_ON_ERROR"),
    ],
)
def test_what_an_older_version_accepted_is_still_read(accepted: bytes) -> None:
    """A job that got its 202 is executed, even if a submit would refuse it today."""
    _, operations = read_accepted(accepted)
    assert [operation.path for operation in operations] == [CELL]
