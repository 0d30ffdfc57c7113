# SPDX-License-Identifier: Apache-2.0
"""Interpret a plugin's HTTP exchanges, bodies, and the outcomes in them, the same for both dialects. Pure,
except that large bodies are read on a thread. No other module interprets a plugin's answers.

Parsing is lenient, the verdict is strict: **a failed operation never counts as succeeded.**

Meaning of an exchange (status codes of the answer):

======================  =================  ==============  ===================  ===============
exchange                create             status          result               cancel
======================  =================  ==============  ===================  ===============
200                     by its body        by its body     by its body          CancelTaken
202                     by its body        Retryable       Retryable: not yet   CancelTaken
204                     OutcomeUnknown     Retryable       NoOutcomes           CancelTaken
other 2xx               by its body        Retryable       by its body          CancelTaken
404, 410                Refused            Lost            Lost                 Refused
425, 429, 503           Retryable          Retryable       Retryable            Retryable
408                     OutcomeUnknown     Retryable       Retryable            Retryable
other 4xx               Refused            Retryable       Refused              Refused
501, 505                Refused            Retryable       Retryable            Refused
301, 307, 308           Refused            Retryable       Retryable            Retryable
other 3xx, other 5xx    OutcomeUnknown     Retryable       Retryable            Retryable
over a bound            as an unusable     Retryable       Retryable            as its status
                        body
nothing was sent        Retryable          Retryable       Retryable            Retryable
broken off              OutcomeUnknown     Retryable       Retryable            Retryable
======================  =================  ==============  ===================  ===============

Meaning of a body. One UTF-8 byte order mark at its start is skipped. "Result" also stands for the value of a
message on the internal topic:

================================================  =========  =============================================
body                                              of         meaning
================================================  =========  =============================================
an object with one usable id for the dialect      create     Created
anything else                                     create     OutcomeUnknown
an object with one known ``status``               status     Polled
anything else                                     status     Retryable, which quotes the value
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
neither a readable code nor a known state        no outcome
a success next to an unreadable code, an unknown UNKNOWN, RESULT_UNREADABLE
state, or a contradicting misspelt member
a failure next to these                          the failure
no usable operationId, several, or a misspelt    an outcome, if it has one, without an operation
one; no object at all
any other invalid member                         the member is dropped; an invalid ``result`` of a read, also
                                                 a misspelt one, voids the success
===============================================  =========================================================

The outcome of an operation is determined in :mod:`ran_datajobs.plugins.responses` (``match_entries``, and
``tell_apart`` for operations with the same id), that of the sub-job, with its status, in
:mod:`ran_datajobs.results.outcomes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import email.utils
from collections.abc import Collection
from typing import Any, Final

import msgspec
from msgspec import Struct

from ran_datajobs.messaging.topics import topic_problem
from ran_datajobs.model import Status, read_status
from ran_datajobs.plugins import peer_json
from ran_datajobs.plugins.client import Answered, Broken, Exchange, NotSent
from ran_datajobs.plugins.peer_json import Unreadable
from ran_datajobs.plugins.port import (
    CancelAnswer,
    CancelTaken,
    CreateAnswer,
    Created,
    Lost,
    NoOutcomes,
    OnTopic,
    OutcomeUnknown,
    Polled,
    Refused,
    Responses,
    ResultAnswer,
    Retryable,
    StatusAnswer,
)
from ran_datajobs.plugins.responses import read_outcomes
from ran_datajobs.plugins.wire import CREATED_ID, Dialect, is_usable_id

NOT_PROCESSED: Final = frozenset({425, 429, 503})
"""Status codes of a request that was not processed and may succeed when it is repeated."""

MAX_RETRY_AFTER: Final = 3600.0
"""Maximum ``Retry-After`` of a peer, in seconds, that is passed on."""

_MAX_TEXT: Final = 300
_AT_ONCE: Final = 128 * 1024
_SUCCESS: Final = range(200, 300)
_REFUSED: Final = frozenset(range(400, 500)) - {408, 425, 429}
"""The 4xx codes that concern the call itself."""


class _Handle(Struct, frozen=True, rename="camel"):
    private_properties: Any = None
    cm_handle_properties: Any = None


def create_answer(
    dialect: Dialect, exchange: Exchange, operations: bytes, secrets: Collection[str] = ()
) -> CreateAnswer:
    """Interpret the exchange of a create. ``operations`` is the JSON that was sent: the text of a refusal is
    dropped if it repeats a private property of them, or one of the ``secrets``."""
    match exchange:
        case NotSent(cause):
            return Retryable(cause)
        case Broken(cause):
            return OutcomeUnknown(cause)
        case Answered(status) if status in _SUCCESS:
            found = None if exchange.body is None else created_id(dialect, exchange.body)
            if found is not None:
                return Created(found)
            why = f", its answer is {_too_large(exchange)}" if exchange.body is None else ""
            return OutcomeUnknown(f"{status} without a usable id{why}", answered=True)
    text = _error_text(exchange, operations, secrets)
    if exchange.status in NOT_PROCESSED:
        return Retryable(text, seconds_of(exchange.retry_after), answered=True)
    if exchange.status in _REFUSED | {301, 307, 308, 501, 505}:
        return Refused(text)
    return OutcomeUnknown(text, answered=True)


def created_id(dialect: Dialect, body: bytes) -> str | None:
    """The data-producer-job id of a create answer; ``None`` when it holds no usable one, or several."""
    names = (peer_json.name_of(value) for value in _members(body, CREATED_ID[dialect]))
    found = {str(name) for name in names if name is not None and is_usable_id(str(name))}
    return found.pop() if len(found) == 1 else None


def status_answer(exchange: Exchange) -> StatusAnswer:
    """Interpret the exchange of a poll. An unknown status value counts as no answer, and is quoted."""
    match exchange:
        case Answered(200, None):
            return Retryable(f"the plugin's status is {_too_large(exchange)}", answered=True)
        case Answered(200, bytes(body)):
            status = _status(body)
            return Polled(status) if isinstance(status, Status) else Retryable(status, answered=True)
        case Answered(404 | 410):
            return Lost(_code(exchange))
        case _:
            return _retryable(exchange)


async def read_result(exchange: Exchange, is_read: bool) -> ResultAnswer:
    """:func:`result_answer`; a large body is read on a thread, to keep the event loop responsive."""
    if isinstance(exchange, Answered) and exchange.body is not None and len(exchange.body) > _AT_ONCE:
        return await asyncio.to_thread(result_answer, exchange, is_read)
    return result_answer(exchange, is_read)


def result_answer(exchange: Exchange, is_read: bool) -> ResultAnswer:
    """Interpret the exchange of a fetch. A body that cannot be read as outcomes is returned unchanged."""
    match exchange:
        case Answered(202):
            wait = seconds_of(exchange.retry_after)
            return Retryable("HTTP 202: the result is not there yet", wait, answered=True)
        case Answered(204):
            return NoOutcomes()
        case Answered(status, None) if status in _SUCCESS:
            return Retryable(f"the result is {_too_large(exchange)}", answered=True)
        case Answered(status, bytes(body), content_type) if status in _SUCCESS:
            read = read_outcomes(body, content_type, is_read=is_read)
            has_entries = isinstance(read, Responses) and read.entries
            topic = _topic(body) if is_read and not has_entries else None
            return read if topic is None else OnTopic(topic)
        case Answered(404 | 410):
            return Lost(_code(exchange))
        case Answered(status) if status in _REFUSED:
            return Refused(_code(exchange))
        case _:
            return _retryable(exchange)


def cancel_answer(exchange: Exchange) -> CancelAnswer:
    """Interpret the exchange of a DELETE. A 409 means that the job has ended; its status says how."""
    match exchange:
        case Answered(status) if status in _SUCCESS:
            return CancelTaken()
        case Answered(status) if status in _REFUSED | {501, 505}:
            return Refused(_code(exchange))
        case _:
            return _retryable(exchange)


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


def _status(body: bytes) -> Status | str:
    """The status in a poll's answer, or why there is none."""
    try:
        members = peer_json.members(peer_json.text_of(body))
    except Unreadable as error:
        return f"the plugin's status cannot be read: {error}"
    statuses = {peer_json.shown(value): value for name, value in members if name == "status"}
    if not statuses:
        return "the plugin's answer has no status"
    if len(statuses) > 1:
        return f"the plugin's answer has several statuses: {', '.join(statuses)}"[:_MAX_TEXT]
    quoted, value = next(iter(statuses.items()))
    return read_status(peer_json.value_of(value)) or f"the plugin's status {quoted} is not known"


