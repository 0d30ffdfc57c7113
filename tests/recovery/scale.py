# SPDX-License-Identifier: Apache-2.0
"""Number of kills: few in every run of the tests, all with ``make nightly``."""

from __future__ import annotations

import os

KILLS = int(os.environ.get("CRASH_KILLS", "8"))
"""Number of SIGKILLs at random moments."""

RESTARTS = int(os.environ.get("CRASH_RESTARTS", "5"))
"""Number of orderly stops under load."""
