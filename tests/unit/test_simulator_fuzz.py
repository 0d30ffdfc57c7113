# SPDX-License-Identifier: Apache-2.0
"""No input makes the simulated network answer 500, and afterwards it still conforms to its class model."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from msgspec import Struct
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.http.server import serving
from ran_datajobs.nrm.names import class_of
from ran_datajobs.simulator import layout, wire
from ran_datajobs.simulator.faults import FaultScripts, read_scripts
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.server import provmns_app

PATIENCE = 20
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BOUNDED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Answer(Struct, frozen=True):
    status: int
    body: bytes


class Running(Struct, frozen=True):
    network: Network
    address: str

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request unchanged, whatever the characters of its path."""
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    network = Network(3)
    async with serving(provmns_app(network), "127.0.0.1", 0) as address:
        yield Running(network, address)


ELEMENT = layout.element_key(1)
REAL_PLACES = st.sampled_from(
    [
        "/SubNetwork=Europe",
        f"/{layout.context_key(1)}",
        f"/{ELEMENT}",
        f"/{ELEMENT}/GNBDUFunction=1/NRCellDU=1",
        f"/{ELEMENT}/GNBDUFunction=1/NRCellDU=9",
        f"/{ELEMENT}/GNBCUCPFunction=1/NRCellCU=1/NRFreqRelation=1",
        f"/{ELEMENT}/VsDataContainer=1",
        f"/SubNetwork={quote('日本')}",
        f"/{ELEMENT}/GNBCUCPFunction=1/EUtranFrequency={quote('é 🗼')}",
    ]
)
ODD_PLACES = st.sampled_from(
    [
        "",
        "/",
        f"/{ELEMENT}/VsDataContainer=%2F%00",
        "/SubNetwork=Europe,SubNetwork=Ireland",
        "//",
        "/%",
        "/%ff=%ff",
        "/A=" + "x" * 5_000,
        "/A=1" * 100,
    ]
) | st.text(max_size=12).map(lambda text: "/" + quote(text, safe="/=,%#"))
PLACES = REAL_PLACES | REAL_PLACES | ODD_PLACES
ROOTS = st.sampled_from(
    [wire.PROVMNS, wire.PROVMNS, f"/ems-ireland-1{wire.PROVMNS}", f"/nobody{wire.PROVMNS}"]
)
NAMES = st.sampled_from(
    [
        "scopeType",
        "scopeLevel",
        "scope",
        "filter",
        "attributes",
        "fields",
        "unknown",
    ]
)
WORDS = st.sampled_from(
    [
        "BASE_ALL",
        "BASE_NTH_LEVEL",
        "1",
        "-1",
        "9" * 30,
        "",
        '{"scopeType":"BASE_ALL"}',
        '{"scopeType":"BASE_SUBTREE","scopeLevel":1e9}',
        "[" * 2_000,
        "NRCellDU/attributes/nRPCI>1",
        "NRCellDU/attributes/nRPCI in (1, 2) && NRCellDU/attributes/userLabel==x",
        "(" * 200,
        "a/attributes/x==1 || " * 300,
        f"NRCellDU/attributes/bWPRef/{'9' * 5_000} == 1",
        f"NRCellDU/attributes/nRPCI == {'9' * 5_000}",
        f"NRCellDU/attributes/pLMNInfoList == [{'9' * 5_000}]",
        "NRCellDU/attributes/x == " + "[" * 2_000,
        "/attributes/pLMNInfoList/0",
        "nRPCI,userLabel",
        "~2",
        "\0",
        "é" * 20,
    ]
) | st.text(max_size=10)
QUERIES = st.lists(st.tuples(NAMES, WORDS), max_size=4).map(
    lambda pairs: urlencode([(name, word) for name, word in pairs if _can_be_sent(word)])
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | WORDS
KEYS = st.sampled_from(
    [
        "op",
        "path",
        "from",
        "value",
        "id",
        "objectClass",
        "attributes",
        "nRPCI",
        "userLabel",
        "NRCellDU",
        "scripts",
        "steps",
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
POINTERS = st.sampled_from(
    [
        "",
        "#",
        "#/attributes",
        "#/attributes/nRPCI",
        "/#attributes/userLabel",
        "#/attributes/pLMNInfoList/-",
        "#/attributes/pLMNInfoList/0/plmnId/mcc",
        "#/attributes/bWPRef/99999999999999999999",
        "#lock",
        "#/~3",
    ]
)
PATCHES = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(
                ["add", "replace", "remove", "merge", "test", "action", "copy", "move", "x"]
            ),
            "path": st.tuples(PLACES, POINTERS).map("".join),
        },
        optional={"value": VALUES, "from": st.tuples(PLACES, POINTERS).map("".join)},
    ),
    max_size=5,
)
BODIES = (
    st.binary(max_size=40)
    | (VALUES | PATCHES).map(msgspec.json.encode)
    | st.sampled_from(
        [
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b'[{"op":"add","path":"","value":' + b"[" * 5_000,
            b"\xff" * 10,
            b"",
            b"{}",
        ]
    )
)
TYPES = st.sampled_from(
    [*wire.THREE_GPP_PATCHES, wire.JSON_PATCH, wire.MERGE_PATCH, wire.JSON, wire.FORM, "text/plain", ""]
)
HEADERS = st.fixed_dictionaries(
    {"Content-Type": TYPES},
    optional={
        "Accept": st.sampled_from([wire.FLAT, wire.FLAT, wire.HIERARCHICAL, "text/html", "*/*;q=0", "x"]),
        "If-Match": st.sampled_from(["*", '"x"', "W/", ""]),
        "If-None-Match": st.sampled_from(["*", '"x"']),
        "X-HTTP-Method-Override": st.sampled_from(["GET", "DELETE"]),
        "Prefer": st.sampled_from(["return=representation", "x"]),
    },
)


