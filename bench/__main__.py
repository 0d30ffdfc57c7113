# SPDX-License-Identifier: Apache-2.0
"""``python -m bench [NAME[=SIZE] …]``: run the measurements and print their figures."""

from __future__ import annotations

import asyncio
import importlib
import sys

NAMES = (
    "accept",
    "size",
    "cost",
    "network",
    "cancel",
    "simulator",
    "plan",
    "peers",
    "nrm",
    "read",
    "beside",
    "delivery",
    "registration",
    "follow",
    "searches",
    "policy",
    "guards",
    "module_sets",
    "validation",
    "preview",
)
ONLY_WHEN_NAMED = ("scale", "tables", "k6", "lines")
"""Measurements that take many minutes, that need a folder from elsewhere, or that run nothing."""


def main() -> None:
    """Run the named measurements, or all short ones."""
    wanted = [word.partition("=")[::2] for word in sys.argv[1:] or NAMES]
    known = NAMES + ONLY_WHEN_NAMED
    if unknown := [name for name, _ in wanted if name not in known]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are: {', '.join(known)}")
    for name, size in wanted:
        asyncio.run(importlib.import_module(f"bench.{name}").run(*([size] if size else [])))


if __name__ == "__main__":
    main()
