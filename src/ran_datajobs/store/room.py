# SPDX-License-Identifier: Apache-2.0
"""Limits of the due rows that one worker leases; the others wait in the database."""

from __future__ import annotations

from typing import Final

ROWS: Final = 24576
"""Maximum number of sub-jobs that one worker has leased. One takes about 8 KiB if it has few operations."""

BODY_BYTES: Final = 256 * 1024 * 1024
"""Maximum size of the operations that one worker holds uncompressed, in bytes; half of it per plugin."""

CREATES_PER_PLUGIN: Final = 128
"""Maximum number of unanswered creates per worker and plugin. The HTTP client sends half as many at a time;
the others wait for the database."""