def _can_be_sent(text: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def still_fits_the_model(network: Network) -> None:
    for key, attributes in network.walk():
        managed = network.model.managed_class(class_of(key))
        assert managed is not None, key
        for name, value in attributes.items():
            assert managed.open or managed.attributes[name].fault(value) is None, (key, name, value)


async def test_requests_of_every_kind_are_answered(running: Running) -> None:
    """Unusual paths, queries, headers and bodies: an error names the fault, in the server's error format."""
    statuses: Counter[int] = Counter()

    @settings(BOUNDED, max_examples=1_000)
    @given(
        st.sampled_from(["GET", "PUT", "POST", "PATCH", "PATCH", "DELETE"]),
        ROOTS,
        PLACES,
        QUERIES,
        BODIES,
        HEADERS,
    )
    def run(method: str, root: str, place: str, query: str, body: bytes, headers: dict[str, str]) -> None:
        target = f"{root}{place}?{query}" if query else root + place
        sent = None if method in ("GET", "DELETE") else body
        answer = running.ask(method, target, sent, headers)
        statuses[answer.status] += 1
        assert answer.status < 500, (method, target, body, answer)
        if answer.status >= 400:
            error = json.loads(answer.body)
            assert error["status"] == str(answer.status)
            assert error["type"]

    await asyncio.to_thread(run)
    assert {200, 204, 400, 404, 406, 415} <= statuses.keys(), statuses
    assert (await asyncio.to_thread(running.ask, "GET", wire.HEALTHZ)).status == 200
    still_fits_the_model(running.network)


@pytest.mark.nightly
async def test_the_served_openapi_holds_for_generated_requests(running: Running) -> None:
    """Valid and invalid requests of every call on objects get responses that the document allows."""
    schema = await asyncio.to_thread(schemathesis.openapi.from_url, running.address + wire.OPENAPI)
    operations = [found.ok() for found in schema.get_all_operations()]
    called = 0
    for operation in operations:
        if operation.path == wire.FAULTS:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            for ldn in (f"{ELEMENT}/GNBDUFunction=1/NRCellDU=1", "SubNetwork=Europe"):
                called += await asyncio.to_thread(_fuzz, running, operation, mode, ldn)
    assert called > 200
    still_fits_the_model(running.network)


def _fuzz(running: Running, operation: Any, mode: GenerationMode, ldn: str) -> int:
    called = 0
    fixed = {"ldn": ldn} if operation.path_parameters else None

    @settings(BOUNDED, max_examples=15)
    @given(operation.as_strategy(generation_mode=mode, path_parameters=fixed))
    def run(case: Any) -> None:
        nonlocal called
        response = case.call(base_url=running.address, timeout=PATIENCE)
        case.validate_response(response, checks=CHECKS)
        called += 1

    with contextlib.suppress(Unsatisfiable):
        run()
    return called


@BOUNDED
@given(
    BODIES | VALUES.map(lambda value: msgspec.json.encode({"scripts": [{"element": "*", "steps": value}]}))
)
def test_fault_scripts_are_taken_or_refused(body: bytes) -> None:
    """A script that cannot be read is an error, and no step of it applies."""

    scripts = FaultScripts()
    try:
        scripts.load(read_scripts(body))
    except InvalidRequest:
        assert scripts.loaded() == ()
