# SPDX-License-Identifier: Apache-2.0
"""Events of created, updated and deleted CM handles: version 2 of ONAP's LCM event (pure).

Source: ONAP CPS-NCMP, ``schemas/lcm/lcm-event-v2.json``, ``LcmEventObjectCreator`` and ``PayloadFactory``.
NCMP's header values are serialized Java strings; here the headers are those of a CloudEvent. A handle is
READY from the start: its creation is one event, where NCMP sends ADVISED and then an update to READY.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

import msgspec

from ran_datajobs.inventory.registration import Changes
from ran_datajobs.messaging.events import time_header
from ran_datajobs.store.inventory import HandleRow
from ran_datajobs.store.outbox import INVENTORY, Outgoing

_SOURCE: Final = "org.onap.ncmp"
_SCHEMA: Final = "org.onap.ncmp:cmhandle-lcm-event.v2"
_SCHEMA_VERSION: Final = "1.0"
_DATA_SCHEMA: Final = "urn:cps:org.onap.ncmp.cmhandle.lcm-event.v2"
_TYPE: Final = "org.onap.ncmp.cmhandle-lcm-event."


class ChangedHandle(NamedTuple):
    """A CM handle as a registration leaves it, or as it was before its removal. ``before``: what it was
    before, None if it is new."""

    row: HandleRow
    before: HandleRow | None
    removed: bool = False


def changed_handles(changes: Changes, known: Mapping[str, HandleRow]) -> list[ChangedHandle]:
    """The handles that differ after ``changes``; ``known``: those that were registered before, by id."""
    removed = [ChangedHandle(row, row, True) for row in map(known.__getitem__, changes.remove)]
    saved = [ChangedHandle(row, known.get(row.cm_handle)) for row in changes.save]
    return removed + [each for each in saved if each.before != each.row]


def events_of(changed: Sequence[ChangedHandle], topic: str, at: datetime) -> list[Outgoing]:
    """One event for each of ``changed``, with the handle's id as its key; ``at`` has a time zone."""
    headers = {
        "ce_specversion": "1.0",
        "ce_source": _SOURCE,
        **time_header(at),
        "ce_dataschema": _DATA_SCHEMA,
        "content-type": "application/json",
    }
    time = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")
    return [_event(each, topic, headers, time) for each in changed]


def _event(changed: ChangedHandle, topic: str, headers: dict[str, str], time: str) -> Outgoing:
    row, before, removed = changed
    new = _values(row)
    values: dict[str, Any] = {}
    if removed:
        kind = "delete"
    elif before is None:
        kind, values = "create", {"newValues": new}
    else:
        kind, old = "update", _values(before)
        if differs := [name for name in new if old[name] != new[name]]:
            values["oldValues"] = {name: old[name] for name in differs}
            values["newValues"] = {name: new[name] for name in differs}
    event_id, kind = str(uuid4()), _TYPE + kind
    event = {
        "eventId": event_id,
        "eventCorrelationId": row.cm_handle,
        "eventTime": time,
        "eventSource": _SOURCE,
        "eventType": kind,
        "eventSchema": _SCHEMA,
        "eventSchemaVersion": _SCHEMA_VERSION,
        "event": {"cmHandleId": row.cm_handle, "alternateId": row.alternate_id or "", **values},
    }
    value = msgspec.json.encode(event)
    own = {"ce_id": event_id, "ce_type": kind}
    return Outgoing(INVENTORY, topic, row.cm_handle, headers | own, value, size=len(value))


def _values(row: HandleRow) -> dict[str, Any]:
    """What an event shows of a handle: nothing of its private properties and of its plugins."""
    return {
        "dataSyncEnabled": False,
        "cmHandleState": "READY",
        "alternateId": row.alternate_id or "",
        "moduleSetTag": row.module_set_tag,
        "dataProducerIdentifier": row.data_producer_id,
        "cmHandleProperties": row.public_properties,
    }
