# SPDX-License-Identifier: Apache-2.0
"""The northbound API on its real HTTP server, with a real store and a folder of objects, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec
import pytest
from granian.constants import Interfaces
from granian.server.embed import Server
from yarl import URL

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import ApiDependencies
from ran_datajobs.api.router import build
from ran_datajobs.config import Settings
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.model import JobType, OperationCounts, OperationState, Response, Status, Validation
from ran_datajobs.results.delivery import finish_delivery
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import manifest_key, open_folder
from ran_datajobs.results.parts import ResultWriter
from ran_datajobs.results.publisher import Publisher
from ran_datajobs.store import jobs, results
from ran_datajobs.store.database import Database
from ran_datajobs.store.dispatch import LeasedJob
from ran_datajobs.store.outbox import SHARDS
from ran_datajobs.telemetry import Metrics, logger
from tests.integration.delivery_service import news
from tests.kit.worker_parts import always_owner, worker_parts

JSON = {"Content-Type": "application/json"}
PLUGIN = "http://127.0.0.1:9"
changes_nothing = pytest.mark.asyncio(loop_scope="module")
"""Marks a test of ``unchanged``: it runs in the event loop of its file's API."""


class Answer(msgspec.Struct, frozen=True):
    """An HTTP response."""

    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return msgspec.json.decode(self.body)

    @property
    def problem(self) -> Any:
        """The body, which must be an RFC 9457 problem with the status of the response."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body[:500])
        problem = self.json()
        assert problem["status"] == self.status
        return problem


class Api:
    """A client of the API under test, and the parts behind it."""

    def __init__(self, parts: ApiDependencies, session: aiohttp.ClientSession) -> None:
        self.parts = parts
        self.session = session
        self.root = parts.settings.effective_api_root

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Send one request; ``path`` is relative to the root of the API."""
        async with self.session.request(method, URL(self.root + path, encoded=True), **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        """GET."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        """POST a JSON value, or bytes unchanged."""
        if body is not None:
            options["data"] = body if isinstance(body, bytes) else msgspec.json.encode(body)
        options["headers"] = JSON | options.get("headers", {})
        return await self.call("POST", path, **options)

    async def submit(self, body: Any = None, query: str = "", **options: Any) -> Answer:
        """Submit a job; without a body, a small write."""
        return await self.post(paths.JOBS + query, body if body is not None else WRITE, **options)

    async def accepted(self, body: Any = None, query: str = "", **options: Any) -> UUID:
        """Submit a job that is accepted. Returns its id."""
        answer = await self.submit(body, query, **options)
        assert answer.status == 202, answer.body
        return UUID(answer.json()["jobId"])

    async def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        """Fetch rows directly from the store."""
        async with self.parts.database.connection() as connection:
            return [dict(row) for row in await connection.fetch(query, *args)]

    async def left_behind(self) -> dict[str, int]:
        """Number of rows in each table that a submit writes."""
        tables = ("data_job", "job_request", "idempotency_key")
        return {table: (await self.rows(f"select count(*) as n from {table}"))[0]["n"] for table in tables}


WRITE = {
    "data": [
        {
            "op": "replace",
            "path": "/SubNetwork=A/ManagedElement=1#/attributes/userLabel",
            "operationId": "1",
            "value": "x",
        }
    ]
}
READ = {"data": [{"op": "read", "path": "/SubNetwork=A/ManagedElement=1", "operationId": "1"}]}


def writes(count: int) -> dict[str, Any]:
    """A write job of ``count`` operations."""
    return {
        "data": [
            {
                "op": "replace",
                "path": f"/SubNetwork=A/ManagedElement={n}#/attributes/userLabel",
                "operationId": n,
                "value": "x",
            }
            for n in range(count)
        ]
    }


@contextlib.asynccontextmanager
async def northbound_api(
    database: Database, folder: Path, port: int, headers: dict[str, str] | None = None, **changes: Any
) -> AsyncIterator[Api]:
    """The API on ``port``; ``changes`` replace settings and parts, ``headers`` go with every request.

    The client accepts problems (RFC 9457) by name, so that it gets them below NCMP's paths as well.
    """
    settings = Settings(port=port, data_dir=folder)
    settings = settings.with_changes(
        **{name: changes.pop(name) for name in vars(settings) if name in changes}
    )
    parts = ApiDependencies(
        settings=settings,
        database=database,
        owners=OwnerIndex(database),
        objects=open_folder(folder / "objects"),
        bus=PostgresBus(database),
        metrics=Metrics(),
        log=logger(),
        stopping=asyncio.Event(),
        view=JobView(settings),
    )
    parts = dataclasses.replace(parts, **changes)
    async with (
        serving(parts, port),
        aiohttp.ClientSession(
            headers={"Accept": "application/problem+json, */*"} | (headers or {})
        ) as session,
    ):
        yield Api(parts, session)


@contextlib.asynccontextmanager
async def serving(parts: ApiDependencies, port: int) -> AsyncIterator[None]:
    """The application on the server of production."""
    server = Server(
        build(parts),
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGI,
        websockets=False,
        log_enabled=False,
    )
    running = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10), aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{port}{paths.HEALTHZ}") as response:
                        if response.status == 200:
                            break
                assert not running.done(), running
                await asyncio.sleep(0)
        yield
    finally:
        parts.stopping.set()
        server.stop()
        async with asyncio.timeout(10):
            await running


async def register(api: Api, *elements: int, plugin: str = PLUGIN, producer: str = "producer-{n}") -> None:
    """Register a handle for each ManagedElement, each with its own data producer."""
    body = {
        "dmiPlugin": plugin,
        "createdCmHandles": [
            {
                "cmHandle": f"ch-{n}",
                "alternateId": f"/SubNetwork=A/ManagedElement={n}",
                "dataProducerIdentifier": producer.format(n=n),
                "cmHandleProperties": {"password": "a-private-property"},
            }
            for n in elements
        ],
    }
    answer = await api.post(paths.INVENTORY, body)
    assert answer.status == 200, answer.body


async def plan(api: Api, job_id: UUID) -> None:
    """Plan the job as a worker does. Its sub-jobs stay in the queue."""
    worker = worker_parts(api.parts.database, api.parts.objects, index=api.parts.owners)
    (row,) = await api.rows(
        "update data_job j set lease = gen_random_uuid(), leased_until = now() + interval '1 minute'"
        " from job_request r where r.job_id = j.job_id and j.job_id = $1"
        " returning j.job_id, j.lease, j.planned, j.step_failures, j.results_bucket, j.type,"
        " r.body, r.verdicts, j.validation",
        job_id,
    )
    enums = {"type": JobType(row["type"]), "validation": Validation(row["validation"])}
    await worker.steps.plan(LeasedJob(**row | enums))


async def end_job(api: Api, job_id: UUID, status: Status, responses: Sequence[Response] = ()) -> None:
    """Settle a job's sub-jobs, write ``responses`` as its results, write the manifest, and make the job
    terminal."""
    database, objects = api.parts.database, api.parts.objects
    (row,) = await api.rows("select results_bucket from data_job where job_id = $1", job_id)
    bucket = row["results_bucket"]
    written = await ResultWriter(objects, bucket, job_id, uuid4()).write(responses, always_owner)
    await objects.put(bucket, manifest_key(str(job_id)), b'{"status":"%s"}' % status.encode())
    states = Counter(response.state for response in responses)
    async with database.transaction() as connection:
        await results.record(connection, job_id, written)
        on_the_way = Status.CANCELLING if status is Status.CANCELLED else Status.RUNNING
        for passed in (on_the_way, status):
            await connection.execute(
                "update sub_job set status = $2 where job_id = $1 and status <> $2", job_id, passed
            )
        await connection.execute(
            "update sub_job set stage = 'SETTLED', due_at = null where job_id = $1", job_id
        )
        await connection.execute(
            "update data_job set planned = true, sub_jobs_open = 0,"
            " status = case when status in ('NOT_STARTED', 'RUNNING') then $2 else status end"
            " where job_id = $1",
            job_id,
            on_the_way,
        )
        counts = OperationCounts(
            total=len(responses),
            unmatched=0,
            pending=0,
            succeeded=states[OperationState.SUCCEEDED],
            failed=states[OperationState.FAILED],
            not_started=states[OperationState.NOT_STARTED],
            unknown=states[OperationState.UNKNOWN],
        )
        why = "it is a test" if status in (Status.FAILED, Status.PARTIALLY_FAILED) else None
        assert await jobs.finish(connection, job_id, status, why, counts)
        await finish_delivery(connection, job_id)


def outcome(
    operation_id: str | int, state: OperationState, path: str = "/A=1", detail: str = "", reason: str = ""
) -> Response:
    """The outcome of one operation."""
    return Response(
        operation_id=operation_id,
        status_code=0 if state is OperationState.SUCCEEDED else 108,
        status_message=detail,
        request=msgspec.Raw(msgspec.json.encode({"op": "replace", "path": path})),
        state=state,
        reason=reason,
    )


async def publish(api: Api) -> None:
    """Publish the outbox as a worker does."""
    publisher = Publisher(
        api.parts.database,
        api.parts.bus,
        api.parts.objects,
        lambda bucket, key: f"{bucket}/{key}",
        news(),
    )
    for shard in range(SHARDS):
        assert await publisher.publish(shard) is None
