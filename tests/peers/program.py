# SPDX-License-Identifier: Apache-2.0
"""A program that a fixture runs: its ports, its folder, its log, and its guaranteed end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from ran_datajobs.http.ports import free_port
from ran_datajobs.local.supervisor import die_with_parent


def free_ports(count: int) -> list[int]:
    """The given number of free loopback ports."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def not_installed(what: str) -> NoReturn:
    """Skip, and say in one line how to avoid that. If skips are not allowed (``CI``), fail."""
    not_possible(f"{what} is not installed: run `make deps`")


def not_possible(text: str) -> NoReturn:
    """Skip for the reason ``text``. If skips are not allowed (``CI``), fail."""
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


class Program:
    """A child process that cannot outlive the tests, even if they are killed."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._log = folder / "log"
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, is_ready: Callable[[], bool], *, within: float = 60.0) -> None:
        """Start it and return when ``is_ready`` says so; fails with its log when it ends or is slow.

        Call it on the main thread: a child ends with the thread that started it.
        """
        process = self.launch()
        deadline = time.monotonic() + within
        while not is_ready():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._command[0]} did not start:\n{self._log.read_text()[-4000:]}")

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it without waiting. Also on the main thread."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        return self._process

    def stop(self) -> None:
        """Stop it by a signal, and kill it after 15 s."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
