# SPDX-License-Identifier: Apache-2.0
"""A data job's events over HTTP: live, resumed, bounded, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
import pytest

from ran_datajobs.api import paths
from ran_datajobs.model import OperationState, Status
from ran_datajobs.store.database import Database
from tests.kit.api_service import Api, end_job, northbound_api, outcome, plan, register, writes

pytestmark = pytest.mark.damages_rows  # the tests end jobs by hand, no worker runs

DONE = [outcome("1", OperationState.SUCCEEDED)]


class Event(msgspec.Struct, frozen=True):
    """One event of a stream."""

    name: str
    id: int
    data: dict[str, Any]


@pytest.fixture
async def api(database: Database, tmp_path: Path, free_port: int) -> AsyncIterator[Api]:
    """The API of a service on one machine."""
    async with northbound_api(database, tmp_path, free_port) as running:
        yield running


@contextlib.asynccontextmanager
async def events(
    api: Api, job_id: UUID, last: int | str | None = None
) -> AsyncIterator[AsyncIterator[Event]]:
    """The job's events until the stream ends."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    address = f"{api.root}{paths.JOBS}/{job_id}/events"
    async with asyncio.timeout(20), api.session.get(address, headers=headers) as response:
        assert response.status == 200, await response.read()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield _parsed(response)


async def _parsed(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "event" in fields:
            yield Event(fields["event"], int(fields["id"]), msgspec.json.decode(fields["data"]))
            fields = {}


async def until(stream: AsyncIterator[Event], name: str) -> list[Event]:
    """The events up to and including the next one called ``name``."""
    found = []
    async for event in stream:
        found.append(event)
        if event.name == name:
            return found
    raise AssertionError(f"the stream ended without {name}: {found}")


async def test_a_stream_tells_a_job_from_start_to_end(api: Api) -> None:
    """First the status, then each sub-job and the progress, last the terminal status; then the stream
    ends."""
    await register(api, 0, 1)
    job_id = await api.accepted(writes(2))
    async with events(api, job_id) as stream:
        begun = await until(stream, "status")
        assert [event.name for event in begun] == ["progress", "status"]
        assert begun[-1].data["status"] == "NOT_STARTED"
        await plan(api, job_id)
        planned = await until(stream, "subjob") + await until(stream, "subjob")
        assert [event.data["dataProducerId"] for event in planned if event.name == "subjob"] == [
            "producer-0",
            "producer-1",
        ]
        await end_job(api, job_id, Status.FINISHED, [outcome(n, OperationState.SUCCEEDED) for n in range(2)])
        rest = [event async for event in stream]
    assert rest[-1].name == "status"
    assert rest[-1].data["status"] == "FINSHED"
    assert rest[-1].data == (await api.get(f"{paths.JOBS}/{job_id}")).json()
    everything = begun + planned + rest
    assert all("status" in event.data for event in everything)
    assert [event.id for event in everything] == sorted(event.id for event in everything)
    assert everything[-2].data["progressPercentage"] == 100


async def test_a_stream_goes_on_behind_the_last_event_that_was_seen(api: Api) -> None:
    """With Last-Event-ID no event is lost: the stream resumes with the sub-job events after it."""
    await register(api, *range(4))
    job_id = await api.accepted(writes(4))
    async with events(api, job_id) as stream:
        before = await until(stream, "status")
    await plan(api, job_id)
    async with events(api, job_id, before[-1].id) as stream:
        found = await until(stream, "status")
    assert [event.data["dataProducerId"] for event in found if event.name == "subjob"] == [
        f"producer-{n}" for n in range(4)
    ]
    async with events(api, job_id, found[-1].id) as stream:
        assert [event.name for event in await until(stream, "status")] == ["progress", "status"]


async def test_more_sub_jobs_than_one_read_takes_all_come_once(api: Api) -> None:
    """1,200 sub-jobs of one version are sent as one run of events without repeats. Only the last one has the
    id."""
    await register(api, *range(1200))
    job_id = await api.accepted(writes(1200))
    await plan(api, job_id)
    async with events(api, job_id) as stream:
        found = await until(stream, "status")
    sub_jobs = [event for event in found if event.name == "subjob"]
    assert [event.data["dataProducerId"] for event in sub_jobs] == [f"producer-{n}" for n in range(1200)]
    assert {event.id for event in sub_jobs} == {found[-1].id - 1}


@pytest.mark.parametrize("last", ["-1", "x", "9" * 30, "1.5"])
async def test_a_foreign_last_event_id_starts_from_the_beginning(api: Api, last: str) -> None:
    """An id of another form is ignored, as the standard of server-sent events requires."""
    job_id = await api.accepted()
    async with events(api, job_id, last) as stream:
        assert (await until(stream, "status"))[-1].data["status"] == "NOT_STARTED"


async def test_a_terminal_job_is_told_once_and_the_stream_ends(api: Api) -> None:
    """Also for a client that has seen the last event: the last event is always the terminal status."""
    job_id = await api.accepted()
    await end_job(api, job_id, Status.FINISHED, DONE)
    async with events(api, job_id) as stream:
        first = [event async for event in stream]
    async with events(api, job_id, first[-1].id) as stream:
        again = [event async for event in stream]
    for received in (first, again):
        assert (received[-1].name, received[-1].data["status"]) == ("status", "FINSHED")


async def test_a_stopping_service_ends_its_streams(api: Api) -> None:
    """The stream ends in order, without a terminal status: the client resumes at another server."""
    job_id = await api.accepted()
    async with events(api, job_id) as stream:
        await until(stream, "status")
        api.parts.stopping.set()
        assert [event async for event in stream] == []


async def test_a_lost_connection_to_the_store_is_not_the_end(api: Api, database_url: str) -> None:
    """When the database ends the listening connection, the stream continues with the changes made
    meanwhile."""
    job_id = await api.accepted()
    async with events(api, job_id) as stream:
        await until(stream, "status")
        while not await api.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where query ilike 'listen%' and datname = current_database()"
        ):
            await asyncio.sleep(0)
        await end_job(api, job_id, Status.FINISHED, DONE)
        rest = [event async for event in stream]
    assert rest[-1].data["status"] == "FINSHED"


