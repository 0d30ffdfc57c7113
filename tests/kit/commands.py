# SPDX-License-Identifier: Apache-2.0
"""The real command line in separate processes, started as a user or a service file would start it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

READY_WITHIN = 60.0
ENDED_WITHIN = 5.0
_COMMAND = (sys.executable, "-m", "ran_datajobs")


def environment(**settings: str) -> dict[str, str]:
    """The variables of this process, with exactly these ``DATAJOBS_`` settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DATAJOBS_")}
    return inherited | {"COLUMNS": "120"} | settings


def _command(arguments: tuple[str | Path, ...], shell: str) -> list[str]:
    command = [*_COMMAND, *map(str, arguments)]
    return ["bash", "-c", shell, "bash", *command] if shell else command


def datajobs(
    *arguments: str | Path, stdin: bytes = b"", shell: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Standard output and error are text. ``shell``: shell code that runs the
    command, for example ``umask 077; exec "$@"``."""
    done = subprocess.run(
        _command(arguments, shell),
        input=stdin,
        capture_output=True,
        check=False,
        env=environment(**settings),
        timeout=120,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def json_lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """The documents that a command printed with ``--output json``."""
    return [json.loads(line) for line in done.stdout.splitlines()]


class Started:
    """A running command: its process tree, and the file with its output."""

    def __init__(self, process: subprocess.Popen[bytes], lines: Path) -> None:
        self.process = process
        self.lines = lines

    def text(self) -> str:
        """Everything printed so far."""
        return self.lines.read_text(encoding="utf-8", errors="replace")

    def tree(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        whole = psutil.Process(self.process.pid)
        return [whole, *whole.children(recursive=True)]

    def child(self, command: str) -> psutil.Process:
        """The child whose command line has the word ``command``."""
        return next(p for p in self.tree()[1:] if command in p.cmdline())

    def until_it_says(self, text: str, within: float = READY_WITHIN) -> None:
        """Return once ``text`` is printed. Fails if the process ends first or the timeout expires."""
        self._until(lambda: text in self.text(), f"it never said {text!r}", within)

    def until_ready(self, url: str, within: float = READY_WITHIN) -> None:
        """Return once the service at ``url`` reports that it is ready."""
        self.until_it_answers(f"{url}/readyz", within)

    def until_it_answers(self, url: str, within: float = READY_WITHIN) -> None:
        """Return once a GET of ``url`` is answered with 200."""
        self._until(lambda: _answers(url), f"{url} never answered", within)

    def _until(self, holds: Any, complaint: str, within: float) -> None:
        deadline = time.monotonic() + within
        while not holds():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.text()}"
            assert time.monotonic() < deadline, f"{complaint}: {self.text()}"

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and return the exit status. Fails if a process of the tree is alive 5 s later."""
        tree = self.tree()
        self.process.send_signal(signum)
        try:
            status = self.process.wait(ENDED_WITHIN)
        finally:
            _, alive = psutil.wait_procs(tree, timeout=ENDED_WITHIN)
        assert alive == [], self.text()
        return status


@contextlib.contextmanager
def started(*arguments: str | Path, lines: Path, shell: str = "", **settings: str) -> Iterator[Started]:
    """Start a command and end its process tree at the end of the block. ``shell``: see :func:`datajobs`."""
    with lines.open("ab") as output:
        process = subprocess.Popen(
            _command(arguments, shell),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(**settings),
        )
    running = Started(process, lines)
    try:
        yield running
    finally:
        if process.poll() is None:
            tree = running.tree()
            process.terminate()
            _, alive = psutil.wait_procs(tree, timeout=ENDED_WITHIN)
            for left in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
