# SPDX-License-Identifier: Apache-2.0
"""The lists of CM handles, the tree of the network and the owners of managed objects, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from ran_datajobs.api import paths
from ran_datajobs.api.tokens import Role, add
from ran_datajobs.model import OperationState, Status
from ran_datajobs.store.database import Database
from tests.kit.api_service import (
    PLUGIN,
    READ,
    WRITE,
    Api,
    changes_nothing,
    end_job,
    northbound_api,
    outcome,
    plan,
    register,
)

pytestmark = pytest.mark.damages_rows  # the tests end jobs by hand, no worker runs


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API with three handles."""
    async with northbound_api(database, tmp_path, free_port) as running:
        await register(running, 1, 2, 10)
        yield running


def owner(name: str) -> str:
    """The path that asks for the owner of an object."""
    return f"{paths.CM_HANDLE_OWNER}?fdn={quote(name)}"


async def test_handles_are_listed_page_by_page(api: Api) -> None:
    """By id, with the address of the plugin and the public properties; private ones are not shown."""
    first = (await api.get(f"{paths.CM_HANDLES}?limit=2")).json()
    assert [each["cmHandle"] for each in first["items"]] == ["ch-1", "ch-10"]
    assert first["items"][0] == {
        "cmHandle": "ch-1",
        "alternateId": "/SubNetwork=A/ManagedElement=1",
        "dataProducerId": "producer-1",
        "moduleSetTag": "",
        "dmiPlugin": PLUGIN,
        "readPlugin": PLUGIN,
        "writePlugin": PLUGIN,
        "trustLevel": "COMPLETE",
        "registeredTrustLevel": "",
        "publicProperties": {},
    }
    rest = (await api.get(f"{paths.CM_HANDLES}?limit=2&cursor={first['next']}")).json()
    assert ([each["cmHandle"] for each in rest["items"]], rest["next"]) == (["ch-2"], None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("alternateIdPrefix=/SubNetwork=A/ManagedElement=1", ["ch-1"]),
        ("alternateIdPrefix=SubNetwork%3DA", ["ch-1", "ch-10", "ch-2"]),
        ("alternateIdPrefix=/SubNetwork=B", []),
        ("dataProducerId=producer-2", ["ch-2"]),
        (f"plugin={PLUGIN}/", ["ch-1", "ch-10", "ch-2"]),
        ("plugin=http://127.0.0.1:11", []),
        ("moduleSetTag=t", []),
        ("moduleSetTag=", ["ch-1", "ch-10", "ch-2"]),
        ("search=Element=1", ["ch-1", "ch-10"]),
        ("search=h-2", ["ch-2"]),
        ("cmHandle=ch-2&cmHandle=none&cmHandle=ch-1", ["ch-1", "ch-2"]),
        ("cmHandle=none", []),
        ("search=_", []),
        ("search=Element%3D1&dataProducerId=producer-10", ["ch-10"]),
    ],
)
async def test_a_list_is_restricted(api: Api, query: str, found: list[str]) -> None:
    """All restrictions must hold. A prefix has whole RDNs."""
    answer = await api.get(f"{paths.CM_HANDLES}?{query}")
    assert [each["cmHandle"] for each in answer.json()["items"]] == found


@changes_nothing
@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=1001",
        "?cursor=!",
        "?cursor=",
        "?cursor=AA",
        "?alternateIdPrefix=x",
        "?alternateIdPrefix=",
        "?plugin=x",
        "?search=",
        "?search=%00",
        "?cmHandle=ch-1&cmHandle=%00",
        "?privateProperties=yes",
        "?dataProducerId=%00",
        "?moduleSetTag=%00",
        "?tag=x",
        f"?search={'x' * 300}",
        "/owner",
        "/owner?fdn=",
        "/owner?fdn=A",
        "/owner?fdn=/A=%00",
        "/children?fdn=A",
        "/children?cursor=x",
        "/children?fdn=/A=1&cursor=Qj0x",
    ],
)
async def test_a_parameter_that_cannot_be_used_is_a_400(unchanged: Api, query: str) -> None:
    """It is named, and the database is not asked."""
    answer = await unchanged.get(paths.CM_HANDLES + query)
    assert answer.problem["status"] == 400


