# SPDX-License-Identifier: Apache-2.0
"""Authorization: every route with every role, own jobs only, known hosts, same origin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from litestar.routes import HTTPRoute

from ran_datajobs.api import auth, paths
from ran_datajobs.api.auth import PUBLIC
from ran_datajobs.api.router import build
from ran_datajobs.api.tokens import Role, add
from ran_datajobs.messaging.topics import INTERNAL_TOPIC, STATUS_TOPIC
from ran_datajobs.model import OperationState, Status
from ran_datajobs.plugins.wire import aiohttp_route
from ran_datajobs.store.database import Database
from tests.kit.api_service import (
    PLUGIN,
    WRITE,
    Answer,
    Api,
    end_job,
    northbound_api,
    outcome,
    plan,
    publish,
    register,
    writes,
)

pytestmark = pytest.mark.damages_rows  # the tests end jobs by hand, no worker runs

INTERNAL = paths.fill(paths.TOPIC_MESSAGES, topic=INTERNAL_TOPIC)


class Callers:
    """One token for each role, and a second client with the role to submit."""

    def __init__(self, api: Api, path: Path) -> None:
        self.api = api
        self.headers = {
            name: {"Authorization": f"Bearer {add(path, name, role, dmi_url)}"}
            for name, role, dmi_url in (
                ("read", Role.READ, None),
                ("submit", Role.SUBMIT, None),
                ("other", Role.SUBMIT, None),
                ("plugin", Role.PLUGIN, PLUGIN),
                ("other-plugin", Role.PLUGIN, "http://127.0.0.1:10"),
                ("admin", Role.ADMIN, None),
            )
        }

    async def get(self, caller: str, path: str) -> Answer:
        """GET as ``caller``."""
        return await self.api.get(path, headers=self.headers[caller])

    async def post(self, caller: str, path: str, body: Any = None) -> Answer:
        """POST as ``caller``."""
        return await self.api.post(path, body, headers=self.headers[caller])

    async def submitted(self, caller: str, body: Any = WRITE, query: str = "") -> UUID:
        """Submit a job as ``caller``."""
        return await self.api.accepted(body, query, headers=self.headers[caller])


@pytest.fixture
async def callers(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Callers]:
    """The API with a tokens file."""
    path = tmp_path / "tokens"
    async with northbound_api(database, tmp_path, free_port, tokens_file=path) as api:
        yield Callers(api, path)


EXPECTED = {
    ("POST", paths.JOBS): {"submit", "admin"},
    ("GET", paths.JOBS): {"read", "submit", "admin"},
    ("GET", paths.JOB): {"read", "submit", "admin"},
    ("GET", paths.SUB_JOBS): {"read", "submit", "admin"},
    ("GET", paths.FAILURES): {"read", "submit", "admin"},
    ("GET", paths.OUTCOMES): {"read", "submit", "admin"},
    ("GET", paths.REQUEST): {"read", "submit", "admin"},
    ("GET", paths.EVENTS): {"read", "submit", "admin"},
    ("GET", paths.REASONS): {"read", "submit", "admin"},
    ("POST", paths.CANCEL): {"submit", "admin"},
    ("POST", paths.RETRY): {"submit", "admin"},
    ("POST", paths.REDELIVER): {"submit", "admin"},
    ("GET", paths.BUCKET): {"read", "submit", "admin"},
    ("GET", paths.OBJECT): {"read", "submit", "admin"},
    ("GET", paths.TOPIC_MESSAGES): {"read", "submit", "admin"},
    ("POST", paths.TOPIC_MESSAGES): {"plugin", "admin"},
    ("POST", paths.STATUS_PUSH): {"plugin", "admin"},
    ("POST", paths.INVENTORY): {"admin"},
    ("GET", paths.INVENTORY): {"plugin", "admin"},
    ("PUT", paths.MODULE_SET): {"admin"},
    ("GET", paths.MODULE_SET): {"read", "submit", "admin"},
    ("DELETE", paths.MODULE_SET): {"admin"},
    ("GET", paths.PLUGIN_HANDLES): {"plugin", "admin"},
    ("POST", paths.INVENTORY_ID_SEARCHES): {"plugin", "admin"},
    ("POST", paths.INVENTORY_SEARCHES): {"plugin", "admin"},
    ("POST", paths.INVENTORY_SEARCHES_V2): {"plugin", "admin"},
    ("POST", paths.ID_SEARCHES): {"read", "submit", "admin"},
    ("POST", paths.SEARCHES): {"read", "submit", "admin"},
    ("POST", paths.SEARCHES_V2): {"read", "submit", "admin"},
    ("GET", paths.HANDLE): {"read", "submit", "admin"},
    ("GET", paths.HANDLE_V2): {"read", "submit", "admin"},
    ("GET", paths.HANDLE_PROPERTIES): {"read", "submit", "admin"},
    ("GET", paths.HANDLE_STATE): {"read", "submit", "admin"},
    ("GET", paths.HANDLE_MODULES): {"read", "submit", "admin"},
    ("GET", paths.CM_HANDLES): {"read", "submit", "admin"},
    ("GET", paths.CM_HANDLE_OWNER): {"read", "submit", "admin"},
    ("GET", paths.CM_HANDLE_CHILDREN): {"read", "submit", "admin"},
    ("GET", paths.PROVMNS_ROOT): {"read", "submit", "admin"},
    ("GET", paths.PROVMNS): {"read", "submit", "admin"},
    ("PATCH", paths.PROVMNS): {"submit", "admin"},
    ("PUT", paths.PROVMNS): {"submit", "admin"},
    ("DELETE", paths.PROVMNS): {"submit", "admin"},
    ("POST", paths.ACTION): {"submit", "admin"},
    ("GET", paths.METRICS): {"read", "submit", "admin"},
    ("GET", paths.HEALTHZ): None,
    ("GET", paths.READYZ): None,
    ("GET", paths.SCHEMA): None,
    ("GET", paths.SCHEMA_FILE): None,
    ("GET", paths.SCHEMA + "/{path:str}"): None,
    ("GET", paths.PAGE): None,
    ("GET", paths.PAGE_FILE): None,
}
"""Written a second time, so that a change of the table in the code fails here. None: any caller."""


def roles_of_routes(api: Api) -> dict[tuple[str, str], frozenset[Role]]:
    """The roles that may call each (method, path) of the application."""
    return {
        (method, route.path_format): handler.opt[auth.ROLES]
        for route in build(api.parts).routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS"
    }


async def test_every_route_is_in_this_table(callers: Callers) -> None:
    """A new route fails here until its roles are listed."""
    assert {
        key: {str(role) for role in roles} or None for key, roles in roles_of_routes(callers.api).items()
    } == {(method, aiohttp_route(path)): roles for (method, path), roles in EXPECTED.items()}


async def test_a_route_without_roles_is_refused_to_every_caller(
    callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no default: a route without declared roles refuses even an administrator."""
    monkeypatch.setattr(auth, "ROLES", "unknown")
    for caller in ("read", "admin"):
        assert (await callers.get(caller, paths.HEALTHZ)).problem["status"] == 500


