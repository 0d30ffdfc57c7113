# SPDX-License-Identifier: Apache-2.0
"""Answers of a policy executor: only exactly ``allow`` allows."""

from __future__ import annotations

import pytest

from ran_datajobs.plugins.client import Answered, Broken, Exchange, NotSent
from ran_datajobs.plugins.policy import (
    MAX_MESSAGE,
    Allowed,
    Decision,
    Denied,
    Refused,
    Unreachable,
    decision_of,
)

NO_ANSWER = Denied('its answer is not {"permissionResult", "message"}')


@pytest.mark.parametrize(
    ("exchange", "decision"),
    [
        (Answered(200, b'{"id":"1","permissionResult":"allow","message":"ok"}'), Allowed()),
        (Answered(200, b'{"permissionResult":"deny","message":"locked"}'), Denied("locked")),
        (Answered(200, b'{"permissionResult":"ALLOW","message":"m"}'), Denied("m")),
        (Answered(200, b'{"permissionResult":["allow"],"message":7}'), Denied("it gives no message")),
        (Answered(200, b'{"decision":"allow"}'), Denied("it gives no message")),
        (Answered(200, b""), NO_ANSWER),
        (Answered(200, b'"allow"'), NO_ANSWER),
        (Answered(200, b"[" * 100_000), NO_ANSWER),
        (Answered(200, b'{"permissionResult":"allow"}\xff'), NO_ANSWER),
        (Answered(200, None, bound=9), Denied("its answer is larger than the bound of 9 bytes")),
        (Answered(201, b'{"permissionResult":"allow"}'), Denied("HTTP 201")),
        (Answered(204, b""), Denied("HTTP 204")),
        (Answered(400, b'{"title":"Bad","details":"no id"}'), Denied("HTTP 400: no id")),
        (Answered(403, b"<html>"), Denied("HTTP 403")),
        (Answered(413, None), Denied("HTTP 413")),
        (Answered(302, b""), Refused("HTTP 302")),
        (Answered(404, b""), Refused("HTTP 404")),
        (Answered(401, b'{"title":"who?"}'), Refused("HTTP 401: who?")),
        (Answered(429, b""), Unreachable("HTTP 429")),
        (Answered(503, b'{"title":"later"}'), Unreachable("HTTP 503: later")),
        (NotSent("connection refused"), Unreachable("connection refused")),
        (Broken("nothing came for 10 s"), Unreachable("nothing came for 10 s")),
    ],
)
def test_an_answer_is_a_decision(exchange: Exchange, decision: Decision) -> None:
    """Whatever is not 200 with ``allow`` denies, or is no answer."""
    assert decision_of(exchange) == decision


def test_a_message_is_bounded_and_in_one_line() -> None:
    """Control characters and long texts stay out; a message that repeats a credential is dropped."""
    body = b'{"permissionResult":"deny","message":"a\\u0000\\n\\u202e b\\t' + b"x" * 9000 + b'"}'
    decision = decision_of(Answered(200, body))
    assert isinstance(decision, Denied)
    assert decision.message.startswith("a b x")
    assert len(decision.message) == MAX_MESSAGE
    assert decision.message.isprintable()
    repeating = Answered(200, b'{"permissionResult":"deny","message":"you sent tok-1"}')
    assert decision_of(repeating, ("tok-1",)) == Denied("it gives no message")
