# SPDX-License-Identifier: Apache-2.0
"""``datajobs dmi-check`` against real plugins: the reference plugin passes, a broken one gets its faults
named."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from msgspec import structs

from ran_datajobs.dmi.conformance.checks import CHECKS
from ran_datajobs.dmi.publisher import Publisher, ServiceLink
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.kafka import KafkaBus
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from ran_datajobs.model import OperationState
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from tests.kit.commands import datajobs, json_lines, started
from tests.kit.plugin_parts import KeptMessages, served_plugin
from tests.kit.plugins.scripted import Executed, Script, ScriptedPlugin, Step
from tests.peers.kafka import KafkaBroker
from tests.peers.program import free_ports
from tests.tiers import nightly

PRODUCER, FDN = layout.data_producer_of(1), "/" + layout.element_key(1)
NOT_CLAIMED = {"guards", "before-images"}
"""Checks of what a plugin need not have."""

WELL = Script(statuses=("NOT_STARTED", "RUNNING", "FINSHED"), refuses="dmi-check-none")


class AlsoKept(KeptMessages):
    """Keeps published messages and publishes them to another publisher as well."""

    def __init__(self, other: Publisher) -> None:
        super().__init__()
        self._other = other

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        await self._other.publish(topic, messages)
        await super().publish(topic, messages)


def fetched(url: str) -> bytes:
    with urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


@dataclasses.dataclass(frozen=True)
class CheckRun:
    """Result of the command: its exit status, and per check the verdict and the note."""

    status: int
    verdicts: dict[str, str]
    notes: dict[str, str]

    def those(self, verdict: str) -> set[str]:
        return {name for name, found in self.verdicts.items() if found == verdict}


async def check(url: str, *options: str) -> CheckRun:
    """Run the command in a separate process."""
    done = await asyncio.to_thread(
        datajobs, "dmi-check", url, "--output", "json", "--patience", "5", *options
    )
    lines: list[Any] = json_lines(done)
    assert done.returncode in (0, 1), done.stderr
    assert [line["check"] for line in lines] == list(CHECKS)
    return CheckRun(
        done.returncode,
        {line["check"]: line["verdict"] for line in lines},
        {line["check"]: line["note"] for line in lines},
    )


@pytest.mark.parametrize("dialect", ["seed", "onap"])
async def test_our_plugin_keeps_every_promise(tmp_path: Path, dialect: str, free_port: int) -> None:
    """The reference plugin over a simulated network passes all checks in both dialects, and the network is
    unchanged. The plugin publishes to the command, which replaces the service."""
    network = Network(25)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    before = dict(network.walk())
    bus = f"http://127.0.0.1:{free_port}"
    async with PeerHttp() as http:
        messages = AlsoKept(ServiceLink(bus, http))
        async with served_plugin(PluginSettings(tmp_path / "dmi"), elements.get, messages) as url:
            result = await check(
                url, "--data-producer", PRODUCER, "--fdn", FDN, "--dialect", dialect, "--dmi-service-url", bus
            )
    assert result.those("holds") == set(CHECKS), (result.verdicts, result.notes)
    assert result.status == 0
    assert dict(network.walk()) == before
    assert len(messages.messages) == 1, "the read was published"
    assert result.notes["read-messages"] == f"1 message on topic {INTERNAL_TOPIC}"
    assert result.notes["cancel"].startswith("DELETE was accepted, then ")


@pytest.mark.nightly
@pytest.mark.parametrize("dialect", ["seed", "onap"])
async def test_our_plugin_keeps_every_promise_over_provmns(tmp_path: Path, dialect: str) -> None:
    """``datajobs dmi --provmns-url`` in front of a real ProvMnS server passes as well, each in its own
    process."""
    element, plugin, bus = (f"http://127.0.0.1:{port}" for port in free_ports(3))
    simulate = ("simulate", "--port", element.rpartition(":")[2], "--sites", "25")
    dmi = (
        "dmi", "--port", plugin.rpartition(":")[2], "--data-dir", tmp_path / "dmi",
        "--provmns-url", f"{element}/{{dataProducerId}}", "--dmi-service-url", bus,
    )  # fmt: skip
    network = f"{element}/ProvMnS/v1/{layout.COUNTRY}?scopeType=BASE_ALL"
    with started(*simulate, lines=tmp_path / "simulate") as simulated:
        simulated.until_it_says(element)
        before = await asyncio.to_thread(fetched, network)
        with started(*dmi, lines=tmp_path / "lines") as running:
            running.until_it_answers(f"{plugin}/healthz")
            result = await check(
                plugin,
                "--data-producer",
                PRODUCER,
                "--fdn",
                FDN,
                "--dialect",
                dialect,
                "--dmi-service-url",
                bus,
            )
        assert await asyncio.to_thread(fetched, network) == before
    assert result.those("holds") == set(CHECKS), (result.verdicts, result.notes)
    assert result.status == 0
    assert result.notes["read-messages"] == f"1 message on topic {INTERNAL_TOPIC}"


@pytest.mark.nightly
@pytest.mark.kafka
async def test_messages_of_a_read_are_found_on_kafka(tmp_path: Path, kafka_broker: KafkaBroker) -> None:
    """With Kafka servers the command reads the plugin's messages from Kafka."""
    network = Network(25)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    async with contextlib.aclosing(KafkaBus(kafka_broker.bootstrap, installation="dmi")) as bus:
        await bus.ready()
        async with served_plugin(PluginSettings(tmp_path / "dmi"), elements.get, bus) as url:
            result = await check(
                url, "--data-producer", PRODUCER, "--fdn", FDN, "--patience", "60",
                "--dmi-kafka-bootstrap", kafka_broker.bootstrap,
            )  # fmt: skip
    assert result.those("holds") == set(CHECKS), (result.verdicts, result.notes)
    assert result.notes["read-messages"] == f"1 message on topic {INTERNAL_TOPIC}"


