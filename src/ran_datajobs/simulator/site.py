# SPDX-License-Identifier: Apache-2.0
"""Managed objects of one site of the simulated network, generated from its seed (pure).

Classes, attribute names and ranges are those of 3GPP TS 28.541; a site is a gNB with three cells.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

from ran_datajobs.nrm.names import distinguished_name
from ran_datajobs.nrm.tree import Attributes
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.layout import CELLS, COUNTRY

SEED_EXAMPLE_SITE: Final = 3
"""Number of the site with a second GNBCUCPFunction, as in the examples of ONAP's data-job page."""

LOCKED_CELL: Final = (1, 3)
"""(site, cell) that is always LOCKED, so that a read of locked cells returns one."""

_GNB_ID_LENGTH: Final = 22
_CELL_BITS: Final = 36 - _GNB_ID_LENGTH
_PCIS: Final = 1008
_ARFCNS: Final = (636_666, 640_000)
_SSB_ARFCNS: Final = (636_480, 639_840)
_BANDWIDTHS: Final = (40, 60, 80, 100)
_RESOURCE_BLOCKS: Final = {40: 106, 60: 162, 80: 217, 100: 273}
_NO_OFFSETS: Final = {"rsrpOffsetSsb": 0, "rsrqOffsetSsb": 0, "sinrOffsetSsb": 0}
_VENDORS: Final = ("Company XY", "Company Z")

FREQUENCIES: Final = tuple(f"{COUNTRY}/NRFrequency={index}" for index in (1, 2))
"""Keys of the carriers of the network, to which cells refer."""

Objects = Iterator[tuple[str, Attributes]]


def frequency_attributes(index: int) -> Attributes:
    """Attributes of the carrier FREQUENCIES[index]."""
    return {
        "userLabel": f"n78 carrier {index + 1}",
        "absoluteFrequencySSB": _SSB_ARFCNS[index],
        "sSBSubCarrierSpacing": 30,
        "multiFrequencyBandListNR": [78],
    }


