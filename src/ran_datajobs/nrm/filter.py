# SPDX-License-Identifier: Apache-2.0
"""Filters of reads: ``Class/attributes/path op literal``, joined by ``&&`` and ``||`` (pure).

::

    filter := term (("&&" | "||") term)*      && binds tighter, parentheses are allowed
    term   := Class/attributes/path op literal
    op     := == != < <= > >=  or  in (a, b)

Literals are JSON, or bare words; a literal that begins with ``[`` or ``{`` is JSON. Numbers compare as
numbers, all else as strings, arrays and objects by their JSON text without blanks and with sorted members. A
missing attribute makes every comparison false. All terms of one ``&&`` group name one class; an object of
that class is selected if it satisfies all of them. Source: ONAP CPS-NCMP data jobs; the grammar is this
project's.
"""

from __future__ import annotations

import itertools
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import Struct

from ran_datajobs.errors import InvalidFilter
from ran_datajobs.nrm.fdn import CLASS
from ran_datajobs.nrm.json_patch import MAX_DEPTH, index_of, too_deep

MAX_FILTER: Final = 10_000
"""Maximum length of a filter in characters."""

MAX_NESTING: Final = 50
MAX_GROUPS: Final = 1_000
"""Maximum ``&&`` groups after the parentheses are multiplied out."""

