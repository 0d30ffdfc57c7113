# SPDX-License-Identifier: Apache-2.0
"""How the plugin reaches NCMP by itself: the messages of reads, and the word that a status changed."""

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
    """Where the messages of reads go; every :class:`~ran_datajobs.messaging.bus.Bus` is one."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Append ``messages`` in order; durable on return.

        Raises BusUnavailable when a repeat may work, WrongUse when none can.
        """
        ...


class StatusNews(Protocol):
    """Tells NCMP that a status changed; may lose the news, since NCMP polls anyway."""

    async def tell(self, sub_job_id: str, data_producer_job_id: str, status: Status) -> None:
        """Tell it once."""
        ...


class _TopicMessage(Struct, frozen=True):
    headers: dict[str, str]
    key: str
    value: Raw


class _TopicMessages(Struct, frozen=True):
    messages: list[_TopicMessage]


class ServiceLink:
    """Both over the service's own API at ``api_root``, for a plugin without Kafka. ``token``: its bearer
    token, where the service wants one."""

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
                raise BusUnavailable(f"the service does not take messages: {cause}")
            case Answered(status) if 200 <= status < 300:
                return
            case Answered(status) if status >= 500 or status in NOT_PROCESSED or status == 408:
                raise BusUnavailable(f"the service does not take messages: HTTP {status}")
            case Answered(status):
                raise UsageError(
                    f"the service refuses messages for {topic} with HTTP {status}: check its address and the"
                    " plugin's token"
                )
            case _:
                assert_never(exchange)

    async def tell(self, sub_job_id: str, data_producer_job_id: str, status: Status) -> None:
        """See :class:`StatusNews`. Whatever comes back is not looked at."""
        news = wire.StatusPush(data_producer_job_id, wire_status(status, self._finished))
        await self._http.exchange(
            "POST",
            self._api_root + wire.path_of(wire.STATUS_PUSH, sub_job_id=sub_job_id),
            body=msgspec.json.encode(news),
            headers=self._headers,
        )
