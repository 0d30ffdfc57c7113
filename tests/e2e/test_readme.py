# SPDX-License-Identifier: Apache-2.0
"""The commands that the READMEs print, run unchanged against one running demo."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.commands import Started, datajobs, environment, json_lines, started

_ROOT = Path(__file__).resolve().parents[2]
_PAGES = ("examples/README.md", "README.md")
"""In this order: the last command of the second one registers a plugin that does not exist."""

_FENCED = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"\.venv/bin/|(?=datajobs |python |curl |make )")

OUTCOMES = {
    "datajobs submit examples/retune-pci.json --watch": (1, "partially failed"),  # it was executed already
    "datajobs submit examples/read-cells.json --watch": (0, "finished"),
    "datajobs submit examples/read-selectors.json --watch": (0, "finished"),
    "datajobs submit - < examples/seed-read.json": (0, "not started"),
    "python examples/make_examples.py": (0, ""),
    "python examples/load_jobs.py": (0, ""),
    "datajobs list": (0, "partially failed"),
    "datajobs submit examples/seed-write.json --dry-run": (0, "ems-ireland-1"),
    "datajobs submit examples/seed-write.json --watch": (0, "finished"),
    "datajobs failures JOB_ID --output json": (0, '"reason":"UNMATCHED"'),
    "curl -X POST http://127.0.0.1:8080/ranoam/cm/v1/dataJob": (0, '"status":"NOT_STARTED"'),
    "curl -X POST http://127.0.0.1:8080/ncmpInventory/v1/ch": (0, ""),
    "datajobs inventory export > /tmp/handles.ndjson": (0, ""),
    "datajobs inventory diff /tmp/handles.ndjson": (0, "no difference"),
    "datajobs inventory load /tmp/handles.ndjson": (0, "all were accepted"),
    "datajobs inventory owner /SubNetwork=Europe/ManagedElement=1/GNBDUFunction=1": (0, "ch-1"),
}
"""Exit status and a part of the output of each command, by its beginning."""

OTHERS = ("make run", "make test", "datajobs serve", "python examples/consume_results.py")
"""Commands that cannot run against a demo. They have separate tests."""


def commands(page: str) -> Iterator[str]:
    """The commands of a page in order, without their comments. A command may have several lines."""
    for block in _FENCED.findall((_ROOT / page).read_text(encoding="utf-8")):
        if not _COMMAND.match(block):
            continue  # a drawing
        command = ""
        for line in block.splitlines():
            command += line if not command else f"\n{line}"
            try:
                shlex.split(command, comments=True)
            except ValueError:
                continue  # a quoted text continues
            yield command.partition("   #")[0].strip().removeprefix(".venv/bin/")
            command = ""


def test_every_command_is_known() -> None:
    """Every command of a page is run here or is listed as one that cannot be. No expectation is unused."""
    found = [command for page in _PAGES for command in commands(page)]
    for known in (*OUTCOMES, *OTHERS):
        assert any(command.startswith(known) for command in found), known
    for command in found:
        assert command.startswith((*OUTCOMES, *OTHERS)), command


@pytest.fixture
def demo(tmp_path: Path, free_port: int) -> Iterator[Started]:
    """A demo whose jobs have ended."""
    arguments = ("demo", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "lines") as running:
        running.until_it_says("Serving until Ctrl-C", 150)
        yield running


@pytest.mark.nightly
def test_the_commands_do_what_the_pages_say(demo: Started, tmp_path: Path, free_port: int) -> None:
    """Each ends with the status, and prints the expected text, in the order of the pages."""
    assert shutil.which("curl")
    url = f"http://127.0.0.1:{free_port}"
    jobs = json_lines(datajobs("list", "--server", url, "--output", "json"))
    job_id = next(job["jobId"] for job in jobs if job["name"] == "retune-pci")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in (command for page in _PAGES for command in commands(page)):
        wanted = next((OUTCOMES[known] for known in OUTCOMES if command.startswith(known)), None)
        if wanted is None:
            continue
        text = command.replace("JOB_ID", job_id).replace("http://127.0.0.1:8080", url)
        text = text.replace("/tmp/", f"{tmp_path}/").replace("curl ", "curl -sS --fail-with-body ")
        done = subprocess.run(
            ["bash", "-c", text],
            capture_output=True,
            check=False,
            cwd=_ROOT,
            env=environment(PATH=path, DATAJOBS_SERVER=url),
            text=True,
            timeout=60,
        )
        status, words = wanted
        assert done.returncode == status, (command, done.stdout, done.stderr)
        assert words in done.stdout, (command, done.stdout, done.stderr)
    assert demo.process.poll() is None
