# SPDX-License-Identifier: Apache-2.0
"""A DMI plugin that knows nothing of this project: ONAP's registration and jobs work with its address alone,
and a file of credentials."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.kit.onap_client import (
    MODULE_SET_TAGS,
    PRODUCER,
    OnapClient,
    alternate_id,
    conditions,
    load_test_handle,
    onap_client,
)
from tests.kit.plugins.onap import MODULES, PASSWORD, USER, OnapPlugin
from tests.kit.whole_service import Service, whole_service

HANDLES = range(1, 11)


class Parts(NamedTuple):
    """A service, ONAP's client, and the addresses of plugins."""

    service: Service
    client: OnapClient
    addresses: list[str]


@asynccontextmanager
async def ncmp_with(
    database_url: str, folder: Path, *plugins: OnapPlugin, password: str = PASSWORD, **settings: str
) -> AsyncIterator[Parts]:
    """Run plugins, and a service that has nothing but their credentials."""
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(plugin.serving()) for plugin in plugins]
        file = folder / "credentials.json"
        entries = {address: {"username": USER, "password": password} for address in addresses}
        file.write_text(json.dumps(entries), encoding="utf-8")
        service = await stack.enter_async_context(
            whole_service(database_url, folder / "service", dmi_credentials_file=str(file), **settings)
        )
        yield Parts(service, await stack.enter_async_context(onap_client(service.root)), addresses)


def operations() -> list[dict[str, Any]]:
    """Two operations for each handle, as in the load test."""
    return [
        {
            "op": op,
            "path": f"{alternate_id(n)}/SomeChild={op}",
            "operationId": f"{n}-{op}",
            "value": {"key": n},
        }
        for n in HANDLES
        for op in ("add", "merge")
    ]


async def test_onaps_registration_and_write_job(database_url: str, tmp_path: Path) -> None:
    """The job ends finished with all operations. The plugin has received one create with the members of
    ONAP's DMI interface and the private properties, and its credentials with each call."""
    plugin = OnapPlugin()
    async with ncmp_with(database_url, tmp_path, plugin) as (service, client, [address]):
        await client.registered(address, map(load_test_handle, HANDLES))
        for _ in range(2):
            job = await service.ended(await service.submit(operations()))
            assert (job["status"], job["operations"]["succeeded"]) == ("FINSHED", 20)
    creates = [each for each in plugin.received if (each.method, each.path) == ("POST", "/dmi/v1/cmwriteJob")]
    assert len(creates) == 2
    create = creates[1]
    assert create.query["destination"]
    assert create.headers["Content-Type"] == "application/json"
    assert create.body["dataJobId"] == job["jobId"]
    assert create.body["dataProducerId"] == PRODUCER
    assert create.body["dataContentType"] == "application/3gpp-json-patch+json"
    assert [each["operationId"] for each in create.body["data"]] == [
        each["operationId"] for each in operations()
    ]
    sent = create.body["data"][0]
    assert (sent["op"], sent["path"], sent["value"]) == (
        "add",
        f"{alternate_id(1)}/SomeChild=add",
        {"key": 1},
    )
    assert sent["moduleSetTag"] == MODULE_SET_TAGS[1]
    assert sent["cmHandleProperties"]["segmentId"] == "1"
    refused = Counter(status for status, method, _ in plugin.refused if method == "POST")
    assert refused[401] == 0
    assert refused[415] <= 1, "the media type that it takes is remembered"
    assert refused[404] <= 1, "the dialect that it speaks is remembered"


async def test_separate_plugins_of_data_jobs(database_url: str, tmp_path: Path) -> None:
    """Writes go to ``dmiDatajobsWritePlugin``, reads to ``dmiDatajobsReadPlugin``, and modules are asked of
    ``dmiPlugin``."""
    main, reads, writes = OnapPlugin(), OnapPlugin(), OnapPlugin()
    async with ncmp_with(database_url, tmp_path, main, reads, writes) as (service, client, addresses):
        await client.registered(
            addresses[0],
            map(load_test_handle, HANDLES),
            dmiDatajobsReadPlugin=addresses[1],
            dmiDatajobsWritePlugin=addresses[2],
        )
        job_id = await service.submit(operations())
        job = await service.ended(job_id)
        (sub_job,) = await service.sub_jobs(job_id)
        await service.ended(
            await service.submit([{"op": "read", "path": alternate_id(1), "operationId": "r"}])
        )
    assert (job["status"], sub_job["dmiServiceName"]) == ("FINSHED", addresses[2])
    plugins = (main, reads, writes)
    created = [[each.path for each in plugin.of("Job") if each.method == "POST"] for plugin in plugins]
    assert created == [[], ["/dmi/v1/cmreadJob"], ["/dmi/v1/cmwriteJob"]]


