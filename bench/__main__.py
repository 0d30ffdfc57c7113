# SPDX-License-Identifier: Apache-2.0
"""``python -m bench [NAME[=SIZE] …]``: run the measurements and print their figures."""

from __future__ import annotations

import asyncio
import importlib
import sys

NAMES = ("accept", "size", "network", "simulator", "plan", "peers", "nrm", "read", "delivery")


def main() -> None:
    """Run the named measurements, or all."""
    wanted = [word.partition("=")[::2] for word in sys.argv[1:] or NAMES]
    if unknown := [name for name, _ in wanted if name not in NAMES]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    for name, size in wanted:
        asyncio.run(importlib.import_module(f"bench.{name}").run(*([size] if size else [])))


if __name__ == "__main__":
    main()
