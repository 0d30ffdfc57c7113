# SPDX-License-Identifier: Apache-2.0
"""The file of the credentials of DMI plugins: what is in it, for which address, and when it is read."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ran_datajobs.errors import UsageError
from ran_datajobs.plugins import credentials
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.telemetry import logger
from tests.kit.worker_parts import log_lines

SECRET = "geheim-4711"
BASIC = {"username": "cpsuser", "password": SECRET}


def written(folder: Path, entries: Any) -> Path:
    file = folder / "credentials.json"
    file.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return file


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_basic_and_bearer(tmp_path: Path) -> None:
    """A user name and a password are sent as Basic, a token as Bearer; another plugin gets nothing."""
    known = Credentials(
        written(tmp_path, {"http://dmi:8080": BASIC, "https://gw.example.org": {"token": "abc.DEF-1"}})
    )
    assert known.headers("http://dmi:8080") == basic("cpsuser", SECRET)
    assert known.headers("https://gw.example.org") == {"Authorization": "Bearer abc.DEF-1"}
    assert known.headers("http://other:8080") == {}


def test_without_a_file_there_are_none() -> None:
    """Nothing is read."""
    assert Credentials(None).headers("http://dmi:8080") == {}


@pytest.mark.parametrize(
    ("entry", "plugin", "covered"),
    [
        ("http://dmi", "http://dmi", True),
        ("http://dmi", "http://dmi:80", True),
        ("https://dmi:443/", "https://dmi/north", True),
        ("http://DMI/north", "http://dmi/north", True),
        ("http://dmi/north", "http://dmi/north/1", True),
        ("http://dmi/north/", "http://dmi/north", True),
        ("http://dmi/north", "http://dmi/northwest", False),
        ("http://dmi/north", "http://dmi", False),
        ("http://dmi/north", "http://dmi/North", False),
        ("http://dmi", "https://dmi", False),
        ("http://dmi", "http://dmi:8080", False),
        ("http://dmi", "http://dmi.example.org", False),
        ("http://dmi/north", "http://dmi/north/%2e%2e/south", False),
        ("http://dmi/north", "http://dmi/north%2f..%2fsouth", False),
        ("http://dmi/north", "http://dmi/north/..%5csouth", False),
        ("http://[::1]:81", "http://[::1]:81/a", True),
    ],
)
def test_an_entry_is_for_the_plugins_below_its_address(
    tmp_path: Path, entry: str, plugin: str, covered: bool
) -> None:
    """The same origin, and whole segments of the path; a path that leads elsewhere is not below."""
    assert bool(Credentials(written(tmp_path, {entry: BASIC})).headers(plugin)) is covered


def test_the_longest_path_counts(tmp_path: Path) -> None:
    """Whatever the order of the entries."""
    entries = {"http://gw": {"token": "a"}, "http://gw/north": {"token": "b"}, "http://gw/south": BASIC}
    known = Credentials(written(tmp_path, entries))
    assert known.headers("http://gw/north/1") == {"Authorization": "Bearer b"}
    assert known.headers("http://gw/west") == {"Authorization": "Bearer a"}


WRONG = {
    "no JSON": SECRET,
    "a list": [SECRET],
    "cut off": '{"http://dmi": {"token": "geheim-4711"',
    "no UTF-8": '{"http://dmi": {"token": "\\udcff"}}',
    "no address": {f"dmi:{SECRET}": BASIC},
    "another scheme": {"ftp://dmi": BASIC},
    "a password in the address": {f"http://u:{SECRET}@dmi": BASIC},
    "a query": {f"http://dmi?key={SECRET}": BASIC},
    "a path that leads elsewhere": {"http://dmi/a/../b": BASIC},
    "a port that is none": {"http://dmi:99999": BASIC},
    "the same address twice": {"http://dmi": BASIC, "http://dmi:80/": BASIC},
    "a text for an entry": {"http://dmi": SECRET},
    "nothing": {"http://dmi": {}},
    "a user without a password": {"http://dmi": {"username": SECRET}},
    "both": {"http://dmi": {**BASIC, "token": SECRET}},
    "a number": {"http://dmi": {"token": 4711}},
    "an unknown member": {"http://dmi": {**BASIC, "realm": SECRET}},
    "a user with a colon": {"http://dmi": {"username": f"a:{SECRET}", "password": "x"}},
    "a line break": {"http://dmi": {"token": f"{SECRET}\r\nX: y"}},
    "a line break in a password": {"http://dmi": {"username": "a", "password": f"{SECRET}\n"}},
    "an empty token": {"http://dmi": {"token": ""}},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_an_error_of_use_without_its_secrets(tmp_path: Path, name: str) -> None:
    """The text names the setting, the file and what is wrong, and quotes no secret."""
    with pytest.raises(UsageError) as error:
        Credentials(written(tmp_path, WRONG[name]))
    assert str(error.value).startswith(f"DATAJOBS_DMI_CREDENTIALS_FILE: {tmp_path}")
    assert SECRET not in str(error.value)


def test_a_missing_or_large_file(tmp_path: Path) -> None:
    """Each is an error of use, too."""
    with pytest.raises(UsageError, match="No such file"):
        Credentials(tmp_path / "none")
    with pytest.raises(UsageError, match="at most"):
        Credentials(written(tmp_path, " " * (credentials.MAX_FILE + 1)))


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Neither by the representation of what is read."""
    known = Credentials(written(tmp_path, {"http://dmi": BASIC, "http://gw": {"token": SECRET}}))
    shown = repr([known.of("http://dmi"), known.of("http://gw"), vars(known)])
    assert SECRET not in shown
    assert basic("cpsuser", SECRET)["Authorization"].split()[1] not in shown


def test_a_changed_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before counts while the file cannot be used, which is logged once for each change."""
    monkeypatch.setattr(credentials, "LOOK_EVERY", 0.0)
    file = written(tmp_path, {"http://dmi": {"token": "old"}})
    with log_lines() as lines:
        known = Credentials(file, logger())
        old = {"Authorization": "Bearer old"}
        assert known.headers("http://dmi") == old
        written(tmp_path, f'{{"http://dmi": {{"token": "{SECRET}"')
        assert known.headers("http://dmi") == known.headers("http://dmi") == old
        file.unlink()
        assert known.headers("http://dmi") == old
        written(tmp_path, {"http://dmi": {"token": "new"}, "http://gw": BASIC})
        os.utime(file)
        assert known.headers("http://dmi") == {"Authorization": "Bearer new"}
        assert known.headers("http://gw")
        assert [line["event"] for line in lines()] == [
            "credentials.unusable", "credentials.unusable", "credentials.read",
        ]  # fmt: skip
        assert lines()[-1]["addresses"] == 2
        assert SECRET not in json.dumps(lines())
