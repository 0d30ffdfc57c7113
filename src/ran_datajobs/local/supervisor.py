# SPDX-License-Identifier: Apache-2.0
"""Child processes of one service (start, restart, stop), the lock of a data dir, and ports (Linux only).

A supervised child runs this package (``python -m ran_datajobs …``). One that ends is restarted with growing
pauses. Exit status 2 (wrong use) of one child ends the whole group. The kernel ends children with their
parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from prometheus_client.multiprocess import mark_process_dead

from ran_datajobs.config import check_home
from ran_datajobs.errors import UsageError
from ran_datajobs.http.ports import check_bindable, free_port
from ran_datajobs.telemetry import SHARED_FOLDER, Logger

WRONG_USE: Final = 2
"""Exit status of a process that was used wrongly; it is not restarted."""

OWNER_FILE: Final = "owner.json"
"""File in a data dir that names its owner, locked as long as that process lives."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_STEADY_AFTER: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1


class Program(Struct, frozen=True):
    """Command of one child: this package with ``arguments``, and ``environment`` as its whole environment."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    output: Path | None = None
    """File to which its output is appended; ``None``: the output is inherited."""


async def supervise(program: Program, log: Logger, *, grace: float) -> None:
    """Start ``program`` and restart it with growing pauses whenever it ends, until cancelled; then end it.

    On cancellation it gets SIGTERM and, after ``grace`` seconds, SIGKILL. When the supervisor dies, the
    kernel kills it. Raises UsageError when it ends with status 2. Call it from the main thread.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            process = await _start(program)
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("process.not_started", role=program.name, cause=str(error))
        else:
            began = time.monotonic()
            log.info("process.started", role=program.name, pid=process.pid)
            try:
                status = await process.wait()
            finally:
                await end(process, (signal.SIGTERM, grace))
                if SHARED_FOLDER in program.environment:
                    mark_process_dead(process.pid, program.environment[SHARED_FOLDER])  # type: ignore[no-untyped-call]
            log.warning("process.ended", role=program.name, pid=process.pid, status=status)
            if status == WRONG_USE:
                raise UsageError(f"the {program.name} process cannot run: see its message above")
            if time.monotonic() - began > _STEADY_AFTER:
                pause = _FIRST_PAUSE
        await asyncio.sleep(pause)
        log.info("process.restarted", role=program.name, pause=pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def _start(program: Program) -> Process:
    with program.output.open("ab") if program.output is not None else contextlib.nullcontext() as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ran_datajobs", *program.arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(program.environment),
            start_new_session=True,  # Ctrl-C reaches only the supervisor, which ends the children in order
            preexec_fn=die_with_parent(signal.SIGKILL),
        )


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """Return a ``preexec_fn`` by which the child gets ``death_signal`` when its parent ends.

    The signal is sent when the *thread* that forked ends: start such children from the main thread only.
    A later change of the user id clears it, so the user id must change first (``Popen(user=…)``).
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: after it, this may be unsafe
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before prctl took effect
            os._exit(1)

    return tie


async def end(process: Process, *steps: tuple[signal.Signals, float]) -> None:
    """Send the signal of each step and wait up to its seconds for the exit; after the last step, SIGKILL."""
    for signum, seconds in (*steps, (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signum)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await process.wait()
                return


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set, until the running event loop is closed."""
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    return stop


# --- one owner per data dir --------------------------------------------------------------------------


@contextlib.contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[bool]:
    """Lock ``data_dir`` for the duration of the block. Creates it if missing. Yields True if its last owner
    was killed.

    The kernel releases the lock when this process ends. Raises UsageError that names the present owner.
    """
    check_home(data_dir)
    try:
        data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        handle = os.open(data_dir / OWNER_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(
            f"the data dir {data_dir} cannot be used: {error.strerror}; choose another with --data-dir"
        ) from error
    with os.fdopen(handle, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"the data dir {data_dir} belongs to {_owner_in(file.read())}; stop it, or choose another "
                "--data-dir"
            ) from error
        except OSError as error:
            raise UsageError(f"the data dir {data_dir} cannot be locked: {error.strerror}") from error
        since = time.strftime("%FT%TZ", time.gmtime())
        was_killed = bool(file.read())
        file.seek(0)
        file.truncate()
        file.write(msgspec.json.encode(f"process {os.getpid()} ({shlex.join(sys.argv)}) since {since}"))
        try:
            yield was_killed
        finally:
            file.truncate(0)


def _owner_in(text: bytes) -> str:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(text, type=str)
    return "another process"


# --- ports -------------------------------------------------------------------------------------------


async def claim_port(host: str, port: int, *, patience: float = 0.0, flag: str = "--port") -> int:
    """Return ``port`` if it is free on ``host``, for 0 any free port. The port is not reserved.

    Retries for ``patience`` seconds, so that an owner that was just killed can release it. Raises UsageError;
    if the port is in use, it suggests a free one for ``flag``.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            check_bindable(host, port, flag)
            return port or free_port(host)
        except UsageError:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(0.05)
