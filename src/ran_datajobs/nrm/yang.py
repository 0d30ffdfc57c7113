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
import itertools
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET
from msgspec.structs import replace
from yangson import datatype, schemanode  # type: ignore[import-untyped]
from yangson.enumerations import NodeStatus  # type: ignore[import-untyped]
from yangson.statement import Statement  # type: ignore[import-untyped]

from ran_datajobs.errors import InvalidModules
from ran_datajobs.nrm import patterns
from ran_datajobs.nrm.model import ROOTS, Attribute, ManagedClass, Model, load
from ran_datajobs.nrm.module_set import ModuleSet
from ran_datajobs.nrm.yang_modules import Library, Parser, invalid, located

MOST_CLASSES: Final = 10_000
"""Maximum number of classes of a module set."""

MOST_ATTRIBUTES: Final = 200_000
"""Maximum number of attributes of all classes, and fields of their structs."""

_LARGEST: Final = 2**53
_ABOVE: Final = {
    "SubNetwork": frozenset({"SubNetwork", "MeContext", "ManagedElement"}),
    "MeContext": frozenset({"ManagedElement"}),
}
"""Children by schema mount (RFC 8528), which the modules of the parents do not name."""

_ANY: Final = Attribute("any")


def read(files: Mapping[str, str]) -> ModuleSet:
    """Read modules; ``files``: text by name. Raises InvalidModules for the first fault."""
    parsed = [Parser(name, text).module() for name, text in sorted(files.items())]
    library = Library(parsed)
    reading = _Reading(load())
    try:
        model = library.data_model()
        classes = reading.classes(model.schema)
    except InvalidModules:
        raise
    except Exception as error:
        raise located(error) from error
    if not classes:
        raise InvalidModules("no module has a class: a list by id")
    roots = {str(node.name) for node in model.schema.data_children() if _is_class(node)}
    return ModuleSet(library.modules, classes, frozenset(roots | (ROOTS & classes.keys())))


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
                raise invalid(node.name.statement, f"there are more than {MOST_CLASSES} classes")
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
            raise invalid(node.name.statement, f"there are more than {MOST_ATTRIBUTES} attributes")
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
    """``own`` with the spellings of stage 2 and, for a struct or a single value, with the form there."""
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
