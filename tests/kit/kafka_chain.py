# SPDX-License-Identifier: Apache-2.0
"""The whole chain on real peers: the service on Kafka and S3, the reference plugin publishing to Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import obstore
from obstore.store import S3Store

from ran_datajobs import config
from ran_datajobs.app import run_api
from ran_datajobs.http.ports import free_port
from ran_datajobs.simulator.registration import registration
from ran_datajobs.store.database import Database
from tests.integration.test_delivery_kafka import committed, identities
from tests.kit.commands import environment
from tests.kit.whole_service import JOBS, TERMINAL, Service, until_answered
from tests.peers.kafka import KafkaBroker
from tests.peers.s3 import S3Service

SITES = 50
COUNTRIES = ("Ireland", "Scotland", "England")
EXAMPLE = Path(__file__).parents[2] / "examples" / "consume_results.py"
WITHIN = 90.0
TRIMMED = "session.timeout.ms=1500\nheartbeat.interval.ms=300"
"""Session timeout after which a killed consumer is removed. The client's default suits slow networks."""


def reads(each: int) -> list[dict[str, Any]]:
    """``each`` reads of everything below each country: several messages from each of several data
    producers."""
    return [
        {
            "op": "read",
            "operationId": f"{country}-{number}",
            "path": f"/SubNetwork=Europe/SubNetwork={country}",
            "scope": {"scopeType": "BASE_ALL"},
        }
        for number in range(each)
        for country in COUNTRIES
    ]


def writes(label: str) -> list[dict[str, Any]]:
    """A write of a label for every first cell, and one operation that has no owner."""
    handles = registration(1, SITES, "http://127.0.0.1:1")["createdCmHandles"]
    paths = [f"{handle['alternateId']}/GNBDUFunction=1/NRCellDU=1" for handle in handles]
    return [
        {"op": "replace", "operationId": number, "path": f"{path}#/attributes/userLabel", "value": label}
        for number, path in enumerate([*paths, "/SubNetwork=Nowhere/ManagedElement=1"])
    ]


class Chain(Service):
    """A client of the service, with the broker, the S3 service and the topic that the service uses."""

    def __init__(
        self,
        root: str,
        session: aiohttp.ClientSession,
        database: Database,
        environ: dict[str, str],
        broker: KafkaBroker,
        s3: S3Service,
        topic: str,
    ) -> None:
        super().__init__(root, session, database)
        self.environ = environ
        self.broker = broker
        self.s3 = s3
        self.topic = topic
        self.log = Path(environ["DATAJOBS_DATA_DIR"]) / "worker.log"

    async def send(self, operations: Sequence[dict[str, Any]], destination: str | None) -> str:
        """Submit a job with a destination and return its id."""
        query = f"?destination={destination}" if destination else ""
        answer = await self.call("POST", JOBS + query, {"data": list(operations)}, expect=202)
        job_id: str = answer["jobId"]
        return job_id

    async def delivered(self, job_id: str) -> Any:
        """The job, once it is terminal and delivered to its destination."""
        deadline = time.monotonic() + WITHIN
        while True:
            job = await self.job(job_id)
            if job["status"] in TERMINAL and job["deliveryState"] == "DELIVERED":
                return job
            assert time.monotonic() < deadline, (
                job,
                await self.sub_jobs(job_id),
                self.log.read_text()[-4000:],
            )
            await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def worker(self, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a worker process during the block; ``command`` replaces the usual one."""
        command = command or ("ran_datajobs", "serve-worker")
        async with started(*command, log=self.log, **self.environ) as process:
            yield process

    async def killed_at(self, checkpoint: str, times: int) -> None:
        """Run a worker that is killed when it reaches a checkpoint for the n-th time."""
        command = ("tests.recovery.signalled", "worker", "SIGKILL", checkpoint, str(times))
        async with self.worker(*command) as process:
            assert await asyncio.wait_for(process.wait(), WITHIN) == -signal.SIGKILL

    async def messages(self) -> dict[str, dict[str, list[str]]]:
        """Job → sub-job → SHA-256 of the objects that a reader of committed messages sees on the topic.

        Fails if a message is duplicated, if the sequence from 0 has a gap, or if a total is wrong.
        """
        found = await asyncio.to_thread(committed, self.broker, self.topic)
        seen = identities(found)
        assert [each for each, count in Counter(seen).items() if count > 1] == []
        digests: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        totals = {}
        for message, (job_id, sub_job, sequence, delivery) in zip(found, seen, strict=True):
            assert delivery == 1
            assert sequence == len(digests[job_id][sub_job]), "a gap, or not in order"
            body = message.value.removeprefix(b'{"data":').removesuffix(b"}")
            digests[job_id][sub_job].append(hashlib.sha256(body).hexdigest())
            totals[job_id, sub_job] = int(message.headers["ce_total"])
        assert totals == {
            (job, sub): len(all_) for job, subs in digests.items() for sub, all_ in subs.items()
        }
        return digests

    async def manifest(self, job: Any) -> dict[str, list[str]]:
        """Sub-job → SHA-256 of its objects, in the order of the manifest."""
        manifest = await self.call("GET", job["resultsuri"], expect=200)
        digests: dict[str, list[str]] = defaultdict(list)
        for entry in manifest["objects"]:
            digests[entry.get("subJobId", "unmatched")].append(entry["sha256"])
        return digests

    async def in_bucket(self, bucket: str, job_id: str) -> dict[str, str]:
        """Key → SHA-256 of every object under a job's name in a bucket, read directly from S3."""
        store = S3Store(
            bucket,
            endpoint=self.s3.endpoint,
            access_key_id=self.s3.access_key_id,
            secret_access_key=self.s3.secret_access_key,
            client_options={"allow_http": True},
        )
        keys = [meta["path"] async for some in obstore.list(store, job_id) for meta in some]
        return {
            key: hashlib.sha256(await (await obstore.get_async(store, key)).bytes_async()).hexdigest()
            for key in keys
        }

    async def objects(self, job: Any) -> dict[str, str]:
        """Key → SHA-256 of every result object, as listed in the manifest."""
        manifest = await self.call("GET", job["resultsuri"], expect=200)
        return {entry["key"]: entry["sha256"] for entry in manifest["objects"]}

    async def consumed_by_the_example(self, *job_ids: str) -> tuple[int, str]:
        """Exit status and output of the example that consumes results."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLE),
            *("--bootstrap", self.broker.bootstrap, "--topic", self.topic, "--server", self.root),
            *("--group", f"reader-{secrets.token_hex(4)}", "--patience", "30", *job_ids),
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        lines, _ = await asyncio.wait_for(process.communicate(), WITHIN)
        assert process.returncode is not None
        return process.returncode, lines.decode()


@contextlib.asynccontextmanager
async def started(*command: str, log: Path, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a Python module as a process during the block; append its output to a file."""
    with log.open("ab") as lines:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, env=environment(**environ), stdout=lines, stderr=lines
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)


