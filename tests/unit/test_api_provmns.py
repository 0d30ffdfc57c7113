# SPDX-License-Identifier: Apache-2.0
"""Answers of ProvMnS from the outcomes of a job: documents of reads, and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw, structs

from ran_datajobs import reasons
from ran_datajobs.api.provmns_jobs import Preferences, read_preferences
from ran_datajobs.api.provmns_problems import STATUSES, failure
from ran_datajobs.api.provmns_reads import UnreadableResult, document_of
from ran_datajobs.model import ErrorDetail, OperationState, Reason, Response
from ran_datajobs.nrm.resources import to_flat, to_hierarchical
from ran_datajobs.plugins.wire import TREE_FLAT, TREE_HIERARCHICAL

BASE = "SubNetwork=A"
OBJECTS = [
    {
        "id": name.rpartition("=")[2],
        "objectClass": name.rpartition(",")[2].partition("=")[0],
        "objectInstance": name,
        "attributes": {"x": number},
    }
    for number, name in enumerate(
        [
            "SubNetwork=A",
            "SubNetwork=A,B=1",
            "SubNetwork=A,B=1,C=a b",
            "SubNetwork=A,B=2",
            "SubNetwork=A,D=1",
        ]
    )
]


def response(result: Any, path: str = f"/{BASE}") -> Response:
    request = msgspec.json.encode({"op": "read", "path": path})
    return Response("0", 0, "read", Raw(request), Raw(msgspec.json.encode(result)))


def read(responses: Sequence[Response], media_type: str, base: str = BASE, by_selector: bool = False) -> Any:
    body = document_of(responses, base, media_type, by_selector)
    return msgspec.json.decode(body) if body else None


@pytest.mark.parametrize("wanted", [TREE_FLAT, TREE_HIERARCHICAL])
@pytest.mark.parametrize("cuts", [[5], [2, 5], [1, 3, 4, 5]])
@pytest.mark.parametrize("flat", [True, False])
def test_the_pieces_of_a_result_are_one_document(cuts: list[int], flat: bool, wanted: str) -> None:
    """Whatever form the plugin answers in, and however many pieces there are."""
    pieces = [OBJECTS[first:end] for first, end in zip([0, *cuts], cuts, strict=False)]
    whole = read([response(each if flat else to_hierarchical(each, BASE)) for each in pieces], wanted)
    if wanted == TREE_HIERARCHICAL:
        assert whole == to_hierarchical(OBJECTS, BASE)
    else:
        assert sorted(whole, key=str) == sorted(OBJECTS, key=str)


@pytest.mark.parametrize("media_type", [TREE_FLAT, TREE_HIERARCHICAL])
def test_what_a_selector_selects_outside_the_target_is_left_out(media_type: str) -> None:
    """A selector is absolute; the document begins at the target, here below the base of the result."""
    parts = [response(OBJECTS), response(to_hierarchical([OBJECTS[1]], ""), path="/")]
    inside = [OBJECTS[1], OBJECTS[2], OBJECTS[1]]
    found = read(parts, media_type, "SubNetwork=A/B=1", by_selector=True)
    assert found == (inside if media_type == TREE_FLAT else to_hierarchical(inside, "SubNetwork=A/B=1"))
    everything = read([response(OBJECTS)], media_type, "", by_selector=True)
    assert everything == (OBJECTS if media_type == TREE_FLAT else to_hierarchical(OBJECTS, ""))
    assert to_flat(to_hierarchical(OBJECTS, ""), "") != []


@pytest.mark.parametrize("result", [[], {}])
@pytest.mark.parametrize("media_type", [TREE_FLAT, TREE_HIERARCHICAL])
def test_an_empty_selection_has_no_document(result: Any, media_type: str) -> None:
    """In either form, of one part or of several, and of a part without a result."""
    assert read([response(result)], media_type) is None
    assert read([response([]), response({})], media_type) is None
    assert read([structs.replace(response(result), result=UNSET)], media_type) is None


@pytest.mark.parametrize("result", [[1], [{}], {"B": [{"id": 7}]}, [{"objectInstance": "no name"}]])
def test_a_result_without_managed_objects_is_reported(result: Any) -> None:
    """A plugin can send any JSON; it is no error of the service."""
    with pytest.raises(UnreadableResult):
        read([response(result), response([])], TREE_HIERARCHICAL)


# --- failures ----------------------------------------------------------------------------------------


def outcome(
    state: OperationState, reason: str = "", error: ErrorDetail | None = None, message: str = "why"
) -> Response:
    code = 0 if state is OperationState.SUCCEEDED else 108
    return Response("0", code, message, state=state, reason=reason, errors=(error,) if error else ())


def problem(*outcomes: Response, is_patch: bool = True) -> tuple[Any, dict[str, str]]:
    numbered = [structs.replace(each, operation_id=str(place)) for place, each in enumerate(outcomes)]
    answer = failure("/ProvMnS/v1/A=1", "http://job", numbered, is_patch=is_patch)
    assert answer is not None
    body = msgspec.json.decode(msgspec.json.encode(answer.content))
    assert body["status"] == answer.status_code
    return body, dict(answer.headers)


DONE, FAILED, UNKNOWN, UNSTARTED = (
    OperationState.SUCCEEDED,
    OperationState.FAILED,
    OperationState.UNKNOWN,
    OperationState.NOT_STARTED,
)
INVALID = ErrorDetail(
    "SCHEMA_VALIDATION_ERROR", "/A=1#/attributes/x", "NEW_DATA_NODE_VALUE_INVALID", "The value", "70000"
)


def test_the_first_failure_is_the_answer_and_what_was_executed_is_named() -> None:
    """Of a patch: badOp points to it, the operations before it stay, those after it were not started."""
    body, headers = problem(outcome(DONE), outcome(FAILED, error=INVALID), outcome(UNSTARTED))
    assert (body["status"], body["reason"], body["badOp"]) == (422, "NEW_DATA_NODE_VALUE_INVALID", "/1")
    assert (body["title"], body["badAttributes"]) == ("The value", ["/A=1#/attributes/x"])
    assert "70000" in body["detail"] and "1 of 3" in body["detail"]
    (other,) = body["otherProblems"]
    assert (other["badOp"], other["title"]) == ("/0", "was executed, and stays")
    assert body["instance"] == "http://job" and "Location" not in headers


def test_an_unknown_outcome_is_no_failure_and_no_success() -> None:
    """It decides before a failure, is a 504, and leads to the job; the failure is named beside it."""
    body, headers = problem(outcome(FAILED, error=INVALID), outcome(UNKNOWN, Reason.OUTCOME_UNKNOWN))
    assert (body["status"], body["badOp"], body["reason"]) == (504, "/1", "OUTCOME_UNKNOWN")
    assert "may have been executed" in body["detail"] and headers["Location"] == "http://job"
    assert [each["badOp"] for each in body["otherProblems"]] == ["/0"]


def test_a_request_of_one_operation_has_no_bad_operation() -> None:
    """badOp is for patches (TS 28.623); the bad object is named in any case."""
    missing = ErrorDetail("DATA_NODE_TREE_ERROR", "/A=1", "TARGET_DATA_NODE_NOT_FOUND")
    parts = outcome(FAILED, error=missing), outcome(DONE), outcome(FAILED, Reason.DMI_UNREACHABLE)
    body, _ = problem(*parts, is_patch=False)
    assert (body["status"], body["type"], body["badObjects"]) == (404, "IE_NOT_FOUND", ["/A=1"])
    assert "badOp" not in body
    assert [each["reason"] for each in body["otherProblems"]] == ["DMI_UNREACHABLE"]


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (outcome(FAILED, Reason.DMI_UNREACHABLE), 503),
        (outcome(FAILED, Reason.DMI_REFUSED), 502),
        (outcome(FAILED, Reason.RESULT_UNREADABLE), 502),
        (outcome(FAILED, Reason.UNMATCHED), 404),
        (outcome(UNSTARTED, Reason.CANCELLED), 409),
        (outcome(FAILED, "POLICY_DENIED"), 409),
        (outcome(FAILED), 502),
        (outcome(FAILED, "A word of the plugin"), 409),
        (outcome(FAILED, error=ErrorDetail("SERVER_ERROR", "/A=1", "OTHER")), 502),
        (outcome(FAILED, error=ErrorDetail("OTHER", "/A=1", "OTHER")), 409),
        (outcome(FAILED, error=ErrorDetail("OTHER", "/A=1", "TARGET_DATA_NODE_NOT_FOUND")), 404),
        (outcome(FAILED, error=ErrorDetail("APPLICATION_LAYER_ERROR", "/A=1", "OTHER")), 409),
        (outcome(FAILED, error=ErrorDetail("ACCESS_CONTROL_CONFLICT", "/A=1", "ACCESS_DENIED")), 403),
    ],
)
def test_the_cause_decides_the_status(bad: Response, status: int) -> None:
    """Without a cause that is known the client's request is not to blame."""
    body, headers = problem(bad, is_patch=False)
    assert (body["status"], "Retry-After" in headers) == (status, status == 503)


