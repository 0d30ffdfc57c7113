# SPDX-License-Identifier: Apache-2.0
"""Layout of the simulated network: names, regions, data producers and neighbours of the sites (pure).

Sites are numbered from 1. Each block of BLOCK consecutive sites belongs to one region and one EMS; the
regions repeat if there are more blocks than regions.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

CELLS: Final = (1, 2, 3)
"""Cell numbers of every site."""

BLOCK: Final = 20
"""Number of sites of one EMS, which is their data producer."""

COUNTRY: Final = "SubNetwork=Europe"
"""Key of the topmost object."""

_SITE: Final = re.compile(
    r"SubNetwork=Europe/SubNetwork=[A-Za-z]+/MeContext=NR\d\dgNodeBRadio(\d{5,8})(?:/|$)"
)


class Region(Struct, frozen=True):
    """A region below the country, with the PLMN of its operator."""

    name: str
    mcc: str
    mnc: str = "01"

    @property
    def key(self) -> str:
        """Its SubNetwork."""
        return f"{COUNTRY}/SubNetwork={self.name}"


REGIONS: Final = tuple(
    Region(name, mcc)
    for name, mcc in (
        ("Ireland", "272"),
        ("Scotland", "234"),
        ("England", "235"),
        ("France", "208"),
        ("Spain", "214"),
        ("Portugal", "268"),
        ("Belgium", "206"),
        ("Netherlands", "204"),
        ("Denmark", "238"),
        ("Norway", "242"),
        ("Sweden", "240"),
        ("Finland", "244"),
        ("Germany", "262"),
        ("Switzerland", "228"),
        ("Austria", "232"),
        ("Italy", "222"),
        ("Poland", "260"),
        ("Czechia", "230"),
        ("Hungary", "216"),
        ("Greece", "202"),
    )
)


def site_name(number: int) -> str:
    """Name of the MeContext and the ManagedElement of a site."""
    return f"NR{number % 100:02d}gNodeBRadio{number:05d}"


def region_of(number: int) -> Region:
    """The region of a site."""
    return REGIONS[(number - 1) // BLOCK % len(REGIONS)]


def data_producer_of(number: int) -> str:
    """The EMS of a site, for example ``ems-ireland-1``."""
    round_number, region = divmod((number - 1) // BLOCK, len(REGIONS))
    return f"ems-{REGIONS[region].name.lower()}-{round_number + 1}"


def context_key(number: int) -> str:
    """The MeContext of a site."""
    return f"{region_of(number).key}/MeContext={site_name(number)}"


def element_key(number: int) -> str:
    """The ManagedElement of a site."""
    return f"{context_key(number)}/ManagedElement={site_name(number)}"


def site_number(key: str) -> int | None:
    """Number of the site that contains the object with a key; None above the sites."""
    found = _SITE.match(key)
    return int(found[1]) if found else None


def regions(sites: int) -> Iterator[Region]:
    """The regions that have sites."""
    yield from REGIONS[: min(len(REGIONS), -(-sites // BLOCK))]


def sites_of(region: Region, sites: int) -> Iterator[int]:
    """The sites of a region."""
    first = REGIONS.index(region) * BLOCK + 1
    for begin in range(first, sites + 1, BLOCK * len(REGIONS)):
        yield from range(begin, min(begin + BLOCK, sites + 1))


def data_producers(sites: int) -> dict[str, tuple[str, ...]]:
    """ManagedElements of every EMS, in the order of their sites."""
    return {
        data_producer_of(first): tuple(map(element_key, range(first, min(first + BLOCK, sites + 1))))
        for first in range(1, sites + 1, BLOCK)
    }


def neighbours(seed: int, sites: int, number: int, cell: int) -> Iterator[tuple[int, int]]:
    """Yield the neighbours of a cell as (site, cell): the other cells of its site, and one of each adjacent
    site. The relation is symmetric.
    """
    for other in CELLS:
        if other != cell:
            yield number, other
    if number > 1:
        yield number - 1, _shifted(cell, -_rotation(seed, number - 1))
    if number < sites:
        yield number + 1, _shifted(cell, _rotation(seed, number))


def _rotation(seed: int, number: int) -> int:
    """Rotation of the cells of the next site relative to those of a site."""
    return zlib.crc32(f"{seed}/{number}".encode()) % len(CELLS)


def _shifted(cell: int, rotation: int) -> int:
    return (cell - 1 + rotation) % len(CELLS) + 1
