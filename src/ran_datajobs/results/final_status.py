# SPDX-License-Identifier: Apache-2.0
"""Counts operations by state and derives the final status of a job from the counts. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ran_datajobs.model import Counts, OperationState, Status


def count(states: Iterable[OperationState]) -> Counts:
    """Count the operations in each state."""
    tally = dict.fromkeys(OperationState, 0)
    for state in states:
        tally[state] += 1
    return Counts(
        total=sum(tally.values()),
        succeeded=tally[OperationState.SUCCEEDED],
        failed=tally[OperationState.FAILED],
        not_started=tally[OperationState.NOT_STARTED],
        unknown=tally[OperationState.UNKNOWN],
    )


def verdict(counts: Counts, *, cancelled: bool) -> Status:
    """The terminal status of a job or sub-job with these counts; the first rule that holds decides.

    Every operation succeeded: FINISHED; a cancel stopped a sub-job: CANCELLED; none succeeded: FAILED;
    else PARTIALLY_FAILED. ``counts.pending`` must be 0.
    """
    if counts.succeeded == counts.total:
        return Status.FINISHED
    if cancelled:
        return Status.CANCELLED
    if counts.succeeded == 0:
        return Status.FAILED
    return Status.PARTIALLY_FAILED


def why(counts: Counts, status: Status) -> str | None:
    """One sentence that explains a FAILED or PARTIALLY_FAILED job; ``None`` for any other status."""
    if status not in (Status.FAILED, Status.PARTIALLY_FAILED):
        return None
    parts = [
        f"{number:,} {words}"
        for number, words in (
            (counts.failed, "failed"),
            (counts.unmatched, "matched no CM handle"),
            (counts.not_started, "not started"),
            (counts.unknown, "with unknown outcome"),
        )
        if number
    ]
    return f"of {counts.total:,} operations: " + ", ".join(parts)
