# SPDX-License-Identifier: Apache-2.0
"""Events that only a fault causes: of the database, of its rows, of a disk, of a bus, of a plugin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import ClientSession

from ran_datajobs.dmi.element import Outcome
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.http.ports import free_port as another_port
from ran_datajobs.model import ActivationMode, Operation
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.store.database import Database
from tests.e2e.seen import Watched, check, lines_of, shows, watched
from tests.kit.ncmp import Ncmp, handle
from tests.kit.plugin_parts import (
    KeptMessages,
    WatchedElement,
    address_of,
    call_for,
    reads,
    served_plugin,
    until_terminal,
    writes,
)
from tests.kit.plugins.scripted import Manner, ScriptedPlugin
from tests.kit.whole_service import JOBS
from tests.kit.worker_parts import log_lines


def write(name: str) -> dict[str, Any]:
    """An operation on the object of this name."""
    path = f"/ManagedElement={name}#/attributes/userLabel"
    return {"op": "replace", "path": path, "operationId": "1", "value": "x"}


@contextlib.asynccontextmanager
async def with_plugin(folder: Path, port: int, **settings: str) -> AsyncIterator[Watched]:
    """A service that is ready, with the data producers a to d of a plugin that answers well."""
    plugin = ScriptedPlugin()
    async with plugin.serving() as address, watched(folder, port, **settings) as service:
        await asyncio.to_thread(service.running.until_ready, service.url)
        await service.client.register(address, {f"/ManagedElement={name}": name for name in "abcd"})
        yield service


@pytest.mark.nightly
@shows("worker.interrupted", "worker.resumed")
async def test_a_database_that_cuts_its_sessions(tmp_path: Path, free_port: int) -> None:
    """The worker logs once that it cannot claim, and once that it can. The metrics of the processes are shown
    meanwhile."""
    async with with_plugin(tmp_path, free_port) as service:
        await service.until(lambda: '"role": "worker", "event": "service.started"' in service.text)
        cutting = asyncio.create_task(asyncio.to_thread(_cut_sessions_until_told, service))
        await service.says("worker.interrupted")
        await cutting
        assert "datajobs_requests_total" in service.scraped()
        await service.says("worker.resumed")
        assert (await service.client.ended(await service.submit(write("a"))))["status"] == "FINSHED"
        assert await asyncio.to_thread(service.running.end) == 0
    check("test_a_database_that_cuts_its_sessions", service.text)


def _cut_sessions_until_told(service: Watched) -> None:
    """End every session of the database repeatedly, as an administrator does, until a claim fails."""
    while "worker.interrupted" not in service.text:
        for process in service.running.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.cmdline()[:1] and process.cmdline()[0].startswith("postgres: datajobs"):
                    process.terminate()


@pytest.mark.nightly
@shows(
    "plugin.health",
    "modules.unavailable",
    "credentials.read",
    "credentials.unusable",
    "follow.started",
    "follow.unavailable",
    "follow.available",
    "follow.compared",
    metrics={"datajobs_plugins", "datajobs_follow_changes_total", "datajobs_follow_failing"},
)
async def test_questions_that_peers_answer_badly(tmp_path: Path, free_port: int) -> None:
    """A plugin reports that it is down, and fails to say what modules its handles have. The file of its
    credentials is damaged and repaired. The NCMP that is followed answers at last."""
    plugin, file = ScriptedPlugin(manner=Manner(modules=500, health="DOWN")), tmp_path / "credentials"
    ncmp = Ncmp()
    ncmp.status = 503
    async with plugin.serving() as address, ncmp.serving() as followed:
        entries = json.dumps({address: {"token": "t"}})
        file.write_text(entries)
        settings = {
            "DATAJOBS_DMI_CREDENTIALS_FILE": str(file),
            "DATAJOBS_DMI_HEALTH_INTERVAL": "1",
            "DATAJOBS_FOLLOW_NCMP": followed,
            "DATAJOBS_FOLLOW_PLUGINS": address,
        }
        async with watched(tmp_path, free_port, **settings) as service:
            await asyncio.to_thread(service.running.until_ready, service.url)
            await service.client.register(address, {"/ManagedElement=a": "a"})
            await service.until(lambda: service.scraped()["datajobs_plugins"]["DOWN",] == 1)
            await service.until(lambda: service.scraped()["datajobs_follow_failing"][()] == 1)
            ncmp.put(handle("b", address))
            ncmp.status = 200
            await service.says("follow.compared")
            found = service.scraped()
            assert found["datajobs_follow_changes_total"]["created",] == 1
            file.write_text("{")
            await service.says("credentials.unusable")
            file.write_text(entries + "\n")
            await service.says("credentials.read")
            await service.says("modules.unavailable")
            assert await asyncio.to_thread(service.running.end) == 0
    (health, *_) = lines_of(service.text, "plugin.health")
    assert (health["plugin"], health["health"], health["level"]) == (address, "DOWN", "warning")
    check("test_questions_that_peers_answer_badly", service.text, found)


@pytest.mark.nightly
@shows("bus.unavailable")
async def test_a_kafka_that_is_not_there(tmp_path: Path, free_port: int) -> None:
    """Jobs end. It is logged that their status events wait."""
    settings = {
        "DATAJOBS_KAFKA_BOOTSTRAP": f"127.0.0.1:{another_port()}",
        "DATAJOBS_KAFKA_SETTINGS": "socket.timeout.ms=1000\ntransaction.timeout.ms=1000",
    }
    async with watched(tmp_path, free_port, **settings) as service:
        await asyncio.to_thread(service.running.until_it_answers, f"{service.url}/healthz")
        job_id = await service.submit(write("nobody"))
        assert (await service.client.ended(job_id))["status"] == "FAILED"
        await service.says("bus.unavailable")
        assert service.scraped()["datajobs_delivery_lag_seconds"]["topic",] > 0
    check("test_a_kafka_that_is_not_there", service.text)


@pytest.mark.nightly
@shows("storage.unavailable", "storage.available", "delivery.waits", "delivery.failed")
async def test_a_disk_that_takes_nothing(tmp_path: Path, free_port: int) -> None:
    """A file is in place of a bucket's folder. The service waits for its own bucket; a destination is logged
    once, and times out."""
    async with with_plugin(tmp_path, free_port, DATAJOBS_DELIVERY_RETRY_TIMEOUT="2") as service:
        objects = tmp_path / "data/objects"
        (objects / "refused").write_bytes(b"")
        job_id = await service.submit(write("a"), to="s3:refused")
        assert (await service.delivered(job_id))["deliveryState"] == "FAILED"
        found = service.scraped()
        assert found["datajobs_deliveries_ended_total"] == {("FAILED",): 1}

        own = objects / "datajobs-results"
        own.rename(objects / "kept")
        own.write_bytes(b"")
        waiting = await service.submit(write("b"))
        async with asyncio.timeout(60):
            while "waitingFor" not in await service.client.job(waiting):
                await asyncio.sleep(0.05)
        own.unlink()
        (objects / "kept").rename(own)
        assert (await service.client.ended(waiting))["status"] == "FINSHED"
        await service.says("storage.available")
        assert await asyncio.to_thread(service.running.end) == 0
    (waits,) = lines_of(service.text, "delivery.waits")
    (failed,) = lines_of(service.text, "delivery.failed")
    assert waits["destination"] == failed["destination"] == "s3:refused"
    assert (failed["jobs"], failed["job_id"]) == (1, job_id)
    check("test_a_disk_that_takes_nothing", service.text, found)


@pytest.mark.nightly
@shows(
    "request.failed",
    "task.failed",
    "sub_job.transition_refused",
    "lane.admission_refused",
    "jobs.pruned",
)
@pytest.mark.damages_rows
async def test_a_database_that_is_not_as_it_should_be(
    tmp_path: Path, free_port: int, database_url: str
) -> None:
    """A missing table, a damaged request, rows that the database refuses to write, and jobs that are older
    than the retention."""
    shared = {"DATAJOBS_DATABASE_URL": database_url}
    async with with_plugin(tmp_path, free_port, **shared) as service:
        database = await Database.open(database_url)
        try:
            async with database.connection() as connection:
                old = await service.submit(write("a"))
                await service.client.ended(old)
                await connection.execute("alter table idempotency_key rename to elsewhere")
                async with (
                    ClientSession() as session,
                    session.post(
                        f"{service.url}{JOBS}", json={"data": [write("a")]}, headers={"Idempotency-Key": "k"}
                    ) as answer,
                ):
                    assert answer.status == 500
                await connection.execute("alter table elsewhere rename to idempotency_key")

                await connection.execute(_REFUSALS)
                await service.submit(write("b"))
                await service.says("sub_job.transition_refused")
                await service.submit(write("c"))
                await service.submit(write("c"))
                await service.says("lane.admission_refused")

                worker = service.running.child("serve-worker")
                worker.suspend()
                spoilt = await service.submit(write("d"))
                await connection.execute("update job_request set body = 'x' where job_id = $1", spoilt)
                await connection.execute(
                    "update data_job set ended_at = now() - interval '30 days' where job_id = $1", old
                )
                worker.kill()
                await service.says("jobs.pruned")
                await service.says("task.failed")
                assert await asyncio.to_thread(service.running.end) == 0
        finally:
            await database.close()
    check("test_a_database_that_is_not_as_it_should_be", service.text)


_REFUSALS = """
create function refuse() returns trigger language plpgsql as $$
declare
    producer text;
