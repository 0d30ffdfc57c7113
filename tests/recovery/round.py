# SPDX-License-Identifier: Apache-2.0
"""One round of kills: the whole service on a real Kafka, under load, while its processes are killed.

``datajobs serve`` runs with its embedded PostgreSQL, an API and two workers; two plugins, one of which is
idempotent, serve all jobs. Workers, the API, the supervisor, the postmaster and the broker receive SIGKILL at
random moments: two of three kills wait until the service has accepted and executed something since the last
one, the third does not. After the kills, the operations of all jobs that were answered with 202 are counted:
at the plugins, and in the messages that a read-committed consumer finds on the client's topic.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import psutil
from msgspec import Struct

from ran_datajobs.local.supervisor import die_with_parent
from tests.integration.test_delivery_kafka import committed, identities
from tests.kit.commands import environment
from tests.kit.kafka_chain import TRIMMED
from tests.kit.killable import Patient
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.processes import variables
from tests.kit.whole_service import JOBS
from tests.peers.kafka import KafkaBroker

TEN: Final = ("worker", "api", "database", "worker", "broker", "worker", "api", "database", "worker")
"""Targets of nine of ten kills, in random order; the tenth kills the supervisor, which resets the restart
back-off."""

KINDS: Final = ("worker", "api", "supervisor", "database", "broker")
PRODUCERS: Final = 24
"""Data producers of each plugin."""

OPERATIONS: Final = 12
CLIENTS: Final = 6
PATIENCE: Final = 180.0
_AT_WORK: Final = 2 / 3
_WELL_WITHIN: Final = 30.0
_NO_DATABASE: Final = "the embedded PostgreSQL ended at its start"


class Figures(Struct, frozen=True):
    """Figures of a round. ``lost`` and ``doubled`` count operations and messages: see :func:`counted`.

    ``unknown`` are operations at the plugin without idempotency that were in flight when a process died, and
    are reported as UNKNOWN. ``seconds`` is the time between the last kill, with the broker back, and the end
    of the last job's delivery; ``took`` is the duration of the round. ``started_again`` counts how often
    ``serve`` exited by itself, because its database was killed during start-up, and was started again.
    """

    seed: int
    kills: Mapping[str, int]
    jobs: int
    operations: int
    messages: int
    lost: int
    doubled: int
    unknown: int
    seconds: float
    took: float
    started_again: int
    faults: tuple[str, ...] = ()
    """Descriptions of the first lost and doubled operations and messages."""


def request(number: int, rng: random.Random) -> list[dict[str, Any]]:
    """Return operations at elements of both plugins and one without an owner; each fourth job reads."""
    places = [f"/SubNetwork={net}/ManagedElement={n}" for net in ("I", "N") for n in range(PRODUCERS)]
    chosen = [*rng.sample(places, OPERATIONS - 1), "/SubNetwork=Y/ManagedElement=nowhere"]
    lines = [{"path": f"{place}/Cell={n}", "operationId": f"{number}-{n}"} for n, place in enumerate(chosen)]
    if number % 4 == 3:
        return [{"op": "read", **line} for line in lines]
    return [{"op": "merge", "value": {"job": number}, **line} for line in lines]


class Supervised(Patient):
    """``datajobs serve`` with all its processes; it is started again when its supervisor is killed."""

    def __init__(self, environ: dict[str, str], session: aiohttp.ClientSession, log: Path) -> None:
        super().__init__(f"http://127.0.0.1:{environ['DATAJOBS_PORT']}", session)
        self._environ = environ
        self._log = log
        self.started_again = 0
        self.start()

    def start(self) -> None:
        """Start the supervisor; call it on the main thread."""
        with self._log.open("ab") as lines:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ran_datajobs", "serve"],
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=lines,
                env=environment(**self._environ),
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    async def victim(self, kind: str, rng: random.Random) -> psutil.Process:
        """Wait until a process of the kind runs and return it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                if self._process.poll() is not None:
                    self._start_after_its_database()
                supervisor = psutil.Process(self._process.pid)
                if kind == "supervisor":
                    return supervisor
                if found := [each for each in supervisor.children() if _kind(each) == kind]:
                    return rng.choice(found)
                await asyncio.sleep(0.02)

    def _start_after_its_database(self) -> None:
        """Restart ``serve`` like an init system: it exits if its database is killed during start-up."""
        reported = self._log.read_text()[-4000:]
        assert _NO_DATABASE in "".join(reported.splitlines()[-3:]), f"serve ended by itself: {reported}"
        self.started_again += 1
        self.start()

    def reap(self) -> None:
        """Wait for the end of a killed supervisor."""
        self._process.wait()

    async def stop(self) -> None:
        """Stop all processes in order."""
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, 30)


