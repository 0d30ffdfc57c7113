# SPDX-License-Identifier: Apache-2.0
"""Commands that print a job's operations, their outcomes, and what the job waits for."""

from __future__ import annotations

import asyncio
import json

import pytest

from ran_datajobs.model import OperationState
from tests.e2e.test_cli import Network
from tests.e2e.test_cli import network as network
from tests.e2e.test_cli import server as server
from tests.kit.commands import json_lines
from tests.kit.plugins.scripted import Script, Step


@pytest.mark.nightly
async def test_operations_are_printed_with_their_outcomes(
    network: Network,
) -> None:
    """``request`` prints the submitted operations, ``outcomes`` prints their outcomes: a table for people,
    lines of JSON for programs, filtered by state, reason, data producer and path."""
    await network.register("good", "bad")
    network.script("bad", Script(statuses=("FAILED",), outcome=OperationState.FAILED))
    job_id = await network.submit("good", "bad", "nowhere")
    assert (await network.run("watch", job_id)).returncode == 1
    printed = json_lines(await network.run("request", job_id, "--output", "json"))
    assert printed == json.loads(network.request("good", "bad", "nowhere"))["data"]
    rows = [row.split() for row in (await network.run("request", job_id)).stdout.splitlines()]
    assert rows[0] == ["OPERATION", "OP", "PATH", "VALUE"]
    assert [rows[1][0], rows[1][1], rows[1][-1]] == ["good", "replace", '"x"']
    found = json_lines(await network.run("outcomes", job_id, "--output", "json"))
    assert {each["operationId"]: each["state"] for each in found} == {
        "good": "SUCCEEDED",
        "bad": "FAILED",
        "nowhere": "FAILED",
    }
    assert {each["value"] for each in found} == {"x"}
    choices = {
        "bad nowhere": ("--state", "failed"),
        "nowhere": ("--reason", "UNMATCHED"),
        "good": ("--below", network.fdn("good")),
        "bad good": [
            part
            for name in ("good", "bad")
            for part in ("--data-producer", network.fdn(name).removeprefix("/ManagedElement="))
        ],
    }
    for wanted, choice in choices.items():
        chosen = json_lines(await network.run("outcomes", job_id, *choice, "--output", "json"))
        assert sorted(each["operationId"] for each in chosen) == wanted.split()
    shown = (await network.run("outcomes", job_id, "--state", "SUCCEEDED")).stdout.splitlines()
    assert shown[0].split() == ["OPERATION", "STATE", "OP", "PATH", "VALUE", "REASON"]
    assert shown[1].split()[:3] == ["good", "succeeded", "replace"]
    assert (await network.run("outcomes", job_id, "--state", "done")).returncode == 2


@pytest.mark.nightly
async def test_status_and_list_say_what_a_job_waits_for(network: Network) -> None:
    """The status says it in words, with the cause, the start and the deadline; the list has the code. After a
    cancel the job shows its time and what ended after it."""
    await network.register("silent")
    network.script("silent", Script(create=(Step.BUSY,)))
    job_id = await network.submit("silent")
    async with asyncio.timeout(60):
        while "waitingFor" not in (json_lines(await network.run("status", job_id, "--output", "json"))[0]):
            pass
    shown = " ".join((await network.run("status", job_id)).stdout.split())
    assert "Waits for the DMI plugin, since 2" in shown
    assert f"DMI plugin {network.address}: " in shown
    assert "; times out at 2" in shown
    (row,) = [row for row in (await network.run("list")).stdout.splitlines() if row.startswith(job_id)]
    assert "PLUGIN" in row
    assert (await network.run("cancel", job_id)).returncode == 0
    assert (await network.run("watch", job_id)).returncode == 1
    shown = " ".join((await network.run("status", job_id)).stdout.split())
    assert "Waits for" not in shown
    assert "0 operations ended after it" in shown
