# SPDX-License-Identifier: Apache-2.0
"""The text of YANG modules, and yangson's data model of a set of them. Faults have the file and the line."""

from __future__ import annotations

import graphlib
import json
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, cast

from yangson import datamodel, exceptions  # type: ignore[import-untyped]
from yangson.schemadata import SchemaData  # type: ignore[import-untyped]
from yangson.statement import ModuleParser, Statement  # type: ignore[import-untyped]

from ran_datajobs.errors import InvalidModules
from ran_datajobs.nrm.module_set import YangModule

MOST_USES: Final = 100_000
"""Maximum number of groupings and derived types that are resolved."""

_MAX_DETAIL: Final = 300
_NOT_EVALUATED: Final = frozenset({"must", "unique"})
_NODES: Final = frozenset({"leaf", "leaf-list", "list", "container", "choice", "case", "anydata", "anyxml"})
_NAMED: Final = _NODES | {"module", "submodule"}
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")


class Name(str):
    """The argument of a statement that defines a node: it becomes the name of the node."""

    statement: Statement


class Parser(ModuleParser):  # type: ignore[misc]
    """yangson's parser, whose statements know their place."""

    def __init__(self, file: str, text: str) -> None:
        super().__init__(text.removeprefix("\ufeff"))
        self.file = file

    def module(self) -> Statement:
        """The statement of the module or submodule."""
        try:
            self.opt_separator()
            found = self.statement()
            if found.keyword not in ("module", "submodule") or found.argument is None:
                raise self.invalid(found.start, "a file begins with a module or a submodule")
            try:
                self.opt_separator()
            except exceptions.EndOfInput:
                return found
            raise self.invalid(self.offset, "the module has ended before: a file has one module")
        except RecursionError:
            raise self.invalid(self.offset, "the statements are nested too deeply") from None
        except exceptions.EndOfInput:
            raise self.invalid(self.offset, "the file ends within a statement or a comment") from None
        except exceptions.UnexpectedInput as error:
            expected = f": {error.expected} is expected" if error.expected else ""
            raise self.invalid(self.offset, f"the syntax is wrong{expected}") from None
        except exceptions.InvalidArgument as error:
            raise self.invalid(self.offset, f"{str(error)!r} has an unknown escape sequence") from None

    def invalid(self, offset: int, detail: str) -> InvalidModules:
        """The fault at ``offset``."""
        shown = detail if len(detail) <= _MAX_DETAIL else detail[: _MAX_DETAIL - 1] + "…"
        return InvalidModules(shown, self.file, self.input.count("\n", 0, offset) + 1)

    def statement(self) -> Statement:
        """The next statement, in the form in which it is evaluated."""
        start = self.offset
        found = super().statement()
        found.parser, found.start = self, start
        if found.prefix is None:
            _simplify(found)
        return found

    @classmethod
    def unescape(cls, text: str) -> str:
        """Replace escape sequences; yangson's own calls itself for each of them."""
        pieces = text.split("\\")
        done = [pieces[0]]
        rest = iter(pieces[1:])
        for piece in rest:
            if piece:
                if piece[0] not in cls.unescape_map:
                    raise exceptions.InvalidArgument("\\" + piece[0])
                done += cls.unescape_map[piece[0]], piece[1:]
            else:  # two backslashes
                done += "\\", next(rest, "")
        return "".join(done)


def _simplify(statement: Statement) -> None:
    """Leave out what is not evaluated. What depends on a feature or a condition gets the condition true."""
    conditional = False
    kept = []
    for each in statement.substatements:
        if each.prefix is None:
            if each.keyword in _NOT_EVALUATED:
                continue
            if each.keyword in ("when", "if-feature"):
                conditional = True
            if each.keyword == "when":
                continue
        kept.append(each)
    if conditional:
        condition = Statement("when", "true()")
        condition.superstmt = statement
        condition.parser, condition.start = statement.parser, statement.start
        kept.append(condition)
    statement.substatements = kept
    if statement.keyword in _NAMED and not _IDENTIFIER.fullmatch(statement.argument or ""):
        raise invalid(statement, f"the {statement.keyword} has no name that is allowed")
    if statement.keyword in _NODES:
        statement.argument = Name(statement.argument)
        statement.argument.statement = statement


def invalid(statement: Statement, detail: str) -> InvalidModules:
    return cast("InvalidModules", statement.parser.invalid(statement.start, detail))


# --- the set of modules -------------------------------------------------------------------------------


