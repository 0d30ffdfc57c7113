# SPDX-License-Identifier: Apache-2.0
"""Asks DMI plugins periodically whether they are up: ``GET /actuator/health``, as ONAP's NCMP does, or
``GET /healthz`` where a plugin answers that with 404.

======================================  =======
answer                                  health
======================================  =======
200 with ``{"status": "UP"}``           up
200 with another ``status``             down
``/healthz``: 200                       up
none, or 5xx other than 501             down
any other, and 404 to both              unknown
======================================  =======

Health does not stop dispatch: it is shown as trust level and in ``waitingFor``. One worker asks a plugin at a
time. Plugins without CM handles are not asked.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from msgspec import Struct

from ran_datajobs.plugins.client import Answered, Exchange, PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.plugins.wire import ACTUATOR_HEALTH, HEALTHZ, UP
from ran_datajobs.store import health as store
from ran_datajobs.store.database import Database
from ran_datajobs.store.health import DuePlugin
from ran_datajobs.telemetry import Digest, Logger, errors_logged

ANSWER_WITHIN: Final = 5.0
"""Time in seconds in which an answer must begin, and go on."""

LOOK_EVERY: Final = 1.0
"""Interval in seconds at which a worker looks for plugins that are due."""

_AT_ONCE: Final = 128
_MAX_STATUS: Final = 100
_WORDS: Final = {True: UP, False: "DOWN", None: "UNKNOWN"}


class Health(Struct, frozen=True):
    """The health of a plugin: up, down (with the ``cause``), or ``None``: unknown."""

    healthy: bool | None
    cause: str | None = None


class _Body(Struct, frozen=True):
    status: str


_UNKNOWN: Final = Health(None)
_body: Final = msgspec.json.Decoder(_Body)


def health_of(exchange: Exchange) -> Health:
    """Interpret the answer to ``GET /actuator/health``."""
    match exchange:
        case Answered(200, bytes(body)):
            status = _status(body)
            if status is None or status == UP:
                return Health(None if status is None else True)
            return Health(False, f"its health is {status}")
        case Answered(code) if code < 500 or code == 501:
            return _UNKNOWN
        case Answered(code, body):
            status = _status(body or b"")
            return Health(False, f"HTTP {code}" if status is None else f"HTTP {code}, its health is {status}")
        case _:
            return Health(False, exchange.cause)


def healthz_of(exchange: Exchange) -> Health:
    """Interpret the answer to ``GET /healthz``."""
    return Health(True) if isinstance(exchange, Answered) and exchange.status == 200 else health_of(exchange)


def _status(body: bytes) -> str | None:
    try:
        status = _body.decode(body).status
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    printable = "".join(char if char.isprintable() else " " for char in status[:_MAX_STATUS])
    return printable.strip() or None


class HealthChecks(Struct, frozen=True):
    """Asks the plugins that are due, and records their health. ``interval``: seconds from one to the next."""

    database: Database
    http: PeerHttp
    credentials: Credentials
    log: Logger
    digest: Digest
    interval: float

    async def run(self) -> None:
        """Run until cancelled, across outages of the database."""
        while True:
            with errors_logged(self.log, "health", "plugins"):
                await self.check_due()
            await asyncio.sleep(min(LOOK_EVERY, self.interval))

    async def check_due(self) -> None:
        """Ask all plugins that are due, many at a time."""
        while due := await store.claim(self.database, self.interval, _AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for plugin in due:
                    group.create_task(self._check(plugin))

    async def _check(self, plugin: DuePlugin) -> None:
        with errors_logged(self.log, "health", plugin.url):
            found = await self._ask(plugin.url) if plugin.in_use else _UNKNOWN
            async with self.database.transaction() as connection:
                before = await store.record(connection, plugin.plugin_id, found.healthy, found.cause)
            word = _WORDS[found.healthy]
            if before is not found.healthy and found.healthy is False:
                self.digest.warning(
                    "plugin.health", {"plugin": plugin.url, "health": word}, cause=found.cause
                )
            elif before is not found.healthy:
                self.digest.info("plugin.health", {"plugin": plugin.url, "health": word}, cause=found.cause)

    async def _ask(self, url: str) -> Health:
        answer = await self._get(url, ACTUATOR_HEALTH)
        if isinstance(answer, Answered) and answer.status == 404:
            return healthz_of(await self._get(url, HEALTHZ))
        return health_of(answer)

    async def _get(self, url: str, path: str) -> Exchange:
        headers = self.credentials.headers(url) or None
        return await self.http.exchange("GET", url + path, headers=headers, patience=ANSWER_WITHIN)
