# SPDX-License-Identifier: Apache-2.0
"""Tokens on the command line: added, listed, revoked, and sent to a service that requires one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.commands import datajobs, started


@pytest.mark.nightly
def test_tokens_are_made_listed_and_taken_back(tmp_path: Path) -> None:
    """A token is printed once. The list shows names and roles only. A revoked client is not listed."""
    file = tmp_path / "tokens.json"
    made = datajobs("token", "add", "planner", "--role", "submit", "--tokens-file", file)
    token = made.stdout.strip()
    assert made.returncode == 0
    assert len(token) > 30
    listed = datajobs("token", "list", "--tokens-file", file)
    assert ["planner", "submit"] in [row.split() for row in listed.stdout.splitlines()]
    assert token not in listed.stdout + file.read_text()
    assert datajobs("token", "revoke", "planner", DATAJOBS_TOKENS_FILE=str(file)).returncode == 0
    assert datajobs("token", "revoke", "planner", "--tokens-file", file).returncode == 2
    assert datajobs("token", "add", "x", "--role", "king", "--tokens-file", file).returncode == 2
    plugin = ("token", "add", "x", "--role", "plugin", "--tokens-file", file, "--dmi")
    assert datajobs(*plugin, "not a url").returncode == 2
    assert datajobs(*plugin, "HTTP://DMI.example.org:8081/").returncode == 0
    listed = datajobs("token", "list", "--tokens-file", file)
    assert "http://dmi.example.org:8081" in listed.stdout.split()
    assert datajobs("token", "list").returncode == 2


def test_a_guarded_service_wants_a_token(tmp_path: Path, free_port: int) -> None:
    """Without a token status 2 and where to put it. With one, from the variable or a file, the command
    succeeds."""
    file, url = tmp_path / "tokens.json", f"http://127.0.0.1:{free_port}"
    token = datajobs("token", "add", "planner", "--role", "read", "--tokens-file", file).stdout.strip()
    serve = ("serve", "--port", str(free_port), "--data-dir", tmp_path / "data", "--tokens-file", file)
    with started(*serve, lines=tmp_path / "lines") as running:
        running.until_ready(url)
        without = datajobs("list", "--server", url)
        assert without.returncode == 2
        assert "DATAJOBS_TOKEN" in without.stderr
        assert datajobs("list", "--server", url, DATAJOBS_TOKEN=token).returncode == 0
        kept = tmp_path / "token"
        for text in (token, f"\ufeff{token}\r\n", f" \ufeff {token} \n"):
            kept.write_text(text, encoding="utf-8")
            assert datajobs("list", "--server", url, DATAJOBS_TOKEN_FILE=str(kept)).returncode == 0
        assert datajobs("list", "--server", url, DATAJOBS_TOKEN=f"\ufeff{token} ").returncode == 0
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        assert datajobs("list", "--server", url, DATAJOBS_TOKEN=token).returncode == 0
        assert datajobs("token", "revoke", "planner", "--tokens-file", file).returncode == 0
        assert datajobs("list", "--server", url, DATAJOBS_TOKEN=token).returncode == 2
        assert token not in running.text()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_what_is_no_token_is_told_in_one_line(tmp_path: Path, encoding: str) -> None:
    """Status 2 and the position of the fault; the value is not shown."""
    file = tmp_path / "token"
    for text in ("rdj_secret", "rdj_secret\nrdj_other"):
        file.write_text(text, encoding=encoding if text == "rdj_secret" else "utf-8")
        done = datajobs("list", DATAJOBS_TOKEN_FILE=str(file))
        assert done.returncode == 2
        assert done.stderr.startswith("datajobs: ") and done.stderr.count("\n") == 1
        assert "DATAJOBS_TOKEN_FILE" in done.stderr and "secret" not in done.stderr
