# SPDX-License-Identifier: Apache-2.0
"""Delivery to a bucket: copies through the outbox, in a folder and on a real S3 service."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from ran_datajobs.checkpoints import Checkpoint, on_checkpoint
from ran_datajobs.errors import StorageRefused
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.results import delivery
from ran_datajobs.results.objects import manifest_key, open_folder
from ran_datajobs.store.database import Database
from ran_datajobs.store.results import Part
from tests.contract.test_objects import s3_objects
from tests.integration.delivery_service import BUCKET, Service, responses
from tests.peers.s3 import S3Service

NAMED = S3Service.other_bucket
MISSING = "no-such-bucket"


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(params=["folder", "s3"])
def service(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Service:
    """Delivery over each kind of object store."""
    objects = open_folder(tmp_path / "objects")
    if request.param == "s3":
        objects = s3_objects(request.getfixturevalue("s3_service"))
    return Service(database, objects, PostgresBus(database))


async def ended_job(service: Service, bucket: str, *, size: int = 10) -> tuple[UUID, list[Part]]:
    """A job for ``bucket`` of two sub-jobs that has just ended. Returns its parts."""
    job_id = await service.job(bucket=bucket)
    written: list[Part] = []
    for position in range(2):
        sub_job = await service.sub_job(job_id, position=position, producer=f"ems-{position}")
        written += await service.settle(job_id, sub_job, responses(*range(3), size=size))
    await service.objects.put(BUCKET, manifest_key(str(job_id)), b'{"the":"manifest"}')
    await service.finish(job_id)
    return job_id, written


async def redeliver(service: Service, job_id: UUID) -> None:
    """Request a redelivery of everything."""
    async with service.database.transaction() as connection:
        assert await delivery.redeliver(connection, job_id)


async def copies(service: Service, job_id: UUID, parts: list[Part], bucket: str = NAMED) -> list[bool]:
    """For each part, and last the manifest, whether ``bucket`` has the same object as the service's own
    bucket."""
    keys = [part.key for part in parts] + [manifest_key(str(job_id))]
    found = [await service.objects.get(bucket, key) for key in keys]
    own = [await service.objects.get(BUCKET, key) for key in keys]
    assert None not in own, "the own copy stays"
    return [a == b for a, b in zip(found, own, strict=True)]


async def test_a_bucket_gets_a_copy_of_every_object_and_of_the_manifest(service: Service) -> None:
    """Several objects of a sub-job, and more than one batch: the bucket has all of them when the job is
    DELIVERED."""
    job_id, parts = await ended_job(service, NAMED, size=5_000_000 // 3)
    assert len(parts) > 4
    assert await service.state(job_id) == "PENDING"
    assert await service.copy(NAMED) is None
    assert await service.state(job_id) == "DELIVERED"
    assert await copies(service, job_id, parts) == [True] * (len(parts) + 1)
    assert await service.value("select count(*) from outbox") == 0


async def test_the_manifest_comes_after_all_others(service: Service) -> None:
    """Results are copied while the job is still open. The manifest is not written before its end."""
    job_id = await service.job(bucket=NAMED)
    sub_job = await service.sub_job(job_id)
    parts = await service.settle(job_id, sub_job, responses(1))
    await service.copy(NAMED)
    assert await service.objects.get(NAMED, parts[0].key) is not None
    assert await service.objects.get(NAMED, manifest_key(str(job_id))) is None
    assert await service.state(job_id) == "PENDING"


async def test_a_copier_that_dies_is_followed_by_one_that_ends_the_delivery(service: Service) -> None:
    """The copier dies after the copies and before it records them: they are copied once more, and nothing
    else changes."""

    async def dies(checkpoint: Checkpoint) -> None:
        if checkpoint is Checkpoint.DELIVER_PUBLISHED:
            raise Killed

    job_id, parts = await ended_job(service, NAMED)
    token = on_checkpoint.set(dies)
    with pytest.raises(Killed):
        await service.copy(NAMED, service.publisher())
    on_checkpoint.reset(token)
    assert await service.state(job_id) == "PENDING"
    await service.copy(NAMED)
    assert await service.state(job_id) == "DELIVERED"
    assert await copies(service, job_id, parts) == [True] * (len(parts) + 1)


async def test_a_redeliver_writes_what_is_missing_or_differs(service: Service) -> None:
    """An object that was removed or changed in the bucket is restored, and the others are not written
    again."""
    job_id, parts = await ended_job(service, NAMED)
    await service.copy(NAMED)
    await service.objects.delete(NAMED, [parts[0].key])
    await service.objects.put(NAMED, parts[1].key, b"changed")
    written: list[str] = []
    service.objects.written = lambda bucket, _failure: written.append(bucket)
    await redeliver(service, job_id)
    assert await service.state(job_id) == "PENDING"
    await service.copy(NAMED)
    assert await service.state(job_id) == "DELIVERED"
    assert await copies(service, job_id, parts) == [True] * (len(parts) + 1)
    assert written == [NAMED] * 2


async def test_a_result_that_was_spoilt_fails_the_delivery_of_its_job_alone(service: Service) -> None:
    """An object whose SHA-256 differs is not copied. The cause names it, and other jobs are delivered."""
    spoilt, (part, *_) = await ended_job(service, NAMED)
    well, parts = await ended_job(service, NAMED)
    await service.objects.put(BUCKET, part.key, b"spoilt")
    publisher = service.publisher(give_up_refused=0.0)
    for _ in range(2):
        await service.copy(NAMED, publisher)
    assert [each.job_id for each in service.given_up] == [spoilt]
    assert await service.state(spoilt) == "FAILED"
    assert await service.detail(spoilt) == f"the result object {BUCKET}/{part.key} was spoilt"
    assert await service.objects.get(NAMED, part.key) is None
    assert await service.objects.get(NAMED, manifest_key(str(spoilt))) is None
    assert await service.state(well) == "DELIVERED"
    assert await copies(service, well, parts) == [True] * (len(parts) + 1)


async def test_a_lost_object_fails_its_job_alone_in_a_bucket_without_list(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 refuses to read a missing object in a bucket that the service may not list. This does not fail the
    bucket: its other jobs are delivered."""
    service = Service(database, open_folder(tmp_path), PostgresBus(database))
    lost, (part, *_) = await ended_job(service, NAMED)
    well, parts = await ended_job(service, NAMED)
    await service.objects.delete(BUCKET, [part.key])
    get = service.objects.get

    async def refusing(bucket: str, key: str) -> bytes | None:
        if (body := await get(bucket, key)) is None and bucket == NAMED:
            raise StorageRefused("403")
        return body

    monkeypatch.setattr(service.objects, "get", refusing)
    publisher = service.publisher(give_up_refused=0.0)
    for _ in range(2):
        await service.copy(NAMED, publisher)
    assert await service.detail(lost) == f"the result object {BUCKET}/{part.key} is gone"
    assert await service.state(lost) == "FAILED"
    assert await service.state(well) == "DELIVERED"
    assert await copies(service, well, parts) == [True] * (len(parts) + 1)


