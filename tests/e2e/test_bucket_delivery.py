# SPDX-License-Identifier: Apache-2.0
"""Results for a bucket that a job names, and stores that refuse: what is reported, and what continues."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from ran_datajobs.messaging import events
from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.results.objects import manifest_key, open_s3
from ran_datajobs.results.pruner import Pruner
from ran_datajobs.telemetry import logger
from tests.kit.chromium import chromium, program
from tests.kit.commands import datajobs
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.whole_service import DEADLINE, JOBS, Service, called, whole_service
from tests.kit.worker_parts import log_lines
from tests.peers.program import not_installed
from tests.peers.s3 import S3Service
from tests.peers.s3_gateway import Gateway

IDLE = 6.0
OWN, NAMED = S3Service.bucket, S3Service.other_bucket
HANDLES = {f"/SubNetwork=X/ManagedElement={n}": f"ems-{n}" for n in range(3)}
LINES = [
    {"op": "merge", "path": f"/SubNetwork=X/ManagedElement={n % 4}", "value": {"n": n}, "operationId": n}
    for n in range(8)
]
OWNED = [line for line in LINES if int(str(line["operationId"])) % 4 < 3]


async def until(service: Service, job_id: str, holds: Callable[[Any], bool]) -> Any:
    """The job, once the condition is true for it."""
    deadline = time.monotonic() + DEADLINE
    while not holds(job := await service.job(job_id)):
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.05)
    return job


async def until_delivery(service: Service, job_id: str, state: str) -> Any:
    """The job, once its deliveryState has this value."""
    return await until(service, job_id, lambda job: job["deliveryState"] == state)


async def submitted(service: Service, plugin: str, destination: str = f"s3:{NAMED}") -> str:
    """Submit a job for the bucket, including two operations without an owner, and return its id."""
    await service.register(plugin, HANDLES)
    answer = await service.call("POST", f"{JOBS}?destination={destination}", {"data": LINES}, expect=202)
    assert f"/{NAMED}?" in answer["resultsuri"]
    job_id: str = answer["jobId"]
    return job_id


def blocked(folder: Path) -> Path:
    """Put a file in place of the bucket's folder, so that nothing can be written to it."""
    (folder / "objects").mkdir()
    obstacle = folder / "objects" / NAMED
    obstacle.write_text("in the way")
    return obstacle


def files(folder: Path, bucket: str, job_id: str) -> dict[str, bytes]:
    """All result objects of a job in a bucket, by name."""
    root = folder / "objects" / bucket
    found = (file for file in root.glob(f"{job_id}/**/*") if file.is_file())
    return {str(file.relative_to(root)): file.read_bytes() for file in found}


async def test_results_are_copied_once_the_bucket_is_writable(database_url: str, tmp_path: Path) -> None:
    """While the bucket cannot be written, the job ends, says why its delivery waits, and all results are
    served at the address in the 202. Once the bucket is writable, it has every object, and the copies in the
    service's own bucket remain."""
    obstacle = blocked(tmp_path)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        job_id = await submitted(service, address)
        ended = await service.ended(job_id)
        job = await until(service, job_id, lambda job: "deliveryDetail" in job)
        assert job["deliveryState"] == "PENDING"
        assert NAMED in job["deliveryDetail"]
        assert job["resultsuri"] == ended["resultsuri"]
        kept = await service.responses(job)
        assert sorted(r["operationId"] for r in kept) == list(range(8))
        status = await asyncio.to_thread(datajobs, "status", job_id, DATAJOBS_SERVER=service.root)
        assert "pending: cannot write to bucket" in " ".join(status.stdout.split())
        obstacle.unlink()
        delivered = await until_delivery(service, job_id, "DELIVERED")
        assert "deliveryDetail" not in delivered
        assert delivered["resultsuri"] == ended["resultsuri"]
        assert await service.responses(delivered) == kept
        manifest = await service.call("GET", ended["resultsuri"], expect=200)
    assert set(files(tmp_path, OWN, job_id)) == {
        *(entry["key"] for entry in manifest["objects"]),
        manifest_key(job_id),
    }
    assert files(tmp_path, NAMED, job_id) == files(tmp_path, OWN, job_id)


