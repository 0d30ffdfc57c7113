# SPDX-License-Identifier: Apache-2.0
"""Client of a policy executor: ``POST {url}/operation-permission/v1/permissions`` asks for permission for one
or more operations, and one answer is for all of them. Source: ONAP's Operation permission API, version
1.0.0-alpha.1.

==============================================================  ==================
answer                                                          decision
==============================================================  ==================
200 with ``{"permissionResult": "allow"}``                      allowed
any other 200 or 2xx, 400, 403, 413, 422                        denied
none, 408, 425, 429, 5xx: asked once more                       unreachable
any other, such as 401, 404, or a redirect                      refused
==============================================================  ==================

A denial may concern a part of the operations; a refusal concerns every further question as well.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Struct

from ran_datajobs.plugins.client import MIB, Answered, Exchange, HttpBounds, PeerHttp, most_questions
from ran_datajobs.plugins.credentials import SETTING, Credentials
from ran_datajobs.plugins.wire import JSON
from ran_datajobs.runtime import Runtime
from ran_datajobs.telemetry import Logger, Metrics

PERMISSIONS: Final = "/operation-permission/v1/permissions"

ANSWER_WITHIN: Final = 10.0
"""Timeout of a request in seconds."""

CONNECT_WITHIN: Final = 5.0
"""Timeout of a connection in seconds."""

TRIES: Final = 2
"""Maximum number of times that one question is sent while there is no usable answer."""

MAX_MESSAGE: Final = 500
"""Maximum number of characters of a message that are kept."""

_PAUSE: Final = 0.2
_AT_ONCE: Final = 4
_MAX_ANSWER: Final = MIB // 4
_ALLOW: Final = "allow"
_OF_CONTENT: Final = frozenset({400, 403, 413, 422})
_PASSING: Final = frozenset({408, 425, 429})
_TEXTS: Final = ("message", "detail", "details", "title")


class Allowed(Struct, frozen=True):
    """All operations of the question may be executed."""


class Denied(Struct, frozen=True):
    """Not all operations of the question may be executed. ``message``: the policy executor's, or a status."""

    message: str


class Refused(Struct, frozen=True):
    """The policy executor does not take the question, nor others."""

    cause: str


class Unreachable(Struct, frozen=True):
    """There is no usable answer."""

    cause: str


Decision = Allowed | Denied | Refused | Unreachable

_RESULTS: Final = {Allowed: "allow", Denied: "deny", Refused: "refused", Unreachable: "silent"}


class Question(Protocol):
    """Operations for which permission is asked together."""

    def body(self) -> bytes:
        """The body of the request."""
        ...


T = TypeVar("T")
Inquiry = Generator[Sequence[Question], Sequence[Decision], T]
"""Yields questions that may be asked in any order, and receives their decisions in the order of the
questions; returns what follows from all of them."""

_answer: Final = msgspec.json.Decoder(dict[str, Any])


def decision_of(exchange: Exchange, secrets: Collection[str] = ()) -> Decision:
    """Interpret an answer. Its text is kept in one line of printable characters, at most :data:`MAX_MESSAGE`;
    not if it contains one of the ``secrets``."""
    match exchange:
        case Answered(200, bytes(body)):
            members = _members(body)
            if members is None:
                return Denied('its answer is not {"permissionResult", "message"}')
            if members.get("permissionResult") == _ALLOW:
                return Allowed()
            return Denied(_text(members, secrets) or "it gives no message")
        case Answered(200):
            return Denied(f"its answer is larger than the bound of {exchange.bound} bytes")
        case Answered(status, body):
            text = _text(_members(body or b"") or {}, secrets)
            cause = f"HTTP {status}: {text}" if text else f"HTTP {status}"
            if status in _PASSING or status >= 500:
                return Unreachable(cause)
            return Denied(cause) if status in _OF_CONTENT or 200 <= status < 300 else Refused(cause)
        case _:
            return Unreachable(exchange.cause)


def _members(body: bytes) -> dict[str, Any] | None:
    try:
        return _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _text(members: dict[str, Any], secrets: Collection[str]) -> str:
    text = next((each for name in _TEXTS if isinstance(each := members.get(name), str) and each.strip()), "")
    if any(secret in text for secret in secrets):
        return ""
    printable = "".join(char if char.isprintable() else " " for char in text[: 4 * MAX_MESSAGE])
    return " ".join(printable.split())[:MAX_MESSAGE]


