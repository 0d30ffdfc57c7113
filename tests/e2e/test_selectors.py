# SPDX-License-Identifier: Apache-2.0
"""Reads by data node selector through the whole chain: service, two reference plugins and their networks."""

from __future__ import annotations

import contextlib
import csv
import io
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ran_datajobs.dmi.publisher import ServiceLink
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.nrm.resources import to_flat
from ran_datajobs.nrm.select import select_from
from ran_datajobs.nrm.selectors import EVERYTHING, Selectors, parse
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.wire import TREE_FLAT, TREE_HIERARCHICAL
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.producers import ProducerView
from tests.kit.plugin_parts import served_plugin
from tests.kit.plugins.scripted import ScriptedPlugin
from tests.kit.whole_service import JOBS, Service, whole_service

SITES = 45
NETWORK = Network(SITES)
FIRST, SECOND, THIRD = NETWORK.data_producers()
NOBODY = '/SubNetwork[id="Europe"]/ManagedElement[id="Atlantis"]'


def steps(site: int) -> str:
    return "".join('/{}[id="{}"]'.format(*rdn.split("=")) for rdn in layout.element_key(site).split("/"))


def read(name: str, selector: str) -> dict[str, Any]:
    return {"op": "read", "operationId": name, "dataNodeSelector": selector}


def handles(*producers: str) -> dict[str, str]:
    """Alternate ids of the handles of some producers."""
    return {f"/{key}": name for name in producers for key in NETWORK.data_producers()[name]}


@contextlib.asynccontextmanager
async def two_plugins(database_url: str, folder: Path) -> AsyncIterator[Service]:
    """A service whose network has three data producers: one at a plugin with the seed's dialect, two at one
    with ONAP's."""
    elements = simulated_elements(NETWORK, NETWORK.model, NETWORK.actions, NETWORK.data_producers())
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(whole_service(database_url, folder / "service"))
        link = ServiceLink(service.root, await stack.enter_async_context(PeerHttp()))
        for dialect, producers in (("seed", (FIRST,)), ("onap", (SECOND, THIRD))):
            plugin = served_plugin(PluginSettings(folder / dialect), elements.get, link, link)
            address = await stack.enter_async_context(plugin)
            await service.register(address, handles(*producers), dmiDialect=dialect, selectors=True)
        yield service


def expected(selector: str, *producers: str) -> dict[str, Any]:
    """The objects that the producers have, by name."""
    found: dict[str, Any] = {}
    for name in producers:
        view = ProducerView(NETWORK, NETWORK.data_producers()[name])
        for one in select_from(view.selected(Selectors(parse(selector))), EVERYTHING):
            found[one["objectInstance"]] = one
    return found


SELECTORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a broadcast": ("//NRCellDU/attributes/administrativeState", (FIRST, SECOND, THIRD)),
    "a broadcast below a region": ('/SubNetwork[id="Europe"]/*/*/*', (FIRST, SECOND, THIRD)),
    "one site": (f"{steps(3)}/GNBDUFunction/NRCellDU", (FIRST,)),
    "a subtree": (f'{steps(3)}/GNBDUFunction[id="1"]//.', (FIRST, SECOND, THIRD)),
    "sites by their beginning": ('/*/*/*/ManagedElement[contains(id, "NR4")]', (SECOND, THIRD)),
    "several lines": (
        f"&& two sites\n{steps(1)}\n{steps(44)}/attributes/userLabel OR {steps(2)}",
        (FIRST, THIRD),
    ),
    "nothing": (f"{steps(1)}/NoSuchClass", (FIRST,)),
}


@pytest.mark.parametrize("accept_type", [TREE_FLAT, TREE_HIERARCHICAL])
async def test_selectors_give_what_the_objects_would(
    database_url: str, tmp_path: Path, accept_type: str
) -> None:
    """Each operation has one result for each data producer that got it, with exactly its objects, in either
    dialect, beside a read by path. The results show the selectors of the part."""
    async with two_plugins(database_url, tmp_path) as service:
        lines = [read(name, selector) for name, (selector, _) in SELECTORS.items()]
        lines.append({"op": "read", "operationId": "by path", "path": f"/{layout.element_key(1)}"})
        job = await service.ended(await service.submit(lines, dataAcceptType=accept_type))
        assert job["status"] == "FINSHED", await service.failures(job["jobId"])
        assert "ignored" not in job
        parts: dict[str, list[Any]] = defaultdict(list)
        for response in await service.responses(job):
            assert response["state"] == "SUCCEEDED"
            parts[response["operationId"]].append(response)
        outcomes = await service.call("GET", f"{JOBS}/{job['jobId']}/outcomes", expect=200)
        request = await service.call("GET", f"{JOBS}/{job['jobId']}/request?limit=1000", expect=200)
    assert request["items"] == lines
    for name, (selector, producers) in SELECTORS.items():
        found: dict[str, Any] = {}
        for part in parts[name]:
            sent = part["request"]["dataNodeSelector"]
            assert {each.text for each in parse(sent)} <= {each.text for each in parse(selector)}
            base = part["request"]["path"]
            result = part["result"]
            flat = result if accept_type == TREE_FLAT else to_flat(result, "" if base == "/" else base)
            for one in flat:
                assert one["objectInstance"] not in found, name
                found[one["objectInstance"]] = one
        assert found == expected(selector, *producers), name
        assert bool(found) is (name != "nothing")
        shown = [each for each in outcomes["items"] if each["operationId"] == name]
        assert sorted(each["dataProducerId"] for each in shown) == sorted(producers), name
        assert all(each["dataNodeSelector"] for each in shown)
    (by_path,) = [each for each in outcomes["items"] if each["operationId"] == "by path"]
    assert "dataNodeSelector" not in by_path


