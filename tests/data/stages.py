# SPDX-License-Identifier: Apache-2.0
"""Jobs left open in every stage by the real service, whose worker is then killed.

A data producer is named for the outcome of its sub-jobs, a job for its stage. Of the three plugins
``careful`` is idempotent, ``simple`` is not and takes two reads at a time, ``hasty`` has a timeout of 2 s.
Stages that no plugin can cause are caused by the environment: a folder where a manifest should be
written, and a trigger that refuses the messages of a topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg
from aiohttp import web

from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.plugins import wire
from tests.kit.killable import Patient
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.kit.processes import process, variables
from tests.kit.whole_service import JOBS

PATIENCE = 60.0
VOID_AFTER = 12.0
"""Seconds after which a killed worker has lost all its leases."""

TOPIC = "rapp-results"
WAITS = ("READY", "WAITING")
"""The stage of a waiting sub-job, in this and in older schemas."""

_RUNS = Script(statuses=("RUNNING",))
_STALLS = Script(create=(Step.STALL,), statuses=("RUNNING",))
_LOSES = Script(create=(Step.STALL,), executes=False)
_BUSY = Script(create=(Step.BUSY,))
_ENDS = Script()

PRODUCERS: Mapping[str, Mapping[str, Script]] = {
    "careful": {
        "ends": _ENDS,
        "runs": _RUNS,
        "stalls": _STALLS,
        "stalls-cancelled": _STALLS,
        "loses": _LOSES,
        "busy": _BUSY,
        "busy-cancelled": _BUSY,
        "cancelled": _RUNS,
        "cannot-cancel": Script(statuses=("RUNNING",), cancel=(Step.NOT_IMPLEMENTED,)),
        "reads": _RUNS,
        "reads-stalled": _STALLS,
        "reads-busy": _BUSY,
        "on-topic": _ENDS,
        "on-topic-no-total": _ENDS,
        "on-topic-cancelled": _ENDS,
        "messages-early": _RUNS,
        "part-1": _ENDS,
        "part-2": _RUNS,
    },
    "simple": {
        "simple-runs": _RUNS,
        "simple-stalls": _STALLS,
        "simple-stalls-cancelled": _STALLS,
        "simple-loses": _LOSES,
        "simple-fails": Script(create=(Step.ERROR,)),
        "simple-reads": _RUNS,
    },
    "hasty": {"hasty-runs": Script(statuses=("RUNNING",), cancel=(Step.NOT_IMPLEMENTED,))},
}
"""The data producers of each plugin, and how it answers calls about each."""

REGISTRATIONS: Mapping[str, dict[str, Any]] = {
    "careful": {"idempotent": True},
    "simple": {"readSlots": 2},
    "hasty": {"subJobTimeout": 2},
}


class TakenCreate(NamedTuple):
    """A create that a plugin accepted, in the order of the ids that it assigned."""

    plugin: str
    key: str
    path: str
    body: bytes


class NotingPlugin(ScriptedPlugin):
    """Records the creates that it accepts. Producers named ``on-topic…`` answer over the internal topic."""

    def __init__(self, name: str, scripts: Mapping[str, Script] | None = None) -> None:
        """``scripts``: how it answers calls about each data producer; by default it answers well."""
        super().__init__(_ENDS)
        self._requests: dict[str, tuple[str, bytes]] = {}
        self._name = name
        for producer, script in (scripts or {}).items():
            self.script(producer, script)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get(wire.IDEMPOTENCY_KEY, "")
        self._requests[key] = request.path_qs, await request.read()
        return await super()._create(request)

    def taken(self) -> list[TakenCreate]:
        """The accepted creates, in the order of its ids."""
        return [TakenCreate(self._name, e.sub_job_id, *self._requests[e.sub_job_id]) for e in self.history]

    async def _result(self, request: web.Request) -> web.StreamResponse:
        job, _ = self._asked("result", request)
        if job is not None and job.data_producer_id.startswith("on-topic"):
            return web.json_response({"resulturi": INTERNAL_TOPIC})
        return await super()._result(request)


class Left(NamedTuple):
    """The data to be kept in addition to the database: result objects by path, and accepted creates."""

    objects: dict[str, bytes]
    taken: list[TakenCreate]


def fdn_of(producer: str) -> str:
    """The managed element of a data producer. Those of a read of several parts have a common base."""
    region = "Parts" if producer.startswith("part-") else "X"
    return f"/SubNetwork={region}/ManagedElement={producer}"


def writes(*producers: str) -> list[dict[str, Any]]:
    """Two writes at each of these data producers."""
    return [
        {
            "op": "merge",
            "path": f"{fdn_of(producer)}/Cell={n}",
            "value": {"n": n},
            "operationId": f"{producer}/{n}",
        }
        for producer in producers
        for n in range(2)
    ]


def reads(producer: str) -> list[dict[str, Any]]:
    """Two reads at a data producer."""
    return [
        {"op": "read", "path": f"{fdn_of(producer)}/Cell={n}", "operationId": f"{producer}/{n}"}
        for n in range(2)
    ]


WHOLE_READ = [
    {"op": "read", "path": "/SubNetwork=Parts", "operationId": "whole", "scope": {"scopeType": "BASE_ALL"}}
]
UNMATCHED = {"op": "merge", "path": "/SubNetwork=Y/ManagedElement=1", "value": {}, "operationId": "nobody's"}


def message(
    job_id: str, sub_job_id: str, operation_id: str, sequence: int, total: int | None
) -> dict[str, Any]:
    """A plugin's message with the objects of one read operation."""
    headers = {"ce_correlationid": job_id, "ce_subjobid": sub_job_id, "ce_sequence": str(sequence)}
    if total is not None:
        headers["ce_total"] = str(total)
    response = {
        "operationId": operation_id,
        "statusCode": 0,
        "statusMessage": "read",
        "state": "SUCCEEDED",
        "result": [{"id": operation_id, "attributes": {}}],
    }
    return {"key": f"{job_id}/{sub_job_id}", "headers": headers, "value": {"data": {"responses": [response]}}}