async def test_a_bucket_that_stays_away_fails_the_delivery_alone(database_url: str, tmp_path: Path) -> None:
    """After the configured time deliveryState is FAILED with the cause, and the results can still be read. A
    redeliver copies them to the bucket."""
    obstacle = blocked(tmp_path)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with (
        plugin.serving() as address,
        whole_service(database_url, tmp_path, delivery_retry_timeout="1") as service,
    ):
        job_id = await submitted(service, address)
        failed = await until_delivery(service, job_id, "FAILED")
        assert NAMED in failed["deliveryDetail"]
        ended = await service.ended(job_id)
        assert ended["status"] == "PARTIALLY_FAILED", "two operations match no CM handle"
        assert len(await service.responses(ended)) == 8
        obstacle.unlink()
        await service.call("POST", f"{JOBS}/{job_id}/redeliver", expect=202)
        delivered = await until_delivery(service, job_id, "DELIVERED")
        assert "deliveryDetail" not in delivered
    assert files(tmp_path, NAMED, job_id) == files(tmp_path, OWN, job_id)


def paragraphs(root: str, job_id: str) -> list[str]:
    """The paragraphs of a job's page about what the job waits for and about its delivery."""
    path = program()
    if path is None:
        not_installed("Chromium")
    with chromium(path) as browser:
        page = browser.new_page()
        page.goto(f"{root}/#/jobs/{job_id}")
        delivery = page.locator("dl.facts .delivery").locator("xpath=..")
        page.locator("dl.facts").wait_for()
        return [page.locator("p.waiting").inner_text(), delivery.inner_text()]


@pytest.mark.nightly
@pytest.mark.browser
async def test_the_page_says_what_a_job_waits_for(database_url: str, tmp_path: Path) -> None:
    """Neither bucket can be written: the page of the job names each with its cause."""
    blocked(tmp_path)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        job_id = await submitted(service, address)
        await until(service, job_id, lambda job: "deliveryDetail" in job)
        await service.ended(job_id)
        shutil.rmtree(tmp_path / "objects" / OWN)
        obstacle = tmp_path / "objects" / OWN
        obstacle.write_text("in the way")
        waiting = await service.submit(LINES)
        await until(service, waiting, lambda job: "waitingFor" in job)
        said, delivery = await asyncio.to_thread(paragraphs, service.root, waiting)
        assert said.startswith(f"Waits for the bucket of the results: cannot write to bucket '{OWN}'")
        assert delivery == "pending"
        _, delivery = await asyncio.to_thread(paragraphs, service.root, job_id)
        assert delivery.startswith("pending: cannot ")
        assert str(tmp_path) not in said + delivery
        obstacle.unlink()
        await service.ended(waiting)


@pytest.fixture
def without_list(s3_service: S3Service, monkeypatch: pytest.MonkeyPatch) -> S3Service:
    """The S3 service, with keys that lack the permission to list a bucket."""
    key, secret = s3_service.without_list
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    return s3_service