def _topic(body: bytes) -> str | None:
    """The topic that the result of a read names; ``None`` when it names none, or several."""
    topics = {peer_json.words_of(value) for value in _members(body, "resulturi")}
    topic = topics.pop() if len(topics) == 1 else ""
    return topic if topic_problem(topic) is None else None


def _members(body: bytes, wanted: str) -> list[Any]:
    """The values of all members of this name in ``body``; none when ``body`` is no object."""
    try:
        members = peer_json.members(peer_json.text_of(body))
    except Unreadable:
        return []
    return [peer_json.value_of(value) for name, value in members if name == wanted]


def _retryable(exchange: Exchange) -> Retryable:
    """Without an answer that can be used, and a repeat does no harm."""
    if not isinstance(exchange, Answered):
        return Retryable(exchange.cause)
    return Retryable(_code(exchange), seconds_of(exchange.retry_after), answered=True)


def _too_large(answer: Answered) -> str:
    return f"larger than the bound of {answer.bound} bytes"


def _code(answer: Answered) -> str:
    """The status code alone: a plugin's text may repeat the private properties it received."""
    return f"HTTP {answer.status}"


def _error_text(answer: Answered, operations: bytes, secrets: Collection[str]) -> str:
    """The status code and the peer's text on one line; the code alone when the text repeats one of the
    ``secrets`` or a private property of ``operations``."""
    words = "" if answer.body is None else _problem_text(answer.body)
    if not words or any(secret in words for secret in (*secrets, *_private_values(operations))):
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
    with contextlib.suppress(msgspec.DecodeError):  # dmi-check sends operations that are no list
        for handle in msgspec.json.decode(operations, type=list[_Handle]):
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
