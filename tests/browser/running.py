# SPDX-License-Identifier: Apache-2.0
"""The real service in a separate process, started as a user would, and a small client of its API."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

_ENDS_WITHIN: Final = 20.0


class Service:
    """A service at ``url`` (no trailing slash), called as by any client."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self.token = token
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> Any:
        """The JSON answer to a GET below ``/ranoam/cm/v1``."""
        return self._call(path, None, {})

    def submit(self, request: dict[str, Any]) -> str:
        """Submit a request and return its job id."""
        body = json.dumps(request).encode()
        job_id: str = self._call("dataJob", body, {"Content-Type": "application/json"})["jobId"]
        return job_id

    def wait_for_jobs(self, count: int, within: float) -> None:
        """Return once there are as many jobs as given and each has ended (its stream of events has)."""
        deadline = time.monotonic() + within
        while len(jobs := self.get("dataJob")["items"]) < count:
            assert time.monotonic() < deadline, f"{len(jobs)} of {count} jobs within {within:g} s"
            threading.Event().wait(0.1)
        for job in jobs:
            request = Request(f"{self.url}/ranoam/cm/v1/dataJob/{job['jobId']}/events", headers=self._headers)
            with urlopen(request, timeout=within) as events:
                events.read()

    def register(self, plugin: str, owners: dict[str, str], prefix: str = "handle") -> None:
        """Register a CM handle for every alternate id (key), with its data producer (value).

        Their ids begin with ``prefix``.
        """
        handles = [
            {
                "cmHandle": f"{prefix}-{number}",
                "alternateId": alternate_id,
                "dataProducerIdentifier": producer,
            }
            for number, (alternate_id, producer) in enumerate(owners.items())
        ]
        body = json.dumps({"dmiPlugin": plugin, "createdCmHandles": handles}).encode()
        headers = self._headers | {"Content-Type": "application/json"}
        with urlopen(Request(f"{self.url}/ncmpInventory/v1/ch", data=body, headers=headers), timeout=30):
            pass

    def _call(self, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        request = Request(f"{self.url}/ranoam/cm/v1/{path}", data=body, headers=self._headers | headers)
        with urlopen(request, timeout=30) as answer:
            return json.load(answer)


def new_token(client: str, role: str, tokens_file: Path) -> str:
    """A new token of ``client``, as ``datajobs token add`` prints it."""
    command = ["token", "add", client, "--role", role, "--tokens-file", str(tokens_file)]
    made = subprocess.run(
        [sys.executable, "-m", "ran_datajobs", *command],
        capture_output=True,
        check=True,
        env=_environment(),
        text=True,
        timeout=60,
    )
    return made.stdout.strip()


def _environment() -> dict[str, str]:
    """The variables of this process without the settings of the test session; plain lines, written at
    once."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("DATAJOBS_")}
    return ours | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200", "NO_COLOR": "1"}


@contextmanager
def started(arguments: Sequence[str], ready: str, within: float) -> Iterator[None]:
    """Run ``python -m ran_datajobs …`` until the block ends. The block starts once a line with ``ready`` is
    printed.

    The settings of the test session are not passed on. The process has to end by itself after an interrupt.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "ran_datajobs", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(),
        start_new_session=True,
        text=True,
        encoding="utf-8",
    )
    output = _Output(process)
    try:
        output.wait_for(ready, within)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            output.close()


class _Output:
    """Reads everything that a process prints, so that it never blocks. Keeps the last lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._stream = process.stdout
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._last: deque[str] = deque(maxlen=60)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, text: str, within: float) -> None:
        """Return once a line contains ``text``. Fail with the last lines if the process ends or the timeout
        expires."""
        deadline = time.monotonic() + within
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not ready within {within:g} s:\n{''.join(self._last)}") from None
            if line is None:
                raise AssertionError(f"it ended before it was ready:\n{''.join(self._last)}")
            self._last.append(line)
            if text in line:
                return

    def close(self) -> None:
        """Read to the end."""
        self._thread.join()
        self._stream.close()


def example(name: str) -> dict[str, Any]:
    """A request of the examples folder."""
    request: dict[str, Any] = json.loads(example_path(name).read_text(encoding="utf-8"))
    return request


def example_path(name: str) -> Path:
    """Path of an example."""
    return Path(__file__).parents[2] / "examples" / f"{name}.json"
