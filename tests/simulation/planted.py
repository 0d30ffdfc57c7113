# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.simulation.planted [SEEDS [NAME…]]``: plant each fault of ``planted/`` and find it.

Prints a line for each fault: the seed that finds it, the seconds it took, and the rule that it breaks. Status
1 if one of them is not found.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.simulation.world import simulate

_ROOT: Final = Path(__file__).resolve().parents[2]
_FOLDER: Final = Path(__file__).resolve().parent / "planted"


class Found(NamedTuple):
    """The first seed that broke a rule, the seconds it took, and its message."""

    seed: int
    seconds: float
    message: str


def faults(*names: str) -> list[Path]:
    """The patches, or those with these names."""
    return [each for each in sorted(_FOLDER.glob("*.patch")) if not names or each.stem in names]


def plant(fault: Path, folder: Path) -> Path:
    """Make a copy of the project in ``folder`` with the fault."""
    for part in ("src", "tests"):
        shutil.copytree(_ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["patch", "-p1", "--quiet", "--fuzz=0", "-i", str(fault)], cwd=folder, check=True)
    return folder


def search(copy: Path, seeds: int) -> Found | None:
    """The first seed, of the given number, that finds the fault of a copy. Raises Broken if the seed fails
    without the fault."""
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "tests.simulation", str(seeds)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": f"{copy / 'src'}:{copy}", "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    message = re.search(r"^seed (\d+), after .*?:\n(.*?)\n", ended.stdout, re.MULTILINE)
    if ended.returncode == 0:
        return None
    if message is None:
        raise RuntimeError(f"the simulation did not run: {ended.stdout}{ended.stderr}")
    simulate(int(message[1]))
    return Found(int(message[1]), time.monotonic() - began, message[2])


def main() -> int:
    """Search for every fault."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    chosen = faults(*sys.argv[2:])
    missed = 0
    scratch = Path(os.environ.get("TMPDIR", "/tmp")) / f"ran-datajobs-planted-{os.getpid()}"
    for fault in chosen:
        try:
            found = search(plant(fault, scratch), seeds)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        missed += found is None
        how = "NOT FOUND" if found is None else f"seed {found.seed}, {found.seconds:.0f} s: {found.message}"
        print(f"{fault.stem}: {how}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults were found within {seeds} seeds each")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
