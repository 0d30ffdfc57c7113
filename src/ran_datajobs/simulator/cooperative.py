# SPDX-License-Identifier: Apache-2.0
"""Long reads that leave other requests their turn, however little they select.

What is walked comes with a mark, None, after every LOOKED_AT objects; at each of them, and after each piece
of an answer, the event loop goes round once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Final

from ran_datajobs.nrm.select import Scoped, Selection, picks
from ran_datajobs.nrm.tree import Attributes

LOOKED_AT: Final = 200
"""So many objects are looked at, selected or not, before others have their turn."""

Picked = tuple[str, Attributes]
"""The key of a selected object, and what is selected of it."""


def select_with_yields(objects: Iterable[Scoped], wanted: Selection) -> Iterator[Picked | None]:
    """The selected ones of ``objects``, and None after every LOOKED_AT of them all."""
    walked = iter(objects)
    while looked_at := tuple(islice(walked, LOOKED_AT)):
        yield from picks(looked_at, wanted)
        if len(looked_at) == LOOKED_AT:
            yield None


async def first_of(picked: Iterator[Picked | None]) -> Picked | None:
    """The first selected object; None when there is none."""
    for each in picked:
        if each is not None:
            return each
        await asyncio.sleep(0)
    return None


async def yielding(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces that are not empty; after each one, empty or not, others have their turn."""
    for piece in pieces:
        if piece:
            yield piece
        await asyncio.sleep(0)