def bounds() -> HttpBounds:
    """Bounds of the HTTP client for a policy executor."""
    return HttpBounds(
        connect=CONNECT_WITHIN, total=ANSWER_WITHIN, answer_bytes=_MAX_ANSWER, connections=most_questions()
    )


class PolicyExecutor:
    """A policy executor at ``url``. ``credentials``: what it is asked with, unless the caller's header is."""

    def __init__(
        self,
        url: str,
        http: PeerHttp,
        credentials: Credentials,
        log: Logger,
        metrics: Metrics,
        runtime: Runtime | None = None,
    ) -> None:
        self._url = url
        self._http = http
        self._credentials = credentials
        self._log = log
        self._metrics = metrics
        self._runtime = runtime or Runtime()
        self._silent: str | None = None  # the cause, if the last question had no answer
        self._inquiries = 0  # under way

    async def answer(
        self,
        inquiry: Inquiry[T],
        *,
        as_caller: bool = False,
        authorization: str | None = None,
        wait: bool = True,
    ) -> T:
        """Ask the questions of an inquiry, up to four at a time, and return its result.

        ``as_caller``: ask with the caller's ``authorization``, or without any if that is ``None``. Once a
        question is refused or has no answer, no other one is sent. Without ``wait`` nothing is sent while
        another inquiry finds out whether a policy executor that was unreachable answers again.
        """
        silent = None if wait or not self._inquiries else self._silent
        self._inquiries += 1
        try:
            questions = next(inquiry)
            while True:
                if silent is None:
                    headers, secrets = self._headers(as_caller, authorization)
                    answers = await self._round(questions, headers, secrets)
                else:
                    answers = [Unreachable(silent)] * len(questions)
                questions = inquiry.send(answers)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            self._inquiries -= 1

    def _headers(self, as_caller: bool, authorization: str | None) -> tuple[dict[str, str], tuple[str, ...]]:
        """The headers, and the texts that no message may repeat."""
        sent = {"Content-Type": JSON, "Accept": JSON}
        if not as_caller:
            own = self._credentials.of(self._url)
            return (sent, ()) if own is None else (sent | {"Authorization": own.header}, own.secrets)
        if authorization is None:
            return sent, ()
        secret = authorization.partition(" ")[2].strip() or authorization
        return sent | {"Authorization": authorization}, (secret,)

    async def _round(
        self, questions: Sequence[Question], headers: dict[str, str], secrets: tuple[str, ...]
    ) -> list[Decision]:
        decisions: dict[int, Decision] = {}
        last: Refused | Unreachable | None = None

        async def ask(some: Iterator[tuple[int, Question]]) -> None:
            nonlocal last
            for number, question in some:
                decision = last or await self._ask(question.body(), headers, secrets)
                decisions[number] = decision
                if isinstance(decision, Refused | Unreachable):
                    last = decision

        numbered = iter(enumerate(questions))
        await ask(itertools.islice(numbered, 1))  # one question finds out that there is no answer
        await asyncio.gather(*(ask(numbered) for _ in range(_AT_ONCE)))
        return [decisions[number] for number in range(len(questions))]

    async def _ask(self, body: bytes, headers: dict[str, str], secrets: tuple[str, ...]) -> Decision:
        for tries in itertools.count(1):
            began = self._runtime.now()
            exchange = await self._http.exchange("POST", self._url + PERMISSIONS, body=body, headers=headers)
            decision = decision_of(exchange, secrets)
            took = self._runtime.now() - began
            self._metrics.policy_request_seconds.labels(_RESULTS[type(decision)]).observe(took)
            if not isinstance(decision, Unreachable) or tries == TRIES:
                break
            await self._runtime.sleep(_PAUSE)
        self._note(decision)
        return self._advised(decision, exchange, headers)

    def _advised(self, decision: Decision, exchange: Exchange, headers: dict[str, str]) -> Decision:
        """``decision``, with what to do about a policy executor that wants other credentials."""
        if isinstance(decision, Refused) and isinstance(exchange, Answered) and exchange.status == 401:
            has = "does not accept the" if "Authorization" in headers else "wants"
            return Refused(f"{decision.cause}: it {has} credentials (the caller's, or those of {SETTING})")
        return decision

    def _note(self, decision: Decision) -> None:
        """Log once that there is no answer, and once that there are answers again."""
        if isinstance(decision, Unreachable):
            if self._silent is None:
                self._log.warning("policy.unavailable", url=self._url, cause=decision.cause)
            self._silent = decision.cause
        elif self._silent is not None:
            self._silent = None
            self._log.info("policy.available", url=self._url)
