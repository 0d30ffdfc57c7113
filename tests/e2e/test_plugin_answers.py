# SPDX-License-Identifier: Apache-2.0
"""The responses of a plugin, over real HTTP in both dialects, and what a client of the service gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from aiohttp import web

from ran_datajobs.messaging import events
from ran_datajobs.messaging.bus import Message
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.messaging.topics import INTERNAL_TOPIC
from tests.kit.plugins.scripted import Script, ScriptedPlugin, Step
from tests.kit.whole_service import Service, called, whole_service

MARK: Final = b"\xef\xbb\xbf"
EMS: Final = "ems"
OWN: Final = b'{"result":"all is well"}'

GOOD, BAD = ("SUCCEEDED", ""), ("FAILED", "STATUS_108")
MISSING, LACKING = ("UNKNOWN", "RESULT_INCOMPLETE"), ("FAILED", "RESULT_INCOMPLETE")
UNREADABLE, NOT_READ = ("UNKNOWN", "RESULT_UNREADABLE"), ("FAILED", "RESULT_UNREADABLE")
UNSURE, STOPPED = ("UNKNOWN", "OUTCOME_UNKNOWN"), ("NOT_STARTED", "CANCELLED")


@pytest.fixture(params=["seed", "onap"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Each dialect in turn."""
    spoken: str = request.param
    return spoken


