# SPDX-License-Identifier: Apache-2.0
"""Calls of the plugin to NCMP: messages of reads, and notifications of status changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, assert_never

import msgspec
from msgspec import Raw, Struct

from ran_datajobs.errors import BusUnavailable, UsageError
from ran_datajobs.messaging.bus import Message
from ran_datajobs.model import Status, wire_status
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.answers import NOT_PROCESSED
from ran_datajobs.plugins.client import Answered, Broken, NotSent, PeerHttp


class Publisher(Protocol):
    """Port to publish messages of reads; every :class:`~ran_datajobs.messaging.bus.Bus` implements it."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Append ``messages`` in order; durable on return.

        Raises BusUnavailable when a retry may succeed, UsageError when it cannot.
        """
        ...


class StatusNews(Protocol):
    """Port to notify NCMP of status changes. A notification may be lost, since NCMP polls as well."""

    async def tell(self, sub_job_id: str, data_producer_job_id: str, status: Status) -> None:
        """Send the notification once."""
        ...


class _TopicMessage(Struct, frozen=True):
    headers: dict[str, str]
    key: str
    value: Raw


class _TopicMessages(Struct, frozen=True):
    messages: list[_TopicMessage]


class ServiceLink:
    """Publisher and StatusNews over the service's API at ``api_root``, for a plugin without Kafka. ``token``:
    the plugin's bearer token, if the service requires one."""

    def __init__(
        self,
        api_root: str,
        http: PeerHttp,
        token: str | None = None,
        finished: str = "FINSHED",
    ) -> None:
        self._api_root = api_root.rstrip("/")
        self._http = http
        self._finished = finished
        self._headers = {"Content-Type": wire.JSON}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """See :class:`Publisher`."""
        body = _TopicMessages(
            [_TopicMessage(message.headers, message.key, Raw(message.value)) for message in messages]
        )
        exchange = await self._http.exchange(
            "POST",
            self._api_root + wire.path_of(wire.TOPIC_MESSAGES, topic=topic),
            body=msgspec.json.encode(body),
            headers=self._headers,
        )
        match exchange:
            case NotSent(cause) | Broken(cause):
                raise BusUnavailable(f"the service does not accept messages: {cause}")
            case Answered(status) if 200 <= status < 300:
                return
            case Answered(status) if status >= 500 or status in NOT_PROCESSED or status == 408:
                raise BusUnavailable(f"the service does not accept messages: HTTP {status}")
            case Answered(status):
                raise UsageError(
                    f"the service refuses messages for {topic} with HTTP {status}: check its address and the"
                    " plugin's token"
                )
            case _:
                assert_never(exchange)

    async def tell(self, sub_job_id: str, data_producer_job_id: str, status: Status) -> None:
        """See :class:`StatusNews`. The answer is ignored."""
        news = {
            "dataProducerJobId": data_producer_job_id,
            "status": wire_status(status, self._finished),
        }
        await self._http.exchange(
            "POST",
            self._api_root + wire.path_of(wire.STATUS_PUSH, sub_job_id=sub_job_id),
            body=msgspec.json.encode(news),
            headers=self._headers,
        )
