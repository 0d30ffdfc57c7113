# SPDX-License-Identifier: Apache-2.0
"""Child processes that the kernel ends with their parent, and waiting for their exit (Linux only)."""

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


async def exit_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for ``process`` to end, reap it and return its exit status."""
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
    """Send the signal of each step and wait up to its seconds for the exit; after the last step, SIGKILL."""
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
