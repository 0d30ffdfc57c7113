# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.simulation [SEEDS [FIRST]]``: run the given number of seeds. Status 1 at the first
fault."""

from __future__ import annotations

import sys
import time

from tests.simulation.world import Broken, simulate


def main() -> int:
    """Run the seeds, and print how many passed."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    began = printed = time.monotonic()
    for seed in range(first, first + seeds):
        try:
            digest = simulate(seed)
        except Broken as broken:
            print(broken)
            return 1
        if time.monotonic() - printed > 10 or seeds == 1:
            printed = time.monotonic()
            print(f"seed {seed}: holds ({digest[:12]}), {seed - first + 1} of {seeds}", flush=True)
    print(f"{seeds} seeds from {first} on: every rule held, {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
