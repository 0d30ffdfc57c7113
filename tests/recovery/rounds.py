# SPDX-License-Identifier: Apache-2.0
"""Kill processes in rounds and record the figures of each round: ``make crash CRASH_KILLS=1000``.

When a round has ended, its figures are appended to ``build/crash/rounds.jsonl`` with the state of the code.
An interrupted run continues with the first missing round; after a change of the code a run starts again with
the first round. Exit status: 0 when nothing is lost or doubled, 1 when something is, 2 for wrong use and if
Kafka is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import pytest
from msgspec import Struct

from tests.nightly import ROOT, state_of_tree
from tests.peers.kafka import KafkaBroker, running_broker
from tests.recovery.round import KINDS, Figures, crash_round

KEPT: Final = ROOT / "build" / "crash" / "rounds.jsonl"
CODE: Final = ("src", "tests/recovery/round.py")
"""Paths whose content the figures depend on: figures are valid until one of them changes."""

KILLS: Final = 50
"""Kills of one round."""

_HEAD: Final = (
    "round",
    *KINDS,
    "jobs",
    "operations",
    "messages",
    "lost",
    "doubled",
    "unknown",
    "started_again",
    "seconds",
)


class Kept(Struct, frozen=True):
    """The figures of a round and the state of the code that it ran."""

    code: str
    figures: Figures


def main(arguments: Sequence[str]) -> int:
    """Run the missing rounds, then print a row for each round and the totals."""
    parser = argparse.ArgumentParser(prog="python -m tests.recovery.rounds", description="Kill in rounds.")
    parser.add_argument("kills", type=int, help=f"SIGKILLs in all; rounded up to rounds of {KILLS}")
    wanted = -(-parser.parse_args(arguments).kills // KILLS)
    code = state_of_tree(ROOT, *CODE)
    with contextlib.ExitStack() as stack:
        broker: list[KafkaBroker] = []

        def run(seed: int) -> Figures:
            if not broker:
                broker.append(stack.enter_context(running_broker()))
            with tempfile.TemporaryDirectory(prefix="ran-datajobs-crash-") as folder:
                return asyncio.run(crash_round(seed, KILLS, Path(folder), broker[0]))

        try:
            chosen = completed(wanted, code, KEPT, run)
        except (pytest.skip.Exception, pytest.fail.Exception) as missing:
            print(missing, file=sys.stderr)
            return 2
    print(table(chosen))
    for each in chosen:
        print(*each.faults, sep="\n", end="\n" if each.faults else "")
    print(_sums(chosen))
    return int(any(each.lost or each.doubled for each in chosen))


def completed(wanted: int, code: str, kept: Path, run: Callable[[int], Figures]) -> list[Figures]:
    """Return the figures of rounds 1 to ``wanted``; call ``run`` for those that are not in ``kept``."""
    done = kept_in(kept, code)
    kept.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(1, wanted + 1):
        if seed not in done:
            done[seed] = run(seed)
            with kept.open("ab") as file:
                file.write(b"\n" + msgspec.json.encode(Kept(code, done[seed])) + b"\n")
            print(f"round {seed} of {wanted}: {_sums([done[seed]])}", file=sys.stderr, flush=True)
    return [done[seed] for seed in range(1, wanted + 1)]


def kept_in(file: Path, code: str) -> dict[int, Figures]:
    """Return the completed rounds of this code by seed; a truncated line is ignored."""
    found = {}
    for line in file.read_bytes().splitlines() if file.exists() else ():
        try:
            kept = msgspec.json.decode(line, type=Kept)
        except msgspec.DecodeError:
            continue
        if kept.code == code:
            found[kept.figures.seed] = kept.figures
    return found


def table(rounds: Iterable[Figures]) -> str:
    """Format a row for each round and the totals; for the seconds, the maximum."""
    rows = [_row(each) for each in rounds]
    sums = {name: sum(int(row[name]) for row in rows) for name in _HEAD[1:-1]}
    last = {"round": "all", **sums, "seconds": max((row["seconds"] for row in rows), default=0.0)}
    lines = [_HEAD, *(tuple(str(row[name]) for name in _HEAD) for row in [*rows, last])]
    return "\n".join(
        "  ".join(cell.rjust(len(head)) for cell, head in zip(line, _HEAD, strict=True)) for line in lines
    )


def _row(figures: Figures) -> Mapping[str, float]:
    return {
        "round": figures.seed,
        **{kind: figures.kills.get(kind, 0) for kind in KINDS},
        **{name: getattr(figures, name) for name in _HEAD[len(KINDS) + 1 :]},
    }


def _sums(rounds: Sequence[Figures]) -> str:
    """Format the last line of a run, in the shape that the nightly tests record."""
    kills = sum(sum(each.kills.values()) for each in rounds)
    counted = [name for name in _HEAD[len(KINDS) + 1 : -1] if name != "started_again"]
    counts = {name: sum(getattr(each, name) for each in rounds) for name in counted}
    reported = ", ".join(f"{number} {name}" for name, number in counts.items())
    return f"{kills} kills, {reported} in {sum(each.took for each in rounds):.0f}s"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
