# SPDX-License-Identifier: Apache-2.0
"""Cancel, retry and STOP_ON_ERROR through the whole service; every status transition is an allowed one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ran_datajobs.model import OperationState, Status
from tests.e2e.arrows import arrows, forbidden_arrows, record_arrows
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.kit.whole_service import JOBS, Service, called, whole_service
from tests.tiers import nightly, sampled

EMS = "ems-1"
HANDLES = {"/SubNetwork=X/ManagedElement=1": EMS, "/SubNetwork=X/ManagedElement=2": "ems-2"}
NEVER = ("RUNNING",)


def write(count: int = 2, element: int = 1) -> list[dict[str, Any]]:
    return [
        {"op": "merge", "path": f"/SubNetwork=X/ManagedElement={element}/C={n}", "value": {"a": n},
         "operationId": f"{element}-{n}"}
        for n in range(count)
    ]  # fmt: skip


def read() -> list[dict[str, Any]]:
    return [{"op": "read", "path": "/SubNetwork=X/ManagedElement=1", "operationId": "r"}]


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service whose status transitions are recorded and compared with the allowed ones at the end."""
    async with whole_service(database_url, tmp_path, dmi_retry_timeout="2", sub_job_timeout="60") as running:
        await record_arrows(running.database)
        yield running
        assert await forbidden_arrows(running.database) == []


@pytest.fixture
async def plugin(service: Service) -> AsyncIterator[ScriptedPlugin]:
    scripted = ScriptedPlugin()
    async with scripted.serving() as address:
        await service.register(address, HANDLES)
        yield scripted


async def cancel(service: Service, job_id: str) -> None:
    await service.call("POST", f"{JOBS}/{job_id}/cancel", expect=202)


@pytest.mark.parametrize("operations", [write(), read()], ids=["write", "read"])
async def test_a_running_sub_job_is_deleted_at_its_plugin(
    service: Service, plugin: ScriptedPlugin, operations: list[dict[str, Any]]
) -> None:
    """The sub-job is CANCELLING until the plugin reports CANCELLED. One DELETE is sent, and the operations
    end as the result says."""
    plugin.script(EMS, Script(statuses=NEVER))
    job_id = await service.submit(operations)
    await called(plugin, "status")
    await cancel(service, job_id)
    await service.call("POST", f"{JOBS}/{job_id}/cancel")
    job = await service.ended(job_id)
    assert job["status"] == "CANCELLED"
    assert job["operations"]["notStarted"] == len(operations)
    assert [c.kind for c in plugin.calls].count("cancel") == 1
    assert len(plugin.history) == 1
    assert await arrows(service.database, "data_job", job_id) == [
        (Status.NOT_STARTED, Status.RUNNING),
        (Status.RUNNING, Status.CANCELLING),
        (Status.CANCELLING, Status.CANCELLED),
    ]
    await service.call("POST", f"{JOBS}/{job_id}/cancel", expect=409)


