# SPDX-License-Identifier: Apache-2.0
"""Random inventories of CM handles and searches over them, with a naive evaluation, for tests."""

from __future__ import annotations

import random
from typing import Any

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.nrm import fdn

PLUGINS = ("http://127.0.0.1:9", "http://127.0.0.1:10/dmi")

Handle = dict[str, Any]
"""A CM handle as it is registered."""


def random_fdn(rng: random.Random) -> str:
    """An alternate id among few names, so that some lie below others and some sort between."""
    words = ("1", "1-a", "1.b", "2", "Ire%2Fland", "it's", "a b")
    rdns = [f"{name}={rng.choice(words)}" for name in ("SubNetwork", "SubNetwork", "ManagedElement", "Cell")]
    return "/" + "/".join(rdns[: rng.randint(1, 4)])


def random_handles(rng: random.Random, count: int) -> list[Handle]:
    """Handles with distinct ids and alternate ids; some have no alternate id, no producer or no tag."""
    names: dict[str, str] = {}
    for _ in range(count):
        name = random_fdn(rng)
        names.setdefault(fdn.key(name), name)
    free = [*names.values(), *[""] * (count - len(names))]
    rng.shuffle(free)
    return [
        {
            "cmHandle": f"{rng.choice(('ch', 'h_'))}-{number}",
            "alternateId": free[number],
            "dataProducerIdentifier": rng.choice(("", "p1", "p2")),
            "moduleSetTag": rng.choice(("", "t1", "t2")),
            "trustLevel": rng.choice(("", "COMPLETE", "NONE")),
            "publicCmHandleProperties": _random_properties(rng),
            "cmHandleProperties": _random_properties(rng),
        }
        for number in range(count)
    ]


def _random_properties(rng: random.Random) -> dict[str, str]:
    names = ("Color", "Size", "it's", "a\\b")
    return {name: rng.choice(("", "1", "2", 'x"y')) for name in names if rng.random() < 0.5}


MODULES = {"": ("m0",), "t1": ("m1", "m2"), "t2": ("m2",)}
"""Names of the modules of each module set tag; the handles without one have the same ones."""


def trust_of(handle: Handle, plugins: set[str], down: set[str]) -> str:
    """The trust level of a handle of ``plugins``, of which those in ``down`` are."""
    return "NONE" if handle["trustLevel"] == "NONE" or plugins & down else "COMPLETE"


Condition = tuple[str, list[dict[str, str]]]


def random_condition(rng: random.Random, handles: list[Handle]) -> Condition:
    """A condition that some of the handles fulfil, often."""
    handle = rng.choice(handles)
    kind = rng.randrange(10)
    match kind:
        case 0 | 1:
            name, member = (
                ("hasAllProperties", "publicCmHandleProperties"),
                ("hasAllAdditionalProperties", "cmHandleProperties"),
            )[kind]
            pairs = list(handle[member].items()) or [("Color", "none")]
            return name, [{key: value} for key, value in rng.sample(pairs, rng.randint(1, len(pairs)))]
        case 2:
            return "cmHandleWithTrustLevel", [{"trustLevel": rng.choice(("COMPLETE", "NONE"))}]
        case 3:
            return "cmHandleWithDmiPlugin", [{"dmiPluginName": rng.choice((*PLUGINS, "http://127.0.0.1:11"))}]
        case 4 | 5:
            names = MODULES[handle["moduleSetTag"]]
            return "hasAllModules", [{"moduleName": name} for name in rng.choice((names, names[:1], ("m9",)))]
    return "cmHandleWithCpsPath", [{"cpsPath": random_path(rng, handle)}]


def quoted(text: str) -> str:
    """A text in a CPS path."""
    return "'" + text.replace("'", "''") + "'"


