# SPDX-License-Identifier: Apache-2.0
"""Absolute addresses of jobs and results (ONAP CPS-NCMP data jobs: ``statusuri``, ``resultsuri``)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote
from uuid import UUID

from msgspec import Struct

JOBS: Final = "/ranoam/cm/v1/dataJob"
BUCKETS: Final = "/s3-bucket"


class Addresses(Struct, frozen=True):
    """Absolute addresses below ``api_root`` (no trailing slash), independent of the Host of a request."""

    api_root: str

    def job(self, job_id: UUID) -> str:
        """``statusuri`` of a job."""
        return f"{self.api_root}{JOBS}/{job_id}"

    def results(self, bucket: str, job_id: UUID) -> str:
        """``resultsuri`` of a job: its manifest."""
        return f"{self.api_root}{BUCKETS}/{bucket}?jobId={job_id}"

    def object(self, bucket: str, key: str) -> str:
        """Address of one result object by its key."""
        return f"{self.api_root}{BUCKETS}/{bucket}/{quote(key, safe='/')}"
