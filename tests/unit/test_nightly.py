# SPDX-License-Identifier: Apache-2.0
"""The runner of the long tests: a step that passed is not run again, one that failed is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.nightly import Step, closing_line, main, state_of_tree


def step(name: str, log: Path, code: str = "") -> Step:
    """A step that records that it was run, and prints pytest's closing line."""
    output = f"print({name!r}, file=open({str(log)!r}, 'a')); print('==== 3 passed, 1 skipped in 0.12s ====')"
    return Step(name, (sys.executable, "-c", f"{output}; {code}"))


def test_a_step_that_has_passed_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step that failed is run again, and so is one that is named. Each has a line with its figures."""
    log, folder = tmp_path / "log", tmp_path / "figures"
    steps = [step("first", log), step("second", log, "raise SystemExit(1)")]
    assert main([], steps, folder) == 1
    assert main([], steps, folder) == 1
    assert log.read_text().split() == ["first", "second", "second"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "first: passed",
        "second: FAILED",
        "first: passed before",
        "second: FAILED",
    ]
    assert all(line.endswith(" s, 3 passed, 1 skipped in 0.12s") for line in lines)
    assert main(["--only", "first"], steps, folder) == 0
    assert main(["--only", "first", "--again"], steps, folder) == 0
    assert log.read_text().split()[3:] == ["first"]


def test_a_step_that_lacks_something_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its line says what is missing; that is no failure, and the step has no figures."""
    log, folder = tmp_path / "log", tmp_path / "figures"
    steps = [Step("needy", step("needy", log).command, missing="name a folder"), step("other", log)]
    assert main([], steps, folder) == 0
    assert capsys.readouterr().out.splitlines()[0] == "needy: skipped, name a folder"
    assert log.read_text().split() == ["other"]
    assert [kept.name for kept in folder.glob("*.json")] == ["other.json"]


def test_figures_of_another_commit_or_of_an_interrupted_run_do_not_count(tmp_path: Path) -> None:
    """Then the step is run as if it had never run."""
    log, folder = tmp_path / "log", tmp_path / "figures"
    steps = [step("only", log)]
    assert main([], steps, folder) == 0
    kept = folder / "only.json"
    kept.write_bytes(kept.read_bytes().replace(b'"commit": "', b'"commit": "0'))
    assert main([], steps, folder) == 0
    kept.write_bytes(kept.read_bytes()[:20])
    assert main([], steps, folder) == 0
    assert main([], steps, folder) == 0
    assert log.read_text().split() == ["only"] * 3


def test_changes_that_are_not_committed_make_another_state(tmp_path: Path) -> None:
    """Changed and new files count. Ignored files do not, nor do files other than the given ones."""

    def git(*arguments: str) -> None:
        subprocess.run(("git", *arguments), cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet")
    (tmp_path / ".gitignore").write_text("ignored\n")
    (tmp_path / "file").write_text("1")
    git("add", ".")
    git("-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "-m", "x")
    states, of_file = [state_of_tree(tmp_path)], state_of_tree(tmp_path, "file")
    (tmp_path / "ignored").write_text("1")
    assert state_of_tree(tmp_path) == states[0]
    for name, text in (("file", "2"), ("new", "1"), ("new", "2")):
        (tmp_path / name).write_text(text)
        states.append(state_of_tree(tmp_path))
    assert len(set(states)) == 4
    git("checkout", "--quiet", "file")
    assert state_of_tree(tmp_path, "file") == of_file
    (tmp_path / "file").write_text("2")
    assert state_of_tree(tmp_path, "file") != of_file


@pytest.mark.parametrize(
    ("output", "closing"),
    [
        ("...\n3 passed in 1.20s\n", "3 passed in 1.20s"),
        ("x\n=== 1 failed, 2 passed, 1 warning in 63.10s (0:01:03) ===\n", None),
        ("usage: pytest\n", ""),
        ("", ""),
    ],
)
def test_the_closing_line_of_pytest_is_found(output: str, closing: str | None) -> None:
    """With and without its rulers."""
    expected = "1 failed, 2 passed, 1 warning in 63.10s (0:01:03)" if closing is None else closing
    assert closing_line(output) == expected
