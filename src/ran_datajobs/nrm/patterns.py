# SPDX-License-Identifier: Apache-2.0
"""Patterns of YANG strings as Python regular expressions that no value can keep busy (pure).

Python's engine backtracks: the time that it needs for ``(a+)+b`` doubles with each character of the value.
Modules and values come from outside. A pattern is used only if the number of ways to read a value of up to
:data:`LONGEST` characters is bounded; longer values are valid for every pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

LONGEST: Final = 128
"""Length in characters up to which values are compared with a pattern."""

MOST_WAYS: Final = 4e6
"""Maximum number of ways to read a value with a pattern that is used."""

MAX_TEXT: Final = 4000
"""Maximum length of a Python regular expression that is used; that of a Unicode class has thousands."""

_BEGIN, _END = "^(?:", r")$(?!\n\Z)"
"""Around each regular expression that elementpath translates."""

_ANCHOR: Final = re.compile(r"((?<!\\)(?:\\\\)*\\[$^])(?![*+?{])")
"""A literal ``^`` or ``$``. In XML Schema these are no anchors, but modules of 3GPP use them as such: a value
is valid with and without them."""

_LONGER: Final = f"(?s:.{{{LONGEST + 1},}})"


def ways(pattern: str) -> float:
    """Upper bound of the number of ways to read a value with a pattern of XML Schema; infinite if it has no
    useful bound. The pattern is well-formed."""
    return _Reader(pattern).alternatives()


def joined(patterns: Iterable[tuple[str, str, bool]]) -> str:
    """One Python regular expression for a value that matches all patterns; empty if none can be used.

    ``patterns``: the text in XML Schema, the same as a Python regular expression for the whole value, and
    whether a value must not match it (``invert-match``).
    """
    used = [
        (text, python if inverted else _ANCHOR.sub(r"\1?", python), inverted)
        for text, python, inverted in patterns
        if len(python) <= MAX_TEXT and ways(text) <= MOST_WAYS
    ]
    if not used:
        return ""
    if len(used) == 1 and not used[0][2]:
        text, python, _ = used[0]
        plain = python.removeprefix(_BEGIN).removesuffix(_END)  # faults show it
        return plain if _is_bounded(text) else f"{_LONGER}|(?:{plain})"
    conditions = "".join(rf"(?{'!' if inverted else '='}(?:{python})\Z)" for _, python, inverted in used)
    return f"{_LONGER}|(?:{conditions}(?s:.*))"


def _is_bounded(pattern: str) -> bool:
    """Whether only values of a limited length match, so that longer ones take no time."""
    reader = _Reader(pattern)
    reader.alternatives()
    return reader.bounded


class _Reader:
    """Reads a pattern of XML Schema from left to right. ``bounded``: all repetitions so far are."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.bounded = True

    def alternatives(self) -> float:
        total, branch = 0.0, 1.0
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == ")":
                break
            self._at += 1
            if character == "|":
                total, branch = total + branch, 1.0
            else:
                branch *= self._quantified(self._atom(character))
        return total + branch

    def _atom(self, character: str) -> float:
        if character == "(":
            found = self.alternatives()
            self._at += 1
            return found
        if character == "\\":
            escaped = self._text[self._at : self._at + 1]
            end = self._text.find("}", self._at) if escaped in ("p", "P") else -1  # \p{Lu}
            self._at = end + 1 if end >= 0 else self._at + 1
        elif character == "[":
            self._skip_class()
        return 1.0

    def _skip_class(self) -> None:
        depth = 1  # [a-z-[aeiou]]
        while depth and self._at < len(self._text):
            character = self._text[self._at]
            self._at += 2 if character == "\\" else 1
            depth += (character == "[") - (character == "]")

    def _quantified(self, atom: float) -> float:
        quantifier = self._text[self._at : self._at + 1]
        if quantifier == "?":
            self._at += 1
            return 1.0 + atom
        if quantifier in ("*", "+"):
            self._at += 1
            least, most = 0, None
        elif quantifier == "{":
            end = self._text.find("}", self._at)
            low, comma, high = self._text[self._at + 1 : end].partition(",")
            self._at = end + 1
            least = int(low)
            most = (int(high) if high.strip() else None) if comma else least
        else:
            return atom
        if most is None or most > LONGEST:
            self.bounded = False
            return float("inf") if atom > 1.0 else float(LONGEST)
        try:
            return (most - least + 1) * atom**most
        except OverflowError:
            return float("inf")
