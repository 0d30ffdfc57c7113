# SPDX-License-Identifier: Apache-2.0
"""The waitingFor of jobs and sub-jobs, shown over HTTP while a real worker runs into each cause."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ran_datajobs.api import paths
from ran_datajobs.api.tokens import Role, add
from ran_datajobs.model import Status
from ran_datajobs.plugins.port import OutcomeUnknown, Polled, Retryable
from ran_datajobs.results.publisher import Publisher
from ran_datajobs.store import health
from ran_datajobs.store.database import Database
from ran_datajobs.store.outbox import SHARDS
from ran_datajobs.store.sub_jobs import CREATES_PER_PLUGIN
from tests.integration.delivery_service import news
from tests.integration.embedded_delivery import FaultyBus
from tests.kit.api_service import PLUGIN, Api, northbound_api, writes
from tests.kit.plugins.in_process import InProcessPlugin
from tests.kit.worker_parts import DEADLINE, Parts, rows, worker_parts

ROLES = {"ours": Role.SUBMIT, "theirs": Role.SUBMIT, "operator": Role.ADMIN}


class Clients:
    """Two clients and an operator of one service with one worker, whose plugin answers as the test sets."""

    def __init__(self, api: Api, tokens: Path) -> None:
        self.api = api
        self.plugin = InProcessPlugin()
        self._headers = {
            name: {"Authorization": f"Bearer {add(tokens, name, role, None)}"} for name, role in ROLES.items()
        }

    def worker(self) -> Parts:
        """A worker that runs with the API."""
        parts = self.api.parts
        return worker_parts(parts.database, parts.objects, self.plugin, index=parts.owners)

    async def register(self, *elements: int, producer: str = "producer-{n}") -> None:
        """Register a handle for each element, each with its own data producer."""
        created = [
            {
                "cmHandle": f"ch-{n}",
                "alternateId": f"/SubNetwork=A/ManagedElement={n}",
                "dataProducerIdentifier": producer.format(n=n),
            }
            for n in elements
        ]
        body = {"dmiPlugin": PLUGIN, "createdCmHandles": created}
        answer = await self.api.post(paths.INVENTORY, body, headers=self._headers["operator"])
        assert answer.status == 200, answer.body

    async def submit(self, body: Any, client: str = "ours", query: str = "") -> UUID:
        """Submit a job as ``client``."""
        return await self.api.accepted(body, query, headers=self._headers[client])

    async def cancel(self, job_id: UUID, client: str = "ours") -> None:
        """Cancel a job."""
        answer = await self.api.post(paths.fill(paths.CANCEL, job_id=job_id), headers=self._headers[client])
        assert answer.status == 202, answer.body

    async def job(self, job_id: UUID, client: str = "ours") -> Any:
        """The job as ``client`` reads it."""
        path = paths.fill(paths.JOB, job_id=job_id)
        answer = await self.api.get(path, headers=self._headers[client])
        assert answer.status == 200, answer.body
        return answer.json()

    async def listed(self, job_id: UUID, client: str = "ours") -> Any:
        """The same job from the list."""
        items = (await self.api.get(paths.JOBS, headers=self._headers[client])).json()["items"]
        (found,) = [item for item in items if item["jobId"] == str(job_id)]
        return found

    async def sub_jobs(self, job_id: UUID, client: str = "ours") -> list[Any]:
        """The sub-jobs of a job."""
        path = paths.fill(paths.SUB_JOBS, job_id=job_id) + "?limit=1000"
        items: list[Any] = (await self.api.get(path, headers=self._headers[client])).json()["items"]
        return items

    async def waiting(self, job_id: UUID, code: str, client: str = "ours") -> Any:
        """The job's waitingFor, once its code is ``code``. The list shows the same."""
        async with asyncio.timeout(DEADLINE):
            while True:
                job, listed = await self.job(job_id, client), await self.listed(job_id, client)
                if all(each.get("waitingFor", {}).get("code") == code for each in (job, listed)):
                    return job["waitingFor"]
                await asyncio.sleep(0.02)

    async def running(self, job_id: UUID, client: str = "ours") -> Any:
        """The job, once its plugin has a sub-job of it."""
        async with asyncio.timeout(DEADLINE):
            while not any(each["dataProducerJobId"] for each in await self.sub_jobs(job_id, client)):
                await asyncio.sleep(0.02)
        return await self.job(job_id, client)


@pytest.fixture
async def clients(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Clients]:
    """The API with a tokens file."""
    tokens = tmp_path / "tokens"
    async with northbound_api(database, tmp_path, free_port, tokens_file=tokens) as api:
        yield Clients(api, tokens)


