# SPDX-License-Identifier: Apache-2.0
"""Real processes to measure: the service with its embedded database, and further programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from ran_datajobs.http.ports import free_port

JOBS = "/ranoam/cm/v1/dataJob"
TERMINAL = ("FINSHED", "FAILED", "PARTIALLY_FAILED", "CANCELLED")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    path = Path(tempfile.mkdtemp(prefix="ran-datajobs-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def program(*command: str, **environment: str) -> Iterator[psutil.Process]:
    """A Python program of this project, during the block."""
    process = subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=sys.stderr if os.environ.get("BENCH_LOG") else subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)


async def answers(session: aiohttp.ClientSession, url: str) -> None:
    """Wait until ``url`` answers 200."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)


class Machine:
    """The running service, and its processes."""

    def __init__(self, root: str, session: aiohttp.ClientSession, process: psutil.Process) -> None:
        self.root = root
        self.session = session
        self._process = process

    @contextlib.asynccontextmanager
    async def as_client(self, token: str) -> AsyncIterator[Machine]:
        """The same service, called with ``token``."""
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(timeout=self.session.timeout, headers=headers) as session:
            yield Machine(self.root, session, self._process)

    async def register(self, body: Any) -> None:
        """Register an inventory."""
        async with self.session.post(self.root + "/ncmpInventory/v1/ch", json=body) as response:
            if response.status != 200:
                raise SystemExit(f"registration: {response.status} {await response.text()}")

    async def submit(self, body: bytes, destination: str | None = None) -> str:
        """Submit a job. Returns its address."""
        headers = {"Content-Type": "application/json"}
        query = {"destination": destination} if destination else {}
        async with self.session.post(self.root + JOBS, data=body, headers=headers, params=query) as response:
            answer = await response.json()
            if response.status != 202:
                raise SystemExit(f"submit: {response.status} {answer}")
            address: str = answer["statusuri"]
            return address

    async def ended(self, address: str, every: float = 0.02) -> Any:
        """The job, once it is terminal."""
        async with asyncio.timeout(300):
            while True:
                async with self.session.get(address) as response:
                    job = await response.json()
                if job["status"] in TERMINAL:
                    return job
                await asyncio.sleep(every)

    def database_url(self) -> str:
        """The address of the embedded database that the processes of the service use."""
        for process in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if url := process.environ().get("DATAJOBS_DATABASE_URL"):
                    return url
        raise SystemExit("no process of the service has the address of a database")

    def processor_seconds(self) -> float:
        """Processor time so far of the service and its database, without processes that have ended."""
        seconds = 0.0
        for process in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                seconds += times.user + times.system
        return seconds

    def peak_rss(self) -> dict[str, int]:
        """Peak resident memory so far of each process of the service, in MiB."""
        peaks: dict[str, int] = {}
        for process in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error, OSError):
                words = process.cmdline()
                name = next((w for w in words if w.startswith("serve")), None)
                if name is None:
                    continue
                peaks[name] = max(peaks.get(name, 0), peak_rss_of(process))
        return peaks


def peak_rss_of(process: psutil.Process) -> int:
    """Peak resident memory so far of one process, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) // 1024


@contextlib.asynccontextmanager
async def running_machine(
    *beside: tuple[str, ...], port: int = 0, **environment: str
) -> AsyncIterator[Machine]:
    """The service with embedded defaults in its own folder. ``beside``: programs that run concurrently.

    ``port`` 0: a free one. ``environment``: more variables of the service.
    """
    with folder() as data, contextlib.ExitStack() as stack:
        port = port or free_port()
        for command in beside:
            stack.enter_context(program(*command))
        process = stack.enter_context(
            program(
                "-m", "ran_datajobs", "serve", "--port", str(port), "--data-dir", str(data),
                "--log-level", "warning", "--min-free-disk", "0",
                **environment,
            )
        )  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            root = f"http://127.0.0.1:{port}"
            await answers(session, root + "/readyz")
            yield Machine(root, session, process)
