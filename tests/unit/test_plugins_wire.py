# SPDX-License-Identifier: Apache-2.0
"""Both dialects' paths and bodies: the receiver reads what the sender wrote."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, UnsetType

from ran_datajobs.api import paths
from ran_datajobs.model import ActivationMode, ObjectState, Op, Operation, Scope, ScopeType
from ran_datajobs.plugins import wire
from ran_datajobs.plugins.port import CreateCall

names = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable())
words = st.text(max_size=30)
levels = st.none() | st.integers(0, 9)
write_operations = st.builds(
    wire.SeedOperation,
    op=st.sampled_from([Op.ADD, Op.REPLACE, Op.MERGE, Op.ACTION, Op.TEST]),
    path=names,
    operation_id=words | st.integers(),
    value=st.sampled_from([Raw(b"1.0"), Raw(b'{"a": [1,2 ]}'), Raw(b"null"), Raw(b'"\\u00e9"')]),
    expect=st.sampled_from(
        [None, ObjectState(absent=True), ObjectState(exists=True), ObjectState({"a": [1.5], "b": None})]
    ),
)
read_operations = st.builds(
    wire.SeedOperation,
    op=st.just(Op.READ),
    path=names,
    operation_id=words | st.integers(),
    attributes=st.none() | st.lists(words.filter(lambda text: "," not in text), max_size=3).map(tuple),
    fields=st.none() | st.lists(words, max_size=3).map(tuple),
    filter=st.none() | words,
    scope=st.none() | st.builds(Scope, st.sampled_from(ScopeType), levels),
    data_node_selector=st.none() | words,
)


def with_handle(operation: wire.SeedOperation) -> wire.SeedOperation:
    return msgspec.structs.replace(operation, module_set_tag="tag", private_properties=Raw(b'{"k":1}'))


@given(st.lists(write_operations | read_operations, max_size=5))
def test_seed_operations_come_back_as_they_were(operations: list[wire.SeedOperation]) -> None:
    """A plugin reads from the seed dialect the operation itself, with value tokens and id type."""
    body = msgspec.json.encode([with_handle(one) for one in operations])
    decoded = msgspec.json.decode(body, type=list[wire.ReceivedSeed])
    assert [_shown(wire.job_operation(one)) for one in decoded] == [_shown(one) for one in operations]


@given(st.lists(write_operations | read_operations, max_size=5))
def test_onap_operations_come_back_with_string_ids(operations: list[wire.SeedOperation]) -> None:
    """The same in ONAP's dialect, whose operation ids are strings."""
    body = msgspec.json.encode([wire.onap_operation(with_handle(one)) for one in operations])
    decoded = msgspec.json.decode(body, type=list[wire.ReceivedOnap])
    expected = [_shown(one) | {"operationId": str(one.operation_id)} for one in operations]
    assert [_shown(wire.job_operation(one)) for one in decoded] == expected


def _shown(operation: Operation | wire.SeedOperation) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(operation))
    shown["value"] = None if isinstance(operation.value, UnsetType) else bytes(operation.value)
    return shown


def test_the_operations_look_as_the_contract_prints_them() -> None:
    """The keys of both dialects, spelt exactly."""
    read = wire.SeedOperation(
        Op.READ,
        "/SubNetwork=X",
        7,
        attributes=("a", "b"),
        fields=("/attributes/c",),
        filter=("A/attributes/x==1", "A/attributes/y==2"),
        module_set_tag="tag",
        scope=Scope(ScopeType.BASE_SUBTREE, 2),
        private_properties=Raw(b'{"user":"u"}'),
    )
    shared = {
        "op": "read",
        "path": "/SubNetwork=X",
        "attributes": ["a", "b"],
        "fields": ["/attributes/c"],
        "moduleSetTag": "tag",
    }
    assert msgspec.to_builtins(_decoded(read)) == shared | {
        "operationId": 7,
        "filter": ["A/attributes/x==1", "A/attributes/y==2"],
        "scope": {"scopeType": "BASE_SUBTREE", "scopeLevel": 2},
        "privateProperties": {"user": "u"},
    }
    assert msgspec.to_builtins(_decoded(wire.onap_operation(read))) == shared | {
        "operationId": "7",
        "filter": "(A/attributes/x==1) && (A/attributes/y==2)",
        "scopeType": "BASE_SUBTREE",
        "scopeLevel": 2,
        "cmHandleProperties": {"user": "u"},
    }


def _decoded(operation: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(operation))


@pytest.mark.parametrize(("dialect", "id_key"), [("seed", "requestId"), ("onap", "dataJobId")])
def test_a_create_body_holds_the_operations_byte_by_byte(dialect: str, id_key: str) -> None:
    """The array is sent unchanged, surrounded by the envelope's keys."""
    operations = b'[{"op":"add", "path":"x","operationId":"1","value": 1.50}]'
    call = CreateCall("j", "s", "p", "d", "a", "c", ActivationMode.STOP_ON_ERROR, False, operations)
    body = wire.create_body(wire.Dialect(dialect), call)
    assert operations in body
    assert msgspec.json.decode(body) == {
        "dataAcceptType": "a",
        "dataContentType": "c",
        "dataProducerId": "p",
        id_key: "j",
        "activationMode": "STOP_ON_ERROR",
        "data": msgspec.json.decode(operations),
    }
    with_images = wire.create_body(wire.Dialect(dialect), msgspec.structs.replace(call, before_images=True))
    assert msgspec.json.decode(with_images)["beforeImages"] is True


@given(names, names, names)
def test_names_survive_the_path_and_never_climb(job: str, producer: str, destination: str) -> None:
    """Every name is one path segment, whatever its characters. None of them is a dot segment."""
    path = wire.path_of(
        wire.SEED_STATUS,
        {wire.DATA_PRODUCER_ID: producer, wire.DESTINATION: destination},
        request_id=job,
        data_producer_job_id=producer,
    )
    assert path.isascii()
    split = urlsplit("http://host" + path)
    segments = split.path.split("/")
    assert [unquote(one) for one in segments] == [
        "",
        "dmi",
        "v1",
        "dataJob",
        job,
        "dataProducerJob",
        producer,
        "status",
    ]
    assert not {".", ".."} & set(segments)
    assert parse_qs(split.query, strict_parsing=True, keep_blank_values=True) == {
        "dataProducerId": [producer],
        "destination": [destination],
    }


@pytest.mark.parametrize("text", ["", " a", "a ", "a\nb", "a\x00", ".", "..", "x" * 513])
def test_an_id_that_is_unsafe_in_a_path_log_or_table_is_refused(text: str) -> None:
    """Also one that is too long, and one that a proxy takes for a folder."""
    assert not wire.is_usable_id(text)


@pytest.mark.parametrize("text", ["a/b", "17", "é ü", "x" * 512])
def test_every_other_printable_id_is_usable(text: str) -> None:
    """Whatever its characters."""
    assert wire.is_usable_id(text)


def test_what_a_plugin_calls_is_what_the_service_serves() -> None:
    """The addresses that a plugin uses are those of the northbound API."""
    assert wire.aiohttp_route(wire.STATUS_PUSH) == wire.aiohttp_route(paths.STATUS_PUSH)
    assert wire.aiohttp_route(wire.TOPIC_MESSAGES) == wire.aiohttp_route(paths.TOPIC_MESSAGES)
