# SPDX-License-Identifier: Apache-2.0
"""What an HTTP exchange with a plugin means. Pure, but for where it is done; the same for both dialects.

The table (status codes of the answer):

======================  =================  ==============  ==============  ===============
exchange                create             status          result          cancel
======================  =================  ==============  ==============  ===============
2xx, usable body        Created            Polled          by its shape    CancelTaken
2xx, anything else      OutcomeUnknown     NoAnswer        by its shape    CancelTaken
404, 410                Refused            Lost            Lost            CannotCancel
425, 429, 503           NotArrived         NoAnswer        NoAnswer        NoAnswer
408                     OutcomeUnknown     NoAnswer        NoAnswer        NoAnswer
other 4xx, 501, 505     Refused            NoAnswer        NoAnswer        CannotCancel
301, 307, 308           Refused            NoAnswer        NoAnswer        NoAnswer
other 3xx, other 5xx    OutcomeUnknown     NoAnswer        NoAnswer        NoAnswer
nothing was sent        NotArrived         NoAnswer        NoAnswer        NoAnswer
broken off              OutcomeUnknown     NoAnswer        NoAnswer        NoAnswer
======================  =================  ==============  ==============  ===============
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
from typing import Any, Final, TypeVar, assert_never

import msgspec
from msgspec import Struct

from ran_datajobs.job import read_status
from ran_datajobs.messaging.topics import topic_problem
from ran_datajobs.southbound.http import Answered, Broken, Exchange, NotSent
from ran_datajobs.southbound.plugin import (
    CancelAnswer,
    CancelTaken,
    CannotCancel,
    CreateAnswer,
    Created,
    ForeignBody,
    Lost,
    NoAnswer,
    NotArrived,
    OnTopic,
    OutcomeUnknown,
    Polled,
    Refused,
    Responses,
    ResultAnswer,
    StatusAnswer,
)
from ran_datajobs.southbound.responses import decode_responses
from ran_datajobs.southbound.wire import Dialect, created_id

NOT_PROCESSED: Final = frozenset({425, 429, 503})
"""The peer says that it did not process the request and that a repeat may work."""

MAX_RETRY_AFTER: Final = 3600.0
"""Longest wish of a peer, in seconds, that is passed on."""

_MAX_WORDS: Final = 300
_AT_ONCE: Final = 128 * 1024
_T = TypeVar("_T")


class _Problem(Struct, frozen=True):
    detail: str | None = None
    title: str | None = None
    message: str | None = None


class _Status(Struct, frozen=True):
    status: Any = None


class _ResultUri(Struct, frozen=True):
    resulturi: str


class _Handle(Struct, frozen=True, rename="camel"):
    private_properties: Any = None
    cm_handle_properties: Any = None


def create_answer(dialect: Dialect, exchange: Exchange, operations: bytes) -> CreateAnswer:
    """What became of a create. ``operations`` is what was sent: a refusal that repeats a private property
    of it is told without its text."""
    match exchange:
        case NotSent(cause):
            return NotArrived(cause)
        case Broken(cause):
            return OutcomeUnknown(cause)
        case Answered(status, body, _, retry_after):
            if 200 <= status < 300:
                found = created_id(dialect, body) if body is not None else None
                return (
                    OutcomeUnknown(f"{status} without a usable id", answered=True)
                    if found is None
                    else Created(found)
                )
            if status in NOT_PROCESSED:
                return NotArrived(_words(exchange, operations), seconds_of(retry_after), answered=True)
            if (400 <= status < 500 and status != 408) or status in {301, 307, 308, 501, 505}:
                return Refused(_words(exchange, operations))
            return OutcomeUnknown(_words(exchange, operations), answered=True)
        case _:
            assert_never(exchange)


def status_answer(exchange: Exchange) -> StatusAnswer:
    """What a poll told. An unknown status value counts as no answer."""
    match exchange:
        case NotSent(cause) | Broken(cause):
            return NoAnswer(cause)
        case Answered(200, body):
            status = read_status(_decoded(body, _Status()).status)
            return NoAnswer("200 without a known status", answered=True) if status is None else Polled(status)
        case Answered(404 | 410):
            return Lost(_told(exchange))
        case Answered():
            return NoAnswer(_told(exchange), seconds_of(exchange.retry_after), answered=True)
        case _:
            assert_never(exchange)


async def read_result(exchange: Exchange, is_read: bool) -> ResultAnswer:
    """:func:`result_answer`; a large body is read on a thread, so that the loop goes on."""
    if isinstance(exchange, Answered) and exchange.body is not None and len(exchange.body) > _AT_ONCE:
        return await asyncio.to_thread(result_answer, exchange, is_read)
    return result_answer(exchange, is_read)


def result_answer(exchange: Exchange, is_read: bool) -> ResultAnswer:
    """What a fetch brought. A 2xx body of no known shape is kept as it came."""
    match exchange:
        case NotSent(cause) | Broken(cause):
            return NoAnswer(cause)
        case Answered(status, None) if status < 300:
            return NoAnswer("the result is larger than the bound", answered=True)
        case Answered(status, body, content_type) if 200 <= status < 300 and body is not None:
            return _result(body, content_type, is_read)
        case Answered(404 | 410):
            return Lost(_told(exchange))
        case Answered():
            return NoAnswer(_told(exchange), seconds_of(exchange.retry_after), answered=True)
        case _:
            assert_never(exchange)


def cancel_answer(exchange: Exchange) -> CancelAnswer:
    """What the plugin said to a DELETE. A 409 is a job that has ended: its status tells how."""
    match exchange:
        case NotSent(cause) | Broken(cause):
            return NoAnswer(cause)
        case Answered(status) if 200 <= status < 300:
            return CancelTaken()
        case Answered(status) if (400 <= status < 500 and status not in {408, 425, 429}) or status in {
            501,
            505,
        }:
            return CannotCancel(_told(exchange))
        case Answered():
            return NoAnswer(_told(exchange), seconds_of(exchange.retry_after), answered=True)
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


def _result(body: bytes, content_type: str, is_read: bool) -> ResultAnswer:
    responses = decode_responses(body)
    if responses is not None:
        return Responses(responses)
    if is_read:
        topic = _decoded(body, _ResultUri("")).resulturi
        if topic_problem(topic) is None:
            return OnTopic(topic)
    return ForeignBody(body, content_type)


def _decoded(body: bytes | None, otherwise: _T) -> _T:
    """``body`` as the type of ``otherwise``, which stands in when it is anything else."""
    if body is None:
        return otherwise
    try:
        return msgspec.json.decode(body, type=type(otherwise))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return otherwise


def _told(answer: Answered) -> str:
    """The status code alone: a plugin's words may repeat the private properties it was given."""
    return f"HTTP {answer.status}"


def _words(answer: Answered, operations: bytes) -> str:
    """The status code and the peer's own words on one line, without them when they repeat a private
    property of ``operations``."""
    problem = _decoded(answer.body, _Problem())
    words = problem.detail or problem.message or problem.title or ""
    if not words or any(secret in words for secret in _private_values(operations)):
        return _told(answer)
    printable = "".join(char if char.isprintable() else " " for char in words)
    return f"{_told(answer)}: {' '.join(printable.split())[:_MAX_WORDS]}"


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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
