# SPDX-License-Identifier: Apache-2.0
"""Fast path of validation: check many lines at once. Pure.

True means that every line passes all rules. False means unknown: the caller then validates the lines one by
one (:mod:`ran_datajobs.planning.validation`), which is exact and slow. A typical load job of 100,000
operations passes as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import AnyStr, Final, assert_never

from ran_datajobs.model import Op
from ran_datajobs.nrm import fdn
from ran_datajobs.planning.operations import WriteLine, ops_of
from ran_datajobs.planning.validation import MAX_DEPTH, MAX_FRAGMENT

_FRAGMENT: Final = r"/?#/attributes(?:/[A-Za-z0-9_.-]++)++"
_LONGEST_PATH: Final = min(fdn.MAX_LENGTH, MAX_FRAGMENT)
_SHALLOW: Final = 2 * MAX_DEPTH
"""Maximum size in bytes of a JSON value that cannot nest deeper than MAX_DEPTH."""

_objects: Final = re.compile(rf"(?:{fdn.PLAIN}\n)*+").fullmatch
_all_attributes: Final = re.compile(rf"(?:{fdn.PLAIN}(?:/?#/attributes)?+\n)*+").fullmatch
_attributes: Final = re.compile(rf"(?:{fdn.PLAIN}{_FRAGMENT}\n)*+").fullmatch
_objects_or_attributes: Final = re.compile(rf"(?:{fdn.PLAIN}(?:{_FRAGMENT})?+\n)*+").fullmatch
_values: Final = re.compile(rb"(?:\0[^\0]{1,%d}+)*+" % _SHALLOW).fullmatch
_object_values: Final = re.compile(rb"(?:\0\{[^\0]{1,%d}+)*+" % (_SHALLOW - 1)).fullmatch

_CREATING: Final = frozenset({Op.ADD, Op.MERGE})
_Matches = Callable[[AnyStr], re.Match[AnyStr] | None]
_path: Final = attrgetter("path")
_value: Final = attrgetter("value")


def all_on_fast_path(lines: Sequence[WriteLine]) -> bool:
    """True only when ``validate_operation`` finds no fault in any of ``lines``."""
    ops = ops_of(lines)
    if ops <= _CREATING and _good_paths(lines, _objects) and _good_values(lines, _object_values):
        return True
    return all(_all_pass(op, [line for line in lines if line.op is op]) for op in ops)


def _all_pass(op: Op, lines: list[WriteLine]) -> bool:
    """The same for lines that all have this ``op``."""
    match op:
        case Op.ADD:
            return _good_paths(lines, _objects) and _good_values(lines, _object_values)
        case Op.MERGE:
            return _good_paths(lines, _all_attributes) and _good_values(lines, _object_values)
        case Op.REPLACE | Op.TEST:
            return _good_paths(lines, _attributes) and _good_values(lines, _values)
        case Op.REMOVE:  # a value is ignored
            return _good_paths(lines, _objects_or_attributes)
        case Op.READ | Op.ACTION:
            return False
        case never:
            assert_never(never)


def _good_paths(lines: Sequence[WriteLine], all_match: _Matches[str]) -> bool:
    paths = list(map(_path, lines))
    text = "\n".join(paths) + "\n"
    return (
        text.count("\n") == len(paths)
        and max(map(len, paths)) <= _LONGEST_PATH
        and all_match(text) is not None
    )


def _good_values(lines: Sequence[WriteLine], all_match: _Matches[bytes]) -> bool:
    try:
        # A zero byte separates the values: no JSON text has one.
        text = b"\0".join((b"", *map(_value, lines)))
    except TypeError:  # a value is missing
        return False
    return all_match(text) is not None