_MOST_SHOWN: Final = 40
_TOO_MANY: Final = (
    f"the filter has more than {MAX_GROUPS} alternatives once its parentheses are multiplied out, which is "
    "the most: ask in several operations"
)

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<join>&&|\|\|)
    | (?P<op>==|!=|<=|>=|<|>)
    | (?P<mark>[(),])
    | (?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")
    | (?P<json>[\[{])
    | (?P<word>[^\s&|=!<>(),"]+)
    )""",
    re.VERBOSE,
)
_PATH: Final = re.compile(rf"({CLASS})/attributes((?:/[^/]+)+)")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


_JSON: Final = json.JSONDecoder(parse_constant=_no_constant)
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Term(Struct, frozen=True):
    """One comparison. ``path``: tokens below the attributes; ``literals``: those of ``in``, else one."""

    class_name: str
    path: tuple[str, ...]
    op: str
    literals: tuple[Any, ...]

    def holds(self, attributes: Mapping[str, Any]) -> bool:
        """Whether the attribute exists and the comparison is true."""
        value: Any = attributes
        for step in self.path:
            if isinstance(value, Mapping) and step in value:
                value = value[step]
            elif isinstance(value, list) and (index := index_of(step)) is not None and index < len(value):
                value = value[index]
            else:
                return False
        if self.op == "in":
            return any(_compare("==", value, literal) for literal in self.literals)
        return _compare(self.op, value, self.literals[0])


class Filter(Struct, frozen=True):
    """Groups of terms: an object is selected if all terms of one group of its class hold."""

    groups: tuple[tuple[Term, ...], ...]

    @property
    def classes(self) -> frozenset[str]:
        """Classes whose objects can be selected."""
        return frozenset(group[0].class_name for group in self.groups)

    @property
    def attributes(self) -> frozenset[str]:
        """Attributes that the filter uses, of any of its classes."""
        return frozenset(term.path[0] for group in self.groups for term in group)

    def selects(self, class_name: str, attributes: Mapping[str, Any]) -> bool:
        """Whether an object of ``class_name`` with these attributes is selected."""
        return any(
            group[0].class_name == class_name and all(term.holds(attributes) for term in group)
            for group in self.groups
        )


def parse(text: str) -> Filter:
    """Parse a filter. Raises InvalidFilter with the position of the fault."""
    if len(text) > MAX_FILTER:
        raise InvalidFilter(
            f"the filter has {len(text)} characters, at most {MAX_FILTER} are read", MAX_FILTER
        )
    parser = _Parser(text, _tokens(text))
    groups = parser.alternatives(0)
    parser.expect_end()
    return _checked(groups)


def all_of(filters: Sequence[Filter]) -> Filter:
    """The conjunction of ``filters``.

    Raises InvalidFilter when the result has too many groups, or when the filters name different classes.
    """
    groups: list[_Group] = [[]]
    for each in filters:
        groups = _product(groups, [[_Placed(term, 0) for term in group] for group in each.groups], 0)
    one_class = [group for group in groups if len({placed.term.class_name for placed in group}) <= 1]
    if not one_class:
        classes = ", ".join(sorted({name for each in filters for name in each.classes}))
        raise InvalidFilter(f"all filters of an operation must name one class; they name {classes}", 0)
    return Filter(tuple(tuple(placed.term for placed in group) for group in one_class if group))


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class _Placed(NamedTuple):
    term: Term
    position: int


_Group = list[_Placed]


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise InvalidFilter(
                f"{text[at]!r} begins no attribute, operator or literal: write other texts in double quotes",
                at,
            )
        start = match.start(match.lastgroup)
        at = _end_of_json(text, start) if match.lastgroup == "json" else match.end()
        found.append(_Token(match.lastgroup, text[start:at], start))
    return found


def _end_of_json(text: str, start: int) -> int:
    """End of the array or object that begins at ``start``."""
    try:
        value, end = _JSON.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise InvalidFilter(
            f"the literal {_shown(text, start)} is not JSON: {error.msg}", error.pos
        ) from None
    except ValueError as error:
        raise InvalidFilter(f"the literal {_shown(text, start)} is not JSON: {error}", start) from None
    except RecursionError:
        value, end = None, None
    if end is None or too_deep(value):
        raise InvalidFilter(
            f"the literal {_shown(text, start)} is nested more than {MAX_DEPTH} deep, which is the most",
            start,
        )
    return end


def _shown(text: str, start: int) -> str:
    """The beginning of the text at ``start``, quoted."""
    shown = text[start : start + _MOST_SHOWN]
    return repr(shown if start + _MOST_SHOWN >= len(text) else shown + "…")


class _Parser:
    """Recursive descent; every method returns groups multiplied out."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._at = 0

    def alternatives(self, depth: int) -> list[_Group]:
        groups = self._conjunction(depth)
        while self._take("join", "||"):
            groups += self._conjunction(depth)
            self._bound(groups)
        return groups

    def expect_end(self) -> None:
        if (token := self._peek()) is not None:
            raise InvalidFilter(f"'&&' or '||' is needed to join terms, not {self._got()}", token.position)

    def _conjunction(self, depth: int) -> list[_Group]:
        groups = self._factor(depth)
        while self._take("join", "&&"):
            groups = _product(groups, self._factor(depth), self._position())
        return groups

    def _factor(self, depth: int) -> list[_Group]:
        if not self._take("mark", "("):
            return [[self._term()]]
        if depth >= MAX_NESTING:
            raise InvalidFilter(
                f"parentheses are nested more than {MAX_NESTING} deep, which is the most", self._position()
            )
        groups = self.alternatives(depth + 1)
        self._need("mark", ")", "')'")
        return groups

    def _term(self) -> _Placed:
        word = self._need("word", None, "a term such as NRCellDU/attributes/nRPCI == 7")
        path = _PATH.fullmatch(word.text)
        if path is None:
            raise InvalidFilter(f"{word.text!r} is not of the form Class/attributes/name", word.position)
        steps = tuple(path[2][1:].split("/"))
        if (token := self._peek()) is not None and token.kind == "word" and token.text == "in":
            self._at += 1
            return _Placed(Term(path[1], steps, "in", self._listed()), word.position)
        comparison = self._need("op", None, "one of == != < <= > >= in")
        return _Placed(Term(path[1], steps, comparison.text, (self._literal(),)), word.position)

    def _listed(self) -> tuple[Any, ...]:
        self._need("mark", "(", "'(' after in")
        literals = [self._literal()]
        while self._take("mark", ","):
            literals.append(self._literal())
        self._need("mark", ")", "')' or ','")
        return tuple(literals)

    def _literal(self) -> Any:
        token = self._peek()
        if token is None or token.kind not in ("word", "string", "json"):
            raise InvalidFilter(f"a literal is needed, JSON or a word, not {self._got()}", self._position())
        self._at += 1
        try:
            return _JSON.decode(token.text)
        except ValueError:
            if token.kind == "string":
                raise InvalidFilter(f"{token.text} is not a JSON string", token.position) from None
            return token.text

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _got(self) -> str:
        token = self._peek()
        return "the end of the filter" if token is None else _shown(token.text, 0)

    def _position(self) -> int:
        token = self._peek()
        return len(self._text) if token is None else token.position

    def _take(self, kind: str, text: str) -> bool:
        token = self._peek()
        if token is None or (token.kind, token.text) != (kind, text):
            return False
        self._at += 1
        return True

    def _need(self, kind: str, text: str | None, what: str) -> _Token:
        token = self._peek()
        if token is None or token.kind != kind or (text is not None and token.text != text):
            raise InvalidFilter(f"{what} is needed, not {self._got()}", self._position())
        self._at += 1
        return token

    def _bound(self, groups: list[_Group]) -> None:
        if len(groups) > MAX_GROUPS:
            raise InvalidFilter(_TOO_MANY, self._position())


def _product(left: list[_Group], right: list[_Group], position: int) -> list[_Group]:
    if len(left) * len(right) > MAX_GROUPS:
        raise InvalidFilter(_TOO_MANY, position)
    return [[*a, *b] for a, b in itertools.product(left, right)]


def _checked(groups: Iterable[_Group]) -> Filter:
    for group in groups:
        first = group[0]
        for placed in group[1:]:
            if placed.term.class_name != first.term.class_name:
                raise InvalidFilter(
                    f"terms joined by '&&' name one class, not {first.term.class_name} "
                    f"and {placed.term.class_name}",
                    placed.position,
                )
    return Filter(tuple(tuple(placed.term for placed in group) for group in groups))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compare(op: str, value: Any, literal: Any) -> bool:
    if _is_number(value) and _is_number(literal):
        return _COMPARE[op](value, literal)
    return _COMPARE[op](_as_text(value), _as_text(literal))


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
