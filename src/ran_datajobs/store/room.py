# SPDX-License-Identifier: Apache-2.0
"""How much one worker takes of what is due; what is left over waits in the database."""

from __future__ import annotations

from typing import Final

ROWS: Final = 24576
"""Maximum number of sub-jobs that one worker has leased. One costs about 8 KiB if its operations are few."""

BODY_BYTES: Final = 256 * 1024 * 1024
"""Maximum size of the operations that one worker holds uncompressed, in bytes. One plugin gets half of it."""

CREATES_PER_PLUGIN: Final = 128
"""Maximum number of creates that one worker has marked at one plugin and has no answer to. The HTTP client
sends half as many at a time; the others are on their way through the database."""
