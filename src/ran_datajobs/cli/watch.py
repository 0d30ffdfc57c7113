# SPDX-License-Identifier: Apache-2.0
"""Follow jobs: progress bars on a terminal, plain lines elsewhere, or events as JSON lines."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from ran_datajobs.api import paths
from ran_datajobs.cli.api import Api
from ran_datajobs.cli.formatting import clean, console, counts_in_words, in_words, json_line, paragraph

_STEP = 25  # per cent between two plain lines


class Bars:
    """Progress of jobs, as a context manager. Without a terminal, one line per quarter of progress."""

    def __init__(self, out: Console | None = None) -> None:
        self._out = out or console()
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, tuple[str, int]] = {}

    def __enter__(self) -> Self:
        if self._out.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}", markup=False),
                TimeElapsedColumn(),
                console=self._out,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, job_id: str, label: str, data: dict[str, Any]) -> None:
        """Show the data of an event: a job, or its progress."""
        counts = data.get("operations")
        if not isinstance(counts, dict) or "progressPercentage" not in data:
            return
        total, done = int(counts["total"]), int(counts["total"]) - int(counts["pending"])
        status = in_words(data.get("status"))
        if self._live is not None:
            task = self._tasks.get(job_id)
            if task is None:
                task = self._tasks[job_id] = self._live.add_task(clean(label), total=total, status=status)
            self._live.update(task, total=total, completed=done, status=status)
            return
        step = int(data["progressPercentage"]) // _STEP
        if self._said.get(job_id) != (status, step):
            self._said[job_id] = (status, step)
            done_so_far = f"{status}, {data['progressPercentage']}%, {counts_in_words(counts)}"
            paragraph(f"{clean(label)}: {done_so_far}", self._out, indent=2)


def follow(api: Api, job_id: str, *, label: str, bars: Bars | None) -> dict[str, Any]:
    """Follow a job to its end and return it. Shows ``bars``; without them, each event is a JSON line."""
    ended: dict[str, Any] = {}
    for name, data in api.events(paths.fill(paths.EVENTS, job_id=job_id)):
        if bars is None:
            json_line({"event": name} | data)
        elif name in ("status", "progress"):
            bars.show(job_id, label, data)
        if name == "status":
            ended = data
    return ended
