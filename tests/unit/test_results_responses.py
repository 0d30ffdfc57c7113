# SPDX-License-Identifier: Apache-2.0
"""Result documents: complete, bounded, in order, and without private data of a plugin."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from ran_datajobs.model import (
    MAX_MESSAGE_BYTES,
    ErrorDetail,
    Op,
    Operation,
    OperationState,
    Reason,
    Response,
)
from ran_datajobs.plugins.responses import APPLIED, CANNOT_READ, UNKNOWN_ERROR
from ran_datajobs.results import responses as results


def _decoded(document: results.Document) -> list[dict[str, object]]:
    body = msgspec.json.decode(document.body)
    assert list(body) == ["responses"]
    return list(body["responses"])


_texts = st.text(max_size=60)
_responses = st.builds(
    Response,
    operation_id=st.one_of(st.integers(-(2**60), 2**60), _texts),
    status_code=st.sampled_from([0, 1, 99, 100, 108, 199]),
    status_message=_texts,
    request=st.builds(lambda path: Raw(msgspec.json.encode({"op": "merge", "path": path})), _texts),
    result=st.one_of(
        st.just(UNSET),
        st.lists(st.dictionaries(_texts, st.integers(0, 9), max_size=2), max_size=12).map(
            lambda items: Raw(msgspec.json.encode(items))
        ),
        st.dictionaries(_texts, _texts, max_size=6).map(lambda tree: Raw(msgspec.json.encode(tree))),
    ),
    state=st.sampled_from(OperationState),
    reason=_texts,
    errors=st.lists(st.builds(ErrorDetail, type=_texts, bad_data_node=_texts), max_size=2).map(tuple),
)


@given(st.lists(_responses, max_size=25), st.integers(200, 3000))
def test_documents_keep_every_response_and_every_object_in_order(
    given_responses: list[Response], limit: int
) -> None:
    """Joined again, the documents have exactly the original operations, objects and states."""
    cut = list(results.documents(given_responses, limit))
    seen = [entry for document in cut for entry in _decoded(document)]
    position = 0
    for response in given_responses:
        wanted = None if response.result is UNSET else msgspec.json.decode(response.result)
        objects: list[object] = []
        first = position
        while position < len(seen) and (
            position == first or (isinstance(wanted, list) and len(objects) < len(wanted))
        ):
            entry = seen[position]
            assert entry["operationId"] == response.operation_id
            assert entry["state"] == results.state_of(response)
            objects += entry["result"] if isinstance(entry.get("result"), list) else []
            position += 1
        if isinstance(wanted, list):
            assert objects == wanted
        else:
            assert seen[first].get("result") == wanted
    assert position == len(seen)
    assert sum(document.operations for document in cut) == len(seen)
    assert sum(document.failed for document in cut) == sum(entry["state"] != "SUCCEEDED" for entry in seen)


@given(st.lists(_responses, max_size=25), st.integers(200, 3000))
def test_a_document_over_the_limit_holds_one_object_alone(
    given_responses: list[Response], limit: int
) -> None:
    """Every document is within the limit, except one response that cannot be split further."""
    for document in results.documents(given_responses, limit):
        if len(document.body) > limit:
            (entry,) = _decoded(document)
            assert not isinstance(entry.get("result"), list) or len(entry["result"]) <= 1


def test_a_large_result_is_cut_between_its_objects() -> None:
    """A result list of 3 MB becomes four complete documents, none over the size limit of a message."""
    objects = [{"id": str(number), "attributes": {"text": "x" * 9_000}} for number in range(330)]
    response = Response(7, 0, "read", result=Raw(msgspec.json.encode(objects)))
    cut = list(results.documents([response]))
    assert len(cut) == 4
    assert all(len(document.body) <= results.MAX_DOCUMENT_BYTES for document in cut)
    again = [item for document in cut for entry in _decoded(document) for item in entry["result"]]
    assert again == objects


def test_long_texts_of_a_plugin_are_shortened_to_fit() -> None:
    """An oversize message or list of errors cannot make an oversize document."""
    errors = tuple(ErrorDetail("T" * 5000, "n" * 5000, detail="d" * 5000) for _ in range(200))
    response = Response("1", 108, "m" * 2_000_000, errors=errors)
    (document,) = results.documents([response])
    assert len(document.body) < results.MAX_DOCUMENT_BYTES
    assert _decoded(document)[0]["statusMessage"] == "m" * 1000


@pytest.mark.parametrize(
    ("state", "reason", "code"),
    [
        (OperationState.SUCCEEDED, "", APPLIED),
        (OperationState.FAILED, Reason.UNMATCHED, results.NOT_OWNED),
        (OperationState.FAILED, Reason.DMI_UNREACHABLE, results.NOT_RESPONDING),
        (OperationState.FAILED, Reason.RESULT_INCOMPLETE, CANNOT_READ),
        (OperationState.UNKNOWN, Reason.OUTCOME_UNKNOWN, UNKNOWN_ERROR),
        (OperationState.NOT_STARTED, "a plugin's own word", UNKNOWN_ERROR),
    ],
)
def test_a_synthesised_response_says_state_reason_and_code(
    state: OperationState, reason: str, code: int
) -> None:
    """An operation without a plugin's outcome gets ONAP's code, the service's reason and its own request."""
    operation = Operation(Op.REPLACE, "/A=1/B=2#/attributes/c", 12, value=Raw(b"5"))
    (response,) = results.make_responses([operation], state, reason, "a sentence")
    (document,) = results.documents([response])
    entry = _decoded(document)[0]
    assert entry["operationId"] == 12
    assert entry["statusCode"] == code
    assert entry["statusMessage"] == "a sentence"
    assert entry["state"] == state
    assert entry["request"] == {"op": "replace", "path": "/A=1/B=2#/attributes/c"}
    assert document.failed == (state is not OperationState.SUCCEEDED)