def site_objects(seed: int, sites: int, number: int) -> Objects:
    """Yield every object of a site with its attributes, in pre-order; deterministic."""
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - simulation data, not a secret
    element = layout.element_key(number)
    name = layout.site_name(number)
    frequency = rng.randrange(2)
    bandwidth = rng.choice(_BANDWIDTHS)
    pci = rng.randrange(_PCIS // 3) * 3
    yield layout.context_key(number), {"dnPrefix": ""}
    yield element, _element_attributes(number, name, rng)
    yield from _du(number, f"{element}/GNBDUFunction=1", rng, frequency, bandwidth, pci)
    yield from _cu_cp(seed, sites, number, f"{element}/GNBCUCPFunction=1", rng, frequency)
    if number == SEED_EXAMPLE_SITE:
        second = f"{element}/GNBCUCPFunction=2"
        yield (
            second,
            {**_cu_cp_attributes(number), "userLabel": f"{name} CU-CP 2", "gNBCUName": f"{name}-CUCP-2"},
        )
        yield f"{second}/EUtraNetwork=1", {"userLabel": f"{name} E-UTRA 2"}
    yield (
        f"{element}/GNBCUUPFunction=1",
        {
            "userLabel": f"{name} CU-UP",
            "gNBCUUPId": number,
            "gNBId": number,
            "gNBIdLength": _GNB_ID_LENGTH,
            "pLMNInfoList": _plmn_info(number),
        },
    )


def _element_attributes(number: int, name: str, rng: random.Random) -> Attributes:
    return {
        "userLabel": name,
        "locationName": f"{layout.region_of(number).name} {number}",
        "vendorName": rng.choice(_VENDORS),
        "swVersion": f"26.{rng.randrange(1, 5)}.{rng.randrange(10)}",
        "managedElementTypeList": ["GNB"],
        "managedBy": [distinguished_name(f"{COUNTRY}/ManagementNode={layout.data_producer_of(number)}")],
        "priorityLabel": rng.randrange(1, 10),
    }


def _plmn_id(number: int) -> dict[str, str]:
    region = layout.region_of(number)
    return {"mcc": region.mcc, "mnc": region.mnc}


def _plmn_info(number: int) -> list[dict[str, Any]]:
    return [{"plmnId": _plmn_id(number), "snssai": {"sst": 1, "sd": "000001"}}]


def _du(number: int, du: str, rng: random.Random, frequency: int, bandwidth: int, pci: int) -> Objects:
    name = layout.site_name(number)
    yield (
        du,
        {
            "userLabel": f"{name} DU",
            "gNBId": number,
            "gNBIdLength": _GNB_ID_LENGTH,
            "gNBDUId": number,
            "gNBDUName": f"{name}-DU",
        },
    )
    for cell in CELLS:
        yield f"{du}/NRCellDU={cell}", _cell_attributes(number, cell, du, rng, frequency, bandwidth, pci)
    for cell in CELLS:
        yield (
            f"{du}/NRSectorCarrier={cell}",
            {
                "userLabel": f"{name} sector {cell}",
                "txDirection": "DL_AND_UL",
                "configuredMaxTxPower": rng.choice((20_000, 40_000, 80_000)),
                "arfcnDL": _ARFCNS[frequency],
                "arfcnUL": _ARFCNS[frequency],
                "bSChannelBwDL": bandwidth,
                "bSChannelBwUL": bandwidth,
            },
        )
    for cell in CELLS:
        for direction in ("DL", "UL"):
            yield (
                f"{du}/BWP={cell}-{direction}",
                {
                    "bwpContext": direction,
                    "isInitialBwp": "INITIAL",
                    "subCarrierSpacing": 30,
                    "cyclicPrefix": "NORMAL",
                    "startRB": 0,
                    "numberOfRBs": _RESOURCE_BLOCKS[bandwidth],
                },
            )


def _cell_attributes(
    number: int, cell: int, du: str, rng: random.Random, frequency: int, bandwidth: int, pci: int
) -> Attributes:
    locked = rng.randrange(8) == 0 or (number, cell) == LOCKED_CELL
    enabled = rng.randrange(50) > 0
    here = distinguished_name(du)
    return {
        "userLabel": f"{layout.site_name(number)} cell {cell}",
        "cellLocalId": cell,
        "operationalState": "ENABLED" if enabled else "DISABLED",
        "administrativeState": "LOCKED" if locked else "UNLOCKED",
        "cellState": "IDLE" if locked or not enabled else "ACTIVE",
        "pLMNInfoList": _plmn_info(number),
        "nRPCI": pci + cell - 1,
        "nRTAC": (number - 1) // layout.BLOCK + 1,
        "arfcnDL": _ARFCNS[frequency],
        "arfcnUL": _ARFCNS[frequency],
        "bSChannelBwDL": bandwidth,
        "bSChannelBwUL": bandwidth,
        "ssbFrequency": _SSB_ARFCNS[frequency],
        "ssbSubCarrierSpacing": 30,
        "ssbPeriodicity": rng.choice((10, 20, 40)),
        "ssbOffset": rng.randrange(5),
        "ssbDuration": rng.randrange(1, 6),
        "nRSectorCarrierRef": [f"{here},NRSectorCarrier={cell}"],
        "bWPRef": [f"{here},BWP={cell}-DL", f"{here},BWP={cell}-UL"],
    }


def _cu_cp_attributes(number: int) -> Attributes:
    name = layout.site_name(number)
    return {
        "userLabel": f"{name} CU-CP",
        "gNBId": number,
        "gNBIdLength": _GNB_ID_LENGTH,
        "gNBCUName": f"{name}-CUCP",
        "pLMNId": _plmn_id(number),
    }


def _cu_cp(seed: int, sites: int, number: int, cu_cp: str, rng: random.Random, frequency: int) -> Objects:
    yield cu_cp, _cu_cp_attributes(number)
    for cell in CELLS:
        key = f"{cu_cp}/NRCellCU={cell}"
        yield (
            key,
            {
                "userLabel": f"{layout.site_name(number)} cell {cell}",
                "cellLocalId": cell,
                "pLMNInfoList": _plmn_info(number),
                "nRFrequencyRef": distinguished_name(FREQUENCIES[frequency]),
            },
        )
        yield from _relations(key, layout.neighbours(seed, sites, number, cell), rng)
        yield f"{key}/NRFreqRelation=1", _freq_relation_attributes(rng, frequency)
    if number == SEED_EXAMPLE_SITE:
        yield f"{cu_cp}/EUtraNetwork=1", {"userLabel": f"{layout.site_name(number)} E-UTRA"}


def _relations(cell_key: str, neighbours: Iterator[tuple[int, int]], rng: random.Random) -> Objects:
    frequency_relation = f"{distinguished_name(cell_key)},NRFreqRelation=1"
    for index, (site, cell) in enumerate(neighbours, 1):
        offset = rng.randrange(-3, 4)
        neighbour = f"{layout.element_key(site)}/GNBCUCPFunction=1/NRCellCU={cell}"
        yield (
            f"{cell_key}/NRCellRelation={index}",
            {
                "nRTCI": site << _CELL_BITS | cell,
                "cellIndividualOffset": {**_NO_OFFSETS, "rsrpOffsetSsb": offset} if offset else _NO_OFFSETS,
                "adjacentNRCellRef": distinguished_name(neighbour),
                "nRFreqRelationRef": frequency_relation,
                "isRemoveAllowed": True,
                "isHOAllowed": rng.randrange(20) > 0,
                "isESCoveredBy": "NO",
            },
        )


def _freq_relation_attributes(rng: random.Random, frequency: int) -> Attributes:
    return {
        "offsetMO": _NO_OFFSETS,
        "cellReselectionPriority": rng.randrange(8),
        "pMax": 23,
        "qOffsetFreq": 0,
        "qQualMin": -20,
        "qRxLevMin": rng.randrange(-130, -110, 2),
        "threshXHighP": rng.randrange(0, 32, 2),
        "threshXLowP": rng.randrange(0, 32, 2),
        "threshXHighQ": rng.randrange(0, 32),
        "threshXLowQ": rng.randrange(0, 32),
        "tReselectionNR": 2,
        "tReselectionNRSfHigh": 100,
        "tReselectionNRSfMedium": 100,
        "nRFrequencyRef": distinguished_name(FREQUENCIES[frequency]),
    }