class Library:
    """The modules by name and revision, with their features and submodules (RFC 7895)."""

    def __init__(self, parsed: list[Statement]) -> None:
        self._statements: dict[tuple[str, str], Statement] = {}
        for each in parsed:
            same = self._statements.setdefault((each.argument, _revision(each)), each)
            if same is not each:
                raise invalid(each, f"the {each.keyword} {each.argument} is also in {same.parser.file}")
        mains = sorted(key for key, each in self._statements.items() if each.keyword == "module")
        self._newest = dict(mains)
        self._submodules: dict[str, list[tuple[str, str]]] = {}
        for (name, revision), each in self._statements.items():
            if each.keyword == "submodule":
                of = _required(each, "belongs-to")
                if of.argument not in self._newest:
                    raise invalid(of, f"the module {of.argument} is not in the zip")
                self._submodules.setdefault(of.argument, []).append((name, revision))
        self._check_references()
        self.modules = [YangModule(name, revision) for name, revision in mains]

    def _check_references(self) -> None:
        """Each module that is imported or included is there, and no imports are cyclic."""
        included = {name for names in self._submodules.values() for name, _ in names}
        imports: dict[str, dict[str, Statement]] = {}
        for each in self._statements.values():
            _required(each if each.keyword == "module" else _required(each, "belongs-to"), "prefix")
            for found in each.find_all("include"):
                if found.argument not in included:
                    raise invalid(found, f"the submodule {found.argument} is not in the zip")
            for found in each.find_all("import"):
                revision = found.find1("revision-date")
                wanted = None if revision is None else (found.argument, revision.argument)
                if found.argument not in self._newest or (wanted and wanted not in self._statements):
                    at = f"@{revision.argument}" if revision is not None else ""
                    raise invalid(found, f"the module {found.argument}{at} is not in the zip")
                imports.setdefault(self._main(each), {})[found.argument] = found
        try:
            graphlib.TopologicalSorter({name: each.keys() for name, each in imports.items()}).prepare()
        except graphlib.CycleError as error:
            cycle: list[str] = error.args[1]
            statement = imports[cycle[1]][cycle[0]]
            raise invalid(statement, f"modules import each other: {' < '.join(cycle)}") from None

    def _main(self, statement: Statement) -> str:
        of = statement.find1("belongs-to")
        return str(statement.argument if of is None else of.argument)

    def data_model(self) -> Any:
        """yangson's data model."""
        statements = self._statements

        class Loaded(_Schema):
            def _load_module(self, name: str, revision: str, data: Any) -> Statement:
                return statements[name, revision]

        # yangson reads files; its class of loaded modules has no other entry.
        kept, datamodel.SchemaData = datamodel.SchemaData, Loaded
        try:
            return datamodel.DataModel(json.dumps(self._document()), description="module set")
        finally:
            datamodel.SchemaData = kept

    def _document(self) -> dict[str, Any]:
        listed = []
        for name, revision in self.modules:
            newest = self._newest[name] == revision
            submodules = self._submodules.get(name, []) if newest else []
            parts = [self._statements[key] for key in ((name, revision), *submodules)]
            namespace = parts[0].find1("namespace")
            listed.append(
                {
                    "name": name,
                    "revision": revision,
                    "namespace": name if namespace is None else namespace.argument,
                    "conformance-type": "implement" if newest else "import",
                    "feature": [f.argument for part in parts for f in part.find_all("feature")],
                    "submodule": [{"name": sub, "revision": its} for sub, its in submodules],
                }
            )
        return {"ietf-yang-library:modules-state": {"module-set-id": "", "module": listed}}


class _Schema(SchemaData):  # type: ignore[misc]
    """yangson's schema data, with bounds."""

    def __init__(self, *args: Any) -> None:
        self._uses = 0
        self._bases: dict[Statement, Statement] = {}
        super().__init__(*args)

    def get_definition(self, stmt: Statement, sctx: Any) -> Any:
        """The definition of a grouping or type; refuses a type that is derived from itself."""
        self._uses += 1
        if self._uses > MOST_USES:
            raise invalid(stmt, f"more than {MOST_USES} groupings and types are used")
        found, context = super().get_definition(stmt, sctx)
        if stmt.keyword == "type" and stmt.superstmt.keyword == "typedef":
            self._bases[stmt.superstmt] = base = found
            while (base := self._bases.get(base)) is not None:
                if base is found:
                    raise invalid(stmt, f"the type {found.argument} is derived from itself")
        return found, context


def _revision(module: Statement) -> str:
    return max((each.argument or "" for each in module.find_all("revision")), default="")


def _required(statement: Statement, keyword: str) -> Statement:
    found = statement.find1(keyword)
    if found is None:
        raise invalid(statement, f"the {statement.keyword} has no {keyword}")
    return found


def located(error: Exception) -> InvalidModules:
    """The fault of an error of yangson, at the innermost statement that was being evaluated."""
    detail = _detail(error)
    for values in reversed(list(_frames(error.__traceback__))):
        own = values.get("self")
        found = [each for each in values.values() if isinstance(each, Statement) and hasattr(each, "start")]
        if own in found:
            return invalid(own, detail)
        if found:
            return invalid(found[-1], detail)  # variables are in the order of their first use
        for node in (values.get("node"), own):
            if isinstance(name := getattr(node, "name", None), Name):
                return invalid(name.statement, detail)
    return InvalidModules(detail[:_MAX_DETAIL])


def _frames(traceback: TracebackType | None) -> Iterator[dict[str, Any]]:
    while traceback is not None:
        yield traceback.tb_frame.f_locals
        traceback = traceback.tb_next


def _detail(error: Exception) -> str:
    match error:
        case exceptions.DefinitionNotFound():
            return f"the {error.keyword} {error.name} is not defined"
        case exceptions.UnknownPrefix():
            return f"the prefix {error.prefix} is not declared"
        case exceptions.StatementNotFound():
            return f"a statement {error.keyword} is missing"
        case exceptions.InvalidArgument():
            return f"{error.argument!r} is not a valid argument"
        case exceptions.InvalidLeafrefPath():
            return f"the path {error.path} leads to no leaf"
        case exceptions.InvalidFeatureExpression():
            return "the expression of features is wrong"
        case exceptions.ParserException():
            return f"an expression is wrong: {error}"
        case re.error():
            return f"the pattern is wrong: {error}"
        case KeyError():
            return f"{error} is not declared"
        case RecursionError():
            return "definitions refer to themselves, or are nested too deeply"
        case MemoryError():
            return "the modules need too much memory"
    return f"the statement cannot be used ({type(error).__name__}: {error})"
