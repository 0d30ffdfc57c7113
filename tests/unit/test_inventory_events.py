# SPDX-License-Identifier: Apache-2.0
"""Events of created, updated and deleted CM handles: ONAP's LCM event, version 2."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from ran_datajobs.inventory.events import ChangedHandle, changed_handles, events_of
from ran_datajobs.inventory.registration import (
    PluginIds,
    alternate_keys,
    changes_of,
    handles_named,
    read_registration,
)
from ran_datajobs.store.inventory import HandleRow
from ran_datajobs.store.outbox import INVENTORY, Outgoing

AT = datetime(2026, 11, 26, 15, 5, 55, 284_999, tzinfo=timezone(timedelta(hours=1)))
TOPIC = "ncmp-events"
BEFORE = HandleRow(
    "ch-1",
    7,
    "/SubNetwork=Europe/ManagedElement=1",
    "SubNetwork=Europe/ManagedElement=1",
    "ems-1",
    "tag-1",
    {"password": "secret"},
    {"region": "Europe", "segment": "1"},
    "COMPLETE",
)


def event(before: HandleRow | None, row: HandleRow, *, removed: bool = False) -> Outgoing:
    """The event of one change."""
    (sent,) = events_of([ChangedHandle(row, before, removed)], TOPIC, AT)
    return sent


def value(message: Outgoing) -> Any:
    """The decoded value of a message."""
    return msgspec.json.decode(message.value or b"")


def test_a_created_handle() -> None:
    """The whole message: ONAP's members with the values of a READY handle, and a CloudEvent's headers."""
    sent = event(None, BEFORE)
    event_id = sent.headers["ce_id"]
    assert UUID(event_id)
    assert (sent.job_id, sent.topic, sent.key, sent.size) == (
        INVENTORY,
        TOPIC,
        "ch-1",
        len(sent.value or b""),
    )
    assert sent.headers == {
        "ce_id": event_id,
        "ce_specversion": "1.0",
        "ce_source": "org.onap.ncmp",
        "ce_type": "org.onap.ncmp.cmhandle-lcm-event.create",
        "ce_time": "2026-11-26T14:05:55.284Z",
        "ce_dataschema": "urn:cps:org.onap.ncmp.cmhandle.lcm-event.v2",
        "content-type": "application/json",
    }
    assert value(sent) == {
        "eventId": event_id,
        "eventCorrelationId": "ch-1",
        "eventTime": "2026-11-26T14:05:55.284+0000",
        "eventSource": "org.onap.ncmp",
        "eventType": "org.onap.ncmp.cmhandle-lcm-event.create",
        "eventSchema": "org.onap.ncmp:cmhandle-lcm-event.v2",
        "eventSchemaVersion": "1.0",
        "event": {
            "cmHandleId": "ch-1",
            "alternateId": "/SubNetwork=Europe/ManagedElement=1",
            "newValues": {
                "dataSyncEnabled": False,
                "cmHandleState": "READY",
                "alternateId": "/SubNetwork=Europe/ManagedElement=1",
                "moduleSetTag": "tag-1",
                "dataProducerIdentifier": "ems-1",
                "cmHandleProperties": {"region": "Europe", "segment": "1"},
            },
        },
    }


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        ({"module_set_tag": "tag-2"}, {"moduleSetTag": "tag-1"}, {"moduleSetTag": "tag-2"}),
        ({"data_producer_id": ""}, {"dataProducerIdentifier": "ems-1"}, {"dataProducerIdentifier": ""}),
        (
            {"public_properties": {"region": "Asia", "segment": "1"}},
            {"cmHandleProperties": {"region": "Europe", "segment": "1"}},
            {"cmHandleProperties": {"region": "Asia", "segment": "1"}},
        ),
        (
            {"alternate_id": "/A=1", "public_properties": {}},
            {
                "alternateId": "/SubNetwork=Europe/ManagedElement=1",
                "cmHandleProperties": {"region": "Europe", "segment": "1"},
            },
            {"alternateId": "/A=1", "cmHandleProperties": {}},
        ),
    ],
)
def test_an_updated_handle(changes: dict[str, Any], old: Any, new: Any) -> None:
    """The values that differ, before and after; the properties as a whole."""
    after = replace(BEFORE, **changes)
    sent = value(event(BEFORE, after))
    assert sent["eventType"] == "org.onap.ncmp.cmhandle-lcm-event.update"
    assert sent["event"] == {
        "cmHandleId": "ch-1",
        "alternateId": after.alternate_id,
        "oldValues": old,
        "newValues": new,
    }


@pytest.mark.parametrize(
    "changes", [{"private_properties": {"password": "hidden"}}, {"plugin_id": 8}, {"trust_level": "NONE"}]
)
def test_what_an_event_does_not_show(changes: dict[str, Any]) -> None:
    """A change of private properties, plugin or trust level is an update without values."""
    sent = event(BEFORE, replace(BEFORE, **changes))
    assert value(sent)["event"] == {
        "cmHandleId": "ch-1",
        "alternateId": "/SubNetwork=Europe/ManagedElement=1",
    }
    assert b"secret" not in (sent.value or b"")
    assert b"hidden" not in (sent.value or b"")


def test_a_deleted_handle() -> None:
    """Its id and alternate id, and no values."""
    sent = value(event(BEFORE, BEFORE, removed=True))
    assert sent["eventType"] == "org.onap.ncmp.cmhandle-lcm-event.delete"
    assert sent["event"] == {"cmHandleId": "ch-1", "alternateId": "/SubNetwork=Europe/ManagedElement=1"}


def test_a_handle_without_names() -> None:
    """What a handle does not have is an empty string, as at NCMP."""
    sent = value(event(None, HandleRow("ch-1", 7)))["event"]
    assert sent["alternateId"] == ""
    assert sent["newValues"]["cmHandleProperties"] == {}
    assert {
        sent["newValues"][name] for name in ("alternateId", "moduleSetTag", "dataProducerIdentifier")
    } == {""}


def test_the_id_of_an_event_is_its_own() -> None:
    """Two events have different ids, of the same change too."""
    changes = [ChangedHandle(BEFORE, None), ChangedHandle(BEFORE, None)]
    first, second = events_of(changes, TOPIC, AT)
    assert first.headers["ce_id"] != second.headers["ce_id"]


def changed(known: dict[str, HandleRow], **fields: Any) -> list[ChangedHandle]:
    """The handles that a registration changes."""
    registration = read_registration(msgspec.json.encode({"dmiPlugin": "http://p", **fields}))
    assert handles_named(registration)
    keys = alternate_keys(registration)
    holders = {row.alternate_key: name for name, row in known.items() if row.alternate_key}
    return changed_handles(changes_of(registration, keys, known, holders, PluginIds(7), None), known)


def test_one_registration_changes_a_handle_once() -> None:
    """A handle that is removed and created, or created and updated, has one event, for what is committed; one
    that is as before has none."""
    known = {"ch-1": BEFORE}
    same = {
        "cmHandle": "ch-1",
        "alternateId": BEFORE.alternate_id,
        "dataProducerIdentifier": "ems-1",
        "moduleSetTag": "tag-1",
        "cmHandleProperties": BEFORE.private_properties,
        "publicCmHandleProperties": BEFORE.public_properties,
        "trustLevel": "COMPLETE",
    }
    assert changed(known, createdCmHandles=[same]) == []
    assert changed(known, updatedCmHandles=[{"cmHandle": "ch-1"}]) == []
    assert changed(known, removedCmHandles=["ch-1"], createdCmHandles=[same]) == []
    assert changed(known, removedCmHandles=["ch-1", "ch-9"]) == [(BEFORE, BEFORE, True)]
    other = same | {"dataProducerIdentifier": "ems-2"}
    after = replace(BEFORE, data_producer_id="ems-2")
    assert changed(known, removedCmHandles=["ch-1"], createdCmHandles=[other]) == [(after, BEFORE, False)]
    both = changed(
        {},
        createdCmHandles=[same],
        updatedCmHandles=[{"cmHandle": "ch-1", "dataProducerIdentifier": "ems-2"}],
    )
    assert both == [(after, None, False)]


def test_a_refused_change_has_no_event() -> None:
    """Handles that are listed as failed are not among the changed ones."""
    refused = {"cmHandle": "ch-2", "alternateId": BEFORE.alternate_id}
    taken = {"cmHandle": "ch-3", "alternateId": "/A=1"}
    found = changed({"ch-1": BEFORE}, createdCmHandles=[refused, taken], removedCmHandles=["ch-9"])
    assert [each.row.cm_handle for each in found] == ["ch-3"]


def test_the_time_is_utc() -> None:
    """Header and value have the same time, in the formats of CloudEvents and of ONAP."""
    (sent,) = events_of(
        [ChangedHandle(BEFORE, BEFORE, removed=True)], TOPIC, datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert sent.headers["ce_time"] == "2026-01-02T00:00:00.000Z"
    assert value(sent)["eventTime"] == "2026-01-02T00:00:00.000+0000"
