# SPDX-License-Identifier: Apache-2.0
"""What the inventory of an NCMP changes here: events, items of searches, plugins, differences."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.cli.serve import _check_followed
from ran_datajobs.config import Settings
from ran_datajobs.errors import NcmpUnavailable, UsageError
from ran_datajobs.inventory.follow import (
    Change,
    Seen,
    Unreadable,
    change_in,
    changes_from,
    differs,
    followed_by,
    handle_in,
    owners_of,
)
from ran_datajobs.inventory.follower import BATCH, Events
from ran_datajobs.inventory.ncmp import Found
from ran_datajobs.inventory.registration import (
    CmHandle,
    Failure,
    PluginIds,
    Registration,
    alternate_keys,
    changes_of,
    handle_fault,
)
from ran_datajobs.messaging.bus import Message, Received
from ran_datajobs.store.inventory import HandleRow
from tests.kit.ncmp import event

NCMP, ONE, OTHER = "http://ncmp:8080", "http://127.0.0.1:9", "http://127.0.0.1:10"
ALLOWED = ("127.0.0.0/8",)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("kind", ["create", "update", "delete"])
def test_an_event_names_its_handle(version: int, kind: str) -> None:
    """In both versions, from the value alone."""
    expected = Change("ch-1", kind == "delete", kind != "update")
    assert change_in(event("ch-1", kind, version).value) == expected


NO_EVENTS = (b"", b"7", b"{", b"{}", b'{"event":{}}', b'{"event":{"cmHandleId":7}}', b"\xff", b"[" * 100_000)


@pytest.mark.parametrize("value", [*NO_EVENTS, b'{"event":{"cmHandleId":""}}'])
def test_anything_else_is_no_event(value: bytes) -> None:
    """It is reported as unreadable."""
    with pytest.raises(Unreadable):
        change_in(value)


def test_an_item_of_a_search_is_a_handle() -> None:
    """Properties are in a list of one object, or alone; numbers become texts. Other members do not count."""
    item = {
        "cmHandle": "a",
        "alternateId": "/ME=1",
        "moduleSetTag": None,
        "dataProducerIdentifier": "p",
        "publicCmHandleProperties": [{"n": 1, "t": True}],
        "cmHandleProperties": {"s": "x", "gone": None},
        "trustLevel": "NONE",
        "state": {"cmHandleState": "LOCKED"},
    }
    expected = CmHandle("a", {"s": "x", "gone": None}, {"n": "1", "t": "true"}, None, "/ME=1", "p")
    assert handle_in(json.dumps(item).encode()) == expected
    assert handle_in(b'{"cmHandle":"a"}') == CmHandle("a", {}, {})


def test_an_item_of_another_shape_is_a_failure_of_its_handle() -> None:
    """Its text quotes no property. Without an id there is no handle that it could be a failure of."""
    for members in ({"cmHandleProperties": {"hunter2": {}}}, {"alternateId": 7}, {"cmHandleProperties": 7}):
        found = handle_in(json.dumps({"cmHandle": "a", **members}).encode())
        assert isinstance(found, Failure) and found.cm_handle == "a"
        assert "hunter2" not in repr(found)
    for item in (b"7", b"{}", b'{"cmHandle":7}', b"\xff"):
        with pytest.raises(Unreadable):
            handle_in(item)


def test_the_first_plugin_that_has_a_handle_is_its_owner() -> None:
    """Whatever the order of the handles."""
    assert owners_of([(ONE, ["a", "b"]), (OTHER, ["c", "b"])]) == {"a": ONE, "b": ONE, "c": OTHER}


def test_the_settings_name_an_ncmp_and_plugins_that_are_allowed() -> None:
    """NCMP is asked for plugins as they are written; they are called in normal form."""
    followed = followed_by(f"{NCMP}/", ["HTTP://127.0.0.1:9/", OTHER, ONE], ALLOWED)
    assert followed is not None
    assert (followed.url, dict(followed.plugins)) == (NCMP, {ONE: "HTTP://127.0.0.1:9/", OTHER: OTHER})
    assert followed_by(None, (), ALLOWED) is None


@pytest.mark.parametrize(
    ("ncmp", "plugins", "said"),
    [
        (None, [ONE], "belong together"),
        (NCMP, [], "belong together"),
        (NCMP, ["http://elsewhere:9"], "FOLLOW_PLUGINS: the host 'elsewhere'"),
        (NCMP, ["ftp://127.0.0.1"], "FOLLOW_PLUGINS: an address is written http"),
        ("http://user:secret@ncmp", [ONE], "FOLLOW_NCMP: an address has no user"),
        ("http://ncmp?a=b", [ONE], "FOLLOW_NCMP: an address has no query"),
    ],
)
def test_wrong_settings_are_named(ncmp: str | None, plugins: list[str], said: str) -> None:
    """Without a password that is in one."""
    with pytest.raises(UsageError, match=said) as refusal:
        followed_by(ncmp, plugins, ALLOWED)
    assert "secret" not in str(refusal.value)


def test_serve_refuses_to_mix_its_events_with_those_of_ncmp() -> None:
    """Both would be on one topic."""
    settings = Settings(follow_ncmp=NCMP, follow_plugins=(ONE,), inventory_events_topic="my-events")
    _check_followed(settings)
    with pytest.raises(UsageError, match="ncmp-events"):
        _check_followed(settings.with_changes(inventory_events_topic="ncmp-events"))


@contextlib.contextmanager
def found_in(text: bytes) -> Iterator[Found]:
    with tempfile.TemporaryFile() as file:
        file.write(text)
        with Found(file) as found:
            yield found


def test_the_items_of_a_search_are_read_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for more places than memory has room for, or for no list, is an answer that NCMP does not
    give."""
    with found_in(b'[{"a":[1,2]},7,[]]') as found:
        assert [list(map(bytes, batch)) for batch in found.batches(2)] == [[b'{"a":[1,2]}', b"7"], [b"[]"]]
    monkeypatch.setattr("ran_datajobs.inventory.ncmp.MOST_COMMAS", 3)
    for text in (b"", b"{}", b"[", b"\xff", b"[" * 100_000, b"[0,0,0,0,0]"):
        with pytest.raises(NcmpUnavailable), found_in(text):
            pass


