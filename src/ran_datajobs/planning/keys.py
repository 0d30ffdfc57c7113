# SPDX-License-Identifier: Apache-2.0
"""The problems of a request, and its keys: the known ones, and the handling of the others. Pure.

======================================================== ==================================================
key                                                      handling
======================================================== ==================================================
of the envelope, known in any case                       its value is read
duplicate in the envelope, in any case                   400
of a feature that is not offered yet, unless its value   422: no client relies on a missing feature
is ``null``
of the envelope, one edit away from a known key that     400 that names the known key: a typing error
is absent
any other                                                ignored, and listed in the answer and in the job
======================================================== ==================================================

Keys of operations are matched exactly, after blanks around them are trimmed, and never treated as typing
errors: other systems add keys of their own. In a write, the keys of a read are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Raw

from ran_datajobs.errors import InvalidRequest, UnsupportedRequest
from ran_datajobs.http.json_body import pointer_step, shortened
from ran_datajobs.model import Ignored, IgnoredKey

ENVELOPE: Final = {
    key.lower(): key
    for key in (
        "dataAcceptType",
        "dataContentType",
        "name",
        "activationMode",
        "validation",
        "priority",
        "after",
        "data",
    )
}
"""The keys of an envelope by their lower-case form."""

NOT_OFFERED: Final = {name.lower(): name for name in ("basedOn", "skipUnchanged", "expect", "undoable")}
"""Features that are not offered yet, as keys or query parameters, by their lower-case form."""

DRY_RUN: Final = "dryRun"
PREVIEW: Final = "preview"
PARAMETERS: Final = {name.lower(): name for name in (DRY_RUN, PREVIEW)}
"""The query parameters for a submit that is not executed, by their lower-case form. As a key of a body each
is refused."""

MAX_SHOWN: Final = 100
"""Maximum number of problems that an answer lists; the others are only counted."""

MAX_LISTED: Final = 100
"""Maximum number of ignored keys that are listed."""

MAX_UNLISTED: Final = 100_000
"""Maximum number of distinct keys of operations that are counted in addition to the listed ones."""

OCCURS_TWICE: Final = "occurs twice; keys are matched without regard to case"

_NAMES_NOT_OFFERED: Final = frozenset(NOT_OFFERED.values())
_NEAR: Final = ENVELOPE | NOT_OFFERED | PARAMETERS


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


class UnknownKeys:
    """Collects the unknown keys of one request.

    A new request with keys that are ``not_offered``, or with ``typos``, is refused; one that was accepted
    before the service knew these keys is still executed.
    """

    def __init__(self, typos: Problems) -> None:
        self.not_offered = Problems()
        self._typos = typos
        self._pointers: list[str] = []
        self._names: dict[str, int] = {}

    @property
    def ignored(self) -> Ignored | None:
        """The ignored keys: those of the envelope, then those of operations, in order of appearance."""
        keys = [IgnoredKey(pointer=pointer) for pointer in self._pointers]
        keys += [IgnoredKey(name=name, count=count) for name, count in self._names.items()]
        return Ignored(tuple(keys[:MAX_LISTED]), len(keys)) if keys else None

    def in_envelope(self, members: Sequence[tuple[str, Raw]]) -> None:
        """Classify the keys of an envelope that are not in :data:`ENVELOPE`. ``members``: all of them."""
        there = {spelt.lower() for spelt, _ in members}
        seen: set[str] = set()
        for spelt, value in members:
            key, pointer = spelt.lower(), f"#/{pointer_step(spelt)}"
            if key in ENVELOPE:
                continue
            if key in seen:
                self._typos.add(pointer, OCCURS_TWICE)
            elif key in NOT_OFFERED:
                if bytes(value) != b"null":
                    self.not_offered.add(pointer, not_offered(key))
            elif key in PARAMETERS and bytes(value) not in {b"null", b"false"}:
                self._typos.add(
                    pointer, f"is a query parameter and no key of a body: ?{PARAMETERS[key]}=true"
                )
            elif near := [known for known in _NEAR if known not in there and one_edit_apart(key, known)]:
                names = " or ".join(_NEAR[known] for known in near)
                self._typos.add(pointer, f"is not a key of a request: did you mean {names}?")
            else:
                self._pointers.append(pointer)
            seen.add(key)

    def in_operation(self, pointer: str, name: str, *, is_null: bool) -> None:
        """Classify one key of the operation at ``pointer`` that does not apply to it."""
        if name in _NAMES_NOT_OFFERED:
            if not is_null:
                self.not_offered.add(f"{pointer}/{name}", not_offered(name.lower()))
            return
        if name == PREVIEW and not is_null:  # nobody is to believe that the operation is not executed
            self._typos.add(f"{pointer}/{name}", f"is a query parameter of the submit: ?{PREVIEW}=true")
            return
        name = shortened(name)
        if name in self._names or len(self._names) < MAX_LISTED + MAX_UNLISTED:
            self._names[name] = self._names.get(name, 0) + 1


def not_offered(key: str) -> str:
    """The error text for a ``key`` of :data:`NOT_OFFERED`."""
    return f"{NOT_OFFERED[key]} is not offered yet: take it out, nothing would come of it"


def one_edit_apart(one: str, other: str) -> bool:
    """True when one insertion, deletion or substitution of a character, or one swap of two neighbours, turns
    ``one`` into ``other`` (their Damerau distance is 1)."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    start = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if start is None:
        return True
    one, other = one[start:], other[start:]
    if len(one) != len(other):
        return one[1:] == other or one == other[1:]
    return one[1:] == other[1:] or (one[1::-1] == other[:2] and one[2:] == other[2:])
