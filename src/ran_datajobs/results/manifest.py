# SPDX-License-Identifier: Apache-2.0
"""The manifest of a job: its final status, its counts and every result object with its checksum (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ran_datajobs.model import DEFAULT_FINISHED_SPELLING, UNMATCHED_PART, Counts, Status, wire_status
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.parts import Part, is_foreign


class ManifestObject(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One result object: its size in ``bytes``, its SHA-256 (hex) and the number of operations it reports.

    Without ``subJobId``: operations that belong to no sub-job. ``foreign``: a plugin's own result body or
    message, stored unchanged.
    """

    key: str
    bytes: int
    sha256: str
    operations: int
    failed: int
    sub_job_id: str | None = None
    foreign: bool = False


class Manifest(Struct, frozen=True, rename="camel"):
    """The manifest. It is written last: once it exists, every object that it names exists."""

    job_id: str
    status: str
    operations: Counts
    objects: tuple[ManifestObject, ...]


def manifest(
    job: JobRow,
    status: Status,
    operations: Counts,
    parts: Sequence[Part],
    finished: str = DEFAULT_FINISHED_SPELLING,
) -> bytes:
    """JSON of the manifest of ``job``, whose final status is ``status``; ``parts`` in order."""
    listed = tuple(
        ManifestObject(
            part.key,
            part.size,
            part.sha256,
            part.operations,
            part.failed,
            None if part.sub_job == UNMATCHED_PART else part.sub_job,
            is_foreign(part.sequence),
        )
        for part in parts
    )
    return msgspec.json.encode(Manifest(str(job.job_id), wire_status(status, finished), operations, listed))