NO_TOKENS: tuple[dict[str, str], ...] = (
    {},
    {"Authorization": "Bearer wrong"},
    {"Authorization": "Basic eDp5"},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer " + "x" * 4000},
)


async def test_every_role_on_every_route(callers: Callers) -> None:
    """401 without a valid token, 403 for a wrong role; an authorized caller passes both checks."""
    for (method, path), allowed in EXPECTED.items():
        filled = paths.fill(
            path,
            job_id=uuid4(),
            sub_job_id=uuid4(),
            bucket_id="datajobs-results",
            part="x/0.json",
            topic=INTERNAL_TOPIC,
            reference="ch-1",
            tag="t",
            dn="A=1",
            dn_and_action="A=1/act",
            file="page.js",
            path="openapi.json",
        )
        for role in Role:
            answer = await callers.api.call(method, filled, headers=callers.headers[role])
            if allowed is None or role in allowed:
                assert answer.status not in (401, 403), (method, path, role, answer.body)
            else:
                assert answer.problem["status"] == 403, (method, path, role)
        for headers in NO_TOKENS:
            answer = await callers.api.call(method, filled, headers=headers)
            if allowed is None:
                assert answer.status not in (401, 403), (method, path, headers)
            else:
                assert answer.problem["status"] == 401, (method, path, headers)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_what_needs_no_token_is_what_the_table_says(callers: Callers) -> None:
    """Only probes, schema and page need no token."""
    public = {path for (_, path), roles in roles_of_routes(callers.api).items() if roles == PUBLIC}
    assert public == {
        "/",
        "/{file}",
        "/healthz",
        "/readyz",
        "/schema",
        "/schema/openapi.json",
        "/schema/{path}",
    }


