# SPDX-License-Identifier: Apache-2.0
"""Results of a large read on Kafka and S3: bounded memory, and throughput compared with the bare clients.

``python -m bench delivery[=MIB]`` (default 1024). A plugin publishes messages of nearly 900 kB. The service
stores them in S3, and then delivers them to a topic, or to another bucket. For comparison, with the same
bytes: a bare put of each object to S3, a bare producer with the service's own settings, and a bare get and
put of each object. All six alternate, so that other load of the machine slows all of them. The median ratio
of a run of the service to the bare run before it must be at least 0.5; otherwise the status is 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import obstore
from aiohttp import web
from confluent_kafka import Producer
from msgspec import Struct
from obstore.store import S3Store
from tests.peers.kafka import JARS, KafkaBroker
from tests.peers.s3 import S3Service

from bench.machine import Machine, running_machine
from ran_datajobs.http.ports import free_port
from ran_datajobs.messaging.kafka_producer import PRODUCER_SETTINGS
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import MAX_MESSAGE_BYTES

MIB: Final = 1 << 20
DEFAULT_MIB: Final = 1024
ROUNDS: Final = 3
LEAST_RATIO: Final = 0.5
POLL: Final = 0.1
PARALLEL_PUTS: Final = 8
DIFFERENT: Final = 16
TOPIC, BARE_TOPIC = "bench-results", "bench-bare"
NODE = "/SubNetwork=Bench/ManagedElement=1"


def full_values(count: int) -> list[bytes]:
    """Messages with one response each, whose result of cells with many values nearly fills it."""
    rng = random.Random(count)
    return [_full_value(rng) for _ in range(count)]


def _full_value(rng: random.Random) -> bytes:
    head = (
        b'{"data":{"responses":[{"operationId":1,"statusCode":0,"statusMessage":"read","state":"SUCCEEDED",'
    )
    head += b'"request":{"op":"read","path":"%s"},"result":[' % NODE.encode()
    tail = b"]}]}}"
    cells: list[bytes] = []
    size = len(head) + len(tail) + 100
    while size + len(cell := _cell(rng, len(cells) + 1)) < MAX_MESSAGE_BYTES:
        cells.append(cell)
        size += len(cell) + 1
    return head + b",".join(cells) + tail


def _cell(rng: random.Random, number: int) -> bytes:
    """A cell as a plugin returns it, about 500 bytes."""
    network = {"mcc": "262", "mnc": f"{rng.randrange(1, 90):02}"}
    slices = [{"sst": rng.randrange(1, 5), "sd": f"{rng.getrandbits(24):06X}"} for _ in range(3)]
    return msgspec.json.encode(
        {
            "id": str(number),
            "objectClass": "NRCellDU",
            "objectInstance": f"{NODE}/GNBDUFunction={rng.randrange(1, 1000)}/NRCellDU={number}",
            "attributes": {
                "userLabel": f"sector {rng.randrange(100000)}",
                "administrativeState": rng.choice(("LOCKED", "UNLOCKED", "SHUTTINGDOWN")),
                "operationalState": rng.choice(("ENABLED", "DISABLED")),
                "cellLocalId": rng.randrange(16384),
                "nRPCI": rng.randrange(1008),
                "nRTAC": rng.randrange(1 << 24),
                "arfcnDL": rng.randrange(3_279_166),
                "arfcnUL": rng.randrange(3_279_166),
                "bSChannelBwDL": rng.choice((20, 40, 60, 100)),
                "ssbFrequency": rng.randrange(3_279_166),
                "pLMNInfoList": [{"pLMNId": network, "sNSSAI": each} for each in slices],
            },
        }
    )


class Plugin:
    """Publishes the messages of a read when it is created, and reports finished after the last."""

    def __init__(self, bootstrap: str, values: list[bytes]) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, **PRODUCER_SETTINGS, "log_level": 0})
        self._values = values
        self._done: dict[str, asyncio.Task[None]] = {}

    async def create(self, request: web.Request) -> web.Response:
        """Accept the read and start to publish."""
        job = request.match_info["request"]
        sub_job = request.headers["Idempotency-Key"]
        if sub_job not in self._done:
            self._done[sub_job] = asyncio.create_task(asyncio.to_thread(self._publish, job, sub_job))
        return web.json_response({"dataProducerJobId": sub_job}, status=202)

    async def status(self, request: web.Request) -> web.Response:
        """RUNNING until everything is published."""
        done = self._done[request.match_info["job"]].done()
        return web.json_response({"status": "FINSHED" if done else "RUNNING"})

    async def result(self, _request: web.Request) -> web.Response:
        """The topic."""
        return web.json_response({"resulturi": INTERNAL_TOPIC})

    def _publish(self, job: str, sub_job: str) -> None:
        produce(
            self._producer,
            INTERNAL_TOPIC,
            self._values,
            lambda number: {
                "ce_correlationid": job,
                "ce_subjobid": sub_job,
                "ce_sequence": str(number),
                "ce_total": str(len(self._values)),
            },
        )


def produce(
    producer: Producer,
    topic: str,
    values: list[bytes],
    headers: Callable[[int], dict[str, str]] = lambda _number: {},
) -> None:
    """Produce all values and wait until the broker has them."""
    for number, value in enumerate(values):
        while True:
            try:
                producer.produce(topic, value, key=b"bench", headers=list(headers(number).items()))
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    producer.flush(300)


def open_producer(bootstrap: str) -> Producer:
    """A producer as the service has one."""
    settings = {"bootstrap.servers": bootstrap, "transactional.id": "bench", "log_level": 0}
    producer = Producer({**settings, **PRODUCER_SETTINGS})
    producer.init_transactions(30)
    return producer


def bare_producer(producer: Producer, values: list[bytes], batch_bytes: int = 8 * MIB) -> float:
    """Seconds of the bare producer, in transactions as large as the service's."""
    each = max(1, batch_bytes // len(values[0]))
    started = time.monotonic()
    for start in range(0, len(values), each):
        producer.begin_transaction()
        produce(producer, BARE_TOPIC, values[start : start + each])
        producer.commit_transaction(60)
    return time.monotonic() - started


async def bare_puts(s3: S3Service, values: list[bytes], prefix: str) -> float:
    """Seconds of the bare S3 client, with as many concurrent puts as the service has."""
    store = bare_store(s3, s3.bucket)
    slots = asyncio.Semaphore(PARALLEL_PUTS)

    async def put(number: int, value: bytes) -> None:
        async with slots:
            await obstore.put_async(
                store, f"{prefix}/{number}.json", value, use_multipart=False, mode="create"
            )

    started = time.monotonic()
    await asyncio.gather(*(put(number, value) for number, value in enumerate(values)))
    return time.monotonic() - started


def bare_store(s3: S3Service, bucket: str) -> S3Store:
    """The bare S3 client."""
    return S3Store(
        bucket,
        endpoint=s3.endpoint,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        client_options={"allow_http": True},
    )


async def bare_copies(s3: S3Service, count: int, prefix: str) -> float:
    """Seconds of the bare S3 client to copy the objects of :func:`bare_puts` to the other bucket."""
    source, target = bare_store(s3, s3.bucket), bare_store(s3, s3.other_bucket)
    slots = asyncio.Semaphore(PARALLEL_PUTS)

    async def copy(number: int) -> None:
        async with slots:
            key = f"{prefix}/{number}.json"
            body = await (await obstore.get_async(source, key)).bytes_async()
            await obstore.put_async(target, key, body, use_multipart=False)

    started = time.monotonic()
    await asyncio.gather(*map(copy, range(count)))
    return time.monotonic() - started


@contextlib.asynccontextmanager
async def serving(plugin: Plugin) -> AsyncIterator[str]:
    """The plugin on its own port."""
    app = web.Application(client_max_size=1 << 30)
    job = "/dmi/v1/dataJob/{request}"
    app.router.add_post(job, plugin.create)
    app.router.add_get(job + "/dataProducerJob/{job}/status", plugin.status)
    app.router.add_get(job + "/dataProducerJob/{job}/result", plugin.result)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def delivered(machine: Machine, address: str) -> Any:
    """The job, once its delivery has ended."""
    async with asyncio.timeout(1200):
        while True:
            async with machine.session.get(address) as response:
                job = await response.json()
            if job["deliveryState"] == "DELIVERED":
                return job
            await asyncio.sleep(POLL)


class Timed(Struct, frozen=True):
    """Seconds of one round."""

    bare_s3: float
    to_s3: float
    bare_kafka: float
    to_kafka: float
    bare_copies: float
    to_bucket: float


async def run(mib: str = str(DEFAULT_MIB)) -> None:
    """Print the figures of one run. Status 1 if the service is too slow compared with the bare clients."""
    if shutil.which("java") is None or not list(JARS.glob("kafka_*.jar")):
        print("delivery: Apache Kafka is not installed: run `make deps`")
        return
    some = full_values(DIFFERENT)
    values = [some[n % DIFFERENT] for n in range(max(1, int(mib) * MIB // len(some[0])))]
    with tempfile.TemporaryDirectory(prefix="ran-datajobs-bench-") as folder:
        for name in ("kafka", "s3"):
            Path(folder, name).mkdir()
        kafka, s3 = KafkaBroker(Path(folder, "kafka")), S3Service(Path(folder, "s3"))
        try:
            kafka.start()
            s3.start()
            for topic in (TOPIC, BARE_TOPIC, INTERNAL_TOPIC):
                kafka.create_topic(topic)
            os.environ |= {
                "DATAJOBS_KAFKA_BOOTSTRAP": kafka.bootstrap,
                "DATAJOBS_S3_ENDPOINT": s3.endpoint,
                "AWS_ACCESS_KEY_ID": s3.access_key_id,
                "AWS_SECRET_ACCESS_KEY": s3.secret_access_key,
            }
            plugin = Plugin(kafka.bootstrap, values)
            async with serving(plugin) as root, running_machine() as machine:
                handle = {"cmHandle": "bench", "alternateId": NODE, "dataProducerIdentifier": "bench"}
                await machine.register({"dmiPlugin": root, "createdCmHandles": [handle]})
                rounds = await _rounds(machine, kafka, s3, values)
                peaks = machine.peak_rss()
        finally:
            s3.stop()
            kafka.stop()
    ratios = _tell(rounds, values)
    print("  peak memory: " + ", ".join(f"{name} {peak} MiB" for name, peak in sorted(peaks.items())))
    if min(ratios) < LEAST_RATIO:
        raise SystemExit(1)


async def _rounds(machine: Machine, kafka: KafkaBroker, s3: S3Service, values: list[bytes]) -> list[Timed]:
    """Durations of each kind of run, repeated in turn."""
    rounds: list[Timed] = []
    with ThreadPoolExecutor(1) as thread:
        loop = asyncio.get_running_loop()
        producer = await loop.run_in_executor(thread, open_producer, kafka.bootstrap)
        for number in range(ROUNDS):
            bare_s3 = await bare_puts(s3, values, f"bare/{number}")
            started = time.monotonic()
            address = await _read(machine)
            to_s3 = time.monotonic() - started
            await delivered(machine, address)
            bare_kafka = await loop.run_in_executor(thread, bare_producer, producer, values)
            async with machine.session.post(address + "/redeliver") as response:
                if response.status != 202:
                    raise SystemExit(f"redeliver: {response.status}")
            started = time.monotonic()
            await delivered(machine, address)
            to_kafka = time.monotonic() - started
            copied = await bare_copies(s3, len(values), f"bare/{number}")
            address = await _read(machine, f"s3:{s3.other_bucket}")
            started = time.monotonic()
            await delivered(machine, address)
            to_bucket = time.monotonic() - started
            rounds.append(Timed(bare_s3, to_s3, bare_kafka, to_kafka, copied, to_bucket))
    return rounds


async def _read(machine: Machine, destination: str = f"kafka:{TOPIC}") -> str:
    """The address of a read that has ended: its results are in S3."""
    body = msgspec.json.encode({"data": [{"op": "read", "operationId": 1, "path": NODE}]})
    address = await machine.submit(body, destination)
    job = await machine.ended(address, every=POLL)
    if job["status"] != "FINSHED":
        async with machine.session.get(address + "/subJobs") as response:
            raise SystemExit(f"the read did not end well: {await response.json()}")
    return address


def _tell(rounds: list[Timed], values: list[bytes]) -> tuple[float, float, float]:
    """Print medians; the median ratios to S3, to Kafka and to another bucket."""
    size = sum(map(len, values)) / 1e6
    print(f"A read of {size:,.0f} MB in {len(values):,} messages: medians of {len(rounds)} rounds")

    def say(what: str, seconds: list[float], bare: list[float] | None = None) -> float:
        median = statistics.median(seconds)
        ratios = sorted(b / s for b, s in zip(bare or seconds, seconds, strict=True))
        compared = (
            f", {statistics.median(ratios):.2f} of the bare client ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            if bare
            else ""
        )
        print(
            f"  {what}: {median:5.1f} s, {size / median:6.1f} MB/s, {len(values) / median:5.0f}/s{compared}"
        )
        return statistics.median(ratios)

    say(f"bare puts, {PARALLEL_PUTS} at a time", [each.bare_s3 for each in rounds])
    s3 = say(
        "plugin → Kafka → S3, with the plugin's own publishing",
        [each.to_s3 for each in rounds],
        [each.bare_s3 for each in rounds],
    )
    say("bare producer, transactions of 8 MiB", [each.bare_kafka for each in rounds])
    kafka = say(
        "S3 → Kafka, the delivery alone",
        [each.to_kafka for each in rounds],
        [each.bare_kafka for each in rounds],
    )
    say(f"bare get and put, {PARALLEL_PUTS} at a time", [each.bare_copies for each in rounds])
    bucket = say(
        "S3 → another bucket, the delivery alone",
        [each.to_bucket for each in rounds],
        [each.bare_copies for each in rounds],
    )
    return s3, kafka, bucket
