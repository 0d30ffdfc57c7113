# SPDX-License-Identifier: Apache-2.0
"""Problems of a body: (JSON pointer, detail) pairs; the first hundred are kept, all are counted."""

from __future__ import annotations

from typing import Final

from ran_datajobs.errors import InvalidRequest, UnsupportedRequest

MAX_SHOWN: Final = 100
"""Maximum number of problems that an answer lists; the others are only counted."""


class Problems:
    """Collects the problems of one body, in order."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[tuple[str, str]] = []

    def add(self, pointer: str, detail: str) -> None:
        """Record that the value at ``pointer`` (``#/data/17/path``) is wrong, and why."""
        self.count += 1
        if self.count <= MAX_SHOWN:
            self._shown.append((pointer, detail))

    def raise_if_any(self, kind: type[InvalidRequest | UnsupportedRequest] = InvalidRequest) -> None:
        """Raise an error of this ``kind`` if there are problems."""
        if self.count:
            pointer, detail = self._shown[0]
            more = f" (and {self.count - 1} more)" if self.count > 1 else ""
            raise kind(f"{pointer}: {detail}{more}", tuple(self._shown), self.count)
