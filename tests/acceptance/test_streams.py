# SPDX-License-Identifier: Apache-2.0
"""Commands under cron, in pipes and on full disks: one line and a status, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = "the output cannot be written: No space left on device"
DATAJOBS = f"{sys.executable} -m ran_datajobs"


def shell(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """What a shell command came to; ``datajobs`` in it is ours, and of a pipe each status counts."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("datajobs", DATAJOBS)],
        cwd=home,
        env=kept | {"HOME": str(home), "DATAJOBS_SERVER": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "status", "line"),
    [
        ("datajobs submit - <&-", 2, "standard input is closed"),
        ("datajobs config > /dev/full", 4, FULL),
        ("datajobs config --output json > /dev/full", 4, FULL),
        ("datajobs --help > /dev/full", 4, FULL),
        ("datajobs config >&-", 4, "the output cannot be written: standard output is closed"),
        ("datajobs --version >&-", 4, "the output cannot be written: standard output is closed"),
    ],
)
def test_a_stream_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, command: str, status: int, line: str
) -> None:
    """The line names the stream; the status is not that of a job that did not end well."""
    done = shell(command, tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert line in done.stderr


def test_a_reader_that_has_seen_enough_is_told_nothing(tmp_path: Path) -> None:
    """``head`` closes the pipe."""
    done = shell("datajobs config | head -1", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_a_closed_standard_error_changes_no_status(tmp_path: Path) -> None:
    """The complaint is lost, the status is not."""
    done = shell("datajobs list 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