async def test_a_silent_stream_is_kept_alive(database: Database, tmp_path: Path, free_port: int) -> None:
    """Without events the stream sends comments, so that no proxy closes it as idle."""
    async with northbound_api(database, tmp_path, free_port, event_keep_alive=0.05) as api:
        job_id = await api.accepted()
        address = f"{api.root}{paths.JOBS}/{job_id}/events"
        async with asyncio.timeout(20), api.session.get(address) as response:
            comments = 0
            async for line in response.content:
                comments += line.startswith(b":")
                if comments == 2:
                    break


async def test_streams_are_bounded(database: Database, tmp_path: Path, free_port: int) -> None:
    """A stream over the limit is a 429. When one ends, the next one is accepted."""
    async with northbound_api(database, tmp_path, free_port, max_event_streams=1) as api:
        job_id = await api.accepted()
        async with events(api, job_id) as stream:
            await until(stream, "status")
            refused = await api.get(f"{paths.JOBS}/{job_id}/events")
            assert refused.problem["status"] == 429
            assert int(refused.headers["Retry-After"]) > 0
        async with asyncio.timeout(10):
            while (await _status(api, job_id)) == 429:
                await asyncio.sleep(0)


async def test_streams_that_are_asked_for_at_once_are_bounded(
    database: Database, tmp_path: Path, free_port: int
) -> None:
    """Of many concurrent requests, no more than the limit are accepted."""
    async with northbound_api(database, tmp_path, free_port, max_event_streams=2) as api:
        job_id = await api.accepted()
        async with contextlib.AsyncExitStack() as stack:
            url = f"{api.root}{paths.JOBS}/{job_id}/events"
            answers = await asyncio.gather(
                *(stack.enter_async_context(api.session.get(url)) for _ in range(20))
            )
            assert sorted(answer.status for answer in answers) == [200] * 2 + [429] * 18


async def _status(api: Api, job_id: UUID) -> int:
    async with api.session.get(f"{api.root}{paths.JOBS}/{job_id}/events") as response:
        return response.status