async def test_a_client_sees_and_touches_its_own_jobs_only(callers: Callers) -> None:
    """Another client's job is a 404 at every call, and is in no list. An administrator sees all jobs."""
    mine, theirs = await callers.submitted("submit"), await callers.submitted("other")
    await end_job(callers.api, theirs, Status.FAILED, [outcome("1", OperationState.FAILED)])
    (part,) = await callers.api.rows("select key from result_part")
    foreign = f"{paths.JOBS}/{theirs}"
    for path in (
        foreign,
        f"{foreign}/subJobs",
        f"{foreign}/failures",
        f"{foreign}/events",
        f"/s3-bucket/datajobs-results?jobId={theirs}",
        f"/s3-bucket/datajobs-results/{part['key']}",
        f"/s3-bucket/datajobs-results/{theirs}/manifest.json",
    ):
        assert (await callers.get("submit", path)).problem["status"] == 404, path
        assert (await callers.get("other", path)).status == 200, path
        assert (await callers.get("admin", path)).status == 200, path
    for what in ("cancel", "retry", "redeliver"):
        assert (await callers.post("submit", f"{foreign}/{what}")).problem["status"] == 404
    after = await callers.post("submit", paths.JOBS, WRITE | {"after": [str(theirs)]})
    assert after.problem["status"] == 400

    async def listed(caller: str) -> set[str]:
        return {job["jobId"] for job in (await callers.get(caller, paths.JOBS)).json()["items"]}

    async def begun_as_theirs(caller: str) -> list[str]:
        page = await callers.get(caller, f"{paths.JOBS}?idPrefix={str(theirs)[:18]}")
        return [job["jobId"] for job in page.json()["items"]]

    assert (await begun_as_theirs("submit"), await begun_as_theirs("other")) == ([], [str(theirs)])
    assert await listed("submit") == {str(mine)}
    assert await listed("other") == {str(theirs)}
    assert await listed("read") == set()
    assert await listed("admin") == {str(mine), str(theirs)}


async def test_keys_of_two_clients_do_not_meet(callers: Callers) -> None:
    """The same Idempotency-Key of another client is a different key."""
    ids = {
        (await callers.api.submit(headers=callers.headers[name] | {"Idempotency-Key": "k"})).json()["jobId"]
        for name in ("submit", "other")
    }
    assert len(ids) == 2


async def test_a_shared_topic_shows_each_client_its_own_messages(callers: Callers) -> None:
    """Each client reads only the messages of its own jobs in a topic. A client without jobs there gets a
    404."""
    mine = await callers.submitted("submit", query="?destination=kafka:Shared")
    theirs = await callers.submitted("other", query="?destination=kafka:Shared")
    for job_id, caller in ((mine, "submit"), (theirs, "other")):
        await end_job(callers.api, job_id, Status.FINISHED, [outcome("1", OperationState.SUCCEEDED)])
        await publish(callers.api)
        assert (await callers.post(caller, f"{paths.JOBS}/{job_id}/redeliver")).status == 202
    await publish(callers.api)

    async def jobs_on(topic: str, caller: str) -> set[str]:
        answer = await callers.get(caller, paths.fill(paths.TOPIC_MESSAGES, topic=topic))
        return {item["headers"]["ce_correlationid"] for item in answer.json()["items"]}

    assert await jobs_on("Shared", "submit") == {str(mine)}
    assert await jobs_on("Shared", "other") == {str(theirs)}
    assert await jobs_on("Shared", "admin") == {str(mine), str(theirs)}
    read = await callers.get("read", paths.fill(paths.TOPIC_MESSAGES, topic="Shared"))
    assert read.problem["status"] == 404
    assert await jobs_on(STATUS_TOPIC, "read") == set()


async def test_a_plugin_reaches_its_own_sub_jobs_only(callers: Callers) -> None:
    """Status push and results for another plugin's sub-jobs are refused, and no message is published."""
    api = callers.api
    api.session.headers.update(callers.headers["admin"])
    await register(api, 0)
    job_id = await api.accepted(writes(1))
    await plan(api, job_id)
    await api.rows("update sub_job set stage = 'STARTING' returning 1")
    (row,) = await api.rows(
        "update sub_job set stage = 'TRACKING', data_producer_job_id = 'dp-1' returning sub_job_id"
    )
    push = paths.fill(paths.STATUS_PUSH, sub_job_id=row["sub_job_id"])
    body = {"dataProducerJobId": "dp-1", "status": "RUNNING"}
    assert (await callers.post("other-plugin", push, body)).problem["status"] == 404
    assert (await callers.post("plugin", push, body)).status == 204
    own = {"headers": {"ce_subjobid": str(row["sub_job_id"])}, "value": {}}
    by_producer_job = {"headers": {"ce_dataproducerjobid": "dp-1"}, "value": {}}
    unknown = {"headers": {"ce_subjobid": str(uuid4())}, "value": {}}
    assert (await callers.post("other-plugin", INTERNAL, {"messages": [own]})).problem["status"] == 403
    assert (await callers.post("other-plugin", INTERNAL, {"messages": [by_producer_job]})).problem[
        "status"
    ] == 403
    for stranger in (unknown, {"headers": {}, "value": {}}, {"headers": {"ce_subjobid": "x"}, "value": {}}):
        assert (await callers.post("plugin", INTERNAL, {"messages": [own, stranger]})).problem[
            "status"
        ] == 403
    assert api.parts.embedded_bus is not None
    assert await api.parts.embedded_bus.read(INTERNAL_TOPIC, 0, 10) == []
    assert (await callers.post("plugin", INTERNAL, {"messages": [own, by_producer_job]})).status == 204
    assert len(await api.parts.embedded_bus.read(INTERNAL_TOPIC, 0, 10)) == 2


