# SPDX-License-Identifier: Apache-2.0
"""Every declared event is seen in the log of a real service, and every declared metric at its ``/metrics``.

Each test causes a situation and declares the events and metrics of it. The first one compares them with all
that exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from ran_datajobs.http.ports import free_port as another_port
from ran_datajobs.model import OperationState
from ran_datajobs.store.database import Database
from tests.e2e import test_seen_faults
from tests.e2e.seen import DECLARED, SHOWN, Watched, check, lines_of, scraped, shows, watched
from tests.kit.commands import started
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.kit.policy import ScriptedPolicy
from tests.kit.whole_service import JOBS, called
from tests.operations_page import FIELDS

_TOPICS = "/ranoam/cm/v1/topics"


def test_every_event_and_every_metric_is_brought_about() -> None:
    """The tests of two modules together show all declared events and metrics, and no others."""
    tests = {name for module in (globals(), vars(test_seen_faults)) for name in module if name in SHOWN}
    assert tests == set(SHOWN), "who says what it shows is a test"
    events, metrics = zip(*SHOWN.values(), strict=True)
    assert frozenset().union(*events) == set(FIELDS)
    assert frozenset().union(*metrics) == set(DECLARED)


def write(name: str, operation_id: str = "1") -> dict[str, Any]:
    """An operation on the object of this name."""
    path = f"/ManagedElement={name}#/attributes/userLabel"
    return {"op": "replace", "path": path, "operationId": operation_id, "value": "x"}


async def ready(service: Watched) -> None:
    """Return once the service is ready."""
    await asyncio.to_thread(service.running.until_ready, service.url)


@pytest.fixture
async def plugin() -> AsyncIterator[tuple[ScriptedPlugin, str]]:
    """A plugin that answers well, except for the cancel of a whole job, and its address."""
    scripted = ScriptedPlugin(cancel_all=(Step.NOT_IMPLEMENTED,))
    async with scripted.serving() as address:
        yield scripted, address


@shows(
    "service.started",
    "service.stopped",
    "process.started",
    "database.embedded",
    "schema.migrated",
    "inventory.registered",
    "job.accepted",
    "job.planned",
    "job.ended",
    "job.cancel_requested",
    "plugin.dialect_found",
    "modules.not_offered",
    "bulk_cancel.refused",
    "operations.failed",
    "message.dropped",
    "delivery.succeeded",
    "policy.unavailable",
    "policy.available",
    metrics=set(DECLARED) - {"datajobs_leases_lost_total", "datajobs_follow_changes_total"},
)
async def test_the_course_of_jobs(tmp_path: Path, free_port: int, plugin: tuple[ScriptedPlugin, str]) -> None:
    """Jobs that succeed, succeed in part, and are cancelled, with results in a bucket and on a topic. The API
    also shows the counters of its worker. The policy executor answers at the third request."""
    scripted, address = plugin
    policy = ScriptedPolicy()
    policy.statuses = [503] * 2
    scripted.script("bad", Script(outcome=OperationState.FAILED))
    scripted.script("slow", Script(statuses=("RUNNING",)))
    async with (
        policy.serving() as url,
        watched(tmp_path, free_port, DATAJOBS_POLICY_URL=url) as service,
    ):
        await ready(service)
        handles = {f"/ManagedElement={name}": name for name in ("good", "bad", "slow")}
        await service.client.register(address, handles, bulkCancel=True)
        three = write("good", "1"), write("bad", "2"), write("nobody", "3")
        in_part = await service.submit(*three, to="s3:copies")
        assert (await service.delivered(in_part))["deliveryState"] == "DELIVERED"
        well = await service.submit(write("good"), to="kafka:results")
        assert (await service.delivered(well))["deliveryState"] == "DELIVERED"
        cancelled = await service.submit(write("slow"))
        await called(scripted, "create", 4)
        await service.client.call("POST", f"{JOBS}/{cancelled}/cancel", expect=202)
        assert (await service.client.ended(cancelled))["status"] == "CANCELLED"
        junk = {"messages": [{"headers": {}, "key": "k", "value": {"data": {"responses": []}}}]}
        await service.client.call("POST", f"{_TOPICS}/ncmp-async-m2m/messages", junk, expect=204)
        await service.until(lambda: "datajobs_messages_dropped_total" in service.scraped())
        found = service.scraped()
        assert await asyncio.to_thread(service.running.end) == 0
    assert found["datajobs_jobs_accepted_total"] == {("WRITE",): 3}
    assert found["datajobs_jobs_ended_total"] == {
        ("FINISHED",): 1, ("PARTIALLY_FAILED",): 1, ("CANCELLED",): 1,
    }  # fmt: skip
    assert found["datajobs_operations_ended_total"] == {
        ("SUCCEEDED",): 2, ("FAILED",): 2, ("NOT_STARTED",): 1,
    }  # fmt: skip
    assert found["datajobs_operations_failed_total"] == {
        ("UNMATCHED",): 1, ("PLUGIN",): 1, ("CANCELLED",): 1,
    }  # fmt: skip
    assert found["datajobs_deliveries_ended_total"] == {("DELIVERED",): 2}
    assert found["datajobs_plugin_call_seconds"]["create", "ok"] == 4
    assert found["datajobs_policy_request_seconds"] == {("silent",): 2, ("allow",): 3}
    assert found["datajobs_jobs"] == {("NOT_STARTED",): 0, ("RUNNING",): 0, ("CANCELLING",): 0}
    assert found["datajobs_lanes"] == {("FREE",): 3, ("OCCUPIED",): 0, ("QUARANTINED",): 0}
    (failed, *_) = lines_of(service.text, "operations.failed")
    assert (failed["job_id"], failed["reasons"]) == (in_part, {"PLUGIN": 1})
    ends = {line["job_id"]: line for line in lines_of(service.text, "job.ended")}
    counts = [ends[in_part][name] for name in ("status", "succeeded", "failed", "unmatched")]
    assert counts == ["PARTIALLY_FAILED", 1, 1, 1]
    to = [line["destination"] for line in lines_of(service.text, "delivery.succeeded")]
    assert to == ["s3:copies", "results"]
    stopped = [line["role"] for line in lines_of(service.text, "service.stopped")]
    assert sorted(stopped) == ["api", "api,worker", "worker"]
    check("test_the_course_of_jobs", service.text, found)


@pytest.mark.nightly
@shows(
    "plugin.silent",
    "plugin.answers",
    "circuit.opened",
    "circuit.closed",
    "lane.quarantined",
    "lane.reopened",
)
async def test_a_plugin_that_is_dead_and_comes_back(tmp_path: Path, free_port: int) -> None:
    """A plugin that is down fails 300 sub-jobs: a few lines report its failure and its open circuit, and all
    operations with their reason. Its recovery is logged as well. A write of unknown outcome closes its lane
    for a while."""
    scripted, port = ScriptedPlugin(), another_port()
    address = f"http://127.0.0.1:{port}"
    settings = {
        "DATAJOBS_DMI_RETRY_TIMEOUT": "3",
        "DATAJOBS_DMI_TIMEOUT": "1",
        "DATAJOBS_UNKNOWN_WRITE_QUARANTINE": "2",
    }
    names = [f"p{number}" for number in range(300)]
    async with watched(tmp_path, free_port, **settings) as service:
        await ready(service)
        await service.client.register(address, {f"/ManagedElement={name}": name for name in names})
        dead = await service.submit(*(write(name, name) for name in names))
        await service.until(lambda: service.scraped()["datajobs_circuits_open"][()] == 1)
        assert (await service.client.ended(dead))["operations"]["failed"] == 300
        await service.until(lambda: _failed(service) == 300)
        assert len(lines_of(service.text, "operations.failed")) <= 3
        silent = lines_of(service.text, "plugin.silent")
        assert [(line["plugin"], line["cause"]) for line in silent] == [(address, "connection refused")]
        assert [line["plugin"] for line in lines_of(service.text, "circuit.opened")] == [address]
        found = service.scraped()
        assert found["datajobs_operations_failed_total"] == {("DMI_UNREACHABLE",): 300}
        calls = found["datajobs_plugin_call_seconds"]
        assert set(calls) == {("create", "silent")}

        async with scripted.serving(port=port):
            well = await service.submit(write("p1"))
            assert (await service.client.ended(well))["status"] == "FINSHED"
            assert service.scraped()["datajobs_circuits_open"][()] == 0
            scripted.script("p2", Script(create=(Step.STALL,)))
            unknown = await service.submit(write("p2"))
            assert (await service.client.ended(unknown))["operations"]["unknown"] == 1
            assert service.scraped()["datajobs_lanes"]["QUARANTINED",] == 1
            await service.says("lane.reopened")
            assert service.scraped()["datajobs_lanes"]["QUARANTINED",] == 0
        assert await asyncio.to_thread(service.running.end) == 0
    (closed,) = lines_of(service.text, "lane.quarantined")
    assert (closed["plugin"], closed["lanes"], closed["seconds"]) == (address, 1, 2.0)
    check("test_a_plugin_that_is_dead_and_comes_back", service.text)


def _failed(service: Watched) -> int:
    """Number of operations that the log reports as DMI_UNREACHABLE."""
    lines = lines_of(service.text, "operations.failed")
    return sum(line["reasons"].get("DMI_UNREACHABLE", 0) for line in lines)


@pytest.mark.nightly
@shows("worker.leases_lost", metrics={"datajobs_leases_lost_total"})
async def test_a_worker_that_stood_still(
    tmp_path: Path, free_port: int, database_url: str, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """A frozen worker loses its lease to the worker of another group, which has its own metrics on a separate
    port. Once it continues, it logs that, and the ``/metrics`` of its API counts it as well."""
    scripted, address = plugin
    scripted.script("mute", Script(create=(Step.STALL,)))
    shared = {"DATAJOBS_DATABASE_URL": database_url}
    other_port = another_port()
    other = (
        "serve", "--roles", "worker", "--port", "0", "--metrics-port", str(other_port),
        "--data-dir", tmp_path / "other",
    )  # fmt: skip
    async with watched(tmp_path, free_port, **shared) as service:
        await ready(service)
        await service.client.register(address, {"/ManagedElement=mute": "mute"})
        job_id = await service.submit(write("mute"))
        await called(scripted, "create")
        frozen = service.running.child("serve-worker")
        frozen.suspend()
        try:
            with started(*other, lines=tmp_path / "other-lines", **shared) as group:
                at = f"http://127.0.0.1:{other_port}"
                await asyncio.to_thread(group.until_it_answers, f"{at}/metrics")
                assert (await service.client.ended(job_id))["operations"]["unknown"] == 1
                ours, theirs = service.scraped(), scraped(at)
                assert await asyncio.to_thread(group.end) == 0
        finally:
            frozen.resume()
        assert theirs["datajobs_operations_ended_total"] == {("UNKNOWN",): 1}
        assert "datajobs_operations_ended_total" not in ours
        assert "datajobs_lanes" in ours
        assert "datajobs_lanes" not in theirs, (
            "the figures of the database are reported once for the whole service"
        )
        await service.until(lambda: "datajobs_leases_lost_total" in service.scraped())
        found = service.scraped()
        assert await asyncio.to_thread(service.running.end) == 0
    assert found["datajobs_leases_lost_total"] == {("sub_job",): 1}
    check("test_a_worker_that_stood_still", service.text, found)


@pytest.mark.nightly
@shows("process.ended", "process.restarted", "process.not_started")
async def test_a_worker_that_dies(tmp_path: Path, free_port: int, plugin: tuple[ScriptedPlugin, str]) -> None:
    """It is restarted, also if the machine refuses that for a while. Its counters are kept, its gauges are
    dropped."""
    _, address = plugin
    async with watched(tmp_path, free_port) as service:
        await ready(service)
        await service.client.register(address, {"/ManagedElement=a": "a"})
        await service.client.ended(await service.submit(write("a")))
        supervisor = psutil.Process(service.running.process.pid)
        limits = supervisor.rlimit(psutil.RLIMIT_NOFILE)
        died = service.running.child("serve-worker")
        gauges = tmp_path / "data/metrics"
        assert list(gauges.glob(f"gauge_live*_{died.pid}.db"))
        supervisor.rlimit(psutil.RLIMIT_NOFILE, (_with_one_more(supervisor), limits[1]))
        died.kill()
        await service.says("process.not_started")
        supervisor.rlimit(psutil.RLIMIT_NOFILE, limits)
        assert not list(gauges.glob(f"gauge_live*_{died.pid}.db"))
        assert (await service.client.ended(await service.submit(write("a"))))["status"] == "FINSHED"
        assert service.scraped()["datajobs_jobs_ended_total"] == {("FINISHED",): 2}
        assert await asyncio.to_thread(service.running.end) == 0
    check("test_a_worker_that_dies", service.text)


def _with_one_more(process: psutil.Process) -> int:
    """A limit of open files that leaves one more: too few to start a program."""
    used = {int(file.name) for file in Path(f"/proc/{process.pid}/fd").iterdir()}
    return next(number for number in range(len(used) + 1) if number not in used) + 1


@shows("database.unavailable")
def test_a_start_without_a_database(tmp_path: Path, free_port: int) -> None:
    """The start waits for the database and says so."""
    url = f"postgresql://nobody@127.0.0.1:{another_port()}/none"
    arguments = ("serve", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "lines", DATAJOBS_DATABASE_URL=url) as service:
        service.until_it_says("database.unavailable")
        assert service.end() == 0
        check("test_a_start_without_a_database", service.text())


@shows("schema.waits")
async def test_a_start_beside_older_workers(tmp_path: Path, free_port: int, database_url: str) -> None:
    """The migration waits for a worker of the schema that it replaces."""
    older = await Database.open(database_url, worker_id=_A_WORKER)
    try:
        await older.migrate()
        async with older.connection() as connection:
            await connection.execute(
                "delete from schema_version where number = (select max(number) from schema_version)"
            )
        async with watched(tmp_path, free_port, DATAJOBS_DATABASE_URL=database_url) as service:
            async with older.connection() as connection:
                asked = asyncio.create_task(service.says("schema.waits"))
                while not asked.done():
                    await connection.execute("select 1")
                    await asyncio.wait((asked,), timeout=0.1)
                await asked
            assert await asyncio.to_thread(service.running.end) == 0
    finally:
        await older.close()
    check("test_a_start_beside_older_workers", service.text)


_A_WORKER = UUID(int=7)