def seconds(waiting: Any) -> float:
    """Seconds between since and until."""
    return (time_of(waiting["until"]) - time_of(waiting["since"])).total_seconds()


def time_of(text: str) -> datetime:
    """A time of a response."""
    return datetime.fromisoformat(text)


def reads(element: int) -> dict[str, Any]:
    """A read of one element."""
    return {"data": [{"op": "read", "path": f"/SubNetwork=A/ManagedElement={element}", "operationId": "1"}]}


async def test_a_write_waits_for_the_one_write_of_its_data_producer(clients: Clients) -> None:
    """LANE_BUSY since the job was planned, in the job, the list and the sub-job: it names the sub-job that
    holds the slot. Another client learns only that one exists, the operator learns its id. The running
    sub-job waits for nothing."""
    clients.plugin.polled = [Polled(Status.RUNNING)]
    await clients.register(0)
    async with clients.worker().working():
        first = await clients.submit(writes(1))
        assert "waitingFor" not in await clients.running(first)
        (running,) = await clients.sub_jobs(first)
        assert "waitingFor" not in running
        second = await clients.submit(writes(1))
        waiting = await clients.waiting(second, "LANE_BUSY")
        assert waiting["detail"] == (
            f"data producer 'producer-0' of DMI plugin {PLUGIN} executes one write at a time, at present"
            f" sub-job {running['subJobId']} of job {first}"
        )
        assert "until" not in waiting
        (sub_job,) = await clients.sub_jobs(second)
        assert sub_job["waitingFor"] == waiting
        theirs = await clients.submit(writes(1), "theirs")
        waits = await clients.waiting(theirs, "LANE_BUSY", "theirs")
        assert waits["detail"].endswith("at present one of another client")
        seen = await clients.waiting(theirs, "LANE_BUSY", "operator")
        assert seen["detail"] == waiting["detail"]


async def test_a_read_waits_for_a_read_slot(clients: Clients) -> None:
    """LANE_BUSY: as many reads are active as the data producer has slots, and one of them is named."""
    clients.plugin.polled = [Polled(Status.RUNNING)]
    await clients.register(0)
    async with clients.worker().working():
        running = [await clients.submit(reads(0), "theirs") for _ in range(3)]
        running.append(await clients.submit(reads(0)))
        for job_id in running:
            await clients.running(job_id, "operator")
        late = await clients.submit(reads(0))
        waiting = await clients.waiting(late, "LANE_BUSY")
        (own,) = await clients.sub_jobs(running[3])
        assert waiting["detail"] == (
            f"data producer 'producer-0' of DMI plugin {PLUGIN} executes 4 reads at present, as many as its"
            f" read slots; one of them is sub-job {own['subJobId']} of job {running[3]}"
        )
        assert "waitingFor" not in await clients.job(running[3])


async def test_a_write_waits_for_the_end_of_a_quarantine(clients: Clients) -> None:
    """QUARANTINE: the previous write ended with an unknown outcome, and the lane is closed for at most 300 s.
    The job that ended waits for nothing."""
    clients.plugin.create_answers = [OutcomeUnknown("the connection was reset")]
    await clients.register(0)
    async with clients.worker().working():
        first = await clients.submit(writes(1))
        second = await clients.submit(writes(1))
        waiting = await clients.waiting(second, "QUARANTINE")
        (ended,) = await clients.sub_jobs(first)
        assert f"may still execute sub-job {ended['subJobId']} of job {first}" in waiting["detail"]
        assert "waitingFor" not in ended
        async with asyncio.timeout(DEADLINE):
            while (job := await clients.job(first))["status"] != "FAILED":
                await asyncio.sleep(0.02)
        assert "waitingFor" not in job
        (row,) = await rows(
            clients.api.parts.database, "select quarantined_until from sub_job where stage = 'QUARANTINED'"
        )
        assert time_of(waiting["until"]) == row["quarantined_until"]
        assert seconds(waiting) == pytest.approx(300.0, abs=1.0)


async def test_a_sub_job_waits_for_its_plugin(clients: Clients) -> None:
    """PLUGIN_UNAVAILABLE: the cause of the last failure, since the first one, until the sub-job times out."""
    clients.plugin.create_answers = [Retryable("503 Service Unavailable", answered=True)]
    await clients.register(0)
    async with clients.worker().working():
        job_id = await clients.submit(writes(1))
        waiting = await clients.waiting(job_id, "PLUGIN_UNAVAILABLE")
        assert waiting["detail"] == f"DMI plugin {PLUGIN}: 503 Service Unavailable"
        assert seconds(waiting) == 120.0
        (sub_job,) = await clients.sub_jobs(job_id)
        assert sub_job["waitingFor"]["since"] == waiting["since"]
        assert sub_job["lastError"] == "503 Service Unavailable"


