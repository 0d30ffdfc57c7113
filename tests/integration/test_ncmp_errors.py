# SPDX-License-Identifier: Apache-2.0
"""Error answers below the paths of ONAP CPS-NCMP have NCMP's body, whatever raised the error; a client that
accepts problems (RFC 9457) by name gets those."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ran_datajobs.api import paths
from ran_datajobs.api.tokens import Role, add
from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.inventory import registry
from ran_datajobs.store.database import Database
from tests.kit.api_service import JSON, PLUGIN, Answer, Api, changes_nothing, northbound_api

PUSH = paths.fill(paths.STATUS_PUSH, sub_job_id=UUID(int=1))
ANY = {"Accept": "*/*"}
NCMPS = {"Accept": "application/json"}


def ncmp_error(answer: Answer) -> dict[str, str]:
    """The body, which must be NCMP's."""
    assert answer.headers["Content-Type"] == "application/json", (answer.headers, answer.body)
    body: dict[str, str] = answer.json()
    assert list(body) == ["status", "message", "details"]
    assert all(isinstance(value, str) for value in body.values())
    assert body["status"].startswith(f"{answer.status} ")
    return body


@changes_nothing
@pytest.mark.parametrize("accept", [ANY, NCMPS], ids=["any", "json"])
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", paths.INVENTORY, b"{", "400 BAD_REQUEST"),
        ("POST", paths.INVENTORY, b"", "400 BAD_REQUEST"),
        ("POST", paths.INVENTORY, b'{"dmiPlugin": 7}', "400 BAD_REQUEST"),
        ("POST", paths.INVENTORY + "?dryRun=true", b"{}", "400 BAD_REQUEST"),
        ("POST", paths.INVENTORY, b'{"guards": "yes"}', "400 BAD_REQUEST"),
        ("DELETE", paths.INVENTORY, None, "405 METHOD_NOT_ALLOWED"),
        ("GET", "/ncmp/v1/nothing", None, "404 NOT_FOUND"),
        ("GET", "/ncmpInventory/v9/ch", None, "404 NOT_FOUND"),
        ("POST", PUSH, b'{"dataProducerJobId": "x", "status": "RUNNING"}', "404 NOT_FOUND"),
        ("POST", PUSH, b'{"dataProducerJobId": "%b"}' % (b"x" * 70_000), "413 PAYLOAD_TOO_LARGE"),
    ],
)
async def test_every_error_has_ncmps_body(
    unchanged: Api, accept: dict[str, str], method: str, path: str, body: bytes | None, status: str
) -> None:
    """Status with its name, a message, and the cause in the details."""
    answer = await unchanged.call(method, path, data=body, headers=JSON | accept)
    error = ncmp_error(answer)
    assert error["status"] == status
    assert error["message"] and error["details"]


@changes_nothing
async def test_the_details_name_the_place_of_the_fault(unchanged: Api) -> None:
    """Pointer and cause, once; a problem has the same in its members."""
    body = {"dmiPlugin": PLUGIN, "createdCmHandles": [{"cmHandle": "a"}, {"cmHandle": 7}]}
    error = ncmp_error(await unchanged.post(paths.INVENTORY, body, headers=ANY))
    assert error == {
        "status": "400 BAD_REQUEST",
        "message": "Bad Request",
        "details": "#/createdCmHandles/1/cmHandle: must be a string; it is 7",
    }
    problem = (await unchanged.post(paths.INVENTORY, body)).problem
    assert (problem["title"], problem["detail"]) == (error["message"], error["details"])
    assert problem["errors"][0]["pointer"] == "#/createdCmHandles/1/cmHandle"


@changes_nothing
@pytest.mark.parametrize("path", [paths.JOBS, "/ncmpX/v1", "/ncmp", "/ncmpInventory", "/x"])
async def test_other_paths_keep_their_problems(unchanged: Api, path: str) -> None:
    """What an Accept header names does not matter there; the roots of NCMP's paths are NCMP's."""
    answer = await unchanged.call("DELETE", path, headers=NCMPS)
    if path[1:] in paths.NCMP_ROOTS:
        ncmp_error(answer)
    else:
        assert answer.problem["status"] in (404, 405)


async def test_callers_that_may_not_and_unknown_hosts_get_it_too(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """401 with its challenge, 403, and what the check in front of the router refuses."""
    path = tmp_path / "tokens"
    reader = {"Authorization": f"Bearer {add(path, 'reader', Role.READ)}"}
    async with northbound_api(database, tmp_path, free_port, tokens_file=path) as api:
        answer = await api.post(paths.INVENTORY, {}, headers=ANY)
        assert ncmp_error(answer)["status"] == "401 UNAUTHORIZED"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        answer = await api.post(paths.INVENTORY, {}, headers=ANY | reader)
        assert ncmp_error(answer)["status"] == "403 FORBIDDEN"
        answer = await api.post(paths.INVENTORY, {}, headers=ANY | {"Host": "evil.example"})
        assert "DATAJOBS_ALLOWED_HOSTS" in ncmp_error(answer)["details"]
        answer = await api.post(paths.INVENTORY, {}, headers=ANY | {"Origin": "http://evil.example"})
        assert ncmp_error(answer)["status"] == "403 FORBIDDEN"


@changes_nothing
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StoreUnavailable("the database is away"), "503 SERVICE_UNAVAILABLE"),
        (RuntimeError("hunter2"), "500 INTERNAL_SERVER_ERROR"),
    ],
)
async def test_an_outage_and_an_unexpected_error_have_it(
    unchanged: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str
) -> None:
    """503 says when to come again. A 500 shows nothing of the error."""

    async def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(registry, "register", fail)
    answer = await unchanged.post(paths.INVENTORY, {}, headers=ANY)
    body = ncmp_error(answer)
    assert body["status"] == status
    assert ("Retry-After" in answer.headers) == (answer.status == 503)
    assert "hunter2" not in answer.body.decode()
