# SPDX-License-Identifier: Apache-2.0
"""Commands under cron, in pipes and on full disks: one line and a status, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = "the output cannot be written: No space left on device"
DATAJOBS = f"{sys.executable} -m ran_datajobs"
LONG = ("-c", "from ran_datajobs.cli import streams; streams.prepare(); print('x' * 300_000)")
"""A program that writes more than a pipe holds, as a command does."""


def shell(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """The result of a shell command. ``datajobs`` in it is this project's, and each status of a pipe
    counts."""
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
    """The line names the stream. The status is not that of a job that failed."""
    done = shell(command, tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert line in done.stderr


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("datajobs list 2> /dev/full", 3),
        ("datajobs nonsense 2> /dev/full", 2),
        ("datajobs status nonsense 2> /dev/full", 2),
        ("datajobs config <&- 2>&- >&-", 4),
        ("datajobs token list --tokens-file none > /dev/full 2> /dev/full", 4),
    ],
)
def test_complaints_that_cannot_be_written_change_no_status(
    tmp_path: Path, command: str, status: int
) -> None:
    """Only output that standard error does not accept is lost."""
    done = shell(command, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("submit .", ". cannot be read: Is a directory"),
        ("inventory load none", "none cannot be read: No such file or directory"),
        ("submit - 0> written", "standard input cannot be read: Bad file descriptor"),
        ("token list --tokens-file .", "cannot be read: Is a directory"),
        ("token list --tokens-file latin", "is not a tokens file"),
        ("list --server 'http://[::1'", "--server: 'http://[::1' is not an http or https address"),
        ("list --server http://a..b", "--server: 'http://a..b' is not an http or https address"),
        ("list --server http://a:70000", "--server: 'http://a:70000' is not an http or https address"),
        ("serve --data-dir '~nobody-here/x'", "--data-dir: '~nobody-here/x' begins with the home directory"),
        ("serve --data-dir latin", "the data dir"),
        ("dmi --port 0 --data-dir latin", "the data dir"),
        ("dmi --port 0 --provmns-servers-file .", " cannot be read: Is a directory"),
        ("dmi --port 0 --provmns-servers-file latin", "latin"),
    ],
)
def test_a_file_or_an_address_that_is_none_ends_with_2_and_one_line(
    tmp_path: Path, command: str, line: str
) -> None:
    """The line names the variable, and its fault."""
    (tmp_path / "latin").write_bytes(b'{"tokens": "\xe9"}')
    done = shell(f"datajobs {command}", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert line in done.stderr


def test_a_certificate_that_is_none_ends_with_2_and_one_line(tmp_path: Path) -> None:
    """Nothing is started, and both files are named with the number needed."""
    done = shell("echo > c.pem; datajobs serve --tls-cert c.pem --tls-key c.pem --data-dir d", tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"DATAJOBS_TLS_CERT {tmp_path / 'c.pem'} and DATAJOBS_TLS_KEY" in line
    assert "cannot be used" in line
    assert not (tmp_path / "d").exists()


def test_letters_that_the_output_lacks_are_written_as_escapes(tmp_path: Path) -> None:
    """As JSON spells them."""
    settings = "PYTHONIOENCODING=ascii DATAJOBS_RESULTS_BUCKET=f\u00fcr"
    shown = json.loads(shell(f"{settings} datajobs config --output json", tmp_path).stdout)
    assert shown["DATAJOBS_RESULTS_BUCKET"] == "f\u00fcr"
    assert "f\\u00fcr" in shell(f"{settings} datajobs config", tmp_path).stdout


def test_a_reader_that_has_seen_enough_is_told_nothing(tmp_path: Path) -> None:
    """``head`` closes the pipe."""
    done = shell("datajobs config | head -1", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_a_closed_standard_error_changes_no_status(tmp_path: Path) -> None:
    """The message is lost, the status is not."""
    done = shell("datajobs list 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_a_pipe_that_does_not_block_gets_everything() -> None:
    """Its writer waits while it is full: more than a pipe holds arrives completely."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with subprocess.Popen([sys.executable, *LONG], stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            assert pipe.read() == b"x" * 300_000 + b"\n"
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_command_ends_without_tearing_the_interpreter_down(tmp_path: Path) -> None:
    """Module objects are not deallocated at the exit, so no thread of the HTTP server can meet a teardown.
    Exit handlers are run."""
    program = (
        "import atexit, os; from ran_datajobs.cli import main; "
        "kept = type('Kept', (), {'__del__': lambda self, write=os.write: write(1, b'torn down')})(); "
        "atexit.register(print, 'ended', flush=True); main.main()"
    )
    for arguments, status in ((["--version"], 0), (["status"], 2), (["list"], 3)):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DATAJOBS_SERVER": "http://127.0.0.1:9"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status
        assert done.stdout.splitlines()[-1] == "ended"
