# SPDX-License-Identifier: Apache-2.0
"""Child processes that cannot outlive their parent, and the wait for their end (Linux only)."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """What a new child runs first (``preexec_fn``): it will get ``death_signal`` when its parent ends.

    The kernel looks at the *thread* that forked: start such children from the main thread only. The
    tie does not survive a later change of the user id, so the user is changed before (``Popen(user=…)``).
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up here: after a fork this may be unsafe
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the tie was in place
            os._exit(1)

    return tie


async def exit_of(process: subprocess.Popen[bytes]) -> int:
    """The exit status of ``process``, once it has ended; it is reaped then."""
    if (status := process.poll()) is not None:
        return status
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    handle = os.pidfd_open(process.pid)
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return process.wait()


async def end(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> None:
    """Send each step's signal and give the process its seconds; SIGKILL when no step has helped."""
    for signum, seconds in steps:
        if process.poll() is not None:
            return
        process.send_signal(signum)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await exit_of(process)
                return
    process.kill()
    await exit_of(process)
