# SPDX-License-Identifier: Apache-2.0
"""Permission of a policy executor for jobs, over real HTTP: before the 202 with the caller's credentials, or
at planning with the service's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace

from ran_datajobs.config import Settings
from ran_datajobs.dispatch.steps import MOST_TRIES
from ran_datajobs.errors import PolicyUnavailable
from ran_datajobs.http.ports import free_port as another_port
from ran_datajobs.model import OperationState, Status
from ran_datajobs.planning.policy import NOT_ASKED
from ran_datajobs.plugins import policy as plugins_policy
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.plugins.policy import Denied, PolicyExecutor, Refused, Unreachable
from ran_datajobs.store.database import Database
from ran_datajobs.store.dispatch import LeasedJob
from ran_datajobs.telemetry import Metrics, logger
from tests.kit.api_service import READ, Api, end_job, northbound_api, outcome, register
from tests.kit.plugins.scripted import ScriptedPlugin
from tests.kit.policy import Asked, ScriptedPolicy
from tests.kit.whole_service import whole_service
from tests.kit.worker_parts import Parts, claim_jobs, log_lines, until, void_leases, worker_parts
from tests.tiers import nightly

SECRET = "tok-of-the-caller"


def write(element: int, operation_id: str) -> dict[str, Any]:
    path = f"/SubNetwork=A/ManagedElement={element}"
    return {"op": "merge", "path": path, "operationId": operation_id, "value": {"a": 1}}


def of_element_2(asked: Asked) -> str | None:
    """Deny what is for the second element."""
    return "locked" if asked["entityHandleId"] == "ch-2" else None


TWO = {"data": [write(1, "one"), write(2, "two"), write(9, "nobody")]}


@contextlib.asynccontextmanager
async def executor_at(url: str, credentials: Credentials | None = None) -> AsyncIterator[PolicyExecutor]:
    """The client of a policy executor, as in production."""
    async with PeerHttp(plugins_policy.bounds()) as http:
        yield PolicyExecutor(url, http, credentials or Credentials(None), logger(), Metrics())


class Service:
    """An API, a worker that is not running, and the policy executor that both ask."""

    def __init__(self, api: Api, policy: ScriptedPolicy, executor: PolicyExecutor, parts: Parts) -> None:
        self.api, self.policy, self.executor, self.parts = api, policy, executor, parts

    async def leased(self) -> LeasedJob:
        """The job that is due, claimed for its next step."""
        (job,) = await claim_jobs(self.api.parts.database)
        return job

    async def planned(self, job_id: UUID) -> Any:
        """The job as GET shows it, once a worker has planned it."""
        await self.parts.steps.plan(await self.leased())
        return (await self.api.get(f"/ranoam/cm/v1/dataJob/{job_id}")).json()

    async def failures(self, job_id: UUID) -> dict[str, tuple[str, str, str]]:
        """State, reason and detail of each operation that did not succeed."""
        found = (await self.api.get(f"/ranoam/cm/v1/dataJob/{job_id}/failures")).json()["items"]
        return {each["operationId"]: (each["state"], each["reason"], each["detail"]) for each in found}

    async def sent_to(self) -> list[str]:
        """The data producers that sub-jobs are for."""
        query = "select l.data_producer_id as id from sub_job join lane l using (lane_id) order by 1"
        return [row["id"] for row in await self.api.rows(query)]


@contextlib.asynccontextmanager
async def service(
    database: Database, folder: Path, token: str = "", **settings: str
) -> AsyncIterator[Service]:
    """A service with two elements and ``DATAJOBS_POLICY_…`` as in ``settings``. ``token``: its own."""
    policy, file = ScriptedPolicy(of_element_2), folder / "credentials"
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(policy.serving())
        file.write_text(json.dumps({url: {"token": token}} if token else {}))
        executor = await stack.enter_async_context(executor_at(url, Credentials(file)))
        changes = {f"policy_{name}": value for name, value in ({"url": url} | settings).items()}
        async with northbound_api(database, folder, another_port(), policy=executor, **changes) as api:
            await register(api, 1, 2)
            parts = worker_parts(
                database,
                api.parts.objects,
                index=api.parts.owners,
                settings=api.parts.settings,
                policy=executor,
            )
            yield Service(api, policy, executor, parts)


# --- with the service's own credentials ------------------------------------------------------------------


async def test_a_denied_operation_fails_with_the_message(database: Database, tmp_path: Path) -> None:
    """The others are sent. What nobody owns is not asked for, nor is a job that was cancelled. The requests
    have the credentials of the file."""
    async with service(database, tmp_path, token="own-token") as tested:
        job_id = await tested.api.accepted(TWO)
        assert tested.policy.requests == []
        job = await tested.planned(job_id)
        assert (job["status"], job["operations"]["failed"], job["operations"]["unmatched"]) == (
            "NOT_STARTED",
            1,
            1,
        )
        assert [[each["entityHandleId"] for each in request] for request in tested.policy.requests] == [
            ["ch-1", "ch-2"],
            ["ch-1"],
            ["ch-2"],
        ]
        assert set(tested.policy.authorizations) == {"Bearer own-token"}
        assert await tested.sent_to() == ["producer-1"]
        failures = await tested.failures(job_id)
        assert failures["two"] == ("FAILED", "POLICY_DENIED", "the policy executor denies it: locked")
        assert failures["nobody"][1] == "UNMATCHED"
        cancelled = await tested.api.accepted(TWO)
        assert (await tested.api.post(f"/ranoam/cm/v1/dataJob/{cancelled}/cancel")).status == 202
        await tested.planned(cancelled)
        assert len(tested.policy.requests) == 3
        query = "select distinct cancel_requested, stage::text from sub_job where job_id = $1"
        stopped = {"cancel_requested": True, "stage": "WAITING"}
        assert await tested.api.rows(query, cancelled) == [stopped]


async def test_a_denied_operation_can_fail_the_whole_job(database: Database, tmp_path: Path) -> None:
    """Nothing is sent, and each operation has a reason. A retry asks again and has all of them."""
    async with service(database, tmp_path, scope="job") as tested:
        job_id = await tested.api.accepted(TWO)
        await tested.planned(job_id)
        await tested.parts.steps.finish(await tested.leased())
        job = (await tested.api.get(f"/ranoam/cm/v1/dataJob/{job_id}")).json()
        counts = {name: job["operations"][name] for name in ("failed", "notStarted", "unmatched", "pending")}
        assert job["status"] == "FAILED"
        assert counts == {"failed": 1, "notStarted": 1, "unmatched": 1, "pending": 0}
        failures = await tested.failures(job_id)
        assert failures["one"][:2] == ("NOT_STARTED", "NOT_STARTED")
        assert failures["two"][:2] == ("FAILED", "POLICY_DENIED")
        tested.policy.denies = lambda _: None
        again = await tested.api.post(f"/ranoam/cm/v1/dataJob/{job_id}/retry")
        job = await tested.planned(UUID(again.json()["jobId"]))
        assert job["operations"]["pending"] == 2
        assert await tested.sent_to() == ["producer-1", "producer-2"]


async def test_a_worker_that_dies_while_it_asks_has_sent_nothing(database: Database, tmp_path: Path) -> None:
    """Another worker asks again and plans the job once. The first one, should it go on, changes nothing."""
    async with service(database, tmp_path) as tested:
        await tested.api.accepted(TWO)
        held = tested.policy.held = asyncio.Event()
        dying = asyncio.create_task(tested.parts.steps.plan(await tested.leased()))
        await until(lambda: len(tested.policy.requests) == 1)
        dying.cancel()
        assert await tested.sent_to() == []
        await void_leases(database)
        tested.policy.held = None
        held.set()
        await tested.parts.steps.plan(await tested.leased())
        assert await tested.sent_to() == ["producer-1"]


@pytest.mark.parametrize(
    ("unreachable", "sent"), [("deny", []), nightly(("allow", ["producer-1", "producer-2"]))]
)
async def test_a_policy_executor_that_does_not_answer_is_asked_for_a_while(
    database: Database, tmp_path: Path, unreachable: str, sent: list[str]
) -> None:
    """The job waits in the queue; after the last try the setting decides, and the details say so. This is
    logged once."""
    with log_lines() as lines:
        async with service(database, tmp_path, unreachable=unreachable) as tested:
            tested.policy.statuses = [503] * 4
            job_id = await tested.api.accepted(TWO)
            job = await tested.leased()
            with pytest.raises(PolicyUnavailable, match="HTTP 503: it is a test"):
                await tested.parts.steps.plan(job)
            assert await tested.sent_to() == []
            await tested.parts.steps.plan(replace(job, step_failures=MOST_TRIES - 1))
            assert await tested.sent_to() == sent
            failures = await tested.failures(job_id)
            why = "the policy executor could not be asked: HTTP 503: it is a test"
            assert {each[2] for name, each in failures.items() if name != "nobody"} == (
                {why} if not sent else set()
            )
            dry_run = await tested.api.submit(TWO, "?dryRun=true")
            assert len(dry_run.json()["subJobs"]) == 1
    events = [(each["event"], each["cause"]) for each in lines() if each["event"] == "policy.unavailable"]
    assert events == [("policy.unavailable", "HTTP 503: it is a test")]
    assert [each["event"] for each in lines()].count("policy.available") == 1


@pytest.mark.nightly
async def test_one_inquiry_at_a_time_finds_out_whether_it_answers_again(
    database: Database, tmp_path: Path
) -> None:
    """While it was silent last and is being asked, the plans of other jobs do not wait for it."""
    async with service(database, tmp_path) as tested:
        tested.policy.statuses = [503] * 2
        await tested.api.accepted(TWO)
        first = await tested.leased()
        with pytest.raises(PolicyUnavailable):
            await tested.parts.steps.plan(first)
        tested.policy.held = asyncio.Event()
        asking = asyncio.create_task(tested.parts.steps.plan(first))
        await until(lambda: len(tested.policy.requests) == 3)
        with pytest.raises(PolicyUnavailable):
            await tested.parts.steps.plan(first)
        assert len(tested.policy.requests) == 3
        tested.policy.held.set()
        await asking
        assert await tested.sent_to() == ["producer-1"]


# --- with those of the caller ----------------------------------------------------------------------------


@pytest.mark.damages_rows
async def test_the_caller_is_asked_for_before_the_202(database: Database, tmp_path: Path) -> None:
    """The header goes to the policy executor and nowhere else. The worker uses the answers, and asks nobody.
    A retry is asked for with the header of its own request, and a read not at all."""
    with log_lines() as lines:
        async with service(database, tmp_path, authorization="caller") as tested:
            headers = {"Authorization": f"Bearer {SECRET}"}
            tested.policy.denies = lambda asked: of_element_2(asked) and f"no, {SECRET}"
            job_id = await tested.api.accepted(TWO, headers=headers)
            assert len(tested.policy.requests) == 3
            assert set(tested.policy.authorizations) == {f"Bearer {SECRET}"}
            await register(tested.api, 9)
            await tested.planned(job_id)
            assert len(tested.policy.requests) == 3
            assert await tested.sent_to() == ["producer-1"]
            failures = await tested.failures(job_id)
            assert failures["two"][2] == "the policy executor denies it: it gives no message"
            assert failures["nobody"][1:] == ("POLICY_DENIED", NOT_ASKED)
            await end_job(tested.api, job_id, Status.FAILED, [outcome("one", OperationState.FAILED)])
            other = {"Authorization": "Bearer another"}
            retry = await tested.api.post(f"/ranoam/cm/v1/dataJob/{job_id}/retry", headers=other)
            assert retry.status == 202
            assert set(tested.policy.authorizations[3:]) == {"Bearer another"}
            requests = len(tested.policy.requests)
            await tested.api.accepted(READ, headers=other)
            assert len(tested.policy.requests) == requests
            for table in await tested.api.rows(
                "select tablename as name from pg_tables where schemaname = 'public'"
            ):
                for row in await tested.api.rows(f"select t::text as text from {table['name']} t"):
                    assert SECRET not in row["text"]
    assert not any(SECRET in str(line) for line in lines())


@pytest.mark.nightly
async def test_a_job_that_nobody_was_asked_for_is_denied(database: Database, tmp_path: Path) -> None:
    """It was accepted before the setting, or by an API without it: the caller's header is gone."""
    async with service(database, tmp_path, authorization="caller") as tested:
        async with northbound_api(database, tmp_path, another_port()) as older:
            job_id = await older.accepted(TWO)
        await tested.planned(job_id)
        assert tested.policy.requests == []
        assert {each[2] for each in (await tested.failures(job_id)).values()} >= {NOT_ASKED}
        assert await tested.sent_to() == []


