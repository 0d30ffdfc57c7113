# SPDX-License-Identifier: Apache-2.0
"""The real service as processes that can be killed, and a client that repeats its requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from ran_datajobs.http.ports import free_port
from tests.kit.whole_service import JOBS, TERMINAL

DEADLINE = 120.0


class Patient:
    """A client that repeats a request while the service is unavailable."""

    def __init__(self, root: str, session: aiohttp.ClientSession) -> None:
        self.root = root
        self._session = session

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send one request; repeat it while there is no answer or the answer is 5xx."""
        url = path if path.startswith("http") else self.root + path
        async with asyncio.timeout(DEADLINE):
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with self._session.request(method, url, json=body, headers=headers) as response:
                        answer = await response.json(content_type=None)
                        if response.status < 500:
                            return response.status, answer
                await asyncio.sleep(0.05)

    async def submit(self, operations: Sequence[dict[str, Any]], key: str) -> str:
        """Submit a job under one Idempotency-Key; repeat until it is answered. Return its id."""
        status, answer = await self.call("POST", JOBS, {"data": list(operations)}, **{"Idempotency-Key": key})
        assert status == 202, answer
        job_id: str = answer["jobId"]
        return job_id

    async def ended(self, job_id: str) -> Any:
        """Wait until the job is terminal and return it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                status, job = await self.call("GET", f"{JOBS}/{job_id}")
                assert status == 200, job
                if job["status"] in TERMINAL:
                    return job
                await asyncio.sleep(0.1)


class Killable(Patient):
    """A running ``datajobs serve``. Its supervisor restarts workers and APIs."""

    def __init__(self, root: str, process: psutil.Process, session: aiohttp.ClientSession) -> None:
        super().__init__(root, session)
        self.process = process


@contextlib.asynccontextmanager
async def killable_service(
    database_url: str | None, folder: Path, *, ready: bool = True, **settings: str
) -> AsyncIterator[Killable]:
    """Run ``datajobs serve`` while the block runs; without a database URL, with the embedded PostgreSQL.

    ``ready``: wait until the API answers. False for a service without an API.
    """
    port = free_port()
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DATAJOBS_")}
    environ |= {"DATAJOBS_DATA_DIR": str(folder), "DATAJOBS_PORT": str(port), "DATAJOBS_MIN_FREE_DISK": "0"}
    environ |= {"DATAJOBS_LOG_LEVEL": "error", **{f"DATAJOBS_{k.upper()}": v for k, v in settings.items()}}
    if database_url is not None:
        environ["DATAJOBS_DATABASE_URL"] = database_url
    process = subprocess.Popen([sys.executable, "-m", "ran_datajobs", "serve"], env=environ)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            service = Killable(f"http://127.0.0.1:{port}", psutil.Process(process.pid), session)
            if ready:
                status, _ = await service.call("GET", "/readyz")
                assert status == 200
            yield service
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
