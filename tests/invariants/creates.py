# SPDX-License-Identifier: Apache-2.0
"""No write is executed twice, by the record of the plugin itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.kit.plugins.scripted import Executed


def executed_twice(record: Iterable[Executed]) -> dict[str, int]:
    """The writes that a plugin executed more than once, by sub-job id, with the number of executions.

    There must be none: a plugin that honours ``Idempotency-Key`` executes a repeated create once, and no
    other plugin gets a second one.
    """
    times = Counter(each.sub_job_id for each in record if not each.is_read)
    return {sub_job_id: count for sub_job_id, count in times.items() if count > 1}