async def test_the_list_shows_what_is_registered(api: Api) -> None:
    """The plugins of a handle and its trust level as they were registered, beside what follows from them."""
    body = {
        "dmiPlugin": PLUGIN,
        "dmiDatajobsWritePlugin": "http://127.0.0.1:10",
        "createdCmHandles": [{"cmHandle": "two", "trustLevel": "NONE"}],
    }
    assert (await api.post(paths.INVENTORY, body)).status == 200
    (handle,) = (await api.get(f"{paths.CM_HANDLES}?cmHandle=two")).json()["items"]
    assert [handle[name] for name in ("dmiPlugin", "readPlugin", "writePlugin", "registeredTrustLevel")] == [
        PLUGIN,
        PLUGIN,
        "http://127.0.0.1:10",
        "NONE",
    ]


async def test_private_properties_are_listed_for_admins_alone(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """Only if they are asked for; other roles get a 403."""
    tokens = tmp_path / "tokens"
    roles = (Role.READ, Role.SUBMIT, Role.ADMIN)
    headers = {role: {"Authorization": f"Bearer {add(tokens, role, role)}"} for role in roles}
    async with northbound_api(database, tmp_path, free_port, headers[Role.ADMIN], tokens_file=tokens) as api:
        await register(api, 1)
        asked = f"{paths.CM_HANDLES}?privateProperties=true"
        (handle,) = (await api.get(asked)).json()["items"]
        assert handle["privateProperties"] == {"password": "a-private-property"}
        assert b"password" not in (await api.get(paths.CM_HANDLES)).body
        for role in roles[:2]:
            refused = await api.get(asked, headers=headers[role])
            assert refused.problem["status"] == 403
            assert (await api.get(paths.CM_HANDLES, headers=headers[role])).status == 200


async def test_the_owner_is_named_with_its_open_jobs(api: Api) -> None:
    """Open jobs that have an open sub-job for its data producer, newest first; ended ones are not."""
    await api.accepted()  # not planned: it has no sub-job
    open_jobs = []
    for body in (WRITE | {"name": "first"}, READ):
        open_jobs.append(await api.accepted(body))
        await plan(api, open_jobs[-1])
    ended = await api.accepted()
    await plan(api, ended)
    await end_job(api, ended, Status.FAILED, [outcome("1", OperationState.FAILED)])
    answer = (await api.get(owner("SubNetwork=A,ManagedElement=1,Cell=1"))).json()
    assert answer == {
        "cmHandle": "ch-1",
        "alternateId": "/SubNetwork=A/ManagedElement=1",
        "dataProducerId": "producer-1",
        "readPlugin": PLUGIN,
        "writePlugin": PLUGIN,
        "openJobs": [
            {"jobId": str(open_jobs[1]), "name": None, "type": "READ", "status": "NOT_STARTED"},
            {"jobId": str(open_jobs[0]), "name": "first", "type": "WRITE", "status": "NOT_STARTED"},
        ],
        "openJobCount": 2,
    }
    assert (await api.get(owner("/SubNetwork=A/ManagedElement=2"))).json()["openJobs"] == []


async def test_open_jobs_are_those_that_the_caller_may_see(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """A client sees its own, an administrator all; the count is of these."""
    tokens = tmp_path / "tokens"
    mine, other, admin = (
        {"Authorization": f"Bearer {add(tokens, name, role)}"}
        for name, role in (("mine", Role.SUBMIT), ("other", Role.READ), ("admin", Role.ADMIN))
    )
    async with northbound_api(database, tmp_path, free_port, admin, tokens_file=tokens) as api:
        await register(api, 1)
        await plan(api, await api.accepted(headers=mine))
        for headers, count in ((mine, 1), (other, 0), (admin, 1)):
            answer = (await api.get(owner("/SubNetwork=A/ManagedElement=1"), headers=headers)).json()
            assert (len(answer["openJobs"]), answer["openJobCount"]) == (count, count)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/SubNetwork=A", ["ch-1 (/SubNetwork=A/ManagedElement=1)", "which is below it"]),
        (
            "/SubNetwork=A/ManagedElement=100",
            ["ch-10", "its RDN 2 is ManagedElement=10, not ManagedElement=100"],
        ),
        (
            "/SubNetwork=A/ManagedElement=3/Cell=1",
            ["ch-2", "its RDN 2 is ManagedElement=2, not ManagedElement=3"],
        ),
        ("/SubNetwork=a/ManagedElement=1", ["its RDN 1 is SubNetwork=A, not SubNetwork=a: case matters"]),
        ("/Z=1", ["its RDN 1 is SubNetwork=A, not Z=1"]),
    ],
)
async def test_an_object_without_owner_is_a_404_with_the_nearest_handle(
    api: Api, name: str, words: list[str]
) -> None:
    """The text says why that handle is not the owner."""
    problem = (await api.get(owner(name))).problem
    assert problem["status"] == 404
    for each in words:
        assert each in problem["detail"]