class _Scene:
    """The service while its jobs are brought into their stages."""

    def __init__(self, service: Patient, store: asyncpg.Connection[Any], objects: Path) -> None:
        self._service = service
        self.store = store
        self._objects = objects

    async def register(self, plugin: str, address: str) -> None:
        handles = [
            {"cmHandle": producer, "alternateId": fdn_of(producer), "dataProducerIdentifier": producer}
            for producer in PRODUCERS[plugin]
        ]
        body = {"dmiPlugin": address, "createdCmHandles": handles, **REGISTRATIONS[plugin]}
        assert (await self._service.call("POST", "/ncmpInventory/v1/ch", body))[0] == 200

    async def submit(
        self, name: str, operations: Sequence[dict[str, Any]], destination: str = "", **envelope: Any
    ) -> str:
        path = f"{JOBS}?destination={destination}" if destination else JOBS
        status, answer = await self._service.call(
            "POST", path, {"data": operations, "name": name, **envelope}
        )
        assert status == 202, answer
        job_id: str = answer["jobId"]
        return job_id

    async def cancel(self, name: str) -> None:
        job_id = await self.store.fetchval("select job_id from data_job where name = $1", name)
        assert (await self._service.call("POST", f"{JOBS}/{job_id}/cancel"))[0] == 202

    async def publish(self, name: str, sequence: int, total: int | None) -> None:
        """Send one message of the read job's only sub-job, with its operation of this number."""
        row = await self.store.fetchrow(
            """select s.job_id::text, s.sub_job_id::text, l.data_producer_id
               from data_job j join sub_job s using (job_id) join lane l using (lane_id) where j.name = $1""",
            name,
        )
        assert row is not None
        job_id, sub_job_id, producer = row
        sent = message(job_id, sub_job_id, f"{producer}/{sequence}", sequence, total)
        path = f"/ranoam/cm/v1/topics/{INTERNAL_TOPIC}/messages"
        assert (await self._service.call("POST", path, {"messages": [sent]}))[0] == 204

    async def stages(self, name: str, *expected: str) -> bool:
        """True when the job's sub-jobs are in these stages, in the order of their positions."""
        rows = await self.store.fetch(
            """select s.stage::text from data_job j join sub_job s using (job_id)
               where j.name = $1 order by s.position""",
            name,
        )
        found = ["WAITING" if row["stage"] in WAITS else row["stage"] for row in rows]
        return found == list(expected)

    async def holds(self, query: str, *values: Any) -> bool:
        return bool(await self.store.fetchval(query, *values))

    async def tried(self, name: str) -> bool:
        """True when the job's create was sent and did not arrive."""
        return await self.holds(
            """select stage::text in ('READY', 'ADMITTED') and attempts > 0 and failing_since is not null
               from sub_job join data_job using (job_id) where name = $1""",
            name,
        )

    async def ended(self, name: str, delivery: str) -> bool:
        return await self.holds(
            "select ended_at is not null and delivery_state::text = $2 from data_job where name = $1",
            name,
            delivery,
        )

    async def unknown(self, name: str) -> bool:
        return await self.holds(
            "select unknown > 0 and ended_at is not null from data_job where name = $1", name
        )

    async def messages(self, name: str, count: int) -> bool:
        return await self.holds(
            """select count(*) = $2 from data_job j join sub_job s using (job_id)
               join result_part p on p.job_id = s.job_id and p.sub_job = s.sub_job_id::text
               where j.name = $1""",
            name,
            count,
        )

    def spoil_manifest(self, job_id: str) -> None:
        """Put a folder where the job's manifest will be written: it cannot be finished."""
        (self._objects / "datajobs-results" / job_id / "manifest.json" / "in-the-way").mkdir(parents=True)