@contextlib.asynccontextmanager
async def kafka_chain(
    database_url: str, folder: Path, broker: KafkaBroker, s3: S3Service, **settings: str
) -> AsyncIterator[Chain]:
    """The API and the plugin, with an inventory and a topic of three partitions, without a worker."""
    topic = f"rapp-{secrets.token_hex(4)}"
    broker.create_topic(topic, partitions=3)
    environ = {
        "DATAJOBS_DATABASE_URL": database_url,
        "DATAJOBS_DATA_DIR": str(folder),
        "DATAJOBS_PORT": str(free_port()),
        "DATAJOBS_MIN_FREE_DISK": "0",
        "DATAJOBS_LOG_LEVEL": "warning",
        "DATAJOBS_KAFKA_BOOTSTRAP": broker.bootstrap,
        "DATAJOBS_KAFKA_SETTINGS": TRIMMED,
        "DATAJOBS_S3_ENDPOINT": s3.endpoint,
        "DATAJOBS_RESULTS_BUCKET": s3.bucket,
        "AWS_ACCESS_KEY_ID": s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
    } | {f"DATAJOBS_{name.upper()}": value for name, value in settings.items()}
    plugin = free_port()
    dmi = (
        "ran_datajobs",
        "dmi",
        "--port",
        str(plugin),
        "--sites",
        str(SITES),
        "--dmi-kafka-bootstrap",
        broker.bootstrap,
    )
    async with (
        started(
            *dmi,
            log=folder / "plugin.log",
            DATAJOBS_DATA_DIR=str(folder / "plugin"),
            DATAJOBS_LOG_LEVEL="error",
        ),
        _api(environ) as (root, session, database),
    ):
        chain = Chain(root, session, database, environ, broker, s3, topic)
        await until_answered(session, f"http://127.0.0.1:{plugin}/healthz")
        inventory = registration(1, SITES, f"http://127.0.0.1:{plugin}", idempotent=True)
        await chain.call("POST", "/ncmpInventory/v1/ch", inventory, expect=200)
        yield chain


@contextlib.asynccontextmanager
async def _api(environ: dict[str, str]) -> AsyncIterator[tuple[str, aiohttp.ClientSession, Database]]:
    """The API in this process; ``AWS_…`` is read from the variables of this process."""
    aws = {name: value for name, value in environ.items() if name.startswith("AWS_")}
    settings = config.load({name: value for name, value in environ.items() if name not in aws})
    before = {name: os.environ.get(name) for name in aws}
    database = await Database.open(environ["DATAJOBS_DATABASE_URL"])
    stopping = asyncio.Event()
    os.environ.update(aws)
    try:
        await database.migrate()
        async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
            group.create_task(run_api(settings, stopping))
            try:
                await until_answered(session, f"{settings.effective_api_root}/healthz")
                yield settings.effective_api_root, session, database
            finally:
                stopping.set()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        await database.close()
