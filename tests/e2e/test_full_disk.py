# SPDX-License-Identifier: Apache-2.0
"""A full disk, and more concurrent large bodies than fit: requests are refused with the reason, and no
accepted job is lost."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.kit.killable import killable_service
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.whole_service import DEADLINE, JOBS, whole_service
from tests.peers.program import not_possible

MIB = 1024 * 1024
HANDLES = {f"/ManagedElement={n}": f"ems-{n}" for n in range(2)}


def body(size: int) -> bytes:
    """A job of two operations of about ``size`` bytes."""
    lines = [
        {"op": "merge", "path": f"/ManagedElement={n}", "value": {"attributes": {"x": "x" * (size // 2)}}}
        for n in range(2)
    ]
    return msgspec.json.encode({"data": lines})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    with file_system(tmp_path / "small", 8) as folder:
        yield folder


@pytest.fixture
def disk_for_all() -> Iterator[Path]:
    """A file system with room for a small database and little more. It is not in pytest's folder, because the
    user of the database must reach it."""
    folder = Path(tempfile.mkdtemp(prefix=f"ran-datajobs-tests-{os.getpid()}-"))
    folder.chmod(0o755)
    try:
        with file_system(folder / "all", 160) as mounted:
            yield mounted
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def file_system(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a separate file system on ``folder``; skips the test if none can be mounted."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        not_possible(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Write a file that takes all free space."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        for piece in (65536, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * piece)
    return filler


async def test_a_full_disk_refuses_new_jobs_and_keeps_the_others(database_url: str, small_disk: Path) -> None:
    """While the disk of the results is full, a new job is a 503 that says so and stores nothing. A job
    accepted before waits, and ends complete without intervention once there is space."""
    plugin = ScriptedPlugin(Script())
    plugin.script("ems-1", Script(statuses=("RUNNING",)))
    settings = {"min_free_disk": str(MIB)}
    async with plugin.serving() as address, whole_service(database_url, small_disk, **settings) as service:
        await service.register(address, HANDLES)
        answer = await service.call("POST", JOBS, msgspec.json.decode(body(100)), expect=202)
        job_id = answer["jobId"]
        async with asyncio.timeout(DEADLINE):
            while (await service.job(job_id))["operations"]["succeeded"] < 1:
                await asyncio.sleep(0.02)
        filler = fill(small_disk)
        refused = await service.call("POST", JOBS, msgspec.json.decode(body(100)), expect=503)
        assert "bytes free" in refused["detail"]
        plugin.script("ems-1", Script())
        async with asyncio.timeout(DEADLINE):
            while (await service.sub_jobs(job_id))[1]["status"] != "RUNNING":
                await asyncio.sleep(0.02)
        assert (await service.job(job_id))["status"] == "RUNNING"
        filler.unlink()
        job = await service.ended(job_id)
        assert job["operations"]["succeeded"] == 2
        assert len(await service.responses(job)) == 2
        assert [each["jobId"] for each in (await service.call("GET", JOBS))["items"]] == [job_id]


async def test_a_database_on_a_full_disk_refuses_jobs_and_keeps_those_it_has(disk_for_all: Path) -> None:
    """The embedded PostgreSQL, the bus and the results are all on a full disk: a new job is a 503 with the
    reason. Once there is space, jobs are accepted again, and all accepted jobs end, executed once."""
    plugin = ScriptedPlugin(Script(statuses=("RUNNING",)))
    large = msgspec.json.encode(
        {
            "data": [
                {"op": "merge", "path": f"/ManagedElement={n}", "value": {"x": os.urandom(200_000).hex()}}
                for n in range(2)
            ]
        }
    )
    headers = {"Content-Type": "application/json"}
    async with (
        plugin.serving() as address,
        killable_service(None, disk_for_all) as service,
        aiohttp.ClientSession(headers=headers) as session,
        asyncio.timeout(4 * DEADLINE),
    ):
        handles = [
            {"cmHandle": f"ch-{n}", "alternateId": alternate_id, "dataProducerIdentifier": producer}
            for n, (alternate_id, producer) in enumerate(HANDLES.items())
        ]
        inventory = {"dmiPlugin": address, "idempotent": True, "createdCmHandles": handles}
        assert (await service.call("POST", "/ncmpInventory/v1/ch", inventory))[0] == 200
        taken = [await service.submit(msgspec.json.decode(large)["data"], "before")]
        while len(plugin.history) < 2:
            await asyncio.sleep(0.02)
        filler = fill(disk_for_all)
        refused: Any = None
        while refused is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(service.root + JOBS, data=io.BytesIO(large)) as answer:
                    content = await answer.json()
                    if answer.status == 202:
                        taken.append(content["jobId"])
                    else:
                        refused = answer.status, content["detail"], int(answer.headers["Retry-After"])
        status, detail, retry_after = refused
        assert status == 503
        assert "database" in detail
        assert retry_after > 0
        plugin.script("ems-0", Script())
        plugin.script("ems-1", Script())
        filler.unlink()
        taken.append(await service.submit(msgspec.json.decode(large)["data"], "after"))
        for job_id in taken:
            assert (await service.ended(job_id))["operations"]["succeeded"] == 2
    executed = Counter((e.request_id, o.operation_id) for e in plugin.history for o in e.operations)
    assert set(executed.values()) == {1}
    assert {job_id for job_id, _ in executed} == set(taken)


@pytest.mark.nightly
async def test_more_large_bodies_than_there_is_room_for(database_url: str, tmp_path: Path) -> None:
    """Twenty large bodies arrive at once where only a few fit: each is accepted with 202, or refused with
    429, Retry-After and the reason. The accepted jobs end, and the refused ones are accepted when sent
    again."""
    plugin = ScriptedPlugin(Script())
    settings = {"max_body_bytes_in_flight": str(10 * MIB)}
    large = body(3 * MIB)
    async with plugin.serving() as address, whole_service(database_url, tmp_path, **settings) as service:
        await service.register(address, HANDLES)
        taken: list[str] = []
        refused: Counter[int] = Counter()

        async def send(session: aiohttp.ClientSession) -> None:
            while True:
                headers = {"Content-Type": "application/json"}
                async with session.post(
                    service.root + JOBS, data=io.BytesIO(large), headers=headers
                ) as answer:
                    content = await answer.json(content_type=None)
                    if answer.status == 202:
                        taken.append(content["jobId"])
                        return
                    refused[answer.status] += 1
                    assert answer.status == 429, content
                    assert "are being worked on" in content["detail"]
                    assert int(answer.headers["Retry-After"]) > 0
                await asyncio.sleep(0.05)

        async with aiohttp.ClientSession() as session, asyncio.timeout(DEADLINE):
            await asyncio.gather(*(send(session) for _ in range(20)))
        assert refused[429] > 0
        assert len(set(taken)) == 20
        for job_id in taken:
            assert (await service.ended(job_id))["operations"]["succeeded"] == 2
    assert len(plugin.history) == 40
