# SPDX-License-Identifier: Apache-2.0
"""Standard streams that may be closed, full, or read by nobody any more."""

from __future__ import annotations

import codecs
import io
import json
import os
import select
import sys
from pathlib import Path
from typing import Any, Final

_ESCAPED: Final = "datajobs-escaped"


class OutputFailed(Exception):
    """The output cannot be written: a full disk, a closed stream, a folder that is none."""


class PipeClosed(Exception):
    """The reader of standard output has closed it."""


def prepare() -> None:
    """Let what goes wrong with standard output be told by :class:`OutputFailed` or :class:`PipeClosed`.

    What goes wrong with standard error is not told: there is nobody to tell. No file that is opened later
    gets the number of a closed stream, here and in the processes that are started. A character that the
    encoding lacks is written as JSON escapes it.
    """
    codecs.register_error(_ESCAPED, _escaped)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number: this one
    errors = sys.stderr
    if errors is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    else:
        sys.stderr = _text(_Errors(errors.fileno(), "w", closefd=False), errors.encoding, by_line=True)
    output = sys.stdout
    if output is None:
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Closed()), encoding="utf-8", write_through=True)
    else:
        by_line = bool(output.line_buffering)
        sys.stdout = _text(_Output(output.fileno(), "w", closefd=False), output.encoding, by_line=by_line)


def _text(raw: io.FileIO, encoding: str, *, by_line: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=_ESCAPED, line_buffering=by_line
    )


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


class _Errors(io.FileIO):
    def write(self, data: Any) -> int:
        """Write, or lose what cannot be written: the status of the command stays what it is."""
        try:
            written = super().write(data)
        except OSError:
            return len(data)
        return len(data) if written is None else written


class _Output(io.FileIO):
    def write(self, data: Any) -> int:
        """Write, and wait while a pipe that does not block is full; after an error nothing more is tried, so
        that the end of the process is quiet."""
        try:
            while (written := super().write(data)) is None:
                select.select([], [self.fileno()], [])
            return written
        except BrokenPipeError:
            _silence(self.fileno())
            raise PipeClosed from None
        except OSError as error:
            _silence(self.fileno())
            raise OutputFailed(f"the output cannot be written: {error.strerror}") from error


class _Closed(io.RawIOBase):
    _told = False

    def writable(self) -> bool:
        """True: a write raises, so that it is not lost in silence."""
        return True

    def write(self, data: Any) -> int:
        """Tell once that nothing can be written, so that the end of the process is quiet."""
        if self._told:
            return len(data)
        self._told = True
        raise OutputFailed("the output cannot be written: standard output is closed")


def _silence(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
