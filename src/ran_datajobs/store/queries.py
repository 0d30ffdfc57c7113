# SPDX-License-Identifier: Apache-2.0
"""Named queries: a ``sql/*.sql`` file holds ``-- name: some_query`` blocks. Python modules hold no SQL."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@functools.cache
def named_queries(file: str, package: str = __package__) -> Mapping[str, str]:
    """The queries of ``sql/{file}.sql`` in ``package`` by name."""
    text = resources.files(package).joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    pieces = _NAME.split(text)
    return dict(zip(pieces[1::2], map(str.strip, pieces[2::2]), strict=True))


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, SQL text) of every file in ``migrations/``, in order; numbers have no gap."""
    folder = resources.files(__package__).joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    found = [(int(name[:4]), name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names]
    if [number for number, _, _ in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"migrations are not numbered without a gap: {names}")
    return found
