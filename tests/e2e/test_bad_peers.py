# SPDX-License-Identifier: Apache-2.0
"""Outcome of operations when the plugin misbehaves: no operation is lost, and no outcome is guessed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ran_datajobs.http.ports import free_port
from ran_datajobs.model import OperationState
from tests.e2e.arrows import forbidden_arrows, record_arrows
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.kit.whole_service import JOBS, Service, called, whole_service
from tests.tiers import nightly, sampled

GOOD, BAD = "ems-good", "ems-bad"
HANDLES = {"/SubNetwork=X/ManagedElement=good": GOOD, "/SubNetwork=X/ManagedElement=bad": BAD}


def write(element: str, count: int = 2) -> list[dict[str, Any]]:
    return [
        {"op": "merge", "path": f"/SubNetwork=X/ManagedElement={element}/C={n}", "value": {"a": n},
         "operationId": f"{element}-{n}"}
        for n in range(count)
    ]  # fmt: skip


def read(element: str, count: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "op": "read",
            "path": f"/SubNetwork=X/ManagedElement={element}/C={n}",
            "operationId": f"{element}-{n}",
        }
        for n in range(count)
    ]


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """Short budgets. Every status transition is recorded and compared with the allowed ones at the end."""
    async with whole_service(
        database_url,
        tmp_path,
        dmi_retry_timeout="1.5",
        dmi_timeout="4",  # one thread runs all peers, of which one sends without an end
        dmi_result_timeout="4",
        unknown_write_quarantine="1",
        read_result_idle_timeout="1",
        sub_job_timeout="8",
    ) as running:
        await record_arrows(running.database)
        yield running
        assert await forbidden_arrows(running.database) == []


@pytest.fixture
async def plugin() -> AsyncIterator[tuple[ScriptedPlugin, str]]:
    scripted = ScriptedPlugin()
    async with scripted.serving() as address:
        yield scripted, address


BAD_WRITES: dict[str, tuple[Script, str, str, int]] = {
    "refuses": (Script(create=(Step.REFUSE,)), "FAILED", "DMI_REFUSED", 0),
    "redirects": (Script(create=(Step.REDIRECT,)), "FAILED", "DMI_REFUSED", 0),
    "501": (Script(create=(Step.NOT_IMPLEMENTED,), executes=False), "FAILED", "DMI_REFUSED", 0),
    "500": (Script(create=(Step.ERROR,)), "UNKNOWN", "OUTCOME_UNKNOWN", 1),
    "drops": (Script(create=(Step.DROP,)), "UNKNOWN", "OUTCOME_UNKNOWN", 1),
    "cuts": (Script(create=(Step.CUT,)), "UNKNOWN", "OUTCOME_UNKNOWN", 1),
    "garbage": (Script(create=(Step.GARBAGE,)), "UNKNOWN", "OUTCOME_UNKNOWN", 1),
    "wrong shape": (Script(create=(Step.WRONG_SHAPE,)), "UNKNOWN", "OUTCOME_UNKNOWN", 1),
    "stalls": (Script(create=(Step.STALL,)), "UNKNOWN", "OUTCOME_UNKNOWN", 1),
    "endless": (Script(create=(Step.HUGE,)), "UNKNOWN", "OUTCOME_UNKNOWN", 1),
    "busy for ever": (Script(create=(Step.BUSY,)), "FAILED", "DMI_UNREACHABLE", 0),
    "loses": (Script(status=(Step.LOSE,)), "UNKNOWN", "DMI_LOST_JOB", 1),
    "status 500": (Script(status=(Step.ERROR,)), "UNKNOWN", "DMI_UNREACHABLE", 1),
    "status stalls": (Script(status=(Step.STALL,)), "UNKNOWN", "DMI_UNREACHABLE", 1),
    "status drops": (Script(status=(Step.DROP,)), "UNKNOWN", "DMI_UNREACHABLE", 1),
    "status cut": (Script(status=(Step.CUT,)), "UNKNOWN", "DMI_UNREACHABLE", 1),
    "status garbage": (Script(status=(Step.GARBAGE,)), "UNKNOWN", "DMI_UNREACHABLE", 1),
    "status no JSON": (Script(status=(Step.NOT_JSON,)), "UNKNOWN", "DMI_UNREACHABLE", 1),
    "status of no shape": (Script(status=(Step.WRONG_SHAPE,)), "UNKNOWN", "DMI_UNREACHABLE", 1),
    "unknown word": (Script(statuses=("DONE",)), "UNKNOWN", "DMI_UNREACHABLE", 1),
    "never ends": (Script(statuses=("RUNNING",)), "UNKNOWN", "OUTCOME_UNKNOWN", 1),
    "result 500": (Script(result=(Step.ERROR,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result stalls": (Script(result=(Step.STALL,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result cut": (Script(result=(Step.CUT,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result garbage": (Script(result=(Step.GARBAGE,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result endless": (Script(result=(Step.HUGE,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result 501": (Script(result=(Step.NOT_IMPLEMENTED,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result never there": (Script(result=(Step.NOT_YET,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result drops": (Script(result=(Step.DROP,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result redirects": (Script(result=(Step.REDIRECT,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result refused": (Script(result=(Step.REFUSE,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result no JSON": (Script(result=(Step.NOT_JSON,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result lost": (Script(result=(Step.LOSE,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "lists failed": (Script(outcome=OperationState.FAILED), "FAILED", "STATUS_108", 1),
    "lists not started": (Script(outcome=OperationState.NOT_STARTED), "NOT_STARTED", "NOT_STARTED", 1),
}
"""What a plugin without idempotency does to a write: the operations' state, the reason, times executed."""