@pytest.mark.parametrize("authorization", ["own", nightly("caller")])
async def test_a_dry_run_shows_what_is_denied(database: Database, tmp_path: Path, authorization: str) -> None:
    """It asks as the job would, and keeps nothing. A dry run of reads asks nobody."""
    async with service(database, tmp_path, authorization=authorization) as tested:
        answer = await tested.api.submit(TWO, "?dryRun=true", headers={"Authorization": f"Bearer {SECRET}"})
        plan = answer.json()
        assert [each["dataProducerId"] for each in plan["subJobs"]] == ["producer-1"]
        assert plan["operations"] == {"total": 3, "unmatched": 1}
        denied, unmatched = plan["unmatched"]
        assert (denied["operationId"], denied["reason"]) == ("two", "POLICY_DENIED")
        assert denied["detail"] == "the policy executor denies it: locked"
        assert "detail" not in unmatched
        assert await tested.api.left_behind() == {"data_job": 0, "job_request": 0, "idempotency_key": 0}
        wanted = f"Bearer {SECRET}" if authorization == "caller" else None
        assert set(tested.policy.authorizations) == {wanted}
        assert (await tested.api.submit(READ, "?dryRun=true")).status == 200
        assert len(tested.policy.requests) == 3


# --- other interfaces ------------------------------------------------------------------------------------


