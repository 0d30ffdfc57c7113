# SPDX-License-Identifier: Apache-2.0
"""`make services`: the three services for interactive use, and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A temporary folder whose path is short enough for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="s-") as folder:
        yield Path(folder)


@pytest.mark.nightly
@pytest.mark.kafka
@pytest.mark.usefixtures("kafka_broker")
def test_services_start_say_where_they_are_and_leave_nothing(short_path: Path) -> None:
    """It prints the settings to export, ends with 0 on SIGTERM, and leaves no process and no file."""
    with subprocess.Popen(
        [sys.executable, "-m", "deploy.services"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(short_path)},
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            while "Ctrl-C" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
            children = psutil.Process(process.pid).children(recursive=True)
            for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP", "S3_ENDPOINT"):
                assert f"export DATAJOBS_{name}=" in said
            assert len(children) >= 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    gone, left = psutil.wait_procs(children, timeout=30)
    assert left == []
    assert len(gone) == len(children)
    assert list(short_path.iterdir()) == []
