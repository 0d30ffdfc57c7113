# SPDX-License-Identifier: Apache-2.0
"""Reads and writes through the whole chain, on a real Kafka and a real S3: all results arrive once and
complete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.commands import datajobs, json_lines
from tests.kit.kafka_chain import COUNTRIES, Chain, kafka_chain, reads, writes
from tests.peers.kafka import KafkaBroker
from tests.peers.s3 import S3Service

pytestmark = pytest.mark.kafka

READS = 8


@pytest.fixture
async def chain(
    database_url: str, tmp_path: Path, kafka_broker: KafkaBroker, s3_service: S3Service
) -> AsyncIterator[Chain]:
    """API, plugin, Kafka and S3; the test starts the workers."""
    async with kafka_chain(database_url, tmp_path, kafka_broker, s3_service) as running:
        yield running


async def test_results_arrive_at_a_topic_and_in_a_bucket(chain: Chain, tmp_path: Path) -> None:
    """A write and a read job for a topic, and a read job for a bucket of the client: the consumer of the
    topic receives what the manifest lists, the bucket has exactly the manifest's objects, and the example
    consumer finds every job complete. The command line prints the topic and saves the objects as files."""
    async with chain.worker():
        written = await chain.send(writes("one"), chain.topic)
        jobs = [await chain.delivered(written)]
        read = await chain.send(reads(READS), chain.topic)
        kept = await chain.send(reads(READS), f"s3:{chain.s3.other_bucket}")
        jobs += [await chain.delivered(read), await chain.delivered(kept)]
        status, lines = await chain.consumed_by_the_example(written, read)
        assert status == 0, lines
        assert lines.count(": complete") == 2
        tail = ("tail", chain.topic, "--kafka-bootstrap", chain.broker.bootstrap, "--no-follow")
        tailed = await asyncio.to_thread(datajobs, *tail)
        fetched = await asyncio.to_thread(
            datajobs, "results", read, "--follow", "--dir", tmp_path / "kept", "--server", chain.root
        )
        assert fetched.returncode == 0, fetched.stderr
    assert [job["status"] for job in jobs] == ["PARTIALLY_FAILED", "FINSHED", "FINSHED"]
    messages = await chain.messages()
    assert set(messages) == {written, read}
    for job in jobs[:2]:
        assert messages[job["jobId"]] == await chain.manifest(job)
    of_reads = await chain.manifest(jobs[1])
    assert len(of_reads) == len(COUNTRIES)
    assert all(len(digests) > 1 for digests in of_reads.values()), "one message each shows too little"
    assert sorted((await chain.manifest(jobs[2])).values()) == sorted(of_reads.values())
    there = await chain.in_bucket(chain.s3.other_bucket, kept)
    assert there == await chain.in_bucket(chain.s3.bucket, kept)
    del there[f"{kept}/manifest.json"]
    assert there == await chain.objects(jobs[2])
    assert len(json_lines(tailed)) == sum(
        len(all_) for of_job in messages.values() for all_ in of_job.values()
    )
    files = {file.relative_to(tmp_path / "kept") for file in (tmp_path / "kept").rglob("*.json")}
    assert {str(file) for file in files} == set(await chain.objects(jobs[1]))
    assert f"/{chain.s3.other_bucket}?" in jobs[2]["resultsuri"]


@pytest.mark.nightly
async def test_once_while_workers_come_and_go(chain: Chain) -> None:
    """Two workers share the internal topic; one stops during the run and another starts. The consumer of the
    topic receives everything once, without a gap."""
    async with chain.worker() as first, chain.worker():
        jobs = [await chain.send(reads(READS), chain.topic) for _ in range(3)]
        await chain.ended(jobs[0])
        first.terminate()
        await asyncio.wait_for(first.wait(), 20)
        jobs += [await chain.send(reads(READS), chain.topic)]
        async with chain.worker():
            jobs += [await chain.send(reads(READS), chain.topic)]
            ended = [await chain.delivered(each) for each in jobs]
    messages = await chain.messages()
    assert {job["status"] for job in ended} == {"FINSHED"}
    assert messages == {job["jobId"]: await chain.manifest(job) for job in ended}


@pytest.mark.nightly
async def test_once_across_a_broker_that_is_killed(chain: Chain) -> None:
    """The broker is SIGKILLed while messages of reads are in flight on both topics. When it is back,
    everything arrives once."""
    async with chain.worker():
        before = await chain.send(reads(READS), chain.topic)
        during = await chain.send(reads(READS), chain.topic)
        await chain.ended(before)
        chain.broker.kill()
        try:
            after = await chain.send(reads(READS), None)
        finally:
            chain.broker.start()
        ended = [await chain.delivered(each) for each in (before, during, after)]
    messages = await chain.messages()
    assert {job["status"] for job in ended} == {"FINSHED"}
    assert messages == {job["jobId"]: await chain.manifest(job) for job in ended[:2]}
    assert len(await chain.objects(ended[2])) == len(await chain.objects(ended[0]))
