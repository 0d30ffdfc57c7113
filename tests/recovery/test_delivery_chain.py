# SPDX-License-Identifier: Apache-2.0
"""Workers are killed and frozen at every step of collect, finish and deliver, on a real Kafka and real S3."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import cycle, islice
from pathlib import Path

import pytest

from ran_datajobs.checkpoints import Checkpoint
from tests.kit.kafka_chain import WITHIN, kafka_chain, reads, writes
from tests.kit.processes import until_frozen
from tests.peers.kafka import KafkaBroker
from tests.peers.s3 import S3Service
from tests.tiers import sampled

pytestmark = pytest.mark.kafka

KILLS = int(os.environ.get("DELIVERY_KILLS", "4"))
MOMENTS = (
    Checkpoint.ARRIVAL_WRITTEN,
    Checkpoint.DELIVER_PUBLISHED,
    Checkpoint.COLLECT_FETCHED,
    Checkpoint.ARRIVAL_STORED,
    Checkpoint.DELIVER_READ,
    Checkpoint.COLLECT_WRITTEN,
    Checkpoint.FINISH_WRITTEN,
    Checkpoint.DELIVER_STORED,
    Checkpoint.COLLECT_SETTLED,
    Checkpoint.FINISH_STORED,
)
READS = 5


@pytest.mark.nightly
@pytest.mark.timeout(120 + 20 * KILLS)
async def test_every_message_comes_once_whenever_workers_are_killed(
    database_url: str, tmp_path: Path, kafka_broker: KafkaBroker, s3_service: S3Service
) -> None:
    """Each worker is killed at its checkpoint while a write and two reads run, with a topic and a bucket as
    destinations. A read-committed consumer then sees each (job, sub-job, sequence, delivery) once, without a
    gap, with the digests of the manifest; the buckets hold exactly the objects that the manifests name; and
    every operation succeeded."""
    async with kafka_chain(database_url, tmp_path, kafka_broker, s3_service) as chain:
        to_topic: list[str] = []
        to_bucket: list[str] = []
        for kill, moment in enumerate(islice(cycle(MOMENTS), KILLS)):
            to_topic += [
                await chain.send(writes(f"kill {kill}")[:-1], chain.topic),
                await chain.send(reads(READS), chain.topic),
            ]
            to_bucket.append(await chain.send(reads(1), f"s3:{s3_service.other_bucket}"))
            await chain.killed_at(moment, 1 + kill // len(MOMENTS) % 2)
        async with chain.worker():
            topic_jobs = [await chain.delivered(job_id) for job_id in to_topic]
            bucket_jobs = [await chain.delivered(job_id) for job_id in to_bucket]
        messages = await chain.messages()
        manifests = {job["jobId"]: await chain.manifest(job) for job in topic_jobs}
        for job in bucket_jobs:
            there = await chain.in_bucket(s3_service.other_bucket, job["jobId"])
            del there[f"{job['jobId']}/manifest.json"]
            assert there == await chain.objects(job)

    assert messages == manifests
    jobs = topic_jobs + bucket_jobs
    assert {job["status"] for job in jobs} == {"FINSHED"}
    assert {job["operations"]["succeeded"] - job["operations"]["total"] for job in jobs} == {0}


@pytest.mark.nightly
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "moment",
    sampled(MOMENTS, (Checkpoint.DELIVER_READ,)),
)
async def test_a_worker_that_was_frozen_publishes_nothing_twice(
    database_url: str,
    tmp_path: Path,
    kafka_broker: KafkaBroker,
    s3_service: S3Service,
    moment: Checkpoint,
) -> None:
    """A worker is frozen at its checkpoint, another one takes over all its work and delivers it. The first
    one then resumes and both serve another job. The topic has each message once, and the buckets hold the
    objects that the manifests name."""
    async with kafka_chain(database_url, tmp_path, kafka_broker, s3_service) as chain:
        jobs = [
            await chain.send(writes("before")[:-1], chain.topic),
            await chain.send(reads(READS), chain.topic),
            await chain.send(reads(1), f"s3:{s3_service.other_bucket}"),
        ]
        frozen_at = ("tests.recovery.signalled", "worker", "SIGSTOP", moment.value, "1")
        async with chain.worker(*frozen_at) as frozen:
            await until_frozen(frozen.pid)
            try:
                async with chain.worker():
                    done = [await chain.delivered(job_id) for job_id in jobs]
                    frozen.send_signal(signal.SIGCONT)
                    done += [await chain.delivered(await chain.send(reads(1), chain.topic)) for _ in range(3)]
                done.append(await chain.delivered(await chain.send(reads(1), chain.topic)))
                frozen.terminate()
                assert await asyncio.wait_for(frozen.wait(), WITHIN) == 0
            finally:
                if frozen.returncode is None:
                    frozen.send_signal(signal.SIGCONT)
        of_topic = [job for job in done if job["destination"] == chain.topic]
        assert await chain.messages() == {job["jobId"]: await chain.manifest(job) for job in of_topic}
        for job in done:
            bucket = s3_service.bucket if job in of_topic else s3_service.other_bucket
            there = await chain.in_bucket(bucket, job["jobId"])
            del there[f"{job['jobId']}/manifest.json"]
            assert there == await chain.objects(job)
    assert {job["status"] for job in done} == {"FINSHED"}
    assert {job["operations"]["succeeded"] - job["operations"]["total"] for job in done} == {0}
