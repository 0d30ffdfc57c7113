# SPDX-License-Identifier: Apache-2.0
"""Correct environment variables that do not suit this program and its child processes."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from typing import Final

from ran_datajobs.config import PREFIX, RENAMED
from ran_datajobs.errors import UsageError

_LOOPBACK: Final = "localhost,127.0.0.1,127.0.0.0/8,::1"
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")


def speak_utf_8() -> None:
    """Restart in Python's UTF-8 mode if the locale is ASCII, since file names and file contents are UTF-8."""
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.ignore_environment:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this program


def keep_loopback_direct() -> None:
    """Exclude loopback addresses from proxies, for this process and its children."""
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES):
        return
    upper, lower = os.environ.get("NO_PROXY"), os.environ.get("no_proxy")
    os.environ["NO_PROXY"] = ",".join(filter(None, (upper or lower, _LOOPBACK)))
    os.environ["no_proxy"] = ",".join(filter(None, (lower or upper, _LOOPBACK)))


def accept_renamed_settings(arguments: list[str], environ: MutableMapping[str, str]) -> list[str]:
    """Replace old names of settings in ``arguments`` and ``environ`` by new ones. Returns a warning for each.

    Raises UsageError if a variable is set under both names.
    """
    warnings = []
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        old = flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and old in RENAMED:
            value_of_it = value if equals else " ".join(arguments[place + 1 : place + 2])
            new_flag = f"--{_new_name(old, value_of_it).replace('_', '-')}"
            arguments[place] = new_flag + equals + value
            warnings.append(_renamed(flag, new_flag))
    for old in RENAMED:
        variable = PREFIX + old.upper()
        if variable in environ:
            new = PREFIX + _new_name(old, environ[variable]).upper()
            if new in environ:
                raise UsageError(f"{variable} is the old name of {new}, and both are set: keep {new}")
            environ[new] = environ.pop(variable)
            warnings.append(_renamed(variable, new))
    return warnings


def _new_name(old: str, value: str) -> str:
    """New name of a setting with ``value``: the bus of a plugin was Kafka servers or an address."""
    return "dmi_service_url" if old == "bus" and "://" in value else RENAMED[old]


def _renamed(old: str, new: str) -> str:
    return f"{old} is now called {new}; the next release removes the old name"