async def test_parts_fail_alone_and_a_retry_keeps_the_selectors(database_url: str, tmp_path: Path) -> None:
    """A line that nobody owns, and a plugin without selectors, fail their part and with it the operation; the
    objects of the other parts are kept. The plan of a dry run says the same. A retry, after a registration
    that cures it, repeats the operations with all their lines."""
    async with two_plugins(database_url, tmp_path) as service:
        unable = ScriptedPlugin()
        async with unable.serving() as address:
            await service.register(address, {"/ManagedElement=9": "p9"})
            everything, mixed = "//NRCellDU/attributes/nRPCI", f"{steps(1)}/attributes/userLabel\n{NOBODY}"
            lines = [read("all", everything), read("mixed", mixed), read("nobody", NOBODY)]
            dry = await service.call("POST", f"{JOBS}?dryRun=true", {"data": lines}, expect=200)
            assert {each["dataProducerId"]: each["operations"] for each in dry["subJobs"]} == {
                FIRST: 2, SECOND: 1, THIRD: 1,
            }  # fmt: skip
            assert dry["operations"] == {"total": 3, "unmatched": 1}
            assert dry["unmatched"] == [
                {
                    "operationId": "all",
                    "path": "/",
                    "reason": "MODE_NOT_SUPPORTED",
                    "dataNodeSelector": everything,
                },
                {
                    "operationId": "mixed",
                    "path": "/SubNetwork=Europe/ManagedElement=Atlantis",
                    "reason": "UNMATCHED",
                    "dataNodeSelector": NOBODY,
                },
                {
                    "operationId": "nobody",
                    "path": "/SubNetwork=Europe/ManagedElement=Atlantis",
                    "reason": "UNMATCHED",
                    "dataNodeSelector": NOBODY,
                },
            ]
            job = await service.ended(await service.submit(lines, dataAcceptType=TREE_FLAT))
            assert not unable.calls
            assert job["status"] == "FAILED"
            counts = job["operations"]
            assert (counts["total"], counts["failed"], counts["unmatched"], counts["succeeded"]) == (
                3,
                2,
                1,
                0,
            )
            failures = {
                each["operationId"]: (each["reason"], each["dataNodeSelector"], each["dataProducerId"])
                for each in await service.failures(job["jobId"])
            }
            assert failures == {
                "all": ("MODE_NOT_SUPPORTED", everything, None),
                "mixed": ("UNMATCHED", NOBODY, None),
                "nobody": ("UNMATCHED", NOBODY, None),
            }
            address = f"{service.root}{JOBS}/{job['jobId']}/failures"
            table = io.StringIO((await service.bytes_of(address, "text/csv")).decode(), newline="")
            assert {row["operationId"]: row["dataNodeSelector"] for row in csv.DictReader(table)} == {
                name: selector for name, (_, selector, _) in failures.items()
            }
            kept = [each for each in await service.responses(job) if each["state"] == "SUCCEEDED"]
            names = {
                one["objectInstance"]
                for each in kept
                if each["operationId"] == "all"
                for one in each["result"]
            }
            assert names == expected(everything, FIRST, SECOND, THIRD).keys()
            body = {"dmiPlugin": address, "removedCmHandles": ["_ManagedElement-9"]}
            await service.call("POST", "/ncmpInventory/v1/ch", body, expect=200)
        again = await service.call("POST", f"{JOBS}/{job['jobId']}/retry", expect=202)
        retried = await service.ended(again["jobId"])
        assert (retried["operations"]["total"], retried["operations"]["succeeded"]) == (3, 1)
        request = await service.call("GET", f"{JOBS}/{retried['jobId']}/request", expect=200)
        assert request["items"] == lines


async def test_a_malformed_selector_refuses_the_job(database_url: str, tmp_path: Path) -> None:
    """A 400 with the pointer of the operation and the marked place; nothing is kept."""
    async with whole_service(database_url, tmp_path) as service:
        body = {"data": [read("good", "//A"), read("bad", "//A\n/ManagedElement[id=x]/B")]}
        problem = await service.call("POST", JOBS, body, expect=400)
        ((error,), count) = problem["errors"], problem["errorCount"]
        assert (error["pointer"], count) == ("#/data/1/dataNodeSelector", 1)
        assert "/ManagedElement <-- here --> [id=x]/B" in error["detail"]
        assert (await service.call("GET", JOBS, expect=200))["items"] == []