async def until(condition: Callable[..., Coroutine[Any, Any, bool]], *about: Any) -> None:
    """Return when the condition holds."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not await condition(*about):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{condition.__name__} of {about} does not come true") from None


async def leave_jobs_open(database_url: str, folder: Path, source: Path) -> Left:
    """Fill the database with what the service of ``source`` makes of its jobs, in every stage."""
    environ = variables(database_url, folder, unknown_write_quarantine="300") | {"PYTHONPATH": str(source)}
    plugins = {name: NotingPlugin(name, scripts) for name, scripts in PRODUCERS.items()}
    async with (
        process(environ, "ran_datajobs", "serve", "--roles", "api"),
        aiohttp.ClientSession() as session,
        _serving(plugins) as addresses,
    ):
        service = Patient(f"http://127.0.0.1:{environ['DATAJOBS_PORT']}", session)
        assert (await service.call("GET", "/readyz"))[0] == 200
        store = await asyncpg.connect(database_url)
        try:
            scene = _Scene(service, store, folder / "objects")
            for name, address in addresses.items():
                await scene.register(name, address)
            async with process(environ, "ran_datajobs", "serve-worker") as worker:
                await _bring_about(scene, plugins)
                async with _bus_refuses(store):
                    await scene.submit("delivery pending", writes("ends"), destination=f"kafka:{TOPIC}")
                    await until(scene.ended, "delivery pending", "PENDING")
                    worker.kill()
                    await worker.wait()
            await _without_worker(scene)
            await asyncio.sleep(VOID_AFTER)
        finally:
            await store.close()
    objects = {
        str(path.relative_to(folder / "objects")): path.read_bytes()
        for path in sorted((folder / "objects").rglob("*"))
        if path.is_file()
    }
    return Left(objects, [taken for plugin in plugins.values() for taken in plugin.taken()])


@asynccontextmanager
async def _serving(plugins: Mapping[str, ScriptedPlugin]) -> AsyncIterator[dict[str, str]]:
    async with (
        plugins["careful"].serving() as careful,
        plugins["simple"].serving() as simple,
        plugins["hasty"].serving() as hasty,
    ):
        yield {"careful": careful, "simple": simple, "hasty": hasty}


_REFUSAL = f"""
create function refuse() returns trigger language plpgsql as $$
begin
    raise exception 'the bus refuses';
end
$$;
create trigger refuse before insert on bus_message for each row
    when (new.topic = '{TOPIC}') execute function refuse();
"""


@asynccontextmanager
async def _bus_refuses(store: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    """Nothing is published to the jobs' topic during the block."""
    await store.execute(_REFUSAL)
    try:
        yield
    finally:
        await store.execute("drop trigger refuse on bus_message; drop function refuse()")