def test_every_reason_of_ours_has_a_failure_code() -> None:
    """Each cause of the service maps to a code of ONAP's failure range."""
    operation = Operation(Op.REMOVE, "/A=1", "x")
    for reason in Reason:
        (response,) = results.make_responses([operation], OperationState.FAILED, reason, "")
        assert 100 <= response.status_code <= 199


def test_a_message_carries_a_document_as_it_is() -> None:
    """Up to the limit the message is the object's bytes inside ``data``, and at most 900 kB."""
    body = b'{"responses":[' + b" " * (results.MAX_DOCUMENT_BYTES - 16) + b"]}"
    value = results.message_value(body, "http://x/y")
    assert len(value) == MAX_MESSAGE_BYTES
    assert msgspec.json.decode(value) == {"data": {"responses": []}}


def test_an_oversize_object_is_named_in_the_message() -> None:
    """One object over the limit: the message keeps the outcome and refers to the object with the data."""
    tree = {"GNBDUFunction": [{"id": "1", "attributes": {"text": "x" * 1_000_000}}]}
    succeeded = OperationState.SUCCEEDED
    response = Response("1", 0, "read", result=Raw(msgspec.json.encode(tree)), state=succeeded)
    (document,) = results.documents([response])
    assert _decoded(document)[0]["result"] == tree
    value = results.message_value(document.body, "http://host/s3-bucket/b/j/s/0.json")
    assert len(value) <= MAX_MESSAGE_BYTES
    (entry,) = msgspec.json.decode(value)["data"]["responses"]
    assert entry["operationId"] == "1"
    assert entry["state"] == "SUCCEEDED"
    assert entry["result"] == {
        "dataref": "http://host/s3-bucket/b/j/s/0.json",
        "sha256": hashlib.sha256(document.body).hexdigest(),
    }


def test_many_oversize_outcomes_become_a_reference() -> None:
    """An unknown document that stays too large without its objects is referred to as a whole."""
    body = msgspec.json.encode(
        {"responses": [{"operationId": n, "statusCode": 0, "statusMessage": "m" * 90} for n in range(12_000)]}
    )
    assert msgspec.json.decode(results.message_value(body, "u")) == {
        "data": {"dataref": "u", "sha256": hashlib.sha256(body).hexdigest()}
    }


def test_an_untrusted_document_keeps_its_good_entries() -> None:
    """Codes may be strings, unknown keys are dropped, and a bad entry affects only itself."""
    body = (
        b'{"responses":[{"operationId":"1","statusCode":"0","statusMessage":"ok","extra":1},'
        b'{"operationId":2},5,{"operationId":3,"statusCode":108,"statusMessage":"no","state":"FAILED"}],"x":1}'
    )
    assert [(each.operation_id, results.state_of(each)) for each in results.read_responses(body)] == [
        ("1", OperationState.SUCCEEDED),
        (3, OperationState.FAILED),
    ]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"responses":{}}', b"\xff", b'{"responses":[}'])
def test_what_is_no_document_is_a_decode_error(body: bytes) -> None:
    """Anything else than ``{"responses": […]}`` is refused as a whole."""
    with pytest.raises(msgspec.DecodeError):
        results.read_responses(body)