def received(offset: int, value: bytes, partition: int = 0) -> Received:
    return Received("ncmp-events", offset, Message("", {}, value), partition)


def test_a_gap_in_the_offsets_asks_for_a_comparison() -> None:
    """The end of a transaction takes one offset, and is no gap. Partitions have offsets of their own."""
    events, value = Events(), event("a", "update").value
    events.take([received(7, value), received(8, value), received(3, value, 1), received(10, value)])
    assert events.compare is None
    events.take([received(13, value)])
    assert events.compare == "a gap in the events"


def test_events_are_gathered_by_handle() -> None:
    """The last one of a handle counts, and one whose id no handle here can have does not. Very many handles
    are not looked up."""
    events = Events()
    values = [event("a", "delete").value, event("a", "create").value, event("a b", "create").value]
    events.take([received(offset, value) for offset, value in enumerate(values)])
    assert events.taken() == {"a": Change("a", False, True)} and events.taken() == {}
    events.take([received(3, event("a", "delete").value), received(4, event("a", "update").value)])
    assert events.taken() == {"a": Change("a", False, True)}
    events.take([received(n, event(f"h{n}", "create").value) for n in range(5, BATCH + 6)])
    assert (events.compare, events.taken()) == ("many events", {})


# --- differences -----------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c", "d", "e", "a b"])
alternate_ids = st.sampled_from([None, "/ME=1", "/ME=2", "ME=2", "/ME=3", "nothing"])
properties = st.sampled_from([{}, {"x": "1"}, {"x": None}])
handles = st.builds(
    CmHandle,
    names,
    properties,
    properties,
    st.sampled_from([None, "", "t"]),
    alternate_ids,
    st.sampled_from([None, "p"]),
)
there = st.lists(
    st.builds(Seen, handles, st.sampled_from([None, 1, 2])), unique_by=lambda s: s.handle.cm_handle
)


def applied(
    rows: dict[str, HandleRow], seen: list[Seen], gone: list[str]
) -> tuple[dict[str, HandleRow], Any]:
    """The rows after the changes, and the changes. The store refuses two rows with one alternate id."""
    keys = alternate_keys(Registration(created_cm_handles=[each.handle for each in seen]))
    named = {*gone, *(each.handle.cm_handle for each in seen)}
    known = {name: row for name, row in rows.items() if name in named}
    holders = {row.alternate_key: name for name, row in rows.items() if row.alternate_key in keys.values()}
    changes = changes_from(seen, gone, keys, known, holders)  # type: ignore[arg-type]
    after = {name: row for name, row in rows.items() if name not in changes.remove}
    after |= {row.cm_handle: row for row in changes.save}
    held = [row.alternate_key for row in after.values() if row.alternate_key]
    assert len(held) == len(set(held))
    return after, changes


