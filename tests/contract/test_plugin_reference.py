# SPDX-License-Identifier: Apache-2.0
"""Behaviour of the reference DMI plugin beyond the common contract."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec import UNSET, Raw, structs

from ran_datajobs.dmi.bodies import onap_job, seed_job
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.errors import UsageError
from ran_datajobs.model import (
    MAX_MESSAGE_BYTES,
    ActivationMode,
    ObjectState,
    Op,
    Operation,
    OperationState,
    Status,
)
from ran_datajobs.nrm.json_patch import MAX_DEPTH
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.port import (
    CancelTaken,
    Created,
    DmiPlugin,
    JobAddress,
    OnTopic,
    PluginProfile,
    Polled,
    Refused,
    Responses,
)
from ran_datajobs.plugins.responses import read_outcomes
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from tests.kit.plugin_parts import (
    DEADLINE,
    SECRETS,
    KeptMessages,
    WatchedElement,
    address_of,
    call_for,
    reads,
    served_plugin,
    until_terminal,
    writes,
)

pytestmark = pytest.mark.parametrize("dialect", ["seed", "onap"])

SUCCEEDED, FAILED, NOT_STARTED = (
    OperationState.SUCCEEDED,
    OperationState.FAILED,
    OperationState.NOT_STARTED,
)


REMOVE: dict[str, Any] = {"op": "remove", "path": "/A=1", "operationId": "1"}
DEEP: Any = msgspec.json.decode("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def client(http: PeerHttp, url: str, dialect: str) -> DmiPlugin:
    return plugins_over(http)(PluginProfile(1, url, dialect))


async def states(plugin: DmiPlugin, address: JobAddress) -> list[OperationState]:
    result = await plugin.result(address)
    assert isinstance(result, Responses), result
    return [OperationState(one.state) for one in result.responses]


async def until(condition: Any) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("mode", "expected", "verdict"),
    [
        (ActivationMode.BEST_EFFORT, [SUCCEEDED, FAILED, SUCCEEDED, SUCCEEDED], Status.PARTIALLY_FAILED),
        (
            ActivationMode.STOP_ON_ERROR,
            [SUCCEEDED, FAILED, NOT_STARTED, NOT_STARTED],
            Status.PARTIALLY_FAILED,
        ),
    ],
)
@pytest.mark.parametrize("batch", [1, 2, 500])
async def test_the_activation_mode_is_honoured_across_batches(
    tmp_path: Path,
    dialect: str,
    mode: ActivationMode,
    expected: list[OperationState],
    verdict: Status,
    batch: int,
) -> None:
    """BEST_EFFORT tries every operation; STOP_ON_ERROR reports all after the first failure NOT_STARTED."""
    element = WatchedElement()
    settings = PluginSettings(tmp_path / "dmi", batch=batch)
    async with served_plugin(settings, lambda _: element) as url, PeerHttp() as http:
        plugin = client(http, url, dialect)
        call = call_for(dialect, writes(4, refused=frozenset({1})), mode=mode)
        address = address_of(call, await plugin.create(call))
        assert (await until_terminal(plugin, address))[-1] is verdict
        assert await states(plugin, address) == expected


async def test_a_refused_operation_says_why_in_the_words_of_3gpp(tmp_path: Path, dialect: str) -> None:
    """A failed response has ONAP's code, the reason and the ErrorDetail of TS 28.572."""
    element = WatchedElement()
    async with served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: element) as url, PeerHttp() as http:
        plugin = client(http, url, dialect)
        call = call_for(dialect, writes(1, refused=frozenset({0})))
        address = address_of(call, await plugin.create(call))
        assert (await until_terminal(plugin, address))[-1] is Status.FAILED
        result = await plugin.result(address)
        assert isinstance(result, Responses)
        [response] = result.responses
        assert (response.status_code, response.reason) == (108, "TARGET_DATA_NODE_NOT_FOUND")
        assert response.errors[0].bad_data_node == "/SubNetwork=X/Refused=1"
        assert msgspec.json.decode(response.request)["op"] == "replace"


