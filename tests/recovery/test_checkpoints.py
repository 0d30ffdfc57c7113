# SPDX-License-Identifier: Apache-2.0
"""Processes are killed at every named checkpoint; other processes take over, and the counts are right.

The tests expire the leases of a killed worker instead of waiting for their timeout. The tests of the
database, machines and frozen workers cover the wait of a worker that takes over.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.http.ports import free_port
from tests.kit.plugins.scripted import Script, ScriptedPlugin
from tests.kit.processes import (
    HANDLES,
    PATIENCE,
    READS,
    TOPIC,
    WRITES,
    TopicPlugin,
    api,
    assert_whole,
    process,
    signalled,
    until_frozen,
    variables,
    worker,
)
from tests.kit.whole_service import JOBS
from tests.kit.worker_parts import void_leases
from tests.tiers import nightly, sampled

WORKERS = [c for c in Checkpoint if c.split(".")[0] in ("plan", "start", "track", "collect", "finish")]
LATE_CREATE = (Checkpoint.START_MARKED, Checkpoint.START_SENT)
CASES = [(where, idempotent) for where in WORKERS for idempotent in (True, False)]
USUAL = [
    (Checkpoint.PLAN_STORED, False),
    (Checkpoint.START_SENT, True),
    (Checkpoint.START_SENT, False),
    (Checkpoint.TRACK_REPORTED, True),
    (Checkpoint.COLLECT_WRITTEN, False),
    (Checkpoint.FINISH_COUNTED, True),
]
TOPICS = [c for c in Checkpoint if c.split(".")[0] in ("arrival", "deliver")]
USUAL_TOPICS = (Checkpoint.ARRIVAL_WRITTEN, Checkpoint.DELIVER_PUBLISHED)
CANCELS = [Checkpoint.CANCEL_SENT, Checkpoint.CANCEL_RECORDED]
WHOLE_CANCELS = [Checkpoint.BULK_CANCEL_SENT]
SIGNALS = [signal.SIGKILL, nightly(signal.SIGSTOP)]


def test_every_checkpoint_is_killed_at() -> None:
    """``make nightly`` kills a process at every checkpoint, ``make test`` at one of each stage."""
    accepting = {Checkpoint.ACCEPT_CHECKED, Checkpoint.ACCEPT_STORED}
    killed = {where for where, _ in CASES} | {*TOPICS, *CANCELS, *WHOLE_CANCELS} | accepting
    assert killed == set(Checkpoint)
    usual = {where for where, _ in USUAL} | {*USUAL_TOPICS, CANCELS[0], *WHOLE_CANCELS} | accepting
    stages = {where.split(".")[0] for where in Checkpoint}
    assert {where.split(".")[0] for where in usual} == stages


@pytest.mark.parametrize(("where", "idempotent"), sampled(CASES, USUAL))
async def test_a_worker_killed_at_a_checkpoint_loses_nothing(
    database_url: str, tmp_path: Path, where: Checkpoint, idempotent: bool
) -> None:
    """Two jobs for two producers: the worker dies at the checkpoint, the next one takes over once the leases
    have expired, and finishes both. Each operation is executed once; only a create that was in flight at a
    plugin without idempotency ends UNKNOWN."""
    environ = variables(database_url, tmp_path)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING", "FINSHED"), honours_key=idempotent))
    async with plugin.serving() as address, api(environ) as service:
        await service.register(address, HANDLES, idempotent=idempotent)
        submitted = [await service.submit(WRITES), await service.submit(WRITES)]
        async with process(environ, *signalled("worker", signal.SIGKILL, where)) as killed:
            assert await asyncio.wait_for(killed.wait(), PATIENCE) == -signal.SIGKILL
        await void_leases(service.database)
        async with worker(environ):
            jobs = [await service.ended(job_id) for job_id in submitted]
            failures = [f for job_id in submitted for f in await service.failures(job_id)]
            responses = [r for job in jobs for r in await service.responses(job)]

    executed = Counter((e.request_id, o.operation_id) for e in plugin.history for o in e.operations)
    assert set(executed.values()) == {1}
    assert len(responses) == 2 * len(WRITES)
    assert sum(f["reason"] == "UNMATCHED" for f in failures) == 2
    unknown = [f for f in failures if f["reason"] == "OUTCOME_UNKNOWN"]
    assert len(unknown) + 2 == len(failures)
    succeeded = sum(job["operations"]["succeeded"] for job in jobs)
    assert succeeded + len(unknown) + 2 == 2 * len(WRITES)
    if idempotent:
        assert not unknown
    elif where in LATE_CREATE:
        assert unknown
    if not unknown:
        assert len(executed) == 2 * (len(WRITES) - 1)


@pytest.mark.parametrize("where", sampled(TOPICS, USUAL_TOPICS))
async def test_a_topic_gets_every_message_once_when_a_worker_dies(
    database_url: str, tmp_path: Path, where: Checkpoint
) -> None:
    """A write and a read, whose results come over the internal topic, are delivered to a topic; the worker
    dies while it consumes or publishes messages. The topic has each message once, in order, without a gap."""
    environ = variables(database_url, tmp_path)
    plugin = TopicPlugin(Script(statuses=("RUNNING", "FINSHED")))
    async with plugin.serving() as address, api(environ) as service:
        plugin.api = service.root
        await service.register(address, HANDLES, idempotent=True)
        submitted = {}
        for lines in (WRITES, READS):
            answer = await service.call(
                "POST", f"{JOBS}?destination=kafka:{TOPIC}", {"data": lines}, expect=202
            )
            submitted[answer["jobId"]] = lines
        async with process(environ, *signalled("worker", signal.SIGKILL, where)) as killed:
            assert await asyncio.wait_for(killed.wait(), PATIENCE) == -signal.SIGKILL
        await void_leases(service.database)
        async with worker(environ):
            for job_id, lines in submitted.items():
                job = await service.ended(job_id)
                assert job["operations"]["succeeded"] == sum("=Y" not in str(line["path"]) for line in lines)
                assert (await service.delivered(job_id))["deliveryState"] == "DELIVERED"
        messages = await service.messages(TOPIC)
    for job_id, lines in submitted.items():
        assert_whole(messages, job_id, {line["operationId"] for line in lines})


@pytest.mark.parametrize("where", sampled(CANCELS, CANCELS[:1]))
@pytest.mark.parametrize("signum", SIGNALS)
async def test_a_cancel_is_carried_out_when_the_worker_that_tells_it_dies(
    database_url: str, tmp_path: Path, where: Checkpoint, signum: signal.Signals
) -> None:
    """A running job of two producers is cancelled; the worker dies while it sends a DELETE to one of their
    plugins, or is frozen there and resumed after the end of the job. The next worker sends both DELETEs and
    ends the job CANCELLED, no operation done; nothing is executed twice and nothing changes afterwards."""
    environ = variables(database_url, tmp_path)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING",), honours_key=False))
    async with plugin.serving() as address, api(environ) as service:
        await service.register(address, HANDLES)
        async with process(environ, *signalled("worker", signum, where)) as lost:
            job_id = await service.submit(WRITES)
            async with asyncio.timeout(PATIENCE):
                while (
                    sum(each["dataProducerJobId"] is not None for each in await service.sub_jobs(job_id)) < 2
                ):
                    await asyncio.sleep(0.02)
            await service.call("POST", f"{JOBS}/{job_id}/cancel", expect=202)
            if signum is signal.SIGKILL:
                assert await asyncio.wait_for(lost.wait(), PATIENCE) == -signum
                await void_leases(service.database)
            else:
                await until_frozen(lost.pid)
            async with worker(environ):
                job = await service.ended(job_id)
                if signum is signal.SIGSTOP:
                    lost.send_signal(signal.SIGCONT)
                    lost.terminate()
                    assert await asyncio.wait_for(lost.wait(), PATIENCE) == 0
            assert await service.job(job_id) == job
    assert job["status"] == "CANCELLED"
    assert job["operations"]["notStarted"] == len(WRITES) - 1
    assert len(plugin.history) == 2
    cancelled = Counter(call.data_producer_id for call in plugin.calls if call.kind == "cancel")
    assert set(cancelled) == set(HANDLES.values())
    assert max(cancelled.values()) <= 2


@pytest.mark.parametrize("where", [*WHOLE_CANCELS, nightly(None)])
@pytest.mark.parametrize("signum", SIGNALS)
async def test_a_cancel_of_a_whole_job_is_told_when_the_worker_that_tells_it_dies(
    database_url: str, tmp_path: Path, where: Checkpoint | None, signum: signal.Signals
) -> None:
    """A running job of two producers of a plugin with bulkCancel is cancelled; the worker dies, or is frozen,
    after the plugin has answered and before that is recorded, or before the call (None). The next worker
    sends the DELETE of the job and ends the job CANCELLED without a DELETE of a sub-job."""
    environ = variables(database_url, tmp_path)
    plugin = ScriptedPlugin(Script(statuses=("RUNNING",), honours_key=False))
    command = signalled("worker", signum, where) if where else ("ran_datajobs", "serve-worker")
    async with plugin.serving() as address, api(environ) as service:
        await service.register(address, HANDLES, bulkCancel=True)
        async with process(environ, *command) as lost:
            job_id = await service.submit(WRITES)
            async with asyncio.timeout(PATIENCE):
                while (
                    sum(each["dataProducerJobId"] is not None for each in await service.sub_jobs(job_id)) < 2
                ):
                    await asyncio.sleep(0.02)
            if where is None:
                lost.send_signal(signum)
            await service.call("POST", f"{JOBS}/{job_id}/cancel", expect=202)
            if signum is signal.SIGKILL:
                assert await asyncio.wait_for(lost.wait(), PATIENCE) == -signum
                await void_leases(service.database)
            else:
                await until_frozen(lost.pid)
            async with process(environ, "ran_datajobs", "serve-worker"):
                job = await service.ended(job_id)
                if signum is signal.SIGSTOP:
                    lost.send_signal(signal.SIGCONT)
                    lost.terminate()
                    assert await asyncio.wait_for(lost.wait(), PATIENCE) == 0
            assert await service.job(job_id) == job
    assert (job["status"], job["operations"]["notStarted"]) == ("CANCELLED", len(WRITES) - 1)
    kinds = Counter(call.kind for call in plugin.calls)
    assert kinds["create"] == 2
    assert kinds["cancel"] == 0
    assert kinds["cancel all"] == (1 if where is None else 2)


@pytest.mark.parametrize("where", [Checkpoint.ACCEPT_CHECKED, Checkpoint.ACCEPT_STORED])
async def test_an_api_killed_while_it_accepts_makes_one_job(
    database_url: str, tmp_path: Path, where: Checkpoint
) -> None:
    """The API dies before or after it stores the job, and before it answers 202. The client repeats the
    request under its Idempotency-Key: there is one job, and it finishes."""
    environ = variables(database_url, tmp_path)
    plugin = ScriptedPlugin(Script())
    async with plugin.serving() as address, api(environ | variables(database_url, tmp_path)) as service:
        await service.register(address, HANDLES)
        url = f"http://127.0.0.1:{environ['DATAJOBS_PORT']}{JOBS}"
        async with (
            aiohttp.ClientSession(headers={"Idempotency-Key": "once"}) as session,
            process(environ, *signalled("api", signal.SIGKILL, where)) as killed,
        ):
            while killed.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.post(url, json={"data": WRITES}) as answer:
                        assert answer.status != 202, "it was to die before"
                await asyncio.sleep(0.02)
            assert killed.returncode == -signal.SIGKILL
        stored = (await service.call("GET", JOBS, expect=200))["items"]
        assert len(stored) == int(where is Checkpoint.ACCEPT_STORED)
        async with (
            aiohttp.ClientSession(headers={"Idempotency-Key": "once"}) as session,
            session.post(service.root + JOBS, json={"data": WRITES}) as answer,
        ):
            assert answer.status == 202
            job_id = (await answer.json())["jobId"]
        async with worker(environ):
            job = await service.ended(job_id)
        assert job["operations"]["succeeded"] == len(WRITES) - 1
        listed = (await service.call("GET", JOBS, expect=200))["items"]
        assert [each["jobId"] for each in listed] == [job_id]


@pytest.mark.nightly
@pytest.mark.parametrize("where", [Checkpoint.ACCEPT_CHECKED, Checkpoint.ACCEPT_STORED])
async def test_a_write_of_onaps_test_interface_is_executed_once(
    database_url: str, tmp_path: Path, where: Checkpoint
) -> None:
    """The API dies before or after it stores the job. The client repeats the write under the same id, and
    gets the answer for the one job, which the plugin executed once for each data producer."""
    environ = variables(database_url, tmp_path, onap_test_api="1")
    other = environ | {"DATAJOBS_PORT": str(free_port())}
    plugin = ScriptedPlugin(Script())
    write = "/do-not-use/dataJobs/once/write"
    body = {"dataJobMetadata": {}, "dataJobWriteRequest": {"data": WRITES}}
    async with plugin.serving() as address, api(other) as service, aiohttp.ClientSession() as session:
        await service.register(address, HANDLES)
        url = f"http://127.0.0.1:{environ['DATAJOBS_PORT']}{write}"
        async with process(environ, *signalled("api", signal.SIGKILL, where)) as killed:
            while killed.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.post(url, json=body) as answer:
                        assert answer.status != 200, "it was to die before"
                await asyncio.sleep(0.02)
            assert killed.returncode == -signal.SIGKILL
        async with worker(environ):
            sub_jobs = await service.call("POST", write, body, expect=200)
            (listed,) = (await service.call("GET", JOBS, expect=200))["items"]
            job = await service.ended(listed["jobId"])
    assert {each["dataProducerId"] for each in sub_jobs} == {"ems-0", "ems-1"}
    assert all(each["subJobId"] for each in sub_jobs)
    assert (job["name"], job["operations"]["succeeded"]) == ("once", len(WRITES) - 1)
    assert len(plugin.history) == 2
