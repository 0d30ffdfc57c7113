# SPDX-License-Identifier: Apache-2.0
"""Tells one consumer what changed: notifyMOIChanges of 3GPP TS 28.532, off until somebody asks for it.

A consumer is an address on this machine. It is told in the order of the changes, each of them once; what it
does not take is not repeated, and a consumer that falls behind misses the oldest: the numbers have gaps.
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
"""So many documents of changes wait for a consumer."""

_MAX_ADDRESS: Final = 2_000


class Consumer(Struct, frozen=True, forbid_unknown_fields=True):
    """Where notifications go: ``http://127.0.0.1:PORT/…``."""

    consumer: str


class Notifications:
    """The changes of a network on their way to the consumer; without one nothing is kept."""

    def __init__(self, network: Objects, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.consumer: Consumer | None = None
        self._network = network
        self._now = now
        self._waiting: deque[bytes] = deque(maxlen=WAITING)
        self._number = 0
        self._telling: asyncio.Task[None] | None = None

    def ask_for(self, consumer: Consumer | None) -> None:
        """From now on tell ``consumer``; None ends it. What waits for an earlier one is dropped."""
        self.consumer = consumer
        self._waiting.clear()

    def changed(self, before: Before) -> None:
        """Objects have changed; ``before``: what they were."""
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
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    def _changes(self, key: str, old: Attributes | None) -> Iterator[dict[str, Any]]:
        for change in moi_changes(key, old, self._network.attributes(key)):
            yield {"notificationId": self._number + 1, **change, "sourceIndicator": "RESOURCE_OPERATION"}

    async def _tell(self) -> None:
        headers = {"Content-Type": wire.JSON}
        while self._waiting and self.consumer is not None:  # some may have come while the client closed
            async with PeerHttp() as http:
                while self._waiting and self.consumer is not None:
                    body = self._waiting.popleft()
                    await http.exchange("POST", self.consumer.consumer, body=body, headers=headers)


def moi_changes(key: str, old: Attributes | None, new: Attributes | None) -> Iterator[dict[str, Any]]:
    """MoiChange entries from one state of an object to another (None: not there)."""
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
    """The consumer that a body names. Raises InvalidRequest for an address that is not on this machine."""
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
