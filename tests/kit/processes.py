# SPDX-License-Identifier: Apache-2.0
"""An API and a worker in this process, workers as processes, and a plugin that answers reads on a topic."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web

from ran_datajobs import config
from ran_datajobs.app import run_api, run_worker
from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.http.ports import free_port
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.store.database import Database
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.whole_service import Service, until_answered

PATIENCE = 60.0
HANDLES = {f"/SubNetwork=X/ManagedElement={n}": f"ems-{n % 2}" for n in range(4)}
WRITES = [
    {
        "op": "merge",
        "path": f"/SubNetwork={'Y' if n == 5 else 'X'}/ManagedElement={n % 4}/Cell={n}",
        "value": {"n": n},
        "operationId": n,
    }
    for n in range(12)
]
READS = [
    {"op": "read", "path": f"/SubNetwork=X/ManagedElement={n % 4}/Cell={n}", "operationId": n}
    for n in range(8)
]
TOPIC = "rapp-results"


def variables(database_url: str, folder: Path, **settings: str) -> dict[str, str]:
    """The settings of a small service."""
    return {
        "DATAJOBS_DATABASE_URL": database_url,
        "DATAJOBS_DATA_DIR": str(folder),
        "DATAJOBS_PORT": str(free_port()),
        "DATAJOBS_MIN_FREE_DISK": "0",
        "DATAJOBS_UNKNOWN_WRITE_QUARANTINE": "0.2",
        "DATAJOBS_SHUTDOWN_GRACE": "1",
        "DATAJOBS_LOG_LEVEL": "error",
    } | {f"DATAJOBS_{name.upper()}": value for name, value in settings.items()}


class Client(Service):
    """The client of :mod:`whole_service`, which also reads destination topics."""

    async def messages(self, topic: str) -> list[Any]:
        """Return all messages of a destination topic."""
        found: list[Any] = []
        while True:
            page = await self.call(
                "GET", f"/ranoam/cm/v1/topics/{topic}/messages?from={len(found)}&limit=100", expect=200
            )
            found += page["items"]
            if not page["items"]:
                return found

    async def delivered(self, job_id: str) -> Any:
        """Wait until the delivery of the job has ended and return the job."""
        async with asyncio.timeout(PATIENCE):
            while (job := await self.job(job_id))["deliveryState"] == "PENDING":
                await asyncio.sleep(0.05)
        return job


@asynccontextmanager
async def api(environ: dict[str, str]) -> AsyncIterator[Client]:
    """Run the API alone, in this process."""
    settings = config.load(environ)
    database = await Database.open(environ["DATAJOBS_DATABASE_URL"])
    stopping = asyncio.Event()
    try:
        await database.migrate()
        async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
            group.create_task(run_api(settings, stopping))
            try:
                await until_answered(session, f"{settings.effective_api_root}/healthz")
                yield Client(settings.effective_api_root, session, database)
            finally:
                stopping.set()
    finally:
        await database.close()


@asynccontextmanager
async def worker(environ: dict[str, str]) -> AsyncIterator[None]:
    """Run a worker in this process, which takes over from one that is killed or frozen."""
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_worker(config.load(environ), stopping))
        try:
            yield
        finally:
            stopping.set()


@asynccontextmanager
async def process(environ: dict[str, str], *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process of the service; it is stopped at the end if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DATAJOBS_")}
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, env=inherited | environ, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGCONT)
            running.terminate()
        await asyncio.wait_for(running.wait(), 30)


def signalled(role: str, what: signal.Signals, where: Checkpoint, times: int = 1) -> tuple[str, ...]:
    """Return the command of a process that signals itself at a checkpoint."""
    return ("tests.recovery.signalled", role, what.name, where.value, str(times))


async def until_frozen(pid: int) -> None:
    """Return when the process has been stopped by SIGSTOP."""
    async with asyncio.timeout(PATIENCE):
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.02)


class TopicPlugin(ScriptedPlugin):
    """Plugin that publishes the results of a read on the internal topic, two messages per sub-job, when the
    result is requested."""

    def __init__(self, default: Script) -> None:
        super().__init__(default)
        self.api = ""

    async def _result(self, request: web.Request) -> web.StreamResponse:
        job, _ = self._asked("result", request)
        if job is None or not job.is_read:
            return await super()._result(request)
        half = (len(job.operations) + 1) // 2
        messages = [
            {
                "key": f"{job.request_id}/{job.sub_job_id}",
                "headers": {
                    "ce_correlationid": job.request_id,
                    "ce_subjobid": job.sub_job_id,
                    "ce_sequence": str(sequence),
                    "ce_total": "2",
                },
                "value": {
                    "data": {
                        "responses": [
                            {
                                "operationId": o.operation_id,
                                "statusCode": 0,
                                "statusMessage": "read",
                                "state": "SUCCEEDED",
                                "result": [{"id": str(o.operation_id), "attributes": {}}],
                            }
                            for o in operations
                        ]
                    }
                },
            }
            for sequence, operations in enumerate((job.operations[:half], job.operations[half:]))
        ]
        url = f"{self.api}/ranoam/cm/v1/topics/{INTERNAL_TOPIC}/messages"
        async with aiohttp.ClientSession() as session, session.post(url, json={"messages": messages}) as sent:
            assert sent.status == 204, await sent.text()
        return web.json_response({"resulturi": INTERNAL_TOPIC})


def by_sub_job(messages: list[Any], job_id: str) -> dict[str, list[Any]]:
    """Return the messages of one job by sub-job, in the order of the topic."""
    found: dict[str, list[Any]] = defaultdict(list)
    for message in messages:
        if message["headers"]["ce_correlationid"] == job_id:
            found[message["headers"].get("ce_subjobid", "")].append(message)
    return found


def assert_whole(messages: list[Any], job_id: str, operations: set[Any]) -> None:
    """Assert that the messages of the job contain all operations, and that each is there once, those of a
    sub-job in order and without a gap."""
    reported: list[Any] = []
    for parts in by_sub_job(messages, job_id).values():
        assert [int(m["headers"]["ce_sequence"]) for m in parts] == list(range(len(parts)))
        assert int(parts[-1]["headers"]["ce_total"]) == len(parts)
        reported += [r["operationId"] for m in parts for r in m["value"]["data"]["responses"]]
    assert len(reported) == len(set(reported))
    assert set(reported) == operations