async def test_a_create_has_guards_and_asks_for_before_images(tmp_path: Path, dialect: str) -> None:
    """Whatever the batches: an operation whose guard does not hold is FAILED with CHANGED_SINCE, and executed
    ones have before."""
    network = Network(1)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    path = f"/{layout.element_key(1)}#/attributes/userLabel"
    operations = [
        Operation(Op.ADD, path, "1", Raw(b'"a"'), expect=ObjectState(exists=True)),
        Operation(Op.ADD, path, "2", Raw(b'"b"'), expect=ObjectState({"userLabel": "a"})),
        Operation(Op.ADD, path, "3", Raw(b'"c"'), expect=ObjectState({"userLabel": "a"})),
        Operation(Op.ADD, path, "4", Raw(b'"d"')),
    ]
    producer = layout.data_producer_of(1)
    async with (
        served_plugin(PluginSettings(tmp_path / "dmi", batch=2), elements.get) as url,
        PeerHttp() as http,
    ):
        plugin = client(http, url, dialect)
        call = call_for(dialect, operations, data_producer_id=producer, before_images=True)
        address = address_of(call, await plugin.create(call))
        assert (await until_terminal(plugin, address))[-1] is Status.PARTIALLY_FAILED
        result = await plugin.result(address)
    assert isinstance(result, Responses)
    assert [(each.state, each.reason) for each in result.responses] == [
        (SUCCEEDED, ""), (SUCCEEDED, ""), (FAILED, "CHANGED_SINCE"), (SUCCEEDED, ""),
    ]  # fmt: skip
    assert result.responses[2].errors[0].detail == 'it is "b", expected was "a"'
    images = [each.before for each in result.responses]
    a, b = (Raw(b'{"attributes":{"userLabel":"%b"}}' % label) for label in (b"a", b"b"))
    assert images[1:] == [a, UNSET, b]


async def test_writes_of_one_producer_run_one_at_a_time_in_order_of_arrival(
    tmp_path: Path, dialect: str
) -> None:
    """While a write is executed, the next one of its producer waits; another producer's does not."""
    slow, other = WatchedElement(), WatchedElement()
    slow.gate.clear()
    elements = {"producer-1": slow, "producer-2": other}
    async with served_plugin(PluginSettings(tmp_path / "dmi"), elements.get) as url, PeerHttp() as http:
        plugin = client(http, url, dialect)
        calls = [call_for(dialect, writes(3, first=10 * number)) for number in range(5)]
        addresses = [address_of(call, await plugin.create(call)) for call in calls]
        await asyncio.wait_for(slow.waiting.wait(), DEADLINE)
        beside = call_for(dialect, writes(1), data_producer_id="producer-2")
        assert (await until_terminal(plugin, address_of(beside, await plugin.create(beside))))[-1].terminal
        assert [await plugin.status(address) for address in addresses[1:]] == [Polled(Status.NOT_STARTED)] * 4
        slow.gate.set()
        for address in addresses:
            await until_terminal(plugin, address)
        expected = [10 * number + step for number in range(5) for step in range(3)]
        assert [int(one) for one in slow.executed] == expected
        history = await _history(url, "producer-1")
        assert [int(one) for line in history for one in line["operationIds"]] == expected
        assert [line["subJobId"] for line in history] == [call.sub_job_id for call in calls]


async def test_a_read_passes_a_write_that_is_being_executed(tmp_path: Path, dialect: str) -> None:
    """Reads of a data producer run concurrently with its writes."""
    element = WatchedElement()
    element.gate.clear()
    async with served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: element) as url, PeerHttp() as http:
        plugin = client(http, url, dialect)
        write, read = call_for(dialect, writes(1)), call_for(dialect, reads("Small"))
        write_address = address_of(write, await plugin.create(write))
        read_address = address_of(read, await plugin.create(read))
        assert (await until_terminal(plugin, read_address))[-1] is Status.FINISHED
        assert not (await plugin.status(write_address)).status.terminal  # type: ignore[union-attr]
        element.gate.set()
        await until_terminal(plugin, write_address)


