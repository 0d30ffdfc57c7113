# SPDX-License-Identifier: Apache-2.0
"""Look up the owners of many managed objects together. Pure.

The lookup of one object tries its FDN, then each shorter prefix. For many objects it is faster to cut all
their paths at the depths of the alternate ids: an inventory has few depths, usually one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Final

from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.nrm import fdn

_MOST_DEPTHS: Final = 3


def owners_of(paths: Sequence[str], owners: Owners) -> list[Owner | None]:
    """The owner of the object that each operation's path names, in order.

    The paths are those of checked operations, so their FDNs are valid.
    """
    text = "\n".join(paths) + "\n"
    # Without these characters each FDN, but for its leading slash, is its own key.
    is_plain = text.isascii() and not any(character in text for character in "%,?")
    if not is_plain or len(owners.depths) > _MOST_DEPTHS:
        return [owners.owner_of(fdn.key_of_path(path)) for path in paths]
    found: list[Owner | None] = [None] * len(paths)
    for depth in sorted(owners.depths):
        deeper = owners.under(_prefixes(depth)(text))
        found = [below or above for below, above in zip(deeper, found, strict=True)]
    return found


@functools.cache
def _prefixes(depth: int) -> Callable[[str], list[str]]:
    """Function for the first ``depth`` RDNs of each line, a plain path, as a key; empty if it has fewer."""
    rdns = "/".join([r"[ !\"$-.0-~]++"] * depth)
    return re.compile(rf"/?({rdns}|).*\n").findall
