# SPDX-License-Identifier: Apache-2.0
"""Reading what plugins say about operations."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.job import OperationState
from ran_datajobs.southbound.responses import MAX_ERRORS, MAX_TEXT, decode_responses, encode_responses

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def one(**members: Any) -> bytes:
    return msgspec.json.encode({"responses": [{"operationId": "1", **members}]})


@pytest.mark.parametrize(
    ("members", "code", "state"),
    [
        ({"statusCode": 0}, 0, OperationState.SUCCEEDED),
        ({"statusCode": "0"}, 0, OperationState.SUCCEEDED),
        ({"statusCode": "099 "}, 99, OperationState.SUCCEEDED),
        ({"statusCode": 100}, 100, OperationState.FAILED),
        ({"statusCode": "199"}, 199, OperationState.FAILED),
        ({"statusCode": 200}, 200, OperationState.UNKNOWN),
        ({"statusCode": -1}, -1, OperationState.UNKNOWN),
        ({"statusCode": 108, "state": "NOT_STARTED"}, 108, OperationState.NOT_STARTED),
        ({"statusCode": 103, "state": "whatever"}, 103, OperationState.FAILED),
        ({"state": "SUCCEEDED"}, 0, OperationState.SUCCEEDED),
        ({"state": "UNKNOWN"}, 108, OperationState.UNKNOWN),
        ({"statusCode": "OK", "state": "FAILED"}, 108, OperationState.FAILED),
    ],
)
def test_the_state_is_the_peers_or_follows_from_its_code(
    members: dict[str, Any], code: int, state: OperationState
) -> None:
    """Codes come as integers or strings; a state stands before a code."""
    responses = decode_responses(one(**members))
    assert responses is not None
    assert (responses[0].status_code, responses[0].state) == (code, state)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"responses":{}}',
        b'{"responses":[{}]}',
        b'{"responses":[{"operationId":"1"}]}',
        b'{"responses":[{"operationId":"1","statusCode":"OK"}]}',
        b'{"responses":[{"operationId":null,"statusCode":0}]}',
        b'{"responses":[{"operationId":true,"statusCode":0}]}',
        b'{"data":{"answers":[]}}',
        b'{"responses":[{"operationId":"1","statusCode":0,"result":"\xff"}]}',
        b'{"responses":[{"operationId":"1","statusCode":0,"result":' + b"[" * 100_000,
        b'{"responses":[]} trailing',
    ],
)
def test_another_shape_is_none(body: bytes) -> None:
    """Whatever is not a list of responses that say something is no such list."""
    assert decode_responses(body) is None


def test_both_envelopes_are_read() -> None:
    """``{"responses"}`` and ``{"data": {"responses"}}`` are the same."""
    inner = one(statusCode=0)
    assert decode_responses(inner) is not None
    assert _plain(decode_responses(b'{"data":' + inner + b"}")) == _plain(decode_responses(inner))


def test_the_count_must_match_where_it_is_known() -> None:
    """A list that is too short or too long is no answer to the question."""
    body = one(statusCode=0)
    assert decode_responses(body, 1) is not None
    assert decode_responses(body, 2) is None
    assert decode_responses(body, 0) is None


def test_an_echo_of_private_properties_does_not_survive() -> None:
    """Keys that nobody asked for are dropped on every level."""
    body = one(
        statusCode=108,
        privateProperties={"password": "hush"},
        request={"op": "add", "path": "/A=1", "privateProperties": {"password": "hush"}, "value": "hush"},
        errors=[{"type": "OTHER", "badDataNode": "", "errorInfo": {"password": "hush"}}],
    )
    assert b"hush" in body
    responses = decode_responses(body)
    assert responses is not None
    assert b"hush" not in encode_responses(responses)
    assert msgspec.json.decode(responses[0].request) == {"op": "add", "path": "/A=1"}


def test_texts_and_lists_are_cut() -> None:
    """A plugin cannot make a log or a table grow at will."""
    long = "x" * (MAX_TEXT + 1)
    errors = [{"type": long, "detail": long}] * (MAX_ERRORS + 1)
    responses = decode_responses(one(statusCode=108, statusMessage=long, reason=long, errors=errors))
    assert responses is not None
    assert len(responses[0].status_message) == len(responses[0].reason) == MAX_TEXT
    assert len(responses[0].errors) == MAX_ERRORS
    assert len(responses[0].errors[0].type) == len(responses[0].errors[0].detail) == MAX_TEXT


@given(json_values)
def test_results_keep_their_value(result: Any) -> None:
    """The objects of a read come out as they went in."""
    responses = decode_responses(one(statusCode=0, result=result))
    assert responses is not None
    assert msgspec.json.decode(encode_responses(responses))["responses"][0]["result"] == result


@given(json_values | st.dictionaries(st.just("responses"), json_values))
def test_any_json_is_read_or_none(value: Any) -> None:
    """No JSON document makes the reader fail."""
    decode_responses(msgspec.json.encode(value))


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_none(body: bytes) -> None:
    """No bytes make the reader fail."""
    decode_responses(body)
    decode_responses(b'{"responses":[' + body + b"]}")


def _plain(responses: Any) -> Any:
    return msgspec.json.decode(encode_responses(responses))