async def _bring_about(scene: _Scene, plugins: Mapping[str, NotingPlugin]) -> None:
    """Every stage that a living worker reaches. The jobs stay there until it is killed."""
    await scene.submit("delivered", writes("ends"), destination=f"kafka:{TOPIC}")
    await until(scene.ended, "delivered", "DELIVERED")
    for producer in ("runs", "simple-runs"):
        await scene.submit(f"tracked at {producer}", writes(producer))
        await scene.submit(f"waits behind {producer}", writes(producer))
    after = str(await scene.store.fetchval("select job_id from data_job where name = 'tracked at runs'"))
    await scene.submit("blocked", writes("ends"), after=[after])
    await scene.submit("blocked, then cancelled", writes("ends"), after=[after])
    await scene.submit("of several producers", [*writes("ends", "runs", "simple-runs"), UNMATCHED])
    await scene.submit("waits, then cancelled", writes("runs"))
    await scene.submit("tracked, then cancelled", writes("cancelled"))
    await scene.submit("cannot be cancelled", writes("cannot-cancel"))
    for producer in ("busy", "busy-cancelled"):
        await scene.submit(f"tried at {producer}", writes(producer))
    await scene.submit("waits behind busy", writes("busy"))
    await scene.submit("read tried", reads("reads-busy"))
    await scene.submit("closes simple-fails", writes("simple-fails"))
    await scene.submit("closes hasty-runs", writes("hasty-runs"))
    for n in range(4):
        await scene.submit(f"read {n} at simple-reads", reads("simple-reads"))
    for n in range(6):
        await scene.submit(f"read {n} at reads", reads("reads"))
    await scene.submit("write beside reads", writes("reads"))
    for producer in ("on-topic", "on-topic-no-total", "on-topic-cancelled", "messages-early"):
        await scene.submit(f"collecting {producer}", reads(producer))
    await scene.submit("read of two parts", WHOLE_READ)
    for producer in ("runs", "simple-runs"):
        await until(scene.stages, f"tracked at {producer}", "TRACKING")
        await until(scene.stages, f"waits behind {producer}", "WAITING")
    await until(scene.stages, "blocked", "WAITING")
    await until(scene.stages, "blocked, then cancelled", "WAITING")
    await until(scene.stages, "of several producers", "SETTLED", "WAITING", "WAITING")
    await until(scene.stages, "waits, then cancelled", "WAITING")
    await until(scene.stages, "tracked, then cancelled", "TRACKING")
    await until(scene.stages, "cannot be cancelled", "TRACKING")
    await scene.cancel("cannot be cancelled")
    await until(scene.tried, "read tried")
    await until(scene.stages, "write beside reads", "TRACKING")
    for n in range(4):
        at = "TRACKING" if n < 2 else "WAITING"
        await until(scene.stages, f"read {n} at simple-reads", at)
    for n in range(6):
        at = "TRACKING" if n < 4 else "WAITING"
        await until(scene.stages, f"read {n} at reads", at)
    await until(scene.stages, "read of two parts", "SETTLED", "TRACKING")
    for producer, total in (("on-topic", 2), ("on-topic-no-total", None), ("on-topic-cancelled", 2)):
        await until(scene.stages, f"collecting {producer}", "COLLECTING")
        await scene.publish(f"collecting {producer}", 0, total)
        await until(scene.messages, f"collecting {producer}", 1)
    await until(scene.stages, "collecting messages-early", "TRACKING")
    await scene.publish("collecting messages-early", 0, 2)
    await until(scene.messages, "collecting messages-early", 1)
    for producer in ("simple-fails", "hasty-runs"):
        await until(scene.unknown, f"closes {producer}")
        await scene.submit(f"waits behind {producer}", writes(producer))
        await until(scene.stages, f"waits behind {producer}", "WAITING")
    plugins["careful"].script("ends", _RUNS)
    unfinished = await scene.submit("settled", writes("ends"))
    await until(scene.stages, "settled", "TRACKING")
    scene.spoil_manifest(unfinished)
    plugins["careful"].script("ends", _ENDS)
    await until(scene.stages, "settled", "SETTLED")
    starting = (
        "stalls",
        "stalls-cancelled",
        "loses",
        "simple-stalls",
        "simple-stalls-cancelled",
        "simple-loses",
    )
    for producer in starting:
        await scene.submit(f"starting at {producer}", writes(producer))
        await scene.submit(f"waits behind {producer}", writes(producer))
    await scene.submit("read starting", reads("reads-stalled"))
    for producer in starting:
        await until(scene.stages, f"starting at {producer}", "STARTING")
        await until(scene.stages, f"waits behind {producer}", "WAITING")
    await until(scene.stages, "read starting", "STARTING")
    await until(_all_called, plugins, {*starting, "reads-stalled"})
    for producer in ("busy", "busy-cancelled"):
        await until(scene.tried, f"tried at {producer}")


async def _all_called(plugins: Mapping[str, ScriptedPlugin], producers: set[str]) -> bool:
    """True when creates for all these data producers have arrived."""
    return producers <= {c.data_producer_id for p in plugins.values() for c in p.calls if c.kind == "create"}


async def _without_worker(scene: _Scene) -> None:
    """The requests of clients while no worker lives."""
    for name in (
        "blocked, then cancelled",
        "waits, then cancelled",
        "tracked, then cancelled",
        "tried at busy-cancelled",
        "collecting on-topic-cancelled",
        "starting at stalls-cancelled",
        "starting at simple-stalls-cancelled",
    ):
        await scene.cancel(name)
    await scene.submit("not planned", writes("ends", "runs"))
    await scene.submit("not planned, of two parts", WHOLE_READ)
    await scene.submit("not planned, then cancelled", writes("ends"))
    await scene.cancel("not planned, then cancelled")