begin
    select data_producer_id into producer from lane where lane_id = new.lane_id;
    if new.stage = 'SETTLED' and producer = 'b' then
        raise exception 'as the test wants it';
    end if;
    if new.stage = 'ADMITTED' and old.stage = 'WAITING' and producer = 'c' then
        raise unique_violation using constraint = 'one_write_per_lane', message = 'one_write_per_lane';
    end if;
    return new;
end $$;
create trigger refuse before update on sub_job for each row execute function refuse()
"""
"""The database refuses the settlement of sub-jobs of b, and the admission of any of c."""


class BrokenElement(WatchedElement):
    """Returns fewer outcomes than there are operations."""

    async def write(
        self, operations: Sequence[Operation], mode: ActivationMode, *, images: bool = False
    ) -> Sequence[Outcome]:
        return (await super().write(operations, mode))[1:]


@shows("dmi.element_broken", "dmi.journal_unavailable", "dmi.read_undeliverable")
async def test_a_reference_plugin_in_trouble(tmp_path: Path) -> None:
    """Its element violates its contract, its journal is locked by another program, and no bus accepts
    messages."""
    settings = PluginSettings(tmp_path, publish_give_up=0.1)
    element = BrokenElement()
    with log_lines() as lines:
        async with (
            PeerHttp() as http,
            served_plugin(settings, lambda _: element, KeptMessages(failures=1000)) as url,
        ):
            plugin = plugins_over(http)(PluginProfile(1, url, "seed"))
            element.gate.clear()
            call = call_for("seed", writes(2))
            address = address_of(call, await plugin.create(call))
            await element.waiting.wait()
            with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as other:
                other.execute("begin immediate")
                element.gate.set()
                while not any(line["event"] == "dmi.journal_unavailable" for line in lines()):
                    await asyncio.sleep(0.05)
                other.rollback()
            await until_terminal(plugin, address)
            call = call_for("seed", reads("Small"))
            await until_terminal(plugin, address_of(call, await plugin.create(call)))
        text = "\n".join(map(json.dumps, lines()))
    check("test_a_reference_plugin_in_trouble", text)
