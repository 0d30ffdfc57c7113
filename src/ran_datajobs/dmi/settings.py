# SPDX-License-Identifier: Apache-2.0
"""The settings of one reference plugin."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from ran_datajobs.model import DEFAULT_FINISHED_SPELLING


class PluginSettings(Struct, frozen=True):
    """Durations in seconds, sizes in bytes.

    ``batch``: so many write operations are handed to an element at a time; after a SIGKILL at most so many
    of a job are UNKNOWN. ``open_jobs``: so many jobs may wait or run before a create is answered 503.
    ``executing``: so many jobs are executed at once, over all data producers. ``reads``: so many reads of
    one data producer at once. ``publish_give_up``: a read whose messages no bus takes for so long has
    FAILED. ``retention``: how long ended jobs and their keys are kept. ``grace``: how long a stop waits for
    the batches that are being executed.
    """

    data_dir: Path
    batch: int = 500
    body_bytes: int = 512 * 1024 * 1024
    operations: int = 1_000_000
    open_jobs: int = 100_000
    executing: int = 256
    reads: int = 4
    publish_give_up: float = 600.0
    retention: float = 24 * 3600.0
    grace: float = 2.0
    finished_spelling: str = DEFAULT_FINISHED_SPELLING
