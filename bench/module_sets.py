# SPDX-License-Identifier: Apache-2.0
"""Module sets: processor time and memory to read YANG modules as many and as large as those of 3GPP, in the
constructs of TS 32.160; the size of what is stored, and the time to load it."""

from __future__ import annotations

import io
import resource
import time
import zipfile
from functools import partial
from pathlib import Path

from ran_datajobs.inventory.module_reader import ModuleReader
from ran_datajobs.nrm.module_set import decode

MODULES, CLASSES, ATTRIBUTES = 100, 3, 25
RUNS = 3

_TEXT = "What the attribute means, as long as the texts of a standard are: " + "word " * 60
_TYPES = (
    'int32 { range "0..1007"; }',
    "enumeration { enum LOCKED; enum UNLOCKED; enum SHUTTINGDOWN; }",
    "xt:DistinguishedName",
    'string { pattern "[A-Fa-f0-9]{4}|[A-Fa-f0-9]{6}"; }',
    "boolean",
)


async def run(folder: str = "") -> None:
    """Print the figures, the best of some runs; of generated modules, or of those in a ``folder``."""
    if folder:
        files = {str(file): file.read_text(encoding="utf-8") for file in Path(folder).rglob("*.yang")}
    else:
        files = {f"m{number}.yang": _module(number) for number in range(MODULES)} | {"t.yang": _types()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    size = sum(map(len, files.values()))
    print(f"Module set of {len(files)} modules, {size / 1e6:.1f} MB (one process)")
    reader, taken, stored = ModuleReader(), [], b""
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        stored = await reader.read(packed.getvalue())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"  read: {min(taken):.2f} s of processor time, {peak:.0f} MiB")
    print(f"  stored form: {len(stored) / 1e3:.0f} kB")
    load = partial(decode, stored)
    classes = load().classes.values()
    print(f"  {len(classes)} classes with {sum(len(each.attributes) for each in classes)} attributes")
    print(f"  loaded: {min(_seconds(load) for _ in range(RUNS)) * 1e3:.1f} ms")


def _seconds(work: partial[object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _types() -> str:
    return """module t { yang-version 1.1; namespace "urn:t"; prefix xt;
  typedef DistinguishedName { type string; }
  grouping Top_Grp { leaf id { type string; } }
  grouping ManagedFunctionGrp { leaf userLabel { type string; } leaf priorityLabel { type uint32; } } }"""


def _module(number: int) -> str:
    """A module whose classes are below those of the module before it."""
    above = f"/m{number - 1}:C{number - 1}x0" if number % 4 else ""
    parts = [f'module m{number} {{ yang-version 1.1; namespace "urn:m{number}"; prefix m{number};']
    parts.append("  import t { prefix xt; }")
    path = "".join(f"/m{each}:C{each}x0" for each in range(number - number % 4, number))
    parts += [f"  import m{each} {{ prefix m{each}; }}" for each in range(number - number % 4, number)]
    for place in range(CLASSES):
        parts.append(f"  grouping C{number}x{place}Grp {{ uses xt:ManagedFunctionGrp;")
        for attribute in range(ATTRIBUTES):
            kind = _TYPES[attribute % len(_TYPES)]
            end = "" if kind.endswith("}") else ";"
            parts.append(f'    leaf a{attribute} {{\n      description "{_TEXT}";')
            parts.append(f"      type {kind}{end}\n    }}")
        parts.append("  }")
    lists = "".join(
        f"list C{number}x{place} {{ key id; uses xt:Top_Grp;"
        f" container attributes {{ uses C{number}x{place}Grp; }} }}\n"
        for place in range(CLASSES)
    )
    parts.append(f'  augment "{path}" {{ {lists} }}' if above else lists)
    return "\n".join((*parts, "}"))
