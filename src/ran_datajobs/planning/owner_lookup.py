# SPDX-License-Identifier: Apache-2.0
"""Look up the owners of many managed objects together. Pure.

The lookup of one object tries its FDN, then each shorter prefix. For many objects it is faster to cut all
their paths at the depth of the deepest alternate ids first: an inventory has few depths, usually one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Final

from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.nrm import fdn

_FEW: Final = 64
_MOST_DEPTHS: Final = 3


def owners_of(paths: Sequence[str], owners: Owners) -> list[Owner | None]:
    """The owner of the object that each operation's path names, in order.

    The paths are those of checked operations, so their FDNs are valid.
    """
    if len(paths) > _FEW and len(owners.depths) <= _MOST_DEPTHS:
        text = "\n".join(paths) + "\n"
        if _all_plain(text):
            return _match_all_at_once(paths, text, owners)
    return [owners.owner_of(fdn.key_of_path(path)) for path in paths]


def _all_plain(text: str) -> bool:
    """True when each FDN, but for its leading slash, is its own :func:`ran_datajobs.nrm.fdn.key`."""
    return text.isascii() and "%" not in text and "," not in text and "?" not in text


def _match_all_at_once(paths: Sequence[str], text: str, owners: Owners) -> list[Owner | None]:
    found: list[Owner | None] = [None] * len(paths)
    missing: Sequence[int] = range(len(paths))
    for depth in sorted(owners.depths, reverse=True):
        prefixes = _prefixes(depth)(text)
        deepest = owners.under(prefixes)
        if len(missing) == len(paths):
            found = deepest
        else:
            for place, owner in zip(missing, deepest, strict=True):
                found[place] = owner
        if None not in deepest:
            break
        missing = [place for place, owner in zip(missing, deepest, strict=True) if owner is None]
        text = "\n".join([paths[place] for place in missing]) + "\n"
    return found


@functools.cache
def _prefixes(depth: int) -> Callable[[str], list[str]]:
    """Function for the first ``depth`` RDNs of each line, a plain path, as a key; empty if it has fewer."""
    rdns = "/".join([r"[ !\"$-.0-~]++"] * depth)
    return re.compile(rf"/?({rdns}|).*\n").findall
