# SPDX-License-Identifier: Apache-2.0
"""Standard streams that may be closed, full, or without a reader."""

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
    """The output cannot be written: a full disk, a closed stream, a path that is not a folder."""


class PipeClosed(Exception):
    """The reader of standard output has closed it."""


def prepare() -> None:
    """Replace the standard streams: errors of standard output raise OutputFailed or PipeClosed.

    Errors of standard error are ignored. The descriptor of a closed stream is not reused for files opened
    later, in this process or in its children. A character that the encoding lacks is written as a JSON
    escape.
    """
    codecs.register_error(_ESCAPED, _escaped)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest descriptor
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
        """Write, and ignore errors, so that they do not change the exit status of the command."""
        try:
            written = super().write(data)
        except OSError:
            return len(data)
        return len(data) if written is None else written


class _Output(io.FileIO):
    def write(self, data: Any) -> int:
        """Write, waiting while a non-blocking pipe is full. After an error, later output is discarded, so
        that the final flush raises nothing."""
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
    _raised = False

    def writable(self) -> bool:
        """True: the error is raised by the write."""
        return True

    def write(self, data: Any) -> int:
        """Raise OutputFailed once; discard later writes, so that the final flush raises nothing."""
        if self._raised:
            return len(data)
        self._raised = True
        raise OutputFailed("the output cannot be written: standard output is closed")


def _silence(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
