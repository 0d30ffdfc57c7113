# SPDX-License-Identifier: Apache-2.0
"""Several machines on one database: any of them can be killed or stopped, and the others continue."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ran_datajobs.store.database import Database
from tests.kit.killable import DEADLINE, Killable, killable_service
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.processes import PATIENCE, api, process, variables
from tests.kit.whole_service import JOBS
from tests.recovery.scale import RESTARTS
from tests.recovery.test_random_kills import HANDLES, register, request

pytestmark = pytest.mark.timeout(600)

WHO_WORKED = """
create table worked (worker_id uuid primary key);
create function note_worker() returns trigger language plpgsql as $$
begin
    insert into worked values (new.leased_by) on conflict do nothing;
    return null;
end $$;
create trigger note_worker after update on sub_job for each row when (new.leased_by is not null)
    execute function note_worker();
"""
"""Trigger that records every worker that leased a sub-job."""


def matched(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the operations that have an owner."""
    return [line for line in lines if "=Y" not in line["path"]]


def executions(plugin: ScriptedPlugin) -> Counter[str]:
    """Count how often the plugin executed each operation."""
    return Counter(str(o.operation_id) for e in plugin.history for o in e.operations)


async def submit_at_any(machines: list[Killable], lines: list[dict[str, Any]], key: str) -> str:
    """Submit to one machine after another until one of them answers."""
    async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
        while True:
            for machine in machines:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.post(
                        machine.root + JOBS, json={"data": lines}, headers={"Idempotency-Key": key}
                    ) as answer:
                        if answer.status == 202:
                            return str((await answer.json())["jobId"])
            await asyncio.sleep(0.05)


@pytest.mark.nightly
async def test_any_machine_can_be_killed(database_url: str, tmp_path: Path) -> None:
    """Two API and three worker machines share one database and one folder of results, and the workers share
    the work. An API machine and two worker machines are killed under load: the others finish every job, and
    no operation is lost or executed twice."""
    rng = random.Random(5)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "RUNNING", "FINSHED")))
    shared = {"objects_dir": str(tmp_path / "objects")}
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(plugin.serving())
        apis = [
            await stack.enter_async_context(
                killable_service(database_url, tmp_path / f"api-{n}", roles="api", **shared)
            )
            for n in range(2)
        ]
        workers = [
            await stack.enter_async_context(
                killable_service(
                    database_url, tmp_path / f"worker-{n}", ready=False, roles="worker", **shared
                )
            )
            for n in range(3)
        ]
        await register(apis[0], address, idempotent=True, dmiGiveUp=60)
        database = await Database.open(database_url)
        stack.push_async_callback(database.close)
        async with database.connection() as connection:
            await connection.execute(WHO_WORKED)
        submitted: dict[str, list[dict[str, Any]]] = {}
        async with asyncio.timeout(PATIENCE):
            at_work = 0
            while at_work < 2:
                lines = request(len(submitted), rng)
                job_id = await submit_at_any(apis, lines, f"key-{len(submitted)}")
                submitted[job_id] = lines
                await apis[0].ended(job_id)  # any worker may claim the next one first
                async with database.connection() as connection:
                    at_work = await connection.fetchval("select count(*) from worked")
        for _ in range(20):
            lines = request(len(submitted), rng)
            submitted[await submit_at_any(apis, lines, f"key-{len(submitted)}")] = lines
        for machine in (apis[0], workers[0], workers[2]):
            machine.process.kill()
            lines = request(len(submitted), rng)
            submitted[await submit_at_any(apis, lines, f"key-{len(submitted)}")] = lines
        jobs = {job_id: await apis[1].ended(job_id) for job_id in submitted}
        status, manifest = await apis[1].call("GET", next(iter(jobs.values()))["resultsuri"])
        assert status == 200
        assert manifest["objects"]
    for job_id, lines in submitted.items():
        assert jobs[job_id]["operations"]["succeeded"] == len(matched(lines)), jobs[job_id]
    done = executions(plugin)
    assert set(done) == {line["operationId"] for lines in submitted.values() for line in matched(lines)}
    assert set(done.values()) == {1}


class SlowPlugin(ScriptedPlugin):
    """Plugin that answers a create after up to 0.9 s."""

    rng = random.Random(11)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        await asyncio.sleep(self.rng.uniform(0.0, 0.9))
        return await super()._create(request)


