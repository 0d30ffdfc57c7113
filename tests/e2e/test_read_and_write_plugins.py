# SPDX-License-Identifier: Apache-2.0
"""Handles with one plugin for reads and another for writes, and handles that move, through the whole
service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.kit.whole_service import JOBS, Service, called, whole_service
from tests.kit.worker_parts import until

ELEMENT = "/SubNetwork=X/ManagedElement=1"
EMS = "ems-1"
HANDLE = "_SubNetwork-X_ManagedElement-1"
REGISTER = "/ncmpInventory/v1/ch"


def write(name: object = 0) -> list[dict[str, Any]]:
    """A job of one write."""
    return [{"op": "merge", "path": f"{ELEMENT}/C={name}", "value": {"a": 1}, "operationId": str(name)}]


def read(name: object = 0) -> list[dict[str, Any]]:
    """A job of one read."""
    return [{"op": "read", "path": f"{ELEMENT}/C={name}", "operationId": str(name)}]


class Served(NamedTuple):
    """A plugin and its address."""

    plugin: ScriptedPlugin
    url: str

    def taken(self) -> list[tuple[str, str, bool]]:
        """Data job, data producer, and whether it reads, of each accepted create."""
        return [(each.request_id, each.data_producer_id, each.is_read) for each in self.plugin.history]


@pytest.fixture
async def reader() -> AsyncIterator[Served]:
    """A plugin."""
    plugin = ScriptedPlugin()
    async with plugin.serving() as url:
        yield Served(plugin, url)


@pytest.fixture
async def writer() -> AsyncIterator[Served]:
    """Another plugin."""
    plugin = ScriptedPlugin()
    async with plugin.serving() as url:
        yield Served(plugin, url)


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """The service without an inventory."""
    async with whole_service(database_url, tmp_path) as running:
        yield running


async def move(service: Service, url: str, producer: str) -> None:
    """Give the one handle another plugin and data producer, in one registration."""
    handle = {"cmHandle": HANDLE, "alternateId": ELEMENT, "dataProducerIdentifier": producer}
    body = {"dmiPlugin": url, "removedCmHandles": [HANDLE], "createdCmHandles": [handle]}
    await service.call("POST", REGISTER, body, expect=200)


async def test_reads_go_to_one_plugin_and_writes_to_the_other(
    service: Service, reader: Served, writer: Served
) -> None:
    """Dry run, job and retry name the plugin that executes. The general plugin, which nobody serves, is not
    called. Operations of the plugin that wants no properties have none."""
    await service.register(
        "http://127.0.0.1:9",
        {ELEMENT: EMS},
        dmiDatajobsReadPlugin=reader.url,
        dmiDatajobsWritePlugin=writer.url,
    )
    for operations, served in ((read(), reader), (write(), writer)):
        plan = await service.call("POST", f"{JOBS}?dryRun=true", {"data": operations}, expect=200)
        assert plan["subJobs"] == [{"dmiServiceName": served.url, "dataProducerId": EMS, "operations": 1}]
        job_id = await service.submit(operations)
        assert (await service.ended(job_id))["status"] == "FINSHED"
        assert [each["dmiServiceName"] for each in await service.sub_jobs(job_id)] == [served.url]
        assert served.taken() == [(job_id, EMS, served is reader)]
    for operations, served in ((read(1), reader), (write(1), writer)):
        served.plugin.script(EMS, Script(create=(Step.REFUSE, Step.OBEY)))
        failed = await service.submit(operations)
        assert (await service.ended(failed))["status"] == "FAILED"
        again = await service.call("POST", f"{JOBS}/{failed}/retry", expect=202)
        assert (await service.ended(again["jobId"]))["status"] == "FINSHED"
        assert served.taken()[-1] == (again["jobId"], EMS, served is reader)
    assert len(reader.taken()) == len(writer.taken()) == 2


async def test_a_read_and_a_write_of_one_producer_do_not_wait_for_each_other(
    service: Service, reader: Served, writer: Served
) -> None:
    """Each plugin has its own lane. A write that runs at one of them delays no write that another handle of
    the same producer sends to the other."""
    await service.register(reader.url, {ELEMENT: EMS}, dmiDatajobsWritePlugin=writer.url)
    other = {"cmHandle": "other", "alternateId": "/SubNetwork=Y", "dataProducerIdentifier": EMS}
    await service.call("POST", REGISTER, {"dmiPlugin": reader.url, "createdCmHandles": [other]}, expect=200)
    writer.plugin.script(EMS, Script(statuses=("RUNNING",)))
    running = await service.submit(write())
    await called(writer.plugin, "status")
    at_the_reader = [{"op": "merge", "path": "/SubNetwork=Y", "value": {"a": 1}, "operationId": "1"}]
    for operations in (read(), at_the_reader):
        assert (await service.ended(await service.submit(operations)))["status"] == "FINSHED"
    assert (await service.job(running))["status"] == "RUNNING"
    await service.call("POST", f"{JOBS}/{running}/cancel", expect=202)


@pytest.mark.parametrize("producer", [EMS, "ems-2"], ids=["plugin", "plugin and producer"])
async def test_what_was_planned_before_a_move_stays_in_its_lane(
    service: Service, reader: Served, writer: Served, producer: str
) -> None:
    """A handle moves while one of its writes runs and another waits. Both are executed where they were
    planned, one after the other; a later job goes to the new lane at once, and does not wait for them. A
    retry is planned anew."""
    before, after = reader, writer
    await service.register(before.url, {ELEMENT: EMS})
    before.plugin.script(EMS, Script(statuses=("RUNNING",)))
    running, waiting = [await service.submit(write(name)) for name in ("runs", "waits")]
    await called(before.plugin, "status")
    await planned(service, waiting)
    await move(service, after.url, producer)
    later = await service.submit(write("later"))
    assert (await service.ended(later))["status"] == "FINSHED"
    assert after.taken() == [(later, producer, False)]
    assert (await service.job(waiting))["waitingFor"]["code"] == "LANE_BUSY"
    before.plugin.script(EMS, Script(create=(Step.REFUSE,)))
    assert (await service.ended(running))["status"] == "FINSHED"
    assert (await service.ended(waiting))["status"] == "FAILED"
    assert before.taken() == [(running, EMS, False)]
    again = await service.call("POST", f"{JOBS}/{waiting}/retry", expect=202)
    assert (await service.ended(again["jobId"]))["status"] == "FINSHED"
    assert after.taken()[-1] == (again["jobId"], producer, False)


async def test_an_update_of_the_producer_moves_later_jobs_only(service: Service, reader: Served) -> None:
    """The same for dataProducerIdentifier in an update: the plugin stays, the lane is another."""
    await service.register(reader.url, {ELEMENT: EMS})
    reader.plugin.script(EMS, Script(statuses=("RUNNING",)))
    running = await service.submit(write("runs"))
    await called(reader.plugin, "status")
    updated = {"updatedCmHandles": [{"cmHandle": HANDLE, "dataProducerIdentifier": "ems-2"}]}
    await service.call("POST", REGISTER, updated, expect=200)
    later = await service.submit(write("later"))
    assert (await service.ended(later))["status"] == "FINSHED"
    assert (await service.job(running))["status"] == "RUNNING"
    assert reader.taken() == [(running, EMS, False), (later, "ems-2", False)]
    await service.call("POST", f"{JOBS}/{running}/cancel", expect=202)


async def test_what_was_planned_for_a_handle_that_is_removed_is_executed(
    service: Service, reader: Served
) -> None:
    """A removal takes nothing back. A later job has no owner."""
    await service.register(reader.url, {ELEMENT: EMS})
    reader.plugin.script(EMS, Script(statuses=("RUNNING",)))
    running, waiting = [await service.submit(write(name)) for name in ("runs", "waits")]
    await called(reader.plugin, "status")
    await planned(service, waiting)
    await service.call("POST", REGISTER, {"removedCmHandles": [HANDLE]}, expect=200)
    (failure,) = await service.failures(await _failed(service, write("later")))
    assert failure["reason"] == "UNMATCHED"
    reader.plugin.script(EMS, Script())
    for job_id in (running, waiting):
        assert (await service.ended(job_id))["status"] == "FINSHED"


async def _failed(service: Service, operations: list[dict[str, Any]]) -> str:
    job_id = await service.submit(operations)
    assert (await service.ended(job_id))["status"] == "FAILED"
    return job_id


async def planned(service: Service, job_id: str) -> None:
    """Wait until the job has its sub-jobs."""
    query = "select from data_job where planned and job_id = $1::uuid"
    await until(lambda: service.database.fetch(query, job_id))
