# SPDX-License-Identifier: Apache-2.0
"""Notifications of changes to one consumer: notifyMOIChanges of 3GPP TS 28.532; disabled by default.

A consumer is an address on this machine. It receives each change once, in order. Failed notifications are
not repeated; if the consumer is too slow, the oldest are dropped, which leaves gaps in the numbers.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.http.json_body import decoded, got
from ran_datajobs.nrm import json_patch
from ran_datajobs.nrm.faults import node
from ran_datajobs.nrm.tree import Attributes, Before, Objects
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.simulator import wire

WAITING: Final = 1_000
"""Maximum notifications in the queue of a consumer."""

_MAX_ADDRESS: Final = 2_000


class Consumer(Struct, frozen=True, forbid_unknown_fields=True):
    """Address for notifications: ``http://127.0.0.1:PORT/…``."""

    consumer: str


class Notifications:
    """Queue of the changes of a network for the consumer; without a consumer, changes are discarded."""

    def __init__(self, network: Objects, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.consumer: Consumer | None = None
        self._network = network
        self._now = now
        self._waiting: deque[bytes] = deque(maxlen=WAITING)
        self._number = 0
        self._sending: asyncio.Task[None] | None = None

    def ask_for(self, consumer: Consumer | None) -> None:
        """Notify ``consumer`` of later changes; None: disable. Drops the queue of the previous consumer."""
        self.consumer = consumer
        self._waiting.clear()

    def changed(self, before: Before) -> None:
        """Enqueue a notification of changed objects; ``before``: their previous state."""
        if self.consumer is None:
            return
        changes = [change for key, old in before for change in self._changes(key, old)]
        if not changes:
            return
        self._number += 1
        notification = {
            "href": wire.PROVMNS,
            "notificationId": self._number,
            "notificationType": "notifyMOIChanges",
            "eventTime": self._now().isoformat(),
            "systemDN": "",
            "moiChanges": changes,
        }
        self._waiting.append(msgspec.json.encode(notification))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    def _changes(self, key: str, old: Attributes | None) -> Iterator[dict[str, Any]]:
        for change in moi_changes(key, old, self._network.attributes(key)):
            yield {"notificationId": self._number + 1, **change, "sourceIndicator": "RESOURCE_OPERATION"}

    async def _send(self) -> None:
        headers = {"Content-Type": wire.JSON}
        while self._waiting and self.consumer is not None:  # more may have arrived while the client closed
            async with PeerHttp() as http:
                while self._waiting and self.consumer is not None:
                    body = self._waiting.popleft()
                    await http.exchange("POST", self.consumer.consumer, body=body, headers=headers)


def moi_changes(key: str, old: Attributes | None, new: Attributes | None) -> Iterator[dict[str, Any]]:
    """Yield the MoiChange entries between two states of an object (None: it does not exist)."""
    if old is None and new is not None:
        yield {"op": "add", "path": node(key), "value": wire.resource(key, new)}
    elif old is not None and new is None:
        yield {"op": "remove", "path": node(key), "oldValue": wire.resource(key, old)}
    elif old is not None and new is not None:
        for name in dict.fromkeys((*old, *new)):
            path = node(key, (name,))
            if name not in new:
                yield {"op": "remove", "path": path, "oldValue": old[name]}
            elif name not in old:
                yield {"op": "add", "path": path, "value": new[name]}
            elif not json_patch.same(old[name], new[name]):
                yield {"op": "replace", "path": path, "value": new[name], "oldValue": old[name]}


_decoder: Final = msgspec.json.Decoder(Consumer)


def read_consumer(body: bytes) -> Consumer:
    """Decode a consumer. Raises InvalidRequest for an address that is not on this machine."""
    asked = decoded(body, _decoder)
    if len(asked.consumer) > _MAX_ADDRESS or not asked.consumer.isprintable():
        raise InvalidRequest(
            f"#/consumer: must have at most {_MAX_ADDRESS} printable characters; it is {got(asked.consumer)}"
        )
    try:
        address = urlsplit(asked.consumer)
        here = address.scheme == "http" and address.port is not None and _is_loopback(address.hostname or "")
    except ValueError:
        here = False
    if not here:
        raise InvalidRequest(
            "#/consumer: must be an address on this machine, as http://127.0.0.1:9000/changes; it is "
            + got(asked.consumer)
        )
    return asked


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
