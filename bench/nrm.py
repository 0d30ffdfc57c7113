# SPDX-License-Identifier: Apache-2.0
"""The pure parts alone, in one process: patches applied, objects filtered and rendered per second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ran_datajobs.dmi.messages import MessageCutter, render_of
from ran_datajobs.model import Op, Operation, Scope, ScopeType
from ran_datajobs.nrm.patch import Patch, Rejected, apply, apply_atomically, read_patch
from ran_datajobs.nrm.select import Selection, picks, scoped, selected, selection, selection_of
from ran_datajobs.nrm.tree import Tree
from ran_datajobs.plugins.wire import TREE_FLAT, TREE_HIERARCHICAL
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network

SITES, SEED = 500, 1
PATCHES = 100_000
DOCUMENT = 50
RUNS = 3


async def run() -> None:
    """Print the figures; the best of some runs."""
    network = Network(SITES, SEED)
    tree = Tree(network.walk())
    print(f"Managed objects, {len(tree):,} of {SITES} sites (one process)")
    operations = _operations()
    _print("patches read and applied, one by one", PATCHES, partial(_one_by_one, operations, tree, network))
    what = f"patches read and applied in atomic documents of {DOCUMENT}"
    _print(what, PATCHES, partial(_documents, operations, tree, network))
    for name, wanted in _reads().items():
        _print(f"objects filtered, {name}", len(tree), partial(_filtered, tree, wanted))
    for kind in (TREE_FLAT, TREE_HIERARCHICAL):
        form = kind.removeprefix("application/vnd.3gpp.object-tree-").removesuffix("+json")
        _print(f"objects selected and cut into messages, {form}", len(tree), partial(_messages, tree, kind))


def _operations() -> list[Operation]:
    return [
        Operation(
            Op.REPLACE,
            f"/{layout.element_key(n % SITES + 1)}/GNBDUFunction=1/NRCellDU={n % 3 + 1}#/attributes/nRPCI",
            n,
            Raw(msgspec.json.encode(n % 1008)),
        )
        for n in range(PATCHES)
    ]


def _one_by_one(operations: Sequence[Operation], tree: Tree, network: Network) -> None:
    for patch in _patches(operations):
        if apply(patch, tree, network.model, network.actions) is not None:
            raise SystemExit("a patch was refused")


def _documents(operations: Sequence[Operation], tree: Tree, network: Network) -> None:
    for first in range(0, PATCHES, DOCUMENT):
        patches = list(_patches(operations[first : first + DOCUMENT]))
        if isinstance(apply_atomically(patches, tree, network.model, network.actions), Rejected):
            raise SystemExit("a document was refused")


def _patches(operations: Sequence[Operation]) -> Iterable[Patch]:
    for each in operations:
        patch = read_patch(each.op, each.path, each.value)
        if not isinstance(patch, Patch):
            raise SystemExit("an operation cannot be read")
        yield patch


def _filtered(tree: Tree, wanted: Selection) -> None:
    for _ in picks(scoped(tree, layout.COUNTRY, wanted), wanted):
        pass


def _messages(tree: Tree, kind: str) -> None:
    read = Operation(Op.READ, f"/{layout.COUNTRY}", "1", scope=Scope(ScopeType.BASE_ALL))
    objects = list(selected(tree, layout.COUNTRY, selection_of(read, "SubNetwork")))
    cutter = MessageCutter(render_of(kind))
    for first in range(0, len(objects), 500):
        cutter.objects(read, objects[first : first + 500])
        cutter.full()
    cutter.end(read)
    cutter.rest()


def _print(what: str, count: int, do: Callable[[], None]) -> None:
    best = min(_seconds(do) for _ in range(RUNS))
    print(f"  {what}: {count / best:,.0f}/s")


def _seconds(do: Callable[[], None]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def _reads() -> dict[str, Selection]:
    filters: dict[str, str | UnsetType] = {
        "no filter": UNSET,
        "one class by a number": "NRCellDU/attributes/nRPCI < 100",
        "the most frequent class by two terms": (
            "NRCellRelation/attributes/isHOAllowed == true && NRCellRelation/attributes/nRTCI > 5"
        ),
    }
    return {
        name: selection("SubNetwork", Scope(ScopeType.BASE_ALL), text, None, None)
        for name, text in filters.items()
    }
