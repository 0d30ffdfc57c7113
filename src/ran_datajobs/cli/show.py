# SPDX-License-Identifier: Apache-2.0
"""What people see: tables, and a job in words. What comes from outside loses its control characters."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ran_datajobs.job import Status, read_status

_COLOURS = {
    Status.FINISHED: "green",
    Status.FAILED: "red",
    Status.PARTIALLY_FAILED: "yellow",
    Status.CANCELLED: "magenta",
    Status.CANCELLING: "magenta",
    Status.RUNNING: "cyan",
}
_COUNTED = ("succeeded", "failed", "unmatched", "notStarted", "unknown", "pending")


def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error. Where it is no terminal, lines are not folded."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, soft_wrap=not stream.isatty(), highlight=False)


def json_line(value: Any) -> None:
    """One JSON document on one line of standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def clean(value: object) -> str:
    """``value`` as text that cannot steer a terminal."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def in_words(status: object) -> str:
    """A status as people read it: ``FINSHED`` and ``FINISHED`` are "finished"."""
    known = read_status(status)
    return clean(status) if known is None else known.value.lower().replace("_", " ")


def status_text(status: object) -> Text:
    """A status in words and in its colour."""
    known = read_status(status)
    return Text(in_words(status), style=_COLOURS.get(known, "") if known else "")


def counts_in_words(counts: Mapping[str, Any]) -> str:
    """For example ``4000 operations: 3990 succeeded, 7 failed, 3 unmatched``."""
    words = {"notStarted": "not started"}
    said = [f"{counts[name]} {words.get(name, name)}" for name in _COUNTED if counts.get(name)]
    return f"{counts.get('total', 0)} operations" + (f": {', '.join(said)}" if said else "")


def ignored_in_words(answer: Mapping[str, Any]) -> str:
    """For example ``#/notBefore, note (2 operations) and 7 more``; empty when nothing was ignored."""
    keys = answer.get("ignored") or []
    more = answer.get("ignoredCount", len(keys)) - len(keys)
    said = [
        key.get("pointer") or f"{key.get('name')} ({_plural(key.get('count'), 'operation')})" for key in keys
    ]
    return clean(", ".join(said) + (f" and {more} more" if more > 0 else ""))


def _plural(count: Any, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; without a terminal, tab-separated lines under one of headings."""
    out = console()
    if not out.is_terminal:
        for row in (columns, *rows):
            print("\t".join(str(cell) if isinstance(cell, Text) else clean(cell) for cell in row))  # noqa: T201 - the output of a command
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
    out.print(shown)


def job_list(jobs: Sequence[Mapping[str, Any]]) -> None:
    """Jobs, one a line."""
    table(
        ("JOB", "NAME", "TYPE", "STATUS", "DONE", "OPERATIONS", "CREATED"),
        (
            (
                job["jobId"],
                job.get("name"),
                job["type"],
                status_text(job["status"]),
                f"{job['progressPercentage']}%",
                job["operations"]["total"],
                job["createdAt"],
            )
            for job in jobs
        ),
    )


def delivery_in_words(job: Mapping[str, Any]) -> str:
    """How the delivery of a job's results stands, and why it waits or has failed."""
    state, detail = in_words(job["deliveryState"]).lower(), job.get("deliveryDetail")
    return f"{state}: {detail}" if detail else state


def waits_in_words(job: Mapping[str, Any]) -> str:
    """What a job waits for, why, and since when; empty when it waits for nothing."""
    waiting = job.get("waitingFor")
    if not waiting:
        return ""
    what = "the bucket of the results" if waiting["code"] == "OBJECTS" else waiting["code"]
    return f"{what}, since {waiting['since']}: {waiting['detail']}"


def job(job: Mapping[str, Any], causes: Sequence[str] = ()) -> None:
    """One job, all that is known of it; ``causes``: a line for each reason why operations failed."""
    subs = ", ".join(f"{n} {in_words(status)}" for status, n in job["subJobs"].items()) or "none"
    lines: list[tuple[str, object]] = [
        ("Job", job["jobId"]),
        ("Name", job.get("name")),
        ("Type", job["type"]),
        ("Status", status_text(job["status"])),
        ("Done", f"{job['progressPercentage']}%"),
        ("Counts", counts_in_words(job["operations"])),
        ("Sub-jobs", subs),
        ("Reason", job.get("reason")),
        ("Waits for", waits_in_words(job)),
        *(("" if position else "Failures", cause) for position, cause in enumerate(causes)),
        ("Priority", job["priority"]),
        ("Retry of", job.get("retryOf")),
        ("Ignored", ignored_in_words(job)),
        ("Destination", job.get("destination")),
        ("Delivery", delivery_in_words(job)),
        ("Created", job["createdAt"]),
        ("Started", job.get("startedAt")),
        ("Ended", job.get("endedAt")),
        ("Results", job["resultsuri"]),
    ]
    out = console()
    for name, value in lines:
        if value not in (None, ""):
            text = value if isinstance(value, Text) else Text(clean(value))
            out.print(Text(f"{name:<12}", style="bold") + text)