def random_path(rng: random.Random, handle: Handle) -> str:
    """A CPS path that finds the handle, sometimes."""
    name, value = rng.choice(list(handle["publicCmHandleProperties"].items()) or [("Color", "none")])
    alternate = handle["alternateId"] or "/none=1"
    start = rng.randrange(len(alternate))
    forms = [
        f"//state[@cm-handle-state='{rng.choice(('READY', 'LOCKED'))}']",
        f"//public-properties[@name={quoted(name)} and @value={quoted(value)}]",
        f"//public-properties[@name={quoted(name)}]/ancestor::cm-handles",
        f"//cm-handles[@alternate-id={quoted(alternate)}]",
        f"//cm-handles[contains(@alternate-id,{quoted(alternate[start : start + rng.randint(1, 20)])})]",
        f"//cm-handles[@id={quoted(handle['cmHandle'])} or @id='ch-1']",
        f"//cm-handles[contains(@id,{quoted(handle['cmHandle'][1:4])})]",
        f"//cm-handles[@module-set-tag={quoted(handle['moduleSetTag'])}]",
        "//cm-handles[@data-producer-identifier='p1' and @module-set-tag='t1']",
    ]
    return rng.choice(forms)


def fulfils(handle: Handle, plugins: set[str], down: set[str], condition: Condition) -> bool:
    """Whether a handle with these plugins, of which those in ``down`` are, fulfils a condition.

    Paths are those of :func:`random_path`.
    """
    name, parameters = condition
    match name:
        case "hasAllProperties":
            return _has(handle["publicCmHandleProperties"], parameters)
        case "hasAllAdditionalProperties":
            return _has(handle["cmHandleProperties"], parameters)
        case "cmHandleWithTrustLevel":
            return trust_of(handle, plugins, down) == parameters[0]["trustLevel"]
        case "hasAllModules":
            return {each["moduleName"] for each in parameters} <= {*MODULES[handle["moduleSetTag"]]}
        case "cmHandleWithDmiPlugin":
            return parameters[0]["dmiPluginName"] in plugins
    return _is_on(handle, parameters[0]["cpsPath"])


def _has(properties: dict[str, str], parameters: list[dict[str, str]]) -> bool:
    return all(properties.get(name) == value for each in parameters for name, value in each.items())


def _is_on(handle: Handle, path: str) -> bool:
    """The path is tried as it is written for this handle."""
    alternate, properties = handle["alternateId"], handle["publicCmHandleProperties"]
    if path.startswith("//state"):
        return "READY" in path
    if path.startswith("//public-properties"):
        return any(
            path.startswith(f"//public-properties[@name={quoted(name)}]")
            or path == f"//public-properties[@name={quoted(name)} and @value={quoted(value)}]"
            for name, value in properties.items()
        )
    inside = path.removeprefix("//cm-handles[").removesuffix("]")
    if inside.startswith("contains("):
        leaf, _, part = inside.removeprefix("contains(@").removesuffix(")").partition(",")
        return part[1:-1].replace("''", "'") in {"id": handle["cmHandle"], "alternate-id": alternate}[leaf]
    if inside.startswith("@alternate-id"):
        return bool(alternate) and inside == f"@alternate-id={quoted(alternate)}"
    if inside.startswith("@id"):
        return handle["cmHandle"] == "ch-1" or inside.startswith(f"@id={quoted(handle['cmHandle'])} ")
    if inside.startswith("@data-producer"):
        return (handle["dataProducerIdentifier"], handle["moduleSetTag"]) == ("p1", "t1")
    return inside == f"@module-set-tag={quoted(handle['moduleSetTag'])}"


def owner_among(handles: list[Handle], name: str) -> Handle | None:
    """The handle whose alternate id is the longest whole-RDN prefix of an FDN."""
    try:
        rdns = fdn.parse(name)
    except InvalidFdn:
        return None
    with_names = [(fdn.parse(handle["alternateId"]), handle) for handle in handles if handle["alternateId"]]
    matching = [(len(theirs), handle) for theirs, handle in with_names if rdns[: len(theirs)] == theirs]
    return max(matching, key=lambda found: found[0])[1] if matching else None
