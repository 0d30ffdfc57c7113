# SPDX-License-Identifier: Apache-2.0
"""What an exchange means, status code by status code."""

from __future__ import annotations

import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.southbound.answers import (
    MAX_RETRY_AFTER,
    cancel_answer,
    create_answer,
    result_answer,
    seconds_of,
    status_answer,
)
from ran_datajobs.southbound.http import Answered, Broken, NotSent
from ran_datajobs.southbound.plugin import (
    CancelTaken,
    CannotCancel,
    Created,
    ForeignBody,
    Lost,
    NoAnswer,
    NotArrived,
    OnTopic,
    OutcomeUnknown,
    Refused,
    Responses,
)
from ran_datajobs.southbound.wire import Dialect

NOW = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.UTC)


@given(st.integers(100, 599))
def test_every_status_code_of_a_create_has_one_meaning(status: int) -> None:
    """Created needs an id; 425, 429, 503 did not arrive; other 4xx but 408 are refusals; else unknown."""
    answer = create_answer(Dialect.SEED, Answered(status, b"{}"), b"[]")
    if status in {425, 429, 503}:
        expected: type = NotArrived
    elif (400 <= status < 500 and status != 408) or status in {301, 307, 308, 501, 505}:
        expected = Refused
    else:
        expected = OutcomeUnknown
    assert type(answer) is expected
    created = create_answer(Dialect.SEED, Answered(status, b'{"dataProducerJobId":"x"}'), b"[]")
    assert (created == Created("x")) is (200 <= status < 300)


@given(st.integers(100, 599))
def test_every_status_code_of_the_other_calls_has_one_meaning(status: int) -> None:
    """404 and 410 lose the job; nothing but a 200 tells a status; a 2xx body of any shape is a result."""
    gone = status in {404, 410}
    good = 200 <= status < 300
    answered = Answered(status, b"{}", "application/json")
    assert type(status_answer(answered)) is (Lost if gone else NoAnswer)
    assert type(result_answer(answered, False)) is (Lost if gone else ForeignBody if good else NoAnswer)
    cannot = (400 <= status < 500 and status not in {408, 425, 429}) or status in {501, 505}
    assert type(cancel_answer(answered)) is (CancelTaken if good else CannotCancel if cannot else NoAnswer)


def test_what_was_not_sent_did_not_arrive_and_what_broke_may_have() -> None:
    """Only a create makes the difference; all other calls can be repeated."""
    assert create_answer(Dialect.SEED, NotSent("refused"), b"[]") == NotArrived("refused")
    assert create_answer(Dialect.SEED, Broken("reset"), b"[]") == OutcomeUnknown("reset")
    for exchange in (NotSent("x"), Broken("x")):
        assert status_answer(exchange) == NoAnswer("x")
        assert result_answer(exchange, True) == NoAnswer("x")
        assert cancel_answer(exchange) == NoAnswer("x")


def test_a_topic_is_the_answer_to_a_read_alone() -> None:
    """``resulturi`` of a write, or one that is no topic name, is a foreign body."""
    body = b'{"resulturi":"ncmp-async-m2m"}'
    assert result_answer(Answered(200, body), True) == OnTopic("ncmp-async-m2m")
    assert result_answer(Answered(200, body, "a/b"), False) == ForeignBody(body, "a/b")
    for name in (b"", b"..", b"a b", b"x" * 250, b"../x"):
        assert isinstance(result_answer(Answered(200, b'{"resulturi":"' + name + b'"}'), True), ForeignBody)
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
    """A number of seconds or an HTTP date, within bounds; anything else says nothing."""
    assert seconds_of(text, NOW) == expected


@given(st.text(max_size=40))
def test_retry_after_of_any_text(text: str) -> None:
    """No text makes it fail."""
    seconds = seconds_of(text, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.binary(max_size=80), st.integers(100, 599))
def test_no_body_makes_the_mapping_fail(body: bytes, status: int) -> None:
    """Whatever a plugin sends has a meaning."""
    for exchange in (Answered(status, body), Answered(status, None)):
        create_answer(Dialect.ONAP, exchange, body)
        status_answer(exchange)
        result_answer(exchange, True)
        cancel_answer(exchange)


def test_the_words_of_a_refusal_are_one_printable_line() -> None:
    """Control characters and line breaks of a plugin do not reach logs and tables."""
    answer = create_answer(Dialect.SEED, Answered(400, b'{"detail":"a\\nb\\u001b[31mc"}'), b"[]")
    assert answer == Refused("HTTP 400: a b [31mc")


@pytest.mark.parametrize("private", ["hush", 4711, ["x", {"deep": "hush"}]])
def test_words_that_repeat_a_private_property_are_dropped(private: object) -> None:
    """Private values are looked for on every level of both dialects' keys."""

    for key in ("privateProperties", "cmHandleProperties"):
        operations = msgspec.json.encode([{"op": "add", key: {"pw": private}}])
        body = b'{"detail":"bad pw hush 4711"}'
        assert create_answer(Dialect.SEED, Answered(400, body), operations) == Refused("HTTP 400")
        assert create_answer(Dialect.SEED, Answered(503, body), operations) == NotArrived(
            "HTTP 503", answered=True
        )