def test_every_status_is_of_a_reason_that_exists() -> None:
    """No entry is misspelt."""
    known = {*reasons.OURS, *reasons.TS_28572, *reasons.TS_28572_TYPES, *reasons.CODES}
    assert STATUSES.keys() <= known


def test_outcomes_that_all_succeeded_are_no_failure() -> None:
    """For example of a job whose failures are in objects that are gone."""
    assert failure("/", "http://job", [outcome(DONE)], is_patch=False) is None


@pytest.mark.parametrize(
    ("values", "wait", "respond_async", "applied"),
    [
        ([], None, False, None),
        (["wait=5"], 5, False, "wait=5"),
        (["respond-async, wait=10"], 10, True, "respond-async, wait=10"),
        (["return=minimal", "Respond-Async; x=y"], None, True, "respond-async"),
        (["wait=7, wait=8"], 7, False, "wait=7"),
        (["wait=9999999"], 600, False, "wait=600"),
        (["wait=99999999999999999999"], None, False, None),
        (["wait=-1", "wait"], None, False, None),
        (['wait="3"'], 3, False, "wait=3"),
        (["wait=²"], None, False, None),
    ],
)
def test_preferences_are_read_as_in_rfc_7240(
    values: list[str], wait: int | None, respond_async: bool, applied: str | None
) -> None:
    """A preference that is not understood is as if absent, and not named as applied."""
    found = read_preferences(values)
    assert found == Preferences(wait, respond_async)
    assert found.applied.get("Preference-Applied") == applied
