# SPDX-License-Identifier: Apache-2.0
"""Data node selectors: grammar, and the managed objects and attributes that they select (pure).

::

    text      := selector ((line break | " OR ") selector)*        a line that begins with && is a comment
    selector  := (("/" | "//") object)+ ("/attributes" ("/" attribute)*)?
    object    := (Class | "*") ('[id="' string '"]' | '[contains(id,"' string '")]')?   or "."
    attribute := (name | "*") ("[" number "]")?                                          or "."

This is Jex basic (3GPP TS 32.161 §7.4 and Annex A.2) with two additions of ONAP's NCMP: ``//``, which is
XPath's abbreviation for any number of levels, and ``contains``. Blanks are allowed around a selector, and one
after the comma of ``contains``, since ONAP writes it.

A path to an object selects this object with all its attributes, not the objects below it: those are selected
by ``/*`` (one level) or ``//.`` (the object and all levels). ``/attributes/name`` selects one attribute of
the object; an object that has none of the selected attributes is not selected. The items of an array are
numbered from 1, as in XPath; without a number each item is selected. What several selectors select is
selected once.

``contains(id,"x")`` selects the ids that begin with ``x``. XPath's function of this name also finds ``x``
later in the id; but NCMP looks for the data producers by the beginning of the id, and a result must not
depend on which other objects these producers have.

The grammar differs from Annex A.2 where that text cannot be meant as it stands: a string is one of RFC 8259
§7 with its escapes and may contain a slash, a name has no slash and no blank, and an index stands at
attributes only: managed objects have no order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any, Final

from msgspec import UNSET, Struct
from msgspec.structs import replace

from ran_datajobs.errors import InvalidFdn, InvalidSelector
from ran_datajobs.nrm import fdn
from ran_datajobs.nrm.names import child_key, common_ancestor
from ran_datajobs.nrm.select import Scoped, Selection
from ran_datajobs.nrm.tree import Attributes, Objects

MAX_TEXT: Final = 100_000
"""Maximum length of a text in characters."""

MAX_SELECTORS: Final = 1_000
"""Maximum number of different selectors in a text."""

MAX_STEPS: Final = fdn.MAX_RDNS
"""Maximum number of steps of a selector."""

ANY: Final = "*"
SELF: Final = "."
EVERYTHING: Final = Selection(0, None)
"""Selects all that :func:`scoped` yields: the attributes there are those that the selectors select."""

_ATTRIBUTES: Final = "attributes"
_NO_CLASSES: Final = frozenset({_ATTRIBUTES, "id", "objectClass", "objectInstance"})
_COMMENT: Final = "&&"
_BREAK: Final = re.compile(r"\r\n|[\n\x0b\x0c\r\x85\u2028\u2029]")
_STRING: Final = r'"((?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+)"'
_OR: Final = re.compile(rf"{_STRING}|(?P<or>(?<=\s)OR(?=\s))")
_OBJECT: Final = re.compile(rf"\*|\.(?=/|\Z)|{fdn.CLASS}")
_NAME: Final = re.compile(r"\*|\.(?=/|\Z)|[^\"\[\]=!<>/()|*\s]++")
_ID: Final = re.compile(rf"\[id={_STRING}\]")
_CONTAINS: Final = re.compile(rf"\[contains\(id, ?{_STRING}\)\]")
_INDEX: Final = re.compile(r"\[([0-9]{1,9})\]")

_BEFORE: Final = 40
_AFTER: Final = 20


class Step(Struct, frozen=True):
    """One step to managed objects.

    ``class_name``: ``*`` for any, ``.`` for the object itself. ``deep``: any number of levels down (``//``).
    ``value``: the id, ``prefix``: its beginning, both as in a key (:func:`ran_datajobs.nrm.fdn.key`).
    """

    class_name: str
    deep: bool = False
    value: str | None = None
    prefix: str | None = None

    def matches(self, class_name: str, value: str) -> bool:
        """Whether the step leads to a child with this RDN."""
        return (
            self.class_name in (class_name, ANY)
            and self.value in (value, None)
            and (self.prefix is None or value.startswith(self.prefix))
        )


class Part(Struct, frozen=True):
    """One step below ``attributes``: ``name`` (``*`` for any) and the number of an item, from 1."""

    name: str
    index: int | None = None


class Selector(Struct, frozen=True):
    """One selector. ``parts`` is empty if it selects whole objects."""

    text: str
    steps: tuple[Step, ...]
    parts: tuple[Part, ...] = ()

    @property
    def base(self) -> str:
        """Key of the object that the leading steps ``/Class[id="…"]`` name; empty without one."""
        return "/".join(f"{step.class_name}={step.value}" for step in takewhile(_is_rdn, self.steps))

    @property
    def shallowest(self) -> int:
        """Minimum number of RDNs of the objects that it selects."""
        return sum(step.class_name != SELF for step in self.steps)

    @property
    def deepest(self) -> int | None:
        """Maximum number of RDNs of the objects that it selects; None, without a limit, if it has a
        ``//``."""
        return None if any(step.deep for step in self.steps) else self.shallowest


def without_numbers(selector: Selector) -> Selector:
    """The selector with every item of an array in place of one: of a value that is reduced to those that it
    selects, it selects all."""
    return replace(selector, parts=tuple(Part(part.name) for part in selector.parts))


def _is_rdn(step: Step) -> bool:
    return not step.deep and step.value is not None and step.class_name != ANY


# --- parsing -----------------------------------------------------------------------------------------


def parse(text: str) -> tuple[Selector, ...]:
    """The different selectors of a text, in order. Raises InvalidSelector, which marks the place."""
    if len(text) > MAX_TEXT:
        raise InvalidSelector(f"the text has {len(text)} characters, at most {MAX_TEXT} are read")
    found: dict[str, Selector] = {}
    for start, one in _lines(text):
        if one in found:
            continue
        if len(found) == MAX_SELECTORS:
            raise InvalidSelector(f"the text has more than {MAX_SELECTORS} selectors, which is the most")
        found[one] = _Parser(start, one).selector()
    if not found:
        raise InvalidSelector("the text has no selector, only blank lines and comments")
    return tuple(found.values())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The selectors of a text, without the blanks around them, and where each begins.

    NCMP splits at every `` OR ``. Here one in a string belongs to the id, and one in a comment to the
    comment.
    """
    start = 0
    for end in [*(found.span() for found in _BREAK.finditer(text)), (len(text), len(text))]:
        line = text[start : end[0]]
        if not line.lstrip().startswith(_COMMENT):
            begin = 0
            for found in _OR.finditer(line):
                if found["or"] is not None:
                    yield from _stripped(start + begin, line[begin : found.start()])
                    begin = found.end()
            yield from _stripped(start + begin, line[begin:])
        start = end[1]


def _stripped(start: int, text: str) -> Iterator[tuple[int, str]]:
    stripped = text.strip()
    if stripped and not stripped.startswith(_COMMENT):
        yield start + len(text) - len(text.lstrip()), stripped


class _Parser:
    """Parses one selector, which begins at ``start`` of its text."""

    def __init__(self, start: int, selector: str) -> None:
        self._start = start
        self._selector = selector
        self._at = 0

    def selector(self) -> Selector:
        steps: list[Step] = []
        if not self._selector.startswith("/"):
            raise self._fault("a selector begins with '/'")
        while self._more():
            deep = self._slashes()
            if self._takes_attributes():
                if deep:
                    steps.append(Step(SELF, deep=True))
                parts = self._parts()
                break
            steps.append(self._object(deep))
            if len(steps) > MAX_STEPS:
                raise self._fault(f"a selector has at most {MAX_STEPS} steps")
        else:
            parts = ()
        if not any(step.deep or step.class_name != SELF for step in steps):
            raise self._fault("no step names a managed object")
        found = Selector(self._selector, tuple(steps), parts)
        if len(found.base) > fdn.MAX_LENGTH:
            raise self._fault(f"the leading steps name an FDN of over {fdn.MAX_LENGTH} characters")
        return found

    def _more(self) -> bool:
        if self._at == len(self._selector):
            return False
        if self._selector[self._at] == "/":
            return True
        if self._selector[self._at] == "[":
            raise self._fault("a step has at most one condition")
        raise self._fault("a step begins with '/'")

    def _slashes(self) -> bool:
        """Skip the slashes in front of a step. True for two of them."""
        deep = self._selector.startswith("//", self._at)
        self._at += 2 if deep else 1
        if self._at == len(self._selector) or self._selector[self._at] == "/":
            raise self._fault("a step is empty")
        return deep

    def _takes_attributes(self) -> bool:
        after = self._at + len(_ATTRIBUTES)
        is_name = self._selector.startswith(_ATTRIBUTES, self._at)
        if is_name and self._selector[after : after + 1] in ("", "/"):
            self._at = after
            return True
        return False

    def _object(self, deep: bool) -> Step:
        name = self._name(_OBJECT)
        if name in _NO_CLASSES:
            raise self._fault(f"{name} is no class: objects are selected, or their attributes/name")
        if self._selector[self._at : self._at + 1] != "[":
            return Step(name, deep)
        if name != SELF and (found := _ID.match(self._selector, self._at)):
            step = Step(name, deep, value=self._id(name, found))
        elif name != SELF and (found := _CONTAINS.match(self._selector, self._at)):
            step = Step(name, deep, prefix=fdn.value_in_key(_string(found)))
        elif _INDEX.match(self._selector, self._at):
            raise self._fault("managed objects have no order: an index is for attributes")
        else:
            raise self._fault(
                'the condition of an object is [id="x"] or [contains(id,"x")], without blanks; '
                "other conditions (Jex advanced) are not offered"
            )
        self._at = found.end()
        return step

    def _id(self, name: str, found: re.Match[str]) -> str:
        try:
            key = child_key("", "Any" if name == ANY else name, _string(found))
        except InvalidFdn as error:
            raise self._fault(str(error)) from None
        return key.partition("=")[2]

    def _parts(self) -> tuple[Part, ...]:
        """The rest of the selector: steps below ``attributes``."""
        parts: list[Part] = []
        while self._more():
            if self._slashes():
                raise self._fault("'//' is for managed objects, not for attributes")
            name = self._name(_NAME)
            found = None if name == SELF else _INDEX.match(self._selector, self._at)
            if found is not None:
                self._at = found.end()
            elif self._selector[self._at : self._at + 1] == "[":
                raise self._fault("the condition of an attribute is the number of an item, [1]")
            if name != SELF:
                parts.append(Part(name, int(found[1]) if found else None))
            if len(parts) > MAX_STEPS:
                raise self._fault(f"a selector has at most {MAX_STEPS} steps below attributes")
        return tuple(parts)

    def _name(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._selector, self._at)
        if found is None:
            raise self._fault("a name, '*' or '.' is needed")
        self._at = found.end()
        return found[0]

    def _fault(self, detail: str) -> InvalidSelector:
        position = self._start + self._at
        before, after = self._selector[: self._at], self._selector[self._at :]
        if len(before) > _BEFORE:
            before = "…" + before[-_BEFORE:]
        if len(after) > _AFTER:
            after = after[:_AFTER] + "…"
        marked = f"{before} <-- here --> {after}".strip()
        return InvalidSelector(f"{detail}, at position {position}: {marked}")


def _string(found: re.Match[str]) -> str:
    text: str = json.loads(f'"{found[1]}"') if "\\" in found[1] else found[1]
    return text


# --- evaluation --------------------------------------------------------------------------------------

_Alive = tuple[tuple[int, int], ...]
"""Of each selector that can still select an object at or below a place: its number, and the set of numbers of
steps that lead to the place, as bits."""


class Selectors:
    """Several selectors, whose selections are joined."""

    def __init__(self, selectors: Iterable[Selector]) -> None:
        self.selectors = tuple(selectors)
        self.base = common_ancestor([selector.base for selector in self.selectors])
        """Key of the deepest object that is, or contains, every object that can be selected."""
        self._steps = [selector.steps for selector in self.selectors]
        self._parts = [selector.parts for selector in self.selectors]

    @property
    def names(self) -> frozenset[str] | None:
        """Names of the attributes that are selected of any object; None: all."""
        first = {parts[0].name if parts else ANY for parts in self._parts}
        return None if ANY in first else frozenset(first)

    def at_root(self) -> _Alive:
        """The selectors at the root of the tree, above all objects."""
        return tuple((number, self._closed(number, 1)) for number in range(len(self._steps)))

    def below(self, alive: _Alive, rdn: str) -> _Alive:
        """The selectors at the child ``rdn`` of a place; empty if they select nothing there or below."""
        name, _, value = rdn.partition("=")
        found: list[tuple[int, int]] = []
        for number, places in alive:
            steps, reached, place = self._steps[number], 0, 0
            while places >> place and place < len(steps):
                if places >> place & 1:
                    step = steps[place]
                    if step.deep:
                        reached |= 1 << place
                    if step.class_name != SELF and step.matches(name, value):
                        reached |= 1 << place + 1
                place += 1
            if reached:
                found.append((number, self._closed(number, reached)))
        return tuple(found)

    def picked(self, alive: _Alive, attributes: Attributes) -> Attributes | None:
        """The selected attributes of the object at a place; None if it is not selected."""
        parts = [self._parts[number] for number, places in alive if places >> len(self._steps[number]) & 1]
        if not parts:
            return None
        if not all(parts):
            return attributes
        picked = _picked(attributes, parts)
        return None if picked is UNSET else picked

    def exact_children(self, alive: _Alive) -> list[str] | None:
        """The RDNs of the children to which the next steps lead, if all of these name one; in order of
        class."""
        rdns: set[str] = set()
        for number, places in alive:
            for place, step in enumerate(self._steps[number]):
                if places >> place & 1 and (step.deep or step.class_name != SELF):
                    if not _is_rdn(step):
                        return None
                    rdns.add(f"{step.class_name}={step.value}")
        return sorted(rdns)

    def _closed(self, number: int, places: int) -> int:
        """``places`` and those that further steps ``.`` reach from them."""
        for place, step in enumerate(self._steps[number]):
            if step.class_name == SELF and places >> place & 1:
                places |= 1 << place + 1
        return places


class Matcher:
    """Selects objects of which only keys and attributes are known; faster if they come in pre-order."""

    def __init__(self, selectors: Selectors) -> None:
        self._selectors = selectors
        self._way: list[tuple[str, _Alive]] = [("", selectors.at_root())]

    def picked(self, key: str, attributes: Attributes) -> Attributes | None:
        """The selected attributes of an object; None if it is not selected."""
        return self._selectors.picked(self._alive(key), attributes)

    def _alive(self, key: str) -> _Alive:
        way = self._way
        while way[-1][0] and way[-1][0] != key and not key.startswith(way[-1][0] + "/"):
            way.pop()
        above, alive = way[-1]
        rest = key[len(above) :].removeprefix("/")
        for rdn in rest.split("/") if rest else ():
            above = f"{above}/{rdn}" if above else rdn
            alive = self._selectors.below(alive, rdn)
            way.append((above, alive))
        return alive


def scoped(objects: Objects, selectors: Selectors, base: str = "") -> Iterator[Scoped]:
    """Yield the objects that were looked at, in pre-order, with their selected attributes; None if an object
    is not selected, is not at or below ``base``, or does not exist. Subtrees without a selected object are
    left out.

    Level: the number of RDNs. To be selected with :data:`EVERYTHING`.
    """
    root = selectors.at_root()
    pending = [(root, _children(objects, selectors, "", root))]
    while pending:
        above, children = pending[-1]
        key = next(children, None)
        if key is None:
            pending.pop()
            continue
        alive = selectors.below(above, key.rpartition("/")[2])
        is_within = not base or f"{key}/".startswith(f"{base}/")
        is_above = f"{base}/".startswith(f"{key}/")
        attributes = objects.attributes(key) if alive and (is_within or is_above) else None
        picked = selectors.picked(alive, attributes) if attributes is not None and is_within else None
        yield key, len(pending), picked
        if attributes is not None:
            pending.append((alive, _children(objects, selectors, key, alive)))


def _children(objects: Objects, selectors: Selectors, key: str, alive: _Alive) -> Iterator[str]:
    """Keys of the children that may be selected, or contain objects that may be."""
    exact = selectors.exact_children(alive)
    if exact is None:
        return iter(objects.children(key))
    return (f"{key}/{rdn}" if key else rdn for rdn in exact)


def _picked(value: Any, selected: list[tuple[Part, ...]]) -> Any:
    """Reduce a value to what the steps below it select, in its order; UNSET if that is nothing."""
    if not all(selected):
        return value
    if type(value) is not dict:
        return UNSET
    members = {
        name: picked
        for name, each in value.items()
        if (here := [parts for parts in selected if parts[0].name in (name, ANY)])
        and (picked := _picked_items(each, here)) is not UNSET
    }
    return members or UNSET


def _picked_items(value: Any, selected: list[tuple[Part, ...]]) -> Any:
    """Reduce the value of a member, to which the first of the steps leads. A single value is item 1."""
    if type(value) is not list:
        return _picked(value, [parts[1:] for parts in selected if parts[0].index in (None, 1)])
    if any(len(parts) == 1 and parts[0].index is None for parts in selected):
        return value
    items = [
        picked
        for number, item in enumerate(value, 1)
        if (picked := _picked(item, [parts[1:] for parts in selected if parts[0].index in (None, number)]))
        is not UNSET
    ]
    return items or UNSET
