# SPDX-License-Identifier: Apache-2.0
"""Reading a plugin's results of operations: bodies, entries, and their combination."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.structs import replace

from ran_datajobs.model import OperationState, Response
from ran_datajobs.nrm.json_patch import MAX_DEPTH
from ran_datajobs.plugins.port import MAX_IMAGE, Entry, Responses, UnreadableBody, UnrecognisedResult
from ran_datajobs.plugins.responses import (
    MAX_ERRORS,
    MAX_TEXT,
    match_entries,
    read_outcomes,
    tell_apart,
)

MARK = b"\xef\xbb\xbf"
SUCCEEDED, FAILED = OperationState.SUCCEEDED, OperationState.FAILED
NOT_STARTED, UNKNOWN = OperationState.NOT_STARTED, OperationState.UNKNOWN

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def one(**members: Any) -> bytes:
    return msgspec.json.encode({"responses": [{"operationId": "1", **members}]})


def entries(body: bytes, *, is_read: bool = False) -> tuple[Entry, ...]:
    read = read_outcomes(body, is_read=is_read)
    assert isinstance(read, Responses), read
    return read.entries


def outcome(found: Entry) -> Response:
    assert found.response is not None
    assert found.operation_id == found.response.operation_id
    return found.response


def entry(members: str, *, is_read: bool = False) -> Entry:
    (found,) = entries(b'{"responses":[{%b}]}' % members.encode(), is_read=is_read)
    return found


# --- bodies ------------------------------------------------------------------------------------------

ENTRY = '{"operationId":"1","statusCode":108}'

LISTS: dict[str, bytes] = {
    "a list of responses": f'{{"responses":[{ENTRY}]}}'.encode(),
    "the data of an event": f'{{"data":{{"responses":[{ENTRY}]}}}}'.encode(),
    "a list": f"[{ENTRY}]".encode(),
    "one response for a list": f'{{"responses":{ENTRY}}}'.encode(),
    "one response for a list in the data": f'{{"data":{{"responses":{ENTRY}}}}}'.encode(),
    "a byte order mark": MARK + f'{{"responses":[{ENTRY}]}}'.encode(),
    "blanks around it": f'\r\n {{ "responses" : [ {ENTRY} ] }} \t'.encode(),
    "other members beside it": f'{{"error":1,"responses":[{ENTRY}],"status":500,"title":"t"}}'.encode(),
    "other members in the event": f'{{"state":1,"data":{{"errors":[],"responses":[{ENTRY}]}}}}'.encode(),
    "data that is something else": f'{{"data":[],"responses":[{ENTRY}]}}'.encode(),
    "an escaped name": f'{{"respons\\u0065s":[{ENTRY}]}}'.encode(),
}  # fmt: skip


@pytest.mark.parametrize("body", LISTS.values(), ids=LISTS)
def test_a_list_of_responses_is_read_in_any_of_its_wrappings(body: bytes) -> None:
    """Each of these says that operation 1 has failed, and nothing else."""
    found = outcome(*entries(body))
    assert (found.operation_id, found.status_code, found.state) == ("1", 108, FAILED)


def test_all_lists_of_one_document_count() -> None:
    """A member that occurs twice, and both wrappings at once, hide no response."""
    good, bad = '{"operationId":"1","statusCode":0}', ENTRY
    for body in (
        f'{{"responses":[{bad}],"responses":[{good}]}}',
        f'{{"data":{{"responses":[{bad}]}},"responses":[{good}]}}',
        f'{{"data":{{"responses":[{bad}]}},"data":{{"responses":[{good}]}}}}',
        f'{{"data":{{"responses":[{bad}],"responses":[{good}]}}}}',
    ):
        found = entries(body.encode())
        assert [outcome(each).state for each in found] == [FAILED, SUCCEEDED]


UNREADABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it is empty"),
    "blanks": (b" \r\n", "it is empty"),
    "a byte order mark alone": (MARK, "it is empty"),
    "two byte order marks": (MARK * 2 + b"[]", "it is no JSON document"),
    "no JSON": (b"<html>500</html>", "it is no JSON document"),
    "cut off": (b'{"responses":[{"operationId":"1","statusCode":0}', "it is no JSON document"),
    "two documents": (b'{"responses":[]}\n{"responses":[]}', "it is no JSON document"),
    "a trailing comma": (b'{"responses":[],}', "it is no JSON document"),
    "Latin-1": ('{"responses":[],"é":1}'.encode("latin-1"), "it is not UTF-8 (byte 17)"),
    "UTF-16": ('{"responses":[]}'.encode("utf-16"), "it is not UTF-8 (byte 0)"),
    "UTF-16 without a mark": ('{"responses":[]}'.encode("utf-16-le"), "it is no JSON document"),
    "half a character in a result": (one(result=["x"]).replace(b"x", b"\xff"), "it is not UTF-8"),
    "a list of other things": (b'[1,null,"x",{"id":"1"}]', "it is a list, but none of responses"),
    "a list of lists": (b'[[{"operationId":"1","statusCode":0}]]', "it is a list, but none of responses"),
    "nested too deeply": (one(result=[]).replace(b"[]", b"[" * 9_000 + b"]" * 9_000), "nested too deeply"),
    "a text": (b'"FINISHED"', "it is neither an object nor a list"),
    "a number": (b"0", "it is neither an object nor a list"),
    "null": (b"null", "it is neither an object nor a list"),
    "an empty object": (b"{}", "it is an empty object"),
    "responses that are null": (b'{"responses":null}', "its responses are no list"),
    "responses that are a text": (b'{"responses":"none"}', "its responses are no list"),
    "responses by operation": (b'{"responses":{"1":{"statusCode":0}}}', "its responses are no list"),
    "a second list that is none": (b'{"responses":[],"responses":0}', "its responses are no list"),
    "a problem of RFC 9457": (b'{"status":500,"title":"x"}', "it is an error and no result"),
    "a problem without a status": (b'{"type":"about:blank","title":"x"}', "it is an error and no result"),
    "a status code of HTTP": (b'{"status":"503","message":"x"}', "it is an error and no result"),
    "an error": (b'{"error":"x"}', "a member error"),
    "errors somewhere": (b'{"a":[{"b":{"Errors":[]}}]}', "a member Errors"),
    "a misspelt list": (b'{"Responses":[{"operationId":"1","statusCode":0}]}', "a member Responses"),
    "a list in another wrapping": (b'{"payload":{"responses":[]}}', "a member responses"),
    "outcomes under another name": (b'{"results":[{"id":"1","status_code":0}]}', "a member status_code"),
    "a member that the next one hides": (b'{"a":{"statusCode":108},"a":1}', "a member statusCode"),
    "an escaped member": (b'{"a":{"st\\u0061te":"FAILED"}}', "a member state"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "cause"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("is_read", [False, True])
def test_a_body_that_cannot_be_read_comes_back_as_it_is_with_its_cause(
    body: bytes, cause: str, is_read: bool
) -> None:
    """No outcome is taken from it, and the body can be kept."""
    read = read_outcomes(body, "text/plain", is_read=is_read)
    assert isinstance(read, UnreadableBody)
    assert read.body == body
    assert cause in read.cause


@pytest.mark.parametrize(
    "body",
    [
        b'{"result":"done"}',
        b'{"verdict":["fine"],"when":{"stat":1}}',
        b'{"a":"responses","b":["statusCode"],"c":"\\"error\\":"}',
        b'{"statement":1,"errorless":2,"responsesOf":3,"statusCodes":4}',
        b'{"status":"ok"}',
        b'{"title":"a book"}',
        MARK + b'{"resulturi":"topic"}',
    ],
)
def test_a_foreign_body_has_no_member_that_could_be_an_outcome(body: bytes) -> None:
    """Only the names of members matter, not their values. The body can be kept."""
    assert read_outcomes(body, "a/b", is_read=False) == UnrecognisedResult(body)


def test_a_problem_is_one_by_its_content_type_too() -> None:
    """RFC 9457 allows a body without any member."""
    read = read_outcomes(b'{"title":"x"}', "application/problem+json; charset=utf-8", is_read=False)
    assert isinstance(read, UnreadableBody)


# --- entries -----------------------------------------------------------------------------------------

OUTCOMES: dict[str, tuple[int, OperationState]] = {
    '"statusCode":0': (0, SUCCEEDED),
    '"statusCode":99': (99, SUCCEEDED),
    '"statusCode":"0"': (0, SUCCEEDED),
    '"statusCode":" 099 "': (99, SUCCEEDED),
    '"statusCode":0.0': (0, SUCCEEDED),
    '"statusCode":100': (100, FAILED),
    '"statusCode":108.0': (108, FAILED),
    '"statusCode":1.08e2': (108, FAILED),
    '"statusCode":"108"': (108, FAILED),
    '"statusCode":"108.0"': (108, FAILED),
    '"statusCode":200': (200, FAILED),
    '"statusCode":-1': (-1, FAILED),
    '"statusCode":99999999999999999999999999': (108, FAILED),
    '"state":"SUCCEEDED"': (0, SUCCEEDED),
    '"state":" succeeded "': (0, SUCCEEDED),
    '"state":"Failed"': (108, FAILED),
    '"state":"not_started"': (108, NOT_STARTED),
    '"state":"UNKNOWN"': (108, UNKNOWN),
    '"statusCode":108,"state":"NOT_STARTED"': (108, NOT_STARTED),
    '"statusCode":108,"state":"UNKNOWN"': (108, UNKNOWN),
    '"statusCode":108,"state":"SUCCEEDED"': (108, FAILED),
    '"statusCode":0,"state":"FAILED"': (108, FAILED),
    '"statusCode":0,"state":"NOT_STARTED"': (108, NOT_STARTED),
    '"statusCode":0,"state":"UNKNOWN"': (108, UNKNOWN),
    '"statusCode":0,"state":null': (0, SUCCEEDED),
    '"statusCode":0,"state":"DONE"': (108, UNKNOWN),
    '"statusCode":0,"state":"\u017fUCCEEDED"': (108, UNKNOWN),
    '"statusCode":0,"state":true': (108, UNKNOWN),
    '"statusCode":108,"state":"DONE"': (108, FAILED),
    '"statusCode":"abc","state":"SUCCEEDED"': (108, UNKNOWN),
    '"statusCode":null,"state":"SUCCEEDED"': (108, UNKNOWN),
    '"statusCode":true,"state":"SUCCEEDED"': (108, UNKNOWN),
    '"statusCode":0.5,"state":"SUCCEEDED"': (108, UNKNOWN),
    '"statusCode":1e999,"state":"SUCCEEDED"': (108, UNKNOWN),
    '"statusCode":{"code":0},"state":"SUCCEEDED"': (108, UNKNOWN),
    '"statusCode":"OK","state":"FAILED"': (108, FAILED),
    '"statusCode":"OK","state":"NOT_STARTED"': (108, NOT_STARTED),
    '"statusCode":0,"statusCode":108': (108, FAILED),
    '"statusCode":108,"statusCode":0': (108, FAILED),
    '"statusCode":108,"status\\u0043ode":0': (108, FAILED),
    '"statusCode":0,"statusCode":"abc"': (108, UNKNOWN),
    '"state":"FAILED","state":"SUCCEEDED"': (108, FAILED),
    '"state":"SUCCEEDED","state":"SUCCEEDED"': (0, SUCCEEDED),
    '"statusCode":0,"StatusCode":108': (108, UNKNOWN),
    '"statusCode":0,"status_code":0': (0, SUCCEEDED),
    '"state":"SUCCEEDED","statuscode":108': (108, UNKNOWN),
    '"statusCode":0,"State":"FAILED"': (108, UNKNOWN),
    '"statusCode":108,"State":"SUCCEEDED"': (108, FAILED),
    '"statusCode":0,"operation_id":"2"': (0, SUCCEEDED),
    '"statusCode":0,"operationId":"1"': (0, SUCCEEDED),
    '"statusCode":0,"status":"FAILED","code":500': (0, SUCCEEDED),
}  # fmt: skip


@pytest.mark.parametrize(("members", "expected"), OUTCOMES.items(), ids=OUTCOMES)
def test_an_entry_tells_the_worst_that_its_members_say(
    members: str, expected: tuple[int, OperationState]
) -> None:
    """Codes and states in every spelling, in doubles and in contradiction. A code that is published never
    means success if the state does not."""
    found = outcome(entry(f'"operationId":"1",{members}'))
    assert (found.status_code, found.state) == expected
    assert (found.state is SUCCEEDED) is (0 <= found.status_code <= 99)


@pytest.mark.parametrize(
    "members",
    [
        "",
        '"statusMessage":"applied"',
        '"statusCode":null',
        '"statusCode":"abc"',
        '"statusCode":[0]',
        '"state":"DONE"',
        '"state":7',
        '"StatusCode":0',
        '"status_code":0,"State":"SUCCEEDED"',
        '"status":0',
        '"errors":[],"result":[]',
        '"response":{"statusCode":0}',
    ],
)
def test_an_entry_without_code_and_state_tells_nothing(members: str) -> None:
    """It names its operation and gives no outcome."""
    found = entry(f'"operationId":"1"{"," if members else ""}{members}')
    assert found == Entry("1")


@pytest.mark.parametrize(
    ("name", "expected"),
    [('"a"', "a"), ('""', ""), ("7", 7), ("7.0", 7), ("-7", -7), ('"7.0"', "7.0")],
)
def test_an_operation_is_named_by_a_text_or_a_whole_number(name: str, expected: str | int) -> None:
    """A whole number with a fraction of zero is that number."""
    found = outcome(entry(f'"operationId":{name},"statusCode":0'))
    assert found.operation_id == expected


@pytest.mark.parametrize(
    ("members", "state"),
    [
        ('"statusCode":0', SUCCEEDED),
        ('"operationId":null,"statusCode":0', SUCCEEDED),
        ('"operationId":true,"statusCode":0', SUCCEEDED),
        ('"operationId":["1"],"statusCode":108', FAILED),
        ('"operationId":1.5,"statusCode":108', FAILED),
        ('"operationid":"1","statusCode":0', UNKNOWN),
        ('"operation_id":"1","statusCode":108', FAILED),
        ('"operationId":"1","operationId":"2","statusCode":0', UNKNOWN),
        ('"operationId":"1","operationId":"2","statusCode":108', FAILED),
    ],
)
def test_an_entry_that_names_no_single_operation_is_nameless(members: str, state: OperationState) -> None:
    """A misspelt name, or two of them, give no success."""
    found = entry(members)
    assert found.operation_id is None
    assert found.response is not None
    assert (found.response.operation_id, found.response.state) == ("", state)


def test_what_is_no_entry_tells_nothing() -> None:
    """Items that are no objects, and objects without any known member."""
    nothing = b'[null,5,"x",[{"operationId":"1","statusCode":0}],{},{"a":1}]'
    assert entries(b'{"responses":%b}' % nothing) == (Entry(),) * 6


ODD: dict[str, dict[str, Any]] = {
    '"statusMessage":17': {"statusMessage": "17"},
    '"statusMessage":1.5': {"statusMessage": "1.5"},
    '"statusMessage":null': {},
    '"statusMessage":{"a":1}': {},
    '"errors":"none"': {},
    '"errors":null': {},
    '"errors":{"type":"T","reason":5}': {"errors": [{"type": "T", "badDataNode": "", "reason": "5"}]},
    '"errors":[7,{"type":null,"title":"x"}]': {
        "errors": [{"type": "OTHER", "badDataNode": "", "title": "x"}]
    },
    '"errors":[{"\\udc00":1,"type":"T"}]': {"errors": [{"type": "T", "badDataNode": ""}]},
    '"statusMessage":"x\\ud83d"': {"statusMessage": "x\ufffd"},
    '"statusMessage":"\\uDE00\\uD83D"': {"statusMessage": "\ufffd\ufffd"},
    '"statusMessage":"\\uD83D\\uDE00"': {"statusMessage": "\U0001f600"},
    '"statusMessage":"\\\\ud83d"': {"statusMessage": "\\ud83d"},
    '"\\ud83d":1': {},
    '"request":null': {},
    '"request":"merge"': {},
    '"request":{"op":7,"path":null,"value":"hush"}': {"request": {"op": "7"}},
    '"result":""': {},
    '"result":null': {},
    '"result":17': {},
    '"reason":108': {"reason": "108"},
    '"reason":[]': {},
    '"before":{"absent":true}': {"before": {"absent": True}},
    '"before":{"attributes":{"state":"FAILED","b":null},"privateProperties":{"user":"hush"}}': {
        "before": {"attributes": {"state": "FAILED", "b": None}}
    },
    '"before":{"absent":true},"before":{"exists":true}': {},
    '"before":{"absent":true,"exists":true}': {},
    '"before":{"attributes":[1]}': {},
    '"before":{}': {},
    '"before":null': {},
    '"before":7': {},
}  # fmt: skip


@pytest.mark.parametrize(("member", "kept"), ODD.items(), ids=ODD)
@pytest.mark.parametrize("code", [0, 108])
def test_an_odd_member_costs_itself_and_no_more(member: str, kept: dict[str, Any], code: int) -> None:
    """The outcome is used. The readable part of the member is kept."""
    found = outcome(entry(f'"operationId":"1","statusCode":{code},{member}'))
    encoded = msgspec.json.decode(msgspec.json.encode(found))
    usual = {"operationId": "1", "statusCode": code, "statusMessage": "", "request": {}}
    encoded.setdefault("request", {})
    assert encoded == {**usual, "state": "FAILED" if code else "SUCCEEDED"} | kept


@pytest.mark.parametrize(
    ("result", "state"),
    [
        ('"result":[]', SUCCEEDED),
        ('"result":{}', SUCCEEDED),
        ('"result":null', SUCCEEDED),
        ('"statusMessage":""', SUCCEEDED),
        ('"Result":null', SUCCEEDED),
        ('"result":[],"Result":null', SUCCEEDED),
        ('"result":[],"Result":[1]', FAILED),
        ('"result":null,"Result":[1]', FAILED),
        ('"re\\u0073ult":[],"RESULT":[1]', FAILED),
        ('"Result":[1]', FAILED),
        ('"re-sult":"x"', FAILED),
        ('"result":""', FAILED),
        ('"result":7', FAILED),
        ('"result":"[]"', FAILED),
        ('"result":[{"id":"1"}],"result":[]', FAILED),
    ],
)
def test_a_read_that_lost_its_result_has_not_succeeded(result: str, state: OperationState) -> None:
    """A result that is no object and no list, or that occurs twice, is unreadable data."""
    found = outcome(entry(f'"operationId":"1","statusCode":0,{result}', is_read=True))
    assert found.state is state
    assert found.reason == ("" if state is SUCCEEDED else "RESULT_UNREADABLE")


def test_an_echo_of_private_properties_does_not_survive() -> None:
    """Unknown keys are dropped on every level, whichever way the body is read."""
    secret = {"password": "hush"}
    members = {
        "statusCode": 108,
        "privateProperties": secret,
        "request": {"op": "add", "path": "/A=1", "privateProperties": secret, "value": "hush"},
        "errors": [{"type": "OTHER", "badDataNode": "", "errorInfo": secret}],
    }
    known = {name: each for name, each in members.items() if name != "privateProperties"}
    for body in (one(**members), one(**known)):
        assert b"hush" in body
        found = outcome(*entries(body))
        assert b"hush" not in msgspec.json.encode(found)
        assert msgspec.json.decode(found.request) == {"op": "add", "path": "/A=1"}


def test_texts_and_lists_are_cut() -> None:
    """A plugin cannot make a log or a table grow without limit."""
    long = "x" * (MAX_TEXT + 1)
    errors = [{"type": long, "detail": long}] * (MAX_ERRORS + 1)
    for more in ({}, {"more": 1}):
        found = outcome(*entries(one(statusCode=108, statusMessage=long, reason=long, errors=errors, **more)))
        assert len(found.status_message) == len(found.reason) == MAX_TEXT
        assert len(found.errors) == MAX_ERRORS
        assert len(found.errors[0].type) == len(found.errors[0].detail) == MAX_TEXT


@given(st.lists(json_values, max_size=3) | st.dictionaries(st.text(max_size=8), json_values, max_size=3))
def test_results_keep_their_value(result: Any) -> None:
    """The objects of a read are returned unchanged, whichever way the body is read."""
    for more in ({}, {"more": 1}):
        found = outcome(*entries(one(statusCode=0, result=result, **more), is_read=True))
        assert msgspec.json.decode(msgspec.json.encode(found))["result"] == result


@given(json_values | st.dictionaries(st.just("responses"), json_values))
def test_any_json_is_read(value: Any) -> None:
    """No JSON document makes the reader raise."""
    read_outcomes(msgspec.json.encode(value), is_read=True)


@given(st.binary(max_size=60))
def test_any_bytes_are_read(body: bytes) -> None:
    """No bytes make the reader raise."""
    read_outcomes(body, is_read=False)
    read_outcomes(b'{"responses":[' + body + b"]}", is_read=False)


@pytest.mark.parametrize(
    "value", [json.dumps("x" * MAX_IMAGE), "[" * MAX_DEPTH + "]" * MAX_DEPTH], ids=["large", "deep"]
)
def test_a_before_image_is_bounded(value: str) -> None:
    """One that is too large, or nested too deeply, is dropped, and the outcome stays."""
    found = outcome(entry(f'"operationId":"1","statusCode":0,"before":{{"attributes":{{"a":{value}}}}}'))
    assert (found.state, found.before) == (OperationState.SUCCEEDED, UNSET)


def test_a_usual_body_is_read_in_the_same_way_as_any_other() -> None:
    """The fast path for the usual spelling gives the same result as the exact one."""
    usual = [
        {"operationId": "1", "statusCode": 0, "statusMessage": "ok", "request": {"op": "add", "path": "/A"}},
        {"operationId": "6", "statusCode": 0, "before": {"attributes": {"a": [1.5]}, "user": "hush"}},
        {"operationId": 2, "statusCode": 108, "state": "NOT_STARTED", "errors": [{"type": "T"}]},
        {"operationId": "3", "state": "SUCCEEDED", "result": [{"id": "1"}]},
        {"operationId": "4", "statusCode": 0, "state": "FAILED"},
        {"operationId": "5", "statusMessage": "?"},
    ]  # fmt: skip
    with_care = [{**each, "another": "member"} for each in usual]
    quick, careful = (
        entries(msgspec.json.encode({"responses": each}), is_read=True) for each in (usual, with_care)
    )
    assert quick[-1] == careful[-1] == Entry("5")
    for one_way, other_way in zip(quick[:-1], careful[:-1], strict=True):
        assert msgspec.json.encode(outcome(one_way)) == msgspec.json.encode(outcome(other_way))


@pytest.mark.parametrize(
    "members",
    [
        '"state":"SUCCEEDED","result":[{"state":"FAILED","operationId":"9","result":[{"statusCode":108}]}]',
        '"state":"SUCCEEDED","result" : \n[{"id":"\\u0041"}]',
        '"state":"SUCCEEDED","statusMessage":"result","result":{"id":"1"}',
        '"state":"SUCCEEDED","request":{"op":"read","result":[1]},"result":[1]',
        '"state":"SUCCEEDED","result":[1],"result":[1]',
        '"state":"SUCCEEDED","result":[1],"result":[2]',
        '"state":"SUCCEEDED","result":[1],"state":"FAILED"',
        '"state":"SUCCEEDED","result":[1],"st\\u0061te":"FAILED"',
        '"result":[{"state":"FAILED"}],"state":"SUCCEEDED","result":[{"state":"FAILED"}]',
    ],
)
def test_a_result_is_stepped_over_and_nothing_beside_it(members: str) -> None:
    """The fast path counts names outside the results alone: it gives the same result as the exact one."""
    one = '{"operationId":"1",' + members
    quick, careful = (
        entries(
            f'{{"responses":[{{"operationId":"0","result":[1],"state":"SUCCEEDED"}},{text}]}}'.encode(),
            is_read=True,
        )
        for text in (one + "}", one + ',"another":"member"}')
    )
    assert quick == careful


# --- operations --------------------------------------------------------------------------------------


def good(name: str) -> Response:
    return Response(name, 0, "", state=SUCCEEDED)


def bad(name: str) -> Response:
    return Response(name, 108, "", state=FAILED)


def named(kind: Callable[[str], Response], name: str) -> Entry:
    return Entry(name, kind(name))


def unnamed(kind: Callable[[str], Response]) -> Entry:
    return Entry(None, kind(""))


def states(operations: str, *listed: Entry) -> list[str]:
    """For each operation: the states that are reported, and ``?`` if it cannot have succeeded."""
    names, found = tell_apart(list(operations), [f"/A={n}" for n in range(len(operations))], listed)
    responses, doubts = match_entries(names, found)
    return [
        "".join(each.state.value[0] for each in responses.get(name, ()) if each.state)
        + ("?" if name in doubts else "")
        for name in names
    ]


def test_entries_find_their_operations_by_name_and_else_by_place() -> None:
    """By position only if there are as many entries as operations, all named ones are in their positions, so
    that none names that operation, and no other entry is empty."""
    assert states("ab", named(bad, "b"), named(good, "a")) == ["S", "F"]
    assert states("ab", unnamed(bad), unnamed(good)) == ["F", "S"]
    assert states("ab", named(good, "a"), unnamed(bad)) == ["S", "F"]
    assert states("ab", unnamed(bad), named(good, "a")) == ["S", ""]
    assert states("ab", unnamed(good)) == ["", ""]
    assert states("abc", named(good, "b"), unnamed(good), unnamed(bad)) == ["", "S", ""]
    assert states("ab", named(good, "x"), unnamed(good)) == ["", ""]
    assert states("ab", Entry(), unnamed(good)) == ["", ""]
    assert states("ab", Entry("a"), unnamed(good)) == ["?", "S"]
    assert states("ab", named(good, "a"), named(bad, "a"), named(good, "x")) == ["SF", ""]


def at(kind: Callable[[str], Response], path: str) -> Entry:
    """An entry of operation ``a`` with the path of its request."""
    return Entry("a", replace(kind("a"), request=msgspec.Raw(msgspec.json.encode({"path": path}))))


def test_operations_with_the_same_id() -> None:
    """Their entries count by position where the list is in the order of the request. Otherwise they count if
    there is one for each operation and all say the same; else no outcome of these operations is known."""
    assert states("aab", named(good, "a"), named(bad, "a"), named(good, "b")) == ["S", "F", "S"]
    assert states("aab", named(bad, "a"), unnamed(good), named(good, "b")) == ["F", "S", "S"]
    assert states("aab", named(good, "b"), named(good, "a"), named(good, "a")) == ["S", "S", "S"]
    assert states("aab", named(bad, "b"), named(bad, "a"), named(bad, "a")) == ["F", "F", "F"]
    assert states("aab", named(good, "b"), named(bad, "a"), named(good, "a")) == ["", "", "S"]
    assert states("aab", named(good, "a"), named(good, "b")) == ["", "", "S"]
    assert states("aa", at(good, "/A=0"), at(bad, "/A=1")) == ["S", "F"]
    assert states("aa", at(good, "/A=1"), at(bad, "/A=0")) == ["", ""]
    assert states("aa", named(good, "a")) == ["", ""]
    assert states("aa", named(good, "a"), named(good, "a"), named(good, "a")) == ["", ""]
    assert states("aa", named(good, "a"), Entry("a")) == ["S", "?"]
    assert states("aab", named(good, "b"), named(good, "a"), Entry("a")) == ["", "", "S"]
    assert states("aab", named(good, "0"), named(good, "1"), named(good, "b")) == ["", "", "S"]
    assert states("aab", named(good, "b"), named(good, "b"), named(bad, "b")) == ["", "", "SSF"]


@given(st.text("ab", min_size=2, max_size=5), st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_no_operation_succeeds_by_the_entry_of_another(ids: str, listed: list[tuple[str, bool]]) -> None:
    """Of the operations with one id at most as many succeed as entries of this id are successes, and none if
    there are fewer entries than operations."""
    found = states(ids, *(named(good if is_good else bad, name) for name, is_good in listed))
    for name in set(ids):
        succeeded = [state for state, its in zip(found, ids, strict=True) if its == name and "S" in state]
        successes = [is_good for its, is_good in listed if its == name]
        assert len(succeeded) <= sum(successes)
        assert not succeeded or len(successes) >= ids.count(name)


def test_an_entry_that_tells_nothing_costs_its_operation_the_success() -> None:
    """It gives no outcome, but it was no readable success either."""
    assert states("ab", named(good, "a"), Entry("a"), named(good, "b")) == ["S?", "S"]
    assert states("ab", Entry("a"), named(bad, "b")) == ["?", "F"]


def test_a_failure_that_finds_no_operation_may_be_anybodys() -> None:
    """If no operation is left for it, no success of this list is used."""
    assert states("ab", named(good, "a"), named(good, "b"), unnamed(bad)) == ["S?", "S?"]
    assert states("ab", named(good, "a"), named(good, "b"), unnamed(good)) == ["S", "S"]
    assert states("abc", named(good, "a"), named(good, "b"), unnamed(bad), named(good, "a")) == [
        "SS",
        "S",
        "",
    ]
    assert states("abc", named(good, "a"), named(good, "b"), unnamed(bad), unnamed(bad)) == ["S?", "S?", "?"]
