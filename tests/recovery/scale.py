# SPDX-License-Identifier: Apache-2.0
"""How much is killed: a little in every run of the tests, everything with ``make nightly``."""

from __future__ import annotations

import os

KILLS = int(os.environ.get("CRASH_KILLS", "8"))
"""SIGKILLs at random moments."""

RESTARTS = int(os.environ.get("CRASH_RESTARTS", "5"))
"""Stops in order under load."""
