# SPDX-License-Identifier: Apache-2.0
"""``tail``: print the messages of a topic of the embedded bus or of Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from ran_datajobs.cli.api import Api
from ran_datajobs.cli.options import CLIENT, Settings, takes_settings

if TYPE_CHECKING:
    from ran_datajobs.messaging.bus import Received

_PAGE = 100
_PAUSE = 0.5
_QUIET = 5.0
"""Seconds without a message after which a Kafka topic is considered read to its end."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Around a service")(tail)


@takes_settings(*CLIENT, "kafka_bootstrap")
def tail(
    settings: Settings,
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="destination topic of a job, or another")],
    first: Annotated[int, typer.Option("--from", min=0, metavar="OFFSET", help="first message shown")] = 0,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="wait for more, until Ctrl-C")] = True,
) -> None:
    """Print the messages of a topic as JSON lines.

    They are read from the service at --server (embedded bus), or with --kafka-bootstrap from Kafka: committed
    messages only, from the offset in each partition.

    Examples: `datajobs tail my-results` · `datajobs tail my-results --from 200 --no-follow | jq .value` ·
    `datajobs tail my-results --kafka-bootstrap 127.0.0.1:9092`
    """
    if settings.kafka_bootstrap is not None:
        asyncio.run(_of_kafka(settings, topic, first, follow))
    else:
        _of_service(Api(settings), topic, first, follow)


def _of_service(api: Api, topic: str, first: int, follow: bool) -> None:
    from ran_datajobs.api import paths
    from ran_datajobs.cli.formatting import json_line

    while True:
        path = paths.fill(paths.TOPIC_MESSAGES, topic=topic)
        items = api.get(path, **{"from": first, "limit": _PAGE})["items"]
        for message in items:
            json_line(message)
            first = message["offset"] + 1
        if len(items) < _PAGE:
            if not follow:
                return
            time.sleep(_PAUSE)


async def _of_kafka(settings: Settings, topic: str, first: int, follow: bool) -> None:
    """Read with a unique consumer name and without stored offsets."""
    from ran_datajobs.cli.formatting import json_line
    from ran_datajobs.errors import BusUnavailable, ServerUnreachable, TopicRefused, UsageError
    from ran_datajobs.messaging.kafka import KafkaBus

    me = f"tail-{uuid4()}"
    try:
        async with contextlib.aclosing(
            KafkaBus(settings.kafka_bootstrap or "", settings.kafka_properties, installation=me)
        ) as bus:
            with contextlib.suppress(TopicRefused):  # reading may be allowed where writing is not
                if not await bus.topic_exists(topic):
                    raise UsageError(f"Kafka has no topic {topic!r}, or you may not read it")
            stream = bus.receive(topic, me)
            try:
                while True:
                    async with asyncio.timeout(None if follow else _QUIET):
                        batch = await anext(stream)
                    for received in batch:
                        if received.offset >= first:
                            json_line(_shown(received))
            except TimeoutError:
                return
            finally:
                await stream.aclose()
    except BusUnavailable as error:
        raise ServerUnreachable(str(error)) from error


def _shown(received: Received) -> dict[str, Any]:
    """A message in the shape of the service's API."""
    message = received.message
    try:
        value = json.loads(message.value)
    except ValueError:
        value = message.value.decode(errors="replace")
    return {"offset": received.offset, "headers": message.headers, "key": message.key or None, "value": value}
