# SPDX-License-Identifier: Apache-2.0
"""The changes that a registration makes, handle by handle."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from ran_datajobs.inventory.registration import (
    Changes,
    Failure,
    PluginIds,
    alternate_keys,
    changes_of,
    handles_named,
    read_registration,
)
from ran_datajobs.store.inventory import HandleRow

PLUGIN = 7
FOR_ALL = PluginIds(PLUGIN)


def row(cm_handle: str, alternate_id: str | None = None, **fields: Any) -> HandleRow:
    key = alternate_id.removeprefix("/") if alternate_id else None
    return HandleRow(cm_handle, PLUGIN, alternate_id, key, **fields)


def changes(
    known: list[HandleRow],
    address_fault: str | None = None,
    plugins: PluginIds = FOR_ALL,
    **body: Any,
) -> Changes:
    """The changes of a registration, given only the known handles that it names."""
    registration = read_registration(json.dumps({"dmiPlugin": "http://dmi", **body}).encode())
    named, keys = handles_named(registration), alternate_keys(registration)
    return changes_of(
        registration,
        keys,
        {one.cm_handle: one for one in known if one.cm_handle in named},
        {
            one.alternate_key: one.cm_handle
            for one in known
            if one.alternate_key and one.alternate_key in keys.values()
        },
        plugins,
        address_fault,
    )


def codes(failures: list[Failure]) -> list[tuple[str, str]]:
    return [(failure.cm_handle, failure.error_code) for failure in failures]


def test_a_new_handle_is_saved_with_its_key() -> None:
    """The alternate id is stored as written, together with its normal form."""
    given = {
        "cmHandle": "ch-1",
        "alternateId": "SN=1, ME=a\\2Fb",
        "dataProducerIdentifier": "p1",
        "moduleSetTag": "t",
        "trustLevel": "COMPLETE",
        "cmHandleProperties": {"a": 1, "gone": None, "c": "~"},
        "publicCmHandleProperties": {"b": "2"},
    }
    found = changes([], createdCmHandles=[given])
    assert not found.outcome.failed
    assert found.save == [
        HandleRow(
            "ch-1",
            PLUGIN,
            "SN=1, ME=a\\2Fb",
            "SN=1/ME=a%2Fb",
            "p1",
            "t",
            {"a": "1", "c": "~"},
            {"b": "2"},
            "COMPLETE",
        )
    ]


def test_the_same_create_again_changes_nothing() -> None:
    """A repeat succeeds, also within one registration; a differing one fails with 109."""
    known = [row("ch-1", "/ME=1", data_producer_id="p1")]
    again = {"cmHandle": "ch-1", "alternateId": "/ME=1", "dataProducerIdentifier": "p1"}
    assert changes(known, createdCmHandles=[again, again]) == changes(known)
    other = changes(known, createdCmHandles=[again, {**again, "dataProducerIdentifier": "p2"}])
    assert codes(other.outcome.failed_created_cm_handles) == [("ch-1", "109")]
    assert other.save == []


def test_an_alternate_id_has_one_holder() -> None:
    """It is refused with 109 if another handle has it, in another spelling, in the store or in the same
    registration."""
    known = [row("ch-1", "/SN=1/ME=1")]
    created = [
        {"cmHandle": "ch-2", "alternateId": "SN=1,ME=1"},
        {"cmHandle": "ch-3", "alternateId": "/ME=3"},
        {"cmHandle": "ch-4", "alternateId": "\u2003ME=3 "},
        {"cmHandle": "ch-5", "alternateId": " "},
        {"cmHandle": "ch-6"},
    ]
    found = changes(known, createdCmHandles=created)
    assert codes(found.outcome.failed_created_cm_handles) == [("ch-2", "109"), ("ch-4", "109")]
    assert [one.cm_handle for one in found.save] == ["ch-3", "ch-5", "ch-6"]


def test_reads_and_writes_have_the_plugins_of_the_create() -> None:
    """A created handle has them. A create that names others is a conflict; an update, whatever it names,
    moves no handle to another plugin."""
    created = {"cmHandle": "a", "alternateId": "/ME=1"}
    plugins = PluginIds(PLUGIN, 8, 9)
    found = changes([], plugins=plugins, createdCmHandles=[created])
    owned = row("a", "/ME=1", read_plugin_id=8, write_plugin_id=9)
    assert found.save == [owned]
    assert changes([owned], plugins=plugins, createdCmHandles=[created]).save == []
    other = changes([owned], createdCmHandles=[created])
    assert codes(other.outcome.failed_created_cm_handles) == [("a", "109")]
    updated = changes([owned], updatedCmHandles=[created | {"dataProducerIdentifier": "p2"}])
    assert updated.save == [msgspec.structs.replace(owned, data_producer_id="p2")]
    moved = changes([owned], removedCmHandles=["a"], createdCmHandles=[created])
    assert moved.save == [row("a", "/ME=1")]


@pytest.mark.parametrize(
    ("ids", "plugins"),
    [
        ((1, 1, 1), PluginIds(1)),
        ((1, 2, 1), PluginIds(1, read_plugin_id=2)),
        ((1, 1, 3), PluginIds(1, write_plugin_id=3)),
        ((1, 2, 3), PluginIds(1, 2, 3)),
    ],
)
def test_only_plugins_that_differ_are_kept_apart(ids: tuple[int, int, int], plugins: PluginIds) -> None:
    """One plugin under two names is one plugin: a repeat that names it otherwise is no conflict."""
    assert PluginIds.of(*ids) == plugins


def test_removing_comes_first() -> None:
    """One registration can move an alternate id from a removed handle to a new one, and replace a handle."""
    known = [row("old", "/ME=1"), row("same", "/ME=2")]
    found = changes(
        known,
        removedCmHandles=["old", "same"],
        createdCmHandles=[
            {"cmHandle": "new", "alternateId": "/ME=1"},
            {"cmHandle": "same", "alternateId": "/ME=2", "dataProducerIdentifier": "p2"},
        ],
    )
    assert not found.outcome.failed
    assert found.remove == ["old"]
    assert {one.cm_handle: one.data_producer_id for one in found.save} == {"new": "", "same": "p2"}


def test_an_update_changes_what_it_names() -> None:
    """Absent and empty fields are kept, properties are merged, null ones and "~" are removed, the plugin is
    kept."""
    known = [
        row(
            "ch-1",
            "/ME=1",
            module_set_tag="t",
            private_properties={"a": "1", "b": "2", "d": "4", "tilde": "~"},
            trust_level="NONE",
        )
    ]
    updated = {
        "cmHandle": "ch-1",
        "alternateId": "",
        "dataProducerIdentifier": "p1",
        "cmHandleProperties": {"a": None, "c": 3, "d": "~", "never": "~"},
    }
    found = changes(known, updatedCmHandles=[updated])
    assert not found.outcome.failed
    assert found.save == [
        row(
            "ch-1",
            "/ME=1",
            data_producer_id="p1",
            module_set_tag="t",
            private_properties={"b": "2", "tilde": "~", "c": "3"},
            trust_level="NONE",
        )
    ]


def test_an_update_can_move_an_alternate_id_only_where_it_is_free() -> None:
    """The alternate id of another handle is refused; one that the same registration releases is free."""
    known = [row("a", "/ME=1"), row("b", "/ME=2")]
    taken = changes(known, updatedCmHandles=[{"cmHandle": "a", "alternateId": "/ME=2"}])
    assert codes(taken.outcome.failed_updated_cm_handles) == [("a", "109")]
    moved = changes(
        known,
        updatedCmHandles=[
            {"cmHandle": "b", "alternateId": "/ME=3"},
            {"cmHandle": "a", "alternateId": "/ME=2"},
        ],
    )
    assert not moved.outcome.failed
    assert {one.cm_handle: one.alternate_key for one in moved.save} == {"b": "ME=3", "a": "ME=2"}


def test_an_upgrade_changes_the_module_set_tag() -> None:
    """ONAP's upgrade of many handles at once. Unknown ones are listed."""
    found = changes(
        [row("a"), row("b")], upgradedCmHandles={"cmHandles": ["a", "b", "c"], "moduleSetTag": "new"}
    )
    assert [(one.cm_handle, one.module_set_tag) for one in found.save] == [("a", "new"), ("b", "new")]
    assert codes(found.outcome.failed_upgrade_cm_handles) == [("c", "100")]


