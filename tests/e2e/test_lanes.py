# SPDX-License-Identifier: Apache-2.0
"""Lanes through the whole service: one write at a time, concurrent reads, fair share, order, and closed
lanes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ran_datajobs.api import tokens
from ran_datajobs.api.tokens import Role
from tests.e2e.arrows import forbidden_arrows, record_arrows
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.kit.whole_service import JOBS, Service, called, whole_service
from tests.tiers import nightly

EMS = "ems-1"
HANDLES = {"/SubNetwork=X/ManagedElement=1": EMS}
NEVER = ("RUNNING",)


def write(name: object = 0) -> list[dict[str, Any]]:
    path = f"/SubNetwork=X/ManagedElement=1/C={name}"
    return [{"op": "merge", "path": path, "value": {"a": 1}, "operationId": str(name)}]


def read(name: object = 0) -> list[dict[str, Any]]:
    return [{"op": "read", "path": f"/SubNetwork=X/ManagedElement=1/C={name}", "operationId": str(name)}]


@pytest.fixture
async def plugin() -> AsyncIterator[tuple[ScriptedPlugin, str]]:
    scripted = ScriptedPlugin()
    async with scripted.serving() as address:
        yield scripted, address


@pytest.fixture
async def service(
    database_url: str, tmp_path: Path, plugin: tuple[ScriptedPlugin, str]
) -> AsyncIterator[Service]:
    async with whole_service(
        database_url, tmp_path, dmi_retry_timeout="2", unknown_write_quarantine="3000", sub_job_timeout="300"
    ) as running:
        await record_arrows(running.database)
        await running.register(plugin[1], HANDLES)
        yield running
        assert await forbidden_arrows(running.database) == []


async def planned(service: Service, jobs: list[str]) -> None:
    """Wait until every job has its sub-jobs."""
    async with asyncio.timeout(30), service.database.connection() as connection:
        while await connection.fetchval(
            "select count(*) from data_job where job_id = any ($1::uuid[]) and not planned", jobs
        ):
            await asyncio.sleep(0.02)


async def test_one_write_at_a_time_and_four_reads_beside_it(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Six writes and twelve reads of one producer: never two concurrent writes, never more than four
    concurrent reads, reads concurrent with a write, each executed once."""
    scripted, _ = plugin
    scripted.script(EMS, Script(statuses=(*NEVER * 30, "FINSHED")))
    jobs = [await service.submit(write(n)) for n in range(6)]
    jobs += [await service.submit(read(n)) for n in range(12)]
    for job_id in jobs:
        assert (await service.ended(job_id))["status"] == "FINSHED"
    assert sorted(e.request_id for e in scripted.history) == sorted(jobs)
    is_read = {e.sub_job_id: e.is_read for e in scripted.history}
    running: set[str] = set()
    most = {(kind, beside): 0 for kind in (True, False) for beside in (True, False)}
    for call in scripted.calls:
        if call.kind == "create":
            running.add(call.sub_job_id)
        elif call.kind == "result":
            running.discard(call.sub_job_id)
        reads = sum(is_read[s] for s in running)
        writes = len(running) - reads
        most[True, writes > 0] = max(most[True, writes > 0], reads)
        most[False, reads > 0] = max(most[False, reads > 0], writes)
    assert max(most[True, True], most[True, False]) == 4
    assert max(most[False, True], most[False, False]) == 1
    assert most[True, True] > 0


