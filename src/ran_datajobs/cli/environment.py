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
    flags = {f"--{old.replace('_', '-')}": f"--{new.replace('_', '-')}" for old, new in RENAMED.items()}
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in flags:
            arguments[place] = flags[flag] + equals + value
            warnings.append(_renamed(flag, flags[flag]))
    for old, new in ((PREFIX + old.upper(), PREFIX + new.upper()) for old, new in RENAMED.items()):
        if old in environ:
            if new in environ:
                raise UsageError(f"{old} is the old name of {new}, and both are set: keep {new}")
            environ[new] = environ.pop(old)
            warnings.append(_renamed(old, new))
    return warnings


def _renamed(old: str, new: str) -> str:
    return f"{old} is now called {new}; the next release does not know the old name"
