# SPDX-License-Identifier: Apache-2.0
"""Progress of a long command on standard error: a bar on a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ran_datajobs.cli.formatting import console, paragraph

_STEPS: Final = 10


class Progress:
    """Counts what is done of ``total`` and shows it, as a context manager, unless ``total`` < ``quiet``."""

    def __init__(self, noun: str, total: int, quiet: int) -> None:
        self.done = 0
        self.total = total
        self._noun = noun
        self._quiet = total < quiet
        self._out = console(stderr=True)
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if self._out.is_terminal and not self._quiet:
            columns = (
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn(self._noun, markup=False),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=self._out)
            self._bar.add_task(self._noun, total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, count: int) -> None:
        """Count ``count`` more."""
        step = self._step()
        self.done += count
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], count)
        elif self._step() > step and not self._quiet:
            paragraph(f"{self.done} of {self.total} {self._noun}", self._out)

    def _step(self) -> int:
        return _STEPS * self.done // max(1, self.total)
