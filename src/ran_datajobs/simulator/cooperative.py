# SPDX-License-Identifier: Apache-2.0
"""Long reads that yield to the event loop regularly, even if they select few objects.

A walk yields None after every LOOKED_AT objects; at each None, and after each piece of an answer, the event
loop runs once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Final

from ran_datajobs.nrm.select import Scoped, Selection, picks
from ran_datajobs.nrm.tree import Attributes

LOOKED_AT: Final = 200
"""Number of objects, selected or not, after which a walk yields to the event loop."""

Picked = tuple[str, Attributes]
"""Key and selected attributes of a selected object."""


def select_with_yields(objects: Iterable[Scoped], wanted: Selection) -> Iterator[Picked | None]:
    """Yield the selected ones of ``objects``, and None after every LOOKED_AT objects."""
    walked = iter(objects)
    while looked_at := tuple(islice(walked, LOOKED_AT)):
        yield from picks(looked_at, wanted)
        if len(looked_at) == LOOKED_AT:
            yield None


async def first_of(picked: Iterator[Picked | None]) -> Picked | None:
    """The first selected object; None if there is none."""
    for each in picked:
        if each is not None:
            return each
        await asyncio.sleep(0)
    return None


async def yielding(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the non-empty pieces; after each piece, empty or not, run the event loop once."""
    for piece in pieces:
        if piece:
            yield piece
        await asyncio.sleep(0)
