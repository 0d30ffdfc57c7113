# SPDX-License-Identifier: Apache-2.0
"""Run a service on one machine: start its database, migrate its schema, supervise a process per role."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ran_datajobs.api import paths
from ran_datajobs.config import PREFIX, Settings
from ran_datajobs.errors import StoreUnavailable, UsageError
from ran_datajobs.http.open_files import check_limit
from ran_datajobs.local.postgres import EmbeddedPostgres
from ran_datajobs.local.supervisor import OWNER_FILE, Program, claim_port, lock_data_dir, supervise
from ran_datajobs.telemetry import SHARED_FOLDER, Event, Logger

READY_WITHIN: Final = 5.0
"""Timeout in seconds of one readiness request to the started API; the request is repeated."""

_PORT_PATIENCE: Final = 2.0
_LONGEST_PAUSE: Final = 5.0
_WIPE_TRIES: Final = 40
_EXIT_RESERVE: Final = 0.8
"""Seconds of the shutdown grace reserved for a process to record late results and to exit."""

_DATABASE_GRACE: Final = 0.3
"""Seconds for the shutdown checkpoint of the database; without one, the next start runs recovery."""


class Service:
    """A running service and the tasks that supervise its processes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.address = settings.effective_api_root
        self._kept: list[asyncio.Task[None]] = []

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` until the service ends."""
        self._kept.append(asyncio.create_task(work))

    async def until(self, done: Coroutine[Any, Any, Any]) -> None:
        """Wait for ``done``. Raises the error of a supervised process if that one fails first."""
        waiting = asyncio.create_task(done)
        try:
            await asyncio.wait((waiting, *self._kept), return_when=asyncio.FIRST_COMPLETED)
            for task in self._kept:
                if task.done():
                    task.result()
            if waiting.done():
                waiting.result()
        finally:
            waiting.cancel()

    async def end(self) -> None:
        """Cancel all tasks concurrently and wait for them."""
        for task in self._kept:
            task.cancel()
        await asyncio.gather(*self._kept, return_exceptions=True)


@contextlib.asynccontextmanager
async def running_service(
    settings: Settings,
    log: Logger,
    stop: asyncio.Event,
    *,
    output: Path | None = None,
    beside: Sequence[Program] = (),
    wipe: bool = False,
) -> AsyncIterator[Service]:
    """Start a service, yield it once it is ready, and stop it after the block. ``stop`` ends the start-up.

    ``output`` receives the output of the processes; the programs in ``beside`` run as long as the service;
    ``wipe`` empties the data dir first. Raises UsageError when the data dir has another owner, the port is in
    use, or the limit of open files is too low.
    """
    check_limit()
    with lock_data_dir(settings.data_dir) as unclean:
        patience = _PORT_PATIENCE if unclean else 0.0
        settings = settings.with_changes(
            port=await claim_port(settings.host, settings.port, patience=patience)
        )
        if settings.metrics_port is not None:
            await claim_port(settings.host, settings.metrics_port, patience=patience, flag="--metrics-port")
        if wipe:
            await asyncio.to_thread(_empty, settings.data_dir)
        service = Service(settings)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(service.end)
            for program in beside:
                service.keep(supervise(program, log, grace=settings.shutdown_grace))
            schema = asyncio.create_task(asyncio.to_thread(import_module, "ran_datajobs.store.database"))
            embedded = settings.database_url is None
            if embedded:
                _unset_other_databases()
                url = await stack.enter_async_context(_database(settings.data_dir, log))
                settings = settings.with_changes(database_url=url)
                stack.push_async_callback(service.end)  # before the database
            await schema  # loaded while the database started
            await _migrate(str(settings.database_url), log, stop, pooled=not embedded)
            figures = _fresh(settings.data_dir / "metrics")
            await stack.enter_async_context(_metrics_served(settings, figures, log))
            for role in settings.roles:
                program = program_of(f"serve-{role}", settings, output, **{SHARED_FOLDER: str(figures)})
                for _ in range(settings.workers if role == "worker" else 1):
                    service.keep(supervise(program, log, grace=settings.shutdown_grace))
            if "api" in settings.roles:
                await service.until(_until_ready(settings, stop))
            log.info(Event.SERVICE_STARTED, role=",".join(settings.roles), address=service.address)
            yield service
            log.info(Event.SERVICE_STOPPED, role=",".join(settings.roles))


def program_of(
    command: str, settings: Settings, output: Path | None, *arguments: str, **variables: str
) -> Program:
    """A command of this package as a program with exactly these settings."""
    settings = settings.with_changes(shutdown_grace=max(0.0, settings.shutdown_grace - _EXIT_RESERVE))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = inherited | settings.environment() | variables
    return Program(command.removeprefix("serve-"), (command, *arguments), environment, output)


@contextlib.asynccontextmanager
async def _metrics_served(settings: Settings, figures: Path, log: Logger) -> AsyncIterator[None]:
    """Serve the metrics of this group of processes on ``metrics_port``, if that is set."""
    if settings.metrics_port is None:
        yield
        return
    from ran_datajobs.api.router import build_metrics
    from ran_datajobs.http.server import serving

    app = build_metrics(settings, figures, log)
    async with serving(
        app, settings.host, settings.metrics_port, tls_cert=settings.tls_cert, tls_key=settings.tls_key
    ) as address:
        log.info(Event.SERVICE_STARTED, role="metrics", address=address)
        yield


@contextlib.asynccontextmanager
async def _database(data_dir: Path, log: Logger) -> AsyncIterator[str]:
    """Run the embedded PostgreSQL for the duration of the block and yield its URL."""
    server = EmbeddedPostgres(data_dir, say=lambda line: log.info(Event.DATABASE_EMBEDDED, line=line))
    watching: asyncio.Task[None] | None = None
    try:
        url = await server.start()
        watching = asyncio.create_task(server.watch())
        yield url
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await server.stop(grace=_DATABASE_GRACE)


def _unset_other_databases() -> None:
    """Unset the PG… variables (PGSSLMODE and others): they must not apply to the embedded PostgreSQL."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


async def _migrate(url: str, log: Logger, stop: asyncio.Event, *, pooled: bool) -> None:
    """Migrate the schema. Retries while the database is unavailable or older workers run, until ``stop``.

    ``pooled``: a connection pooler may be in use, so its session handling is checked.
    """
    from ran_datajobs.store.database import Database, check_sessions

    pause = 0.2
    while not stop.is_set():
        try:
            if pooled:
                await check_sessions(url)
            database = await Database.open(url, size=2)
            try:
                await _unless(stop, _migrated(database.migrate, log))
            finally:
                await database.close()
        except StoreUnavailable as error:
            log.warning(Event.DATABASE_UNAVAILABLE, cause=str(error), pause=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            return


async def _migrated(migrate: Callable[[Callable[[str], None]], Awaitable[int | None]], log: Logger) -> None:
    version = await migrate(lambda cause: log.warning(Event.SCHEMA_WAITS, cause=cause))
    if version is not None:
        log.info(Event.SCHEMA_MIGRATED, version=version)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Wait for ``work``; cancel it when ``stop`` is set first."""
    tasks = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_ready(settings: Settings, stop: asyncio.Event) -> None:
    """Poll the API until it is ready or ``stop`` is set."""
    while not stop.is_set() and not await asyncio.to_thread(_ready, settings):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.05)


def _ready(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    if settings.scheme == "https":
        ourselves = ssl._create_unverified_context()  # noqa: S323 - a child process on this machine
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, settings.port, timeout=READY_WITHIN, context=ourselves
        )
    else:
        connection = http.client.HTTPConnection(host, settings.port, timeout=READY_WITHIN)
    try:
        connection.request("GET", paths.READYZ)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _empty(folder: Path) -> None:
    """Remove everything but the owner file. Retries, since a killed earlier run may still be writing."""
    for entry in folder.iterdir():
        if entry.name == OWNER_FILE:
            continue
        for _ in range(_WIPE_TRIES):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
            if not entry.exists():
                break
            time.sleep(0.05)
        else:
            raise UsageError(f"{entry} cannot be removed: choose another --data-dir")


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