def test_unknown_handles_are_listed_once() -> None:
    """An update or removal of an unknown handle fails with 100, and the rest is processed."""
    found = changes(
        [row("a")],
        removedCmHandles=["x", "x", "a", "a"],
        updatedCmHandles=[{"cmHandle": "y"}, {"cmHandle": "a"}],
    )
    assert codes(found.outcome.failed_removed_cm_handles) == [("x", "100")]
    assert codes(found.outcome.failed_updated_cm_handles) == [("y", "100"), ("a", "100")]
    assert found.remove == ["a"]


@pytest.mark.parametrize(
    "fields",
    [
        {"cmHandle": "a b"},
        {"cmHandle": "a/b"},
        {"cmHandle": ""},
        {"cmHandle": "x" * 256},
        {"cmHandle": "a\0"},
        {"alternateId": "/ME"},
        {"alternateId": "/ME=1#/attributes/x"},
        {"alternateId": "/ME=" + "é" * 1500},
        {"dataProducerIdentifier": "p\n"},
        {"dataProducerIdentifier": " p"},
        {"dataProducerIdentifier": "x" * 513},
        {"moduleSetTag": "a\0b"},
        {"cmHandleProperties": {"hunter2": "hunter2\0"}},
        {"cmHandleProperties": {"hunter2": "x" * 70_000}},
        {"publicCmHandleProperties": {"a\0": "1"}},
    ],
)
def test_what_cannot_be_kept_fails_its_handle_alone(fields: dict[str, Any]) -> None:
    """A character or a length that is not allowed is 110. The text shows no private property."""
    bad = {"cmHandle": "bad", **fields}
    found = changes([row("bad")], createdCmHandles=[bad, {"cmHandle": "good"}], updatedCmHandles=[bad])
    assert codes(found.outcome.failed_created_cm_handles) == [(bad["cmHandle"], "110")]
    assert codes(found.outcome.failed_updated_cm_handles) == [(bad["cmHandle"], "110")]
    assert [one.cm_handle for one in found.save] == ["good"]
    assert "hunter2" not in repr(found.outcome)


def test_a_refused_address_fails_every_created_handle() -> None:
    """The text gives the reason. Updates and removals do not need the address."""
    found = changes(
        [row("a"), row("b")],
        "the host 'evil' is not allowed",
        createdCmHandles=[{"cmHandle": "c"}],
        updatedCmHandles=[{"cmHandle": "a", "dataProducerIdentifier": "p"}],
        removedCmHandles=["b"],
    )
    assert codes(found.outcome.failed_created_cm_handles) == [("c", "108")]
    assert "evil" in found.outcome.failed_created_cm_handles[0].error_text
    assert [one.cm_handle for one in found.save] == ["a"]
    assert found.remove == ["b"]