@pytest.mark.nightly
async def test_stops_in_order_leave_no_outcome_unknown(database_url: str, tmp_path: Path) -> None:
    """Workers are stopped repeatedly with SIGTERM under load. The plugin answers within a second and does not
    honour Idempotency-Key: every answer to a create is recorded, so every operation succeeds, once."""
    rng = random.Random(RESTARTS)
    environ = variables(database_url, tmp_path, shutdown_grace="4")
    plugin = SlowPlugin(Script(statuses=("RUNNING", "FINSHED"), honours_key=False))
    async with plugin.serving() as address, api(environ) as service:
        producers = {fdn: f"{producer}-{n}" for n, (fdn, producer) in enumerate(HANDLES.items())}
        await service.register(address, producers)
        submitted: dict[str, list[dict[str, Any]]] = {}
        for _ in range(RESTARTS):
            async with process(environ, "ran_datajobs", "serve-worker") as worker:
                creates = len(plugin.history)
                for _ in range(3):
                    lines = matched(request(len(submitted), rng))
                    submitted[await service.submit(lines)] = lines
                async with asyncio.timeout(PATIENCE):
                    while len(plugin.history) <= creates:
                        plugin.changed.clear()
                        await plugin.changed.wait()
                worker.terminate()
                assert await asyncio.wait_for(worker.wait(), 20) == 0
        async with process(environ, "ran_datajobs", "serve-worker"):
            jobs = {job_id: await service.ended(job_id) for job_id in submitted}
    assert sum(job["operations"]["unknown"] for job in jobs.values()) == 0
    for job_id, lines in submitted.items():
        assert jobs[job_id]["operations"]["succeeded"] == len(lines)
    assert set(executions(plugin).values()) == {1}


async def test_an_api_that_stops_says_so_first(database_url: str, tmp_path: Path) -> None:
    """After SIGTERM /readyz answers 503 for a while, an open event stream ends as a complete response, and
    the process exits with status 0."""
    environ = variables(database_url, tmp_path, shutdown_grace="4")
    root = f"http://127.0.0.1:{environ['DATAJOBS_PORT']}"
    database = await Database.open(database_url)
    await database.migrate()
    await database.close()
    async with process(environ, "ran_datajobs", "serve-api") as stopping, aiohttp.ClientSession() as session:
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.post(
                        root + JOBS, json={"data": request(1, random.Random(1))}
                    ) as answer:
                        assert answer.status == 202
                        address = (await answer.json())["statusuri"]
                        break
                await asyncio.sleep(0.02)
        async with session.get(f"{address}/events") as stream:
            assert await stream.content.readline() == b"retry: 2000\n"
            stopping.terminate()
            reported = []
            with contextlib.suppress(aiohttp.ClientError):
                async with asyncio.timeout(PATIENCE):
                    while stopping.returncode is None:
                        async with session.get(root + "/readyz") as ready:
                            reported.append((ready.status, (await ready.json()).get("detail")))
                        await asyncio.sleep(0.005)
            assert (503, "the service is stopping") in reported
            await stream.content.read()
        assert await asyncio.wait_for(stopping.wait(), 20) == 0


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_the_database_is_killed_under_load(tmp_path: Path) -> None:
    """The embedded PostgreSQL is SIGKILLed while clients submit jobs: /readyz answers 503 until the
    supervisor has restarted it; every job with a 202 ends, and no operation is executed twice."""
    rng = random.Random(3)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with plugin.serving() as address, killable_service(None, tmp_path) as service:
        await register(service, address, idempotent=True, dmiGiveUp=60)
        submitted: dict[str, list[dict[str, Any]]] = {}

        async def submit_some(count: int) -> None:
            for _ in range(count):
                lines = request(len(submitted), rng)
                submitted[await service.submit(lines, f"key-{len(submitted)}")] = lines

        for _ in range(2):
            await submit_some(10)
            postmaster = next(
                child
                for child in service.process.children()
                if child.name() == "postgres" and child.is_running()
            )
            postmaster.send_signal(signal.SIGKILL)
            refused = await not_ready(service)
            assert "database" in refused["detail"]
            await submit_some(5)
        jobs = {job_id: await service.ended(job_id) for job_id in submitted}
        status, _ = await service.call("GET", "/readyz")
        assert status == 200
    for job_id, lines in submitted.items():
        assert jobs[job_id]["operations"]["succeeded"] == len(matched(lines)), jobs[job_id]
    assert set(executions(plugin).values()) == {1}


async def not_ready(service: Killable) -> Any:
    """Wait until /readyz answers 503 and return its problem document."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
        while True:
            async with session.get(service.root + "/readyz") as answer:
                if answer.status == 503:
                    return await answer.json()