@pytest.mark.nightly
async def test_a_read_that_is_never_published_is_told(tmp_path: Path, free_port: int) -> None:
    """A plugin that names the topic and publishes elsewhere fails the check; without an address the line says
    that the topic was not read."""
    network = Network(25)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    async with served_plugin(PluginSettings(tmp_path / "dmi"), elements.get, KeptMessages()) as url:
        asked = ("--data-producer", PRODUCER, "--fdn", FDN, "--patience", "2")
        looked = await check(url, *asked, "--dmi-service-url", f"http://127.0.0.1:{free_port}")
        blind = await check(url, *asked)
    assert looked.those("fails") == {"read-messages"}, looked.notes
    assert looked.notes["read-messages"] == f"no message of it came on topic {INTERNAL_TOPIC} within 2 s"
    assert looked.status == 1
    assert blind.those("skipped") == {"read-messages"}, blind.notes
    assert "--dmi-service-url" in blind.notes["read-messages"]
    assert blind.status == 0


async def test_without_an_object_what_needs_one_is_skipped(tmp_path: Path, free_port: int) -> None:
    """A data producer is enough for all checks except the write that succeeds; the line says what that one
    needs. The messages of a read then report that it failed, as the status does."""
    network = Network(25)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    bus = f"http://127.0.0.1:{free_port}"
    async with PeerHttp() as http:
        link = ServiceLink(bus, http)
        async with served_plugin(PluginSettings(tmp_path / "dmi"), elements.get, link) as url:
            result = await check(url, "--data-producer", PRODUCER, "--dmi-service-url", bus)
    assert result.those("skipped") == {"written", *NOT_CLAIMED}, result.notes
    assert all("--fdn" in result.notes[each] for each in ("written", *NOT_CLAIMED))
    assert "the read failed" in result.notes["read-messages"]
    assert result.status == 0