async def test_writes_of_provmns_and_of_the_test_interface_are_asked_for(
    database_url: str, tmp_path: Path
) -> None:
    """They are ordinary jobs. The first operation that is denied is the answer to a patch: what is before it
    is executed, what is behind it is not."""
    policy, plugin = ScriptedPolicy(), ScriptedPlugin()
    policy.denies = lambda asked: "locked" if "B" in asked["changeRequest"] else None
    settings = {"policy_authorization": "caller", "onap_test_api": "1"}
    async with (
        plugin.serving() as address,
        policy.serving() as url,
        whole_service(database_url, tmp_path, policy_url=url, **settings) as running,
        aiohttp.ClientSession(running.root) as session,
    ):
        await running.register(address, {"/ManagedElement=1": "p"}, stopOnError=True)
        names = ("A", "B", "C")
        items = [
            {"op": "add", "path": f"/{name}=1", "value": {"id": "1", "attributes": {}}} for name in names
        ]
        headers = {"Content-Type": "application/3gpp-json-patch+json", "Authorization": f"Bearer {SECRET}"}
        async with session.patch(
            "/ProvMnS/v1/ManagedElement=1", data=json.dumps(items), headers=headers
        ) as answer:
            problem = await answer.json(content_type=None)
        assert (answer.status, problem["badOp"], problem["reason"]) == (409, "/1", "POLICY_DENIED"), problem
        assert "locked" in problem["detail"]
        executed = [each for job in plugin.history for each in job.operations]
        assert [each.path for each in executed] == ["/ManagedElement=1/A=1"]
        write = {"op": "add", "path": "/ManagedElement=1/B=2", "operationId": "1", "value": {}}
        metadata = {"destination": "d", "dataAcceptType": "a/b", "dataContentType": "c/d"}
        body = {"dataJobMetadata": metadata, "dataJobWriteRequest": {"data": [write]}}
        async with session.post(
            "/do-not-use/dataJobs/j/write", json=body, headers={"Authorization": "Bearer another"}
        ) as answer:
            assert (answer.status, await answer.json()) == (200, [])
        assert set(policy.authorizations) == {f"Bearer {SECRET}", "Bearer another"}
        assert len(plugin.history) == 1


