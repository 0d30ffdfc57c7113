# SPDX-License-Identifier: Apache-2.0
"""The outcomes of a sub-job's operations: its plugin's result combined with the status that it reported."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ran_datajobs.model import Op, Operation, OperationState, Reason, Response, Status
from ran_datajobs.plugins.answers import result_answer
from ran_datajobs.plugins.client import Answered
from ran_datajobs.plugins.port import Lost, Refused, Retryable
from ran_datajobs.reasons import reason_of
from ran_datajobs.results import outcomes
from ran_datajobs.results.responses import documents
from ran_datajobs.store.results import Arrived

WRITES = [Operation(Op.MERGE, "/A=1", "1"), Operation(Op.MERGE, "/A=2", 2)]
READS = [Operation(Op.READ, "/A=1", "1"), Operation(Op.READ, "/A=2", 2)]
FINISHED, PARTLY, FAILED, CANCELLED = (
    Status.FINISHED,
    Status.PARTIALLY_FAILED,
    Status.FAILED,
    Status.CANCELLED,
)
GOOD, BAD = ("SUCCEEDED", ""), ("FAILED", "STATUS_108")
LACKING = ("FAILED", "RESULT_INCOMPLETE")
UNREADABLE, MISSING = ("UNKNOWN", "RESULT_UNREADABLE"), ("UNKNOWN", "RESULT_INCOMPLETE")
NOT_READ = ("FAILED", "RESULT_UNREADABLE")
STOPPED, UNSURE = ("NOT_STARTED", "CANCELLED"), ("UNKNOWN", "OUTCOME_UNKNOWN")


def ended(
    body: bytes, reported: Status, *, status: int = 200, is_read: bool = False, cancel_requested: bool = False
) -> outcomes.Outcome:
    answer = result_answer(Answered(status, body), is_read)
    assert not isinstance(answer, Retryable | Lost)
    operations = READS if is_read else WRITES
    return outcomes.of_result(
        operations, answer, reported, is_read=is_read, cancel_requested=cancel_requested, kept_as="here"
    )


def states_of(outcome: outcomes.Outcome) -> list[tuple[str, str]]:
    """The state and the reason of each operation in its result object."""
    for response in outcome.responses:
        assert (response.state is OperationState.SUCCEEDED) is (0 <= response.status_code <= 99)
    return [
        (state.value, "" if state is OperationState.SUCCEEDED else reason_of(response, state))
        for response in outcome.responses
        if isinstance(state := response.state, OperationState)
    ]


def both(first: str, second: str = '"statusCode":0') -> bytes:
    """A list of two responses with these members, about operation 1 and about operation 2."""
    return f'{{"responses":[{{"operationId":"1",{first}}},{{"operationId":"2",{second}}}]}}'.encode()


WRITTEN: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "a message that is a number": (both('"statusCode":108,"statusMessage":17'), [BAD, GOOD]),
    "a code with a fraction": (both('"statusCode":108.0', '"statusCode":0.0'), [BAD, GOOD]),
    "a code as text": (both('"statusCode":"108"', '"statusCode":"0"'), [BAD, GOOD]),
    "errors that are a text": (both('"statusCode":108,"errors":"none"'), [BAD, GOOD]),
    "no request": (both('"statusCode":108,"request":null'), [BAD, GOOD]),
    "a result that is a text": (both('"statusCode":108,"result":""'), [BAD, GOOD]),
    "an object for a list": (b'{"responses":{"operationId":"1","statusCode":108}}', [BAD, MISSING]),
    "a number as id": (both('"statusCode":108').replace(b'"1"', b"1"), [BAD, GOOD]),
    "a byte order mark": (b"\xef\xbb\xbf" + both('"statusCode":108'), [BAD, GOOD]),
    "no JSON": (b"oops", [UNREADABLE, UNREADABLE]),
    "an error": (b'{"status":500,"title":"x"}', [UNREADABLE, UNREADABLE]),
    "an empty object": (b"{}", [UNREADABLE, UNREADABLE]),
    "an empty list": (b'{"responses":[]}', [MISSING, MISSING]),
    "one operation left out": (b'[{"operationId":"2","statusCode":0}]', [MISSING, GOOD]),
    "another operation": (both('"statusCode":0').replace(b'"1"', b'"9"'), [MISSING, GOOD]),
    "no ids": (b'[{"statusCode":108},{"statusCode":0}]', [BAD, GOOD]),
    "no code": (both('"statusMessage":"ok"'), [MISSING, GOOD]),
    "half a character in a message": (both('"statusCode":108,"statusMessage":"\\ud83d"'), [BAD, GOOD]),
    "a code that is null": (both('"statusCode":null', '"statusCode":0,"state":null'), [MISSING, GOOD]),
    "a misspelt code": (both('"StatusCode":0', '"status_code":0'), [MISSING, MISSING]),
    "misspelt ids": (
        b'[{"operationid":"1","statusCode":0},{"operationid":"2","statusCode":108}]',
        [UNREADABLE, BAD],
    ),
    "a code of HTTP": (both('"statusCode":200'), [("FAILED", "STATUS_200"), GOOD]),
    "a good state, a bad code": (both('"statusCode":108,"state":"SUCCEEDED"'), [BAD, GOOD]),
    "a bad state, a good code": (both('"statusCode":0,"state":"FAILED"'), [BAD, GOOD]),
    "an unknown state": (both('"statusCode":0,"state":"DONE"'), [UNREADABLE, GOOD]),
    "doubles, the worse first": (
        both('"statusCode":108')[:-2] + b',{"operationId":"1","statusCode":0}]}',
        [BAD, GOOD],
    ),
    "doubles, the worse last": (
        both('"state":"FAILED"')[:-2]
        + b',{"operationId":1,"state":"UNKNOWN"},{"operationId":1,"state":"NOT_STARTED"}]}',
        [UNSURE, GOOD],
    ),
    "a reason": (
        both('"statusCode":108,"reason":"R"', '"statusCode":108,"reason":" "'),
        [("FAILED", "R"), BAD],
    ),
    "errors": (
        both(
            '"statusCode":108,"errors":[{"type":"T","reason":"R"}]',
            '"statusCode":108,"errors":{"type":"T"}',
        ),
        [("FAILED", "R"), ("FAILED", "T")],
    ),
    "not started": (
        both('"statusCode":108', '"statusCode":108,"state":"NOT_STARTED"'),
        [BAD, ("NOT_STARTED", "NOT_STARTED")],
    ),
}  # fmt: skip
"""Results of a write of operations 1 and 2, and their outcomes whatever the status says."""


@pytest.mark.parametrize(("body", "expected"), WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("status", [FINISHED, PARTLY, FAILED])
def test_outcomes_decide_whatever_the_status_says(
    body: bytes, expected: list[tuple[str, str]], status: Status
) -> None:
    """A failed operation is never shown as done, and the sub-job's own status follows from its operations."""
    outcome = ended(body, status)
    assert states_of(outcome) == expected
    succeeded = expected.count(GOOD)
    assert (outcome.counts.total, outcome.counts.succeeded) == (2, succeeded)
    assert outcome.status is (PARTLY if succeeded else FAILED)


