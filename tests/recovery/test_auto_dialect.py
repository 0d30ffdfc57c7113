# SPDX-License-Identifier: Apache-2.0
"""Workers are killed while they find out the dialect of a plugin: no operation is lost or executed twice."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.plugins import wire
from tests.kit.plugins.scripted import Manner, Script, ScriptedPlugin
from tests.kit.processes import HANDLES, PATIENCE, WRITES, api, process, signalled, variables, worker
from tests.kit.worker_parts import rows, void_leases
from tests.tiers import nightly

ONAP = (wire.Dialect.ONAP,)
CASES = [
    nightly((Checkpoint.START_SENT, True)),
    (Checkpoint.START_SENT, False),
    nightly((Checkpoint.START_RECORDED, False)),
    nightly((Checkpoint.START_MARKED, True)),
    nightly((Checkpoint.TRACK_REPORTED, False)),
]


@pytest.mark.parametrize(("where", "idempotent"), CASES)
async def test_a_worker_killed_at_an_onap_plugin_loses_nothing(
    database_url: str, tmp_path: Path, where: Checkpoint, idempotent: bool
) -> None:
    """A plugin that answers the seed's create with 404 has accepted ONAP's; the worker dies before that, or
    the dialect, is recorded. The next one repeats a create only where that is safe, and polls what was
    recorded in the dialect in which it was accepted: no other call of a sub-job is in the seed's."""
    environ = variables(database_url, tmp_path)
    plugin = ScriptedPlugin(
        Script(statuses=("RUNNING", "FINSHED"), honours_key=idempotent), manner=Manner(speaks=ONAP)
    )
    async with plugin.serving() as address, api(environ) as service:
        await service.register(address, HANDLES, idempotent=idempotent)
        job_id = await service.submit(WRITES)
        async with process(environ, *signalled("worker", signal.SIGKILL, where)) as killed:
            assert await asyncio.wait_for(killed.wait(), PATIENCE) == -signal.SIGKILL
        if where is Checkpoint.START_RECORDED:
            (row,) = await rows(service.database, "select found_dialect from dmi_plugin")
            assert row["found_dialect"] is None
            found = await rows(
                service.database, "select dialect, stage from sub_job where data_producer_job_id is not null"
            )
            assert {(each["dialect"], each["stage"]) for each in found} == {("onap", "TRACKING")}
        await void_leases(service.database)
        async with worker(environ):
            job = await service.ended(job_id)
            failures = await service.failures(job_id)
            again = await service.submit(WRITES)
            assert (await service.ended(again))["operations"]["succeeded"] == len(WRITES) - 1
        (row,) = await rows(service.database, "select found_dialect from dmi_plugin")
        assert row["found_dialect"] == "onap"

    executed = Counter((e.request_id, o.operation_id) for e in plugin.history for o in e.operations)
    assert set(executed.values()) == {1}
    unknown = [each for each in failures if each["reason"] == "OUTCOME_UNKNOWN"]
    assert len(unknown) + 1 == len(failures)
    assert job["operations"]["succeeded"] + len(unknown) == len(WRITES) - 1
    if idempotent:
        assert not unknown
    elif where is Checkpoint.START_SENT:
        assert unknown
    others = [each for each in plugin.received if each.path.startswith("/dmi/v1/dataJob/")]
    assert {each.method for each in others} == {"POST"}