async def test_a_sub_job_whose_polls_fail_waits_for_its_plugin(clients: Clients) -> None:
    """PLUGIN_UNAVAILABLE also after the create: it is shown until a poll is answered."""
    clients.plugin.polled = [Retryable("500 Internal Server Error", answered=True)]
    await clients.register(0)
    async with clients.worker().working():
        job_id = await clients.submit(writes(1))
        await clients.waiting(job_id, "PLUGIN_UNAVAILABLE")
        clients.plugin.polled = [Polled(Status.RUNNING)]
        async with asyncio.timeout(DEADLINE):
            while "waitingFor" in (job := await clients.job(job_id)):
                await asyncio.sleep(0.02)
        assert job["status"] == "RUNNING"


async def test_a_sub_job_at_a_plugin_that_is_down_waits_for_it(clients: Clients) -> None:
    """PLUGIN_UNAVAILABLE with the reported cause, since the report or the plan, whichever came later; the
    plugin is called nevertheless. A plugin that is up or unknown is not waited for."""
    clients.plugin.polled = [Polled(Status.RUNNING)]
    await clients.register(0)
    database = clients.api.parts.database
    async with database.connection() as connection:
        (plugin_id,) = await connection.fetchrow("select plugin_id from dmi_plugin") or ()
        await health.record(connection, plugin_id, False, "HTTP 503, its health is DOWN")
    async with clients.worker().working():
        job_id = await clients.submit(writes(1))
        waiting = await clients.waiting(job_id, "PLUGIN_UNAVAILABLE")
        assert waiting["detail"] == (
            f"DMI plugin {PLUGIN} is down (HTTP 503, its health is DOWN); it is called nevertheless"
        )
        assert "until" not in waiting
        await clients.running(job_id)
        (sub_job,) = await clients.sub_jobs(job_id)
        assert sub_job["waitingFor"] == waiting
        assert time_of(waiting["since"]) >= time_of((await clients.job(job_id))["createdAt"])
        for healthy in (True, None):
            async with database.connection() as connection:
                await health.record(connection, plugin_id, healthy, None)
            assert "waitingFor" not in await clients.job(job_id)


async def test_sub_jobs_wait_for_the_circuit_of_their_plugin(clients: Clients) -> None:
    """CIRCUIT_OPEN: after five calls in a row without an answer no call is made until the next probe. The
    time of the probe and the timeout of the sub-job are shown."""
    clients.plugin.create_answers = [Retryable("connection refused")]
    await clients.register(*range(5))
    async with clients.worker().working():
        job_id = await clients.submit(writes(5))
        waiting = await clients.waiting(job_id, "CIRCUIT_OPEN")
        assert waiting["detail"].startswith(f"DMI plugin {PLUGIN}: ")
        assert "connection refused" in waiting["detail"]
        gives_up = time_of(waiting["detail"].rpartition("times out at ")[2])
        assert abs(gives_up - time_of(waiting["since"]) - timedelta(seconds=120)) < timedelta(seconds=1)
        assert time_of(waiting["since"]) < time_of(waiting["until"]) < gives_up


async def test_a_job_waits_for_room_in_the_workers(clients: Clients) -> None:
    """LIMIT: as many creates are active at the plugin as one worker sends. The detail names the setting. A
    job with active creates makes progress, but its last sub-job waits as well."""
    clients.plugin.before_create = asyncio.Event()
    await clients.register(*range(CREATES_PER_PLUGIN + 2))
    async with clients.worker().working():
        wide = await clients.submit(writes(CREATES_PER_PLUGIN + 1))
        async with asyncio.timeout(DEADLINE):
            while len(await clients.sub_jobs(wide)) <= CREATES_PER_PLUGIN:
                await asyncio.sleep(0.02)
        body = writes(CREATES_PER_PLUGIN + 2)
        late = await clients.submit({"data": body["data"][-1:]})
        waiting = await clients.waiting(late, "LIMIT")
        assert waiting["detail"].startswith(
            f"{CREATES_PER_PLUGIN} creates are under way at DMI plugin {PLUGIN}"
        )
        assert "DATAJOBS_WORKERS" in waiting["detail"]
        assert "waitingFor" not in await clients.job(wide)
        waits = [each["waitingFor"]["code"] for each in await clients.sub_jobs(wide) if "waitingFor" in each]
        assert waits == ["LIMIT"]
        clients.plugin.before_create.set()
        async with asyncio.timeout(DEADLINE):
            while not (job := await clients.job(late))["endedAt"]:
                await asyncio.sleep(0.02)
        assert "waitingFor" not in job


