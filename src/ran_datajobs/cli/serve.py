# SPDX-License-Identifier: Apache-2.0
"""``serve``: run the service with one supervisor, the embedded PostgreSQL and a process for each role."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import ssl
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from ran_datajobs.cli.options import Settings, takes_settings
from ran_datajobs.config import Group, load
from ran_datajobs.errors import UsageError

if TYPE_CHECKING:
    from ran_datajobs.telemetry import Logger

T = TypeVar("T")

_COLLECT_AFTER: Final = (100_000, 50, 100)
"""Thresholds of the garbage collector. A worker has thousands of long-lived tasks: traversing them after
every 700 new objects, the default, took a quarter of its time."""

_SWITCH_AFTER: Final = 0.0005
"""GIL switch interval in seconds, for the event loop while other threads plan or count. A small job needs the
GIL about thirty times, and would wait 5 ms (the default) each time."""

_ALLOCATOR: Final = {
    -3: 128 * 1024,  # M_MMAP_THRESHOLD
    -1: 32 * 1024 * 1024,  # M_TRIM_THRESHOLD
}
"""Parameters of glibc's allocator, in bytes (mallopt(3)). Objects above the first size are mapped, and
unmapped when they are freed. By default glibc raises this threshold with each large object that is freed;
the heap then keeps the holes between small objects, a quarter of a worker's memory for 1,000,000 operations.
Fixing it also fixes the second, the free memory at the end of the heap that is kept, at 128 KiB: a tenth of
the time of a plan would go into growing the heap again."""


def add_to(app: typer.Typer) -> None:
    """Add ``serve`` and the hidden commands of its processes."""
    app.command(rich_help_panel="Run")(serve)
    app.command("serve-api", hidden=True)(serve_api)
    app.command("serve-worker", hidden=True)(serve_worker)


@takes_settings(Group.SERVICE, Group.ACCESS, Group.LIMITS, Group.LOGGING)
def serve(settings: Settings) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    Without DATAJOBS_DATABASE_URL, DATAJOBS_KAFKA_BOOTSTRAP and DATAJOBS_S3_ENDPOINT everything is stored in
    the data dir. Any address but a loopback one needs an API root, tokens and TLS.

    Examples: `datajobs serve` · `datajobs serve --port 9000 --data-dir /srv/datajobs`
    """
    from ran_datajobs import telemetry

    settings.check_exposure()
    _check_certificate(settings)
    _check_events_topic(settings)
    _check_credentials(settings)
    _check_followed(settings)
    telemetry.configure(level=settings.log_level, form=settings.log_format)
    asyncio.run(until_stopped(_serve(settings, telemetry.logger())))


def _check_certificate(settings: Settings) -> None:
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except OSError as error:
        files = f"DATAJOBS_TLS_CERT {settings.tls_cert} and DATAJOBS_TLS_KEY {settings.tls_key}"
        raise UsageError(
            f"{files} cannot be used ({error.strerror or error}): needed are a certificate chain and its "
            "private key without a passphrase, both PEM"
        ) from error


def _check_events_topic(settings: Settings) -> None:
    from ran_datajobs.messaging.topics import reserved_topic, topic_problem

    topic = settings.inventory_events_topic
    if topic is None:
        return
    problem = topic_problem(topic) or ("is another topic of the service" if reserved_topic(topic) else None)
    if problem is not None:
        raise UsageError(f"DATAJOBS_INVENTORY_EVENTS_TOPIC: {topic!r}: {problem}")


def _check_credentials(settings: Settings) -> None:
    from ran_datajobs.plugins.credentials import Credentials

    Credentials(settings.dmi_credentials_file)


def _check_followed(settings: Settings) -> None:
    from ran_datajobs.inventory.follow import followed_by
    from ran_datajobs.messaging.topics import LCM_TOPIC

    followed = followed_by(settings.follow_ncmp, settings.follow_plugins, settings.dmi_allow)
    if followed is not None and settings.inventory_events_topic == LCM_TOPIC:
        raise UsageError(
            f"DATAJOBS_INVENTORY_EVENTS_TOPIC: {LCM_TOPIC!r} is the topic of the NCMP that is followed "
            "(DATAJOBS_FOLLOW_NCMP): choose another one, or none"
        )


async def _serve(settings: Settings, log: Logger) -> None:
    from ran_datajobs.local.process_group import running_service

    async with running_service(settings, log):
        await asyncio.Event().wait()


def serve_api() -> None:
    """Run the API process of a service."""
    from ran_datajobs import app

    _run_role(app.run_api)


def serve_worker() -> None:
    """Run the worker process of a service."""
    from ran_datajobs import app

    _run_role(app.run_worker)


def _run_role(role: Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    import uvloop

    from ran_datajobs import telemetry

    settings = load(os.environ)
    telemetry.configure(level=settings.log_level, form=settings.log_format)
    gc.freeze()  # imported objects are permanent
    gc.set_threshold(*_COLLECT_AFTER)
    sys.setswitchinterval(_SWITCH_AFTER)
    with contextlib.suppress(AttributeError):  # another C library than glibc
        for parameter, value in _ALLOCATOR.items():
            ctypes.CDLL(None).mallopt(parameter, value)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signalled(role, settings))


async def _until_signalled(
    role: Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]], settings: Settings
) -> None:
    from ran_datajobs.local.supervisor import stop_on_signals

    await role(settings, stop_on_signals())


async def until_stopped(work: Coroutine[Any, Any, T]) -> T | None:
    """Run ``work`` until it ends or a stop signal arrives; then cancel it and wait for its clean-up.

    Returns its result; ``None`` if it was cancelled.
    """
    from ran_datajobs.local.supervisor import stop_on_signals

    task = asyncio.create_task(work)
    waiting = asyncio.create_task(stop_on_signals().wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not task.done():
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        return await task
    return None