def _kind(process: psutil.Process) -> str:
    """Return the kind of a child of the supervisor."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        if process.name() == "postgres":
            return "database"
        words = process.cmdline()
        return next((role for role in ("worker", "api") if f"serve-{role}" in words), "")
    return ""


class Killer:
    """Kills one process after another, each at a random moment while a process of its kind runs.

    ``progress`` returns counts that all grow while the service works.
    """

    def __init__(
        self,
        service: Supervised,
        broker: KafkaBroker,
        rng: random.Random,
        progress: Callable[[], tuple[int, ...]],
    ) -> None:
        self.done: Counter[str] = Counter()
        self._progress = progress
        self._service = service
        self._broker = broker
        self._chance = rng

    async def run(self, kills: int) -> None:
        """Perform ``kills`` kills (a multiple of ten), then wait until the broker answers."""
        for _ in range(kills // 10):
            for kind in (*self._chance.sample(TEN, len(TEN)), "supervisor"):
                if self._chance.random() < _AT_WORK:
                    await self._at_work()
                if kind == "broker":
                    await self._kill_broker()
                else:
                    await self._kill(kind)
                self.done[kind] += 1
        await self._broker_answers()

    async def _at_work(self) -> None:
        """Wait until all counts of ``progress`` have grown, for at most ``_WELL_WITHIN``."""
        before = self._progress()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WELL_WITHIN):
                while not all(now > then for now, then in zip(self._progress(), before, strict=True)):
                    await self._service.victim("supervisor", self._chance)
                    await asyncio.sleep(0.05)

    async def _kill(self, kind: str) -> None:
        while True:
            await self._service.victim(kind, self._chance)
            await asyncio.sleep(self._chance.uniform(0.0, 1.5))
            victim = await self._service.victim(kind, self._chance)
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
                break
        if kind == "supervisor":
            self._service.reap()
            self._service.start()

    async def _kill_broker(self) -> None:
        await self._broker_answers()
        await asyncio.sleep(self._chance.uniform(0.0, 1.5))
        self._broker.kill()
        self._broker.launch()

    async def _broker_answers(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(self._broker.answers):
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def supervised(folder: Path, broker: KafkaBroker) -> AsyncIterator[Supervised]:
    """Run the service with its embedded PostgreSQL while the block runs."""
    settings = variables(
        "",
        folder / "data",
        workers="2",
        unknown_write_quarantine="0.5",
        kafka_bootstrap=broker.bootstrap,
        kafka_settings=TRIMMED,
    )
    del settings["DATAJOBS_DATABASE_URL"]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        service = Supervised(settings, session, folder / "lines")
        try:
            yield service
        finally:
            await service.stop()


async def crash_round(seed: int, kills: int, folder: Path, broker: KafkaBroker) -> Figures:
    """Kill ``kills`` processes (a multiple of ten) and count the outcomes of all jobs.

    ``folder`` is empty and the broker runs. Raises TimeoutError when a job does not end, or the service does
    not answer, for minutes; AssertionError when the service exits by itself.
    """
    began, rng = time.monotonic(), random.Random(seed)
    topic = f"round-{secrets.token_hex(4)}"
    await asyncio.to_thread(broker.create_topic, topic, 3)
    script = {"I": Script(statuses=("RUNNING", "FINSHED"))}
    script["N"] = msgspec.structs.replace(script["I"], honours_key=False)
    plugins = {net: ScriptedPlugin(each) for net, each in script.items()}
    async with contextlib.AsyncExitStack() as stack:
        addresses = {net: await stack.enter_async_context(each.serving()) for net, each in plugins.items()}
        service = await stack.enter_async_context(supervised(folder, broker))
        for net, address in addresses.items():
            await _register(service, net, address)
        over, numbers = asyncio.Event(), count()
        submitted: dict[str, list[dict[str, Any]]] = {}

        async def submit() -> None:
            while not over.is_set():
                number = next(numbers)
                lines = request(number, rng)
                submitted[await _accepted(service, topic, lines, f"key-{number}")] = lines
                await asyncio.sleep(rng.uniform(0.0, 0.8))

        def progress() -> tuple[int, ...]:
            return len(submitted), *(len(plugin.history) for plugin in plugins.values())

        killer = Killer(service, broker, rng, progress)
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(submit())
            await killer.run(kills)
            last = time.monotonic()
            over.set()
        jobs = {job_id: await _delivered(service, job_id) for job_id in submitted}
        seconds = time.monotonic() - last
    messages = await asyncio.to_thread(committed, broker, topic)
    executed = Counter(
        str(o.operation_id)
        for plugin in plugins.values()
        for e in plugin.history
        if not e.is_read
        for o in e.operations
    )
    lost, doubled, unknown = counted(submitted, jobs, messages, executed)
    return Figures(
        seed=seed,
        kills={kind: killer.done[kind] for kind in KINDS},
        jobs=len(jobs),
        operations=sum(map(len, submitted.values())),
        messages=len(messages),
        lost=len(lost),
        doubled=len(doubled),
        unknown=unknown,
        seconds=round(seconds, 1),
        took=round(time.monotonic() - began, 1),
        started_again=service.started_again,
        faults=(*lost[:10], *doubled[:10]),
    )


def counted(
    submitted: Mapping[str, Sequence[dict[str, Any]]],
    jobs: Mapping[str, Any],
    messages: Sequence[Any],
    executed: Mapping[str, int],
) -> tuple[list[str], list[str], int]:
    """Return descriptions of what is lost and of what is doubled, and the number of UNKNOWN operations.

    Lost: an operation that is missing on the topic, that is reported as succeeded and was not executed, that
    the job does not count, or that did not succeed although its plugin is idempotent or it is a read.
    Doubled: a write that a plugin executed twice, an operation that is on the topic twice, and a message with
    the identity of another one.
    """
    reported: dict[str, list[str]] = {}
    for message in messages:
        for response in msgspec.json.decode(message.value)["data"]["responses"]:
            reported.setdefault(str(response["operationId"]), []).append(response["state"])
    doubled = [f"message {each}" for each, times in Counter(identities(list(messages))).items() if times > 1]
    doubled += [f"{operation} executed {times} times" for operation, times in executed.items() if times > 1]
    doubled += [
        f"{operation} reported as {states}" for operation, states in reported.items() if len(states) > 1
    ]
    lost: list[str] = []
    unknown = 0
    for job_id, lines in submitted.items():
        counts = Counter[str]()
        for line in lines:
            operation, state = line["operationId"], reported.get(line["operationId"], ["nothing"])[0]
            counts[state] += 1
            sure = line["op"] == "read" or "=I/" in line["path"]
            wanted = (
                {"FAILED"} if "=Y/" in line["path"] else {"SUCCEEDED"} if sure else {"SUCCEEDED", "UNKNOWN"}
            )
            done = state != "SUCCEEDED" or line["op"] == "read" or executed.get(operation)
            if state not in wanted or not done:
                lost.append(
                    f"{operation} of {job_id} reported as {state}, executed {executed.get(operation, 0)}"
                )
        unknown += counts["UNKNOWN"]
        of_job = jobs[job_id]["operations"]
        if (of_job["succeeded"], of_job["unmatched"], of_job["unknown"], of_job["total"]) != (
            counts["SUCCEEDED"],
            counts["FAILED"],
            counts["UNKNOWN"],
            len(lines),
        ):
            lost.append(f"{job_id} counts {of_job}, reported were {dict(counts)}")
    return lost, doubled, unknown


async def _register(service: Patient, net: str, plugin: str) -> None:
    """Register the elements of a subnetwork, each with a data producer of its own."""
    handles = [
        {
            "cmHandle": f"ch-{net}-{n}",
            "alternateId": f"/SubNetwork={net}/ManagedElement={n}",
            "dataProducerIdentifier": f"ems-{net}-{n}",
        }
        for n in range(PRODUCERS)
    ]
    body = {"dmiPlugin": plugin, "createdCmHandles": handles, "idempotent": net == "I", "dmiGiveUp": 60}
    status, answer = await service.call("POST", "/ncmpInventory/v1/ch", body)
    assert status == 200, answer


async def _accepted(service: Patient, topic: str, lines: list[dict[str, Any]], key: str) -> str:
    """Submit a job, repeat until it is answered, and return its id."""
    status, answer = await service.call(
        "POST", f"{JOBS}?destination=kafka:{topic}", {"data": lines}, **{"Idempotency-Key": key}
    )
    assert status == 202, answer
    job_id: str = answer["jobId"]
    return job_id


async def _delivered(service: Patient, job_id: str) -> Any:
    """Wait until the job is terminal and its delivery has ended; return the job."""
    await service.ended(job_id)
    async with asyncio.timeout(PATIENCE):
        while True:
            _, job = await service.call("GET", f"{JOBS}/{job_id}")
            if job["deliveryState"] != "PENDING":
                assert job["deliveryState"] == "DELIVERED", job
                return job
            await asyncio.sleep(0.1)