async def test_a_job_waits_for_those_that_it_names_in_after(clients: Clients) -> None:
    """AFTER since the job was accepted, with the ids of jobs that are still open. Jobs that have ended, and
    jobs that the caller may not see, are not named."""
    clients.plugin.polled = [Polled(Status.RUNNING)]
    await clients.register(0, 1)
    first, second = await clients.submit(writes(1)), await clients.submit(writes(1))
    body = writes(2)["data"][1:]
    last = await clients.submit({"data": body, "after": [str(first), str(second)]})
    waiting = await clients.waiting(last, "AFTER")
    assert waiting["detail"] == f"the end of job {first} and job {second}"
    assert waiting["since"] == (await clients.job(last))["createdAt"]
    theirs = await clients.submit({"data": body, "after": [str(first)]}, "operator")
    database = clients.api.parts.database
    async with database.connection() as connection:
        await connection.execute("update data_job set client = 'theirs' where job_id = $1", theirs)
    waits = await clients.waiting(theirs, "AFTER", "theirs")
    assert waits["detail"] == "the end of 1 job of other clients"
    async with clients.worker().working():
        await clients.running(first)
        await clients.cancel(second)
        async with asyncio.timeout(DEADLINE):
            while (await clients.job(second))["status"] != "CANCELLED":
                await asyncio.sleep(0.02)
        async with asyncio.timeout(DEADLINE):
            while not await clients.sub_jobs(last):
                await asyncio.sleep(0.02)
        waiting = await clients.waiting(last, "AFTER")
        assert waiting["detail"] == f"the end of job {first}"
        (sub_job,) = await clients.sub_jobs(last)
        assert sub_job["waitingFor"] == waiting


async def test_a_job_of_which_a_sub_job_makes_progress_waits_for_nothing(clients: Clients) -> None:
    """A job shows the waitingFor of the first of its open sub-jobs, and only while none makes progress."""
    clients.plugin.polled = [Polled(Status.RUNNING)]
    await clients.register(0, 1)
    async with clients.worker().working():
        first = await clients.submit(writes(1))
        await clients.running(first)
        both = await clients.submit(writes(2))
        job = await clients.running(both)
        assert "waitingFor" not in job
        assert "waitingFor" not in await clients.listed(both)
        busy, running = await clients.sub_jobs(both)
        assert busy["waitingFor"]["code"] == "LANE_BUSY"
        assert "waitingFor" not in running


async def test_what_is_cancelled_before_its_start_waits_for_nothing(clients: Clients) -> None:
    """A cancel ends the wait before a worker has ended the sub-job."""
    clients.plugin.polled = [Polled(Status.RUNNING)]
    await clients.register(0)
    async with clients.worker().working():
        await clients.running(await clients.submit(writes(1)))
        second = await clients.submit(writes(1))
        await clients.waiting(second, "LANE_BUSY")
    await clients.cancel(second)
    assert "waitingFor" not in await clients.job(second)
    (sub_job,) = await clients.sub_jobs(second)
    assert "waitingFor" not in sub_job


async def test_an_ended_job_waits_for_the_bus_that_is_to_take_its_results(clients: Clients) -> None:
    """BUS: the cause, since the first failure, until the delivery times out."""
    api = clients.api
    await clients.register(0)
    async with clients.worker().working():
        job_id = await clients.submit(writes(1), query="?destination=kafka:results")
        async with asyncio.timeout(DEADLINE):
            while not (job := await clients.job(job_id))["endedAt"]:
                await asyncio.sleep(0.02)
    assert "waitingFor" not in job
    bus = FaultyBus(api.parts.database)
    bus.unavailable = True
    publisher = Publisher(
        api.parts.database,
        bus,
        api.parts.objects,
        lambda bucket, key: f"{bucket}/{key}",
        news(),
    )
    for shard in range(SHARDS):
        await publisher.publish(shard)
    waiting = await clients.waiting(job_id, "BUS")
    assert waiting["detail"] == "delivery of the results to topic results: unavailable, as the test sets it"
    assert seconds(waiting) == 3600.0
    bus.unavailable = False
    for shard in range(SHARDS):
        await publisher.publish(shard)
    job = await clients.job(job_id)
    assert job["deliveryState"] == "DELIVERED"
    assert "waitingFor" not in job