async def test_modules_are_asked_once_for_each_tag(database_url: str, tmp_path: Path) -> None:
    """After the registration the plugin is asked once for each module set tag, as NCMP asks. Then the search
    by modules and a look-up show them."""
    plugin = OnapPlugin()
    wanted = conditions(("hasAllModules", [{"moduleName": each["moduleName"]} for each in MODULES]))
    async with ncmp_with(database_url, tmp_path, plugin) as (_, client, [address]):
        await client.registered(address, map(load_test_handle, HANDLES))
        await client.until_found(len(HANDLES), wanted)
        more = conditions(("hasAllModules", [{"moduleName": "module100"}, {"moduleName": "another"}]))
        assert await client.ids(more) == []
        found = await client.of_handle("ch-1", "/modules")
        assert found.status == 200
        assert {each["moduleName"]: each["revision"] for each in found.body} == {
            each["moduleName"]: each["revision"] for each in MODULES
        }
    asked = [each.body["moduleSetTag"] for each in plugin.of("/modules")]
    assert Counter(asked) == dict.fromkeys(MODULE_SET_TAGS, 1)
    assert all("cmHandleProperties" in each.body for each in plugin.of("/modules"))


async def test_a_plugin_without_data_jobs(database_url: str, tmp_path: Path) -> None:
    """ONAP's own plugin answers data jobs with 501: every operation fails, and the reason says so."""
    plugin = OnapPlugin(jobs=False)
    async with ncmp_with(database_url, tmp_path, plugin) as (service, client, [address]):
        await client.registered(address, map(load_test_handle, HANDLES))
        job_id = await service.submit(operations())
        job = await service.ended(job_id)
        failures = await service.failures(job_id)
    assert (job["status"], job["operations"]["failed"]) == ("FAILED", 20)
    assert {each["reason"] for each in failures} == {"DMI_REFUSED"}
    assert all("501" in each["detail"] for each in failures)


async def test_wrong_credentials(database_url: str, tmp_path: Path) -> None:
    """The operations fail at once, the cause names the setting, and no password is in it."""
    plugin = OnapPlugin()
    wrong = "not-the-one"
    async with ncmp_with(database_url, tmp_path, plugin, password=wrong) as (service, client, [address]):
        await client.registered(address, map(load_test_handle, HANDLES))
        job_id = await service.submit(operations())
        job = await service.ended(job_id)
        failures = await service.failures(job_id)
    assert (job["status"], job["operations"]["failed"]) == ("FAILED", 20)
    assert {each["reason"] for each in failures} == {"DMI_REFUSED"}
    assert all("DATAJOBS_DMI_CREDENTIALS_FILE" in each["detail"] for each in failures)
    assert wrong not in json.dumps([job, failures])


async def test_the_trust_level_follows_the_health(database_url: str, tmp_path: Path) -> None:
    """While ``/actuator/health`` of a plugin is not UP, its handles have the trust level NONE in searches and
    look-ups; then COMPLETE again. A handle registered with NONE has it all the time."""
    plugin = OnapPlugin()

    def at(level: str) -> dict[str, Any]:
        return conditions(("cmHandleWithTrustLevel", [{"trustLevel": level}]))

    async with ncmp_with(database_url, tmp_path, plugin, dmi_health_interval="0.2") as (_, client, [address]):
        untrusted = load_test_handle(99) | {"trustLevel": "NONE"}
        await client.registered(address, [*map(load_test_handle, HANDLES), untrusted])
        for healthy, distrusted in ((True, 1), (False, 11), (True, 1)):
            plugin.healthy = healthy
            await client.until_found(distrusted, at("NONE"))
            assert len(await client.ids(at("COMPLETE"))) == 11 - distrusted
            level = (await client.of_handle("ch-1")).body["trustLevel"]
            assert level == ("COMPLETE" if healthy else "NONE")
