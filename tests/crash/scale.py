# SPDX-License-Identifier: Apache-2.0
"""How much is killed: a little in every run of the tests, everything with ``make nightly``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

KILLS = int(os.environ.get("CRASH_KILLS", "8"))
"""SIGKILLs at random moments."""

RESTARTS = int(os.environ.get("CRASH_RESTARTS", "5"))
"""Stops in order under load."""

T = TypeVar("T")


def some(all_of_them: Iterable[T], usual: Iterable[T]) -> list[T]:
    """All cases with ``make nightly``, else only the ``usual`` ones: they are enough to see that it works."""
    return list(all_of_them if "CRASH_KILLS" in os.environ else usual)
