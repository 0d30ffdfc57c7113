# SPDX-License-Identifier: Apache-2.0
"""Read YANG modules of network elements, in the constructs of 3GPP TS 32.160 §6.2, into a class model.

A class is a list by ``id``; its attributes are in the container ``attributes``, and the lists by ``id``
beside that are the classes of its children. A struct is a list or a container below ``attributes``.

Features are taken as supported. A node that depends on one, or on a ``when``, is never mandatory. ``must``,
``unique`` and ``when`` are not evaluated. Where JSON has several forms of a value, all are valid: a struct or
reference of which there is at most one may be a list, a 64-bit or decimal number a text (RFC 7951), and the
struct of a class of TS 28.541 may have the form of stage 2 as well.

yangson resolves groupings, types, augments and deviations. It needs much time for some texts: text from
outside is read in a process of its own (:mod:`ran_datajobs.inventory.module_reader`).
"""

from __future__ import annotations

import decimal
import graphlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, cast

from msgspec import UNSET
from msgspec.structs import replace
from yangson import datamodel, datatype, exceptions, schemanode  # type: ignore[import-untyped]
from yangson.enumerations import NodeStatus  # type: ignore[import-untyped]
from yangson.schemadata import SchemaData  # type: ignore[import-untyped]
from yangson.statement import ModuleParser, Statement  # type: ignore[import-untyped]

from ran_datajobs.errors import InvalidModules
from ran_datajobs.nrm import patterns
from ran_datajobs.nrm.model import ROOTS, Attribute, ManagedClass, Model, load
from ran_datajobs.nrm.module_set import ModuleSet, YangModule

MOST_CLASSES: Final = 10_000
"""Maximum number of classes of a module set."""

MOST_ATTRIBUTES: Final = 200_000
"""Maximum number of attributes of all classes, and fields of their structs."""

MOST_USES: Final = 100_000
"""Maximum number of groupings and derived types that are resolved."""

_MAX_DETAIL: Final = 300
_NOT_EVALUATED: Final = frozenset({"must", "unique"})
_NODES: Final = frozenset({"leaf", "leaf-list", "list", "container", "choice", "case", "anydata", "anyxml"})
_NAMED: Final = _NODES | {"module", "submodule"}
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_LARGEST: Final = 2**53
_ABOVE: Final = {
    "SubNetwork": frozenset({"SubNetwork", "MeContext", "ManagedElement"}),
    "MeContext": frozenset({"ManagedElement"}),
}
"""Children by schema mount (RFC 8528), which the modules of the parents do not name."""

_ANY: Final = Attribute("any")


def read(files: Mapping[str, str]) -> ModuleSet:
    """Read modules; ``files``: text by name. Raises InvalidModules for the first fault."""
    parsed = [_Parser(name, text).module() for name, text in sorted(files.items())]
    library = _Library(parsed)
    reading = _Reading(load())
    try:
        model = library.data_model()
        classes = reading.classes(model.schema)
    except InvalidModules:
        raise
    except Exception as error:
        raise _located(error) from error
    if not classes:
        raise InvalidModules("no module has a class: a list by id")
    roots = {str(node.name) for node in model.schema.data_children() if _is_class(node)}
    return ModuleSet(library.modules, classes, frozenset(roots | (ROOTS & classes.keys())))


# --- text ---------------------------------------------------------------------------------------------


class _Name(str):
    """The argument of a statement that defines a node: it becomes the name of the node."""

    statement: Statement


class _Parser(ModuleParser):  # type: ignore[misc]
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
        raise _invalid(statement, f"the {statement.keyword} has no name that is allowed")
    if statement.keyword in _NODES:
        statement.argument = _Name(statement.argument)
        statement.argument.statement = statement


def _invalid(statement: Statement, detail: str) -> InvalidModules:
    return cast("InvalidModules", statement.parser.invalid(statement.start, detail))


# --- the set of modules -------------------------------------------------------------------------------


