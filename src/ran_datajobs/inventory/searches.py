# SPDX-License-Identifier: Apache-2.0
"""Reads the bodies of ONAP's searches for CM handles into what the store looks for. Pure.

The body is ``{"cmHandleQueryParameters": [{"conditionName": …, "conditionParameters": [{name: value}]}]}``;
every condition must hold, and no condition matches all handles. Source: OpenAPI of ONAP CPS-NCMP
(``CmHandleQueryParameters``) and its page "CM Handle Querying".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from ran_datajobs.errors import InvalidFdn, InvalidRequest
from ran_datajobs.http.json_body import decoded, got, pointer_step, shortened
from ran_datajobs.inventory import cps_path
from ran_datajobs.inventory.addresses import AddressRefused, normal_form
from ran_datajobs.nrm import fdn
from ran_datajobs.store.searches import Search

MAX_BODY: Final = 128 * 1024
"""Maximum bytes of the body of a search."""

MAX_PARAMETERS: Final = 1000
"""Maximum number of parameters of all conditions of a search."""

TRUST_LEVELS: Final = ("COMPLETE", "NONE")

_STATE: Final = {"cm-handle-state": "READY", "data-sync-enabled": "false"}
"""The leaves of ``state`` that can be searched: each registered handle is READY, no data is synchronised."""

_PRIVATE: Final = "additional-properties"
_NEVER: Final = frozenset({_PRIVATE, "lock-reason"})
"""Nodes of the model by which no handle is found: private properties, and the reason of a state that no
handle has."""


ALL: Final = Search()
"""Matches every handle."""

Found = Search | None
"""What a search looks for; ``None``: it can match no handle."""


def both(one: Found, other: Found) -> Found:
    """The search that matches what both match."""
    if one is None or other is None:
        return None
    changes: dict[str, object] = {}
    for name in Search.__struct_fields__:
        mine, others = getattr(one, name), getattr(other, name)
        if not others:
            continue
        if not mine:
            changes[name] = others
        elif isinstance(mine, Mapping):
            if any(mine.get(key, value) != value for key, value in others.items()):
                return None
            changes[name] = {**mine, **others}
        elif name in _ALL_OF:
            changes[name] = mine | others
        elif not mine.isdisjoint(others):
            changes[name] = mine & others
        else:
            return None
    return replace(one, **changes)


_ALL_OF: Final = frozenset({"id_parts", "alternate_id_parts", "public_names", "plugins", "modules"})


class _Condition(Struct, frozen=True, rename="camel"):
    condition_name: str
    condition_parameters: list[dict[str, Raw]] | None = None


class _OldCondition(Struct, frozen=True, rename="camel"):
    name: str
    condition_parameters: list[dict[str, Raw]] | None = None


class SearchBody(Struct, frozen=True, rename="camel"):
    """The body of a search. ``conditions`` is ONAP's older form of ``cmHandleQueryParameters``, which counts
    if that is empty."""

    cm_handle_query_parameters: list[_Condition] | None = None
    conditions: list[_OldCondition] | None = None


_decoder: Final = msgspec.json.Decoder(SearchBody)
_string: Final = msgspec.json.Decoder(str)
_SCALARS: Final = frozenset(b"-0123456789tf")
"""First bytes of a number, ``true`` and ``false``."""


def read_search(body: bytes, *, southbound: bool) -> Found:
    """What a body looks for. ``southbound``: the conditions for DMI plugins are allowed too.

    Raises InvalidRequest, with a pointer, for a wrong shape or type, an unknown condition, or one without its
    parameters.
    """
    asked = decoded(body, _decoder)
    pointer = "#/cmHandleQueryParameters"
    conditions = [
        (each.condition_name, each.condition_parameters) for each in asked.cm_handle_query_parameters or ()
    ]
    if not conditions and asked.conditions:
        pointer = "#/conditions"
        conditions = [(each.name, each.condition_parameters) for each in asked.conditions]
    if sum(len(parameters or ()) for _, parameters in conditions) > MAX_PARAMETERS:
        raise InvalidRequest.at(pointer, f"has more than {MAX_PARAMETERS} parameters")
    kinds = _SOUTHBOUND if southbound else _NORTHBOUND
    found: Found = ALL
    for place, (name, parameters) in enumerate(conditions):
        here = f"{pointer}/{place}"
        read = kinds.get(name)
        if read is None:
            other = "" if name not in _SOUTHBOUND else ", and this one is for /ncmpInventory alone"
            raise InvalidRequest.at(
                f"{here}/conditionName",
                f"must be one of {', '.join(kinds)}{other}; it is {got(shortened(name))}",
            )
        found = both(found, read(_pairs(f"{here}/conditionParameters", parameters or []), here))
    return found


_Pairs = list[tuple[str, str]]
_Reader = Callable[[_Pairs, str], Found]


def _pairs(pointer: str, parameters: list[dict[str, Raw]]) -> _Pairs:
    """The (name, value) of each parameter; a number and a boolean become their JSON text, as in ONAP."""
    if not parameters:
        raise InvalidRequest.at(pointer, "is empty: a condition needs a parameter")
    pairs: _Pairs = []
    for place, parameter in enumerate(parameters):
        here = f"{pointer}/{place}"
        if len(parameter) != 1:
            raise InvalidRequest.at(here, f"must have one name and its value; it has {len(parameter)} names")
        ((name, raw),) = parameter.items()
        text = bytes(raw)
        if text[0] in _SCALARS:
            value = text.decode()
        elif text[:1] == b'"':
            value = _string.decode(text)
        else:
            raise InvalidRequest.at(f"{here}/{pointer_step(name)}", f"must be a string; it is {got(raw)}")
        if not name:
            raise InvalidRequest.at(here, "has an empty name")
        pairs.append((name, value))
    return pairs


def _named(pairs: _Pairs, name: str, pointer: str) -> list[str]:
    """The values of parameters that must all be called ``name``."""
    for place, (given, value) in enumerate(pairs):
        here = f"{pointer}/conditionParameters/{place}"
        if given != name:
            raise InvalidRequest.at(here, f"must have the name {name!r}; it has {shortened(given)!r}")
        if not value.strip():
            raise InvalidRequest.at(f"{here}/{name}", "is empty")
    return [value for _, value in pairs]


def _one(pairs: _Pairs, name: str, pointer: str) -> str:
    """The value of the only parameter, which must be called ``name``."""
    if len(pairs) > 1:
        raise InvalidRequest.at(
            f"{pointer}/conditionParameters", f"has {len(pairs)} parameters; this condition takes one"
        )
    return _named(pairs, name, pointer)[0]


def _storable(texts: Iterable[str]) -> bool:
    """False if a text has a character that no row has."""
    return not any("\0" in text for text in texts)


def _modules(pairs: _Pairs, pointer: str) -> Found:
    names = frozenset(_named(pairs, "moduleName", pointer))
    return Search(modules=names) if _storable(names) else None


def _public_properties(pairs: _Pairs, _pointer: str) -> Found:
    found = _all_of(pairs)
    return None if found is None else Search(public_properties=found)


def _private_properties(pairs: _Pairs, _pointer: str) -> Found:
    found = _all_of(pairs)
    return None if found is None else Search(private_properties=found)


def _all_of(pairs: _Pairs) -> dict[str, str] | None:
    """The value of each name; ``None`` if a name has two, or if no row can have one."""
    found = dict(pairs)
    return found if len(found) == len({*pairs}) and all(map(_storable, pairs)) else None


def of_plugin(address: str) -> Found:
    """The handles of a plugin."""
    try:
        return Search(plugins=frozenset({normal_form(address.strip())}))
    except AddressRefused:
        return None


def _plugin(pairs: _Pairs, pointer: str) -> Found:
    return of_plugin(_one(pairs, "dmiPluginName", pointer))


def _trust_level(pairs: _Pairs, pointer: str) -> Found:
    level = _one(pairs, "trustLevel", pointer)
    if level not in TRUST_LEVELS:
        raise InvalidRequest.at(
            f"{pointer}/conditionParameters/0/trustLevel",
            f"must be one of {', '.join(TRUST_LEVELS)}; it is {got(level)}",
        )
    return Search(trust_levels=frozenset({level}))


def _cps_path(pairs: _Pairs, pointer: str) -> Found:
    path = _one(pairs, "cpsPath", pointer)
    try:
        return of_cps_path(path) if _storable([path]) else None
    except cps_path.UnsupportedPath as error:
        raise InvalidRequest.at(f"{pointer}/conditionParameters/0/cpsPath", str(error)) from error


_NORTHBOUND: Final[Mapping[str, _Reader]] = {
    "hasAllModules": _modules,
    "hasAllProperties": _public_properties,
    "cmHandleWithCpsPath": _cps_path,
    "cmHandleWithTrustLevel": _trust_level,
}
_SOUTHBOUND: Final[Mapping[str, _Reader]] = {
    **_NORTHBOUND,
    "hasAllAdditionalProperties": _private_properties,
    "cmHandleWithDmiPlugin": _plugin,
}


def of_cps_path(path: str) -> Found:
    """The handles that a node of a CPS path belongs to. Raises UnsupportedPath."""
    nodes = cps_path.nodes_of(path)
    if any(node.name in _NEVER for node in nodes):
        return None
    found: Found = ALL
    match [node.name for node in nodes]:
        case (
            ["cm-handles"] | ["state"] | ["public-properties"] | ["cm-handles", "state" | "public-properties"]
        ):
            for node in nodes:
                found = both(found, _of_node(path, node))
        case _:
            raise cps_path.refusal(path)
    return found


def _of_node(path: str, node: cps_path.Node) -> Found:
    """The handles that have a node with these conditions."""
    if node.name == "public-properties":
        return _of_properties(path, node)
    found: Found = ALL
    for bracket in node.brackets:
        # ONAP's newer model has the state in the handle itself.
        constants = _STATE if node.name == "state" else {"cm-handle-state": _STATE["cm-handle-state"]}
        alternatives = cps_path.simplified(bracket, constants)
        if alternatives is None:
            return None
        if [] in alternatives:
            continue
        if node.name == "state":
            raise cps_path.refusal(path)
        if len(alternatives) == 1:
            for test in alternatives[0]:
                found = both(
                    found, _of_leaf(path, test.leaf, frozenset({test.value}), contains=test.contains)
                )
        elif values := cps_path.values_of_one_leaf(alternatives):
            found = both(found, _of_leaf(path, *values))
        else:
            raise cps_path.refusal(path)
    return found


def _of_leaf(path: str, leaf: str, values: frozenset[str], *, contains: bool = False) -> Found:
    match leaf, contains:
        case "id", False:
            return Search(ids=values)
        case "id", True:
            return Search(id_parts=values)
        case "alternate-id", False:
            keys = _keys(values)
            return Search(alternate_keys=keys) if keys else None
        case "alternate-id", True:
            return Search(alternate_id_parts=values)
        case "module-set-tag", False:
            return Search(module_set_tags=values)
        case "data-producer-identifier", False:
            return Search(data_producer_ids=values)
        case _:
            raise cps_path.refusal(path)


def _of_properties(path: str, node: cps_path.Node) -> Found:
    """Handles with a public property of the name, or of the name and the value, in the brackets."""
    if len(node.brackets) != 1 or len(node.brackets[0]) != 1:
        raise cps_path.refusal(path)
    (tests,) = node.brackets[0]
    given: dict[str, str] = {}
    for test in tests:
        if test.contains or test.leaf not in ("name", "value"):
            raise cps_path.refusal(path)
        if given.setdefault(test.leaf, test.value) != test.value:
            return None
    if "name" not in given:
        raise cps_path.refusal(path)
    if "value" not in given:
        return Search(public_names=frozenset({given["name"]}))
    return Search(public_properties={given["name"]: given["value"]})


def _keys(names: Set[str]) -> frozenset[str]:
    """The normal forms of those that are FDNs: no handle has another alternate id."""
    keys = set()
    for name in names:
        try:
            keys.add(fdn.key(name))
        except InvalidFdn:
            continue
    return frozenset(keys)