ALL_THAT_NEED_AN_END = {
    "same-end", "write-result", "written", "failure", "stop-on-error", "read", "cancel", "bulk-cancel",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fails", "skipped"),
    [
        ({}, set(), set()),
        ({"honours_key": False}, {"repeat"}, {"key-conflict"}),
        ({"stops": False}, {"stop-on-error"}, set()),
        ({"statuses": ("RUNNING", "NOT_STARTED", "FINSHED")}, {"status"}, set()),
        nightly(({"statuses": ("WORKING",)}, {"status"}, ALL_THAT_NEED_AN_END)),
        nightly(({"status": (Step.ERROR,)}, {"status"}, ALL_THAT_NEED_AN_END)),
        (
            {"result": (Step.WRONG_SHAPE,)},
            {"write-result", "read"},
            {"written", "failure", "stop-on-error"},
        ),
        ({"refuses": ""}, {"failure", "stop-on-error"}, set()),
        nightly(({"outcome": OperationState.FAILED}, {"written"}, set())),
        nightly(({"cancel": (Step.NOT_IMPLEMENTED,)}, set(), {"cancel"})),
        nightly(({"cancel": (Step.ERROR,)}, {"cancel"}, set())),
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
    """Each misbehaviour fails only the checks that cover it; checks that cannot be run are skipped."""
    plugin = ScriptedPlugin(structs.replace(WELL, **change))
    async with plugin.serving() as url:
        result = await check(url, "--data-producer", PRODUCER, "--fdn", FDN)
    assert result.those("fails") == fails, result.notes
    assert result.those("skipped") == {*skipped, *NOT_CLAIMED, "read-messages"}, result.notes
    assert result.status == (1 if fails else 0)


@pytest.mark.nightly
async def test_exit_status_of_no_listener_and_of_wrong_use(free_port: int) -> None:
    """3 if the plugin cannot be reached, 2 for an invalid dialect, address or FDN; one line gives the
    reason."""
    address = f"http://127.0.0.1:{free_port}"
    for status, arguments in (
        (3, (address,)),
        (2, (address, "--dialect", "netconf")),
        (2, ("ftp://plugin",)),
        (2, (address, "--fdn", "no name")),
        (2, (address, "--dmi-service-url", "https://127.0.0.1:1")),
        (2, (address, "--dmi-service-url", "http://127.0.0.1")),
        (2, (address, "--dmi-service-url", "http://198.51.100.1:1")),
    ):
        done = await asyncio.to_thread(datajobs, "dmi-check", *arguments)
        assert (done.returncode, done.stdout) == (status, ""), done.stderr
        assert len(done.stderr.splitlines()) == 1


async def test_people_get_a_table(tmp_path: Path) -> None:
    """The checks in order under headings, each with its promise; long texts wrap."""
    async with ScriptedPlugin(WELL).serving() as url:
        done = await asyncio.to_thread(datajobs, "dmi-check", url, "--fdn", FDN)
    assert done.returncode == 0, done.stdout
    heading, *lines = done.stdout.splitlines()
    assert heading.startswith("CHECK")
    begin, end = heading.index("PROMISE"), heading.index("OBSERVED")
    result: list[list[str]] = []
    for line in lines:
        if not line[0].isspace():
            result.append([*line[:begin].split(), ""])
        result[-1][-1] += f" {line[begin:end].strip()}"
    assert [[*first, promise.strip()] for *first, promise in result] == [
        [name, "skipped" if name in {"read-messages", *NOT_CLAIMED} else "holds", promise]
        for name, (promise, _) in CHECKS.items()
    ]


class Forgetful(ScriptedPlugin):
    """Cancels the sub-jobs that it has of a job, and executes those that arrive later."""

    def _is_cancelled(self, job: Executed) -> bool:
        last = self.history[-1]
        return super()._is_cancelled(job) and len(last.operations) > 1


@pytest.mark.parametrize(
    ("plugin", "verdict", "note"),
    [
        (ScriptedPlugin(WELL), "holds", "a later create is accepted, and is CANCELLED"),
        (ScriptedPlugin(WELL, (Step.NOT_IMPLEMENTED,)), "skipped", "register it without bulkCancel"),
        (ScriptedPlugin(WELL, (Step.ERROR,)), "fails", "HTTP 500"),
        (Forgetful(WELL), "fails", "is FINISHED: register it without bulkCancel"),
    ],
    ids=["obeys", "cannot", "breaks", "forgets"],
)
async def test_whether_a_plugin_cancels_whole_jobs_is_told(
    plugin: ScriptedPlugin, verdict: str, note: str
) -> None:
    """The note says whether to register the plugin with bulkCancel."""
    async with plugin.serving() as url:
        result = await check(url, "--data-producer", PRODUCER, "--fdn", FDN)
    assert result.verdicts["bulk-cancel"] == verdict, result.notes
    assert note in result.notes["bulk-cancel"]
    assert result.status == int(verdict == "fails")
