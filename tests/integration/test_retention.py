# SPDX-License-Identifier: Apache-2.0
"""Data older than the retention is removed everywhere, and no other data is."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from ran_datajobs.config import Settings
from ran_datajobs.inventory import registry
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.results.delivery import redeliver, status_message
from ran_datajobs.results.objects import open_folder
from ran_datajobs.results.pruner import Pruner
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from ran_datajobs.telemetry import logger
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.kit.whole_service import DEADLINE, JOBS, Service, whole_service

EMPTIED = (
    "data_job",
    "job_request",
    "sub_job",
    "result_part",
    "idempotency_key",
    "outbox",
    "bus_message",
    "delivery_failure",
    "bus_topic where topic <> 'ncmp-data-job-status'",
    "lane_client",
    "cm_handle",
)
LINES = [
    {"op": "merge", "path": f"/ManagedElement={n % 3}/Cell={n}", "value": {"n": n}, "operationId": n}
    for n in range(9)
]
WEEK = 7 * 86400.0
NOTHING = 0.0, 0.0


async def counts(database: Database) -> dict[str, int]:
    """Rows of every table from which retention removes."""
    async with database.connection() as connection:
        return {table: await connection.fetchval(f"select count(*) from {table}") for table in EMPTIED}


async def until_idle(service: Service, job_ids: list[str]) -> None:
    """All jobs have ended and are delivered, and the outbox is empty."""
    for job_id in job_ids:
        await service.ended(job_id)
    async with asyncio.timeout(DEADLINE):
        while (await counts(service.database))["outbox"]:
            await asyncio.sleep(0.05)
    for job_id in job_ids:
        assert (await service.job(job_id))["deliveryState"] == "DELIVERED"


async def submit(service: Service, destination: str) -> str:
    """Submit a job that is accepted. Returns its id."""
    answer = await service.call("POST", f"{JOBS}{destination}", {"data": LINES}, expect=202)
    job_id: str = answer["jobId"]
    return job_id


def files(folder: Path) -> list[Path]:
    """Every object of a job, with all folders and other files below them."""
    return sorted(each for each in (folder / "objects").glob("*/*") if each.name != "ran-datajobs")


async def test_everything_that_is_too_old_goes(database_url: str, tmp_path: Path) -> None:
    """Jobs for a bucket, a topic and without destination, one of them with an unmatched operation, end. Then
    retention reduces every table to its earlier size, and no object or folder of these jobs is left."""
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {f"/ManagedElement={n}": f"ems-{n}" for n in range(2)})
        before = await counts(service.database)
        job_ids = [
            await submit(service, destination)
            for destination in ("", "?destination=kafka:rapp", "?destination=s3:rapp-bucket") * 2
        ]
        await until_idle(service, job_ids)
        full = await counts(service.database)
        assert full["sub_job"] == 12
        assert full["bus_message"] > 0
        await service.register(address, {"/ManagedElement=9": "ems-9"})
        removed = {"dmiPlugin": address, "removedCmHandles": ["_ManagedElement-9"]}
        await service.call("POST", "/ncmpInventory/v1/ch", removed, expect=200)
        assert (await counts(service.database))["cm_handle"] == before["cm_handle"] + 1
        pruner = Pruner(service.database, open_folder(tmp_path / "objects"), logger(), *NOTHING)
        assert await pruner.prune() == len(job_ids)
        assert await counts(service.database) == before
        assert files(tmp_path) == []
        await service.call("GET", f"{JOBS}/{job_ids[0]}", expect=404)


async def test_open_jobs_and_open_deliveries_stay_whole(database_url: str, tmp_path: Path) -> None:
    """A running job, and one whose delivery is active, keep all their rows, messages and objects, whatever
    their age. The running one ends normally."""
    plugin = ScriptedPlugin(Script())
    plugin.script("ems-1", Script(statuses=("RUNNING",)))
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {f"/ManagedElement={n}": f"ems-{n}" for n in range(3)})
        running = await submit(service, "")
        async with asyncio.timeout(DEADLINE):
            while (await service.job(running))["operations"]["succeeded"] < 6:
                await asyncio.sleep(0.05)
        delivering = await service.submit([line for line in LINES if "=1/" not in str(line["path"])])
        await service.ended(delivering)
        async with service.database.connection() as connection:
            await connection.execute(
                "update data_job set delivery_state = 'PENDING' where job_id::text = $1", delivering
            )
        pruner = Pruner(service.database, open_folder(tmp_path / "objects"), logger(), *NOTHING)
        stored, kept = await rows_of(service.database, running, delivering), files(tmp_path)
        assert await pruner.prune() == 0
        assert await rows_of(service.database, running, delivering) == stored
        assert files(tmp_path) == kept
        plugin.script("ems-1", Script())
        job = await service.ended(running)
        assert job["operations"]["succeeded"] == len(LINES)
        assert len(await service.responses(job)) == len(LINES)


async def rows_of(database: Database, *job_ids: str) -> Any:
    """The rows of jobs, without the columns that change by themselves."""
    async with database.connection() as connection:
        return [
            await connection.fetchval(f"select count(*) from {table} where job_id::text = any ($1)", job_ids)
            for table in ("data_job", "job_request", "sub_job", "result_part")
        ]


async def test_a_young_job_stays_and_one_pruner_works_at_a_time(database: Database, tmp_path: Path) -> None:
    """Data younger than the retention is kept. A pruner that finds another one at work does nothing."""
    async with database.connection() as connection:
        await connection.execute(
            """
            insert into data_job (job_id, client, type, destination_kind, results_bucket, accept_type,
                                  content_type, activation_mode, priority, status, operations,
                                  delivery_state, ended_at)
            select gen_random_uuid(), 'c', 'WRITE', 'BUCKET', 'datajobs-results', '', '', 'BEST_EFFORT', 4,
                   'FINISHED', 1, 'DELIVERED', clock_timestamp() - make_interval(days => days)
            from unnest(array[1, 6, 8, 30]) as t (days)
            """
        )
    objects = open_folder(tmp_path)
    pruner = Pruner(database, objects, logger(), WEEK)
    async with database.connection() as other:
        await other.execute("select pg_advisory_lock(7263404)")
        assert await pruner.prune() == 0
    assert await pruner.prune() == 2
    assert (await counts(database))["data_job"] == 2


async def test_a_job_that_is_being_removed_is_not_redelivered(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redeliver after the pruner has begun to remove the job is refused. One before it keeps the job and
    its results."""
    gone, kept = uuid4(), uuid4()
    async with database.connection() as connection:
        await connection.execute(
            """
            insert into data_job (job_id, client, type, destination, destination_kind, results_bucket,
                                  accept_type, content_type, activation_mode, priority, status, operations,
                                  delivery_state, ended_at)
            select job_id, 'c', 'WRITE', 'rapp', 'TOPIC', 'datajobs-results', '', '', 'BEST_EFFORT', 4,
                   'FINISHED', 1, 'DELIVERED', clock_timestamp() - make_interval(days => 8)
            from unnest($1::uuid[]) as t (job_id)
            """,
            [gone, kept],
        )
    objects = open_folder(tmp_path)
    for job_id in (gone, kept):
        await objects.put("datajobs-results", f"{job_id}/manifest.json", b"{}")
    removed: list[str] = []
    delete_folder = objects.delete_folder

    async def redelivered_meanwhile(bucket: str, job_id: str) -> None:
        async with database.transaction() as connection:
            assert not await redeliver(connection, gone)
        removed.append(job_id)
        await delete_folder(bucket, job_id)

    monkeypatch.setattr(objects, "delete_folder", redelivered_meanwhile)
    async with database.transaction() as connection:
        assert await redeliver(connection, kept)
    assert await Pruner(database, objects, logger(), WEEK).prune() == 1
    assert removed == [str(gone)]
    assert await objects.get("datajobs-results", f"{kept}/manifest.json") == b"{}"