BAD_READS: dict[str, tuple[Script, str, str, int]] = {
    "refuses": (Script(create=(Step.REFUSE,)), "FAILED", "DMI_REFUSED", 0),
    "500": (Script(create=(Step.ERROR,)), "FAILED", "DMI_UNREACHABLE", 1),
    "stalls": (Script(create=(Step.STALL,)), "FAILED", "DMI_UNREACHABLE", 1),
    "drops": (Script(create=(Step.DROP,)), "FAILED", "DMI_UNREACHABLE", 1),
    "cuts": (Script(create=(Step.CUT,)), "FAILED", "DMI_UNREACHABLE", 1),
    "garbage": (Script(create=(Step.GARBAGE,)), "FAILED", "DMI_UNREACHABLE", 1),
    "wrong shape": (Script(create=(Step.WRONG_SHAPE,)), "FAILED", "DMI_UNREACHABLE", 1),
    "busy for ever": (Script(create=(Step.BUSY,)), "FAILED", "DMI_UNREACHABLE", 0),
    "loses": (Script(status=(Step.LOSE,)), "FAILED", "DMI_LOST_JOB", 1),
    "status 500": (Script(status=(Step.ERROR,)), "FAILED", "DMI_UNREACHABLE", 1),
    "status stalls": (Script(status=(Step.STALL,)), "FAILED", "DMI_UNREACHABLE", 1),
    "unknown word": (Script(statuses=("DONE",)), "FAILED", "DMI_UNREACHABLE", 1),
    "never ends": (Script(statuses=("RUNNING",)), "UNKNOWN", "OUTCOME_UNKNOWN", 1),
    "result cut": (Script(result=(Step.CUT,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result endless": (Script(result=(Step.HUGE,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result 501": (Script(result=(Step.NOT_IMPLEMENTED,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result refused": (Script(result=(Step.REFUSE,)), "UNKNOWN", "RESULT_UNREADABLE", 1),
    "result no JSON": (Script(result=(Step.NOT_JSON,)), "FAILED", "RESULT_UNREADABLE", 1),
    "result of no shape": (Script(result=(Step.WRONG_SHAPE,)), "FAILED", "RESULT_UNREADABLE", 1),
    "no result": (Script(result=(Step.NOTHING,)), "FAILED", "RESULT_UNREADABLE", 1),
    "lists failed": (Script(outcome=OperationState.FAILED), "FAILED", "STATUS_108", 1),
}
"""The same with reads: repeated where a write would not be; FAILED, for nothing was changed. The twin honours
Idempotency-Key, so a repeat is not executed again."""


@pytest.mark.parametrize(
    ("operations", "table"),
    [
        pytest.param(write, BAD_WRITES, id="writes"),
        pytest.param(read, BAD_READS, id="reads", marks=pytest.mark.nightly),
    ],
)
async def test_every_bad_peer_fails_its_own_operations_with_a_reason(
    service: Service,
    plugin: tuple[ScriptedPlugin, str],
    operations: Any,
    table: dict[str, tuple[Script, str, str, int]],
) -> None:
    """One job for a good plugin and one plugin of every bad kind. The operations of each bad plugin end with
    the reason and in the correct state, those of the good plugin succeed, and no operation is executed more
    often than expected."""
    good, address = plugin
    await service.register(address, HANDLES)
    bad = {name: ScriptedPlugin(script) for name, (script, *_) in table.items()}
    elements = {name: f"bad-{n}" for n, name in enumerate(table)}
    async with contextlib.AsyncExitStack() as serving:
        for name, peer in bad.items():
            url = await serving.enter_async_context(peer.serving())
            await service.register(url, {f"/SubNetwork=X/ManagedElement={elements[name]}": "ems"})
        lines = [*operations("good"), *(line for name in table for line in operations(elements[name]))]
        job = await service.ended(await service.submit(lines))
    assert job["status"] == "PARTIALLY_FAILED"
    assert job["operations"]["succeeded"] == 2
    assert len(good.history) == 1
    found: dict[str, list[tuple[str, str]]] = {}
    for failure in await service.failures(job["jobId"]):
        element = failure["operationId"].rpartition("-")[0]
        found.setdefault(element, []).append((failure["state"], failure["reason"]))
    assert {name: found.pop(elements[name], []) for name in table} == {
        name: [(state, reason)] * 2 for name, (_, state, reason, _) in table.items()
    }
    assert not found
    assert {name: len(peer.history) for name, peer in bad.items()} == {
        name: executed for name, (*_, executed) in table.items()
    }


ODD: dict[str, Script] = {
    "slow": Script(statuses=(*("RUNNING",) * 5, "FINSHED")),
    "backwards": Script(statuses=("NOT_STARTED", "RUNNING", "NOT_STARTED", "FINISHED")),
    "flaps": Script(
        create=(Step.BUSY, Step.OBEY),
        status=(Step.ERROR, Step.OBEY, Step.DROP, Step.OBEY, Step.NOT_JSON, Step.OBEY),
        statuses=("RUNNING", "RUNNING", "FINSHED"),
        result=(Step.CUT, Step.ERROR, Step.OBEY),
    ),
    "says failed": Script(statuses=("FAILED",)),
    "says cancelled": Script(statuses=("RUNNING", "CANCELLED")),
    "says failed in part": Script(statuses=("PARTIALLY_FAILED",)),
}


@pytest.mark.parametrize("operations", [write, nightly(read)])
async def test_what_a_slow_flapping_or_lying_peer_has_done_is_told_as_done(
    service: Service, operations: Any
) -> None:
    """Polls and fetches are retried, and unknown status words are ignored. Where outcomes and status differ,
    the outcomes take precedence. Every create is executed once."""
    odd = {name: ScriptedPlugin(script) for name, script in ODD.items()}
    async with contextlib.AsyncExitStack() as serving:
        for n, peer in enumerate(odd.values()):
            url = await serving.enter_async_context(peer.serving())
            await service.register(
                url, {f"/SubNetwork=X/ManagedElement=odd-{n}": "ems"}, dmiGiveUp=30, subJobTimeout=60
            )
        lines = [line for n in range(len(odd)) for line in operations(f"odd-{n}")]
        job = await service.ended(await service.submit(lines))
    assert (job["status"], job["operations"]["succeeded"]) == ("FINSHED", len(lines))
    assert {name: len(peer.history) for name, peer in odd.items()} == dict.fromkeys(ODD, 1)


async def test_a_dead_plugin_is_not_hammered_and_its_neighbour_does_not_notice(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Forty reads of forty producers at a plugin that closes every connection: all fail when the budget is
    exhausted, and after the first burst of calls only a few probes are made. Another plugin works
    concurrently."""
    connections = 0

    async def drop(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    await service.register(plugin[1], HANDLES)
    async with await asyncio.start_server(drop, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        elements = {f"/SubNetwork=D/ManagedElement={n}": f"dead-{n}" for n in range(40)}
        await service.register(f"http://127.0.0.1:{port}", elements, dmiGiveUp=6)
        lines = [{"op": "read", "path": path, "operationId": path} for path in elements]
        dead = await service.submit(lines)
        async with asyncio.timeout(30):
            while connections < 5:
                await asyncio.sleep(0.01)
        assert (await service.ended(await service.submit(write("good"))))["status"] == "FINSHED"
        assert (await service.job(dead))["status"] == "RUNNING"
        job = await service.ended(dead)
    assert (job["status"], job["operations"]["failed"]) == ("FAILED", 40)
    assert {f["reason"] for f in await service.failures(dead)} == {"DMI_UNREACHABLE"}
    assert any("not called" in s["lastError"] for s in await service.sub_jobs(dead))
    assert connections <= 40 + 10


async def test_a_plugin_that_comes_back_gets_what_waited(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """The first create of each of ten producers breaks off, which opens the circuit. A probe closes it, and
    every operation is executed once."""
    scripted, address = plugin
    elements = {f"/SubNetwork=D/ManagedElement={n}": f"ems-{n}" for n in range(10)}
    for producer in elements.values():
        scripted.script(producer, Script(create=(Step.DROP, Step.OBEY)))
    await service.register(address, elements, idempotent=True, dmiGiveUp=60, subJobTimeout=60)
    lines = [{"op": "merge", "path": path, "value": {"a": 1}, "operationId": path} for path in elements]
    job = await service.ended(await service.submit(lines))
    assert (job["status"], job["operations"]["succeeded"]) == ("FINSHED", 10)
    assert sorted(e.data_producer_id for e in scripted.history) == sorted(elements.values())


CREATE_ANSWERS = (Step.ERROR, Step.DROP, Step.CUT, Step.GARBAGE, Step.WRONG_SHAPE, Step.BUSY)


@pytest.mark.parametrize("step", sampled(CREATE_ANSWERS, {Step.DROP, Step.BUSY}))
async def test_an_idempotent_plugin_gets_the_create_again(
    service: Service, plugin: tuple[ScriptedPlugin, str], step: Step
) -> None:
    """With Idempotency-Key a create of unknown outcome is repeated, and executed once."""
    scripted, address = plugin
    scripted.script(BAD, Script(create=(step, step, Step.OBEY)))
    await service.register(address, HANDLES, idempotent=True, dmiGiveUp=30)
    job = await service.ended(await service.submit(write("bad")))
    assert job["status"] == "FINSHED"
    assert len(scripted.history) == 1
    assert [c.kind for c in scripted.calls].count("create") == 3


@pytest.mark.nightly
async def test_polls_are_repeated_within_the_budget(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Status and result calls that fail are retried, and the job finishes as it does without errors."""
    scripted, address = plugin
    scripted.script(
        BAD,
        Script(
            status=(Step.ERROR, Step.GARBAGE, Step.OBEY),
            statuses=("RUNNING", "FINSHED"),
            result=(Step.BUSY, Step.NOT_YET, Step.NOT_IMPLEMENTED, Step.OBEY),
        ),
    )
    await service.register(address, HANDLES, dmiGiveUp=30)
    job = await service.ended(await service.submit(write("bad")))
    assert job["status"] == "FINSHED"


async def test_a_plugin_that_is_not_there_is_given_up_and_nothing_was_sent(service: Service) -> None:
    """Connection refused for the whole budget: FAILED, DMI_UNREACHABLE."""
    await service.register(f"http://127.0.0.1:{free_port()}", HANDLES)
    job = await service.ended(await service.submit(write("bad")))
    assert job["status"] == "FAILED"
    assert {f["reason"] for f in await service.failures(job["jobId"])} == {"DMI_UNREACHABLE"}
    (sub_job,) = await service.sub_jobs(job["jobId"])
    assert "given up" in sub_job["lastError"]


async def test_a_write_of_unknown_outcome_delays_the_next_one(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """The next write of that producer starts when the quarantine is over; the write of another producer
    continues."""
    scripted, address = plugin
    scripted.script(BAD, Script(create=(Step.DROP, Step.OBEY)))
    await service.register(address, HANDLES)
    first = await service.ended(await service.submit(write("bad", 1)))
    assert first["operations"]["unknown"] == 1
    async with service.database.connection() as connection:
        rows = await connection.fetch("select quarantined_until from sub_job where stage = 'QUARANTINED'")
    (quarantined_until,) = (row["quarantined_until"] for row in rows)
    second = await service.submit(write("bad", 1))
    third = await service.submit(write("good", 1))
    for job_id in (second, third):
        assert (await service.ended(job_id))["status"] == "FINSHED"
    async with service.database.connection() as connection:
        started = await connection.fetchval("select started_at from sub_job where job_id = $1", UUID(second))
    assert started >= quarantined_until


async def test_a_cancel_leaves_what_was_not_started_unsent(
    service: Service, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """The running sub-job is cancelled at the plugin. The sub-job that waits behind it is never sent."""
    scripted, address = plugin
    scripted.script(BAD, Script(statuses=("RUNNING",)))
    await service.register(address, HANDLES, subJobTimeout=60)
    running = await service.submit(write("bad", 1))
    await service.until(running, {"RUNNING"})
    waiting = await service.submit(write("bad", 3))
    await service.call("POST", f"{JOBS}/{waiting}/cancel", expect=202)
    ended = await service.ended(waiting)
    assert ended["status"] == "CANCELLED"
    assert ended["operations"]["notStarted"] == 3
    assert {f["reason"] for f in await service.failures(waiting)} == {"CANCELLED"}
    assert len(scripted.history) == 1
    async with asyncio.timeout(10):
        while not any(c.kind == "create" for c in scripted.calls):
            await asyncio.sleep(0.01)
    await service.call("POST", f"{JOBS}/{running}/cancel", expect=202)
    assert (await service.ended(running))["status"] == "CANCELLED"
    await service.call("POST", f"{JOBS}/{running}/cancel", expect=409)


@pytest.mark.nightly
async def test_a_stalled_plugin_with_many_producers_delays_no_other(
    database_url: str, tmp_path: Path, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """One plugin answers no create, and has more lanes than a worker tries at once. A job of another plugin
    is planned, executed and ended while all of them still wait for their first answer."""
    _, well_address = plugin
    stalled, producers = ScriptedPlugin(Script(create=(Step.STALL,))), 700
    elements = {f"/SubNetwork=S/ManagedElement={n}": f"ems-{n}" for n in range(producers)}
    lines = [{"op": "merge", "path": f"{fdn}/C=1", "value": {"a": 1}, "operationId": fdn} for fdn in elements]
    async with (
        stalled.serving() as stalled_address,
        whole_service(database_url, tmp_path, dmi_timeout="30", dmi_retry_timeout="1") as service,
    ):
        await service.register(stalled_address, elements)
        await service.register(well_address, HANDLES)
        waiting = await service.submit(lines)
        await called(stalled, "create", 10)
        for _ in range(5):
            job = await service.ended(await service.submit(write("good")))
            assert job["status"] == "FINSHED"
        stuck = await service.job(waiting)
        assert stuck["operations"]["pending"] == producers
        await service.call("POST", f"{JOBS}/{waiting}/cancel", expect=202)