async def test_a_cancel_stops_between_batches_and_ends_waiting_jobs_at_once(
    tmp_path: Path, dialect: str
) -> None:
    """A running job passes through CANCELLING to CANCELLED and reports what it executed; a waiting job
    executed nothing."""
    element = WatchedElement()
    element.gate.clear()
    settings = PluginSettings(tmp_path / "dmi", batch=2)
    async with served_plugin(settings, lambda _: element) as url, PeerHttp() as http:
        plugin = client(http, url, dialect)
        first, second = call_for(dialect, writes(5)), call_for(dialect, writes(2, first=100))
        running = address_of(first, await plugin.create(first))
        waiting = address_of(second, await plugin.create(second))
        await asyncio.wait_for(element.waiting.wait(), DEADLINE)
        assert isinstance(await plugin.cancel(waiting), CancelTaken)
        assert (await until_terminal(plugin, waiting))[-1] is Status.CANCELLED
        assert await states(plugin, waiting) == [NOT_STARTED] * 2
        assert isinstance(await plugin.cancel(running), CancelTaken)
        assert await plugin.status(running) == Polled(Status.CANCELLING)
        element.gate.set()
        assert (await until_terminal(plugin, running))[-1] is Status.CANCELLED
        assert await states(plugin, running) == [SUCCEEDED] * 2 + [NOT_STARTED] * 3
        assert isinstance(await plugin.cancel(running), Refused)
        assert [int(one) for one in element.executed] == [0, 1]


async def test_a_key_with_another_body_is_a_conflict(tmp_path: Path, dialect: str) -> None:
    """The same Idempotency-Key with another request is a 409, and nothing is executed."""
    element = WatchedElement()
    async with served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: element) as url, PeerHttp() as http:
        plugin = client(http, url, dialect)
        call = call_for(dialect, writes(1))
        address = address_of(call, await plugin.create(call))
        await until_terminal(plugin, address)
        answer = await plugin.create(
            structs.replace(call, operations=call_for(dialect, writes(2)).operations)
        )
        assert isinstance(answer, Refused)
        assert answer.cause.startswith("HTTP 409")
        assert len(element.executed) == 1


async def test_keys_and_results_outlive_a_restart(tmp_path: Path, dialect: str) -> None:
    """After a restart the same key returns the same job, and its result is still there."""
    element = WatchedElement()
    settings = PluginSettings(tmp_path / "dmi")
    call = call_for(dialect, writes(7, refused=frozenset({3})))
    async with served_plugin(settings, lambda _: element) as url, PeerHttp() as http:
        created = await client(http, url, dialect).create(call)
        await until_terminal(client(http, url, dialect), address_of(call, created))
    async with served_plugin(settings, lambda _: element) as url, PeerHttp() as http:
        plugin = client(http, url, dialect)
        assert await plugin.create(call) == created
        found = await states(plugin, address_of(call, created))
        assert found == [FAILED if number == 3 else SUCCEEDED for number in range(7)]
    assert len(element.executed) == 7


async def test_one_data_dir_has_one_plugin(tmp_path: Path, dialect: str) -> None:
    """A second plugin on the same data dir gets an error that names the owner."""
    settings = PluginSettings(tmp_path / "dmi")
    async with served_plugin(settings, lambda _: None):
        with pytest.raises(UsageError, match="belongs to another DMI plugin"):
            async with served_plugin(settings, lambda _: None):
                pass