class _Library:
    """The modules by name and revision, with their features and submodules (RFC 7895)."""

    def __init__(self, parsed: list[Statement]) -> None:
        self._statements: dict[tuple[str, str], Statement] = {}
        for each in parsed:
            same = self._statements.setdefault((each.argument, _revision(each)), each)
            if same is not each:
                raise _invalid(each, f"the {each.keyword} {each.argument} is also in {same.parser.file}")
        mains = sorted(key for key, each in self._statements.items() if each.keyword == "module")
        self._newest = dict(mains)
        self._submodules: dict[str, list[tuple[str, str]]] = {}
        for (name, revision), each in self._statements.items():
            if each.keyword == "submodule":
                of = _required(each, "belongs-to")
                if of.argument not in self._newest:
                    raise _invalid(of, f"the module {of.argument} is not in the zip")
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
                    raise _invalid(found, f"the submodule {found.argument} is not in the zip")
            for found in each.find_all("import"):
                revision = found.find1("revision-date")
                wanted = None if revision is None else (found.argument, revision.argument)
                if found.argument not in self._newest or (wanted and wanted not in self._statements):
                    at = f"@{revision.argument}" if revision is not None else ""
                    raise _invalid(found, f"the module {found.argument}{at} is not in the zip")
                imports.setdefault(self._main(each), {})[found.argument] = found
        try:
            graphlib.TopologicalSorter({name: each.keys() for name, each in imports.items()}).prepare()
        except graphlib.CycleError as error:
            cycle: list[str] = error.args[1]
            statement = imports[cycle[1]][cycle[0]]
            raise _invalid(statement, f"modules import each other: {' < '.join(cycle)}") from None

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
            raise _invalid(stmt, f"more than {MOST_USES} groupings and types are used")
        found, context = super().get_definition(stmt, sctx)
        if stmt.keyword == "type" and stmt.superstmt.keyword == "typedef":
            self._bases[stmt.superstmt] = base = found
            while (base := self._bases.get(base)) is not None:
                if base is found:
                    raise _invalid(stmt, f"the type {found.argument} is derived from itself")
        return found, context


def _revision(module: Statement) -> str:
    return max((each.argument or "" for each in module.find_all("revision")), default="")


def _required(statement: Statement, keyword: str) -> Statement:
    found = statement.find1(keyword)
    if found is None:
        raise _invalid(statement, f"the {statement.keyword} has no {keyword}")
    return found


def _located(error: Exception) -> InvalidModules:
    """The fault of an error of yangson, at the innermost statement that was being evaluated."""
    detail = _detail(error)
    for values in reversed(list(_frames(error.__traceback__))):
        own = values.get("self")
        found = [each for each in values.values() if isinstance(each, Statement) and hasattr(each, "start")]
        if own in found:
            return _invalid(own, detail)
        if found:
            return _invalid(found[-1], detail)  # variables are in the order of their first use
        for node in (values.get("node"), own):
            if isinstance(name := getattr(node, "name", None), _Name):
                return _invalid(name.statement, detail)
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


# --- classes ------------------------------------------------------------------------------------------