async def test_a_deadlock_with_a_publisher_does_not_end_the_pruner(
    database: Database, tmp_path: Path
) -> None:
    """A transaction that drops messages of an expired job has locked its row and waits for its messages; the
    pruner has locked the messages and waits for the row. PostgreSQL aborts the pruner's transaction, and the
    pruner repeats it."""
    job_id = uuid4()
    async with database.transaction() as connection:
        await connection.execute(
            """
            insert into data_job (job_id, client, type, destination_kind, results_bucket, accept_type,
                                  content_type, activation_mode, priority, status, operations,
                                  delivery_state, ended_at)
            values ($1, 'c', 'WRITE', 'BUCKET', 'datajobs-results', '', '', 'BEST_EFFORT', 4, 'FINISHED', 1,
                    'DELIVERED', clock_timestamp() - make_interval(days => 8))
            """,
            job_id,
        )
        await outbox.add(connection, [status_message(job_id, None, 1, b"{}")])
    pruner = Pruner(database, open_folder(tmp_path), logger(), WEEK)
    async with asyncio.timeout(DEADLINE):
        async with database.transaction() as publishing:
            await publishing.execute("set local deadlock_timeout = '60s'")
            await publishing.execute("select 1 from data_job where job_id = $1 for no key update", job_id)
            pruning = asyncio.create_task(pruner.prune())
            async with database.connection() as connection:
                while not await connection.fetchval("select count(*) from pg_locks where not granted"):
                    await asyncio.sleep(0.01)
            await publishing.execute("delete from outbox where job_id = $1", job_id)
        assert await pruning == 1
    assert (await counts(database))["data_job"] == 0


