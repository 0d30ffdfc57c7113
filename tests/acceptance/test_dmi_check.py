# SPDX-License-Identifier: Apache-2.0
"""``datajobs dmi-check`` against real plugins: ours keeps every promise, a broken one is told where."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from ran_datajobs.dmi.conformance import CHECKS
from ran_datajobs.dmi.scripted import Script, ScriptedPlugin, Step
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.job import OperationState
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from tests.acceptance.commands import datajobs, json_lines
from tests.contracts.plugin_parts import KeptMessages, served_plugin

PRODUCER, FDN = layout.data_producer_of(1), "/" + layout.element_key(1)
WELL = Script(statuses=("NOT_STARTED", "RUNNING", "FINSHED"), refuses="dmi-check-none")


@dataclasses.dataclass(frozen=True)
class Told:
    """What the command said: its exit status, and per check the verdict and the note."""

    status: int
    verdicts: dict[str, str]
    notes: dict[str, str]

    def those(self, verdict: str) -> set[str]:
        return {name for name, found in self.verdicts.items() if found == verdict}


async def check(url: str, *options: str) -> Told:
    """Run the command in a process of its own."""
    done = await asyncio.to_thread(
        datajobs, "dmi-check", url, "--output", "json", "--patience", "5", *options
    )
    lines: list[Any] = json_lines(done)
    assert done.returncode in (0, 1), done.stderr
    assert [line["check"] for line in lines] == list(CHECKS)
    return Told(
        done.returncode,
        {line["check"]: line["verdict"] for line in lines},
        {line["check"]: line["note"] for line in lines},
    )


@pytest.mark.parametrize("dialect", ["seed", "onap"])
async def test_our_plugin_keeps_every_promise(tmp_path: Path, dialect: str) -> None:
    """The reference plugin over a simulated network passes all checks in both dialects, and nothing has
    changed in the network."""
    network = Network(25)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    before = dict(network.walk())
    messages = KeptMessages()
    async with served_plugin(PluginSettings(tmp_path / "dmi"), elements.get, messages) as url:
        told = await check(url, "--data-producer", PRODUCER, "--fdn", FDN, "--dialect", dialect)
    assert told.those("holds") == set(CHECKS), (told.verdicts, told.notes)
    assert told.status == 0
    assert dict(network.walk()) == before
    assert len(messages.messages) == 1, "the read was published"


async def test_without_an_object_what_needs_one_is_skipped(tmp_path: Path) -> None:
    """A data producer alone is enough for all but the write that succeeds; the line says what it needs."""
    network = Network(25)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    async with served_plugin(PluginSettings(tmp_path / "dmi"), elements.get) as url:
        told = await check(url, "--data-producer", PRODUCER)
    assert told.those("skipped") == {"written"}
    assert "--fdn" in told.notes["written"]
    assert told.status == 0


ALL_THAT_NEED_AN_END = {
    "same-end", "write-result", "written", "failure", "stop-on-error", "read", "cancel",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fails", "skipped"),
    [
        ({}, set(), set()),
        ({"honours_key": False}, {"repeat"}, {"key-conflict"}),
        ({"stops": False}, {"stop-on-error"}, set()),
        ({"statuses": ("RUNNING", "NOT_STARTED", "FINSHED")}, {"status"}, set()),
        ({"statuses": ("WORKING",)}, {"status"}, ALL_THAT_NEED_AN_END),
        ({"status": (Step.ERROR,)}, {"status"}, ALL_THAT_NEED_AN_END),
        (
            {"result": (Step.WRONG_SHAPE,)},
            {"write-result", "read"},
            {"written", "failure", "stop-on-error"},
        ),
        ({"refuses": ""}, {"failure", "stop-on-error"}, set()),
        ({"outcome": OperationState.FAILED}, {"written"}, set()),
        ({"cancel": (Step.NOT_IMPLEMENTED,)}, set(), {"cancel"}),
        ({"cancel": (Step.ERROR,)}, {"cancel"}, set()),
        (
            {"create": (Step.ERROR,)},
            {"create", "oversize"},
            {*ALL_THAT_NEED_AN_END, "status", "repeat", "key-conflict", "another-key"},
        ),
    ],
)
async def test_what_a_plugin_breaks_is_told_and_nothing_else(
    change: dict[str, Any], fails: set[str], skipped: set[str]
) -> None:
    """Each misbehaviour makes the lines fail that are about it; what cannot be tried is skipped."""
    plugin = ScriptedPlugin(structs.replace(WELL, **change))
    async with plugin.serving() as url:
        told = await check(url, "--data-producer", PRODUCER, "--fdn", FDN)
    assert told.those("fails") == fails, told.notes
    assert told.those("skipped") == skipped, told.notes
    assert told.status == (1 if fails else 0)


async def test_nobody_there_and_wrong_use_have_their_own_exit_status(free_port: int) -> None:
    """3 when the plugin cannot be reached, 2 for what is no dialect, address or FDN; one line says why."""
    address = f"http://127.0.0.1:{free_port}"
    for status, arguments in (
        (3, (address,)),
        (2, (address, "--dialect", "netconf")),
        (2, ("ftp://plugin",)),
        (2, (address, "--fdn", "no name")),
    ):
        done = await asyncio.to_thread(datajobs, "dmi-check", *arguments)
        assert (done.returncode, done.stdout) == (status, ""), done.stderr
        assert len(done.stderr.splitlines()) == 1


async def test_people_get_a_table(tmp_path: Path) -> None:
    """One line per check under headings, each with its promise."""
    async with ScriptedPlugin(WELL).serving() as url:
        done = await asyncio.to_thread(datajobs, "dmi-check", url, "--fdn", FDN)
    assert done.returncode == 0, done.stdout
    heading, *lines = done.stdout.splitlines()
    assert heading.startswith("CHECK")
    assert [line.split("\t")[:3] for line in lines] == [
        [name, "holds", promise] for name, (promise, _) in CHECKS.items()
    ]
