# SPDX-License-Identifier: Apache-2.0
"""A plugin of ONAP is registered with nothing but its address: the service finds out how to call it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ran_datajobs.plugins import wire
from tests.kit.plugins.scripted import Manner, Script, ScriptedPlugin, Step
from tests.kit.whole_service import JOBS, Service, called, whole_service
from tests.kit.worker_parts import rows, until

ONAP = Manner(speaks=(wire.Dialect.ONAP,), media_types=(wire.JSON,))


def write(name: str, operation_id: str | int = "1") -> dict[str, Any]:
    path = f"/ManagedElement={name}#/attributes/userLabel"
    return {"op": "replace", "path": path, "operationId": operation_id, "value": "x"}


def read(name: str) -> dict[str, Any]:
    return {
        "op": "read",
        "path": f"/ManagedElement={name}",
        "operationId": 7,
        "scope": {"scopeType": "BASE_ALL"},
    }


async def found(service: Service) -> str | None:
    (row,) = await rows(service.database, "select found_dialect from dmi_plugin")
    dialect: str | None = row["found_dialect"]
    return dialect


def seed_calls(plugin: ScriptedPlugin) -> int:
    return sum(each.path.startswith("/dmi/v1/dataJob/") for each in plugin.received)


async def test_jobs_of_every_kind(database_url: str, tmp_path: Path) -> None:
    """The first create shows what the plugin speaks: later jobs are planned for it, and sent at once."""
    plugin = ScriptedPlugin(manner=ONAP)
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {"/ManagedElement=a": "a", "/ManagedElement=b": "b"})
        first = await service.submit([write("a", 1), write("b", 2)])
        assert (await service.ended(first))["status"] == "FINSHED"
        await until(lambda: found(service))
        assert await found(service) == "onap"
        tried = seed_calls(plugin)
        assert 1 <= tried <= 2
        second = await service.submit([write("a", "x"), write("b", "y")])
        assert (await service.ended(second))["status"] == "FINSHED"
        third = await service.submit([read("a")])
        assert (await service.ended(third))["status"] == "FINSHED"
        planned = await rows(
            service.database,
            "select distinct dialect from sub_job where job_id = any ($1::uuid[])",
            [second, third],
        )
        assert [each["dialect"] for each in planned] == ["onap"]
        assert seed_calls(plugin) == tried
        kinds = [r["operationId"] for r in await service.responses(await service.job(second))]
        assert kinds == ["x", "y"]


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_job_is_cancelled(database_url: str, tmp_path: Path, bulk: bool) -> None:
    """Both kinds of DELETE use the dialect in which the sub-jobs were accepted."""
    plugin = ScriptedPlugin(Script(statuses=("RUNNING",)), manner=ONAP)
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {"/ManagedElement=a": "a", "/ManagedElement=b": "b"}, bulkCancel=bulk)
        job_id = await service.submit([write("a", 1), write("b", 2)])
        await called(plugin, "status", 2)
        await service.call("POST", f"{JOBS}/{job_id}/cancel", expect=202)
        assert (await service.ended(job_id))["status"] == "CANCELLED"
    deletes = [each.path for each in plugin.received if each.method == "DELETE"]
    assert deletes
    assert all(path.startswith("/dmi/v1/cmwriteJob/") for path in deletes)
    assert any("/dataJob/" in path for path in deletes) is bulk


async def test_a_read_is_repeated_in_the_same_way(database_url: str, tmp_path: Path) -> None:
    """A read whose create had no answer is sent again: the seed's create first, then ONAP's."""
    plugin = ScriptedPlugin(Script(create=(Step.DROP, Step.OBEY)), manner=ONAP)
    async with plugin.serving() as address, whole_service(database_url, tmp_path) as service:
        await service.register(address, {"/ManagedElement=a": "a"})
        job_id = await service.submit([read("a")])
        assert (await service.ended(job_id))["status"] == "FINSHED"
    assert sum(each.is_read for each in plugin.history) == 1


async def test_credentials(database_url: str, tmp_path: Path) -> None:
    """A plugin that denies refuses the operations, and the cause says what to do. The file is read while the
    service runs: the next job succeeds."""
    plugin = ScriptedPlugin(manner=Manner(authorization="Bearer good"))
    file = tmp_path / "credentials.json"
    async with plugin.serving() as address:
        file.write_text(json.dumps({address: {"token": "bad"}}))
        async with whole_service(database_url, tmp_path / "data", dmi_credentials_file=str(file)) as service:
            await service.register(address, {"/ManagedElement=a": "a"})
            refused = await service.submit([write("a")])
            assert (await service.ended(refused))["status"] == "FAILED"
            (failure,) = await service.failures(refused)
            assert failure["reason"] == "DMI_REFUSED"
            assert (
                "does not accept the credentials that DATAJOBS_DMI_CREDENTIALS_FILE has" in failure["detail"]
            )
            file.write_text(json.dumps({address: {"token": "good"}}))
            async with asyncio.timeout(20):
                while (await service.ended(await service.submit([write("a")])))["status"] != "FINSHED":
                    await asyncio.sleep(0.1)
    assert {each.authorization for each in plugin.received} == {"Bearer bad", "Bearer good"}


async def test_a_registration_is_followed_by_questions(database_url: str, tmp_path: Path) -> None:
    """The running service asks for the modules of new handles, and for the plugin's health."""
    modules = [{"moduleName": "ran-a", "revision": "2024-01-01"}]
    plugin = ScriptedPlugin(manner=Manner(modules=modules, health="UP"))
    async with (
        plugin.serving() as address,
        whole_service(database_url, tmp_path, dmi_health_interval="0.2") as service,
    ):
        await service.register(address, {"/ManagedElement=a": "a"})

        async def known() -> bool:
            return bool(
                await rows(
                    service.database,
                    "select 1 from cm_handle_modules join module_set using (module_set_id) join dmi_plugin"
                    " using (plugin_id) where names = '{ran-a}' and healthy",
                )
            )

        await until(known)
        plugin.manner = Manner(health="DOWN")

        async def down() -> bool:
            return bool(await rows(service.database, "select 1 from dmi_plugin where not healthy"))

        await until(down)
        job_id = await service.submit([write("a")])
        assert (await service.ended(job_id))["status"] == "FINSHED", "health does not stop dispatch"