@changes_nothing
async def test_an_empty_inventory_owns_nothing_and_has_no_tree(unchanged: Api) -> None:
    """A 404, and empty pages."""
    assert "none has an alternate id" in (await unchanged.get(owner("/A=1"))).problem["detail"]
    for path in (paths.CM_HANDLES, paths.CM_HANDLE_CHILDREN, f"{paths.CM_HANDLE_CHILDREN}?fdn=/A=1"):
        assert (await unchanged.get(path)).json() == {"items": [], "next": None}


async def test_the_tree_is_listed_level_by_level(api: Api) -> None:
    """From the roots down, in pages; an object that is no handle is shown with the handles below it."""
    created: list[dict[str, Any]] = [
        {"cmHandle": "below", "alternateId": "/SubNetwork=A/ManagedElement=1/Unit=1/Port=1"},
        {"cmHandle": "beside", "alternateId": "/SubNetwork=A/ManagedElement=1-x"},
    ]
    await api.post(paths.INVENTORY, {"dmiPlugin": PLUGIN, "createdCmHandles": created})
    roots = (await api.get(paths.CM_HANDLE_CHILDREN)).json()
    assert roots == {
        "items": [{"fdn": "/SubNetwork=A", "rdn": "SubNetwork=A", "cmHandle": None, "handles": 5}],
        "next": None,
    }
    items: list[Any] = []
    query = "?fdn=/SubNetwork=A&limit=1"
    following = ""
    while following is not None:
        page = (
            await api.get(f"{paths.CM_HANDLE_CHILDREN}{query}{following and '&cursor=' + following}")
        ).json()
        items += page["items"]
        following = page["next"]
    assert [(each["rdn"], each["cmHandle"], each["handles"]) for each in items] == [
        ("ManagedElement=1", "ch-1", 2),
        ("ManagedElement=1-x", "beside", 1),
        ("ManagedElement=10", "ch-10", 1),
        ("ManagedElement=2", "ch-2", 1),
    ]
    unit = (await api.get(f"{paths.CM_HANDLE_CHILDREN}?fdn={quote(items[0]['fdn'])}")).json()["items"]
    assert unit == [
        {"fdn": "/SubNetwork=A/ManagedElement=1/Unit=1", "rdn": "Unit=1", "cmHandle": None, "handles": 1}
    ]
    assert (await api.get(f"{paths.CM_HANDLE_CHILDREN}?fdn=/SubNetwork=B")).json()["items"] == []


async def test_a_lane_of_another_handle_of_the_same_producer_counts(api: Api) -> None:
    """Jobs wait for the data producer, whatever its handle."""
    created = [
        {
            "cmHandle": f"same-{n}",
            "alternateId": f"/SubNetwork=S/ManagedElement={n}",
            "dataProducerIdentifier": "s",
        }
        for n in (1, 2)
    ]
    await api.post(paths.INVENTORY, {"dmiPlugin": PLUGIN, "createdCmHandles": created})
    operation = {"op": "remove", "path": "/SubNetwork=S/ManagedElement=1/Cell=1", "operationId": str(uuid4())}
    job_id = await api.accepted({"data": [operation]})
    await plan(api, job_id)
    jobs = (await api.get(owner("/SubNetwork=S/ManagedElement=2"))).json()["openJobs"]
    assert [each["jobId"] for each in jobs] == [str(job_id)]
