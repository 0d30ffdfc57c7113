# SPDX-License-Identifier: Apache-2.0
"""Interpret a plugin's HTTP exchanges, bodies, and the outcomes in them, the same for both dialects. Pure,
except that large bodies are read on a thread. No other module interprets a plugin's answers.

Parsing is lenient, the verdict is strict: **a failed operation never counts as succeeded.**

Meaning of an exchange (status codes of the answer):

======================  =================  ==============  =================  ===============
exchange                create             status          result             cancel
======================  =================  ==============  =================  ===============
200                     by its body        by its body     by its body        CancelTaken
202                     by its body        NoAnswer        NoAnswer: not yet  CancelTaken
204                     OutcomeUnknown     NoAnswer        NoOutcomes         CancelTaken
other 2xx               by its body        NoAnswer        by its body        CancelTaken
404, 410                Refused            Lost            Lost               CannotCancel
425, 429                NotArrived         NoAnswer        NoAnswer           NoAnswer
503                     NotArrived         NoAnswer        NoAnswer           NoAnswer
408                     OutcomeUnknown     NoAnswer        NoAnswer           NoAnswer
other 4xx               Refused            NoAnswer        Unfetchable        CannotCancel
501, 505                Refused            NoAnswer        NoAnswer           CannotCancel
301, 307, 308           Refused            NoAnswer        NoAnswer           NoAnswer
other 3xx, other 5xx    OutcomeUnknown     NoAnswer        NoAnswer           NoAnswer
over a bound            as an unusable     NoAnswer        NoAnswer           as its status
                        body
nothing was sent        NotArrived         NoAnswer        NoAnswer           NoAnswer
broken off              OutcomeUnknown     NoAnswer        NoAnswer           NoAnswer
======================  =================  ==============  =================  ===============

Meaning of a body. One UTF-8 byte order mark at its start is skipped. "Result" also stands for the value of a
message on the internal topic:

================================================  =========  =============================================
body                                              of         meaning
================================================  =========  =============================================
an object with one usable id for the dialect      create     Created
anything else                                     create     OutcomeUnknown
an object with one known ``status``               status     Polled
anything else                                     status     NoAnswer, which quotes the value
``{"responses": …}``, ``{"data": {"responses":    result     Responses: the entries of all lists in it. An
…}}``, a list; a single entry for a list                     object elsewhere in it does not matter
``{"resulturi": topic}`` and no responses         a read's   OnTopic
                                                  result
an object that is not empty and has no member at  result     UnrecognisedResult
any depth that is called like responses,
response, operationId, statusCode, state, error
or errors, and is no problem of RFC 9457
no JSON, cut off, two documents, empty, not       result     UnreadableBody
UTF-8, neither object nor list, a list of
anything else, an error, ``responses`` of
another type, ``{}``, outcomes in any other
wrapping
================================================  =========  =============================================

Meaning of an entry. 108, 108.0 and "108" are one code; a state is matched case-insensitively. The worst value
of an entry counts, in the order SUCCEEDED, NOT_STARTED, FAILED, UNKNOWN, also among members with one name:

===============================================  =========================================================
entry                                            meaning
===============================================  =========================================================
code 0 to 99, or state SUCCEEDED, or both        SUCCEEDED
code 0 to 99 and another state                   the state
another code, alone or with state SUCCEEDED      FAILED
another code and another state                   the state, which is the more specific
neither a readable code nor a known state        Untold
a success next to an unreadable code, an unknown UNKNOWN, RESULT_UNREADABLE
state, or a contradicting misspelt member
a failure next to these                          the failure
no usable operationId, several, or a misspelt    Nameless; Untold if it has no outcome
one; no object at all
any other invalid member                         the member is dropped; an invalid ``result`` of a read, also
                                                 a misspelt one, voids the success
===============================================  =========================================================

The outcome of an operation is determined in :func:`ran_datajobs.plugins.responses.told_of`, that of the
sub-job, with its status, in :mod:`ran_datajobs.results.outcomes`.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
from typing import Any, Final, assert_never

import msgspec
from msgspec import Struct

from ran_datajobs.messaging.topics import topic_problem
from ran_datajobs.model import Status, read_status
from ran_datajobs.plugins import peer_json
from ran_datajobs.plugins.client import Answered, Broken, Exchange, NotSent
from ran_datajobs.plugins.peer_json import NOT_JSON, Defect
from ran_datajobs.plugins.port import (
    CancelAnswer,
    CancelTaken,
    CannotCancel,
    CreateAnswer,
    Created,
    Lost,
    NoAnswer,
    NoOutcomes,
    NotArrived,
    OnTopic,
    OutcomeUnknown,
    Polled,
    Refused,
    Responses,
    ResultAnswer,
    StatusAnswer,
    Unfetchable,
)
from ran_datajobs.plugins.responses import read_outcomes
from ran_datajobs.plugins.wire import Dialect, usable_id

NOT_PROCESSED: Final = frozenset({425, 429, 503})
"""Status codes of a request that was not processed and may succeed when it is repeated."""

MAX_RETRY_AFTER: Final = 3600.0
"""Maximum ``Retry-After`` of a peer, in seconds, that is passed on."""

_MAX_TEXT: Final = 300
_AT_ONCE: Final = 128 * 1024
_TRANSIENT: Final = frozenset({408, 425, 429})
"""The 4xx codes that do not concern the call itself."""


class _Handle(Struct, frozen=True, rename="camel"):
    private_properties: Any = None
    cm_handle_properties: Any = None


def create_answer(dialect: Dialect, exchange: Exchange, operations: bytes) -> CreateAnswer:
    """Interpret the exchange of a create. ``operations`` is the JSON that was sent: the text of a refusal is
    dropped if it repeats a private property of them."""
    match exchange:
        case NotSent(cause):
            return NotArrived(cause)
        case Broken(cause):
            return OutcomeUnknown(cause)
        case Answered(status, body, _, retry_after):
            if 200 <= status < 300:
                found = None if body is None else created_id(dialect, body)
                return _without_id(exchange) if found is None else Created(found)
            if status in NOT_PROCESSED:
                return NotArrived(_error_text(exchange, operations), seconds_of(retry_after), answered=True)
            if (400 <= status < 500 and status != 408) or status in {301, 307, 308, 501, 505}:
                return Refused(_error_text(exchange, operations))
            return OutcomeUnknown(_error_text(exchange, operations), answered=True)
        case _:
            assert_never(exchange)


def created_id(dialect: Dialect, body: bytes) -> str | None:
    """The data-producer-job id of a create answer; ``None`` when it holds no usable one, or several."""
    name = "subJobId" if dialect is Dialect.ONAP else "dataProducerJobId"
    given = (peer_json.name_of(value) for value in _members(body, name))
    found = {usable for value in given if (usable := usable_id(value)) is not None}
    return found.pop() if len(found) == 1 else None


def status_answer(exchange: Exchange) -> StatusAnswer:
    """Interpret the exchange of a poll. An unknown status value counts as no answer, and is quoted."""
    match exchange:
        case NotSent(cause) | Broken(cause):
            return NoAnswer(cause)
        case Answered(200, None):
            return NoAnswer(f"the plugin's status is {_too_large(exchange)}", answered=True)
        case Answered(200, bytes(body)):
            status = _status(body)
            return Polled(status) if isinstance(status, Status) else NoAnswer(status.cause, answered=True)
        case Answered(404 | 410):
            return Lost(_code(exchange))
        case Answered():
            return NoAnswer(_code(exchange), seconds_of(exchange.retry_after), answered=True)
        case _:
            assert_never(exchange)


async def read_result(exchange: Exchange, is_read: bool) -> ResultAnswer:
    """:func:`result_answer`; a large body is read on a thread, to keep the event loop responsive."""
    if isinstance(exchange, Answered) and exchange.body is not None and len(exchange.body) > _AT_ONCE:
        return await asyncio.to_thread(result_answer, exchange, is_read)
    return result_answer(exchange, is_read)


def result_answer(exchange: Exchange, is_read: bool) -> ResultAnswer:
    """Interpret the exchange of a fetch. A body that cannot be read as outcomes is returned unchanged."""
    match exchange:
        case NotSent(cause) | Broken(cause):
            return NoAnswer(cause)
        case Answered(202):
            wait = seconds_of(exchange.retry_after)
            return NoAnswer("HTTP 202: the result is not there yet", wait, answered=True)
        case Answered(204):
            return NoOutcomes()
        case Answered(status, None) if 200 <= status < 300:
            return NoAnswer(f"the result is {_too_large(exchange)}", answered=True)
        case Answered(status, bytes(body), content_type) if 200 <= status < 300:
            read = read_outcomes(body, content_type, is_read=is_read)
            has_entries = isinstance(read, Responses) and read.entries
            topic = _topic(body) if is_read and not has_entries else None
            return read if topic is None else OnTopic(topic)
        case Answered(404 | 410):
            return Lost(_code(exchange))
        case Answered(status) if 400 <= status < 500 and status not in _TRANSIENT:
            return Unfetchable(_code(exchange))
        case Answered():
            return NoAnswer(_code(exchange), seconds_of(exchange.retry_after), answered=True)
        case _:
            assert_never(exchange)


def cancel_answer(exchange: Exchange) -> CancelAnswer:
    """Interpret the exchange of a DELETE. A 409 means that the job has ended; its status says how."""
    match exchange:
        case NotSent(cause) | Broken(cause):
            return NoAnswer(cause)
        case Answered(status) if 200 <= status < 300:
            return CancelTaken()
        case Answered(status) if (400 <= status < 500 and status not in _TRANSIENT) or status in {501, 505}:
            return CannotCancel(_code(exchange))
        case Answered():
            return NoAnswer(_code(exchange), seconds_of(exchange.retry_after), answered=True)
        case _:
            assert_never(exchange)


def seconds_of(retry_after: str | None, now: datetime.datetime | None = None) -> float | None:
    """``Retry-After`` in seconds from ``now`` (default: the clock), 0 to :data:`MAX_RETRY_AFTER`.

    A number or an HTTP date (RFC 9110 §10.2.3); ``None`` when absent or neither.
    """
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    wait = (moment - (now or datetime.datetime.now(datetime.UTC))).total_seconds()
    return min(max(wait, 0.0), MAX_RETRY_AFTER)


def _status(body: bytes) -> Status | Defect:
    """The status in a poll's answer, or the defect of the answer."""
    text = peer_json.text_of(body)
    if isinstance(text, Defect):
        return Defect(f"the plugin's status cannot be read: {text.cause}")
    try:
        given = peer_json.members(text) if peer_json.is_object(text) else []
    except NOT_JSON as error:
        return Defect(f"the plugin's status cannot be read: {peer_json.defect_of(error).cause}")
    statuses = {peer_json.shown(value): value for name, value in given if name == "status"}
    if not statuses:
        return Defect("the plugin's answer tells no status")
    if len(statuses) > 1:
        return Defect(f"the plugin tells several statuses: {', '.join(statuses)}"[:_MAX_TEXT])
    quoted, value = next(iter(statuses.items()))
    status = read_status(peer_json.value_of(value))
    return Defect(f"the plugin's status {quoted} is not known") if status is None else status


