# SPDX-License-Identifier: Apache-2.0
"""The meaning of an exchange, by status code."""

from __future__ import annotations

import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.model import Status
from ran_datajobs.plugins.answers import (
    MAX_RETRY_AFTER,
    cancel_answer,
    create_answer,
    created_id,
    result_answer,
    seconds_of,
    status_answer,
)
from ran_datajobs.plugins.client import Answered, Broken, NotSent
from ran_datajobs.plugins.port import (
    CancelTaken,
    Created,
    Lost,
    NoOutcomes,
    OnTopic,
    OutcomeUnknown,
    Polled,
    Refused,
    Responses,
    Retryable,
    UnrecognisedResult,
)
from ran_datajobs.plugins.wire import Dialect

NOW = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.UTC)


@given(st.integers(100, 599))
def test_every_status_code_of_a_create_has_one_meaning(status: int) -> None:
    """Created needs an id. 425, 429 and 503 did not arrive. Other 4xx except 408 are refusals. All else is
    unknown."""
    answer = create_answer(Dialect.SEED, Answered(status, b"{}"), b"[]")
    if status in {425, 429, 503}:
        expected: type = Retryable
    elif (400 <= status < 500 and status != 408) or status in {301, 307, 308, 501, 505}:
        expected = Refused
    else:
        expected = OutcomeUnknown
    assert type(answer) is expected
    created = create_answer(Dialect.SEED, Answered(status, b'{"dataProducerJobId":"x"}'), b"[]")
    assert (created == Created("x")) is (200 <= status < 300)


@given(st.integers(100, 599))
def test_every_status_code_of_the_other_calls_has_one_meaning(status: int) -> None:
    """404 and 410 mean that the job is lost. Only a 200 gives a status. For a result, a 202 means not ready
    yet, a 204 without outcomes, any other 2xx is read from its body, and a 4xx about the call is a
    refusal."""
    gone = status in {404, 410}
    good = 200 <= status < 300
    refused = 400 <= status < 500 and status not in {408, 425, 429}
    answered = Answered(status, b'{"verdict":"fine"}', "application/json")
    assert type(status_answer(answered)) is (Lost if gone else Retryable)
    polled = status_answer(Answered(status, b'{"status":"RUNNING"}'))
    assert (polled == Polled(Status.RUNNING)) is (status == 200)
    of_result = {202: Retryable, 204: NoOutcomes, 404: Lost, 410: Lost}.get(status)
    if of_result is None:
        of_result = UnrecognisedResult if good else Refused if refused else Retryable
    assert type(result_answer(answered, False)) is of_result
    cannot = refused or status in {501, 505}
    assert type(cancel_answer(answered)) is (CancelTaken if good else Refused if cannot else Retryable)


def test_what_was_not_sent_did_not_arrive_and_what_broke_may_have() -> None:
    """Only a create is affected. All other calls can be repeated."""
    assert create_answer(Dialect.SEED, NotSent("refused"), b"[]") == Retryable("refused")
    assert create_answer(Dialect.SEED, Broken("reset"), b"[]") == OutcomeUnknown("reset")
    for exchange in (NotSent("x"), Broken("x")):
        assert status_answer(exchange) == Retryable("x")
        assert result_answer(exchange, True) == Retryable("x")
        assert cancel_answer(exchange) == Retryable("x")


@pytest.mark.parametrize(
    ("body", "seed", "onap"),
    [
        (b'{"dataProducerJobId":"a"}', "a", None),
        (b'{"subJobId":"b"}', None, "b"),
        (b'\xef\xbb\xbf{"dataProducerJobId":"a","subJobId":"b"}', "a", "b"),
        (b'{"dataProducerJobId":7,"subJobId":8,"more":1}', "7", "8"),
        (b'{"dataProducerJobId":7.0,"subJobId":8.5}', "7", None),
        (b'{"dataProducerJobId":"a","subJobId":"b","dataProducerJobId":"c"}', None, "b"),
        (b'{"dataProducerJobId":"a","subJobId":"b","subJobId":"b"}', "a", "b"),
        (b'{"dataProducerJobId":null,"subJobId":[]}', None, None),
        (b'{"dataProducerJobId":true,"subJobId":{}}', None, None),
        (b'{"dataProducerJobId":" a","subJobId":17}', None, "17"),
        (b'{"dataproducerjobid":"a","subJobID":"b"}', None, None),
        (b'[{"dataProducerJobId":"a","subJobId":"b"}]', None, None),
        (b'{"dataProducerJobId":"a","subJobId":"b"}{}', None, None),
        (b"{}", None, None),
        (b"[]", None, None),
        (b"", None, None),
        (b'{"dataProducerJobId":".."}', None, None),
        (b"[" * 100_000, None, None),
        ('{"dataProducerJobId":"a","subJobId":"b"}'.encode("utf-16"), None, None),
    ],
)
def test_the_id_of_a_create_answer(body: bytes, seed: str | None, onap: str | None) -> None:
    """Each dialect reads its own key. Any other response, also one with two of them, has no usable id."""
    assert created_id(Dialect.SEED, body) == seed
    assert created_id(Dialect.ONAP, body) == onap


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"status":"FINSHED"}', Status.FINISHED),
        (b'\xef\xbb\xbf {"status":"FINISHED","more":{"status":"FAILED"}}', Status.FINISHED),
        (b'{"status":"RUNNING","status":"RUNNING"}', Status.RUNNING),
        (b'{"status":"DONE"}', """the plugin's status "DONE" is not known"""),
        (b'{"status":"finished"}', """the plugin's status "finished" is not known"""),
        (b'{"status":7}', "the plugin's status 7 is not known"),
        (b'{"status":null}', "the plugin's status null is not known"),
        (b'{"status":{"password":"hush"}}', "the plugin's status an object is not known"),
        (
            b'{"status":"FAILED","status":"FINSHED"}',
            """the plugin's answer has several statuses: "FAILED", "FINSHED\"""",
        ),
        (b'{"Status":"FINSHED"}', "the plugin's answer has no status"),
        (b'["FINSHED"]', "the plugin's answer has no status"),
        (b"", "the plugin's status cannot be read: it is empty"),
        (
            b'{"status":"FINSHED"',
            "the plugin's status cannot be read: it is no JSON document (Input data was truncated)",
        ),
        (
            '{"status":"FINSHED"}'.encode("utf-16"),
            "the plugin's status cannot be read: it is not UTF-8 (byte 0)",
        ),
    ],
)
def test_a_status_is_a_known_word_or_is_quoted(body: bytes, expected: Status | str) -> None:
    """A value that is not understood counts as no answer, and its cause quotes the value."""
    answer = status_answer(Answered(200, body))
    assert answer == (
        Polled(expected) if isinstance(expected, Status) else Retryable(expected, answered=True)
    )


