# SPDX-License-Identifier: Apache-2.0
"""Every seed passes, one seed gives one run, and a planted fault is found."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import planted
from tests.simulation.world import simulate

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "20"))
AT_ONCE = 20
ROOT = Path(__file__).resolve().parents[2]
DISPATCH = ROOT / "src/ran_datajobs/dispatch"


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_every_rule_holds_after_every_call(first: int) -> None:
    """A failing seed prints the command that repeats it."""
    for seed in range(first, min(first + AT_ONCE, SEEDS)):
        simulate(seed)


def test_one_seed_gives_one_run() -> None:
    """In processes whose sets and dictionaries of texts have another order."""
    program = "from tests.simulation.world import simulate; print([simulate(seed) for seed in range(3, 5)])"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": number},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(digests) == 1
    assert digests.pop().count(",") == 1


def test_dispatch_has_time_chance_threads_and_ids_from_its_runtime_alone() -> None:
    """No module of it imports a clock, random numbers or threads, or makes an identifier itself."""
    forbidden: list[str] = []
    files = [*sorted(DISPATCH.glob("*.py")), DISPATCH.parent / "plugins/circuit_breaker.py"]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            match node:
                case ast.Import(names=imported):
                    names = [each.name for each in imported]
                case ast.ImportFrom(module=str(module), names=imported):
                    names = [module, *(f"{module}.{each.name}" for each in imported)]
                case ast.Attribute(value=ast.Name(id="asyncio"), attr=attribute):
                    names = [f"asyncio.{attribute}"]
            forbidden += [f"{file.name}: {name}" for name in names if _is_forbidden(name)]
    assert len(files) > 5
    assert forbidden == []


def _is_forbidden(name: str) -> bool:
    modules = ("time", "random", "secrets", "threading", "datetime", "concurrent.futures")
    calls = ("asyncio.to_thread", "asyncio.sleep", "uuid.uuid1", "uuid.uuid4")
    return name in (*modules, *calls) or name.startswith(tuple(f"{module}." for module in modules))


def test_every_planted_fault_can_be_planted(tmp_path: Path) -> None:
    """The patches apply to the current code."""
    faults = planted.faults()
    assert len(faults) >= 7
    for fault in faults:
        planted.plant(fault, tmp_path / fault.stem)


def test_a_planted_fault_is_found(tmp_path: Path) -> None:
    """A create that is repeated after an unknown one. The other faults are planted every night."""
    (fault,) = [each for each in planted.faults() if each.stem == "create-repeated-after-unknown"]
    found = planted.search(planted.plant(fault, tmp_path / "copy"), seeds=100)
    assert found is not None
    assert "executed" in found.message