async def test_a_stalled_write_does_not_hold_up_the_reads_beside_it(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """While the plugin does not answer a create, later reads of the same producer are executed."""
    scripted, _ = plugin
    scripted.script(EMS, Script(create=(Step.STALL, Step.OBEY)))
    stalled = await service.submit(write())
    await called(scripted, "create")
    for n in range(3):
        assert (await service.ended(await service.submit(read(n))))["status"] == "FINSHED"
    assert (await service.job(stalled))["status"] == "RUNNING"
    await service.call("POST", f"{JOBS}/{stalled}/cancel", expect=202)


async def test_priority_goes_first_then_the_order_of_submission(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Waiting sub-jobs of a lane start by priority, and within one priority in the order of submission."""
    scripted, _ = plugin
    scripted.script(EMS, Script(statuses=NEVER))
    first = await service.submit(write())
    await called(scripted, "status")
    waiting = [(p, await service.submit(write(p), priority=p)) for p in (4, 0, 9, 4, 7, 9)]
    await planned(service, [job_id for _, job_id in waiting])
    scripted.script(EMS, Script())
    for _, job_id in waiting:
        assert (await service.ended(job_id))["status"] == "FINSHED"
    expected = [job_id for _, job_id in sorted(waiting, key=lambda each: -each[0])]
    assert [e.request_id for e in scripted.history] == [first, *expected]


@pytest.mark.nightly
async def test_waiting_raises_the_priority(service: Service, plugin: tuple[ScriptedPlugin, str]) -> None:
    """A job of priority 0 that has waited fifty minutes starts before a new one of priority 4. A job that has
    waited for days has at most priority 9, so that one of 9 submitted before it starts first."""
    scripted, _ = plugin
    scripted.script(EMS, Script(statuses=NEVER))
    first = await service.submit(write())
    await called(scripted, "status")
    nine = await service.submit(write("nine"), priority=9)
    ages = {"fresh": (4, 0), "fifty": (0, 50), "days": (0, 5000)}
    jobs = {name: await service.submit(write(name), priority=ages[name][0]) for name in ages}
    await planned(service, [nine, *jobs.values()])
    async with service.database.connection() as connection:
        for name, job_id in jobs.items():
            await connection.execute(
                "update sub_job set created_at = created_at - make_interval(mins => $2) where job_id = $1",
                UUID(job_id),
                ages[name][1],
            )
    scripted.script(EMS, Script())
    for job_id in (nine, *jobs.values()):
        await service.ended(job_id)
    expected = [first, nine, jobs["days"], jobs["fifty"], jobs["fresh"]]
    assert [e.request_id for e in scripted.history] == expected


@pytest.mark.nightly
@pytest.mark.parametrize("operations", [write, read], ids=["writes", "reads"])
async def test_clients_take_turns(
    database_url: str, tmp_path: Path, plugin: tuple[ScriptedPlugin, str], operations: Any
) -> None:
    """One client has 60 jobs waiting in a lane when two others submit a few: the clients are served
    round-robin, each in its own order. All jobs are executed once."""
    scripted, address = plugin
    file = tmp_path / "tokens"
    names = ("greedy", "modest", "late")
    token = {name: tokens.add(file, name, Role.SUBMIT) for name in names}
    admin = tokens.add(file, "boss", Role.ADMIN)
    scripted.script(EMS, Script(statuses=NEVER))
    async with whole_service(database_url, tmp_path / "data", tokens_file=str(file), read_slots="1") as root:
        await root.of(admin).register(address, HANDLES)
        clients = {name: root.of(token[name]) for name in names}
        first = await clients["greedy"].submit(operations())
        await called(scripted, "status")
        jobs = {"greedy": [await clients["greedy"].submit(operations(n)) for n in range(60)]}
        jobs["modest"] = [await clients["modest"].submit(operations(n)) for n in range(5)]
        jobs["late"] = [await clients["late"].submit(operations(n)) for n in range(2)]
        every = [job_id for name in names for job_id in jobs[name]]
        await planned(root, every)
        scripted.script(EMS, Script())
        for name in names:
            for job_id in jobs[name]:
                assert (await clients[name].ended(job_id))["status"] == "FINSHED"
    order = [e.request_id for e in scripted.history]
    assert order[0] == first
    assert sorted(order[1:]) == sorted(every)
    for name in names:
        assert [job_id for job_id in order if job_id in set(jobs[name])] == jobs[name]
    owner = {job_id: name for name in names for job_id in jobs[name]}
    turns = [owner[job_id] for job_id in order[1:]]
    assert turns[:6] == ["modest", "late", "greedy"] * 2
    assert turns[6:12] == ["modest", "greedy"] * 3
    assert set(turns[12:]) == {"greedy"}


CROWD = 1000


@pytest.mark.parametrize("operations", [write, nightly(read)], ids=["writes", "reads"])
async def test_a_thousand_jobs_of_one_client_do_not_starve_another_one(
    database_url: str, tmp_path: Path, plugin: tuple[ScriptedPlugin, str], operations: Any
) -> None:
    """One client has 1,000 jobs waiting in a lane when another one submits a single job: at most one of the
    1,000 starts before it."""
    scripted, address = plugin
    file = tmp_path / "tokens"
    token = {name: tokens.add(file, name, Role.SUBMIT) for name in ("greedy", "modest")}
    admin = tokens.add(file, "boss", Role.ADMIN)
    scripted.script(EMS, Script(statuses=NEVER))
    async with whole_service(database_url, tmp_path / "data", tokens_file=str(file), read_slots="1") as root:
        await root.of(admin).register(address, HANDLES)
        greedy, modest = root.of(token["greedy"]), root.of(token["modest"])
        first = await greedy.submit(operations())
        await called(scripted, "status")
        crowd = await greedy.submit(operations(1))
        await planned(root, [crowd])
        await multiply(root, crowd, CROWD)
        other = await modest.submit(operations(2))
        await planned(root, [other])
        scripted.script(EMS, Script())
        assert (await modest.ended(other))["status"] == "FINSHED"
    order = [e.request_id for e in scripted.history]
    assert order[0] == first
    assert order.index(other) <= 2


async def multiply(service: Service, job_id: str, times: int) -> None:
    """Copy a planned job so that it waits ``times`` times, as if it had been submitted that often."""
    columns = """select string_agg(column_name, ', ') from information_schema.columns
                 where table_schema = current_schema and table_name = $1 and is_generated = 'NEVER'"""
    changes = {
        "data_job": "'job_id', md5('job' || n)::uuid",
        "sub_job": "'sub_job_id', md5('sub-job' || n)::uuid, 'job_id', md5('job' || n)::uuid",
    }
    async with service.database.transaction() as connection:
        for table, changed in changes.items():
            names = await connection.fetchval(columns, table)
            statement = f"""insert into {table} ({names}) overriding user value
                select {names} from (
                    select (jsonb_populate_record(r, jsonb_build_object({changed}))).*
                    from {table} r, generate_series(2, $2::integer) n
                    where r.job_id = $1::text::uuid) copies"""
            assert await connection.execute(statement, job_id, times) == f"INSERT 0 {times - 1}"


@pytest.mark.parametrize("end", ["finishes", nightly("fails"), nightly("is cancelled")])
async def test_a_job_starts_only_after_the_ones_it_names(
    service: Service, plugin: tuple[ScriptedPlugin, str], end: str
) -> None:
    """``after``: no operation of the second job is sent before the first job is terminal, however that ends,
    although another producer is free."""
    scripted, address = plugin
    await service.register(address, {"/SubNetwork=Z/ManagedElement=1": "ems-z"})
    scripted.script(EMS, Script(statuses=NEVER))
    first = await service.submit(write())
    other = await service.submit([write()[0] | {"path": "/SubNetwork=Z/ManagedElement=1/C=0"}])
    await service.ended(other)
    second = await service.submit(
        [write()[0] | {"path": "/SubNetwork=Z/ManagedElement=1/C=1"}], after=[first, other]
    )
    await called(scripted, "status", 3)
    await planned(service, [second])
    assert (await service.job(second))["status"] == "NOT_STARTED"
    assert [e.request_id for e in scripted.history if e.request_id == second] == []
    if end == "is cancelled":
        await service.call("POST", f"{JOBS}/{first}/cancel", expect=202)
    else:
        scripted.script(EMS, Script(statuses=("FINSHED",) if end == "finishes" else ("FAILED",)))
    ended = await service.ended(second)
    assert ended["status"] == "FINSHED"
    before = await service.ended(first)
    assert before["endedAt"] <= ended["startedAt"]


async def test_a_lane_closed_by_a_time_out_opens_when_the_write_has_ended(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """A write that never ends and cannot be cancelled is FAILED, its operations UNKNOWN. The next write
    starts when the plugin reports that the first one is terminal, before the quarantine is over."""
    scripted, address = plugin
    await service.register(address, HANDLES, subJobTimeout=0.5)
    scripted.script(EMS, Script(statuses=NEVER, cancel=(Step.NOT_IMPLEMENTED,)))
    first = await service.ended(await service.submit(write()))
    assert (first["status"], first["operations"]["unknown"]) == ("FAILED", 1)
    assert {f["reason"] for f in await service.failures(first["jobId"])} == {"OUTCOME_UNKNOWN"}
    assert [c.kind for c in scripted.calls].count("cancel") == 1
    polls = [c.kind for c in scripted.calls].count("status")
    second = await service.submit(write(1))
    await called(scripted, "status", polls + 2)
    assert (await service.job(second))["status"] == "NOT_STARTED"
    assert len(scripted.history) == 1
    scripted.script(EMS, Script())
    assert (await service.ended(second))["status"] == "FINSHED"
    assert [c.kind for c in scripted.calls].count("cancel") == 1


@pytest.mark.parametrize("behind", [nightly(1), 2])
async def test_a_write_behind_a_timed_out_one_waits_for_its_end(
    service: Service, plugin: tuple[ScriptedPlugin, str], behind: int
) -> None:
    """Writes wait in a lane when the one before them times out and its DELETE is answered 501, so that it may
    still run. The worker continues to poll its status. The next write starts only when that status is
    terminal, and the others follow one at a time."""
    scripted, address = plugin
    await service.register(address, HANDLES, subJobTimeout=2)
    scripted.script(EMS, Script(statuses=NEVER, cancel=(Step.NOT_IMPLEMENTED,)))
    first = await service.submit(write())
    await called(scripted, "create")
    waiting = [await service.submit(write(n + 1)) for n in range(behind)]
    await planned(service, waiting)
    assert [c.kind for c in scripted.calls].count("cancel") == 0
    ended = await service.ended(first)
    assert (ended["status"], ended["operations"]["unknown"]) == ("FAILED", 1)
    await called(scripted, "status", [c.kind for c in scripted.calls].count("status") + 3)
    assert [(await service.job(job_id))["status"] for job_id in waiting] == ["NOT_STARTED"] * behind
    assert [e.request_id for e in scripted.history] == [first]
    scripted.script(EMS, Script())
    for job_id in waiting:
        assert (await service.ended(job_id))["status"] == "FINSHED"
    assert [e.request_id for e in scripted.history] == [first, *waiting]
    assert [c.kind for c in scripted.calls].count("cancel") == 1
    of_first, *others = [e.sub_job_id for e in scripted.history]
    order = [c.sub_job_id for c in scripted.calls]
    assert min(map(order.index, others)) > max(n for n, each in enumerate(order) if each == of_first)


@pytest.mark.nightly
async def test_a_write_behind_one_that_may_run_waits_for_the_quarantine(
    database_url: str, tmp_path: Path, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """As above, but the status of the first write never becomes terminal: the second one, which already waits
    in the lane, starts when the quarantine is over."""
    scripted, address = plugin
    scripted.script(EMS, Script(statuses=NEVER, cancel=(Step.NOT_IMPLEMENTED,)))
    async with whole_service(
        database_url, tmp_path, unknown_write_quarantine="1", sub_job_timeout="2"
    ) as service:
        await service.register(address, HANDLES)
        first = await service.submit(write())
        await called(scripted, "create")
        second = await service.submit(write(1))
        await planned(service, [second])
        assert [c.kind for c in scripted.calls].count("cancel") == 0
        assert (await service.ended(first))["operations"]["unknown"] == 1
        await called(scripted, "create", 2)
        scripted.script(EMS, Script())
        assert (await service.ended(second))["status"] == "FINSHED"
        async with service.database.connection() as connection:
            started = await connection.fetchval("select started_at from sub_job where job_id = $1", second)
            over = await connection.fetchval("select quarantined_until from sub_job where job_id = $1", first)
    assert started >= over
    assert [e.request_id for e in scripted.history] == [first, second]


async def test_a_time_out_whose_delete_was_taken_leaves_the_lane_open(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """The plugin accepts the DELETE: the write is still FAILED and UNKNOWN, and the next one starts."""
    scripted, address = plugin
    await service.register(address, HANDLES, subJobTimeout=0.5)
    scripted.script(EMS, Script(statuses=NEVER))
    first = await service.ended(await service.submit(write()))
    assert (first["status"], first["operations"]["unknown"]) == ("FAILED", 1)
    scripted.script(EMS, Script())
    assert (await service.ended(await service.submit(write(1))))["status"] == "FINSHED"
    assert [c.kind for c in scripted.calls].count("cancel") == 1


@pytest.mark.nightly
async def test_a_lane_closed_by_silence_opens_when_the_plugin_is_back(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Polls are not answered for the whole budget: the write is UNKNOWN and the lane closed. The plugin has
    lost the job when it is back, and the next write starts. Reads are never blocked."""
    scripted, _ = plugin
    scripted.script(EMS, Script(status=(Step.ERROR,)))
    first = await service.ended(await service.submit(write()))
    assert (first["status"], first["operations"]["unknown"]) == ("FAILED", 1)
    second = await service.submit(write(1))
    polls = [c.kind for c in scripted.calls].count("status")
    await called(scripted, "status", polls + 1)
    assert len(scripted.history) == 1
    scripted.script(EMS, Script(status=(Step.LOSE, Step.OBEY)))
    assert (await service.ended(second))["status"] == "FINSHED"


async def test_a_status_push_makes_it_poll_at_once(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """A sub-job whose next poll is due in an hour ends at once when its plugin pushes a status. The push only
    triggers a poll; the pushed status is ignored."""
    scripted, _ = plugin
    scripted.script(EMS, Script(statuses=NEVER))
    job_id = await service.submit(write())
    await called(scripted, "status", 2)
    await _put_off(service, job_id)
    scripted.script(EMS, Script(statuses=("PARTIALLY_FAILED",)))
    (sub_job,) = await service.sub_jobs(job_id)
    push = {"dataProducerJobId": sub_job["dataProducerJobId"], "status": "CANCELLED"}
    await service.call("POST", f"/ncmp/v1/subJobs/{sub_job['subJobId']}/status", push, expect=204)
    assert (await service.ended(job_id))["status"] == "FINSHED"  # as the outcomes say


async def _put_off(service: Service, job_id: str) -> None:
    """Postpone the next poll by an hour, once no worker has a lease on the sub-job."""
    put_off = (
        "update sub_job set due_at = due_at + interval '1 hour'"
        " where job_id = $1 and lease is null and due_at > now() returning due_at"
    )
    async with asyncio.timeout(30), service.database.connection() as connection:
        while await connection.fetchval(put_off, UUID(job_id)) is None:
            await asyncio.sleep(0.02)
