# SPDX-License-Identifier: Apache-2.0
"""The service as a whole, API and worker, over a real database and real HTTP, in a separate thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from anyio.from_thread import BlockingPortal, start_blocking_portal

from ran_datajobs import config
from ran_datajobs.app import run_api, run_worker
from ran_datajobs.http.ports import free_port
from ran_datajobs.store.database import Database
from tests.kit.plugins.scripted import ScriptedPlugin

TERMINAL = {"FINSHED", "FAILED", "PARTIALLY_FAILED", "CANCELLED"}
DEADLINE = 40.0
JOBS = "/ranoam/cm/v1/dataJob"


class Service:
    """A client of the running service. Every method is a coroutine of the service's loop."""

    def __init__(
        self, root: str, session: aiohttp.ClientSession, database: Database, token: str = ""
    ) -> None:
        self.root = root
        self.database = database
        self._session = session
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def of(self, token: str) -> Service:
        """The same service as the client with ``token``."""
        return Service(self.root, self._session, self.database, token)

    async def call(self, method: str, path: str, body: Any = None, expect: int | None = None) -> Any:
        """Send one request. Returns the decoded response. ``path`` may be a full address."""
        url = path if path.startswith("http") else self.root + path
        async with self._session.request(method, url, json=body, headers=self._headers) as response:
            answer = await response.json(content_type=None) if response.content_length != 0 else None
            if expect is not None:
                assert response.status == expect, (response.status, answer)
            return answer

    async def register(self, plugin: str, handles: dict[str, str], **fields: Any) -> None:
        """Register handles (alternate id → data producer) at ``plugin``."""
        created = [
            {
                "cmHandle": alternate_id.replace("/", "_").replace("=", "-"),
                "alternateId": alternate_id,
                "dataProducerIdentifier": producer,
            }
            for alternate_id, producer in handles.items()
        ]
        body = {"dmiPlugin": plugin, "createdCmHandles": created, **fields}
        await self.call("POST", "/ncmpInventory/v1/ch", body, expect=200)

    async def submit(self, operations: Sequence[dict[str, Any]], **envelope: Any) -> str:
        """Submit a job that is accepted. Returns its id."""
        answer = await self.call("POST", JOBS, {"data": list(operations), **envelope}, expect=202)
        job_id: str = answer["jobId"]
        return job_id

    async def job(self, job_id: str) -> Any:
        """The job as GET shows it."""
        return await self.call("GET", f"{JOBS}/{job_id}", expect=200)

    async def until(self, job_id: str, statuses: set[str]) -> Any:
        """The job, once it has one of ``statuses``."""
        async with asyncio.timeout(DEADLINE):
            while (job := await self.job(job_id))["status"] not in statuses:
                await asyncio.sleep(0.02)
        return job

    async def ended(self, job_id: str) -> Any:
        """The job, once it is terminal."""
        job = await self.until(job_id, TERMINAL)
        assert job["operations"]["pending"] == 0
        counts = [n for name, n in job["operations"].items() if name != "total"]
        assert sum(counts) == job["operations"]["total"]
        return job

    async def failures(self, job_id: str) -> list[Any]:
        """Every operation that did not succeed."""
        answer = await self.call("GET", f"{JOBS}/{job_id}/failures", expect=200)
        items: list[Any] = answer["items"]
        return items

    async def sub_jobs(self, job_id: str) -> list[Any]:
        """The sub-jobs of a job."""
        answer = await self.call("GET", f"{JOBS}/{job_id}/subJobs?limit=1000", expect=200)
        items: list[Any] = answer["items"]
        return items

    async def responses(self, job: Any) -> list[Any]:
        """Every response in the result objects that the manifest of a terminal job names, in its order."""
        manifest = await self.call("GET", job["resultsuri"], expect=200)
        base = job["resultsuri"].split("?")[0]
        found: list[Any] = []
        for entry in manifest["objects"]:
            if entry.get("foreign"):
                continue
            document = await self.call("GET", f"{base}/{entry['key']}", expect=200)
            found += document["responses"]
        return found

    async def bytes_of(self, url: str, accept: str = "*/*") -> bytes:
        """The bytes at an address."""
        async with self._session.get(url, headers=self._headers | {"Accept": accept}) as response:
            assert response.status == 200, response.status
            return await response.read()

    async def foreign_bodies(self, job: Any) -> list[bytes]:
        """The unchanged plugin results that the manifest of a terminal job names."""
        manifest = await self.call("GET", job["resultsuri"], expect=200)
        base = job["resultsuri"].split("?")[0]
        return [
            await self.bytes_of(f"{base}/{each['key']}")
            for each in manifest["objects"]
            if each.get("foreign")
        ]


async def called(plugin: ScriptedPlugin, kind: str, times: int = 1) -> None:
    """Wait until the plugin has been called the given number of times."""
    async with asyncio.timeout(30):
        while sum(call.kind == kind for call in plugin.calls) < times:
            plugin.changed.clear()
            await plugin.changed.wait()


async def until_answered(session: aiohttp.ClientSession, url: str) -> None:
    """Return once a GET of ``url`` is answered with 200."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def whole_service(database_url: str, folder: Path, **settings: str) -> AsyncIterator[Service]:
    """Run the API and a worker during the block. ``settings`` by variable name without its prefix."""
    environ = {
        "DATAJOBS_DATABASE_URL": database_url,
        "DATAJOBS_DATA_DIR": str(folder),
        "DATAJOBS_PORT": str(free_port()),
        "DATAJOBS_MIN_FREE_DISK": "0",
        "DATAJOBS_SHUTDOWN_GRACE": "0.4",
    } | {f"DATAJOBS_{name.upper()}": value for name, value in settings.items()}
    loaded = config.load(environ)
    database = await Database.open(database_url)
    stopping = asyncio.Event()
    try:
        await database.migrate()
        async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
            group.create_task(run_api(loaded, stopping))
            group.create_task(run_worker(loaded, stopping))
            try:
                await until_answered(session, f"{loaded.effective_api_root}/healthz")
                yield Service(loaded.effective_api_root, session, database)
            finally:
                stopping.set()
    finally:
        await database.close()


class Portal:
    """The service and a scripted plugin in a thread, for tests that are not coroutines."""

    def __init__(
        self, portal: BlockingPortal, service: Service, plugin: ScriptedPlugin, address: str
    ) -> None:
        self.run = portal.call
        self.service = service
        self.plugin = plugin
        self.address = address


@contextlib.contextmanager
def service_in_thread(database_url: str, folder: Path, **settings: str) -> Iterator[Portal]:
    """Like :func:`whole_service`, with a scripted plugin, called from outside its loop."""

    @contextlib.asynccontextmanager
    async def both() -> AsyncIterator[tuple[Service, ScriptedPlugin, str]]:
        plugin = ScriptedPlugin()
        async with plugin.serving() as address, whole_service(database_url, folder, **settings) as service:
            yield service, plugin, address

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(both()) as parts:
        yield Portal(portal, *parts)