async def test_a_cancelled_statement_does_not_end_the_pruner(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that is cancelled or times out ends one pass. The next one continues."""
    monkeypatch.setattr("ran_datajobs.results.pruner.LOOK_EVERY", 0.05)
    async with database.connection() as connection:
        await connection.execute("insert into bus_topic (topic) values ('unused')")
    pruner = Pruner(database, open_folder(tmp_path), logger(), WEEK)
    async with asyncio.timeout(DEADLINE):
        async with database.transaction() as other:
            await other.execute("lock table bus_message in access exclusive mode")
            running = asyncio.create_task(pruner.run())
            async with database.connection() as connection:
                while not await connection.fetchval(
                    "select count(pg_cancel_backend(pid)) from pg_locks "
                    "where relation = 'bus_message'::regclass and not granted"
                ):
                    await asyncio.sleep(0.01)
        while (await counts(database))["bus_topic where topic <> 'ncmp-data-job-status'"]:
            assert not running.done()
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_offsets_of_a_topic_that_comes_again_go_on(database: Database, tmp_path: Path) -> None:
    """A topic without messages and jobs is removed, unless a consumer of the service reads it. When it is
    created again, a reader with a stored offset gets the new messages, and so does a new reader."""
    bus = PostgresBus(database)
    message = Message("k", {}, b"1")
    for topic in ("rapp", "read", INTERNAL_TOPIC):
        await bus.publish(topic, [message] * 3)
    async with contextlib.aclosing(bus.receive("read", "us")) as stream:
        assert len(await anext(stream)) == 3
        await bus.publish("read", [message])
        assert len(await anext(stream)) == 1
    pruner = Pruner(database, open_folder(tmp_path), logger(), *NOTHING)
    await pruner.prune()
    assert set(await bus.topics()) == {"read", INTERNAL_TOPIC}
    await bus.publish("rapp", [message])
    (found,) = await bus.read("rapp", 3, 10)
    assert [found] == await bus.read("rapp", 0, 10)
    assert found.offset >= 3
    await pruner.prune()
    await bus.publish("rapp", [message])
    assert await bus.read("rapp", found.offset + 1, 10)


async def test_an_index_that_slept_through_a_removal_forgets_the_handle(
    database: Database, tmp_path: Path
) -> None:
    """A handle whose removal, and whose tombstone, are gone before an index follows again is removed from the
    index. The same holds if the handle was registered again elsewhere."""
    sleeping, awake = OwnerIndex(database), OwnerIndex(database)

    async def register(**fields: Any) -> None:
        body = {"dmiPlugin": "http://127.0.0.1:9001", **fields}
        outcome = await registry.register(database, Settings(), msgspec.json.encode(body))
        assert not outcome.failed
        await awake.catch_up()

    await register(
        createdCmHandles=[
            {"cmHandle": f"ch-{n}", "alternateId": f"/ME={n}", "dataProducerIdentifier": "p"}
            for n in range(3)
        ]
    )
    await sleeping.catch_up()
    await register(removedCmHandles=["ch-1", "ch-2"])
    await Pruner(database, open_folder(tmp_path), logger(), *NOTHING).prune()
    assert (await counts(database))["cm_handle"] == 1
    await register(
        createdCmHandles=[{"cmHandle": "ch-2", "alternateId": "/ME=7", "dataProducerIdentifier": "p"}]
    )
    expected = {"ch-0": "ME=0", "ch-2": "ME=7"}
    for index in (sleeping, awake):
        owners = await index.catch_up()
        assert {owner.cm_handle: owner.alternate_key for owner in owners} == expected


async def test_young_traces_stay(database: Database, tmp_path: Path) -> None:
    """Tombstones and records of served clients that are younger than the retention are kept."""
    async with database.connection() as connection:
        await connection.execute(
            """
            insert into dmi_plugin (url) values ('http://127.0.0.1:1');
            insert into lane (plugin_id, data_producer_id) select plugin_id, 'ems' from dmi_plugin;
            insert into lane_client
            select lane_id, client, clock_timestamp() - make_interval(days => days)
            from lane, (values ('young', 1), ('old', 8)) as c (client, days);
            insert into cm_handle (cm_handle, plugin_id, version, removed, removed_at)
            select name, plugin_id, 1, true, clock_timestamp() - make_interval(days => days)
            from dmi_plugin, (values ('young', 1), ('old', 8)) as h (name, days);
            """
        )
    await Pruner(database, open_folder(tmp_path), logger(), WEEK).prune()
    async with database.connection() as connection:
        clients = await connection.fetch("select client from lane_client")
        handles = await connection.fetch("select cm_handle from cm_handle order by 1")
    assert [row[0] for row in clients] == ["young"]
    assert [row[0] for row in handles] == ["young"]


async def test_a_job_stays_while_a_write_of_its_is_in_quarantine(database_url: str, tmp_path: Path) -> None:
    """A write of unknown outcome has ended with its job, and keeps its lane closed: the pruner keeps it. When
    the quarantine ends the next write starts, and both jobs are removed."""
    plugin = ScriptedPlugin(Script(create=(Step.DROP, Step.OBEY)))
    async with (
        plugin.serving() as address,
        whole_service(database_url, tmp_path, unknown_write_quarantine="600") as service,
    ):
        await service.register(address, {"/ManagedElement=0": "ems-0"})
        unknown, waiting = [await service.submit(LINES[:1]) for _ in range(2)]
        assert (await service.ended(unknown))["operations"]["unknown"] == 1
        pruner = Pruner(service.database, open_folder(tmp_path / "objects"), logger(), *NOTHING)
        assert await pruner.prune() == 0
        assert (await service.job(waiting))["status"] == "NOT_STARTED"
        async with service.database.connection() as connection:
            await connection.execute(
                "update sub_job set quarantined_until = clock_timestamp(), due_at = clock_timestamp()"
                " where stage = 'QUARANTINED'"
            )
        assert (await service.ended(waiting))["status"] == "FINSHED"
        assert await pruner.prune() == 2
    assert len(plugin.history) == 2