def test_a_long_status_is_quoted_in_part_and_on_one_line() -> None:
    """A plugin's text is one printable line of bounded length in logs and tables."""
    body = msgspec.json.encode({"status": "a\nb\u202ec" + "d" * 5000})
    answer = status_answer(Answered(200, body))
    assert isinstance(answer, Retryable)
    assert answer.cause.isprintable()
    assert len(answer.cause) < 120


def test_an_answer_over_a_bound_is_told_as_one() -> None:
    """The cause for a create, a status and a result that are too large says so, with the limit."""
    too_large = Answered(200, None, bound=1000)
    for answer in (
        create_answer(Dialect.SEED, too_large, b"[]"),
        status_answer(too_large),
        result_answer(too_large, False),
    ):
        assert isinstance(answer, OutcomeUnknown | Retryable)
        assert "larger than the bound of 1000 bytes" in answer.cause


def test_a_topic_is_the_answer_to_a_read_alone() -> None:
    """``resulturi`` of a write, or one that is no topic name, is an unknown body."""
    body = b'{"resulturi":"ncmp-async-m2m"}'
    assert result_answer(Answered(200, body), True) == OnTopic("ncmp-async-m2m")
    assert result_answer(Answered(200, body, "a/b"), False) == UnrecognisedResult(body)
    for name in (b"", b"..", b"a b", b"x" * 250, b"../x", b'a","resulturi":"b'):
        assert isinstance(
            result_answer(Answered(200, b'{"resulturi":"' + name + b'"}'), True), UnrecognisedResult
        )
    assert result_answer(Answered(200, b'\xef\xbb\xbf{"resulturi":"t","x":1}'), True) == OnTopic("t")
    empty = b'{"responses":[],"resulturi":"t"}'
    assert result_answer(Answered(200, empty), True) == OnTopic("t")
    inline = b'{"responses":[{"operationId":1,"statusCode":0}]}'
    assert isinstance(result_answer(Answered(200, inline), True), Responses)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("999999999999", MAX_RETRY_AFTER),
        ("-1", None),
        ("soon", None),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("Wed, 25 Nov 2026 12:00:00 GMT", MAX_RETRY_AFTER),
        ("Tue, 24 Nov 99999999999999999999 12:00:30 GMT", None),
        ("Tue, 24 Nov 2026 12:00:30 +99999999999999999999", None),
    ],
)
def test_retry_after_in_both_forms(text: str | None, expected: float | None) -> None:
    """A number of seconds or an HTTP date, within limits. Anything else gives no wait."""
    assert seconds_of(text, NOW) == expected


@given(st.text(max_size=40))
def test_retry_after_of_any_text(text: str) -> None:
    """No text raises an exception."""
    seconds = seconds_of(text, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.binary(max_size=80), st.integers(100, 599))
def test_no_body_makes_the_mapping_fail(body: bytes, status: int) -> None:
    """Every response of a plugin has a meaning."""
    for exchange in (Answered(status, body), Answered(status, None)):
        create_answer(Dialect.ONAP, exchange, b"[]")
        status_answer(exchange)
        result_answer(exchange, True)
        cancel_answer(exchange)


def test_the_words_of_a_refusal_are_one_printable_line() -> None:
    """Control characters and line breaks of a plugin do not reach logs and tables."""
    for mark in (b"", b"\xef\xbb\xbf"):
        body = mark + b'{"detail":"a\\nb\\u001b[31mc"}'
        assert create_answer(Dialect.SEED, Answered(400, body), b"[]") == Refused("HTTP 400: a b [31mc")


@pytest.mark.parametrize("private", ["hush", 4711, ["x", {"deep": "hush"}]])
def test_words_that_repeat_a_private_property_are_dropped(private: object) -> None:
    """Private values are searched on every level of both dialects' keys."""

    for key in ("privateProperties", "cmHandleProperties"):
        operations = msgspec.json.encode([{"op": "add", key: {"pw": private}}])
        body = b'{"detail":"bad pw hush 4711"}'
        assert create_answer(Dialect.SEED, Answered(400, body), operations) == Refused("HTTP 400")
        assert create_answer(Dialect.SEED, Answered(503, body), operations) == Retryable(
            "HTTP 503", answered=True
        )
