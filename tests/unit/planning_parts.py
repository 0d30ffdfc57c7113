# SPDX-License-Identifier: Apache-2.0
"""A submitted request as the tests of planning read it: checked, with its operations."""

from __future__ import annotations

from typing import Any

import msgspec

from ran_datajobs.planning.request import JobRequest, check_request, read_accepted
from ran_datajobs.plugins.wire import SeedOperation


class ReadRequest(JobRequest, frozen=True, kw_only=True):
    """A checked request with its operations, as they are executed."""

    operations: list[SeedOperation]


def read_request(body: bytes, **settings: Any) -> ReadRequest:
    """Check ``body`` like a submit, then read its operations like a plan."""
    head = check_request(body, **settings)
    return ReadRequest(**msgspec.structs.asdict(head), operations=read_accepted(body)[1])