def local(*names_and_ids: tuple[str, str]) -> dict[str, HandleRow]:
    return {name: HandleRow(name, 9, f"/{key}", key) for name, key in names_and_ids}


@given(there, there, st.booleans())
def test_what_is_followed_becomes_what_ncmp_has(
    before: list[Seen], after: list[Seen], is_local: bool
) -> None:
    """From any inventory to any other one: every handle that is valid, and whose alternate id no other one
    has, is as at NCMP; the others are refused and absent; a repeat changes nothing. A local handle stays,
    with its alternate id, unless NCMP has one with its id."""
    ours = local(("d", "ME=3")) if is_local else {}
    rows, _ = applied(ours, before, [])
    gone = sorted(rows.keys() - {each.handle.cm_handle for each in after})
    rows, changes = applied(rows, after, gone)
    refused = {failure.cm_handle for failure in changes.outcome.failed_created_cm_handles}
    keys = alternate_keys(Registration(created_cm_handles=[each.handle for each in after]))
    wanted = {each.handle.cm_handle for each in after}
    for each in after:
        name = each.handle.cm_handle
        if name in refused:
            taken = [row for row in rows.values() if row.alternate_key == keys.get(each.handle.name)]
            assert name not in rows and (handle_fault(each.handle) or taken)
        else:
            assert not differs(each, keys, rows[name]) and rows[name].followed
    if is_local and "d" not in wanted and not any(each.handle.cm_handle == "d" for each in before):
        assert rows["d"] == ours["d"]
    assert {name for name, row in rows.items() if row.followed} == wanted - refused
    again, changes = applied(rows, after, [])
    assert again == rows and not changes.save and not changes.remove


def test_handles_exchange_their_alternate_ids() -> None:
    """In one change, with another one that takes that of a handle that is gone."""
    before = [Seen(CmHandle(name, alternate_id=f"/ME={name}"), 1) for name in "abc"]
    rows, _ = applied({}, before, [])
    moved = {"a": "/ME=b", "b": "/ME=a", "d": "/ME=c"}
    after = [Seen(CmHandle(name, alternate_id=alternate_id), 1) for name, alternate_id in moved.items()]
    rows, changes = applied(rows, after, ["c"])
    assert {name: row.alternate_id for name, row in rows.items()} == moved
    assert not changes.outcome.failed and changes.remove == ["c"] and set(changes.leave) == {"a", "b"}


@pytest.mark.parametrize(
    ("body", "failures"),
    [
        (Registration(removed_cm_handles=["theirs", "mine"]), {"theirs": "108"}),
        (Registration(updated_cm_handles=[CmHandle("theirs", module_set_tag="t")]), {"theirs": "108"}),
        (Registration(updated_cm_handles=[CmHandle("theirs")]), {}),
        (Registration(created_cm_handles=[CmHandle("theirs", alternate_id="/ME=9")]), {"theirs": "109"}),
        (Registration(created_cm_handles=[CmHandle("new", alternate_id="/ME=1")]), {"new": "109"}),
        (Registration(created_cm_handles=[CmHandle("new", alternate_id="/ME=9")]), {}),
    ],
)
def test_a_registration_changes_no_handle_that_is_followed(
    body: Registration, failures: dict[str, str]
) -> None:
    """While an NCMP is followed; others are registered beside. Without it they are like all handles."""
    known = local(("mine", "ME=2")) | {"theirs": HandleRow("theirs", 1, "/ME=1", "ME=1", followed=True)}
    keys, holders = alternate_keys(body), {"ME=1": "theirs"}
    changes = changes_of(body, keys, known, holders, PluginIds(9), None, following=True)
    failed = [
        *changes.outcome.failed_created_cm_handles,
        *changes.outcome.failed_updated_cm_handles,
        *changes.outcome.failed_removed_cm_handles,
    ]
    assert {each.cm_handle: each.error_code for each in failed} == failures
    assert "theirs" not in {*changes.remove, *(row.cm_handle for row in changes.save)}
    if failures == {"theirs": "108"}:
        assert not changes_of(body, keys, known, holders, PluginIds(9), None).outcome.failed
