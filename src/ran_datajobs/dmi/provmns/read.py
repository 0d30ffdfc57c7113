# SPDX-License-Identifier: Apache-2.0
"""Reads of a ProvMnS server: it receives scope and attribute names; the rest is selected here.

A data node selector is sent to servers that know it (TS 28.532 from 18.3 on); at any other server each of the
FDNs with which the selectors begin is read with a scope.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec
from msgspec import Struct

from ran_datajobs.dmi.element import ReadChunk
from ran_datajobs.dmi.provmns.answers import Placed, objects_in
from ran_datajobs.dmi.provmns.documents import uri_of
from ran_datajobs.dmi.provmns.error_bodies import read_refusal
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.dmi.provmns.nodes import Asked
from ran_datajobs.dmi.provmns.retry import Patience
from ran_datajobs.errors import InvalidFdn, InvalidFilter, InvalidSelector
from ran_datajobs.model import ErrorDetail, Operation, ScopeType
from ran_datajobs.nrm import faults, fdn
from ran_datajobs.nrm.names import class_of
from ran_datajobs.nrm.select import Selection, flat_objects, picks, selection_of
from ran_datajobs.nrm.selectors import Matcher, Selector, Selectors, parse, without_numbers
from ran_datajobs.plugins.answers import NOT_PROCESSED, seconds_of
from ran_datajobs.plugins.client import Answered, Broken, Exchange, NotSent
from ran_datajobs.plugins.wire import JSON, TREE_FLAT, TREE_HIERARCHICAL

ACCEPT: Final = f"{TREE_FLAT}, {TREE_HIERARCHICAL};q=0.9, {JSON};q=0.8"
_TRIES: Final = 3
_CHUNK: Final = 500
_LONGEST_QUERY: Final = 4_000
_NOT_FOUND: Final = "TARGET_DATA_NODE_NOT_FOUND"


class ScopeSpelling(enum.StrEnum):
    """Encoding of the scope in the query of a server."""

    EXPLODED = "exploded"  # ?scopeType=…&scopeLevel=…, up to 19.1
    JSON = "json"  # ?scope={"scopeType":…,"scopeLevel":…}, from 19.2


class Ask(Protocol):
    """Sends one request to the server; ``path`` is relative to its root."""

    async def __call__(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "",
        accept: str = JSON,
        result: bool = False,
    ) -> Exchange: ...


class _Scope(Struct, frozen=True, rename="camel", omit_defaults=True):
    scope_type: ScopeType
    scope_level: int | None = None


class _TooMuch(Struct, frozen=True):
    """The answer exceeds the size limit."""


class ProvMnsReader:
    """Reads objects of one server."""

    def __init__(
        self,
        ask: Ask,
        aliases: Aliases,
        spelling: ScopeSpelling,
        patience: Callable[[], Patience],
        *,
        selectors: bool = False,
    ) -> None:
        """``patience`` creates the retry deadline of each request. ``selectors``: the server knows
        dataNodeSelector."""
        self._ask = ask
        self._aliases = aliases
        self._spelling = spelling
        self._patience = patience
        self._sends_selectors = selectors and not aliases

    async def read(self, operation: Operation) -> AsyncIterator[ReadChunk]:
        """Yield the selected objects in pre-order, in chunks; with selectors, those below each FDN with which
        one begins are in pre-order."""
        try:
            if isinstance(operation.data_node_selector, str):
                read = self._by_selectors(Selectors(parse(operation.data_node_selector)))
            else:
                base = fdn.key(fdn.split_path(operation.path)[0])
                read = self._subtree(base, base, selection_of(operation, class_of(base)))
        except (InvalidFdn, InvalidFilter, InvalidSelector) as error:
            yield ReadChunk((), True, (faults.malformed(operation.path, str(error)),))
            return
        async for objects in read:
            if isinstance(objects, ErrorDetail):
                yield ReadChunk((), True, (objects,))
                return
            for first in range(0, len(objects), _CHUNK):
                yield ReadChunk(tuple(flat_objects(objects[first : first + _CHUNK])), False)
        yield ReadChunk((), True)

    async def attributes_of(
        self, key: str, patience: Patience | None = None
    ) -> dict[str, Any] | ErrorDetail | None:
        """The attributes of one object; None if it does not exist; else the error of the read. ``patience``:
        the deadline of its retries, if it is not to have one of its own."""
        found = await self._get(key, Selection(), patience=patience)
        if isinstance(found, _TooMuch):
            return _too_much(key)
        if isinstance(found, ErrorDetail):
            return None if found.reason == _NOT_FOUND else found
        for each, attributes in found:
            if each == key:
                return attributes
        return _unread(key, "The element's answer cannot be read", "it lacks the requested object")

    async def _by_selectors(self, selectors: Selectors) -> AsyncIterator[list[Placed] | ErrorDetail]:
        """Yield the objects that the selectors select, each once. Those that they name need not exist."""
        query = "dataNodeSelector=" + quote("\n".join(each.text for each in selectors.selectors), safe="")
        if self._sends_selectors and len(query) <= _LONGEST_QUERY:
            found = await self._get(selectors.base, Selection(0, None), query)
            if not isinstance(found, _TooMuch):
                if isinstance(found, list):
                    # The items of lists are selected already: those that are left have other numbers.
                    yield _matching(Matcher(Selectors(map(without_numbers, selectors.selectors))), found)
                elif not _is_absent(selectors.base, found):
                    yield found
                return
        matcher = Matcher(selectors)
        seen: set[str] = set()
        for base, wanted in _scopes(selectors):
            async for part in self._subtree(base, base, wanted):
                if isinstance(part, ErrorDetail):
                    if not _is_absent(base, part):
                        yield part
                        return
                    break
                selected = [each for each in _matching(matcher, part) if each[0] not in seen]
                seen.update(key for key, _ in selected)
                yield selected

    async def _subtree(
        self, base: str, top: str, wanted: Selection
    ) -> AsyncIterator[list[Placed] | ErrorDetail]:
        """Yield the objects at and below ``top`` that ``wanted`` selects from ``base``. If an answer exceeds
        the limit, read in parts: the top, then the subtree of each child."""
        level = _depth(top) - _depth(base)
        found = await self._get(top, _from(wanted, level))
        match found:
            case ErrorDetail():
                yield found
            case _TooMuch():
                if wanted.deepest is not None and level >= wanted.deepest:
                    yield _too_much(top)
                    return
                async for part in self._in_parts(base, top, wanted, level):
                    yield part
            case _:
                placed = ((key, _depth(key) - _depth(base), attributes) for key, attributes in found)
                yield list(picks(placed, wanted))

    async def _in_parts(
        self, base: str, top: str, wanted: Selection, level: int
    ) -> AsyncIterator[list[Placed] | ErrorDetail]:
        if wanted.reaches(level):
            own = await self._get(top, Selection())
            if isinstance(own, ErrorDetail | _TooMuch):
                yield own if isinstance(own, ErrorDetail) else _too_much(top)
                return
            yield list(picks(((key, level, attributes) for key, attributes in own), wanted))
        children = await self._get(top, Selection(1, 1, nothing=True))
        if isinstance(children, ErrorDetail | _TooMuch):
            yield children if isinstance(children, ErrorDetail) else _too_much(top)
            return
        for key, _ in children:
            async for part in self._subtree(base, key, wanted):
                yield part

    async def _get(
        self, base: str, wanted: Selection, query: str | None = None, patience: Patience | None = None
    ) -> list[Placed] | _TooMuch | ErrorDetail:
        """The objects of the server for a scope, or for another ``query``, before the filter and the
        attributes are applied."""
        names = None if query is not None else self._names(base, wanted)
        path = f"{uri_of(base, self._aliases)}?{self._query(wanted, names) if query is None else query}"
        waits = (patience or self._patience()).waits()
        unfinished = 0
        while True:
            exchange = await self._ask("GET", path.rstrip("?"), accept=ACCEPT, result=True)
            wish = None
            match exchange:
                case Answered(200, body) if body is not None:
                    return self._objects(base, wanted, body, whole=names is None)
                case Answered(200 | 413):
                    return _TooMuch()
                case Answered(204):
                    return []
                case Answered(404) if names:
                    # No selected attribute, or no such object: read the object alone.
                    there = await self._get(base, Selection())
                    return there if isinstance(there, ErrorDetail) else []
                case NotSent(cause):
                    pass
                case Answered(status) if status in NOT_PROCESSED:
                    cause, wish = f"it answers {status}", seconds_of(exchange.retry_after)
                case Answered(status, body) if status < 500 and status != 408:
                    return read_refusal(status, body, Asked(base, base, self._aliases)).error
                case Answered(status):
                    cause = f"it answers {status}"
                    unfinished += 1
                case Broken(cause):
                    unfinished += 1
            if unfinished == _TRIES or not await waits.pause(wish):
                return _unread(base, "The element did not answer", cause)

    def _objects(
        self, base: str, wanted: Selection, body: bytes, *, whole: bool
    ) -> list[Placed] | ErrorDetail:
        """The objects of an answer at the requested levels. ``whole``: all attributes were requested, so that
        it is an error if the only requested object is missing."""
        try:
            placed = objects_in(msgspec.json.decode(body), base, self._aliases)
        except (
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
            InvalidFdn,
            LookupError,
            TypeError,
        ) as error:
            return _unread(base, "The element's answer cannot be read", repr(error)[:300])
        level = _depth(base)
        found = [each for each in placed if wanted.reaches(_depth(each[0]) - level)]
        if whole and wanted.deepest == 0 and not any(key == base for key, _ in found):
            return _unread(base, "The element's answer cannot be read", "it lacks the requested object")
        return found

    def _query(self, wanted: Selection, names: list[str] | None) -> str:
        scope = _scope(wanted)
        parts: list[str] = []
        if scope.scope_type is not ScopeType.BASE_ONLY:
            if self._spelling is ScopeSpelling.JSON:
                parts.append("scope=" + quote(msgspec.json.encode(scope), safe=""))
            else:
                parts.append(f"scopeType={scope.scope_type}")
                if scope.scope_level is not None:
                    parts.append(f"scopeLevel={scope.scope_level}")
        if names is not None:
            parts.append("attributes=" + ",".join(quote(name, safe="") for name in names))
        return "&".join(parts)

    def _names(self, base: str, wanted: Selection) -> list[str] | None:
        """The attributes to request, in the server's names: those that are selected and those of the filter.
        None: all. Empty: only the names of objects."""
        names = set(wanted.filter.attributes) if wanted.filter is not None else set()
        if not wanted.nothing:
            if not wanted.pointers or () in wanted.pointers:
                return None
            names.update(pointer[0] for pointer in wanted.pointers)
        only = class_of(base) if wanted.deepest == 0 else None
        return sorted({theirs for name in names for theirs in self._aliases.their_names(only, name)})


def _scope(wanted: Selection) -> _Scope:
    if wanted.deepest is None:
        return _Scope(ScopeType.BASE_ALL)
    if wanted.shallowest == wanted.deepest:
        only = wanted.deepest == 0
        return _Scope(ScopeType.BASE_ONLY) if only else _Scope(ScopeType.BASE_NTH_LEVEL, wanted.deepest)
    return _Scope(ScopeType.BASE_SUBTREE, wanted.deepest)


def _matching(matcher: Matcher, objects: Iterable[Placed]) -> list[Placed]:
    picked = ((key, matcher.picked(key, attributes)) for key, attributes in objects)
    return [(key, attributes) for key, attributes in picked if attributes is not None]


def _scopes(selectors: Selectors) -> list[tuple[str, Selection]]:
    """Each object with which selectors begin, and what of it and below it is to be read for them."""
    names = selectors.names
    pointers = None if names is None else tuple((name,) for name in sorted(names))
    by_base: dict[str, list[Selector]] = {}
    for selector in selectors.selectors:
        by_base.setdefault(selector.base, []).append(selector)
    found: list[tuple[str, Selection]] = []
    for base, some in sorted(by_base.items()):
        above, top = _depth(base), 0 if base else 1
        shallowest = max(min(each.shallowest for each in some) - above, top)
        depths = [each.deepest for each in some]
        deepest = None if None in depths else max(depth for depth in depths if depth is not None) - above
        found.append((base, Selection(shallowest, deepest, pointers=pointers)))
    return found


def _from(wanted: Selection, level: int) -> Selection:
    """The same selection, relative to an object ``level`` levels further down."""
    if not level:
        return wanted
    deepest = None if wanted.deepest is None else wanted.deepest - level
    return Selection(
        max(wanted.shallowest - level, 0), deepest, wanted.filter, wanted.pointers, wanted.nothing
    )


def _is_absent(base: str, answer: list[Placed] | ErrorDetail) -> bool:
    """Whether the object does not exist; the root always does, even if a server does not answer for it."""
    return bool(base) and isinstance(answer, ErrorDetail) and answer.reason == _NOT_FOUND


def _depth(key: str) -> int:
    return key.count("/") + 1 if key else 0


def _too_much(key: str) -> ErrorDetail:
    return _unread(key, "The object is larger than an answer may be")


def _unread(key: str, title: str, detail: str = "") -> ErrorDetail:
    return ErrorDetail("SERVER_ERROR", faults.node(key), "OTHER", title, detail)