class _Reading:
    """Reads the classes of a schema. ``known``: the model of this package, for the forms of stage 2."""

    def __init__(self, known: Model) -> None:
        self._known = known
        self._count = 0

    def classes(self, schema: Any) -> dict[str, ManagedClass]:
        """The classes by name. One that is in several places has what it has in any of them."""
        found: dict[str, ManagedClass] = {}
        left = [node for node in _nodes_below(schema) if _is_class(node)]
        while left:
            node = left.pop()
            children = [child for child in _nodes_below(node) if _is_class(child)]
            left += children
            name = str(node.name)
            one = self._class(name, node, children)
            found[name] = _merged_class(found[name], one) if name in found else one
            if len(found) > MOST_CLASSES:
                raise _invalid(node.name.statement, f"there are more than {MOST_CLASSES} classes")
        return found | self._above(found)

    def _above(self, found: Mapping[str, ManagedClass]) -> dict[str, ManagedClass]:
        """The classes above the element: those of the modules, or else of this package, without what is
        mandatory; with the children that are mounted."""
        if "ManagedElement" not in found:
            return {}
        above = {}
        for name, mounted in _ABOVE.items():
            described = found.get(name)
            if described is None:
                known = self._known.managed_class(name) or ManagedClass()
                attributes = {each: replace(of, mandatory=False) for each, of in known.attributes.items()}
                described = replace(known, attributes=attributes)
            above[name] = replace(described, children=described.children | mounted)
        return above

    def _class(self, name: str, node: Any, children: list[Any]) -> ManagedClass:
        known = self._known.managed_class(name) or ManagedClass()
        holder = node.get_data_child("attributes")
        attributes: dict[str, Attribute] = {}
        for child in _nodes_below(holder) if isinstance(holder, schemanode.ContainerNode) else ():
            attribute = str(child.name)
            own = self._attribute(child)
            if child.ns != node.ns:
                own = replace(own, aliases=(f"{child.ns}:{attribute}",))
            if (stage2 := known.attributes.get(attribute)) is not None:
                own = _as_in_stage_2(own, stage2)
            attributes[attribute] = _merged(attributes[attribute], own) if attribute in attributes else own
        naming = self._type(node.get_data_child("id").type)
        return ManagedClass(
            id=naming if naming.type == "enum" or naming.pattern or naming.length else None,
            children=frozenset(str(child.name) for child in children),
            single=frozenset(str(child.name) for child in children if child.max_elements == 1),
            attributes=attributes,
            aliases=known.aliases,
        )

    def _attribute(self, node: Any) -> Attribute:
        self._count += 1
        if self._count > MOST_ATTRIBUTES:
            raise _invalid(node.name.statement, f"there are more than {MOST_ATTRIBUTES} attributes")
        mandatory = False
        match node:
            case schemanode.LeafNode():
                found = replace(self._type(node.type), default=_default(node), unit=str(node.units or ""))
                mandatory = node.mandatory
            case schemanode.LeafListNode():
                found = _list_of(node, self._type(node.type), unique=node.config)
                mandatory = node.mandatory
            case schemanode.ListNode():
                found = _list_of(node, self._struct(node))
                mandatory = node.mandatory
            case schemanode.ContainerNode():
                found = self._struct(node)
                mandatory = not node.presence and any(each.mandatory for each in found.fields.values())
            case _:
                found = _ANY
        return replace(
            found,
            mandatory=mandatory and node.config and not _is_conditional(node),
            read_only=not node.config,
            invariant=_is_invariant(node.name.statement),
        )

    def _struct(self, node: Any) -> Attribute:
        fields = {str(each.name): self._attribute(each) for each in _nodes_below(node)}
        if "idx" in fields:  # the key of a list of structs that have none
            fields["idx"] = replace(fields["idx"], mandatory=False)
        return Attribute("object", fields=fields)

    def _type(self, kind: Any) -> Attribute:
        if kind.name == "DistinguishedName":
            return Attribute("dn")
        match kind:
            case datatype.LeafrefType():
                return self._type(kind.ref_type)
            case datatype.EnumerationType():
                return Attribute("enum", values=tuple(map(str, kind.enum)))
            case datatype.BooleanType():
                return Attribute("boolean")
            case datatype.Decimal64Type():
                text = Attribute("string", pattern=r"-?[0-9]{1,19}(?:\.[0-9]{1,18})?")
                return _union(Attribute("number", ranges=_ranges(kind)), text)
            case datatype.Int64Type() | datatype.Uint64Type():
                text = Attribute("string", pattern="-?[0-9]{1,20}")
                return _union(Attribute("integer", ranges=_ranges(kind)), text)
            case datatype.IntegralType():
                return Attribute("integer", ranges=_ranges(kind))
            case datatype.StringType():
                return Attribute("string", length=_length(kind), pattern=_pattern(kind))
            case datatype.UnionType():
                return _union(*map(self._type, kind.types))
            case datatype.EmptyType():
                return _ANY
        return Attribute("string")  # bits, binary, identityref, instance-identifier


def _nodes_below(node: Any) -> list[Any]:
    """Data nodes by name: yangson's order differs from one process to the next."""
    return sorted(node.data_children(), key=lambda child: (child.name, child.ns))


def _is_class(node: Any) -> bool:
    return (
        isinstance(node, schemanode.ListNode)
        and [name for name, _ in node.keys] == ["id"]
        and isinstance(node.get_data_child("id"), schemanode.LeafNode)
    )