# --- answers over HTTP -----------------------------------------------------------------------------------


class OneQuestion:
    """A question with a fixed body."""

    def body(self) -> bytes:
        """The body."""
        return b"{}"


def one_decision() -> Any:
    """An inquiry of one question; its result is the decision."""
    (decision,) = yield [OneQuestion()]
    return decision


async def test_answers_are_bounded_and_redirects_are_not_followed(free_port: int) -> None:
    """A large answer denies, a redirect is refused, a closed port is unreachable."""
    large = b'{"permissionResult":"allow","message":"' + b"x" * 300_000 + b'"}'
    answers = [web.Response(body=large), web.Response(status=307, headers={"Location": "/allow"})]

    async def answer(request: web.Request) -> web.Response:
        return answers.pop(0)

    app = web.Application()
    app.add_routes([web.post(plugins_policy.PERMISSIONS, answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", free_port).start()
    url = f"http://127.0.0.1:{free_port}"
    try:
        async with executor_at(url) as executor:
            assert isinstance(await executor.answer(one_decision()), Denied)
            assert await executor.answer(one_decision()) == Refused("HTTP 307")
            await runner.cleanup()
            assert await executor.answer(one_decision()) == Unreachable("connection refused")
            odd = await executor.answer(one_decision(), as_caller=True, authorization="Bearer a\nb: c")
            assert isinstance(odd, Unreachable)
    finally:
        await runner.cleanup()


def test_the_settings_say_who_is_asked() -> None:
    """Without a policy executor no header of a caller is kept."""
    assert not Settings(policy_authorization="caller").asks_policy_as_caller
    assert Settings(policy_authorization="caller", policy_url="http://127.0.0.1:1").asks_policy_as_caller