@pytest.mark.parametrize(
    ("status", "expected", "becomes", "error"),
    [
        (FINISHED, GOOD, FINISHED, ""),
        (FAILED, BAD, FAILED, "the plugin gave no outcomes"),
        (PARTLY, UNSURE, FAILED, "the plugin gave no outcomes"),
        (CANCELLED, STOPPED, CANCELLED, ""),
    ],
)
@pytest.mark.parametrize(("code", "body"), [(204, b""), (200, b'{"result":"x"}')], ids=["204", "foreign"])
def test_without_outcomes_the_status_decides(
    code: int, body: bytes, status: Status, expected: tuple[str, str], becomes: Status, error: str
) -> None:
    """After a 204 and a body without any outcome. The last error says so."""
    outcome = ended(body, status, status=code)
    assert (states_of(outcome), outcome.status, outcome.error) == ([expected] * 2, becomes, error)


def test_the_error_names_what_is_kept() -> None:
    """The cause and the object with the body are named in the error and in each operation's detail."""
    outcome = ended(b"{", FINISHED)
    assert outcome.error.startswith("the plugin's result cannot be read: it is no JSON document (")
    assert outcome.error.endswith("; it is kept as here")
    assert {response.status_message for response in outcome.responses} == {outcome.error}


@pytest.mark.parametrize("status", [FINISHED, FAILED, CANCELLED])
def test_a_result_that_is_refused_tells_nothing(status: Status) -> None:
    """The operations are UNKNOWN, with the cause. A cancelled sub-job stays cancelled."""
    outcome = outcomes.of_result(WRITES, Refused("HTTP 403"), status, is_read=False)
    assert states_of(outcome) == [UNREADABLE] * 2
    assert outcome.error == "the plugin refuses the result: HTTP 403"
    assert outcome.status is (CANCELLED if status is CANCELLED else FAILED)


READ: dict[str, tuple[int, bytes, list[tuple[str, str]]]] = {
    "204": (204, b"", [NOT_READ] * 2),
    "foreign": (200, b'{"result":"x"}', [NOT_READ] * 2),
    "no topic": (200, b'{"resulturi":""}', [NOT_READ] * 2),
    "two topics": (200, b'{"resulturi":"a","resulturi":"b"}', [NOT_READ] * 2),
    "no JSON": (200, b"<html>", [NOT_READ] * 2),
    "nothing": (200, b"", [NOT_READ] * 2),
    "no responses": (200, b'{"responses":[]}', [LACKING] * 2),
    "entries without use": (200, b'{"responses":[null,7,{"a":1}]}', [LACKING] * 2),
    "managed objects": (200, b'[{"id":"1","attributes":{"a":1}}]', [NOT_READ] * 2),
    "data under another name": (
        200,
        b'[{"operationId":"1","statusCode":0,"Result":[1]},{"operationId":"2","statusCode":0,"result":[]}]',
        [NOT_READ, GOOD],
    ),
    "an operation left out": (
        200,
        b'[{"operationId":"2","statusCode":0,"result":[]}]',
        [LACKING, GOOD],
    ),
    "responses": (
        200,
        b'[{"operationId":"1","statusCode":0,"result":[]},{"operationId":"2","statusCode":103}]',
        [GOOD, ("FAILED", "STATUS_103")],
    ),
    "a result that is no data": (
        200,
        b'[{"operationId":"1","statusCode":0,"result":"x"},{"operationId":"2","statusCode":0,"result":{}}]',
        [NOT_READ, GOOD],
    ),
}