@pytest.mark.parametrize("hides_what_is_missing", [False, True])
async def test_keys_without_the_right_to_list_do(
    database_url: str, tmp_path: Path, without_list: S3Service, *, hides_what_is_missing: bool
) -> None:
    """Readiness, a write with failures, its retry, a delivery to a bucket, a redeliver and the retention work
    without the list permission, also where a missing key is answered with 403."""
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    gateway = Gateway()
    gateway.hides_what_is_missing = hides_what_is_missing
    async with (
        gateway.before(without_list) as store,
        plugin.serving() as address,
        whole_service(database_url, tmp_path, s3_endpoint=store.endpoint) as service,
    ):
        await service.call("GET", "/readyz", expect=200)
        job_id = await submitted(service, address, NAMED)
        await service.ended(job_id)
        job = await until_delivery(service, job_id, "DELIVERED")
        assert len(await service.responses(job)) == 8
        assert len(await service.failures(job_id)) == 2
        objects = open_s3(
            store.endpoint,
            config={
                "access_key_id": without_list.without_list[0],
                "secret_access_key": without_list.without_list[1],
            },
        )
        key = manifest_key(job_id)
        copy = await objects.get(NAMED, key)
        assert copy is not None
        assert copy == await objects.get(OWN, key)
        await objects.delete(NAMED, [key])
        await service.call("POST", f"{JOBS}/{job_id}/redeliver", expect=202)
        await until_delivery(service, job_id, "DELIVERED")
        assert await objects.get(NAMED, key) == copy
        run_transaction = await service.call("POST", f"{JOBS}/{job_id}/retry", expect=202)
        await service.ended(run_transaction["jobId"])
        await until_delivery(service, run_transaction["jobId"], "DELIVERED")
        manifest = await service.call("GET", job["resultsuri"], expect=200)
        pruner = Pruner(service.database, objects, logger(), 0.0, 0.0)
        assert await pruner.prune() == 2
        admin = open_s3(
            without_list.endpoint,
            config={
                "access_key_id": without_list.access_key_id,
                "secret_access_key": without_list.secret_access_key,
            },
        )
        for gone in [key, *(entry["key"] for entry in manifest["objects"])]:
            assert await admin.get(OWN, gone) is None
            assert await admin.get(NAMED, gone) is not None, "what was delivered is the client's"
    assert not [path for method, path in gateway.seen if method == "GET" and "list-type" in path]


async def test_a_bucket_that_refuses_fails_the_delivery_with_the_cause(
    database_url: str, tmp_path: Path, without_list: S3Service
) -> None:
    """The destination may not be written: the job ends, its results are available, the delivery fails with
    the answer of the store, and jobs for other destinations succeed. A redeliver after the repair works."""
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    gateway = Gateway()

    def refuse(request: web.Request) -> tuple[int, str] | None:
        write = request.method == "PUT" and request.path.startswith(f"/{NAMED}/")
        return (403, "AccessDenied") if write else None

    gateway.answers = refuse
    async with (
        gateway.before(without_list) as store,
        plugin.serving() as address,
        whole_service(
            database_url, tmp_path, s3_endpoint=store.endpoint, delivery_retry_timeout="1"
        ) as service,
    ):
        job_id = await submitted(service, address, NAMED)
        failed = await until_delivery(service, job_id, "FAILED")
        assert failed["deliveryDetail"] == (
            f"cannot write to bucket '{NAMED}': {store.endpoint}/{NAMED} answered 403 AccessDenied: as it is"
        )
        assert len(await service.responses(await service.ended(job_id))) == 8
        assert (await service.ended(await service.submit(OWNED)))["status"] == "FINSHED"
        await service.call("GET", "/readyz", expect=200)
        gateway.answers = lambda _request: None
        await service.call("POST", f"{JOBS}/{job_id}/redeliver", expect=202)
        await until_delivery(service, job_id, "DELIVERED")


