# SPDX-License-Identifier: Apache-2.0
"""Output for people: tables and descriptions of jobs. Control characters of external text are replaced."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from ran_datajobs.model import WAITS, Status, WaitCode, read_status

_COLOURS = {
    Status.FINISHED: "green",
    Status.FAILED: "red",
    Status.PARTIALLY_FAILED: "yellow",
    Status.CANCELLED: "magenta",
    Status.CANCELLING: "magenta",
    Status.RUNNING: "cyan",
}
_COLUMNS: Final = 80
"""Width of an output that is not a terminal, unless COLUMNS is set in the environment."""

_GAP: Final = "  "
_NAMES: Final = 12
"""Width in columns of the names before values."""

_SAMPLE: Final = 1000
"""Number of rows from which the column widths of a table are computed."""

_MOST_LINES: Final = 10
"""Maximum lines of a cell in a table."""

_COUNTED = ("succeeded", "failed", "unmatched", "notStarted", "unknown", "pending")


def console(*, stderr: bool = False) -> Console:
    """Console on standard output or standard error. Without a terminal, lines are not folded."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, soft_wrap=not stream.isatty(), highlight=False)


def json_line(value: Any) -> None:
    """Write a JSON document as one line to standard output."""
    ascii_only = sys.stdout.encoding.lower() != "utf-8"
    sys.stdout.write(json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def clean(value: object) -> str:
    """``value`` as text without control characters for a terminal."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def target_of(operation: Mapping[str, Any]) -> str:
    """What an operation, or its outcome, names: its data node selectors in one line, or its path."""
    selectors = operation.get("dataNodeSelector")
    if isinstance(selectors, str):
        return " OR ".join(selectors.splitlines())
    return str(operation.get("path") or "")


def in_words(status: object) -> str:
    """A status in words: ``FINSHED`` and ``FINISHED`` are "finished"."""
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


def effects_in_words(preview: Mapping[str, Any] | None) -> str:
    """For example ``12 change, 3 no change, 1 would fail``; empty without a preview."""
    return ", ".join(f"{count} {_words(name)}" for name, count in (preview or {}).items() if count)


def reach_in_words(reach: Mapping[str, Any] | None) -> str:
    """For example ``2 sites, 4 cells, 9 objects``; empty without a reach."""
    return ", ".join(f"{count} {_words(name)}" for name, count in (reach or {}).items() if count)


def _words(name: str) -> str:
    """A name of the wire in words: ``noChange`` is "no change"."""
    return clean("".join(f" {c.lower()}" if c.isupper() else c for c in name)).replace("dmi ", "DMI ")


def ignored_in_words(answer: Mapping[str, Any]) -> str:
    """For example ``#/notBefore, note (2 operations) and 7 more``; empty when nothing was ignored."""
    keys = answer.get("ignored") or []
    more = answer.get("ignoredCount", len(keys)) - len(keys)
    said = [
        key.get("pointer") or f"{key.get('name')} ({plural(key.get('count'), 'operation')})" for key in keys
    ]
    return clean(", ".join(said) + (f" and {more} more" if more > 0 else ""))


def warnings_in_words(answer: Mapping[str, Any]) -> str:
    """For example ``150, the first for operation 4: NRCellDU has no attribute tilt``; empty without any."""
    warnings = answer.get("warnings") or []
    if not warnings:
        return ""
    first = warnings[0]
    count = answer.get("warningCount", len(warnings))
    return clean(f"{count}, the first for operation {first['operationId']}: {first['detail']}")


def plural(count: Any, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def room(out: Console) -> int:
    """Number of columns of a line."""
    if out.file.isatty():
        return out.width
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else _COLUMNS


def paragraph(text: Text | str, out: Console | None = None, *, indent: int = 0) -> None:
    """Print a text in lines that fit the output (default: standard output), all but the first indented."""
    out = out or console()
    text = text if isinstance(text, Text) else Text(text)
    first, *others = _wrapped(text, room(out), out, indent=indent)
    out.print(first, soft_wrap=True)
    for line in others:
        out.print(Text(" " * indent) + line, soft_wrap=True)


def entries(named: Iterable[tuple[str, object]]) -> None:
    """Print values, each after its name; those that are ``None`` or empty are left out."""
    for name, value in named:
        if value not in (None, ""):
            paragraph(Text(f"{name:<{_NAMES}}", style="bold") + _cell(value), indent=_NAMES)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    whole: Sequence[str] = (),
    lines: int = _MOST_LINES,
) -> None:
    """Print a table on standard output, at most as wide as that.

    A cell that is too long is wrapped to at most ``lines`` lines and ends with an ellipsis if text is left
    out. Cells of the columns in ``whole`` are neither wrapped nor cut.
    """
    out = console()
    heading = [Text(column, style="bold") for column in columns]
    cells = ([_cell(value) for value in row] for row in rows)
    sample = [heading, *itertools.islice(cells, _SAMPLE)]
    fixed = [column in whole for column in columns]
    widths = _widths(sample, fixed, room(out))
    for row in itertools.chain(sample, cells):
        wrapped = [
            [cell] if is_fixed else _wrapped(cell, width, out, most=lines)
            for cell, width, is_fixed in zip(row, widths, fixed, strict=True)
        ]
        for pieces in itertools.zip_longest(*wrapped, fillvalue=Text()):
            line = Text()
            for piece, width in zip(pieces, widths, strict=True):
                line.append_text(piece).append(" " * (width - piece.cell_len) + _GAP)
            line.rstrip()
            out.print(line, soft_wrap=True)


def _cell(value: object) -> Text:
    return value if isinstance(value, Text) else Text(clean(value))


def _widths(rows: Sequence[Sequence[Text]], fixed: Sequence[bool], room: int) -> list[int]:
    """Width of each column; if the total exceeds ``room``, the widest are reduced."""
    widths = [min(max(cell.cell_len for cell in column), room) for column in zip(*rows, strict=True)]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - room
    for _ in range(excess):
        widest = max(range(len(widths)), key=lambda at: 0 if fixed[at] else widths[at])
        widths[widest] = max(1, widths[widest] - 1)
    return widths


def _wrapped(text: Text, width: int, out: Console, *, indent: int = 0, most: int | None = None) -> list[Text]:
    """At most ``most`` lines of ``text``, each at most ``width`` columns, all but the first shorter by
    ``indent``."""
    if text.cell_len <= width:
        return [text]
    kept = text if most is None else text[: width * most + 1]
    lines = list(kept.wrap(out, width, overflow="fold"))
    if indent:
        first = lines[0]
        rest = text[len(first) :]
        rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
        lines = [first, *rest.wrap(out, max(1, width - indent), overflow="fold")]
    if most is not None and (len(lines) > most or len(kept) < len(text)):
        lines = lines[:most]
        lines[-1].truncate(width - 1)
        lines[-1].append("…")
    return lines


def job_list(jobs: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of jobs, each with its full id."""
    table(
        ("JOB", "NAME", "TYPE", "STATUS", "OPS", "AGE"),
        (
            (
                job["jobId"],
                job.get("name"),
                job["type"],
                _status_and_progress(job),
                job["operations"]["total"],
                _age(job["createdAt"]),
            )
            for job in jobs
        ),
        whole=("JOB",),
        lines=2,
    )


def delivery_in_words(job: Mapping[str, Any]) -> str:
    """State of the delivery of a job's results, and why it waits or has failed."""
    state, detail = in_words(job["deliveryState"]).lower(), job.get("deliveryDetail")
    return f"{state}: {detail}" if detail else state


def waits_in_words(job: Mapping[str, Any]) -> str:
    """What a job waits for, why, since when and until when; empty if it does not wait."""
    waiting = job.get("waitingFor")
    if not waiting:
        return ""
    code = waiting["code"]
    what, at_the_end = WAITS[WaitCode(code)] if code in WaitCode.__members__ else (code, "until")
    until = f"; {at_the_end} {waiting['until']}" if waiting.get("until") else ""
    return f"{what}, since {waiting['since']}: {waiting['detail']}{until}"


def _status_and_progress(job: Mapping[str, Any]) -> Text:
    known = read_status(job["status"])
    text = status_text(job["status"])
    if known is None or not known.terminal:
        text += Text(f" {job['progressPercentage']}%")
    waiting = job.get("waitingFor")
    return text + Text(f" {clean(waiting['code'])}") if waiting else text


def cancelled_in_words(job: Mapping[str, Any]) -> str:
    """When a job was cancelled and how many operations ended afterwards; empty if it was not cancelled."""
    if "cancelledAt" not in job:
        return ""
    count = job.get("endedAfterCancel", 0)
    return f"at {job['cancelledAt']}; {count} {'operation' if count == 1 else 'operations'} ended after it"


def _age(created: str) -> str:
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def job(job: Mapping[str, Any], causes: Sequence[str] = ()) -> None:
    """Print all fields of one job; ``causes``: a line for each reason of failed operations."""
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
        ("Effects", effects_in_words(job.get("preview"))),
        ("Reach", reach_in_words(job.get("reach"))),
        ("Waits for", waits_in_words(job)),
        ("Cancelled", cancelled_in_words(job)),
        *(("" if position else "Failures", cause) for position, cause in enumerate(causes)),
        ("Priority", job["priority"]),
        ("Retry of", job.get("retryOf")),
        ("Ignored", ignored_in_words(job)),
        ("Warnings", warnings_in_words(job)),
        ("Destination", job.get("destination")),
        ("Delivery", delivery_in_words(job)),
        ("Created", job["createdAt"]),
        ("Started", job.get("startedAt")),
        ("Ended", job.get("endedAt")),
        ("Results", job["resultsuri"]),
    ]
    entries(lines)