async def test_a_read_is_published_as_data_job_events(tmp_path: Path, dialect: str) -> None:
    """Objects are published to the internal topic in whole documents within the limit, with the contract's
    headers."""
    element, bus = WatchedElement(), KeptMessages(failures=2)
    settings = PluginSettings(tmp_path / "dmi")
    async with served_plugin(settings, lambda _: element, bus) as url, PeerHttp() as http:
        plugin = client(http, url, dialect)
        call = call_for(dialect, reads("Large", "Empty", "Refused", "Small"))
        address = address_of(call, await plugin.create(call))
        assert (await until_terminal(plugin, address))[-1] is Status.PARTIALLY_FAILED
        assert await plugin.result(address) == OnTopic("ncmp-async-m2m")
    assert {topic for topic, _ in bus.messages} == {"ncmp-async-m2m"}
    messages = [message for _, message in bus.messages]
    assert len(messages) > 1
    for number, message in enumerate(messages):
        assert len(message.value) <= MAX_MESSAGE_BYTES
        assert message.key == f"{call.job_id}/{call.sub_job_id}"
        assert {name: text for name, text in message.headers.items() if name not in {"ce_id", "ce_time"}} == {
            "ce_specversion": "1.0",
            "content-type": "application/json",
            "ce_source": f"dmi.{call.job_id}",
            "ce_type": "org.onap.cps.ncmp.events.async1_0_0.DataJobEvent",
            "ce_dataschema": "urn:cps:org.onap.cps.ncmp.events.async1_0_0.DataJobEvent:1.0.0",
            "ce_correlationid": call.job_id,
            "ce_destination": "results-of-the-rapp",
            "ce_subjobid": call.sub_job_id,
            "ce_dataproducerid": "producer-1",
            "ce_dataproducerjobid": address.data_producer_job_id,
            "ce_sequence": str(number),
            "ce_total": str(len(messages)),
        }
    read = [read_outcomes(message.value, is_read=True) for message in messages]
    responses = [one for each in read if isinstance(each, Responses) for one in each.responses]
    objects: dict[int, int] = {}
    for response in responses:
        if response.state is SUCCEEDED:
            count = len(msgspec.json.decode(response.result))
            objects[int(response.operation_id)] = objects.get(int(response.operation_id), 0) + count
    assert objects == {0: 4_000, 1: 0, 3: 3}
    [refused] = [one for one in responses if one.state is FAILED]
    assert (int(refused.operation_id), refused.status_code) == (2, 103)


async def test_an_empty_read_is_one_message_with_an_empty_result(tmp_path: Path, dialect: str) -> None:
    """A read that selects nothing succeeds with one message that has an empty result."""
    element, bus = WatchedElement(), KeptMessages()
    async with (
        served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: element, bus) as url,
        PeerHttp() as http,
    ):
        plugin = client(http, url, dialect)
        call = call_for(dialect, reads("Empty"))
        assert (await until_terminal(plugin, address_of(call, await plugin.create(call))))[
            -1
        ] is Status.FINISHED
    [(_, message)] = bus.messages
    [response] = msgspec.json.decode(message.value)["data"]["responses"]
    assert (response["state"], response["result"]) == ("SUCCEEDED", [])


async def test_an_object_over_the_limit_is_told_with_its_code(tmp_path: Path, dialect: str) -> None:
    """An object that exceeds the message limit fails the read with code 112, which names the object."""
    element, bus = WatchedElement(), KeptMessages()
    async with (
        served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: element, bus) as url,
        PeerHttp() as http,
    ):
        plugin = client(http, url, dialect)
        call = call_for(dialect, reads("SmallOversized"))
        assert (await until_terminal(plugin, address_of(call, await plugin.create(call))))[
            -1
        ] is Status.FAILED
    [(_, message)] = bus.messages
    [response] = msgspec.json.decode(message.value)["data"]["responses"]
    assert response["statusCode"] == 112
    assert response["errors"][0]["badDataNode"].endswith("NRCellDU=0")