@pytest.mark.parametrize(("code", "body", "expected"), READ.values(), ids=READ)
@pytest.mark.parametrize("status", [FINISHED, FAILED])
def test_a_read_is_never_finished_without_its_data(
    code: int, body: bytes, expected: list[tuple[str, str]], status: Status
) -> None:
    """Neither a topic nor responses: FAILED, whatever the status is."""
    outcome = ended(body, status, status=code, is_read=True)
    assert states_of(outcome) == expected
    assert outcome.counts.succeeded == expected.count(GOOD)
    assert bool(outcome.error) is (expected == [NOT_READ] * 2)


@pytest.mark.parametrize(("code", "body"), [(204, b""), (200, b'{"result":"x"}')], ids=["204", "foreign"])
def test_a_cancelled_read_without_outcomes_was_not_started(code: int, body: bytes) -> None:
    """The rule is that of a write: the plugin stopped it, and has no result."""
    outcome = ended(body, CANCELLED, status=code, is_read=True)
    assert (states_of(outcome), outcome.status) == ([STOPPED] * 2, CANCELLED)


def test_a_read_whose_entry_tells_nothing_keeps_its_other_data() -> None:
    """The readable part is kept. The operation has failed."""
    body = both('"statusCode":0,"result":[1]')[:-2] + b',{"operationId":"1"}]}'
    outcome = ended(body, FINISHED, is_read=True)
    assert states_of(outcome) == [GOOD, NOT_READ, GOOD]
    assert (outcome.counts.succeeded, outcome.counts.failed) == (1, 1)
    (document,) = documents(outcome.responses)
    assert b'"result":[1]' in document.body


@pytest.mark.parametrize(
    ("arrived", "reason", "error"),
    [
        (Arrived(2, 2, 1, total=2), None, ""),
        (Arrived(3, 2, 2, total=2), None, ""),
        (Arrived(2, 2, 1), None, ""),
        (Arrived(0, 0, -1), Reason.RESULT_INCOMPLETE, "0 of unknown result messages came"),
        (Arrived(0, 0, -1, total=2), Reason.RESULT_INCOMPLETE, "0 of 2 result messages came"),
        (Arrived(1, 1, 0, total=2), Reason.RESULT_INCOMPLETE, "1 of 2 result messages came"),
        (
            Arrived(2, 1, 5, total=2),
            Reason.RESULT_INCOMPLETE,
            "2 of 2 result messages came, numbered up to 5 with a gap",
        ),
        (
            Arrived(2, 2, 2),
            Reason.RESULT_INCOMPLETE,
            "2 of unknown result messages came, numbered up to 2 with a gap",
        ),
        (
            Arrived(2, 2, 1, unreadable=1, total=2),
            Reason.RESULT_UNREADABLE,
            "1 of 2 result messages cannot be read; they are kept",
        ),
    ],
)
def test_the_messages_of_a_read_are_whole_or_the_read_has_failed(
    arrived: Arrived, reason: Reason | None, error: str
) -> None:
    """A gap below the total, a total that never arrives, a gap without a total, an unreadable message: every
    operation has failed, since the missing data could belong to any."""
    packed = outcomes.pack_outcomes([Response("1", 0, ""), Response("2", 0, "")])
    outcome = outcomes.from_messages(READS, replace(arrived, outcomes=[packed]))
    assert outcome.error == error
    assert outcome.status is (FINISHED if reason is None else FAILED)
    assert [(r.state, r.reason) for r in outcome.responses] == (
        [] if reason is None else [(OperationState.FAILED, reason)] * 2
    )


def test_after_a_cancel_operations_not_started_are_cancelled() -> None:
    """Whatever reason the plugin gives for it. A failure keeps its reason."""
    body = both(
        '"statusCode":108,"state":"NOT_STARTED","reason":"NOT_STARTED"', '"statusCode":108,"reason":"R"'
    )
    assert states_of(ended(body, FAILED)) == [("NOT_STARTED", "NOT_STARTED"), ("FAILED", "R")]
    assert states_of(ended(body, FAILED, cancel_requested=True)) == [STOPPED, ("FAILED", "R")]
    assert states_of(ended(body, CANCELLED)) == [STOPPED, ("FAILED", "R")]
    assert states_of(ended(b'[{"operationId":"1","statusCode":0}]', CANCELLED)) == [GOOD, STOPPED]
    assert states_of(ended(b"?", CANCELLED)) == [UNREADABLE] * 2
