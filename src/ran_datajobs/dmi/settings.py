# SPDX-License-Identifier: Apache-2.0
"""Settings of one reference plugin."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from ran_datajobs.model import DEFAULT_FINISHED_SPELLING


class PluginSettings(Struct, frozen=True):
    """Durations in seconds, sizes in bytes.

    ``batch``: maximum write operations in one call to an element, and so the maximum of a job that are
    UNKNOWN after a SIGKILL. ``open_jobs``: maximum jobs that wait or run; above it, a create is answered
    503. ``executing``: maximum jobs executed concurrently, over all data producers. ``reads``: maximum
    concurrent reads of one data producer. ``publish_give_up``: timeout of publishing, after which a read is
    FAILED. ``call_timeout``: maximum time until the answer to a ProvMnS request; NCMP waits 30 s.
    ``retention``: how long ended jobs and their keys are kept. ``grace``: how long a stop waits for
    running batches.
    """

    data_dir: Path
    batch: int = 500
    body_bytes: int = 512 * 1024 * 1024
    operations: int = 1_000_000
    open_jobs: int = 100_000
    executing: int = 256
    reads: int = 4
    publish_give_up: float = 600.0
    call_timeout: float = 25.0
    retention: float = 24 * 3600.0
    grace: float = 2.0
    finished_spelling: str = DEFAULT_FINISHED_SPELLING
