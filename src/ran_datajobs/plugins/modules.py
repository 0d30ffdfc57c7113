# SPDX-License-Identifier: Apache-2.0
"""Asks DMI plugins for the YANG modules of their CM handles, as ONAP's NCMP does after a registration:
``POST /dmi/v1/ch/{cmHandle}/modules``, once for each module set tag, and for each handle without one.

A plugin that does not have this call (404, 405, 501) is not asked again until handles of it are registered or
changed. After any other failure it is asked again, after a growing pause. One worker asks a plugin at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from ran_datajobs.plugins.client import Answered, Exchange, PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.plugins.wire import JSON, MODULES, path_of
from ran_datajobs.store import modules as store
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.modules import DuePlugin, Module, Question
from ran_datajobs.telemetry import Digest, Logger, errors_logged

ANSWER_WITHIN: Final = 30.0
"""Timeout of a question in seconds."""

LOOK_EVERY: Final = 1.0
"""Interval in seconds at which a worker looks for plugins that are due."""

MAX_MODULES: Final = 10_000
"""Maximum number of modules in one answer."""

FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 300.0
"""Pause in seconds after the first failure; it doubles with each further one up to the longest."""

_FORGET_EVERY: Final = 3600.0
_PLUGINS_AT_ONCE: Final = 16
_QUESTIONS_AT_ONCE: Final = 4
_BATCH: Final = 64
_CLAIM_LASTS: Final = 2 * ANSWER_WITHIN * _BATCH / _QUESTIONS_AT_ONCE
_NOT_OFFERED: Final = frozenset({404, 405, 501})

_Word = Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[^\x00]*$")]


class _Schema(Struct, frozen=True, rename="camel"):
    module_name: _Word
    revision: Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00]*$")] | None = None


class _Answer(Struct, frozen=True):
    schemas: Annotated[list[_Schema], Meta(max_length=MAX_MODULES)]


class NotOffered(Struct, frozen=True):
    """The plugin does not have the call."""


class Failed(Struct, frozen=True):
    """No usable answer. ``silent``: none at all."""

    cause: str
    silent: bool = False


ModulesAnswer = list[Module] | NotOffered | Failed

_TOO_MANY: Final = f"its handles have more than {store.MOST_SETS} different sets of modules"
_answer: Final = msgspec.json.Decoder(_Answer)


def body_of(question: Question) -> bytes:
    """The body of the call."""
    asked: dict[str, Any] = {
        "cmHandleProperties": question.properties or {},
        "moduleSetTag": question.module_set_tag,
    }
    return msgspec.json.encode(asked)


def modules_of(exchange: Exchange) -> ModulesAnswer:
    """Interpret the answer. Its text may repeat private properties, and is not quoted."""
    match exchange:
        case Answered(200, bytes(body)):
            try:
                schemas = _answer.decode(body).schemas
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return Failed('its answer is not {"schemas": [{"moduleName", "revision"}]}')
            return [Module(each.module_name, each.revision or "") for each in schemas]
        case Answered(200):
            return Failed(f"its answer is larger than the bound of {exchange.bound} bytes")
        case Answered(code) if code in _NOT_OFFERED:
            return NotOffered()
        case Answered(code):
            return Failed(f"HTTP {code}")
        case _:
            return Failed(exchange.cause, silent=True)


class ModuleSync:
    """Notes which modules are to be asked for, and asks the plugins that are due."""

    def __init__(
        self, database: Database, http: PeerHttp, credentials: Credentials, log: Logger, digest: Digest
    ) -> None:
        self._database = database
        self._http = http
        self._credentials = credentials
        self._log = log
        self._digest = digest
        self._forget_at = 0.0

    async def run(self) -> None:
        """Run until cancelled, across outages of the database."""
        async with asyncio.TaskGroup() as group:
            asked: set[asyncio.Task[None]] = set()
            while True:
                with errors_logged(self._log, "modules", "plugins"):
                    for plugin in await self._due(_PLUGINS_AT_ONCE - len(asked)):
                        task = group.create_task(self._ask(plugin))
                        asked.add(task)
                        task.add_done_callback(asked.discard)
                await asyncio.sleep(LOOK_EVERY)

    async def sync(self) -> None:
        """Ask everything that is due now."""
        while due := await self._due(_PLUGINS_AT_ONCE):
            await asyncio.gather(*map(self._ask, due))

    async def _due(self, limit: int) -> list[DuePlugin]:
        await store.note_handles(self._database)
        now = asyncio.get_running_loop().time()
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_EVERY
            await store.forget(self._database)
        return await store.claim(self._database, _CLAIM_LASTS, limit) if limit else []

    async def _ask(self, plugin: DuePlugin) -> None:
        """Ask one plugin until nothing is left, or a call fails."""
        with errors_logged(self._log, "modules", plugin.url):
            delay = 0.0
            while not delay and (batch := await store.pending(self._database, plugin.plugin_id, _BATCH)):
                delay = await self._ask_batch(plugin, batch)
                await store.keep_claim(self._database, plugin.plugin_id, _CLAIM_LASTS)
            await self._database.run_transaction(
                partial(store.release, plugin_id=plugin.plugin_id, delay=delay)
            )

    async def _ask_batch(self, plugin: DuePlugin, batch: Sequence[Question]) -> float:
        """Ask the first question, and, unless it shows that there is no use, the others, several at a time;
        record the answers. Returns the pause in seconds after a failure; 0 when there was none."""
        questions = iter(batch)
        answers: list[tuple[Question, ModulesAnswer]] = []

        async def ask(question: Question) -> None:
            answer = await self._ask_one(plugin.url, question)
            answers.append((question, answer))
            if isinstance(answer, NotOffered) or (isinstance(answer, Failed) and answer.silent):
                tuple(questions)  # the others are not asked for now

        async def ask_others() -> None:
            for question in questions:
                await ask(question)

        await ask(next(questions))
        await asyncio.gather(*(ask_others() for _ in range(_QUESTIONS_AT_ONCE)))
        answers.sort(key=lambda each: (each[0].module_set_tag, each[0].cm_handle))
        return await self._record(plugin, answers)

    async def _ask_one(self, url: str, question: Question) -> ModulesAnswer:
        if question.asked is None:
            self._forget_at = 0.0
            return Failed("its handles are gone")
        path = path_of(MODULES, cm_handle=question.asked)
        headers = {"Content-Type": JSON, "Accept": JSON, **self._credentials.headers(url)}
        exchange = await self._http.exchange("POST", url + path, body=body_of(question), headers=headers)
        answer = modules_of(exchange)
        if isinstance(answer, Failed) and isinstance(exchange, Answered) and exchange.status in (401, 403):
            return Failed(f"{answer.cause}: {self._credentials.advice(url)}")
        return answer

    async def _record(self, plugin: DuePlugin, answers: Sequence[tuple[Question, ModulesAnswer]]) -> float:
        """Record the answers in one transaction, and log what is wrong. Returns the pause."""
        if any(isinstance(answer, NotOffered) for _, answer in answers):
            await store.not_offered(self._database, plugin.plugin_id)
            self._digest.info("modules.not_offered", {"plugin": plugin.url})

        async def write(connection: Connection) -> tuple[int, list[str]]:
            attempts, causes = 0, list[str]()
            having: dict[frozenset[Module], list[Question]] = {}
            for question, answer in answers:
                if isinstance(answer, Failed):
                    attempts = max(attempts, await store.failed(connection, plugin.plugin_id, question))
                    causes.append(answer.cause)
                elif isinstance(answer, list):
                    having.setdefault(frozenset(answer), []).append(question)
            for modules, questions in having.items():
                if not await store.answered(connection, plugin.plugin_id, questions, modules):
                    causes.append(_TOO_MANY)
            return attempts, causes

        attempts, causes = await self._database.run_transaction(write)
        for cause in causes:
            self._digest.warning("modules.unavailable", {"plugin": plugin.url}, cause=cause, calls=1)
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (min(attempts, 16) - 1)) if attempts else 0.0
