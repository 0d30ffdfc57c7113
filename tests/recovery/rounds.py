# SPDX-License-Identifier: Apache-2.0
"""Kill on and on, in rounds whose figures are kept: ``make crash CRASH_KILLS=1000``.

The figures of a round are appended to ``build/crash/rounds.jsonl`` when it has ended, beside the state of
the code. So a run that was interrupted goes on with the first round that is missing, and one after a change
of the code begins anew. Exit status: 0 when nothing is lost or doubled, 1 when something is, 2 for wrong use
and where Kafka is not installed.
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
"""What the figures are about: they count for as long as this does not change."""

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
    """The figures of a round, and the code that it ran."""

    code: str
    figures: Figures


def main(arguments: Sequence[str]) -> int:
    """Run the rounds that are missing, then print a row for each and their sums."""
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
    """The figures of rounds 1 to ``wanted``: the kept ones, and of ``run`` where there are none."""
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
    """The rounds of this code that have ended, by their seed; a line that was cut off is none."""
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
    """A row for each round, and the sums; of the seconds the most."""
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
    """The line that closes a run, in the shape that the nightly tests keep."""
    kills = sum(sum(each.kills.values()) for each in rounds)
    counted = [name for name in _HEAD[len(KINDS) + 1 : -1] if name != "started_again"]
    counts = {name: sum(getattr(each, name) for each in rounds) for name in counted}
    told = ", ".join(f"{number} {name}" for name, number in counts.items())
    return f"{kills} kills, {told} in {sum(each.took for each in rounds):.0f}s"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
