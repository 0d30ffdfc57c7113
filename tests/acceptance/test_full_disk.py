# SPDX-License-Identifier: Apache-2.0
"""A disk that is full, and more large bodies at once than there is room for: refused with the reason, and
nothing that was taken is lost."""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from ran_datajobs.dmi.scripted import Script, ScriptedPlugin
from tests.acceptance.whole_service import DEADLINE, JOBS, whole_service
from tests.peers.program import not_possible

MIB = 1024 * 1024
HANDLES = {f"/ManagedElement={n}": f"ems-{n}" for n in range(2)}


def body(size: int) -> bytes:
    """A job of two operations of about so many bytes."""
    lines = [
        {"op": "merge", "path": f"/ManagedElement={n}", "value": {"attributes": {"x": "x" * (size // 2)}}}
        for n in range(2)
    ]
    return msgspec.json.encode({"data": lines})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)],
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


async def test_a_full_disk_refuses_new_jobs_and_keeps_the_others(database_url: str, small_disk: Path) -> None:
    """While the disk of the results is full a new job is a 503 that says so and leaves nothing behind; a job
    that was taken before waits, and ends by itself, whole, once there is room."""
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
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(b"x" * 65536)
                file.flush()
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


async def test_more_large_bodies_than_there_is_room_for(database_url: str, tmp_path: Path) -> None:
    """Twenty large bodies come at once where there is room for a few: each is taken with 202, or refused with
    429, Retry-After and the reason; those taken end, and those refused are taken when sent again."""
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
                    told = await answer.json(content_type=None)
                    if answer.status == 202:
                        taken.append(told["jobId"])
                        return
                    refused[answer.status] += 1
                    assert answer.status == 429, told
                    assert "in flight" in told["detail"]
                    assert int(answer.headers["Retry-After"]) > 0
                await asyncio.sleep(0.05)

        async with aiohttp.ClientSession() as session, asyncio.timeout(DEADLINE):
            await asyncio.gather(*(send(session) for _ in range(20)))
        assert refused[429] > 0
        assert len(set(taken)) == 20
        for job_id in taken:
            assert (await service.ended(job_id))["operations"]["succeeded"] == 2
    assert len(plugin.history) == 40
