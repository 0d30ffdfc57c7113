# SPDX-License-Identifier: Apache-2.0
"""The long tests, step by step: ``make nightly``.

A step that has passed for this commit and the uncommitted changes is not run again: its figures are kept in
``.nightly/``, one file per step, next to its output. An interrupted run therefore continues where it stopped.
``ONAP_K6_TESTS`` names the folder of ONAP's load test, which the step ``k6`` runs.
Exit status: 0 when every step has passed or was skipped, 1 when one has failed, 2 for wrong use.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import bench.k6
import msgspec
from msgspec import Struct

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / ".nightly"
_CLOSING: Final = re.compile(r"^=*\s*((?:\d+ \w+(?:, )?)+ in [\d.]+s.*?)\s*=*$")


class Step(Struct, frozen=True):
    """A command, run in the root of the project. Variables that are already set take precedence over
    ``environment``. ``missing``: what the step needs and this machine lacks; then it is skipped."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = {}
    missing: str = ""


class Figures(Struct, frozen=True):
    """Result of a step: ``seconds`` of wall-clock time, and the summary line of pytest."""

    commit: str
    passed: bool
    seconds: float
    closing: str


def pytest_step(name: str, *arguments: str, **environment: str) -> Step:
    """A step that runs tests with the interpreter of this process."""
    return Step(name, (sys.executable, "-m", "pytest", "-q", "-m", "", *arguments), environment)


def load_test_step(tests: str) -> Step:
    """ONAP's load test. ``tests``: its folder; empty if none is named."""
    command = (sys.executable, "-m", "bench", f"k6={tests},50000,120")
    return Step("k6", command, missing=bench.k6.missing(tests))


STEPS: Final = (
    pytest_step(
        "rest",
        *("-m", "nightly"),
        *(f"tests/{folder}" for folder in ("unit", "contract", "integration", "e2e", "browser")),
    ),
    pytest_step(
        "answers",
        *("tests/unit/test_damaged_answers.py", "--timeout", "3600"),
        HYPOTHESIS_EXAMPLES="10000",
    ),
    pytest_step("elements", "tests/contract/test_element_provmns.py", HYPOTHESIS_EXAMPLES="300"),
    pytest_step("machine", "tests/machine", "--timeout", "3600", HYPOTHESIS_EXAMPLES="1000"),
    pytest_step(
        "simulation",
        *("tests/simulation", "--timeout", "3600"),
        HYPOTHESIS_EXAMPLES="1000",
        SIMULATION_SEEDS="2000",
    ),
    Step("planted", (sys.executable, "-m", "tests.simulation.planted", "2000")),
    pytest_step(
        "crash",
        *("tests/recovery", "--timeout", "3600"),
        CRASH_KILLS="500",
        CRASH_RESTARTS="100",
        DELIVERY_KILLS="100",
    ),
    Step("kills", (sys.executable, "-m", "tests.recovery.rounds", "1000")),
    load_test_step(os.environ.get("ONAP_K6_TESTS", "")),
)


def main(arguments: Sequence[str], steps: Sequence[Step] = STEPS, folder: Path = FOLDER) -> int:
    """Run the steps that have not passed yet; print one line per step on standard output."""
    parser = argparse.ArgumentParser(prog="python -m tests.nightly", description="Run the long tests.")
    parser.add_argument("--again", action="store_true", help="run steps that have passed, too")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[step.name for step in steps])
    chosen = parser.parse_args(arguments)
    commit = state_of_tree(ROOT)
    folder.mkdir(exist_ok=True)
    all_passed = True
    for step in steps:
        if chosen.only and step.name not in chosen.only:
            continue
        if step.missing:
            print(f"{step.name}: skipped, {step.missing}", flush=True)
            continue
        kept = folder / f"{step.name}.json"
        figures = None if chosen.again else figures_in(kept)
        how = "passed before"
        if figures is None or figures.commit != commit or not figures.passed:
            figures = run(step, commit, folder / f"{step.name}.log")
            kept.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
            how = "passed" if figures.passed else "FAILED"
        print(f"{step.name}: {how}, {figures.seconds:.0f} s, {figures.closing}", flush=True)
        all_passed &= figures.passed
    return 0 if all_passed else 1


def run(step: Step, commit: str, log: Path) -> Figures:
    """Run one step and write its output to ``log``."""
    began = time.monotonic()
    with log.open("wb") as output:
        ended = subprocess.run(
            step.command,
            cwd=ROOT,
            env={**step.environment, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    closing = closing_line(log.read_text(errors="replace")) or f"exit status {ended.returncode}"
    return Figures(commit, ended.returncode == 0, round(time.monotonic() - began, 1), closing)


def closing_line(output: str) -> str:
    """The counts in the last pytest summary line; empty if there is none."""
    found = (_CLOSING.match(line.strip()) for line in reversed(output.splitlines()))
    return next((match[1] for match in found if match), "")


def figures_in(file: Path) -> Figures | None:
    """The figures of an earlier run; ``None`` if there was none, or an interrupted one."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Figures)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def state_of_tree(root: Path, *paths: str) -> str:
    """The commit, and a digest of the changes since: equal names mean equal files.

    With ``paths``: the state of these paths in git, independent of the commit.
    """
    names = [f"HEAD:{path}" for path in paths] or ["HEAD"]
    commit = "+".join(_git(root, "rev-parse", *names).decode().split())
    changed = _git(root, "diff", "--binary", "HEAD", "--", *paths)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *paths).split(b"\0")
    if not changed and new == [b""]:
        return commit
    digest = hashlib.sha256(changed)
    for name in filter(None, new):
        path = root / os.fsdecode(name)
        digest.update(
            name + b"\0" + (os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes())
        )
    return f"{commit}+{digest.hexdigest()[:12]}"


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(("git", *arguments), cwd=root, capture_output=True, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
