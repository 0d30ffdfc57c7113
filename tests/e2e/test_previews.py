# SPDX-License-Identifier: Apache-2.0
"""Previews through the whole chain: the service, the reference plugin over HTTP, and a simulated network."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ran_datajobs.checkpoints import Checkpoint, on_checkpoint
from ran_datajobs.dmi.publisher import ServiceLink
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.model import Op
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.simulator.network import Network
from tests.kit.commands import datajobs, json_lines
from tests.kit.plugin_parts import served_plugin
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.kit.whole_service import JOBS, Service, whole_service
from tests.unit.test_nrm_effects import Jobs

SITES = 5
EXECUTED = {"CHANGE", "NO_CHANGE", "CREATE", "DELETE"}


def operations(network: Network, seeds: range) -> list[dict[str, Any]]:
    """Random operations on several sites, and one that nobody owns."""
    job = [each for seed in seeds for each in Jobs(network, seed).job(actions=False)]
    job = [each for each in job if each.op is not Op.REPLACE or "#" in each.path]  # of an object: a 400
    lines = [
        {"op": each.op.value, "path": each.path, "operationId": str(number)}
        | ({} if each.op.value == "remove" else {"value": json.loads(bytes(each.value))})  # type: ignore[arg-type]
        for number, each in enumerate(job)
    ]
    return [*lines, {"op": "remove", "path": "/SubNetwork=Mars", "operationId": "nobody"}]


async def outcomes(service: Service, job_id: str) -> dict[str, Any]:
    """The outcomes of a job by operation id."""
    found = (await service.call("GET", f"{JOBS}/{job_id}/outcomes", expect=200))["items"]
    assert len({each["operationId"] for each in found}) == len(found)
    return {each["operationId"]: each for each in found}


async def preview(service: Service, lines: list[dict[str, Any]], **envelope: Any) -> Any:
    """Submit a preview, and return the job when it has ended."""
    answer = await service.call("POST", f"{JOBS}?preview=true", {"data": lines, **envelope}, expect=202)
    return await service.ended(answer["jobId"])


async def test_a_preview_tells_what_the_job_then_does(database_url: str, tmp_path: Path) -> None:
    """Random jobs, with and without STOP_ON_ERROR, are previewed and then executed. A preview changes
    nothing, and every operation of the job ends as its effect said, with the same reason. The finish step
    is interrupted at each of its checkpoints, and each operation still has one outcome."""
    interrupted = {Checkpoint.FINISH_COUNTED, Checkpoint.FINISH_WRITTEN}

    async def interrupt(checkpoint: Checkpoint) -> None:
        if checkpoint in interrupted:
            interrupted.remove(checkpoint)
            raise RuntimeError("interrupted by the test")

    on_checkpoint.set(interrupt)
    network = Network(SITES)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    async with whole_service(database_url, tmp_path / "service") as service, PeerHttp() as http:
        link = ServiceLink(service.root, http)
        async with served_plugin(PluginSettings(tmp_path / "dmi"), elements.get, link, link) as plugin:
            await service.call(
                "POST", "/ncmpInventory/v1/ch", network.registration(plugin, stopOnError=True), expect=200
            )
            for seeds, mode in ((range(6), "BEST_EFFORT"), (range(6, 9), "STOP_ON_ERROR")):
                lines, changes = operations(network, seeds), network.changes
                before = await preview(service, lines, activationMode=mode)
                shown = await outcomes(service, before["jobId"])
                assert network.changes == changes
                assert before["type"] == "PREVIEW"
                assert sum(before["preview"].values()) == len(lines) == len(shown)
                assert before["preview"]["unknown"] == 0
                assert before["reach"]["dmiPlugins"] == 1
                job = await service.ended(await service.submit(lines, activationMode=mode))
                done = await outcomes(service, job["jobId"])
                assert job["operations"] == before["operations"]
                assert job["status"] == before["status"]
                for operation_id, outcome in done.items():
                    effect = shown[operation_id]["effect"]
                    assert (outcome["state"] == "SUCCEEDED") == (effect["kind"] in EXECUTED), operation_id
                    for name in ("state", "reason", "dataProducerId", "path", "op"):
                        assert outcome[name] == shown[operation_id][name], operation_id
                    assert outcome.get("value") == shown[operation_id].get("value")
            assert not interrupted
            printed = await asyncio.to_thread(
                datajobs, "diff", before["jobId"], "--all", DATAJOBS_SERVER=service.root
            )
            assert printed.returncode == 0, printed.stderr
            marked = [line for line in printed.stdout.splitlines() if not line.startswith("    ")]
            assert len(marked) == len(lines)
            assert any(line.startswith("! remove /SubNetwork=Mars") for line in marked)
            manifest = await service.call("GET", before["resultsuri"], expect=200)
            assert sum(each["operations"] for each in manifest["objects"]) == len(lines)
            assert not any("subJobId" in each for each in manifest["objects"])


async def test_what_cannot_be_read_is_unknown_and_only_reads_are_sent(
    database_url: str, tmp_path: Path
) -> None:
    """A plugin that refuses, or whose result has no objects, makes the effects UNKNOWN with the reason of the
    read. Every operation that it gets is a read. A destination gets the outcomes, not what was read."""
    plugin = ScriptedPlugin()
    plugin.script("refuses", Script(create=(Step.REFUSE,)))
    element = "/SubNetwork=A/ManagedElement"
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        handles = {f"{element}={n}": name for n, name in enumerate(("refuses", "obeys"), 1)}
        await service.register(address, handles)
        lines = [
            {"op": "replace", "path": f"{element}=1#/attributes/userLabel", "value": "x"},
            {"op": "merge", "path": f"{element}=2", "value": {"userLabel": "x"}},
            {"op": "action", "path": f"{element}=2#restart", "value": {"input": {}}},
        ]
        body = {"data": lines}
        answer = await service.call(
            "POST", f"{JOBS}?preview=true&destination=copy-of-results", body, expect=202
        )
        job = await service.ended(answer["jobId"])
        shown = await outcomes(service, job["jobId"])
        assert [each["effect"]["kind"] for each in shown.values()] == ["UNKNOWN"] * 3
        assert [each["reason"] for each in shown.values()] == [
            "DMI_REFUSED",
            "RESULT_UNREADABLE",
            "RESULT_UNREADABLE",
        ]
        assert (job["status"], job["preview"]["unknown"]) == ("FAILED", 3)
        assert set(job["reach"].values()) == {0}
        table = await service.bytes_of(f"{service.root}{JOBS}/{job['jobId']}/outcomes", "text/csv")
        assert table.splitlines()[0].endswith(b",value,effect")
        assert table.count(b'"{""kind"":""UNKNOWN"",') == 3
        sent = [each for executed in plugin.history for each in executed.operations]
        assert {each.op.value for each in sent} == {"read"}
        assert all(executed.is_read for executed in plugin.history)
        async with asyncio.timeout(20):
            while (await service.job(job["jobId"]))["deliveryState"] == "PENDING":
                await asyncio.sleep(0.02)
        copies = sorted((tmp_path / "objects" / "copy-of-results").rglob("*.json"))
        assert {each.parent.name for each in copies} == {job["jobId"], "unmatched"}


@pytest.mark.nightly
async def test_a_cancelled_preview_ends_with_unknown_effects(database_url: str, tmp_path: Path) -> None:
    """What was not read is UNKNOWN, CANCELLED; the job is cancelled. Commands submit a preview and show its
    effects."""
    plugin = ScriptedPlugin()
    plugin.script("slow", Script(statuses=("RUNNING",)))
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {"/SubNetwork=A/ManagedElement=1": "slow"})
        lines = [{"op": "merge", "path": "/SubNetwork=A/ManagedElement=1", "value": {"userLabel": "x"}}]
        command = "submit", "-", "--preview", "--output", "json"
        body = json.dumps({"data": lines}).encode()
        done = await asyncio.to_thread(datajobs, *command, stdin=body, DATAJOBS_SERVER=service.root)
        (answer,) = json_lines(done)
        await service.until(answer["jobId"], {"RUNNING"})
        plugin.script("slow", Script(statuses=("CANCELLED",)))
        await service.call("POST", f"{JOBS}/{answer['jobId']}/cancel", expect=202)
        job = await service.ended(answer["jobId"])
        assert (job["status"], job["preview"]["unknown"]) == ("CANCELLED", 1)
        (shown,) = (await outcomes(service, job["jobId"])).values()
        assert (shown["state"], shown["reason"], shown["effect"]["kind"]) == (
            "NOT_STARTED",
            "CANCELLED",
            "UNKNOWN",
        )
        printed = await asyncio.to_thread(
            datajobs, "diff", job["jobId"], "--output", "json", DATAJOBS_SERVER=service.root
        )
        assert [each["effect"]["kind"] for each in json_lines(printed)] == ["UNKNOWN"]
