# SPDX-License-Identifier: Apache-2.0
"""The calls that ONAP's NCMP makes of a DMI plugin, at the reference plugin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from ran_datajobs.dmi.bodies import onap_job, seed_job
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.errors import InvalidRequest
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.client import HttpBounds, PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.plugins.health import Health, health_of
from ran_datajobs.plugins.modules import modules_of
from tests.kit.plugin_parts import DEADLINE, KeptMessages, WatchedElement, served_plugin

SEED = {"dataAcceptType": wire.TREE_FLAT, "dataContentType": wire.JSON_PATCH_3GPP}


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """The address of the reference plugin."""
    element = WatchedElement()
    async with served_plugin(PluginSettings(tmp_path), lambda _: element, KeptMessages()) as address:
        yield address


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """NCMP's client, with its Basic credentials."""
    async with aiohttp.ClientSession(headers={"Authorization": "Basic Y3BzdXNlcjp4"}) as client:
        yield client


def write_job(**fields: Any) -> dict[str, Any]:
    """The body of a write as NCMP sends it for the bodies of its load test."""
    path = "/SubNetwork=Europe/SubNetwork=Ireland/MeContext=MyRadioNode1/ManagedElement=MyManagedElement1"
    lines = [
        {
            "path": f"{path}/SomeClass=1",
            "op": op,
            "moduleSetTag": "",
            "value": {"key": "v"},
            "operationId": str(n),
        }
        for n, op in enumerate(("add", "merge"))
    ]
    return {
        "destination": "device/managed-element-collection",
        "dataAcceptType": "application/json",
        "dataContentType": "application/merge-patch+json",
        "dataProducerId": "some-data-producer-id",
        "dataJobId": "job-1",
        "data": lines,
        **fields,
    }


async def test_modules_and_their_texts(url: str, session: aiohttp.ClientSession) -> None:
    """None, so that NCMP sets the handle to READY after the first call. Both with NCMP's bodies."""
    asked = {"cmHandleProperties": {"user": "u"}, "moduleSetTag": ""}
    async with session.post(f"{url}/dmi/v1/ch/ch-1/modules", json=asked) as answer:
        assert (answer.status, await answer.json()) == (200, {"schemas": []})
    resources = {"data": {"modules": [{"name": "m", "revision": "1"}]}, **asked}
    async with session.post(f"{url}/dmi/v1/ch/ch-1/moduleResources", json=resources) as answer:
        assert (answer.status, await answer.json()) == (200, [])


async def test_health(url: str, session: aiohttp.ClientSession) -> None:
    """UP, with which NCMP trusts all its handles."""
    async with session.get(f"{url}/actuator/health") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "UP"})


async def test_the_service_asks_the_same(url: str) -> None:
    """Its own questions are understood."""
    async with PeerHttp(HttpBounds()) as http:
        headers = Credentials(None).headers(url)
        assert health_of(await http.exchange("GET", f"{url}/actuator/health", headers=headers)) == Health(
            True
        )
        modules = f"{url}/dmi/v1/ch/ch-1/modules"
        assert modules_of(await http.exchange("POST", modules, body=b"{}")) == []


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dataContentType": "application/json"},
        {"dataAcceptType": "application/vnd.3gpp.object-tree-flat+json"},
    ],
)
async def test_a_write_with_the_media_types_of_its_clients(
    url: str, session: aiohttp.ClientSession, fields: dict[str, str]
) -> None:
    """NCMP passes on ``application/json`` and ``application/merge-patch+json``: the write is executed."""
    create = f"{url}/dmi/v1/cmwriteJob?destination=device%2Fmanaged-element-collection"
    async with session.post(create, json=write_job(**fields)) as answer:
        assert answer.status == 201, await answer.text()
        sub_job_id = (await answer.json())["subJobId"]
    job = f"{url}/dmi/v1/cmwriteJob/dataProducer/some-data-producer-id/dataProducerJob/{sub_job_id}"
    async with asyncio.timeout(DEADLINE):
        while True:
            async with session.get(f"{job}/status") as answer:
                if (await answer.json())["status"] not in ("NOT_STARTED", "RUNNING"):
                    break
    async with session.get(f"{job}/result?destination=x") as answer:
        assert len((await answer.json())["responses"]) == 2


def test_operation_ids_as_ncmp_passes_them_on() -> None:
    """Numbers, as in the example of ONAP's OpenAPI, are echoed as such; repeated ones are taken, but not
    those of reads in the seed dialect; an operation without one gets its position."""
    lines = [{"path": "/A=1", "op": "read"} | given for given in ({"operationId": 1}, {"operationId": 1}, {})]
    job = onap_job(True, "x", "", msgspec.json.encode(write_job(data=lines)), 10)
    assert [each["operationId"] for each in msgspec.json.decode(job.operations)] == [1, 1, "2"]
    with pytest.raises(InvalidRequest, match='#/data/1/operationId: "1" is the id of #/data/0'):
        seed_job(
            "job-1", "x", "", msgspec.json.encode(write_job(requestId="job-1", **SEED, data=lines[:2])), 10
        )


@pytest.mark.parametrize("key", ["dataAcceptType", "dataContentType"])
async def test_other_media_types_are_refused(url: str, session: aiohttp.ClientSession, key: str) -> None:
    """Those of NCMP are taken in the seed dialect as well, and so are writes with repeated ids."""
    async with session.post(f"{url}/dmi/v1/cmwriteJob", json=write_job(**{key: "text/plain"})) as answer:
        assert answer.status == 400
    line = {"path": "/A=1", "op": "remove", "operationId": "x"}
    seed = write_job(requestId="job-1", data=[line, line])
    async with session.post(f"{url}/dmi/v1/dataJob/job-1", json=seed) as answer:
        assert answer.status == 201, await answer.text()
