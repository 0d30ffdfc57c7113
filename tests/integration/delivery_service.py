# SPDX-License-Identifier: Apache-2.0
"""The parts of results and delivery over one store, for the tests of both buses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
from msgspec import Raw

from ran_datajobs.config import Settings
from ran_datajobs.messaging import events
from ran_datajobs.messaging.bus import Bus, Received
from ran_datajobs.model import OperationState, Response
from ran_datajobs.results import delivery
from ran_datajobs.results.delivery import JobEventWriter
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.outcomes import unpack_outcomes
from ran_datajobs.results.parts import ResultWriter
from ran_datajobs.results.publisher import DeliveryNews, Publisher
from ran_datajobs.store import outbox, results
from ran_datajobs.store.database import Database
from ran_datajobs.store.outbox import FailedDelivery
from ran_datajobs.store.results import Part
from ran_datajobs.telemetry import Digest, Metrics, logger
from tests.kit.worker_parts import always_owner, dispatch_store

BUCKET = "datajobs-results"
TOPIC = "rapp-topic"


class News(DeliveryNews):
    """Collects the deliveries that timed out."""

    failed: list[FailedDelivery] = msgspec.field(default_factory=list)

    def given_up(self, what: FailedDelivery) -> None:
        """Collect it."""
        super().given_up(what)
        self.failed.append(what)


def news(failed: list[FailedDelivery] | None = None) -> News:
    """Collects in ``failed`` the deliveries that timed out."""
    return News(logger(), Digest(logger()), Metrics(), failed=[] if failed is None else failed)


class Service:
    """The parts of results and delivery, over one database."""

    def __init__(self, database: Database, objects: ObjectStore, bus: Bus) -> None:
        self.database = database
        self.objects = objects
        self.bus = bus
        self.given_up: list[FailedDelivery] = []
        self.store = dispatch_store(database)
        self.events = JobEventWriter(JobView(Settings(api_root="http://host")))

    def publisher(
        self,
        give_up: float = 3600.0,
        *,
        first_retry: float = 0.01,
        give_up_refused: float = 30.0,
    ) -> Publisher:
        """A new publisher, as in another process: it shares no memory with the first one."""
        return Publisher(
            self.database,
            self.bus,
            self.objects,
            lambda bucket, key: f"http://host/s3-bucket/{bucket}/{key}",
            news(self.given_up),
            first_retry,
            0.05,
            give_up,
            give_up_refused,
        )

    async def write(
        self, job_id: UUID, sub_job: UUID | str, responses: Sequence[Response], first_sequence: int = 0
    ) -> list[Part]:
        """Write result objects. Returns their rows."""
        writer = ResultWriter(self.objects, BUCKET, job_id, sub_job)
        return await writer.write(responses, always_owner, first_sequence)

    async def states(self, job_id: UUID, sub_job: UUID) -> dict[str, OperationState]:
        """The outcomes that the messages of a read report."""
        return unpack_outcomes((await self.store.arrived(sub_job, job_id, None)).outcomes)

    async def copy(self, bucket: str, publisher: Publisher | None = None) -> float | None:
        """Publish the shard of the bucket once, as :meth:`publish_shard` does."""
        return await self.publish_shard(outbox.copy_shard_of(bucket), publisher)

    async def publish_shard(self, shard: int, publisher: Publisher | None = None) -> float | None:
        """Publish a shard once. Returns the seconds after which to try again; ``None`` if no row is left."""
        pause = await (publisher or self.publisher()).publish(shard)
        if pause is None and await self.value("select 1 from outbox where shard = $1 limit 1", shard):
            return 0.01
        return pause

    async def job(
        self,
        *,
        destination: str | None = TOPIC,
        kind: str = "WRITE",
        job_id: UUID | None = None,
        bucket: str | None = None,
    ) -> UUID:
        """A new job whose destination is a topic, none, or a ``bucket``."""
        job_id = job_id or uuid4()
        await self.execute(
            "insert into data_job (job_id, client, type, destination, destination_kind, results_bucket, "
            "accept_type, content_type, activation_mode, priority, operations, status) "
            "values ($1, 'rapp', $2, $3, $4, $5, '', '', 'BEST_EFFORT', 4, 3, 'RUNNING')",
            job_id,
            kind,
            bucket or destination,
            "TOPIC" if destination and not bucket else "BUCKET",
            BUCKET,
        )
        return job_id

    async def sub_job(
        self,
        job_id: UUID,
        *,
        position: int = 0,
        stage: str = "TRACKING",
        producer: str = "ems-1",
        producer_job: str | None = "pj-1",
    ) -> UUID:
        """A new sub-job whose create was sent once, in the lane of its own producer."""
        sub_job_id = uuid4()
        await self.execute(
            "insert into dmi_plugin (url) values ('http://127.0.0.1:1') on conflict do nothing"
        )
        await self.execute(
            "insert into lane (plugin_id, data_producer_id) select plugin_id, $1 from dmi_plugin "
            "on conflict do nothing",
            producer,
        )
        await self.execute(
            "insert into sub_job (sub_job_id, job_id, position, lane_id, plugin_id, type, job_seq, client, "
            "priority, stage, operations, data_producer_job_id, attempts, due_at) "
            "select $1, job_id, $3, lane_id, plugin_id, type, seq, client, "
            "4, $4::text::sub_job_stage, 3, $5, 1, "
            "case when $4::text in ('WAITING', 'SETTLED') then null else now() + interval '1 hour' end "
            "from data_job, lane "
            "where job_id = $2 and lane.data_producer_id = $6",
            sub_job_id,
            job_id,
            position,
            stage,
            producer_job,
            producer,
        )
        return sub_job_id

    async def settle(self, job_id: UUID, sub_job: UUID, responses: Sequence[Response]) -> list[Part]:
        """Write a sub-job's results, settle it and send them."""
        written = await self.write(job_id, sub_job, responses)
        async with self.database.transaction() as connection:
            await connection.execute(
                "update sub_job set stage = 'SETTLED', due_at = null where sub_job_id = $1", sub_job
            )
            await results.record(connection, job_id, written)
            await self.events.sub_jobs_settled(connection, [job_id], [sub_job])
        return written

    async def finish(self, job_id: UUID) -> None:
        """End the job's delivery after the messages that were sent."""
        async with self.database.transaction() as connection:
            await delivery.finish_delivery(connection, job_id)

    async def publish(self, job_id: UUID, publisher: Publisher | None = None) -> float | None:
        """Publish the job's shard once, as :meth:`publish_shard` does."""
        return await self.publish_shard(outbox.shard_of(job_id), publisher)

    async def publish_all(
        self, job_id: UUID, publisher: Publisher | None = None, within: float = 30.0
    ) -> None:
        """Publish until the job's shard is empty, parked messages of other jobs included."""
        publisher = publisher or self.publisher()
        async with asyncio.timeout(within):
            while (pause := await self.publish(job_id, publisher)) is not None:
                await asyncio.sleep(pause)

    async def deliver(self, job_id: UUID, publisher: Publisher, within: float = 30.0) -> None:
        """Publish until this job's delivery has ended. Messages of other jobs of its shard may remain."""
        async with asyncio.timeout(within):
            while await self.state(job_id) == "PENDING":
                await asyncio.sleep(await self.publish(job_id, publisher) or 0.01)

    async def detail(self, job_id: UUID) -> str | None:
        """The job's deliveryDetail."""
        found = await self.value("select delivery_detail from data_job where job_id = $1", job_id)
        return None if found is None else str(found)

    async def state(self, job_id: UUID) -> str:
        """The job's deliveryState."""
        return str(await self.value("select delivery_state from data_job where job_id = $1", job_id))

    async def execute(self, statement: str, *values: Any) -> None:
        """Execute one statement."""
        async with self.database.connection() as connection:
            await connection.execute(statement, *values)

    async def value(self, statement: str, *values: Any) -> Any:
        """Fetch one value."""
        async with self.database.connection() as connection:
            return await connection.fetchval(statement, *values)


def id_in_shard(shard: int) -> UUID:
    """A new job id whose messages belong to ``shard``."""
    return next(job_id for job_id in iter(uuid4, None) if outbox.shard_of(job_id) == shard)


def same_shard_as(job_id: UUID) -> UUID:
    """Another job id of the same shard."""
    return id_in_shard(outbox.shard_of(job_id))


def responses(
    *operations: int, size: int = 10, state: OperationState = OperationState.SUCCEEDED
) -> list[Response]:
    """One response per operation id, each with a result of about ``size`` bytes."""
    return [
        Response(each, 0, "read", result=Raw(msgspec.json.encode([{"x": "y" * size}])), state=state)
        for each in operations
    ]


def identity(received: Received) -> tuple[str, str, int, int]:
    """The permanent identity of a message."""
    headers = received.message.headers
    return (
        headers[events.CORRELATION_ID],
        headers[events.SUB_JOB_ID],
        int(headers[events.SEQUENCE]),
        int(headers[events.DELIVERY]),
    )