def _topic(body: bytes) -> str | None:
    """The topic that the result of a read names; ``None`` when it names none, or several."""
    topics = {peer_json.words_of(value) for value in _members(body, "resulturi")}
    topic = topics.pop() if len(topics) == 1 else ""
    return topic if topic_problem(topic) is None else None


def _members(body: bytes, wanted: str) -> list[Any]:
    """The values of all members of this name in ``body``; none when ``body`` is no object."""
    text = peer_json.text_of(body)
    if isinstance(text, Defect) or not peer_json.is_object(text):
        return []
    try:
        return [peer_json.value_of(value) for name, value in peer_json.members(text) if name == wanted]
    except NOT_JSON:
        return []


def _without_id(answer: Answered) -> OutcomeUnknown:
    why = f", its answer is {_too_large(answer)}" if answer.body is None else ""
    return OutcomeUnknown(f"{answer.status} without a usable id{why}", answered=True)


def _too_large(answer: Answered) -> str:
    return f"larger than the bound of {answer.bound} bytes"


def _code(answer: Answered) -> str:
    """The status code alone: a plugin's text may repeat the private properties it received."""
    return f"HTTP {answer.status}"


def _error_text(answer: Answered, operations: bytes) -> str:
    """The status code and the peer's text on one line; the code alone when the text repeats a private
    property of ``operations``."""
    words = "" if answer.body is None else _problem_text(answer.body)
    if not words or any(secret in words for secret in _private_values(operations)):
        return _code(answer)
    printable = "".join(char if char.isprintable() else " " for char in words)
    return f"{_code(answer)}: {' '.join(printable.split())[:_MAX_TEXT]}"


def _problem_text(body: bytes) -> str:
    """The human-readable text of an error: RFC 9457's ``detail``, ONAP's ``message``, else the ``title``."""
    for name in ("detail", "message", "title"):
        words = next((each for each in _members(body, name) if isinstance(each, str) and each), "")
        if words:
            return words
    return ""


def _private_values(operations: bytes) -> set[str]:
    """Every value among the private properties of encoded ``operations``, as text."""
    found: set[str] = set()
    waiting: list[Any] = []
    for handle in _decoded_handles(operations):
        waiting += (handle.private_properties, handle.cm_handle_properties)
    while waiting:
        match waiting.pop():
            case dict() as members:
                waiting += members.values()
            case list() as items:
                waiting += items
            case None | True | False | "":
                pass
            case value:
                found.add(str(value))
    return found


def _decoded_handles(operations: bytes) -> list[_Handle]:
    try:
        return msgspec.json.decode(operations, type=list[_Handle])
    except NOT_JSON:
        return []