async def test_an_own_bucket_that_refuses_is_told_and_waited_for(
    database_url: str, tmp_path: Path, without_list: S3Service
) -> None:
    """A store that answers 501 to every conditional put: jobs, sub-jobs, /readyz, the log (once) and the
    command report it. Jobs are still accepted and sent, and all end without intervention after the repair."""
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    gateway = Gateway()

    def refuse(request: web.Request) -> tuple[int, str] | None:
        return (501, "NotImplemented") if "If-None-Match" in request.headers else None

    gateway.answers = refuse
    with log_lines() as lines:
        async with (
            gateway.before(without_list) as store,
            plugin.serving() as address,
            whole_service(database_url, tmp_path, s3_endpoint=store.endpoint) as service,
        ):
            asked = f"{store.endpoint}/{OWN}"
            cause = f"cannot write to bucket '{OWN}': {asked} answered 501 NotImplemented: as it is"
            answer = await service.call("GET", "/readyz", expect=503)
            assert answer["detail"] == cause
            await service.register(address, HANDLES)
            sent = await service.submit(OWNED)
            unplanned = await service.submit(LINES)
            for job_id in (sent, unplanned):
                job = await until(service, job_id, lambda job: "waitingFor" in job)
                assert not job["status"].startswith("FIN")
                waiting = job["waitingFor"]
                assert (waiting["code"], waiting["detail"]) == ("OBJECTS", cause)
                assert waiting["since"] >= job["createdAt"]
            assert [call.kind for call in plugin.calls if call.kind == "create"], "it was sent all the same"
            async with asyncio.timeout(DEADLINE):
                while not all("waitingFor" in each for each in await service.sub_jobs(sent)):
                    await asyncio.sleep(0.05)
            listed = await service.call("GET", JOBS, expect=200)
            assert [item["waitingFor"]["code"] for item in listed["items"]] == ["OBJECTS"] * 2
            status = await asyncio.to_thread(datajobs, "status", sent, DATAJOBS_SERVER=service.root)
            assert cause in " ".join(status.stdout.split())
            gateway.answers = lambda _request: None
            for job_id, wanted in ((sent, "FINSHED"), (unplanned, "PARTIALLY_FAILED")):
                job = await service.ended(job_id)
                assert job["status"] == wanted
                assert "waitingFor" not in job
            assert not any("waitingFor" in each for each in await service.sub_jobs(sent))
            await service.call("GET", "/readyz", expect=200)
    events = [line["event"] for line in lines() if str(line["event"]).startswith("storage.")]
    assert events == ["storage.unavailable", "storage.available"]


@pytest.mark.nightly
async def test_a_read_waits_for_its_messages_until_the_own_bucket_takes_them(
    database_url: str, tmp_path: Path, without_list: S3Service
) -> None:
    """The messages of a read arrive while the bucket refuses writes, for longer than the read's timeout for
    the next message, and give no total. The read does not end without them, says what it waits for, and
    finishes with all of them."""
    plugin = ScriptedPlugin(Script(statuses=("FINSHED",), result_body=b'{"resulturi":"ncmp-async-m2m"}'))
    gateway = Gateway()

    def refuse(request: web.Request) -> tuple[int, str] | None:
        return (501, "NotImplemented") if "If-None-Match" in request.headers else None

    gateway.answers = refuse
    async with (
        gateway.before(without_list) as store,
        plugin.serving() as address,
        whole_service(
            database_url, tmp_path, s3_endpoint=store.endpoint, read_result_idle_timeout=f"{IDLE}"
        ) as service,
    ):
        await service.register(address, HANDLES)
        path = "/SubNetwork=X/ManagedElement=1"
        job_id = await service.submit([{"op": "read", "operationId": "1", "path": path}])
        await called(plugin, "create")
        (taken,) = plugin.history
        headers = {events.CORRELATION_ID: job_id, events.SUB_JOB_ID: taken.sub_job_id}
        bus = PostgresBus(service.database)
        for sequence in range(2):
            rows = [{"operationId": "1", "statusCode": 0, "result": [{"id": str(sequence)}]}]
            await bus.publish(
                INTERNAL_TOPIC,
                [
                    Message(
                        job_id,
                        headers | {events.SEQUENCE: str(sequence)},
                        msgspec.json.encode({"data": {"responses": rows}}),
                    )
                ],
            )
        await until(service, job_id, lambda job: "waitingFor" in job)
        await asyncio.sleep(1.5 * IDLE)
        (sub_job,) = await service.sub_jobs(job_id)
        assert sub_job["waitingFor"]["code"] == "OBJECTS"
        gateway.answers = lambda _request: None
        job = await service.ended(job_id)
        assert job["status"] == "FINSHED"
        served = [each["id"] for one in await service.responses(job) for each in one["result"]]
        assert served == ["0", "1"]