async def test_a_plugin_is_known_however_its_address_was_written(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """Token and registration may spell scheme and host in any case, with or without a trailing slash."""
    path = tmp_path / "tokens"
    plugin, admin = add(path, "p", Role.PLUGIN, "HTTP://LocalHost:9/Dmi/"), add(path, "a", Role.ADMIN)
    async with northbound_api(
        database, tmp_path, free_port, {"Authorization": f"Bearer {admin}"}, tokens_file=path
    ) as api:
        await register(api, 0, plugin="http://LOCALHOST:9/Dmi")
        await plan(api, await api.accepted(writes(1)))
        await api.rows("update sub_job set stage = 'STARTING' returning 1")
        (row,) = await api.rows(
            "update sub_job set stage = 'TRACKING', data_producer_job_id = 'dp-1' returning sub_job_id"
        )
        push = paths.fill(paths.STATUS_PUSH, sub_job_id=row["sub_job_id"])
        body = {"dataProducerJobId": "dp-1", "status": "RUNNING"}
        answer = await api.post(push, body, headers={"Authorization": f"Bearer {plugin}"})
        assert answer.status == 204, answer.body
        message = {"headers": {"ce_subjobid": str(row["sub_job_id"])}, "value": {}}
        answer = await api.post(
            INTERNAL, {"messages": [message]}, headers={"Authorization": f"Bearer {plugin}"}
        )
        assert answer.status == 204, answer.body


async def test_an_unknown_host_is_a_400(database: Database, tmp_path: Path, free_port: int) -> None:
    """Unknown host names that resolve to the service are refused, except for the probes. Known ones are
    accepted."""
    async with northbound_api(database, tmp_path, free_port, allowed_hosts=("jobs.example.org",)) as api:
        for host, known in (
            ("evil.example.org", False),
            ("localhost.evil.example.org", False),
            ("evil.example.org:80@localhost", False),
            ("", False),
            (f"localhost:{free_port}", True),
            ("LOCALHOST", True),
            ("[::1]:8080", True),
            ("jobs.example.org", True),
            ("jobs.example.org:8443", True),
        ):
            answer = await api.get(paths.JOBS, headers={"Host": host})
            assert answer.status == (200 if known else 400), (host, answer.body)
            page = await api.get("/nowhere", headers={"Host": host})
            assert page.problem["status"] == (404 if known else 400)
            assert (await api.get(paths.HEALTHZ, headers={"Host": host})).status in (
                200,
                400 if not host else 200,
            )
            assert (await api.get(paths.READYZ, headers={"Host": host})).status in (
                200,
                400 if not host else 200,
            )


async def test_addresses_never_follow_the_host_header(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """statusuri and Location are below the configured root, whatever the Host of the request."""
    async with northbound_api(database, tmp_path, free_port, allowed_hosts=("jobs.example.org",)) as api:
        answer = await api.submit(
            headers={"Host": "jobs.example.org", "X-Forwarded-Host": "evil.example.org"}
        )
        assert answer.json()["statusuri"].startswith(api.root)
        assert answer.headers["Location"].startswith(api.root)


async def test_a_page_of_another_origin_writes_nothing(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """A write that a page of another origin made a browser send is a 403. The service's own page, and
    programs, pass."""
    async with northbound_api(database, tmp_path, free_port) as api:
        for headers in (
            {"Origin": "https://evil.example.org"},
            {"Origin": "null"},
            {"Origin": "http://["},
            {"Origin": f"http://127.0.0.1:{free_port + 1}"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": f"http://127.0.0.1:{free_port}", "Sec-Fetch-Site": "cross-site"},
        ):
            assert (await api.submit(headers=headers)).problem["status"] == 403, headers
            assert (await api.get(paths.JOBS, headers=headers)).status == 200
        assert (await api.left_behind())["data_job"] == 0
        for headers in (
            {},
            {"Origin": f"http://127.0.0.1:{free_port}", "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
        ):
            assert (await api.submit(headers=headers)).status == 202, headers


async def test_every_answer_has_the_security_headers(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """Also errors: no response may be framed, sniffed or cached, and none allows other origins."""
    async with northbound_api(database, tmp_path, free_port) as api:
        for answer in (
            await api.get(paths.JOBS),
            await api.get("/nowhere"),
            await api.get(paths.JOBS, headers={"Host": "evil.example.org"}),
            await api.submit(b"{"),
        ):
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Access-Control-Allow-Origin" not in answer.headers
