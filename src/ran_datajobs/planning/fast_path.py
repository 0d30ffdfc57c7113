# SPDX-License-Identifier: Apache-2.0
"""Fast path for large requests: cut a body into pieces without decoding it, and validate many lines at once.

Pure. Neither function refuses anything. Where the answer is "unknown", the caller takes the exact and slow
way: it decodes the whole body, or validates the lines one by one. A typical load job of 100,000 operations
passes as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import UNSET

from ran_datajobs.model import Op
from ran_datajobs.nrm import fdn
from ran_datajobs.planning.validation import MAX_DEPTH, MAX_FRAGMENT
from ran_datajobs.plugins.wire import SeedOperation

PIECE: Final = 256 * 1024
"""Approximate number of bytes decoded at once: a few milliseconds of work, and fits a CPU cache."""

# The usual form of a body around its operations: plain fields, before and after. Both patterns match only
# well-formed JSON, so a body is well formed if they match and the list between them is well formed.
_BLANKS: Final = rb"[ \t\n\r]*+"
_TEXT: Final = rb'"[^"\\\x00-\x1f]*+"'
_PLAIN_VALUE: Final = rb"(?:%b|(?:0|[1-9][0-9]{0,17}+)(?![0-9.eE])|null)" % _TEXT
_PLAIN_FIELD: Final = _BLANKS.join((_TEXT, rb":", _PLAIN_VALUE, b""))
_HEAD: Final = re.compile(
    rb'%b\{%b(?:%b,%b)*?"data"%b:%b\[' % (_BLANKS, _BLANKS, _PLAIN_FIELD, _BLANKS, _BLANKS, _BLANKS)
)
_TAIL: Final = re.compile(rb"\]%b(?:,%b%b)*+\}%b" % (_BLANKS, _BLANKS, _PLAIN_FIELD, _BLANKS))
_LONGEST_END: Final = 4096
# The boundary between two operations, if the second one begins with "op", or with "path" as NCMP's examples.
_BETWEEN: Final = re.compile(rb'\}[ \t\n\r]*+,(?=[ \t\n\r]*+\{[ \t\n\r]*+"(?:op|path)")')


def in_pieces(body: bytes) -> tuple[bytes, Iterator[bytes]] | None:
    """Cut a body of the usual form into its envelope, with an empty list for ``data``, and its operations:
    JSON lists of about a thousand, so that decoding one does not hold the GIL for long. None for every other
    body.

    ``body`` is one JSON object in UTF-8 exactly if every piece is a JSON list.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return None
    head = _HEAD.match(body, 0, _LONGEST_END)
    end = body.rfind(b"]", -_LONGEST_END)
    if head is None or end < head.end() or _TAIL.fullmatch(body, end) is None:
        return None
    return body[: head.end()] + body[end:], _pieces(body, head.end(), end)


def _pieces(body: bytes, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        # A match inside a value leaves a bracket or a quote open before it: the piece does not decode, so
        # a false boundary never produces an operation.
        between = _BETWEEN.search(body, start + PIECE, end)
        stop, after = (between.start() + 1, between.end()) if between else (end, end)
        yield b"[%b]" % body[start:stop]
        start = after


_FRAGMENT: Final = r"/?#/attributes(?:/[A-Za-z0-9_.-]++)++"
_LONGEST_PATH: Final = min(fdn.MAX_LENGTH, MAX_FRAGMENT)
_SHALLOW: Final = 2 * MAX_DEPTH
"""Maximum size in bytes of a JSON value that cannot nest deeper than MAX_DEPTH."""

_VALUES: Final = re.compile(rb"(?:\0[^\0]{1,%d}+)*+" % _SHALLOW).fullmatch
_OBJECTS: Final = re.compile(rb"(?:\0\{[^\0]{1,%d}+)*+" % (_SHALLOW - 1)).fullmatch
_USUAL: Final = {
    op: (re.compile(rf"(?:{fdn.PLAIN}{fragment}\n)*+").fullmatch, usual_values)
    for op, fragment, usual_values in (
        (Op.ADD, "", _OBJECTS),
        (Op.MERGE, "(?:/?#/attributes)?+", _OBJECTS),
        (Op.REPLACE, _FRAGMENT, _VALUES),
        (Op.TEST, _FRAGMENT, _VALUES),
        (Op.REMOVE, f"(?:{_FRAGMENT})?+", None),  # a value is ignored
    )
}


def all_usual(lines: Sequence[SeedOperation]) -> bool:
    """True only when :func:`~ran_datajobs.planning.validation.validate_operation` finds no fault in any of
    ``lines``."""
    return all(_all_of(op, [line for line in lines if line.op is op]) for op in {line.op for line in lines})


def _all_of(op: Op, lines: Sequence[SeedOperation]) -> bool:
    if op not in _USUAL or any(line.data_node_selector is not None for line in lines):
        return False
    usual_paths, usual_values = _USUAL[op]
    paths = [line.path for line in lines]
    text = "\n".join(paths) + "\n"
    if text.count("\n") > len(paths) or max(map(len, paths)) > _LONGEST_PATH or not usual_paths(text):
        return False
    if usual_values is None:
        return True
    values = [line.value for line in lines]
    # A zero byte separates the values: no JSON text has one.
    return UNSET not in values and usual_values(b"\0".join((b"", *values))) is not None  # type: ignore[arg-type]