async def test_private_properties_leave_no_trace(tmp_path: Path, dialect: str) -> None:
    """No answer, message or file of the plugin contains the name or value of a private property."""
    element, bus = WatchedElement(), KeptMessages()
    async with (
        served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: element, bus) as url,
        aiohttp.ClientSession() as session,
        PeerHttp() as http,
    ):
        plugin = client(http, url, dialect)
        answers: list[bytes] = []
        for operations in (writes(3, refused=frozenset({1})), reads("Small", "Refused")):
            call = call_for(dialect, operations)
            assert SECRETS[0] in call.operations
            address = address_of(call, await plugin.create(call))
            await until_terminal(plugin, address)
            template = wire.SEED_RESULT if dialect == "seed" else wire.ONAP_RESULT
            path = wire.path_of(
                template,
                request_id=call.job_id,
                data_producer_id="producer-1",
                data_producer_job_id=address.data_producer_job_id,
            )
            async with session.get(url + path) as answer:
                answers.append(await answer.read())
            bad = structs.replace(call, operations=call.operations.replace(b'"op":', b'"op":"x","o":', 1))
            refused = await plugin.create(bad)
            assert isinstance(refused, Refused)
            answers.append(refused.cause.encode())
        answers += [message.value + str(message.headers).encode() for _, message in bus.messages]
        answers.append(json.dumps(await _history(url, "producer-1")).encode())
    answers += [path.read_bytes() for path in (tmp_path / "dmi").iterdir()]
    for answer in answers:
        for secret in SECRETS:
            assert secret not in answer


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", ""),
        (b"nonsense", ""),
        (b"[" * 5_000, ""),
        (b"\xff\xfe", ""),
        (b"[]", ""),
        (b'{"dataProducerId":7}', "#/dataProducerId"),
    ],
)
async def test_bad_bodies_get_a_problem_that_says_where(
    tmp_path: Path, dialect: str, body: bytes, pointer: str
) -> None:
    """An unusable create is a 400 problem, with a JSON pointer if the fault has a place."""
    path = "/dmi/v1/dataJob/job-1" if dialect == "seed" else "/dmi/v1/cmwriteJob"
    async with (
        served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: WatchedElement()) as url,
        aiohttp.ClientSession() as session,
        session.post(url + path, data=body, headers={"Content-Type": "application/json"}) as answer,
    ):
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"
        problem = await answer.json(content_type=None)
        assert problem["status"] == 400
        if pointer:
            assert pointer in [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"dataAcceptType": "text/html"}, "#/dataAcceptType"),
        ({"dataContentType": "text/html"}, "#/dataContentType"),
        ({"dataProducerId": ""}, "#/dataProducerId"),
        ({"activationMode": "ATOMIC"}, "#/activationMode"),
        ({"data": []}, "#/data"),
        ({"data": [{"op": "add", "path": "/A=1", "operationId": "1"}]}, "#/data/0/value"),
        ({"data": [{"op": "remove", "path": "", "operationId": "1"}]}, "#/data/0/path"),
        ({"data": [{"op": "copy", "path": "/A=1", "operationId": "1"}]}, "#/data/0/op"),
        ({"data": [{"op": "remove", "path": 7, "operationId": "1"}]}, "#/data/0/path"),
        ({"data": [{"op": "remove", "operationId": "1"}]}, "#/data/0/path"),
        ({"data": [REMOVE | {"expect": {}}]}, "#/data/0/expect"),
        ({"data": [REMOVE | {"expect": {"absent": True, "exists": True}}]}, "#/data/0/expect"),
        ({"data": [REMOVE | {"expect": {"attributes": {}, "other": 1}}]}, "#/data/0/expect/other"),
        ({"data": [REMOVE | {"expect": {"attributes": [1]}}]}, "#/data/0/expect/attributes"),
        ({"data": [REMOVE | {"expect": {"attributes": {"a": DEEP}}}]}, "#/data/0/expect"),
        ({"beforeImages": "yes"}, "#/beforeImages"),
    ],
)
async def test_every_rule_of_a_create_is_checked(
    tmp_path: Path, dialect: str, change: dict[str, Any], pointer: str
) -> None:
    """Each fault of an otherwise valid create is a 400 with a pointer to it."""
    body = {
        "dataAcceptType": wire.TREE_FLAT,
        "dataContentType": wire.JSON_PATCH_3GPP,
        "dataProducerId": "producer-1",
        "requestId": "job-1",
        "dataJobId": "job-1",
        "data": [{"op": "remove", "path": "/A=1", "operationId": "1"}],
    }
    path = "/dmi/v1/dataJob/job-1" if dialect == "seed" else "/dmi/v1/cmwriteJob"
    async with (
        served_plugin(PluginSettings(tmp_path / "dmi"), lambda _: WatchedElement()) as url,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(url + path, json=body) as answer:
            assert answer.status == 201
        async with session.post(url + path, json=body | change) as answer:
            assert answer.status == 400
            problem = await answer.json(content_type=None)
            assert pointer in [error["pointer"] for error in problem["errors"]]


@pytest.mark.parametrize("value", [{}, None, "x"])
def test_the_value_of_a_remove_is_ignored(dialect: str, value: Any) -> None:
    """RFC 6902 §4 lets a reader ignore it, and ONAP's load job sends one: the plugin accepts the job without
    it."""
    body = {
        "dataAcceptType": wire.TREE_FLAT,
        "dataContentType": wire.JSON_PATCH_3GPP,
        "dataProducerId": "producer-1",
        "requestId": "job-1",
        "dataJobId": "job-1",
        "data": [{"op": "remove", "path": "/A=1", "operationId": "1", "value": value}],
    }
    text = msgspec.json.encode(body)
    if dialect == "seed":
        job = seed_job("job-1", "x", "key", text, 10)
    else:
        job = onap_job(False, "x", "key", text, 10)
    assert json.loads(job.operations) == [{"op": "remove", "path": "/A=1", "operationId": "1"}]


async def test_bounds_and_kinds_of_bodies(tmp_path: Path, dialect: str) -> None:
    """A body over the limit is a 413, one with another media type a 415, a producer not served a 422."""
    path = "/dmi/v1/dataJob/job-1" if dialect == "seed" else "/dmi/v1/cmwriteJob"
    settings = PluginSettings(tmp_path / "dmi", body_bytes=2_000)
    async with (
        served_plugin(settings, lambda _: None) as url,
        aiohttp.ClientSession() as session,
        PeerHttp() as http,
    ):
        async with session.post(url + path, data=b" " * 2_001, headers={"Content-Type": wire.JSON}) as answer:
            assert answer.status == 413
            assert answer.content_type == "application/problem+json"
        async with session.post(url + path, data=b"{}", headers={"Content-Type": "text/plain"}) as answer:
            assert answer.status == 415
        refused = await client(http, url, dialect).create(call_for(dialect, writes(1)))
        assert isinstance(refused, Refused)
        assert refused.cause.startswith("HTTP 422: no element for data producer")
        async with session.get(url + "/healthz") as answer:
            assert answer.status == 200
        async with session.get(url + "/nowhere") as answer:
            assert answer.status == 404
            assert answer.content_type == "application/problem+json"


async def test_too_many_waiting_jobs_are_sent_back(tmp_path: Path, dialect: str) -> None:
    """When the limit of open jobs is reached, a create is a 503: it did not arrive and may be repeated."""
    element = WatchedElement()
    element.gate.clear()
    settings = PluginSettings(tmp_path / "dmi", open_jobs=1)
    async with served_plugin(settings, lambda _: element) as url, PeerHttp() as http:
        plugin = client(http, url, dialect)
        assert isinstance(await plugin.create(call_for(dialect, writes(1))), Created)
        busy = await plugin.create(call_for(dialect, writes(1)))
        assert getattr(busy, "retry_after", None) == 5.0
        element.gate.set()


async def test_a_taken_port_is_told(tmp_path: Path, dialect: str) -> None:
    """A plugin on a port in use raises UsageError before it touches its data dir."""
    from ran_datajobs.dmi.server import serve

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="in use"):
            await serve(
                "127.0.0.1",
                taken.getsockname()[1],
                PluginSettings(tmp_path / "dmi"),
                lambda _: None,
                KeptMessages(),
            )
    assert not (tmp_path / "dmi").exists()


async def _history(url: str, data_producer_id: str) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(
            url + "/dmi/v1/history", params={"dataProducerId": data_producer_id, "limit": "1000"}
        ) as answer,
    ):
        assert answer.status == 200
        items: list[dict[str, Any]] = (await answer.json())["items"]
        return items