@pytest.fixture
async def service(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """Short budgets. A plugin that answers late is registered with longer ones."""
    async with whole_service(
        database_url,
        tmp_path,
        dmi_retry_timeout="1",
        dmi_timeout="2",
        dmi_result_timeout="2",
        read_result_idle_timeout="1",
        sub_job_timeout="60",
    ) as running:
        yield running


def both(first: str, second: str = '"statusCode":0', *, first_id: str = '"1"') -> bytes:
    """A result with these members about operation 1 and about operation 2."""
    return f'{{"responses":[{{"operationId":{first_id},{first}}},{{"operationId":"2",{second}}}]}}'.encode()


WRITTEN: dict[str, tuple[bytes, str, list[tuple[str, str]]]] = {
    "a message that is a number": (both('"statusCode":108,"statusMessage":17'), "FINSHED", [BAD, GOOD]),
    "a code with a fraction": (both('"statusCode":108.0'), "FINSHED", [BAD, GOOD]),
    "a code that is a text": (both('"statusCode":"108"'), "FINSHED", [BAD, GOOD]),
    "errors that are a text": (both('"statusCode":108,"errors":"none"'), "FINSHED", [BAD, GOOD]),
    "a request that is null": (both('"statusCode":108,"request":null'), "FINSHED", [BAD, GOOD]),
    "a result that is a text": (both('"statusCode":108,"result":""'), "FINSHED", [BAD, GOOD]),
    "an object for a list": (
        b'{"responses":{"operationId":"1","statusCode":108}}',
        "FINSHED",
        [BAD, MISSING],
    ),
    "a number as id": (both('"statusCode":108', first_id="1"), "FINSHED", [BAD, GOOD]),
    "a byte order mark": (MARK + both('"statusCode":108'), "FINSHED", [BAD, GOOD]),
    "a code and a state that differ": (both('"statusCode":108,"state":"SUCCEEDED"'), "FINSHED", [BAD, GOOD]),
    "a negative code": (both('"statusCode":-1,"reason":"R"'), "FINSHED", [("FAILED", "R"), GOOD]),
    "a list alone": (b'[{"operationId":"2","statusCode":0}]', "FINSHED", [MISSING, GOOD]),
    "an event": (b'{"data":%b}' % both('"statusCode":108'), "FAILED", [BAD, GOOD]),
    "no id": (b'{"responses":[{"statusCode":108},{"statusCode":0}]}', "FINSHED", [BAD, GOOD]),
    "an empty list": (b'{"responses":[]}', "FINSHED", [MISSING, MISSING]),
    "no JSON": (b"<html>500</html>", "FINSHED", [UNREADABLE, UNREADABLE]),
    "cut off": (both('"statusCode":108')[:-2], "FINSHED", [UNREADABLE, UNREADABLE]),
    "two documents": (both('"statusCode":0') + both('"statusCode":108'), "FINSHED", [UNREADABLE, UNREADABLE]),
    "no UTF-8": ("é".encode("latin-1"), "FINSHED", [UNREADABLE, UNREADABLE]),
    "nothing": (b"", "FINSHED", [UNREADABLE, UNREADABLE]),
    "an empty object": (b"{}", "FINSHED", [UNREADABLE, UNREADABLE]),
    "a problem": (
        b'{"status":500,"title":"Internal Server Error"}',
        "FINSHED",
        [UNREADABLE, UNREADABLE],
    ),
    "responses of another type": (b'{"responses":"none"}', "FINSHED", [UNREADABLE, UNREADABLE]),
    "responses under another name": (
        b'{"Responses":[{"operationId":"1","statusCode":108}]}',
        "FINSHED",
        [UNREADABLE, UNREADABLE],
    ),
    "data of its own, finished": (OWN, "FINSHED", [GOOD, GOOD]),
    "data of its own, failed": (OWN, "FAILED", [BAD, BAD]),
    "data of its own, failed in part": (OWN, "PARTIALLY_FAILED", [UNSURE, UNSURE]),
    "data of its own, cancelled": (OWN, "CANCELLED", [STOPPED, STOPPED]),
}
"""Results of a write of operations 1 and 2, the status before them, and the outcomes of the operations."""

READ: dict[str, tuple[bytes, str, list[tuple[str, str]]]] = {
    "no topic and no responses": (b'{"resulturi":""}', "FINSHED", [NOT_READ, NOT_READ]),
    "data of its own": (OWN, "FINSHED", [NOT_READ, NOT_READ]),
    "no JSON": (b"<html>500</html>", "FINSHED", [NOT_READ, NOT_READ]),
    "nothing": (b"", "FINSHED", [NOT_READ, NOT_READ]),
    "an empty list": (b'{"responses":[]}', "FINSHED", [LACKING, LACKING]),
    "entries without use": (b'{"responses":[null,7,{"a":1}]}', "FINSHED", [LACKING, LACKING]),
    "managed objects": (b'[{"id":"1","attributes":{}}]', "FINSHED", [NOT_READ, NOT_READ]),
    "a result that is no data": (
        both('"statusCode":0,"result":"x"', '"statusCode":0,"result":[{"id":"2"}]'),
        "FINSHED",
        [NOT_READ, GOOD],
    ),
    "one that failed": (
        both('"statusCode":103', '"statusCode":0,"result":[]'),
        "FINSHED",
        [("FAILED", "STATUS_103"), GOOD],
    ),
    "an operation left out": (
        b'[{"operationId":"2","statusCode":0,"result":[]}]',
        "FINSHED",
        [LACKING, GOOD],
    ),
}
"""The same for a read."""


@pytest.mark.parametrize(("op", "table"), [("merge", WRITTEN), ("read", READ)], ids=["writes", "reads"])
async def test_a_result_tells_the_outcome_of_each_operation_or_is_kept(
    service: Service,
    dialect: str,
    op: str,
    table: dict[str, tuple[bytes, str, list[tuple[str, str]]]],
) -> None:
    """Each body comes from a separate data producer: its operations end as the table says, no failed one
    counts as done, and a body without outcomes is an object of the job, unchanged, named in the error."""
    plugin = ScriptedPlugin()
    producers = {name: f"ems-{n}" for n, name in enumerate(table)}
    jobs: dict[str, str] = {}
    async with plugin.serving() as address:
        for name, (body, status, _) in table.items():
            plugin.script(producers[name], Script(statuses=(status,), result_body=body))
        handles = {f"/ManagedElement={producer}": producer for producer in producers.values()}
        await service.register(address, handles, dmiDialect=dialect)
        for name, producer in producers.items():
            jobs[name] = await service.submit(operations(op, producer))
        ended = {name: await service.ended(job_id) for name, job_id in jobs.items()}
    found, expected = {}, {}
    for name, (body, _, outcomes) in table.items():
        job, (sub_job,) = ended[name], await service.sub_jobs(jobs[name])
        unreadable = outcomes in ([UNREADABLE] * 2, [NOT_READ] * 2)
        outcome_of = {"1": GOOD, "2": GOOD} | {
            failure["operationId"]: (failure["state"], failure["reason"])
            for failure in await service.failures(jobs[name])
        }
        found[name] = (
            list(outcome_of.values()),
            job["operations"]["succeeded"],
            job["status"] == "FINSHED",
            await service.foreign_bodies(job),
            "kept as" in (sub_job["lastError"] or ""),
        )
        expected[name] = (
            outcomes,
            outcomes.count(GOOD),
            outcomes == [GOOD] * 2,
            [body] if unreadable or body == OWN else [],
            unreadable,
        )
    assert found == expected


def operations(op: str, element: str, count: int = 2) -> list[dict[str, Any]]:
    """Operations 1, 2, … at one element."""
    value = {} if op == "read" else {"value": {"a": 1}}
    return [
        {"op": op, "path": f"/ManagedElement={element}/C={n}", "operationId": str(n), **value}
        for n in range(1, count + 1)
    ]


HANDLES: Final = {f"/ManagedElement={EMS}": EMS}


@pytest.fixture
async def plugin() -> AsyncIterator[tuple[ScriptedPlugin, str]]:
    """A scripted plugin and its address."""
    scripted = ScriptedPlugin()
    async with scripted.serving() as address:
        yield scripted, address


UNFETCHABLE: dict[str, tuple[Step, str]] = {
    "501": (Step.NOT_IMPLEMENTED, "HTTP 501"),
    "500": (Step.ERROR, "HTTP 500"),
    "202": (Step.NOT_YET, "HTTP 202: the result is not there yet"),
    "no answer": (Step.STALL, "nothing came for "),
    "too large": (Step.HUGE, "the result is larger than the bound of 67108864 bytes"),
    "no HTTP": (Step.GARBAGE, "the answer is not HTTP"),
    "cut off": (Step.CUT, "connection closed within the answer"),
}
"""Ways in which a result stays unavailable while every poll is answered, and the text for each."""


async def test_a_result_that_is_never_there_ends_its_write_and_the_lane_goes_on(
    service: Service, dialect: str, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Polls are answered throughout and do not reset the time budget of the fetch: within the budget the
    operations are UNKNOWN with the cause, and the next write of that data producer runs."""
    scripted, address = plugin
    producers = {name: f"ems-{n}" for n, name in enumerate(UNFETCHABLE)}
    for name, (step, _) in UNFETCHABLE.items():
        scripted.script(producers[name], Script(result=(step,)))
    handles = {f"/ManagedElement={producer}": producer for producer in producers.values()}
    await service.register(address, handles, dmiDialect=dialect)
    first = {name: await service.submit(operations("merge", ems)) for name, ems in producers.items()}
    second = {name: await service.submit(operations("merge", ems)) for name, ems in producers.items()}

    async def ended(name: str) -> Any:
        """The first job of the producer. Afterwards the producer returns its results."""
        job = await service.ended(first[name])
        scripted.script(producers[name], Script())
        return job

    jobs = await asyncio.gather(*map(ended, UNFETCHABLE))
    for (name, (_, cause)), job in zip(UNFETCHABLE.items(), jobs, strict=True):
        assert (job["status"], job["operations"]["unknown"]) == ("FAILED", 2)
        (sub_job,) = await service.sub_jobs(first[name])
        failures = await service.failures(first[name])
        assert {failure["reason"] for failure in failures} == {"RESULT_UNREADABLE"}
        assert {failure["detail"] for failure in failures} == {sub_job["lastError"]}
        assert sub_job["lastError"].startswith(
            f"the plugin's result could not be fetched within 1 s: {cause}"
        )
    for name in UNFETCHABLE:
        assert (await service.ended(second[name]))["status"] == "FINSHED"
    assert len(scripted.history) == 2 * len(UNFETCHABLE)


async def test_a_result_that_is_refused_ends_its_write_at_once(
    service: Service, dialect: str, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """A 4xx is fetched once, and the next write runs."""
    scripted, address = plugin
    scripted.script(EMS, Script(result=(Step.REFUSE, Step.OBEY)))
    await service.register(address, HANDLES, dmiDialect=dialect, dmiGiveUp=60)
    first, second = [await service.submit(operations("merge", EMS)) for _ in range(2)]
    assert (await service.ended(first))["operations"]["unknown"] == 2
    (sub_job,) = await service.sub_jobs(first)
    assert sub_job["lastError"] == "the plugin refuses the result: HTTP 400"
    assert {failure["reason"] for failure in await service.failures(first)} == {"RESULT_UNREADABLE"}
    assert (await service.ended(second))["status"] == "FINSHED"
    assert sum(call.kind == "result" for call in scripted.calls) == 2


async def test_a_status_that_is_not_understood_is_quoted(
    service: Service, dialect: str, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """It counts as no answer, and the sub-job times out with the unknown status in the detail of each
    operation."""
    scripted, address = plugin
    scripted.script(EMS, Script(statuses=("DONE",)))
    await service.register(address, HANDLES, dmiDialect=dialect)
    job = await service.ended(await service.submit(operations("merge", EMS)))
    failures = await service.failures(job["jobId"])
    assert [(each["state"], each["reason"]) for each in failures] == [("UNKNOWN", "DMI_UNREACHABLE")] * 2
    (sub_job,) = await service.sub_jobs(job["jobId"])
    expected = 'given up after 1 s: the plugin\'s status "DONE" is not known'
    assert {sub_job["lastError"], *(each["detail"] for each in failures)} == {expected}


@pytest.mark.parametrize(
    "script",
    [Script(statuses=("FAILED",), result_body=OWN), Script(statuses=("FAILED",), result=(Step.NOTHING,))],
    ids=["data of its own", "204"],
)
async def test_a_failed_write_without_outcomes_says_so_in_its_last_error(
    service: Service, dialect: str, plugin: tuple[ScriptedPlugin, str], script: Script
) -> None:
    """All operations have failed, with a reason, and the sub-job says that the plugin gave no outcomes."""
    scripted, address = plugin
    scripted.script(EMS, script)
    await service.register(address, HANDLES, dmiDialect=dialect)
    job = await service.ended(await service.submit(operations("merge", EMS)))
    assert (job["status"], job["operations"]["failed"]) == ("FAILED", 2)
    assert {each["reason"] for each in await service.failures(job["jobId"])} == {"STATUS_108"}
    (sub_job,) = await service.sub_jobs(job["jobId"])
    assert sub_job["lastError"] == "the plugin gave no outcomes"


async def test_a_byte_order_mark_before_every_answer_changes_nothing(
    service: Service, dialect: str, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Create, status and result are read without the mark: the write finishes. So are the texts of a
    refusal."""
    scripted, address = plugin
    scripted.script(EMS, Script(mark=MARK))
    scripted.script("refusing", Script(create=(Step.REFUSE,), mark=MARK))
    handles = HANDLES | {"/ManagedElement=refusing": "refusing"}
    await service.register(address, handles, dmiDialect=dialect)
    job = await service.ended(await service.submit(operations("merge", EMS)))
    assert (job["status"], job["operations"]["succeeded"]) == ("FINSHED", 2)
    refused = await service.ended(await service.submit(operations("merge", "refusing")))
    (sub_job,) = await service.sub_jobs(refused["jobId"])
    assert sub_job["lastError"] == "HTTP 400: refused by its script"


TOPIC: Final = b'{"resulturi":"ncmp-async-m2m"}'


def message(number: str, total: str, value: bytes) -> tuple[dict[str, str], bytes]:
    """One message of a read. An empty ``number`` or ``total`` omits the header."""
    headers = {events.SEQUENCE: number, events.TOTAL: total}
    return {name: text for name, text in headers.items() if text}, value


def entry(operation: int, *objects: str) -> str:
    """A response to a read with such objects."""
    result = json.dumps([{"id": each, "attributes": {}} for each in objects])
    return f'{{"operationId":"{operation}","statusCode":0,"result":{result}}}'


def event(*entries: str) -> bytes:
    """The value of a message."""
    return f'{{"data":{{"responses":[{",".join(entries)}]}}}}'.encode()


ONE, TWO = event(entry(1, "a")), event(entry(2, "b"))

MESSAGES: dict[str, tuple[list[tuple[dict[str, str], bytes]], list[tuple[str, str]], list[str], int]] = {
    "all of them": ([message("0", "", ONE), message("1", "2", TWO)], [GOOD, GOOD], ["a", "b"], 0),
    "no total": ([message("0", "", ONE), message("1", "", TWO)], [GOOD, GOOD], ["a", "b"], 0),
    "a byte order mark": ([message("0", "1", MARK + event(entry(1, "a"), entry(2)))], [GOOD, GOOD], ["a"], 0),
    "none at all": ([], [LACKING, LACKING], [], 0),
    "fewer than the total": (
        [message("0", "3", ONE), message("1", "3", TWO)],
        [LACKING, LACKING],
        ["a", "b"],
        0,
    ),
    "a gap below the total": (
        [message("0", "3", ONE), message("2", "3", TWO)],
        [LACKING, LACKING],
        ["a", "b"],
        0,
    ),
    "a gap without a total": (
        [message("0", "", ONE), message("2", "", TWO)],
        [LACKING, LACKING],
        ["a", "b"],
        0,
    ),
    "one that is no JSON": (
        [message("0", "2", event(entry(1, "a"), entry(2, "b"))), message("1", "2", b"<html>")],
        [NOT_READ, NOT_READ],
        ["a", "b"],
        1,
    ),
    "one that is cut off": (
        [message("0", "2", event(entry(1, "a"), entry(2, "b"))), message("1", "2", TWO[:-1])],
        [NOT_READ, NOT_READ],
        ["a", "b"],
        1,
    ),
    "entries without use": (
        [message("0", "1", event(entry(1, "a"), entry(2, "b"), "null", '{"statusCode":0}'))],
        [NOT_READ, NOT_READ],
        ["a", "b"],
        1,
    ),
    "an entry without an outcome": (
        [message("0", "1", event(entry(1, "a"), '{"operationId":"2"}'))],
        [GOOD, NOT_READ],
        ["a"],
        0,
    ),
    "an operation left out": ([message("0", "1", ONE)], [GOOD, LACKING], ["a"], 0),
    "a failure": (
        [message("0", "1", event(entry(1, "a"), '{"operationId":"2","statusCode":103}'))],
        [GOOD, ("FAILED", "STATUS_103")],
        ["a"],
        0,
    ),
}
"""Messages of a read of operations 1 and 2: the outcomes, the objects that are served, and the number of
messages that are kept unchanged."""


async def test_a_read_is_finished_with_all_its_messages_or_not_at_all(
    database_url: str, tmp_path: Path, dialect: str, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """Each read has a separate data producer, whose messages arrive before it reports finished: if one is
    missing or unreadable the operations have failed, and the arrived messages are kept and served."""
    scripted, address = plugin
    producers = {name: f"ems-{n}" for n, name in enumerate(MESSAGES)}
    running = Script(statuses=("RUNNING",), result_body=TOPIC)
    for producer in producers.values():
        scripted.script(producer, running)
    handles = {f"/ManagedElement={producer}": producer for producer in producers.values()}
    found, expected = {}, {}
    async with whole_service(database_url, tmp_path, read_result_idle_timeout="3") as service:
        await service.register(address, handles, dmiDialect=dialect)
        jobs = {name: await service.submit(operations("read", ems)) for name, ems in producers.items()}
        await called(scripted, "create", len(jobs))
        taken = {job.data_producer_id: job for job in scripted.history}
        bus = PostgresBus(service.database)
        for name, (messages, *_) in MESSAGES.items():
            names = {events.SUB_JOB_ID: taken[producers[name]].sub_job_id, events.CORRELATION_ID: jobs[name]}
            await bus.publish(
                INTERNAL_TOPIC, [Message("k", headers | names, value) for headers, value in messages]
            )
            scripted.script(producers[name], msgspec.structs.replace(running, statuses=("FINSHED",)))
        for name, (messages, outcomes, objects, unreadable) in MESSAGES.items():
            job = await service.ended(jobs[name])
            outcome_of = {"1": GOOD, "2": GOOD} | {
                failure["operationId"]: (failure["state"], failure["reason"])
                for failure in await service.failures(jobs[name])
            }
            served = [each["id"] for one in await service.responses(job) for each in one.get("result", [])]
            kept = await service.foreign_bodies(job)
            found[name] = (list(outcome_of.values()), job["status"] == "FINSHED", served, kept)
            last = [value for _, value in messages][-1:] if unreadable else []
            expected[name] = (outcomes, outcomes == [GOOD] * 2, objects, last)
    assert found == expected


async def test_a_read_that_failed_by_a_message_has_the_code_as_its_reason(
    service: Service, dialect: str, plugin: tuple[ScriptedPlugin, str]
) -> None:
    """A plugin that gives only ONAP's code, published over HTTP: the reason is never empty, in the list of
    failures and in the result object that the manifest names."""
    scripted, address = plugin
    running = Script(statuses=("RUNNING",), result_body=TOPIC)
    scripted.script(EMS, running)
    await service.register(address, HANDLES, dmiDialect=dialect)
    job_id = await service.submit(operations("read", EMS))
    await called(scripted, "create")
    (taken,) = scripted.history
    headers = {
        events.CORRELATION_ID: job_id,
        events.SUB_JOB_ID: taken.sub_job_id,
        events.SEQUENCE: "0",
        events.TOTAL: "1",
    }
    outcome_of = [{"operationId": n, "statusCode": 103, "statusMessage": "cannot read"} for n in ("1", "2")]
    body = {"messages": [{"headers": headers, "key": job_id, "value": {"data": {"responses": outcome_of}}}]}
    path = "/ranoam/cm/v1/topics/ncmp-async-m2m/messages"
    await service.call("POST", path, body, expect=204)
    scripted.script(EMS, msgspec.structs.replace(running, statuses=("FAILED",)))
    job = await service.ended(job_id)
    assert job["status"] == "FAILED"
    for listed in (await service.failures(job_id), await service.responses(job)):
        assert [(each["operationId"], each["state"], each["reason"]) for each in listed] == [
            (n, "FAILED", "STATUS_103") for n in ("1", "2")
        ]


SCOPES: dict[str, tuple[dict[str, Any] | None, str | None]] = {
    "base only": ({"scopeType": "BASE_ONLY"}, "BASE_ONLY"),
    "nothing in it": ({}, "BASE_ONLY"),
    "base all": ({"scopeType": "BASE_ALL"}, "BASE_ALL"),
    "a level": ({"scopeType": "BASE_NTH_LEVEL", "scopeLevel": 1}, "BASE_NTH_LEVEL"),
    "none": (None, None),
}
"""The scope of a read as the client sends it, and the type of scope that its plugin gets."""


async def test_a_scope_that_is_sent_to_a_plugin_has_its_type(service: Service, dialect: str) -> None:
    """Also for the default: a plugin need not define a scope without a type."""
    bodies: list[Any] = []

    async def modules(request: web.Request) -> web.Response:
        return web.json_response({"schemas": []})

    async def create(request: web.Request) -> web.Response:
        bodies.append(await request.json(loads=msgspec.json.decode))
        return web.json_response({"dataProducerJobId": "1", "subJobId": "1"}, status=201)

    async def ask(request: web.Request) -> web.Response:
        if request.path.endswith("/status"):
            return web.json_response({"status": "FINSHED"})
        return web.json_response([{"operationId": str(n), "statusCode": 0} for n in range(len(SCOPES))])

    app = web.Application()
    asked_for = web.post("/dmi/v1/ch/{handle}/modules", modules)
    app.add_routes([asked_for, web.post("/{path:.*}", create), web.get("/{path:.*}", ask)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await service.register(address, HANDLES, dmiDialect=dialect)
        lines = [
            {"op": "read", "path": f"/ManagedElement={EMS}/C={n}", "operationId": str(n)}
            | ({} if scope is None else {"scope": scope})
            for n, (scope, _) in enumerate(SCOPES.values())
        ]
        assert (await service.ended(await service.submit(lines)))["status"] == "FINSHED"
    finally:
        await runner.cleanup()
    (body,) = bodies
    sent = [one.get("scope") for one in body["data"]] if dialect == "seed" else body["data"]
    assert [None if scope is None else scope.get("scopeType") for scope in sent] == [
        expected for _, expected in SCOPES.values()
    ]
