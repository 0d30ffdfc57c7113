# SPDX-License-Identifier: Apache-2.0
"""Supervisor of the processes of one service (start, restart, stop), and the lock of a data dir.

Every child runs this package (``python -m ran_datajobs …``). A child that ends is restarted with growing
pauses. Exit status 2 (wrong use) of one child ends the whole group.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec import Struct
from prometheus_client.multiprocess import mark_process_dead

from ran_datajobs.config import check_home
from ran_datajobs.errors import UsageError
from ran_datajobs.local.child_process import die_with_parent, end, exit_of
from ran_datajobs.telemetry import SHARED_FOLDER, Event, Logger

WRONG_USE: Final = 2
"""Exit status of a process that was used wrongly; it is not restarted."""

OWNER_FILE: Final = "owner.json"
"""File in a data dir that names its owner, locked as long as that process lives."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_STEADY_AFTER: Final = 30.0
_PORTS_TRIED: Final = 200


class Program(Struct, frozen=True):
    """Command of one child: this package with ``arguments``, and ``environment`` as its whole environment."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    output: Path | None = None
    """File to which its output is appended; ``None``: the output is inherited."""


async def supervise(program: Program, log: Logger, *, grace: float) -> None:
    """Start ``program`` and restart it whenever it ends, until cancelled; then end it.

    On cancellation it gets SIGTERM and, after ``grace`` seconds, SIGKILL. When the supervisor dies, the
    kernel kills it. Raises UsageError when it ends with status 2, and the error of a failed first start;
    a failed restart is retried. Call it from the main thread.
    """
    pause = _FIRST_PAUSE
    process = _start(program)
    while True:
        began = time.monotonic()
        log.info(Event.PROCESS_STARTED, role=program.name, pid=process.pid)
        try:
            status = await exit_of(process)
        finally:
            await end(process, (signal.SIGTERM, grace))
            if SHARED_FOLDER in program.environment:
                mark_process_dead(process.pid, program.environment[SHARED_FOLDER])  # type: ignore[no-untyped-call]
        log.warning(Event.PROCESS_ENDED, role=program.name, pid=process.pid, status=status)
        if status == WRONG_USE:
            raise UsageError(f"the {program.name} process cannot run: see its message above")
        if time.monotonic() - began > _STEADY_AFTER:
            pause = _FIRST_PAUSE
        started = None
        while started is None:
            await asyncio.sleep(pause)
            log.info(Event.PROCESS_RESTARTED, role=program.name, pause=pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                started = _start(program)
            except (OSError, subprocess.SubprocessError) as error:
                log.warning(Event.PROCESS_NOT_STARTED, role=program.name, cause=str(error))
        process = started


def _start(program: Program) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as stack:
        output: IO[bytes] | None = None
        if program.output is not None:
            output = stack.enter_context(program.output.open("ab"))
        return subprocess.Popen(
            [sys.executable, "-m", "ran_datajobs", *program.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(program.environment),
            start_new_session=True,  # Ctrl-C reaches only the supervisor, which ends the children in order
            preexec_fn=die_with_parent(signal.SIGKILL),
        )


@contextlib.contextmanager
def signals_stop() -> Iterator[asyncio.Event]:
    """Yield an event that SIGINT, SIGTERM and SIGHUP set during the block (needs a running event loop)."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for signum in signals:
        loop.add_signal_handler(signum, stop.set)
    try:
        yield stop
    finally:
        for signum in signals:
            loop.remove_signal_handler(signum)


# --- one owner per data dir --------------------------------------------------------------------------


class _Owner(Struct, frozen=True):
    pid: int
    command: str
    since: str


@contextlib.contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[bool]:
    """Lock ``data_dir`` for the duration of the block. Yields True if the last owner did not end cleanly.

    The kernel releases the lock when this process ends. Raises UsageError that names the present owner.
    """
    with _locked(data_dir) as file:
        unclean = bool(file.read(1))
        _write(file, _Owner(os.getpid(), shlex.join(sys.argv), time.strftime("%FT%TZ", time.gmtime())))
        try:
            yield unclean
        finally:
            _write(file, None)


def check_unowned(data_dir: Path) -> None:
    """Raise UsageError that names the owner of ``data_dir`` if it has one at present."""
    with _locked(data_dir):
        pass


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[IO[bytes]]:
    """Yield the owner file, locked for the duration of the block. Creates the data dir if missing."""
    check_home(data_dir)
    try:
        data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(data_dir / OWNER_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(
            f"the data dir {data_dir} cannot be used: {error.strerror}; choose another with --data-dir"
        ) from error
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise UsageError(f"the data dir {data_dir} cannot be locked: {error.strerror}") from error
            raise UsageError(
                f"the data dir {data_dir} belongs to {_owner_in(file)}; stop it, or choose another --data-dir"
            ) from error
        yield file


def _write(file: IO[bytes], owner: _Owner | None) -> None:
    file.seek(0)
    file.truncate()
    if owner is not None:
        file.write(msgspec.json.encode(owner))
    file.flush()


def _owner_in(file: IO[bytes]) -> str:
    file.seek(0)
    try:
        owner = msgspec.json.decode(file.read(4096), type=_Owner)
    except msgspec.DecodeError:
        return "another process"
    return f"process {owner.pid} ({owner.command}) since {owner.since}"


# --- ports -------------------------------------------------------------------------------------------


async def claim_port(host: str, port: int, *, patience: float = 0.0, flag: str = "--port") -> int:
    """Return ``port`` if it is free on ``host``, for 0 any free port. The port is not reserved.

    Retries for ``patience`` seconds, so that an owner that was just killed can release it. Raises UsageError
    that suggests the next free port for ``flag``.
    """
    deadline = time.monotonic() + patience
    while (found := _bindable(host, port)) is None:
        if time.monotonic() >= deadline:
            free = next(
                (p for p in range(port + 1, min(port + _PORTS_TRIED, 65536)) if _bindable(host, p)), 0
            )
            raise UsageError(f"port {port} of {host} is in use: try {flag} {free}")
        await asyncio.sleep(0.05)
    return found


def _bindable(host: str, port: int) -> int | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except PermissionError as error:
            raise UsageError(
                f"port {port} of {host} is not allowed to this user: try a port above 1023"
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return None
            raise UsageError(f"cannot listen on {host}: {error.strerror or error}") from error
        bound: int = probe.getsockname()[1]
        return bound