async def test_a_cancel_does_not_wait_for_the_next_poll(
    service: Service, plugin: ScriptedPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sub-job that has run for long is polled rarely. Its DELETE is sent at once, and its polls are
    frequent again."""
    waits: list[int] = []

    def an_hour_at_first(polls: int, _chance: float) -> float:
        waits.append(polls)
        return 3600.0 if len(waits) == 1 else 0.2

    monkeypatch.setattr("ran_datajobs.dispatch.executor.poll_delay", an_hour_at_first)
    plugin.script(EMS, Script(statuses=NEVER, cancel=(Step.NOT_IMPLEMENTED,)))
    job_id = await service.submit(write())
    await called(plugin, "create")
    async with service.database.connection() as connection, asyncio.timeout(30):
        while not await connection.fetchval("select lease is null and due_at > now() from sub_job"):
            await asyncio.sleep(0.02)
        await connection.execute("update sub_job set polls = 40")
    await cancel(service, job_id)
    await called(plugin, "cancel")
    await called(plugin, "status", 2)
    assert waits[1] == 0
    plugin.script(EMS, Script())
    assert (await service.ended(job_id))["status"] == "FINSHED"


CANNOT = (Step.NOT_IMPLEMENTED, Step.REFUSE, Step.LOSE, Step.ERROR, Step.DROP)


@pytest.mark.parametrize("step", sampled(CANNOT, {Step.NOT_IMPLEMENTED, Step.DROP}))
async def test_a_plugin_that_cannot_cancel_runs_to_its_end(
    service: Service, plugin: ScriptedPlugin, step: Step
) -> None:
    """A DELETE is answered with 501, with 4xx, or never with success: the job ends as the plugin ends it."""
    plugin.script(EMS, Script(statuses=NEVER, cancel=(step,)))
    job_id = await service.submit(write())
    await called(plugin, "status")
    await cancel(service, job_id)
    await called(plugin, "cancel")
    assert (await service.job(job_id))["status"] == "CANCELLING"
    plugin.script(EMS, Script(cancel=(step,)))
    job = await service.ended(job_id)
    assert job["status"] == "FINSHED"
    assert job["operations"]["succeeded"] == 2


async def test_an_unrequested_cancel_passes_through_cancelling(
    service: Service, plugin: ScriptedPlugin
) -> None:
    """The plugin reports CANCELLED without a cancel: both transitions are taken. The result of the first
    sub-job says that its operations succeeded, and they do. The result of the second is lost, so the sub-job
    ends CANCELLED."""
    plugin.script(EMS, Script(statuses=("CANCELLED",)))
    plugin.script("ems-2", Script(statuses=("RUNNING", "CANCELLED"), result=(Step.LOSE,)))
    job = await service.ended(await service.submit([*write(), *write(3, element=2)]))
    assert job["status"] == "CANCELLED"
    assert (job["operations"]["succeeded"], job["operations"]["notStarted"]) == (2, 3)
    first, second = await service.sub_jobs(job["jobId"])
    assert (first["status"], second["status"]) == ("FINSHED", "CANCELLED")
    assert await arrows(service.database, "sub_job", second["subJobId"]) == [
        (Status.NOT_STARTED, Status.RUNNING),
        (Status.RUNNING, Status.CANCELLING),
        (Status.CANCELLING, Status.CANCELLED),
    ]
    assert (await arrows(service.database, "data_job", job["jobId"]))[-1] == (
        Status.CANCELLING,
        Status.CANCELLED,
    )


async def test_what_was_not_started_never_starts(service: Service, plugin: ScriptedPlugin) -> None:
    """Jobs are cancelled while they wait behind another job in a lane, wait for a job named in ``after``, or
    are not yet planned: none of their operations is sent, and each ends CANCELLED."""
    plugin.script(EMS, Script(statuses=NEVER))
    first = await service.submit(write(1))
    await called(plugin, "status")
    waiting = await service.submit(write(2))
    blocked = await service.submit(write(3), after=[first])
    unplanned = [await service.submit(write(4)) for _ in range(5)]
    for job_id in (*reversed(unplanned), blocked, waiting):
        await cancel(service, job_id)
    for job_id, count in ((waiting, 2), (blocked, 3), *((job_id, 4) for job_id in unplanned)):
        job = await service.ended(job_id)
        assert job["status"] == "CANCELLED"
        assert job["operations"]["notStarted"] == count
        assert {f["reason"] for f in await service.failures(job_id)} == {"CANCELLED"}
    assert len(plugin.history) == 1
    await cancel(service, first)
    assert (await service.ended(first))["status"] == "CANCELLED"


async def test_a_cancel_ends_what_never_arrived(service: Service, plugin: ScriptedPlugin) -> None:
    """A sub-job whose creates were all refused as busy has not started: the cancel ends it, and no create is
    sent again."""
    plugin.script(EMS, Script(create=(Step.BUSY,)))
    async with service.database.connection() as connection:
        address = await connection.fetchval("select url from dmi_plugin")
    await service.register(address, HANDLES, dmiGiveUp=600)
    job_id = await service.submit(write(2))
    await called(plugin, "create")
    await cancel(service, job_id)
    job = await service.ended(job_id)
    assert (job["status"], job["operations"]["notStarted"]) == ("CANCELLED", 2)
    sent = [c.kind for c in plugin.calls].count("create")
    second = await service.submit(write(1, element=2))
    await service.ended(second)
    assert [c.kind for c in plugin.calls].count("create") == sent + 1


@pytest.mark.parametrize("step", [Step.OBEY, nightly(Step.NOT_IMPLEMENTED), nightly(Step.ERROR)])
async def test_a_plugin_with_bulk_cancel_is_told_of_the_whole_job(service: Service, step: Step) -> None:
    """A job of 300 sub-jobs, of which 100 run and the others wait behind another job. One call cancels the
    100 at the plugin. If the plugin cannot do that, or gives no answer within its time budget, a DELETE is
    sent for each. Waiting sub-jobs are never sent, and the other job continues."""
    count = 300
    scripted = ScriptedPlugin(Script(statuses=NEVER), cancel_all=(step,))
    async with scripted.serving() as address:
        handles = {f"/SubNetwork=B/ManagedElement={n}": f"bulk-{n}" for n in range(count)}
        await service.register(address, handles, bulkCancel=True, dmiGiveUp=1)
        lines = [
            {"op": "merge", "path": f"{each}/C=1", "value": {}, "operationId": n}
            for n, each in enumerate(handles)
        ]
        other = await service.submit(lines[100:])
        await called(scripted, "create", 200)
        job_id = await service.submit(lines)
        await called(scripted, "create", 300)
        await cancel(service, job_id)
        job = await service.ended(job_id)
        kinds = Counter(call.kind for call in scripted.calls)
        assert (job["status"], job["operations"]["notStarted"]) == ("CANCELLED", count)
        assert {each["status"] for each in await service.sub_jobs(job_id)} == {"CANCELLED"}
        assert {f["reason"] for f in await service.failures(job_id)} == {"CANCELLED"}
        assert kinds["create"] == 300
        assert kinds["cancel"] == (0 if step is Step.OBEY else 100)
        assert kinds["cancel all"] == 1 or (step is Step.ERROR and kinds["cancel all"] > 1)
        assert {each.sub_job_id for each in scripted.calls if each.kind == "cancel all"} == {job_id}
        assert (await service.job(other))["status"] == "RUNNING"
        await cancel(service, other)
        assert (await service.ended(other))["status"] == "CANCELLED"


async def test_a_retry_holds_what_did_not_succeed_and_names_its_origin(
    service: Service, plugin: ScriptedPlugin
) -> None:
    """The retry of a partially failed job sends only the failed operations, and those of unknown outcome only
    on request. A job that succeeded has nothing to retry."""
    plugin.script(EMS, Script(outcome=OperationState.FAILED))
    job = await service.ended(await service.submit([*write(2), *write(3, element=2)]))
    assert (job["operations"]["failed"], job["operations"]["succeeded"]) == (2, 3)
    plugin.script(EMS, Script(outcome=OperationState.UNKNOWN))
    answer = await service.call("POST", f"{JOBS}/{job['jobId']}/retry", expect=202)
    second = await service.ended(answer["jobId"])
    assert second["retryOf"] == job["jobId"]
    assert second["operations"] == second["operations"] | {"total": 2, "unknown": 2}
    assert [o.operation_id for o in plugin.history[-1].operations] == ["1-0", "1-1"]
    plugin.script(EMS, Script())
    await service.call("POST", f"{JOBS}/{second['jobId']}/retry", expect=409)
    answer = await service.call("POST", f"{JOBS}/{second['jobId']}/retry?includeUnknown=true", expect=202)
    third = await service.ended(answer["jobId"])
    assert (third["retryOf"], third["status"]) == (second["jobId"], "FINSHED")
    assert len(plugin.history) == 4
    await service.call("POST", f"{JOBS}/{third['jobId']}/retry", expect=409)


async def test_stop_on_error_is_sent_only_to_plugins_that_honour_it(
    service: Service, plugin: ScriptedPlugin
) -> None:
    """Without stopOnError the operations are not sent and fail with MODE_NOT_SUPPORTED; with it, what the
    plugin did not start after its first failure is NOT_STARTED."""
    job = await service.ended(await service.submit(write(2), activationMode="STOP_ON_ERROR"))
    assert job["status"] == "FAILED"
    assert {f["reason"] for f in await service.failures(job["jobId"])} == {"MODE_NOT_SUPPORTED"}
    assert not plugin.history

    honouring = ScriptedPlugin(Script(outcome=OperationState.NOT_STARTED, statuses=("FAILED",)))
    async with honouring.serving() as address:
        await service.register(address, {"/SubNetwork=Y/ManagedElement=1": "ems-y"}, stopOnError=True)
        lines = [line | {"path": line["path"].replace("=X/", "=Y/")} for line in write(3)]
        job = await service.ended(await service.submit(lines, activationMode="STOP_ON_ERROR"))
    assert job["operations"]["notStarted"] == 3
    assert {f["reason"] for f in await service.failures(job["jobId"])} == {"NOT_STARTED"}
    assert len(honouring.history) == 1
