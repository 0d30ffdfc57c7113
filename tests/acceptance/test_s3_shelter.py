# SPDX-License-Identifier: Apache-2.0
"""Results of jobs whose bucket cannot be written: kept by the service, and brought there later."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

from ran_datajobs.dmi.scripted import Script, ScriptedPlugin
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.results.objects import manifest_key, open_s3
from ran_datajobs.results.shelter import ShelteredObjects
from ran_datajobs.store.database import Database
from tests.acceptance.whole_service import DEADLINE, JOBS, Service, whole_service
from tests.contracts.delivery_service import Service as Delivery
from tests.peers.s3 import S3Service

OWN, NAMED = "datajobs-results", "rapp-bucket"
HANDLES = {f"/SubNetwork=X/ManagedElement={n}": f"ems-{n}" for n in range(3)}
LINES = [
    {"op": "merge", "path": f"/SubNetwork=X/ManagedElement={n % 4}", "value": {"n": n}, "operationId": n}
    for n in range(8)
]


async def until_delivery(service: Service, job_id: str, state: str) -> Any:
    """The job, once its deliveryState is this."""
    deadline = time.monotonic() + DEADLINE
    while (job := await service.job(job_id))["deliveryState"] != state:
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.05)
    return job


async def submitted(service: Service, plugin: str) -> str:
    """A job for the bucket, two operations of which nobody owns; its id."""
    await service.register(plugin, HANDLES)
    answer = await service.call("POST", f"{JOBS}?destination={NAMED}", {"data": LINES}, expect=202)
    assert f"/{NAMED}?" in answer["resultsuri"]
    job_id: str = answer["jobId"]
    return job_id


def blocked(folder: Path) -> Path:
    """Something in place of the bucket's folder, so that nothing can be written to it."""
    (folder / "objects").mkdir()
    obstacle = folder / "objects" / NAMED
    obstacle.write_text("in the way")
    return obstacle


def files(folder: Path, bucket: str, job_id: str) -> set[str]:
    """Names of all result objects of a job in a bucket."""
    root = folder / "objects" / bucket
    return {str(file.relative_to(root)) for file in root.glob(f"{job_id}/**/*") if file.is_file()}


async def test_results_wait_in_the_own_bucket_and_are_brought_home(database_url: str, tmp_path: Path) -> None:
    """While the bucket cannot be written, resultsuri names the service's own, and all is there; once it can,
    everything is in the named bucket, the manifest included, and nothing is left in the other."""
    obstacle = blocked(tmp_path)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with (
        plugin.serving() as address,
        whole_service(database_url, tmp_path, delivery_give_up="20") as service,
    ):
        job_id = await submitted(service, address)
        job = await service.ended(job_id)
        assert job["deliveryState"] == "PENDING"
        assert f"/{OWN}?" in job["resultsuri"]
        kept = await service.responses(job)
        assert sorted(r["operationId"] for r in kept) == list(range(8))
        as_promised = job["resultsuri"].replace(OWN, NAMED)
        manifest = await service.call("GET", as_promised, expect=200)
        obstacle.unlink()
        home = await until_delivery(service, job_id, "DELIVERED")
        assert f"/{NAMED}?" in home["resultsuri"]
        assert await service.responses(home) == kept
        assert await service.call("GET", home["resultsuri"], expect=200) == manifest
    keys = {entry["key"] for entry in manifest["objects"]} | {manifest_key(job_id)}
    assert files(tmp_path, NAMED, job_id) == keys
    assert files(tmp_path, OWN, job_id) == set()


async def test_a_bucket_that_stays_away_fails_the_delivery_alone(database_url: str, tmp_path: Path) -> None:
    """After the settable time deliveryState is FAILED and the results are still there to read; a redeliver
    brings them to the bucket."""
    obstacle = blocked(tmp_path)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with (
        plugin.serving() as address,
        whole_service(database_url, tmp_path, delivery_give_up="1") as service,
    ):
        job_id = await submitted(service, address)
        failed = await until_delivery(service, job_id, "FAILED")
        assert failed["status"] == "PARTIALLY_FAILED", "that is the two operations of nobody"
        assert len(await service.responses(failed)) == 8
        obstacle.unlink()
        await service.call("POST", f"{JOBS}/{job_id}/redeliver", expect=202)
        home = await until_delivery(service, job_id, "DELIVERED")
        assert len(await service.responses(home)) == 8
    assert files(tmp_path, OWN, job_id) == set()


async def test_a_missing_bucket_at_s3(database: Database, s3_service: S3Service) -> None:
    """A bucket that S3 does not have takes nothing: the object goes to the own one, the job's row says so,
    and it is read, streamed and signed under either name."""
    service = Delivery(database, open_s3(s3_service.endpoint), PostgresBus(database))
    job_id = await service.job(destination=None)
    await service.execute(
        "update data_job set destination = 'gone-bucket', results_bucket = 'gone-bucket' where job_id = $1",
        job_id,
    )
    told: list[str] = []
    objects = ShelteredObjects(
        open_s3(
            s3_service.endpoint,
            access_key_id=s3_service.access_key_id,
            secret_access_key=s3_service.secret_access_key,
            give_up=timedelta(seconds=2),
        ),
        database,
        s3_service.bucket,
        sheltered=lambda _job, why: told.append(why),
    )
    body = json.dumps({"responses": []}).encode()
    key = f"{job_id}/{uuid4()}/0.json"
    assert await objects.put("gone-bucket", key, body, only_if_absent=True)
    assert not await objects.put("gone-bucket", key, body, only_if_absent=True)
    assert len(told) == 1
    assert await service.value("select results_bucket from data_job where job_id = $1", job_id) == OWN
    for bucket in ("gone-bucket", s3_service.bucket):
        assert await objects.get(bucket, key) == body
        streamed = await objects.stream(bucket, key)
        assert streamed is not None
        assert b"".join([piece async for piece in streamed[1]]) == body
        signed = await objects.presigned(bucket, key, timedelta(minutes=1))
        assert signed is not None
        with await asyncio.to_thread(urlopen, signed) as answer:
            assert answer.read() == body
    assert await objects.get(s3_service.bucket, f"{job_id}/{uuid4()}/0.json") is None
