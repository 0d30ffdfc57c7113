# SPDX-License-Identifier: Apache-2.0
"""Run a service on one machine: start its database, migrate its schema, supervise a process per role."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib import request

from ran_datajobs.api import paths
from ran_datajobs.config import PREFIX, Settings
from ran_datajobs.errors import StoreUnavailable, UsageError
from ran_datajobs.http.open_files import check_limit
from ran_datajobs.local.postgres import EmbeddedPostgres
from ran_datajobs.local.supervisor import OWNER_FILE, Program, claim_port, lock_data_dir, supervise
from ran_datajobs.telemetry import SHARED_FOLDER, Logger

READY_WITHIN: Final = 5.0
"""Timeout in seconds of one readiness request to the started API; the request is repeated."""

_PORT_PATIENCE: Final = 2.0
_LONGEST_PAUSE: Final = 5.0
_WIPE_TRIES: Final = 40
_EXIT_RESERVE: Final = 0.8
"""Seconds of the shutdown grace reserved for a process to record late results and to exit."""

_DATABASE_GRACE: Final = 0.3
"""Seconds for the shutdown checkpoint of the database; without one, the next start runs recovery."""


@contextlib.asynccontextmanager
async def running_service(
    settings: Settings,
    log: Logger,
    *,
    output: Path | None = None,
    beside: Sequence[Program] = (),
    wipe: bool = False,
) -> AsyncIterator[None]:
    """Start a service, run the block once it is ready, and stop the service. A process that cannot run ends
    the block.

    ``output`` receives the output of the processes; the programs in ``beside`` start before the
    service and end after it; ``wipe`` empties the data dir first. Raises UsageError when the data dir has
    another owner, the port is in use, or the limit of open files is too low.
    """
    check_limit()
    async with contextlib.AsyncExitStack() as stack:
        was_killed = stack.enter_context(lock_data_dir(settings.data_dir))
        patience = _PORT_PATIENCE if was_killed else 0.0
        port = await claim_port(settings.host, settings.port, patience=patience)
        if settings.metrics_port is not None:
            await claim_port(settings.host, settings.metrics_port, patience=patience, flag="--metrics-port")
        if wipe:
            await asyncio.to_thread(_empty, settings.data_dir)
        await stack.enter_async_context(_supervised(beside, log, settings.shutdown_grace))
        url = settings.database_url
        if url is None:
            url = await stack.enter_async_context(_database(settings.data_dir, log))
        await _migrate(url, log, pooled=settings.database_url is not None)
        settings = settings.with_changes(port=port, database_url=url)
        figures = settings.data_dir / "metrics"
        shutil.rmtree(figures, ignore_errors=True)
        figures.mkdir()
        if settings.metrics_port is not None:
            await stack.enter_async_context(_serving_metrics(settings, settings.metrics_port, figures, log))
        programs = [
            program_of(f"serve-{role}", settings, output, **{SHARED_FOLDER: str(figures)})
            for role in settings.roles
            for _ in range(settings.workers if role == "worker" else 1)
        ]
        await stack.enter_async_context(_supervised(programs, log, settings.shutdown_grace))
        if "api" in settings.roles:
            while not await asyncio.to_thread(_is_ready, settings):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        role = ",".join(settings.roles)
        log.info("service.started", role=role, address=settings.effective_api_root)
        stack.callback(log.info, "service.stopped", role=role)
        yield


def program_of(command: str, settings: Settings, output: Path | None, **variables: str) -> Program:
    """A command of this package as a program with exactly these settings."""
    settings = settings.with_changes(shutdown_grace=max(0.0, settings.shutdown_grace - _EXIT_RESERVE))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = inherited | settings.environment() | variables
    return Program(command.removeprefix("serve-"), (command,), environment, output)


@contextlib.asynccontextmanager
async def _supervised(programs: Sequence[Program], log: Logger, grace: float) -> AsyncIterator[None]:
    """Run ``programs`` for the duration of the block, and end them together. An error of one ends the
    block."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(supervise(program, log, grace=grace)) for program in programs]
            yield
            for task in tasks:
                task.cancel()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


@contextlib.asynccontextmanager
async def _serving_metrics(settings: Settings, port: int, figures: Path, log: Logger) -> AsyncIterator[None]:
    """Serve the metrics of this group of processes."""
    from ran_datajobs.api.router import build_metrics
    from ran_datajobs.http.server import serving

    app = build_metrics(settings, figures, log)
    async with serving(
        app, settings.host, port, tls_cert=settings.tls_cert, tls_key=settings.tls_key
    ) as address:
        log.info("service.started", role="metrics", address=address)
        yield


@contextlib.asynccontextmanager
async def _database(data_dir: Path, log: Logger) -> AsyncIterator[str]:
    """Run the embedded PostgreSQL for the duration of the block and yield its URL."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]  # PGSSLMODE and others must not apply to it
    server = EmbeddedPostgres(data_dir, say=lambda line: log.info("database.embedded", line=line))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(server.stop, grace=_DATABASE_GRACE)
        url = await server.start()
        stack.callback(asyncio.create_task(server.watch()).cancel)
        yield url


async def _migrate(url: str, log: Logger, *, pooled: bool) -> None:
    """Migrate the schema. Retries while the database is unavailable or older workers run.

    ``pooled``: a connection pooler may be in use, so its session handling is checked.
    """
    from ran_datajobs.store.database import Database, check_sessions

    pause = 0.2
    while True:
        try:
            if pooled:
                await check_sessions(url)
            database = await Database.open(url, size=2)
            try:
                version = await database.migrate(lambda cause: log.warning("schema.waits", cause=cause))
            finally:
                await database.close()
            if version is not None:
                log.info("schema.migrated", version=version)
            return
        except StoreUnavailable as error:
            log.warning("database.unavailable", cause=str(error), pause=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _is_ready(settings: Settings) -> bool:
    """Whether the API on this machine reports that it is ready."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    ourselves = request.HTTPSHandler(context=ssl._create_unverified_context())  # noqa: S323 - a child process
    opener = request.build_opener(request.ProxyHandler({}), ourselves)
    try:
        with opener.open(f"{settings.scheme}://{host}:{settings.port}{paths.READYZ}", timeout=READY_WITHIN):
            return True
    except (OSError, HTTPException):  # a status of 400 or more is an OSError, too
        return False


def _empty(folder: Path) -> None:
    """Remove everything but the owner file. Retries, since a killed earlier run may still be writing."""
    for _ in range(_WIPE_TRIES):
        entries = [entry for entry in folder.iterdir() if entry.name != OWNER_FILE]
        if not entries:
            return
        for entry in entries:
            shutil.rmtree(entry, ignore_errors=True)
            with contextlib.suppress(OSError):
                entry.unlink()  # unless it was a folder
        time.sleep(0.05)
    raise UsageError(f"{entries[0]} cannot be removed: choose another --data-dir")
