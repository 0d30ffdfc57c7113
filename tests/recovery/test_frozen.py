# SPDX-License-Identifier: Apache-2.0
"""A worker is frozen (SIGSTOP) until another one has taken over its work, and then resumes (SIGCONT)."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ran_datajobs.checkpoints import Checkpoint
from tests.kit.plugins.scripted import Script
from tests.kit.processes import (
    HANDLES,
    READS,
    TOPIC,
    WRITES,
    Client,
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
from tests.tiers import sampled

CASES = [
    (where, idempotent)
    for where in Checkpoint
    if not where.startswith(("accept", "cancel"))
    for idempotent in (True, False)
]
USUAL = [(Checkpoint.START_MARKED, False)]


async def everything(service: Client, folder: Path, job_ids: list[str]) -> Any:
    """Return everything that clients can read of jobs: rows, sub-jobs, objects and messages.

    A file with a # in its name is not an object: the frozen worker was writing it.
    """
    objects = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "objects").rglob("*"))
        if path.is_file() and "#" not in path.name
    }
    return (
        [await service.job(job_id) for job_id in job_ids],
        [await service.sub_jobs(job_id) for job_id in job_ids],
        objects,
        await service.messages(TOPIC),
    )


@pytest.mark.parametrize(("where", "idempotent"), sampled(CASES, USUAL))
async def test_a_worker_that_was_frozen_spoils_nothing(
    database_url: str, tmp_path: Path, where: Checkpoint, idempotent: bool
) -> None:
    """A worker is frozen at a checkpoint, loses its leases to another one, and resumes: the store, objects
    and topic do not change any more. A plugin with Idempotency-Key executes everything once, any other at
    most once, with outcome UNKNOWN if the create was in flight. A worker that was frozen before it sent a
    create does not send it after it resumes, since its lease has expired. It continues to serve."""
    environ = variables(database_url, tmp_path)
    plugin = TopicPlugin(Script(statuses=("RUNNING", "FINSHED"), honours_key=idempotent))
    async with plugin.serving() as address, api(environ) as service:
        plugin.api = service.root
        await service.register(address, HANDLES, idempotent=idempotent)
        submitted = {}
        for lines in (WRITES, READS):
            answer = await service.call(
                "POST", f"{JOBS}?destination=kafka:{TOPIC}", {"data": lines}, expect=202
            )
            submitted[answer["jobId"]] = lines
        async with process(environ, *signalled("worker", signal.SIGSTOP, where)) as frozen:
            await until_frozen(frozen.pid)
            async with worker(environ):
                for job_id in submitted:
                    await service.ended(job_id)
                    await service.delivered(job_id)
                before = await everything(service, tmp_path, list(submitted))
            frozen.send_signal(signal.SIGCONT)
            later = await service.submit(WRITES)
            assert (await service.ended(later))["operations"]["succeeded"] == len(WRITES) - 1
            frozen.terminate()
            assert await asyncio.wait_for(frozen.wait(), 30) == 0
        after = await everything(service, tmp_path, list(submitted))
        failures = [f for job_id in submitted for f in await service.failures(job_id)]

    objects_of_later = {name for name in after[2] if f"/{later}/" in name}
    assert {name: body for name, body in after[2].items() if name not in objects_of_later} == before[2]
    assert (after[0], after[1], after[3]) == (before[0], before[1], before[3])
    for job_id, lines in submitted.items():
        assert_whole(after[3], job_id, {line["operationId"] for line in lines})
    executed = Counter(
        (e.request_id, o.operation_id) for e in plugin.history if not e.is_read for o in e.operations
    )
    assert set(executed.values()) == {1}
    unknown = [f for f in failures if f["reason"] == "OUTCOME_UNKNOWN"]
    assert len(unknown) + 1 == len(failures)
    assert not (idempotent and unknown)
    if where is Checkpoint.START_MARKED and not idempotent:
        assert unknown
        sent = {str(operation) for job_id, operation in executed if job_id in submitted}
        assert sent.isdisjoint(str(f["operationId"]) for f in unknown)
