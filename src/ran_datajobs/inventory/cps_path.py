# SPDX-License-Identifier: Apache-2.0
"""Reads the CPS paths with which CM handles are searched. Pure.

A CPS path (ONAP CPS, "CPS Path") names nodes of ONAP's inventory model, ``dmi-registry``, whose list
``cm-handles`` has the container ``state`` and the list ``public-properties``. A search by a path finds the
handles that such a node belongs to. Supported are the paths of :data:`FORMS`: conditions on leaves with ``=``
and ``contains()``, joined by ``and``; ``or`` between values of one leaf.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

MAX_PATH: Final = 8_192
"""Maximum length of a path in characters."""

FORMS: Final = (
    "//state[@cm-handle-state='READY']",
    "//public-properties[@name='NAME' and @value='VALUE']",
    "//cm-handles[@alternate-id='FDN']",
    "//cm-handles[contains(@alternate-id,'TEXT')]",
)
"""Examples of every supported form, for the text of a refusal."""

_IN_BRACKETS: Final = r"""(?:[^\]'"]|'[^']*+'|"[^"]*+")*+"""
_STEP: Final = re.compile(rf"(//?)([a-z-]+)((?:\[{_IN_BRACKETS}\])*+)")
_BRACKETS: Final = re.compile(rf"\[({_IN_BRACKETS})\]")
_TEXT: Final = r"""('(?:[^']|'')*+'|"(?:[^"]|"")*+")"""
_TEST: Final = re.compile(
    rf"\s*(?:@([a-z-]+)\s*=\s*(?:{_TEXT}|(-?[0-9]+))|contains\(\s*@([a-z-]+)\s*,\s*{_TEXT}\s*\))\s*"
)
_WORD: Final = re.compile(r"(and|or)\b")
_ANCESTOR: Final = re.compile(r"/ancestor::cm-handles$")


class Test(Struct, frozen=True):
    """One condition on a leaf of a node: its value is ``value``, or contains it."""

    leaf: str
    value: str
    contains: bool = False


Alternatives = list[list[Test]]
"""Conditions in disjunctive form: all tests of one of the lists must hold."""


class Node(Struct, frozen=True):
    """A node of a path: its name, and the conditions in each of its brackets."""

    name: str
    brackets: list[Alternatives]


class UnsupportedPath(ValueError):
    """The path has a form that is not supported, or is no CPS path; the text says which are supported."""


def nodes_of(path: str) -> list[Node]:
    """The nodes of a path from the outside in, without ``dmi-registry`` and without the ancestor axis.

    Raises UnsupportedPath.
    """
    text = _ANCESTOR.sub("", path.strip())
    if len(path) > MAX_PATH:
        raise UnsupportedPath(f"the path has {len(path)} characters, at most {MAX_PATH} are read")
    nodes: list[Node] = []
    at = 0
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None or (step[1] == "//") != (at == 0 and not text.startswith("/dmi-registry/")):
            raise refusal(path)
        if at or step[2] != "dmi-registry":
            nodes.append(Node(step[2], [_alternatives(path, each) for each in _BRACKETS.findall(step[3])]))
        elif step[3]:
            raise refusal(path)
        at = step.end()
    if not nodes:
        raise refusal(path)
    return nodes


def refusal(path: str) -> UnsupportedPath:
    """The refusal of a path, with the supported forms."""
    shown = path if len(path) <= 200 else path[:199] + "…"
    return UnsupportedPath(
        f"{shown!r} is not a CPS path that can be searched here: there are {', '.join(FORMS)}; conditions on "
        "@id, @module-set-tag and @data-producer-identifier of cm-handles likewise, joined by 'and', or by "
        "'or' between values of one leaf"
    )


def _alternatives(path: str, text: str) -> Alternatives:
    """The conditions between two brackets; ``and`` binds tighter than ``or``."""
    found: Alternatives = [[]]
    at = 0
    while True:
        test = _TEST.match(text, at)
        if test is None:
            raise refusal(path)
        leaf, quoted, number, contained_in, part = test.groups()
        found[-1].append(
            Test(contained_in, _unquoted(part), contains=True)
            if contained_in
            else Test(leaf, number or _unquoted(quoted))
        )
        at = test.end()
        if at == len(text):
            return found
        word = _WORD.match(text, at)
        if word is None:
            raise refusal(path)
        if word[1] == "or":
            found.append([])
        at = word.end()


def _unquoted(text: str) -> str:
    """A quoted text without its quotes; one in it stands twice."""
    return text[1:-1].replace(text[0] * 2, text[0])


def simplified(alternatives: Alternatives, constants: dict[str, str]) -> Alternatives | None:
    """``alternatives`` without tests of leaves in ``constants``, whose values are those of every handle.

    An empty list in the result holds always; ``None``: no alternative can hold.
    """
    left = [
        [test for test in tests if test.leaf not in constants]
        for tests in alternatives
        if all(_holds(test, constants[test.leaf]) for test in tests if test.leaf in constants)
    ]
    return left or None


def _holds(test: Test, value: str) -> bool:
    return test.value in value if test.contains else test.value == value


def values_of_one_leaf(alternatives: Iterable[list[Test]]) -> tuple[str, frozenset[str]] | None:
    """The leaf and the values of alternatives that each compare the same leaf with one value, else None."""
    tests = [tests[0] if len(tests) == 1 and not tests[0].contains else None for tests in alternatives]
    leaves = {test.leaf for test in tests if test is not None}
    if len(leaves) != 1 or None in tests:
        return None
    return leaves.pop(), frozenset(test.value for test in tests if test is not None)