async def test_an_object_that_only_the_destination_has_is_delivered(service: Service) -> None:
    """The earlier version wrote to the destination first. Such an object, if its check sum holds, is copied
    to the service's own bucket."""
    job_id, parts = await ended_job(service, NAMED)
    body = await service.objects.get(BUCKET, parts[0].key)
    assert body is not None
    await service.objects.put(NAMED, parts[0].key, body)
    await service.objects.delete(BUCKET, [parts[0].key])
    await service.copy(NAMED)
    assert await service.state(job_id) == "DELIVERED"
    assert await copies(service, job_id, parts) == [True] * (len(parts) + 1)


async def test_a_job_that_names_the_own_bucket_is_delivered_at_its_end(service: Service) -> None:
    """The bucket has its results already."""
    job_id, _ = await ended_job(service, BUCKET)
    assert await service.state(job_id) == "DELIVERED"
    assert await service.value("select count(*) from outbox") == 0


async def test_a_missing_bucket_fails_its_delivery_with_the_cause(
    database: Database, s3_service: S3Service
) -> None:
    """The cause is shown while the delivery is retried. After the time limit for permanent errors it is
    FAILED. Jobs for another bucket are delivered meanwhile, and a redeliver retries."""
    service = Service(database, s3_objects(s3_service), PostgresBus(database))
    job_id, _ = await ended_job(service, MISSING)
    well, parts = await ended_job(service, NAMED)
    await service.copy(MISSING)
    await service.copy(NAMED)
    assert await service.state(well) == "DELIVERED"
    assert await copies(service, well, parts) == [True] * (len(parts) + 1)
    assert await service.state(job_id) == "PENDING"
    shown = await service.detail(job_id)
    assert shown is not None
    assert shown.startswith(f"cannot write to bucket '{MISSING}'")
    assert service.given_up == []
    await service.copy(MISSING, service.publisher(give_up_refused=0.0))
    assert await service.state(job_id) == "FAILED"
    assert await service.detail(job_id) == shown
    assert await service.value("select count(*) from outbox") == 0
    await redeliver(service, job_id)
    assert await service.state(job_id) == "PENDING"
    assert await service.detail(job_id) is None


async def test_a_store_that_is_away_is_waited_for(database: Database, tmp_path: Path) -> None:
    """The object store does not answer, which is no refusal: the delivery continues when the store is back,
    and its detail is cleared."""
    service = Service(database, open_folder(tmp_path), PostgresBus(database))
    job_id, parts = await ended_job(service, NAMED)
    (tmp_path / NAMED).write_text("in the way")
    publisher = service.publisher(give_up_refused=0.0)
    for _ in range(3):
        await service.copy(NAMED, publisher)
    assert await service.state(job_id) == "PENDING"
    assert NAMED in str(await service.detail(job_id))
    (tmp_path / NAMED).unlink()
    while await service.copy(NAMED, publisher) is not None:
        pass
    assert await service.state(job_id) == "DELIVERED"
    assert await service.detail(job_id) is None
    assert await copies(service, job_id, parts) == [True] * (len(parts) + 1)
