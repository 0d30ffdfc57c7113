# SPDX-License-Identifier: Apache-2.0
"""A simulated ProvMnS server: answers exchanges from a tree in the format of any generation, and loses
answers as scripted."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Raw

from ran_datajobs.model import ErrorDetail, Op, Scope, ScopeType
from ran_datajobs.nrm import fdn, selectors
from ran_datajobs.nrm.model import ManagedClass, Model
from ran_datajobs.nrm.names import class_of
from ran_datajobs.nrm.patch import Patch, Rejected, apply, apply_atomically, read_patch
from ran_datajobs.nrm.resources import to_hierarchical
from ran_datajobs.nrm.select import select_from, selected, selection
from ran_datajobs.nrm.selectors import EVERYTHING, Selectors, parse
from ran_datajobs.nrm.tree import Tree
from ran_datajobs.plugins.client import Answered, Broken, Exchange, NotSent
from ran_datajobs.plugins.wire import JSON

ROOT = "http://element.test/ProvMnS/v1"
_CLASSES = ("SubNetwork", "MeContext", "ManagedElement", "GNBDUFunction", "GnbDuFunction", "NRCellDU")
OPEN = Model({name: ManagedClass(children=frozenset(_CLASSES), open=True) for name in _CLASSES})
"""A few classes that may contain one another and have any attributes."""


class Errors(enum.Enum):
    """The three generations of error bodies, and none."""

    FIRST = "18.1"
    SECOND = "18.3"
    THIRD = "TS 28.572 in it"
    EMPTY = "empty"


class Hint(enum.Enum):
    """What a refusal says about the operation to blame."""

    TRUE = "badOp"
    UPPER = "badOP"
    NONE = "nothing"
    LIE = "another one"


class Mishap(enum.Enum):
    """Fault applied to one request."""

    UNREACHABLE = "connection refused"
    BUSY = "503"
    LOST_BEFORE = "dropped before it was done"
    LOST_AFTER = "done, and the answer dropped"
    ERROR_BEFORE = "500, nothing done"
    ERROR_AFTER = "done, and 500"


class Shape(enum.Enum):
    """Format of an answer to a read."""

    FLAT = "an array"
    TREE = "a document from the base down"
    FROM_ROOT = "a document from the root down"
    PREFIXED = "an array, with a DC prefix in its names"


class Write(NamedTuple):
    """One write: the objects before and after it, and whether its answer was lost."""

    operations: int
    before: dict[str, Any]
    after: dict[str, Any]
    lost: bool
    refused: bool


class Line(msgspec.Struct, frozen=True):
    op: Op
    path: str
    value: Raw | msgspec.UnsetType = msgspec.UNSET


class ProvMnsTwin:
    """Test double for :class:`~ran_datajobs.plugins.client.PeerHttp`. ``requests`` lists the write requests,
    ``writes`` their effects.

    ``read_mishaps`` are the answers to the first reads. ``beside``: attributes are written next to the
    identifiers. ``sparse``: an object without a selected attribute has no member ``attributes``.
    """

    def __init__(
        self,
        tree: Tree,
        model: Model = OPEN,
        *,
        errors: Errors = Errors.SECOND,
        hint: Hint = Hint.TRUE,
        shape: Shape = Shape.FLAT,
        beside: bool = False,
        sparse: bool = False,
        only_vnd: bool = False,
        most_bytes: int | None = None,
        knows_selectors: bool = False,
    ) -> None:
        self.tree = tree
        self.mishaps: deque[Mishap | None] = deque()
        self.requests: list[tuple[str, str]] = []
        self.writes: list[Write] = []
        self.reads: list[str] = []
        self.read_mishaps: deque[Exchange] = deque()
        self._model = model
        self._errors = errors
        self._hint = hint
        self._shape = shape
        self._beside = beside
        self._sparse = sparse
        self._only_vnd = only_vnd
        self._most_bytes = most_bytes
        self._knows_selectors = knows_selectors

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        result: bool = False,
    ) -> Exchange:
        assert url.startswith(ROOT)
        split = urlsplit(url[len(ROOT) :])
        if method == "GET":
            self.reads.append(url)
            return self.read_mishaps.popleft() if self.read_mishaps else self._get(split.path, split.query)
        self.requests.append((method, split.path))
        mishap = self.mishaps.popleft() if self.mishaps else None
        match mishap:
            case Mishap.UNREACHABLE:
                return NotSent("connection refused")
            case Mishap.BUSY:
                return Answered(503, b"", "", "0")
        before = dict(self.tree.items())
        answer: Exchange = Answered(204, b"")
        if mishap not in {Mishap.LOST_BEFORE, Mishap.ERROR_BEFORE}:
            answer = self._write(method, split.path, body or b"", headers or {})
        refused = isinstance(answer, Answered) and answer.status >= 400
        operations = len(msgspec.json.decode(body or b"")) if method == "PATCH" else 1
        self.writes.append(Write(operations, before, dict(self.tree.items()), mishap is not None, refused))
        match mishap:
            case Mishap.LOST_BEFORE | Mishap.LOST_AFTER:
                return Broken("connection reset")
            case Mishap.ERROR_BEFORE | Mishap.ERROR_AFTER:
                return Answered(500, b"")
        return answer

    def _write(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Exchange:
        key = fdn.key(path)
        if method == "PATCH":
            if self._only_vnd and "vnd." not in headers["Content-Type"]:
                return Answered(415, b"")
            return self._patch(key, msgspec.json.decode(body, type=list[Line]))
        value = msgspec.json.decode(body) if method == "PUT" else None
        op = Op.ADD if method == "PUT" else Op.REMOVE
        refused = apply(Patch(op, key, None, "", value), self.tree, self._model, {})
        return Answered(204, b"") if refused is None else self._refuse(Rejected(0, refused))

    def _patch(self, base: str, lines: list[Line]) -> Exchange:
        if self.tree.attributes(base) is None:
            return Answered(404, b"")
        patches: list[Patch] = []
        for place, line in enumerate(lines):
            patch = read_patch(line.op, line.path, line.value, base)
            if isinstance(patch, ErrorDetail):
                return self._refuse(Rejected(place, patch))
            patches.append(patch)
        done = apply_atomically(patches, self.tree, self._model, {})
        return self._refuse(done) if isinstance(done, Rejected) else Answered(204, b"")

    def _refuse(self, rejected: Rejected) -> Exchange:
        error = rejected.error
        body: dict[str, Any] = {}
        match self._errors:
            case Errors.FIRST:
                body = {"error": {"errorInfo": error.title}}
            case Errors.SECOND:
                body = {"status": "422", "type": "VALIDATION_ERROR", "title": error.title}
                body["badAttributes"] = [error.bad_data_node]
            case Errors.THIRD:
                body = msgspec.to_builtins(error)
        match self._hint:
            case Hint.TRUE:
                body["badOp"] = f"/{rejected.position}"
            case Hint.UPPER:
                body["badOP"] = f"/{rejected.position}/path"
            case Hint.LIE:
                body["badOp"] = f"/{rejected.position * 7 + 3}"
        status = 404 if error.reason == "TARGET_DATA_NODE_NOT_FOUND" else 422
        return Answered(status, b"" if self._errors is Errors.EMPTY else msgspec.json.encode(body), JSON)

    def _get(self, path: str, query: str) -> Exchange:
        key = fdn.key(path) if path else ""
        if key and self.tree.attributes(key) is None:
            return Answered(404, b'{"status":"404","type":"IE_NOT_FOUND","title":"no such object"}')
        asked = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        if "scope" in asked:
            asked |= {name: str(value) for name, value in msgspec.json.decode(asked["scope"]).items()}
        level = asked.get("scopeLevel")
        scope = Scope(ScopeType(asked.get("scopeType", "BASE_ONLY")), None if level is None else int(level))
        names = None
        if "attributes" in asked:
            names = tuple(name for name in asked["attributes"].split(",") if name)
        if "dataNodeSelector" in asked:
            assert self._knows_selectors
            by_selector = selectors.scoped(self.tree, Selectors(parse(asked["dataNodeSelector"])), key)
            found = list(select_from(by_selector, EVERYTHING))
        else:
            found = list(selected(self.tree, key, selection(class_of(key), scope, None, names, None)))
        if not found:
            return Answered(404, b"") if names else Answered(204, b"")
        body = msgspec.json.encode(self._shaped(found, path))
        if self._most_bytes is not None and len(body) > self._most_bytes:
            return Answered(200, None, JSON)
        return Answered(200, body, JSON)

    def _shaped(self, found: list[dict[str, Any]], path: str) -> Any:
        match self._shape:
            case Shape.FLAT:
                shaped: Any = found
            case Shape.PREFIXED:
                shaped = [
                    each | {"objectInstance": "DC=example.org," + each["objectInstance"]} for each in found
                ]
            case Shape.TREE:
                shaped = to_hierarchical(found, path)
            case Shape.FROM_ROOT:
                shaped = to_hierarchical(found, "")
        return self._written(shaped)

    def _written(self, shaped: Any) -> Any:
        if isinstance(shaped, list):
            return [self._written(each) for each in shaped]
        if not isinstance(shaped, dict):
            return shaped
        own = shaped.get("attributes", {})
        rest = {name: self._written(value) for name, value in shaped.items() if name != "attributes"}
        if self._beside:
            return rest | own
        return rest | {"attributes": own} if own or ("attributes" in shaped and not self._sparse) else rest
