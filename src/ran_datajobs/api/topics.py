# SPDX-License-Identifier: Apache-2.0
"""Route that reads a destination topic of the embedded bus; with Kafka, clients read from Kafka."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, QueryParameter
from msgspec import Raw

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import Api, Caller
from ran_datajobs.api.jobs import Limit
from ran_datajobs.api.problems import documented
from ran_datajobs.api.schemas import TopicMessage, TopicMessages
from ran_datajobs.http.json_body import shortened
from ran_datajobs.messaging.topics import STATUS_TOPIC, topic_problem
from ran_datajobs.store import jobs


@get(paths.TOPIC_MESSAGES, responses=documented(400, 401, 403, 404, 406, 503), tags=["results"])
async def read_topic(
    topic: FromPath[str],
    api: Api,
    caller: Caller,
    first: Annotated[
        int, QueryParameter(name="from", ge=0, le=2**62, description="The first offset wanted.")
    ] = 0,
    limit: Limit = paths.DEFAULT_LIMIT,
) -> TopicMessages:
    """Messages of a destination topic of a known job, in order; only those of the caller's jobs."""
    bus = api.parts.embedded_bus
    if bus is None:
        raise NotFoundException(detail="topics are read at the bus itself: this service has no embedded one")
    if (problem := topic_problem(topic)) is not None:
        raise NotFoundException(detail=f"there is no topic {shortened(topic)!r}: {problem}")
    if topic != STATUS_TOPIC:
        async with api.parts.database.connection() as connection:
            if not await jobs.has_topic(connection, topic, caller.sees):
                raise NotFoundException(
                    detail=f"no data job that you can see goes to the topic {shortened(topic)!r}"
                )
    found = await bus.read(topic, first, limit, client=caller.sees)
    return TopicMessages(
        [
            TopicMessage(
                received.offset,
                received.message.headers,
                received.message.key or None,
                Raw(received.message.value),
            )
            for received in found
        ]
    )