def _is_conditional(node: Any) -> bool:
    """Whether the node may be absent although it is mandatory."""
    while True:
        if node.when is not None or isinstance(node, schemanode.ChoiceNode):
            return True
        if node.status in (NodeStatus.obsolete, NodeStatus.deprecated):
            return True
        node = node.parent
        if node is None or isinstance(node, schemanode.DataNode):
            return False


def _is_invariant(statement: Statement) -> bool:
    """Whether the node has the extension ``inVariant`` of 3GPP: it is set when the object is created."""
    return any(each.prefix and each.keyword.lower() == "invariant" for each in statement.substatements)


def _default(node: Any) -> Any:
    value = None if _is_conditional(node) else node.default
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value if isinstance(value, bool | int | str) else UNSET


def _list_of(node: Any, items: Attribute, unique: bool = False) -> Attribute:
    found = Attribute(
        "list",
        items=items,
        min_items=min(node.min_elements, _LARGEST),
        max_items=None if node.max_elements is None else min(node.max_elements, _LARGEST),
        unique=unique,
    )
    return _union(found, items) if node.max_elements == 1 else found


def _union(*options: Attribute) -> Attribute:
    """One of ``options``, each once; the options of unions are these of the whole."""
    flat = itertools.chain.from_iterable(each.options or (each,) for each in options)
    distinct: list[Attribute] = []
    for each in flat:
        if each not in distinct:
            distinct.append(each)
    return distinct[0] if len(distinct) == 1 else Attribute("union", options=tuple(distinct))


def _merged(one: Attribute, other: Attribute) -> Attribute:
    """An attribute that has two definitions: a value is valid for either."""
    if one == other:
        return one
    return replace(
        _union(_plain(one), _plain(other)),
        mandatory=one.mandatory and other.mandatory,
        read_only=one.read_only and other.read_only,
        invariant=one.invariant and other.invariant,
        default=one.default if one.default == other.default else UNSET,
        unit=one.unit,
        openapi=one.openapi,
        aliases=tuple(dict.fromkeys((*one.aliases, *other.aliases))),
    )


def _plain(attribute: Attribute) -> Attribute:
    """The type alone."""
    return replace(
        attribute,
        mandatory=False,
        read_only=False,
        invariant=False,
        default=UNSET,
        unit="",
        openapi="",
        aliases=(),
    )


def _merged_class(one: ManagedClass, other: ManagedClass) -> ManagedClass:
    attributes = dict(one.attributes)
    for name, each in other.attributes.items():
        known = attributes.get(name)
        attributes[name] = replace(each, mandatory=False) if known is None else _merged(known, each)
    for name in one.attributes.keys() - other.attributes.keys():
        attributes[name] = replace(attributes[name], mandatory=False)
    return replace(
        one,
        id=one.id if one.id == other.id else None,
        children=one.children | other.children,
        single=one.single & other.single | (one.single - other.children) | (other.single - one.children),
        attributes=attributes,
    )


def _as_in_stage_2(own: Attribute, stage2: Attribute) -> Attribute:
    """``own`` with the other spellings of stage 2 and, for a struct or a single value, with the form there."""
    spelt = replace(
        own, openapi=stage2.openapi, aliases=tuple(dict.fromkeys((*own.aliases, *stage2.aliases)))
    )
    if stage2.type == "object" or (stage2.items is not None and stage2.items.type == "object"):
        merged = _union(_plain(own), _plain(stage2))
    elif own.items is not None and stage2.items is None:
        merged = _union(_plain(own), own.items)
    else:
        return spelt
    return replace(
        merged,
        mandatory=own.mandatory,
        read_only=own.read_only,
        invariant=own.invariant,
        openapi=spelt.openapi,
        aliases=spelt.aliases,
    )


def _ranges(kind: Any) -> tuple[tuple[float, float], ...]:
    intervals = [kind._range] if kind.range is None else kind.range.intervals
    return tuple((float(each[0]), float(each[-1])) for each in intervals)


def _length(kind: Any) -> tuple[int, int] | None:
    if kind.length is None:
        return None
    intervals = kind.length.intervals
    return min(int(intervals[0][0]), _LARGEST), min(int(intervals[-1][-1]), _LARGEST)


def _pattern(kind: Any) -> str:
    return patterns.joined((each.pattern, each.regex.pattern, each.invert_match) for each in kind.patterns)
