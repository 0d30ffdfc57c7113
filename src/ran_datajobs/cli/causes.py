# SPDX-License-Identifier: Apache-2.0
"""Operations of a job that did not succeed, grouped by reason and explained."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from rich.text import Text

from ran_datajobs.api import paths
from ran_datajobs.cli import formatting
from ran_datajobs.cli.api import Api
from ran_datajobs.errors import ServerUnreachable
from ran_datajobs.reasons import explanation_of

NDJSON: Final = "application/x-ndjson"

_COUNTED_UP_TO: Final = 10_000
"""Maximum failures that :func:`in_brief` reads; above it, it names the command that groups them."""

_SHOWN: Final = 5


class Cause(Struct):
    """Operations with one reason: their number per state, and the line of JSON of each."""

    reason: str
    states: Counter[str]
    lines: list[bytes]


def failures(api: Api, job_id: str) -> Iterator[bytes]:
    """Yield the operations that did not succeed, one JSON document each, as they arrive."""
    return outcomes(api, paths.fill(paths.FAILURES, job_id=job_id))


def outcomes(api: Api, path: str, **query: Any) -> Iterator[bytes]:
    """Yield the operations that ``path`` lists, one JSON document each, as they arrive."""
    with api.open("GET", path, query=query, headers={"Accept": NDJSON}) as answer:
        yield from (line for line in answer if line.strip())


def by_reason(lines: Iterable[bytes]) -> list[Cause]:
    """Group failures by reason, the most frequent first."""
    causes: dict[str, Cause] = {}
    for line in lines:
        failure = json.loads(line)
        reason = str(failure["reason"])
        cause = causes.setdefault(reason, Cause(reason, Counter(), []))
        cause.states[str(failure["state"])] += 1
        cause.lines.append(line)
    return sorted(causes.values(), key=lambda cause: -cause.states.total())


def show_causes(causes: Sequence[Cause]) -> None:
    """Print each reason with its meaning and advice, followed by a table of its operations."""
    out = formatting.console()
    if not causes:
        out.print("no operation has failed")
    for position, cause in enumerate(causes):
        words = explanation_of(cause.reason)
        states = ", ".join(
            f"{count} {state.lower().replace('_', ' ')}" for state, count in cause.states.most_common()
        )
        if position:
            out.print()
        heading = Text(f"{cause.states.total()} × {formatting.clean(cause.reason)}", style="bold")
        formatting.paragraph(
            heading + Text(f" – {words.title} ({formatting.clean(states)})", style="not bold")
        )
        formatting.paragraph(words.meaning)
        formatting.paragraph(f"What to do: {words.advice}")
        formatting.table(
            ("OPERATION", "OP", "STATE", "PATH", "DETAIL"),
            (
                [f["operationId"], f["op"], f["state"], formatting.target_of(f), f["detail"]]
                for f in map(json.loads, cause.lines)
            ),
        )


def in_brief(api: Api, job: Mapping[str, Any]) -> list[str]:
    """One line for each of the most frequent reasons of a job's failures; none if nothing failed.

    When the service cannot read its result objects, one line reports it.
    """
    counts = job["operations"]
    failed = counts["total"] - counts["succeeded"] - counts["pending"]
    command = f"datajobs failures {job['jobId']}"
    if failed == 0:
        return []
    if failed > _COUNTED_UP_TO:
        return [f"{failed} operations: {command} groups them by reason"]
    try:
        counted = Counter(str(json.loads(line)["reason"]) for line in failures(api, str(job["jobId"])))
    except ServerUnreachable as error:
        return [f"{failed} operations; their reasons cannot be read now: {error}"]
    brief = [
        f"{count} × {reason}: {explanation_of(reason).title}" for reason, count in counted.most_common(_SHOWN)
    ]
    more = len(counted) - _SHOWN
    return [*brief, f"and {more} more reasons: {command}"] if more > 0 else brief
